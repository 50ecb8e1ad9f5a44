"""What ``--set`` says of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["settings_of"]


def settings_of(changes: Sequence[str]) -> dict[str, Any]:
    """The loader's settings, from ``key=value`` each, the key dotted where settings are nested."""
    from brainalign.config import apply_change

    settings: dict[str, Any] = {}
    for change in changes:
        apply_change(settings, change)
    return settings
