"""The best layer without double dipping: chosen inside the training samples, scored on the held-out ones.

Choosing by the scores of the other folds is not enough. The scores of two folds of one cross-validation are no
independent measurements: what fold i shares by chance with fold j counts in the score of either, for each is trained
on the other. On pure noise (13 layers, 600 samples, 5 folds) the layer that is best on four folds scores r = .05 on
the fifth, half of what choosing and scoring on the same folds gives (.09); chosen by `scores_inside` it scores 0.00.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from brainalign.analysis.hierarchies.profiles import mean_defined, scores_by_layer
from brainalign.encoding.cross_validation import cross_validate
from brainalign.encoding.ridge import RidgeEncoder
from brainalign.encoding.splits import ContiguousBlocks, Fold, Splitter, nested_folds
from brainalign.errors import DataError, RecipeError
from brainalign.types import Finding, Floats

__all__ = ["NestedChoice", "nested_choice", "scores_inside"]


@dataclass(frozen=True)
class NestedChoice:
    """The best layer's score, chosen and scored on different samples, beside the one that is not.

    Attributes
    ----------
    r : array (fold, target)
        Held-out score of the layer chosen inside the training samples; NaN where none could be chosen.
    layer : array (fold, target)
        Its place along ``layer``, -1 where none could be chosen.
    dipped : array (target,)
        The highest mean over folds, chosen on the very scores that it is made of.
    """

    r: Floats
    layer: NDArray[np.intp]
    dipped: Floats

    @property
    def optimism(self) -> Floats:
        """What choosing on the test adds to the score, shape (target,)."""
        return self.dipped - mean_defined(self.r, axis=0)

    def finding(self, where: str) -> Finding:
        """Warning W206 for whoever reports `dipped`: by how much it is too high."""
        nested, dipped = (float(mean_defined(v.ravel(), axis=0)) for v in (self.r, self.dipped))
        message = (
            f"the layer selected on the test folds scores r = {dipped:.3f} (mean over targets), "
            f"selected inside the training folds r = {nested:.3f}; report the latter."
        )
        return Finding("W206", where, message)


def nested_choice(r: Floats, inside: Floats) -> NestedChoice:
    """Choose each target's layer for each fold by `inside`, and score it by `r`.

    Parameters
    ----------
    r : array (layer, fold, target)
        Held-out scores.
    inside : array (layer, fold, target)
        Scores within the training samples of each fold, as `scores_inside` gives them. The means of the other folds'
        held-out scores are no substitute (see the module).

    Examples
    --------
    >>> r = np.array([[[0.1], [0.3]], [[0.2], [0.1]]])
    >>> choice = nested_choice(r, inside=np.array([[[0.2], [0.1]], [[0.1], [0.2]]]))
    >>> choice.layer.ravel(), choice.r.ravel(), choice.dipped
    (array([0, 1]), array([0.1, 0.1]), array([0.2]))
    """
    r, inside = scores_by_layer(r), scores_by_layer(inside)
    if r.shape != inside.shape:
        raise DataError(f"Held-out scores have shape {r.shape}, those inside {inside.shape}; they must agree.")
    known = np.isfinite(inside)
    layer = np.where(known.any(axis=0), np.where(known, inside, -np.inf).argmax(axis=0), -1)
    chosen = np.take_along_axis(r, np.maximum(layer, 0)[None], axis=0)[0]
    mean = mean_defined(r, axis=1)
    highest = np.where(np.isnan(mean).all(axis=0), np.nan, np.where(np.isnan(mean), -np.inf, mean).max(axis=0))
    return NestedChoice(np.where(layer < 0, np.nan, chosen), layer, highest)


def scores_inside(
    layers: Iterable[Floats],
    responses: Floats,
    groups: NDArray[Any] | None,
    splitter: Splitter,
    encoder: BaseEstimator | None = None,
    inner_splits: int = 4,
) -> Floats:
    """Cross-validate within each fold's training samples, so that a layer can be chosen without the held-out ones.

    Parameters
    ----------
    layers : iterable of arrays (sample, feature)
    responses : array (sample, target)
    groups : array (sample,), optional
        The run of each sample.
    splitter : scikit-learn splitter
        The outer folds; inner folds are of the same kind (`nested_folds`).
    encoder : scikit-learn estimator, optional
        `RidgeEncoder()` by default; it chooses its penalties within the training samples of the inner folds.
    inner_splits : int
        Folds within each fold's training samples, so that it takes about so many times what the scores took.

    Returns
    -------
    array (layer, fold, target)
        Mean Pearson correlation over the inner folds.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> layers = rng.normal(size=(2, 90, 3)); responses = layers[1] @ rng.normal(size=(3, 4))
    >>> inside = scores_inside(layers, responses, None, ContiguousBlocks(3))
    >>> inside.shape, inside.argmax(axis=0).tolist()
    ((2, 3, 4), [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]])
    """
    encoder = RidgeEncoder() if encoder is None else encoder
    gap = splitter.gap if isinstance(splitter, ContiguousBlocks) else 0
    if isinstance(encoder, RidgeEncoder):
        gap = max(gap, encoder.gap)
        encoder = clone(encoder).set_params(gap=gap)
    outer = nested_folds(splitter, inner_splits, len(responses), groups, gap)
    given = _Given(tuple(fold for one in outer for fold in one.inner))
    ends = np.cumsum([len(one.inner) for one in outer])[:-1]
    found = []
    for columns in layers:
        # All inner folds at once: two outer folds have training sets in common, which are factorised once.
        r = cross_validate(encoder, columns, responses, groups, given)[0].r
        found.append([mean_defined(part, axis=0) for part in np.split(r, ends)])
    if not found:
        raise RecipeError("There are no layers to choose from.")
    return np.array(found)


@dataclass(frozen=True)
class _Given:
    """A splitter that gives the folds it was made of."""

    folds: tuple[Fold, ...]

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        for fold in self.folds:
            yield fold.train, fold.test
