"""Which way to a nested cross-validation takes the fewest operations, counted beforehand."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from brainalign.encoding.backends import threads_allowed
from brainalign.encoding.nested import Targets
from brainalign.encoding.penalties import DOUBLE, Grid
from brainalign.encoding.responses import Responses, block_width
from brainalign.encoding.splits import NestedFold
from brainalign.errors import FitWarning
from brainalign.limits import free_memory

__all__ = ["Plan", "Problem", "Route", "memory_for_fits", "plan"]

Route = Literal["primal", "dual", "downdating"]

# An eigendecomposition of a symmetric matrix with its vectors takes about so many times n**3 operations.
EIGEN = 9.0
# The share of the free memory that a fit may fill where it is not told.
SHARE_OF_FREE = 0.5


@dataclass(frozen=True)
class Problem:
    """What a nested cross-validation is made of, as far as its cost goes.

    Attributes
    ----------
    n_features, n_targets : int
    folds : sequence of NestedFold
    grid : Grid
    scaled : bool
        Whether columns are scaled on each training set, so that no two have the same penalty.
    dtype : {"float32", "float64"}
        Of products with responses.
    n_baseline, n_bands : int
        Columns of a baseline; bands whose predictions are kept apart.
    """

    n_features: int
    n_targets: int
    folds: Sequence[NestedFold]
    grid: Grid
    scaled: bool
    dtype: str = "float64"
    n_baseline: int = 0
    n_bands: int = 0

    @property
    def n_samples(self) -> int:
        """The samples of all folds."""
        return 1 + max(int(max(fold.train.max(), fold.test.max(initial=0))) for fold in self.folds)

    def training_sets(self) -> list[tuple[int, list[int]]]:
        """For each training set of the inner folds its size and the sizes of what it is tested on."""
        shared: dict[bytes, tuple[int, list[int]]] = {}
        for fold in self.folds:
            for inner in fold.inner:
                shared.setdefault(np.sort(inner.train).tobytes(), (len(inner.train), []))[1].append(len(inner.test))
        return list(shared.values())


@dataclass(frozen=True)
class Plan:
    """The route taken, what each would cost, and how many targets are fitted together.

    Attributes
    ----------
    route : {"primal", "dual", "downdating"}
    operations : mapping of route to float
        Operations of each route that the problem allows; one in float64 counts as two.
    targets_at_once : int
        So many that accumulated scores and shared products stay within the memory limit; maybe more than there are.
    threads : int
        How many training sets are factorised at a time, for the same reason.

    Examples
    --------
    >>> from brainalign.encoding import LeaveOneRunOut
    >>> from brainalign.encoding.splits import nested_folds
    >>> folds = nested_folds(LeaveOneRunOut(), LeaveOneRunOut(), 400, np.repeat(range(4), 100))
    >>> grid = Grid(np.logspace(0, 4, 10), np.ones(1))
    >>> print(plan(Problem(50, 1000, folds, grid, scaled=True), memory_limit=2**30))
    primal: 0.703 GFLOP (dual 4.03); all targets at once
    """

    route: Route
    operations: Mapping[Route, float]
    n_targets: int
    targets_at_once: int
    threads: int = 1

    def parts(self, responses: Responses) -> list[Targets]:
        """The targets that are fitted together, part after part."""
        blocks = responses.blocks(self.targets_at_once)
        together = max(1, self.targets_at_once // (blocks[0].stop - blocks[0].start))
        if self.targets_at_once >= responses.n_targets:
            together = len(blocks)
        return [Targets(responses, blocks[first : first + together]) for first in range(0, len(blocks), together)]

    def __str__(self) -> str:
        others = [f"{name} {cost / 1e9:.3g}" for name, cost in self.operations.items() if name != self.route]
        against = f" ({', '.join(others)})" if others else ""
        many = "all targets" if self.targets_at_once >= self.n_targets else f"{self.targets_at_once} targets"
        return f"{self.route}: {self.operations[self.route] / 1e9:.3g} GFLOP{against}; {many} at once"


def memory_for_fits() -> float:
    """Bytes that a fit may fill where no limit is given."""
    return SHARE_OF_FREE * free_memory()


def plan(
    problem: Problem, memory_limit: float, allowed: Sequence[Route] = get_args(Route), threads: int | None = None
) -> Plan:
    """Count the operations of each route, take the cheapest, and fit the number of targets to the memory.

    Parameters
    ----------
    problem : Problem
    memory_limit : float
        Bytes.
    allowed : sequence of route
        Routes to choose from.
    threads : int, optional
        Threads at most; by default all that are allowed to this process.

    Warns
    -----
    FitWarning
        If not even the matrices that all targets share fit into the memory.
    """
    operations: dict[Route, float] = {"primal": _primal(problem), "dual": _dual(problem)}
    if "downdating" in allowed and _may_downdate(problem):
        operations["downdating"] = _downdating(problem)
    # With many more features than samples a Gram would not even fit, and the other way round.
    fitting = {route: cost for route, cost in operations.items() if _bytes_for_all(problem, route, 1) < memory_limit}
    route = min(fitting or operations, key=lambda name: operations[name])
    if not fitting:
        warnings.warn(
            f"What all targets share needs {_bytes_for_all(problem, route, 1) / 1e9:.1f} GB; memory_limit is "
            f"{memory_limit / 1e9:.1f} GB. The fit goes on, and may run out of memory.",
            FitWarning,
            stacklevel=2,
        )
    n_threads = threads_allowed() if threads is None else threads
    while n_threads > 1 and _bytes_for_all(problem, route, n_threads) > memory_limit / 2:
        n_threads -= 1
    left = memory_limit - _bytes_for_all(problem, route, n_threads)
    at_once = int(left // _bytes_per_target(problem, route))
    return Plan(route, operations, problem.n_targets, max(1, at_once), n_threads)


def _may_downdate(problem: Problem) -> bool:
    tested = np.concatenate([fold.test for fold in problem.folds])
    nested = all(fold.inner and len(fold.test) for fold in problem.folds)
    return not problem.scaled and not problem.n_baseline and nested and len(np.unique(tested)) == len(tested)


def _weight(problem: Problem) -> float:
    return 1.0 if problem.dtype == "float32" else DOUBLE


def _primal(problem: Problem) -> float:
    n, p, v = problem.n_samples, problem.n_features, problem.n_targets
    shared = DOUBLE * 2 * n * p**2 + _weight(problem) * 2 * n * p * v
    sets = [(p, min(p, size), tests) for size, tests in problem.training_sets()]
    outer = [(p, min(p, len(fold.train)), [len(fold.test)]) for fold in problem.folds]
    return shared + sum(_training_set(problem, *each, DOUBLE * EIGEN * p**3) for each in sets + outer)


def _dual(problem: Problem) -> float:
    n, p = problem.n_samples, problem.n_features
    shared = 0.0 if problem.scaled else DOUBLE * 2 * n**2 * p
    total = shared
    sets = problem.training_sets() + [(len(fold.train), [len(fold.test)]) for fold in problem.folds]
    for size, tests in sets:
        kernel = DOUBLE * 2 * size * (size + sum(tests)) * p if problem.scaled else 0.0
        total += _training_set(problem, size, min(p, size), tests, kernel + DOUBLE * EIGEN * size**3)
    return total


def _training_set(problem: Problem, width: int, rank: int, tests: list[int], factorisation: float) -> float:
    """One factorisation, U'Y from sums or rows of this width, and the scores of its tests."""
    v, weight = problem.n_targets, _weight(problem)
    total = factorisation + weight * 2 * width * rank * v
    for rows in tests:
        by_penalty = weight * 2 * len(problem.grid.alphas) * min(rows, rank) * rank * v
        total += weight * 2 * rows * rank * v + min(by_penalty, DOUBLE * 2 * rank**2 * v)
        total += DOUBLE * 2 * rows * rank * width
    return total


