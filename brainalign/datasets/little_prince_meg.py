"""Le Petit Prince in French: MEG of 58 who listened and 50 who read (OpenNeuro ds007523, ds007524)."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from brainalign.archives.local_files import require_file
from brainalign.datasets.archive_dataset import ArchiveDataset, Run
from brainalign.errors import DataError
from brainalign.files import digest_of
from brainalign.reading.channel_tables import read_channels
from brainalign.reading.matching import match_words
from brainalign.reading.recording_files import open_recording
from brainalign.reading.sensors import Sensors, open_sensors
from brainalign.reading.signals import Signals
from brainalign.reading.spoken_text import words_of_tokens
from brainalign.reading.tables import Table, decode_text, read_table
from brainalign.reading.triggers import match_values, read_triggers
from brainalign.reading.warping import TimeMap, map_times, read_warped
from brainalign.types import Clock, Finding, Recording, Stimulus

if TYPE_CHECKING:
    from mne.io import BaseRaw

__all__ = ["LittlePrinceMegListen", "LittlePrinceMegRead"]

PARTS = tuple(f"part-{number}" for number in range(1, 10))
BEFORE_S, AFTER_S = 1.0, 2.0
# The channel of all triggers, and the bits of it that say how long a word is.
TRIGGERS, LENGTH_BITS = "STI101", 0xFF


class _LittlePrinceMeg(ArchiveDataset):
    """What the two tasks have in common."""

    task: str

    def __init__(
        self,
        name: str,
        root: Path | None,
        subjects: Sequence[str] | None,
        stimuli: Sequence[str] | None,
        signals: Signals,
        sound: bool = False,
    ) -> None:
        self.signals = signals
        super().__init__(name, root, subjects, stimuli, sound)

    @abstractmethod
    def times_of(self, run: Run, open_raw: Callable[[], BaseRaw]) -> TimeMap:
        """Where the words of a run's part are in its recording."""

    def all_runs(self) -> Sequence[Run]:
        """A run for each subject and part, without those whose events are not of the recording."""
        paths = self.archive.matching(rf"sub-\d+/ses-01/meg/sub-\d+_ses-01_task-{self.task}_run-0[1-9]_meg\.fif")
        runs = [self._run_of(path) for path in paths]
        return [run for run in runs if f"{run.subject}-{run.run}" not in self._facts["left_out"]]

    @property
    def findings(self) -> list[Finding]:
        """Which runs of the subjects chosen are left out or missing, and why."""
        chosen = {(run.subject, run.stimulus) for run in self._chosen_runs}
        wanted = PARTS if self._wanted_stimuli is None else self._wanted_stimuli
        found = []
        for subject, part in ((s, p) for s in self.subjects for p in wanted if (s, p) not in chosen):
            number = part.removeprefix("part-")
            why = self._facts["left_out"].get(f"{subject}-{number}")
            code, message = ("left-out-run", f"left out: {why}") if why else ("missing-run", "there is no recording.")
            found.append(Finding(code, f"subject {subject}, run {number}", message))
        return found

    def read_run(self, run: Run) -> Recording:
        """The recording of a part, placed at the times of its words; its signals are not read yet."""
        open_raw = partial(open_recording, self.archive.place(run.responses[0]))
        bads = list(read_channels(self.archive.place(run.sidecars[0])).bads)
        sensors = open_sensors(open_raw, self.signals, "meg", str(run), bad_channels=bads)
        times = self.times_of(run, open_raw)
        clock, n_rows = _rows_of(sensors, times, str(run))
        files = (*run.responses, *run.sidecars, *self.words_files(run.stimulus))
        content = {
            "files": self.archive.digest(files),
            "signals": asdict(self.signals),
            "times": [times.stimulus_s.tolist(), times.recording_s.tolist()],
        }
        rough_s = self._facts["rough_events_s"].get(f"{run.subject}-{run.run}")
        message = f"its events are up to {(rough_s or 0) * 1000:.0f} ms off the triggers in the file, as others found."
        rough = [Finding("rough-events", str(run), message)] if rough_s else []
        return Recording(
            subject=run.subject,
            run=run.run,
            stimulus=run.stimulus,
            modality="meg",
            clock=clock,
            offset_s=0.0,
            targets=sensors.targets,
            read=partial(read_warped, sensors, times, clock, n_rows),
            digest=digest_of(content),
            space=sensors.space,
            steps=(*sensors.steps, f"placed at the times of {len(times.stimulus_s)} words"),
            findings=(*sensors.findings, *times.findings(str(run)), *rough),
        )

    def _run_of(self, path: str) -> Run:
        subject, number = re.findall(r"sub-(\d+)/.*_run-0(\d)_meg", path)[0]
        stem = path.removesuffix("_meg.fif")
        return Run(subject, number, f"part-{number}", (path,), (f"{stem}_channels.tsv", f"{stem}_events.tsv"))


