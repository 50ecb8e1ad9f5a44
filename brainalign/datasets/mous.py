"""MOUS: sentences and lists of words, in MEG of 102 who heard them and 102 who read them (Schoffelen et al., 2019)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from brainalign.archives.local_files import require_file
from brainalign.datasets.archive_dataset import ArchiveDataset, Run
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.files import digest_of
from brainalign.reading.aligned_words import untimed_words
from brainalign.reading.ctf_folders import crop_of, ctf_folders, open_ctf, unquoted
from brainalign.reading.matching import fill_times, match_words
from brainalign.reading.signals import Signals
from brainalign.reading.tables import decode_text, read_table
from brainalign.reading.words import read_words
from brainalign.types import Finding, Recording, Stimulus

__all__ = ["Mous"]

Condition = Literal["sentence", "word_list"]
# What a code of the presentation log says is coming: sentences or lists of words.
CONTEXTS = {"ZINNEN": "sentence", "WOORDEN": "word_list"}
# Codes that are no words: fixation cross, pauses, questions, answers, pulses of a scanner.
NOT_WORDS = re.compile(r".*\b(FIX|ISI|QUESTION|PULSE MODE|ZINNEN|WOORDEN)\b.*|blank|pause|(?i:response.*)")
STIMULI = "stimuli/stimuli.txt"


class Mous(ArchiveDataset):
    """MOUS (Schoffelen et al., 2019): Dutch sentences and the same words in random order, CTF.

    Parameters
    ----------
    root : Path, optional
        The folder with the data, which users must get themselves; the manifest's `instructions` say how.
    subjects : tuple of str, optional
        "V1001" ... who read, "A2002" ... who listened. All of the task by default, without those that the manifest
        leaves out (two recordings, or incomplete); one that is named is taken all the same.
    task : {"visual", "auditory"}
        Reading or listening.
    conditions : tuple of str
        Which words: those of "sentence", of "word_list", or both.
    alignments : Path, optional
        Of listening: a folder of TextGrids, one for each sound file ("001.TextGrid", or any name that ends so), as
        programs of forced alignment make them from ``stimuli/audio_files`` and ``stimuli/stimuli.txt``. The archive has
        no times of spoken words.
    signals : Signals
        How the sensors are read; ``noise: [gradient_compensation]`` takes CTF's third grade.

    Raises
    ------
    UnreachableError
        When the data are first asked for, if no folder was named.
    RecipeError
        If words of listening are asked for without `alignments`.

    Notes
    -----
    A stimulus is what one subject met, as each met other sentences in another order: "V1001". A column ``sentence``
    counts the sentences and lists. Its times are the recording's.

    The layout is as the makers' own conversion (FieldTrip's example for BIDS) and users' code (brainmagick) tell it; no
    file of the archive was seen here. That is taken as given:

    - ``sub-V1001/meg/sub-V1001_task-visual_meg.ds`` (for some, ``_run-1`` and ``_run-2``) with ``..._events.tsv``, into
      which the makers merged the presentation's log: ``onset`` is in seconds of the recording, ``type`` the log's kind
      of event ("Picture", "Sound", "Nothing"; beside them "trial" and triggers, "UPPT001"), ``value`` its code.
    - A code is a trigger's number and a text: "6 Het". "ZINNEN" and "WOORDEN" open a block of sentences or of lists,
      "FIX" each of them. Pictures whose text is none of these, nor "ISI", "blank", "pause" or "QUESTION", are words.
    - A sound is a code that ends in "Start File 12.wav", and begins at the next "Audio onset". Line "12 Het ..." of
      ``stimuli/stimuli.txt`` has its words; those that a TextGrid lacks get times between their neighbours'.

    The logs themselves (``sourcedata/meg_task``) are not read.
    """

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        task: Literal["visual", "auditory"] = "visual",
        conditions: tuple[Condition, ...] = ("sentence",),
        alignments: Path | None = None,
        signals: Signals = Signals(),  # noqa: B008
    ) -> None:
        for value in conditions:
            if value not in CONTEXTS.values():
                raise RecipeError(f"mous has no condition '{value}'. {nearest(value, CONTEXTS.values())}")
        if task not in ("visual", "auditory"):
            raise RecipeError(f"mous has no task '{task}'. {nearest(task, ('visual', 'auditory'))}")
        self.task = task
        self.conditions = conditions
        self.alignments = alignments
        self.signals = signals
        super().__init__("mous", root, subjects)

    def all_runs(self) -> Sequence[Run]:
        """A run for each recording of the task."""
        pattern = rf"sub-([AV]\d+)/meg/sub-\1_task-{self.task}(?:_run-\d+)?_meg\.ds"
        runs = []
        for folder, files in ctf_folders(self.archive.paths, pattern).items():
            subject = re.findall(r"sub-([AV]\d+)", folder)[0]
            number = (re.findall(r"_run-(\d+)", folder) or [""])[0]
            stimulus = f"{subject}-{number}" if number else subject
            if subject in self._facts["left_out"] and subject not in (self._wanted_subjects or ()):
                continue
            runs.append(Run(subject, number or "1", stimulus, files, (folder.removesuffix("_meg.ds") + "_events.tsv",)))
        return runs

    @property
    def findings(self) -> list[Finding]:
        """Which subjects are left out, and why."""
        first = "V" if self.task == "visual" else "A"
        named = self._wanted_subjects
        found = []
        for name, why in self._facts["left_out"].items():
            if name.startswith(first) and (named is None or name in named):
                done = "left out" if named is None else "taken, as it was named, though"
                found.append(Finding("left-out-subject", f"subject {name}", f"{done}: {why}."))
        return found

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The subject's events; of listening, the text of the sounds too."""
        events = next(run.sidecars for run in self._chosen_runs if run.stimulus == stimulus)
        return (*events, STIMULI) if self.task == "auditory" else events

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """What the subject met, at the times of the recording."""
        path = self.archive.place(self.words_files(stimulus)[0])
        events = _read_events(path)
        words = self._heard(events) if self.task == "auditory" else _pictures(events)
        words = words[words["condition"].isin(self.conditions)].reset_index(drop=True)
        if words.empty:
            raise DataError(f"{path}: no words of {' or '.join(self.conditions)} are in it.")
        words["sentence"] = pd.factorize(words["sentence"])[0]
        return Stimulus(stimulus, words, language="nl", findings=untimed_words(words, f"stimulus {stimulus}"))

    def read_run(self, run: Run) -> Recording:
        """The recording of a subject, from its first word to its last."""
        words = self.stimuli[run.stimulus].words
        folder = self.archive.place(run.responses[0].partition(".ds/")[0] + ".ds")
        sensors = open_ctf(folder, self.signals, str(run))
        clock, read = crop_of(sensors, words["onset"].iloc[0], words["onset"].iloc[-1], str(run))
        content = {
            "files": self.archive.digest((*run.responses, *run.sidecars)),
            "crop": [words["onset"].iloc[0], words["onset"].iloc[-1]],
            "signals": asdict(self.signals),
        }
        return Recording(
            subject=run.subject,
            run=run.run,
            stimulus=run.stimulus,
            modality="meg",
            clock=clock,
            offset_s=0.0,
            targets=sensors.targets,
            read=read,
            digest=digest_of(content),
            space=sensors.space,
            steps=sensors.steps,
            findings=sensors.findings,
        )

    def _heard(self, events: Sequence[_Event]) -> pd.DataFrame:
        """The words of each sound, from its onset in the recording on."""
        if self.alignments is None:
            raise RecipeError(
                "mous: the archive has no times of spoken words. Align stimuli/audio_files with stimuli/stimuli.txt\n"
                "and name the folder of TextGrids as `alignments`, or take `task: visual`."
            )
        texts = _read_texts(self.archive.place(STIMULI))
        found = []
        for number, (sound, onset_s, condition) in enumerate(_sounds(events)):
            if sound not in texts:
                raise DataError(f"{self.archive.place(STIMULI)}: no line has the number {sound}, which was heard.")
            words = _aligned(texts[sound], self._grid_of(sound))
            found.append(words.assign(onset=words["onset"] + onset_s, condition=condition, sentence=number))
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame({"condition": []})

    def _grid_of(self, sound: int) -> Path:
        """The TextGrid of a sound."""
        assert self.alignments is not None
        ends = re.compile(rf"(?:.*\D)?0*{sound}\.TextGrid", re.IGNORECASE)
        found = sorted(path for path in self.alignments.glob("*") if ends.fullmatch(path.name))
        if len(found) != 1:
            named = ", ".join(path.name for path in found) or "none"
            raise DataError(f"{self.alignments}: expected one TextGrid whose name ends in {sound}; found {named}.")
        return found[0]


