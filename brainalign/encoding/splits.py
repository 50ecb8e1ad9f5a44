"""Splits that never put neighbouring samples on both sides: whole runs, or contiguous blocks with a gap.

None shuffles. Shuffled folds of a signal that varies slowly let a model look up its answers: on two independent
autoregressive series they show a correlation of .79 where there is none, contiguous blocks with a gap .01
(SCIENCE.md, D1).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import DataError, RecipeError, nearest
from brainalign.types import Floats

__all__ = [
    "ContiguousBlocks",
    "Fold",
    "LeaveOneRunOut",
    "NestedFold",
    "Splits",
    "Splitter",
    "WholeRuns",
    "gap_in_samples",
    "inner_folds",
    "leaky_share",
    "nested_folds",
]

Indices = NDArray[np.intp]
Outer = Literal["auto", "run", "blocks"]


@runtime_checkable
class Splitter(Protocol):
    """A scikit-learn splitter."""

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Indices, Indices]]:
        """Yield (train, test) indices, fold by fold."""
        ...


@dataclass(frozen=True)
class Fold:
    """Indices of the training and the held-out samples."""

    train: Indices
    test: Indices


@dataclass(frozen=True)
class NestedFold:
    """An outer fold, and the inner folds within its training samples on which its penalties are chosen."""

    train: Indices
    test: Indices
    inner: tuple[Fold, ...]


@dataclass(frozen=True)
class WholeRuns:
    """Folds made of whole runs: `n_splits` of them, or one per run where there are fewer.

    Runs stay in the order in which they first appear, so that a fold holds neighbouring runs.

    Examples
    --------
    >>> [test.tolist() for _, test in WholeRuns(2).split(range(4), groups=["a", "a", "b", "c"])]
    [[0, 1, 2], [3]]
    """

    n_splits: int = 5

    def __post_init__(self) -> None:
        _check_folds(self.n_splits)

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Indices, Indices]]:
        """Yield (train, test); raises DataError where there are fewer than two runs."""
        runs = _runs_in_order(groups)
        if len(runs) < 2:
            raise DataError("Whole runs cannot be held out: there is one run only; use splits: {outer: blocks}.")
        fold_of_run = np.arange(len(runs)) * min(self.n_splits, len(runs)) // len(runs)
        fold = _fold_of_sample(groups, runs, fold_of_run)
        for k in range(fold_of_run.max() + 1):
            yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)


@dataclass(frozen=True)
class LeaveOneRunOut:
    """One fold per run.

    Examples
    --------
    >>> len(list(LeaveOneRunOut().split(range(4), groups=["a", "a", "b", "c"])))
    3
    """

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Indices, Indices]]:
        """Yield (train, test); raises DataError where there are fewer than two runs."""
        yield from WholeRuns(max(2, len(_runs_in_order(groups)))).split(X, y, groups)


@dataclass(frozen=True)
class ContiguousBlocks:
    """`n_splits` blocks of consecutive samples; `gap` samples on both sides of the test block belong to no side.

    Parameters
    ----------
    n_splits : int
        Number of blocks.
    gap : int
        Samples left out of training on each side of the test block: longer than the response and its delays.

    Examples
    --------
    >>> [(train.tolist(), test.tolist()) for train, test in ContiguousBlocks(2, gap=1).split(range(6))]
    [([4, 5], [0, 1, 2]), ([0, 1], [3, 4, 5])]
    """

    n_splits: int = 5
    gap: int = 0

    def __post_init__(self) -> None:
        _check_folds(self.n_splits)
        if self.gap < 0:
            raise RecipeError(f"The gap between blocks is {self.gap} samples; it cannot be negative.")

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Indices, Indices]]:
        """Yield (train, test); raises DataError where a block or what is left beside it would be empty."""
        n_samples = len(X)
        edges = np.linspace(0, n_samples, self.n_splits + 1).astype(int)
        every = np.arange(n_samples)
        for start, stop in itertools.pairwise(edges):
            train = every[(every < start - self.gap) | (every >= stop + self.gap)]
            if stop - start < 2 or len(train) < 2:
                raise DataError(
                    f"{n_samples} samples are too few for {self.n_splits} blocks with a gap of {self.gap} samples: "
                    "take fewer blocks (n_splits), a shorter gap (gap_s) or more data."
                )
            yield train, every[start:stop]


def inner_folds(inner_splits: int | Splitter, train: Indices, groups: Any, gap: int) -> tuple[Fold, ...]:
    """Folds within the training samples, as indices of all samples.

    Parameters
    ----------
    inner_splits : int or splitter
        So many folds of whole runs where `groups` names several, else of blocks.
    train : array (n,)
        The training samples.
    groups : array of all samples, optional
        The run of each.
    gap : int
        Samples left out on each side of a block.
    """
    runs = None if groups is None else np.asarray(groups)[train]
    if isinstance(inner_splits, Splitter):
        splitter: Splitter = inner_splits
    elif runs is not None and len(np.unique(runs)) > 1:
        splitter = WholeRuns(int(inner_splits))
    else:
        splitter = ContiguousBlocks(int(inner_splits), gap)
    placeholder = np.zeros((len(train), 1))
    return tuple(Fold(train[fit], train[held]) for fit, held in splitter.split(placeholder, groups=runs))


def nested_folds(
    splitter: Splitter, inner_splits: int | Splitter | None, n_samples: int, groups: Any, gap: int = 0
) -> list[NestedFold]:
    """Outer folds with the inner folds of each, which are of the same kind.

    Blocks are nested in blocks: the inner folds of one are the others, put together to `inner_splits` where they are
    more. Inner folds of two outer ones then train on the same samples, which saves every second fit.

    Parameters
    ----------
    splitter : splitter
        Of the outer folds.
    inner_splits : int, splitter or None
        As for `inner_folds`; None for no inner folds.
    n_samples : int
    groups : array (n_samples,), optional
        The run of each sample.
    gap : int
        Samples left out on each side of an inner block, at least those of the outer blocks.

    Examples
    --------
    >>> folds = nested_folds(ContiguousBlocks(3), 2, 6, None)
    >>> [(fold.train.tolist(), fold.test.tolist()) for fold in folds[0].inner]
    [([4, 5], [2, 3]), ([2, 3], [4, 5])]
    """
    outer = [Fold(*fold) for fold in splitter.split(np.zeros((n_samples, 1)), groups=groups)]
    nested = []
    for number, fold in enumerate(outer):
        if len(np.unique(np.concatenate([fold.train, fold.test]))) < len(fold.train) + len(fold.test):
            raise DataError(
                f"Fold {number}: a sample is in training twice, or in training and in the test. Samples cannot be "
                "weighted by repeating them; take a splitter whose folds are disjoint."
            )
        if inner_splits is None:
            inner: tuple[Fold, ...] = ()
        elif isinstance(splitter, ContiguousBlocks) and not isinstance(inner_splits, Splitter):
            others = [other.test for other in outer[:number] + outer[number + 1 :]]
            inner = _inner_blocks(fold.train, others, int(inner_splits), max(gap, splitter.gap))
        else:
            inner = inner_folds(inner_splits, fold.train, groups, gap)
        nested.append(NestedFold(fold.train, fold.test, inner))
    return nested


def _inner_blocks(train: Indices, others: Sequence[Indices], n_splits: int, gap: int) -> tuple[Fold, ...]:
    """Each of the other blocks in turn, put together to `n_splits`, with a gap on both sides.

    A block of which the outer gap leaves next to nothing cannot be tested on, nor one whose own gap leaves next to
    nothing to train on: those are passed over, as long as two remain.
    """
    n_folds = min(n_splits, len(others))
    fold_of_block = np.arange(len(others)) * n_folds // len(others)
    folds = []
    for number in range(n_folds):
        held = [np.intersect1d(train, rows) for rows, own in zip(others, fold_of_block, strict=True) if own == number]
        near = [np.arange(rows[0] - gap, rows[-1] + gap + 1) for rows in held if len(rows)]
        fold = Fold(np.setdiff1d(train, np.concatenate([*near, train[:0]])), np.concatenate(held))
        if min(len(fold.train), len(fold.test)) >= 2:
            folds.append(fold)
    if len(folds) < 2:
        raise DataError(
            f"{len(train)} training samples are too few for {n_splits} inner blocks with a gap of {gap} samples: "
            "take fewer blocks, a shorter gap (gap_s) or more data."
        )
    return tuple(folds)


def leaky_share(folds: Sequence[Fold | NestedFold], groups: Any = None) -> float:
    """Share of the held-out samples that stand among training samples of their run.

    A stretch of held-out samples is said to touch training samples if one of its neighbours in the run is one. A single
    contiguous stretch in a run is what blocks are, but several that touch, or a lone sample between two, let a model
    look up the value of a slow signal: on independent autoregressive series (.9) shuffled stretches of 2, 5 and 10
    samples score r = .45, .39 and .28.

    Examples
    --------
    >>> leaky_share([Fold(np.array([0, 2, 4]), np.array([1, 3]))]), leaky_share([Fold(np.array([0, 1]), np.array([2]))])
    (1.0, 0.0)
    """
    leaky = sum(_leaky_samples(fold, groups) for fold in folds)
    return leaky / sum(len(fold.test) for fold in folds)


def _leaky_samples(fold: Fold | NestedFold, groups: Any) -> int:
    n_samples = int(max(fold.train.max(), fold.test.max())) + 1 if groups is None else len(groups)
    # A run before the first sample and after the last, so that every sample has two neighbours.
    runs = np.full(n_samples + 2, -1)
    runs[1:-1] = 0 if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    training = np.zeros(n_samples + 2, dtype=bool)
    training[fold.train + 1] = True
    here = np.sort(fold.test) + 1
    begins = np.flatnonzero(np.r_[True, (np.diff(here) > 1) | (np.diff(runs[here]) != 0)])
    lengths = np.diff(np.r_[begins, len(here)])
    first, last = here[begins], here[begins + lengths - 1]
    before = training[first - 1] & (runs[first - 1] == runs[first])
    after = training[last + 1] & (runs[last + 1] == runs[last])
    touching = before | after
    alone = (lengths == 1) & before & after
    of_run = np.bincount(runs[first], weights=touching)[runs[first]]
    return int(lengths[alone | (touching & (of_run > 1))].sum())


def _check_folds(n_splits: int) -> None:
    if n_splits < 2:
        raise RecipeError(f"n_splits is {n_splits}; at least 2 folds are needed.")


def _runs_in_order(groups: Any) -> np.ndarray:
    if groups is None:
        raise DataError("Whole runs cannot be held out without the run of each sample: pass groups.")
    runs, first = np.unique(np.asarray(groups), return_index=True)
    return runs[np.argsort(first)]


def _fold_of_sample(groups: Any, runs: np.ndarray, fold_of_run: np.ndarray) -> np.ndarray:
    fold = dict(zip(runs.tolist(), fold_of_run.tolist(), strict=True))
    return np.array([fold[run] for run in np.asarray(groups).tolist()])


def gap_in_samples(times_s: Floats, gap_s: float) -> int:
    """The largest number of samples in any stretch of `gap_s` seconds: so many to leave out to be sure of the time.

    Examples
    --------
    >>> gap_in_samples(np.array([0.0, 2.0, 4.0, 6.0]), gap_s=4.0)
    2
    """
    times = np.sort(np.asarray(times_s, dtype=float))
    within = np.searchsorted(times, times + gap_s * (1 + 1e-9), side="right") - np.arange(len(times)) - 1
    return int(within.max(initial=0))


@dataclass(frozen=True)
class Splits:
    """How the data are held out: the outer folds that give the scores.

    Parameters
    ----------
    outer : {"auto", "run", "blocks"}
        "run" holds out one run (or stimulus) at a time; "blocks" cuts contiguous blocks with a gap; "auto" takes runs
        where there are three or more, else blocks.
    n_splits : int
        Number of blocks.
    gap_s : float, optional
        Seconds between test and training samples of blocks; by default what the alignment says its responses span.
    """

    outer: Outer = "auto"
    n_splits: int = 5
    gap_s: float | None = None

    def __post_init__(self) -> None:
        _check_folds(self.n_splits)
        if self.outer not in get_args(Outer):
            raise RecipeError(f"splits: there is no outer '{self.outer}'. {nearest(self.outer, get_args(Outer))}")
        if self.gap_s is not None and self.gap_s < 0:
            raise RecipeError(f"splits: gap_s is {self.gap_s}; a gap cannot be negative.")

    def splitter(self, groups: np.ndarray, times_s: Floats, span_s: float) -> LeaveOneRunOut | ContiguousBlocks:
        """The splitter for samples of these runs and times.

        Parameters
        ----------
        groups : array (sample,)
            The run or stimulus of each sample.
        times_s : array (sample,)
            Seconds of each sample within its run.
        span_s : float
            Seconds that the alignment's responses span, the default gap.

        Raises
        ------
        DataError
            If whole runs are asked for where there is only one.
        """
        runs = _runs_in_order(groups)
        if self.outer == "run" and len(runs) < 2:
            raise DataError(
                f"splits: outer is 'run', but there is only one run ('{runs[0]}'): use outer: blocks, "
                "which cuts it into contiguous blocks with a gap."
            )
        if self.outer == "run" or (self.outer == "auto" and len(runs) >= 3):
            return LeaveOneRunOut()
        if any(np.any(np.diff(times_s[groups == run]) < 0) for run in runs):
            raise DataError(
                "Blocks need the samples of each run in the order of their times: a stimulus heard twice would "
                "else be trained on once and tested on once."
            )
        return ContiguousBlocks(self.n_splits, self.gap(groups, times_s, span_s))

    def gap(self, groups: np.ndarray, times_s: Floats, span_s: float) -> int:
        """The samples to leave out between blocks; parameters as for `splitter`."""
        gap_s = span_s if self.gap_s is None else self.gap_s
        return max(gap_in_samples(times_s[groups == run], gap_s) for run in _runs_in_order(groups))
