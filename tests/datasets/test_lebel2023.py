"""LeBel et al. (2023): voxels of whole brains, story by story."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from miniatures import LAYERS, check_planted_layers, planted_bold, serve_miniature, write_textgrid

from brainalign.datasets import load_dataset
from brainalign.errors import DataError, RecipeError, UnreachableError
from brainalign.types import Clock, Stimulus

STORIES = ("adollshouse", "wheretheressmoke", "becomingindian")
CLOCK = Clock(2.0, 10.0)
N_REPEATS = 5


@pytest.fixture(scope="module")
def archive(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stories' real words and lengths, in the layout of ds003020, with planted responses of two subjects."""
    folder = tmp_path_factory.mktemp("mirror") / "lebel2023"
    real = shared / "datasets" / "real" / "ds003020_lebel" / "derivative" / "respdict.json"
    lengths = json.loads(real.read_text())
    (folder / "derivative").mkdir(parents=True)
    (folder / "derivative" / "respdict.json").write_bytes(real.read_bytes())
    ends = json.loads((shared / "datasets" / "lebel_small" / "word_end_times_9stories.json").read_text())
    for seed, story in enumerate(STORIES):
        intervals = _intervals(ends[story])
        write_textgrid(
            folder / "derivative" / "TextGrids" / f"{story}.TextGrid", {"phone": intervals, "word": intervals}
        )
        words = _words_of(intervals)
        for subject in ("UTS01", "UTS03"):
            response = planted_bold(words, CLOCK, 0.0, lengths[story] - 20, seed=seed)
            path = folder / "derivative" / "preprocessed_data" / subject / f"{story}.hf5"
            path.parent.mkdir(parents=True, exist_ok=True)
            with h5py.File(path, "w") as file:
                file["data"] = response.astype(np.float64)
                if story == "wheretheressmoke":
                    noise = np.random.default_rng(5).normal(size=(N_REPEATS, *response.shape))
                    file["individual_repeats"] = response + noise - noise.mean(axis=0)
    return folder


