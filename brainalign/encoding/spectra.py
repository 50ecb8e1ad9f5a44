"""Factorisations of many training sets from shared pieces.

The training sets of nested folds overlap: each is a union of the same few stretches of samples. What such a stretch
contributes is computed once and added up, exactly, for each training set that contains it:

- primal, for fewer features than samples: X'X is the sum of the stretches' centred Grams and of a term of rank one for
  each mean, and X'Y likewise; standardising scales their rows and columns afterwards.
- dual, for fewer samples than features: XX' of the training samples; without scaling it is a part of one kernel.

Pieces are added, never subtracted from a total: a stretch with an outlier would take the others' digits with it. Grams,
kernels and eigendecompositions are in float64, whatever the responses are.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from brainalign.encoding.backends import Backend
from brainalign.encoding.designs import Design, Moments, merge
from brainalign.types import Floats

__all__ = [
    "DualPieces",
    "Pieces",
    "PrimalPieces",
    "Rotation",
    "TargetSums",
    "atoms_of",
    "column_weights_of",
    "is_ill_conditioned",
    "spectrum_of_all",
]

Indices = NDArray[np.intp]

# A Gram or kernel carries rounding of 1e-16 of its largest eigenvalue, times a few. Where the smallest penalty is a
# smaller share of that eigenvalue than this, the rounding would show in the scores beyond the sixth digit: the singular
# value decomposition of the features themselves, which squares nothing, is then worth its time.
WORTH_SVD = 3e-10
# U'Y from X'Y divides float32's rounding of the largest component by the size of the smallest one that counts. Where
# the smallest penalty is a smaller share of the largest eigenvalue than this, it comes from the responses themselves.
WORTH_ROWS = 1e-8


@dataclass(frozen=True)
class Rotation:
    """Training features in the basis of their principal components: (x - mean) * weight = U diag(s) V'.

    Attributes
    ----------
    train : array (n,)
        Indices of the training samples.
    mean, weight : arrays (p,)
        A column that is constant in training has weight zero. Of a part of one kernel, `mean` (n,) is its rows' mean.
    s : array (k,)
        Of the backend, like `v` and `u`.
    v : array (p, k), optional
        The rows of V times `weight`, where features are fewer than samples.
    u : array (n, k), optional
        Where they are not, or where targets are rotated sample by sample; with `v` where nothing was squared.
    x : array (n, p), optional
        (x - mean) * weight, where V is made from it.
    """

    train: Indices
    mean: Floats
    weight: Floats
    s: Any
    v: Any = None
    u: Any = None
    x: Floats | None = None


@dataclass(frozen=True)
class TargetSums:
    """Of one block of responses, for each shared stretch of samples: means (stretch, v) and X'Y (p, v)."""

    means: np.ndarray
    products: tuple[np.ndarray, ...]


class Pieces(Protocol):
    """What the training sets of nested folds share."""

    def weighted(self, column_weights: Floats) -> Pieces:
        """The same, with standardised columns multiplied by these weights (p,)."""
        ...

    def rotate(self, train: Indices) -> Rotation:
        """Factorise a training set."""
        ...

    def project(self, rotation: Rotation, index: Indices) -> Any:
        """Samples (m,) in the basis of the training set, shape (m, k)."""
        ...

    def left(self, rotation: Rotation) -> Any:
        """U of the training set, shape (n, k)."""
        ...

    def sums(self, responses: np.ndarray) -> TargetSums | None:
        """What training sets share of a block of responses (n, v), if anything."""
        ...

    def reduce(self, rotation: Rotation, responses: np.ndarray, sums: TargetSums | None) -> Any:
        """U'Y of the training set, shape (k, v)."""
        ...

    def coefficients(self, rotation: Rotation, w: Any) -> Floats:
        """Weights (k, v) in the basis as weights (p, v) in the units of the features."""
        ...


