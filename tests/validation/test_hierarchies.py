"""Planted orders are found and no others; a test over layers would not pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr

from brainalign.analysis.hierarchies.orders import HierarchyScore
from brainalign.validation import hierarchies


def test_every_check_passes() -> None:
    for check in hierarchies.v15():
        assert check.passed, f"{check.criterion}: {check.observed}"


@pytest.mark.slow
def test_a_p_value_over_layers_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    score = hierarchies.temporal_score

    def over_layers(latency_s: np.ndarray, depth: np.ndarray, **settings: Any) -> HierarchyScore:
        known = np.isfinite(latency_s[0])
        p = float(pearsonr(depth[known], latency_s[0, known]).pvalue)
        return replace(score(latency_s, depth, **settings), p_subjects=p)

    monkeypatch.setattr(hierarchies, "temporal_score", over_layers)
    planted, none = hierarchies.v15()
    assert planted.passed
    assert not none.passed
