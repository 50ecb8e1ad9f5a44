"""MEG-MASC: 27 people who heard two hours of synthetic speech, in MEG (Gwilliams et al., 2023; NEMAR nm000229)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from brainalign.archives.archive import Archive
from brainalign.archives.remote_files import RemoteFile
from brainalign.datasets.archive_dataset import ArchiveDataset, Run
from brainalign.datasets.meg_masc_words import CONDITIONS, read_events, read_text, words_of_sound
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.files import digest_of
from brainalign.reading.channel_tables import read_channels
from brainalign.reading.clocks import fit_clock
from brainalign.reading.recording_files import open_recording
from brainalign.reading.sensors import Sensors, open_sensors
from brainalign.reading.signals import Signals
from brainalign.types import Recording, Stimulus

__all__ = ["MegMasc"]

Condition = Literal["sentence", "word_list", "pseudo_words"]
# The sound's start, and the last word found: others that the aligner missed may follow, and the next sound begins 4.6
# seconds later at the earliest.
BEFORE_S, AFTER_S = 1.0, 4.0
# The first line of OSF's tables of events, which NEMAR has for the subjects from 12 on.
OSF_COLUMNS = ["onset", "duration", "trial_type", "value", "sample"]


class MegMasc(ArchiveDataset):
    """MEG-MASC: four stories in 30 sound files of three minutes, heard once or twice by each of 27 subjects.

    Parameters
    ----------
    root : Path, optional
        A copy of NEMAR's nm000229, or of OSF's (nodes ag3kj, h2tzn, u5327 and dr4wy in one folder); what it lacks is
        fetched from NEMAR.
    subjects : tuple of str, optional
        "01" to "27"; all by default.
    stimuli : tuple of str, optional
        Sound files: "lw1_0" to "lw1_3", "cable_spool_fort_0" to "_5", "easy_money_0" to "_7", "the_black_willow_0" to
        "_11"; all by default.
    sessions : tuple of str, optional
        "0" and "1", which are of the same sounds; both by default. Five subjects have only the first.
    conditions : tuple of str
        Which words: those of a "sentence", of a "word_list", "pseudo_words".
    signals : Signals
        What is done to the recordings, see `Signals`. ``noise: [reference_channels]`` takes out what the 16 reference
        sensors of this system measure of the room; by default nothing is done.
    sound : bool
        Whether stimuli come with their sound.

    Raises
    ------
    RecipeError
        If there is no such subject, sound, session or condition.

    Notes
    -----
    *Sounds and stories.* A stimulus is a sound file, and a model reads each from its own beginning. Both sessions of a
    subject are recordings of the same stimuli, which splits hold out together. Which story a recording is of the
    events tell (column ``story``); the number of the task agrees with it in all that could be read.

    *Lists and pseudo-words.* Between sentences the subjects heard lists of words in random order, and in sentences
    pseudo-words (some eight in each sound). By default neither is a word of the stimulus: a model reads the story as it
    was written, without what was put into it, and nothing is fitted to the responses to that. The first words after a
    list were heard in another context than the model's. With all three conditions a model reads all that was heard.

    *Words and times.* Events have only the words that the aligner found (gentle): of 10,288 spoken, 8,561. So the text
    is taken from ``stimuli/text_with_wordlists``, with case and punctuation, and matched with the events; the others
    get times between their neighbours' (finding ``untimed-words``), some of them whole sentences, whose times are
    rough. The condition of those is not told: what stands in the story as written (``stimuli/text``) is of a sentence;
    of the words whose condition is known, 99.8 % would be told so. Punctuation in the archive stands between blanks,
    and quotation marks are lost; dashes read "stock - still", and some are question marks. Sentences end at ".", "!" or
    "?".

    *Clocks.* Words are where the sound began (which was recorded) plus their time in the sound file, exactly so in all
    168 tables that could be read; so a drift within a sound cannot be seen, and whatever the fit finds is told.

    *Quirks.* NEMAR's copy has columns for the keys of OSF's dictionary, but only for the subjects 01 to 11: the others'
    tables are OSF's. Both are read. Tables of events in the user's own copy that have OSF's columns are taken as they
    are, as their checksums are not known. "The_Black_Willow" of the events is "the_black_willow" of the files.

    Places of sensors are of the helmet; marker coils and head shape are read where they are there.

    Examples
    --------
    >>> data = MegMasc(subjects=("03",), stimuli=("lw1_0", "lw1_1"))
    >>> data.files()[:2]
    ['sub-03/ses-0/meg/sub-03_ses-0_task-0_meg.con', 'sub-03/ses-0/meg/sub-03_ses-0_task-0_events.tsv']
    """

    def __init__(
        self,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        stimuli: tuple[str, ...] | None = None,
        sessions: tuple[str, ...] | None = None,
        conditions: tuple[Condition, ...] = ("sentence",),
        signals: Signals = Signals(),  # noqa: B008  (frozen)
        sound: bool = False,
    ) -> None:
        for name, values, known in (("condition", conditions, CONDITIONS), ("session", sessions or (), ("0", "1"))):
            if wrong := [value for value in values if value not in known]:
                raise RecipeError(f"meg_masc has no {name} '{wrong[0]}'. {nearest(wrong[0], known)}")
        self.sessions = sessions or ("0", "1")
        self.conditions = conditions
        self.signals = signals
        # Sounds of a session share their recording and its table of events, of which the last are kept.
        self._last_events: dict[Path, pd.DataFrame] = {}
        self._last_opened: dict[tuple[Path, ...], Sensors] = {}
        super().__init__("meg_masc", root, subjects, stimuli, sound)
        self.archive = _Copy(self.name, root)

    def all_runs(self) -> Sequence[Run]:
        """A run for each subject, session and sound."""
        runs = []
        for path in self.archive.matching(r"(sub-\d+)/(ses-\d)/meg/\1_\2_task-\d_meg\.con"):
            subject, session, task = (part.split("-")[1] for part in Path(path).name.split("_")[:3])
            if session in self.sessions and task in self._facts["stories"]:
                story, n_sounds = self._facts["stories"][task]
                for number in range(n_sounds):
                    name = f"{story}_{number}"
                    runs.append(Run(subject, f"{name} ses-{session}", name, (path,), self._beside(path), session))
        return runs

    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The text of the sound, the story as written, and one of the tables of events, which all tell the same."""
        story, number = stimulus.rsplit("_", 1)
        events = next(run.sidecars[0] for run in self._chosen_runs if run.stimulus == stimulus)
        return (
            self._named(f"stimuli/text_with_wordlists/{story}_produced_{number}.txt"),
            self._named(f"stimuli/text/{story}.txt"),
            events,
        )

    def sound_files(self, stimulus: str) -> tuple[str, ...]:
        """The sound."""
        return (self._named(f"stimuli/audio/{stimulus}.wav"),)

    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The words of a sound, their times counted from its start."""
        text, story, events = map(self.archive.place, self.words_files(stimulus))
        words, findings = words_of_sound(
            read_text(text), read_text(story), self._heard(events, stimulus), self.conditions, f"stimulus {stimulus}"
        )
        return Stimulus(stimulus, words, findings=findings)

    def read_run(self, run: Run) -> Recording:
        """The stretch of a recording in which a sound was heard."""
        heard = self._heard(self.archive.place(run.sidecars[0]), run.stimulus)
        sensors = self._opened(tuple(map(self.archive.place, (*run.responses, *run.sidecars[1:]))))
        fit = fit_clock(np.asarray(heard["start"], dtype=float), np.asarray(heard["onset"], dtype=float), str(run))
        start_s = max(0.0, fit.offset_s - BEFORE_S)
        stop_s = float((heard["onset"] + heard["duration"]).max()) + AFTER_S
        clock = sensors.cropped_clock(start_s)
        content = {
            "files": self.archive.digest((*run.responses, *run.sidecars[1:])),
            "signals": asdict(self.signals),
            "span": [start_s, stop_s],
            "clock": [fit.offset_s, fit.rate],
        }
        return Recording(
            subject=run.subject,
            run=run.run,
            stimulus=run.stimulus,
            modality="meg",
            clock=fit.clock(clock.step_s, clock.start_s),
            offset_s=fit.stimulus_start_s,
            targets=sensors.targets,
            read=partial(sensors.read, start_s, stop_s),
            digest=digest_of(content),
            space=sensors.space,
            steps=sensors.steps,
            findings=(*sensors.findings, *fit.findings(str(run))),
        )

    def _heard(self, path: Path, stimulus: str) -> pd.DataFrame:
        """The words of a sound that a table of events has."""
        if path not in self._last_events:
            self._last_events = {path: read_events(path)}
        events = self._last_events[path]
        names = events["story"] + "_" + events["sound"].astype(str)
        if not (names == stimulus).any():
            raise DataError(f"{path}: no words of the sound '{stimulus}'. {nearest(stimulus, set(names))}")
        return events[names == stimulus].reset_index(drop=True)

    def _opened(self, places: tuple[Path, ...]) -> Sensors:
        """The sensors of a recording, given its files."""
        if places not in self._last_opened:
            self._last_opened = {places: _open(places, self.signals)}
        return self._last_opened[places]

    def _beside(self, path: str) -> tuple[str, ...]:
        """The events of a recording, and of its channels, markers and digitised points those that there are."""
        stem = path.removesuffix("_meg.con")
        session = stem.rsplit("_", 1)[0]
        others = (f"{stem}_channels.tsv", f"{stem}_markers.mrk", *(
            f"{session}_acq-{kind}_headshape.pos" for kind in ("ELP", "HSP")
        ))  # fmt: skip
        return (f"{stem}_events.tsv", *(other for other in others if other in self._known))

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.archive.paths)

    @cached_property
    def _by_name(self) -> Mapping[str, str]:
        return {path.lower(): path for path in self._known if path.startswith("stimuli/")}

    def _named(self, path: str) -> str:
        """The archive's path that is this but for capitals."""
        return self._by_name.get(path, path)


