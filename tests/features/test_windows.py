from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.errors import DataError
from brainalign.features.windows import cut_windows, match_tokens


def test_a_token_that_two_words_share_counts_for_both_and_one_of_blanks_for_none() -> None:
    text = "ab  cd ef"
    tokens = [(0, 2), (2, 4), (4, 8), (8, 9)]
    matched = match_tokens([(0, 2), (4, 6), (7, 9)], tokens, [False, True, False, False], text)
    assert [list(indices) for indices in matched] == [[0], [2], [2, 3]]


def test_a_blank_token_inside_a_word_is_left_out_of_it() -> None:
    matched = match_tokens([(0, 6)], [(0, 2), (2, 4), (4, 6)], [False, True, False], "ab  cd")
    assert list(matched[0]) == [0, 2]


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
    windows = list(cut_windows(words, n_tokens, context, limit=None))
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
    starts = [window.start for window in cut_windows(words, 1000, context=100, limit=None)]
    assert starts == list(range(0, 900, 100))


def test_a_word_longer_than_the_model_can_read_is_named() -> None:
    with pytest.raises(DataError, match="Word 2 has 9 tokens"):
        list(cut_windows([np.array([0]), np.arange(1, 10)], 10, context=4, limit=8))
