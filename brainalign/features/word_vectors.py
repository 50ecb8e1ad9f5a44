"""Static word vectors from a file: GloVe, word2vec, fastText and what is written as they are."""

from __future__ import annotations

import gzip
import itertools
import re
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from brainalign.archives.wheel_files import file_in_wheel
from brainalign.errors import DataError, DataWarning, RecipeError
from brainalign.files import sha256_of_file
from brainalign.types import Features, Floats, Stimulus, StimulusPart

__all__ = ["WordVectors"]

CODE_VERSION = 1

# A stimulus with more of its words missing than this has not been looked up in the right file.
MOST_MISSING = 0.5
# So many words are named in a warning.
NAMED = 10


@dataclass(frozen=True)
class WordVectors:
    r"""Extract each word's vector from a table of vectors, whatever its context.

    A word is looked up as it is, then in lower case, then without the punctuation around it, then both. A word that is
    not in the table gets the mean vector of the stimulus's words that are, so that it says nothing once features are
    centred; a DataWarning names such words, and the metadata has their number and share.

    Parameters
    ----------
    path : Path or str
        A text file with a word and its numbers in each line, with a first line of two counts (word2vec) or without
        (GloVe), also compressed (``.gz``); a ``.npz`` file with the arrays ``words`` and ``vectors`` (word,
        dimension); or a ``.npy`` file with the vectors alone. Nothing pickled is read. It may lie inside a wheel:
        ``wheel:NAME==VERSION/path/in/wheel.npy``.
    words : Path or str, optional
        The words of a ``.npy`` file's rows: a text file with one in each line, or a parquet file with one column.
    root : Path, optional
        What relative paths are relative to; the working folder by default.

    Raises
    ------
    RecipeError
        On construction, if `words` is given without a ``.npy`` file, or is missing with one.
    DataError
        On extraction, if the files cannot be what they should be, or more than half of the words are missing.

    Notes
    -----
    Only rows that are needed are kept in memory, and of a ``.npy`` file only they are read. A text file is read through
    once for each stimulus, so one of several GB had better be turned into ``.npy``. The fingerprint reads files whole.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> words = pd.DataFrame({"onset": [0.0, 0.4], "duration": [0.3, 0.5], "text": ["Hello", "world!"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "tiny.txt").write_text("hello 1.0 0.5\nworld 0.0 -1.0\n")
    ...     WordVectors("tiny.txt", root=Path(folder)).extract(Stimulus("greeting", words)).values[0]
    array([[ 1. ,  0.5],
           [ 0. , -1. ]], dtype=float32)
    """

    path: Path | str
    words: Path | str | None = None
    root: Path | None = None

    reads: ClassVar[tuple[StimulusPart, ...]] = ("text",)

    def __post_init__(self) -> None:
        is_npy = Path(self.path).suffix.lower() == ".npy"
        if is_npy and self.words is None:
            raise RecipeError(f"words: {self.path} holds vectors only; name the file with the words of its rows.")
        if not is_npy and self.words is not None:
            raise RecipeError(f"words: {self.path} names its words itself; leave `words` out.")

    @property
    def name(self) -> str:
        """The feature space's name: that of the file, without folder and endings."""
        return re.sub(r"(\.(txt|vec|csv|tsv|gz|npz|npy))+$", "", Path(self.path).name, flags=re.IGNORECASE)

    def fingerprint(self) -> dict[str, Any]:
        """All that the values depend on besides the stimulus; reads the files for their digests."""
        return {
            "kind": "word_vectors",
            "digests": [sha256_of_file(_required(path)) for path in self._files()],
            "code": CODE_VERSION,
        }

    def extract(self, stimulus: Stimulus) -> Features:
        """Give each word's vector: kind "word", one layer, "vectors".

        The metadata has ``n_missing`` and ``share_missing``, of the stimulus's words.
        """
        texts = [str(text).strip() for text in stimulus.words["text"]]
        forms = {text: _forms(text) for text in dict.fromkeys(texts)}
        table = self._rows({form for several in forms.values() for form in several})
        found = {text: next((form for form in forms[text] if form in table), None) for text in forms}
        missing = [text for text in texts if found[text] is None]
        _check_missing(missing, texts, f"stimulus '{stimulus.id}'", self._files()[0])
        known = np.array([found[text] is not None for text in texts])
        values = np.empty((1, len(texts), len(next(iter(table.values())))), dtype=np.float32)
        values[0, known] = [table[form] for text in texts if (form := found[text]) is not None]
        values[0, ~known] = values[0, known].mean(axis=0, dtype=np.float64)
        return Features(
            name=self.name,
            layers=("vectors",),
            values=values,
            onset_s=stimulus.words["onset"].to_numpy(dtype=float, copy=True),
            duration_s=stimulus.words["duration"].to_numpy(dtype=float, copy=True),
            metadata={
                "dimensions": [f"dimension {number}" for number in range(values.shape[2])],
                "n_missing": len(missing),
                "share_missing": len(missing) / len(texts),
            },
        )

    def _files(self) -> list[Path]:
        return [self._placed(path) for path in (self.path, self.words) if path is not None]

    def _placed(self, path: Path | str) -> Path:
        if str(path).startswith("wheel:"):
            return file_in_wheel(str(path), (".npy", ".npz", ".txt", ".vec", ".gz", ".parquet"))
        return (Path() if self.root is None else self.root) / Path(path).expanduser()

    def _rows(self, wanted: Collection[str]) -> dict[str, Floats]:
        """The vectors of those of the wanted words that the table has; of a word that stands twice the first."""
        path, *words = [_required(path) for path in self._files()]
        try:
            if path.suffix.lower() == ".npy":
                rows = _rows_of_array(
                    np.load(path, mmap_mode="r", allow_pickle=False), _read_words(words[0]), wanted, path
                )
            elif path.suffix.lower() == ".npz":
                # numpy leaves a file open that it opened and found damaged.
                with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                    rows = _rows_of_archive(arrays, wanted, path)
            else:
                with _opened(path) as stream:
                    rows = _rows_of_text(stream, {word.encode() for word in wanted}, path)
        except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{path}: cannot be read as word vectors ({type(error).__name__}: {reason}).") from error
        wrong = next((word for word, row in rows.items() if not np.isfinite(row).all()), None)
        if wrong is not None:
            raise DataError(f"{path}: the vector of '{wrong}' has values that are not finite in float32.")
        return rows


