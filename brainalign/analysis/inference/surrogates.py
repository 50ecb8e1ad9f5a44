"""Responses as they might have been: the same signals, set against the stimulus at other times.

A score is tested against scores of surrogate responses, which keep what makes chance scores large, the memory of the
signals (a sample resembles the ones before it), and lose what is to be tested, their place beside the stimulus.
`CircularShift` moves each run's responses along a circle, `BlockPermutation` puts blocks longer than the memory in
another order, `PhaseRandomisation` keeps each run's spectrum (Theiler et al., 1992). Each stays within the run, and
does the same to all targets, whose correlations with each other stay. Shuffled samples have no memory left: scores of
independent series that do are then "significant" 23 % of the time at .05 (lag-1 autocorrelation .8; 37 % at .95).

What is done with the surrogate matters as much. A correlation of one held-out stretch may be compared with those of the
same prediction and surrogates of the held-out responses. A score averaged over cross-validation folds may not: what is
held out of one fold trains the others, so that folds share their chance terms, and predictions that stay fixed lose
them (12 to 15 % false positives at .05). There the surrogate must be fitted anew, in training as in test (about 5 %).

A test of several subjects who share their stimulus gives all of them the same draws: make each subject's surrogates
with the same `seed` and the same names of stimuli.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, get_args

import numpy as np

from brainalign.analysis.inference.autocorrelation import memory, stretches_of
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.types import Floats

__all__ = [
    "BlockPermutation",
    "CircularShift",
    "IidShuffle",
    "PhaseRandomisation",
    "Reordering",
    "SurrogateKind",
    "Surrogates",
    "surrogates",
]

SurrogateKind = Literal["circular_shift", "block_permutation", "phase_randomisation", "iid_shuffle"]

# Blocks that a permutation needs: with fewer, one order resembles another.
FEWEST_BLOCKS = 10


@dataclass(frozen=True, eq=False)
class Surrogates(ABC):
    """Surrogates number 0 to ``n_permutations - 1`` of responses whose samples are these.

    Parameters
    ----------
    runs : array (sample,)
        The recording of each sample. The samples of a run are in the order of time; those of several runs may stand
        side by side.
    n_permutations : int
    seed : int
        With it, each surrogate is the same whichever are asked for, in whatever order and of whichever targets.
    stimulus : array (sample,), optional
        What was heard. Each stimulus of a run is treated on its own, and all hearings of a stimulus alike, also in
        other subjects; they should have the same samples, which are counted from the first. By default each run is a
        stimulus of its own.
    times_s : array (sample,), optional
        Seconds of each sample, only to check that those of a run are in order.

    Raises
    ------
    DataError
        If samples are not in order, or too few for so many different surrogates.
    """

    kind: ClassVar[SurrogateKind]
    fewest_samples: ClassVar[int] = 2

    runs: np.ndarray
    n_permutations: int = 1000
    seed: int = 0
    stimulus: np.ndarray | None = None
    times_s: Floats | None = None

    def __post_init__(self) -> None:
        if self.n_permutations < 1:
            raise RecipeError(f"{self.name}: {self.n_permutations} permutations; at least 1 is needed.")
        for given, what in ((self.stimulus, "stimulus"), (self.times_s, "times_s")):
            if given is not None and len(given) != len(self.runs):
                raise DataError(f"{self.name}: {len(self.runs)} samples have a run, but {len(given)} a {what}.")
        if self.times_s is not None:
            self._check_order(np.asarray(self.times_s, dtype=float))
        self._check_lengths()
        if self.n_distinct < self.n_permutations:
            raise DataError(
                f"{self.name}: these runs have only {self.n_distinct:,} different surrogates, but "
                f"{self.n_permutations:,} permutations are asked for: ask for fewer, for a shorter min_shift or "
                "block_length, or take phase_randomisation."
            )

    @abstractmethod
    def apply(self, number: int, responses: Floats) -> Floats:
        """Surrogate `number` of `responses` (sample, target): an array of the same shape and type."""

    @property
    def name(self) -> str:
        """What it is called in tables: "circular shift"."""
        return self.kind.replace("_", " ")

    @property
    def n_distinct(self) -> float:
        """How many different surrogates can be drawn, of all runs together; infinite where they are countless."""
        return math.inf

    @cached_property
    def stretches(self) -> tuple[tuple[str, np.ndarray], ...]:
        """The stimulus, and the samples in order, of each stretch that is treated on its own."""
        return stretches_of(self.runs, self.stimulus)

    @cached_property
    def lengths(self) -> dict[str, int]:
        """Samples of each stimulus: those of its shortest hearing."""
        shortest: dict[str, int] = {}
        for stimulus, rows in self.stretches:
            shortest[stimulus] = min(len(rows), shortest.get(stimulus, len(rows)))
        return shortest

    def _check_order(self, times_s: Floats) -> None:
        for stimulus, rows in self.stretches:
            if np.any(np.diff(times_s[rows]) <= 0):
                raise DataError(
                    f"{self.name}: samples of run '{self.runs[rows[0]]}', stimulus '{stimulus}', are not in the order "
                    "of time, or two are of one moment: sort them, and give each hearing a run of its own."
                )

    def _check_lengths(self) -> None:
        for stimulus, n in self.lengths.items():
            if n < self.fewest_samples:
                raise DataError(
                    f"{self.name}: '{stimulus}' has {n} samples, and {self.fewest_samples} are needed: leave it out."
                )

    def _check_number(self, number: int) -> None:
        if not 0 <= number < self.n_permutations:
            raise IndexError(f"{self.name} {number} of {self.n_permutations}")


class Reordering(Surrogates):
    """Surrogates that are the responses themselves in another order."""

    def order(self, number: int) -> np.ndarray:
        """The sample whose response stands at each place, shape (sample,): ``responses[order]`` is the surrogate."""
        self._check_number(number)
        order = np.empty(len(self.runs), dtype=np.intp)
        for stimulus, rows in self.stretches:
            order[rows] = rows[self._order_of(number, stimulus, len(rows))]
        return order

    def apply(self, number: int, responses: Floats) -> Floats:
        """Surrogate `number` of `responses` (sample, target): an array of the same shape and type."""
        return responses[self.order(number)]

    @abstractmethod
    def _order_of(self, number: int, stimulus: str, n: int) -> np.ndarray:
        """The order within one stretch of `n` samples."""


@dataclass(frozen=True, eq=False)
class CircularShift(Reordering):
    """Responses later by a number of samples, those past the end of their run at its start.

    Each run has a shift of its own, spread evenly over all shifts that are allowed (a Latin hypercube), so that none
    is drawn twice before all were drawn. Runs of one stimulus that differ by a few samples get nearly the same shift.

    Parameters
    ----------
    runs, n_permutations, seed, stimulus, times_s
        As for `Surrogates`.
    min_shift : int
        Samples by which responses are moved at least, either way: longer than the memory of the responses.

    Examples
    --------
    >>> shift = CircularShift(np.repeat("one", 8), n_permutations=3, min_shift=2)
    >>> shift.n_distinct, shift.order(0)
    (5, array([4, 5, 6, 7, 0, 1, 2, 3]))
    """

    kind: ClassVar[SurrogateKind] = "circular_shift"
    min_shift: int = 1

    @property
    def n_distinct(self) -> int:
        """All joint shifts of the runs."""
        return math.prod(map(self._n_shifts, self.lengths))

    def _n_shifts(self, stimulus: str) -> int:
        return self.lengths[stimulus] - 2 * self.min_shift + 1

    def _check_lengths(self) -> None:
        if self.min_shift < 1:
            raise RecipeError(f"{self.name}: min_shift is {self.min_shift} samples; at least 1 is needed.")
        for stimulus, n in self.lengths.items():
            if self._n_shifts(stimulus) < 1:
                raise DataError(
                    f"{self.name}: '{stimulus}' has {n} samples, too few to be moved by {self.min_shift} either way: "
                    "take a shorter min_shift, leave it out, or take phase_randomisation."
                )

    @cached_property
    def _place(self) -> dict[str, Floats]:
        """Where in the range of its shifts each stimulus's draws lie, from 0 to 1, arrays (permutation,)."""
        places: dict[str, Floats] = {}
        for stimulus in self.lengths:
            random = _random(self.seed, stimulus)
            places[stimulus] = (random.permutation(self.n_permutations) + random.random()) / self.n_permutations
        return places

    def _order_of(self, number: int, stimulus: str, n: int) -> np.ndarray:
        shift = self.min_shift + int(self._place[stimulus][number] * self._n_shifts(stimulus))
        return (np.arange(n) - shift) % n


