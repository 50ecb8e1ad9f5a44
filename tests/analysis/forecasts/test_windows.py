"""Windows hold the words they say, of their own stimulus, at every distance of the same words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from brainalign.alignment.resampling import resampling_matrix
from brainalign.analysis.forecasts.windows import (
    complete_words,
    mirror_distance,
    reached,
    window_offsets,
    windows,
    word_windows,
)
from brainalign.errors import DataError, RecipeError
from brainalign.types import Clock, Features


def story(n_words: int, n_layers: int = 1, dimension: int = 3, seed: int = 0, start: float = 0.0) -> Features:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_layers, n_words, dimension)).astype(np.float32) + start
    layers = tuple(f"layer {layer}" for layer in range(n_layers))
    return Features("model", layers, values, np.arange(n_words) * 0.4, np.full(n_words, 0.3))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(n_words=st.integers(1, 25), distance=st.integers(-12, 12), width=st.integers(1, 8), dimension=st.integers(1, 3))
def test_a_window_is_the_vectors_of_its_words_one_by_one(
    n_words: int, distance: int, width: int, dimension: int
) -> None:
    vectors = np.arange(1.0, n_words * dimension + 1).reshape(n_words, dimension)
    found = windows(vectors, distance, width)
    complete = complete_words(n_words, [distance], width)
    for word in range(n_words):
        words = [word + offset for offset in window_offsets(distance, width)]
        assert complete[word] == all(0 <= other < n_words for other in words)
        expected = (
            np.concatenate([vectors[other] for other in words]) if complete[word] else np.zeros(width * dimension)
        )
        np.testing.assert_array_equal(found[word], expected)


@given(distance=st.integers(-30, 30), width=st.integers(1, 9))
def test_the_mirror_has_the_words_as_far_on_the_other_side(distance: int, width: int) -> None:
    mirror = mirror_distance(distance, width)
    assert [-offset for offset in reversed(window_offsets(mirror, width))] == list(window_offsets(distance, width))
    assert mirror_distance(mirror, width) == distance


def test_windows_of_the_paper() -> None:
    assert list(window_offsets(10, 7)) == [4, 5, 6, 7, 8, 9, 10]
    assert [mirror_distance(d, 7) for d in (8, 7, 3)] == [-2, -1, 3]


def test_words_are_complete_at_all_distances_or_at_none() -> None:
    found = word_windows({"a": story(30), "b": story(12)}, distances=[-2, 0, 8], width=3, n_components=None)
    np.testing.assert_array_equal(found.complete["a"], [4 <= word < 22 for word in range(30)])
    np.testing.assert_array_equal(found.complete["b"], [False] * 12)
    for of_distance in found.features.values():
        for name, one in of_distance.items():
            assert (one.values[:, ~found.complete[name]] == 0).all()
    assert list(found.features) == [-2, 0, 8]


def test_windows_never_reach_into_another_story() -> None:
    # The second story is of vectors a thousand away: any of them in the first one's windows would show.
    stories = {"a": story(40), "b": story(40, start=1000.0)}
    found = word_windows(stories, distances=[-2, 8], n_components=None)
    both = np.concatenate([found.features[d][name].values[0, found.complete[name]] for d in (-2, 8) for name in "ab"])
    n = int(found.complete["a"].sum())
    assert both[:n].max() < 0 < both[n : 2 * n].min()
    assert both[2 * n : 3 * n].max() < 0 < both[3 * n :].min()


def test_without_reduction_windows_are_the_standardised_vectors_side_by_side() -> None:
    one = story(50)
    found = word_windows({"story": one}, distances=[4], width=3, n_components=None)
    plain = windows(one.values[0], 4, 3)
    every = windows(one.values[0], 0, 3)[2:]  # those that end at any word
    standard = (plain - every.mean(axis=0)) / every.std(axis=0)
    kept = found.complete["story"]
    np.testing.assert_allclose(found.features[4]["story"].values[0, kept], standard[kept], atol=1e-5)
    assert found.retained.tolist() == [1.0]


def test_components_are_scikit_learn_s_and_the_same_at_every_distance() -> None:
    stories = {"a": story(60, n_layers=2, dimension=5), "b": story(45, n_layers=2, dimension=5, seed=1)}
    found = word_windows(stories, distances=[-3, 2], width=2, n_components=4)
    for layer in range(2):
        every = np.concatenate([windows(one.values[layer], 0, 2)[1:] for one in stories.values()])
        pca = PCA(4, svd_solver="full")
        expected = pca.fit_transform(StandardScaler().fit_transform(every))
        np.testing.assert_allclose(found.retained[layer], pca.explained_variance_ratio_.sum(), atol=1e-6)
        for distance in (-3, 2):
            ours = found.features[distance]["a"].values[layer]
            word = np.flatnonzero(found.complete["a"])
            theirs = expected[word + distance - 1]
            sign = np.sign((ours[word] * theirs).sum(axis=0))
            np.testing.assert_allclose(ours[word], theirs * sign, atol=1e-4)
    window = found.features[2]["b"]
    assert window.name == "model, window +2"
    assert window.metadata["window"] == {"distance_words": 2, "width_words": 2, "n_components": 4}
    np.testing.assert_array_equal(window.onset_s, stories["b"].onset_s)


def test_a_constant_column_is_zero_rather_than_rounding() -> None:
    one = story(40)
    one.values[..., 1] = 0.1
    found = word_windows({"story": one}, distances=[2], width=2, n_components=None)
    assert np.abs(found.features[2]["story"].values[..., [1, 4]]).max() < 1e-5


def test_samples_that_an_incomplete_word_reaches_are_those_of_which_it_is_a_part() -> None:
    onset_s = np.sort(np.random.default_rng(0).uniform(0, 300, 700))
    complete = complete_words(700, [-10, 30], 7)
    clock = Clock(1.5)
    weights = resampling_matrix(onset_s, np.full(700, 0.3), clock, 220, "hrf")
    touched = (np.abs(weights[:, ~complete]) > 0).any(axis=1)
    found = reached(clock.times(220), onset_s, complete, reach_s=(0.0, 32.0))
    np.testing.assert_array_equal(found[touched], True)
    assert found.sum() - touched.sum() <= 2  # the response starts and ends at exactly zero
    assert 0 < found.sum() < 110


def test_word_locked_samples_are_reached_by_their_own_word_only() -> None:
    onset_s, complete = np.array([0.0, 0.4, 0.9]), np.array([True, False, True])
    np.testing.assert_array_equal(reached(onset_s, onset_s, complete, reach_s=(0.0, 0.0)), ~complete)
    assert not reached(onset_s, onset_s, np.ones(3, dtype=bool)).any()


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"distances": []}, RecipeError, "at least one distance"),
        ({"width": 0}, RecipeError, "width 0"),
        ({"n_components": 0}, RecipeError, "n_components 0"),
        ({"n_components": 90}, DataError, "no 90 components; take fewer"),
        ({"distances": [-30, 30]}, DataError, "longest stimulus has 40 words"),
        ({"features": {}}, DataError, "no features of any stimulus"),
        ({"features": {"a": story(40), "b": story(40, dimension=4)}}, DataError, "'b' has other layers or dimensions"),
        ({"features": {"a": replace(story(40), kind="signal")}}, DataError, "of a signal, not of words"),
        ({"features": {"a": story(40, start=np.nan)}}, DataError, "word 0 of 'a' is not finite"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_has_no_windows_is_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    given_ = {"features": {"a": story(40)}, "distances": [2], "width": 3, "n_components": 4, **changed}
    with pytest.raises(error, match=message):
        word_windows(**given_)
