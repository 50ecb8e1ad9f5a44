"""Small studies whose responses follow the present word, and words so many ahead (or none)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from brainalign.alignment import Epochs
from brainalign.simulate import InMemory
from brainalign.types import Clock, Features, Recording, Stimulus

__all__ = ["AHEAD", "AT_ONSET", "DIMENSION", "ahead_in_words", "contextual", "single", "three_deep"]

DIMENSION, N_LAYERS, AHEAD = 4, 3, (4, 5)
STEP_S, LATENCY_S = 0.4, 0.2
AT_ONSET = Epochs(tmin_s=LATENCY_S, tmax_s=LATENCY_S)


def vectors_of(stimulus: Stimulus) -> np.ndarray:
    """Unrelated layers of unrelated words, (layer, word, dimension)."""
    random = np.random.default_rng(zlib.crc32(stimulus.id.encode()))
    return random.normal(size=(N_LAYERS, len(stimulus.words), DIMENSION)).astype(np.float32)


def three_deep(stimulus: Stimulus) -> Features:
    """The layers, of which responses follow the last."""
    onset, duration = (stimulus.words[column].to_numpy(dtype=float) for column in ("onset", "duration"))
    names = tuple(f"layer {number}" for number in range(N_LAYERS))
    return Features("deep", names, vectors_of(stimulus), onset, duration)


def single(stimulus: Stimulus) -> np.ndarray:
    """The last layer, as a space of its own."""
    return vectors_of(stimulus)[-1]


def contextual(stimulus: Stimulus) -> np.ndarray:
    """Vectors of no word."""
    return np.random.default_rng(1 + len(stimulus.id)).normal(size=(len(stimulus.words), DIMENSION))


def ahead_in_words(
    n_subjects: int = 2,
    ahead: Sequence[int] = AHEAD,
    n_words: int = 260,
    n_targets: int = 3,
    n_stories: int = 3,
    noise: float = 1.0,
) -> InMemory:
    """Word-locked responses; the last target follows nothing."""
    stimuli, given = {}, []
    for number in range(n_stories):
        words = {"onset": np.arange(n_words) * STEP_S, "duration": 0.3, "text": f"word{number}"}
        stimuli[f"story{number}"] = Stimulus(f"story{number}", pd.DataFrame(words))
    for subject in range(n_subjects):
        weights = np.random.default_rng(subject).normal(size=(2, DIMENSION, n_targets))
        weights[..., -1] = 0
        for name, stimulus in stimuli.items():
            random = np.random.default_rng([subject, zlib.crc32(name.encode())])
            vectors = vectors_of(stimulus)[-1]
            values = vectors @ weights[0] + noise * random.normal(size=(n_words, n_targets)) * 2
            for distance in ahead:
                values += np.roll(vectors, -distance, axis=0) @ weights[1]
            given.append(_recorded(f"s{subject}", name, values, _signal))
    return InMemory("ahead", "Looking ahead", "meg", stimuli, given)


def _signal(values: np.ndarray) -> np.ndarray:
    """Each word's value 0.2 s after its onset, the first at 1 s."""
    signal = np.zeros((len(values) * 8 + 80, values.shape[1]), dtype=np.float32)
    signal[20 + 4 + 8 * np.arange(len(values))] = values
    return signal


def _recorded(subject: str, stimulus: str, values: np.ndarray, make: Callable[[np.ndarray], np.ndarray]) -> Recording:
    signal = make(values)
    targets = pd.DataFrame({"name": [f"sensor {number}" for number in range(values.shape[1])], "kind": "sensor"})
    read = partial(np.array, signal)
    digest = f"{subject} {stimulus} {signal.sum()}"
    return Recording(subject, stimulus, stimulus, "meg", Clock(0.05), 1.0, targets, read, digest)
