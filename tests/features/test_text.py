from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.features.text import running_text

TRICKY = [
    "don't",
    "n't",
    "'ll",
    "\u2019s",
    "rock 'n' roll",
    "New  York",
    "e.g.,",
    "...",
    "🙂👩‍👩‍👧",
    "naïve",
    "e\u0301te\u0301",
    "日本",
    "</s>",
    "42",
]

visible_words = st.lists(
    st.one_of(st.sampled_from(TRICKY), st.text(min_size=1).filter(lambda word: word.strip() == word)), min_size=1
)


def table(*words: str) -> pd.DataFrame:
    return pd.DataFrame({"text": list(words)})


@pytest.mark.parametrize(
    ("words", "language", "text"),
    [
        (["what", "'s", "the", "use"], "en", "what's the use"),
        (["she", "'LL", "ca", "n't", "I", "\u2019ve"], "en", "she'LL can't I\u2019ve"),
        (["'s", "fine"], "en", "'s fine"),
        (["'tis", "n'table"], "en", "'tis n'table"),
        (["'s", "avonds", "'s"], "nl", "'s avonds 's"),
        (["我", "喜欢", "书"], "zh", "我喜欢书"),
        (["本", "を", "読む"], "ja", "本を読む"),
        (["  padded\n", "\ttoo"], "en", "padded too"),
        (["New  York", "city"], "en", "New  York city"),
    ],
)
def test_words_are_joined_as_they_are_written(words: list[str], language: str, text: str) -> None:
    assert running_text(table(*words), language)[0] == text


@given(words=visible_words, language=st.sampled_from(["en", "zh", "fr"]))
def test_every_span_is_exactly_its_word_and_only_blanks_lie_between(words: list[str], language: str) -> None:
    text, spans = running_text(table(*words), language)
    assert [text[start:stop] for start, stop in spans] == words
    borders = [0, *(end for span in spans for end in span), len(text)]
    between = [text[start:stop] for start, stop in zip(borders[::2], borders[1::2], strict=True)]
    assert set(between) <= ({""} if language == "zh" else {"", " "})