def atoms_of(sets: Sequence[Indices], n_samples: int) -> list[Indices]:
    """The coarsest parts of the samples of which every one of `sets` is a union.

    Examples
    --------
    >>> sorted(atom.tolist() for atom in atoms_of([np.array([0, 1, 2]), np.array([2, 3])], 5))
    [[0, 1], [2], [3], [4]]
    """
    membership = np.zeros((n_samples, len(sets)), dtype=bool)
    for column, members in enumerate(sets):
        membership[members, column] = True
    _, atom = np.unique(np.packbits(membership, axis=1), axis=0, return_inverse=True)
    order = np.argsort(atom.reshape(-1), kind="stable")
    return np.split(order, np.flatnonzero(np.diff(atom.reshape(-1)[order])) + 1)


class PrimalPieces:
    """Grams (p, p) of stretches of samples, and what they give of each training set.

    Parameters
    ----------
    design : Design
        Features (n, p).
    sets : sequence of index arrays
        The training sets that will be asked for.
    backend : Backend
    standardise : bool
        Divide each column by its standard deviation over the training samples.
    n_components : int, optional
        Keep this many components only.
    smallest_alpha : float
        Of the penalties that will be tried.
    """

    def __init__(
        self,
        design: Design,
        sets: Sequence[Indices],
        backend: Backend,
        standardise: bool = True,
        n_components: int | None = None,
        smallest_alpha: float = np.inf,
    ) -> None:
        self.design, self.backend, self.standardise = design, backend, standardise
        self.n_components, self.smallest_alpha = n_components, smallest_alpha
        self.column_weights: Floats | None = None
        atoms = atoms_of(sets, design.shape[0])
        # Scattered folds have more parts than training sets: then nothing is won by sharing. A GPU multiplies rows
        # faster than it is handed their sums.
        self._atoms = atoms if len(atoms) <= 4 * len(sets) and backend.device == "cpu" else []
        # Several at a time rather than each on several threads, on whose number the last bits would hang.
        with backend.on_its_own_threads():
            self._moments = list(backend.map(design.moments, self._atoms))

    def weighted(self, column_weights: Floats) -> PrimalPieces:
        """The same, with standardised columns multiplied by these weights (p,)."""
        pieces = copy.copy(self)
        pieces.column_weights = column_weights
        return pieces

    def rotate(self, train: Indices) -> Rotation:
        """Factorise a training set."""
        moments = self._moments_of(train)
        weight = column_weights_of(moments.mean, np.sqrt(np.diag(moments.gram) / moments.n), self.standardise)
        if self.column_weights is not None:
            weight = weight * self.column_weights
        s, vectors = _spectrum(moments.gram * weight[:, None] * weight, train, self)
        if is_ill_conditioned(s, self.smallest_alpha):
            return _rotate_rows(self.design.rows(train), train, weight, self)
        rotation = Rotation(train, moments.mean, weight, s, v=self.backend.array(weight[:, None]) * vectors)
        if self._atoms and (len(s) == 0 or self.smallest_alpha >= WORTH_ROWS * float(s[0]) ** 2):
            return rotation
        return Rotation(train, moments.mean, weight, s, v=rotation.v, u=self.left(rotation))

    def project(self, rotation: Rotation, index: Indices) -> Any:
        """Samples (m,) in the basis of the training set, shape (m, k)."""
        return self.backend.array(self.design.rows(index) - rotation.mean) @ rotation.v

    def left(self, rotation: Rotation) -> Any:
        """U of the training set, shape (n, k)."""
        return self.project(rotation, rotation.train) / rotation.s if rotation.u is None else rotation.u

    def sums(self, responses: np.ndarray) -> TargetSums | None:
        """What training sets share of a block of responses (n, v), if anything."""
        if not self._atoms:
            return None
        means = np.stack([responses[atom].mean(axis=0) for atom in self._atoms])
        return TargetSums(means, tuple(self.design.cross(atom, responses[atom]) for atom in self._atoms))

    def reduce(self, rotation: Rotation, responses: np.ndarray, sums: TargetSums | None) -> Any:
        """U'Y of the training set, shape (k, v), in the type of the responses (n, v)."""
        if rotation.u is not None:
            return _left_times(self.backend, rotation.u, responses[rotation.train])
        right = rotation.v / rotation.s
        if sums is None or sums.means.dtype != responses.dtype:
            product = self.design.cross(rotation.train, responses[rotation.train])
            return _left_times(self.backend, right, product)
        parts = self._parts(rotation.train)
        n = np.array([self._moments[part].n for part in parts])
        means = np.stack([self._moments[part].mean for part in parts]) - rotation.mean
        product = (n[:, None] * means).T.astype(sums.means.dtype) @ sums.means[parts]
        for part in parts:
            product += sums.products[part]
        return _left_times(self.backend, right, product)

    def coefficients(self, rotation: Rotation, w: Any) -> Floats:
        """Weights (k, v) in the basis as weights (p, v) in the units of the features."""
        return self.backend.to_numpy(rotation.v @ w)

    def _parts(self, train: Indices) -> list[int]:
        inside = np.zeros(self.design.shape[0], dtype=bool)
        inside[train] = True
        return [number for number, atom in enumerate(self._atoms) if inside[atom[0]]]

    def _moments_of(self, train: Indices) -> Moments:
        if not self._atoms:
            return self.design.moments(train)
        return merge([self._moments[part] for part in self._parts(train)])


