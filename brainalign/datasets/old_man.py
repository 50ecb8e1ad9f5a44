"""The Old Man and the Sea: EEG of nineteen listeners to an hour of audiobook (Broderick et al., 2018; ds004408)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from brainalign.datasets.archive_dataset import ArchiveDataset, Run
from brainalign.files import digest_of
from brainalign.reading.channel_tables import read_channels
from brainalign.reading.recording_files import open_recording
from brainalign.reading.sensors import open_sensors
from brainalign.reading.signals import Signals
from brainalign.reading.words import SILENCES, read_words
from brainalign.types import Recording, Stimulus

__all__ = ["OldMan"]

RECORDINGS = r"sub-(\d+)/eeg/sub-\1_task-listening_run-(\d+)_eeg\.vhdr"
# Of a recording that goes on after the last word, what is kept.
AFTER_S = 2.0


class OldMan(ArchiveDataset):
    """The "Old Man" set: 19 subjects, 20 passages of three minutes from Hemingway's novel, 128 channels.

    Parameters
    ----------
    root : Path, optional
        A copy of ds004408; what it lacks is fetched.
    subjects : tuple of str, optional
        "001" to "019"; all by default.
    stimuli : tuple of str, optional
        Which passages, "audio01" to "audio20"; all by default.
    signals : Signals
        What is done to the recordings, see `Signals`; they are unfiltered and without a reference, so that
        ``reference: average`` is apt.
    sound : bool
        Whether passages come with their sound (32 MB each).

    Notes
    -----
    Recordings start where their sound does, and go on after it "to a varying extent" (README; up to five minutes, by
    ``RecordingDuration``); what is later than two seconds after the last word is left out. Run NN is of passage NN.

    Words: the tier of words of ``audioNN.TextGrid``, which was made by Prosodylab-Aligner and "inspected by eye"
    (README). It has neither case nor punctuation; words are given in small letters, without sentences. Silences and
    noises ("sil", "sp", "br" ...) are no words. The passages follow one another in the novel, but each is read alone.

    Bad channels are those of each run's ``channels.tsv``: 0 to 34 of 128, in three quarters of the runs, without a
    reason. They are interpolated by default, as all positions are known (BioSemi's 128, by the channels' names), so
    that runs keep the same targets. The archive does not tell the frequency of the mains.

    Examples
    --------
    >>> data = OldMan(subjects=("007",), stimuli=("audio03",))
    >>> [path.split("_")[-1] for path in data.files(kinds=("responses",))]
    ['eeg.vhdr', 'eeg.eeg', 'eeg.vmrk', 'channels.tsv']
    """

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        stimuli: tuple[str, ...] | None = None,
        signals: Signals = Signals(),  # noqa: B008  (frozen)
        sound: bool = False,
    ) -> None:
        self.signals = signals
        super().__init__("old_man", root, subjects, stimuli, sound)

    def all_runs(self) -> Sequence[Run]:
        """A run for each subject and passage."""
        runs = []
        for path in self.archive.matching(RECORDINGS):
            subject, number = re.findall(RECORDINGS, path)[0]
            stem = path.removesuffix("_eeg.vhdr")
            responses = (path, f"{stem}_eeg.eeg", f"{stem}_eeg.vmrk")
            runs.append(Run(subject, number, f"audio{number}", responses, (f"{stem}_channels.tsv",)))
        return runs

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The passage's TextGrid."""
        return (f"stimuli/{stimulus}.TextGrid",)

    def sound_files(self, stimulus: str) -> tuple[str, ...]:
        """The passage's sound."""
        return (f"stimuli/{stimulus}.wav",)

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The passage, its times counted from the start of its sound."""
        silences = (*SILENCES, *self._facts["not_words"])
        words = read_words(self.archive.place(self.words_files(stimulus)[0]), silences=silences)
        return Stimulus(stimulus, words.assign(text=words["text"].str.lower()))

    def read_run(self, run: Run) -> Recording:
        """The recording of a subject who heard a passage."""
        path, table = self.archive.place(run.responses[0]), self.archive.place(run.sidecars[0])
        channels = read_channels(table)
        sensors = open_sensors(
            partial(open_recording, path, kinds=channels.kinds, montage=self._facts["montage"]),
            self.signals,
            "eeg",
            str(run),
            bad_channels=tuple(channels.bads),
        )
        stop_s = self.stimuli[run.stimulus].duration_s + AFTER_S
        return Recording(
            subject=run.subject,
            run=run.run,
            stimulus=run.stimulus,
            modality="eeg",
            clock=sensors.clock,
            offset_s=0.0,
            targets=sensors.targets,
            read=partial(sensors.read, None, stop_s),
            digest=digest_of(
                {
                    "files": self.archive.digest([*run.responses, *run.sidecars]),
                    "signals": asdict(self.signals),
                    "stop_s": stop_s,
                }
            ),
            space=sensors.space,
            steps=sensors.steps,
            findings=sensors.findings,
        )
