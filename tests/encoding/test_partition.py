"""What each band contributes: himalaya's numbers, and sums that are the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.encoding import pearson, r2, split_r, split_r2


def test_the_product_measures_are_himalaya_s() -> None:
    scoring = pytest.importorskip("himalaya.scoring", reason="a reference that only the extra 'bench' installs")
    rng = np.random.default_rng(0)
    y = rng.normal(size=(50, 4))
    y -= y.mean(axis=0)
    parts = 0.3 * y + rng.normal(size=(3, 50, 4)) * 0.2
    np.testing.assert_allclose(split_r2(parts, y, np.zeros(4)), scoring.r2_score_split(y, parts), atol=1e-10)
    np.testing.assert_allclose(split_r(parts, y), scoring.correlation_score_split(y, parts), atol=1e-10)
    whole = parts.sum(axis=0)
    np.testing.assert_allclose(
        split_r(parts, y).sum(axis=0), [np.corrcoef(*p)[0, 1] for p in zip(whole.T, y.T, strict=True)]
    )


def test_a_constant_target_has_no_parts() -> None:
    y = np.column_stack([np.ones(10), np.arange(10.0)])
    parts = np.random.default_rng(0).normal(size=(2, 10, 2))
    for shares in (split_r2(parts, y, y.mean(axis=0)), split_r(parts, y)):
        assert np.isnan(shares[:, 0]).all()
        assert np.isfinite(shares[:, 1]).all()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    n_bands=st.integers(1, 4),
    n=st.integers(3, 30),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    offset=st.sampled_from([0.0, 5.0, -100.0]),
    seed=st.integers(0, 10**6),
)
def test_the_parts_sum_to_the_scores_of_the_whole(n_bands: int, n: int, scale: float, offset: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = scale * rng.normal(size=(n, 3)) + offset
    reference = offset + 0.3 * scale * rng.normal(size=3)  # of training samples, which are others
    parts = scale * rng.normal(size=(n_bands, n, 3))
    predicted = parts.sum(axis=0) + reference
    np.testing.assert_allclose(split_r2(parts, y, reference).sum(axis=0), r2(predicted, y, reference), rtol=1e-9)
    np.testing.assert_allclose(split_r(parts, y).sum(axis=0), pearson(predicted, y), atol=1e-9)
