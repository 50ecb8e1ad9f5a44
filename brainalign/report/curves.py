"""Which layers follow each other: what figures draw as one line, and how they call it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["Curve", "curves", "is_numbered", "layer_called"]

NUMBERED = re.compile(r"(?P<stack>encoder |decoder |)layer (?P<number>\d+)(?P<output> attention| mlp|)")


@dataclass(frozen=True)
class Curve:
    """Layers of one feature space that follow each other: all of it, or one part (attention, mlp, encoder, decoder).

    Parameters
    ----------
    name : str
        The feature space, its part if the space has others too, and if it is a single layer, which.
    rows : array of int
        Places along ``layer``.
    numbers : array of int
        The layers' numbers as their names say ("layer 3 attention" is 3), else their index.
    """

    name: str
    rows: NDArray[np.intp]
    numbers: NDArray[np.intp]

    @property
    def is_single(self) -> bool:
        """Whether there is but one layer, so that there is no line to draw."""
        return len(self.rows) == 1


def curves(layers: pd.DataFrame) -> list[Curve]:
    """Part rows of `layer_table`, whose index is their place along ``layer``, into curves, first come first.

    Examples
    --------
    >>> names = ["layer 1 attention", "layer 1 mlp", "layer 2 attention", "layer 2 mlp", "pitch"]
    >>> layers = pd.DataFrame(
    ...     {"feature_space": ["gpt2"] * 4 + ["pitch"], "layer_name": names, "layer": [0, 1, 2, 3, 0]}
    ... )
    >>> for curve in curves(layers):
    ...     print(curve.name, curve.rows, curve.numbers)
    gpt2, attention [0 2] [1 2]
    gpt2, mlp [1 3] [1 2]
    pitch [4] [0]
    """
    groups = layers.groupby([layers["feature_space"], layers["layer_name"].map(_part)], sort=False)
    return [_curve(str(space), str(part), rows) for (space, part), rows in groups]


def layer_called(space: str, layer_name: str) -> str:
    """Name a layer with its feature space, once where the two are the same.

    >>> layer_called("gpt2", "layer 3"), layer_called("pitch", "pitch")
    ('gpt2, layer 3', 'pitch')
    """
    return space if layer_name == space else f"{space}, {layer_name}"


def is_numbered(layer_name: str) -> bool:
    """Whether a name says which layer it is, as "layer 3 attention" does."""
    return NUMBERED.fullmatch(layer_name) is not None


def _curve(space: str, part: str, rows: pd.DataFrame) -> Curve:
    several = f"{space}, {part}" if part else space
    name = layer_called(space, rows["layer_name"].iloc[0]) if len(rows) == 1 else several
    numbers = [_number(name, index) for name, index in zip(rows["layer_name"], rows["layer"], strict=True)]
    return Curve(name, rows.index.to_numpy(), np.array(numbers))


def _part(layer_name: str) -> str:
    """Of "encoder layer 3" the encoder, of "layer 3 mlp" the mlp; nothing of names that follow no such pattern."""
    if layer_name == "static":
        return layer_name
    found = NUMBERED.fullmatch(layer_name)
    return f"{found['stack']}{found['output']}".strip() if found else ""


def _number(layer_name: str, index: int) -> int:
    found = NUMBERED.fullmatch(layer_name)
    return int(found["number"]) if found else int(index)
