"""Words of a text from the pieces that were timed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from brainalign.reading.spoken_text import words_of_tokens

LINES = [["Lorsque", "j'avais", "six", "ans,"], ["dit-il,", "va-t'en!", "C'est", "un", "chef-d'œuvre."]]
TOKENS = [
    "lorsque",
    "j",
    "avais",
    "six",
    "ans",
    "dit",
    "-il",
    "va",
    "-t",
    "en",
    "c",
    "est",
    "un",
    "chef",
    "-d",
    "œuvre",
]


def _tokens(text: list[str]) -> pd.DataFrame:
    onset = 0.3 * np.arange(len(text))
    return pd.DataFrame({"onset": onset, "offset": onset + 0.25, "text": text})


def test_pieces_make_the_words_of_the_text_from_their_first_to_their_last() -> None:
    words, n_own = words_of_tokens(_tokens(TOKENS), LINES)
    assert words["text"].tolist() == [word for line in LINES for word in line]
    assert words["sentence"].tolist() == [0] * 4 + [1] * 5
    assert n_own == 0
    np.testing.assert_allclose(words["onset"][:3], [0.0, 0.3, 0.9])
    np.testing.assert_allclose(words["duration"][:3], [0.25, 0.55, 0.25])


def test_what_was_said_otherwise_stands_as_it_was_heard() -> None:
    words, n_own = words_of_tokens(_tokens(["lorsque", "j", "avais", "sept", "ans"]), LINES)
    assert words["text"].tolist() == ["Lorsque", "j'avais", "sept", "ans,"]
    assert n_own == 1


def test_a_piece_that_the_text_has_not_inside_a_word_does_not_double_it() -> None:
    words, n_own = words_of_tokens(_tokens(["j", "euh", "avais", "six"]), LINES)
    assert words["text"].tolist() == ["j'avais", "six"]
    assert n_own == 1


@given(kept=st.lists(st.booleans(), min_size=len(TOKENS), max_size=len(TOKENS)).filter(any))
def test_words_follow_each_other_in_order_whatever_was_not_heard(kept: list[bool]) -> None:
    tokens = _tokens(TOKENS)[kept].reset_index(drop=True)
    words, n_own = words_of_tokens(tokens, LINES)
    assert words["onset"].is_monotonic_increasing
    assert words["sentence"].is_monotonic_increasing
    assert n_own == 0
    assert set(words["text"]) <= {word for line in LINES for word in line}
    assert words["duration"].sum() >= 0.25 * len(words) - 1e-9