@dataclass(frozen=True, eq=False)
class BlockPermutation(Reordering):
    """Each run's responses cut into blocks of equal length, which are put in a random order.

    Parameters
    ----------
    runs, n_permutations, seed, stimulus, times_s
        As for `Surrogates`.
    block_length : int
        Samples of a block, at least: what is left over is shared out. At least 3 / (1 - rho) for responses of lag-1
        autocorrelation rho; ten times too short a block doubles false positives (16 % at rho .95, blocks of 10).

    Raises
    ------
    DataError
        If there are fewer than 10 blocks in all, or a run has fewer than two.

    Examples
    --------
    >>> BlockPermutation(np.repeat("one", 20), n_permutations=3, block_length=2).order(0)[:8]
    array([16, 17, 10, 11, 14, 15,  4,  5])
    """

    kind: ClassVar[SurrogateKind] = "block_permutation"
    block_length: int = 1

    @property
    def n_distinct(self) -> int:
        """All joint orders of the runs' blocks."""
        return math.prod(math.factorial(self._n_blocks(stimulus)) for stimulus in self.lengths)

    def _n_blocks(self, stimulus: str) -> int:
        return self.lengths[stimulus] // self.block_length

    def _check_lengths(self) -> None:
        if self.block_length < 1:
            raise RecipeError(f"{self.name}: block_length is {self.block_length} samples; at least 1 is needed.")
        blocks = {stimulus: self._n_blocks(stimulus) for stimulus in self.lengths}
        short = next((stimulus for stimulus, n_blocks in blocks.items() if n_blocks < 2), None)
        if short is not None or sum(blocks.values()) < FEWEST_BLOCKS:
            found = f"in all {sum(blocks.values())}" if short is None else f"'{short}' has {blocks[short]}"
            raise DataError(
                f"{self.name}: too few blocks of {self.block_length} samples, {found}; two in each run and "
                f"{FEWEST_BLOCKS} in all are needed. Blocks must be longer than the memory of the responses: take "
                "more data, or phase_randomisation."
            )

    def _order_of(self, number: int, stimulus: str, n: int) -> np.ndarray:
        blocks = np.array_split(np.arange(n), self._n_blocks(stimulus))
        drawn = _random(self.seed, stimulus, number).permutation(len(blocks))
        return np.concatenate([blocks[block] for block in drawn])


