"""Tests over subjects against scipy and mne, and what subjects who share a stimulus do to them."""

from __future__ import annotations

import mne
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.analysis.inference.groups import SubjectTest, contrast, group_null, subject_test
from brainalign.analysis.inference.significance import Side, fdr
from brainalign.errors import DataError, RecipeError

VARIED = settings(max_examples=25, deadline=None, derandomize=True)
SIDES: tuple[Side, ...] = ("greater", "two-sided")


def scores(n_subjects: int = 9, v: int = 4, effect: float = 0.5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(effect, 1.0, size=(n_subjects, v))


@VARIED
@given(n=st.integers(6, 60), seed=st.integers(0, 10**6), side=st.sampled_from(SIDES))
def test_wilcoxon_and_t_are_scipy_s(n: int, seed: int, side: Side) -> None:
    values = scores(n, seed=seed)
    ranks = [scipy.stats.wilcoxon(column, alternative=side).pvalue for column in values.T]
    np.testing.assert_allclose(subject_test(values, side=side).p, ranks, rtol=1e-12)
    student = scipy.stats.ttest_1samp(values, 0.0, alternative=side).pvalue
    np.testing.assert_allclose(subject_test(values, "t", side=side).p, student, rtol=1e-12)


@pytest.mark.parametrize("n_subjects", [9, 20])
def test_ties_and_zeros_of_one_score_do_not_change_another_s_test(n_subjects: int) -> None:
    values = scores(n_subjects)
    expected = subject_test(values).p
    values[0, 0], values[1, 1], values[2, 1] = 0.0, 0.7, -0.7
    found = subject_test(values).p
    np.testing.assert_array_equal(found[2:], expected[2:])
    for score in (0, 1):
        assert found[score] == pytest.approx(scipy.stats.wilcoxon(values[:, score], alternative="greater").pvalue)


@pytest.mark.parametrize("side", SIDES)
def test_all_flips_of_few_subjects_are_scipy_s_exact_permutation_test(side: Side) -> None:
    values = scores(8)
    found = subject_test(values, "sign_flip", side=side)
    reference = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative=side, axis=0, vectorized=True
    )
    np.testing.assert_allclose(found.p, reference.pvalue, rtol=1e-12)
    assert found.n_permutations == 255


def test_equal_scores_tie_with_their_own_flips() -> None:
    # Rounded sums in another order must not turn a tie into a difference.
    values = np.full((6, 1), 0.1)
    assert subject_test(values, "sign_flip").p[0] == pytest.approx(1 / 64)
    values[:3] = -0.1
    counted = sum(scipy.special.comb(6, k) for k in range(4)) / 64
    assert subject_test(values, "sign_flip").p[0] == pytest.approx(counted)


def test_the_maximum_over_flips_is_mne_s() -> None:
    values = scores(8, 6)
    found = subject_test(values, "sign_flip", side="two-sided", correction="max_statistic")
    _, expected, _ = mne.stats.permutation_t_test(values, n_permutations=10_000, tail=0, verbose="error")
    np.testing.assert_allclose(found.p_corrected, expected, atol=1e-12)


def test_random_flips_come_near_to_all_of_them_and_are_reproducible() -> None:
    values = scores(12)
    every = subject_test(values, "sign_flip", n_permutations=10_000)
    some = subject_test(values, "sign_flip", n_permutations=4000)
    assert (every.n_permutations, some.n_permutations) == (4095, 4000)
    np.testing.assert_allclose(some.p, every.p, atol=0.03)
    np.testing.assert_array_equal(some.p, subject_test(values, "sign_flip", n_permutations=4000).p)
    assert (some.p != subject_test(values, "sign_flip", n_permutations=4000, seed=1).p).any()


@pytest.mark.parametrize("test", ["wilcoxon", "t", "sign_flip"])
def test_each_test_keeps_its_level_with_independent_subjects(test: SubjectTest) -> None:
    values = np.random.default_rng(0).normal(size=(12, 2000))
    rate = (subject_test(values, test, n_permutations=500).p <= 0.05).mean()
    assert 0.035 < rate < 0.065


@pytest.mark.parametrize("test", ["wilcoxon", "t", "sign_flip"])
def test_a_missing_subject_is_left_out_of_that_score_only(test: SubjectTest) -> None:
    values = scores(9)
    holed = values.copy()
    holed[4, 1] = np.nan
    found, whole, fewer = (subject_test(v, test).p for v in (holed, values, np.delete(values, 4, axis=0)))
    np.testing.assert_allclose(found[[0, 2, 3]], whole[[0, 2, 3]], rtol=1e-12)
    assert found[1] == pytest.approx(fewer[1])


