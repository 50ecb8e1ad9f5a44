"""A small fMRI data set whose targets all follow one of three unrelated layers."""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from brainalign.simulate import InMemory, simulate_fmri, words_from_text
from brainalign.types import Features, Recording, Stimulus

PLANTED, N_LAYERS, DIMENSION = 1, 3, 5


def three_layers(stimulus: Stimulus, n_columns: int = DIMENSION) -> Features:
    """Layers that know nothing of each other."""
    random = np.random.default_rng(zlib.crc32(stimulus.id.encode()))
    values = random.normal(size=(N_LAYERS, len(stimulus.words), DIMENSION)).astype(np.float32)[..., :n_columns]
    onset, duration = (stimulus.words[column].to_numpy(dtype=float) for column in ("onset", "duration"))
    return Features("three", tuple(f"layer {i}" for i in range(N_LAYERS)), values, onset, duration)


def planted_data(n_subjects: int = 2, n_runs: int = 3, n_words: int = 240, explained: float = 0.5) -> InMemory:
    """Twelve targets of each subject follow layer 1, each by weights of its own."""
    stimuli = {
        f"run{k}": Stimulus(f"run{k}", words_from_text(f"so it was {k}. " * (n_words // 4), k)) for k in range(n_runs)
    }
    truth = pd.DataFrame({"name": [f"target {i}" for i in range(12)], "planted_layer": PLANTED})
    truth = truth.assign(explained_variance=explained, rate_variance=0.0)
    features = {name: three_layers(stimulus) for name, stimulus in stimuli.items()}
    return simulate_fmri(stimuli, features, truth, [f"s{i}" for i in range(n_subjects)])


def heard_again(data: InMemory, offset_s: float = 0.0) -> InMemory:
    """The same with a second, noisier hearing of each run, whose stimulus starts later in the recording."""
    return replace(data, given=[*data.given, *(_again(one, offset_s) for one in data.given)])


def _again(recording: Recording, offset_s: float) -> Recording:
    response = recording.response()
    noise = 0.3 * np.random.default_rng(1).normal(size=response.shape) * response.std(axis=0)
    read = partial(np.array, (response + noise).astype(np.float32))
    return replace(
        recording,
        run=f"{recording.run} again",
        offset_s=recording.offset_s + offset_s,
        read=read,
        digest=f"{recording.digest} again",
    )


def without_responses(data: InMemory, subject: str) -> InMemory:
    """The same with a subject no target of whom is finite throughout: each run lacks all but one of its own."""
    own = [one for one in data.given if one.subject == subject]
    given = [_with_only(one, own.index(one)) if one.subject == subject else one for one in data.given]
    return replace(data, given=given)


def _with_only(recording: Recording, target: int) -> Recording:
    response = recording.response()
    response[:, np.arange(response.shape[1]) != target] = np.nan
    return replace(recording, read=partial(np.array, response), digest=f"{recording.digest} lacking")