@dataclass(frozen=True)
class _Event:
    onset_s: float
    duration_s: float
    kind: str
    text: str


def _read_events(path: Path) -> list[_Event]:
    """The rows of a table of events that have an onset, in order of time; a code's number is left off its text."""
    table = read_table(path)
    onset_s, duration_s = (
        pd.to_numeric(pd.Series(table.texts(name)), errors="coerce").to_numpy(dtype=float)
        for name in ("onset", "duration")
    )
    kinds, codes = ([unquoted(cell) for cell in table.texts(name)] for name in ("type", "value"))
    events = [
        _Event(float(onset), float(duration), kind, re.sub(r"^\d+(\s+|$)", "", code).strip())
        for onset, duration, kind, code in zip(onset_s, duration_s, kinds, codes, strict=True)
        if np.isfinite(onset) and onset >= 0
    ]
    return sorted(events, key=lambda event: event.onset_s)


def _pictures(events: Sequence[_Event]) -> pd.DataFrame:
    """The words that were shown: ``onset``, ``duration``, ``text``, ``sentence`` and ``condition``."""
    shown = [event for event in events if event.kind == "Picture"]
    rows, number, condition = [], 0, ""
    for event, following in zip(shown, [*shown[1:], None], strict=True):
        condition = next((name for mark, name in CONTEXTS.items() if mark in event.text), condition)
        number += "FIX" in event.text
        if NOT_WORDS.fullmatch(event.text) or not any(map(str.isalnum, event.text)):
            continue
        # Where the table tells no duration, until the next picture.
        until_next_s = following.onset_s - event.onset_s if following else 0.0
        duration_s = event.duration_s if event.duration_s > 0 else until_next_s
        rows.append((event.onset_s, duration_s, event.text, number, condition))
    return pd.DataFrame(rows, columns=["onset", "duration", "text", "sentence", "condition"])


