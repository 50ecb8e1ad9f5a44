"""Whether predicted vectors find their own among the vectors of other samples: ranks, the first k, and pairs.

Vectors are compared by their cosine. Principal components come with arbitrary signs, so that a mean over them, which a
correlation would take off, says nothing. The same word heard twice is two candidates with one vector, which no
prediction tells apart: a tie, counted by what random order would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.encoding.metrics import TIE
from brainalign.types import Floats

__all__ = ["Retrieval", "retrieval"]


@dataclass(frozen=True)
class Retrieval:
    """How well predictions find their own among candidates: `top_k` (k,) beside its chance, and the rest beside .5."""

    top_k: Floats
    chance_top_k: Floats
    rank_accuracy: float
    two_vs_two: float
    n_candidates: float


def retrieval(
    predicted: Floats, observed: Floats, k: Sequence[int] = (1,), near: NDArray[np.bool_] | None = None
) -> Retrieval:
    """Rank the observed vectors of all samples by their cosine with each prediction.

    Parameters
    ----------
    predicted, observed : arrays (sample, dimension)
        On a scale on which dimensions count alike, about their training means.
    k : sequence of int
    near : array (sample, sample) of bool, symmetric, optional
        Samples that are no candidates for each other; a sample is always its own.

    Returns
    -------
    Retrieval
        Ties, such as those between samples of one vector, count by what they would give in random order: a word
        that stands m times among the candidates is found first by 1 / m at best. Samples without another candidate do
        not count; NaN where none is left. A vector of zeros has a cosine of zero with all.

    Raises
    ------
    ValueError
        If shapes do not agree or a value is not finite.

    Examples
    --------
    >>> found = retrieval(np.array([[3.0, 1.0], [1.0, 2.0], [1.0, 1.1]]), np.eye(2)[[0, 1, 1]])
    >>> found.top_k.round(3), round(found.rank_accuracy, 3), found.two_vs_two
    (array([0.667]), 0.833, 0.833...)
    """
    predicted, observed = np.asarray(predicted, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    if predicted.ndim != 2 or predicted.shape != observed.shape:
        raise ValueError(f"predicted {predicted.shape} and observed {observed.shape} must agree: (sample, dimension).")
    if not (np.isfinite(predicted).all() and np.isfinite(observed).all()):
        raise ValueError("predicted and observed must be finite: leave out the dimensions that are undefined.")
    n = len(observed)
    candidate = np.ones((n, n), dtype=bool) if near is None else ~near
    np.fill_diagonal(candidate, True)
    similarity = _unit_rows(predicted) @ _unit_rows(observed).T
    ahead = similarity - np.diag(similarity)[:, None]
    better = ((ahead > TIE) & candidate).sum(axis=1)
    tied = ((np.abs(ahead) <= TIE) & candidate).sum(axis=1)  # with itself as well
    n_candidates = candidate.sum(axis=1)
    counts = n_candidates > 1
    if not counts.any():
        undefined = np.full(len(k), np.nan)
        return Retrieval(undefined, undefined, np.nan, np.nan, float(n_candidates.mean()) if n else np.nan)
    rank = (better + (tied - 1) / 2)[counts] / (n_candidates[counts] - 1)
    among = np.asarray(k)[:, None]
    return Retrieval(
        top_k=np.clip((among - better[counts]) / tied[counts], 0.0, 1.0).mean(axis=1),
        chance_top_k=np.minimum(among / n_candidates[counts], 1.0).mean(axis=1),
        rank_accuracy=float(1.0 - rank.mean()),
        two_vs_two=_two_vs_two(similarity, candidate),
        n_candidates=float(n_candidates.mean()),
    )


def _two_vs_two(similarity: Floats, candidate: NDArray[np.bool_]) -> float:
    """Share of pairs (i, j) with more similarity to their own than to each other's; a tie is one half."""
    own = np.diag(similarity)
    first, second = np.nonzero(np.triu(candidate, 1))
    apart = own[first] + own[second] - similarity[first, second] - similarity[second, first]
    return float(np.where(np.abs(apart) <= TIE, 0.5, apart > 0).mean())


def _unit_rows(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)
