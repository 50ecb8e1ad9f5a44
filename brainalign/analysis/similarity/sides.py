"""The two sides of a comparison of representations, made ready: features and one subject's responses, row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.inference.autocorrelation import FORGOTTEN, autocorrelation, memory, stretches_of
from brainalign.analysis.inference.surrogates import CircularShift
from brainalign.analysis.similarity.pairs import Pairs
from brainalign.encoding.metrics import is_constant
from brainalign.encoding.responses import target_status
from brainalign.encoding.splits import Fold, Splitter
from brainalign.errors import DataError, listed
from brainalign.types import Finding, Floats

__all__ = ["Sides", "prepared_sides"]

# More columns say little more about how samples resemble their neighbours.
COLUMNS_LOOKED_AT = 1000


@dataclass(frozen=True)
class Sides:
    """Both sides of a comparison, and which samples are set against which.

    Parameters
    ----------
    X, Y : arrays (sample, dimension), (sample, target)
        Centred, float64, without columns that cannot be used.
    pairs : Pairs
        Pairs of samples that may be compared.
    folds : tuple of Fold
    orders : array (permutation, sample)
        For each circular shift, the sample whose responses stand at each place.
    min_shift : int
        Samples by which runs are moved at least.
    resemblance : float
        The autocorrelation of rows at the nearest lag that is compared, on the side where it is smaller.
    findings : tuple of Finding
        Targets and permutations that were left out.
    """

    X: Floats
    Y: Floats
    pairs: Pairs
    folds: tuple[Fold, ...]
    orders: NDArray[np.intp]
    min_shift: int
    resemblance: float
    findings: tuple[Finding, ...]

    @property
    def shifts(self) -> NDArray[np.intp]:
        """How many samples later in its run the response at each place is from, shape (permutation, run)."""
        starts = [run.start for run in self.pairs.stretches()]
        return self.orders[:, starts] - np.array(starts)


def prepared_sides(
    features: Floats,
    responses: Floats,
    groups: NDArray | None,
    splitter: Splitter,
    *,
    band: int | None,
    standardise: bool,
    permutations: int,
    min_shift: int | None,
    seed: int,
) -> Sides:
    """Check both sides, put their columns on one scale, and find band and shifts where none are given.

    Parameters
    ----------
    features, responses, groups, splitter
        As for `compare_arrays`.
    band, standardise, permutations, min_shift, seed
        As for `Compare`.

    Raises
    ------
    DataError
        As for `compare_arrays`.
    """
    features, responses = np.asarray(features), np.asarray(responses)
    _check(features, responses)
    usable = target_status(responses) == "ok"
    X = _columns(features[:, ~is_constant(features)], standardise)
    Y = _columns(responses[:, usable], standardise)
    n_samples = len(X)
    runs = np.zeros(n_samples, dtype=int) if groups is None else np.asarray(groups)
    Pairs.of(groups, n_samples, 1)
    resemblance = _resemblance(X, Y, runs)
    # At most so many that half of the pairs are left, whatever the runs.
    band = min(_memory_of_both(resemblance), max(1, n_samples // 4)) if band is None else band
    min_shift = memory(Y, runs) if min_shift is None else min_shift
    orders = _orders(runs, min_shift, permutations, seed)
    return Sides(
        X,
        Y,
        Pairs.of(groups, n_samples, band),
        tuple(Fold(*fold) for fold in splitter.split(X, groups=groups)),
        orders,
        min_shift,
        # No pair of a run that is shorter than the band is compared.
        float(resemblance[band]) if band < len(resemblance) else 0.0,
        (*_left_out(usable), *_too_few(len(orders), permutations, min_shift)),
    )


def _check(features: Floats, responses: Floats) -> None:
    if features.ndim != 2 or responses.ndim != 2 or len(features) != len(responses):
        raise DataError(
            f"Features of shape {features.shape} and responses of shape {responses.shape}; expected the same samples: "
            "(sample, dimension) and (sample, target)."
        )
    if not np.isfinite(features).all():
        sample, column = np.argwhere(~np.isfinite(features))[0]
        raise DataError(f"Features: column {column} is {features[sample, column]} at sample {sample}; leave it out.")
    if is_constant(features).all():
        raise DataError(f"None of the {features.shape[1]} columns of the features varies: there is nothing to compare.")
    if not (target_status(responses) == "ok").any():
        raise DataError(f"None of the {responses.shape[1]} targets varies and is finite: there is nothing to compare.")


def _columns(values: Floats, standardise: bool) -> Floats:
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    return centred / centred.std(axis=0) if standardise else centred


def _resemblance(X: Floats, Y: Floats, runs: NDArray) -> Floats:
    """How rows resemble those so many samples later, on the side where they do less, shape (lag,)."""
    stretches = [rows for _, rows in stretches_of(runs, None)]
    sides = []
    for values in (X, Y):
        n_columns = values.shape[1]
        columns = np.linspace(0, n_columns - 1, min(n_columns, COLUMNS_LOOKED_AT)).astype(int)
        correlation = autocorrelation(values[:, columns], stretches)
        # A column that only differs between runs has none.
        defined = correlation[:, np.isfinite(correlation[0])]
        sides.append(defined.mean(axis=1) if defined.shape[1] else np.zeros(len(correlation)))
    return np.minimum(*sides)


def _memory_of_both(resemblance: Floats) -> int:
    """Samples after which rows no longer resemble each other on both sides, 1 where neighbours do not."""
    if len(resemblance) < 2 or resemblance[1] < FORGOTTEN:
        return 1
    # As `memory`: about a run's mean, an autocorrelation falls below the mark too early where runs are short.
    by_decay = int(np.ceil(3.0 / max(1.0 - float(resemblance[1]), 3.0 / len(resemblance))))
    return max(by_decay, int(np.argmax(resemblance < FORGOTTEN)))


def _orders(runs: NDArray, min_shift: int, permutations: int, seed: int) -> NDArray[np.intp]:
    """The sample at each place for each permutation, or for all that there are where they are fewer."""
    if permutations == 0:
        return np.empty((0, len(runs)), dtype=np.intp)
    n_distinct = CircularShift(runs, 1, seed, min_shift=min_shift).n_distinct
    shift = CircularShift(runs, int(min(permutations, n_distinct)), seed, min_shift=min_shift)
    return np.stack([shift.order(number) for number in range(shift.n_permutations)])


def _left_out(usable: NDArray[np.bool_]) -> tuple[Finding, ...]:
    if usable.all():
        return ()
    numbers = listed(np.flatnonzero(~usable).tolist())
    message = f"{(~usable).sum()} of {len(usable)} targets are constant or not finite and were left out: {numbers}."
    return (Finding("unusable-targets", "compare", message),)


def _too_few(n_orders: int, permutations: int, min_shift: int) -> tuple[Finding, ...]:
    if n_orders == permutations:
        return ()
    message = (
        f"the runs have {n_orders} different shifts by {min_shift} samples or more, for {permutations} permutations."
    )
    return (Finding("few-permutations", "compare", message),)