class LittlePrinceMegListen(_LittlePrinceMeg):
    """Le Petit Prince, heard: 58 subjects, nine parts of ten minutes, 306 channels.

    Parameters
    ----------
    root : Path, optional
        A copy of ds007523; what it lacks is fetched.
    subjects : tuple of str, optional
        "01" to "58"; all by default.
    stimuli : tuple of str, optional
        "part-1" to "part-9"; all by default.
    signals : Signals
        How the sensors are read.
    sound : bool
        Whether parts come with their sound.

    Notes
    -----
    *Words* are those of the text (``txt_laser``, with case, punctuation and a line for each sentence), from the start
    of their first spoken piece to the end of their last: the archive's tokens are in small letters and split at
    apostrophes and hyphens ("lorsque", "j", "avais"; "dit", "-il"), and its text joins them ("j'avais", "dit-il"). A
    token that the text has otherwise ("précieux" for "sérieux") is a word of its own, as it was heard; words of the
    text that have no token are left out. Tokens that are a blank are no words. Times are those of
    ``task-listen_run-0N_extra_info.tsv``, which counts from the start of the sound.

    *Clocks.* Events were recorded with each token, and count from where the acquisition began, before the file's first
    sample: the file's ``first_samp`` is taken off. (Otherwise the events of 93 % of the runs would go on past the
    recording's end; no recording is shorter than its words.) They are matched to the tokens by sequence. In three runs
    of five they follow the sound within 10 ms of a straight line; in others they lag by up to 100 ms, or jump by
    seconds (subject 33, run 2). So the response is read at the events' own times, see `warping`. Rows marked
    BAD_ACQ_SKIP are no words.

    Left out are runs whose events repeat the times of the sound file instead of being recorded (subject 21 run 8, whose
    recording is also too short; subject 23 runs 1 to 4; of subject 56 run 2 there is no recording); the recording of
    subject 17 run 5 begins in the middle of the part.

    Examples
    --------
    >>> data = LittlePrinceMegListen(subjects=("21",))
    >>> len(data.stimuli), str(data.findings[0])[:28]
    (8, 'subject 21, run 8: left out:')
    """

    task = "listen"

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        stimuli: tuple[str, ...] | None = None,
        signals: Signals = Signals(),  # noqa: B008
        sound: bool = False,
    ) -> None:
        super().__init__("little_prince_meg_listen", root, subjects, stimuli, signals, sound)

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The tokens with their times, and the text."""
        number = stimulus.removeprefix("part-")
        return (
            f"sourcedata/task-listen_run-0{number}_extra_info.tsv",
            f"sourcedata/stimuli/txt_laser/run{number}.txt",
        )

    def sound_files(self, stimulus: str) -> tuple[str, ...]:
        """The part's sound."""
        return (f"sourcedata/stimuli/audio/{self._facts['sounds'][PARTS.index(stimulus)]}.wav",)

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The part, its times counted from the start of the sound."""
        tokens = self._tokens(stimulus)
        text = _lines_of(self.archive.place(self.words_files(stimulus)[1]))
        words, n_changed = words_of_tokens(tokens, text)
        message = (
            f"{n_changed} of {len(tokens)} tokens were heard otherwise than the text has them, and stand as heard."
        )
        found = [Finding("text-differs", f"stimulus {stimulus}", message)] if n_changed else []
        return Stimulus(stimulus, words, language="fr", findings=tuple(found))

    def times_of(self, run: Run, open_raw: Callable[[], BaseRaw]) -> TimeMap:
        """The run's events, matched to the tokens of the part."""
        self.archive.fetch(self.words_files(run.stimulus))
        tokens = self._tokens(run.stimulus)
        path = self.archive.place(run.sidecars[1])
        events = read_table(path)
        spoken = [
            bool(word) and "BAD_ACQ_SKIP" not in kind
            for word, kind in zip(events.texts("stimulus"), events.texts("trial_type"), strict=True)
        ]
        found = match_words(tokens["text"].tolist(), np.array(events.texts("stimulus"))[spoken].tolist())
        onset_s = events.numbers("onset")[spoken] - float(open_raw().first_time)
        return map_times(np.asarray(tokens["onset"]), np.append(onset_s, np.nan)[found], f"{run} ({path.name})")

    def _tokens(self, stimulus: str) -> pd.DataFrame:
        """The pieces that the archive times: ``onset``, ``offset``, ``text``."""
        path = self.archive.place(self.words_files(stimulus)[0])
        table = _read_commas(path)
        onset = table.numbers("onset")
        tokens = pd.DataFrame(
            {"onset": onset, "offset": onset + table.numbers("duration"), "text": table.texts("word")}
        )
        return tokens[tokens["text"] != ""].reset_index(drop=True)


