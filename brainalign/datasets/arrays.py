"""Anyone's own data: a table of words for each stimulus, an array of responses for each subject and run."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import ConfigDict, Discriminator, Tag

from brainalign.archives.local_files import require_file
from brainalign.datasets.checks import looks_like_milliseconds, response_end_s
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.files import digest_of, sha256_of_file
from brainalign.manifests import read_manifest
from brainalign.reading.aligned_words import untimed_words
from brainalign.reading.array_files import array_shape, read_array
from brainalign.reading.sounds import read_sound
from brainalign.reading.tables import read_table
from brainalign.reading.words import read_words
from brainalign.types import Clock, Dataset, Finding, Floats, Modality, Recording, Stimulus

__all__ = ["Arrays", "Response", "ResponseTemplate", "Space"]

# No scanner is so slow; such a number is one of milliseconds.
LONGEST_TR_S = 20.0
# How far from the origin the farthest of a head's places may lie.
SMALLEST_HEAD_M, LARGEST_HEAD_M = 0.005, 0.5
# What a template fills in.
FIELDS = ("subject", "stimulus")


@dataclass(frozen=True)
class Response:
    """Where one subject's response to one stimulus lies, and its clock.

    Parameters
    ----------
    subject : str
        Whose it is.
    path : Path
        A ``.npy``, ``.npz``, ``.h5``, ``.hdf5``, ``.hf5`` or ``.mat`` file with an array (time, target).
    stimulus : str, optional
        What was heard; may be left out where there is one stimulus.
    run : str, optional
        Which recording of the subject's; the stimulus by default.
    key : str, optional
        The array's name in an npz, HDF5 or mat file that holds several.
    rate_hz, tr_s : float
        Rows per second, or seconds per row: one of them.
    t0_s : float
        Seconds of the recording at which the first row is.
    offset_s : float
        Seconds of the recording at which the stimulus starts.
    confounds : Path, optional
        A csv, tsv, parquet or npy file with what is to be regressed out, one row per row of the response.
    targets : Path, optional
        A csv, tsv or parquet file with one row per column of the response: ``name``, and optionally ``x``, ``y``,
        ``z``, ``kind`` and others.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    subject: str
    path: Path
    stimulus: str | None = None
    run: str | None = None
    key: str | None = None
    rate_hz: float | None = None
    tr_s: float | None = None
    t0_s: float = 0.0
    offset_s: float = 0.0
    confounds: Path | None = None
    targets: Path | None = None


@dataclass(frozen=True)
class ResponseTemplate:
    """The same for all subjects and stimuli: ``{subject}`` and ``{stimulus}`` stand for their names.

    Parameters
    ----------
    path : str
        As in `Response`, such as ``data/{subject}_{stimulus}.npy``. A file that is missing is a run that the subject
        does not have, which `Arrays.findings` tells.
    subjects : tuple of str
        The subjects.
    key, confounds, targets : str, optional
        As in `Response`, with the names filled in likewise.
    rate_hz, tr_s, t0_s, offset_s
        As in `Response`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    path: str
    subjects: tuple[str, ...]
    key: str | None = None
    rate_hz: float | None = None
    tr_s: float | None = None
    t0_s: float = 0.0
    offset_s: float = 0.0
    confounds: str | None = None
    targets: str | None = None


@dataclass(frozen=True)
class Space:
    """What the places of the targets (``x``, ``y``, ``z`` in their table) are in, so that scores are drawn there.

    Parameters
    ----------
    kind : {"parcels", "electrodes", "sensors"}
        Means over parts of the brain, electrodes in or on it, or sensors and electrodes around the head.
    unit : {"mm", "m"}
        Of the places.
    template : str, optional
        The standard brain of parcels and electrodes: "MNI152NLin2009cAsym". Without it they are not drawn.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    kind: Literal["parcels", "electrodes", "sensors"]
    unit: Literal["mm", "m"] = "mm"
    template: str | None = None


def _form_of(responses: object) -> str:
    return "a template" if isinstance(responses, Mapping | ResponseTemplate) else "a list"


# Told apart by hand, so that a mistake in one form is not met by a list of what is missing from the other.
Responses = Annotated[
    Annotated[tuple[Response, ...], Tag("a list")] | Annotated[ResponseTemplate, Tag("a template")],
    Discriminator(_form_of),
]


