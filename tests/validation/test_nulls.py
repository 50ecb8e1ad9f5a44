"""V5 and V14: tests keep their level on data with memory, and those that do not are caught."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from brainalign.analysis.inference import BlockPermutation
from brainalign.validation import nulls
from brainalign.validation.checks import Check


@pytest.fixture(scope="module")
def held_out() -> list[Check]:
    return nulls.v5()


def test_every_check_of_a_held_out_correlation_passes(held_out: list[Check]) -> None:
    assert [check for check in held_out if not check.passed] == []
    assert {check.id for check in held_out} == {"V5"}
    assert len(held_out) == 5


def test_every_check_of_a_group_passes() -> None:
    assert [check for check in nulls.v14() if not check.passed] == []


def test_surrogates_without_memory_are_caught(monkeypatch: pytest.MonkeyPatch, held_out: list[Check]) -> None:
    def shuffled(self: BlockPermutation, number: int, stimulus: str, n: int) -> np.ndarray:
        return np.random.default_rng(number).permutation(n)

    monkeypatch.setattr(BlockPermutation, "_order_of", shuffled)
    broken = {check.design: check for check in nulls.v5()}
    for check in held_out:
        now = broken[check.design]
        assert now.passed == ("block permutation" not in check.design), now
        assert dataclasses.replace(now, observed="", passed=True) == dataclasses.replace(
            check, observed="", passed=True
        )