class _Copy(Archive):
    """NEMAR's files, or OSF's in their place: of these, tables of events differ, and their checksums are not known."""

    @cached_property
    def table(self) -> Mapping[str, RemoteFile]:
        """The files that NEMAR has, but for the user's own tables of events of OSF's form."""
        return {path: file for path, file in super().table.items() if not self._is_of_osf(path)}

    def _is_of_osf(self, path: str) -> bool:
        if self.root is None or not path.endswith("_events.tsv") or not (self.root / path).is_file():
            return False
        with (self.root / path).open("rb") as stream:
            return stream.readline(200).decode("utf-8-sig", "replace").strip().split("\t") == OSF_COLUMNS


def _open(places: tuple[Path, ...], signals: Signals) -> Sensors:
    recording, *others = places
    by_kind = {path.name.removesuffix(path.suffix).rsplit("_", 1)[1]: path for path in others if path.suffix != ".pos"}
    points = {kind: path for path in others for kind in ("ELP", "HSP") if f"acq-{kind}_" in path.name}
    # The places of the coils on the head mean nothing without those in the helmet, nor the reverse.
    coils = {}
    if "markers" in by_kind and len(points) == 2:
        coils = {"markers": (by_kind["markers"],), "digitized": points["ELP"], "head_shape": points["HSP"]}
    bads = tuple(read_channels(by_kind["channels"]).bads) if "channels" in by_kind else ()
    opener = partial(open_recording, recording, **coils)
    return open_sensors(opener, signals, "meg", recording.name.removesuffix("_meg.con"), bad_channels=bads)