class DualPieces:
    """The kernel (n, n) of the samples, and what it gives of each training set; parameters as for `PrimalPieces`.

    With scaling or weights of columns each training set has a kernel of its own, computed from its rows.
    """

    def __init__(
        self,
        design: Design,
        backend: Backend,
        standardise: bool = True,
        n_components: int | None = None,
        smallest_alpha: float = np.inf,
    ) -> None:
        self.design, self.backend, self.standardise = design, backend, standardise
        self.n_components, self.smallest_alpha = n_components, smallest_alpha
        self.column_weights: Floats | None = None
        self._kernel = None if standardise else design.kernel()

    def weighted(self, column_weights: Floats) -> DualPieces:
        """The same, with standardised columns multiplied by these weights (p,)."""
        pieces = copy.copy(self)
        pieces.column_weights, pieces._kernel = column_weights, None
        return pieces

    def rotate(self, train: Indices) -> Rotation:
        """Factorise a training set."""
        if self._kernel is not None:
            kernel = self._kernel[np.ix_(train, train)]
            mean = kernel.mean(axis=0)
            s, u = _spectrum(kernel - mean - (mean - mean.mean())[:, None], train, self)
            if is_ill_conditioned(s, self.smallest_alpha):
                return _rotate_rows(self.design.rows(train), train, np.ones(self.design.shape[1]), self)
            return Rotation(train, mean, np.empty(0), s, u=u)
        rows = self.design.rows(train)
        mean = rows.mean(axis=0)
        weight = column_weights_of(mean, rows.std(axis=0), self.standardise)
        if self.column_weights is not None:
            weight = weight * self.column_weights
        x = (rows - mean) * weight
        s, u = _spectrum(x @ x.T, train, self)
        if is_ill_conditioned(s, self.smallest_alpha):
            return _rotate_rows(rows, train, weight, self)
        return Rotation(train, mean, weight, s, u=u, x=x)

    def project(self, rotation: Rotation, index: Indices) -> Any:
        """Samples (m,) in the basis of the training set, shape (m, k)."""
        if rotation.v is not None:
            return self.backend.array(self.design.rows(index) - rotation.mean) @ rotation.v
        if rotation.x is not None:
            kernel = ((self.design.rows(index) - rotation.mean) * rotation.weight) @ rotation.x.T
        else:
            assert self._kernel is not None
            kernel = self._kernel[np.ix_(index, rotation.train)]
            kernel = kernel - rotation.mean
            # U is orthogonal to constants only as far as its small singular values allow.
            kernel -= kernel.mean(axis=1, keepdims=True)
        return self.backend.array(kernel) @ (rotation.u / rotation.s)

    def left(self, rotation: Rotation) -> Any:
        """U of the training set, shape (n, k)."""
        return rotation.u

    def sums(self, responses: np.ndarray) -> TargetSums | None:
        """What training sets share of a block of responses: nothing."""
        return None

    def reduce(self, rotation: Rotation, responses: np.ndarray, sums: TargetSums | None) -> Any:
        """U'Y of the training set, shape (k, v), in the type of the responses (n, v)."""
        return _left_times(self.backend, rotation.u, responses[rotation.train])

    def coefficients(self, rotation: Rotation, w: Any) -> Floats:
        """Weights (k, v) in the basis as weights (p, v) in the units of the features."""
        if rotation.v is not None:
            return self.backend.to_numpy(rotation.v @ w)
        of_samples = self.backend.to_numpy((rotation.u / rotation.s) @ w)
        if rotation.x is not None:
            return rotation.weight[:, None] * (rotation.x.T @ of_samples)
        rows = self.design.rows(rotation.train)
        return (rows - rows.mean(axis=0)).T @ of_samples


