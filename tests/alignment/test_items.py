"""Rows that are items: words are pooled by item, what has no response is left out and told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.alignment import Items
from brainalign.encoding import Splits
from brainalign.encoding.responses import target_status
from brainalign.errors import DataError, RecipeError
from brainalign.features import Baseline
from brainalign.types import Clock, Features, Recording, Stimulus

POOLINGS = ("last", "first", "mean", "sum")
LENGTHS = [3, 1, 4, 2, 5, 1, 2, 3, 4, 2, 6, 1]
N_ITEMS = len(LENGTHS)


def stimulus_of(lengths: list[int]) -> Stimulus:
    """Items of so many words each."""
    item = np.repeat(np.arange(len(lengths)), lengths)
    text = [f"word{'s' * (number % 5)}" for number in range(len(item))]
    onset = np.arange(len(item), dtype=float)
    return Stimulus("list", pd.DataFrame({"onset": onset, "duration": 1.0, "text": text, "item": item}))


def features_of(stimulus: Stimulus, n_layers: int = 2, kind: Any = "word") -> Features:
    n_words = len(stimulus.words)
    values = np.random.default_rng(1).normal(size=(n_layers, n_words, 3)).astype(np.float32)
    times = np.arange(n_words, dtype=float)
    return Features("space", tuple(f"layer {i}" for i in range(n_layers)), values, times, np.ones(n_words), kind)


def recording_of(response: np.ndarray, **more: Any) -> Recording:
    targets = pd.DataFrame({"name": [f"t{i}" for i in range(response.shape[1])], "kind": "voxel"})
    return Recording("01", "1", "list", "fmri", Clock(1.0), 0.0, targets, lambda: response, "digest", **more)


def noise(n_items: int = N_ITEMS, n_targets: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_items, n_targets))


def centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=-2, keepdims=True)


# Pooling


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=10, max_size=25), pooling=st.sampled_from(POOLINGS))
def test_words_are_pooled_as_pandas_would(lengths: list[int], pooling: Any) -> None:
    stimulus = stimulus_of(lengths)
    features = features_of(stimulus)
    placed = Items(pooling).align(recording_of(noise(len(lengths))), stimulus).place(features)
    for layer, values in enumerate(features.values.astype(np.float64)):
        expected = getattr(pd.DataFrame(values).groupby(stimulus.words["item"]), pooling)()
        np.testing.assert_allclose(placed[layer], centred(expected.to_numpy()), atol=1e-12)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_item_of_one_word_is_that_word(pooling: Any) -> None:
    stimulus = stimulus_of([1] * 12)
    features = features_of(stimulus)
    placed = Items(pooling).align(recording_of(noise()), stimulus).place(features)
    np.testing.assert_allclose(placed, centred(features.values.astype(np.float64)), atol=1e-12)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_properties_of_words_are_averaged_and_the_words_counted(pooling: Any) -> None:
    stimulus = stimulus_of(LENGTHS)
    properties = Baseline(("word_length", "word_rate")).extract(stimulus)
    placed = Items(pooling).align(recording_of(noise()), stimulus).place_properties(properties)[0]
    length = stimulus.words["text"].str.len().groupby(stimulus.words["item"]).mean()
    np.testing.assert_allclose(placed[:, 0], length - length.mean(), atol=1e-6)
    np.testing.assert_allclose(placed[:, 1], np.array(LENGTHS) - np.mean(LENGTHS), atol=1e-6)


def test_a_signal_is_refused() -> None:
    stimulus = stimulus_of(LENGTHS)
    run = Items().align(recording_of(noise()), stimulus)
    with pytest.raises(RecipeError, match=r"'space' is a signal over time.*subject 01, run 1.*features of words"):
        run.place(features_of(stimulus, kind="signal"))


# Responses


def test_responses_are_centred_and_of_unit_size() -> None:
    response = noise() * [3.0, 1e-6] + [5.0, 1.0]
    run = Items().align(recording_of(response), stimulus_of(LENGTHS))
    assert run.latencies_s is None
    assert run.findings == []
    np.testing.assert_allclose(run.responses.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(run.responses.std(axis=0), 1)


def test_items_without_a_response_are_left_out_and_told() -> None:
    response = noise()
    response[[2, 7]] = np.nan
    stimulus = stimulus_of(LENGTHS)
    run = Items().align(recording_of(response), stimulus)
    kept = [item for item in range(N_ITEMS) if item not in (2, 7)]
    assert run.times_s.tolist() == kept
    assert [str(finding) for finding in run.findings] == [
        "subject 01, run 1: 2 of 12 items have no response (rejected, or not shown) and are left out."
    ]
    assert run.findings[0].code == "items-without-response"
    features = features_of(stimulus)
    last_words = np.cumsum(LENGTHS)[kept] - 1
    expected = centred(features.values[:, last_words].astype(np.float64))
    np.testing.assert_allclose(run.place(features), expected, atol=1e-12)
    np.testing.assert_array_equal(target_status(run.responses), ["ok", "ok"])


def test_a_target_that_lacks_an_item_is_undefined_and_no_other() -> None:
    response = noise()
    response[3, 0] = np.nan
    run = Items().align(recording_of(response), stimulus_of(LENGTHS))
    assert len(run.responses) == N_ITEMS
    np.testing.assert_array_equal(target_status(run.responses), ["nonfinite", "ok"])


def test_what_is_infinite_is_undefined_too() -> None:
    response = noise()
    response[3, 0] = np.inf
    run = Items().align(recording_of(response), stimulus_of(LENGTHS))
    np.testing.assert_array_equal(target_status(run.responses), ["nonfinite", "ok"])


# Confounds and regressors


def test_confounds_leave_both_sides() -> None:
    before = noise(n_targets=1, seed=3)
    response = noise() + 4 * before
    response[5] = before[5] = np.nan  # a rejected trial has neither
    recording = recording_of(response, read_confounds=lambda: pd.DataFrame(before, columns=["baseline"]))
    stimulus = stimulus_of(LENGTHS)
    run = Items().align(recording, stimulus)
    kept = before[run.rows]
    np.testing.assert_allclose(kept.T @ run.responses, 0, atol=1e-9)
    np.testing.assert_allclose(kept.T @ run.place(features_of(stimulus)), 0, atol=1e-9)
    untouched = Items(confounds=False).align(recording, stimulus)
    assert (abs(kept.T @ untouched.responses) > 1).all()


def test_a_confound_that_lacks_where_there_is_a_response_is_named() -> None:
    confounds = pd.DataFrame({"baseline": np.where(np.arange(N_ITEMS) == 7, np.nan, np.arange(N_ITEMS) % 3)})
    response = noise()
    response[2] = np.nan
    recording = recording_of(response, read_confounds=lambda: confounds)
    with pytest.raises(DataError, match="confound 'baseline' is not finite at item 7"):
        Items().align(recording, stimulus_of(LENGTHS))


def test_regressors_are_those_of_the_items_kept() -> None:
    response = noise()
    response[0] = np.nan
    given_values = np.arange(N_ITEMS) ** 2.0
    recording = recording_of(response, read_regressors=lambda: pd.DataFrame({"rating": given_values}))
    found = Items().align(recording, stimulus_of(LENGTHS)).regressors()
    np.testing.assert_allclose(found["rating"], given_values[1:] - given_values[1:].mean())


# Splits


def test_blocks_are_as_many_items_apart_as_the_span_says() -> None:
    run = Items().align(recording_of(noise(200)), stimulus_of([1] * 200))
    groups = np.array(["list"] * 200)
    splitter = Splits().splitter(groups, run.times_s, Items().span_s)
    for train, test in splitter.split(np.zeros(200), groups=groups):
        assert np.abs(train[:, None] - test).min() == Items().span_s + 1


# What cannot be


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (np.repeat(np.arange(N_ITEMS), LENGTHS) + 1, "whole numbers that grow from 0"),
        (np.repeat(np.arange(N_ITEMS), LENGTHS) * 2, "whole numbers that grow from 0"),
        (np.repeat(np.arange(N_ITEMS)[::-1], LENGTHS), "whole numbers that grow from 0"),
        (np.repeat(np.arange(N_ITEMS), LENGTHS) * 1.0, "whole numbers that grow from 0"),
        (np.repeat(np.arange(N_ITEMS), LENGTHS).clip(max=N_ITEMS - 2), "12 rows for 11 items"),
    ],
    ids=["from one", "with a step of two", "falling", "floats", "too few"],
)
def test_items_that_do_not_number_the_rows_are_refused(item: np.ndarray, message: str) -> None:
    words = stimulus_of(LENGTHS).words.assign(item=item)
    with pytest.raises(DataError, match=message):
        Items().align(recording_of(noise()), Stimulus("list", words))


def test_words_without_items_are_refused_with_the_way_out() -> None:
    stimulus = Stimulus("list", stimulus_of(LENGTHS).words.drop(columns="item"))
    with pytest.raises(DataError, match=r"no column 'item'.*'hemodynamic' or 'epochs'"):
        Items().align(recording_of(noise()), stimulus)


def test_too_few_responses_are_refused() -> None:
    response = noise()
    response[:3] = np.nan
    with pytest.raises(DataError, match="9 of 12 items have a response"):
        Items().align(recording_of(response), stimulus_of(LENGTHS))


def test_confounds_of_another_length_are_refused() -> None:
    recording = recording_of(noise(), read_confounds=lambda: pd.DataFrame({"baseline": [0.0, 1.0]}))
    with pytest.raises(DataError, match="2 rows of baseline for 12 items"):
        Items().align(recording, stimulus_of(LENGTHS))


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"no pooling 'max'\. Did you mean 'mean'"):
        Items(pooling="max")  # type: ignore[arg-type]
