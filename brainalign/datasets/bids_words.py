"""Words and the starts of stimuli from the events of BIDS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign.errors import DataError, RecipeError, nearest
from brainalign.reading.matching import match_words
from brainalign.reading.tables import Table, read_table
from brainalign.types import Floats

__all__ = ["SharedWords", "Start", "read_event_words", "read_starts", "share_words"]

# Columns that hold words in one public set or another, the most telling first.
TEXT_COLUMNS = ("word", "text", "stimulus", "segment", "value")
WORD_TYPES = ("word", "words")
NOTHING = ("", "n/a", "nan")
# Subjects whose events have so many of each other's words in order met the same stimulus; a few words are in any text.
SAME_STIMULUS, LEAST_WORDS = 0.9, 20


@dataclass(frozen=True)
class Start:
    """When a stimulus starts in a recording, in seconds, and what the row of the events says of it."""

    onset_s: float
    row: Mapping[str, str]


@dataclass(frozen=True)
class SharedWords:
    """The words of a stimulus and which of them each run's events have.

    Parameters
    ----------
    words : pandas.DataFrame
        Times from the first word.
    onset_s : mapping of run to array (word,)
        When each word was met in a run, NaN where its events do not have it.
    """

    words: pd.DataFrame
    onset_s: Mapping[str, Floats]


def read_event_words(
    path: Path, rows: Mapping[str, Sequence[str]] | None = None, columns: Mapping[str, str] | None = None
) -> pd.DataFrame:
    r"""The words of an ``events.tsv``: ``onset``, ``duration``, ``text`` and, where the table has it, ``sentence``.

    Parameters
    ----------
    path : Path
    rows : mapping of str to sequence of str, optional
        Which rows are words: the values that columns must have. By default those whose ``trial_type`` is "word", where
        any is; else all that have a text.
    columns : mapping of str to str, optional
        What the table calls ``onset``, ``duration``, ``text`` and ``sentence``; by default ``text`` is the first there
        is of word, text, stimulus, segment and value.

    Raises
    ------
    DataError, RecipeError
        If there are no such columns or rows, or no words.

    Notes
    -----
    Where rows are not told apart, those without a text (empty or "n/a") are no words. A word without a duration lasts
    until the next one, at most half a second.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "events.tsv"
    ...     _ = file.write_text("onset\tduration\ttrial_type\tword\n1.0\t0.3\tword\tNone\n2.0\t0\tclick\tn/a\n")
    ...     read_event_words(file)
       onset  duration  text
    0    1.0       0.3  None
    """
    table = read_table(path)
    names = {"onset": "onset", "duration": "duration", "text": _text_column(table, columns), **(columns or {})}
    kept = _chosen_rows(table, rows)
    text = table.texts(names["text"])
    has_text = np.array([word.lower() not in NOTHING for word in text])
    if (kept & ~has_text).any() and (rows is not None or _has_word_type(table)):
        row = table.row_names[int(np.flatnonzero(kept & ~has_text)[0])]
        n_empty = int((kept & ~has_text).sum())
        raise DataError(
            f"{path}, {row}: a row of a word without a word in the column '{names['text']}' ({n_empty} of "
            f"{int(kept.sum())} are so); choose by `events` the rows that have one."
        )
    kept &= has_text
    if not kept.any():
        raise DataError(f"{path}: no row has a word in the column '{names['text']}'; see `events` and `columns`.")
    where = np.flatnonzero(kept).tolist()
    part = Table(
        path,
        {name: [cells[i] for i in where] for name, cells in table.columns.items()},
        [table.row_names[i] for i in where],
    )
    onset = part.numbers(names["onset"])
    order = np.argsort(onset, kind="stable")
    words = pd.DataFrame(
        {
            "onset": onset,
            "duration": _durations(part, names["duration"], onset, order),
            "text": part.texts(names["text"]),
        }
    )
    if names.get("sentence"):
        values = pd.Series(part.texts(names["sentence"])).iloc[order]
        words = words.iloc[order].assign(sentence=values.ne(values.shift()).cumsum().to_numpy() - 1)
        return words.reset_index(drop=True)
    return words.iloc[order].reset_index(drop=True)


def read_starts(path: Path, rows: Mapping[str, Sequence[str]] | None) -> list[Start]:
    """The rows of an ``events.tsv`` at which stimuli start: those chosen, or those that name a ``stim_file``."""
    table = read_table(path)
    kept = _chosen_rows(table, rows)
    if rows is None and "stim_file" in table.columns:
        kept = np.array([file.lower() not in NOTHING for file in table.texts("stim_file")])
    onset = table.numbers("onset")
    texts = {name: table.texts(name) for name in table.columns}
    return [Start(float(onset[i]), {name: cells[i] for name, cells in texts.items()}) for i in np.flatnonzero(kept)]


def share_words(runs: Mapping[str, pd.DataFrame]) -> list[SharedWords]:
    """Which runs met the same words: those with most words lend them to the others.

    Parameters
    ----------
    runs : mapping of str to pandas.DataFrame
        Words of each run, as `read_event_words` gives them.

    Returns
    -------
    list of SharedWords
        Runs whose words are not those of another's are stimuli of their own.

    Examples
    --------
    >>> words = pd.DataFrame({"onset": [1.0, 2.0], "duration": [0.5, 0.5], "text": ["old", "man"]})
    >>> [shared] = share_words({"s1": words, "s2": words.assign(onset=[5.0, 6.0])})
    >>> shared.words["onset"].tolist(), shared.onset_s["s2"].tolist()
    ([0.0, 1.0], [5.0, 6.0])
    """
    left = dict(sorted(runs.items(), key=lambda item: -len(item[1])))
    shared = []
    while left:
        first = next(iter(left))
        reference = left[first]
        text = reference["text"].tolist()
        onset_s: dict[str, Floats] = {}
        for run, words in list(left.items()):
            matched = match_words(text, words["text"].tolist())
            n_same = int((matched >= 0).sum())
            if run == first or n_same >= max(SAME_STIMULUS * len(words), min(LEAST_WORDS, len(text))):
                times = np.append(words["onset"].to_numpy(dtype=float), np.nan)
                onset_s[run] = times[matched]
                del left[run]
        start_s = float(reference["onset"].iloc[0])
        shared.append(SharedWords(reference.assign(onset=reference["onset"] - start_s), onset_s))
    return shared


def _text_column(table: Table, columns: Mapping[str, str] | None) -> str:
    if columns and "text" in columns:
        return columns["text"]
    found = [name for name in TEXT_COLUMNS if name in table.columns]
    if not found:
        raise RecipeError(
            f"{table.path}: which column holds the words? Say so under `columns`, as {{text: ...}}. "
            f"{nearest('word', table.columns)}"
        )
    return found[0]


def _chosen_rows(table: Table, rows: Mapping[str, Sequence[str]] | None) -> np.ndarray:
    """Which rows have the values wanted; all that are of a word's type where nothing is wanted."""
    kept = np.ones(len(table), dtype=bool)
    if rows is None:
        if _has_word_type(table):
            kept = np.array([kind.lower() in WORD_TYPES for kind in table.texts("trial_type")])
        return kept
    for name, values in rows.items():
        if name not in table.columns:
            raise RecipeError(f"events: {table.path} has no column '{name}'. {nearest(name, table.columns)}")
        kept &= np.isin(table.texts(name), list(values))
    if not kept.any():
        name, values = next(iter(rows.items()))
        raise DataError(f"{table.path}: no row has {name} {' or '.join(map(repr, values))}.")
    return kept


def _has_word_type(table: Table) -> bool:
    return "trial_type" in table.columns and any(kind.lower() in WORD_TYPES for kind in table.texts("trial_type"))


def _durations(table: Table, column: str, onset: Floats, order: np.ndarray) -> Floats:
    given = table.texts(column) if column in table.columns else ["n/a"] * len(table)
    duration = pd.to_numeric(pd.Series(given), errors="coerce").to_numpy(dtype=float)
    after = np.full(len(onset), 0.5)
    after[order[:-1]] = np.minimum(np.diff(onset[order]), 0.5)
    return np.where(np.isfinite(duration) & (duration >= 0), duration, after)
