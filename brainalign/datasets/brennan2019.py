"""Alice in Wonderland, chapter 1: EEG of listeners (Brennan and Hale, 2019; NEMAR nm000180)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign.datasets.archive_dataset import ArchiveDataset, Run
from brainalign.errors import DataError
from brainalign.files import digest_of
from brainalign.reading.channel_tables import read_channels, read_electrodes
from brainalign.reading.clocks import ClockFit, fit_clock
from brainalign.reading.recording_files import open_recording
from brainalign.reading.sensors import Sensors, open_sensors
from brainalign.reading.signals import Signals
from brainalign.reading.tables import read_table
from brainalign.types import Finding, Recording, Stimulus

__all__ = ["Brennan2019"]

WORDS = "sourcedata/AliceChapterOne-EEG.csv"
RECORDINGS = r"sub-(\d+)/eeg/sub-\1_task-alicelistening_eeg\.vhdr"
N_SEGMENTS = 12
# A segment's start is known to some 20 ms by the one before it; the segments' lengths differ by seconds.
SAME_GAP_S = 0.2
BEFORE_S, AFTER_S = 1.0, 2.0


class Brennan2019(ArchiveDataset):
    """The EEG set of Brennan and Hale (2019): one chapter in twelve files of sound, 60 channels.

    Parameters
    ----------
    root : Path, optional
        A copy of nm000180; what it lacks is fetched.
    subjects : tuple of str, optional
        "001" to "048"; all that have word times by default.
    stimuli : tuple of str, optional
        Which segments, "segment01" to "segment12"; all by default.
    signals : Signals
        What is done to the recordings, see `Signals`.
    analysed_only : bool
        Whether to leave out the subjects that the authors did: whose recordings are noisy, or who had understood little
        (``participants.tsv``).
    sound : bool
        Whether segments come with their sound.

    Notes
    -----
    A stimulus is a segment, one of the twelve files of sound, and a run a segment's stretch of the recording, from the
    start of its sound to that of the next, so that runs share no moment. The chapter as a whole would have no clock
    that holds for all: from one segment's start to the next there are 56 to 70 s, and between subjects these differ by
    18 to 68 ms (31 subjects with all segments; standard deviations of 3 to 11 ms). On a line through the chapter words
    would be off by up to 13 ms in the median subject, and 40 ms in the worst; within a segment the events follow the
    table to 1.1 ms, which is their rounding. The price: a model reads each minute without what came before, and a
    sentence may go on from one segment to the next.

    Eight subjects (manifest: ``late_subjects``) have events that call each segment by the number of the one before it:
    their recordings began 0.2 to 3.7 s after the first sound, the first trigger is missing, and the words were put at
    the others in order. It shows in the times between segments, which are those of the next ones, in all eight, and in
    words that are cut off by the end of the recording. Here segments are known by these times (finding
    ``segments-renumbered``); the first, whose start was not recorded, is left out. Six subjects have no events at all
    and are left out; both are told in `findings`.

    Words come from the authors' table. It has clitics as words, without an apostrophe or with a control character for
    it; they get one ("could" "n't"). Where it has "do" for the "don't" of the same sound's TextGrid (see `Alice`), it
    is mended. Of its columns, ``onset`` agrees with that TextGrid to 1 ms, but for the first word of each segment (up
    to 62 ms off); ``offset`` does not: it is shifted by -52 to 46 ms, by segment, so that durations are off by as much.

    Places of channels are those of the cap (``electrodes.tsv``, CapTrak, metres), the same for all. The channels of the
    eye and of the sound are no targets.

    Examples
    --------
    >>> data = Brennan2019(analysed_only=True)
    >>> len(data.subjects), list(data.stimuli)[:2]
    (31, ['segment01', 'segment02'])
    """

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        stimuli: tuple[str, ...] | None = None,
        signals: Signals = Signals(),  # noqa: B008  (frozen)
        analysed_only: bool = False,
        sound: bool = False,
    ) -> None:
        self.signals = signals
        self.analysed_only = analysed_only
        self._opened: dict[str, _Opened] = {}
        super().__init__("brennan2019", root, subjects, stimuli, sound)

    def all_runs(self) -> Sequence[Run]:
        """A run for each subject and segment."""
        runs = []
        for path in self.archive.matching(RECORDINGS):
            subject = re.findall(RECORDINGS, path)[0]
            stem = path.removesuffix("_task-alicelistening_eeg.vhdr")
            events = f"{stem}_task-alicelistening_events.tsv"
            if events not in self.archive.paths or (self.analysed_only and subject in self._excluded):
                continue
            responses = tuple(f"{stem}_task-alicelistening_eeg.{suffix}" for suffix in ("vhdr", "eeg", "vmrk"))
            tables = (f"{stem}_task-alicelistening_channels.tsv", f"{stem}_space-CapTrak_electrodes.tsv")
            first = 2 if subject in self._facts["late_subjects"] else 1
            runs += [
                Run(subject, f"{number:02d}", f"segment{number:02d}", responses, (events, *tables, WORDS))
                for number in range(first, N_SEGMENTS + 1)
            ]
        return runs

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The table of the chapter's words."""
        return (WORDS,)

    def sound_files(self, stimulus: str) -> tuple[str, ...]:
        """The segment's sound."""
        return (f"stimuli/DownTheRabbitHoleFinal_SoundFile{_number_of(stimulus)}.wav",)

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The segment, its times counted from the start of its sound."""
        words = _read_story(self.archive.place(WORDS))
        words = words[words["segment"] == _number_of(stimulus)]
        text = words["text"].replace(self._facts["clitics"])
        for number, right in self._facts["corrected_words"].items():
            text = text.where(words["number"] != int(number), right)
        columns = words[["onset", "duration", "sentence"]]
        return Stimulus(stimulus, columns.assign(text=text).reset_index(drop=True))

    @property
    def findings(self) -> list[Finding]:
        """Whose recordings, or parts of them, have no word times."""
        recorded = [re.findall(RECORDINGS, path)[0] for path in self.archive.matching(RECORDINGS)]
        known = {run.subject for run in self.all_runs()} | (set(self._excluded) if self.analysed_only else set())
        untimed = [subject for subject in recorded if subject not in known]
        late = [subject for subject in self.subjects if subject in self._facts["late_subjects"]]
        found = []
        if untimed:
            message = f"subjects {', '.join(untimed)} have no times of words (events.tsv) and are left out."
            found.append(Finding("untimed-subjects", self.name, message))
        if late:
            message = f"subjects {', '.join(late)} were recorded from after the start of segment 1, which is left out."
            found.append(Finding("segment-left-out", self.name, message))
        return found

    def read_run(self, run: Run) -> Recording:
        """The stretch of a subject's recording in which a segment was heard."""
        opened = self._open(run)
        number = _number_of(run.stimulus)
        if number not in opened.fits:
            raise DataError(f"{self.archive.place(run.sidecars[0])}: it has no words of segment {number}.")
        fit, where = opened.fits[number], str(run)
        start_s = fit.offset_s - (BEFORE_S if number == min(opened.fits) else 0.0)
        following = opened.fits.get(number + 1)
        stop_s = fit.offset_s + self.stimuli[run.stimulus].duration_s + AFTER_S
        stop_s = stop_s if following is None else min(stop_s, following.offset_s)
        content = {
            "files": self.archive.digest([*run.responses, *run.sidecars]),
            "signals": asdict(self.signals),
            "span_s": [start_s, stop_s],
        }
        found = [*opened.sensors.findings, *fit.findings(where)]
        if run.subject in self._facts["late_subjects"]:
            message = f"the events call it segment {number - 1}; times between segments are those of the next ones."
            found.append(Finding("segments-renumbered", where, message))
        start_of_rows_s = opened.sensors.cropped_clock(start_s).start_s
        return Recording(
            subject=run.subject,
            run=run.run,
            stimulus=run.stimulus,
            modality="eeg",
            clock=fit.clock(opened.sensors.clock.step_s, start_of_rows_s),
            offset_s=fit.stimulus_start_s,
            targets=opened.sensors.targets,
            read=partial(opened.sensors.read, start_s, stop_s),
            digest=digest_of(content),
            space=opened.sensors.space,
            steps=opened.sensors.steps,
            findings=tuple(found),
        )

    @property
    def _excluded(self) -> Mapping[str, str]:
        """Why the authors left subjects out."""
        return self._facts["excluded"]

    def _open(self, run: Run) -> _Opened:
        """A subject's recording and the clocks of its segments, which are the same for all of its runs."""
        if run.subject not in self._opened:
            where = f"subject {run.subject}"
            events, table, electrodes, words = (self.archive.place(path) for path in run.sidecars)
            fits = _fit_segments(events, _read_story(words))
            shift = 1 if run.subject in self._facts["late_subjects"] else 0
            fits = {number + shift: fit for number, fit in fits.items()}
            _check_gaps(fits, self._facts["segment_gaps_s"], events)
            channels = read_channels(table)
            kinds = {**self._facts["other_channels"], **channels.kinds}
            sensors = open_sensors(
                partial(open_recording, self.archive.place(run.responses[0]), kinds=kinds),
                self.signals,
                "eeg",
                where,
                bad_channels=tuple(channels.bads),
                positions=read_electrodes(electrodes, "m"),
            )
            self._opened[run.subject] = _Opened(sensors, fits)
        return self._opened[run.subject]