class Arrays(Dataset):
    r"""Responses and words of one's own, named in the recipe.

    Parameters
    ----------
    words : Path or mapping of str to Path
        The words of each stimulus by its id; a single path is one stimulus, named as the file. See `read_words`.
    responses : sequence of Response, or ResponseTemplate
        The responses.
    modality : {"fmri", "meg", "eeg", "ecog"}
        What was recorded.
    root : Path, optional
        What relative paths are relative to; the working folder by default.
    subjects : tuple of str, optional
        Which subjects; all by default.
    language : str
        ISO 639-1 code of the stimuli.
    columns : mapping of str to str, optional
        What the tables of words call ``onset``, ``duration``, ``text`` ..., see `read_words`.
    audio : mapping of str to Path, optional
        The sound of each stimulus by its id, wav, starting with the stimulus.
    space : Space, optional
        What the places in the tables of targets are in.

    Raises
    ------
    RecipeError
        If the settings contradict each other; nothing is read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "story.csv").write_text("onset,duration,text\n0.5,0.4,Once\n0.9,0.6,upon\n")
    ...     np.save(Path(folder) / "bold.npy", np.random.default_rng(0).normal(size=(10, 3)))
    ...     mine = Arrays(
    ...         words=Path("story.csv"),
    ...         responses=[Response("s1", Path("bold.npy"), tr_s=2.0)],
    ...         modality="fmri",
    ...         root=Path(folder),
    ...     )
    ...     mine.recordings()[0].response().shape
    (10, 3)
    """

    name = "arrays"

    def __init__(
        self,
        words: Path | Mapping[str, Path],
        responses: Responses,
        modality: Modality,
        root: Path | None = None,
        subjects: tuple[str, ...] | None = None,
        language: str = "en",
        columns: Mapping[str, str] | None = None,
        audio: Mapping[str, Path] | None = None,
        space: Space | None = None,
    ) -> None:
        manifest = read_manifest("arrays")
        self.title = manifest.title
        self.citation = manifest.citation
        self.licence = manifest.licence
        self.modality = modality
        self.root = Path() if root is None else root
        self.language = language
        self.columns = columns
        self.space = {} if space is None else {key: value for key, value in asdict(space).items() if value}
        self.words = dict(words) if isinstance(words, Mapping) else {Path(words).stem: Path(words)}
        self.audio = dict(audio or {})
        self._is_template = isinstance(responses, ResponseTemplate)
        entries = _filled(responses, list(self.words)) if isinstance(responses, ResponseTemplate) else responses
        known = list(dict.fromkeys(entry.subject for entry in entries))
        self._subjects = _chosen(subjects, known, "subject")
        self._entries = [self._checked(entry) for entry in entries if entry.subject in self._subjects]
        _chosen(list(self.audio), list(self.words), "stimulus")
        self._check_runs()

    @property
    def subjects(self) -> tuple[str, ...]:
        """The subjects chosen, in the order of the responses."""
        return self._subjects

    @cached_property
    def stimuli(self) -> Mapping[str, Stimulus]:
        """The stimuli by id."""
        return {name: self._read_stimulus(name) for name in self.words}

    def recordings(
        self, subjects: Sequence[str] | None = None, stimuli: Sequence[str] | None = None
    ) -> list[Recording]:
        """The recordings of these subjects and stimuli; reads the words, and the files once for their digests.

        Raises
        ------
        DataError
            If a file is missing or cannot be what it should be, or a word begins after the response has ended.
        """
        chosen = _chosen(subjects, self.subjects, "subject")
        wanted = _chosen(stimuli, list(self.words), "stimulus")
        # Several recordings may lie in one large file.
        digest_of_file = cache(sha256_of_file)
        return [
            self._recording(entry, digest_of_file)
            for entry in self._present
            if entry.subject in chosen and entry.stimulus in wanted
        ]

    def fetch(self, subjects: Sequence[str] | None = None) -> list[Finding]:
        """Check that the files of these subjects are there: they are the user's, and nothing is downloaded."""
        chosen = _chosen(subjects, self.subjects, "subject")
        for entry in self._present:
            if entry.subject in chosen:
                for path in (entry.path, entry.confounds, entry.targets):
                    if path is not None:
                        require_file(path)
        for path in (*self.words.values(), *self.audio.values()):
            require_file(self.root / path)
        return []

    @property
    def findings(self) -> list[Finding]:
        """Which subject lacks which stimulus."""
        heard = {(entry.subject, entry.stimulus) for entry in self._present}
        findings = []
        for subject in self.subjects:
            lacking = [name for name in self.words if (subject, name) not in heard]
            if lacking:
                message = f"no recording of {len(lacking)} of {len(self.words)} stimuli: {', '.join(lacking)}."
                findings.append(Finding("missing-run", f"subject {subject}", message))
        return findings

    @property
    def _present(self) -> list[Response]:
        """The entries; of those that a template made, the ones that have a file."""
        if not self._is_template:
            return self._entries
        # A link to nothing is a file that was not downloaded, not a run that was never recorded.
        present = [entry for entry in self._entries if entry.path.exists() or entry.path.is_symlink()]
        for subject in self.subjects:
            if not any(entry.subject == subject for entry in present):
                first = next(entry.path for entry in self._entries if entry.subject == subject)
                raise DataError(
                    f"subject {subject}: there is none of the files that `responses` names, such as {first}"
                )
        return present

    def _checked(self, entry: Response) -> Response:
        """The entry with its stimulus and run named and its paths absolute."""
        where = f"responses: subject {entry.subject}"
        if entry.stimulus is None and len(self.words) > 1:
            raise RecipeError(f"{where}: name the stimulus. {nearest('', self.words)}")
        stimulus = next(iter(self.words)) if entry.stimulus is None else entry.stimulus
        if stimulus not in self.words:
            raise RecipeError(f"{where}: no words for the stimulus '{stimulus}'. {nearest(stimulus, self.words)}")
        if (entry.rate_hz is None) == (entry.tr_s is None):
            raise RecipeError(f"{where}: give one of tr_s (seconds per row) and rate_hz (rows per second).")
        if entry.tr_s is not None and entry.tr_s > LONGEST_TR_S:
            raise RecipeError(f"{where}: tr_s is in seconds; {entry.tr_s:g} looks like milliseconds.")
        _clock(entry)
        return replace(
            entry,
            stimulus=stimulus,
            run=stimulus if entry.run is None else entry.run,
            path=self.root / entry.path,
            confounds=None if entry.confounds is None else self.root / entry.confounds,
            targets=None if entry.targets is None else self.root / entry.targets,
        )

    def _check_runs(self) -> None:
        seen: dict[tuple[str, str | None], Path] = {}
        for entry in self._entries:
            other = seen.setdefault((entry.subject, entry.run), entry.path)
            if other is not entry.path:
                raise RecipeError(
                    f"responses: subject {entry.subject}, run {entry.run} has two files: {other}, {entry.path}.\n"
                    "Where a stimulus was heard twice, name the runs."
                )

    def _read_stimulus(self, name: str) -> Stimulus:
        words = read_words(self.root / self.words[name], columns=self.columns)
        audio = read_sound(self.root / self.audio[name]) if name in self.audio else None
        return Stimulus(name, words, audio, self.language, untimed_words(words, f"stimulus {name}"))

    def _recording(self, entry: Response, digest_of_file: Callable[[Path], str]) -> Recording:
        n_rows, n_targets = array_shape(entry.path, entry.key)
        # A file counts by what is in it, wherever it lies.
        content = {
            name: digest_of_file(require_file(value)) if isinstance(value, Path) else value
            for name, value in asdict(entry).items()
        }
        recording = Recording(
            subject=entry.subject,
            run=str(entry.run),
            stimulus=str(entry.stimulus),
            modality=self.modality,
            clock=_clock(entry),
            offset_s=entry.offset_s,
            targets=_read_targets(entry.targets, n_targets, n_rows, self.space),
            read=partial(read_array, entry.path, entry.key),
            digest=digest_of(content),
            read_confounds=None if entry.confounds is None else partial(_read_confounds, entry.confounds, n_rows),
            space=self.space,
        )
        _check_words_fit(recording, n_rows, self.stimuli[recording.stimulus], self.words[recording.stimulus])
        return recording


