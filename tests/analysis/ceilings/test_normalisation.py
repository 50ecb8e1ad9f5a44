"""Scores over ceilings: which targets count, how they are averaged, and how sure that is."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.analysis.ceilings.normalisation import normalise
from brainalign.errors import DataError, RecipeError


def scores(n_layers: int = 3, n_folds: int = 5, n_targets: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    ceiling = random.uniform(0.2, 0.8, size=n_targets)
    share = np.linspace(0.3, 0.9, n_layers)[:, None, None]
    return share * ceiling + 0.05 * random.normal(size=(n_layers, n_folds, n_targets)), ceiling


def test_values_are_fold_means_over_ceilings_and_the_aggregate_is_a_ratio_of_means() -> None:
    r, ceiling = scores()
    found = normalise(r, ceiling, threshold=0.1)
    np.testing.assert_allclose(found.values, r.mean(axis=1) / ceiling)
    np.testing.assert_allclose(found.aggregate, r.mean(axis=(1, 2)) / ceiling.mean())
    np.testing.assert_allclose(found.aggregate, [0.3, 0.6, 0.9], atol=0.02)
    assert found.undefined_share == 0
    one = normalise(r[1], ceiling, threshold=0.1)
    np.testing.assert_array_equal(one.values, found.values[1])
    assert one.aggregate == found.aggregate[1]
    assert one.aggregate.shape == one.low.shape == one.high.shape == ()


def test_targets_without_a_usable_ceiling_are_nan_by_name_and_leave_the_aggregate() -> None:
    r, ceiling = scores(n_targets=6)
    ceiling[:4] = [np.nan, 0.1, 0.05, -0.2]
    significant = np.array([True, True, True, True, False, True])
    found = normalise(r, ceiling, threshold=0.1, significant=significant)
    assert found.status.tolist() == ["undefined", "low", "low", "low", "not significant", "ok"]
    assert np.isnan(found.values[:, :5]).all()
    np.testing.assert_allclose(found.aggregate, r[:, :, 5].mean(axis=1) / ceiling[5])
    assert found.undefined_share == pytest.approx(5 / 6)


def test_a_zero_ceiling_is_never_divided_by() -> None:
    found = normalise(np.full((2, 2), 0.1), np.array([0.0, 0.2]), threshold=0.0)
    assert found.status.tolist() == ["low", "ok"]
    assert np.isnan(found.values[0])
    assert found.aggregate == pytest.approx(0.5)


def test_scores_above_their_ceiling_are_counted_and_not_clipped() -> None:
    r = np.array([[[0.5, 0.1, 0.3]], [[0.1, 0.1, 0.1]]])
    found = normalise(r, np.array([0.25, 0.2, np.nan]), threshold=0.1)
    assert found.values[0, 0] == pytest.approx(2.0)
    assert found.n_above_ceiling.tolist() == [1, 0]


def test_a_target_without_a_score_in_a_fold_counts_in_the_others() -> None:
    r, ceiling = scores(n_layers=1, n_folds=2, n_targets=3)
    r[0, 0, 1] = np.nan
    r[0, :, 2] = np.nan
    found = normalise(r, ceiling, threshold=0.1)
    assert found.values[0, 1] == pytest.approx(r[0, 1, 1] / ceiling[1])
    assert np.isnan(found.values[0, 2])
    assert found.status[2] == "ok", "it is the score that is missing, not the ceiling"
    by_fold = [r[0, 0, 0] / ceiling[0], r[0, 1, :2].mean() / ceiling[:2].mean()]
    assert found.aggregate[0] == pytest.approx(np.mean(by_fold))


def test_without_any_usable_target_all_is_nan() -> None:
    r, _ = scores()
    found = normalise(r, np.full(40, np.nan), threshold=0.1)
    for values in (found.values, found.aggregate, found.low, found.high):
        assert np.isnan(values).all()
    assert found.undefined_share == 1.0
    assert found.resampled == ("folds",)


def test_a_layer_without_scores_is_nan_and_leaves_the_others() -> None:
    r, ceiling = scores()
    whole = normalise(r, ceiling, threshold=0.1)
    r[1] = np.nan
    found = normalise(r, ceiling, threshold=0.1)
    for name in ("aggregate", "low", "high"):
        assert np.isnan(getattr(found, name)).tolist() == [False, True, False]
        np.testing.assert_array_equal(getattr(found, name)[[0, 2]], getattr(whole, name)[[0, 2]])


def test_the_interval_over_folds_is_the_bootstrap_of_the_folds_ratios() -> None:
    r, ceiling = scores(n_layers=1, n_folds=8)
    r += 0.1 * np.random.default_rng(1).normal(size=8)[None, :, None]
    found = normalise(r, ceiling, threshold=0.1, n_draws=4000)
    ratios = r[0].mean(axis=1) / ceiling.mean()
    drawn = np.random.default_rng(9).choice(ratios, size=(4000, 8)).mean(axis=1)
    np.testing.assert_allclose([found.low[0], found.high[0]], np.quantile(drawn, [0.025, 0.975]), atol=0.015)
    assert found.resampled == ("folds",)


def test_the_interval_over_subjects_is_that_of_whole_subjects() -> None:
    random = np.random.default_rng(0)
    own = random.normal(0.5, 0.2, size=12)
    subjects = np.repeat(np.arange(12), 30)
    r, ceiling = (own[subjects] * 0.4)[None], np.full(360, 0.4)
    found = normalise(r, ceiling, threshold=0.1, subjects=subjects, n_draws=4000)
    drawn = np.random.default_rng(9).choice(own, size=(4000, 12)).mean(axis=1)
    np.testing.assert_allclose([found.low, found.high], np.quantile(drawn, [0.025, 0.975]), atol=0.015)
    assert found.resampled == ("subjects",)


def test_subjects_and_folds_are_drawn_together_where_there_are_several_of_both() -> None:
    r, ceiling = scores(n_layers=1)
    subjects = np.repeat(["a", "b", "c", "d"], 10)
    r[..., :10] += 0.2
    over_both = normalise(r, ceiling, threshold=0.1, subjects=subjects)
    over_folds = normalise(r, ceiling, threshold=0.1)
    assert over_both.resampled == ("folds", "subjects")
    np.testing.assert_allclose(over_both.aggregate, over_folds.aggregate)
    assert (over_both.high - over_both.low)[0] > 3 * (over_folds.high - over_folds.low)[0]


def test_a_subject_without_a_usable_target_is_not_drawn() -> None:
    r, ceiling = scores(n_layers=1, n_folds=1)
    subjects = np.repeat(["a", "b", "c", "d"], 10)
    ceiling[30:] = 0.0
    found = normalise(r, ceiling, threshold=0.1, subjects=subjects)
    fewer = normalise(r[..., :30], ceiling[:30], threshold=0.1, subjects=subjects[:30])
    assert (found.low, found.high) == (fewer.low, fewer.high)


def test_one_fold_of_one_subject_has_no_interval() -> None:
    r, ceiling = scores(n_folds=1)
    found = normalise(r, ceiling, threshold=0.1, subjects=np.full(40, "a"))
    assert found.resampled == ()
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()
    assert np.isfinite(found.aggregate).all()


def test_the_interval_follows_the_seed() -> None:
    r, ceiling = scores()
    one, same, other = (normalise(r, ceiling, threshold=0.1, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.low, same.low)
    assert (one.low != other.low).any()


def test_wrong_arguments_are_named() -> None:
    r, ceiling = scores()
    with pytest.raises(DataError, match=r"ceiling has shape \(39,\) for the 40 targets"):
        normalise(r, ceiling[1:], threshold=0.1)
    with pytest.raises(DataError, match="subjects has shape"):
        normalise(r, ceiling, threshold=0.1, subjects=np.array(["a"]))
    with pytest.raises(DataError, match=r"\(40,\): expected \(fold, target\) or"):
        normalise(r[0, 0], ceiling, threshold=0.1)
    for threshold in (-0.1, np.nan):
        with pytest.raises(RecipeError, match="cannot be negative"):
            normalise(r, ceiling, threshold=threshold)
