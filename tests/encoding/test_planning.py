"""The plan counts what each route costs, takes the cheapest and keeps to the memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from brainalign.encoding.penalties import DOUBLE, Grid
from brainalign.encoding.planning import EIGEN, Plan, Problem, plan
from brainalign.encoding.responses import Responses
from brainalign.encoding.splits import LeaveOneRunOut, NestedFold, nested_folds
from brainalign.errors import FitWarning

RUNS = np.repeat(np.arange(3), 10)
ROUTES = ("primal", "dual", "downdating")


def problem(p: int = 4, v: int = 100, runs: np.ndarray = RUNS, **changed: Any) -> Problem:
    folds = nested_folds(LeaveOneRunOut(), LeaveOneRunOut(), len(runs), runs)
    return Problem(p, v, folds, Grid(np.logspace(0, 2, 3), np.ones(1)), **{"scaled": False, **changed})


def products(*sizes: tuple[int, int, int]) -> float:
    """Operations of products (m, k) by (k, n) in float64."""
    return sum(DOUBLE * 2 * m * k * n for m, k, n in sizes)


def test_operations_are_those_of_the_products_that_are_made() -> None:
    # Three runs of 10 samples: three training sets of one run, each tested on the two others, and three of two runs.
    cost = plan(problem(), 1e9, ROUTES).operations
    shared = products((4, 30, 4), (4, 30, 100))
    one_run = products((4, 4, 100)) + 2 * products((10, 4, 100), (4, 4, 100), (10, 4, 4))
    two_runs = products((4, 4, 100), (10, 4, 100), (4, 4, 100), (10, 4, 4))
    factorised = DOUBLE * EIGEN * 4**3
    assert cost["primal"] == pytest.approx(shared + 3 * (one_run + factorised) + 3 * (two_runs + factorised))
    kernel = products((30, 4, 30))
    one_run = products((4, 10, 100)) + 2 * products((10, 4, 100), (4, 4, 100), (10, 10, 4))
    two_runs = products((4, 20, 100), (10, 4, 100), (4, 4, 100), (10, 20, 4))
    factorised = DOUBLE * EIGEN * (10**3 + 20**3)
    assert cost["dual"] == pytest.approx(kernel + 3 * one_run + 3 * two_runs + 3 * factorised)
    of_all = products((4, 30, 4), (30, 4, 4), (4, 30, 100)) + DOUBLE * EIGEN * 4**3
    per_penalty = products((30, 4, 100))
    per_penalty += 3 * products((20, 20, 100), (20, 20, 20), (20, 20, 4))
    per_penalty += 3 * products((10, 10, 100), (10, 10, 10), (10, 10, 4))
    assert cost["downdating"] == pytest.approx(of_all + 3 * per_penalty)


@pytest.mark.parametrize(("p", "expected"), [(4, "primal"), (3000, "dual")])
def test_the_cheaper_side_of_the_algebra_is_taken(p: int, expected: str) -> None:
    how = plan(problem(p, scaled=True), 1e9, ROUTES)
    assert how.route == expected == min(how.operations, key=lambda route: how.operations[route])


def test_many_small_runs_and_few_penalties_are_downdated() -> None:
    many = problem(300, 2000, np.repeat(np.arange(30), 10))
    assert plan(replace(many, grid=Grid(np.ones(1), np.ones(1))), 1e10, ROUTES).route == "downdating"


@pytest.mark.parametrize("route", ROUTES)
def test_cost_grows_in_proportion_to_the_targets_but_for_what_they_share(route: Any) -> None:
    costs = [plan(problem(v=v), 1e12, ROUTES).operations[route] for v in (1000, 2000, 3000)]
    assert costs[2] - costs[1] == pytest.approx(costs[1] - costs[0])


def overlapping() -> list[NestedFold]:
    folds = nested_folds(LeaveOneRunOut(), LeaveOneRunOut(), 30, RUNS)
    return [*folds, folds[0]]


@pytest.mark.parametrize(
    "hindrance",
    [
        {"scaled": True},
        {"n_baseline": 1},
        {"folds": overlapping()},
        {"folds": nested_folds(LeaveOneRunOut(), None, 30, RUNS)},
    ],
    ids=["scaled", "baseline", "samples tested twice", "no inner folds"],
)
def test_downdating_is_for_penalties_that_all_folds_share(hindrance: dict[str, Any]) -> None:
    assert "downdating" in plan(problem(), 1e9, ROUTES).operations
    assert "downdating" not in plan(replace(problem(), **hindrance), 1e9, ROUTES).operations


def test_what_is_not_allowed_is_not_counted() -> None:
    assert set(plan(problem(), 1e9, ("primal", "dual")).operations) == {"primal", "dual"}


def test_less_memory_fits_fewer_targets_and_threads_at_a_time() -> None:
    large = problem(200, 50_000, np.repeat(np.arange(5), 200))
    plans = [plan(large, limit, ROUTES, threads=4) for limit in (1e10, 1e9, 3e8, 1.5e8)]
    at_once = [how.targets_at_once for how in plans]
    assert at_once == sorted(at_once, reverse=True)
    assert at_once[0] >= 50_000 > at_once[-1] >= 1
    threads = [how.threads for how in plans]
    assert threads == sorted(threads, reverse=True)
    assert threads[0] == 4 > threads[-1] >= 1


def test_a_gram_that_does_not_fit_gives_way_to_a_kernel_that_does() -> None:
    wide = problem(20_000, 10, scaled=True)
    assert plan(wide, 1e9, ROUTES).route == "dual"


def test_what_cannot_fit_is_told_with_both_numbers() -> None:
    with pytest.warns(FitWarning, match=r"needs \d\.\d GB; memory_limit is 0\.0 GB"):
        how = plan(problem(3000, 10, np.repeat(np.arange(3), 1000)), 1e6, ROUTES)
    assert how.targets_at_once == how.threads == 1


@pytest.mark.parametrize(("at_once", "parts"), [(10, 1), (9, 2), (4, 3), (1, 10)])
def test_targets_are_parted_in_order_and_none_is_left_out(at_once: int, parts: int) -> None:
    responses = Responses(np.random.default_rng(0).normal(size=(5, 10)))
    parted = Plan("primal", {"primal": 1.0}, 10, at_once).parts(responses)
    assert len(parted) == parts
    assert np.concatenate([np.arange(part.start, part.start + part.n) for part in parted]).tolist() == list(range(10))
    assert max(part.n for part in parted) <= at_once


def test_a_plan_says_what_it_took_and_what_the_others_would_have_cost() -> None:
    how = Plan("dual", {"primal": 3e9, "dual": 1.5e9}, 10, 4)
    assert str(how) == "dual: 1.5 GFLOP (primal 3); 4 targets at once"
    assert str(replace(how, targets_at_once=10)) == "dual: 1.5 GFLOP (primal 3); all targets at once"
    assert str(Plan("primal", {"primal": 2e9}, 10, 10)) == "primal: 2 GFLOP; all targets at once"