def _filled(template: ResponseTemplate, stimuli: Sequence[str]) -> list[Response]:
    """One entry for each subject and stimulus."""

    def fill(text: str, subject: str, stimulus: str) -> str:
        return text.replace("{subject}", subject).replace("{stimulus}", stimulus)

    for text in (template.path, template.key or "", template.confounds or "", template.targets or ""):
        _check_fields(text)
    return [
        Response(
            subject=subject,
            stimulus=stimulus,
            path=Path(fill(template.path, subject, stimulus)),
            key=None if template.key is None else fill(template.key, subject, stimulus),
            rate_hz=template.rate_hz,
            tr_s=template.tr_s,
            t0_s=template.t0_s,
            offset_s=template.offset_s,
            confounds=None if template.confounds is None else Path(fill(template.confounds, subject, stimulus)),
            targets=None if template.targets is None else Path(fill(template.targets, subject, stimulus)),
        )
        for subject in template.subjects
        for stimulus in stimuli
    ]


def _check_fields(text: str) -> None:
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(text) if field is not None]
    except ValueError as error:
        raise RecipeError(f"responses: {text!r}: {error}.") from error
    for field in fields:
        if field not in FIELDS:
            raise RecipeError(f"responses: {text!r}: '{{{field}}}' is not filled in. {nearest(field, FIELDS)}")


