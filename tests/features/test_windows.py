from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.errors import DataError
from brainalign.features.windows import Reading, Window, cut_windows, match_tokens


def test_a_token_that_two_words_share_counts_for_both_and_one_of_blanks_for_none() -> None:
    text = "ab  cd ef"
    tokens = [(0, 2), (2, 4), (4, 8), (8, 9)]
    matched = match_tokens([(0, 2), (4, 6), (7, 9)], tokens, [False, True, False, False], text)
    assert [list(indices) for indices in matched] == [[0], [2], [2, 3]]


def test_a_blank_token_inside_a_word_is_left_out_of_it() -> None:
    matched = match_tokens([(0, 6)], [(0, 2), (2, 4), (4, 6)], [False, True, False], "ab  cd")
    assert list(matched[0]) == [0, 2]


def test_words_read_in_another_order_are_named_by_their_place_in_the_stimulus() -> None:
    with pytest.raises(DataError, match=r"Word 8 \('cd'\) has no token"):
        match_tokens([(0, 2), (3, 5)], [(0, 2)], [False], "ab cd", numbers=[3, 7])
    with pytest.raises(DataError, match="Word 4 has 9 tokens"):
        cut_windows([np.array([0]), np.arange(1, 10)], 10, Reading(4, limit=8), numbers=[0, 3])


def test_a_word_without_a_token_is_named_with_its_position() -> None:
    with pytest.raises(DataError, match=r"Word 2 \('cd'\) has no token"):
        match_tokens([(0, 2), (3, 5), (6, 8)], [(0, 2), (6, 8)], [False, False], "ab cd ef")


def test_a_text_without_any_token_is_an_error_not_a_crash() -> None:
    with pytest.raises(DataError, match=r"Word 1 \('ab'\)"):
        match_tokens([(0, 2)], [], [], "ab")


def test_tokens_that_jump_back_are_refused() -> None:
    with pytest.raises(DataError, match="not in the text's order"):
        match_tokens([(0, 2), (3, 5)], [(3, 5), (0, 2)], [False, False], "ab cd")


@given(data=st.data())
def test_matching_agrees_with_comparing_every_word_with_every_token(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 40))
    word_cuts = sorted(data.draw(st.sets(st.integers(0, n), min_size=2)))
    words = list(pairwise(word_cuts))[:: data.draw(st.sampled_from([1, 2]))]
    token_cuts = sorted({0, n, *data.draw(st.sets(st.integers(0, n)))})
    tokens = list(pairwise(token_cuts))
    matched = match_tokens(words, tokens, [False] * len(tokens), "x" * n)
    expected = [[i for i, (a, b) in enumerate(tokens) if a < stop and b > start] for start, stop in words]
    assert [list(indices) for indices in matched] == expected


@given(
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=80),
    shared=st.booleans(),
    context=st.integers(1, 12),
)
def test_each_word_is_read_once_whole_and_sees_context_to_twice_context_tokens(
    sizes: list[int], shared: bool, context: int
) -> None:
    ends = np.cumsum(sizes)
    # Where words share tokens, each begins with the last token of the one before.
    words = [np.arange(max(0, end - size - (1 if shared else 0)), end) for end, size in zip(ends, sizes, strict=True)]
    n_tokens = int(ends[-1])
    windows = cut_windows(words, n_tokens, Reading(context))
    assert [word for window in windows for word in range(window.first_word, window.stop_word)] == list(
        range(len(words))
    )
    for window in windows:
        own = words[window.first_word : window.stop_word]
        needed = own[0][-1] + 1 - own[0][0] + context
        assert len(window) <= max(2 * context, needed)
        for tokens in own:
            assert window.start <= tokens[0]
            assert tokens[-1] < window.stop <= n_tokens
            before = tokens[0] - window.start
            assert before < 2 * context
            assert before >= context or window.start == 0


def test_windows_advance_by_the_context() -> None:
    words = [np.array([i]) for i in range(1000)]
    starts = [window.start for window in cut_windows(words, 1000, Reading(100))]
    assert starts == list(range(0, 900, 100))


def test_a_word_longer_than_the_model_can_read_is_named() -> None:
    with pytest.raises(DataError, match="Word 2 has 9 tokens"):
        cut_windows([np.array([0]), np.arange(1, 10)], 10, Reading(4, limit=8))


# ---- every kind of context, against what it promises

TEXTS = st.lists(st.integers(1, 5), min_size=1, max_size=40)
LIMITS = st.one_of(st.none(), st.integers(8, 30))


