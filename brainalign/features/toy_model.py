"""A stand-in for a language model that needs no download and no torch: seeded vectors with strictly causal context."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brainalign.errors import RecipeError
from brainalign.types import Expected, Features, Floats, Stimulus

__all__ = ["ToyModel"]

CODE_VERSION = 1

# The share of a layer that comes from the layer below, from the words before, and from nowhere else.
KEPT, CONTEXT, FRESH = 0.8, 1.0, 0.6
# How much of the running average of earlier words one word leaves.
DECAY = 0.7
# Drawing a vector, and each step of the average, take as long as so many operations.
OPERATIONS_OF_DRAW, OPERATIONS_OF_STEP = 6e5, 4e4


@dataclass(frozen=True)
class ToyModel:
    """Extract random but repeatable features that behave like a language model's.

    Layer 0 has one random vector per word, whatever its case. Each layer above is the layer below, rotated, plus an
    exponentially decaying average of the words before (so that context grows with the layers), plus a part of its own
    that depends on the word and the one before it (so that no layer can be computed from another). Nothing depends on
    later words. Each word's vector has mean square 1 in each layer.

    Parameters
    ----------
    n_layers : int
        Layers above layer 0, as in language models: there are ``n_layers + 1`` in all.
    dimension : int
        Of each layer.
    seed : int
        Another seed is another model.

    Raises
    ------
    RecipeError
        If `n_layers` is negative or `dimension` is not positive.

    Examples
    --------
    >>> import pandas as pd
    >>> words = pd.DataFrame({"onset": [0.0, 0.4], "duration": [0.3, 0.5], "text": ["hello", "world"]})
    >>> features = ToyModel(n_layers=2, dimension=4).extract(Stimulus("greeting", words))
    >>> features.layers, features.values.shape
    (('layer 0', 'layer 1', 'layer 2'), (3, 2, 4))
    """

    n_layers: int = 8
    dimension: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_layers < 0 or self.dimension < 1:
            raise RecipeError(
                f"A ToyModel needs n_layers >= 0 and dimension >= 1, not {self.n_layers} and {self.dimension}."
            )

    @property
    def name(self) -> str:
        """ "ToyModel", whatever its settings."""  # noqa: D210 (a quote would join the opening ones)
        return "ToyModel"

    def fingerprint(self) -> dict[str, Any]:
        """All that the values depend on besides the stimulus."""
        return {
            "kind": "toy_model",
            "n_layers": self.n_layers,
            "dimension": self.dimension,
            "seed": self.seed,
            "code": CODE_VERSION,
        }

    def expected(self, stimulus: Stimulus) -> Expected:
        """What the features of a stimulus are expected to take."""
        n_words = len(stimulus.words)
        of_word = 2.0 * self.dimension**2 + OPERATIONS_OF_DRAW + OPERATIONS_OF_STEP
        shape = (self.n_layers + 1, n_words, self.dimension)
        return Expected(shape, shape[0] * n_words * of_word, 16.0 * shape[0] * n_words * self.dimension)

    def extract(self, stimulus: Stimulus) -> Features:
        """Give each word's vector in each layer, "layer 0" to "layer n_layers"."""
        words = [str(word).strip().casefold() for word in stimulus.words["text"]]
        pairs = list(zip(["", *words], words, strict=False))
        layers = [_unit(self._vectors("word", words))]
        for k in range(1, self.n_layers + 1):
            below = layers[-1]
            rotated = below @ _orthogonal(self._normal("rotation", k, size=(self.dimension, self.dimension)))
            fresh = self._vectors(k, pairs)
            layers.append(_unit(KEPT * rotated + CONTEXT * _average_of_earlier(below) + FRESH * fresh))
        return Features(
            name=self.name,
            layers=tuple(f"layer {k}" for k in range(self.n_layers + 1)),
            values=np.stack(layers).astype(np.float32),
            onset_s=stimulus.words["onset"].to_numpy(dtype=float, copy=True),
            duration_s=stimulus.words["duration"].to_numpy(dtype=float, copy=True),
            metadata={"causal": True, "context": "all earlier words, decaying", "seed": self.seed},
        )

    def _vectors(self, part: str | int, items: Sequence[str | tuple[str, str]]) -> Floats:
        """One random vector per item, the same for equal items."""
        drawn = {item: self._normal(part, item, size=(self.dimension,)) for item in dict.fromkeys(items)}
        return np.stack([drawn[item] for item in items])

    def _normal(self, *key: object, size: tuple[int, ...]) -> Floats:
        # Python's own hash differs from one process to the next.
        digest = hashlib.sha256(repr((self.seed, *key)).encode("utf-8", "surrogatepass")).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "little")).standard_normal(size)


def _unit(vectors: Floats) -> Floats:
    """Scale each row to mean square 1: alone, since a scale taken over all words would tell of later ones."""
    return vectors / np.sqrt(np.mean(vectors**2, axis=1, keepdims=True))


def _orthogonal(matrix: Floats) -> Floats:
    q, r = np.linalg.qr(matrix)
    # QR is unique only up to the signs of R's diagonal.
    return q * np.sign(np.diag(r))


def _average_of_earlier(vectors: Floats) -> Floats:
    """For each row the exponentially decaying average of the rows before it; zero for the first."""
    average = np.zeros_like(vectors)
    for n in range(1, len(vectors)):
        average[n] = DECAY * average[n - 1] + (1 - DECAY) * vectors[n - 1]
    return average
