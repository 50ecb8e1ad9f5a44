"""MEG-MASC: KIT recordings of stories in synthetic speech, and two forms of their events."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from brainalign_cli.main import main
from miniatures import LAYERS, check_planted_layers, planted_signal, serve_miniature
from recordings import sine, write_kit, write_kit_markers

from brainalign.datasets import load_dataset
from brainalign.datasets.meg_masc_words import CONDITIONS, read_events, read_text, words_of_sound
from brainalign.errors import BrainalignError, ChecksumError, DataError, RecipeError
from brainalign.reading.signals import Signals
from brainalign.types import Dataset, Stimulus

REAL = "datasets/real/meg_masc_nm000229"
EVENTS = {
    "02": "sub-02/ses-0/meg/sub-02_ses-0_task-0_events.tsv",
    "11": "sub-11/ses-0/meg/sub-11_ses-0_task-0_events.tsv",
}
SOUNDS = ("lw1_0", "lw1_1", "lw1_2", "lw1_3")
RATE_HZ, DURATION_S = 200, 365
TESLA = 1e-12
LOUD = 20 * sine(7.3, RATE_HZ, RATE_HZ * DURATION_S)


@pytest.fixture(scope="module")
def archive(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One story's real texts and events of two subjects, as NEMAR has them, with planted recordings.

    Subject 12's events are subject 11's in OSF's form, as NEMAR has those of all from 12 on.
    """
    real, folder = shared / REAL, tmp_path_factory.mktemp("mirror") / "meg_masc"
    for path in ["stimuli/text/lw1.txt", *(f"stimuli/text_with_wordlists/lw1_produced_{i}.txt" for i in range(4))]:
        put(folder / path, (real / path).read_bytes())
    put(folder / EVENTS["02"], (real / EVENTS["02"]).read_bytes())
    put(folder / EVENTS["11"].replace("11", "12"), as_of_osf(real / EVENTS["11"]).encode())
    for seed, subject in enumerate(("02", "12")):
        put_recording(folder / f"sub-{subject}" / "ses-0" / "meg" / f"sub-{subject}_ses-0", real, folder, seed)
    return folder


