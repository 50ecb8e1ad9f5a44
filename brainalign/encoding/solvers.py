"""The linear algebra of ridge: one factorisation of the training features serves all penalties and all targets.

With X centred and scaled, X = U diag(s) V'. The ridge weights at penalty alpha, in the basis V, are

    w = diag(s / (s^2 + alpha)) U'Y,

so a grid of penalties costs one factorisation and, per penalty, two products with a diagonal between. U, s and V come
from the eigendecomposition of X'X or XX', whichever is smaller.

With a baseline B beside X, of few columns and a penalty beta of its own,

    min over w, b of |Y - Bb - Xw|^2 + alpha |w|^2 + beta |b|^2,

eliminating w leaves (B'MB + beta I) b = B'MY with M = I - U diag(s^2 / (s^2 + alpha)) U': a system of as many
unknowns as B has columns, from the same factorisation; then w is the ridge solution of Y - Bb. This is banded ridge of
two bands (Nunez-Elizalde et al., 2019), exactly; as alpha grows the baseline alone remains.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from brainalign.types import Floats

__all__ = ["Factor", "Standardiser", "factorise", "held_out_errors", "target_blocks", "weights"]

# Doubles that the predictions of one block of targets may fill: 128 MB.
BLOCK_SIZE = 2**24


@dataclass(frozen=True)
class Standardiser:
    """Column means and scales of training data; constant columns become zero, so that they carry no weight."""

    mean: Floats
    scale: Floats

    @classmethod
    def fit(cls, values: Floats) -> Standardiser:
        """Learn from training rows (sample, column)."""
        mean = values.mean(axis=0)
        deviation = values.std(axis=0)
        # A constant column's deviation is rounding of its mean; dividing by it would make noise of it.
        varies = deviation > 1e-12 * np.maximum(np.abs(mean), np.finfo(np.float64).tiny)
        return cls(mean, np.where(varies, deviation, np.inf))

    def __call__(self, values: Floats) -> Floats:
        """Centre and scale rows (sample, column)."""
        return (values - self.mean) / self.scale


@dataclass(frozen=True)
class Factor:
    """Standardised training features x = U diag(s) V': `u` (n, k), `s` (k,), and what V is made of.

    `basis` is V itself (p, k), or x (n, p) if `dual`: with fewer samples than features V = x'U / s is as large as x and
    never needed as such.
    """

    standardise: Standardiser
    u: Floats
    s: Floats
    basis: Floats
    dual: bool

    def project(self, features: Floats) -> Floats:
        """Rows (m, p) of features in the basis V, shape (m, k)."""
        rows = self.standardise(features)
        return (rows @ self.basis.T) @ (self.u / self.s) if self.dual else rows @ self.basis

    def from_basis(self, w: Floats) -> Floats:
        """Weights (k, v) in the basis V as weights (p, v) of the standardised features."""
        return self.basis.T @ ((self.u / self.s) @ w) if self.dual else self.basis @ w


def factorise(features: Floats, n_components: int | None = None) -> Factor:
    """Standardise and factorise training features.

    Parameters
    ----------
    features : array (n, p), float64
    n_components : int, optional
        Keep this many principal components of the standardised features only.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(6, 3))
    >>> f = factorise(X)
    >>> bool(np.allclose(f.project(X), f.u * f.s))
    True
    """
    standardise = Standardiser.fit(features)
    x = standardise(features)
    n, p = x.shape
    squares, vectors = np.linalg.eigh(x @ x.T if n <= p else x.T @ x)
    # Rounding alone gives squares of this size: such directions are not in the data.
    keep = squares > max(n, p) * np.finfo(np.float64).eps * max(squares[-1], 0.0)
    squares, vectors = squares[keep][::-1][:n_components], vectors[:, keep][:, ::-1][:, :n_components]
    s = np.sqrt(squares)
    if n <= p:
        return Factor(standardise, vectors, s, x, dual=True)
    return Factor(standardise, x @ (vectors / s), s, vectors, dual=False)


def weights(factor: Factor, alphas: Floats, targets: Floats, baseline: Floats | None, betas: Floats) -> Floats:
    """Ridge weights for each pair of penalties.

    Parameters
    ----------
    factor : Factor
        Of the training features, rank k.
    alphas, betas : arrays (a,) and (b,)
        Penalties of the features and of the baseline; without a baseline `betas` is not looked at.
    targets : array (n, v)
        Training responses, centred.
    baseline : array (n, q), optional
        Training baseline, standardised.

    Returns
    -------
    array (g, k + q, v)
        For each of the g = a * b pairs (alpha outermost; g = a and q = 0 without a baseline) the weights of the
        features in the basis V, then those of the baseline.
    """
    shrink = factor.s / (factor.s**2 + alphas[:, None])  # (a, k)
    uy = factor.u.T @ targets
    if baseline is None:
        return shrink[:, :, None] * uy
    ub = factor.u.T @ baseline
    b = _baseline_weights(factor, shrink, uy, ub, targets, baseline, betas)
    w = shrink[:, None, :, None] * (uy - ub @ b)
    both = np.concatenate([w, b], axis=2)
    return both.reshape(-1, *both.shape[2:])


def _baseline_weights(
    factor: Factor, shrink: Floats, uy: Floats, ub: Floats, targets: Floats, baseline: Floats, betas: Floats
) -> Floats:
    """Weights of the baseline beside the features, shape (a, b, q, v)."""
    hat = (shrink * factor.s)[:, :, None]  # (a, k, 1), the diagonal of the hat matrix in the basis U
    hat_ub = (hat * ub).transpose(0, 2, 1)  # (a, q, k)
    gram = baseline.T @ baseline - hat_ub @ ub
    right = baseline.T @ targets - hat_ub @ uy
    system = gram[:, None] + betas[None, :, None, None] * np.eye(baseline.shape[1])
    return np.linalg.solve(system, np.broadcast_to(right[:, None], (*system.shape[:3], right.shape[2])))


def held_out_errors(
    factor: Factor,
    alphas: Floats,
    targets: Floats,
    projected: Floats,
    observed: Floats,
    baseline: tuple[Floats, Floats] | None,
    betas: Floats,
) -> Floats:
    """Squared error on held-out rows for each pair of penalties and target, shape (g, v).

    The same as predicting with `weights` and summing the squares, but no pair is ever predicted: with r the residual of
    the features alone and E what the features leave of the held-out baseline, the joint residual is r + E b, so that
    each penalty of the baseline costs as much as the baseline has columns.

    Parameters
    ----------
    factor, alphas, targets, betas
        As for `weights`.
    projected : array (m, k)
        Held-out features in the basis V.
    observed : array (m, v)
        Held-out responses, less the training mean.
    baseline : (array (n, q), array (m, q)), optional
        Standardised training and held-out baseline.
    """
    shrink = factor.s / (factor.s**2 + alphas[:, None])
    uy = factor.u.T @ targets
    w = shrink[:, :, None] * uy  # (a, k, v)
    # |Tw - y|^2 = w'T'Tw - 2 w'T'y + y'y
    cross = projected.T @ observed
    alone = (w * (projected.T @ projected @ w - 2 * cross)).sum(axis=1) + (observed**2).sum(axis=0)  # (a, v)
    if baseline is None:
        return alone
    train, held_out = baseline
    ub = factor.u.T @ train
    b = _baseline_weights(factor, shrink, uy, ub, targets, train, betas)  # (a, b, q, v)
    left = held_out - projected @ (shrink[:, :, None] * ub)  # (a, m, q)
    left_t = left.transpose(0, 2, 1)
    with_residual = (left_t @ projected) @ w - left_t @ observed  # (a, q, v)
    joint = alone[:, None] + (b * ((left_t @ left)[:, None] @ b + 2 * with_residual[:, None])).sum(axis=2)
    return joint.reshape(-1, joint.shape[-1])


def target_blocks(n_targets: int, values_per_target: int) -> Iterator[slice]:
    """Slices of the targets small enough for arrays of `values_per_target` doubles each to stay in memory."""
    step = max(1, BLOCK_SIZE // max(values_per_target, 1))
    for start in range(0, n_targets, step):
        yield slice(start, min(start + step, n_targets))
