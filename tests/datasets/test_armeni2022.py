"""Armeni et al. (2022): sessions of several runs in one CTF folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from brainalign_cli.main import main
from ctf_recordings import write_ctf
from miniatures import LAYERS, check_planted_layers, planted_signal

from brainalign.datasets import load_dataset
from brainalign.errors import DataError, RecipeError, UnreachableError
from brainalign.types import Floats, Stimulus

RATE_HZ = 200.0
# Where the sound of each run of the session began in each subject's recording, and how fast that clock ran.
STARTS_S = {"001": {1: 5.0, 2: 110.0}, "002": {1: 12.5, 2: 120.0}}
RATES = {"001": 1.0, "002": 1.0005}
LENGTH_S = 230.0


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects, a session of two runs, with events as users' code reads them."""
    root = tmp_path_factory.mktemp("armeni")
    for subject, starts_s in STARTS_S.items():
        folder = root / f"sub-{subject}" / "ses-001" / "meg"
        stem = f"sub-{subject}_ses-001_task-compr"
        (folder / f"{stem}_meg.ds").mkdir(parents=True)
        words = {number: _words(number) for number in starts_s}
        placed = {n: starts_s[n] + RATES[subject] * words[n]["onset"].to_numpy() for n in starts_s}
        _write_events(folder / f"{stem}_events.tsv", subject, words, placed)
        signal = sum(
            planted_signal(Stimulus(str(n), words[n]), placed[n], RATE_HZ, round(LENGTH_S * RATE_HZ), seed=n)
            for n in starts_s
        )
        write_ctf(folder / f"{stem}_meg.ds", np.asarray(signal).T * 1e-12, RATE_HZ)
    return root


def _words(number: int) -> pd.DataFrame:
    random = np.random.default_rng(number)
    onset = 0.5 + np.cumsum(random.uniform(0.2, 0.6, size=200))
    text = random.choice(["watson", "said", "holmes", "it's", "elementary", "the", "none"], size=200)
    return pd.DataFrame({"onset": onset.round(3), "duration": 0.15, "text": text})


def _write_events(
    path: Path, subject: str, words: dict[int, pd.DataFrame], placed: dict[int, Floats], negative: bool = False
) -> None:
    rows = []
    for number, table in words.items():
        start_s = STARTS_S[subject][number]
        rows.append((start_s, 0.0, f"wav_onset_{number:02d}", f"run{number}.wav"))
        for onset, (_, duration, text) in zip(placed[number], table.itertuples(index=False), strict=True):
            rows.append((onset, duration, f"word_onset_{number:02d}", text.upper()))
            rows.append((onset, 0.05, f"phoneme_onset_{number:02d}", "AH0"))
            rows.append((onset + duration, 0.01, f"word_onset_{number:02d}", "sp"))
    cells = ["\t".join(("onset", "duration", "sample", "type", "value"))]
    for i, (onset, duration, kind, value) in enumerate(rows):
        onset = -1.0 if negative and i == 4 else onset
        cells.append(f'{onset:.4f}\t{duration}\t{round(onset * 1200)}\t{kind}\t"{value}"')
    path.write_text("\n".join(cells) + "\n")


def test_without_a_folder_it_says_how_the_data_are_got() -> None:
    data = load_dataset("armeni2022")
    for ask in (lambda: data.subjects, data.recordings, lambda: list(data.stimuli)):
        with pytest.raises(UnreachableError, match=r"webdav\.data\.ru\.nl/dccn/DSC_3011085[\s\S]*`root`"):
            ask()


def test_the_command_says_so_too_and_leaves_with_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("dataset: {name: armeni2022}\nfeatures: [{kind: toy_model}]\n")
    with pytest.raises(SystemExit) as left:
        main(["run", str(recipe), "--out", str(tmp_path / "results")])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "webdav.data.ru.nl" in said
    assert "Traceback" not in said


def test_a_stimulus_is_a_run_of_a_session_counted_from_its_sound(root: Path) -> None:
    data = load_dataset("armeni2022", root=root)
    assert data.subjects == ("001", "002")
    assert list(data.stimuli) == ["ses-001_run-1", "ses-001_run-2"]
    for number, stimulus in enumerate(data.stimuli.values(), start=1):
        planted = _words(number)
        np.testing.assert_allclose(stimulus.words["onset"], planted["onset"], atol=1e-3)
        assert stimulus.words["text"].tolist() == planted["text"].tolist()
        assert stimulus.findings == ()