@pytest.fixture
def served(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    serve_miniature(monkeypatch, archive)
    return archive


@pytest.fixture
def copy(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive's files, to be changed by a test before it serves them."""
    folder = tmp_path / "meg_masc"
    shutil.copytree(archive, folder)
    return folder


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def as_of_osf(path: Path) -> str:
    """A table of events whose keys are in a dictionary, numbers as pandas wrote them there."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    numbers = ("story_uid", "sound_id", "start", "sequence_id", "word_index", "speech_rate", "pronounced")
    lines = ["\ufeffonset\tduration\ttrial_type\tvalue\tsample"]
    for row in table.to_dict("records"):
        cells = [(name, row[name]) for name in table.columns[5:] if row[name] != "n/a"]
        keys = {name: float(cell) if name in numbers else cell for name, cell in cells}
        lines.append(f"{row['onset']}\t{row['duration']}\t{keys}\t{row['value']}\t{row['sample']}")
    return "\n".join(lines) + "\n"


def put_recording(stem: Path, real: Path, folder: Path, seed: int) -> None:
    """Four sensors that follow the planted layers, and noise of the room that three reference sensors measure."""
    signal = np.random.default_rng(seed).normal(size=(RATE_HZ * DURATION_S, len(LAYERS)))
    events = read_events(Path(f"{stem}_task-0_events.tsv"))
    for number, sound in enumerate(SOUNDS):
        truth, start_s = truth_of(folder, events, number), sound_start_s(events, number)
        planted = planted_signal(truth, start_s + truth.words["onset"], RATE_HZ, len(signal), seed=10 * seed + number)
        rows = slice(round((start_s - 2) * RATE_HZ), round((start_s + truth.duration_s + 3) * RATE_HZ))
        signal[rows] = planted[rows]
        assert truth.id == sound
    write_kit(
        Path(f"{stem}_task-0_meg.con"),
        TESLA * (signal.T + LOUD),
        RATE_HZ,
        references_t=TESLA * np.stack([LOUD, -LOUD, 2 * LOUD]),
    )
    meg = real / "sub-02" / "ses-0" / "meg"
    points_mm = np.loadtxt(meg / "sub-02_ses-0_acq-ELP_headshape.pos", comments="%")
    write_kit_markers(Path(f"{stem}_task-0_markers.mrk"), points_mm[3:] / 1000)
    shutil.copyfile(meg / "sub-02_ses-0_acq-ELP_headshape.pos", f"{stem}_acq-ELP_headshape.pos")
    np.savetxt(f"{stem}_acq-HSP_headshape.pos", np.vstack([points_mm, points_mm + 5]), comments="%", header="points")
    channels = (meg / "sub-02_ses-0_task-0_channels.tsv").read_text(encoding="utf-8").splitlines()
    put(Path(f"{stem}_task-0_channels.tsv"), ("\n".join(channels[: len(LAYERS) + 1]) + "\n").encode())


def truth_of(folder: Path, events: pd.DataFrame, number: int) -> Stimulus:
    found = events[events["sound"] == number].reset_index(drop=True)
    text = read_text(folder / f"stimuli/text_with_wordlists/lw1_produced_{number}.txt")
    words, _ = words_of_sound(text, read_text(folder / "stimuli/text/lw1.txt"), found, ("sentence",), "truth")
    return Stimulus(f"lw1_{number}", words)


def sound_start_s(events: pd.DataFrame, number: int) -> float:
    return float((events["onset"] - events["start"])[events["sound"] == number].median())


def bare(word: str) -> str:
    return "".join(letter for letter in word.lower() if letter.isalnum())


# Words


def test_the_story_as_it_was_written_comes_back_without_lists_and_pseudo_words(served: Path, shared: Path) -> None:
    heard = [bare(word) for sound in load_dataset("meg_masc").stimuli.values() for word in sound.words["text"]]
    written = (shared / REAL / "stimuli/text/lw1.txt").read_text().replace("-NONE-", "")
    # As written, "psi 's" and "Do n't" are two words each.
    written = written.replace(" 's", "'s").replace(" n't", "n't").replace(" 'll", "'ll").replace(" 'd", "'d")
    assert heard == [bare(word) for word in written.split() if bare(word)]


def test_words_are_when_the_events_say(served: Path, shared: Path) -> None:
    stimulus = load_dataset("meg_masc").stimuli["lw1_2"]
    rows = pd.read_csv(shared / REAL / EVENTS["02"], sep="\t", keep_default_na=False)
    rows = rows[(rows["kind"] == "word") & (rows["sound_id"] == 2) & (rows["condition"] == "sentence")]
    words = stimulus.words[stimulus.words["timed"]]
    assert [bare(word) for word in words["text"]] == [bare(word) for word in rows["word"]]
    np.testing.assert_allclose(words["onset"], rows["start"].astype(float), atol=1e-3)
    np.testing.assert_allclose(words["duration"], rows["duration"], atol=1e-3)
    assert [finding.code for finding in stimulus.findings] == ["untimed-words", "words-left-out"]
    assert "12 of 221 words" in stimulus.findings[0].message


def test_words_have_case_punctuation_and_sentences(served: Path) -> None:
    words = load_dataset("meg_masc").stimuli["lw1_0"].words
    sentences = [" ".join(group["text"]) for _, group in words.groupby("sentence")]
    assert sentences[1].startswith("The gentle constant breeze of recycled air")
    assert sentences[1].endswith("it.")
    # A pseudo-word stood before the question mark.
    assert sentences[3].startswith("Results, Harmon? she suppressed")
    assert words["sentence"].is_monotonic_increasing


def test_all_that_was_spoken_can_be_read(served: Path, shared: Path) -> None:
    whole = load_dataset("meg_masc", options={"conditions": CONDITIONS}).stimuli["lw1_0"]
    spoken = (shared / REAL / "stimuli/text_with_wordlists/lw1_produced_0.txt").read_text()
    assert [bare(word) for word in whole.words["text"]] == [bare(word) for word in spoken.split() if bare(word)]
    assert [finding.code for finding in whole.findings] == ["untimed-words"]
    lists = load_dataset("meg_masc", options={"conditions": ("word_list",)}).stimuli["lw1_0"].words["text"].tolist()
    assert "blonde" in lists
    assert "Tara" not in lists


def test_both_forms_of_the_events_give_the_same_words(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "events.tsv").write_text(as_of_osf(shared / REAL / EVENTS["02"]), encoding="utf-8")
    pd.testing.assert_frame_equal(read_events(tmp_path / "events.tsv"), read_events(shared / REAL / EVENTS["02"]))


def test_stimuli_are_the_same_whoever_heard_them(served: Path) -> None:
    tables = [load_dataset("meg_masc", subjects=[subject]).stimuli["lw1_1"].words for subject in ("02", "12")]
    pd.testing.assert_frame_equal(*tables)


# Recordings


@pytest.fixture
def clean() -> dict[str, object]:
    return {"signals": Signals(noise=("reference_channels",))}


def test_signals_are_those_planted_where_the_sound_was_heard(served: Path, shared: Path, clean) -> None:
    data = load_dataset("meg_masc", subjects=["02"], options=clean)
    recordings = data.recordings()
    assert [(r.run, r.stimulus) for r in recordings] == [(f"{sound} ses-0", sound) for sound in SOUNDS]
    assert {recording.modality for recording in recordings} == {"meg"}
    events = read_events(shared / REAL / EVENTS["02"])
    for number, recording in enumerate(recordings):
        start_s = sound_start_s(events, number)
        assert recording.offset_s == pytest.approx(start_s, abs=1e-3)
        assert recording.findings == ()
        truth = data.stimuli[recording.stimulus]
        planted = planted_signal(truth, start_s + truth.words["onset"], RATE_HZ, RATE_HZ * DURATION_S, seed=number)
        response = recording.response() / TESLA
        times = recording.clock.times(len(response))
        assert times[0] == pytest.approx(start_s - 1, abs=0.011)
        assert times[-1] > start_s + truth.duration_s
        inner = (times > start_s) & (times < start_s + truth.duration_s)
        # Slow enough to pass whole: bumps of 40 ms.
        smooth = np.apply_along_axis(lambda x: np.convolve(x, np.hanning(21), "same"), 0, planted)
        found = np.apply_along_axis(lambda x: np.convolve(x, np.hanning(11), "same"), 0, response)[inner]
        there = smooth[np.rint(times[inner] * RATE_HZ).astype(int)]
        assert all(np.corrcoef(found[:, i], there[:, i])[0, 1] > 0.98 for i in range(len(LAYERS)))


def test_the_reference_sensors_take_out_the_noise_of_the_room(served: Path, clean) -> None:
    [noisy] = load_dataset("meg_masc", subjects=["02"]).recordings(stimuli=["lw1_0"])
    [quiet] = load_dataset("meg_masc", subjects=["02"], options=clean).recordings(stimuli=["lw1_0"])
    assert noisy.response().std() > 5 * quiet.response().std()
    assert quiet.steps[-1] == "reference channels regressed out (3)"
    assert noisy.digest != quiet.digest


def test_sensors_have_the_helmets_places(served: Path) -> None:
    [recording] = load_dataset("meg_masc", subjects=["12"]).recordings(stimuli=["lw1_0"])
    assert recording.space == {"kind": "sensors", "unit": "m", "frame": "device"}
    assert recording.targets["name"].tolist() == ["MEG 001", "MEG 002", "MEG 003", "MEG 004"]
    np.testing.assert_allclose(np.linalg.norm(recording.targets[["x", "y", "z"]], axis=1), 0.12, atol=1e-6)


def test_the_planted_layers_are_found(served: Path, clean) -> None:
    check_planted_layers(load_dataset("meg_masc", options=clean))


def test_bad_channels_of_the_table_are_told(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = next(copy.rglob("sub-02*channels.tsv"))
    table.write_text(table.read_text(encoding="utf-8").replace("good", "bad", 1), encoding="utf-8")
    serve_miniature(monkeypatch, copy)
    signals = {"signals": Signals(bad_channels="leave_out")}
    [recording] = load_dataset("meg_masc", subjects=["02"], options=signals).recordings(stimuli=["lw1_0"])
    assert recording.targets["name"].tolist() == ["MEG 002", "MEG 003", "MEG 004"]
    assert [finding.code for finding in recording.findings] == ["bad-channels"]


@pytest.mark.slow
def test_the_whole_command_finds_the_planted_layer(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = """\
dataset: {name: meg_masc, subjects: ["12"], signals: {noise: [reference_channels], picks: ["MEG 003"]}}
features: [{kind: toy_model, n_layers: 3, dimension: 6}]
baseline: []
alignment: {tmin_s: 0.0, tmax_s: 0.5, sfreq_hz: 20.0, band_hz: [0.5, 10.0]}
"""
    (tmp_path / "recipe.yaml").write_text(recipe)
    with pytest.raises(SystemExit) as left:
        main(["run", "recipe.yaml", "--jobs", "1", "--quiet"])
    assert left.value.code == 0
    summary = pd.read_csv(tmp_path / "results" / "recipe" / "summary.csv", dtype={"subject": str})
    assert set(summary["subject"]) == {"12"}
    assert summary["layer_name"][summary["r"].idxmax()] == "layer 2", summary


# Copies of one's own, and what may be wrong


def test_a_copy_of_osfs_is_taken_and_its_recordings_are_still_verified(served: Path, copy: Path) -> None:
    events = copy / EVENTS["02"]
    events.write_text(as_of_osf(served / EVENTS["02"]), encoding="utf-8")
    own, nemars = (load_dataset("meg_masc", root=root, subjects=["02"]) for root in (copy, None))
    pd.testing.assert_frame_equal(own.stimuli["lw1_0"].words, nemars.stimuli["lw1_0"].words)
    assert [r.offset_s for r in own.recordings()] == [r.offset_s for r in nemars.recordings()]
    with next(copy.rglob("sub-02*.con")).open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x07")
    with pytest.raises(ChecksumError, match=r"sub-02_ses-0_task-0_meg\.con"):
        own.recordings()


def test_a_table_of_nemars_form_that_was_changed_is_found(served: Path, copy: Path) -> None:
    events = copy / EVENTS["02"]
    events.write_text(events.read_text().replace("18.389", "18.390"))
    with pytest.raises(ChecksumError, match=r"events\.tsv"):
        load_dataset("meg_masc", root=copy, subjects=["02"]).recordings()


def cut(name: str, n_bytes: int) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = next(folder.rglob(name))
        path.write_bytes(path.read_bytes()[:n_bytes])

    return apply


def replace(name: str, old: str, new: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = next(folder.rglob(name))
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return apply


def swap(name: str, other: str) -> Callable[[Path], None]:
    return lambda folder: put(next(folder.rglob(name)), next(folder.rglob(other)).read_bytes())


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: next(folder.rglob(name)).unlink()


def annexed(name: str) -> Callable[[Path], None]:
    pointer = "/annex/objects/SHA256E-s5--0000.con\n"
    return lambda folder: next(folder.rglob(name)).write_text(pointer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(remove("sub-12*events.tsv"), r"no file sub-12.*events\.tsv", id="no events"),
        pytest.param(remove("sub-12*meg.con"), "no subject '12'", id="no recording"),
        pytest.param(cut("sub-12*meg.con", 100_000), "cut off", id="half a recording"),
        pytest.param(cut("sub-12*meg.con", 100), r"meg\.con", id="a damaged recording"),
        pytest.param(annexed("sub-12*meg.con"), "not downloaded", id="a pointer file"),
        pytest.param(replace("sub-12*events.tsv", "{'story'", "{'story"), r"line 4: trial_type is no", id="a cell"),
        pytest.param(replace("sub-12*events.tsv", "duration\t", "length\t"), "no column 'duration'", id="no column"),
        pytest.param(replace("sub-12*events.tsv", "'sound_id': 0.0", "'sound_id': 4.0"), "no words of .*'lw1_0'",
                     id="no sound"),
        pytest.param(replace("sub-12*events.tsv", "'kind': 'word'", "'kind': 'sound'"), "no row is of the kind 'word'",
                     id="no words"),
        pytest.param(swap("lw1_produced_0.txt", "lw1_produced_3.txt"), "words of the events are in its text",
                     id="another text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_name(
    copy: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], message: str
) -> None:
    change(copy)
    serve_miniature(monkeypatch, copy)
    with pytest.raises(BrainalignError, match=message):
        read_all(load_dataset("meg_masc", subjects=["12"], options={"stimuli": ["lw1_0"]}))


def read_all(data: Dataset) -> None:
    for recording in data.recordings():
        recording.response()
    for stimulus in data.stimuli.values():
        assert len(stimulus.words) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subjects": ["28"]}, "Did you mean"),
        ({"options": {"stimuli": ["lw_0"]}}, "Did you mean 'lw1_0'"),
        ({"options": {"sessions": ("2",)}}, "no session '2'"),
        ({"options": {"conditions": ("sentences",)}}, "input should be 'sentence'"),
    ],
    ids=["subject", "sound", "session", "condition"],
)
def test_what_there_is_not_is_told_with_the_nearest_that_is(options: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_dataset("meg_masc", **options)


def test_the_archive_has_these_subjects_sessions_and_sounds() -> None:
    data = load_dataset("meg_masc")
    assert data.subjects == tuple(f"{i:02d}" for i in range(1, 28))
    runs = data.all_runs()
    assert len(runs) == 49 * 30
    assert len({run.subject for run in runs if run.session == "1"}) == 22
    assert all(len(run.sidecars) == 5 for run in runs)
    assert load_dataset("meg_masc", options={"sessions": ("0",)}).files(kinds=["responses"]) != data.files()
    paths = set(data.archive.table)
    assert set(data.files(kinds=["responses", "words", "sound"])) <= paths


def test_a_text_without_words_is_named(tmp_path: Path) -> None:
    (tmp_path / "lw1_produced_0.txt").write_text(" . , \n")
    with pytest.raises(DataError, match=r"lw1_produced_0\.txt: there are no words"):
        read_text(tmp_path / "lw1_produced_0.txt")
