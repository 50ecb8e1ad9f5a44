"""Planted layers and latencies are found, and broken methods are not passed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from brainalign.encoding import ContiguousBlocks
from brainalign.validation import planted
from brainalign.validation.checks import Check


@pytest.mark.parametrize("validate", [planted.v2, planted.v3, planted.v11])
def test_every_check_passes(validate: Callable[[], list[Check]]) -> None:
    for check in validate():
        assert check.passed, f"{check.criterion}: {check.observed}"


@pytest.mark.slow
def test_a_choice_on_the_test_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over all folds, in place of scores inside the training samples, dips."""

    def outside(layers: np.ndarray, responses: np.ndarray, groups: None, splitter: ContiguousBlocks) -> np.ndarray:
        r = planted._scores(layers, responses, splitter)
        return np.repeat(r.mean(axis=1, keepdims=True), r.shape[1], axis=1)

    monkeypatch.setattr(planted, "scores_inside", outside)
    inside, _ = planted.v11()
    assert not inside.passed


@pytest.mark.slow
def test_layers_scored_in_the_wrong_order_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = planted._scores
    monkeypatch.setattr(planted, "_scores", lambda layers, y, splitter: scores(layers, y, splitter)[::-1])
    assert not any(check.passed for check in planted.v2())