def _downdating(problem: Problem) -> float:
    n, p, v = problem.n_samples, problem.n_features, problem.n_targets
    rank, weight = min(n, p), _weight(problem)
    left_out = [n - size for size, _ in problem.training_sets()] + [n - len(fold.train) for fold in problem.folds]
    per_penalty = weight * 2 * n * rank * v
    for size in left_out:
        per_penalty += weight * 2 * size**2 * v + DOUBLE * 2 * size**2 * (size + rank)
    factorisation = DOUBLE * (2 * n * p * rank + EIGEN * rank**3 + 2 * n * p * rank)
    return factorisation + weight * 2 * n * rank * v + len(problem.grid.alphas) * per_penalty


def _bytes_for_all(problem: Problem, route: Route, threads: int) -> float:
    """Bytes that do not grow with the targets: matrices of the size that is factorised, some six in each thread, and
    the blocks of targets at work.
    """
    n, p = problem.n_samples, problem.n_features
    work = threads * block_width(n) * (3 * n + 8 * min(n, p))
    if route == "primal":
        return 8.0 * (work + p**2 * (6 * threads + _n_stretches(problem)))
    if route == "downdating":
        largest = max(n - size for size, _ in problem.training_sets())
        inverses = largest**2 * (len(problem.training_sets()) + len(problem.folds) + 3 * threads)
        return 8.0 * (work + inverses + 5 * min(n, p) ** 2 + 3 * n * min(n, p))
    return 8.0 * (work + threads * (6 * n**2 + (2 * n * p if problem.scaled else 0)) + n**2)


def _n_stretches(problem: Problem) -> int:
    """How many parts of the samples the training sets are made of, about."""
    return len({fold.train.tobytes() for fold in problem.folds}) + max(len(fold.inner) for fold in problem.folds)


def _bytes_per_target(problem: Problem, route: Route) -> float:
    item = 4 if problem.dtype == "float32" else 8
    n_penalties = len(problem.grid.alphas) * (1 + (len(problem.grid.betas) if problem.n_baseline else 0))
    n_scores = len(problem.folds) * n_penalties
    # Totals, counts and means of the inner scores, and what choosing takes.
    scores = 48 * n_scores + 8 * problem.n_bands * max(len(fold.test) for fold in problem.folds)
    if route == "primal":
        return scores + item * problem.n_features * _n_stretches(problem)
    if route == "downdating":
        return scores + item * (4 * problem.n_samples + problem.n_features)
    return scores + item * problem.n_samples
