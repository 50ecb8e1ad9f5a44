"""Any data set in the Brain Imaging Data Structure: words from its events or beside them, signals as they lie there."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from brainalign.archives.verified import checksum_of
from brainalign.datasets.archive_dataset import ArchiveDataset, Run
from brainalign.datasets.bids_files import BidsFile, number_of, parse_bids
from brainalign.datasets.bids_folder import SERIES, BidsFolder
from brainalign.datasets.bids_words import SharedWords, Start, read_event_words, read_starts, share_words
from brainalign.datasets.bold import bold_recording, with_reference
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.files import digest_of
from brainalign.reading.aligned_words import untimed_words
from brainalign.reading.clocks import ClockFit, fit_clock
from brainalign.reading.images import Images
from brainalign.reading.recording_files import open_recording
from brainalign.reading.sensors import open_sensors
from brainalign.reading.sidecars import time_of_slices_s
from brainalign.reading.signals import Signals
from brainalign.reading.surfaces import open_cifti, open_surfaces
from brainalign.reading.volumes import Volumes, open_volumes
from brainalign.reading.words import read_words
from brainalign.types import Finding, Modality, Recording, Stimulus

__all__ = ["Bids"]

# What the path of a file of words may be made of.
FIELDS = ("subject", "session", "task", "run", "stim_file")
# What tables and events are read for.
COLUMNS = ("onset", "duration", "offset", "text", "sentence")
# A run of its own length is crops of nothing: signals are read from so long before a stimulus to so long after it.
BEFORE_S, AFTER_S = 2.0, 4.0


@dataclass(frozen=True)
class _Met:
    """A stimulus that was met in a recording; `start` where its words lie in a file."""

    file: BidsFile
    stimulus: str
    start: Start | None


class Bids(ArchiveDataset):
    """A folder in BIDS: fMRI, MEG, EEG or iEEG of people who met words.

    Parameters
    ----------
    root : Path
        The folder.
    modality : {"fmri", "meg", "eeg", "ecog"}
        Which recordings; "ecog" is iEEG (ECoG and sEEG).
    task : str, optional
        Which task; needed where there are several.
    subjects, stimuli, sessions : tuple of str, optional
        Which; all by default.
    words : str, optional
        The path of the file of words of each stimulus, from `root`: a table, TextGrid, CTM or gentle's JSON, see
        `read_words`. ``{subject}``, ``{session}``, ``{task}``, ``{run}`` and ``{stim_file}`` (of the events, without
        what follows its point) stand for a recording's: "stimuli/{stim_file}.TextGrid". By default words are rows of
        ``events.tsv``.
    events : mapping of str to str or tuple of str, optional
        Which rows of ``events.tsv`` count, by the values of columns: ``{trial_type: word}``. Of words in the events,
        by default those of a ``trial_type`` "word", where any is, else all with a text. Where words lie in files: the
        rows at which a stimulus starts; by default those with a ``stim_file``, and where there is none, stimuli start
        at `offset_s`.
    columns : mapping of str to str, optional
        What the events (or the tables of words) call ``onset``, ``duration``, ``text`` and ``sentence``.
    offset_s : float
        Seconds of the recording at which the stimulus starts, where no events say.
    derivatives : Path, optional
        Where preprocessed fMRI lies, from `root`; "derivatives/fmriprep" or "derivatives" by default.
    space : str, optional
        Which space of the preprocessed fMRI: "MNI152NLin2009cAsym", "fsaverage6", "fsLR" ..., or "raw" for the
        scanner's volumes. By default the first of these that all runs wanted have; where none is of all, that is an
        error, and without any derivative the scanner's are taken.
    confounds : tuple of str
        Which of fMRIPrep's confounds are regressed out, see `read_confounds_table`; () for none.
    volumes : Volumes
        Which targets are made of volumes.
    signals : Signals
        How sensors and electrodes are read.
    language : str
        ISO 639-1 code of the stimuli.

    Raises
    ------
    RecipeError, DataError
        When the folder is first looked at: if it holds no such recordings, or what the settings ask for is not there.

    Notes
    -----
    Where words are rows of the events, runs of one task whose words agree, in order, for nine in ten, met one stimulus,
    whose features are then computed once: the run with the most words lends the others its words and times, each
    run's clock is fitted to them, and what lies off is told. Others are stimuli of their own.

    fMRI without a derivative is read as the scanner gave it, which is told. Volumes are at the ``StartTime`` of a
    derivative's JSON, else at the mean time of their slices (``SliceTiming``), else at the moment that they began. The
    TR is that of ``bold.json``, where there is one, else the image's own.

    Bad channels are those of ``channels.tsv``, places those of ``electrodes.tsv`` where the recording has none.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "sub-01" / "eeg" / "sub-01_task-story_eeg.vhdr"
    ...     file.parent.mkdir(parents=True)
    ...     file.touch()
    ...     Bids(root=Path(folder), modality="eeg", words="story.csv").subjects
    ('01',)
    """

    def __init__(
        self,
        root: Path,
        modality: Modality,
        task: str | None = None,
        subjects: tuple[str, ...] | None = None,
        stimuli: tuple[str, ...] | None = None,
        sessions: tuple[str, ...] | None = None,
        words: str | None = None,
        events: Mapping[str, str | tuple[str, ...]] | None = None,
        columns: Mapping[str, str] | None = None,
        offset_s: float = 0.0,
        derivatives: Path | None = None,
        space: str | None = None,
        confounds: tuple[str, ...] = ("motion",),
        volumes: Volumes = Volumes(),  # noqa: B008  (frozen)
        signals: Signals = Signals(),  # noqa: B008  (frozen)
        language: str = "en",
    ) -> None:
        super().__init__("bids", root, subjects, stimuli)
        self.modality = modality
        self.task = task
        self.sessions = sessions
        self.words = words
        self.events = (
            None if events is None else {k: (v,) if isinstance(v, str) else tuple(v) for k, v in events.items()}
        )
        self.columns = columns
        self.offset_s = offset_s
        self.derivatives = derivatives
        self.space = space
        self.confounds = confounds
        self.volumes = volumes
        self.signals = signals
        self.language = language
        for name in columns or ():
            if name not in COLUMNS:
                raise RecipeError(f"columns: no column '{name}' is read. {nearest(name, COLUMNS)}")
        for _, field, _, _ in string.Formatter().parse(words or ""):
            if field is not None and field not in FIELDS:
                raise RecipeError(f"words: '{{{field}}}' is not filled in. {nearest(field, FIELDS)}")

    def all_runs(self) -> Sequence[Run]:
        """A run for each recording and each stimulus that was met in it."""
        runs = []
        for (subject, name), met in self._met.items():
            beside_it = (self._folder.beside(met.file, "events", ".tsv"), self._folder.mask_of(met.file))
            sidecars = tuple(path for path in beside_it if path is not None)
            runs.append(
                Run(subject, name, met.stimulus, self._folder.responses_of(met.file), sidecars, met.file.get("ses"))
            )
        return with_reference(runs, self.volumes) if self._computes_masks else runs

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The file of the stimulus's words; none where they are in the events."""
        return () if self.words is None else (self._paths_of_words[stimulus],)

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The stimulus; of words in the events, its times count from the first word."""
        if self.words is None:
            words = self._shared[stimulus].words
        else:
            words = read_words(self.archive.place(self._paths_of_words[stimulus]), columns=self.columns)
        findings = untimed_words(words, f"stimulus {stimulus}")
        return Stimulus(stimulus, words, language=self.language, findings=findings)

    def read_run(self, run: Run) -> Recording:
        """The recording of a stimulus."""
        met = self._met[run.subject, run.run]
        fit = self._fit(run, met)
        read = self._read_bold if self.modality == "fmri" else self._read_signals
        recording = read(run, met, fit)
        return replace(recording, findings=(*recording.findings, *fit.findings(str(run)), *self._events_told(run, met)))

    def _read_bold(self, run: Run, met: _Met, fit: ClockFit) -> Recording:
        path, space = self.archive.place(run.responses[0]), met.file.get("space")
        sidecar = self._folder.json_of(met.file)
        tr_s = sidecar.get("RepetitionTime")
        # fMRIPrep says to which time it brought slices; without that it is the mean of theirs.
        start_s = float(sidecar.get("StartTime", time_of_slices_s(sidecar, f"{run}: its bold.json")))
        mask = self._folder.mask_of(met.file)
        findings, reference = [], None
        if len(run.responses) == 2:
            right = self.archive.place(run.responses[1])
            images: Images = open_surfaces(path, right, str(run), template=space, tr_s=tr_s)
        elif path.name.endswith(".dtseries.nii"):
            images = open_cifti(path, str(run), template=space, tr_s=tr_s)
        else:
            place = self.archive.place
            own = None if mask is None else place(mask)
            reference = next((place(path) for path in run.sidecars if path.endswith(SERIES)), None)
            images = open_volumes(
                path, self.volumes, str(run), reference=reference, mask=own, template=space or None, tr_s=tr_s
            )
        _check_start(fit.offset_s, images.n_volumes * images.tr_s, str(run))
        if not space:
            message = "volumes as the scanner gave them: not corrected for motion, each brain in a space of its own."
            findings.append(Finding("raw-volumes", str(run), message))
        confounds = self._folder.confounds_of(met.file) if self.confounds and space else None
        if self.confounds and confounds is None:
            message = "there is no table of confounds beside it; motion is not regressed out."
            findings.append(Finding("no-confounds", str(run), message))
        recording = bold_recording(
            run,
            images,
            self.archive,
            None if _is_surface(run.responses[0]) else self.volumes,
            offset_s=fit.offset_s,
            start_s=start_s,
            mask=None if mask is None else self.archive.place(mask),
            reference=reference,
            confounds=None if confounds is None else self.archive.place(confounds),
            columns=self.confounds,
            findings=findings,
        )
        clock = fit.clock(images.tr_s, start_s)
        digest = digest_of({"of": recording.digest, "clock": [clock.step_s, clock.start_s]})
        return replace(recording, clock=clock, offset_s=fit.stimulus_start_s, digest=digest)

    def _read_signals(self, run: Run, met: _Met, fit: ClockFit) -> Recording:
        path = self.archive.place(met.file.path)
        channels, places, frame = self._folder.channels_of(met.file)
        open_raw = partial(
            open_recording,
            path,
            markers=self._folder.placed(met.file, "markers", (".mrk", ".sqd")),
            digitized=next(iter(self._folder.placed(met.file, "acq-ELP_headshape", (".pos", ".elp", ".txt"))), None),
            head_shape=next(iter(self._folder.placed(met.file, "acq-HSP_headshape", (".pos", ".hsp", ".txt"))), None),
            kinds=None if self.modality == "meg" else channels.kinds,
        )
        sensors = open_sensors(
            open_raw,
            self.signals,
            self.modality,
            str(run),
            bad_channels=list(channels.bads),
            positions=places,
            frame=frame,
        )
        _check_start(fit.offset_s, sensors.duration_s, str(run))
        last_s = float(self.stimuli[run.stimulus].duration_s)
        start_s = fit.offset_s - BEFORE_S
        stop_s = fit.offset_s + fit.rate * last_s + AFTER_S
        crop = sensors.cropped_clock(start_s)
        clock = fit.clock(crop.step_s, crop.start_s)
        content = {
            "files": self.archive.digest([*run.responses, *run.sidecars]),
            "beside": {path.name: checksum_of(path, "sha256") for path in self._folder.read_beside(met.file)},
            "signals": asdict(self.signals),
            "clock": [clock.step_s, clock.start_s],
            "crop": [start_s, stop_s],
        }
        return Recording(
            subject=run.subject,
            run=run.run,
            stimulus=run.stimulus,
            modality=self.modality,
            clock=clock,
            offset_s=fit.stimulus_start_s,
            targets=sensors.targets,
            read=partial(sensors.read, start_s, stop_s),
            digest=digest_of(content),
            space=sensors.space,
            steps=sensors.steps,
            findings=sensors.findings,
        )

    def _events_told(self, run: Run, met: _Met) -> list[Finding]:
        """What a run's events lack of the words that it shares with others."""
        if met.start is not None:
            return []
        shared = self._shared[run.stimulus]
        lacking = np.isnan(shared.onset_s[met.file.path])
        if not lacking.any():
            return []
        words = shared.words[lacking]
        message = (
            f"its events lack {len(words)} of the {len(lacking)} words of the stimulus, from "
            f"{words['onset'].iloc[0]:.1f} to {words['onset'].iloc[-1]:.1f} s; that these were met too, and when, is "
            "taken from other runs."
        )
        return [Finding("words-not-in-events", str(run), message)]

    def _fit(self, run: Run, met: _Met) -> ClockFit:
        """How the stimulus's clock lies in the recording."""
        if met.start is not None:
            return ClockFit(met.start.onset_s, 1.0, np.zeros(1))
        shared = self._shared[run.stimulus]
        onset_s = shared.onset_s[met.file.path]
        known = np.isfinite(onset_s)
        return fit_clock(shared.words["onset"].to_numpy(dtype=float)[known], onset_s[known], str(run))

    # What was met in each recording

    @cached_property
    def _folder(self) -> BidsFolder:
        subjects = None if self._wanted_subjects is None else tuple(self._wanted_subjects)
        return BidsFolder(self.archive, self.modality, subjects, self.task, self.sessions, self.derivatives, self.space)

    @property
    def _computes_masks(self) -> bool:
        """Whether a mask is to be computed of each subject's first run."""
        files = [met.file for met in self._met.values()]
        return self.modality == "fmri" and not any(
            not file.path.endswith((".nii.gz", "_bold.nii")) or self._folder.mask_of(file) for file in files
        )

    @cached_property
    def _met(self) -> dict[tuple[str, str], _Met]:
        """What was met in each recording, by subject and run."""
        met: dict[tuple[str, str], _Met] = {}
        for file in self._folder.recordings:
            for stimulus, start in self._met_in(file):
                name = _name_of_run(file)
                key = (file.get("sub"), name if (file.get("sub"), name) not in met else f"{name} {stimulus}")
                if key in met:
                    raise DataError(
                        f"{self.archive.root}: subject {key[0]} has two recordings of {name} of {stimulus}: "
                        f"{met[key].file.path} and {file.path}."
                    )
                met[key] = _Met(file, stimulus, start)
        return met

    def _met_in(self, file: BidsFile) -> list[tuple[str, Start | None]]:
        if self.words is None:
            return [(name, None) for name, shared in self._shared.items() if file.path in shared.onset_s]
        return [(self._stimulus_of(self._path_of_words(file, start)), start) for start in self._starts_in(file)]

    # What the events say

    @cached_property
    def _shared(self) -> dict[str, SharedWords]:
        """The stimuli that words in the events make, by id."""
        of_task: dict[str, dict[str, pd.DataFrame]] = {}
        for file in self._folder.recordings:
            path = self.archive.place(self._folder.required(file, "events", ".tsv"))
            words = read_event_words(path, self.events, self.columns)
            of_task.setdefault(file.get("task"), {})[file.path] = words
        named: dict[str, SharedWords] = {}
        for runs in of_task.values():
            for shared in share_words(runs):
                name = base = _name_of_run(parse_bids(next(iter(shared.onset_s))), with_session=False)
                while name in named:
                    name = f"{base} ({number_of(name.removeprefix(base))[0] + 1})"
                named[name] = shared
        return named

    def _starts_in(self, file: BidsFile) -> list[Start]:
        """When stimuli whose words lie in files start in a recording."""
        events = self._folder.beside(file, "events", ".tsv")
        from_events = self.events is not None or "{stim_file}" in (self.words or "")
        if from_events and events is None:
            self._folder.required(file, "events", ".tsv")
        if events is None:
            return [Start(self.offset_s, {})]
        starts = read_starts(self.archive.place(events), self.events)
        if "{stim_file}" in (self.words or "") and not all(start.row.get("stim_file") for start in starts):
            raise DataError(f"{self.archive.place(events)}: its rows name no stim_file, which `words` asks for.")
        if not starts or (not from_events and not any(start.row.get("stim_file") for start in starts)):
            return [Start(self.offset_s, {})]
        # A file may be named by several rows (music, then the story): it starts at the first that counts.
        first: dict[str, Start] = {}
        for start in starts:
            first.setdefault(self._path_of_words(file, start), start)
        return list(first.values())

    def _path_of_words(self, file: BidsFile, start: Start) -> str:
        values = {
            "subject": file.get("sub"),
            "session": file.get("ses"),
            "task": file.get("task"),
            "run": file.get("run"),
            "stim_file": PurePosixPath(start.row.get("stim_file", "")).stem,
        }
        return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], str(self.words))

    def _stimulus_of(self, path: str) -> str:
        """The stimulus of a file of words: its name, or its path where all files have one name."""
        alike = "{" not in PurePosixPath(str(self.words)).name and "{" in str(self.words)
        return str(PurePosixPath(path).with_suffix("")) if alike else PurePosixPath(path).stem

    @cached_property
    def _paths_of_words(self) -> dict[str, str]:
        starts = ((met.file, met.start) for met in self._met.values() if met.start is not None)
        paths = (self._path_of_words(file, start) for file, start in starts)
        return {self._stimulus_of(path): path for path in paths}


def _check_start(start_s: float, length_s: float, where: str) -> None:
    if start_s >= length_s:
        raise DataError(
            f"{where}: its events say that the stimulus starts at {start_s:g} s, and it lasts {length_s:g} s; are they "
            "milliseconds, or another recording's?"
        )


def _name_of_run(file: BidsFile, *, with_session: bool = True) -> str:
    session = f"ses-{file.get('ses')}" if with_session and file.get("ses") else ""
    run = f"run-{file.get('run')}" if file.get("run") else ""
    return " ".join(part for part in (session, file.get("task"), file.get("acq"), run) if part)


def _is_surface(path: str) -> bool:
    return path.endswith((".func.gii", ".dtseries.nii"))
