"""How far ahead a language model's own layers can be foretold: no brain in it.

Words soon become unpredictable, while what a passage means changes more slowly: H_k(d) says how well layer k of the
word d words ahead follows from a layer of the present one. Beside the brain's forecast scores A(d) it tells what there
is to be forecast at each distance, and at which depth.

Vectors of later words are to be made without the present word and those before, in a context that restarts: contextual
ones carry the past along, and would foretell themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.forecasts.windows import complete_words
from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.encoding import RidgeEncoder, Splitter
from brainalign.encoding.cross_validation import cross_validate
from brainalign.encoding.responses import Responses
from brainalign.errors import DataError, RecipeError
from brainalign.types import Features, Floats

__all__ = ["Horizon", "half_life", "horizon"]

# The words of a story by which targets are moved for the floor lie between a quarter and three quarters of it.
NEAREST_SHIFT = 0.25
# Words of a story that are scored, at least.
FEWEST_WORDS = 10


@dataclass(frozen=True)
class Horizon:
    """How well each layer of later words follows from the present one.

    Attributes
    ----------
    distances : array (distance,) of int
        In words.
    layers : tuple of str
        Of the later words.
    r2 : array (layer, distance, fold)
        Share of the layer's variance, over all its dimensions, that held-out words explain.
    floor : array (layer, distance, fold)
        The same of words from elsewhere in the story.
    accuracy : array (distance,), optional
        Of the word itself, as given.
    n_words : int
        Words scored, the same at all distances.
    """

    distances: NDArray[np.intp]
    layers: tuple[str, ...]
    r2: Floats
    floor: Floats
    accuracy: Floats | None
    n_words: int

    @property
    def above_floor(self) -> Floats:
        """H_k(d) less its floor, averaged over folds, shape (layer, distance)."""
        return mean_defined(self.r2 - self.floor, axis=2)

    @property
    def half_life_words(self) -> Floats:
        """Where each layer's curve above the floor falls to half of its first value, shape (layer,)."""
        return half_life(self.above_floor, self.distances)


def horizon(
    present: Mapping[str, Features],
    later: Mapping[str, Features],
    distances: Sequence[int],
    splitter: Splitter,
    *,
    layer: int = -1,
    encoder: RidgeEncoder | None = None,
    accuracy: Sequence[float] | Floats | None = None,
    seed: int = 0,
) -> Horizon:
    """Predict the vectors of later words from those of the present one, across held-out words.

    Parameters
    ----------
    present : mapping of stimulus to Features
        Of words, in their context.
    later : mapping of stimulus to Features
        Of the same words, all layers, in a context that restarts (or static).
    distances : sequence of int
        In words ahead, increasing.
    splitter : scikit-learn splitter
        Stimuli are its groups.
    layer : int
        Of `present` that is predicted from, by its place; the last by default.
    encoder : RidgeEncoder, optional
    accuracy : sequence of float, optional
        How often the model's guess at each distance is the word itself (top 1, or top k), to stand beside.
    seed : int
        Of the floor.

    Returns
    -------
    Horizon

    Raises
    ------
    DataError
        If stimuli or words differ, values are not finite, or a stimulus has too few words for these distances.
    RecipeError
        If distances do not increase, or accuracy is not given for each.

    Examples
    --------
    >>> from brainalign.encoding import ContiguousBlocks
    >>> rng = np.random.default_rng(0)
    >>> topic = np.cumsum(rng.normal(size=(400, 2)), axis=0).astype(np.float32)
    >>> word = rng.normal(size=(400, 2)).astype(np.float32)
    >>> onset = np.arange(400.0)
    >>> story = {"story": Features("model", ("word", "topic"), np.stack([word, topic]), onset, np.ones(400))}
    >>> found = horizon(story, story, [1, 2, 4], ContiguousBlocks(gap=4))
    >>> bool((found.above_floor[1] > 0.5).all()), bool((abs(found.above_floor[0]) < 0.1).all())
    (True, True)
    """
    if len(distances) == 0 or np.any(np.diff(distances) <= 0):
        raise RecipeError(f"horizon: distances are {list(distances)}; give at least one, in increasing order.")
    if accuracy is not None and len(accuracy) != len(distances):
        raise RecipeError(f"horizon: accuracy of {len(accuracy)} distances for {len(distances)}; give one for each.")
    _check(present, later, distances)
    rows = {name: np.flatnonzero(complete_words(len(one.onset_s), distances, width=1)) for name, one in present.items()}
    x = np.concatenate([one.values[layer, rows[name]] for name, one in present.items()])
    groups = np.repeat(list(rows), [len(words) for words in rows.values()])
    encoder = RidgeEncoder() if encoder is None else encoder
    true = _LaterVectors.of(later, rows, distances, dict.fromkeys(rows, 0))
    moved = _LaterVectors.of(later, rows, distances, _shifts(later, seed))
    n_layers = len(next(iter(later.values())).layers)
    return Horizon(
        distances=np.array(distances),
        layers=next(iter(later.values())).layers,
        r2=_explained(encoder, x, true, groups, splitter, n_layers),
        floor=_explained(encoder, x, moved, groups, splitter, n_layers),
        accuracy=None if accuracy is None else np.asarray(accuracy, dtype=np.float64),
        n_words=len(x),
    )