class LittlePrinceMegRead(_LittlePrinceMeg):
    """Le Petit Prince, read word by word: 50 subjects, nine parts of eight minutes, 306 channels.

    Parameters
    ----------
    root : Path, optional
        A copy of ds007524; what it lacks is fetched.
    subjects : tuple of str, optional
        "01" to "50"; all by default.
    stimuli : tuple of str, optional
        "part-1" to "part-9"; all by default.
    signals : Signals
        How the sensors are read.

    Notes
    -----
    *The events' times are not the recordings'.* Those of ``events.tsv`` are the same for all subjects, 0.3 s from word
    to word, and end 40 s after the recordings do. Their text and its order are taken from them, and where there was a
    pause: after a sentence or a chapter. How long words and pauses took was found from the lengths of the 450
    recordings, which 16 frames of a screen at 60 Hz a word, 0.45 s after a sentence and 2.66 s after a chapter explain
    to within a second (the README's 275 ms a word would take longer than most recordings last); these are the
    stimulus's times, from the manifest.

    *Clocks.* When each word was shown in a run is told by the triggers of channel STI101, whose value is the number of
    the word's characters (as ``neuralfetch`` 0.4 reads it; here not compared with a recording): the sequence of lengths
    is matched to that of the words, and the response is read at the triggers' own times, see `warping`. Reading the
    triggers reads each file once, some seconds a run.

    Examples
    --------
    >>> data = LittlePrinceMegRead(subjects=("01",), stimuli=("part-1",))
    >>> data.files()[1]
    'sub-01/ses-01/meg/sub-01_ses-01_task-read_run-01_channels.tsv'
    """

    task = "read"

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        stimuli: tuple[str, ...] | None = None,
        signals: Signals = Signals(),  # noqa: B008
    ) -> None:
        super().__init__("little_prince_meg_read", root, subjects, stimuli, signals)

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The events of the first subject, whose words are those of all."""
        number = stimulus.removeprefix("part-")
        return tuple(self.archive.matching(rf"sub-\d+/.*_task-read_run-0{number}_events\.tsv")[:1])

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The part, its times counted from a second before its first word."""
        events = read_table(self.archive.place(self.words_files(stimulus)[0]))
        facts = self._facts
        step_s = np.diff(events.numbers("onset"))
        pauses = facts["pause_s"]
        kinds = np.searchsorted(facts["nominal_step_s"], step_s - 0.1)
        if len(step_s) and ((kinds >= len(pauses)).any() or (step_s <= 0).any()):
            raise DataError(f"{events.path}: words are {facts['nominal_step_s']} s apart; found {step_s.max():g} s.")
        onset = facts["first_word_s"] + np.r_[0.0, np.cumsum(facts["word_step_s"] + np.array(pauses)[kinds])]
        text = [_unquoted(word) for word in events.texts("stimulus")]
        sentence = np.cumsum(np.r_[0, kinds > 0])
        words = pd.DataFrame({"onset": onset, "duration": facts["word_shown_s"], "text": text, "sentence": sentence})
        return Stimulus(stimulus, words, language="fr")

    def times_of(self, run: Run, open_raw: Callable[[], BaseRaw]) -> TimeMap:
        """The run's triggers, whose values are matched to the lengths of the words."""
        words = self.stimuli[run.stimulus].words
        shown_s, values = read_triggers(open_raw(), TRIGGERS, str(run), bits=LENGTH_BITS)
        found = match_values([len(word) for word in words["text"]], values.tolist())
        recorded_s = np.append(shown_s, np.nan)[found]
        return map_times(np.asarray(words["onset"]), recorded_s, f"{run} (triggers of {TRIGGERS})")


def _rows_of(sensors: Sensors, times: TimeMap, where: str) -> tuple[Clock, int]:
    """Rows from a second before the first word that was recorded to two seconds after the last, and how many."""
    first_s, last_s = times.recording_s[[0, -1]]
    if first_s < 0 or last_s > sensors.duration_s:
        raise DataError(
            f"{where}: its words are at {first_s:.1f} to {last_s:.1f} s of a recording of {sensors.duration_s:.1f} s."
        )
    recorded_s = np.array([max(0.0, first_s - BEFORE_S), min(sensors.duration_s, last_s + AFTER_S)])
    start_s, stop_s = times.to_stimulus(recorded_s)
    start_s = max(start_s, 0.0)
    return Clock(sensors.clock.step_s, float(start_s)), int((stop_s - start_s) / sensors.clock.step_s + 1e-9)


def _lines_of(path: Path) -> list[list[str]]:
    """The words of each line of a text, a sentence."""
    lines = [line.split() for line in decode_text(require_file(path)).splitlines()]
    if not any(lines):
        raise DataError(f"{path}: there are no words in it.")
    return [line for line in lines if line]


def _read_commas(path: Path) -> Table:
    """A table with commas between its cells, whatever its name says."""
    import csv

    lines = list(csv.reader(decode_text(require_file(path)).splitlines()))
    wrong = next((i for i, cells in enumerate(lines) if len(cells) != len(lines[0])), None)
    if wrong is not None:
        raise DataError(f"{path}, line {wrong + 1}: {len(lines[wrong])} cells; the first line has {len(lines[0])}.")
    columns = {name: [cells[i] for cells in lines[1:]] for i, name in enumerate(lines[0])}
    return Table(path, columns, [f"line {i + 2}" for i in range(len(lines) - 1)])


def _unquoted(cell: str) -> str:
    """A cell that was quoted because it holds quotation marks."""
    return cell[1:-1].replace('""', '"') if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell
