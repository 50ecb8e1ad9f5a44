"""What the public datasets have in common: runs known by their files' names, fetched and read when asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from brainalign.archives.archive import Archive
from brainalign.datasets.common_targets import with_common_targets
from brainalign.errors import RecipeError, nearest
from brainalign.reading.sounds import read_sound
from brainalign.types import Dataset, Finding, Recording, Stimulus

__all__ = ["ArchiveDataset", "Kind", "Run", "chosen_of"]

# Which files to bring: of the responses, of the words and their times, of the sound.
KINDS = ("responses", "words", "sound")
Kind = str


@dataclass(frozen=True)
class Run:
    """What the names of an archive's files tell of a recording.

    Parameters
    ----------
    subject, run, stimulus : str
        As those of `Recording`.
    responses : tuple of str
        Paths of the files that hold the response.
    sidecars : tuple of str
        Paths of what is needed to read it: events, channels, confounds, masks.
    session : str
        The session, where there are several.
    """

    subject: str
    run: str
    stimulus: str
    responses: tuple[str, ...]
    sidecars: tuple[str, ...] = ()
    session: str = ""

    def __str__(self) -> str:
        return f"subject {self.subject}, run {self.run}"


class ArchiveDataset(Dataset):
    """A dataset of a public archive; a subclass says which files are a run and how they are read.

    Parameters
    ----------
    name : str
        Of its manifest.
    root : Path, optional
        The user's own copy, see `Archive`.
    subjects, stimuli : sequence of str, optional
        Which; all by default.
    sound : bool
        Whether stimuli come with their sound, which is then fetched too: for the baseline ``sound_envelope`` and for
        models of speech.

    Raises
    ------
    RecipeError
        If there is no such subject or stimulus. Where only the archive or the user's folder can tell, when first
        asked for.
    """

    def __init__(
        self,
        name: str,
        root: Path | None = None,
        subjects: Sequence[str] | None = None,
        stimuli: Sequence[str] | None = None,
        sound: bool = False,
    ) -> None:
        self.name = name
        self.sound = sound
        self.archive = Archive(name, root)
        manifest = self.archive.manifest
        self.title = manifest.title
        self.citation = manifest.citation
        self.licence = manifest.licence
        self.modality = manifest.modality[0]
        self.rows = manifest.rows
        self._facts = manifest.facts
        self._wanted_subjects = subjects
        self._wanted_stimuli = stimuli
        if self.archive.root is None and manifest.files is not None:
            # What can be known without asking anyone is told at once.
            self._chosen_runs  # noqa: B018

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    # What a subclass says

    @abstractmethod
    def all_runs(self) -> Sequence[Run]:
        """Every run of the archive, subject by subject, from the names of its files (`self.archive`) alone."""

    @abstractmethod
    def words_files(self, stimulus: str) -> tuple[str, ...]:
        """The paths of the files that `read_stimulus` needs."""

    @abstractmethod
    def read_stimulus(self, stimulus: str) -> Stimulus:
        """The stimulus, whose files are here."""

    @abstractmethod
    def read_run(self, run: Run) -> Recording:
        """The recording of a run whose files are here; its response is not read yet."""

    def note_files(self) -> tuple[str, ...]:
        """Licences and the like, which are fetched along with the words, and not needed to read them."""
        return ()

    def sound_files(self, stimulus: str) -> tuple[str, ...]:
        """The path of the stimulus's sound, which is fetched only where it is asked for; none where there is none."""
        return ()

    def sound_start_s(self, stimulus: str) -> float:
        """Seconds of the sound file at which the stimulus starts."""
        return 0.0

    # What they have in common

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects chosen, in the archive's order."""
        return tuple(dict.fromkeys(run.subject for run in self._chosen_runs))

    @cached_property
    def stimuli(self) -> Mapping[str, Stimulus]:
        """The stimuli that the subjects chosen met, by id; each is fetched and read when first asked for."""
        return _Lazily(self, tuple(dict.fromkeys(run.stimulus for run in self._chosen_runs)))

    def recordings(
        self, subjects: Sequence[str] | None = None, stimuli: Sequence[str] | None = None
    ) -> list[Recording]:
        """The recordings of these subjects and stimuli; fetches their files where needed."""
        runs = self._runs_of(subjects, stimuli)
        self.archive.fetch(self._files_of(runs, ("responses",)))
        return with_common_targets([self.read_run(run) for run in runs])

    def files(
        self,
        subjects: Sequence[str] | None = None,
        stimuli: Sequence[str] | None = None,
        sessions: Sequence[str] | None = None,
        kinds: Sequence[Kind] = ("responses", "words"),
    ) -> list[str]:
        """The paths of the archive's files that `fetch` would see to."""
        for kind in kinds:
            if kind not in KINDS:
                raise RecipeError(f"There is no kind of files '{kind}'. {nearest(kind, KINDS)}")
        notes = self.note_files() if "words" in kinds else ()
        return [*self._files_of(self._runs_of(subjects, stimuli, sessions), kinds), *notes]

    def fetch(
        self,
        subjects: Sequence[str] | None = None,
        stimuli: Sequence[str] | None = None,
        sessions: Sequence[str] | None = None,
        kinds: Sequence[Kind] = ("responses", "words"),
    ) -> list[Finding]:
        """Download and verify the files of these subjects, stimuli, sessions and kinds."""
        return self.archive.fetch(self.files(subjects, stimuli, sessions, kinds))

    def load_stimulus(self, name: str) -> Stimulus:
        """Fetch and read a stimulus, with its sound where that was asked for."""
        sounds = self.sound_files(name) if self.sound else ()
        self.archive.fetch((*self.words_files(name), *sounds))
        stimulus = self.read_stimulus(name)
        if not sounds:
            return stimulus
        return replace(stimulus, audio=read_sound(self.archive.place(sounds[0]), self.sound_start_s(name)))

    @cached_property
    def _chosen_runs(self) -> tuple[Run, ...]:
        runs = self.all_runs()
        subjects = chosen_of(self._wanted_subjects, dict.fromkeys(run.subject for run in runs), self.name, "subject")
        runs = [run for run in runs if run.subject in subjects]
        stimuli = chosen_of(self._wanted_stimuli, dict.fromkeys(run.stimulus for run in runs), self.name, "stimulus")
        return tuple(run for run in runs if run.stimulus in stimuli)

    def _runs_of(
        self,
        subjects: Sequence[str] | None,
        stimuli: Sequence[str] | None,
        sessions: Sequence[str] | None = None,
    ) -> list[Run]:
        runs = self._chosen_runs
        for wanted, what in ((subjects, "subject"), (stimuli, "stimulus"), (sessions, "session")):
            names = chosen_of(wanted, dict.fromkeys(getattr(run, what) for run in runs), self.name, what)
            runs = tuple(run for run in runs if getattr(run, what) in names)
        return list(runs)

    def _files_of(self, runs: Sequence[Run], kinds: Sequence[Kind]) -> list[str]:
        paths: list[str] = []
        stimuli = dict.fromkeys(run.stimulus for run in runs)
        if "responses" in kinds:
            paths += [path for run in runs for path in (*run.responses, *run.sidecars)]
        if "words" in kinds:
            paths += [path for stimulus in stimuli for path in self.words_files(stimulus)]
        if "sound" in kinds:
            paths += [path for stimulus in stimuli for path in self.sound_files(stimulus)]
        return list(dict.fromkeys(paths))


def chosen_of(chosen: Sequence[str] | None, known: Mapping[str, object], dataset: str, what: str) -> tuple[str, ...]:
    """`chosen` in the order of `known`, or all of these.

    Raises
    ------
    RecipeError
        If one is not known, with the nearest that is.

    Examples
    --------
    >>> chosen_of(["b", "a"], {"a": 0, "b": 0, "c": 0}, "mine", "subject")
    ('a', 'b')
    """
    for name in chosen or ():
        if name not in known:
            raise RecipeError(f"{dataset} has no {what} '{name}'. {nearest(name, known)}")
    return tuple(known) if chosen is None else tuple(name for name in known if name in chosen)


class _Lazily(Mapping[str, Stimulus]):
    """The stimuli of a dataset, each read when first asked for."""

    def __init__(self, data: ArchiveDataset, names: tuple[str, ...]) -> None:
        self._data = data
        self._names = names
        self._read: dict[str, Stimulus] = {}

    def __getitem__(self, name: str) -> Stimulus:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._read:
            self._read[name] = self._data.load_stimulus(name)
        return self._read[name]

    def __repr__(self) -> str:
        return f"<stimuli of {self._data.name}: {', '.join(self._names)}>"

    def __contains__(self, name: object) -> bool:
        # Mapping's own would read the stimulus.
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
