"""A(d) of passive brains: the fits themselves, the draws, and a level that holds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from brainalign.analysis.forecasts.null import contrast_null, contrasted, passive_draws
from brainalign.analysis.forecasts.scoring import forecast
from brainalign.analysis.inference.surrogates import CircularShift
from brainalign.encoding import ContiguousBlocks, RidgeEncoder
from brainalign.encoding.metrics import pearson
from brainalign.errors import DataError
from brainalign.types import Floats

FOLDS = ContiguousBlocks(3, gap=5)
N, N_TARGETS = 150, 6


def encoder(alpha: float | None = None) -> RidgeEncoder:
    alphas = (1.0, 100.0) if alpha is None else (alpha,)
    return RidgeEncoder(alphas=alphas, baseline_alphas=(1.0, 1e3) if alpha is None else (10.0,), inner_splits=2)


def simulated(n_columns: int, seed: int = 0, ahead: float = 1.0) -> tuple[Floats, dict[int, Floats], Floats]:
    random = np.random.default_rng(seed)
    words = random.normal(size=(N, n_columns))
    windows = {distance: np.roll(words[:, :4], -distance, axis=0) for distance in (-2, 0, 6, 8)}
    weights = random.normal(size=(4, N_TARGETS))
    brain = words[:, :4] @ weights + ahead * windows[8] @ weights + 2 * random.normal(size=(N, N_TARGETS))
    return words, windows, brain


def shifts(n: int = 9) -> CircularShift:
    return CircularShift(np.zeros(N, dtype=int), n, min_shift=15)


@pytest.mark.parametrize("n_columns", [6, 300])
def test_at_the_same_penalties_what_is_observed_is_the_contrast_of_the_forecast(n_columns: int) -> None:
    words, windows, brain = simulated(n_columns)
    known = forecast(encoder(50.0), words, brain, None, FOLDS, windows, n_floor=0)
    draw = passive_draws(words, brain, None, encoder(), known.explained, shifts())
    found = contrast_null(encoder(50.0), words, brain, None, FOLDS, windows, draw, 2)
    assert found.distances.tolist() == [6, 8]
    np.testing.assert_allclose(found.observed, known.contrast.T[[2, 3]], atol=1e-5)


@pytest.mark.parametrize("n_columns", [6, 300])
def test_each_draw_is_fitted_anew_as_ridge_of_both_would_be(n_columns: int) -> None:
    words, windows, brain = simulated(n_columns)
    windows = {distance: windows[distance] for distance in (-2, 8)}
    draw = passive_draws(words, brain, None, encoder(50.0), np.full(N_TARGETS, 0.3), shifts())
    found = contrast_null(encoder(50.0), words, brain, None, FOLDS, windows, draw, 3)
    for number in range(3):
        y = draw(number)
        expected = _refitted(words, windows[8], y) - _refitted(words, windows[-2], y)
        np.testing.assert_allclose(found.mean[number, 0], expected.mean(), atol=1e-5)


def _refitted(words: Floats, window: Floats, y: Floats) -> Floats:
    """Mean r over folds of scikit-learn's ridge, columns over the roots of their penalties, 50 and 10."""
    r = []
    for train, test in FOLDS.split(words):
        sides = [(one - one[train].mean(axis=0)) / one[train].std(axis=0) for one in (words, window)]
        both = np.hstack([sides[0] / np.sqrt(50.0), sides[1] / np.sqrt(10.0)])
        fitted = Ridge(alpha=1.0).fit(both[train], y[train])
        r.append(pearson(fitted.predict(both[test]), y[test]))
    return np.mean(r, axis=0)


def test_a_forecast_is_beyond_all_draws_and_its_absence_is_not() -> None:
    for ahead, expected in ((1.0, True), (0.0, False)):
        words, windows, brain = simulated(6, ahead=ahead)
        known = forecast(encoder(), words, brain, None, FOLDS, windows, n_floor=0)
        draw = passive_draws(words, brain, None, encoder(), known.explained, shifts(19))
        found = contrast_null(encoder(), words, brain, None, FOLDS, windows, draw, 19)
        assert bool(found.observed[1].mean() > found.mean[:, 1].max()) is expected
        assert bool((found.p[1] == 0.05).mean() > 0.5) is expected


def test_draws_explain_what_they_are_to_and_differ_by_their_shift_only() -> None:
    words, _, brain = simulated(6)
    explained = np.linspace(0, 1, N_TARGETS)
    draw = passive_draws(words, brain, None, encoder(), explained, shifts())
    predicted = encoder().fit(words, brain).predict(words)
    r = pearson(draw(0), predicted)
    np.testing.assert_allclose(r**2, explained, atol=0.15)
    np.testing.assert_allclose(draw(0)[:, -1], draw(1)[:, -1], atol=1e-6)
    assert not np.allclose(draw(0)[:, 0], draw(1)[:, 0])
    np.testing.assert_array_equal(draw(2), draw(2))


def test_distances_without_a_mirror_and_shares_that_are_none_are_refused() -> None:
    words, windows, brain = simulated(6)
    draw = passive_draws(words, brain, None, encoder(), np.zeros(N_TARGETS), shifts())
    assert contrasted([8, 9], 7) == []
    with pytest.raises(DataError, match="has its mirror"):
        contrast_null(encoder(), words, brain, None, FOLDS, {8: windows[8]}, draw, 2)
    with pytest.raises(DataError, match="shares of variance"):
        passive_draws(words, brain, None, encoder(), np.full(N_TARGETS, np.nan), shifts())


@pytest.mark.slow
def test_five_in_a_hundred_passive_brains_are_called_forecasts() -> None:
    """Of slow words and noise, the base reduced so that F is above zero: within the binomial 99 % of 60."""
    n_called = sum(_is_called(seed) for seed in range(60))
    assert n_called <= 8


def _is_called(seed: int) -> bool:
    from scipy.signal import lfilter

    random = np.random.default_rng([seed, 1])
    words = lfilter([1], [1, -0.8], random.normal(size=(N + 70, 12)), axis=0)[50:]
    noise = lfilter([1], [1, -0.5], random.normal(size=(N + 70, N_TARGETS)), axis=0)[60 : 60 + N]
    windows = {distance: words[10 + distance : 10 + distance + N, :4] for distance in (-2, 2)}
    present = words[10 : 10 + N]
    drive = present @ random.normal(size=(12, N_TARGETS))
    brain = 0.6 * drive / drive.std(axis=0) + 0.8 * noise / noise.std(axis=0)
    base = present[:, :4]
    known = forecast(encoder(), base, brain, None, FOLDS, windows, 1, n_floor=0)
    draw = passive_draws(present, brain, None, encoder(), known.explained, shifts(19))
    found = contrast_null(encoder(), base, brain, None, FOLDS, windows, draw, 19, width=1)
    return bool(found.observed[0].mean() > found.mean[:, 0].max())
