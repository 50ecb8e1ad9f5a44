"""Variance partitioning: the formulas of two and three spaces, himalaya's product measure, and planted shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from himalaya.scoring import correlation_score_split, r2_score_split
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.analysis.partitions.partitioning import Partition, partition, signed_root, unique_and_shared
from brainalign.encoding import (
    BandedRidgeEncoder,
    ContiguousBlocks,
    LeaveOneRunOut,
    Responses,
    RidgeEncoder,
    cross_val_scores,
)
from brainalign.errors import DataError, RecipeError

RUNS = np.repeat(["a", "b", "c", "d"], 60)
ALPHAS = (1.0, 10.0, 100.0, 1000.0, 1e5)
QUICK = BandedRidgeEncoder(alphas=ALPHAS, n_iter=4)


def two_spaces(seed: int = 0, n_targets: int = 5) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A small space and a larger one that holds half of it, and responses to both."""
    rng = np.random.default_rng(seed)
    small, rest = rng.normal(size=(240, 4)), rng.normal(size=(240, 12))
    large = np.hstack([small[:, :2], rest])
    y = small @ rng.normal(size=(4, n_targets)) + rest[:, :2] @ rng.normal(size=(2, n_targets))
    return {"small": small, "large": large}, y + 2.0 * rng.normal(size=y.shape)


def some_r2(names: str, seed: int) -> dict[tuple[str, ...], np.ndarray]:
    """Any R2, also such as no model has, of all subsets of these spaces."""
    rng = np.random.default_rng(seed)
    subsets = [()]
    for name in names:
        subsets += [(*subset, name) for subset in subsets]
    return {subset: rng.uniform(-1.0, 1.0, size=(3, 4)) for subset in subsets if subset}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_the_parts_of_two_spaces_are_those_of_the_formulas(seed: int) -> None:
    r2 = some_r2("AB", seed)
    a, b, ab = r2["A",], r2["B",], r2["A", "B"]
    parts = unique_and_shared(r2)
    assert list(parts) == [("A",), ("B",), ("A", "B")]
    for names, expected in ((("A",), ab - b), (("B",), ab - a), (("A", "B"), a + b - ab)):
        np.testing.assert_allclose(parts[names], expected, atol=1e-12)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_the_parts_of_three_spaces_are_those_of_the_formulas(seed: int) -> None:
    r2 = some_r2("ABC", seed)
    a, b, c = r2["A",], r2["B",], r2["C",]
    ab, ac, bc, abc = r2["A", "B"], r2["A", "C"], r2["B", "C"], r2["A", "B", "C"]
    expected = {
        ("A",): abc - bc,
        ("B",): abc - ac,
        ("C",): abc - ab,
        ("A", "B"): ac + bc - c - abc,
        ("A", "C"): ab + bc - b - abc,
        ("B", "C"): ab + ac - a - abc,
        ("A", "B", "C"): a + b + c - ab - ac - bc + abc,
    }
    parts = unique_and_shared(r2)
    assert list(parts) == list(expected)
    for names, part in parts.items():
        np.testing.assert_allclose(part, expected[names], atol=1e-12)


@pytest.mark.parametrize("names", ["AB", "ABC", "ABCD"])
def test_parts_sum_to_the_r2_of_all_and_of_each_space(names: str) -> None:
    r2 = some_r2(names, seed=1)
    parts = unique_and_shared(r2)
    np.testing.assert_allclose(sum(parts.values()), r2[tuple(names)], atol=1e-12)
    for name in names:  # a space explains what it shares with some and what it shares with none
        within = sum(part for subset, part in parts.items() if name in subset)
        np.testing.assert_allclose(within, r2[name,], atol=1e-12)


def test_the_order_of_names_does_not_matter_and_a_missing_subset_is_named() -> None:
    r2 = some_r2("AB", seed=2)
    swapped = {names[::-1]: values for names, values in r2.items()}
    np.testing.assert_array_equal(unique_and_shared(swapped)["A",], unique_and_shared(r2)["A",])
    del r2["B",]
    with pytest.raises(DataError, match=r"all subsets; there is none of \('B',\)"):
        unique_and_shared(r2)