def spectrum_of_all(design: Design, backend: Backend, smallest_alpha: float) -> tuple[Any, Any]:
    """U (n, k) and the singular values (k,) of the features centred on all samples."""
    n, p = design.shape
    every = np.arange(n)
    pieces: PrimalPieces | DualPieces = (
        DualPieces(design, backend, standardise=False, smallest_alpha=smallest_alpha)
        if n <= p
        else PrimalPieces(design, [every], backend, standardise=False, smallest_alpha=smallest_alpha)
    )
    rotation = pieces.rotate(every)
    return pieces.left(rotation), rotation.s


def is_ill_conditioned(s: Any, smallest_alpha: float) -> bool:
    """Whether squares of these singular values (k,), largest first, are too coarse for so small a penalty."""
    return s.shape[0] > 0 and smallest_alpha < WORTH_SVD * float(s[0]) ** 2


def column_weights_of(mean: Floats, deviation: Floats, standardise: bool = True) -> Floats:
    """What each column is multiplied by; a constant one by zero, as its deviation is rounding of its mean."""
    varies = deviation > 1e-12 * np.maximum(np.abs(mean), np.finfo(np.float64).tiny)
    scale = deviation if standardise else np.ones_like(deviation)
    return np.where(varies, 1.0 / np.where(varies, scale, 1.0), 0.0)


def _spectrum(squares: Floats, train: Indices, pieces: PrimalPieces | DualPieces) -> tuple[Any, Any]:
    """Singular values, largest first, and vectors from X'X or XX'."""
    xp = pieces.backend.xp
    values, vectors = xp.linalg.eigh(pieces.backend.array(squares))
    # Rounding alone gives values of this size: such directions are not in the data.
    rounding = max(len(train), pieces.design.shape[1]) * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    rank = int(xp.sum(xp.astype(values > rounding, xp.int64)))
    rank = rank if pieces.n_components is None else min(rank, pieces.n_components)
    n = values.shape[0]
    return xp.sqrt(xp.flip(values[n - rank :])), xp.flip(vectors[:, n - rank :], axis=1)


def _rotate_rows(rows: Floats, train: Indices, weight: Floats, pieces: PrimalPieces | DualPieces) -> Rotation:
    """The rotation from the singular value decomposition of the training rows (n, p) themselves."""
    xp, mean = pieces.backend.xp, rows.mean(axis=0)
    u, s, vt = xp.linalg.svd(pieces.backend.array((rows - mean) * weight), full_matrices=False)
    rank = int(xp.sum(xp.astype(s > max(rows.shape) * np.finfo(np.float64).eps * s[0], xp.int64)))
    rank = rank if pieces.n_components is None else min(rank, pieces.n_components)
    v = pieces.backend.array(weight[:, None]) * vt[:rank].T
    return Rotation(train, mean, weight, s[:rank], v=v, u=u[:, :rank])


def _left_times(backend: Backend, matrix: Any, responses: np.ndarray) -> Any:
    """Transpose of a float64 matrix (n, k) times responses (n, v), in the type of the responses."""
    y = backend.array(responses, str(responses.dtype))
    return backend.xp.astype(matrix, y.dtype).T @ y