def _sounds(events: Sequence[_Event]) -> list[tuple[int, float, str]]:
    """The number, the onset in the recording and the condition of each sound file."""
    found, condition, waiting = [], "", None
    for event in events:
        condition = next((name for mark, name in CONTEXTS.items() if mark in event.text), condition)
        started = re.search(r"Start File\s+\D*(\d+)\.wav", event.text)
        if started:
            waiting = int(started[1])
        elif "Audio onset" in event.text and waiting is not None:
            found.append((waiting, event.onset_s, condition))
            waiting = None
    return found


def _read_texts(path: Path) -> dict[int, list[str]]:
    """The words of each stimulus, by its number, with which its line begins."""
    found = {}
    for number, line in enumerate(decode_text(require_file(path)).splitlines(), start=1):
        cells = line.split()
        if not cells:
            continue
        if not cells[0].isdigit() or len(cells) < 2:
            raise DataError(f"{path}, line {number}: {line[:60]!r}; expected a number and the words of a stimulus.")
        found[int(cells[0])] = cells[1:]
    return found


def _aligned(text: Sequence[str], grid: Path) -> pd.DataFrame:
    """The words of a text with the times of a TextGrid, in seconds of the sound."""
    spoken = read_words(grid)
    found = match_words(text, spoken["text"].tolist())
    onset_s = np.append(spoken["onset"], np.nan)[found]
    offset_s = onset_s + np.append(spoken["duration"], np.nan)[found]
    filled_s, end_s = fill_times(onset_s, offset_s, [len(word) for word in text], str(grid))
    return pd.DataFrame({"onset": filled_s, "duration": end_s - filled_s, "text": text, "timed": found >= 0})
