"""Brennan and Hale (2019): real words, events and tables, planted recordings of three segments."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from miniatures import LAYERS, check_planted_layers, planted_signal, serve_miniature
from recordings import write_brainvision

from brainalign.datasets import load_dataset
from brainalign.errors import DataError, RecipeError, UnreachableError
from brainalign.manifests import read_manifest
from brainalign.types import Stimulus

RATE_HZ = 500
N_SEGMENTS = 3
SEGMENTS = [f"segment{number:02d}" for number in range(1, N_SEGMENTS + 1)]
REAL = "datasets/real/brennan2019_eeg_nm000180"
WORDS = "sourcedata/AliceChapterOne-EEG.csv"
# Four channels follow the words, the fifth is a wave that tells the time, then the eye and the sound (which the real
# table of 001 calls otherwise).
NAMES = ["1", "2", "3", "4", "5", "VEOG", "AUD"]
WAVE_HZ = 3.0
# By this much the recording of the one began after the first sound.
LATE, LATE_S = "026", 2.5


@pytest.fixture(scope="module")
def story(shared: Path) -> pd.DataFrame:
    """The authors' table of the first segments."""
    table = pd.read_csv(shared / REAL / WORDS, keep_default_na=False)
    return table[table["Segment"] <= N_SEGMENTS]


@pytest.fixture(scope="module")
def events(shared: Path) -> dict[str, pd.DataFrame]:
    """Two subjects' real events, and those of one whose recording began late, numbered as the archive numbers them."""
    given = {}
    for subject in ("001", "010"):
        path = shared / REAL / f"sub-{subject}/eeg/sub-{subject}_task-alicelistening_events.tsv"
        table = pd.read_csv(path, sep="\t", keep_default_na=False)
        given[subject] = table[table["segment"] <= N_SEGMENTS]
    return given


