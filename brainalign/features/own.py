"""Feature spaces of the user's own: from a function of a stimulus, or from arrays computed elsewhere."""

from __future__ import annotations

import glob
import hashlib
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from brainalign.errors import DataError, RecipeError, nearest
from brainalign.files import sha256_of_file
from brainalign.types import Expected, Features, Floats, Stimulus, StimulusPart

__all__ = ["OwnSpace", "Precomputed", "own_space"]

CODE_VERSION = 1

FIELD = "{stimulus}"
SUFFIXES = (".npy", ".npz", ".safetensors")
EXPECTED = "(word,), (word, dimension) or (layer, word, dimension)"


def own_space(
    function: Callable[[Stimulus], Features | ArrayLike],
    stimuli: Mapping[str, Stimulus] | Iterable[Stimulus],
    name: str | None = None,
) -> OwnSpace:
    """Compute features of one's own, for all stimuli at once.

    The function is called once for each stimulus, and its values, not its code, decide whether a stored result is of
    these features: whatever changes in the function or in what it reads can never meet an old result.

    Parameters
    ----------
    function : callable
        Takes a stimulus; gives an array of shape (word,), (word, dimension) or (layer, word, dimension), one entry per
        row of ``stimulus.words``, or `Features`, which may also be of kind "signal".
    stimuli : mapping or iterable of Stimulus
        All that there are responses to: ``data.stimuli``.
    name : str, optional
        Of the feature space in tables and figures; the function's by default.

    Returns
    -------
    OwnSpace

    Raises
    ------
    DataError
        If what the function gives has another shape, is not of finite real numbers, or differs in layers or
        dimensions from one stimulus to the next; or there are no stimuli, or two of the same id.
    RecipeError
        If there is no name and the function has none.

    Examples
    --------
    >>> import pandas as pd
    >>> words = pd.DataFrame({"onset": [0.0, 0.4], "duration": [0.3, 0.5], "text": ["hello", "you"]})
    >>> def letters(stimulus):
    ...     return stimulus.words["text"].str.len()
    >>> greeting = Stimulus("greeting", words)
    >>> space = own_space(letters, [greeting])
    >>> space.name, space.extract(greeting).values.ravel().tolist()
    ('letters', [5.0, 3.0])
    """
    chosen = name or getattr(function, "__name__", "").strip("<>").replace("lambda", "").replace("_", " ").strip()
    if not chosen:
        raise RecipeError("own_space: this function has no name of its own; give one: own_space(..., name='my space').")
    given = list(stimuli.values() if isinstance(stimuli, Mapping) else stimuli)
    if not given or len({stimulus.id for stimulus in given}) < len(given):
        ids = ", ".join(stimulus.id for stimulus in given) or "none"
        raise DataError(f"own_space '{chosen}': needs stimuli, each of an id of its own; got {ids}.")
    features = {
        stimulus.id: _as_features(function(stimulus), stimulus, chosen, f"{chosen}(stimulus '{stimulus.id}')")
        for stimulus in given
    }
    _check_alike(features, chosen)
    return OwnSpace(chosen, features)


@dataclass(frozen=True)
class OwnSpace:
    """Features that are there already, by stimulus; made by `own_space`.

    Parameters
    ----------
    name : str
        The feature space's name.
    features : mapping of str to Features
        By the stimulus's id.
    """

    name: str
    features: Mapping[str, Features]

    reads: ClassVar[tuple[StimulusPart, ...]] = ("id", "text", "times", "sound")

    def fingerprint(self) -> dict[str, Any]:
        """A digest of the values themselves, of each stimulus."""
        digests = {stimulus: _digest_of(features) for stimulus, features in self.features.items()}
        return {"kind": "own_space", "values": digests, "code": CODE_VERSION}

    def expected(self, stimulus: Stimulus) -> Expected | None:
        """What it takes to keep what is there already; None of a stimulus that it does not know."""
        features = self.features.get(stimulus.id)
        return None if features is None else Expected(features.values.shape)

    def extract(self, stimulus: Stimulus) -> Features:
        """The features computed for the stimulus of this id.

        Raises
        ------
        DataError
            If there are none, or they were computed for other words.
        """
        if stimulus.id not in self.features:
            raise DataError(
                f"'{self.name}' has no features of stimulus '{stimulus.id}': own_space must be given all stimuli. "
                f"{nearest(stimulus.id, self.features)}"
            )
        features = self.features[stimulus.id]
        _check_words(features, stimulus, f"'{self.name}' of stimulus '{stimulus.id}'")
        return features


