"""Any BIDS folder: words in events or beside them; volumes, surfaces, sensors and electrodes with planted truth."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from brainalign_cli.main import _exit_code
from images import write_fmriprep_run, write_gifti, write_nifti
from miniatures import LAYERS, check_planted_layers, planted_bold, planted_signal, write_textgrid
from recordings import helmet, write_brainvision, write_edf, write_fif

from brainalign.datasets import load_dataset
from brainalign.errors import BrainalignError, DataError, RecipeError
from brainalign.simulate import words_from_text
from brainalign.types import Clock, Stimulus

RATE_HZ = 200.0
VOCABULARY = ("a", "the", "man", "who", "went", "home", "saw", "None", "dog", "there", "not", "what", "thought", "it")
STORIES = ("one", "two", "three")


@pytest.fixture(scope="module")
def stories() -> dict[str, Stimulus]:
    made = {}
    for seed, name in enumerate(STORIES):
        text = " ".join(np.random.default_rng(seed).choice(VOCABULARY, 330))
        table = words_from_text(text, seed=seed)[["onset", "duration", "text"]]
        made[name] = Stimulus(name, table.assign(onset=table["onset"] - table["onset"].iloc[0]))
    return made


def _write_events(path: Path, stimulus: Stimulus, offset_s: float, rate: float, kind: str = "word") -> None:
    """Words among clicks, as many sets have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(offset_s + rate * word.onset, word.duration, kind, word.text) for word in stimulus.words.itertuples()]
    rows += [(time, 0.0, "click", "n/a") for time in (0.1, 5.0)]
    table = pd.DataFrame(sorted(rows), columns=["onset", "duration", "trial_type", "word"])
    table.to_csv(path, sep="\t", index=False, encoding="utf-8-sig")


def _write_channels(path: Path, names: list[str], kind: str, bad: tuple[str, ...] = ()) -> None:
    status = ["bad" if name in bad else "good" for name in names]
    pd.DataFrame({"name": names, "type": kind, "units": "V", "status": status}).to_csv(path, sep="\t", index=False)


# MEG: each subject's own clock

CLOCKS = {"01": (12.0, 1.0), "02": (3.5, 1.0005)}


