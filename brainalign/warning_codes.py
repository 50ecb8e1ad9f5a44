"""Codes of what makes scores wrong (E) or in need of care (W); they never change their meaning.

An error's message begins with its code. A warning is a `brainalign.types.Finding` with the code as its own, which is
shown in the report and, with ``strict``, becomes an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["CODES", "CODES_OF_FITS", "is_warning", "split_code", "titled"]

CODES: Mapping[str, str] = MappingProxyType(
    {
        "E101": "Held-out samples stand among training samples of the same signal.",
        "E102": "Training and test share a stimulus.",
        "E103": "Features that are said to know nothing of later words change with them.",
        "W201": "The gap between training and test is shorter than the response.",
        "W202": "There are fewer than three runs to hold out, so that folds are blocks within them.",
        "W203": "Many penalties lie at the edge of the grid.",
        "W204": "Simple properties of the words explain nearly all of the score.",
        "W205": "Neighbouring samples alone, without any features, predict responses under these folds.",
        "W206": "A layer, penalty or lag was chosen on the samples that score it.",
        "W207": "There are more features than training samples, and correlation and explained variance disagree.",
        "W208": "The ceiling of some targets is undefined.",
        "W209": "Some targets score above their ceiling.",
        "W210": "A test over subjects takes no account of the stimulus that they share.",
        "W211": "Feature spaces of unlike dimensions are compared.",
        "W212": "Words were read with less context than was asked for.",
        "W213": "A feature has values far outside of all its others.",
        "W214": "With delayed copies of the features, a forecast cannot be told from the latency of the response.",
        "W215": "Samples that still resemble their neighbours enter a comparison of similarities.",
        "W216": "Responses follow words sooner or later than the haemodynamic response does.",
    }
)
"""Each code, and in one sentence what it says."""

CODES_OF_FITS = frozenset({"W201", "W203", "W204", "W205", "W206", "W207"})
"""Those that are warned of as a `brainalign.errors.FitWarning`; the others are a ``DataWarning``."""

BEGINS_WITH_CODE = re.compile(r"([EW]\d{3}): (.+)", re.DOTALL)


def is_warning(code: str) -> bool:
    """Whether this is the code of a warning, of those that `CODES` has.

    >>> is_warning("W203"), is_warning("E101"), is_warning("constant-target")
    (True, False, False)
    """
    return code in CODES and code.startswith("W")


def split_code(message: str) -> tuple[str, str]:
    """The code that a message begins with, empty where there is none, and the rest of it.

    >>> split_code("W212: stimulus 'a': 5% of the words ...")
    ('W212', "stimulus 'a': 5% of the words ...")
    >>> split_code("stimulus 'a': no word is known.")
    ('', "stimulus 'a': no word is known.")
    """
    found = BEGINS_WITH_CODE.fullmatch(message)
    if found is None or found[1] not in CODES:
        return "", message
    return found[1], found[2]


def titled(code: str, where: str) -> str:
    """What to write above a finding: what its code says, if it is one of these, and where.

    >>> titled("W203", "gpt2")
    'Many penalties lie at the edge of the grid (gpt2)'
    >>> titled("constant-target", "subject 01, run 1")
    'subject 01, run 1'
    """
    return f"{CODES[code].removesuffix('.')} ({where})" if code in CODES else where