def half_life(curves: Floats, distances: Sequence[int] | NDArray[np.intp]) -> Floats:
    """Words after which curves have fallen to half of what they are at the first distance.

    Parameters
    ----------
    curves : array (..., distance)
        Such as H_k(d) above its floor, or the accuracy of guessing the word.
    distances : sequence of int

    Returns
    -------
    array (...)
        Between two distances on a straight line; infinite where the curve never falls so far, NaN where it does not
        start above zero.

    Examples
    --------
    >>> half_life(np.array([[0.8, 0.6, 0.2], [0.8, 0.7, 0.6], [0.0, 0.0, 0.0]]), [1, 3, 5])
    array([ 4., inf, nan])
    """
    curves, places = np.asarray(curves, dtype=np.float64), np.asarray(distances, dtype=np.float64)
    half = curves[..., :1] / 2
    below = curves <= half
    first = below.argmax(axis=-1)
    before = np.maximum(first - 1, 0)
    upper, lower = (np.take_along_axis(curves, at[..., None], axis=-1)[..., 0] for at in (before, first))
    drop = np.where(upper > lower, upper - lower, 1.0)
    crossing = places[before] + (places[first] - places[before]) * (upper - half[..., 0]) / drop
    found = np.where(below.any(axis=-1), crossing, np.inf)
    return np.where(curves[..., 0] > 0, found, np.nan)


def _check(present: Mapping[str, Features], later: Mapping[str, Features], distances: Sequence[int]) -> None:
    if list(present) != list(later) or not present:
        raise DataError(f"horizon: stimuli {list(present)} and, of later words, {list(later)}: they must be the same.")
    for name, one in present.items():
        other, longest = later[name], max(max(distances), 0) - min(min(distances), 0)
        if len(one.onset_s) != len(other.onset_s):
            raise DataError(
                f"horizon: '{name}' has {len(one.onset_s)} words, later ones {len(other.onset_s)}: they must agree."
            )
        if len(one.onset_s) - longest < FEWEST_WORDS:
            raise DataError(
                f"horizon: '{name}' has {len(one.onset_s)} words, of which fewer than {FEWEST_WORDS} have others at "
                f"distances {min(distances)} to {max(distances)}: leave it out, or take shorter distances."
            )
        if not (np.isfinite(one.values).all() and np.isfinite(other.values).all()):
            raise DataError(f"horizon: vectors of '{name}' are not finite.")


def _shifts(later: Mapping[str, Features], seed: int) -> dict[str, int]:
    """Words by which each story's vectors are moved along it for the floor."""
    rng = np.random.default_rng(seed)
    lengths = {name: len(one.onset_s) for name, one in later.items()}
    return {name: int(n * rng.uniform(NEAREST_SHIFT, 1 - NEAREST_SHIFT)) for name, n in lengths.items()}


@dataclass(frozen=True)
class _LaterVectors:
    """The vectors of later words at all distances as responses, made a block at a time: there may be very many.

    Columns are dimensions of the layers, one layer after the other, at the first distance, then at the second ...
    """

    vectors: Floats
    at: NDArray[np.intp]

    @classmethod
    def of(
        cls,
        later: Mapping[str, Features],
        rows: Mapping[str, NDArray[np.intp]],
        distances: Sequence[int],
        shifts: Mapping[str, int],
    ) -> _LaterVectors:
        vectors, at, start = [], [], 0
        for name, one in later.items():
            n_words = len(one.onset_s)
            vectors.append(np.moveaxis(one.values, 0, 1).reshape(n_words, -1))
            there = rows[name][:, None] + np.asarray(distances)
            # Only shifts wrap around: rows are those that have all distances.
            at.append(start + (there + shifts[name]) % n_words)
            start += n_words
        return cls(np.concatenate(vectors), np.concatenate(at))

    @property
    def shape(self) -> tuple[int, int]:
        return self.at.shape[0], self.at.shape[1] * self.vectors.shape[1]

    @property
    def dtype(self) -> np.dtype:
        return self.vectors.dtype

    def __getitem__(self, key: tuple[slice, slice]) -> Floats:
        rows, columns = key
        distance, column = np.divmod(np.arange(self.shape[1])[columns], self.vectors.shape[1])
        return self.vectors[self.at[rows][:, distance], column]


def _explained(
    encoder: RidgeEncoder, x: Floats, vectors: _LaterVectors, groups: np.ndarray, splitter: Splitter, n_layers: int
) -> Floats:
    """Share of each layer's variance that is predicted, shape (layer, distance, fold).

    Dimensions weigh by their variance over all words; one that does not vary has no part in it.
    """
    responses = Responses(vectors)
    scores, _ = cross_validate(encoder, x, responses, groups, splitter)
    weight = np.where(responses.status == "ok", responses.scale**2, 0.0) + np.zeros_like(scores.r2)
    shape = (len(scores.r2), vectors.at.shape[1], n_layers, -1)
    weight, r2 = (np.where(np.isnan(scores.r2), 0.0, values).reshape(shape) for values in (weight, scores.r2))
    total = weight.sum(axis=3)
    share = np.where(total > 0, (weight * r2).sum(axis=3) / np.where(total > 0, total, 1.0), np.nan)
    return share.transpose(2, 1, 0)
