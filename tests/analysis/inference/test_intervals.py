"""Bootstrap intervals against scipy, and how often they hold the truth."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.analysis.inference.intervals import Method, bootstrap_interval, crossed_interval, narrow_interval
from brainalign.errors import RecipeError


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_are_scipy_s_one_by_one(method: Method) -> None:
    values = np.random.default_rng(0).gamma(1.0, size=(15, 3))
    found = bootstrap_interval(values, method=method, n_resamples=500, seed=4)
    name = "BCa" if method == "bca" else "percentile"
    for j in range(3):
        expected = scipy.stats.bootstrap(
            (values[:, j],), np.mean, method=name, n_resamples=500, rng=np.random.default_rng(4)
        ).confidence_interval
        np.testing.assert_allclose([found.low[j], found.high[j]], expected, atol=0.15)
    np.testing.assert_allclose(found.estimate, values.mean(axis=0))


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_interval_holds_the_mean_about_as_often_as_it_says(method: Method) -> None:
    values = np.random.default_rng(0).normal(size=(25, 1000))
    found = bootstrap_interval(values, method=method, n_resamples=400)
    assert 0.90 < ((found.low <= 0) & (found.high >= 0)).mean() < 0.97


def test_a_mean_does_not_notice_which_others_are_asked_for() -> None:
    values = np.random.default_rng(0).normal(size=(10, 30))
    whole = bootstrap_interval(values, n_resamples=200)
    np.testing.assert_allclose(bootstrap_interval(values[:, 3], n_resamples=200).low, whole.low[3])
    holed = values.copy()
    holed[4, 1] = np.nan
    found = bootstrap_interval(holed, n_resamples=200)
    np.testing.assert_allclose(np.delete(found.low, 1), np.delete(whole.low, 1))
    assert found.low[1] == pytest.approx(bootstrap_interval(np.delete(values[:, 1], 4), n_resamples=200).low)


def test_what_has_no_interval_is_counted() -> None:
    values = np.full((5, 4), np.nan)
    values[0, 1], values[:, 2], values[:, 3] = 0.3, 0.5, np.arange(5.0)
    found = bootstrap_interval(values, "folds", n_resamples=200)
    assert np.isnan(found.low).tolist() == [True, True, False, False]
    assert (found.low[2], found.high[2]) == (0.5, 0.5)
    assert found.findings[0].message.startswith("2 of 4 means have no interval")
    assert np.isnan(bootstrap_interval(values, method="bca", n_resamples=200).low).tolist() == [True, True, True, False]
    assert np.isnan(bootstrap_interval(np.ones((1, 2))).low).all()
    assert found.over == "5 folds"


def coverage(subject: float, story: float, design: str) -> float:
    """How often the interval of 20 subjects and 20 stories holds the mean of all there could be, zero."""
    rng = np.random.default_rng(0)
    n = 400
    stories = rng.normal(size=(1 if design == "crossed" else 20, 20, n))
    scores = subject * rng.normal(size=(20, 1, n)) + story * stories + rng.normal(size=(20, 20, n))
    found = crossed_interval(scores, design, n_resamples=400)  # pyrefly: ignore
    return float(((found.low <= 0) & (found.high >= 0)).mean())


@pytest.mark.parametrize("design", ["crossed", "nested"])
@pytest.mark.parametrize(("subject", "story"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_the_interval_over_subjects_and_stories_holds_the_mean(design: str, subject: float, story: float) -> None:
    assert coverage(subject, story, design) > 0.89


def test_an_interval_over_subjects_alone_misses_what_stories_do() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(1, 10, 400)) + 0.3 * rng.normal(size=(20, 10, 400))
    alone = bootstrap_interval(scores.mean(axis=1), n_resamples=400)
    assert ((alone.low <= 0) & (alone.high >= 0)).mean() < 0.5
    both = crossed_interval(scores, n_resamples=400)
    assert ((both.low <= 0) & (both.high >= 0)).mean() > 0.85


@settings(max_examples=15, deadline=None, derandomize=True)
@given(n_subjects=st.integers(1, 6), n_stories=st.integers(1, 6), seed=st.integers(0, 1000))
def test_stories_that_a_subject_did_not_hear_are_left_out(n_subjects: int, n_stories: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n_subjects, n_stories, 2))
    scores[rng.uniform(size=scores.shape) < 0.3] = np.nan
    found = crossed_interval(scores, n_resamples=50)
    known = np.isfinite(scores).sum(axis=(0, 1))
    for j in range(2):
        flat = scores[..., j][np.isfinite(scores[..., j])]
        assert np.isnan(found.estimate[j]) if len(flat) == 0 else found.estimate[j] == pytest.approx(flat.mean())
        assert np.isnan(found.low[j]) == (known[j] < 2)


@pytest.mark.parametrize("n_units", [2, 3, 4, 6, 9])
def test_how_rarely_an_interval_of_few_holds_the_mean_is_said_as_it_is(n_units: int) -> None:
    """Means of 2,000 samples of so many normal values; within four standard errors, and a little for the formula."""
    samples = np.random.default_rng(n_units).normal(size=(n_units, 2000))
    found = bootstrap_interval(samples, n_resamples=1000)
    held = 100 * ((found.low < 0) & (found.high > 0)).mean()
    [finding] = narrow_interval(n_units)
    said = re.search(r"(\d+) % of the time", finding.message)
    assert said is not None
    assert held == pytest.approx(float(said[1]), abs=5)
    assert finding.code == "narrow-interval"


@pytest.mark.parametrize("n_units", [1, 10, 40])
def test_of_enough_units_or_none_nothing_is_said(n_units: int) -> None:
    assert narrow_interval(n_units) == ()


def test_wrong_names_are_refused() -> None:
    with pytest.raises(RecipeError, match="no bootstrap 'basic'"):
        bootstrap_interval(np.ones(3), method="basic")  # pyrefly: ignore
    with pytest.raises(RecipeError, match="no design 'both'"):
        crossed_interval(np.ones((3, 3)), "both")  # pyrefly: ignore
