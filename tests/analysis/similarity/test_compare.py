"""One call for all measures: values are the kernels', p values hold, and what was left out is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter

from brainalign.analysis.inference.surrogates import CircularShift
from brainalign.analysis.similarity import compare as module
from brainalign.analysis.similarity.compare import MEASURES, Compare, Measure, compare_arrays
from brainalign.analysis.similarity.measures import (
    canonical_correlations,
    linear_cka,
    mutual_neighbours,
    principal_components,
    procrustes_similarity,
)
from brainalign.analysis.similarity.rdms import compare_rdms, correlation_rdm, euclidean_rdm
from brainalign.encoding import ContiguousBlocks, LeaveOneRunOut
from brainalign.errors import DataError, RecipeError

FEW = Compare(n_components=4, n_neighbours=5, permutations=19, min_shift=8)
RUNS = np.repeat(["one", "two", "three"], [30, 41, 29])


def slow(seed: int, n: int, p: int, phi: float = 0.9) -> np.ndarray:
    return lfilter([1], [1, -phi], np.random.default_rng(seed).normal(size=(n + 200, p)), axis=0)[200:]


def related(seed: int, n: int = 100, p: int = 8, q: int = 10, signal: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, p))
    return x, signal * x @ random.normal(size=(p, q)) + random.normal(size=(n, q))


def standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=0)) / values.std(axis=0)


def by_kernel(measure: str, x: np.ndarray, y: np.ndarray, band: int) -> float:
    x, y = standardised(x), standardised(y)
    folds = list(LeaveOneRunOut().split(x, groups=RUNS))
    if measure in ("procrustes", "cca"):
        a, b = principal_components(x, 4), principal_components(y, 4)
        score: Any = procrustes_similarity if measure == "procrustes" else canonical_correlations
        return float(np.mean([np.mean(score(a, b, train, test)) for train, test in folds]))
    if measure == "mutual_neighbours":
        return mutual_neighbours(x, y, n_neighbours=5, groups=RUNS, band=band)
    if measure == "rsa":
        kept = module.Pairs.of(RUNS, len(x), band).kept(slice(0, len(x)))[np.triu_indices(len(x), 1)]
        return float(compare_rdms(correlation_rdm(x), correlation_rdm(y), "pearson", kept)[0, 0])
    return linear_cka(x, y, groups=RUNS, band=band, unbiased=measure == "cka")


@pytest.mark.parametrize("band", [1, 4])
@pytest.mark.parametrize("measure", MEASURES)
def test_the_value_and_every_shifted_one_are_the_kernel_s(measure: Measure, band: int) -> None:
    x, y = related(0)
    found = compare_arrays(x, y, RUNS, LeaveOneRunOut(), measure, replace(FEW, band=band))
    assert found.value == pytest.approx(by_kernel(measure, x, y, band), abs=1e-9)
    shift = CircularShift(RUNS, 19, 0, min_shift=8)
    anew = [by_kernel(measure, x, y[shift.order(number)], band) for number in range(19)]
    np.testing.assert_allclose(found.null, anew, atol=1e-9)
    assert found.p == (1 + np.sum(np.array(anew) >= found.value)) / 20
    assert len(found.values) == (3 if measure in ("procrustes", "cca") else 1)


@pytest.mark.parametrize("distance", ["correlation", "euclidean"])
@pytest.mark.parametrize("comparing", ["pearson", "spearman", "cosine"])
def test_rsa_is_the_comparison_of_rdms(distance: Any, comparing: Any) -> None:
    x, y = related(1)
    rdm = correlation_rdm if distance == "correlation" else euclidean_rdm
    expected = compare_rdms(rdm(standardised(x)), rdm(standardised(y)), comparing)[0, 0]
    settings = replace(FEW, distance=distance, comparing=comparing, band=1, permutations=9)
    found = compare_arrays(x, y, None, ContiguousBlocks(4), "rsa", settings)
    assert found.value == pytest.approx(expected, abs=1e-9)
    moved = y[CircularShift(np.zeros(100, dtype=int), 9, 0, min_shift=8).order(4)]
    again = compare_rdms(rdm(standardised(x)), rdm(standardised(moved)), comparing)[0, 0]
    assert found.null[4] == pytest.approx(again, abs=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_planted_alignment_is_found_and_noise_is_not(measure: Measure) -> None:
    settings = replace(FEW, permutations=99, seed=3)
    x, y = related(2)
    assert compare_arrays(x, y, RUNS, LeaveOneRunOut(), measure, settings).p == 0.01
    _, other = related(5)
    assert compare_arrays(x, other, RUNS, LeaveOneRunOut(), measure, settings).p > 0.05


def test_a_stage_gives_each_of_its_measures_as_the_call_does() -> None:
    x, y = related(0)
    stage = replace(FEW, measures=("cka", "mutual_neighbours"))
    found = stage.compare(x, y, RUNS, LeaveOneRunOut())
    assert list(found) == ["cka", "mutual_neighbours"]
    for measure, comparison in found.items():
        alone = compare_arrays(x, y, RUNS, LeaveOneRunOut(), measure, stage)
        assert (comparison.value, comparison.p) == (alone.value, alone.p)


@pytest.mark.parametrize("measure", ["cka", "rsa"])
def test_slow_rows_are_named_at_a_narrow_band_and_kept_apart_by_default(measure: Measure) -> None:
    x, y = slow(0, 500, 40), slow(1, 500, 40)
    settings = Compare(permutations=0, distance="euclidean")
    narrow = compare_arrays(x, y, None, ContiguousBlocks(4), measure, replace(settings, band=1))
    wide = compare_arrays(x, y, None, ContiguousBlocks(4), measure, settings)
    assert [finding.code for finding in narrow.findings] == ["W215"]
    assert "1 samples apart" in narrow.findings[0].message
    assert wide.findings == ()
    assert 15 <= wide.band <= 40
    assert narrow.value > 0.15 > abs(wide.value)


def test_one_slow_side_does_no_harm_and_asks_for_no_band() -> None:
    x, y = slow(0, 500, 40), np.random.default_rng(1).normal(size=(500, 40))
    found = compare_arrays(x, y, None, ContiguousBlocks(4), "cka", Compare(permutations=0))
    assert (found.band, found.findings) == (1, ())
    assert abs(found.value) < 0.02


@pytest.mark.slow
def test_shifted_responses_hold_the_error_rate_on_slow_series() -> None:
    settings = replace(FEW, measures=("cka", "cka_biased", "rsa"), permutations=150, min_shift=50, distance="euclidean")
    p = []
    for seed in range(200):
        x, y = slow(seed, 300, 10), slow(seed + 5000, 300, 10)
        p.append([found.p for found in settings.compare(x, y, None, ContiguousBlocks(4)).values()])
    rates = (np.array(p) <= 0.05).mean(axis=0)
    # The binomial 99.9 % interval of 5 % among 200.
    assert ((rates > 0.005) & (rates < 0.105)).all()


def test_all_subjects_get_the_same_shifts() -> None:
    x, y = related(0)
    first, second = (compare_arrays(x, each, RUNS, LeaveOneRunOut(), "cka", FEW) for each in (y, 2 * y + 1))
    np.testing.assert_allclose(first.null, second.null, atol=1e-9)
    assert not np.allclose(first.null, compare_arrays(x, y, RUNS, LeaveOneRunOut(), "cka", replace(FEW, seed=1)).null)


@pytest.mark.parametrize("measure", MEASURES)
def test_bad_targets_are_left_out_by_number_and_change_nothing(measure: Measure) -> None:
    x, y = related(0)
    bad = np.insert(y, [2, 5], np.array([[np.nan], [4.0]]).T, axis=1)
    found = compare_arrays(x, bad, RUNS, LeaveOneRunOut(), measure, FEW)
    assert found.findings[0].code == "unusable-targets"
    assert "2 of 12 targets" in found.findings[0].message
    assert "2, 6" in found.findings[0].message
    assert found.n_targets == 10
    assert found.value == pytest.approx(compare_arrays(x, y, RUNS, LeaveOneRunOut(), measure, FEW).value, abs=1e-9)


def test_constant_features_do_not_count() -> None:
    x, y = related(0)
    padded = np.hstack([x, np.full((100, 3), 0.1)])
    found, plain = (compare_arrays(side, y, RUNS, LeaveOneRunOut(), "rsa", FEW).value for side in (padded, x))
    assert found == pytest.approx(plain, abs=1e-12)


def test_standardising_keeps_one_huge_unit_from_deciding() -> None:
    x, y = related(0)
    huge = np.hstack([x, 1e4 * np.random.default_rng(9).normal(size=(100, 1))])
    values = {
        s: compare_arrays(huge, y, RUNS, LeaveOneRunOut(), "cka", replace(FEW, standardise=s)).value
        for s in (True, False)
    }
    assert values[True] > 0.3
    assert abs(values[False]) < 0.1


def test_fewer_shifts_than_permutations_are_all_taken_and_said() -> None:
    x, y = related(0, n=60)
    found = compare_arrays(x, y, None, ContiguousBlocks(3), "cka", Compare(permutations=1000, min_shift=10))
    assert len(found.null) == 41
    assert found.findings[-1].code == "few-permutations"
    assert "41 different shifts by 10 samples or more, for 1000" in found.findings[-1].message
    assert len(np.unique(found.null.round(12))) == 41


def test_without_permutations_there_is_no_p() -> None:
    x, y = related(0)
    found = compare_arrays(x, y, RUNS, LeaveOneRunOut(), "cka", replace(FEW, permutations=0))
    assert np.isnan(found.p)
    assert found.null.shape == (0,)


def test_what_is_undefined_is_nan_and_has_no_p() -> None:
    x, y = related(0, n=40)
    y = np.where(np.arange(40)[:, None] < 30, y, 0.0)
    found = compare_arrays(x, y, None, ContiguousBlocks(4), "cca", replace(FEW, standardise=False, min_shift=4))
    # The last block of the responses does not vary, so that nothing correlates with it.
    assert np.isnan(found.values).tolist() == [False, False, False, True]
    assert np.isnan([found.value, found.p]).all()


@pytest.mark.parametrize("measure", MEASURES)
def test_undefined_inputs_are_refused_by_name(measure: Measure) -> None:
    x, y = related(0)

    def call(features: np.ndarray, responses: np.ndarray, settings: Compare = FEW) -> None:
        compare_arrays(features, responses, RUNS, LeaveOneRunOut(), measure, settings)

    with pytest.raises(DataError, match="None of the 10 targets varies"):
        call(x, np.full_like(y, np.nan))
    with pytest.raises(DataError, match="None of the 8 columns of the features varies"):
        call(np.ones_like(x), y)
    with pytest.raises(DataError, match="expected the same samples"):
        call(x[:50], y)
    broken = x.copy()
    broken[7, 3] = np.inf
    with pytest.raises(DataError, match="column 3 is inf at sample 7"):
        call(broken, y)
    with pytest.raises(DataError, match="too few to be moved by 15"):
        call(x, y, replace(FEW, min_shift=15))


def test_too_few_samples_for_a_measure_are_named() -> None:
    x, y = related(0, n=30)
    blocks = ContiguousBlocks(3)
    with pytest.raises(DataError, match="n_neighbours is 40"):
        compare_arrays(x, y, None, blocks, "mutual_neighbours", replace(FEW, n_neighbours=40))
    with pytest.raises(DataError, match="8 and 10 dimensions are too many"):
        compare_arrays(x, y, None, ContiguousBlocks(2), "cca", replace(FEW, n_components=50))
    with pytest.raises(DataError, match="A band of 20 samples leaves out"):
        compare_arrays(x, y, None, blocks, "cka", replace(FEW, band=20))
    with pytest.raises(DataError, match="30 samples, the first of them sample 0, have one value in all columns"):
        compare_arrays(x, y[:, :1], None, blocks, "rsa", FEW)


def test_ranks_of_too_many_pairs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_RANKED_SAMPLES", 50)
    x, y = related(0)
    with pytest.raises(DataError, match="comparing: pearson"):
        compare_arrays(x, y, RUNS, LeaveOneRunOut(), "rsa", replace(FEW, comparing="spearman"))


def test_settings_that_do_not_exist_are_named() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'procrustes'"):
        Compare(measures=("procrustess",))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="no distance 'cosine'"):
        Compare(distance="cosine")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="0 components"):
        Compare(n_components=0)
    with pytest.raises(RecipeError, match="no measure 'ckaa'"):
        compare_arrays(*related(0), RUNS, LeaveOneRunOut(), "ckaa")  # type: ignore[arg-type]
