"""MEG-MASC's words: the text of each sound file, and what an aligner found of it.

Tables of events come in two forms: OSF's, with a dictionary in the column ``trial_type``, and NEMAR's, with a column
for each of its keys.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from brainalign.archives.local_files import require_file
from brainalign.errors import DataError
from brainalign.reading.aligned_words import untimed_words
from brainalign.reading.matching import fill_times, match_words
from brainalign.reading.tables import Table, decode_text, read_table
from brainalign.types import Finding

__all__ = ["CONDITIONS", "read_events", "read_text", "words_of_sound"]

CONDITIONS = ("sentence", "word_list", "pseudo_words")
KEYS = ("story", "sound_id", "start", "word", "condition")
# Four rows in five are of phonemes, whose dictionaries need not be read.
WORD_IN_DICTIONARY = re.compile(r"""['"]kind['"]:\s*['"]word['"]""")
# A sentence ends at one of these, unless the next word goes on in small letters: "Results, Harmon? she asked".
SENTENCE_ENDS = (".", "!", "?")


def read_events(path: Path) -> pd.DataFrame:
    r"""Read which words were heard when.

    Returns
    -------
    pandas.DataFrame
        A row for each word that the aligner found: ``onset`` in the recording, ``duration``, ``start`` in the sound
        file (all in seconds), ``story`` (in small letters), ``sound`` (its number), ``word`` and ``condition``.

    Raises
    ------
    DataError
        If the file is no table of such events; the message names the line.

    Examples
    --------
    >>> import tempfile
    >>> event = {"story": "lw1", "sound_id": 0.0, "kind": "word", "start": 0.5, "word": "None", "condition": "sentence"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "events.tsv"
    ...     _ = file.write_text(f"onset\tduration\ttrial_type\tvalue\tsample\n3.5\t0.2\t{event}\t1\t3500\n")
    ...     read_events(file)
       onset  duration  start story  sound  word condition
    0    3.5       0.2    0.5   lw1      0  None  sentence
    """
    table = _words_of(path, read_table(path))
    return pd.DataFrame(
        {
            "onset": table.numbers("onset"),
            # The two forms differ by a rounding, by which the features of one stimulus shall not.
            "duration": table.numbers("duration").round(4),
            "start": table.numbers("start").round(4),
            "story": [story.lower() for story in table.texts("story")],
            "sound": table.numbers("sound_id").astype(int),
            "word": table.texts("word"),
            "condition": table.texts("condition"),
        }
    )


def read_text(path: Path) -> pd.DataFrame:
    """Read the text of a sound file, in which punctuation stands between blanks.

    Returns
    -------
    pandas.DataFrame
        A row for each word: ``word``, ``after`` (the punctuation behind it, as it is joined to it) and ``sentence``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "lw1_produced_0.txt"
    ...     _ = file.write_text("Tara stood stock - still . Of all the  impertinence !")
    ...     (read_text(file)["word"] + read_text(file)["after"]).tolist()
    ['Tara', 'stood', 'stock -', 'still.', 'Of', 'all', 'the', 'impertinence!']
    """
    rows: list[list[str]] = []
    for piece in decode_text(require_file(path)).split():
        if any(character.isalnum() for character in piece):
            rows.append([piece, ""])
        elif rows:
            rows[-1][1] += piece if piece in ",.;:!?" else f" {piece}"
    if not rows:
        raise DataError(f"{path}: there are no words in it.")
    text = pd.DataFrame(rows, columns=["word", "after"])
    ended = text["after"].map(lambda after: any(end in after for end in SENTENCE_ENDS)).to_numpy()
    begins = np.r_[False, ended[:-1] & ~text["word"].str[0].str.islower().to_numpy()[1:]]
    return text.assign(sentence=np.cumsum(begins).tolist())


def words_of_sound(
    text: pd.DataFrame, story: pd.DataFrame, found: pd.DataFrame, conditions: Collection[str], where: str
) -> tuple[pd.DataFrame, tuple[Finding, ...]]:
    """Give the words of a sound file their times, and keep those of some conditions.

    Parameters
    ----------
    text, story : pandas.DataFrame
        What was spoken in this sound file, and the story as it was written, without lists and pseudo-words: as
        `read_text` gives them.
    found : pandas.DataFrame
        What the aligner found of it, as `read_events` gives it.
    conditions : collection of str
        Of `CONDITIONS`, which words to keep.
    where : str
        For messages.

    Returns
    -------
    words : pandas.DataFrame
        Columns ``onset``, ``duration``, ``text``, ``sentence`` and ``timed`` (whether the aligner found it).
    findings : tuple of Finding
        Codes: ``untimed-words``, ``words-left-out``, ``words-not-in-text``.

    Raises
    ------
    DataError
        If the events are of another text, or no word is of these conditions.
    """
    number = match_words(text["word"].tolist(), found["word"].tolist())
    timed = number >= 0
    if timed.sum() < len(found) / 2:
        raise DataError(
            f"{where}: {timed.sum()} of {len(found)} words of the events are in its text; are they of the same sound?"
        )
    onset = np.where(timed, found["start"].to_numpy()[number], np.nan)
    lengths = text["word"].str.len().tolist()
    # Over all that was spoken, so that no word gets the time of a list.
    start, stop = fill_times(onset, onset + found["duration"].to_numpy()[number], lengths, where)
    condition = _conditions_of(text, story, np.where(timed, found["condition"].to_numpy()[number], ""))
    kept = np.isin(condition, list(conditions))
    if not kept.any():
        raise DataError(f"{where}: it has no words of the condition {' or '.join(conditions)}.")
    after = _moved_punctuation(text["after"].tolist(), kept, condition == "pseudo_words")
    words = pd.DataFrame(
        {
            "onset": start,
            "duration": stop - start,
            "text": text["word"] + after,
            "sentence": text["sentence"],
            "timed": timed,
        }
    )[kept].reset_index(drop=True)
    n_unknown = len(found) - int(timed.sum())
    return words, (*untimed_words(words, where), *_left_out(condition, kept, where), *_unknown(n_unknown, where))


def _words_of(path: Path, table: Table) -> Table:
    """The rows of words, with a column for each key."""
    is_flat = "kind" in table.columns
    cells = table.texts("kind" if is_flat else "trial_type")
    rows = [row for row, cell in enumerate(cells) if cell == "word" or WORD_IN_DICTIONARY.search(cell)]
    if not rows:
        raise DataError(f"{path}: no row is of the kind 'word'.")
    columns = {name: [cells[row] for row in rows] for name, cells in table.columns.items()}
    words = Table(path, columns, [table.row_names[row] for row in rows])
    return words if is_flat else _flattened(words)


def _flattened(table: Table) -> Table:
    """With a column for each key of the dictionaries."""
    cells = zip(table.texts("trial_type"), table.row_names, strict=True)
    events = [_read_dictionary(cell, f"{table.path}, {row}") for cell, row in cells]
    keys = {key: [event.get(key, "n/a") for event in events] for key in KEYS}
    return Table(table.path, {**table.columns, **keys}, table.row_names)


def _read_dictionary(cell: str, where: str) -> dict[str, object]:
    try:
        event = ast.literal_eval(cell)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise DataError(f"{where}: trial_type is no dictionary: {cell[:60]!r}.") from error
    if not isinstance(event, dict):
        raise DataError(f"{where}: trial_type is no dictionary: {cell[:60]!r}.")
    return event


def _conditions_of(text: pd.DataFrame, story: pd.DataFrame, told: np.ndarray) -> np.ndarray:
    """The condition of each word: a list's or a pseudo-word's where the events say so, else by the story as written.

    Of two words of lists the events tell that they are of sentences.
    """
    written = match_words(text["word"].tolist(), _joined(story["word"].tolist())) >= 0
    known = np.flatnonzero(told != "")
    # A word between two that the events tell of is one of a list if either is.
    before = np.searchsorted(known, np.arange(len(told)), side="right") - 1
    neighbours = [known[np.clip(before + step, 0, len(known) - 1)] for step in (0, 1)]
    listed = np.any([told[neighbour] == "word_list" for neighbour in neighbours], axis=0)
    guessed = np.where(written, "sentence", np.where(listed, "word_list", "pseudo_words"))
    return np.where(np.isin(told, CONDITIONS[1:]), told, guessed)


def _joined(words: list[str]) -> list[str]:
    """Words of the story as written, in which "n't" and "'s" stand apart; as spoken, they do not."""
    joined: list[str] = []
    for word in words:
        if joined and (word.startswith("'") or word == "n't"):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _moved_punctuation(after: list[str], kept: np.ndarray, pseudo: np.ndarray) -> list[str]:
    """Punctuation behind a pseudo-word that is left out belongs to the word before, among which it was put."""
    moved = list(after)
    last = None
    for i in range(len(moved)):
        if kept[i]:
            last = i
        elif not pseudo[i]:
            last = None
        elif last is not None and after[i]:
            moved[last] = after[i]
    return moved


def _left_out(condition: np.ndarray, kept: np.ndarray, where: str) -> tuple[Finding, ...]:
    names = {"sentence": "words of sentences", "word_list": "words of random lists", "pseudo_words": "pseudo-words"}
    counts = {name: int(((condition == key) & ~kept).sum()) for key, name in names.items()}
    told = " and ".join(f"{count} {name}" for name, count in counts.items() if count)
    if not told:
        return ()
    message = f"{told}, which were heard among these words, are left out: models do not read them either."
    return (Finding("words-left-out", where, message),)


def _unknown(n_unknown: int, where: str) -> tuple[Finding, ...]:
    if not n_unknown:
        return ()
    message = f"{n_unknown} words of the events are not in the text of the sound file, and are left out."
    return (Finding("words-not-in-text", where, message),)