@pytest.fixture(scope="module")
def archive(
    shared: Path, story: pd.DataFrame, events: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("mirror") / "brennan2019"
    (folder / "sourcedata").mkdir(parents=True)
    shutil.copyfile(shared / REAL / WORDS, folder / WORDS)
    for seed, subject in enumerate(("001", "010", LATE)):
        true = events["001" if subject == LATE else subject]
        onset = true["onset"].to_numpy() - (_start_of(events["001"], story, 1) + LATE_S if subject == LATE else 0.0)
        _write_recording(folder, subject, story, onset, seed)
        for name in ("task-alicelistening_channels.tsv", "space-CapTrak_electrodes.tsv"):
            source = shared / REAL / f"sub-001/eeg/sub-001_{name}"
            shutil.copyfile(source, folder / f"sub-{subject}/eeg/sub-{subject}_{name}")
        table = true if subject != LATE else _misnumbered(true, story, onset)
        table.to_csv(_path_of(folder, subject, "events.tsv"), sep="\t", index=False)
    # A subject without events.
    shutil.copytree(folder / "sub-001", folder / "sub-028", ignore=shutil.ignore_patterns("*events.tsv"))
    for path in (folder / "sub-028" / "eeg").iterdir():
        path.rename(path.with_name(path.name.replace("sub-001", "sub-028")))
    return folder


def _path_of(folder: Path, subject: str, name: str) -> Path:
    return folder / f"sub-{subject}/eeg/sub-{subject}_task-alicelistening_{name}"


def _start_of(events: pd.DataFrame, story: pd.DataFrame, segment: int) -> float:
    """Seconds of the recording at which the segment's sound began."""
    both = events[events["segment"] == segment].merge(story, left_on="word_index", right_on="Order")
    return float((both["onset_x"] - both["onset_y"]).median())


def _write_recording(folder: Path, subject: str, story: pd.DataFrame, onset: np.ndarray, seed: int) -> None:
    """Each segment is planted by its own words, as a model would read it alone."""
    path = _path_of(folder, subject, "eeg.vhdr")
    path.parent.mkdir(parents=True)
    n_rows = int((onset[-1] + 5.0) * RATE_HZ)
    noise = np.random.default_rng(seed).normal(size=(n_rows, len(LAYERS)))
    signal = 0.3 * noise
    for segment in range(1, N_SEGMENTS + 1):
        which = (story["Segment"] == segment).to_numpy()
        words = truth_of(story, segment)
        planted = planted_signal(words, onset[which], RATE_HZ, n_rows, seed=seed)
        span = slice(*np.clip(np.rint((onset[which][[0, -1]] + [-0.3, 1.0]) * RATE_HZ), 0, n_rows).astype(int))
        signal[span] += planted[span]
    times = np.arange(n_rows) / RATE_HZ
    wave = np.sin(2 * np.pi * WAVE_HZ * times)
    values = np.vstack([signal.T, wave, 100 * noise[:, :2].T]) * 1e-5
    write_brainvision(path, values, RATE_HZ, NAMES)


def truth_of(story: pd.DataFrame, segment: int) -> Stimulus:
    """The words that the loader is to give."""
    facts = read_manifest("brennan2019").facts
    words = story[story["Segment"] == segment]
    text = [facts["clitics"].get(word.replace("\x1a", ""), word.replace("\x1a", "")) for word in words["Word"]]
    table = pd.DataFrame(
        {
            "onset": words["onset"].to_numpy(),
            "duration": (words["offset"] - words["onset"]).to_numpy(),
            "sentence": words["Sentence"].to_numpy(),
            "text": text,
        }
    )
    return Stimulus(f"segment{segment:02d}", table)


def _misnumbered(events: pd.DataFrame, story: pd.DataFrame, onset: np.ndarray) -> pd.DataFrame:
    """The words of segments 1 and 2 at the times of segments 2 and 3, as in eight of the archive's tables."""
    placed = []
    true = events.assign(onset=onset)
    for segment in range(1, N_SEGMENTS):
        words = true[true["segment"] == segment]
        shift = _start_of(true, story, segment + 1) - _start_of(true, story, segment)
        placed.append(words.assign(onset=words["onset"] + shift))
    return pd.concat(placed)


@pytest.fixture
def served(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    serve_miniature(monkeypatch, archive)
    return archive


@pytest.mark.parametrize("segment", range(1, N_SEGMENTS + 1))
def test_words_are_the_authors_with_apostrophes(served: Path, story: pd.DataFrame, segment: int) -> None:
    words = load_dataset("brennan2019").stimuli[f"segment{segment:02d}"].words
    pd.testing.assert_frame_equal(words, truth_of(story, segment).words, check_dtype=False)
    assert not words["text"].str.contains("\x1a").any()
    if segment == 1:
        assert " ".join(words["text"][40:48]) == "in it and what 's the use of"


def test_a_word_without_which_the_sense_is_another_is_mended(served: Path) -> None:
    words = load_dataset("brennan2019").stimuli["segment12"].words
    assert "and I don't care which" in " ".join(words["text"])


@pytest.mark.parametrize("subject", ["001", "010", LATE])
def test_each_segment_is_its_stretch_of_the_recording_on_its_own_clock(
    served: Path, story: pd.DataFrame, events: dict[str, pd.DataFrame], subject: str
) -> None:
    expected = SEGMENTS[1:] if subject == LATE else SEGMENTS
    recordings = load_dataset("brennan2019", subjects=[subject], options={"stimuli": expected}).recordings()
    assert [r.stimulus for r in recordings] == expected
    true = events["001" if subject == LATE else subject]
    shift_s = _start_of(events["001"], story, 1) + LATE_S if subject == LATE else 0.0
    ends = []
    for recording in recordings:
        values = recording.response()
        segment = int(recording.run)
        start_s = _start_of(true, story, segment) - shift_s
        rows_s = recording.clock.times(len(values)) - recording.offset_s
        # On the stimulus's clock, rows are where its sound was, to a millisecond.
        wave = np.sin(2 * np.pi * WAVE_HZ * (rows_s + start_s))
        np.testing.assert_allclose(values[:, 4] / 1e-5, wave, atol=2 * np.pi * WAVE_HZ * 1e-3)
        assert recording.targets["name"].tolist() == NAMES[:5]
        ends.append((rows_s[0] + start_s, rows_s[-1] + start_s))
    # No moment is in two runs, and none between them in none.
    assert all(0 < after[0] - before[1] < 0.011 for before, after in pairwise(ends))


def test_places_are_those_of_the_cap_in_metres(served: Path, shared: Path) -> None:
    [recording] = load_dataset("brennan2019", subjects=["001"], options={"stimuli": SEGMENTS[:1]}).recordings()
    table = pd.read_csv(shared / REAL / "sub-001/eeg/sub-001_space-CapTrak_electrodes.tsv", sep="\t", dtype={0: str})
    places = table.set_index(table.columns[0]).loc[NAMES[:5], ["x", "y", "z"]].astype(float)
    np.testing.assert_allclose(recording.targets[["x", "y", "z"]], places, atol=1e-6)
    assert recording.space == {"kind": "sensors", "unit": "m", "frame": "head"}
    assert recording.findings == ()


def test_what_is_left_out_and_renumbered_is_told(served: Path) -> None:
    data = load_dataset("brennan2019")
    assert data.subjects == ("001", "010", LATE)
    assert [finding.code for finding in data.findings] == ["untimed-subjects", "segment-left-out"]
    assert "subjects 028 have no times" in data.findings[0].message
    [recording] = load_dataset("brennan2019", subjects=[LATE], options={"stimuli": ["segment03"]}).recordings()
    assert [finding.code for finding in recording.findings] == ["segments-renumbered"]
    assert "segment 2" in recording.findings[0].message


def test_the_planted_layers_are_found(served: Path) -> None:
    options = {"stimuli": SEGMENTS, "signals": {"picks": NAMES[: len(LAYERS)]}}
    check_planted_layers(load_dataset("brennan2019", options=options))


def _served_with(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]) -> None:
    """The archive with subject 001's events changed: columns with other values."""
    folder = tmp_path / "brennan2019"
    shutil.copytree(archive, folder)
    path = _path_of(folder, "001", "events.tsv")
    table = pd.read_csv(path, sep="\t", keep_default_na=False)
    table.assign(**change).to_csv(path, sep="\t", index=False)
    serve_miniature(monkeypatch, folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"word_index": 26}, "line 2: the word_index is none of"),
        ({"onset": "n/a"}, "line 2: onset 'n/a' is not a finite number"),
        ({"onset": np.arange(535.0)}, "the recorded events do not follow the stimulus"),
    ],
    ids=["a word there is not", "no time", "other times"],
)
def test_events_that_cannot_be_are_errors_that_name_them(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], message: str
) -> None:
    _served_with(archive, tmp_path, monkeypatch, change)
    with pytest.raises(DataError, match=message):
        load_dataset("brennan2019", subjects=["001"], options={"stimuli": SEGMENTS}).recordings()


