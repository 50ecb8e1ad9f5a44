"""What sections call the layers."""

from __future__ import annotations

from brainalign.report.means import layer_table
from brainalign.types import Scores

__all__ = ["layer_names"]


def layer_names(scores: Scores) -> list[str]:
    """Each layer's name, with its feature space before it where there are several spaces.

    Examples
    --------
    >>> scores = Scores(coords={
    ...     "feature_space": ("layer", ["gpt2", "pitch"]), "layer_name": ("layer", ["layer 3", "pitch"]),
    ...     "layer_index": ("layer", [3, 0]), "depth": ("layer", [1.0, 0.0]),
    ... })
    >>> layer_names(scores)
    ['gpt2, layer 3', 'pitch']
    """
    table = layer_table(scores)
    several = table["feature_space"].nunique() > 1
    return [
        f"{space}, {layer}" if several and space != layer else layer
        for space, layer in zip(table["feature_space"], table["layer_name"], strict=True)
    ]
