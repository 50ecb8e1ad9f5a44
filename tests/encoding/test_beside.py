"""Several sets of columns beside the same features: the numbers of one fit for each, from one factorisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from brainalign.encoding import ContiguousBlocks, LeaveOneRunOut, RidgeEncoder, WholeRuns, spectra
from brainalign.encoding import ridge as ridge_module
from brainalign.encoding.banded import BandedRidgeEncoder
from brainalign.encoding.beside import cross_validate_beside
from brainalign.encoding.cross_validation import FoldScores, cross_validate
from brainalign.encoding.designs import Delayed
from brainalign.encoding.planning import Plan
from brainalign.encoding.responses import Responses
from brainalign.encoding.splits import Splitter
from brainalign.errors import DataError, RecipeError

RUNS = np.repeat(np.arange(4), 20)
ENCODER = RidgeEncoder(alphas=[1.0, 30.0, 1000.0], baseline_alphas=[2.0, 200.0])


def planted(p: int, v: int = 6, n: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Features, responses, and sets of 3, 1 and 5 columns of which the first is a part of the responses."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) * rng.uniform(0.2, 3, p) + 2.0
    sets = [rng.normal(size=(n, q)) * 7 + 3 for q in (3, 1, 5)]
    sets[1] = sets[1] - 2 * x[:, :1]  # not apart from the features
    y = x @ rng.normal(size=(p, v)) / np.sqrt(p) + sets[0][:, :1] * 0.3 + rng.normal(size=(n, v)) * np.linspace(1, 4, v)
    return x, y, sets


def agree(found: FoldScores, expected: FoldScores | None, tolerance: float = 1e-8) -> None:
    assert expected is not None
    for name in ("r", "r2", "alpha", "beta", "at_edge"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=tolerance, err_msg=name)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("selection", ["r2", "r"])
@pytest.mark.parametrize("p", [7, 150], ids=["long", "wide"])
@pytest.mark.parametrize("splitter", [LeaveOneRunOut(), WholeRuns(2), ContiguousBlocks(3, gap=2)], ids=type)
def test_scores_are_those_of_one_fit_for_each_set(splitter: Splitter, p: int, selection: Any, backend: Any) -> None:
    x, y, sets = planted(p)
    encoder = RidgeEncoder(
        ENCODER.alphas, selection=selection, baseline_alphas=ENCODER.baseline_alphas, backend=backend
    )
    alone, joints = cross_validate_beside(encoder, x, y, RUNS, splitter, sets)
    assert len(joints) == 3
    for columns, joint in zip(sets, joints, strict=True):
        by_itself, both = cross_validate(encoder, x, y, RUNS, splitter, columns)
        agree(alone, by_itself)
        agree(joint, both)
    assert (joints[0].r.mean() - alone.r.mean()) > 0.1 > joints[2].r.mean() - alone.r.mean()
    assert len(np.unique(joints[0].beta)) > 1, "targets were to differ in the penalty that suits them"


def test_both_penalties_are_those_of_ridge_on_rescaled_columns() -> None:
    x, y, sets = planted(7)
    _, joints = cross_validate_beside(ENCODER, x, y, RUNS, LeaveOneRunOut(), sets)
    for columns, joint in zip(sets, joints, strict=True):
        for fold, (train, test) in enumerate(LeaveOneRunOut().split(x, groups=RUNS)):
            for target in range(y.shape[1]):
                scaled = [(a - a[train].mean(axis=0)) / a[train].std(axis=0) for a in (x, columns)]
                penalties = joint.alpha[fold, target], joint.beta[fold, target]
                design = np.hstack([a / np.sqrt(penalty) for a, penalty in zip(scaled, penalties, strict=True)])
                predicted = Ridge(alpha=1.0).fit(design[train], y[train, target]).predict(design[test])
                r = np.corrcoef(predicted, y[test, target])[0, 1]
                np.testing.assert_allclose(joint.r[fold, target], r, atol=1e-8)


@pytest.mark.parametrize(
    "changed",
    [{"inner_splits": "loo"}, {"n_components": 4}, {"standardise": False}, {"inner_splits": 3, "gap": 2}],
    ids=["leave one out", "components", "centred only", "gap"],
)
def test_other_ways_to_fit_are_shared_alike(changed: dict[str, Any]) -> None:
    x, y, sets = planted(9)
    encoder = RidgeEncoder(ENCODER.alphas, baseline_alphas=ENCODER.baseline_alphas, **changed)
    alone, joints = cross_validate_beside(encoder, x, y, None, ContiguousBlocks(4, 3), sets)
    for columns, joint in zip(sets, joints, strict=True):
        by_itself, both = cross_validate(encoder, x, y, None, ContiguousBlocks(4, 3), columns)
        agree(alone, by_itself)
        agree(joint, both)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    n=st.integers(16, 50),
    p=st.integers(1, 60),
    v=st.integers(1, 4),
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    seed=st.integers(0, 10**6),
)
def test_any_shape_gives_the_numbers_of_one_fit_for_each_set(
    n: int, p: int, v: int, widths: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, y, sets = rng.normal(size=(n, p)), rng.normal(size=(n, v)), [rng.normal(size=(n, q)) for q in widths]
    alone, joints = cross_validate_beside(ENCODER, x, y, None, ContiguousBlocks(3), sets)
    for columns, joint in zip(sets, joints, strict=True):
        by_itself, both = cross_validate(ENCODER, x, y, None, ContiguousBlocks(3), columns)
        agree(alone, by_itself, 1e-6)
        assert both is not None
        same = joint.alpha == both.alpha  # of equally good penalties rounding takes one
        assert same.mean() > 0.9
        np.testing.assert_allclose(joint.r2[same], both.r2[same], atol=1e-6)


def test_features_are_factorised_once_for_all_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, sets = planted(9)
    rotated: list[int] = []
    rotate = spectra.PrimalPieces.rotate

    def counting(self: Any, train: Any) -> Any:
        rotated.append(len(train))
        return rotate(self, train)

    monkeypatch.setattr(spectra.PrimalPieces, "rotate", counting)
    encoder = RidgeEncoder(inner_splits=LeaveOneRunOut())
    cross_validate(encoder, x, y, RUNS, LeaveOneRunOut(), sets[0])
    of_one = len(rotated)
    cross_validate_beside(encoder, x, y, RUNS, LeaveOneRunOut(), sets * 5)
    assert len(rotated) == 2 * of_one
    assert of_one == 4 + 6, "four outer training sets, and six of two runs out"


def test_no_set_leaves_the_features_alone() -> None:
    x, y, _ = planted(9)
    alone, joints = cross_validate_beside(ENCODER, x, y, RUNS, LeaveOneRunOut(), [])
    assert joints == []
    agree(alone, cross_validate(ENCODER, x, y, RUNS, LeaveOneRunOut())[0])


def test_parts_of_the_targets_and_delays_that_are_never_made_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, sets = planted(5, v=150)
    expected = cross_validate_beside(ENCODER, Delayed(x, [1, 2], RUNS), Responses(y), RUNS, LeaveOneRunOut(), sets)
    counted: list[Any] = []

    def narrow(problem: Any, memory_limit: float, allowed: Any) -> Plan:
        counted.append(problem)
        return Plan("primal", {"primal": 1.0}, problem.n_targets, 64)

    monkeypatch.setattr(ridge_module, "plan", narrow)
    made = Delayed(x, [1, 2], RUNS).rows(np.arange(80))
    found = cross_validate_beside(ENCODER, made, y, RUNS, LeaveOneRunOut(), sets)
    agree(found[0], expected[0])
    for one, other in zip(found[1], expected[1], strict=True):
        agree(one, other)
    assert len(counted[0].grid.betas) == 3 * len(ENCODER.baseline_alphas), (
        "memory is planned for the scores of all sets"
    )


def test_unusable_targets_are_nan_and_leave_the_others_alone() -> None:
    x, y, sets = planted(9)
    spoilt = y.copy()
    spoilt[3, 0], spoilt[:, 1] = np.nan, 4.0
    expected = cross_validate_beside(ENCODER, x, y, RUNS, LeaveOneRunOut(), sets)
    found = cross_validate_beside(ENCODER, x, spoilt, RUNS, LeaveOneRunOut(), sets)
    for one, other in zip([found[0], *found[1]], [expected[0], *expected[1]], strict=True):
        assert np.isnan(one.r[:, :2]).all()
        assert np.isnan(one.alpha[:, :2]).all()
        np.testing.assert_array_equal(one.r[:, 2:], other.r[:, 2:])


def test_constant_columns_beside_add_nothing() -> None:
    x, y, _ = planted(9)
    alone, (joint,) = cross_validate_beside(ENCODER, x, y, RUNS, LeaveOneRunOut(), [np.full((80, 2), 3.0)])
    np.testing.assert_allclose(joint.r, alone.r, atol=1e-9)


@pytest.mark.parametrize(
    ("encoder", "sets", "groups", "message"),
    [
        (BandedRidgeEncoder(), [np.zeros((80, 1))], RUNS, "need a RidgeEncoder, not BandedRidgeEncoder"),
        (ENCODER, [np.zeros((79, 1))], RUNS, r"Set 0 beside the features of shape \(79, 1\)"),
        (ENCODER, [np.eye(80)[:, :2], np.full((80, 1), np.inf)], RUNS, "Set 1 .* sample 0, column 0 is inf"),
        (ENCODER, [np.zeros((80, 1))], RUNS[:5], r"groups has shape \(5,\)"),
    ],
    ids=["banded", "rows", "infinite", "groups"],
)
def test_what_cannot_be_fitted_is_refused(encoder: Any, sets: Any, groups: Any, message: str) -> None:
    x, y, _ = planted(9)
    with pytest.raises((DataError, RecipeError), match=message):
        cross_validate_beside(encoder, x, y, groups, LeaveOneRunOut(), sets)
    with pytest.raises(DataError, match="Features have 81 samples"):
        cross_validate_beside(ENCODER, Delayed(np.zeros((81, 2)), [0]), y, RUNS, LeaveOneRunOut(), [])