def _forms(text: str) -> tuple[str, ...]:
    """What to look for, in this order."""
    bare = re.sub(r"^[\W_]+|[\W_]+$", "", text)
    return tuple(form for form in dict.fromkeys((text, text.lower(), bare, bare.lower())) if form)


def _check_missing(missing: Sequence[str], texts: Sequence[str], where: str, path: Path) -> None:
    """Warn of words that are not in the table; raise if there are too many."""
    if not missing:
        return
    kinds = list(dict.fromkeys(missing))
    names = ", ".join(kinds[:NAMED]) + (f" and {len(kinds) - NAMED} more" if len(kinds) > NAMED else "")
    share = len(missing) / len(texts)
    what = f"{where}: {len(missing)} of {len(texts)} words ({share:.1%}) have no vector in {path.name}: {names}"
    if share > MOST_MISSING:
        raise DataError(f"{what}. More than half: is it the right file, and in the language of the text?")
    warnings.warn(f"{what}. They get the mean vector of the others.", DataWarning, stacklevel=3)


def _rows_of_text(stream: BinaryIO | gzip.GzipFile, wanted: Collection[bytes], path: Path) -> dict[str, Floats]:
    """Rows of a text file, read line by line."""
    head = list(itertools.islice(stream, 2))
    n_words = _count_in_header(head, path)
    first = head[0] if n_words is None else head[1]
    dimension = len(first.split()) - 1
    if dimension < 1:
        raise DataError(f"{path}: {first[:60]!r} is no word with its numbers.")
    # Most lines are not needed, and are split no further than their first blank; some words have blanks in them.
    beginnings = {word.split(None, 1)[0] for word in wanted}
    rows: dict[str, Floats] = {}
    n_read = 0
    for number, line in enumerate(itertools.chain(head, stream), start=1):
        beginning = line.split(None, 1)[:1]
        if not beginning or (number == 1 and n_words is not None):
            continue
        n_read += 1
        if beginning[0] not in beginnings:
            continue
        word, *numbers = line.rsplit(None, dimension)
        if len(numbers) < dimension:
            raise DataError(f"{path}, line {number}: {len(numbers)} numbers, where the first word has {dimension}.")
        if word in wanted and (text := word.decode()) not in rows:
            rows[text] = _numbers(numbers, path, number)
    if n_words is not None and n_read != n_words:
        raise DataError(f"{path}: its first line promises {n_words} words, and it holds {n_read}; it may be cut off.")
    return rows


