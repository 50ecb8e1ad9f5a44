"""One sample left out at a time: the shortcut gives the scores of so many refits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from brainalign.encoding import RidgeEncoder
from brainalign.encoding.backends import Backend
from brainalign.encoding.cross_validation import cross_validate
from brainalign.encoding.leave_one_out import LeaveOneOut
from brainalign.encoding.penalties import Grid

ALPHAS = (0.1, 10.0, 1000.0)


def refitted(x: np.ndarray, y: np.ndarray, alpha: float, selection: str) -> np.ndarray:
    predicted = np.zeros_like(y)
    for sample in range(len(x)):
        rest = np.arange(len(x)) != sample
        model = Ridge(alpha=alpha, solver="svd").fit(x[rest], y[rest])
        predicted[sample] = model.predict(x[[sample]]).reshape(-1)
    if selection == "r":
        return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, y.T, strict=True)])
    return 1 - ((y - predicted) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    n=st.integers(6, 25),
    p=st.integers(1, 40),
    selection=st.sampled_from(["r2", "r"]),
    name=st.sampled_from(["numpy", "torch"]),
    seed=st.integers(0, 10**6),
)
def test_scores_are_those_of_leaving_out_each_sample(n: int, p: int, selection: Any, name: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = StandardScaler().fit_transform(rng.normal(size=(n, p))), rng.normal(size=(n, 2)) + 3.0
    encoder = RidgeEncoder(alphas=ALPHAS, inner_splits="loo", selection=selection, backend=name).fit(x, y)
    expected = [refitted(x, y, alpha, selection) for alpha in ALPHAS]
    np.testing.assert_allclose(encoder.inner_scores_, expected, rtol=1e-7, atol=1e-7)


def test_a_small_penalty_on_more_features_than_samples_keeps_six_digits() -> None:
    rng = np.random.default_rng(0)
    x, y = StandardScaler().fit_transform(rng.normal(size=(30, 60))), rng.normal(size=(30, 2))
    encoder = RidgeEncoder(alphas=(1e-6,), inner_splits="loo").fit(x, y)
    np.testing.assert_allclose(encoder.inner_scores_[0], refitted(x, y, 1e-6, "r2"), atol=1e-6)


def test_float32_is_left_where_next_to_nothing_of_a_sample_remains() -> None:
    rng = np.random.default_rng(0)
    u = np.linalg.qr(np.column_stack([np.ones(30), rng.normal(size=(30, 29))]))[0][:, 1:]
    s, train = np.full(29, 5.0), np.arange(30)
    small, large = (
        LeaveOneOut(train, s, u, Grid(np.array([alpha]), np.ones(1)), Backend(), "float32") for alpha in (1e-3, 10.0)
    )
    assert (small.dtype, large.dtype) == ("float64", "float32")
    # Interpolated by the fit: residuals in float32 would be rounding alone.
    y = rng.normal(size=(30, 3)).astype(np.float32)
    found = small.score(y.astype(small.dtype), y.mean(axis=0, dtype=np.float64), u.T @ y.astype(np.float64))
    np.testing.assert_allclose(found.alone[0], refitted(u * s, y.astype(np.float64), 1e-3, "r2"), atol=1e-6)


class Windows:
    """Two test windows after one and the same training set."""

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Any:
        yield np.arange(40), np.arange(42, 50)
        yield np.arange(40), np.arange(50, 60)


@pytest.mark.parametrize("inner", ["loo", 3])
def test_folds_of_one_training_set_choose_the_same(inner: Any) -> None:
    # Found in review: the first of them was forgotten, and got the largest penalty.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 8))
    y = x[:, :3] + rng.normal(size=(60, 3))
    scores, _ = cross_validate(RidgeEncoder(alphas=(1, 10, 100, 1e5), inner_splits=inner), x, y, None, Windows())
    np.testing.assert_array_equal(scores.alpha[0], scores.alpha[1])
    assert scores.alpha.max() < 1e5