@pytest.fixture(scope="module")
def meg(stories: dict[str, Stimulus], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meg")
    for subject, (offset_s, rate) in CLOCKS.items():
        for run, stimulus in enumerate(stories.values(), start=1):
            stem = folder / f"sub-{subject}/ses-a/meg/sub-{subject}_ses-a_task-story_run-{run}"
            _write_events(stem.with_name(f"{stem.name}_events.tsv"), stimulus, offset_s, rate)
            n_rows = int((offset_s + rate * stimulus.duration_s + 5) * RATE_HZ)
            heard = offset_s + rate * stimulus.words["onset"].to_numpy()
            signal = planted_signal(stimulus, heard, RATE_HZ, n_rows, layers=(0, 1, 2, 3, 0, 1), seed=run)
            info = helmet("neuromag", 51)
            write_fif(stem.with_name(f"{stem.name}_meg.fif"), signal.T * 1e-12, RATE_HZ, info, first_s=20.0)
    return folder


def test_subjects_who_met_the_same_words_share_a_stimulus_and_each_keeps_its_clock(
    meg: Path, stories: dict[str, Stimulus]
) -> None:
    data = load_dataset("bids", root=meg, options={"modality": "meg"})
    assert data.subjects == ("01", "02")
    assert list(data.stimuli) == ["story run-1", "story run-2", "story run-3"]
    for name, truth in zip(data.stimuli, stories.values(), strict=True):
        words = data.stimuli[name].words
        assert words["text"].tolist() == truth.words["text"].tolist()
        np.testing.assert_allclose(words["onset"], truth.words["onset"], atol=1e-3)
    for recording in data.recordings():
        offset_s, rate = CLOCKS[recording.subject]
        words = data.stimuli[recording.stimulus].words
        # Where the last word lies in the rows, by the recording's clock and by what was planted.
        row = (recording.offset_s + words["onset"].iloc[-1] - recording.clock.start_s) / recording.clock.step_s
        first_row = recording.clock.start_s * rate
        assert first_row + row / 100 == pytest.approx(offset_s + rate * words["onset"].iloc[-1], abs=1e-3)
        drifts = [finding.code for finding in recording.findings if finding.code == "clock-drift"]
        assert drifts == (["clock-drift"] if rate != 1.0 else [])
        assert recording.run.startswith("ses-a story run-")


def test_layers_planted_in_sensors_are_found(meg: Path) -> None:
    scores = check_planted_layers(
        load_dataset("bids", root=meg, options={"modality": "meg"}), layers=(0, 1, 2, 3, 0, 1)
    )
    assert set(scores["target_kind"].values) == {"mag", "grad"}
    assert np.isfinite(scores["x"].values).all()


@pytest.mark.slow
def test_the_command_runs_on_it_and_finds_them(meg: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"dataset: {{name: bids, root: '{meg}', modality: meg, task: story, signals: {{rate_hz: 50}}}}\n"
        "features: [{kind: toy_model, n_layers: 3, dimension: 6}]\n"
        "baseline: []\nalignment: {tmin_s: 0.1, tmax_s: 0.4, sfreq_hz: 20, band_hz: [0.5, 10]}\n"
    )
    assert _exit_code(["run", str(recipe), "--out", str(tmp_path / "out"), "--jobs", "1", "--quiet"]) == 0, (
        capsys.readouterr()
    )
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert "resampled from 200 to 50 Hz" in record["signals"]["01"][0]
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert (summary["subject"].astype(str).str.zfill(2).unique() == ["01", "02"]).all()
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000


# fMRI

TR_S = 1.5


@pytest.fixture(scope="module")
def fmri(stories: dict[str, Stimulus], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stories of one scan each, their words in TextGrids, fMRIPrep's derivatives, and the scanner's volumes."""
    folder = tmp_path_factory.mktemp("fmri")
    for name, stimulus in stories.items():
        intervals = [(w.onset, w.onset + w.duration, w.text) for w in stimulus.words.itertuples()]
        write_textgrid(folder / "stimuli" / f"{name}.TextGrid", {"words": intervals})
    (folder / "task-story_bold.json").write_text(json.dumps({"RepetitionTime": TR_S}))
    for subject in ("01", "02"):
        for run, (name, stimulus) in enumerate(stories.items(), start=1):
            entities = f"sub-{subject}_task-story_run-{run}"
            events = folder / f"sub-{subject}/func/{entities}_events.tsv"
            events.parent.mkdir(parents=True, exist_ok=True)
            events.write_text(
                "onset\tduration\ttrial_type\tstim_file\n0.0\t3\tmusic\tn/a\n"
                f"6.0\t{stimulus.duration_s}\tstory\tstimuli/{name}.wav\n"
            )
            n_volumes = int((6 + stimulus.duration_s + 15) / TR_S)
            bold = planted_bold(stimulus, Clock(TR_S, 0.75), 6.0, n_volumes, seed=run).T.reshape(2, 2, 1, n_volumes)
            write_nifti(folder / f"sub-{subject}/func/{entities}_bold.nii.gz", bold + 100, tr=TR_S)
            derived = folder / f"derivatives/fmriprep/sub-{subject}/func"
            image = write_fmriprep_run(derived, entities, bold * 0.5 + 100, tr_s=TR_S)
            sidecar = {"RepetitionTime": TR_S, "StartTime": 0.75, "SliceTimingCorrected": True}
            Path(str(image).replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
            for hemisphere, columns in (("L", [0, 1]), ("R", [2, 3])):
                series = bold.reshape(4, -1).T[:, columns]
                write_gifti(
                    derived / f"{entities}_hemi-{hemisphere}_space-fsaverage6_bold.func.gii", series, time_step="1500.0"
                )
    return folder


OF_FILES = {"modality": "fmri", "words": "stimuli/{stim_file}.TextGrid"}


def test_words_lie_in_the_files_that_events_name_and_start_when_these_say(
    fmri: Path, stories: dict[str, Stimulus]
) -> None:
    data = load_dataset("bids", root=fmri, options=OF_FILES)
    assert list(data.stimuli) == list(STORIES)
    for name in STORIES:
        np.testing.assert_allclose(data.stimuli[name].words["onset"], stories[name].words["onset"], atol=1e-3)
    for recording in data.recordings():
        assert recording.offset_s == pytest.approx(6.0)
        assert recording.clock == Clock(TR_S, 0.75)
        assert recording.space["template"] == "MNI152NLin2009cAsym"
        assert recording.confounds().shape[1] == 6
        assert recording.targets["kind"].eq("voxel").all()


def test_layers_planted_in_derivatives_and_on_surfaces_are_found(fmri: Path) -> None:
    data = load_dataset("bids", root=fmri, options={**OF_FILES, "confounds": []})
    check_planted_layers(data)
    data = load_dataset("bids", root=fmri, options={**OF_FILES, "space": "fsaverage6"})
    scores = check_planted_layers(data)
    assert scores["hemisphere"].values.tolist() == ["L", "L", "R", "R"] * 2


def test_volumes_as_scanned_are_taken_where_there_is_nothing_else_and_that_is_told(fmri: Path, tmp_path: Path) -> None:
    mask = write_nifti(tmp_path / "mask.nii.gz", np.ones((2, 2, 1), np.uint8))
    options = {**OF_FILES, "space": "raw", "volumes": {"mask": mask}}
    recordings = load_dataset("bids", root=fmri, subjects=["01"], options=options).recordings()
    assert [recording.clock for recording in recordings] == [Clock(TR_S)] * 3
    assert all("raw-volumes" in {finding.code for finding in r.findings} for r in recordings)
    assert all(len(recording.response()) == len(recordings[i].response()) for i, recording in enumerate(recordings))


def test_a_derivative_that_lacks_a_subject_is_not_passed_over_in_silence(fmri: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(fmri, folder)
    for path in (folder / "derivatives/fmriprep/sub-02/func").glob("*space-*"):
        path.unlink()
    with pytest.raises(DataError, match=r"MNI152NLin2009cAsym: not of sub-02 task-story run-1, .*\n.*`space: raw`"):
        load_dataset("bids", root=folder, options=OF_FILES).recordings()
    [first, *_] = load_dataset("bids", root=folder, subjects=["01"], options=OF_FILES).recordings()
    assert first.space["template"] == "MNI152NLin2009cAsym"
    with pytest.raises(RecipeError, match="no preprocessed fMRI"):
        load_dataset("bids", root=fmri, options={**OF_FILES, "derivatives": "derivatives/fmriprp"}).recordings()


def test_without_confounds_that_is_told(fmri: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(fmri, folder)
    for path in folder.rglob("*confounds*"):
        path.unlink()
    recordings = load_dataset("bids", root=folder, options=OF_FILES).recordings()
    assert all("no-confounds" in {finding.code for finding in recording.findings} for recording in recordings)


# EEG and iEEG


@pytest.fixture(scope="module")
def eeg(stories: dict[str, Stimulus], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of a listener, their words in tables, one for each run; the sound starts 2 s into each recording."""
    folder = tmp_path_factory.mktemp("eeg")
    names = ["Fz", "Cz", "Pz", "Oz"]
    for run, stimulus in enumerate(stories.values(), start=1):
        stem = folder / f"sub-01/eeg/sub-01_task-listen_run-{run:02d}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        signal = planted_signal(stimulus, 2.0 + stimulus.words["onset"], RATE_HZ, int(160 * RATE_HZ), seed=run)
        write_brainvision(stem.with_name(f"{stem.name}_eeg.vhdr"), signal.T * 1e-5, RATE_HZ, names)
        _write_channels(stem.with_name(f"{stem.name}_channels.tsv"), names, "EEG")
        (folder / "stimuli").mkdir(exist_ok=True)
        table = stimulus.words.rename(columns={"text": "item", "onset": "start"})
        table.assign(end=table["start"] + table["duration"]).drop(columns="duration").to_csv(
            folder / "stimuli" / f"audio{run:02d}.csv", index=False
        )
    return folder


EEG = {
    "modality": "eeg",
    "words": "stimuli/audio{run}.csv",
    "columns": {"text": "item", "onset": "start"},
    "offset_s": 2.0,
}


def test_layers_planted_in_eeg_are_found_with_words_in_a_table_of_each_run(eeg: Path) -> None:
    data = load_dataset("bids", root=eeg, options=EEG)
    assert list(data.stimuli) == ["audio01", "audio02", "audio03"]
    assert "None" in set(data.stimuli["audio01"].words["text"])
    check_planted_layers(data)


@pytest.fixture(scope="module")
def ieeg(stories: dict[str, Stimulus], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ieeg")
    names = ["G1", "G2", "G3", "G4", "G5", "DC1"]
    places = {"name": names[:4], "x": [-50.0, -51, -52, -53], "y": [10.0, 0, -10, -20], "z": [5.0, 5, 5, 5]}
    for run, stimulus in enumerate(stories.values(), start=1):
        stem = folder / f"sub-07/ieeg/sub-07_task-podcast_run-{run}"
        _write_events(stem.with_name(f"{stem.name}_events.tsv"), stimulus, 4.0, 1.0, kind="Word")
        layers = (*LAYERS, 0, 0)
        signal = planted_signal(stimulus, 4.0 + stimulus.words["onset"], RATE_HZ, int(160 * RATE_HZ), layers, seed=run)
        write_edf(stem.with_name(f"{stem.name}_ieeg.edf"), signal.T * 1e-4, int(RATE_HZ), names, 1e-3)
        table = pd.DataFrame({"name": names, "type": ["ECOG"] * 5 + ["MISC"], "status": ["good"] * 4 + ["bad", "good"]})
        table.to_csv(stem.with_name(f"{stem.name}_channels.tsv"), sep="\t", index=False, encoding="utf-8-sig")
    pd.DataFrame(places).to_csv(folder / "sub-07/ieeg/sub-07_space-MNI152Lin_electrodes.tsv", sep="\t", index=False)
    (folder / "sub-07/ieeg/sub-07_space-MNI152Lin_coordsystem.json").write_text(
        json.dumps({"iEEGCoordinateSystem": "MNI152Lin", "iEEGCoordinateUnits": "mm"})
    )
    return folder


def test_layers_planted_in_electrodes_are_found_where_they_are(ieeg: Path) -> None:
    scores = check_planted_layers(load_dataset("bids", root=ieeg, options={"modality": "ecog"}))
    assert scores["target_name"].values.tolist() == ["G1", "G2", "G3", "G4"]
    np.testing.assert_allclose(scores["x"].values, [-0.050, -0.051, -0.052, -0.053])
    assert scores.attrs["space"]["07"]["frame"] == "mni"
    assert any(finding["code"] == "bad-channels" for finding in scores.attrs["findings"])


# What cannot be


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"modality": "eeg"}, r"no recordings in sub-\*/eeg/"),
        ({"modality": "fmri"}, r"no fMRI in sub-\*/func/"),
        ({"modality": "meg", "task": "stories"}, "Did you mean 'story'"),
        ({"modality": "meg", "sessions": ["b"]}, "no session 'b'"),
        ({"modality": "meg", "events": {"trial_type": "worm"}}, "no row has trial_type 'worm'"),
        ({"modality": "meg", "events": {"trail_type": "word"}}, "Did you mean 'trial_type'"),
        ({"modality": "meg", "columns": {"text": "words"}}, "no column 'words'"),
        ({"modality": "meg", "columns": {"tekst": "word"}}, "Did you mean 'text'"),
        ({"modality": "meg", "words": "stimuli/{stim_file}.csv"}, "its rows name no stim_file"),
        ({"modality": "meg", "words": "stimuli/{file}.csv"}, "'{file}' is not filled in"),
        ({"modality": "meg", "words": "stimuli/{run}.csv"}, "1.csv"),
        ({"modality": "meg", "signals": {"rate": 50}}, r"signals\.rate: unknown key"),
    ],
)
def test_what_is_not_there_is_named(meg: Path, options: dict, match: str) -> None:
    with pytest.raises(BrainalignError, match=match):
        load_dataset("bids", root=meg, options=options).recordings()


