"""Word times from tables (csv, tsv, parquet), Praat TextGrids, and what programs of forced alignment write."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from brainalign.archives.local_files import require_file
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.reading.aligned_words import read_ctm, read_gentle
from brainalign.reading.tables import Table, decode_text, read_table
from brainalign.types import check_words

if TYPE_CHECKING:
    from praatio.data_classes.interval_tier import IntervalTier

__all__ = ["SILENCES", "read_words"]

SILENCES = ("", "sp", "sil", "silence", "pau", "#", "<sil>", "<p:>", "{sl}")
"""Labels of a TextGrid's intervals in which nothing is said, in lower case."""

COLUMNS = ("onset", "duration", "offset", "text", "sentence")


def read_words(
    path: Path | str,
    *,
    columns: Mapping[str, str] | None = None,
    tier: str | None = None,
    silences: Collection[str] = SILENCES,
) -> pd.DataFrame:
    r"""Read when each word begins, how long it lasts, and which it is.

    Parameters
    ----------
    path : Path or str
        A ``.csv``, ``.tsv``, ``.parquet``, ``.TextGrid``, gentle's ``.json`` or ``.ctm`` file.
    columns : mapping of str to str, optional
        What a table calls ``onset``, ``duration`` (or ``offset``, the end), ``text`` and ``sentence``, where it does
        not call them so: ``{"text": "word"}``. Without a duration a column ``offset`` or ``end`` is taken.
    tier : str, optional
        The TextGrid's tier of words; by default the only one, or the one named "word" or "words".
    silences : collection of str
        Labels of intervals that are no words, in lower case; they are left out. Tables have no such rows.

    Returns
    -------
    pandas.DataFrame
        Columns ``onset`` and ``duration`` in seconds, ``text``, and, where the table tells, ``sentence``: 0, 1, 2 ...,
        one more wherever the table's value changes. Other columns are left behind. Of gentle's words and of CTM's, a
        column ``timed`` tells which were found in the sound; the others got times between their neighbours'.

    Raises
    ------
    DataError
        If the file is no such table, or the words cannot be right: unsorted, a missing or negative time, no text. The
        message names file and line.
    RecipeError
        If `columns` names what there is not.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder) / "words.csv"
    ...     _ = table.write_text("start,end,word\n0.0,0.25,None\n0.25,1.0,knew\n")
    ...     read_words(table, columns={"onset": "start", "text": "word"})
       onset  duration  text
    0   0.00      0.25  None
    1   0.25      0.75  knew
    """
    path = Path(path)
    if path.suffix.lower() == ".textgrid":
        words, row_names = _read_textgrid(path, tier, silences)
    elif path.suffix.lower() in (".json", ".ctm"):
        words = read_gentle(path) if path.suffix.lower() == ".json" else read_ctm(path)
        row_names = [f"word {i + 1}" for i in range(len(words))]
    else:
        table = read_table(path)
        words, row_names = _words_of_table(table, _names_in(table, columns or {})), table.row_names
    _check_text(words, path)
    check_words(words, str(path), row_names)
    return words


def _names_in(table: Table, columns: Mapping[str, str]) -> dict[str, str]:
    """What the table calls each of our columns that it has."""
    unknown = [ours for ours in columns if ours not in COLUMNS]
    if unknown:
        raise RecipeError(f"columns: no column '{unknown[0]}' is read. {nearest(unknown[0], COLUMNS)}")
    for ours, theirs in columns.items():
        if theirs not in table.columns:
            raise RecipeError(
                f"columns: {ours}: {table.path} has no column '{theirs}'. {nearest(theirs, table.columns)}"
            )
    names = {ours: columns.get(ours, ours) for ours in COLUMNS if columns.get(ours, ours) in table.columns}
    if "offset" not in names and "end" in table.columns:
        names["offset"] = "end"
    missing = [repr(ours) for ours in ("onset", "text") if ours not in names]
    if "duration" not in names and "offset" not in names:
        missing.append("'duration' (or 'offset', 'end')")
    if missing:
        raise DataError(
            f"{table.path}: no column {', '.join(missing)}; found {', '.join(map(repr, table.columns))}.\n"
            "Where they are called otherwise, say so under `columns`, for example {text: word}."
        )
    return names


def _words_of_table(table: Table, names: Mapping[str, str]) -> pd.DataFrame:
    onset = table.numbers(names["onset"])
    duration = table.numbers(names["duration"]) if "duration" in names else table.numbers(names["offset"]) - onset
    words = pd.DataFrame({"onset": onset, "duration": duration, "text": table.texts(names["text"])})
    return words.assign(sentence=_number_sentences(table, names["sentence"])) if "sentence" in names else words


def _number_sentences(table: Table, column: str) -> list[int]:
    values = np.array(table.texts(column))
    if (values == "").any():
        raise DataError(f"{table.path}, {table.row_names[int(np.argmax(values == ''))]}: {column} is empty.")
    return np.cumsum(np.r_[False, values[1:] != values[:-1]]).tolist()


def _check_text(words: pd.DataFrame, path: Path) -> None:
    if not any(character.isalnum() for text in words["text"] for character in text):
        raise DataError(f"{path}: the text holds no words, only blanks or punctuation.")


def _read_textgrid(path: Path, tier: str | None, silences: Collection[str]) -> tuple[pd.DataFrame, list[str]]:
    entries = _open_tier(path, tier).entries
    spoken = [(i, entry) for i, entry in enumerate(entries) if entry.label.strip().lower() not in silences]
    if not spoken:
        raise DataError(f"{path}: no interval of the tier holds a word.")
    words = pd.DataFrame(
        {
            "onset": [float(entry.start) for _, entry in spoken],
            "duration": [float(entry.end) - float(entry.start) for _, entry in spoken],
            "text": [entry.label.strip() for _, entry in spoken],
        }
    )
    return words, [f"interval {i + 1}" for i, _ in spoken]


def _open_tier(path: Path, tier: str | None) -> IntervalTier:
    from praatio import textgrid
    from praatio.data_classes.interval_tier import IntervalTier

    text = decode_text(require_file(path))
    with tempfile.TemporaryDirectory() as folder:
        # praatio does not know of byte-order marks, so it gets plain UTF-8.
        plain = Path(folder) / "plain.TextGrid"
        plain.write_text(text, encoding="utf-8")
        try:
            grid = textgrid.openTextgrid(str(plain), includeEmptyIntervals=True, reportingMode="silence")
        except Exception as error:  # praatio meets a malformed file with whatever its parser stumbles over
            raise DataError(f"{path}: not a TextGrid that can be read ({type(error).__name__}: {error}).") from error
    tiers = {name: grid.getTier(name) for name in grid.tierNames}
    found = {name: tier for name, tier in tiers.items() if isinstance(tier, IntervalTier)}
    name = _choose_tier(path, tier, list(found))
    return found[name]


def _choose_tier(path: Path, tier: str | None, found: list[str]) -> str:
    if tier is not None and tier not in found:
        raise RecipeError(f"{path}: no tier of intervals is named '{tier}'. {nearest(tier, found)}")
    likely = [tier] if tier is not None else [name for name in found if name.lower() in ("word", "words")] or found
    if len(likely) != 1:
        raise RecipeError(f"{path}: which tier holds the words? Found: {', '.join(map(repr, found)) or 'none'}.")
    return likely[0]
