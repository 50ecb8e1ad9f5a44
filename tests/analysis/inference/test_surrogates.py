"""Surrogates keep what they must, lose what they must, and are the same whoever asks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.analysis.inference.surrogates import (
    BlockPermutation,
    CircularShift,
    IidShuffle,
    PhaseRandomisation,
    Reordering,
    SurrogateKind,
    Surrogates,
    surrogates,
)
from brainalign.errors import DataError, RecipeError

RUNS = np.repeat(["one", "two", "three"], [60, 80, 70])
KINDS = ("circular_shift", "block_permutation", "phase_randomisation", "iid_shuffle")
VARIED = settings(max_examples=30, deadline=None, derandomize=True)


def made(kind: SurrogateKind, runs: np.ndarray = RUNS, n_permutations: int = 20, seed: int = 0) -> Surrogates:
    return surrogates(
        kind, np.empty((len(runs), 0)), runs, n_permutations=n_permutations, seed=seed, length=5, allow_iid=True
    )


def noise(n: int = len(RUNS), v: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, v))


@pytest.mark.parametrize("kind", KINDS)
def test_each_run_stays_within_itself(kind: SurrogateKind) -> None:
    responses = noise()
    changed = responses.copy()
    changed[RUNS == "two"] = 0.0
    drawn, other = (made(kind).apply(3, values) for values in (responses, changed))
    np.testing.assert_array_equal(drawn[RUNS != "two"], other[RUNS != "two"])
    np.testing.assert_allclose(other[RUNS == "two"], 0.0)
    for rows in (np.flatnonzero(run == RUNS) for run in np.unique(RUNS)):
        np.testing.assert_allclose(drawn[rows].mean(axis=0), responses[rows].mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(drawn[rows].std(axis=0), responses[rows].std(axis=0), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_targets_are_treated_alike_whichever_are_given(kind: SurrogateKind) -> None:
    responses = noise()
    drawn = made(kind).apply(7, responses)
    np.testing.assert_allclose(made(kind).apply(7, responses[:, [2]]), drawn[:, [2]], atol=1e-12)
    spoilt = responses.copy()
    spoilt[5, 0] = np.nan
    np.testing.assert_allclose(made(kind).apply(7, spoilt)[:, 1:], drawn[:, 1:], atol=1e-12)
    np.testing.assert_allclose(np.corrcoef(drawn[RUNS == "one"].T), np.corrcoef(responses[RUNS == "one"].T), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shape_and_type_stay_and_the_input_is_not_changed(kind: SurrogateKind, dtype: type) -> None:
    responses = noise().astype(dtype)
    before = responses.copy()
    drawn = made(kind).apply(0, responses)
    assert (drawn.shape, drawn.dtype) == (responses.shape, responses.dtype)
    np.testing.assert_array_equal(responses, before)
    assert not np.allclose(drawn, responses)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_are_the_same_in_any_order_and_differ_by_number_and_seed(kind: SurrogateKind) -> None:
    responses = noise()
    forwards = [made(kind).apply(number, responses) for number in range(5)]
    drawing = made(kind)
    backwards = [drawing.apply(number, responses) for number in reversed(range(5))][::-1]
    np.testing.assert_array_equal(forwards, backwards)
    assert len({draw.tobytes() for draw in forwards}) == 5
    assert not np.array_equal(made(kind, seed=1).apply(0, responses), forwards[0])
    with pytest.raises(IndexError):
        drawing.apply(20, responses)


@pytest.mark.parametrize("kind", KINDS)
def test_another_subject_gets_the_same_draw_of_the_stories_they_share(kind: SurrogateKind) -> None:
    responses = noise()
    both = RUNS != "two"
    fewer = made(kind, RUNS[both]).apply(4, responses[both])
    np.testing.assert_array_equal(fewer, made(kind).apply(4, responses)[both])


@pytest.mark.parametrize("kind", KINDS)
def test_hearings_of_a_stimulus_side_by_side_get_the_same_draw(kind: SurrogateKind) -> None:
    once, n = noise(50), 50
    heard_twice = np.repeat(once, 2, axis=0)
    kept = {"n_permutations": 10, "length": 5, "allow_iid": True}
    twice = surrogates(kind, heard_twice, np.tile(["r1", "r2"], n), stimulus=np.repeat("story", 2 * n), **kept)
    drawn = twice.apply(2, heard_twice)
    np.testing.assert_array_equal(drawn[::2], drawn[1::2])
    alone = surrogates(kind, once, np.repeat("r1", n), stimulus=np.repeat("story", n), **kept)
    np.testing.assert_array_equal(drawn[::2], alone.apply(2, once))


@VARIED
@given(n=st.integers(10, 90), min_shift=st.integers(1, 5), seed=st.integers(0, 1000), share=st.floats(0.1, 1.0))
def test_shifts_of_one_run_are_whole_moves_along_the_circle_none_twice(
    n: int, min_shift: int, seed: int, share: float
) -> None:
    n_shifts = n - 2 * min_shift + 1
    n_permutations = max(1, int(share * n_shifts))
    drawing = CircularShift(np.zeros(n), n_permutations, seed, min_shift=min_shift)
    assert drawing.n_distinct == n_shifts
    found = [int(drawing.order(number)[0]) for number in range(n_permutations)]
    for number, first in enumerate(found):
        np.testing.assert_array_equal(drawing.order(number), (first + np.arange(n)) % n)
    assert len(set(found)) == n_permutations
    assert all(min_shift <= shift <= n - min_shift for shift in found)


def test_runs_are_shifted_independently_of_each_other_and_evenly() -> None:
    runs = np.repeat(["one", "two"], 400)
    drawing = CircularShift(runs, 2000, min_shift=10)
    first = np.array([drawing.order(number)[[0, 400]] for number in range(2000)]) - [0, 400]
    assert abs(np.corrcoef(first.T)[0, 1]) < 0.07
    for shifts in first.T:
        assert np.histogram(shifts, bins=10, range=(10, 391))[0].min() >= 190


def test_runs_of_a_stimulus_that_differ_by_a_sample_get_nearly_the_same_shift() -> None:
    drawn = [CircularShift(np.repeat("story", n), 100, min_shift=10) for n in (300, 301)]
    shifts = np.array([[(n - d.order(i)[0]) % n for n, d in zip((300, 301), drawn, strict=True)] for i in range(100)])
    assert np.abs(np.diff(shifts, axis=1)).max() <= 1


@VARIED
@given(n=st.integers(40, 200), block_length=st.integers(1, 4), seed=st.integers(0, 1000))
def test_blocks_keep_their_samples_together(n: int, block_length: int, seed: int) -> None:
    order = BlockPermutation(np.zeros(n), 5, seed, block_length=block_length).order(0)
    assert sorted(order) == list(range(n))
    breaks = np.flatnonzero(np.diff(order) != 1) + 1
    lengths = np.diff(np.r_[0, breaks, n])
    assert lengths.min() >= block_length
    assert len(lengths) <= n // block_length


def test_phases_keep_the_spectrum_and_the_correlations_at_every_lag() -> None:
    responses = np.cumsum(noise(64, 2), axis=0)
    drawn = PhaseRandomisation(np.zeros(64), 10).apply(0, responses)
    before, after = (np.fft.rfft(values, axis=0) for values in (responses, drawn))
    np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-10)
    np.testing.assert_allclose(after[:, 0] * after[:, 1].conj(), before[:, 0] * before[:, 1].conj(), atol=1e-8)


@pytest.mark.parametrize("n", [3, 4, 51, 52])
def test_phases_of_odd_and_even_runs_keep_the_variance(n: int) -> None:
    responses = noise(n)
    drawn = PhaseRandomisation(np.zeros(n), 10).apply(0, responses)
    np.testing.assert_allclose(drawn.var(axis=0), responses.var(axis=0), rtol=1e-10)


@pytest.mark.parametrize("kind", ["circular_shift", "block_permutation"])
def test_the_length_is_the_memory_of_the_responses(kind: SurrogateKind) -> None:
    fast = surrogates(kind, noise(600), np.zeros(600), n_permutations=50)
    slow = np.cumsum(noise(1200), axis=0)
    slow = slow[20:] - slow[:-20]
    slower = surrogates(kind, slow, np.zeros(len(slow)), n_permutations=50)
    lengths = [s.min_shift if isinstance(s, CircularShift) else s.block_length for s in (fast, slower)]
    assert lengths[0] <= 5
    assert 55 <= lengths[1] <= 75


def test_a_run_too_short_to_be_shifted_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="'short' has 9 samples, too few to be moved by 5 either way"):
        CircularShift(np.repeat(["long", "short"], [50, 9]), 10, min_shift=5)


def test_more_permutations_than_there_are_different_shifts_are_refused_with_their_number() -> None:
    with pytest.raises(DataError, match=r"only 81 different surrogates, but 1,000 permutations"):
        CircularShift(np.zeros(100), 1000, min_shift=10)
    assert CircularShift(np.repeat([0, 1], 100), 1000, min_shift=10).n_distinct == 81**2
    assert PhaseRandomisation(np.zeros(100), 1000).n_distinct == math.inf


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (np.zeros(90), "too few blocks of 10 samples, in all 9"),
        (np.repeat(["a", "b"], [200, 19]), "too few blocks of 10 samples, 'b' has 1"),
    ],
    ids=["nine blocks", "a run of one block"],
)
def test_too_few_blocks_are_refused(runs: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        BlockPermutation(runs, 10, block_length=10)


def test_ten_runs_of_two_blocks_have_too_few_orders_for_many_permutations() -> None:
    runs = np.repeat(np.arange(9), 20)
    assert BlockPermutation(runs, 500, block_length=10).n_distinct == 2**9
    with pytest.raises(DataError, match="only 512 different"):
        BlockPermutation(runs, 1000, block_length=10)


def test_shuffling_samples_has_to_be_asked_for() -> None:
    with pytest.raises(RecipeError, match="allow_iid=True"):
        IidShuffle(RUNS, 10)
    shuffled = IidShuffle(RUNS, 10, allow_iid=True)
    assert isinstance(shuffled, Reordering)
    assert sorted(shuffled.order(0)) == list(range(len(RUNS)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"times_s": np.r_[0.0, 2.0, 1.0, 3.0]}, "not in the order of time"),
        ({"times_s": np.r_[0.0, 1.0, 1.0, 3.0]}, "two are of one moment"),
        ({"times_s": np.zeros(3)}, "4 samples have a run, but 3 a times_s"),
        ({"stimulus": np.zeros(5)}, "4 samples have a run, but 5 a stimulus"),
        ({"runs": np.array(["a", "a", "a", "b"])}, "'b' has 1 samples, and 3 are needed"),
    ],
    ids=["backwards", "twice", "times", "stimuli", "one sample"],
)
def test_samples_that_cannot_be_right_are_refused(wrong: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        PhaseRandomisation(**{"runs": np.zeros(4), "n_permutations": 5} | wrong)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'circular_shift'"):
        surrogates("circular", noise(), RUNS)  # pyrefly: ignore[bad-argument-type]
    with pytest.raises(RecipeError, match="0 permutations"):
        PhaseRandomisation(RUNS, 0)
    with pytest.raises(RecipeError, match="min_shift is 0"):
        CircularShift(RUNS, 5, min_shift=0)
    with pytest.raises(RecipeError, match="block_length is 0"):
        BlockPermutation(RUNS, 5, block_length=0)


def test_responses_without_a_known_memory_need_a_length() -> None:
    undefined = np.full((len(RUNS), 2), np.nan)
    with pytest.raises(DataError, match="give the length"):
        surrogates("circular_shift", undefined, RUNS)
    assert surrogates("circular_shift", undefined, RUNS, length=5).n_permutations == 1000