def test_negative_and_undefined_values_are_kept() -> None:
    r2 = {("A",): np.array([0.2, np.nan]), ("B",): np.array([0.1, 0.1]), ("A", "B"): np.array([0.15, 0.2])}
    parts = unique_and_shared(r2)
    assert parts["B",][0] == pytest.approx(-0.05)
    assert np.isnan(parts["B",][1])
    assert np.isfinite(parts["A",]).all()
    np.testing.assert_allclose(signed_root(np.array([-0.25, 0.0, 0.04, np.nan])), [-0.5, 0.0, 0.2, np.nan])


@pytest.fixture(scope="module")
def banded() -> Partition:
    spaces, y = two_spaces()
    return partition(spaces, y, RUNS, LeaveOneRunOut(), QUICK)


def test_subsets_have_the_scores_of_cross_validation(banded: Partition) -> None:
    spaces, y = two_spaces()
    assert banded.spaces == ("small", "large")
    assert list(banded.r2) == list(banded.r) == [("small",), ("large",), ("small", "large")]
    for name, columns in spaces.items():
        scores = cross_val_scores(columns, y, RUNS, RidgeEncoder(alphas=ALPHAS))
        np.testing.assert_allclose(banded.r2[name,], scores.r2[0], atol=1e-10)
        np.testing.assert_allclose(banded.r[name,], scores.r[0], atol=1e-10)
    encoder = BandedRidgeEncoder([4, 14], ALPHAS, n_iter=4)
    scores = cross_val_scores(np.hstack(list(spaces.values())), y, RUNS, encoder)
    np.testing.assert_allclose(banded.joint, scores.r2[0], atol=1e-10)
    np.testing.assert_allclose(banded.r["small", "large"], scores.r[0], atol=1e-10)
    assert banded.r2_product is not None
    np.testing.assert_allclose(np.stack(list(banded.r2_product.values()), axis=1), scores.r2_band[0], atol=1e-10)


def test_product_measures_sum_to_the_scores_of_the_joint_model(banded: Partition) -> None:
    assert banded.r2_product is not None
    assert banded.r_product is not None
    np.testing.assert_allclose(sum(banded.r2_product.values()), banded.joint, atol=1e-12)
    np.testing.assert_allclose(sum(banded.r_product.values()), banded.r["small", "large"], atol=1e-12)
    np.testing.assert_allclose(sum(banded.parts.values()), banded.joint, atol=1e-12)
    np.testing.assert_array_equal(banded.unique("small"), banded.joint - banded.r2["large",])


def test_product_measures_are_himalaya_s() -> None:
    spaces, y = two_spaces(seed=3)
    y -= np.stack([y[run == RUNS].mean(axis=0) for run in RUNS])  # himalaya's reference is the held-out mean
    found = partition(spaces, y, RUNS, LeaveOneRunOut(), QUICK)
    assert found.r2_product is not None
    assert found.r_product is not None
    x = np.hstack(list(spaces.values()))
    for fold, run in enumerate(np.unique(RUNS)):
        train, test = run != RUNS, run == RUNS
        model = BandedRidgeEncoder([4, 14], ALPHAS, n_iter=4).fit(x[train], y[train], groups=RUNS[train])
        centred = x[test] - x[train].mean(axis=0)
        parts = np.stack([centred[:, :4] @ model.coef_[:4], centred[:, 4:] @ model.coef_[4:]])
        ours = [np.stack([product[name][fold] for name in spaces]) for product in (found.r2_product, found.r_product)]
        np.testing.assert_allclose(ours[0], r2_score_split(y[test], parts), atol=1e-6)
        np.testing.assert_allclose(ours[1], correlation_score_split(y[test], parts), atol=1e-6)


@pytest.mark.parametrize("order", [("small", "large"), ("large", "small")])
def test_two_penalties_on_a_grid_agree_with_the_random_search(order: tuple[str, str]) -> None:
    spaces, y = two_spaces(n_targets=20)
    spaces = {name: spaces[name] for name in order}
    searched = partition(spaces, y, RUNS, LeaveOneRunOut(), BandedRidgeEncoder(n_iter=20))
    on_grid = partition(spaces, y, RUNS, LeaveOneRunOut(), RidgeEncoder())
    assert on_grid.spaces == order
    assert on_grid.r2_product is None
    for names, part in searched.parts.items():
        np.testing.assert_allclose(on_grid.parts[names].mean(), part.mean(), atol=0.01)