@dataclass(frozen=True, eq=False)
class PhaseRandomisation(Surrogates):
    """Responses of the same spectrum in each run, with random phases added, the same to all targets.

    Autocorrelations and the correlations between targets stay as they are around the circle (Prichard & Theiler, 1994);
    what is not Gaussian becomes so. Samples are taken to be evenly spaced.

    Parameters
    ----------
    runs, n_permutations, seed, stimulus, times_s
        As for `Surrogates`.

    Examples
    --------
    >>> signal = np.random.default_rng(0).normal(size=(50, 1))
    >>> drawn = PhaseRandomisation(np.repeat("one", 50), n_permutations=10).apply(0, signal)
    >>> np.allclose(np.abs(np.fft.rfft(drawn, axis=0)), np.abs(np.fft.rfft(signal, axis=0)))
    True
    """

    kind: ClassVar[SurrogateKind] = "phase_randomisation"
    fewest_samples: ClassVar[int] = 3

    def apply(self, number: int, responses: Floats) -> Floats:
        """Surrogate `number` of `responses` (sample, target): an array of the same shape and type."""
        self._check_number(number)
        drawn = np.empty_like(responses)
        for stimulus, rows in self.stretches:
            spectrum = np.fft.rfft(responses[rows], axis=0)
            spectrum *= self._rotations(number, stimulus, len(rows))[:, None].astype(spectrum.dtype)
            drawn[rows] = np.fft.irfft(spectrum, n=len(rows), axis=0)
        return drawn

    def _rotations(self, number: int, stimulus: str, n: int) -> np.ndarray:
        """What each frequency is multiplied by, shape (n // 2 + 1,)."""
        rotations = np.exp(2j * np.pi * _random(self.seed, stimulus, number).random(n // 2 + 1))
        rotations[0] = 1.0  # the mean
        if n % 2 == 0:  # half the sampling rate is real as well
            rotations[-1] = 1.0 if rotations[-1].real > 0 else -1.0
        return rotations


@dataclass(frozen=True, eq=False)
class IidShuffle(Reordering):
    """Samples in any order within their run: right only where they are independent, such as sentences out of order.

    Parameters
    ----------
    runs, n_permutations, seed, stimulus, times_s
        As for `Surrogates`.
    allow_iid : bool
        Must be True, to say that samples have no memory.
    """

    kind: ClassVar[SurrogateKind] = "iid_shuffle"
    allow_iid: bool = False

    def __post_init__(self) -> None:
        if not self.allow_iid:
            raise RecipeError(
                f"{self.name}: shuffled samples lose their memory, which makes chance scores look significant (23 % at "
                ".05 where lag-1 autocorrelation is .8): take circular_shift, or, if samples are independent, "
                "allow_iid=True."
            )
        super().__post_init__()

    def _order_of(self, number: int, stimulus: str, n: int) -> np.ndarray:
        return _random(self.seed, stimulus, number).permutation(n)


def surrogates(
    kind: SurrogateKind,
    responses: Floats,
    runs: np.ndarray,
    *,
    n_permutations: int = 1000,
    seed: int = 0,
    stimulus: np.ndarray | None = None,
    times_s: Floats | None = None,
    length: int | None = None,
    allow_iid: bool = False,
) -> Surrogates:
    """Make surrogates of this kind, with a shift or block as long as the memory of the responses.

    Parameters
    ----------
    kind : {"circular_shift", "block_permutation", "phase_randomisation", "iid_shuffle"}
    responses : array (sample, target)
        Only their memory is looked at, and only where `length` is not given and matters.
    runs, n_permutations, seed, stimulus, times_s
        As for `Surrogates`.
    length : int, optional
        Samples of the shortest shift, or of a block. For a test of several subjects give all the same, the largest of
        their `memory`, or they will not have the same draws.
    allow_iid : bool
        As for `IidShuffle`.

    Raises
    ------
    DataError
        If a run is too short, or no target's memory can be known.
    RecipeError
        If there is no such kind, or samples are to be shuffled without `allow_iid`.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(300, 5))
    >>> surrogates("block_permutation", noise, np.repeat(["one", "two"], 150)).block_length
    4
    """
    if kind not in get_args(SurrogateKind):
        raise RecipeError(f"There is no surrogate '{kind}'. {nearest(kind, get_args(SurrogateKind))}")
    if kind == "phase_randomisation":
        return PhaseRandomisation(runs, n_permutations, seed, stimulus, times_s)
    if kind == "iid_shuffle":
        return IidShuffle(runs, n_permutations, seed, stimulus, times_s, allow_iid)
    length = memory(responses, runs, stimulus) if length is None else length
    if kind == "circular_shift":
        return CircularShift(runs, n_permutations, seed, stimulus, times_s, length)
    return BlockPermutation(runs, n_permutations, seed, stimulus, times_s, length)


def _random(seed: int, stimulus: str, number: int | None = None) -> np.random.Generator:
    """The same numbers for this stimulus and surrogate in every subject."""
    return np.random.default_rng([seed, *stimulus.encode(), *([] if number is None else [256 + number])])
