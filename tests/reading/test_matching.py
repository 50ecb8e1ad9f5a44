"""Texts matched with the words found in their sound, and times for those that were not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.errors import DataError
from brainalign.reading.matching import fill_times, in_order, match_words

WORDS = st.lists(st.sampled_from(["the", "old", "man", "and", "sea", "fish"]), min_size=1, max_size=40)


@given(text=WORDS, data=st.data())
def test_words_that_were_left_out_leave_the_others_matched_in_order(text: list[str], data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))
    found = [word for word, keep in zip(text, kept, strict=True) if keep]
    matched = match_words(text, found)
    used = matched[matched >= 0]
    assert (np.diff(used) > 0).all()
    assert all(text[i] == found[j] for i, j in enumerate(matched) if j >= 0)


def test_a_long_text_with_a_missing_word_is_matched_around_it() -> None:
    text = [f"word{i}" for i in range(3000)]
    matched = match_words(text, [*text[:1234], *text[1235:]])
    assert matched[1234] == -1
    assert (np.delete(matched, 1234) == np.arange(2999)).all()


@pytest.mark.parametrize(
    ("word", "other"),
    [("Queen,", "queen"), ("d\u2019accord", "D'ACCORD"), ("été", "ete"), ("“Wait", "wait"), ("straße", "strasse")],
)
def test_case_accents_and_punctuation_do_not_matter(word: str, other: str) -> None:
    assert match_words([word], [other]).tolist() == [0]


def test_marks_without_letters_are_matched_as_they_are() -> None:
    assert match_words(["--", "a"], ["...", "a"]).tolist() == [-1, 1]


@given(
    times=st.lists(st.floats(0, 100), min_size=1, max_size=30, unique=True).map(sorted),
    data=st.data(),
)
def test_filled_times_are_in_order_and_leave_known_ones_alone(times: list[float], data: st.DataObject) -> None:
    known = data.draw(st.lists(st.booleans(), min_size=len(times), max_size=len(times)).filter(any))
    onset = np.where(known, times, np.nan)
    offset = np.where(known, np.r_[times[1:], times[-1] + 0.1], np.nan)
    filled, ends = fill_times(onset, offset, [3] * len(times), "story")
    assert np.isfinite(filled).all()
    assert (np.diff(filled) >= -1e-9).all()
    assert (ends >= filled - 1e-9).all()
    np.testing.assert_array_equal(filled[known], np.array(times)[known])


@given(times=st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_those_in_order_are_as_many_as_can_be(times: list[int]) -> None:
    kept = in_order(np.array(times, dtype=float))
    assert (np.diff(np.array(times)[kept]) >= 0).all()
    # The length of the longest sequence in order that ends at each, by trying all.
    longest: list[int] = []
    for i, time in enumerate(times):
        longest.append(1 + max((longest[j] for j in range(i) if times[j] <= time), default=0))
    assert kept.sum() == max(longest)


def test_without_any_time_there_is_nothing_to_go_by() -> None:
    with pytest.raises(DataError, match="none of 2 words"):
        fill_times(np.full(2, np.nan), np.full(2, np.nan), [1, 1], "story")
