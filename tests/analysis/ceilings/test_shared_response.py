"""What subjects share: correlations pair by pair and one against the rest, the ridge ceiling, and larger groups."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import curve_fit

from brainalign.analysis.ceilings.repeats import explainable_variance_interval
from brainalign.analysis.ceilings.shared_response import (
    cross_subject_scores,
    extrapolate,
    isc_by_group_size,
    shared_response,
)
from brainalign.encoding import ContiguousBlocks, LeaveOneRunOut, RidgeEncoder, cross_validate
from brainalign.errors import DataError


def heard_together(n_subjects: int, ev: float, shape: tuple[int, int] = (400, 200), seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.sqrt(ev) * random.normal(size=shape) + np.sqrt(1 - ev) * random.normal(size=(n_subjects, *shape))


def correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T, strict=True)])


# ----------------------------------------------------------------------------------------- inter-subject correlation


@pytest.mark.parametrize("n_runs", [1, 3])
@pytest.mark.parametrize("n_subjects", [2, 5])
def test_correlations_are_those_taken_pair_by_pair_and_run_by_run(n_subjects: int, n_runs: int) -> None:
    responses = heard_together(n_subjects, 0.3, (90, 4)) * 3 + 7
    groups = np.repeat(np.arange(n_runs), 90 // n_runs)
    standard = np.empty_like(responses)
    pairs, rest = np.zeros((n_subjects, 4)), np.zeros((n_subjects, 4))
    for run in range(n_runs):
        rows = groups == run
        part = responses[:, rows]
        standard[:, rows] = (part - part.mean(axis=1, keepdims=True)) / part.std(axis=1, keepdims=True)
        for one, other in itertools.permutations(range(n_subjects), 2):
            pairs[one] += correlate(part[one], part[other]) / (n_subjects - 1) / n_runs
        for one in range(n_subjects):
            rest[one] += correlate(part[one], np.delete(standard, one, axis=0)[:, rows].mean(axis=0)) / n_runs
    found = shared_response(responses, groups)
    np.testing.assert_allclose(found.pairwise, pairs, atol=1e-10)
    np.testing.assert_allclose(found.leave_one_out, rest, atol=1e-10)
    np.testing.assert_allclose(found.shared_variance, pairs.mean(axis=0), atol=1e-10)
    assert found.n_subjects.tolist() == [n_subjects] * 4


@pytest.mark.parametrize("n_subjects", [2, 3, 10])
@pytest.mark.parametrize("ev", [0.1, 0.4])
def test_planted_shared_variance_comes_back(n_subjects: int, ev: float) -> None:
    found = shared_response(heard_together(n_subjects, ev))
    assert abs(found.shared_variance.mean() - ev) < 0.01
    expected = ev / np.sqrt(ev + (1 - ev) / (n_subjects - 1))
    assert abs(found.leave_one_out.mean() - expected) < 0.01
    if ev == 0.4:
        assert abs(found.ceiling.mean() - np.sqrt(ev)) < 0.02
        assert abs(found.leave_one_out_corrected.mean() - np.sqrt(ev)) < 0.02


def test_two_subjects_correct_to_the_root_of_their_correlation() -> None:
    found = shared_response(heard_together(2, 0.5))
    np.testing.assert_allclose(found.leave_one_out, found.pairwise)
    np.testing.assert_allclose(found.leave_one_out_corrected, np.tile(found.ceiling, (2, 1)))


def test_what_nobody_shares_has_no_ceiling_in_half_of_the_targets() -> None:
    found = shared_response(heard_together(4, 0.0))
    undefined = np.isnan(found.ceiling)
    assert 0.35 < undefined.mean() < 0.65
    np.testing.assert_array_equal(np.isnan(found.leave_one_out_corrected).all(axis=0), undefined)
    assert np.isfinite(found.leave_one_out).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1.5])
def test_a_subject_s_unusable_target_is_nan_and_the_others_go_on_without(bad: float) -> None:
    responses = heard_together(4, 0.4, (60, 3))
    broken = responses.copy()
    broken[1, :, 2] = bad
    found, whole = shared_response(broken), shared_response(responses)
    fewer = shared_response(np.delete(responses, 1, axis=0))
    assert found.n_subjects.tolist() == [4, 4, 3]
    for name in ("pairwise", "leave_one_out", "leave_one_out_corrected"):
        values = getattr(found, name)
        assert np.isnan(values[:, 2]).tolist() == [False, True, False, False], name
        np.testing.assert_allclose(np.delete(values, 1, axis=0)[:, 2], getattr(fewer, name)[:, 2])
        np.testing.assert_allclose(values[:, :2], getattr(whole, name)[:, :2])
    np.testing.assert_allclose(found.ceiling[2], fewer.ceiling[2])


def test_a_target_that_one_subject_alone_has_is_nan_throughout() -> None:
    responses = heard_together(3, 0.4, (60, 2))
    responses[1:, :, 0] = np.nan
    found = shared_response(responses)
    for values in (found.pairwise, found.leave_one_out, found.leave_one_out_corrected):
        assert np.isnan(values[:, 0]).all()
        assert np.isfinite(values[:, 1]).all()
    assert np.isnan(found.ceiling).tolist() == [True, False]
    assert found.n_subjects.tolist() == [1, 3]


def test_a_list_of_subjects_and_float32_give_the_same() -> None:
    responses = heard_together(3, 0.4, (60, 3)).astype(np.float32)
    np.testing.assert_array_equal(shared_response(list(responses)).pairwise, shared_response(responses).pairwise)


def test_the_interval_of_repeats_is_one_of_shared_variance() -> None:
    responses = heard_together(12, 0.3, (200, 60))
    low, high = explainable_variance_interval(responses, n_draws=300)
    ev = shared_response(responses).shared_variance
    assert ((low < ev) & (ev < high)).mean() > 0.95


def test_too_few_subjects_and_unlike_ones_are_refused() -> None:
    responses = heard_together(3, 0.4, (30, 2))
    for one in (shared_response, lambda y: cross_subject_scores(y, RidgeEncoder(), None, ContiguousBlocks())):
        with pytest.raises(DataError, match="1 subjects"):
            one(responses[:1])
        with pytest.raises(DataError, match=r"\(20, 2\), \(30, 2\)"):
            one([responses[0], responses[1, :20]])


# ------------------------------------------------------------------------------------------ the cross-subject ridge


def test_each_subject_is_predicted_from_the_mean_of_the_others_on_the_folds_given() -> None:
    responses = heard_together(3, 0.5, (90, 5))
    groups = np.repeat(["a", "b", "c"], 30)
    encoder = RidgeEncoder(alphas=[1.0, 100.0])
    found = list(cross_subject_scores(responses, encoder, groups, LeaveOneRunOut()))
    standard = responses.reshape(3, 3, 30, 5)
    standard = (standard - standard.mean(2, keepdims=True)) / standard.std(2, keepdims=True, ddof=1)
    standard = standard.reshape(3, 90, 5)
    for subject, scores in enumerate(found):
        others = np.delete(standard, subject, axis=0).mean(axis=0)
        expected, _ = cross_validate(encoder, others, responses[subject], groups, LeaveOneRunOut())
        np.testing.assert_allclose(scores.r, expected.r, atol=1e-9)
        np.testing.assert_array_equal(scores.alpha, expected.alpha)
        assert scores.r.shape == (3, 5)


def test_ridge_finds_what_is_shared_in_other_mixtures_where_correlation_does_not() -> None:
    random = np.random.default_rng(0)
    sources = random.normal(size=(600, 4))
    responses = np.stack([sources @ random.normal(size=(4, 30)) for _ in range(6)])
    responses += 2.0 * random.normal(size=responses.shape)
    direct = shared_response(responses).leave_one_out.mean()
    groups = np.repeat(np.arange(4), 150)
    ridge = np.mean([s.r.mean() for s in cross_subject_scores(responses, RidgeEncoder(), groups, LeaveOneRunOut())])
    assert direct < 0.1
    assert ridge > 0.4


def test_nobody_is_predicted_from_others_who_share_nothing() -> None:
    responses = heard_together(4, 0.0, (300, 40))
    scores = cross_subject_scores(responses, RidgeEncoder(), None, ContiguousBlocks(5))
    assert abs(np.mean([one.r.mean() for one in scores])) < 0.02


def test_a_target_that_some_subjects_lack_is_averaged_over_the_others() -> None:
    responses = heard_together(3, 0.5, (120, 4))
    responses[0, 5, 1] = np.nan
    responses[1:, :, 2] = 0.0
    groups = np.repeat([0, 1, 2], 40)
    first, second, _ = cross_subject_scores(responses, RidgeEncoder(), groups, LeaveOneRunOut())
    assert np.isnan(first.r).all(axis=0).tolist() == [False, True, False, False]
    assert np.isnan(second.r).all(axis=0).tolist() == [False, False, True, False]
    assert second.r[:, 0].mean() > 0.2


# ----------------------------------------------------------------------------------------------------- larger groups


def test_correlations_with_larger_groups_follow_the_formula() -> None:
    found = isc_by_group_size(heard_together(12, 0.2, (200, 150)), [1, 3, 10], n_draws=20)
    assert found.shape == (3, 20, 150)
    expected = [0.2 / np.sqrt(0.2 + 0.8 / m) for m in (1, 3, 10)]
    np.testing.assert_allclose(found.mean(axis=(1, 2)), expected, atol=0.015)


def test_the_largest_group_is_everyone_else() -> None:
    responses = heard_together(4, 0.5, (60, 3))
    groups = np.repeat([0, 1], 30)
    drawn = isc_by_group_size(responses, [3], groups, n_draws=40)[0]
    everyone = shared_response(responses, groups).leave_one_out
    distance = np.abs(drawn[:, None] - everyone).max(axis=2)
    assert distance.min(axis=1).max() < 1e-10
    assert set(distance.argmin(axis=1).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("n_others", [[0, 1], [1, 4]])
def test_group_sizes_that_cannot_be_drawn_are_refused(n_others: list[int]) -> None:
    with pytest.raises(DataError, match="with 4 subjects sizes are 1 to 3"):
        isc_by_group_size(heard_together(4, 0.5, (30, 2)), n_others)


def curve(x: np.ndarray, v0: float, tau: float) -> np.ndarray:
    return v0 * (1 - np.exp(-x / tau))


def test_planted_curves_come_back_with_scipy_s_fit_and_an_interval_that_holds_them() -> None:
    random = np.random.default_rng(0)
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    v0, tau = np.array([0.1, 0.3, 0.6]), np.array([2.0, 5.0, 4.0])
    scores = np.stack([curve(x, *p) for p in zip(v0, tau, strict=True)], axis=1)[:, None]
    scores = scores + 0.05 * random.normal(size=(5, 40, 3))
    found = extrapolate(x.astype(int).tolist(), scores)
    for target in range(3):
        mean = scores[:, :, target].mean(axis=1)
        expected, _ = curve_fit(curve, x, mean, [mean.max(), 4.0], bounds=([0, 1e-3], [1, np.inf]))
        np.testing.assert_allclose([found.ceiling[target], found.tau[target]], expected, rtol=1e-3)
    assert np.abs(found.ceiling - v0).max() < 0.04
    assert ((found.low <= v0) & (v0 <= found.high)).all()
    assert found.n_undefined.tolist() == [0, 0, 0]
    assert not found.at_bound.any()
    np.testing.assert_array_equal(found.low, extrapolate(x, scores).low)


def test_scores_that_do_not_level_off_or_are_negative_are_named() -> None:
    x = np.array([1, 2, 4, 8])
    scores = np.stack([0.05 * x, -0.1 * np.ones(4)], axis=1)[:, None].repeat(3, axis=1)
    found = extrapolate(x, scores, n_draws=5)
    assert found.at_bound.tolist() == [True, True]


def test_missing_scores_leave_their_size_s_mean_and_a_size_without_any_leaves_nan() -> None:
    x = np.array([1.0, 2.0, 4.0, 8.0])
    scores = np.tile(curve(x, 0.4, 3.0)[:, None, None], (1, 6, 2))
    scores[1, :2, 0] = np.nan
    scores[1, :, 1] = np.nan
    found = extrapolate(x, scores, n_draws=10)
    assert found.ceiling[0] == pytest.approx(0.4, abs=1e-4)
    for values in (found.ceiling, found.tau, found.low, found.high):
        assert np.isnan(values).tolist() == [False, True]
    assert found.n_undefined.tolist() == [0, 10]


@pytest.mark.parametrize("x", [[1, 2], [1, 2, 2], [1, 2, 3, 4]])
def test_too_few_sizes_and_scores_of_another_shape_are_refused(x: list[int]) -> None:
    with pytest.raises(DataError, match="three sizes or more"):
        extrapolate(x, np.zeros((min(len(x), 3), 5, 1)))