def test_events_that_are_missing_are_named(eeg: Path) -> None:
    with pytest.raises(DataError, match=r"no \*_events\.tsv goes with .*run-01_eeg\.vhdr"):
        load_dataset("bids", root=eeg, options={"modality": "eeg"}).subjects  # noqa: B018


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no files are there"):
        load_dataset("bids", root=tmp_path / "none", options={"modality": "meg"}).subjects  # noqa: B018
    with pytest.raises(RecipeError, match="root"):
        load_dataset("bids", options={"modality": "meg"})


def test_a_recording_whose_first_part_is_missing_is_named(meg: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(meg, folder)
    path = next(folder.rglob("sub-01*run-1_meg.fif"))
    path.rename(path.with_name(path.name.replace("_meg.fif", "_split-02_meg.fif")))
    with pytest.raises(DataError, match=r"the first part of .*split-02_meg\.fif .* is missing"):
        load_dataset("bids", root=folder, options={"modality": "meg"}).subjects  # noqa: B018


def test_what_events_lack_is_told(meg: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(meg, folder)
    path = next(folder.rglob("sub-02*run-1_events.tsv"))
    rows = path.read_text(encoding="utf-8-sig").splitlines()
    path.write_text("\n".join(rows[:-40]) + "\n")
    [recording] = load_dataset("bids", root=folder, subjects=["01", "02"], options={"modality": "meg"}).recordings(
        subjects=["02"], stimuli=["story run-1"]
    )
    [finding] = [finding for finding in recording.findings if finding.code == "words-not-in-events"]
    assert "lack 40 of the 330 words" in finding.message


def test_hidden_files_that_macos_leaves_are_passed_over(meg: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(meg, folder)
    for path in list(folder.rglob("*_meg.fif")) + list(folder.rglob("*_events.tsv")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    (folder / ".DS_Store").write_bytes(b"\0")
    assert len(load_dataset("bids", root=folder, options={"modality": "meg"}).recordings()) == 6


def test_recordings_that_were_not_downloaded_are_told_so(meg: Path, tmp_path: Path) -> None:
    events = next(meg.rglob("sub-01*run-1_events.tsv"))
    link = tmp_path / events.parent.relative_to(meg) / events.name.replace("events.tsv", "meg.fif")
    link.parent.mkdir(parents=True)
    link.with_name(events.name).write_bytes(events.read_bytes())
    link.symlink_to("../../../.git/annex/objects/Xx/yy/MD5E-s1--0.fif")
    with pytest.raises(DataError, match="datalad get"):
        load_dataset("bids", root=tmp_path, options={"modality": "meg"}).recordings()
