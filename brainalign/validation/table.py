"""The table of ground truths: which function checks which, and all of them one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module

from brainalign.errors import RecipeError, nearest
from brainalign.validation.checks import Check, Size

__all__ = ["DESIGNS", "validate"]

# In the order in which they are printed. The modules are imported when their turn comes: some need torch or MNE.
DESIGNS: Mapping[str, str] = {
    "V1": "numerics:v1",
    "V2": "planted:v2",
    "V3": "planted:v3",
    "V4": "leaks:v4",
    "V4b": "leaks:v4b",
    "V5": "nulls:v5",
    "V5b": "refits:v5b",
    "V6": "ceilings:v6",
    "V6b": "ceilings:v6b",
    "V7a": "forecasts:v7a",
    "V7b": "forecasts:v7b",
    "V8": "partitions:v8",
    "V9": "numerics:v9",
    "V10": "partitions:v10",
    "V11": "planted:v11",
    "V12": "similarity:v12",
    "V13": "leaks:v13",
    "V14": "nulls:v14",
    "V15": "hierarchies:v15",
    "V16": "extraction:v16",
}


def validate(ids: Sequence[str] | None = None, size: Size = "quick", seed: int = 0) -> Iterator[Check]:
    """Simulate data in which the truth is known, and say whether the methods find it.

    Parameters
    ----------
    ids : sequence of str, optional
        Which ground truths, of `DESIGNS`, in upper or lower case; all by default.
    size : {"quick", "full"}
        "quick" takes a few minutes for all, with fewer repetitions and criteria to match; "full" the designs as
        specified.
    seed : int
        Of all that is drawn.

    Yields
    ------
    Check
        As they are done, design by design.

    Raises
    ------
    RecipeError
        At once, if there is no such ground truth.

    Examples
    --------
    >>> [check.passed for check in validate(["V9"])]
    [True, True, True, True]
    """
    by_lower = {name.lower(): name for name in DESIGNS}
    unknown = [name for name in ids or () if name.lower() not in by_lower]
    if unknown:
        raise RecipeError(f"There is no ground truth '{unknown[0]}'. {nearest(unknown[0].upper(), DESIGNS)}")
    return _checks([by_lower[name.lower()] for name in ids] if ids else list(DESIGNS), size, seed)


def _checks(names: Sequence[str], size: Size, seed: int) -> Iterator[Check]:
    for name in names:
        module, _, function = DESIGNS[name].partition(":")
        yield from getattr(import_module(f"brainalign.validation.{module}"), function)(size=size, seed=seed)
