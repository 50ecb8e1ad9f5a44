"""Planted layers and latencies must be found again, and layers chosen on noise must score nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.hierarchies.latencies import BeforeOnset, before_onset, preferred_latency
from brainalign.analysis.hierarchies.layer_choice import nested_choice, scores_inside
from brainalign.analysis.hierarchies.profiles import PreferredLayer, preferred_layer
from brainalign.encoding.cross_validation import cross_validate
from brainalign.encoding.ridge import RidgeEncoder
from brainalign.encoding.splits import ContiguousBlocks
from brainalign.types import Floats
from brainalign.validation.checks import Check, Size

__all__ = ["v2", "v3", "v11"]

N_LAYERS = 12
SFREQ_HZ = 100.0
CLASSES_S = np.array([0.12, 0.25, 0.40])
WIDTH_S = 0.03
MEAN_GAP_S = 0.33


def v2(size: Size = "quick", seed: int = 0) -> list[Check]:
    """The layer that drives each target is the one that it prefers.

    Layers follow each other, ``X_l = .8 X_(l-1) Q + .6 e`` with a rotation Q, autocorrelated in time by .3; each target
    is driven by one of them. Scores are those of five contiguous blocks with a gap of five samples.
    """
    n_targets = 120 if size == "quick" else 600
    checks = []
    for explained_variance, least_exact in ((0.1, 0.95), (0.05, 0.80)):
        preferred, truth = _find_layers(explained_variance, n_targets, seed)
        distance = np.abs(preferred.peak - truth)
        exact, near = float(np.mean(distance == 0)), float(np.mean(distance <= 1))
        rank = _rank_correlation(preferred.centre_of_mass, truth)
        passed, criterion, observed = exact >= least_exact, f"exact >= {least_exact:.0%}", f"exact {exact:.1%}"
        if explained_variance == 0.1:
            passed = passed and near >= 0.99 and rank >= 0.9
            criterion += ", within one layer >= 99 %, rank correlation of the centre of mass >= .90"
            observed += f", within one {near:.1%}, centre of mass {rank:.3f}"
        checks.append(
            Check(
                "V2",
                f"planted layer: 12 layers, 1,500 samples, {n_targets} targets, share explained {explained_variance:g}",
                criterion,
                observed,
                passed,
            )
        )
    return checks


def v3(size: Size = "quick", seed: int = 0) -> list[Check]:
    """Latencies are found within two samples; what shows before onset shows only where features have memory.

    Words come at gamma-distributed intervals and add a Gaussian bump to their channels' noise, which is autocorrelated
    (.9). The signal-to-noise ratio is that of variances over time.
    """
    n_channels = 24 if size == "quick" else 40
    r, latencies_s, truth_s = _word_locked(1500, n_channels, 0.003, 0.0, seed)
    of_class = np.stack([r[:, :, truth_s == latency_s].mean(axis=2) for latency_s in CLASSES_S], axis=2)
    class_error_s = np.abs(preferred_latency(of_class, latencies_s).peak_s - CLASSES_S).max()
    near = float(np.mean(np.abs(preferred_latency(r, latencies_s).peak_s - truth_s) <= 0.0201))
    design = f"planted latency: 1,500 words, {n_channels} channels, 100 Hz, signal-to-noise ratio .003"
    checks = [
        Check(
            "V3",
            design,
            "peak of each class's mean within 20 ms; >= 65 % of channels within 20 ms",
            f"within {class_error_s * 1000:.0f} ms; {near:.0%}",
            bool(class_error_s <= 0.0201 and near >= 0.65),
        )
    ]
    ratios = (0.15,) if size == "quick" else (0.02, 0.05, 0.15)
    for memory, is_expected in ((0.0, False), (0.7, True)):
        before = [_before_onset(n_channels, ratio, memory, seed) for ratio in ratios]
        means = [float(one.r.mean()) for one in before]
        flagged = [one.finding("simulated") is not None for one in before]
        apart = all(mean > 0.005 for mean in means) if is_expected else all(mean <= 0.005 for mean in means)
        checks.append(
            Check(
                "V3",
                f"before onset: features with autocorrelation {memory:g}, signal-to-noise ratio "
                + ", ".join(f"{ratio:g}" for ratio in ratios),
                "mean r before onset > .005, and a warning"
                if is_expected
                else "mean r before onset <= .005, no warning",
                "r " + ", ".join(f"{mean:.4f}" for mean in means) + f"; {sum(flagged)} of {len(flagged)} warned of",
                apart and all(flag == is_expected for flag in flagged),
            )
        )
    return checks


def v11(size: Size = "quick", seed: int = 0) -> list[Check]:
    """On noise the best of 13 layers scores high where it was chosen, and nothing where it was not.

    The other folds of the same cross-validation are no place to choose, which is shown beside. The criterion for layers
    chosen inside is on the mean over targets and repetitions, since targets share features, and so chance.
    """
    n_targets, n_repetitions = (100, 1) if size == "quick" else (200, 5)
    nested, other_folds, dipped, codes = [], [], [], set()
    for repetition in range(n_repetitions):
        rng = np.random.default_rng([seed, 11, repetition])
        layers, responses = rng.normal(size=(13, 600, 50)), rng.normal(size=(600, n_targets))
        splitter = ContiguousBlocks(5)
        r = _scores(layers, responses, splitter)
        choice = nested_choice(r, scores_inside(layers, responses, None, splitter))
        others = np.stack([np.delete(r, fold, axis=1).mean(axis=1) for fold in range(r.shape[1])], axis=1)
        other_folds.append(nested_choice(r, others).r.mean())
        nested.append(choice.r.mean())
        dipped.append(choice.dipped.mean())
        codes.add(choice.finding("simulated").code)
    design = f"double dip: 13 layers of noise, 600 samples, {n_targets} targets, {n_repetitions} repetitions"
    return [
        Check(
            "V11",
            design,
            "chosen inside: |mean r| <= .01; chosen on the test: r >= .07, and W206",
            f"{np.mean(nested):+.4f}; {np.mean(dipped):.3f}, {', '.join(codes)}",
            bool(abs(np.mean(nested)) <= 0.01 and np.min(dipped) >= 0.07 and codes == {"W206"}),
        ),
        Check(
            "V11",
            design,
            "chosen by the scores of the other folds: r >= .02 (must show the leak)",
            f"{np.mean(other_folds):.3f}",
            bool(np.mean(other_folds) >= 0.02),
        ),
    ]


def _find_layers(explained_variance: float, n_targets: int, seed: int) -> tuple[PreferredLayer, Floats]:
    rng = np.random.default_rng([seed, 2])
    layers = _following_layers(1500, 40, 0.3, rng)
    truth = np.arange(n_targets) % N_LAYERS
    signal = np.stack([layers[layer] @ rng.normal(size=40) for layer in truth], axis=1)
    signal /= signal.std(axis=0)
    noise = _autoregressive((1500, n_targets), 0.3, rng)
    responses = np.sqrt(explained_variance) * signal + np.sqrt(1 - explained_variance) * noise
    r = _scores(layers, responses, ContiguousBlocks(5, gap=5))
    return preferred_layer(r, np.arange(N_LAYERS, dtype=float)), truth.astype(float)


def _following_layers(n_samples: int, dimension: int, memory: float, rng: np.random.Generator) -> Floats:
    layers = [_autoregressive((n_samples, dimension), memory, rng)]
    for _ in range(N_LAYERS - 1):
        rotation = np.linalg.qr(rng.normal(size=(dimension, dimension)))[0]
        layers.append(0.8 * layers[-1] @ rotation + 0.6 * _autoregressive((n_samples, dimension), memory, rng))
    return np.stack(layers)


def _before_onset(n_channels: int, ratio: float, memory: float, seed: int) -> BeforeOnset:
    r, latencies_s, _ = _word_locked(1500, n_channels, ratio, memory, seed)
    return before_onset(r, latencies_s)


def _word_locked(
    n_words: int, n_channels: int, ratio: float, memory: float, seed: int
) -> tuple[Floats, Floats, Floats]:
    """Scores (fold, latency, channel) from -0.5 to 1 s, the latencies, and the planted one of each channel."""
    rng = np.random.default_rng([seed, 3])
    onset = np.cumsum(rng.gamma(4.0, MEAN_GAP_S / 4.0, size=n_words)) + 1.0
    features = _autoregressive((n_words, 10), memory, rng)
    truth_s = CLASSES_S[np.arange(n_channels) % len(CLASSES_S)]
    rows = np.rint(onset * SFREQ_HZ).astype(np.intp)
    signal = _bumps(rows, features @ rng.normal(size=(10, n_channels)), truth_s)
    noise = _autoregressive(signal.shape, 0.9, rng)
    recording = signal * np.sqrt(ratio) / signal.std(axis=0) + noise
    steps = np.arange(-50, 101)
    epochs = recording[rows[:, None] + steps].reshape(n_words, -1)  # (word, latency x channel)
    splitter = ContiguousBlocks(5, gap=int(np.ceil(1.5 / MEAN_GAP_S)))
    r = _scores(features[None], epochs, splitter)[0]
    return r.reshape(len(r), len(steps), n_channels), steps / SFREQ_HZ, truth_s


def _bumps(rows: NDArray[np.intp], height: Floats, centre_s: Floats) -> Floats:
    """Each word's Gaussian bump at each channel's latency, shape (time, channel)."""
    signal = np.zeros((int(rows[-1]) + 200, height.shape[1]))
    np.add.at(signal, rows, height)
    times_s = np.arange(0, 80) / SFREQ_HZ
    kernels = np.exp(-0.5 * ((times_s[:, None] - centre_s) / WIDTH_S) ** 2)
    return np.stack([np.convolve(signal[:, c], kernels[:, c])[: len(signal)] for c in range(len(centre_s))], axis=1)


def _scores(layers: Floats, responses: Floats, splitter: ContiguousBlocks) -> Floats:
    encoder = RidgeEncoder(gap=splitter.gap)
    return np.stack([cross_validate(encoder, layer, responses, None, splitter)[0].r for layer in layers])


def _autoregressive(shape: tuple[int, int], memory: float, rng: np.random.Generator) -> Floats:
    """Noise of unit variance in which each row resembles the row before."""
    from scipy.signal import lfilter

    white = rng.normal(size=(shape[0] + 100, shape[1]))
    return np.asarray(lfilter([np.sqrt(1 - memory**2)], [1.0, -memory], white, axis=0))[100:]


def _rank_correlation(a: Floats, b: Floats) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)
