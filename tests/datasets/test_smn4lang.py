"""SMN4Lang: fMRI and MEG of the same people; real events, triggers that lie, planted responses."""

from __future__ import annotations

import shutil
from pathlib import Path

import mne
import nibabel
import numpy as np
import pandas as pd
import pytest
from miniatures import LATENCY_S, check_planted_layers, planted_bold, planted_signal, serve_miniature
from scipy.io import savemat

from brainalign.datasets import load_dataset
from brainalign.errors import DataError
from brainalign.simulate import words_from_text
from brainalign.types import Clock, Stimulus

CLOCK = Clock(0.71, 0.307)
RATE_HZ = 250.0
# Sounds of three stories: what the real events of fMRI say of the first two, and a third of our own.
SOUNDS_S = {1: 406.416, 2: 280.0, 3: 300.0}
DERIVATIVES = "derivatives/preprocessed_data"


@pytest.fixture(scope="module")
def truth() -> dict[int, Stimulus]:
    """Words in Chinese characters, two or three to a word, for each story."""
    random = np.random.default_rng(3)
    words = ["今天", "我们", "的", "人民", "日报", "文化", "教育", "是", "时代", "年轻人", "不", "生活"]
    stimuli = {}
    for story, sound_s in SOUNDS_S.items():
        text = " ".join(random.choice(words, int(2.2 * sound_s)))
        table = words_from_text(text, seed=story, words_per_second=2.3)
        stimuli[story] = Stimulus(f"story_{story}", table[["onset", "duration", "text"]], language="zh")
    return stimuli


@pytest.fixture(scope="module")
def archive(shared: Path, truth: dict[int, Stimulus], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One subject's three stories in fMRI and MEG, in the layout of ds004078, with its real events."""
    folder = tmp_path_factory.mktemp("mirror") / "smn4lang"
    real = shared / "datasets" / "real" / "ds004078_smn4lang"
    for kind in ("meg", "func"):
        (folder / "sub-01" / kind).mkdir(parents=True)
        shutil.copyfile(
            real / "sub-01" / kind / "sub-01_task-RDR_run-1_events.tsv",
            folder / "sub-01" / kind / "sub-01_task-RDR_run-1_events.tsv",
        )
    onsets_s = {1: 13.726, 2: 279.987 - 280.0 + 0.031, 3: 9.5}
    # Subject 09's run 7, whose first trigger was not recorded, though the file names one.
    shutil.copyfile(
        real / "sub-09" / "meg" / "sub-09_task-RDR_run-7_events.tsv",
        folder / "sub-01" / "meg" / "sub-01_task-RDR_run-2_events.tsv",
    )
    (folder / "sub-01/meg/sub-01_task-RDR_run-3_events.tsv").write_text(
        "onset\tduration\ttrial_type\tvalue\tsample\n9.5\t0\tBeg\t1\t2375\n309.53\t0\tEnd\t2\t77382\n",
        encoding="utf-8-sig",
    )
    for story in (2, 3):
        (folder / f"sub-01/func/sub-01_task-RDR_run-{story}_events.tsv").write_text(
            f"onset\tduration\tstim_file\n10.65\t{SOUNDS_S[story]}\taudio/story_{story}.wav\n"
        )
    for story, stimulus in truth.items():
        _write_words(folder, story, stimulus)
        _write_fmri(folder, story, stimulus)
        _write_meg(folder, story, stimulus, onsets_s[story])
    return folder


def _write_words(folder: Path, story: int, stimulus: Stimulus) -> None:
    onset = stimulus.words["onset"].to_numpy() + 10.65
    path = folder / "derivatives/annotations/time_align/word-level" / f"story_{story}_word_time.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    end = onset + stimulus.words["duration"].to_numpy()
    # One story's words are cells, the others' characters padded with blanks.
    text = stimulus.words["text"].to_numpy(dtype=object if story == 3 else str)
    savemat(path, {"word": text, "start": onset[None], "end": end[None]})


def _write_fmri(folder: Path, story: int, stimulus: Stimulus) -> None:
    bold = planted_bold(stimulus, CLOCK, 10.65, int((10.65 + SOUNDS_S[story] + 12) / 0.71), seed=story)
    path = folder / DERIVATIVES / "sub-01" / "MNI" / f"sub-01_task-RDR_run-{story}_bold.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(bold.T.reshape(1, 2, 2, -1) + 50, np.diag([2, 2, 2, 1]))
    image.header.set_zooms((2, 2, 2, 0.71))
    nibabel.save(image, path)
    cortex = nibabel.cifti2.BrainModelAxis.from_surface([3, 5], 10, name="CortexLeft")
    cortex = cortex + nibabel.cifti2.BrainModelAxis.from_surface([0, 9], 10, name="CortexRight")
    axes = (nibabel.cifti2.SeriesAxis(0, 0.71, len(bold)), cortex)
    path = folder / DERIVATIVES / "sub-01" / "CIFTI" / f"sub-01_task-RDR_run-{story}_bold.dtseries.nii"
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Cifti2Image(bold, axes), path)


