"""Alice in Wonderland, chapter 1: fMRI time courses of six regions of the language network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from brainalign.datasets.fetching import RemoteFile, fetch_all, remote_files
from brainalign.datasets.words import read_words
from brainalign.errors import ChecksumError, DataError, RecipeError, nearest
from brainalign.files import cache_folder, digest_of, sha256_of_file
from brainalign.manifests import read_manifest
from brainalign.types import Clock, Dataset, Finding, Floats, Modality, Recording, Stimulus

__all__ = ["Alice"]

STIMULUS = "alice-chapter-1"
TEXTGRID = "alice_stim_shared/DownTheRabbitHoleFinal_exp120_pad_1.TextGrid"
MOTION = ("x_mm", "y_mm", "z_mm", "pitch_rad", "roll_rad", "yaw_rad")


class Alice(Dataset):
    """The Alice fMRI set: 28 subjects who listened to one chapter for 12 minutes (Brennan et al. 2016).

    Parameters
    ----------
    root : Path, optional
        A folder whose files are taken, in the archive's layout; what it lacks is fetched into brainalign's cache.
        Nothing is written to it.
    subjects : tuple of str, optional
        Which subjects ("s18"); all by default.
    radius_mm : {6, 10}
        Of the spheres over which the regions were averaged.
    regions : tuple of str, optional
        Which of LATL, RATL, LPTL, LIPL, LPreM, LIFG; all by default.

    Raises
    ------
    RecipeError
        If there is no such subject, radius or region.

    Notes
    -----
    A recording's time is the scan's, which began with ten volumes that the archive does not have: row i is at
    20 + 2 i seconds. The sound was started `onset` seconds into the scan, a number of each subject's own, so what
    is at w seconds of the sound is at w + onset seconds of the scan: ``offset_s`` is that onset. The sound and its
    TextGrid begin with 20 s of silence, which the stimulus keeps: its first word is at 20.06 s.

    Four subjects have no documented onset. They get the median of their scanning protocol, which `findings` tells.
    The time courses of s33 are all zeros, which `check_recording` finds.

    The sound power (`Recording.regressors`) is the archive's, nearly the same for all subjects: it was not moved by
    their onsets, so it may be up to 0.84 s early against the response.

    Words are the archive's: clitics are rows of their own ("'s", "n't"), and there is no punctuation.

    Examples
    --------
    >>> alice = Alice(subjects=("s18", "s40"))
    >>> alice.subjects
    ('s18', 's40')
    >>> print(alice.findings[0])
    subject s40: no sound onset is documented; the median of its protocol is taken, 0.0107 s.
    """

    name = "alice"
    modality: Modality = "fmri"

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        radius_mm: Literal[6, 10] = 6,
        regions: tuple[str, ...] | None = None,
    ) -> None:
        manifest = read_manifest("alice")
        self.title = manifest.title
        self.citation = manifest.citation
        self.licence = manifest.licence
        self.root = root
        self.radius_mm = radius_mm
        self.regions = _chosen(regions, manifest.facts["regions"], "region")
        self._facts = manifest.facts
        self._subjects = _chosen(subjects, manifest.facts["subjects"], "subject")
        if radius_mm not in (6, 10):
            raise RecipeError(f"radius_mm is 6 or 10, not {radius_mm}.")

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects chosen, in the archive's order."""
        return self._subjects

    @cached_property
    def stimuli(self) -> Mapping[str, Stimulus]:
        """The chapter, its times counted from the start of the sound."""
        self._fetch([TEXTGRID])
        return {STIMULUS: Stimulus(STIMULUS, read_words(self._place(TEXTGRID), tier="word"))}

    def recordings(
        self, subjects: Sequence[str] | None = None, stimuli: Sequence[str] | None = None
    ) -> list[Recording]:
        """The recording of each of these subjects; fetches their files where needed."""
        if not _chosen(stimuli, (STIMULUS,), "stimulus"):
            return []
        chosen = _chosen(subjects, self.subjects, "subject")
        self._fetch([path for subject in chosen for path in self._files_of(subject)])
        return [self._recording(subject) for subject in chosen]

    def fetch(self, subjects: Sequence[str] | None = None) -> list[Finding]:
        """Download and verify the words, the licences and these subjects' files."""
        chosen = _chosen(subjects, self.subjects, "subject")
        shared = [path for path in self._table if path == TEXTGRID or path.endswith(("README.txt", "LICENSE.txt"))]
        return self._fetch([*shared, *(path for subject in chosen for path in self._files_of(subject))])

    @property
    def findings(self) -> list[Finding]:
        """Which subjects' onsets were defaulted, and whose motion has another number of rows than the others'."""
        findings = []
        for subject in self.subjects:
            where = f"subject {subject}"
            if subject in self._facts["default_audio_onset_s"]:
                message = (
                    "no sound onset is documented; the median of its protocol is taken, "
                    f"{self._facts['default_audio_onset_s'][subject]} s."
                )
                findings.append(Finding("default-onset", where, message))
            if subject in self._facts["odd_motion_volumes"]:
                message = (
                    f"motion has {self._facts['odd_motion_volumes'][subject]} rows, not "
                    f"{self._facts['motion_volumes']}; the last {self._facts['n_volumes']} are taken, as of the others."
                )
                findings.append(Finding("motion-rows", where, message))
        return findings

    @cached_property
    def _table(self) -> Mapping[str, RemoteFile]:
        return remote_files(read_manifest("alice"))

    def _files_of(self, subject: str) -> tuple[str, str, str]:
        """The archive's paths of a subject's time courses, sound power and motion."""
        folder = "alice_data_shared"
        motion = next(path for path in self._table if path.startswith(f"{folder}/{subject}-rp_"))
        return f"{folder}/{self.radius_mm}mm/{subject}-timecourses.txt", f"{folder}/{subject}-sndpwr.txt", motion

    def _place(self, path: str) -> Path:
        """Where a file of the archive is, or will be: in the user's folder if it is there, else in the cache."""
        if self.root is not None and (self.root / path).exists():
            return self.root / path
        return cache_folder("datasets", "alice") / path

    def _fetch(self, paths: Sequence[str]) -> list[Finding]:
        cache = cache_folder("datasets", "alice")
        missing = []
        for path in paths:
            if self._place(path) == cache / path:
                missing.append(self._table[path])
            else:
                _verify(self._place(path), self._table[path])
        return fetch_all(missing, cache, dataset="alice", source=str(read_manifest("alice").source))

    def _recording(self, subject: str) -> Recording:
        responses, power, motion = self._files_of(subject)
        facts = self._facts
        clock = Clock(step_s=facts["tr_s"], start_s=facts["first_row_s"])
        onset_s = {**facts["audio_onset_s"], **facts["default_audio_onset_s"]}[subject]
        columns = [facts["regions"].index(region) for region in self.regions]
        content = {
            "files": {path: self._table[path].sha256 for path in (responses, power, motion)},
            "regions": self.regions,
            "clock": [clock.step_s, clock.start_s, onset_s],
        }
        n_volumes = facts["n_volumes"]
        return Recording(
            subject=subject,
            run="1",
            stimulus=STIMULUS,
            modality="fmri",
            clock=clock,
            offset_s=onset_s,
            targets=pd.DataFrame({"name": self.regions, "kind": "region"}),
            read=partial(_read_columns, self._place(responses), len(facts["regions"]), n_volumes, columns),
            digest=digest_of(content),
            read_confounds=partial(_read_frame, MOTION, _read_motion, self._place(motion), n_volumes),
            read_regressors=partial(
                _read_frame, ["sound_envelope"], _read_columns, self._place(power), 1, n_volumes, [0]
            ),
        )