@pytest.mark.parametrize(
    ("test", "side", "fewest"),
    [("wilcoxon", "greater", 5), ("wilcoxon", "two-sided", 6), ("sign_flip", "greater", 5), ("t", "greater", 3)],
)
def test_too_few_subjects_are_refused_and_enough_are_not(test: SubjectTest, side: Side, fewest: int) -> None:
    values = 1.0 + 0.01 * scores(fewest)
    with pytest.raises(DataError, match=f"over {fewest - 1} subjects: at least {fewest} are needed"):
        subject_test(values[:-1], test, side=side)
    assert (subject_test(values, test, side=side).p <= 0.05).all()


def test_scores_that_cannot_be_tested_are_counted_by_name() -> None:
    values = scores(6, 5)
    values[:2, 0], values[:, 1], values[:, 2] = np.nan, np.nan, 0.0
    found = subject_test(values)
    assert np.isnan(found.p).tolist() == np.isnan(found.effect).tolist() == [True, True, True, False, False]
    assert [finding.code for finding in found.findings] == ["few-subjects", "equal-scores"]
    assert found.findings[0].message.startswith("2 of 5 scores")
    assert found.family_size == 2
    np.testing.assert_allclose(found.p_corrected[3:], fdr(found.p[3:]))
    assert np.isnan(subject_test(np.full((6, 3), np.nan), "sign_flip", correction="max_statistic").p_corrected).all()


def test_layers_by_targets_are_one_family_and_keep_their_shape() -> None:
    values = scores(10, 12).reshape(10, 3, 4)
    found = subject_test(values)
    assert found.p.shape == found.p_corrected.shape == found.effect.shape == (3, 4)
    np.testing.assert_allclose(found.effect, values.mean(axis=0))
    np.testing.assert_allclose(found.p_corrected, fdr(found.p))
    assert str(found) == (
        "Wilcoxon signed-rank, one-sided, n = 10 subjects; false discovery rate (Benjamini-Hochberg), family of 12"
    )


def test_a_contrast_is_the_test_of_differences() -> None:
    first, second = scores(10, seed=0), scores(10, seed=1)
    found = contrast(first, second)
    np.testing.assert_array_equal(found.p, subject_test(first - second, side="two-sided").p)
    np.testing.assert_allclose(found.p, scipy.stats.wilcoxon(first, second).pvalue)
    assert (found.test, found.stimulus_level) == ("Wilcoxon signed-rank of differences", False)
    with pytest.raises(DataError, match="cannot be paired"):
        contrast(first, second[:, :2])


def test_chance_that_all_subjects_share_fools_wilcoxon_and_not_the_joint_null() -> None:
    rng = np.random.default_rng(0)
    # For each study the same chance in all subjects, in the scores as in each joint draw.
    chance = rng.normal(size=(1, 200, 500)) + 0.5 * rng.normal(size=(12, 200, 500))
    joint = group_null(chance[:, 0], chance[:, 1:], test="circular shift")
    assert joint.stimulus_level
    assert 0.02 < (joint.p <= 0.05).mean() < 0.08
    assert (subject_test(chance[:, 0]).p <= 0.05).mean() > 0.3
    found = group_null(chance[:, 0] + 8.0, chance[:, 1:], test="circular shift", correction="max_statistic")
    assert (found.p_corrected <= 0.05).mean() > 0.9
    assert "circular shift, the same for all subjects, 199 permutations" in str(found)


def test_a_subject_without_a_score_is_left_out_of_its_draws_too() -> None:
    rng = np.random.default_rng(0)
    observed, null = rng.normal(size=(4, 3)), rng.normal(size=(4, 99, 3))
    holed = observed.copy()
    holed[2, 1] = np.nan
    found, rest = group_null(holed, null, test="x"), group_null(observed[[0, 1, 3]], null[[0, 1, 3]], test="x")
    assert found.p[1] == rest.p[1]
    assert found.effect[1] == pytest.approx(rest.effect[1])
    np.testing.assert_array_equal(found.p[[0, 2]], group_null(observed, list(null), test="x").p[[0, 2]])
    holed[:, 0] = np.nan
    assert np.isnan(group_null(holed, null, test="x").p).tolist() == [True, False, False]


def test_draws_that_do_not_match_are_refused() -> None:
    with pytest.raises(DataError, match="each subject needs the same permutations"):
        group_null(np.zeros((2, 3)), [np.zeros((9, 3)), np.zeros((8, 3))], test="x")
    with pytest.raises(DataError, match="Scores of 2 subjects"):
        group_null(np.zeros((2, 3)), np.zeros((3, 9, 3)), test="x")


def test_wrong_names_are_refused() -> None:
    with pytest.raises(RecipeError, match="no test 'anova'"):
        subject_test(scores(), "anova")  # pyrefly: ignore
    with pytest.raises(RecipeError, match="no draws to take the maximum of"):
        subject_test(scores(), "wilcoxon", correction="max_statistic")