def _write_meg(folder: Path, story: int, stimulus: Stimulus, onset_s: float) -> None:
    info = mne.channels.read_meg_canonical_info("neuromag", verbose="error")
    picks = [0, 1, 2, 5]
    info = mne.pick_info(info, picks)
    with info._unlock():
        info["sfreq"] = RATE_HZ
        info["lowpass"] = RATE_HZ / 2
    n_rows = int((max(onset_s, 0) + SOUNDS_S[story] + 6) * RATE_HZ)
    heard = stimulus.words["onset"].to_numpy() + onset_s
    signal = planted_signal(stimulus, heard, RATE_HZ, n_rows, seed=story)
    raw = mne.io.RawArray(signal.T * 1e-12, info, first_samp=4000, verbose="error")
    for path in (
        folder / DERIVATIVES / "sub-01" / "MEG" / f"sub-01_task-RDR_run-{story}_meg.fif",
        folder / "sub-01" / "meg" / f"sub-01_task-RDR_run-{story}_meg.fif",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        raw.save(path, verbose="error")


@pytest.fixture
def mask(tmp_path: Path) -> dict:
    nibabel.save(nibabel.Nifti1Image(np.ones((1, 2, 2), np.uint8), np.diag([2, 2, 2, 1])), tmp_path / "mask.nii.gz")
    return {"mask": tmp_path / "mask.nii.gz"}


@pytest.fixture
def served(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    serve_miniature(monkeypatch, archive)
    return archive


@pytest.mark.parametrize("story", SOUNDS_S)
def test_words_count_from_the_sound_and_not_from_the_scan(served: Path, truth: dict[int, Stimulus], story: int) -> None:
    stimulus = load_dataset("smn4lang").stimuli[f"story_{story}"]
    assert stimulus.language == "zh"
    assert stimulus.words["text"].tolist() == truth[story].words["text"].tolist()
    np.testing.assert_allclose(
        stimulus.words[["onset", "duration"]], truth[story].words[["onset", "duration"]], atol=1e-3
    )


def test_the_sound_begins_when_events_say_and_not_when_they_cannot_be_right(served: Path, mask: dict) -> None:
    recordings = load_dataset("smn4lang", options={"modality": "meg"}).recordings()
    np.testing.assert_allclose([r.offset_s for r in recordings], [13.726, 0.018, 9.5], atol=1e-6)
    assert [[f.code for f in r.findings if f.code == "wrong-trigger"] for r in recordings] == [
        [],
        ["wrong-trigger"],
        [],
    ]
    assert {r.offset_s for r in load_dataset("smn4lang", options={"volumes": mask}).recordings()} == {10.65}


@pytest.mark.parametrize("kind", ["preprocessed", "raw"])
def test_the_layers_planted_in_meg_are_found(served: Path, kind: str) -> None:
    data = load_dataset("smn4lang", options={"modality": "meg", "meg": kind})
    scores = check_planted_layers(data, latency_s=LATENCY_S)
    assert scores["target_kind"].values.tolist() == ["grad", "grad", "mag", "mag"]


def test_the_layers_planted_in_volumes_and_in_grayordinates_are_found(served: Path, mask: dict) -> None:
    check_planted_layers(load_dataset("smn4lang", options={"volumes": mask}))
    scores = check_planted_layers(load_dataset("smn4lang", options={"fmri": "cifti"}))
    assert scores["vertex"].values.tolist() == [3, 5, 0, 9]


def test_events_of_another_story_are_refused(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "smn4lang"
    shutil.copytree(archive, folder)
    shutil.copyfile(
        folder / "sub-01/func/sub-01_task-RDR_run-1_events.tsv", folder / "sub-01/func/sub-01_task-RDR_run-3_events.tsv"
    )
    serve_miniature(monkeypatch, folder)
    with pytest.raises(DataError, match="no row of story_3"):
        load_dataset("smn4lang").recordings(stimuli=["story_3"])


def test_a_file_of_times_that_is_none_is_named(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "smn4lang"
    shutil.copytree(archive, folder)
    path = folder / "derivatives/annotations/time_align/word-level/story_1_word_time.mat"
    savemat(path, {"words": np.zeros(3)})
    serve_miniature(monkeypatch, folder)
    with pytest.raises(DataError, match=r"story_1_word_time\.mat: not a MATLAB file with `word`"):
        load_dataset("smn4lang").stimuli["story_1"]


@pytest.mark.parametrize("options", [{}, {"fmri": "cifti"}, {"modality": "meg"}, {"modality": "meg", "meg": "raw"}])
def test_the_archive_has_sixty_stories_of_each_of_twelve_people(options: dict) -> None:
    data = load_dataset("smn4lang", options=options)
    runs = data.all_runs()
    assert len(runs) == 720
    assert data.subjects == tuple(f"{number:02d}" for number in range(1, 13))
    assert list(data.stimuli) == [f"story_{number}" for number in range(1, 61)]
    paths = {path for run in runs for path in (*run.responses, *run.sidecars, *data.words_files(run.stimulus))}
    assert paths <= set(data.archive.table)
    assert {len(data.sound_files(name)) for name in data.stimuli} == {1}
    assert pd.Series([run.subject for run in runs]).value_counts().eq(60).all()
