"""Ranks among candidates: against the metrics, against counting, and where there is nothing to tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.analysis.decoding.retrieval import retrieval
from brainalign.encoding.metrics import top_k_accuracy, two_vs_two

VARIED = settings(max_examples=40, deadline=None, derandomize=True)


@VARIED
@given(n=st.integers(3, 25), d=st.integers(2, 8), seed=st.integers(0, 1000))
def test_without_neighbours_and_ties_it_is_what_the_metrics_say(n: int, d: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    observed = random.normal(size=(n, d))
    # Rows of mean zero: cosine and correlation are one then.
    observed -= observed.mean(axis=1, keepdims=True)
    predicted = observed + random.normal(size=(n, d))
    predicted -= predicted.mean(axis=1, keepdims=True)
    found = retrieval(predicted, observed, (1, 2, n))
    expected = [top_k_accuracy(predicted, observed, k) for k in (1, 2, n)]
    np.testing.assert_allclose(found.top_k, expected, atol=1e-12)
    np.testing.assert_allclose(found.chance_top_k, [1 / n, 2 / n, 1.0])
    assert found.two_vs_two == pytest.approx(two_vs_two(predicted, observed), abs=1e-12)


@VARIED
@given(n=st.integers(6, 20), gap=st.integers(1, 5), seed=st.integers(0, 1000))
def test_ranks_are_those_of_counting_one_by_one(n: int, gap: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    # A few vectors, so that many are equal.
    observed = np.eye(4)[random.integers(0, 4, n)]
    predicted = random.normal(size=(n, 4))
    near = np.abs(np.arange(n)[:, None] - np.arange(n)) < gap
    found = retrieval(predicted, observed, (2,), near)
    ranks, hits = [], []
    for i in range(n):
        others = [j for j in range(n) if abs(i - j) >= gap]
        own = predicted[i] @ observed[i]
        better = sum(predicted[i] @ observed[j] > own and not (observed[i] == observed[j]).all() for j in others)
        equal = sum(bool((observed[i] == observed[j]).all()) for j in others)
        if others:
            ranks.append((better + equal / 2) / len(others))
            hits.append(np.mean([better + place < 2 for place in range(equal + 1)]))
    assert found.rank_accuracy == pytest.approx(1 - np.mean(ranks))
    assert found.top_k[0] == pytest.approx(np.mean(hits))
    if gap > 1 and n > gap:
        assert found.two_vs_two == pytest.approx(two_vs_two(predicted, observed, gap))


def test_a_word_that_stands_often_is_found_by_the_chance_of_being_drawn_among_its_like() -> None:
    observed = np.eye(3)[[0, 0, 0, 0, 1, 2]]
    found = retrieval(observed, observed, (1, 4))
    np.testing.assert_allclose(found.top_k, [(4 / 4 + 2) / 6, 1.0])
    # The four share the mean of the ranks 0 to 3 of 5.
    assert found.rank_accuracy == pytest.approx(1 - 4 * (1.5 / 5) / 6)


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_predictions_that_are_all_the_same_are_at_chance(constant: float) -> None:
    observed = np.random.default_rng(7).normal(size=(40, 5))
    found = retrieval(np.full((40, 5), constant), observed, (1, 10))
    np.testing.assert_allclose(found.top_k, found.chance_top_k)
    assert (found.rank_accuracy, found.two_vs_two) == pytest.approx((0.5, 0.5))


def test_neighbours_are_no_candidates_and_without_others_nothing_is_defined() -> None:
    vectors = np.random.default_rng(8).normal(size=(5, 3))
    everyone = np.ones((5, 5), dtype=bool)
    found = retrieval(vectors, vectors, (1,), everyone)
    assert np.isnan([*found.top_k, *found.chance_top_k, found.rank_accuracy, found.two_vs_two]).all()
    assert found.n_candidates == 1
    # Slow features: neighbours would be taken for one another, distant samples are not.
    slow = np.cumsum(np.random.default_rng(9).normal(size=(200, 4)), axis=0)
    guessed = np.roll(slow, 2, axis=0)
    near = np.abs(np.arange(200)[:, None] - np.arange(200)) < 6
    assert retrieval(guessed, slow, (1,), near).top_k[0] > 2 * retrieval(guessed, slow).top_k[0]


@pytest.mark.parametrize(
    ("predicted", "message"), [(np.zeros((3, 2)), "must agree"), (np.full((4, 2), np.nan), "must be finite")]
)
def test_arrays_that_cannot_be_compared_are_refused(predicted: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval(predicted, np.ones((4, 2)))
