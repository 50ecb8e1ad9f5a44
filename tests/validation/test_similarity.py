"""The ground truth of alignment without a linear fit, and that broken methods fail it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from brainalign.analysis.similarity.measures import linear_cka
from brainalign.analysis.similarity.rdms import euclidean_rdm
from brainalign.validation import similarity
from brainalign.validation.similarity import v12


def test_alignment_is_found_where_it_is_and_not_elsewhere() -> None:
    checks = v12()
    assert len(checks) == 6
    assert [(check.design, check.observed) for check in checks if not check.passed] == []


def test_a_biased_estimate_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "linear_cka", lambda x, y, **_: linear_cka(x, y, band=0, unbiased=False))
    assert not similarity._independent(np.random.default_rng(0)).passed


def test_distances_that_are_not_cross_validated_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "crossnobis_rdm", lambda repeats: euclidean_rdm(repeats.mean(axis=0)))
    assert not similarity._noise_of_repeats(np.random.default_rng(0)).passed


def test_shuffled_rows_instead_of_shifted_ones_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def shuffled(x: np.ndarray, y: np.ndarray, *_: object) -> SimpleNamespace:
        value = linear_cka(x, y)
        null = [linear_cka(x, y[np.random.default_rng(k).permutation(len(y))]) for k in range(20)]
        return SimpleNamespace(value=0.0, p=(1 + sum(each >= value for each in null)) / 21)

    monkeypatch.setattr(similarity, "compare_arrays", shuffled)
    assert not similarity._slow_rows_tested(np.random.default_rng(0), 10).passed
