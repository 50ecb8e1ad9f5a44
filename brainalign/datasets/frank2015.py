"""Frank et al. (2015): amplitudes of the N400 to every word of 205 sentences, subject by subject."""

from __future__ import annotations

import csv
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from brainalign.datasets.archive_dataset import ArchiveDataset, Run
from brainalign.errors import DataError, RecipeError
from brainalign.files import digest_of
from brainalign.types import Clock, Finding, Floats, Recording, Stimulus

__all__ = ["Frank2015"]

STIMULUS = "sentences"
AMPLITUDES = "data_EEG.csv"
NOTES = ("README.txt", "LICENSE")
REJECTED_WORDS = "first and last words of sentences, words before a comma, and clitics"
COLUMNS = ("subj_nr", "sent_nr", "item", "word", "N400", "baseline", "reject_data", "reject_word")
# What pandas makes of the columns that are no text.
KINDS = {
    "sent_nr": ("i", "whole numbers"),
    "item": ("i", "whole numbers"),
    "N400": ("f", "numbers"),
    "baseline": ("f", "numbers"),
    "reject_data": ("b", "true or false"),
    "reject_word": ("b", "true or false"),
}


class Frank2015(ArchiveDataset):
    """The EEG set of Frank et al. (2015): 24 subjects who read 205 sentences, one word at a time.

    Parameters
    ----------
    root : Path, optional
        A copy of the archive's folder; what it lacks is fetched.
    subjects : tuple of str, optional
        "1" to "24"; all by default.
    measure : {"N400", "baseline"}
        The amplitude to predict, in microvolts. "baseline", the mean of the 100 ms before the word, is a control: a
        word that has not been seen yet can only be predicted.
    regress_baseline : bool
        Whether the amplitude before the word is a confound of the N400, to be regressed out, as its authors do and the
        field prefers to subtracting it.
    all_words : bool
        Whether to score also the words that the authors leave out (``reject_word``): the first and last of each
        sentence, those before a comma, and clitics. They are always in the text.

    Raises
    ------
    RecipeError
        If there is no such subject or measure.

    Notes
    -----
    Each row of a response is a word, so that the alignment is `brainalign.alignment.Items`. Trials with an artefact
    (``reject_data``) have no response: NaN. The authors' list of subjects rejects none of the 24.

    The sentences do not belong together, and each subject read them in an order of its own. They stand here in that of
    their numbers, and a model should read each alone: ``context: sentence``. When a word was shown the archive does not
    tell; by convention word i is at i seconds and lasts one.

    Files: the repository of Aurnhammer and Frank (2019), pinned by commit. Its README defines the columns, Frank et al.
    (2015) the N400. The word "None" is one.

    Examples
    --------
    >>> data = Frank2015(subjects=("3", "7"))
    >>> data.subjects, data.rows
    (('3', '7'), 'items')
    """

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        measure: Literal["N400", "baseline"] = "N400",
        regress_baseline: bool = True,
        all_words: bool = False,
    ) -> None:
        if measure not in ("N400", "baseline"):
            raise RecipeError(f"measure is N400 or baseline, not {measure}.")
        self.measure: Literal["N400", "baseline"] = measure
        self.regress_baseline = regress_baseline
        self.all_words = all_words
        super().__init__("frank2015", root, subjects)

    def all_runs(self) -> list[Run]:
        """One run of each subject, all of the same file."""
        return [Run(subject, "1", STIMULUS, (AMPLITUDES,)) for subject in self._facts["subjects"]]

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The table, which holds the words too, and what explains it."""
        return (AMPLITUDES, *NOTES)

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The sentences in the order of their numbers."""
        table = self._table.drop_duplicates("item").sort_values("item")
        words = pd.DataFrame(
            {
                "onset": np.arange(len(table), dtype=float),
                "duration": 1.0,
                "text": table["word"].to_numpy(),
                "sentence": pd.factorize(table["sent_nr"])[0],
                "item": np.arange(len(table)),
            }
        )
        return Stimulus(stimulus, words)

    @property
    def findings(self) -> list[Finding]:
        """Which words are not scored."""
        if self.all_words:
            return []
        message = f"{REJECTED_WORDS} are read but not scored, as the authors do."
        return [Finding("words-not-scored", self.name, message)]

    def read_run(self, run: Run) -> Recording:
        """The recording of a subject."""
        trials = self._trials_of(run.subject)
        with_confound = self.regress_baseline and self.measure == "N400"
        content = {
            "files": self.archive.digest(run.responses),
            "subject": run.subject,
            "measure": self.measure,
            "regress_baseline": with_confound,
            "all_words": self.all_words,
        }
        rejected = "trials with artefacts" if self.all_words else f"trials with artefacts; {REJECTED_WORDS}"
        return Recording(
            subject=run.subject,
            run=run.run,
            stimulus=run.stimulus,
            modality="eeg",
            clock=Clock(step_s=1.0),
            offset_s=0.0,
            targets=pd.DataFrame({"name": [self.measure], "kind": "component"}),
            read=partial(_amplitudes, trials, self.measure, self.all_words),
            digest=digest_of(content),
            read_confounds=partial(_baseline, trials) if with_confound else None,
            steps=(f"left out: {rejected}",),
        )

    @cached_property
    def _table(self) -> pd.DataFrame:
        # One small table has all subjects, so that reading it once is cheaper than reading late.
        return _read_table(self.archive.place(AMPLITUDES))

    def _trials_of(self, subject: str) -> pd.DataFrame:
        """One subject's row of each item, in the stimulus's order."""
        trials = self._table[self._table["subj_nr"] == subject].sort_values("item", ignore_index=True)
        if not np.array_equal(trials["item"], np.unique(self._table["item"])):
            path = self.archive.place(AMPLITUDES)
            raise DataError(f"{path}: subject {subject} has {len(trials)} rows; expected one of each item.")
        return trials


def _amplitudes(trials: pd.DataFrame, measure: str, all_words: bool) -> Floats:
    """The amplitude of each item, NaN where it was rejected, shape (item, 1)."""
    rejected = trials["reject_data"] if all_words else trials["reject_data"] | trials["reject_word"]
    return trials[[measure]].mask(rejected).to_numpy(dtype=np.float32)


def _baseline(trials: pd.DataFrame) -> pd.DataFrame:
    return trials[["baseline"]]


def _read_table(path: Path) -> pd.DataFrame:
    # Separated by tabs, whatever its name; a cell is missing only where it is empty and a number.
    try:
        table = pd.read_csv(
            path,
            sep="\t",
            dtype={"subj_nr": str, "word": str},
            keep_default_na=False,
            na_values={"N400": [""], "baseline": [""], "log_freq": [""]},
            quoting=csv.QUOTE_NONE,
            encoding="utf-8-sig",
        )
    except ValueError as error:
        raise DataError(f"{path}: not the archive's table: {' '.join(str(error).split())[:200]}") from error
    _check_columns(path, table)
    return table


def _check_columns(path: Path, table: pd.DataFrame) -> None:
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise DataError(f"{path}: no column {', '.join(map(repr, missing))}.")
    for name, (kind, what) in KINDS.items():
        if table[name].dtype.kind != kind:
            raise DataError(f"{path}: the column '{name}' is not {what} throughout.")
