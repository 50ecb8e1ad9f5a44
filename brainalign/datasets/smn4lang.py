"""SMN4Lang: fMRI and MEG of the same 12 people who heard 60 stories in Chinese (Wang et al., 2022; ds004078)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd

from brainalign.archives.local_files import require_file
from brainalign.datasets.archive_dataset import ArchiveDataset, Run
from brainalign.datasets.bold import bold_recording, with_reference
from brainalign.errors import DataError
from brainalign.files import digest_of
from brainalign.reading.recording_files import open_recording
from brainalign.reading.sensors import open_sensors
from brainalign.reading.signals import Signals
from brainalign.reading.surfaces import open_cifti
from brainalign.reading.tables import read_table
from brainalign.reading.volumes import Volumes, open_volumes
from brainalign.types import Finding, Recording, Stimulus

__all__ = ["Smn4Lang"]

DERIVATIVES = "derivatives/preprocessed_data"
# Around the story, so that epochs of its first and last words and the response to them are whole.
BEFORE_S, AFTER_S = 2.0, 4.0
# Triggers are sent by the computer that plays the sound, some tens of milliseconds late at most.
TRIGGERS_AGREE_S = 0.2


class Smn4Lang(ArchiveDataset):
    """SMN4Lang: 12 people, each in MEG and in fMRI, and 60 stories of four to seven minutes in Chinese.

    Parameters
    ----------
    root : Path, optional
        A copy of ds004078; what it lacks is fetched.
    subjects : tuple of str, optional
        "01" to "12"; all by default.
    stimuli : tuple of str, optional
        "story_1" to "story_60"; all by default.
    modality : {"fmri", "meg"}
        Which recordings.
    fmri : {"mni", "cifti"}
        Of fMRI: volumes in MNI space, or grayordinates (the cortical surface fsLR 32k and subcortical voxels).
    meg : {"preprocessed", "raw"}
        Of MEG: with tSSS and ICA applied by the archive's authors, or as recorded.
    volumes : Volumes
        Which targets are made of volumes.
    parcels : Path, optional
        A ``.dlabel.nii`` over whose labels grayordinates are averaged.
    signals : Signals
        How MEG is read.
    sound : bool
        Whether stories come with their sound.

    Notes
    -----
    Run k is story k. The times of words in the archive count from the start of the scan, 10.65 s before the sound (its
    README); here they count from the sound, and ``events.tsv`` says when that began in the scan.

    In MEG, ``events.tsv`` has two triggers, at the start and at the end of the sound. In two runs the first was not
    recorded (README: subject 08, run 16, and subject 09, run 7). Their files name one all the same, 6.0 and 7.5 s too
    late: the triggers are closer together than the sound is long, as the events of fMRI tell, in these two of 720
    runs. Wherever the two do not agree within 0.2 s, the sound began its length before the second trigger, which a
    finding tells. Elsewhere they agree within 0.07 s, without any drift that grows with the story; the second comes
    31 ms before the sound's end in the median, which is allowed for.

    Volumes are at the mean time of their slices (``SliceTiming``), 0.31 s after each began: slices were not brought to
    one time.

    Words come from ``time_align/word-level``, MATLAB files with ``word``, ``start`` and ``end``. Punctuation is not
    spoken and not among them.

    Examples
    --------
    >>> data = Smn4Lang(subjects=("01",), stimuli=("story_1",), modality="meg")
    >>> data.files(kinds=["responses"])[0]
    'derivatives/preprocessed_data/sub-01/MEG/sub-01_task-RDR_run-1_meg.fif'
    """

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        stimuli: tuple[str, ...] | None = None,
        modality: Literal["fmri", "meg"] = "fmri",
        fmri: Literal["mni", "cifti"] = "mni",
        meg: Literal["preprocessed", "raw"] = "preprocessed",
        volumes: Volumes = Volumes(),  # noqa: B008  (frozen)
        parcels: Path | None = None,
        signals: Signals = Signals(),  # noqa: B008  (frozen)
        sound: bool = False,
    ) -> None:
        self._kind = modality
        self.fmri, self.meg = fmri, meg
        self.volumes, self.parcels, self.signals = volumes, parcels, signals
        super().__init__("smn4lang", root, subjects, stimuli, sound)
        self.modality = modality

    def all_runs(self) -> Sequence[Run]:
        """A run for each subject and story, in the order of the stories."""
        runs = []
        for path in self.archive.matching(self._responses):
            subject, story = re.findall(r"sub-(\d+)_task-RDR_run-(\d+)_", path)[0]
            scan = f"sub-{subject}/func/sub-{subject}_task-RDR_run-{story}_events.tsv"
            # The length of the sound stands in the events of fMRI alone.
            sidecars = (scan,) if self._kind == "fmri" else (scan, f"{scan.replace('/func/', '/meg/')}")
            runs.append(Run(subject, story, f"story_{story}", (path,), sidecars))
        runs.sort(key=lambda run: (run.subject, int(run.run)))
        return with_reference(runs, self.volumes) if (self._kind, self.fmri) == ("fmri", "mni") else runs

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The times of the story's words."""
        return (f"derivatives/annotations/time_align/word-level/{stimulus}_word_time.mat",)

    def sound_files(self, stimulus: str) -> tuple[str, ...]:
        """The story's sound."""
        return tuple(self.archive.matching(rf"stimuli/audio/{stimulus}\.wav"))

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The story, its times counted from the start of its sound."""
        words = _read_word_times(self.archive.place(self.words_files(stimulus)[0]))
        return Stimulus(stimulus, words.assign(onset=words["onset"] - self._facts["scan_lead_s"]), language="zh")

    def read_run(self, run: Run) -> Recording:
        """The recording of a story."""
        sound_onset_s, sound_s = self._sound_in_scan(run)
        if self._kind == "meg":
            return self._read_meg(run, sound_s)
        path, tr_s, start_s = self.archive.place(run.responses[0]), self._facts["tr_s"], self._facts["first_volume_s"]
        if self.fmri == "cifti":
            images = open_cifti(path, str(run), parcels=self.parcels, template="fsLR", tr_s=tr_s)
            parcels = () if self.parcels is None else (self.parcels,)
            return bold_recording(
                run, images, self.archive, None, offset_s=sound_onset_s, start_s=start_s, parcels=parcels
            )
        reference = next(map(self.archive.place, run.sidecars[1:]), None)
        images = open_volumes(
            path,
            self.volumes,
            str(run),
            reference=reference,
            template="MNI152NLin6Asym",
            tr_s=tr_s,
        )
        return bold_recording(
            run, images, self.archive, self.volumes, offset_s=sound_onset_s, start_s=start_s, reference=reference
        )

    def _read_meg(self, run: Run, sound_s: float) -> Recording:
        early_s = self._facts["end_trigger_early_s"]
        onset_s, findings = _sound_onset_s(self.archive.place(run.sidecars[1]), sound_s - early_s, str(run))
        open_raw = partial(open_recording, self.archive.place(run.responses[0]))
        sensors = open_sensors(open_raw, self.signals, "meg", str(run))
        start_s, stop_s = onset_s - BEFORE_S, onset_s + sound_s + AFTER_S
        return Recording(
            subject=run.subject,
            run=run.run,
            stimulus=run.stimulus,
            modality="meg",
            clock=sensors.cropped_clock(start_s),
            offset_s=onset_s,
            targets=sensors.targets,
            read=partial(sensors.read, start_s, stop_s),
            digest=digest_of(
                {"files": self.archive.digest(run.responses), "signals": asdict(self.signals), "onset_s": onset_s}
            ),
            space=sensors.space,
            steps=sensors.steps,
            findings=(*sensors.findings, *findings),
        )

    def _sound_in_scan(self, run: Run) -> tuple[float, float]:
        """When the sound began in the scan, and how long it is, in seconds."""
        table = read_table(self.archive.place(run.sidecars[0]))
        for onset_s, duration_s, sound in zip(
            table.numbers("onset"), table.numbers("duration"), table.texts("stim_file"), strict=True
        ):
            if Path(sound).stem == run.stimulus:
                return float(onset_s), float(duration_s)
        raise DataError(f"{table.path}: no row of {run.stimulus}; is it the events of another run?")

    @property
    def _responses(self) -> str:
        """What the paths of the responses match."""
        names = {
            "mni": (rf"{DERIVATIVES}/sub-\d+/MNI", r"bold\.nii\.gz"),
            "cifti": (rf"{DERIVATIVES}/sub-\d+/CIFTI", r"bold\.dtseries\.nii"),
            "preprocessed": (rf"{DERIVATIVES}/sub-\d+/MEG", r"meg\.fif"),
            "raw": (r"sub-\d+/meg", r"meg\.fif"),
        }
        folder, end = names[self.fmri if self._kind == "fmri" else self.meg]
        return rf"{folder}/sub-\d+_task-RDR_run-\d+_{end}"


def _sound_onset_s(path: Path, apart_s: float, where: str) -> tuple[float, list[Finding]]:
    """When the sound began in a MEG recording: at the first trigger, unless the second, `apart_s` later, denies it."""
    table = read_table(path)
    onsets = dict(zip(table.texts("trial_type"), table.numbers("onset"), strict=True))
    if not {"Beg", "End"} <= set(onsets):
        raise DataError(f"{path}: expected the triggers 'Beg' and 'End', found {', '.join(onsets)}.")
    begin_s, end_s = float(onsets["Beg"]), float(onsets["End"])
    if abs(end_s - begin_s - apart_s) <= TRIGGERS_AGREE_S:
        return begin_s, []
    message = (
        f"the triggers are {end_s - begin_s:.3f} s apart, and by the sound's length should be {apart_s:.3f} s: the "
        f"first, at {begin_s:g} s, is wrong; the sound began at {end_s - apart_s:.3f} s by the second."
    )
    return end_s - apart_s, [Finding("wrong-trigger", where, message)]


def _read_word_times(path: Path) -> pd.DataFrame:
    """The words of a story in seconds of the scan."""
    from scipy.io import loadmat

    try:
        content = loadmat(require_file(path), variable_names=["word", "start", "end"])
        words = pd.DataFrame(
            {
                "onset": content["start"].ravel().astype(float),
                "duration": (content["end"] - content["start"]).ravel().astype(float),
                "text": [_text(word) for word in content["word"].ravel()],
            }
        )
    except Exception as error:  # scipy meets a damaged file with whatever it stumbles over
        raise DataError(
            f"{path}: not a MATLAB file with `word`, `start` and `end` of each word ({type(error).__name__}: {error})."
        ) from error
    return words


def _text(cell: object) -> str:
    """A word, which MATLAB keeps as characters padded with blanks, or in a cell of its own."""
    while hasattr(cell, "ravel") and not isinstance(cell, str):
        cell = cell.ravel()[0]
    return str(cell).strip()
