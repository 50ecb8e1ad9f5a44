"""Small studies in memory: who hears what how often, and what the responses are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from brainalign.features import ToyModel
from brainalign.simulate import InMemory, simulate_fmri, words_from_text
from brainalign.types import Clock, Recording, Stimulus

__all__ = ["MODEL", "TR_S", "heard", "planted_fmri", "stories"]

MODEL = ToyModel(n_layers=2, dimension=6)
TR_S = 2.0
VOCABULARY = [a + b for a in ("ba", "de", "fi", "go", "lu") for b in ("na", "ket", "rol", "mi", "s", "tund")]


def stories(n_stories: int = 3, n_words: int = 250) -> dict[str, Stimulus]:
    """Words in random order at the pace of speech, 2.5 a second."""
    return {
        f"story{k}": Stimulus(
            f"story{k}", words_from_text(" ".join(np.random.default_rng(k).choice(VOCABULARY, n_words)), k)
        )
        for k in range(n_stories)
    }


def heard(
    subjects: Sequence[str],
    stimuli: Mapping[str, Stimulus],
    respond: Callable[[str, str, int], np.ndarray],
    hearings: int = 1,
    names: Callable[[str, int], str] = lambda subject, target: f"region {target}",
) -> InMemory:
    """An fMRI study; `respond(subject, stimulus, hearing)` is a response (volume, target)."""
    given = []
    for subject in subjects:
        for hearing in range(hearings):
            for stimulus in stimuli:
                response = np.asarray(respond(subject, stimulus, hearing), dtype=np.float32)
                targets = pd.DataFrame({"name": [names(subject, i) for i in range(response.shape[1])]})
                run, digest = f"{stimulus} {hearing}", f"{subject} {stimulus} {hearing} {response.sum()}"
                table = targets.assign(kind="region")
                read = partial(np.copy, response)
                given.append(Recording(subject, run, stimulus, "fmri", Clock(TR_S), 0.0, table, read, digest))
    return InMemory("heard", "Heard", "fmri", dict(stimuli), given)


def planted_fmri(n_subjects: int = 3, layers: Sequence[int] = (2, 2, 2, 2, -1, -1, -1, -1), seed: int = 0) -> InMemory:
    """Regions that follow a layer of MODEL and the word rate, or (-1) nothing."""
    stimuli = stories()
    follows = np.array(layers) >= 0
    truth = pd.DataFrame(
        {
            "name": [f"region {i}" for i in range(len(layers))],
            "planted_layer": layers,
            "explained_variance": 0.5 * follows,
            "rate_variance": 0.1 * follows,
        }
    )
    features = {name: MODEL.extract(stimulus) for name, stimulus in stimuli.items()}
    return simulate_fmri(stimuli, features, truth, [f"s{i}" for i in range(n_subjects)], TR_S, seed)
