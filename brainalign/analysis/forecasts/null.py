"""What A(d) would be if the brain knew nothing of words ahead: the same fits of many passive brains.

A passive brain is what the present words predict, all their dimensions, and what they leave, circularly shifted
against the stimulus, mixed so that the words explain as much as they do of the responses. It has whatever makes F
differ from zero without a forecast (columns that cost, information that base features lost), and its shifts can be the
same for all subjects, who share the stimulus and what goes along with it by chance.

With penalties fixed each fit is one product. Of the present words X and a window W, in training,

    prediction = P y + (W' - P W) (W A W + beta I)^-1 W A y,    A = (X X' / alpha + I)^-1,

(W' the held-out window, P the words' own predictor): from one factorisation of X for all windows, penalties and draws.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.forecasts.windows import mirror_distance
from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.analysis.inference.surrogates import Surrogates
from brainalign.encoding import RidgeEncoder, Splitter
from brainalign.encoding.beside import cross_validate_beside
from brainalign.encoding.metrics import pearson
from brainalign.encoding.nested import standard_columns
from brainalign.errors import DataError
from brainalign.types import Floats

__all__ = ["ContrastNull", "contrast_null", "contrasted", "passive_draws"]

# What is left of numbers that cancel, as a share of the largest singular value.
ROUNDING = 1e-7


def contrasted(distances: Sequence[int] | NDArray[np.intp], width: int) -> list[int]:
    """The distances ahead whose mirror is among them, increasing.

    Examples
    --------
    >>> contrasted([-2, 0, 6, 8], width=7)
    [6, 8]
    """
    known = {int(distance) for distance in distances}
    return sorted(one for one in known if one > mirror_distance(one, width) in known)


def passive_draws(
    features: Floats,
    responses: Floats,
    groups: np.ndarray | None,
    encoder: RidgeEncoder,
    explained: Floats,
    shifts: Surrogates,
) -> Callable[[int], Floats]:
    """Responses of passive brains, one for each shift.

    Parameters
    ----------
    features : array (sample, feature)
        The present words, all dimensions.
    responses : array (sample, target)
        Those that vary and are finite.
    groups : array (sample,), optional
        The run of each sample, for the encoder's inner folds.
    encoder : RidgeEncoder
    explained : array (target,)
        Share of variance that the words are to explain, from 0 to 1.
    shifts : Surrogates
        What moves the rest.

    Returns
    -------
    callable
        Number of the draw to array (sample, target), float32.

    Examples
    --------
    >>> from brainalign.analysis.inference.surrogates import CircularShift
    >>> rng = np.random.default_rng(0)
    >>> words, brain = rng.normal(size=(200, 3)), rng.normal(size=(200, 2))
    >>> shifts = CircularShift(np.zeros(200, dtype=int), 9, min_shift=10)
    >>> passive_draws(words, brain, None, RidgeEncoder(), np.array([0.2, 0.0]), shifts)(0).shape
    (200, 2)
    """
    explained = np.asarray(explained, dtype=np.float64)
    if not np.all((explained >= 0) & (explained <= 1)):
        raise DataError("passive_draws: explained must be shares of variance, from 0 to 1.")
    y = np.asarray(responses, dtype=np.float64)
    predicted = encoder.fit(features, y, groups).predict(features)
    known = (np.sqrt(explained) * _z_scored(predicted)).astype(np.float32)
    rest = (np.sqrt(1 - explained) * _z_scored(y - predicted)).astype(np.float32)
    return lambda number: known + shifts.apply(number, rest)


@dataclass(frozen=True)
class ContrastNull:
    """A(d) as measured, and of passive brains.

    Attributes
    ----------
    distances : array (distance,) of int
        Those ahead that have a mirror.
    observed : array (distance, target)
    p : array (distance, target)
        One-sided, (1 + draws as high) / (1 + draws); NaN where `observed` is.
    mean : array (permutation, distance)
        Over targets, of each draw.
    """

    distances: NDArray[np.intp]
    observed: Floats
    p: Floats
    mean: Floats


def contrast_null(
    encoder: RidgeEncoder,
    features: Floats,
    responses: Floats,
    groups: np.ndarray | None,
    splitter: Splitter,
    windows: Mapping[int, Floats],
    draw: Callable[[int], Floats],
    n_permutations: int,
    width: int = 7,
) -> ContrastNull:
    """Fit features and windows again to each draw, at the penalties that the responses chose.

    All windows get the same ones, the nearest to the mean (of logarithms) over windows: what a window gains by chance
    chooses it a small penalty, which costs in draws, so that with penalties of its own it would seem more than chance
    (7 % false positives at .05 in simulations, and about 5 % as it is). What is observed is therefore near, not equal,
    to the contrast of a forecast whose windows have their own.

    Parameters
    ----------
    encoder, features, groups, splitter, windows, width
        As for `brainalign.analysis.forecasts.scoring.forecast`.
    responses : array (sample, target)
        Those that vary and are finite.
    draw : callable
        Of `passive_draws`.
    n_permutations : int

    Raises
    ------
    DataError
        If no distance has its mirror.

    Examples
    --------
    >>> from brainalign.analysis.inference.surrogates import CircularShift
    >>> from brainalign.encoding import ContiguousBlocks
    >>> rng = np.random.default_rng(0)
    >>> words = rng.normal(size=(400, 3))
    >>> windows = {1: np.roll(words, -1, axis=0), -1: np.roll(words, 1, axis=0)}
    >>> brain = words + windows[1] + rng.normal(size=words.shape)
    >>> shifts = CircularShift(np.zeros(400, dtype=int), 19, min_shift=20)
    >>> draw = passive_draws(words, brain, None, RidgeEncoder(), np.full(3, 0.3), shifts)
    >>> contrast_null(RidgeEncoder(), words, brain, None, ContiguousBlocks(), windows, draw, 19, width=1).p
    array([[0.05, 0.05, 0.05]])
    """
    ahead = contrasted(list(windows), width)
    if not ahead:
        raise DataError(f"contrast_null: none of the distances {sorted(windows)} has its mirror, {width} - 1 - d.")
    behind = [mirror_distance(distance, width) for distance in ahead]
    needed = sorted({*ahead, *behind})
    sets = [np.asarray(windows[distance]) for distance in needed]
    _, joints = cross_validate_beside(encoder, features, responses, groups, splitter, sets)
    folds = splitter.split(np.zeros((len(features), 1)), groups=groups)
    alpha, beta = (_common(np.stack([getattr(joint, name) for joint in joints])) for name in ("alpha", "beta"))
    refits = [_Refit(features, sets, fold, alpha[k], beta[k]) for k, fold in enumerate(folds)]

    def contrast(values: Floats) -> Floats:
        r = mean_defined(np.stack([refit.scores(values) for refit in refits]), axis=0)
        return r[[needed.index(one) for one in ahead]] - r[[needed.index(one) for one in behind]]

    observed = contrast(np.asarray(responses, dtype=np.float32))
    mean, as_high = np.empty((n_permutations, len(ahead))), np.ones(observed.shape)
    for number in range(n_permutations):
        drawn = contrast(draw(number))
        mean[number] = mean_defined(drawn, axis=1)
        # Not below: an undefined draw counts as high.
        as_high += ~(drawn < observed)
    p = np.where(np.isfinite(observed), as_high / (1 + n_permutations), np.nan)
    return ContrastNull(np.array(ahead), observed, p, mean)


class _Refit:
    """One fold: what all windows, penalties and draws share, and what each pair of penalties needs besides."""

    def __init__(
        self,
        features: Floats,
        sets: Sequence[Floats],
        fold: tuple[np.ndarray, np.ndarray],
        alphas: Floats,
        betas: Floats,
    ) -> None:
        self.train, self.test = fold
        fit, held_out = _standard(features, *fold)
        left, size, right = np.linalg.svd(fit, full_matrices=False)
        kept = size > ROUNDING * size.max(initial=0.0)
        left, self.size, right = left[:, kept], size[kept], right[kept]
        self.across = held_out @ right.T
        windows = [_standard(columns, *fold) for columns in sets]
        edges = np.cumsum([0, *(columns.shape[1] for columns in sets)])
        self.rows = [slice(len(self.size) + start, len(self.size) + end) for start, end in itertools.pairwise(edges)]
        # Of training responses: their part in each direction of the features, then in each column of the windows.
        self.shared = np.vstack([self.size[:, None] * left.T, *(window.T for window, _ in windows)]).astype(np.float32)
        in_features = [(window.T @ left) * self.size for window, _ in windows]
        self.of_alpha: dict[float, list[tuple[int, NDArray[np.intp], Floats]]] = {}
        self.in_features = [one.astype(np.float32) for one in in_features]
        for number, ((window, apart), within) in enumerate(zip(windows, in_features, strict=True)):
            for alpha, beta in np.unique(np.stack([alphas, betas]), axis=1).T.tolist():
                weight = within / (self.size**2 + alpha)
                inner = window.T @ window - weight @ within.T + beta * np.eye(window.shape[1])
                beyond = np.linalg.solve(inner, (apart - self.across @ weight.T).T).T
                targets = np.flatnonzero((alphas == alpha) & (betas == beta))
                self.of_alpha.setdefault(alpha, []).append((number, targets, beyond.astype(np.float32)))
        self.across = self.across.astype(np.float32)

    def scores(self, responses: Floats) -> Floats:
        """Held-out correlations of features and each window together, (window, target)."""
        parts = self.shared @ responses[self.train]
        held_out = responses[self.test]
        r = np.full((len(self.rows), responses.shape[1]), np.nan)
        for alpha, members in self.of_alpha.items():
            weights = parts[: len(self.size)] / (self.size[:, None] ** 2 + alpha).astype(np.float32)
            alone = self.across @ weights
            for number, targets, beyond in members:
                left = parts[self.rows[number], targets] - self.in_features[number] @ weights[:, targets]
                r[number, targets] = pearson(alone[:, targets] + beyond @ left, held_out[:, targets])
        return r


def _common(chosen: Floats) -> Floats:
    """The penalty nearest to the mean over windows, of those (window, fold, target) that were chosen."""
    known = np.unique(chosen)
    mean = np.log(chosen).mean(axis=0)
    return known[np.abs(np.log(known) - mean[..., None]).argmin(axis=-1)]


def _standard(columns: Floats, train: np.ndarray, test: np.ndarray) -> tuple[Floats, Floats]:
    """Training and held-out rows, standardised on the training samples."""
    values = np.asarray(columns, dtype=np.float64)
    mean, weight = standard_columns(values[train])
    return (values[train] - mean) * weight, (values[test] - mean) * weight


def _z_scored(values: Floats) -> Floats:
    values = values - values.mean(axis=0)
    deviation = values.std(axis=0)
    return values / np.where(deviation > 0, deviation, 1.0)