def test_planted_parts_of_three_spaces_come_back() -> None:
    """Each space has dimensions of its own, some in common with one other, and some in common with all."""
    rng = np.random.default_rng(0)
    shares = {"A": 0.08, "B": 0.04, "C": 0.0, "AB": 0.08, "AC": 0.04, "BC": 0.0, "ABC": 0.12}
    latent = {who: rng.normal(size=(3000, 4)) for who in shares}
    y = np.sqrt(1.0 - sum(shares.values())) * rng.normal(size=(3000, 40))
    for who, share in shares.items():
        signal = latent[who] @ rng.normal(size=(4, 40))
        y += np.sqrt(share) * signal / signal.std(axis=0)
    spaces = {name: np.hstack([part for who, part in latent.items() if name in who]) for name in "ABC"}
    encoder = BandedRidgeEncoder(alphas=(1.0, 10.0, 100.0, 1000.0), n_iter=3)
    found = partition(spaces, y, None, ContiguousBlocks(5), encoder)
    assert found.joint.shape == (5, 40)
    for names, part in found.parts.items():
        assert part.mean() == pytest.approx(shares["".join(names)], abs=0.02), names


def test_targets_that_cannot_be_scored_are_undefined_and_the_others_do_not_notice(banded: Partition) -> None:
    spaces, y = two_spaces()
    constant, broken = np.ones((240, 1)), np.full((240, 1), np.nan)
    found = partition(spaces, np.hstack([constant, y, broken]), RUNS, LeaveOneRunOut(), QUICK)
    assert found.r2_product is not None
    for values, alone in (
        (found.joint, banded.joint),
        (found.parts["small", "large"], banded.parts["small", "large"]),
        (found.r2_product["small"], (banded.r2_product or {})["small"]),
    ):
        assert np.isnan(values[:, [0, -1]]).all()
        np.testing.assert_allclose(values[:, 1:-1], alone, atol=1e-9)


def test_all_targets_may_be_undefined() -> None:
    spaces, _ = two_spaces()
    for encoder in (QUICK, RidgeEncoder(alphas=ALPHAS)):
        found = partition(spaces, np.full((240, 2), np.nan), RUNS, LeaveOneRunOut(), encoder)
        assert all(np.isnan(part).all() for part in found.parts.values())


def test_a_space_that_never_varies_explains_nothing() -> None:
    spaces, y = two_spaces()
    found = partition({"model": spaces["large"], "nothing": np.ones((240, 3))}, y, RUNS, LeaveOneRunOut(), QUICK)
    np.testing.assert_allclose(found.r2["nothing",], 0.0, atol=1e-12)
    assert np.isnan(found.r["nothing",]).all()
    # Halved gammas move the penalties off the grid, no more.
    assert abs(found.unique("nothing").mean()) < 0.01


def test_prepared_responses_and_one_fold_are_taken() -> None:
    spaces, y = two_spaces()

    class FirstRun:
        def split(self, X: Any, y: Any = None, groups: Any = None) -> Any:
            yield np.flatnonzero(groups != "a"), np.flatnonzero(groups == "a")

    one = partition(spaces, Responses(y), RUNS, FirstRun(), QUICK)
    assert one.joint.shape == (1, 5)
    np.testing.assert_allclose(one.joint[0], partition(spaces, y, RUNS, LeaveOneRunOut(), QUICK).joint[0], atol=1e-10)


@pytest.mark.parametrize(
    ("change", "encoder", "problem"),
    [
        ({"large": None}, QUICK, r"two spaces or more; there is 1 \(small\)"),
        ({"third": np.ones((240, 1))}, RidgeEncoder(), r"two spaces, not for 3 \(small, large, third\)"),
        ({}, BandedRidgeEncoder(gammas=[[0.5, 0.5]]), "leave gammas out"),
        ({"large": np.ones((239, 2))}, QUICK, r"Space 'large' has shape \(239, 2\)"),
        ({"large": np.ones((240, 0))}, QUICK, "at least one"),
        ({"large": np.full((240, 2), np.inf)}, QUICK, "Space 'large': the value at sample 0, dimension 0 is inf"),
    ],
)
def test_what_cannot_be_partitioned_is_named(change: dict[str, Any], encoder: RidgeEncoder, problem: str) -> None:
    spaces, y = two_spaces()
    spaces = {name: columns for name, columns in (spaces | change).items() if columns is not None}
    with pytest.raises((RecipeError, DataError), match=problem):
        partition(spaces, y, RUNS, LeaveOneRunOut(), encoder)