def test_each_subjects_clock_is_fitted_to_the_stimulus(root: Path) -> None:
    recordings = load_dataset("armeni2022", root=root, subjects=["002"]).recordings()
    for number, recording in enumerate(recordings, start=1):
        assert recording.offset_s * RATES["002"] == pytest.approx(STARTS_S["002"][number], abs=1e-3)
        assert recording.clock.step_s == pytest.approx(0.01 / RATES["002"], rel=1e-5)
        first_s = recording.clock.start_s * RATES["002"]
        assert first_s == pytest.approx(STARTS_S["002"][number] + _words(number)["onset"][0] - 1, abs=0.011)
        assert [finding.code for finding in recording.findings] == ["clock-drift"]
    assert len({recording.digest for recording in recordings}) == 2


def test_the_planted_layers_are_found(root: Path) -> None:
    check_planted_layers(load_dataset("armeni2022", root=root), LAYERS)


def test_a_word_before_the_recording_keeps_its_place_in_the_text(root: Path, tmp_path: Path) -> None:
    copy = _copy_of_first(root, tmp_path)
    words = {1: _words(1)}
    placed = {1: STARTS_S["001"][1] + words[1]["onset"].to_numpy()}
    _write_events(next(copy.rglob("*_events.tsv")), "001", words, placed, negative=True)
    stimulus = load_dataset("armeni2022", root=copy).stimuli["ses-001_run-1"]
    assert stimulus.words["text"].tolist() == words[1]["text"].tolist()
    assert stimulus.words["timed"].tolist() == [True, False, *[True] * 198]
    assert [finding.code for finding in stimulus.findings] == ["untimed-words"]


def test_without_an_event_for_the_sound_times_count_from_the_first_word(root: Path, tmp_path: Path) -> None:
    copy = _copy_of_first(root, tmp_path)
    path = next(copy.rglob("*_events.tsv"))
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "wav_onset" not in line) + "\n")
    stimulus = load_dataset("armeni2022", root=copy).stimuli["ses-001_run-2"]
    assert stimulus.words["onset"].iloc[0] == 0.0
    assert [finding.code for finding in stimulus.findings] == ["no-sound-onset"]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_text(path.read_text().replace("type", "kind")), "no column 'type'"),
        (lambda path: path.write_text(path.read_text().replace("word_onset", "sentence")), "no row has a type"),
    ],
    ids=["no events", "no column", "no words"],
)
def test_what_is_wrong_with_the_events_is_named(root: Path, tmp_path: Path, harm, message: str) -> None:
    copy = _copy_of_first(root, tmp_path)
    harm(next(copy.rglob("*_events.tsv")))
    with pytest.raises(DataError, match=message):
        load_dataset("armeni2022", root=copy).recordings()


def test_an_unknown_subject_is_an_error_with_the_nearest(root: Path) -> None:
    with pytest.raises(RecipeError, match="Did you mean '001'"):
        assert load_dataset("armeni2022", root=root, subjects=["0001"]).subjects


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: next(folder.rglob("*.res4")).unlink(), r"a \.meg4 and a \.res4"),
        (lambda folder: next(folder.rglob("*.meg4")).write_bytes(b"/annex/objects/MD5-s5--abc"), "not downloaded"),
        (lambda folder: _cut(next(folder.rglob("*.meg4"))), "cannot be read"),
    ],
    ids=["no header", "annexed", "cut off"],
)
def test_a_recording_that_is_not_whole_is_named(root: Path, tmp_path: Path, harm, message: str) -> None:
    copy = _copy_of_first(root, tmp_path)
    harm(copy)
    with pytest.raises(DataError, match=message):
        load_dataset("armeni2022", root=copy).recordings()


def test_sensors_are_those_of_the_helmet_without_its_references(root: Path) -> None:
    options = {"signals": {"noise": ["gradient_compensation"]}}
    recording = load_dataset("armeni2022", root=root, subjects=["001"]).recordings()[0]
    assert recording.targets["name"].tolist() == ["MLC11", "MRF23", "MLT44", "MZO02"]
    assert set(recording.targets["kind"]) == {"mag"}
    assert recording.space["kind"] == "sensors"
    with pytest.raises(RecipeError, match="compensation of grade 3"):
        load_dataset("armeni2022", root=root, options=options).recordings()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1001])


def _copy_of_first(root: Path, folder: Path) -> Path:
    for path in (root / "sub-001").rglob("*"):
        if path.is_file():
            place = folder / path.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    return folder
