"""Banded ridge: one penalty per feature space and target."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data  # pyrefly: ignore[missing-module-attribute]  (newer than the stubs)

from brainalign.encoding.backends import Backend, BackendName
from brainalign.encoding.designs import Design, Matrix
from brainalign.encoding.nested import Choice, Prediction, Targets, choose, inner_scores, target_sums, weights
from brainalign.encoding.penalties import Grid, Indices, Selection
from brainalign.encoding.responses import Responses
from brainalign.encoding.ridge import HeldOutPart, RidgeEncoder
from brainalign.encoding.spectra import Pieces
from brainalign.encoding.splits import NestedFold, Splitter
from brainalign.errors import DataError
from brainalign.types import Floats

__all__ = ["BandedRidgeEncoder"]


@dataclass(frozen=True)
class _Found:
    """The best candidate and penalty of each outer fold and target, and the best score of each candidate.

    `gamma` (fold, v) counts candidates; `scores` is (candidate, v), of the first fold.
    """

    gamma: NDArray[np.intp]
    choice: Choice
    scores: Floats


class BandedRidgeEncoder(RidgeEncoder):
    """Ridge with one penalty per feature space (band) and target, found by random search.

    Minimises ``|Y - sum_b X_b W_b|^2 + sum_b (alpha / gamma_b) |W_b|^2`` for each target. The gammas of a candidate are
    not negative and sum to one; every candidate is tried with every alpha, and each target takes the pair that is best
    on the inner folds. The same as ridge with penalty alpha on bands multiplied by sqrt(gamma_b): all that ridge
    shares among folds and penalties is shared here too.

    Parameters
    ----------
    bands : mapping of name to int, or sequence of int, optional
        Number of columns of each band, as they follow each other in X; one band by default, which is `RidgeEncoder`.
    alphas : sequence of float
        Penalties to choose from.
    n_iter : int
        Number of candidates drawn from Dirichlet distributions. Equal gammas and each band alone are tried besides.
    concentration : sequence of float
        Parameters of those distributions, taken in turn: small ones draw candidates with few bands.
    gammas : array (candidate, band), optional
        The candidates to try instead.
    inner_splits, selection, gap, standardise, backend, device, memory_limit
        As for `RidgeEncoder`.
    random_state : int, RandomState or None
        Of the draws.

    Attributes
    ----------
    alpha_ : array (v,)
    gamma_ : array (n_bands, v)
        The penalty of band b is ``alpha_ / gamma_[b]``, infinite where gamma is zero.
    coef_ : array (p, v)
        Weights in the units of X.
    intercept_ : array (v,)
    at_edge_ : array (v,) of bool
    inner_scores_ : array (candidate, v)
        Of each candidate's best alpha.
    gammas_ : array (candidate, n_bands)
        The candidates.

    Notes
    -----
    Nunez-Elizalde, Huth & Gallant (2019); random search after Dupre la Tour et al. (2022), whose ``deltas`` are
    log(gamma / alpha) here. With a baseline, that is one band more.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 30)); Y = X[:, :2] @ rng.normal(size=(2, 3)) + rng.normal(size=(100, 3))
    >>> encoder = BandedRidgeEncoder({"signal": 2, "noise": 28}, alphas=[1.0, 10.0], n_iter=5, random_state=0)
    >>> bool((encoder.fit(X, Y).gamma_[0] > 0.5).all())
    True
    """

    # What ridge alone has: components would mix the bands.
    n_components = None
    baseline_alphas = (1.0,)

    def __init__(
        self,
        bands: Mapping[str, int] | Sequence[int] | None = None,
        alphas: Sequence[float] = tuple(float(alpha) for alpha in np.logspace(-1, 9, 21)),
        n_iter: int = 100,
        concentration: Sequence[float] = (0.1, 1.0),
        gammas: Any = None,
        inner_splits: int | Splitter | Literal["loo"] = 4,
        selection: Selection = "r2",
        gap: int = 0,
        standardise: bool = True,
        backend: BackendName = "auto",
        device: str | None = None,
        memory_limit: float | None = None,
        random_state: Any = 0,
    ) -> None:
        self.bands = bands
        self.alphas = alphas
        self.n_iter = n_iter
        self.concentration = concentration
        self.gammas = gammas
        self.inner_splits = inner_splits
        self.selection = selection
        self.gap = gap
        self.standardise = standardise
        self.backend = backend
        self.device = device
        self.memory_limit = memory_limit
        self.random_state = random_state

    def fit(self, X: Floats, y: Floats, groups: Any = None, baseline: Floats | None = None) -> Self:
        """Choose the penalties and fit; parameters and errors as for `RidgeEncoder.fit`.

        A baseline is one band more: give it as such.
        """
        if baseline is not None:
            raise ValueError("Give the baseline as a band: bands={..., 'baseline': its number of columns}.")
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64, ensure_min_samples=2)
        self.check_settings()
        fold = self.inner_of_all(len(X), groups)
        responses = Responses(y.reshape(len(y), -1), hold=2**62)
        design, targets = Matrix(X), Targets(responses, responses.blocks())
        how, backend = self.explain(design, responses, [fold])
        widths, grid = self.widths(X.shape[1]), self.grid()
        self.gammas_ = self.candidates(len(widths))
        pieces = self.pieces(how.route, design, [fold], backend)
        with backend.on_its_own_threads():
            found = self._search(pieces, [fold], targets, grid, backend, widths, self.gammas_)
        self.inner_scores_ = found.scores
        self.alpha_, self.at_edge_ = grid.alphas[found.choice.alpha[0]], found.choice.at_edge[0]
        self.gamma_ = self.gammas_[found.gamma[0]].T
        self.coef_ = np.empty((X.shape[1], responses.n_targets))
        for columns, coef in _refits(pieces, fold.train, 0, targets, grid, backend, widths, self.gammas_, found):
            self.coef_[:, columns] = coef * responses.scale[columns]
        self.intercept_ = responses.mean - X.mean(axis=0) @ self.coef_
        self.baseline_coef_ = np.empty((0, responses.n_targets))
        self.baseline_alpha_ = np.full(responses.n_targets, np.nan)
        if y.ndim == 1:
            self.drop_target_axis()
            self.gamma_ = self.gamma_[:, 0]
        return self

    def held_out(
        self, design: Design, responses: Responses, folds: Sequence[NestedFold], baseline: Floats | None = None
    ) -> Iterator[HeldOutPart]:
        """As `RidgeEncoder.held_out`; predictions come with the part of each band."""
        self.check_settings()
        joint = None
        if baseline is not None:
            joint = Matrix(np.hstack([design.rows(np.arange(design.shape[0])), baseline]))
        how, backend = self.explain(design if joint is None else joint, responses, folds)
        try:
            widths = self.widths(design.shape[1])
        except ValueError as problem:
            raise DataError(f"encoder: {problem}") from problem
        with backend.on_its_own_threads():
            for targets in how.parts(responses):
                problem = (folds, targets, how.route, backend)
                alone, predicted = self._predict(design, widths, *problem)
                if joint is None or baseline is None:
                    yield HeldOutPart(targets, alone, None, predicted)
                    continue
                choice, both = self._predict(joint, [*widths, baseline.shape[1]], *problem)
                yield HeldOutPart(targets, alone, choice, _beside(predicted, both))

    def check_settings(self) -> None:
        """Raise a ValueError that names the first parameter with which nothing can be fitted."""
        super().check_settings()
        if not isinstance(self.n_iter, Integral) or self.n_iter < 0:
            raise ValueError(f"n_iter is a number of candidates, not {self.n_iter!r}.")
        concentration = np.asarray(self.concentration, dtype=np.float64)
        if concentration.ndim != 1 or not len(concentration) or not np.all(concentration > 0):
            raise ValueError(f"concentration must be positive numbers, at least one; got {self.concentration!r}.")
        if self.bands is not None:
            widths = list(self.bands.values() if isinstance(self.bands, Mapping) else self.bands)
            if not widths or not all(isinstance(width, Integral) and width >= 1 for width in widths):
                raise ValueError(f"bands must give each band's number of columns, at least 1; got {self.bands!r}.")

    @property
    def n_bands(self) -> int:  # pyrefly: ignore[bad-override]
        """Number of bands."""
        return len(self.band_names())

    def band_names(self) -> list[str]:
        """The names of the bands, or their numbers."""
        if isinstance(self.bands, Mapping):
            return list(self.bands)
        return [str(number) for number in range(1 if self.bands is None else len(self.bands))]

    def widths(self, n_features: int) -> list[int]:
        """The number of columns of each band; a ValueError if they are not those of X."""
        if self.bands is None:
            return [n_features]
        widths = [int(width) for width in (self.bands.values() if isinstance(self.bands, Mapping) else self.bands)]
        if sum(widths) != n_features:
            raise ValueError(f"The bands {self.bands!r} have {sum(widths)} columns together; X has {n_features}.")
        return widths

    def candidates(self, n_bands: int) -> Floats:
        """The gammas to try, shape (candidate, band), each summing to one: equal ones first, then each band alone."""
        if self.gammas is not None:
            gammas = np.asarray(self.gammas, dtype=np.float64)
            if gammas.ndim != 2 or gammas.shape[1] != n_bands or not np.isfinite(gammas).all() or (gammas < 0).any():
                raise ValueError(f"gammas must be finite and not negative, shape (candidate, {n_bands}).")
            return gammas
        if n_bands == 1:
            return np.ones((1, 1))
        rng = check_random_state(self.random_state)
        of_draw = np.resize(np.asarray(self.concentration, dtype=np.float64), int(self.n_iter))
        draws = [rng.dirichlet(np.full(n_bands, parameter)) for parameter in of_draw]
        return np.vstack([np.full((1, n_bands), 1.0 / n_bands), np.eye(n_bands), *draws])

    def _predict(
        self,
        design: Design,
        widths: Sequence[int],
        folds: Sequence[NestedFold],
        targets: Targets,
        route: Any,
        backend: Backend,
    ) -> tuple[Choice, Iterator[Prediction]]:
        """Search, then predict each outer fold."""
        grid, gammas = self.grid(), self.candidates(len(widths))
        pieces = self.pieces(route, design, folds, backend)
        found = self._search(pieces, folds, targets, grid, backend, widths, gammas)
        return found.choice, _predictions(pieces, design, folds, targets, grid, backend, widths, gammas, found)

    def _search(
        self,
        pieces: Pieces,
        folds: Sequence[NestedFold],
        targets: Targets,
        grid: Grid,
        backend: Backend,
        widths: Sequence[int],
        gammas: Floats,
    ) -> _Found:
        """Score every candidate, keeping only the best so far of each fold and target."""
        sums = target_sums(pieces, targets, backend)
        shape = (len(folds), targets.n)
        best, gamma = np.full(shape, -np.inf), np.zeros(shape, dtype=np.intp)
        alpha, at_edge = np.full(shape, len(grid.alphas) - 1, dtype=np.intp), np.zeros(shape, dtype=bool)
        of_first = np.empty((len(gammas), targets.n))
        for number, candidate in enumerate(gammas):
            weighted = pieces.weighted(np.repeat(np.sqrt(candidate), widths))
            scores = inner_scores(weighted, folds, targets, sums, grid, backend).alone
            choice = choose(scores)
            score = np.take_along_axis(scores, choice.alpha[:, None], axis=1)[:, 0]
            of_first[number] = score[0]
            better = score > best  # False for NaN: the first candidate and the largest alpha stay
            best, gamma = np.where(better, score, best), np.where(better, number, gamma)
            alpha, at_edge = np.where(better, choice.alpha, alpha), np.where(better, choice.at_edge, at_edge)
        return _Found(gamma, Choice(alpha, np.zeros_like(alpha), at_edge), of_first)


def _refits(
    pieces: Pieces,
    train: Indices,
    fold: int,
    targets: Targets,
    grid: Grid,
    backend: Backend,
    widths: Sequence[int],
    gammas: Floats,
    found: _Found,
) -> Iterator[tuple[NDArray[np.intp], Floats]]:
    """Weights (p, some targets) in the units of the features, one factorisation per candidate that was chosen."""
    for number in np.unique(found.gamma[fold]):
        weighted = pieces.weighted(np.repeat(np.sqrt(gammas[number]), widths))
        rotation = weighted.rotate(train)
        for block in targets.blocks:
            here = targets.here(block)
            columns = np.flatnonzero(found.gamma[fold, here] == number)
            if len(columns):
                z = weighted.reduce(rotation, np.ascontiguousarray(targets.read(block)[:, columns]), None)
                w = weights(rotation.s, z, grid, found.choice.alpha[fold, here][columns], backend)
                coefficients = weighted.coefficients(rotation, backend.xp.astype(w, backend.xp.float64))
                yield here.start + columns, coefficients


def _predictions(
    pieces: Pieces,
    design: Design,
    folds: Sequence[NestedFold],
    targets: Targets,
    grid: Grid,
    backend: Backend,
    widths: Sequence[int],
    gammas: Floats,
    found: _Found,
) -> Iterator[Prediction]:
    edges = np.cumsum([0, *widths])
    for number, fold in enumerate(folds):
        centred = design.rows(fold.test) - design.moments(fold.train).mean
        bands = np.empty((len(widths), len(fold.test), targets.n))
        for columns, coef in _refits(pieces, fold.train, number, targets, grid, backend, widths, gammas, found):
            for band, (start, stop) in enumerate(itertools.pairwise(edges.tolist())):
                bands[band][:, columns] = centred[:, start:stop] @ coef[start:stop]
        for block in targets.blocks:
            y, here = targets.read(block), targets.here(block)
            mean, own = y[fold.train].mean(axis=0), bands[:, :, here]
            yield Prediction(number, block, own.sum(axis=0) + mean, None, y[fold.test], mean, own)


def _beside(alone: Iterator[Prediction], joint: Iterator[Prediction]) -> Iterator[Prediction]:
    """Predictions of the features alone, with those of features and baseline in the place of the joint ones."""
    for one, other in zip(alone, joint, strict=True):
        yield Prediction(one.fold, one.block, one.alone, other.alone, one.observed, one.reference, one.bands)
