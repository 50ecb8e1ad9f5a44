"""Numbers and p values as the report writes them."""

from __future__ import annotations

import numpy as np

__all__ = ["equals", "number", "p_text", "signed"]


def number(value: float, digits: int = 3) -> str:
    """Write `value` with a true minus sign; what is undefined is a dash.

    >>> number(-0.01234), number(float("nan"))
    ('−0.012', '–')
    """
    return f"{value:z.{digits}f}".replace("-", "\N{MINUS SIGN}") if np.isfinite(value) else "\N{EN DASH}"


def signed(value: float, digits: int = 3) -> str:
    """Write `value` like `number`, with a plus sign where it is positive."""
    return ("+" if round(value, digits) > 0 else "") + number(value, digits)


def p_text(p: float, n_permutations: int | None = None) -> str:
    """Write a p value; the smallest that so many permutations can give is written as a bound.

    Examples
    --------
    >>> p_text(0.0321), p_text(1 / 1001, 1000), p_text(2e-9)
    ('.032', '≤ .001', '< .001')
    """
    if not np.isfinite(p):
        return number(np.nan)
    if p < 0.0005:
        return "< .001"
    is_smallest = n_permutations is not None and p <= 1.0 / (1 + n_permutations) + 1e-9
    return f"\N{LESS-THAN OR EQUAL TO} {_short(p)}" if is_smallest else _short(p)


def equals(p: float, n_permutations: int | None = None) -> str:
    """What follows the letter p: the value, or the smallest that so many permutations can give as a bound.

    >>> equals(0.0321), equals(1 / 1001, 1000)
    ('= .032', '≤ .001')
    """
    text = p_text(p, n_permutations)
    return text if text[0] in "<\N{LESS-THAN OR EQUAL TO}" else f"= {text}"


def _short(p: float) -> str:
    return f"{p:.3f}".removeprefix("0") if p < 0.9995 else "1"