def test_segments_that_are_not_where_their_numbers_say_are_an_error(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "brennan2019"
    shutil.copytree(archive, folder)
    # The events of one whose recording began late, for one of whom this is not known.
    shutil.copyfile(_path_of(folder, LATE, "events.tsv"), _path_of(folder, "001", "events.tsv"))
    serve_miniature(monkeypatch, folder)
    with pytest.raises(DataError, match=r"from segment 1 to the next there are 60\.\d+ s, not 57\.618 s"):
        load_dataset("brennan2019", subjects=["001"], options={"stimuli": SEGMENTS}).recordings()


def test_a_segment_without_words_in_the_events_is_an_error_that_names_them(served: Path) -> None:
    with pytest.raises(DataError, match=r"001_task-alicelistening_events\.tsv: it has no words of segment 4"):
        load_dataset("brennan2019", subjects=["001"], options={"stimuli": ["segment04"]}).recordings()


def test_a_placeholder_in_the_users_copy_is_named(served: Path, tmp_path: Path) -> None:
    path = _path_of(tmp_path / "own", "001", "eeg.eeg")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"/annex/objects/SHA256E-s90898200--e101.eeg\n")
    with pytest.raises(DataError, match=r"eeg\.eeg: not downloaded"):
        load_dataset("brennan2019", root=tmp_path / "own", subjects=["001"]).recordings()


def test_a_recording_that_is_missing_is_named(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "brennan2019"
    shutil.copytree(archive, folder, ignore=shutil.ignore_patterns("sub-001*.eeg"))
    serve_miniature(monkeypatch, folder)
    with pytest.raises(UnreachableError, match=r"sub-001_task-alicelistening_eeg\.eeg"):
        load_dataset("brennan2019", subjects=["001"]).recordings()


def test_whom_there_is_not_is_told_with_the_nearest() -> None:
    # Of 028 there are no events.
    for subject in ("028", "004"):
        with pytest.raises(RecipeError, match=rf"no subject '{subject}'\. Did you mean"):
            load_dataset("brennan2019", subjects=[subject])


def test_whom_the_authors_left_out_are_those_of_the_real_table(shared: Path) -> None:
    table = pd.read_csv(shared / REAL / "participants.tsv", sep="\t", encoding="utf-8-sig", keep_default_na=False)
    left_out = table[table["analyzed"] == "no"]
    subjects = left_out["participant_id"].str.removeprefix("sub-")
    assert read_manifest("brennan2019").facts["excluded"] == dict(
        zip(subjects, left_out["exclusion_reason"], strict=True)
    )
    analysed = load_dataset("brennan2019", options={"analysed_only": True})
    assert set(analysed.subjects) == set(load_dataset("brennan2019").subjects) - set(subjects)
    [untimed, late] = load_dataset("brennan2019").findings
    assert untimed.message.startswith("subjects 028, 029, 031, 033, 046, 047 have no")
    assert [finding.code for finding in analysed.findings] == [late.code]


def test_the_archive_has_all_that_is_needed_of_each() -> None:
    data = load_dataset("brennan2019")
    assert len(data.subjects) == 39
    assert len(data.all_runs()) == 31 * 12 + 8 * 11
    assert set(data.files(kinds=("responses", "words", "sound"))) <= set(data.archive.table)
