"""Held-out errors from the fit on all samples are those of refitting without the held-out ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from brainalign.encoding import downdating
from brainalign.encoding.backends import Backend
from brainalign.encoding.designs import Matrix
from brainalign.encoding.downdating import Downdate
from brainalign.encoding.spectra import spectrum_of_all


def left_out(
    x: np.ndarray, y: np.ndarray, sets: list[np.ndarray], alpha: float, name: Any = "numpy", dtype: str = "float64"
) -> tuple[list[np.ndarray], str]:
    """Held-out errors of each set, and the type in which they were computed."""
    backend = Backend(name)
    u, s = spectrum_of_all(Matrix(x), backend, alpha)
    downdate = Downdate(u, s, alpha, sets, backend, dtype)
    given_ = backend.array(y.astype(dtype), downdate.dtype)
    z = backend.xp.astype(u, given_.dtype).T @ given_
    y = y.astype(dtype).astype(np.float64)
    errors = []
    for number, held in enumerate(sets):
        mean = np.delete(y, held, axis=0).mean(axis=0)
        deviations = downdate.deviations(downdate.fitted(z), given_, backend.array(mean, downdate.dtype), number)
        errors.append(y[held] - mean - backend.to_numpy(deviations))
    return errors, downdate.dtype


def refitted(x: np.ndarray, y: np.ndarray, held: np.ndarray, alpha: float) -> np.ndarray:
    rest = np.setdiff1d(np.arange(len(x)), held)
    return y[held] - Ridge(alpha=alpha, solver="svd").fit(x[rest], y[rest]).predict(x[held])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    n=st.integers(6, 40),
    p=st.integers(1, 60),
    alpha=st.sampled_from([1e-2, 1.0, 1e3, 1e12]),
    name=st.sampled_from(["numpy", "torch"]),
    seed=st.integers(0, 10**6),
)
def test_any_samples_may_be_left_out(n: int, p: int, alpha: float, name: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, p)) + 3.0, rng.normal(size=(n, 2))
    y -= y.mean(axis=0)
    sets = [np.sort(rng.permutation(n)[: rng.integers(1, n - 2)]) for _ in range(3)]
    errors, _ = left_out(x, y, sets, alpha, name)
    for held, found in zip(sets, errors, strict=True):
        np.testing.assert_allclose(found, refitted(x, y, held, alpha), rtol=1e-6, atol=1e-8)


def far() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Samples that alone span a direction: the fit with them says next to nothing of the fit without."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 5))
    x[:3] *= 1e3
    y = rng.normal(size=(30, 4))
    return x, y - y.mean(axis=0), [np.arange(3)]


def test_float32_is_left_where_its_rounding_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, sets = far()
    expected = refitted(x, y.astype(np.float32).astype(np.float64), sets[0], 1.0)
    (found,), dtype = left_out(x, y, sets, 1.0, dtype="float32")
    assert dtype == "float64"
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    monkeypatch.setattr(downdating, "AMPLIFICATION", np.inf)
    (found,), dtype = left_out(x, y, sets, 1.0, dtype="float32")
    assert dtype == "float32"
    assert np.abs(found / expected - 1).max() > 1e-4, "float32 would have done: the test does not tell"


def test_float32_is_kept_where_it_is_enough() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 5)), rng.normal(size=(30, 4))
    (found,), dtype = left_out(x, y - y.mean(axis=0), [np.arange(6)], 10.0, dtype="float32")
    assert dtype == "float32"
    np.testing.assert_allclose(found, refitted(x, y - y.mean(axis=0), np.arange(6), 10.0), atol=1e-5)
