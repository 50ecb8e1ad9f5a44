"""Ten hours of Sherlock Holmes in MEG of each of three subjects (Armeni et al., 2022; Donders Repository)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign.datasets.archive_dataset import ArchiveDataset, Run
from brainalign.errors import DataError
from brainalign.files import digest_of
from brainalign.reading.aligned_words import untimed_words
from brainalign.reading.clocks import fit_clock
from brainalign.reading.ctf_folders import crop_of, ctf_folders, open_ctf, unquoted
from brainalign.reading.matching import fill_times, in_order, match_words
from brainalign.reading.signals import Signals
from brainalign.reading.tables import Table, read_table
from brainalign.types import Finding, Floats, Recording, Stimulus

__all__ = ["Armeni2022"]

PAUSE = "sp"


class Armeni2022(ArchiveDataset):
    """Armeni et al. (2022): three subjects, ten sessions of an hour each, CTF.

    Parameters
    ----------
    root : Path, optional
        The folder with the data, which users must get themselves; the manifest's `instructions` say how.
    subjects : tuple of str, optional
        "001" to "003"; all by default.
    stimuli : tuple of str, optional
        Runs of sessions: "ses-001_run-1"; all by default.
    signals : Signals
        How the sensors are read; ``noise: [gradient_compensation]`` takes CTF's third grade.

    Raises
    ------
    UnreachableError
        When the data are first asked for, if no folder was named.

    Notes
    -----
    The layout is as two users' code reads it; no file of the archive was seen here. That is taken as given:

    - A session is one recording, ``sub-00X/ses-00N/meg/sub-00X_ses-00N_task-compr_meg.ds``, and one table
      ``..._events.tsv`` beside it, with ``onset`` (seconds of the recording), ``duration``, ``sample``, ``type``,
      ``value``. Subjects heard the same in a session of the same number.
    - ``word_onset_NN`` is a word of run NN of the session, ``value`` the word, in quotation marks; "sp" is a pause.
      ``wav_onset_NN`` (or the NN-th ``wav_onset``) is where the run's sound began; without it, where its first word did
      (finding ``no-sound-onset``). Phonemes are not read.
    - A negative onset was not recorded: such a word keeps its place in the text, at a time between its neighbours'.

    Words that are all in capitals are taken as small letters. There are no sentences. The words and times of a stimulus
    are those of the first subject that has it; the others' are matched to them and their clocks fitted.

    Which runs a session has only its table tells, so the tables of events are read when the runs are first asked for.
    """

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        stimuli: tuple[str, ...] | None = None,
        signals: Signals = Signals(),  # noqa: B008
    ) -> None:
        self.signals = signals
        self._table = lru_cache(maxsize=32)(read_table)
        super().__init__("armeni2022", root, subjects, stimuli)

    def all_runs(self) -> Sequence[Run]:
        """A run for each subject and each run of a session that its events tell of."""
        runs = []
        pattern = r"sub-(\d+)/ses-(\d+)/meg/sub-\1_ses-\2_task-compr_meg\.ds"
        for folder, files in ctf_folders(self.archive.paths, pattern).items():
            subject, session = re.findall(r"sub-(\d+)/ses-(\d+)", folder)[0]
            events = folder.removesuffix("_meg.ds") + "_events.tsv"
            for number in self._numbers_in(events):
                name = f"ses-{session}_run-{number}"
                runs.append(Run(subject, name, name, files, (events,), session))
        return runs

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The events of the first subject who heard it, chosen or not, so that all choices give the same stimulus."""
        return self._first_events[stimulus]

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The run of a session, its times counted from the start of its sound."""
        table = self._table(self.archive.place(self.words_files(stimulus)[0]))
        number = _number_of(stimulus)
        words = _words_in(table, number)
        start_s = _sound_onset_s(table, number)
        where = f"stimulus {stimulus}"
        findings = []
        if start_s is None:
            start_s = float(np.nanmin(words["onset"]))
            message = "no event tells where its sound began; times count from its first word."
            findings.append(Finding("no-sound-onset", where, message))
        words = _filled(words.assign(onset=words["onset"] - start_s, offset=words["offset"] - start_s), where)
        return Stimulus(stimulus, words, findings=(*findings, *untimed_words(words, where)))

    def read_run(self, run: Run) -> Recording:
        """What was recorded of a run of a session."""
        path = self.archive.place(run.sidecars[0])
        heard = _words_in(self._table(path), _number_of(run.stimulus))
        words = self.stimuli[run.stimulus].words
        found = match_words(words["text"].tolist(), heard["text"].tolist())
        onset_s = np.append(np.asarray(heard["onset"]), np.nan)[found]
        timed = np.isfinite(onset_s) & words["timed"].to_numpy()
        fit = fit_clock(np.asarray(words["onset"])[timed], onset_s[timed], f"{run} ({path.name})")
        folder = self.archive.place(run.responses[0].partition(".ds/")[0] + ".ds")
        sensors = open_ctf(folder, self.signals, str(run))
        first_s, last_s = fit.offset_s + fit.rate * np.asarray(words["onset"])[[0, -1]]
        clock, read = crop_of(sensors, first_s, last_s, str(run))
        content = {
            "files": self.archive.digest((*run.responses, *run.sidecars)),
            "run": run.stimulus,
            "clock": [fit.offset_s, fit.rate],
            "signals": asdict(self.signals),
        }
        return Recording(
            subject=run.subject,
            run=run.run,
            stimulus=run.stimulus,
            modality="meg",
            clock=replace(clock, step_s=clock.step_s / fit.rate, start_s=clock.start_s / fit.rate),
            offset_s=fit.stimulus_start_s,
            targets=sensors.targets,
            read=read,
            digest=digest_of(content),
            space=sensors.space,
            steps=sensors.steps,
            findings=(*sensors.findings, *fit.findings(str(run))),
        )

    @cached_property
    def _first_events(self) -> dict[str, tuple[str, ...]]:
        return {run.stimulus: run.sidecars for run in reversed(self.all_runs())}

    def _numbers_in(self, events: str) -> list[int]:
        """The runs of a session that its table of events has words of."""
        kinds = self._table(self.archive.place(events)).texts("type")
        found = {int(match[1]) for kind in set(kinds) if (match := re.fullmatch(r"word_onset_(\d+)", unquoted(kind)))}
        if not found:
            raise DataError(f"{self.archive.place(events)}: no row has a type 'word_onset_01', '_02' ...")
        return sorted(found)


def _number_of(stimulus: str) -> int:
    return int(stimulus.rpartition("-")[2])


def _words_in(table: Table, number: int) -> pd.DataFrame:
    """Words of a run of the session: ``onset``, ``offset`` (NaN where they were not recorded), ``text``."""
    kinds = [unquoted(kind) for kind in table.texts("type")]
    rows = [i for i, kind in enumerate(kinds) if re.fullmatch(rf"word_onset_0*{number}", kind)]
    onset_s = table.numbers("onset")[rows]
    duration_s = _lengths(table, rows, onset_s)
    text = np.array([unquoted(word) for word in table.texts("value")])[rows]
    spoken = np.array([word.lower() != PAUSE and word != "" for word in text])
    onset_s = np.where(onset_s < 0, np.nan, onset_s)[spoken]
    text = text[spoken]
    if all(word.isupper() or not word.isalpha() for word in text):
        text = np.char.lower(text)
    return pd.DataFrame({"onset": onset_s, "offset": onset_s + duration_s[spoken], "text": text})


def _lengths(table: Table, rows: Sequence[int], onset_s: Floats) -> Floats:
    """Seconds of each row; where the table tells none, until the next one begins."""
    told = [table.texts("duration")[i] for i in rows] if "duration" in table.columns else []
    lengths: Floats = np.asarray(pd.to_numeric(pd.Series(told or [""] * len(rows)), errors="coerce"), dtype=float)
    until_next: Floats = np.append(np.maximum(np.diff(onset_s), 0.0), 0.0)
    return np.where(np.isfinite(lengths) & (lengths > 0), lengths, until_next)


def _sound_onset_s(table: Table, number: int) -> float | None:
    """Where the sound of a run began in the recording; None where no event tells."""
    kinds = [unquoted(kind) for kind in table.texts("type")]
    onset_s = table.numbers("onset")
    numbered = [i for i, kind in enumerate(kinds) if re.fullmatch(rf"wav_onset_0*{number}", kind)]
    plain = [i for i, kind in enumerate(kinds) if kind == "wav_onset"][number - 1 : number]
    rows = [i for i in numbered or plain if onset_s[i] >= 0]
    return float(onset_s[rows[0]]) if rows else None


def _filled(words: pd.DataFrame, where: str) -> pd.DataFrame:
    """The words with times for those that have none, or that stand before one that they follow."""
    timed = in_order(np.asarray(words["onset"])) & (words["onset"].to_numpy() >= 0)
    start_s, end_s = (np.where(timed, words[column], np.nan) for column in ("onset", "offset"))
    onset_s, offset_s = fill_times(start_s, end_s, [len(word) for word in words["text"]], where)
    return pd.DataFrame({"onset": onset_s, "duration": offset_s - onset_s, "text": words["text"], "timed": timed})