def _chosen(chosen: Sequence[str] | None, known: Sequence[str], what: str) -> tuple[str, ...]:
    """`chosen` in the order of `known`, or all of these."""
    for name in chosen or ():
        if name not in known:
            raise RecipeError(f"The data have no {what} '{name}'. {nearest(name, known)}")
    return tuple(known) if chosen is None else tuple(name for name in known if name in chosen)


def _clock(entry: Response) -> Clock:
    return Clock(step_s=1.0 / entry.rate_hz if entry.rate_hz else entry.tr_s or 0.0, start_s=entry.t0_s)


def _read_targets(path: Path | None, n_targets: int, n_rows: int, space: Mapping[str, str]) -> pd.DataFrame:
    if path is None and space:
        raise DataError(
            "space: it says what the places of the targets are in; give these as `targets` of the responses."
        )
    if path is None:
        return pd.DataFrame({"name": [f"target {i + 1}" for i in range(n_targets)], "kind": "target"})
    table = read_table(path)
    if len(table) != n_targets:
        raise DataError(
            f"{path}: {len(table)} rows for a response of {n_targets} columns; expected one row for each."
            + (" Is the response transposed? It must be time x target." if len(table) == n_rows else "")
        )
    names = table.texts("name")
    if space and not {"x", "y", "z"} <= set(table.columns):
        raise DataError(f"{path}: with `space`, the columns x, y and z are needed; found {', '.join(table.columns)}.")
    twice = [name for name, count in pd.Series(names).value_counts().items() if count > 1 or not name]
    if twice:
        raise DataError(f"{path}: the name {twice[0]!r} is empty or there twice; names tell targets apart.")
    numbers = [axis for axis in ("x", "y", "z") if axis in table.columns]
    others = [column for column in table.columns if column not in ("name", *numbers)]
    values: dict[str, Any] = {
        **{column: table.texts(column) for column in others},
        **{column: table.numbers(column) for column in numbers},
    }
    targets = pd.DataFrame({"name": names, "kind": "target", **values})
    if space:
        _check_unit(targets, space["unit"], path)
    return targets


def _check_unit(targets: pd.DataFrame, unit: str, path: Path) -> None:
    """Raise where places cannot be of a head."""
    farthest = float(targets[["x", "y", "z"]].abs().to_numpy().max())
    if not SMALLEST_HEAD_M <= farthest * {"m": 1.0, "mm": 1e-3}[unit] <= LARGEST_HEAD_M:
        raise DataError(
            f"{path}: the farthest place is {farthest:g} {unit} from the middle of the head; is that the unit?"
        )


def _read_confounds(path: Path, n_rows: int) -> pd.DataFrame:
    if path.suffix.lower() in (".npy", ".npz"):
        values = read_array(path)
        confounds = pd.DataFrame(values, columns=[f"confound {i + 1}" for i in range(values.shape[1])])
    else:
        table = read_table(path)
        confounds = pd.DataFrame({column: table.numbers(column) for column in table.columns})
    if len(confounds) != n_rows:
        raise DataError(f"{path}: {len(confounds)} rows for a response of {n_rows}; expected one row for each.")
    return confounds


def _check_words_fit(recording: Recording, n_rows: int, stimulus: Stimulus, path: Path) -> None:
    """Raise where words begin after the response has ended: a wrong unit, clock or file."""
    onset_s: Floats = np.asarray(stimulus.words["onset"], dtype=float)
    end_s = response_end_s(recording, n_rows)
    if looks_like_milliseconds(onset_s, end_s):
        raise DataError(
            f"{path}: the onsets look like milliseconds: the last is {onset_s[-1]:g}, and the response of {recording} "
            f"ends at {end_s:g} s.\nWrite onsets and durations in seconds."
        )
    past = np.flatnonzero(onset_s >= end_s)
    if len(past):
        word = stimulus.words.iloc[past[0]]
        raise DataError(
            f"{path}: {len(past)} of {len(onset_s)} words begin after the response of {recording} has ended, "
            f"at {end_s:g} s of the stimulus; the first is '{word['text']}' at {word['onset']:g} s.\n"
            "Look at tr_s or rate_hz, t0_s and offset_s, or remove these words"
            + ("; or is the array transposed? It must be time x target." if n_rows < len(recording.targets) else ".")
        )
