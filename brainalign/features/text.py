"""From a table of words to the running text that a language model reads."""

from __future__ import annotations

import re

import pandas as pd

__all__ = ["running_text"]

# Chinese, Cantonese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan.
WRITTEN_WITHOUT_BLANKS = frozenset({"zh", "yue", "ja", "th", "lo", "km", "my", "bo"})

# English only: in Dutch "'s" belongs to the word after it.
ENGLISH_CLITIC = re.compile(r"['\u2019](s|m|d|t|ll|ve|re)|n['\u2019]t", re.IGNORECASE)


def running_text(words: pd.DataFrame, language: str = "en") -> tuple[str, list[tuple[int, int]]]:
    """Join the words of a table to one text, and say where each word lies in it.

    The words are kept as they are, without the blanks around them. They are joined by one blank, except in languages
    that are written without, and except English clitics in rows of their own, which attach to the word before.

    Parameters
    ----------
    words : pandas.DataFrame
        With a column ``text``.
    language : str
        ISO 639-1 code.

    Returns
    -------
    text : str
        The running text.
    spans : list of (int, int)
        The characters of each word: ``text[start:stop]`` is the word.

    Examples
    --------
    >>> running_text(pd.DataFrame({"text": ["what", "'s", "the", "use"]}))
    ("what's the use", [(0, 4), (4, 6), (7, 10), (11, 14)])
    >>> running_text(pd.DataFrame({"text": ["我", "喜欢", "书"]}), language="zh")
    ('我喜欢书', [(0, 1), (1, 3), (3, 4)])
    """
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    end = 0
    for word in words["text"].astype(str):
        word = word.strip()
        if spans and not _attaches(word, language):
            pieces.append(" ")
            end += 1
        pieces.append(word)
        spans.append((end, end + len(word)))
        end += len(word)
    return "".join(pieces), spans


def _attaches(word: str, language: str) -> bool:
    if language in WRITTEN_WITHOUT_BLANKS:
        return True
    return language == "en" and ENGLISH_CLITIC.fullmatch(word) is not None
