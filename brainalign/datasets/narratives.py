"""Narratives: fMRI of 345 people who listened to stories (Nastase et al., 2021; OpenNeuro ds002345)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from brainalign.datasets.archive_dataset import ArchiveDataset, Run
from brainalign.datasets.bold import bold_recording, with_reference
from brainalign.errors import DataError, UnreachableError
from brainalign.reading.aligned_words import read_gentle, untimed_words
from brainalign.reading.sidecars import read_json, time_of_slices_s
from brainalign.reading.surfaces import open_surfaces
from brainalign.reading.tables import read_table
from brainalign.reading.volumes import Volumes, open_volumes
from brainalign.types import Finding, Recording, Stimulus

__all__ = ["Narratives"]

Response = Literal["surface", "volume", "fmriprep", "raw"]
TEMPLATE = "MNI152NLin2009cAsym"
# Where each kind of response lies, by the name of a scan: "sub-001/func/sub-001_task-pieman_run-1".
PLACES: dict[str, tuple[str, ...]] = {
    "surface": (
        "derivatives/afni-nosmooth/{scan}_space-fsaverage6_hemi-L_desc-clean.func.gii",
        "derivatives/afni-nosmooth/{scan}_space-fsaverage6_hemi-R_desc-clean.func.gii",
    ),
    "volume": (f"derivatives/afni-nosmooth/{{scan}}_space-{TEMPLATE}_res-native_desc-clean_bold.nii.gz",),
    "fmriprep": (f"derivatives/fmriprep/{{scan}}_space-{TEMPLATE}_res-native_desc-preproc_bold.nii.gz",),
    "raw": ("{scan}_bold.nii.gz",),
}
# What stands beside them, and is taken where it is there.
BESIDE: dict[str, tuple[str, ...]] = {
    "fmriprep": (
        f"derivatives/fmriprep/{{scan}}_space-{TEMPLATE}_res-native_desc-brain_mask.nii.gz",
        "derivatives/fmriprep/{scan}_desc-confounds_regressors.tsv",
        "derivatives/fmriprep/{scan}_desc-confounds_timeseries.tsv",
    ),
}
# Words that an aligner put into the music before a story are a few; a story told from the file's start has more there.
WORDS_IN_MUSIC_PER_S = 0.5
# A story's last word ends no later than the story, but for so much, and no earlier than applause and silence are long.
LATE_S, LONGEST_CODA_S = 2.0, 60.0


class Narratives(ArchiveDataset):
    """The Narratives collection: 27 stories, 3 to 56 minutes long, each heard by 16 to 96 people.

    Parameters
    ----------
    root : Path, optional
        A copy of ds002345, or of the DataLad collection with its derivatives and words; what it lacks of ds002345 is
        fetched.
    subjects : tuple of str, optional
        "001" to "345"; all by default.
    stimuli : tuple of str, optional
        Which stories: "pieman", "black", "slumlord" ...; all by default. The three versions of "milkyway" are stimuli
        of their own, and so are the two stories of the scan "slumlordreach".
    response : {"surface", "volume", "fmriprep", "raw"}, optional
        Which responses: cleaned by the archive's authors, on fsaverage6 or in MNI space; preprocessed by fMRIPrep, in
        MNI space; or the scanner's volumes. By default the first of these that all chosen runs have.
    volumes : Volumes
        Which targets are made of volumes.
    labels : (Path, Path), optional
        A parcellation of the left and of the right fsaverage6 surface, over which surfaces are averaged.
    confounds : tuple of str
        Which of fMRIPrep's confounds are regressed out of its volumes, see `read_confounds_table`.
    words_from : {"auto", "file", "story"}
        Whether alignments of words count from the start of the file of sound or of the story; told by the words.
    exclude : bool
        Whether to leave out the 27 scans that the authors of the archive exclude.
    sound : bool
        Whether stories come with their sound.

    Notes
    -----
    *Words* are not in OpenNeuro's archive. They lie in the DataLad collection, as gentle wrote them
    (``stimuli/gentle/<story>/align.json`` or ``align.csv``), and are the user's to get: the error says how.

    *Clocks.* ``events.tsv`` says when the story began in each scan, and is read for each: a few scans began late. Most
    files of sound begin with music, so that a time in the file is not one of the story: the manifest has when each
    story begins in its file, from the events of music. Whether an alignment counts from the file or from the story is
    told by its words, of which there are none in the music, and by its last word, which ends when the story does; where
    these two do not agree, `words_from` must. (The alignment of "notthefallintact" that was looked at counts from the
    file: its second word is at 25.9 s, after 25 s of music.)

    *Volumes* are at the mean time of their slices (``SliceTiming`` of the sidecar, 0.69 s): fMRIPrep, which the
    derivatives come from, brings slices to the middle of the TR, and of raw volumes it is the best single time.

    *Versions.* The three of "milkyway" and the three of "notthefall" are each one story, which is held out whole.

    *The TR* is 1.5 s, but for 17 scans of 1.52 s: the sidecar says.

    Words that gentle did not find stay in the text. The task "schema", whose short stories alternate with films, is not
    read. Scans of task "pieman" were repeated by some subjects: runs "pieman 1" and "pieman 2".

    Examples
    --------
    >>> data = Narratives(stimuli=("black",))
    >>> len(data.subjects), data.files(subjects=["284"], kinds=["responses"])[0]
    (46, 'sub-284/func/sub-284_task-black_bold.nii.gz')
    """

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        stimuli: tuple[str, ...] | None = None,
        response: Response | None = None,
        volumes: Volumes = Volumes(),  # noqa: B008  (frozen)
        labels: tuple[Path, Path] | None = None,
        confounds: tuple[str, ...] = ("motion",),
        words_from: Literal["auto", "file", "story"] = "auto",
        exclude: bool = True,
        sound: bool = False,
    ) -> None:
        self.volumes = volumes
        self.labels = labels
        self.confounds = confounds
        self.words_from = words_from
        self.exclude = exclude
        self.response = response
        super().__init__("narratives", root, subjects, stimuli, sound)

    def all_runs(self) -> Sequence[Run]:
        """A run for each scan and story; for "slumlordreach", two of one scan."""
        scans = [
            path.removesuffix("_events.tsv")
            for path in self.archive.matching(r"sub-\d+/func/sub-\d+_task-(?!schema)[\w-]+_events\.tsv")
        ]
        kept = [scan for scan in scans if not (self.exclude and Path(scan).name in self._facts["excluded"])]
        response = self.response or self._best_response(kept)
        runs = [run for scan in kept for run in self._runs_of_scan(scan, response)]
        has_mask = response == "surface" or (runs and any(path.endswith("_mask.nii.gz") for path in runs[0].sidecars))
        return runs if has_mask else with_reference(runs, self.volumes)

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """What gentle wrote of the story; nothing where the user has not got it yet."""
        names = (stimulus, self._sound_of(stimulus))
        found = self.archive.first(
            *(rf"stimuli/gentle/{name}/align\.{kind}" for name in names for kind in ("json", "csv"))
        )
        return () if found is None else (found,)

    def sound_files(self, stimulus: str) -> tuple[str, ...]:
        """The story's sound, music included."""
        return tuple(self.archive.matching(rf"stimuli/{self._sound_of(stimulus)}_audio\.wav"))

    def sound_start_s(self, stimulus: str) -> float:
        """Where the story begins in its file of sound."""
        return self._facts["story_starts_s"].get(stimulus, 0.0)

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The story, its times counted from where it begins, after the music."""
        files = self.words_files(stimulus)
        if not files:
            how = " ".join((self.archive.manifest.instructions or "").split())
            raise UnreachableError(f"narratives: the words of '{stimulus}' are not in the archive. {how}")
        path = self.archive.place(files[0])
        words = read_gentle(path)
        stories = self._stories_beside(stimulus)
        zero_s, findings = self._zero_of(words, stories, path)
        words = self._of_story(words, stimulus, self.sound_start_s(stimulus) - zero_s, zero_s, path)
        told = (*findings, *untimed_words(words, f"stimulus {stimulus}"))
        return Stimulus(stimulus, words, findings=told, story=self._facts["same_story"].get(stimulus))

    def read_run(self, run: Run) -> Recording:
        """The recording of a story; where it begins in the scan is read from the events."""
        events, sidecar, *derived = map(self.archive.place, run.sidecars)
        offset_s = self._story_onset_s(run, events)
        content = read_json(sidecar)
        tr_s, start_s = content.get("RepetitionTime"), time_of_slices_s(content, str(sidecar))
        paths = [self.archive.place(path) for path in run.responses]
        mask = next((path for path in derived if path.name.endswith("_mask.nii.gz")), None)
        findings, reference = [], None
        if len(paths) == 2:
            left, right = paths
            images = open_surfaces(left, right, str(run), labels=self.labels, template="fsaverage6", tr_s=tr_s)
        else:
            template = TEMPLATE if TEMPLATE in paths[0].name else None
            reference = next((path for path in derived if path.name.endswith("_bold.nii.gz")), None)
            images = open_volumes(
                paths[0], self.volumes, str(run), reference=reference, mask=mask, template=template, tr_s=tr_s
            )
            if template is None:
                message = (
                    "volumes as the scanner gave them: not corrected for motion, each brain in a space of its own."
                )
                findings.append(Finding("raw-volumes", str(run), message))
        settings = self.volumes if len(paths) == 1 else None
        return bold_recording(
            run,
            images,
            self.archive,
            settings,
            offset_s=offset_s,
            start_s=start_s,
            mask=mask,
            reference=reference,
            parcels=self.labels or (),
            confounds=next((path for path in derived if path.suffix == ".tsv"), None),
            columns=self.confounds,
            findings=findings,
        )

    def _runs_of_scan(self, scan: str, response: Response) -> list[Run]:
        match = re.fullmatch(r"sub-(\d+)/func/sub-\d+_task-([A-Za-z0-9]+)(?:_run-(\d+))?", scan)
        assert match is not None
        subject, task, number = match.groups()
        responses = tuple(place.format(scan=scan) for place in PLACES[response])
        extra = [pattern.format(scan=scan) for pattern in BESIDE.get(response, ())]
        sidecars = (f"{scan}_events.tsv", f"{scan}_bold.json", *(path for path in extra if path in self._own))
        return [
            Run(subject, f"{story} {number}" if number else story, story, responses, sidecars)
            for story in self._stories_of(task, subject)
        ]

    def _best_response(self, scans: Sequence[str]) -> Response:
        """The first kind of responses that all of these scans of the subjects and stories wanted have."""
        wanted = [scan for scan in scans if self._is_wanted(scan)]
        for kind in get_args(Response):
            if all(place.format(scan=scan) in self._own for scan in wanted for place in PLACES[kind]):
                return kind
        return "raw"

    def _is_wanted(self, scan: str) -> bool:
        subject, task = re.findall(r"sub-(\d+)/.*_task-([A-Za-z0-9]+)", scan)[0]
        stories = self._stories_of(task, subject)
        return (self._wanted_subjects is None or subject in self._wanted_subjects) and (
            self._wanted_stimuli is None or any(story in self._wanted_stimuli for story in stories)
        )

    def _stories_of(self, task: str, subject: str) -> list[str]:
        """The stories that were told in a scan, in order."""
        if task in self._facts["versions"]:
            return [story for story, heard in self._facts["versions"][task].items() if subject in heard]
        return self._facts["stories_of_scan"].get(task, [task])

    def _sound_of(self, stimulus: str) -> str:
        """The name of the sound file in which the story is told."""
        scans = self._facts["stories_of_scan"].items()
        return next((scan for scan, stories in scans if stimulus in stories), stimulus)

    def _story_onset_s(self, run: Run, path: Path) -> float:
        """When the story began in the scan."""
        table = read_table(path)
        sound = f"{self._sound_of(run.stimulus)}_audio.wav"
        rows = zip(table.numbers("onset"), table.texts("trial_type"), table.texts("stim_file"), strict=True)
        onsets = [onset for onset, kind, file in rows if kind == "story" and file == sound]
        stories = self._facts["stories_of_scan"].get(self._sound_of(run.stimulus), [run.stimulus])
        if len(onsets) != len(stories):
            raise DataError(f"{path}: {len(onsets)} rows of a story in {sound}; expected {len(stories)}.")
        return float(onsets[stories.index(run.stimulus)])

    def _zero_of(self, words: pd.DataFrame, stories: Sequence[str], path: Path) -> tuple[float, list[Finding]]:
        """Seconds of the sound file from which an alignment counts: its start, or that of the (first) story.

        Two things tell: whether there are words in the music with which the file begins, and where the last word ends.
        """
        first_s, last_s = self.sound_start_s(stories[0]), self.sound_start_s(stories[-1])
        end_s = last_s + self._facts["story_s"][stories[-1]]
        timed = words[words["timed"]]
        last_word_s = float((timed["onset"] + timed["duration"]).iloc[-1])
        early = int((timed["onset"] < first_s - 1.0).sum())
        by_music = first_s if first_s and early >= WORDS_IN_MUSIC_PER_S * first_s else 0.0
        ends = {zero_s: last_word_s + zero_s - end_s for zero_s in {0.0, first_s}}
        possible = [zero_s for zero_s, beyond_s in ends.items() if -LONGEST_CODA_S <= beyond_s <= LATE_S]
        by_end = max(possible, key=lambda zero_s: ends[zero_s]) if possible else None
        where = f"stimulus {stories[0]}"
        if self.words_from != "auto":
            return (0.0 if self.words_from == "file" else first_s), []
        if by_end != by_music:
            raise DataError(
                f"{path}: does it count from the start of the sound file or of the story? {early} words lie in the "
                f"music before {first_s:g} s, and the last word ends at {last_word_s:g} s; in the file the story ends "
                f"at {end_s:g} s.\nLook at it, and say `words_from: file` or `words_from: story`."
            )
        if not first_s:
            return 0.0, []
        message = (
            f"{path.name} counts from the start of the {'story' if by_music else 'sound file'}: {early} words lie in "
            f"the music of {first_s:g} s, and its last word ends {-ends[by_music]:.1f} s before the story does."
        )
        return by_music, [Finding("words-clock", where, message)]

    def _of_story(self, words: pd.DataFrame, stimulus: str, start_s: float, zero_s: float, path: Path) -> pd.DataFrame:
        """The words from `start_s` of an alignment until the next story in it begins, their times from there."""
        starts = sorted(self.sound_start_s(story) - zero_s for story in self._stories_beside(stimulus))
        stop_s = next((start for start in starts if start > start_s), np.inf)
        # A word that was found in the music belongs to the story's first words.
        first = 0 if start_s == starts[0] else int(np.searchsorted(words["onset"], start_s - 1.0))
        last = int(np.searchsorted(words["onset"], stop_s - 1.0))
        if last <= first:
            raise DataError(f"{path}: no words from {start_s:g} s on, where '{stimulus}' begins.")
        part = words.iloc[first:last].reset_index(drop=True)
        lost = part["onset"] < start_s
        onset = np.maximum(part["onset"] - start_s, 0.0)
        return part.assign(onset=onset, timed=part["timed"] & ~lost)

    def _stories_beside(self, stimulus: str) -> list[str]:
        return self._facts["stories_of_scan"].get(self._sound_of(stimulus), [stimulus])

    @cached_property
    def _own(self) -> frozenset[str]:
        return frozenset(self.archive.paths)