@pytest.fixture
def served(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    serve_miniature(monkeypatch, archive)
    return archive


def _intervals(story: dict[str, list]) -> list[tuple[float, float, str]]:
    """Words that end when the real ones do, with breaths and pauses between as the archive marks them."""
    words, ends = story["words"], story["end_times"]
    intervals, last = [], 0.0
    for number, (word, end) in enumerate(zip(words, ends, strict=True)):
        start = max(last, end - 0.06 * len(word) - 0.05)
        if start - last > 0.2:
            intervals.append((last, start, ("sp", "{BR}", "{LG}", "{CG}", "sentence_start")[number % 5]))
        intervals.append((start, end, word.upper()))
        last = end
    return intervals


def _words_of(intervals: list[tuple[float, float, str]]) -> Stimulus:
    import pandas as pd

    spoken = [entry for entry in intervals if entry[2] not in ("sp", "sentence_start") and entry[2][0] != "{"]
    return Stimulus(
        "truth",
        pd.DataFrame(
            {
                "onset": [start for start, _, _ in spoken],
                "duration": [stop - start for start, stop, _ in spoken],
                "text": [word.lower() for _, _, word in spoken],
            }
        ),
    )


def test_words_are_those_spoken_without_the_marks_of_noise(served: Path, shared: Path) -> None:
    ends = json.loads((shared / "datasets" / "lebel_small" / "word_end_times_9stories.json").read_text())["adollshouse"]
    words = load_dataset("lebel2023").stimuli["adollshouse"].words
    spoken = [not word.startswith("{") for word in ends["words"]]
    assert 0 < sum(spoken) < len(spoken)
    assert words["text"].tolist() == [word.lower() for word in np.array(ends["words"])[spoken]]
    np.testing.assert_allclose(words["onset"] + words["duration"], np.array(ends["end_times"])[spoken], atol=1e-3)


def test_rows_are_at_ten_seconds_of_the_sound_and_every_two_after(served: Path) -> None:
    [recording] = load_dataset("lebel2023", subjects=["UTS03"]).recordings(stimuli=["adollshouse"])
    assert (recording.clock, recording.offset_s, recording.modality) == (CLOCK, 0.0, "fmri")
    assert recording.response().shape == (241, len(LAYERS))
    assert recording.targets["name"].tolist() == ["voxel 0", "voxel 1", "voxel 2", "voxel 3"]
    assert recording.findings == ()


def test_the_planted_layers_are_found(served: Path) -> None:
    check_planted_layers(load_dataset("lebel2023"))


def test_each_time_the_repeated_story_was_heard_can_be_a_run_whose_mean_is_the_response(served: Path) -> None:
    story = {"subjects": ["UTS01"], "options": {"stimuli": ["wheretheressmoke", "adollshouse"]}}
    each = load_dataset("lebel2023", **{**story, "options": {**story["options"], "repeats": "each"}}).recordings()
    [_, mean] = load_dataset("lebel2023", **story).recordings()
    repeats = [recording for recording in each if recording.stimulus == "wheretheressmoke"]
    assert [r.run for r in repeats] == [f"wheretheressmoke-{i + 1}" for i in range(N_REPEATS)]
    assert len({r.digest for r in repeats} | {mean.digest}) == N_REPEATS + 1
    np.testing.assert_allclose(np.mean([r.response() for r in repeats], axis=0), mean.response(), atol=1e-5)


@pytest.mark.parametrize("chosen", [np.array([3, 1]), np.array([False, True, False, True])], ids=["numbers", "truth"])
def test_voxels_can_be_chosen_for_one_subject(served: Path, tmp_path: Path, chosen: np.ndarray) -> None:
    np.save(tmp_path / "voxels.npy", chosen)
    options = {"voxels": tmp_path / "voxels.npy", "stimuli": ["adollshouse"]}
    [part] = load_dataset("lebel2023", subjects=["UTS01"], options=options).recordings()
    [whole] = load_dataset("lebel2023", subjects=["UTS01"], options={"stimuli": ["adollshouse"]}).recordings()
    assert part.targets["voxel"].tolist() == [1, 3]
    assert part.digest != whole.digest
    np.testing.assert_array_equal(part.response(), whole.response()[:, [1, 3]])
    with pytest.raises(RecipeError, match="one subject's own"):
        load_dataset("lebel2023", options=options)


@pytest.mark.parametrize("wrong", [np.array([4]), np.array([-1]), np.array([1, 1]), np.array([0.5]), np.array([True])])
def test_voxels_that_there_are_not_are_an_error_that_names_the_file(
    served: Path, tmp_path: Path, wrong: np.ndarray
) -> None:
    np.save(tmp_path / "voxels.npy", wrong)
    with pytest.raises(DataError, match=r"voxels\.npy"):
        load_dataset("lebel2023", subjects=["UTS01"], options={"voxels": tmp_path / "voxels.npy"}).recordings()


def test_a_story_of_another_length_than_its_scan_is_named(archive: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "lebel2023"
    for path in archive.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(archive)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(archive)).write_bytes(path.read_bytes())
    short = folder / "derivative" / "preprocessed_data" / "UTS01" / "adollshouse.hf5"
    with h5py.File(short, "r+") as file:
        values = file["data"][:200]
        del file["data"]
        file["data"] = values
    serve_miniature(monkeypatch, folder)
    [recording] = load_dataset("lebel2023", subjects=["UTS01"]).recordings(stimuli=["adollshouse"])
    assert [finding.code for finding in recording.findings] == ["odd-length"]


def test_the_archive_has_these_subjects_and_stories_and_the_words_of_each() -> None:
    data = load_dataset("lebel2023")
    assert data.subjects == tuple(f"UTS0{i}" for i in range(1, 10))
    stories = {subject: sum(run.subject == subject for run in data.all_runs()) for subject in data.subjects}
    assert [stories[s] for s in data.subjects] == [83, 83, 83, 26, 27, 27, 27, 27, 53]
    paths = set(data.archive.table)
    lacking = {run.stimulus for run in data.all_runs() if data.words_files(run.stimulus)[0] not in paths}
    assert lacking == set()


def test_without_the_network_it_says_where_a_copy_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset("lebel2023", subjects=["UTS01"], options={"stimuli": ["souls"]})
    sources = {"archive": "http://127.0.0.1:9/{path}"}
    dead = data.archive.manifest.model_copy(update={"sources": sources})
    monkeypatch.setattr("brainalign.archives.archive.read_manifest", lambda name: dead)
    with pytest.raises(UnreachableError, match="BRAINALIGN_MIRROR"):
        data.recordings()