def _count_in_header(head: Sequence[bytes], path: Path) -> int | None:
    """The number of words that a first line of two counts states; None where it is a word's line like all others."""
    if not head:
        raise DataError(f"{path}: the file is empty.")
    counts = head[0].split()
    is_header = len(counts) == 2 and all(count.isdigit() for count in counts) and len(head) == 2
    return int(counts[0]) if is_header and len(head[1].split()) - 1 == int(counts[1]) else None


def _numbers(numbers: Sequence[bytes], path: Path, line: int) -> Floats:
    try:
        return _single(np.array([float(number) for number in numbers]))
    except ValueError as error:
        raise DataError(f"{path}, line {line}: {error}; expected a word and {len(numbers)} numbers.") from error


def _rows_of_archive(arrays: Any, wanted: Collection[str], path: Path) -> dict[str, Floats]:
    missing = [name for name in ("words", "vectors") if name not in arrays.files]
    if missing:
        raise DataError(f"{path}: no array '{missing[0]}' in it; found {', '.join(arrays.files) or 'none'}.")
    words = arrays["words"]
    if words.ndim != 1 or words.dtype.kind != "U":
        raise DataError(f"{path}: 'words' is {words.dtype} of shape {words.shape}; expected text of shape (word,).")
    return _rows_of_array(arrays["vectors"], words.tolist(), wanted, path)


def _rows_of_array(vectors: np.ndarray, words: Sequence[str], wanted: Collection[str], path: Path) -> dict[str, Floats]:
    if vectors.ndim != 2 or vectors.dtype.kind not in "iuf" or vectors.shape[1] == 0 or len(vectors) != len(words):
        raise DataError(
            f"{path}: {vectors.dtype} of shape {vectors.shape} for {len(words)} words; expected one row of numbers "
            "per word."
        )
    number_of: dict[str, int] = {}
    for number, word in enumerate(words):
        if word in wanted:
            number_of.setdefault(word, number)
    return {word: _single(vectors[number]) for word, number in number_of.items()}


def _single(numbers: np.ndarray) -> Floats:
    """The same in float32; what is too large becomes infinite, which is refused together with what was."""
    with np.errstate(over="ignore"):
        return np.asarray(numbers).astype(np.float32)


def _read_words(path: Path) -> list[str]:
    """One word per row: the lines of a text file, or the one column of a parquet file."""
    if path.suffix.lower() != ".parquet":
        # No other line breaks than "\n" and "\r\n": tables of vectors have words such as "\x85".
        return path.read_bytes().decode("utf-8-sig").removesuffix("\n").replace("\r\n", "\n").split("\n")
    import pyarrow.lib
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.lib.ArrowException as error:
        raise DataError(f"{path}: not a parquet file that can be read: {error}") from error
    if table.num_columns != 1:
        raise DataError(f"{path}: has the columns {', '.join(table.column_names)}; expected one, with the words.")
    return [str(word) for word in table.column(0).to_pylist()]


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as stream:
        yield stream


def _required(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    return path
