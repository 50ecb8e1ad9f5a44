"""The Old Man and the Sea: real names and tables of channels, passages with made words, planted recordings."""

from __future__ import annotations

import shutil
from pathlib import Path

import mne
import numpy as np
import pandas as pd
import pytest
from miniatures import LAYERS, check_planted_layers, planted_signal, serve_miniature, write_textgrid
from recordings import write_brainvision

from brainalign.datasets import load_dataset
from brainalign.errors import ChecksumError, DataError, RecipeError, UnreachableError
from brainalign.manifests import read_manifest
from brainalign.simulate import words_from_text
from brainalign.types import Stimulus

RATE_HZ = 512
# Four channels follow the words, one is a wave that tells the time, and two have noise.
NAMES = ["A1", "A15", "B5", "C10", "D4", "D20", "D32"]
WAVE_HZ = 3.0
SUBJECTS = ("001", "002")
# The recordings go on after the last word.
SILENCE_S = 40.0
VOCABULARY = [
    "the",
    "old",
    "man",
    "had",
    "gone",
    "without",
    "a",
    "fish",
    "for",
    "days",
    "so",
    "he",
    "sat",
    "in",
    "his",
    "skiff",
]


@pytest.fixture(scope="module")
def truth() -> dict[str, Stimulus]:
    passages = {}
    for seed, passage in enumerate(("audio01", "audio02")):
        text = " ".join(np.random.default_rng(seed).choice(VOCABULARY, 250))
        words = words_from_text(text, seed=seed)[["onset", "duration", "text"]]
        passages[passage] = Stimulus(passage, words.assign(onset=words["onset"] + 1.0))
    return passages


