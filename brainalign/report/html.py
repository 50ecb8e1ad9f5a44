"""What the pages share: one file that opens offline and can run nothing, its tables and its pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainalign.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from brainalign.report.figures import CaptionedFigure

__all__ = ["Picture", "Section", "Table", "picture", "table_of", "write_page"]


@dataclass(frozen=True)
class Table:
    """A table as the page shows it: every cell is text; `is_text` says which columns are not numbers.

    `groups` are rows under a title of their own; a single group without one is a plain table.
    """

    headers: tuple[str, ...]
    groups: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]
    is_text: tuple[bool, ...]

    @property
    def n_rows(self) -> int:
        """Of all groups."""
        return sum(len(rows) for _, rows in self.groups)


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it: a data URI, and the caption, which is also its alternative text."""

    title: str
    source: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of the page: sentences, then pictures, then tables under their captions; `folded` ones open on a click."""

    title: str
    paragraphs: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[tuple[str, Table], ...] = ()
    folded: tuple[tuple[str, Table], ...] = ()


def table_of(rows: Sequence[Mapping[str, str]], text: Sequence[str] = ()) -> Table:
    """Rows of written-out cells as a table whose headers are their keys; `text` names the columns of words.

    Examples
    --------
    >>> table_of([{"layer": "3", "r": "0.120"}]).headers
    ('layer', 'r')
    """
    headers = tuple(dict.fromkeys(header for row in rows for header in row))
    cells = tuple(tuple(row.get(header, "") for header in headers) for row in rows)
    return Table(headers, (("", cells),), tuple(header in text for header in headers))


def picture(title: str, figure: CaptionedFigure) -> Picture:
    """The figure under a title."""
    return Picture(title, _data_uri(figure), figure.caption)


def write_page(template: str, path: Path, **content: Any) -> None:
    """Fill a template of this package; every string is shown as text, and the file appears whole or not at all."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("brainalign.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(**content)
    with atomic_path(Path(path)) as part:
        # Names of files may hold bytes that are no characters (lone surrogates); a "?" stands for those.
        part.write_bytes(page.encode("utf-8", errors="replace"))


def _data_uri(figure: Figure) -> str:
    """The figure as SVG. Its text stays text, so that the reader's fonts show the scripts that ours lack."""
    import warnings

    from matplotlib import rc_context

    buffer = BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "brainalign"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(buffer, format="svg", dpi=150, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
