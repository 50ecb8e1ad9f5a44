"""The ground truths of ceilings hold, and methods that are known to be wrong do not pass for right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from brainalign.analysis.ceilings.repeats import Repeatability, repeatability
from brainalign.analysis.ceilings.shared_response import SharedResponse, shared_response
from brainalign.encoding import pearson
from brainalign.validation import ceilings
from brainalign.validation.ceilings import v6, v6b


def test_explainable_variance_and_ccnorm_come_back() -> None:
    checks = v6()
    assert [check.id for check in checks] == ["V6"] * 3
    assert [check.observed for check in checks if not check.passed] == []


def test_ceilings_from_subjects_come_back() -> None:
    checks = v6b()
    assert [check.id for check in checks] == ["V6b"] * 2
    assert [check.observed for check in checks if not check.passed] == []


def test_explainable_variance_without_its_correction_fails_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def uncorrected(repeats: np.ndarray) -> Repeatability:
        found = repeatability(repeats)
        return replace(found, signal_power=found.explainable_variance_raw * found.total_power)

    monkeypatch.setattr(ceilings, "repeatability", uncorrected)
    assert [check.passed for check in v6()] == [False, False, False]


def test_correlations_of_a_subject_with_itself_fail_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_itself(responses: np.ndarray) -> SharedResponse:
        found, n = shared_response(responses), len(responses)
        r = pearson(responses.mean(axis=0, keepdims=True), responses)
        return replace(found, pairwise=(1 + (n - 1) * found.pairwise) / n, leave_one_out=r)

    monkeypatch.setattr(ceilings, "shared_response", with_itself)
    assert [check.passed for check in v6b()] == [False, False]
