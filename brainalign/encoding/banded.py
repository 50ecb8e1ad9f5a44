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
from brainalign.encoding.metrics import is_constant
from brainalign.encoding.nested import Choice, Prediction, Targets, choose, inner_scores, target_sums, weights
from brainalign.encoding.penalties import Grid, Indices, Selection
from brainalign.encoding.planning import Route
from brainalign.encoding.responses import Responses
from brainalign.encoding.ridge import HeldOutPart, RidgeEncoder
from brainalign.encoding.spectra import Pieces
from brainalign.encoding.splits import NestedFold, Splitter
from brainalign.errors import DataError
from brainalign.types import Floats

__all__ = ["BandedRidgeEncoder"]


class BandedRidgeEncoder(RidgeEncoder):
    """Ridge with one penalty per feature space (band) and target, found by random search.

    Minimises ``|Y - sum_b X_b W_b|^2 + sum_b (alpha / gamma_b) |W_b|^2`` for each target. The gammas of a candidate are
    not negative and, where drawn, sum to one; every candidate is tried with every alpha, and each target takes the pair
    that is best on the inner folds. The same as ridge with penalty alpha on bands multiplied by sqrt(gamma_b): all that
    ridge shares among folds and penalties is shared here too.

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
        The candidates to try instead; not negative, none of them all zeros.
    inner_splits, selection, gap, standardise, backend, device, memory_limit
        As for `RidgeEncoder`.
    random_state : int, RandomState or None
        Of the draws, made once for all targets.

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
        banded = self._banded(how.route, design, self.widths(X.shape[1]), [fold], backend)
        self.gammas_, best = banded.gammas, _Best.of_none(1, responses.n_targets, len(banded.grid.alphas))
        self.inner_scores_ = np.empty((len(self.gammas_), responses.n_targets))
        with backend.on_its_own_threads():
            for number, (score, choice) in enumerate(_tried(banded, [fold], targets)):
                self.inner_scores_[number] = score[0]
                best = best.or_better(number, score, choice)
            self.alpha_, self.at_edge_ = banded.grid.alphas[best.choice.alpha[0]], best.choice.at_edge[0]
            self.gamma_ = self.gammas_[best.gamma[0]].T
            self.coef_ = np.empty((X.shape[1], responses.n_targets))
            for columns, _, coef in _refits(banded, fold.train, 0, targets, best):
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
        widths, joint = self._widths_of(design), None
        if baseline is not None:
            if self.gammas is not None:
                raise DataError(
                    "encoder: gammas name no weight for a baseline; give it as one of the bands, or no gammas."
                )
            joint = Matrix(np.hstack([design.rows(np.arange(design.shape[0])), baseline]))
        how, backend = self.explain(design if joint is None else joint, responses, folds)
        # Once for all targets: a part of them must not be offered other candidates than the next.
        alone = self._banded(how.route, design, widths, folds, backend)
        both = None
        if joint is not None:
            both = self._banded(how.route, joint, [*widths, joint.shape[1] - design.shape[1]], folds, backend)
        with backend.on_its_own_threads():
            for targets in how.parts(responses):
                best = _best(alone, folds, targets)
                predicted = _predictions(alone, folds, targets, best, alone.widths)
                if both is None:
                    yield HeldOutPart(targets, best.choice, None, predicted)
                    continue
                of_both = _best(both, folds, targets)
                of_all = _predictions(both, folds, targets, of_both, [both.design.shape[1]])
                yield HeldOutPart(targets, best.choice, of_both.choice, _beside(predicted, of_all))

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
        check_random_state(self.random_state)
        if self.gammas is not None:
            _check_gammas(self.gammas, self.n_bands)

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
            return _check_gammas(self.gammas, n_bands)
        if n_bands == 1:
            return np.ones((1, 1))
        # Not drawn from a RandomState itself, whose Dirichlet gives NaN for small parameters.
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
        of_draw = np.resize(np.asarray(self.concentration, dtype=np.float64), int(self.n_iter))
        draws = [rng.dirichlet(np.full(n_bands, parameter)) for parameter in of_draw]
        return np.vstack((np.full((1, n_bands), 1.0 / n_bands), np.eye(n_bands), *draws))

    def _widths_of(self, design: Design) -> list[int]:
        """The number of columns of each band; a DataError if they are not those of the design."""
        try:
            return self.widths(design.shape[1])
        except ValueError as problem:
            raise DataError(f"encoder: {problem}") from problem

    def _banded(
        self, route: Route, design: Design, widths: Sequence[int], folds: Sequence[NestedFold], backend: Backend
    ) -> _Banded:
        pieces = self.pieces(route, design, folds, backend)
        return _Banded(design, widths, self.candidates(len(widths)), pieces, self.grid(), backend)


def _check_gammas(given: Any, n_bands: int) -> Floats:
    """The candidates (candidate, band) in float64; a ValueError if they cannot be tried."""
    gammas = np.asarray(given, dtype=np.float64)
    shaped = gammas.ndim == 2 and gammas.shape[1] == n_bands and len(gammas) > 0
    if not shaped or not np.isfinite(gammas).all() or (gammas < 0).any() or not gammas.any(axis=1).all():
        raise ValueError(
            f"gammas must be finite and not negative, none of them all zeros, with shape (candidate, {n_bands}); "
            f"got shape {gammas.shape}."
        )
    return gammas


@dataclass(frozen=True)
class _Banded:
    """Features in bands, and the candidates (candidate, band) to try on them."""

    design: Design
    widths: Sequence[int]
    gammas: Floats
    pieces: Pieces
    grid: Grid
    backend: Backend

    def weighted(self, number: int) -> Pieces:
        """The pieces of candidate `number`."""
        return self.pieces.weighted(np.repeat(np.sqrt(self.gammas[number]), self.widths))


@dataclass(frozen=True)
class _Best:
    """The best so far of each outer fold and target, arrays (fold, v): its score, its candidate and its penalty."""

    score: Floats
    gamma: NDArray[np.intp]
    choice: Choice

    @classmethod
    def of_none(cls, n_folds: int, n_targets: int, n_alphas: int) -> _Best:
        """Before any is tried, and after if none has a score: the first candidate and the largest penalty."""
        zeros = np.zeros((n_folds, n_targets), dtype=np.intp)
        return cls(np.full(zeros.shape, -np.inf), zeros, Choice(zeros + n_alphas - 1, zeros, zeros.astype(bool)))

    def or_better(self, number: int, score: Floats, choice: Choice) -> _Best:
        """With candidate `number`, of these scores and penalties, where it is better; the first of equals stays."""
        better = score > self.score  # False for NaN
        alpha = np.where(better, choice.alpha, self.choice.alpha)
        at_edge = np.where(better, choice.at_edge, self.choice.at_edge)
        return _Best(
            np.where(better, score, self.score),
            np.where(better, number, self.gamma),
            Choice(alpha, self.choice.beta, at_edge),
        )


def _tried(banded: _Banded, folds: Sequence[NestedFold], targets: Targets) -> Iterator[tuple[Floats, Choice]]:
    """Of each candidate the best penalty and its mean inner score (fold, v)."""
    sums = target_sums(banded.pieces, targets, banded.backend)
    for number in range(len(banded.gammas)):
        scores = inner_scores(banded.weighted(number), folds, targets, sums, banded.grid, banded.backend).alone
        choice = choose(scores)
        yield np.take_along_axis(scores, choice.alpha[:, None], axis=1)[:, 0], choice


def _best(banded: _Banded, folds: Sequence[NestedFold], targets: Targets) -> _Best:
    best = _Best.of_none(len(folds), targets.n, len(banded.grid.alphas))
    for number, (score, choice) in enumerate(_tried(banded, folds, targets)):
        best = best.or_better(number, score, choice)
    return best


def _refits(
    banded: _Banded, train: Indices, fold: int, targets: Targets, best: _Best
) -> Iterator[tuple[NDArray[np.intp], Floats, Floats]]:
    """Some targets, the training mean (p,) and their weights (p, some targets) in the units of the features.

    One factorisation per candidate that was chosen.
    """
    xp = banded.backend.xp
    for number in np.unique(best.gamma[fold]):
        weighted = banded.weighted(number)
        rotation = weighted.rotate(train)
        for block in targets.blocks:
            here = targets.here(block)
            columns = np.flatnonzero(best.gamma[fold, here] == number)
            if len(columns):
                z = weighted.reduce(rotation, np.ascontiguousarray(targets.read(block)[:, columns]), None)
                w = weights(rotation.s, z, banded.grid, best.choice.alpha[fold, here][columns], banded.backend)
                coefficients = weighted.coefficients(rotation, xp.astype(w, xp.float64))
                yield here.start + columns, rotation.mean, coefficients


def _predictions(
    banded: _Banded, folds: Sequence[NestedFold], targets: Targets, best: _Best, apart: Sequence[int]
) -> Iterator[Prediction]:
    """Predict each outer fold; `apart` are the numbers of consecutive columns whose parts of it are told apart."""
    edges = np.cumsum([0, *apart]).tolist()
    for number, fold in enumerate(folds):
        rows = banded.design.rows(fold.test)
        bands = np.empty((len(apart), len(fold.test), targets.n))
        for columns, mean, coef in _refits(banded, fold.train, number, targets, best):
            for band, (start, stop) in enumerate(itertools.pairwise(edges)):
                bands[band][:, columns] = (rows[:, start:stop] - mean[start:stop]) @ coef[start:stop]
        for block in targets.blocks:
            y, here = targets.read(block), targets.here(block)
            # What never varies in training is predicted by its value: the rest is rounding.
            own = np.where(is_constant(y[fold.train]), 0.0, bands[:, :, here])
            mean = y[fold.train].mean(axis=0)
            yield Prediction(number, block, own.sum(axis=0) + mean, None, y[fold.test], mean, own)


def _beside(alone: Iterator[Prediction], joint: Iterator[Prediction]) -> Iterator[Prediction]:
    """Predictions of the features alone, with those of features and baseline in the place of the joint ones."""
    for one, other in zip(alone, joint, strict=True):
        yield Prediction(one.fold, one.block, one.alone, other.alone, one.observed, one.reference, one.bands)