def _chosen(chosen: Sequence[str] | None, known: Sequence[str], what: str) -> tuple[str, ...]:
    """`chosen` in the order of `known`, or all of these."""
    for name in chosen or ():
        if name not in known:
            raise RecipeError(f"alice has no {what} '{name}'. {nearest(name, known)}")
    return tuple(known) if chosen is None else tuple(name for name in known if name in chosen)


def _verify(path: Path, file: RemoteFile) -> None:
    found = sha256_of_file(path)
    if found != file.sha256:
        raise ChecksumError(
            f"{path}: expected SHA-256 {file.sha256}, found {found}.\n"
            "Put the archive's file there, or remove it so that it is fetched."
        )


def _read_columns(path: Path, n_columns: int, n_rows: int, columns: Sequence[int]) -> Floats:
    values = np.loadtxt(path, dtype=np.float32, ndmin=2)
    if values.shape != (n_rows, n_columns):
        raise DataError(f"{path}: a table of shape {values.shape}; expected ({n_rows}, {n_columns}).")
    return values[:, list(columns)]


def _read_motion(path: Path, n_rows: int) -> Floats:
    values = np.loadtxt(path, dtype=np.float64, ndmin=2)
    if len(values) < n_rows or values.shape[1] != len(MOTION):
        raise DataError(f"{path}: a table of shape {values.shape}; expected at least ({n_rows}, {len(MOTION)}).")
    # Motion was estimated before the first ten volumes were discarded.
    return values[-n_rows:]


def _read_frame(names: Sequence[str], read: Callable[..., Floats], *arguments: object) -> pd.DataFrame:
    return pd.DataFrame(read(*arguments), columns=list(names))
