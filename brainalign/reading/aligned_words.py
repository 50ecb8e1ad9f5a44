"""Words as programs of forced alignment write them: gentle's JSON and csv, and CTM.

Such a program does not find every word, and some in the wrong place, before the word that they follow. They stay in the
text, at a time between their neighbours', and are marked: a column ``timed`` is False for them.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign.archives.local_files import require_file
from brainalign.errors import DataError
from brainalign.reading.matching import fill_times, in_order
from brainalign.reading.tables import decode_text
from brainalign.types import Finding

# gentle writes none of these; people who passed its csv on did.
HEADERS = (["onset", "offset"], ["start", "end"])

__all__ = ["read_ctm", "read_gentle", "untimed_words"]


def read_gentle(path: Path) -> pd.DataFrame:
    r"""Words of gentle's ``align.json``, or of its ``align.csv``, which has no header as gentle writes it.

    Parameters
    ----------
    path : Path
        The csv's cells are the word of the text, the word as aligned, its start and its end, in seconds; the last
        three are empty where it was not found.

    Returns
    -------
    pandas.DataFrame
        Columns ``onset``, ``duration``, ``text`` (as in the transcript, with its case) and ``timed``.

    Raises
    ------
    DataError
        If the file is neither, or no word was found.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "align.csv"
    ...     _ = file.write_text("So,so,0.25,0.5\nI,,,\nwas,was,1.0,1.5\n")
    ...     read_gentle(file)
       onset  duration text  timed
    0   0.25      0.25   So   True
    1   0.50      0.50    I  False
    2   1.00      0.50  was   True
    """
    require_file(path)
    rows = _rows_of_json(path) if path.suffix.lower() == ".json" else _rows_of_csv(path)
    return _filled([word for word, _, _ in rows], [start for _, start, _ in rows], [end for _, _, end in rows], path)


def read_ctm(path: Path) -> pd.DataFrame:
    """Words of a CTM file: recording, channel, start, duration, word, and at will a confidence, between blanks.

    Lines that begin with ";;" are comments; "<eps>" is a silence.

    Raises
    ------
    DataError
        If a line is none of these; the message names it.
    """
    rows = []
    for number, line in enumerate(decode_text(require_file(path)).splitlines(), start=1):
        cells = line.split()
        if not cells or line.startswith(";;"):
            continue
        try:
            start, duration, word = float(cells[2]), float(cells[3]), cells[4]
        except (IndexError, ValueError) as error:
            raise DataError(
                f"{path}, line {number}: {line[:60]!r}; expected recording, channel, start, duration and word."
            ) from error
        if word.lower() not in ("<eps>", "sil", "<sil>"):
            rows.append((word, start, start + duration))
    return _filled([word for word, _, _ in rows], [start for _, start, _ in rows], [end for _, _, end in rows], path)


def untimed_words(words: pd.DataFrame, where: str) -> tuple[Finding, ...]:
    """What is to be told of words whose times were filled in: nothing, or one finding of code ``untimed-words``."""
    if "timed" not in words or words["timed"].all():
        return ()
    lacking = words.loc[~words["timed"], "text"]
    share = len(lacking) / len(words)
    message = (
        f"{len(lacking)} of {len(words)} words ({share:.1%}) were not found in the sound and got times between their "
        f"neighbours': {', '.join(lacking[:5])}{' ...' if len(lacking) > 5 else '.'}"
    )
    return (Finding("untimed-words", where, message),)


def _rows_of_json(path: Path) -> list[tuple[str, float, float]]:
    try:
        content = json.loads(decode_text(path))
        return [_row_of_json(entry) for entry in content["words"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not what gentle writes ({type(error).__name__}: {error}).") from error


def _row_of_json(entry: dict[str, Any]) -> tuple[str, float, float]:
    if entry["case"] != "success":
        return str(entry["word"]), np.nan, np.nan
    return str(entry["word"]), float(entry["start"]), float(entry["end"])


def _rows_of_csv(path: Path) -> list[tuple[str, float, float]]:
    rows = []
    for number, cells in enumerate(csv.reader(io.StringIO(decode_text(path), newline="")), start=1):
        if not cells or (number == 1 and [cell.lower() for cell in cells[2:]] in HEADERS):
            continue
        try:
            word, _, start, end = cells
            rows.append((word, float(start or "nan"), float(end or "nan")))
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}: expected a word, the word as aligned, its start and its end, not {cells}."
            ) from error
    return rows


def _filled(text: list[str], start_s: list[float], end_s: list[float], path: Path) -> pd.DataFrame:
    if not text:
        raise DataError(f"{path}: there are no words in it.")
    # What was found before the word that it follows was found in the wrong place.
    timed = in_order(np.where(np.isfinite(end_s), start_s, np.nan))
    start, end = np.where(timed, start_s, np.nan), np.where(timed, end_s, np.nan)
    onset, offset = fill_times(start, end, [len(word) for word in text], str(path))
    return pd.DataFrame({"onset": onset, "duration": offset - onset, "text": text, "timed": timed})
