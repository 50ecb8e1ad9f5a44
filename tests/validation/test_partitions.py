"""The checks of partitions pass, and fail for methods that are known to go wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brainalign.analysis.partitions import partitioning
from brainalign.encoding import BandedRidgeEncoder
from brainalign.validation import partitions
from brainalign.validation.partitions import v8, v10


@pytest.mark.parametrize(("check", "n_checks"), [(v8, 2), (v10, 3)])
def test_all_checks_pass(check: Any, n_checks: int) -> None:
    found = check()
    assert len(found) == n_checks
    assert {one.id for one in found} == {check.__name__.replace("v", "V")}
    assert all(one.passed for one in found), [one for one in found if not one.passed]


@pytest.mark.slow
def test_planted_shares_come_back_in_full() -> None:
    assert all(one.passed for one in v8("full", seed=1))


def test_one_penalty_for_all_spaces_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class OneForAll(BandedRidgeEncoder):
        def candidates(self, n_bands: int) -> np.ndarray:
            return np.full((1, n_bands), 1.0 / n_bands)

    monkeypatch.setattr(partitions, "BandedRidgeEncoder", OneForAll)
    assert [one.passed for one in v10()] == [False, False, True]


def test_parts_that_are_clipped_or_swapped_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = partitioning.unique_and_shared

    def clipped(r2: Any) -> Any:
        return {names: np.maximum(part, 0.0) for names, part in right(r2).items()}

    def swapped(r2: Any) -> Any:
        parts = right(r2)
        return {**parts, ("A",): parts["A", "B"], ("A", "B"): parts["A",]}

    monkeypatch.setattr(partitioning, "unique_and_shared", clipped)
    assert [one.passed for one in v8()] == [True, False]
    monkeypatch.setattr(partitioning, "unique_and_shared", swapped)
    assert [one.passed for one in v8()] == [False, True]
