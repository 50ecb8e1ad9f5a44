"""What the stages that run a model share: trained or untrained weights, and being told apart by them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from brainalign.errors import RecipeError

__all__ = ["ModelStage"]


class ModelStage:
    """A stage with the settings `layers` and `untrained`; its subclasses are frozen dataclasses with ``eq=False``.

    Two stages are equal if their settings are written alike: True == 1 and False == 0 in Python, but ``untrained=True``
    draws with seed 0 and ``untrained=1`` with seed 1.
    """

    @property
    @abstractmethod
    def layers(self) -> str | tuple[int | str, ...]:
        """Which layers to give."""

    @property
    @abstractmethod
    def untrained(self) -> bool | int:
        """Whether weights are random, and their seed."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    def seed(self) -> int | None:
        """The seed of an untrained model's weights; None for a trained one."""
        if isinstance(self.untrained, bool):
            return 0 if self.untrained else None
        return int(self.untrained)

    def _take_layers(self, words: tuple[str, ...]) -> None:
        """Keep a list of layers, as recipes give it, as a tuple; raise if it is empty, repeats, or is no known word."""
        if isinstance(self.layers, str):
            if self.layers not in words:
                known = " or ".join(f"'{word}'" for word in words)
                raise RecipeError(f"layers: {known} or a list of numbers, not '{self.layers}'.")
            return
        layers = tuple(self.layers) if isinstance(self.layers, Sequence) else ()
        # A boolean is an int in Python, and no layer.
        if any(isinstance(layer, bool) or not isinstance(layer, (int, str, np.integer)) for layer in layers):
            raise RecipeError(f"layers: whole numbers, not {list(layers)}.")
        object.__setattr__(self, "layers", tuple(int(n) if isinstance(n, np.integer) else n for n in layers))
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise RecipeError(f"layers: name at least one, each once, not {list(self.layers)}.")