@pytest.fixture(scope="module")
def archive(shared: Path, truth: dict[str, Stimulus], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two passages heard by two subjects, in the layout of ds004408, with some lines of the real table of channels."""
    folder = tmp_path_factory.mktemp("mirror") / "old_man"
    for encoding, (passage, stimulus) in zip(("utf-8", "utf-16"), truth.items(), strict=True):
        spoken = [(w.onset, w.onset + w.duration, w.text.upper()) for w in stimulus.words.itertuples()]
        marks = [(0.0, 0.4, "sil"), (0.4, 0.8, "br")]
        phones = [(start, stop, "AH0") for start, stop, _ in spoken]
        write_textgrid(
            folder / "stimuli" / f"{passage}.TextGrid", {"phones": phones, "words": [*marks, *spoken]}, encoding
        )
    real = shared / "datasets/real/ds004408_oldman_eeg/sub-001/eeg/sub-001_task-listening_run-01_channels.tsv"
    for seed, (subject, passage) in enumerate((s, p) for s in SUBJECTS for p in truth):
        stem = folder / f"sub-{subject}/eeg/sub-{subject}_task-listening_run-{passage[-2:]}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        write_brainvision(Path(f"{stem}_eeg.vhdr"), _recorded(truth[passage], seed) * 1e-5, RATE_HZ, NAMES)
        kept = [line for line in real.read_text("utf-8-sig").splitlines() if line.split("\t")[0] in ("name", *NAMES)]
        Path(f"{stem}_channels.tsv").write_text("\n".join(kept) + "\n", encoding="utf-8-sig")
    # One channel was bad in one run.
    _replace(folder / "sub-002/eeg/sub-002_task-listening_run-02_channels.tsv", ("D20\t", "good"), ("D20\t", "bad"))
    return folder


def _recorded(stimulus: Stimulus, seed: int) -> np.ndarray:
    """Shape (channel, time)."""
    n_rows = int((stimulus.duration_s + SILENCE_S) * RATE_HZ)
    signal = planted_signal(stimulus, stimulus.words["onset"].to_numpy(), RATE_HZ, n_rows, seed=seed)
    wave = np.sin(2 * np.pi * WAVE_HZ * np.arange(n_rows) / RATE_HZ)
    return np.vstack([signal.T, wave, np.random.default_rng(seed).normal(size=(2, n_rows))])


def _replace(path: Path, old: tuple[str, str], new: tuple[str, str]) -> None:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    changed = [line.replace(old[1], new[1]) if line.startswith(old[0]) else line for line in lines]
    assert changed != lines
    path.write_text("\n".join(changed) + "\n", encoding="utf-8")


@pytest.fixture
def served(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    serve_miniature(monkeypatch, archive)
    return archive


@pytest.mark.parametrize("passage", ["audio01", "audio02"])
def test_words_are_those_of_the_tier_in_small_letters_whatever_the_encoding(
    served: Path, truth: dict[str, Stimulus], passage: str
) -> None:
    words = load_dataset("old_man").stimuli[passage].words
    assert words["text"].tolist() == truth[passage].words["text"].str.lower().tolist()
    np.testing.assert_allclose(words[["onset", "duration"]], truth[passage].words[["onset", "duration"]], atol=1e-3)


def test_recordings_begin_with_the_sound_and_end_two_seconds_after_the_last_word(
    served: Path, truth: dict[str, Stimulus]
) -> None:
    recordings = load_dataset("old_man").recordings()
    assert [(r.subject, r.run, r.stimulus) for r in recordings] == [
        (subject, run, f"audio{run}") for subject in SUBJECTS for run in ("01", "02")
    ]
    for recording in recordings:
        values = recording.response()
        assert abs(len(values) / 100 - truth[recording.stimulus].duration_s - 2.0) <= 0.011
        times = recording.clock.times(len(values)) - recording.offset_s
        wave = values[:, recording.targets["name"].tolist().index("D4")] / 1e-5
        np.testing.assert_allclose(wave[50:-50], np.sin(2 * np.pi * WAVE_HZ * times)[50:-50], atol=0.005)


def test_channels_are_where_the_cap_has_them(served: Path) -> None:
    [recording] = load_dataset("old_man", subjects=["001"], options={"stimuli": ["audio01"]}).recordings()
    assert recording.targets["name"].tolist() == NAMES
    cap = mne.channels.make_standard_montage("biosemi128").get_positions()["ch_pos"]
    places = recording.targets[["x", "y", "z"]].to_numpy()
    # The head's frame is turned and shifted against the cap's; distances stay.
    between = np.linalg.norm(places[:, None] - places, axis=2)
    expected = np.array([[np.linalg.norm(cap[a] - cap[b]) for b in NAMES] for a in NAMES])
    np.testing.assert_allclose(between, expected, atol=1e-4)
    assert recording.space == {"kind": "sensors", "unit": "m", "frame": "head"}


def test_a_bad_channel_is_interpolated_so_that_runs_keep_their_targets_or_left_out(served: Path) -> None:
    good, bad = load_dataset("old_man", subjects=["002"]).recordings()
    assert good.findings == ()
    assert [finding.code for finding in bad.findings] == ["bad-channels"]
    assert "interpolated: D20" in bad.findings[0].message
    assert good.targets["name"].tolist() == bad.targets["name"].tolist() == NAMES
    left_out = {"signals": {"bad_channels": "leave_out"}}
    good, bad = load_dataset("old_man", subjects=["002"], options=left_out).recordings()
    assert "D20" not in good.targets["name"].tolist()
    assert [finding.code for finding in good.findings] == ["uncommon-targets"]


def test_the_planted_layers_are_found(served: Path) -> None:
    check_planted_layers(load_dataset("old_man", options={"signals": {"picks": NAMES[: len(LAYERS)]}}))


def test_a_run_that_is_missing_is_left_to_the_others(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "old_man"
    shutil.copytree(archive, folder, ignore=shutil.ignore_patterns("sub-001_task-listening_run-01*"))
    serve_miniature(monkeypatch, folder)
    assert [(r.subject, r.run) for r in load_dataset("old_man").all_runs()] == [
        ("001", "02"), ("002", "01"), ("002", "02")
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", ["eeg.eeg", "channels.tsv"])
def test_a_file_of_a_run_that_is_missing_is_named(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    folder = tmp_path / "old_man"
    shutil.copytree(archive, folder, ignore=shutil.ignore_patterns(f"sub-001_task-listening_run-01_{suffix}"))
    serve_miniature(monkeypatch, folder)
    with pytest.raises(UnreachableError, match=f"run-01_{suffix}"):
        load_dataset("old_man", subjects=["001"]).recordings()


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"/annex/objects/SHA256E-s180689--52c8.TextGrid\n", DataError), (b"File type", ChecksumError)],
    ids=["placeholder", "damaged"],
)
def test_a_placeholder_or_a_damaged_file_in_the_users_copy_is_named(
    served: Path, tmp_path: Path, content: bytes, error: type[Exception]
) -> None:
    root = tmp_path / "own"
    (root / "stimuli").mkdir(parents=True)
    (root / "stimuli" / "audio01.TextGrid").write_bytes(content)
    with pytest.raises(error, match=r"audio01\.TextGrid"):
        _ = load_dataset("old_man", root=root).stimuli["audio01"]


def test_a_recording_that_was_cut_off_is_an_error(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "old_man"
    shutil.copytree(archive, folder)
    (folder / "sub-001/eeg/sub-001_task-listening_run-01_eeg.eeg").write_bytes(b"")
    serve_miniature(monkeypatch, folder)
    with pytest.raises(DataError, match=r"run-01_eeg\.eeg"):
        load_dataset("old_man", subjects=["001"]).recordings()


def test_what_there_is_not_is_told_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"no subject '020'\. Did you mean"):
        load_dataset("old_man", subjects=["020"])
    with pytest.raises(RecipeError, match=r"no stimulus 'audio21'\. Did you mean"):
        load_dataset("old_man", options={"stimuli": ["audio21"]})


def test_the_archive_has_twenty_runs_of_nineteen_subjects_and_all_that_is_needed_of_each() -> None:
    data = load_dataset("old_man")
    assert data.subjects == tuple(f"{i:03d}" for i in range(1, 20))
    runs = pd.DataFrame([(run.subject, run.stimulus) for run in data.all_runs()], columns=["subject", "stimulus"])
    assert (runs.groupby("subject")["stimulus"].nunique() == 20).all()
    assert set(data.files(kinds=("responses", "words", "sound"))) <= set(data.archive.table)
    assert read_manifest("old_man").facts["montage"] in mne.channels.get_builtin_montages()
