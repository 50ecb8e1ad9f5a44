"""Decoding: the features of words or volumes predicted from the brain, and told apart by what is predicted.

The model is that of encoding read backwards (Naselaris et al., 2011): the responses are the columns of a ridge, the
principal components of a layer its targets, on the same folds. What a decoder reads out may be there for any reason:
it says that a layer's content can be had from the responses, not where or how they carry it.

Whether a prediction tells a sample from others is asked within each held-out fold (`retrieval`), of samples that are no
neighbours in time: those are alike for being neighbours.

Features and responses both remember what came before, so that chance is not zero in any one study: the mean r is
tested against those of features that are circularly shifted within each hearing and fitted anew (`permutation`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from brainalign.analysis.decoding.null import feature_shift, mean_r_tested
from brainalign.analysis.decoding.retrieval import retrieval
from brainalign.encoding.cross_validation import HOLD
from brainalign.encoding.designs import Matrix
from brainalign.encoding.metrics import is_constant, pearson, r2
from brainalign.encoding.responses import Responses
from brainalign.encoding.ridge import RidgeEncoder
from brainalign.encoding.samples import Samples
from brainalign.encoding.splits import ContiguousBlocks, NestedFold, nested_folds
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.types import Finding, Floats

__all__ = ["Decoded", "Decoding", "Latencies"]

Latencies = Literal["all", "each"]


@dataclass(frozen=True)
class Decoding:
    """Predict features from responses, fold by fold.

    Parameters
    ----------
    n_components : int or None
        Principal components of a layer's standardised columns that are predicted, as many as it has at most; None for
        the columns as they are. They are found from the features of all samples and never from responses, so that
        their number and order are the same in all folds.
    delays : tuple of int
        Of responses without latencies: a sample is predicted from its own row (0), the next of its run (1) ... Features
        placed with a haemodynamic response are on the volumes' clock already; those placed without delays need the
        volumes that follow, such as (1, 2, 3, 4).
    latencies : {"all", "each"}
        Of word-locked responses: predict from all latencies together, or from one after the other (a time course).
    k : tuple of int
        The numbers of candidates among which `Decoded.top_k` looks for a sample's own.
    permutations : int
        Circular shifts of the features for the p value of the mean r, 0 for none; at most as many as stimuli allow.
    min_shift_s : float
        Seconds by which each hearing's features are moved at least, either way: longer than signals remember.
    seed : int
        With it, subjects who heard the same stimuli get the same shifts.

    Raises
    ------
    RecipeError
        On construction, for a setting that cannot be.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> layer = rng.normal(size=(300, 5))
    >>> samples = Samples(
    ...     "s1", layer @ rng.normal(size=(5, 40)) + rng.normal(size=(300, 40)), np.full(300, "a"), np.full(300, "1"),
    ...     np.full(300, "a"), np.arange(300.0), ContiguousBlocks(3, 5), 5, None, None, lambda features: iter([layer])
    ... )
    >>> decoded = Decoding(n_components=5, k=(1, 5)).decode(samples, samples.place({}))
    >>> decoded.top_k.shape, bool(decoded.top_k[0, 0, :, 0].min() > 0.5)
    ((1, 1, 3, 2), True)
    """

    n_components: int | None = 20
    delays: tuple[int, ...] = (0,)
    latencies: Latencies = "all"
    k: tuple[int, ...] = (1, 10)
    permutations: int = 200
    min_shift_s: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "delays", tuple(self.delays))
        object.__setattr__(self, "k", tuple(self.k))
        if self.n_components is not None and self.n_components < 1:
            raise RecipeError(f"decoding: n_components is {self.n_components}; at least 1, or none for all columns.")
        if not self.delays or min(self.delays) < 0 or len(set(self.delays)) < len(self.delays):
            raise RecipeError(f"decoding: delays are {self.delays}; give whole volumes, none negative, each once.")
        if self.latencies not in get_args(Latencies):
            known = nearest(self.latencies, get_args(Latencies))
            raise RecipeError(f"decoding: there are no latencies '{self.latencies}'. {known}")
        if not self.k or min(self.k) < 1:
            raise RecipeError(f"decoding: k is {self.k}; give numbers of candidates, at least one, from 1 on.")
        if self.permutations < 0 or self.min_shift_s < 0:
            raise RecipeError(
                f"decoding: {self.permutations} permutations, shifted by {self.min_shift_s} s or more; neither can be "
                "negative."
            )

    def decode(self, samples: Samples, layers: Iterable[Floats], encoder: RidgeEncoder | None = None) -> Decoded:
        """Predict each layer's features on the samples' folds, and score the predictions.

        Parameters
        ----------
        samples : Samples
            Columns of responses that are constant or not finite are left out.
        layers : iterable of arrays (sample, dimension)
            Each layer's columns, such as ``samples.place(features)``; all of one width. They share the factorisations
            of the responses, so that many cost little more than one.
        encoder : RidgeEncoder, optional
            Its gap between inner blocks is made as long as the samples'.

        Raises
        ------
        RecipeError
            If latencies are asked for one by one where responses have none, or delays where they have some.
        DataError
            If no response varies, there is no layer, or one has other samples or another width than the first or a
            value that is not finite.
        """
        self._check_fits(samples)
        targets = [self._targets(columns, number, samples) for number, columns in enumerate(layers)]
        if not targets or len({columns.shape[1] for columns in targets}) > 1:
            widths = ", ".join(str(columns.shape[1]) for columns in targets) or "none"
            raise DataError(f"Subject {samples.subject}: decoding needs layers of one width; their widths: {widths}.")
        following = _following(samples, self.delays)
        kept = np.flatnonzero((following >= 0).all(axis=1))
        reach = int((following[kept] - kept[:, None]).max(initial=0))
        encoder, folds = _folds(samples, kept, reach, RidgeEncoder() if encoder is None else encoder)
        near = [_near(samples, kept[fold.test]) for fold in folds]
        responses = Responses(np.hstack(targets)[kept], dtype="float64", hold=HOLD)
        shift, findings = feature_shift(samples, kept, encoder, self.permutations, self.min_shift_s, self.seed)
        windows = []
        for columns in self._windows(samples):
            design = samples.responses[following[kept][:, :, None], columns].reshape(len(kept), -1)
            scores = _scored(encoder, Matrix(design), responses, folds, near, len(targets), self.k)
            windows.append(scores | mean_r_tested(design, responses, folds, scores, shift))
        by_window = {name: np.stack([window[name] for window in windows], axis=1) for name in windows[0]}
        chance = [retrieval(np.ones((len(rows), 1)), np.ones((len(rows), 1)), self.k, rows) for rows in near]
        return Decoded(
            **by_window,
            chance_top_k=np.stack([found.chance_top_k for found in chance]),
            n_candidates=np.array([found.n_candidates for found in chance]),
            latencies_s=samples.latencies_s if self.latencies == "each" else None,
            n_left_out=len(following) - len(kept),
            findings=findings,
        )

    def _check_fits(self, samples: Samples) -> None:
        if samples.latencies_s is None and self.latencies == "each":
            raise RecipeError("decoding: latencies is 'each', but these responses have none; take 'all', and delays.")
        if samples.latencies_s is not None and self.delays != (0,):
            raise RecipeError(
                f"decoding: delays are {self.delays}, but word-locked responses come with latencies; leave delays out."
            )
        if not samples.usable.any():
            raise DataError(f"Subject {samples.subject}: no response varies and is finite; nothing can be decoded.")

    def _targets(self, columns: Floats, number: int, samples: Samples) -> Floats:
        """What is to be predicted of a layer, (sample, component); a component of no variance is constant."""
        columns = np.asarray(columns, dtype=np.float64)
        if columns.ndim != 2 or len(columns) != len(samples.responses) or not np.isfinite(columns).all():
            raise DataError(
                f"Subject {samples.subject}, layer number {number}: features of shape {columns.shape} for "
                f"{len(samples.responses)} samples, or with values that are not finite; decoding needs one row each."
            )
        return columns if self.n_components is None else _components(columns, self.n_components)

    def _windows(self, samples: Samples) -> Iterator[NDArray[np.intp]]:
        """The usable columns from which to predict at once."""
        usable, n_latencies = np.flatnonzero(samples.usable), 1
        if self.latencies == "each" and samples.latencies_s is not None:
            n_latencies = len(samples.latencies_s)
        for latency in range(n_latencies):
            yield usable[usable % n_latencies == latency]


@dataclass(frozen=True)
class Decoded:
    """How well features were predicted from responses, and told apart by it.

    A window is a latency, or all of the response. What is undefined is NaN: components that do not vary, windows
    without a usable response, folds in which no two samples are far enough apart.

    Attributes
    ----------
    r, r2 : arrays (layer, window, fold, component)
        Pearson correlation, and R2 against the training mean.
    at_edge : array (layer, window, fold, component)
        1 where a wider grid of penalties would have given another fit.
    alpha : array (layer, window, fold, component)
        The penalties chosen.
    mean_r : array (layer, window)
        Mean of r over folds and the components that vary; a prediction that does not vary counts as 0.
    null : array (layer, window, permutation)
        `mean_r` of shifted features, fitted anew at the penalties chosen: the same shifts for all subjects with the
        same stimuli.
    p : array (layer, window)
        Share of shifts, and of what was measured, with a `mean_r` as high; NaN without shifts.
    top_k : array (layer, window, fold, k)
        Share of samples whose own features are among the k candidates nearest to the prediction.
    rank_accuracy : array (layer, window, fold)
        One minus the mean normalised rank of a sample's own features (0 is the nearest candidate, 1 the farthest), as
        in Pereira et al. (2018). Chance is .5.
    two_vs_two : array (layer, window, fold)
        Share of pairs told apart (Mitchell et al., 2008), none of neighbours. Chance is .5.
    chance_top_k : array (fold, k)
        What `top_k` is by chance: k over the number of candidates.
    n_candidates : array (fold,)
        Their mean number, a sample's own included.
    latencies_s : array (window,) or None
        Of each window, where they are latencies.
    n_left_out : int
        Samples at the end of a run that not all delayed rows follow.
    findings : tuple of Finding
        Where there are fewer shifts than asked for, or none.
    """

    r: Floats
    r2: Floats
    at_edge: Floats
    alpha: Floats
    mean_r: Floats
    null: Floats
    p: Floats
    top_k: Floats
    rank_accuracy: Floats
    two_vs_two: Floats
    chance_top_k: Floats
    n_candidates: Floats
    latencies_s: Floats | None
    n_left_out: int
    findings: tuple[Finding, ...] = ()


def _scored(
    encoder: RidgeEncoder,
    design: Matrix,
    responses: Responses,
    folds: Sequence[NestedFold],
    near: Sequence[NDArray[np.bool_]],
    n_layers: int,
    k: Sequence[int],
) -> dict[str, Floats]:
    """The scores of one window by name, layers first; `responses` are the components of all layers side by side."""
    scores = {name: np.full((len(folds), responses.n_targets), np.nan) for name in ("r", "r2", "at_edge", "alpha")}
    of_layers = {"top_k": np.full((n_layers, len(folds), len(k)), np.nan)}
    of_layers |= {name: np.full((n_layers, len(folds)), np.nan) for name in ("rank_accuracy", "two_vs_two")}
    if design.shape[1] > 0:
        predicted, observed = ([np.zeros((len(f.test), responses.n_targets)) for f in folds] for _ in range(2))
        grid = np.asarray(encoder.grid(None).alphas)
        for part in encoder.held_out(design, responses, folds):
            block = slice(part.targets.start, part.targets.start + part.targets.n)
            scores["at_edge"][:, block], scores["alpha"][:, block] = part.alone.at_edge, grid[part.alone.alpha]
            for found in part.predictions:
                scores["r"][found.fold, found.block] = pearson(found.alone, found.observed)
                scores["r2"][found.fold, found.block] = r2(found.alone, found.observed, found.reference)
                # About the training mean, which is what all predictions have in common.
                predicted[found.fold][:, found.block] = found.alone - found.reference
                observed[found.fold][:, found.block] = found.observed - found.reference
        usable = (responses.status == "ok").reshape(n_layers, -1)
        for fold, layer in np.ndindex(len(folds), n_layers):
            columns = np.flatnonzero(usable[layer]) + layer * usable.shape[1]
            if len(columns):
                match = retrieval(predicted[fold][:, columns], observed[fold][:, columns], k, near[fold])
                for name, values in of_layers.items():
                    values[layer, fold] = getattr(match, name)
        scores = {name: np.where(responses.status == "ok", values, np.nan) for name, values in scores.items()}
    by_layer = {name: values.reshape(len(folds), n_layers, -1).swapaxes(0, 1) for name, values in scores.items()}
    return by_layer | of_layers


def _components(columns: Floats, n_components: int) -> Floats:
    """The first principal components of standardised columns; those that are rounding only are zero."""
    from sklearn.decomposition import PCA

    n_kept, constant = min(n_components, *columns.shape), is_constant(columns)
    if constant.all():
        return np.zeros((len(columns), n_kept))
    standard = (columns - columns.mean(axis=0)) / np.where(constant, np.inf, columns.std(axis=0))
    # The seed is of a randomised solver, which large layers take.
    found = np.asarray(PCA(n_kept, random_state=0).fit_transform(standard))
    size = found.std(axis=0)
    return np.where(size > 1e-9 * size.max(), found, 0.0)


def _following(samples: Samples, delays: Sequence[int]) -> NDArray[np.intp]:
    """The row that is so many rows later in the same hearing, (sample, delay); -1 past its end."""
    hearing = np.unique(np.stack([samples.stimulus, samples.run], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    following = np.full((len(hearing), len(delays)), -1)
    for number in range(hearing.max(initial=-1) + 1):
        rows = np.flatnonzero(hearing == number)
        for column, delay in enumerate(delays):
            following[rows[: max(len(rows) - delay, 0)], column] = rows[delay:]
    return following


def _folds(
    samples: Samples, kept: NDArray[np.intp], reach: int, encoder: RidgeEncoder
) -> tuple[RidgeEncoder, list[NestedFold]]:
    """The encoder and the folds of the samples kept; blocks are farther apart by as many rows as a design reaches."""
    splitter, gap = samples.splitter, samples.gap + reach
    if isinstance(splitter, ContiguousBlocks):
        splitter = replace(splitter, gap=splitter.gap + reach)
    encoder = clone(encoder).set_params(gap=max(encoder.gap, gap))
    inner = None if encoder.inner_splits == "loo" else encoder.inner_splits
    return encoder, nested_folds(splitter, inner, len(kept), samples.groups[kept], encoder.gap)


def _near(samples: Samples, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which of these samples are less than the gap apart within one story, (row, row)."""
    same = samples.groups[rows][:, None] == samples.groups[rows]
    return same & (np.abs(rows[:, None] - rows) < samples.gap)
