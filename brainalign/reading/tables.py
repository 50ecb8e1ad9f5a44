"""Tables as they are: csv, tsv and parquet, read strictly, every fault with its line.

No cell is guessed at: the words "None", "NA" and "null" stay words, and rows are never merged, padded or dropped.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brainalign.archives.local_files import require_file
from brainalign.errors import DataError, nearest
from brainalign.types import Floats

__all__ = ["Table", "decode_text", "read_table"]

SUFFIXES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Table:
    """The cells of a file.

    Parameters
    ----------
    path : Path
        The file.
    columns : mapping of str to sequence
        The cells of each column: text, or, from parquet, what the file holds (None where that is nothing).
    row_names : sequence of str
        What to call each row in messages: "line 2" ...
    """

    path: Path
    columns: Mapping[str, Sequence[object]]
    row_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.row_names)

    def texts(self, column: str) -> list[str]:
        """The cells of `column` as text, without blanks around; empty where parquet holds nothing."""
        return ["" if _is_nothing(cell) else str(cell).strip() for cell in self._cells(column)]

    def numbers(self, column: str) -> Floats:
        """The cells of `column` as numbers, shape (n_rows,).

        Raises
        ------
        DataError
            At the first that is none, with its line.
        """
        cells = self._cells(column)
        return np.array(
            [self._number(cell, column, row) for cell, row in zip(cells, self.row_names, strict=True)], dtype=float
        )

    def _cells(self, column: str) -> Sequence[object]:
        if column not in self.columns:
            raise DataError(f"{self.path}: no column '{column}'. {nearest(column, self.columns)}")
        return self.columns[column]

    def _number(self, cell: object, column: str, row: str) -> float:
        text = "" if _is_nothing(cell) else str(cell).strip()
        try:
            # Python reads "1_000" as a number; no table means it so.
            value = float(text.replace("_", "x"))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            comma = " Write the decimal sign as a point." if text.replace(",", "", 1).strip("+-").isdigit() else ""
            raise DataError(f"{self.path}, {row}: {column} {text!r} is not a finite number.{comma}")
        return value


def read_table(path: Path) -> Table:
    r"""Read a csv, tsv or parquet file.

    Text is UTF-8 with or without a byte-order mark, or UTF-16 with one. In csv, cells may be quoted; in tsv a quotation
    mark is a character like others.

    Raises
    ------
    DataError
        If the file is missing, of another kind, not text, or its rows are not all as long as its first line; the
        message names the line.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "words.csv"
    ...     _ = path.write_text("onset,text\n0.5,None\n")
    ...     read_table(path).columns
    {'onset': ['0.5'], 'text': ['None']}
    """
    require_file(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: tables are read from {', '.join(SUFFIXES)}, not '{path.suffix}'.")
    table = _read_parquet(path) if suffix == ".parquet" else _read_text_table(path, suffix)
    if len(table) == 0:
        raise DataError(f"{path}: the table has no rows.")
    return table


def decode_text(path: Path) -> str:
    """The text of a file in UTF-8 (a byte-order mark is dropped), or in UTF-16 with a byte-order mark.

    Raises
    ------
    DataError
        If it is neither, with the line of the first wrong byte.
    """
    content = path.read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: not {encoding.removesuffix('-sig')} text; save it as UTF-8.") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}, line {line}: holds a zero byte; the file is damaged or no text.")
    return text


def _read_text_table(path: Path, suffix: str) -> Table:
    lines = csv.reader(
        io.StringIO(decode_text(path), newline=""),
        delimiter="," if suffix == ".csv" else "\t",
        quoting=csv.QUOTE_MINIMAL if suffix == ".csv" else csv.QUOTE_NONE,
        strict=True,
    )
    header: list[str] = []
    rows: list[list[str]] = []
    row_names: list[str] = []
    start = 1
    try:
        for cells in lines:
            _check_row(path, start, cells, header)
            if cells and not header:
                header = _checked_header(path, [cell.strip() for cell in cells])
            elif cells:
                rows.append(cells)
                row_names.append(f"line {start}")
            start = lines.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {start}: {error}; look for a quotation mark without its partner.") from error
    return Table(path, {name: [row[i] for row in rows] for i, name in enumerate(header)}, row_names)


def _check_row(path: Path, line: int, cells: list[str], header: list[str]) -> None:
    # A quotation mark without its partner swallows line breaks up to the next one; no cell of ours holds any.
    if any("\n" in cell or "\r" in cell for cell in cells):
        raise DataError(f"{path}, line {line}: a quotation mark without its partner joins this line to the next.")
    if cells and header and len(cells) != len(header):
        raise DataError(f"{path}, line {line}: {len(cells)} cells; the first line has {len(header)}.")


def _checked_header(path: Path, header: list[str]) -> list[str]:
    other = next((sign for sign in ("\t", ";", ",") if len(header) == 1 and sign in header[0]), None)
    if other is not None:
        names = {"\t": "tabs", ";": "semicolons", ",": "commas"}
        right = "tabs" if path.suffix.lower() == ".tsv" else "commas"
        raise DataError(f"{path}: its columns are separated by {names[other]}; in a {path.suffix} it must be {right}.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path}: more than one column is named {', '.join(map(repr, twice))}.")
    return header


def _read_parquet(path: Path) -> Table:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        content = ParquetFile(path).read()
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: not a parquet file that can be read: {str(error).splitlines()[0]}") from error
    _checked_header(path, content.column_names)
    return Table(path, content.to_pydict(), [f"row {i + 1}" for i in range(content.num_rows)])


def _is_nothing(cell: object) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))
