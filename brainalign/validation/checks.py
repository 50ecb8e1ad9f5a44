"""A check of the methods: data in which the truth is known, what must come back, and what did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Size"]

# "quick" is for a test suite: the same designs with fewer repetitions and the criteria that these allow.
Size = Literal["quick", "full"]


@dataclass(frozen=True)
class Check:
    """One line of the table that `brainalign validate` prints.

    Parameters
    ----------
    id : str
        "V1" to "V16", with a letter where one has several parts.
    design : str
        What was simulated.
    criterion : str
        What must hold, with its figures.
    observed : str
        The figures that came out.
    passed : bool
    """

    id: str
    design: str
    criterion: str
    observed: str
    passed: bool
