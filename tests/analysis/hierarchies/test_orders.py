"""Orders in time and space: planted ones are found, and p values hold where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from brainalign.analysis.hierarchies.orders import spatial_score, temporal_score
from brainalign.errors import DataError

DEPTH = np.linspace(0, 1, 12)


def smooth(n_subjects: int, rng: np.random.Generator) -> np.ndarray:
    """Values (subject, layer) without order, of which neighbours resemble each other."""
    values = [rng.normal(size=n_subjects)]
    for _ in range(len(DEPTH) - 1):
        values.append(0.9 * values[-1] + np.sqrt(1 - 0.9**2) * rng.normal(size=n_subjects))
    return np.stack(values, axis=1)


def test_each_subject_s_score_is_the_correlation_over_what_is_defined() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(7, 12)) + DEPTH
    values[1, [0, 5]] = np.nan
    found = temporal_score(values, DEPTH)
    for row, r in zip(values, found.r, strict=True):
        known = np.isfinite(row)
        assert r == pytest.approx(stats.pearsonr(DEPTH[known], row[known]).statistic)
    assert found.mean == pytest.approx(found.r.mean())
    assert found.interval[0] < found.mean < found.interval[1]
    np.testing.assert_array_equal(spatial_score(values, DEPTH).r, found.r)


def test_a_planted_order_is_found_and_no_p_value_comes_from_layers() -> None:
    values = DEPTH + 0.05 * np.random.default_rng(0).normal(size=(8, 12))
    found = temporal_score(values, DEPTH)
    assert found.mean > 0.97
    assert found.p_subjects == 2**-8
    assert found.n_flips == 256
    assert np.abs(found.permuted.mean()) < 0.05
    assert found.permuted.std() == pytest.approx(1 / np.sqrt(11), rel=0.1)  # subjects share the order


def test_flips_are_scipy_s() -> None:
    values = smooth(9, np.random.default_rng(1)) + 0.5 * DEPTH
    found = temporal_score(values, DEPTH)
    expected = stats.permutation_test(
        (found.r,), np.mean, permutation_type="samples", n_resamples=2**9, alternative="greater", vectorized=True
    )
    assert found.p_subjects == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("n_subjects", [8, 14])
def test_the_test_over_subjects_holds_its_level_on_smooth_layers_and_permuting_layers_does_not(n_subjects: int) -> None:
    rng = np.random.default_rng(0)
    n_repetitions = 400
    found = [temporal_score(smooth(n_subjects, rng), DEPTH, n_permutations=300) for _ in range(n_repetitions)]
    low, high = stats.binom.ppf([0.005, 0.995], n_repetitions, 0.05) / n_repetitions
    assert low <= np.mean([one.p_subjects <= 0.05 for one in found]) <= high
    by_layers = np.mean([np.mean(one.permuted >= one.mean) <= 0.05 for one in found])
    assert by_layers > 0.10
    single = np.concatenate([one.r for one in found])
    assert 0.4 < single.std() < 0.7
    assert np.mean(np.abs(single) > 0.576) > 0.2


def test_what_subjects_share_by_chance_is_seen_by_the_shared_null_only() -> None:
    rng = np.random.default_rng(0)
    over_subjects, over_stimuli = [], []
    for _ in range(200):
        shared = np.stack([smooth(1, rng) for _ in range(20)])  # the first is observed
        values = shared + 0.5 * np.stack([smooth(8, rng) for _ in range(20)])
        found = temporal_score(values[0], DEPTH, null=values[1:], n_permutations=50)
        over_subjects.append(found.p_subjects <= 0.05)
        over_stimuli.append(found.p_stimulus <= 0.05)
        assert found.n_shifts == 19
        assert not any(finding.code == "W210" for finding in found.findings)
    assert np.mean(over_subjects) > 0.25
    assert np.mean(over_stimuli) <= stats.binom.ppf(0.995, 200, 0.05) / 200


def test_an_untrained_model_s_order_is_subtracted() -> None:
    rng = np.random.default_rng(0)
    values = DEPTH + 0.2 * rng.normal(size=(8, 12))
    control = DEPTH + 0.2 * rng.normal(size=(8, 12))
    found = temporal_score(values, DEPTH, control=control)
    assert found.mean == pytest.approx((found.r - temporal_score(control, DEPTH).r).mean())
    assert found.p_subjects > 0.05


def test_few_subjects_undefined_ones_and_a_missing_null_are_named() -> None:
    values = DEPTH + 0.1 * np.random.default_rng(0).normal(size=(5, 12))
    values[1, 2:] = np.nan
    values[2] = 0.3  # every layer at the same latency
    found = temporal_score(values, DEPTH)
    np.testing.assert_array_equal(np.isnan(found.r), [False, True, True, False, False])
    assert [finding.code for finding in found.findings] == ["undefined-subjects", "few-subjects", "W210"]
    assert np.isnan(found.p_subjects)
    assert found.n_flips == 0
    single = temporal_score(values[:1], DEPTH)
    assert np.isnan(single.interval).all()
    assert np.isnan(single.p_stimulus)


@pytest.mark.parametrize(
    ("shape", "order", "given", "message"),
    [
        ((4, 12), DEPTH[:5], {}, "needed are"),
        ((4, 2), DEPTH[:2], {}, "3 points"),
        ((4, 12), np.ones(12), {}, "not all of the same order"),
        ((4, 12), DEPTH, {"control": np.ones((3, 12))}, "control has shape"),
        ((4, 12), DEPTH, {"null": np.ones((9, 3, 12))}, "null has shape"),
        ((4, 12), DEPTH, {}, "no subject has"),
    ],
)
def test_what_cannot_be_correlated_is_told(
    shape: tuple[int, int], order: np.ndarray, given: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        temporal_score(np.zeros(shape), order, **given)