def text_of(sizes: list[int]) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Words of so many tokens, the first token of each and the one after its last."""
    stop = np.cumsum(sizes)
    first = stop - sizes
    return [np.arange(a, b) for a, b in zip(first, stop, strict=True)], first, stop


def check_each_word_is_read_once_whole(windows: list[Window], first: np.ndarray, stop: np.ndarray) -> None:
    assert [word for window in windows for word in range(window.first_word, window.stop_word)] == list(
        range(len(first))
    )
    for window in windows:
        assert 0 <= window.start <= first[window.first_word]
        assert stop[window.stop_word - 1] <= window.stop <= stop[-1]


@given(sizes=TEXTS, context=st.integers(1, 9))
def test_with_a_context_of_words_each_sees_so_many_and_fewer_than_twice(sizes: list[int], context: int) -> None:
    words, first, stop = text_of(sizes)
    windows = cut_windows(words, int(stop[-1]), Reading(context, "words"))
    check_each_word_is_read_once_whole(windows, first, stop)
    for window in windows:
        begin = int(np.flatnonzero(first == window.start)[0])
        for word in range(window.first_word, window.stop_word):
            assert word - begin < 2 * context
            assert word - begin >= context or begin == 0


@given(sizes=TEXTS, context=st.integers(1, 9), unit=st.sampled_from(["tokens", "words"]), limit=LIMITS)
def test_alone_each_word_sees_exactly_its_context_and_nothing_later(
    sizes: list[int], context: int, unit: str, limit: int | None
) -> None:
    words, first, stop = text_of(sizes)
    windows = cut_windows(words, int(stop[-1]), Reading(context, unit, limit, alone=True))  # type: ignore[arg-type]
    check_each_word_is_read_once_whole(windows, first, stop)
    for word, window in enumerate(windows):
        wanted = first[max(0, word - context)] if unit == "words" else max(0, first[word] - context)
        longest = 0 if limit is None else stop[word] - limit
        assert (window.start, window.stop) == (max(wanted, longest), stop[word])


@given(sizes=TEXTS, context=st.integers(1, 40), limit=st.integers(8, 30))
def test_within_a_limit_each_word_sees_its_context_or_three_quarters_of_the_limit(
    sizes: list[int], context: int, limit: int
) -> None:
    words, first, stop = text_of(sizes)
    windows = cut_windows(words, int(stop[-1]), Reading(context, limit=limit))
    check_each_word_is_read_once_whole(windows, first, stop)
    for window in windows:
        assert len(window) <= limit
        for word in range(window.first_word, window.stop_word):
            size = stop[word] - first[word]
            assert first[word] - window.start >= min(context, first[word], limit * 3 // 4, limit - size)


@given(sizes=TEXTS, limit=LIMITS)
def test_with_the_full_context_each_word_sees_all_before_it_or_half_the_limit(
    sizes: list[int], limit: int | None
) -> None:
    words, first, stop = text_of(sizes)
    windows = cut_windows(words, int(stop[-1]), Reading("full", limit=limit))
    check_each_word_is_read_once_whole(windows, first, stop)
    for window in windows:
        assert limit is None or len(window) <= limit
        for word in range(window.first_word, window.stop_word):
            seen = first[word] - window.start
            size = stop[word] - first[word]
            assert seen == first[word] or (limit is not None and seen >= min(limit // 2, limit - size))


@given(sizes=TEXTS, limit=LIMITS, data=st.data())
def test_with_a_context_of_sentences_no_window_reaches_beyond_one(
    sizes: list[int], limit: int | None, data: st.DataObject
) -> None:
    words, first, stop = text_of(sizes)
    new = data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
    sentences = np.cumsum(new)
    windows = cut_windows(words, int(stop[-1]), Reading("sentence", limit=limit), sentences)
    check_each_word_is_read_once_whole(windows, first, stop)
    for window in windows:
        own = np.flatnonzero(sentences == sentences[window.first_word])
        assert first[own[0]] <= window.start
        assert window.stop <= stop[own[-1]]
        assert window.start == first[own[0]] or (limit is not None and len(window) <= limit)


@given(
    sizes=TEXTS,
    context=st.one_of(st.integers(1, 9), st.just("full")),
    unit=st.sampled_from(["tokens", "words"]),
)
def test_with_both_sides_each_word_sees_its_context_before_and_after_it(
    sizes: list[int], context: int | str, unit: str
) -> None:
    words, first, stop = text_of(sizes)
    n_words, n_tokens = len(sizes), int(stop[-1])
    windows = cut_windows(words, n_tokens, Reading(context, unit, both_sides=True))  # type: ignore[arg-type]
    check_each_word_is_read_once_whole(windows, first, stop)
    for window in windows:
        for word in range(window.first_word, window.stop_word):
            if context == "full":
                assert (window.start, window.stop) == (0, n_tokens)
            elif unit == "words":
                assert window.start <= first[max(0, word - context)]
                assert window.stop >= stop[min(word + context, n_words - 1)]
            else:
                assert window.start <= max(0, first[word] - context)
                assert window.stop >= min(stop[word] + context, n_tokens)


@given(sizes=TEXTS, limit=st.integers(16, 40))
def test_with_both_sides_of_a_long_text_each_word_sees_a_third_of_the_limit_on_either_side(
    sizes: list[int], limit: int
) -> None:
    words, first, stop = text_of(sizes)
    n_tokens = int(stop[-1])
    windows = cut_windows(words, n_tokens, Reading("full", limit=limit, both_sides=True))
    check_each_word_is_read_once_whole(windows, first, stop)
    for window in windows:
        assert len(window) <= limit
        for word in range(window.first_word, window.stop_word):
            assert first[word] - window.start >= min(limit // 3, first[word])
            assert window.stop - stop[word] >= min(limit // 3, n_tokens - stop[word])


def test_a_word_alone_sees_nothing() -> None:
    words, first, stop = text_of([2, 1, 3])
    windows = cut_windows(words, 6, Reading("none"))
    assert [(window.start, window.stop) for window in windows] == list(zip(first, stop, strict=True))
