"""V1 and V9: they pass, and a method that is wrong does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pytest

from brainalign.alignment import delay, resampled, resampling_matrix
from brainalign.encoding import RidgeEncoder
from brainalign.validation import numerics


@pytest.mark.parametrize("seed", [0, 1])
def test_the_arithmetic_of_ridge_holds(seed: int) -> None:
    checks = numerics.v1(seed=seed)
    assert [check.observed for check in checks if not check.passed] == []
    assert {check.id for check in checks} == {"V1"}
    assert sum("himalaya" in check.criterion for check in checks) == 2


@pytest.mark.parametrize("seed", [0, 1])
def test_words_are_placed_as_the_formulas_say(seed: int) -> None:
    checks = numerics.v9(seed=seed)
    assert [check.observed for check in checks if not check.passed] == []
    assert {check.id for check in checks} == {"V9"}


def test_without_himalaya_folds_are_compared_with_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "find_spec", lambda name: None)
    x, y = numerics._ridge_problem((100, 20, 8), np.random.default_rng(0))
    check = numerics._against_folds("small", x, y)
    assert "scikit-learn" in check.criterion
    assert check.passed


class Biased(RidgeEncoder):
    """A ridge whose weights are a ten-thousandth too large."""

    def fit(self, X: Any, y: Any, groups: Any = None, baseline: Any = None) -> Self:
        super().fit(X, y, groups, baseline)
        self.coef_ = self.coef_ * (1 + 1e-4)
        return self


class WithoutLargePenalties(RidgeEncoder):
    """A ridge that does not know the upper half of the grid."""

    def __init__(self, alphas: Sequence[float] = (1.0,), inner_splits: Any = 4) -> None:
        super().__init__(alphas=list(alphas)[: (len(alphas) + 1) // 2], inner_splits=inner_splits)


@pytest.mark.parametrize(
    ("broken", "which"),
    [
        (Biased, ("leave-one-out", "folds", "singular values", "normal equations")),
        (WithoutLargePenalties, ("leave-one-out", "folds")),
    ],
)
def test_a_wrong_ridge_is_found_out(
    broken: type[RidgeEncoder], which: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numerics, "RidgeEncoder", broken)
    x, y = numerics._ridge_problem((100, 20, 8), np.random.default_rng(0))
    compared = {
        "leave-one-out": numerics._against_leave_one_out,
        "folds": numerics._against_folds,
        "singular values": numerics._against_singular_values,
        "normal equations": numerics._two_formulas,
    }
    for name in which:
        assert not compared[name]("small", x, y).passed, name


def rolled(values: np.ndarray, delays: Sequence[int]) -> np.ndarray:
    """Delays that bring the end of a run to its start."""
    return np.concatenate([np.roll(values, rows, axis=0) for rows in delays], axis=1)


@pytest.mark.parametrize(
    ("name", "broken", "missed"),
    [
        ("delay", rolled, {0}),
        ("resampling_matrix", lambda *a: resampling_matrix(*a) * (1 + 1e-6), {1, 3}),
        ("resampled", lambda *a: resampled(*a) * 1.003, {2}),
        ("delay", lambda values, delays: delay(values, delays), set()),
    ],
    ids=["delays that wrap", "kernels too large", "a gain too large", "nothing wrong"],
)
def test_words_that_are_placed_wrongly_are_found_out(
    name: str, broken: Any, missed: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numerics, name, broken)
    assert {number for number, check in enumerate(numerics.v9()) if not check.passed} == missed
