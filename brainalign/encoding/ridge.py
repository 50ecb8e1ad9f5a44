"""Ridge regression of many targets on shared features, each target with a penalty of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal, Self, get_args

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import (
    check_is_fitted,
    validate_data,  # pyrefly: ignore[missing-module-attribute]  (newer than the stubs)
)

from brainalign.encoding.backends import Backend, BackendName, choose_backend
from brainalign.encoding.designs import Design, Matrix
from brainalign.encoding.nested import (
    Choice,
    Prediction,
    Targets,
    choose,
    downdated,
    inner_scores,
    joint_weights,
    predictions,
    standard_columns,
    target_sums,
    training_baseline,
    weights,
)
from brainalign.encoding.penalties import Grid, Selection
from brainalign.encoding.planning import Plan, Problem, Route, memory_for_fits, plan
from brainalign.encoding.responses import Responses
from brainalign.encoding.spectra import DualPieces, Pieces, PrimalPieces, is_ill_conditioned, spectrum_of_all
from brainalign.encoding.splits import NestedFold, Splitter, inner_folds
from brainalign.types import Floats

__all__ = ["HeldOutPart", "RidgeEncoder", "check_baseline"]


@dataclass(frozen=True)
class HeldOutPart:
    """Consecutive targets: the penalties chosen for each outer fold, and the predictions of its samples.

    `alone` are the choices for the features alone, `joint` those with the baseline, if there is one.
    """

    targets: Targets
    alone: Choice
    joint: Choice | None
    predictions: Iterable[Prediction]


class RidgeEncoder(RegressorMixin, MultiOutputMixin, BaseEstimator):
    """Ridge with one penalty per target, chosen on inner folds that are never shuffled.

    Minimises ``|Y - XW|^2 + alpha |W|^2`` for each target, X standardised and Y centred on the training samples. Inner
    folds are whole runs where `groups` names several, else contiguous blocks with a gap. All penalties and
    targets share one factorisation per training set.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from; by default 0.1 to 1e9 in half decades.
    inner_splits : int, scikit-learn splitter or "loo"
        Number of inner folds, or the splitter that makes them. "loo" leaves out one sample at a time, as scikit-learn's
        RidgeCV does: on timed data, whose samples know their neighbours, it chooses penalties that are too small.
    selection : {"r2", "r"}
        What the penalty maximises, averaged over inner folds. "r2" shrinks targets that cannot be predicted towards
        their mean; "r" leaves scale aside and is noisier.
    n_components : int, optional
        Keep this many principal components of the standardised training features before the ridge.
    baseline_alphas : sequence of float
        Penalties to choose from for the columns of `baseline`, where `fit` is given one.
    gap : int
        Samples left out on each side of an inner test block; without meaning for whole runs.
    standardise : bool
        Divide each feature by its standard deviation over the training samples, fold by fold. If False features are
        only centred: for features that come on a scale that is meant. Nested folds are then faster still.
    backend : {"auto", "numpy", "torch"}
        What computes; "auto" takes a GPU or the faster library for large problems.
    device : str, optional
        A device of torch, such as "cuda".
    memory_limit : float, optional
        Bytes that a fit may fill beside the data it is given; by default half of what is free.

    Attributes
    ----------
    alpha_, baseline_alpha_ : arrays (v,)
        The penalties chosen; `baseline_alpha_` is NaN without a baseline.
    coef_ : array (p, v)
        Weights in the units of X.
    baseline_coef_ : array (q, v)
        Weights in the units of the baseline; q = 0 without one.
    intercept_ : array (v,)
    at_edge_ : array (v,) of bool
        Whether `alpha_` is the smallest or largest of `alphas` and the inner score still rises towards it, so that a
        wider grid would give another fit.
    inner_scores_ : array (g, v)
        Mean inner score of each penalty (each pair of penalties, the features' outermost, with a baseline).

    Notes
    -----
    scikit-learn's convention of alpha; the Huth lab's code squares its own (alpha here = alpha there squared). The
    fitted arrays put targets last, (p, v); with a one-dimensional y they lose that axis. Responses in float32 are
    multiplied in float32, to about 1e-6 of their standard deviation, wherever the penalties are large enough for that;
    Grams and factorisations are in float64. Samples cannot be weighted.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 5)); Y = X @ rng.normal(size=(5, 3)) + rng.normal(size=(100, 3))
    >>> RidgeEncoder(alphas=[1.0, 10.0, 100.0]).fit(X, Y).predict(X).shape
    (100, 3)
    """

    # Feature spaces with penalties of their own: `BandedRidgeEncoder` has some.
    n_bands = 0

    def __init__(
        self,
        alphas: Sequence[float] = tuple(float(alpha) for alpha in np.logspace(-1, 9, 21)),
        inner_splits: int | Splitter | Literal["loo"] = 4,
        selection: Selection = "r2",
        n_components: int | None = None,
        baseline_alphas: Sequence[float] = (1.0, 100.0, 10000.0),
        gap: int = 0,
        standardise: bool = True,
        backend: BackendName = "auto",
        device: str | None = None,
        memory_limit: float | None = None,
    ) -> None:
        self.alphas = alphas
        self.inner_splits = inner_splits
        self.selection = selection
        self.n_components = n_components
        self.baseline_alphas = baseline_alphas
        self.gap = gap
        self.standardise = standardise
        self.backend = backend
        self.device = device
        self.memory_limit = memory_limit

    def fit(self, X: Floats, y: Floats, groups: Any = None, baseline: Floats | None = None) -> Self:
        """Choose the penalties and fit.

        Parameters
        ----------
        X : array (n, p)
        y : array (n, v) or (n,)
        groups : array (n,), optional
            The run of each sample.
        baseline : array (n, q), optional
            Columns fitted beside X with a penalty of their own.

        Raises
        ------
        ValueError
            If a value is NaN or infinite, a penalty is not positive, or shapes do not agree.
        DataError
            If there are too few samples for the inner folds.
        """
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64, ensure_min_samples=2)
        self.check_settings()
        if baseline is not None:
            baseline = check_baseline(baseline, len(X))
        fold = self.inner_of_all(len(X), groups)
        responses = Responses(y.reshape(len(y), -1), hold=2**62)
        targets = Targets(responses, responses.blocks())

        grid, design = self.grid(baseline), Matrix(X)
        todo = Problem(X.shape[1], responses.n_targets, [fold], grid, self.standardise, responses.dtype)
        how = self.plan(todo, ("primal", "dual"))
        backend = self.compute_with(how)
        pieces = self.pieces(how.route, design, [fold], backend)
        with backend.on_its_own_threads():
            sums = target_sums(pieces, targets, backend)
            scores = inner_scores(pieces, [fold], targets, sums, grid, backend, [] if baseline is None else [baseline])
        self.inner_scores_ = (scores.joints[0] if scores.joints else scores.alone)[0]
        choice = choose(self.inner_scores_[None], 1 if baseline is None else len(grid.betas))
        self.alpha_ = grid.alphas[choice.alpha[0]]
        self.baseline_alpha_ = np.full(responses.n_targets, np.nan) if baseline is None else grid.betas[choice.beta[0]]
        self.at_edge_ = choice.at_edge[0]
        self._fit_weights(pieces, targets, sums, grid, backend, choice, baseline)
        self.intercept_ = responses.mean + self.intercept_ - X.mean(axis=0) @ self.coef_
        if y.ndim == 1:
            self.drop_target_axis()
        return self

    def predict(self, X: Floats, baseline: Floats | None = None) -> Floats:
        """Predicted responses, shape (n, v), or (n,) if fitted on one-dimensional y.

        Raises
        ------
        ValueError
            If a baseline is given to an encoder fitted without one, or the other way round.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        predicted = X @ self.coef_ + self.intercept_
        n_baseline = self.baseline_coef_.shape[0]
        if (baseline is None) != (n_baseline == 0):
            raise ValueError(f"This encoder was fitted with {n_baseline} baseline columns: give predict the same.")
        return predicted if baseline is None else predicted + check_baseline(baseline, len(X)) @ self.baseline_coef_

    def held_out(
        self, design: Design, responses: Responses, folds: Sequence[NestedFold], baseline: Floats | None = None
    ) -> Iterator[HeldOutPart]:
        """Choose penalties on the inner folds of each outer fold and predict the outer ones, some targets at a time.

        The same as fitting on each fold's training samples and predicting the rest, with the work that folds have in
        common done once.

        Parameters
        ----------
        design : Design
            Features (n, p).
        responses : Responses
        folds : sequence of NestedFold
        baseline : array (n, q), optional

        Yields
        ------
        HeldOutPart
            Of consecutive targets.
        """
        self.check_settings()
        how, backend = self.explain(design, responses, folds, baseline)
        grid = self.grid(baseline)
        if how.route == "downdating":
            u, s = spectrum_of_all(design, backend, grid.alphas[0])
            if not is_ill_conditioned(s, grid.alphas[0]):
                with backend.on_its_own_threads():
                    for targets in how.parts(responses):
                        choice, predicted = downdated(u, s, folds, targets, grid, backend)
                        yield HeldOutPart(targets, choice, None, predicted)
                return
            # What is left of a sample's own response is rounding then: other routes do not subtract it from one.
            how, backend = self.explain(design, responses, folds, baseline, ("primal", "dual"))
        pieces, baselines = self.pieces(how.route, design, folds, backend), [] if baseline is None else [baseline]
        with backend.on_its_own_threads():
            for targets in how.parts(responses):
                sums = target_sums(pieces, targets, backend)
                scores = inner_scores(pieces, folds, targets, sums, grid, backend, baselines)
                alone, joints = choose(scores.alone), [choose(joint, len(grid.betas)) for joint in scores.joints]
                predicted = predictions(pieces, folds, targets, sums, grid, backend, alone, joints, baselines)
                yield HeldOutPart(targets, alone, joints[0] if joints else None, (one for (one,) in predicted))

    def explain(
        self,
        design: Design,
        responses: Responses,
        folds: Sequence[NestedFold],
        baseline: Floats | None = None,
        allowed: Sequence[Route] = get_args(Route),
    ) -> tuple[Plan, Backend]:
        """The way that `held_out` will take, unless penalties prove too small for it, and what will compute it."""
        problem = Problem(
            design.shape[1],
            responses.each,
            folds,
            self.grid(baseline),
            scaled=self.standardise or self.n_components is not None or self.n_bands > 0,
            dtype=responses.dtype,
            n_baseline=0 if baseline is None else baseline.shape[1],
            n_bands=self.n_bands,
        )
        how = self.plan(problem, ("primal", "dual") if self.inner_splits == "loo" else allowed)
        return how, self.compute_with(how)

    def check_settings(self) -> None:
        """Raise a ValueError that names the first parameter with which nothing can be fitted."""
        for name in ("alphas", "baseline_alphas"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            if values.ndim != 1 or len(values) == 0 or not np.all(np.isfinite(values) & (values > 0)):
                raise ValueError(f"{name} must be positive and finite, at least one; got {getattr(self, name)!r}.")
        if self.selection not in get_args(Selection):
            raise ValueError(f"selection must be 'r2' or 'r', not {self.selection!r}.")
        if self.n_components is not None and self.n_components < 1:
            raise ValueError(f"n_components must be at least 1, not {self.n_components}.")
        # Text has a split method as well.
        is_splitter = isinstance(self.inner_splits, Splitter) and not isinstance(self.inner_splits, str)
        is_number = isinstance(self.inner_splits, Integral) and self.inner_splits >= 2
        if not is_splitter and not is_number and self.inner_splits != "loo":
            raise ValueError(
                f"inner_splits must be a number of at least 2, a splitter or 'loo'; not {self.inner_splits!r}."
            )
        if self.gap < 0:
            raise ValueError(f"gap cannot be negative; it is {self.gap}.")
        if not isinstance(self.standardise, bool | np.bool_):
            raise ValueError(f"standardise must be True or False, not {self.standardise!r}.")
        if self.backend not in get_args(BackendName):
            raise ValueError(f"backend must be one of {', '.join(get_args(BackendName))}, not {self.backend!r}.")
        limit = self.memory_limit
        if limit is not None and not (isinstance(limit, Real) and limit > 0):
            raise ValueError(f"memory_limit is a number of bytes, above zero; not {limit!r}.")

    def grid(self, baseline: Any = None) -> Grid:
        """The penalties in increasing order; those of a baseline only if there is one."""
        betas = np.ones(1) if baseline is None else np.sort(np.asarray(self.baseline_alphas, dtype=np.float64))
        return Grid(np.sort(np.asarray(self.alphas, dtype=np.float64)), betas, self.selection)

    def inner_of_all(self, n_samples: int, groups: Any) -> NestedFold:
        """All samples, with the inner folds on which penalties are chosen."""
        if groups is not None and len(groups) != n_samples:
            raise ValueError(f"groups names the run of {len(groups)} samples; X has {n_samples}.")
        every = np.arange(n_samples)
        inner = () if self.inner_splits == "loo" else inner_folds(self.inner_splits, every, groups, self.gap)
        return NestedFold(every, every[:0], inner)

    def plan(self, problem: Problem, allowed: Sequence[Route] = get_args(Route)) -> Plan:
        """The way to take within the memory limit."""
        return plan(problem, memory_for_fits() if self.memory_limit is None else self.memory_limit, allowed)

    def compute_with(self, how: Plan) -> Backend:
        """The backend for a plan."""
        chosen = choose_backend(self.backend, self.device, how.operations[how.route])
        return replace(chosen, threads=how.threads)

    def pieces(
        self,
        route: Route,
        design: Design,
        folds: Sequence[NestedFold],
        backend: Backend,
    ) -> Pieces:
        """What the training sets of these folds share."""
        if route == "primal":
            sets = [fold.train for fold in folds] + [inner.train for fold in folds for inner in fold.inner]
            return PrimalPieces(design, sets, backend, self.standardise, self.n_components, min(self.alphas))
        return DualPieces(design, backend, self.standardise, self.n_components, min(self.alphas))

    def drop_target_axis(self) -> None:
        """Take the last axis off all fitted arrays, as y came without one."""
        self.coef_, self.baseline_coef_ = self.coef_[:, 0], self.baseline_coef_[:, 0]
        self.intercept_, self.alpha_, self.at_edge_ = self.intercept_[0], self.alpha_[0], self.at_edge_[0]
        self.baseline_alpha_, self.inner_scores_ = self.baseline_alpha_[0], self.inner_scores_[:, 0]

    def _fit_weights(
        self,
        pieces: Pieces,
        targets: Targets,
        sums: Sequence[Any],
        grid: Grid,
        backend: Backend,
        choice: Choice,
        baseline: Floats | None,
    ) -> None:
        """Set the coefficients in the units of the data, and what the baseline's means take off the intercept."""
        every = np.arange(targets.responses.n_samples)
        rotation = pieces.rotate(every)
        n_baseline = 0 if baseline is None else baseline.shape[1]
        coef, baseline_coef = [], [np.empty((n_baseline, 0))]
        columns = None if baseline is None else training_baseline(pieces, rotation, baseline, None, backend)
        for block, shared in zip(targets.blocks, sums, strict=True):
            y = targets.read(block)
            z, scale = pieces.reduce(rotation, y, shared), targets.responses.scale[block]
            alpha, beta = choice.alpha[0, block], choice.beta[0, block]
            if columns is None or baseline is None:
                w = weights(rotation.s, z, grid, alpha, backend)
            else:
                w, b = joint_weights(rotation.s, z, backend.array(y), columns, grid, alpha, beta, backend)
                of_columns = standard_columns(baseline)[1][:, None]
                baseline_coef.append(of_columns * backend.to_numpy(b) * scale)
            coef.append(pieces.coefficients(rotation, backend.xp.astype(w, backend.xp.float64)) * scale)
        self.coef_, self.baseline_coef_ = np.hstack(coef), np.hstack(baseline_coef)
        if baseline is None:
            self.baseline_coef_ = np.empty((0, targets.n))
        self.intercept_ = np.zeros(targets.n)
        if baseline is not None:
            self.intercept_ = -baseline.mean(axis=0) @ self.baseline_coef_


def check_baseline(baseline: Floats, n_samples: int) -> Floats:
    """The baseline's columns (n_samples, q) in float64; a ValueError if they are not finite or not so many rows."""
    baseline = np.asarray(baseline, dtype=np.float64)
    if baseline.ndim != 2 or len(baseline) != n_samples or not np.isfinite(baseline).all():
        raise ValueError(f"baseline must be finite with shape ({n_samples}, q); got shape {baseline.shape}.")
    return baseline