@dataclass(frozen=True)
class _Opened:
    """A subject's recording, and the clock of each segment by its true number."""

    sensors: Sensors
    fits: Mapping[int, ClockFit]


def _number_of(stimulus: str) -> int:
    return int(stimulus.removeprefix("segment"))


def _read_story(path: Path) -> pd.DataFrame:
    """The authors' table: ``number`` is a word's own in the story, times count from the segment's sound."""
    table = read_table(path)
    onset = table.numbers("onset")
    return pd.DataFrame(
        {
            "number": table.numbers("Order").astype(int),
            "segment": table.numbers("Segment").astype(int),
            "sentence": table.numbers("Sentence").astype(int),
            "onset": onset,
            "duration": table.numbers("offset") - onset,
            # What the table has for an apostrophe, where it has anything.
            "text": [text.replace("\x1a", "") for text in table.texts("Word")],
        }
    )


def _fit_segments(path: Path, story: pd.DataFrame) -> dict[int, ClockFit]:
    """The clock of each segment by the number that the events give it."""
    events = read_table(path)
    numbers = events.numbers("word_index").astype(int)
    times = pd.DataFrame({"number": numbers, "recorded": events.numbers("onset"), "row": events.row_names})
    unknown = times.loc[~times["number"].isin(story["number"]), "row"]
    if len(unknown):
        raise DataError(f"{path}, {unknown.iloc[0]}: the word_index is none of {WORDS}.")
    both = times.merge(story, on="number")
    fits = {}
    for number in np.unique(both["segment"]):
        words = both[both["segment"] == number]
        onset, recorded = (words[name].to_numpy(dtype=float) for name in ("onset", "recorded"))
        fits[int(number)] = fit_clock(onset, recorded, f"{path}, segment {number}")
    return fits


def _check_gaps(fits: Mapping[int, ClockFit], gaps_s: Sequence[float], path: Path) -> None:
    """Raise if the times between segments are not those between the files of sound of these numbers."""
    numbers = sorted(fits)
    found = np.diff([fits[number].offset_s for number in numbers])
    expected = [gaps_s[number - 1] if number <= len(gaps_s) else np.nan for number in numbers[:-1]]
    wrong = np.diff(numbers) != 1
    wrong |= ~(np.abs(found - expected) <= SAME_GAP_S)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise DataError(
            f"{path}: from segment {numbers[first]} to the next there are {found[first]:.3f} s, not "
            f"{expected[first]:.3f} s; are these the events of this recording?"
        )
