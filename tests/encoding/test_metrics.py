"""Scores of single targets and of telling samples apart, against numpy, scipy and the formulas, pair by pair."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance as scipy_distance
from sklearn.metrics import r2_score, top_k_accuracy_score

from brainalign.encoding.metrics import Distance, Matches, is_constant, pearson, r2, top_k_accuracy, two_vs_two
from brainalign.errors import FitWarning

VARIED = settings(max_examples=40, deadline=None, derandomize=True)


def pair(seed: int, n: int, v: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, v))
    return x, 0.5 * x + random.normal(size=(n, v))


@VARIED
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 60),
    v=st.integers(1, 5),
    offset=st.sampled_from([0.0, -3.0, 1e6]),
    scale=st.sampled_from([1e-15, 1.0, 1e20]),
)
def test_pearson_is_numpy_s(seed: int, n: int, v: int, offset: float, scale: float) -> None:
    x, y = pair(seed, n, v)
    expected = [np.corrcoef(x[:, j], y[:, j])[0, 1] for j in range(v)]
    np.testing.assert_allclose(pearson(x, (y + offset) * scale), expected, rtol=1e-6, atol=1e-8)


@VARIED
@given(seed=st.integers(0, 10**6), n=st.integers(2, 60), v=st.integers(1, 5), offset=st.sampled_from([0.0, 100.0]))
def test_r2_is_one_minus_the_share_of_the_error_of_the_training_mean(seed: int, n: int, v: int, offset: float) -> None:
    predicted, observed = pair(seed, n, v)
    observed, reference = observed + offset, np.linspace(-1, 1, v) + offset
    expected = [
        1 - sum((observed[:, j] - predicted[:, j]) ** 2) / sum((observed[:, j] - reference[j]) ** 2) for j in range(v)
    ]
    np.testing.assert_allclose(r2(predicted, observed, reference), expected, rtol=1e-9)


def test_r2_against_the_held_out_mean_is_scikit_learn_s() -> None:
    predicted, observed = pair(1, 30, 4)
    expected = r2_score(observed, predicted, multioutput="raw_values")
    np.testing.assert_allclose(r2(predicted, observed, observed.mean(axis=0)), expected, rtol=1e-12)


def test_predicting_the_training_mean_has_r2_of_exactly_zero() -> None:
    observed = np.random.default_rng(0).normal(size=(20, 3)) + 5
    reference = np.array([4.0, 5.0, 6.0])
    assert r2(np.tile(reference, (20, 1)), observed, reference).tolist() == [0.0, 0.0, 0.0]


def test_r2_can_be_below_zero_and_is_not_clipped() -> None:
    observed = np.array([[1.0], [-1.0]])
    assert r2(-observed, observed, np.zeros(1)).tolist() == [-3.0]


def test_leading_axes_are_scored_one_by_one() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(3, 20, 4)), random.normal(size=(20, 4))
    np.testing.assert_array_equal(pearson(x, y), [pearson(each, y) for each in x])
    np.testing.assert_array_equal(r2(x, y, np.zeros(4)), [r2(each, y, np.zeros(4)) for each in x])


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, -1e-30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_has_no_correlation_rather_than_one_of_zero(value: float, dtype: type) -> None:
    varied = np.random.default_rng(0).normal(size=(20, 1))
    constant = np.full((20, 1), value, dtype=dtype)
    assert np.isnan(pearson(varied, constant)).all()
    assert np.isnan(pearson(constant, varied)).all()
    assert np.isnan(r2(varied, constant, np.zeros(1))).all()
    assert np.isfinite(r2(constant, varied, np.zeros(1))).all(), "a constant prediction has an error"


def test_a_constant_target_leaves_its_neighbours_alone() -> None:
    x, y = pair(2, 20, 3)
    with_constant = y.copy()
    with_constant[:, 1] = 7.0
    np.testing.assert_array_equal(pearson(x, with_constant)[[0, 2]], pearson(x, y)[[0, 2]])


def test_a_nan_stays_in_its_column() -> None:
    x, y = pair(2, 20, 3)
    broken = y.copy()
    broken[4, 1] = np.nan
    assert np.isnan(pearson(x, broken)).tolist() == [False, True, False]
    assert np.isnan(r2(x, broken, np.zeros(3))).tolist() == [False, True, False]


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1e-15, 1e15, 1e37])
def test_tiny_and_huge_float32_values_correlate_as_they_should(scale: float) -> None:
    x, y = pair(3, 50, 2)
    scaled = (y * scale).astype(np.float32)
    np.testing.assert_allclose(pearson(x, scaled), pearson(x, y), rtol=2e-6)
    assert not is_constant(scaled).any()


def test_values_far_from_zero_that_differ_in_their_last_bit_count_as_constant() -> None:
    flicker = np.where(np.arange(20) % 2, np.nextafter(np.float32(1e6), np.float32(2e6)), np.float32(1e6))
    assert is_constant(flicker[:, None].astype(np.float32)).tolist() == [True]
    assert is_constant(flicker[:, None].astype(np.float64)).tolist() == [False], "float64 resolves the step"


def test_whole_numbers_are_constant_only_if_equal() -> None:
    assert is_constant(np.array([[1, 10**9], [1, 10**9 + 1]])).tolist() == [True, False]


def test_correlations_stay_within_one() -> None:
    x = np.random.default_rng(0).normal(size=(7, 1000))
    assert np.abs(pearson(x, 3 * x)).max() <= 1.0
    np.testing.assert_allclose(pearson(x, -x), -1.0)


def samples(seed: int, m: int, v: int, signal: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    observed = random.normal(size=(m, v))
    return signal * observed + random.normal(size=(m, v)), observed


def pair_by_pair(predicted: np.ndarray, observed: np.ndarray, gap: int, distance: Distance) -> float:
    d = getattr(scipy_distance, distance)
    right = []
    for i, j in itertools.combinations(range(len(observed)), 2):
        if j - i >= gap:
            own = d(predicted[i], observed[i]) + d(predicted[j], observed[j])
            swapped = d(predicted[i], observed[j]) + d(predicted[j], observed[i])
            right.append(1.0 if own < swapped - 1e-12 else 0.0 if own > swapped + 1e-12 else 0.5)
    return float(np.mean(right))


@VARIED
@given(
    seed=st.integers(0, 10**6),
    m=st.integers(2, 12),
    v=st.integers(2, 20),
    gap=st.integers(0, 5),
    distance=st.sampled_from(["cosine", "correlation"]),
    offset=st.sampled_from([0.0, 2.0, -30.0]),
)
def test_two_vs_two_is_every_pair_s_comparison_of_distances(
    seed: int, m: int, v: int, gap: int, distance: Distance, offset: float
) -> None:
    predicted, observed = samples(seed, m, v)
    predicted += offset
    gap = min(gap, m - 1)
    expected = pair_by_pair(predicted, observed, gap, distance)
    assert two_vs_two(predicted, observed, gap, distance) == pytest.approx(expected, abs=1e-12)


@VARIED
@given(seed=st.integers(0, 10**6), m=st.integers(3, 12), v=st.integers(3, 20), k=st.integers(1, 3))
def test_top_k_accuracy_is_scikit_learn_s_of_the_correlations(seed: int, m: int, v: int, k: int) -> None:
    predicted, observed = samples(seed, m, v)
    k = min(k, m - 1)
    correlations = np.corrcoef(predicted, observed)[:m, m:]
    expected = top_k_accuracy_score(np.arange(m), correlations, k=k)
    assert top_k_accuracy(predicted, observed, k) == pytest.approx(expected, abs=1e-12)


@VARIED
@given(
    seed=st.integers(0, 10**6),
    edges=st.lists(st.integers(0, 40), max_size=5),
    offset=st.sampled_from([0.0, 1e3, -1e7]),
)
def test_blocks_of_targets_add_up_to_the_whole(seed: int, edges: list[int], offset: float) -> None:
    predicted, observed = samples(seed, 15, 40)
    predicted, observed = predicted + offset, observed + offset
    matches = Matches(15)
    for first, end in itertools.pairwise([0, *sorted(edges), 40]):
        matches.update(predicted[:, first:end], observed[:, first:end])
    assert matches.two_vs_two(3, "correlation") == two_vs_two(predicted, observed, 3, "correlation")
    assert matches.top_k_accuracy(2) == top_k_accuracy(predicted, observed, 2)


@pytest.mark.parametrize("distance", ["cosine", "correlation"])
def test_a_perfect_prediction_is_told_apart_and_its_negative_never(distance: Distance) -> None:
    _, observed = samples(0, 20, 30)
    assert two_vs_two(observed, observed, distance=distance) == 1.0
    assert two_vs_two(-observed, observed, distance=distance) == 0.0
    assert top_k_accuracy(observed, observed) == 1.0
    assert top_k_accuracy(-observed, observed, k=19) == 0.0


@pytest.mark.parametrize("distance", ["cosine", "correlation"])
def test_noise_scores_chance(distance: Distance) -> None:
    pairs = [samples(seed, 20, 30, signal=0.0) for seed in range(200)]
    two = [two_vs_two(*pair, distance=distance) for pair in pairs]
    top = [top_k_accuracy(*pair, k=3) for pair in pairs]
    assert abs(np.mean(two) - 0.5) < 4 * np.std(two) / np.sqrt(200)
    assert abs(np.mean(top) - 3 / 20) < 4 * np.std(top) / np.sqrt(200)


@pytest.mark.parametrize("offset", [0.0, 5.0, 1e6])
@pytest.mark.parametrize("distance", ["cosine", "correlation"])
def test_one_prediction_for_all_samples_scores_chance_exactly(distance: Distance, offset: float) -> None:
    random = np.random.default_rng(0)
    predicted, observed = np.tile(random.normal(size=37), (23, 1)), random.normal(size=(23, 37)) + offset
    assert two_vs_two(predicted, observed, distance=distance) == 0.5
    assert top_k_accuracy(predicted, observed, k=2) == pytest.approx(2 / 23)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_ties_count_by_their_chance_under_random_order(k: int) -> None:
    _, observed = samples(0, 6, 30)
    observed[[1, 2]] = observed[0]  # three responses alike
    assert top_k_accuracy(observed, observed, k) == pytest.approx((3 * k / 3 + 3) / 6)


def test_pairs_nearer_than_the_gap_are_left_out() -> None:
    _, observed = samples(0, 9, 30)
    swapped = observed[[1, 0, 3, 2, 5, 4, 7, 6, 8]]  # neighbours are mistaken for each other
    assert two_vs_two(swapped, observed, gap=1) < 1.0
    assert two_vs_two(observed, observed, gap=8) == 1.0
    with pytest.raises(ValueError, match="No two of 9 samples are 9 samples apart"):
        two_vs_two(observed, observed, gap=9)


@pytest.mark.parametrize("offset", [1e3, 1e6, 1e9])
def test_an_offset_of_all_targets_leaves_correlations_as_they_are(offset: float) -> None:
    predicted, observed = samples(3, 30, 50, signal=0.1)
    moved = predicted + offset * np.arange(1, 31)[:, None], observed - offset
    assert two_vs_two(*moved, distance="correlation") == two_vs_two(predicted, observed, distance="correlation")
    assert top_k_accuracy(*moved, k=5) == top_k_accuracy(predicted, observed, k=5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_the_size_of_float32_values_does_not_matter(scale: float) -> None:
    predicted, observed = (side.astype(np.float32) for side in samples(3, 30, 50, signal=0.1))
    scaled = predicted * np.float32(scale), observed * np.float32(scale)
    assert two_vs_two(*scaled) == two_vs_two(predicted, observed)
    assert top_k_accuracy(*scaled, k=5) == top_k_accuracy(predicted, observed, k=5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_prediction_scores_chance_with_a_warning(value: float, dtype: type) -> None:
    observed = samples(0, 10, 30)[1].astype(dtype)
    predicted = observed.copy()
    predicted[[2, 5]] = value
    with pytest.warns(FitWarning, match=r"2 of 10 predicted samples have no correlation .* equal: 2, 5\."):
        assert two_vs_two(predicted, observed, distance="correlation") == (45 - 17 + 17 / 2) / 45
    with pytest.warns(FitWarning, match="2 of 10 predicted"):
        assert top_k_accuracy(predicted, observed, k=3) == pytest.approx((8 + 2 * 3 / 10) / 10)


def test_a_row_far_from_zero_that_differs_in_its_last_bit_counts_as_constant() -> None:
    _, observed = samples(0, 10, 20)
    predicted = observed.astype(np.float32)
    predicted[3] = np.where(np.arange(20) % 2, np.nextafter(np.float32(1e6), np.float32(2e6)), np.float32(1e6))
    with pytest.warns(FitWarning, match="1 of 10 predicted samples"):
        assert top_k_accuracy(predicted, observed) == pytest.approx((9 + 1 / 10) / 10)


def test_a_constant_prediction_has_a_cosine_if_it_is_not_zero() -> None:
    predicted, observed = samples(0, 10, 30)
    predicted[4] = 2.0
    assert two_vs_two(predicted, observed) == pytest.approx(pair_by_pair(predicted, observed, 0, "cosine"), abs=1e-12)


def test_predictions_of_zero_score_chance_with_a_warning() -> None:
    _, observed = samples(0, 10, 30)
    with pytest.warns(FitWarning, match=r"10 of 10 predicted samples have no cosine .* zero: 0, 1, 2, 3, 4, \.\.\."):
        assert two_vs_two(np.zeros((10, 30)), observed) == 0.5


def test_a_constant_response_is_never_the_answer_for_sure() -> None:
    predicted, observed = samples(0, 10, 30, signal=10.0)
    observed[4] = 7.0
    with pytest.warns(FitWarning, match="1 of 10 observed samples"):
        # It ties with every candidate, and every candidate's own response ties with it.
        assert top_k_accuracy(predicted, observed) == pytest.approx((9 / 2 + 1 / 10) / 10)
    with pytest.warns(FitWarning, match="1 of 10 observed samples"):
        assert two_vs_two(predicted, observed, distance="correlation") == (36 + 9 / 2) / 45


def test_one_target_has_no_correlation_over_targets() -> None:
    predicted, observed = samples(0, 10, 1)
    with pytest.warns(FitWarning):
        assert top_k_accuracy(predicted, observed) == pytest.approx(0.1)


@pytest.mark.parametrize("side", ["predicted", "observed"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused_by_name_and_adds_nothing(side: str, value: float) -> None:
    predicted, observed = samples(0, 10, 5)
    matches = Matches(10)
    matches.update(predicted, observed)
    before = matches.two_vs_two()
    broken = {"predicted": predicted.copy(), "observed": observed.copy()}
    broken[side][3, 1] = value
    with pytest.raises(ValueError, match=f"{side}: the value of sample 3, target 1"):
        matches.update(**broken)
    assert matches.two_vs_two() == before


def test_wrong_arguments_are_named() -> None:
    predicted, observed = samples(0, 4, 5)
    with pytest.raises(ValueError, match="must agree"):
        two_vs_two(predicted[:3], observed)
    with pytest.raises(ValueError, match=r"must both be \(3, target\)"):
        Matches(3).update(predicted, observed)
    with pytest.raises(ValueError, match="distance must be"):
        two_vs_two(predicted, observed, distance="euclidean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="gap cannot be negative"):
        two_vs_two(predicted, observed, gap=-1)
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"k is {k}"):
            top_k_accuracy(predicted, observed, k)
    with pytest.raises(ValueError, match="no targets"):
        Matches(4).two_vs_two()


def test_many_targets_are_never_copied_whole() -> None:
    predicted, observed = (np.tile(side, (1, 100)).astype(np.float32) for side in samples(0, 100, 1000))
    tracemalloc.start()
    two_vs_two(predicted, observed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**22 * 8, "a few blocks; one side as float64 alone is 80 MB, both and their squares 320 MB"
