"""The checks of leaks pass, and fail where the protection they check is taken away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brainalign.encoding import cross_validation
from brainalign.validation import leaks
from brainalign.validation.leaks import v4, v4b, v13


@pytest.mark.parametrize(("check", "n_checks"), [(v4, 4), (v4b, 3), (v13, 3)])
def test_all_checks_pass(check: Any, n_checks: int) -> None:
    found = check()
    assert len(found) == n_checks
    assert {one.id for one in found} == {check.__name__.replace("v", "V")}
    assert all(one.passed for one in found), [one for one in found if not one.passed]


@pytest.mark.slow
def test_the_model_of_neighbours_passes_in_full() -> None:
    assert all(one.passed for one in v4b("full", seed=1))


def test_folds_that_nobody_refuses_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_validation, "_check_leak", lambda *_: None)
    assert [one.passed for one in v4()] == [False, True, True, True]


def test_shuffled_folds_in_the_place_of_blocks_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "LeaveOneRunOut", lambda: leaks._Shuffled(5, 1))
    assert not any(one.passed for one in v4b())


def test_a_rung_without_the_word_rate_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    climb = leaks.baseline_ladder

    def with_noise(layers: Any, rungs: Any, *rest: Any) -> Any:
        noise = np.random.default_rng(0).normal(size=rungs["word rate"].shape)
        return climb(layers, {"word rate": noise}, *rest)

    monkeypatch.setattr(leaks, "baseline_ladder", with_noise)
    assert [one.passed for one in v13()] == [False, False, True]
