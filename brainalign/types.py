"""The nouns that the stages hand to each other; see each class.

All times are in seconds. A stimulus's times count from its own start, a recording's from its first moment;
`Recording.offset_s` is where the one begins in the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from brainalign.errors import DataError

__all__ = [
    "AlignedRun",
    "Aligner",
    "Audio",
    "Block",
    "Clock",
    "Dataset",
    "Expected",
    "Extractor",
    "FeatureStream",
    "Features",
    "Finding",
    "Floats",
    "Modality",
    "Recording",
    "Scores",
    "Stimulus",
    "StimulusPart",
    "check_words",
]

Floats = NDArray[np.floating]
Modality = Literal["fmri", "meg", "eeg", "ecog"]

WORD_COLUMNS = ("onset", "duration", "text")
# No half of a text's words, or of its sentences, is longer.
LONGEST_WORD_S = 30.0


@dataclass(frozen=True)
class Clock:
    """Evenly spaced moments: row i is at ``start_s + i * step_s`` seconds.

    Parameters
    ----------
    step_s : float
        Seconds between two rows: the TR, or one over the sampling rate.
    start_s : float
        Seconds from the start of the recording to the first row.

    Examples
    --------
    >>> Clock(step_s=2.0, start_s=20.0).times(3)
    array([20., 22., 24.])
    """

    step_s: float
    start_s: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.step_s) and self.step_s > 0 and np.isfinite(self.start_s)):
            raise DataError(
                f"A clock needs a positive step and a finite start, not {self.step_s} s and {self.start_s} s."
            )

    @property
    def sfreq_hz(self) -> float:
        """Rows per second."""
        return 1.0 / self.step_s

    def times(self, n_rows: int) -> Floats:
        """Seconds of the first `n_rows` rows, shape (n_rows,)."""
        return self.start_s + self.step_s * np.arange(n_rows)


@dataclass(frozen=True)
class Audio:
    """Sound: `samples` of shape (n,), mono, at `rate_hz` samples per second."""

    samples: Floats
    rate_hz: float


@dataclass(frozen=True)
class Stimulus:
    """What was heard or read, once, however many subjects heard it.

    Parameters
    ----------
    id : str
        Its name within the dataset.
    words : pandas.DataFrame
        One row per word, in order: ``onset`` and ``duration`` in seconds from the stimulus's start, ``text``, and
        optionally ``sentence`` (an integer that grows).
    audio : Audio, optional
        The sound, starting with the stimulus.
    language : str
        ISO 639-1 code; decides word frequencies and whether words are joined by blanks.
    findings : tuple of Finding
        What the loader corrected or filled in, such as times of words that an aligner had not found.
    story : str, optional
        What it is a version of, where there are several (the same speech in another order): versions are held out
        together. By default it is a story of its own.

    Raises
    ------
    DataError
        If the words are none, unsorted, or have a missing, negative or infinite time.

    Examples
    --------
    >>> import pandas as pd
    >>> words = pd.DataFrame({"onset": [0.0, 0.4], "duration": [0.3, 0.5], "text": ["hello", "world"]})
    >>> Stimulus("greeting", words).duration_s
    0.9
    """

    id: str
    words: pd.DataFrame
    audio: Audio | None = None
    language: str = "en"
    findings: tuple[Finding, ...] = ()
    story: str | None = None

    def __post_init__(self) -> None:
        check_words(self.words, f"stimulus '{self.id}'")

    @property
    def duration_s(self) -> float:
        """Seconds from the start to the end of the last word."""
        return float((self.words["onset"] + self.words["duration"]).max())


def check_words(words: pd.DataFrame, where: str, row_names: Sequence[str] | None = None) -> None:
    """Raise a DataError that names the first row of `words` that cannot be right.

    Parameters
    ----------
    words : pandas.DataFrame
        Columns ``onset``, ``duration``, ``text``.
    where : str
        The file or stimulus, for the message.
    row_names : sequence of str, optional
        What to call each row; "word 1", "word 2" ... by default.
    """
    missing = [column for column in WORD_COLUMNS if column not in words]
    if missing:
        raise DataError(
            f"{where}: no column {', '.join(map(repr, missing))}; found {', '.join(map(str, words.columns))}."
        )
    if len(words) == 0:
        raise DataError(f"{where}: the table of words is empty.")

    def name(row: int) -> str:
        return row_names[row] if row_names is not None else f"word {row + 1}"

    for column in ("onset", "duration"):
        if not pd.api.types.is_numeric_dtype(words[column]) or pd.api.types.is_complex_dtype(words[column]):
            raise DataError(f"{where}: the column '{column}' is {words[column].dtype}, not numbers of seconds.")
    onset = words["onset"].to_numpy(dtype=float, na_value=np.nan)
    duration = words["duration"].to_numpy(dtype=float, na_value=np.nan)
    usual_s = float(np.nanmedian(duration)) if np.isfinite(duration).any() else 0.0
    if usual_s > LONGEST_WORD_S:
        raise DataError(f"{where}: half of the words last longer than {usual_s:g} s; are durations in milliseconds?")
    text = words["text"].astype(str).str.strip().to_numpy()
    for wrong, what in (
        (~np.isfinite(onset), "onset is missing or infinite"),
        (onset < 0, "onset is negative"),
        (~np.isfinite(duration), "duration is missing or infinite"),
        (duration < 0, "duration is negative"),
        (np.r_[False, onset[1:] < onset[:-1]], "onset is before the previous word's; sort the words by onset"),
        (words["text"].isna().to_numpy() | (text == ""), "text is empty"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(f"{where}, {name(row)} ({text[row]!r}, onset {onset[row]:g} s): {what}.")


@dataclass(frozen=True)
class Recording:
    """One subject's response to one stimulus; nothing is read until `response` is called.

    Parameters
    ----------
    subject, run, stimulus : str
        Whose, which, and the id of the stimulus.
    modality : {"fmri", "meg", "eeg", "ecog"}
        Decides the default alignment.
    clock : Clock
        Of the rows of the response, in seconds of the recording.
    offset_s : float
        Seconds of the recording at which the stimulus starts.
    targets : pandas.DataFrame
        One row per column of the response: ``name``, ``kind`` ("region", "voxel", "sensor" ...) and what is known of
        its place (``x``, ``y``, ``z`` in metres or millimetres as the archive gives them, ``voxel``, ``vertex``).
    read : callable
        Gives the response, shape (time, target), float32.
    read_confounds, read_regressors : callable, optional
        Give tables with one row per row of the response: what is to be regressed out (motion), and stimulus
        properties that come on the response's clock, already delayed as the response is (``sound_envelope``).
    digest : str
        Changes whenever the response, its confounds or its regressors do (of the files' checksums and settings).
    space : mapping
        What the places of the targets are in, JSON-able, so that scores can be drawn where they belong: ``kind``
        ("volume", "surface", "parcels", "sensors", "electrodes"), ``unit`` ("mm", "m") of ``x``, ``y``, ``z``,
        ``template`` (a standard brain, "MNI152NLin2009cAsym", "fsaverage6"; none for a subject's own); of a volume
        ``affine`` and ``shape``, of a surface ``n_vertices`` of the left and the right hemisphere.
    steps : tuple of str
        What `read` does to the archive's numbers, in order, in words: "low-pass 40 Hz", "resampled to 100 Hz".
    findings : tuple of Finding
        What the loader corrected or left out: bad channels, a clock that drifts.
    """

    subject: str
    run: str
    stimulus: str
    modality: Modality
    clock: Clock
    offset_s: float
    targets: pd.DataFrame
    read: Callable[[], Floats]
    digest: str
    read_confounds: Callable[[], pd.DataFrame] | None = None
    read_regressors: Callable[[], pd.DataFrame] | None = None
    space: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def __str__(self) -> str:
        return f"subject {self.subject}, run {self.run}"

    def response(self) -> Floats:
        """Read the response, shape (time, target), float32.

        Raises
        ------
        DataError
            If it does not have one column per target, or has no rows.
        """
        given = self.read()
        if isinstance(given, np.ma.MaskedArray) or np.asarray(given).dtype.kind not in "fiub":
            raise DataError(
                f"{self}: the response is {np.asarray(given).dtype} or masked; expected plain real numbers."
            )
        response = np.asarray(given, dtype=np.float32)
        if response.ndim != 2 or response.shape[1] != len(self.targets) or len(response) == 0:
            raise DataError(f"{self}: the response has shape {response.shape}; expected (time, {len(self.targets)}).")
        return response

    def confounds(self) -> pd.DataFrame:
        """Read what is to be regressed out, one row per row of the response; no columns where there is none."""
        return self.read_confounds() if self.read_confounds else pd.DataFrame()

    def regressors(self) -> pd.DataFrame:
        """Read the stimulus properties that come on the response's clock; no columns where there are none."""
        return self.read_regressors() if self.read_regressors else pd.DataFrame()


@dataclass(frozen=True)
class Finding:
    """What a check of the data or of a fit found: a stable `code`, where, what, and what was done about it."""

    code: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class Dataset(ABC):
    """Stimuli, and the recordings of who heard them. Making one reads and downloads nothing.

    `rows` says what a row of a response is: a moment of the recording's clock, or an item of the stimulus (a word, a
    sentence), numbered by a column ``item`` of the words.
    """

    name: str
    title: str
    modality: Modality
    citation: str
    licence: str
    rows: Literal["time", "items"] = "time"

    @property
    @abstractmethod
    def subjects(self) -> tuple[str, ...]:
        """The subjects chosen, in the archive's order."""

    @property
    @abstractmethod
    def stimuli(self) -> Mapping[str, Stimulus]:
        """The stimuli by id; fetched and read when first asked for."""

    @abstractmethod
    def recordings(
        self, subjects: Sequence[str] | None = None, stimuli: Sequence[str] | None = None
    ) -> list[Recording]:
        """The recordings of these subjects and stimuli (all by default); fetches their files where needed."""

    @abstractmethod
    def fetch(self, subjects: Sequence[str] | None = None) -> list[Finding]:
        """Download and verify the files of these subjects; no work where all are there."""

    @property
    def findings(self) -> list[Finding]:
        """What the loader defaulted or left out, by name, beyond what reading the responses shows."""
        return []


@dataclass(frozen=True)
class Features:
    """A stimulus's values in one feature space, layer by layer.

    Parameters
    ----------
    name : str
        The feature space: a model's name, "baseline" ...
    layers : tuple of str
        Names of the layers.
    values : array (layer, sample, dimension), float32
        One sample per word, or per moment of a signal.
    onset_s, duration_s : array (sample,)
        Of each sample, in seconds from the stimulus's start.
    kind : {"word", "signal"}
        Whether samples are words or evenly spaced moments.
    metadata : mapping
        How they were made: context, pooling, causality; JSON-able.
    """

    name: str
    layers: tuple[str, ...]
    values: Floats
    onset_s: Floats
    duration_s: Floats
    kind: Literal["word", "signal"] = "word"
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = (len(self.layers), len(self.onset_s))
        if self.values.ndim != 3 or self.values.shape[:2] != expected or len(self.duration_s) != expected[1]:
            raise ValueError(
                f"features '{self.name}': values of shape {self.values.shape} for {expected} (layer, sample)"
            )

    def select(self, layers: Sequence[int]) -> Features:
        """The same features with these layers only."""
        return replace(self, layers=tuple(self.layers[i] for i in layers), values=self.values[list(layers)])


@dataclass(frozen=True)
class Block:
    """Some of a stimulus's features, and what they cost.

    Parameters
    ----------
    samples : slice or array of int
        Which samples these are.
    values : array (layer, sample, dimension), float32
    n_tokens : int
        Tokens (or moments of sound) that were read for them.
    """

    samples: slice | NDArray[np.intp]
    values: Floats
    n_tokens: int = 0


@dataclass(frozen=True)
class FeatureStream:
    """Features that come block by block, so that those of a long stimulus need never be in memory at once.

    Parameters
    ----------
    name, layers, onset_s, duration_s, kind, metadata
        As those of `Features`.
    dimension : int
        Of each layer.
    blocks : iterator of Block
        Each sample is in one block; nothing is computed before the first is asked for.

    Examples
    --------
    >>> blocks = iter([Block(slice(0, 1), np.ones((1, 1, 3))), Block(slice(1, 2), np.zeros((1, 1, 3)))])
    >>> FeatureStream("ones", ("layer 0",), np.array([0.0, 0.5]), np.array([0.4, 0.4]), 3, blocks).collect().values[0]
    array([[1., 1., 1.],
           [0., 0., 0.]], dtype=float32)
    """

    name: str
    layers: tuple[str, ...]
    onset_s: Floats
    duration_s: Floats
    dimension: int
    blocks: Iterator[Block]
    kind: Literal["word", "signal"] = "word"
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(layer, sample, dimension)."""
        return len(self.layers), len(self.onset_s), self.dimension

    @classmethod
    def of(cls, features: Features) -> FeatureStream:
        """What is there already, in one block."""
        return cls(
            features.name,
            features.layers,
            features.onset_s,
            features.duration_s,
            features.values.shape[2],
            iter([Block(slice(None), features.values)]),
            features.kind,
            features.metadata,
        )

    def collect(self) -> Features:
        """All of it, in memory."""
        values = np.empty(self.shape, dtype=np.float32)
        for block in self.blocks:
            values[:, block.samples] = block.values
        return Features(
            self.name, self.layers, values, self.onset_s, self.duration_s, self.kind, metadata=self.metadata
        )


@dataclass(frozen=True)
class Expected:
    """What a stimulus's features are expected to be and to take, before any is computed.

    Parameters
    ----------
    shape : (int, int, int)
        Of the values: (layer, sample, dimension).
    operations : float
        Multiplications and additions in float32; what takes its time otherwise counts as so many as would take as long.
    memory_bytes : float
        That are held at once, besides the interpreter and its libraries.
    """

    shape: tuple[int, int, int]
    operations: float = 0.0
    memory_bytes: float = 0.0


StimulusPart = Literal["text", "times", "sound", "id"]
"""What of a stimulus features may depend on; its text comes with its sentences and its language."""


@runtime_checkable
class Extractor(Protocol):
    """Anything that turns a Stimulus into Features; a stage of its own settings.

    One may also have ``reads``, a tuple of the `StimulusPart` that its values depend on (all of them by default), so
    that stored values outlive changes of the others; ``needs``, a tuple of "sentences" and "sound" that it cannot do
    without, so that a lack is found before anything is computed; ``stream(stimulus)``, which gives a `FeatureStream`,
    where `extract` would take long or much memory; and ``expected(stimulus)``, which gives an `Expected` from settings
    and a model's configuration alone, so that work can be planned: no weights are read for it.
    """

    @property
    def name(self) -> str:
        """The feature space's name, as it stands in tables and figures."""
        ...

    def fingerprint(self) -> Mapping[str, Any]:
        """All that the values depend on besides the stimulus, JSON-able: settings, digests of weights, versions."""
        ...

    def extract(self, stimulus: Stimulus) -> Features:
        """The stimulus's features."""
        ...


class AlignedRun(Protocol):
    """One recording and the features of its stimulus on one clock; what `Aligner.align` gives."""

    @property
    def responses(self) -> Floats:
        """Shape (sample, target), or (sample, target x latency) where `latencies_s` is not None."""
        ...

    @property
    def latencies_s(self) -> Floats | None:
        """Seconds from word onset of each latency, shape (latency,); None for volumes."""
        ...

    @property
    def times_s(self) -> Floats:
        """Seconds of each sample in the recording, shape (sample,)."""
        ...

    @property
    def findings(self) -> list[Finding]:
        """What was left out or clipped, by name."""
        ...

    def place(self, features: Features) -> Floats:
        """The features of these samples, shape (layer, sample, dimension)."""
        ...

    def regressors(self) -> pd.DataFrame:
        """The recording's own regressors at these samples, one row per sample."""
        ...


class Aligner(Protocol):
    """A stage of brainalign.alignment."""

    @property
    def span_s(self) -> float:
        """Seconds by which training and test samples must be apart."""
        ...

    def align(self, recording: Recording, stimulus: Stimulus) -> AlignedRun:
        """Read one recording and prepare to place features on its samples."""
        ...


class Scores(xr.Dataset):
    """How well each layer predicts each target: an xarray Dataset with a fixed layout.

    Dimensions: ``layer`` (of all feature spaces, one after the other), ``fold``, ``target`` (of all subjects, one
    after the other) and, for word-locked recordings, ``latency`` (seconds from word onset).

    Coordinates: ``feature_space``, ``layer_name``, ``layer_index``, ``depth`` (0 to 1) along layer; ``subject``,
    ``target_name``, ``target_kind`` and what is known of its place along target.

    Variables: ``r`` and ``r2`` of the layer alone; ``r_baseline``, ``r2_baseline``; ``r_joint``, ``r2_joint`` of
    baseline and layer together, so that the gain over the baseline is ``r_joint - r_baseline``; ``alpha``, the penalty
    chosen; ``status`` of each target: "ok", "constant" or "nonfinite". Scores are one per held-out fold; average
    over ``fold``. What is undefined is NaN.
    """

    __slots__ = ()

    def to_frame(self) -> pd.DataFrame:
        """A tidy table of fold means: one row per layer x target (x latency)."""
        scores = self.drop_vars(["alpha", "status"], errors="ignore")
        if "r_joint" in scores:
            # Fold by fold, so that a fold in which one of the two is undefined does not tilt the difference.
            scores = scores.assign(gain=scores["r_joint"] - scores["r_baseline"])
        return scores.mean("fold").to_dataframe().reset_index()
