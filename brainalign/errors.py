"""The errors and warnings that brainalign raises on purpose.

    BrainalignError                 something the user can mend (exit code 2)
    |-- RecipeError                 a recipe or an argument: an unknown key, a wrong value
    |-- DataError                   a file or table that cannot be what it should be
    |-- ChecksumError               a file whose bytes are not the expected ones
    |-- UnreachableError            a dataset or model that cannot be had from here
    `-- MissingExtraError                an optional package that is not installed

    BrainalignWarning
    |-- DataWarning                 data left out or defaulted, by name
    |-- FitWarning                  a fit to be read with care: penalties at the grid's edge, constant targets
    `-- StoreWarning                a stored result that was damaged and is computed again

Anything else that escapes is a defect of brainalign and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

__all__ = [
    "BrainalignError",
    "BrainalignWarning",
    "ChecksumError",
    "DataError",
    "DataWarning",
    "FitWarning",
    "MissingExtraError",
    "RecipeError",
    "StoreWarning",
    "UnreachableError",
    "listed",
    "nearest",
]

# Names listed before the rest is only counted.
LISTED = 5


class BrainalignError(Exception):
    """Something the user can mend; the message says what, where and how."""


class RecipeError(BrainalignError):
    """A recipe or an argument asks for what does not exist."""


class DataError(BrainalignError):
    """A file or a table cannot be what it should be."""


class ChecksumError(BrainalignError):
    """A file's bytes are not the expected ones; nothing of it was kept."""


class UnreachableError(BrainalignError):
    """A dataset or a model cannot be had from this machine."""


class MissingExtraError(BrainalignError):
    """An optional package is not installed.

    Parameters
    ----------
    purpose : str
        What it is needed for, as the start of a sentence ("GGUF models").
    package : str
        The package that could not be imported.
    extra : str
        The extra of brainalign that installs it.
    """

    def __init__(self, purpose: str, package: str, extra: str) -> None:
        super().__init__(f"{purpose} need the package '{package}': pip install 'brainalign[{extra}]'")


class BrainalignWarning(UserWarning):
    """The category of all of brainalign's warnings."""


class DataWarning(BrainalignWarning):
    """Data were left out or defaulted; the message names them."""


class FitWarning(BrainalignWarning):
    """A fit is to be read with care; the message names the targets or layers."""


class StoreWarning(BrainalignWarning):
    """A stored result was damaged and is computed again."""


def nearest(wrong: str, known: Iterable[str]) -> str:
    """Say which known name `wrong` may stand for, and list the known ones.

    >>> nearest("laeyrs", ["layers", "model"])
    "Did you mean 'layers'? Known: layers, model."
    """
    names = sorted(known)
    close = get_close_matches(wrong, names, n=1, cutoff=0.5)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    return f"{hint}Known: {', '.join(names) or 'none'}."


def listed(names: Sequence[object]) -> str:
    """The first names, and how many more there are.

    >>> listed(["a", "b", "c", "d", "e", "f", "g"])
    'a, b, c, d, e and 2 more'
    """
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(map(str, names[:LISTED])) + more