@dataclass(frozen=True)
class Precomputed:
    """Read features that were computed elsewhere, one array for each stimulus.

    Parameters
    ----------
    path : str
        A ``.npy``, ``.npz`` or ``.safetensors`` file, in which ``{stimulus}`` stands for the stimulus's id:
        ``features/{stimulus}.npy``. Nothing pickled is read. Arrays have shape (word,), (word, dimension) or (layer,
        word, dimension).
    key : str, optional
        The array's name in a file that holds several; ``{stimulus}`` may stand there too, or there alone.
    name : str
        Of the feature space, in tables and figures.
    root : Path, optional
        What a relative path is relative to; the working folder by default.

    Raises
    ------
    RecipeError
        On construction, if ``{stimulus}`` stands nowhere, or the file's ending is none of these.
    DataError
        On extraction, if there is no such file or array, or it is not what it should be.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> words = pd.DataFrame({"onset": [0.0, 0.4], "duration": [0.3, 0.5], "text": ["hello", "you"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder) / "greeting.npy", np.zeros((3, 2, 8)))
    ...     features = Precomputed("{stimulus}.npy", root=Path(folder)).extract(Stimulus("greeting", words))
    >>> features.layers, features.values.shape
    (('layer 0', 'layer 1', 'layer 2'), (3, 2, 8))
    """

    path: str
    key: str | None = None
    name: str = "precomputed"
    root: Path | None = None

    reads: ClassVar[tuple[StimulusPart, ...]] = ("id", "text", "times")

    def __post_init__(self) -> None:
        if FIELD not in f"{self.path}{self.key or ''}":
            raise RecipeError(
                f"path: {self.path!r} names one array for all stimuli; write {FIELD} where their ids differ."
            )
        if Path(self.path).suffix.lower() not in SUFFIXES:
            raise RecipeError(f"path: {self.path!r} must end in {', '.join(SUFFIXES)}.")

    def fingerprint(self) -> dict[str, Any]:
        """All that the values depend on: a digest of every file that fits `path`, whatever it is called.

        Raises
        ------
        DataError
            If there is none.
        """
        template = str(self._path(FIELD))
        pattern = "*".join(map(glob.escape, template.split(FIELD)))
        files = sorted(file for file in glob.glob(pattern) if Path(file).is_file())
        if not files:
            raise DataError(f"{template}: there is no such file of any stimulus.")
        # Named from the first {stimulus} on, so that a folder can be moved.
        start = len(template.partition(FIELD)[0])
        return {
            "kind": "precomputed",
            "files": {file[start:]: sha256_of_file(Path(file)) for file in files},
            "key": self.key,
            "code": CODE_VERSION,
        }

    def extract(self, stimulus: Stimulus) -> Features:
        """Read the stimulus's array: kind "word", layers "layer 0" and so on."""
        path, key = self._path(stimulus.id), self.key and self.key.replace(FIELD, stimulus.id)
        return _as_features(_read_array(path, key), stimulus, self.name, f"{path}, stimulus '{stimulus.id}'")

    def _path(self, stimulus: str) -> Path:
        return (Path() if self.root is None else self.root) / Path(self.path.replace(FIELD, stimulus)).expanduser()


def _as_features(given: Features | ArrayLike, stimulus: Stimulus, name: str, where: str) -> Features:
    """Features of this name, checked; `where` begins the messages."""
    if isinstance(given, Features):
        values = _checked_values(given.values, where)
        _check_times(given, where)
        features = replace(given, name=name, values=values)
    else:
        values = _checked_values(given, where)
        n_words = len(stimulus.words)
        if values.ndim not in (1, 2, 3) or 0 in values.shape or values.shape[1 if values.ndim == 3 else 0] != n_words:
            raise DataError(f"{where}: shape {values.shape}; expected {EXPECTED} for {n_words} words.")
        values = values if values.ndim == 3 else values.reshape(1, n_words, -1)
        features = Features(
            name=name,
            layers=tuple(f"layer {number}" for number in range(len(values))),
            values=values,
            onset_s=stimulus.words["onset"].to_numpy(dtype=float, copy=True),
            duration_s=stimulus.words["duration"].to_numpy(dtype=float, copy=True),
            metadata={"dimensions": [f"dimension {number}" for number in range(values.shape[2])]},
        )
    _check_words(features, stimulus, where)
    return features


