"""Alice in Wonderland, chapter 1: fMRI time courses of six regions of the language network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from brainalign.datasets.archive_dataset import ArchiveDataset, Run, chosen_of
from brainalign.errors import DataError, RecipeError
from brainalign.files import digest_of
from brainalign.reading.words import read_words
from brainalign.types import Clock, Finding, Floats, Recording, Stimulus

__all__ = ["Alice"]

STIMULUS = "alice-chapter-1"
TEXTGRID = "alice_stim_shared/DownTheRabbitHoleFinal_exp120_pad_1.TextGrid"
MOTION = ("x_mm", "y_mm", "z_mm", "pitch_rad", "roll_rad", "yaw_rad")


class Alice(ArchiveDataset):
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

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        radius_mm: Literal[6, 10] = 6,
        regions: tuple[str, ...] | None = None,
    ) -> None:
        if radius_mm not in (6, 10):
            raise RecipeError(f"radius_mm is 6 or 10, not {radius_mm}.")
        self.radius_mm = radius_mm
        super().__init__("alice", root, subjects)
        self.regions = chosen_of(regions, dict.fromkeys(self._facts["regions"]), "alice", "region")

    def all_runs(self) -> list[Run]:
        """One run of each subject: time courses, and beside them sound power and motion."""
        folder = "alice_data_shared"
        return [
            Run(
                subject,
                "1",
                STIMULUS,
                (f"{folder}/{self.radius_mm}mm/{subject}-timecourses.txt",),
                (
                    f"{folder}/{subject}-sndpwr.txt",
                    next(path for path in self.archive.table if path.startswith(f"{folder}/{subject}-rp_")),
                ),
            )
            for subject in self._facts["subjects"]
        ]

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The TextGrid."""
        return (TEXTGRID,)

    def note_files(self) -> tuple[str, ...]:
        """The licences."""
        return tuple(path for path in self.archive.table if path.endswith(("README.txt", "LICENSE.txt")))

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The chapter, its times counted from the start of the sound."""
        return Stimulus(stimulus, read_words(self.archive.place(TEXTGRID), tier="word"))

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

    def read_run(self, run: Run) -> Recording:
        """The recording of a subject."""
        facts = self._facts
        clock = Clock(step_s=facts["tr_s"], start_s=facts["first_row_s"])
        onset_s = {**facts["audio_onset_s"], **facts["default_audio_onset_s"]}[run.subject]
        columns = [facts["regions"].index(region) for region in self.regions]
        content = {
            "files": self.archive.digest((*run.responses, *run.sidecars)),
            "regions": self.regions,
            "clock": [clock.step_s, clock.start_s, onset_s],
        }
        responses, power, motion = map(self.archive.place, (*run.responses, *run.sidecars))
        n_volumes = facts["n_volumes"]
        return Recording(
            subject=run.subject,
            run=run.run,
            stimulus=run.stimulus,
            modality="fmri",
            clock=clock,
            offset_s=onset_s,
            targets=pd.DataFrame({"name": self.regions, "kind": "region"}),
            read=partial(_read_columns, responses, len(facts["regions"]), n_volumes, columns),
            digest=digest_of(content),
            read_confounds=partial(_read_frame, MOTION, _read_motion, motion, n_volumes),
            read_regressors=partial(_read_frame, ["sound_envelope"], _read_columns, power, 1, n_volumes, [0]),
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
