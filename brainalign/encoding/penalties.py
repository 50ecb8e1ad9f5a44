"""How well each penalty of a grid predicts held-out samples, from one factorisation and without predicting.

With training features X = U diag(s) V' and z = U'Y, held-out rows T in the basis V and q = s z, the prediction at
penalty alpha is T diag(1 / (s^2 + alpha)) q. Of its match with the held-out responses y only three sums matter: |y|^2,
the inner product with y, and its own square,

    sum over k and l of  q_k q_l (T'T)_kl / ((s_k^2 + alpha) (s_l^2 + alpha)).

Partial fractions take alpha out of the double sum. As 1 / (ab) = (1/a - 1/b) / (b - a), the square is

    sum over k of  2 q_k (C q)_k / (s_k^2 + alpha),    C_kl = (T'T)_kl / (s_l^2 - s_k^2)  for l other than k,

plus the diagonal, q_k^2 (T'T)_kk / (s_k^2 + alpha)^2: one product with C serves the whole grid. Where two s^2 nearly
agree their terms stay with the diagonal, which then is right to second order of their difference.

With a baseline B beside X, of few columns and a penalty beta of its own,

    min over w, b of |Y - Bb - Xw|^2 + alpha |w|^2 + beta |b|^2,

eliminating w leaves (B'MB + beta I) b = B'MY with M = I - U diag(s^2 / (s^2 + alpha)) U': a system of as many
unknowns as B has columns, from the same factorisation; w is the ridge solution of Y - Bb. This is banded ridge of two
bands (Nunez-Elizalde et al., 2019), exactly; as alpha grows the baseline alone remains.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from brainalign.encoding.backends import Backend
from brainalign.encoding.metrics import is_constant
from brainalign.types import Floats

__all__ = ["Baseline", "Grid", "HeldOut", "Scored", "joint_system", "score_of"]

Indices = NDArray[np.intp]
Selection = Literal["r2", "r"]

# Two squares of singular values whose difference is a smaller share of the larger count as equal: what rounding does to
# the fractions (1e-16 / NEAR) and what this leaves out (NEAR squared) are then about as small.
NEAR = 1e-5
# A product in float64 takes twice as long as one in float32.
DOUBLE = 2.0
# Components that together cannot move a prediction by more than this share of the target's standard deviation (root
# mean square over the held-out samples) are left out of the loop over penalties.
TOLERANCE = 1e-7
# Rounding of U'Y in float32 (6e-8 of the target's standard deviation) may be multiplied by so much on its way to a
# prediction; where small penalties on small components multiply it by more, products are in float64.
AMPLIFICATION = 3e3


@dataclass(frozen=True)
class Grid:
    """The penalties to choose from: `alphas` (a,) of the features, `betas` (b,) of a baseline, both increasing."""

    alphas: Floats
    betas: Floats
    selection: Selection = "r2"


@dataclass(frozen=True)
class Baseline:
    """Standardised columns fitted beside the features of one training set.

    Attributes
    ----------
    train, held_out : arrays (n, q) and (m, q)
        float64 arrays of the backend, like the next.
    reduced : array (k, q)
        U'B of the training columns.
    """

    train: Any
    held_out: Any
    reduced: Any


@dataclass(frozen=True)
class Scored:
    """Scores of each penalty on held-out samples.

    Attributes
    ----------
    alone : array (a, v)
    joint : array (a * b, v), optional
        With the baseline, the features' penalty outermost; with several one after the other, (baseline * a * b, v).
    defined : array (v,) of bool
        Whether the target varies among the held-out samples; where not, a score means nothing.
    """

    alone: Floats
    joint: Floats | None
    defined: NDArray[np.bool_]


class HeldOut:
    """Held-out samples of one training set.

    Parameters
    ----------
    train, rows : arrays of indices (n,) and (m,)
        The training and the held-out samples.
    s : array (k,)
        Singular values of the training features, an array of the backend like the next.
    projected : array (m, k)
        Held-out features in their basis.
    grid : Grid
        With selection "r" the held-out samples are centred on their own mean.
    backend : Backend
    dtype : {"float32", "float64"}
        Of products with responses.
    *baselines : Baseline or None
        Each is fitted beside the features by itself; None is left out.

    Attributes
    ----------
    dtype : {"float32", "float64"}
        What the responses must come in: float64 where float32 would show in the scores.
    """

    def __init__(
        self,
        train: Indices,
        rows: Indices,
        s: Any,
        projected: Any,
        grid: Grid,
        backend: Backend,
        dtype: str,
        *baselines: Baseline | None,
    ) -> None:
        xp = backend.xp
        self.train, self.rows, self.grid, self.backend = train, rows, grid, backend
        self.baselines = [baseline for baseline in baselines if baseline is not None]
        self.s = s
        self.inverse = 1.0 / (s * s + backend.array(grid.alphas)[:, None])  # (a, k)
        self.projected = projected - xp.mean(projected, axis=0) if grid.selection == "r" else projected
        moved = self._moved()
        # A correlation has no scale: there a share of what all components can move counts.
        whole = xp.where(moved < 1.0, moved, xp.ones_like(moved))[:, :1] if grid.selection == "r" else 1.0
        self.ranks = backend.to_numpy(xp.sum(xp.astype(moved > TOLERANCE * whole, xp.int64), axis=1)).tolist()
        self.dtype = dtype = "float64" if bool(xp.any(moved > AMPLIFICATION)) else dtype
        rank = max(self.ranks, default=0)
        self._narrow = xp.astype(self.projected[:, :rank], getattr(xp, dtype))
        weight = 1.0 if dtype == "float32" else DOUBLE
        self._by_fractions = DOUBLE * rank**2 < weight * len(rows) * sum(self.ranks)
        if self._by_fractions:
            gram = self.projected[:, :rank].T @ self.projected[:, :rank]
            squares = (s * s)[:rank]
            gap = squares - squares[:, None]
            near = xp.abs(gap) <= NEAR * xp.maximum(squares, squares[:, None])
            zero = xp.zeros_like(gap)
            self._far = xp.where(near, zero, gram / xp.where(near, zero + 1.0, gap))
            self._near = xp.where(near, gram, zero)
            # C is antisymmetric, so that the sum over k of q_k (C q)_k is zero: 1 / (c + alpha) may be taken off each
            # fraction, lest penalties far above all s^2, which make fractions equal, leave nothing but rounding.
            largest = squares[:1]
            taken = backend.array(grid.alphas)[:, None] + largest
            self._fractions = self.inverse[:, :rank] * (largest - squares) / taken
            self._only_diagonal = int(xp.sum(xp.astype(near, xp.int64))) == rank

    def score(self, responses: np.ndarray, mean: np.ndarray, z: Any) -> Scored:
        """Score each penalty.

        Parameters
        ----------
        responses : array (n_samples, v)
            All samples, of the type that `dtype` names.
        mean : array (v,)
            Over the training samples.
        z : array (k, v)
            U'Y of the training set, of the backend.
        """
        observed = responses[self.rows]
        defined = ~is_constant(observed)
        # What a model without features would say of the held-out samples.
        centred = observed - (observed.mean(axis=0) if self.grid.selection == "r" else mean)
        power = np.where(defined, np.einsum("mv,mv->v", centred, centred, dtype=np.float64), 1.0)
        y = self.backend.array(centred, self.dtype)
        square, product = self._sums(z, y)
        alone = score_of(self.backend.to_numpy(square), self.backend.to_numpy(product), power, self.grid.selection)
        if not self.baselines:
            return Scored(alone, None, defined)
        train = self.backend.array(responses[self.train] - mean)
        sums = (self.backend.to_numpy(values) for values in self._joint_sums(square, product, z, train, y))
        joint = score_of(next(sums), next(sums), power, self.grid.selection)
        return Scored(alone, joint.reshape(-1, joint.shape[-1]), defined)

    def _moved(self) -> Any:
        """By how much the components from each on can move predictions, shape (a, k), in standard deviations.

        A target of standard deviation one has |U'y| <= sqrt(n): by Cauchy and Schwarz the components from number k on
        move the predictions by at most sqrt(n) times the length of what multiplies them.
        """
        xp = self.backend.xp
        factors = xp.sum(self.projected**2, axis=0) * (self.inverse * self.s) ** 2  # (a, k)
        tails = xp.flip(xp.cumulative_sum(xp.flip(factors, axis=1), axis=1), axis=1)
        return xp.sqrt(len(self.train) / len(self.rows) * tails)

    def _sums(self, z: Any, y: Any) -> tuple[Any, Any]:
        """Square of the predictions and their product with the held-out responses, arrays (a, v) in float64."""
        xp = self.backend.xp
        rank = self._narrow.shape[1]
        inverse = self.inverse[:, :rank]
        q = xp.astype(z[:rank], xp.float64) * self.s[:rank, None]
        work = xp.astype(self._narrow.T @ y, xp.float64)
        work *= q
        product = inverse @ work
        if not self._by_fractions:
            return self._squares(z), product
        work = self._far @ q
        work *= q
        square = 2.0 * self._fractions @ work
        if self._only_diagonal:
            work = q * q
            return square + (inverse * inverse * xp.linalg.diagonal(self._near)) @ work, product
        return square + (inverse * inverse) @ (q * (self._near @ q)), product

    def _squares(self, z: Any) -> Any:
        """Squares of the predictions, penalty by penalty: cheaper for few held-out samples or few penalties."""
        xp = self.backend.xp
        squares = []
        for inverse, rank in zip(self.inverse, self.ranks, strict=True):
            predicted = xp.astype(self.projected[:, :rank] * (inverse * self.s)[:rank], z.dtype) @ z[:rank]
            squares.append(xp.astype(self.backend.dots(predicted, predicted), xp.float64))
        return xp.stack(squares)

    def _joint_sums(self, square: Any, product: Any, z: Any, train: Any, y: Any) -> tuple[Any, Any]:
        """The two sums of the joint predictions, arrays (baseline, a, b, v), from those of the features alone.

        The joint prediction is T w + E b: w of the features alone, E what they leave of the held-out baseline.
        """
        xp, baselines = self.backend.xp, self.baselines
        z, y = xp.astype(z, xp.float64), xp.astype(y, xp.float64)
        # The columns of all baselines side by side, for products of one size rather than many small ones.
        reduced = xp.concat([one.reduced for one in baselines], axis=1)
        held_out = xp.concat([one.held_out for one in baselines], axis=1)
        if self.grid.selection == "r":
            held_out = held_out - xp.mean(held_out, axis=0)
        of_train = xp.concat([one.train for one in baselines], axis=1).T @ train
        edges = np.cumsum([0, *(one.reduced.shape[1] for one in baselines)]).tolist()
        parts = [slice(start, stop) for start, stop in itertools.pairwise(edges)]
        squares, products = [], []
        for number, inverse in enumerate(self.inverse):
            right = of_train - (reduced * (inverse * self.s**2)[:, None]).T @ z
            left = held_out - self.projected @ (reduced * (inverse * self.s)[:, None])
            with_alone, with_y = self._predicted_times(left, inverse * self.s, z), left.T @ y
            for one, part in zip(baselines, parts, strict=True):
                system, _ = joint_system(self.backend, self.s, self.inverse[number : number + 1], one, self.grid.betas)
                b = system[0] @ right[part]  # (b, q, v)
                own = (left[:, part].T @ left[:, part]) @ b + 2.0 * with_alone[part]
                squares.append(square[number] + xp.einsum("bqv,bqv->bv", b, own))
                products.append(product[number] + xp.einsum("bqv,qv->bv", b, with_y[part]))
        shape = (len(self.inverse), len(baselines), len(self.grid.betas), -1)
        found = (xp.permute_dims(xp.reshape(xp.stack(sums), shape), (1, 0, 2, 3)) for sums in (squares, products))
        return next(found), next(found)

    def _predicted_times(self, left: Any, shrink: Any, z: Any) -> Any:
        """Columns (m, q) times what the features alone predict of the held-out samples, in the cheaper order."""
        (m, q), (k, v) = left.shape, z.shape
        if q * k * (m + v) < m * v * (k + q):
            return ((left.T @ self.projected) * shrink) @ z
        return left.T @ ((self.projected * shrink) @ z)


def joint_system(backend: Backend, s: Any, inverse: Any, baseline: Baseline, betas: Floats) -> tuple[Any, Any]:
    """The inverse of B'MB + beta I, shape (a, b, q, q), and B'U diag(s^2 / (s^2 + alpha)), shape (a, q, k)."""
    xp = backend.xp
    hat = xp.permute_dims((inverse * s * s)[:, :, None] * baseline.reduced, (0, 2, 1))
    gram = baseline.train.T @ baseline.train - hat @ baseline.reduced
    system = gram[:, None] + backend.array(betas)[None, :, None, None] * backend.array(np.eye(gram.shape[-1]))
    return xp.linalg.inv(system), hat


def score_of(square: Floats, product: Floats, power: Floats, selection: Selection) -> Floats:
    """R2 or r of predictions of this square and this product with responses of square `power`, arrays (..., v)."""
    if selection == "r2":
        return (2.0 * product - square) / power
    # A penalty that leaves nothing of a prediction has no correlation: as good as none.
    size = np.sqrt(np.maximum(square, 0.0) * power)
    return np.where(size > 0, product / np.where(size > 0, size, 1.0), 0.0)