def _checked_values(given: ArrayLike, where: str) -> Floats:
    """Finite numbers in float32, a copy of their own."""
    try:
        values = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{where}: no array of numbers ({reason}); expected {EXPECTED}.") from error
    if values.dtype.kind not in "biuf" or isinstance(given, np.ma.MaskedArray):
        raise DataError(f"{where}: {values.dtype} or masked values; expected plain real numbers, {EXPECTED}.")
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    wrong = ~np.isfinite(single)
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise DataError(
            f"{where}: {int(wrong.sum())} of {wrong.size} values are NaN, infinite or too large for float32, the first "
            f"at {first} of shape {values.shape}; expected finite numbers, {EXPECTED}."
        )
    return single


def _check_times(features: Features, where: str) -> None:
    """Raise where samples have no place in time."""
    onset_s, duration_s = (np.asarray(times) for times in (features.onset_s, features.duration_s))
    if not (np.isfinite(onset_s).all() and np.isfinite(duration_s).all() and (np.diff(onset_s) >= 0).all()):
        raise DataError(f"{where}: onset_s and duration_s must be finite seconds, and onset_s must not fall.")
    if 0 in features.values.shape or features.kind not in ("word", "signal"):
        raise DataError(f"{where}: {features.kind} features of shape {features.values.shape}; expected some values.")


def _check_words(features: Features, stimulus: Stimulus, where: str) -> None:
    """Raise where features of words are not of the stimulus's words."""
    if features.kind == "word" and not np.array_equal(features.onset_s, stimulus.words["onset"]):
        raise DataError(
            f"{where}: {len(features.onset_s)} words, or at other onsets than the {len(stimulus.words)} words of the "
            "stimulus; features of kind 'word' have one sample per word, with its onset."
        )


def _check_alike(features: Mapping[str, Features], name: str) -> None:
    """Raise where two stimuli have different columns."""
    forms = {id_: (of.kind, of.layers, of.values.shape[2]) for id_, of in features.items()}
    first = next(iter(forms))
    for id_, form in forms.items():
        if form != forms[first]:
            kind, layers, dimension = form
            raise DataError(
                f"own_space '{name}': {len(layers)} layers of {dimension} dimensions, kind {kind}, for stimulus "
                f"'{id_}', but {len(forms[first][1])} of {forms[first][2]}, kind {forms[first][0]}, for '{first}'; all "
                "stimuli must have the same, under the same names."
            )


def _digest_of(features: Features) -> str:
    """A digest of values, times and names."""
    content = hashlib.sha256(repr((features.kind, features.layers, features.values.shape)).encode())
    for array in (features.values, features.onset_s, features.duration_s):
        content.update(np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


def _read_array(path: Path, key: str | None) -> np.ndarray:
    """The array of a file, or the one called `key` of its several."""
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix.lower() == ".npz":
            # numpy leaves a file open that it opened and found damaged.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                return arrays[_chosen_key(key, arrays.files, path)]
        return _read_safetensors(path, key)
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: cannot be read as an array of numbers ({type(error).__name__}: {reason}).") from error


def _read_safetensors(path: Path, key: str | None) -> np.ndarray:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as tensors:
            return tensors.get_tensor(_chosen_key(key, list(tensors.keys()), path))
    except SafetensorError as error:
        raise DataError(f"{path}: not a whole safetensors file ({error}).") from error


def _chosen_key(key: str | None, names: list[str], path: Path) -> str:
    if key is None and len(names) == 1:
        return names[0]
    if key is None:
        raise DataError(f"{path}: holds {len(names)} arrays; name one as `key`. {nearest('features', names)}")
    if key not in names:
        raise DataError(f"{path}: no array '{key}'. {nearest(key, names)}")
    return key
