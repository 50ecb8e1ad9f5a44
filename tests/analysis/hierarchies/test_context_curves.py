"""The window is the smallest context that is nearly as good as the best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.analysis.hierarchies.context_curves import context_curve
from brainalign.errors import DataError, RecipeError

CONTEXTS = 2.0 ** np.arange(11)


def rising(scale: float, n_units: int = 6, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Scores (context, unit, 1) that approach .2; 95 % of it at 3 scales."""
    rise = 0.2 * (1 - np.exp(-CONTEXTS / scale))
    return rise[:, None, None] + noise * np.random.default_rng(seed).normal(size=(11, n_units, 1))


def test_planted_windows_come_back_in_their_order() -> None:
    scales = (1.0, 10.0, 60.0)
    r = np.concatenate([rising(scale) for scale in scales], axis=2)
    found = context_curve(r, CONTEXTS)
    np.testing.assert_array_equal(found.window, [CONTEXTS[-np.log(0.05) * s <= CONTEXTS].min() for s in scales])
    assert found.status.tolist() == ["ok"] * 3
    np.testing.assert_array_equal(found.interval, [found.window, found.window])
    np.testing.assert_allclose(found.r, r.mean(axis=1))


def test_noise_widens_the_interval_and_moves_windows_up() -> None:
    found = context_curve(rising(10.0, n_units=12, noise=0.02), CONTEXTS)
    assert found.interval[0, 0] <= found.window[0] <= found.interval[1, 0]
    assert found.interval[0, 0] < found.interval[1, 0]
    assert np.isin(found.interval, CONTEXTS).all()
    noisy = [context_curve(rising(10.0, noise=0.02, seed=s), CONTEXTS, n_bootstrap=2).window[0] for s in range(40)]
    assert np.mean(noisy) > 32.0


def test_a_curve_that_still_rises_is_named_and_so_are_those_without_a_window() -> None:
    r = np.concatenate([rising(400.0), rising(1.0), rising(1.0), -rising(1.0)], axis=2)
    r[3, :, 1] = np.nan
    r[3, 0, 2] = np.nan
    found = context_curve(r, CONTEXTS)
    assert found.status.tolist() == ["still rising", "undefined", "ok", "below threshold"]
    assert found.window[0] == 1024
    assert np.isnan(found.window[[1, 3]]).all()
    assert np.isnan(found.interval[:, [1, 3]]).all()
    assert np.isnan(context_curve(r[:, :1], CONTEXTS).interval).all()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), share=st.floats(0.05, 1.0))
def test_windows_grow_with_the_share_and_end_at_the_best(seed: int, share: float) -> None:
    r = np.random.default_rng(seed).uniform(0.01, 1.0, size=(11, 2, 4))
    smaller, whole = (context_curve(r, CONTEXTS, share=s, n_bootstrap=2) for s in (share, 1.0))
    assert (smaller.window <= whole.window).all()
    np.testing.assert_array_equal(whole.window, whole.preferred)


@pytest.mark.parametrize(
    ("contexts", "settings_", "error"),
    [
        (CONTEXTS[::-1], {}, DataError),
        (CONTEXTS[:3], {}, DataError),
        (CONTEXTS, {"share": 0.0}, RecipeError),
        (CONTEXTS, {"share": 1.5}, RecipeError),
        (CONTEXTS, {"threshold": -0.1}, RecipeError),
    ],
)
def test_what_cannot_be_is_told(contexts: np.ndarray, settings_: dict[str, float], error: type[Exception]) -> None:
    with pytest.raises(error):
        context_curve(rising(1.0), contexts, **settings_)
