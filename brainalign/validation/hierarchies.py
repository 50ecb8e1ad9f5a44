"""Layers that come one after the other must be found so, and no order where none is planted."""

from __future__ import annotations

import numpy as np

from brainalign.analysis.hierarchies.latencies import preferred_latency
from brainalign.analysis.hierarchies.orders import HierarchyScore, temporal_score
from brainalign.encoding.cross_validation import cross_validate
from brainalign.encoding.ridge import RidgeEncoder
from brainalign.encoding.splits import ContiguousBlocks
from brainalign.types import Floats
from brainalign.validation.checks import Check, Size

__all__ = ["v15"]

N_LAYERS = 12
DIMENSION = 10
N_WORDS = 300
N_SUBJECTS = 8
LATENCIES_S = np.arange(0.0, 0.6, 0.03)
WIDTH_S = 0.04
# Of the variance of responses, where subjects have noise in common.
SHARED = 0.8
# For independent layers a correlation beyond this would be significant at .05, two-sided.
CRITICAL_R = 0.576
DESIGN = f"temporal score: {N_LAYERS} smooth layers, {N_SUBJECTS} subjects"


def v15(size: Size = "quick", seed: int = 0) -> list[Check]:
    """The order of layers in time is found where it is planted, and tested at its nominal level where it is not.

    Layers resemble their neighbours. Planted: each layer's own part is answered later than that of the layer before, in
    every subject. None: subjects' responses are noise of their own. Shared: subjects have most of their noise in
    common, which a test over subjects takes for an effect; shifts of the responses, the same for all subjects, do not
    (in full only).
    """
    n_stimuli = 4 if size == "quick" else 20
    rngs = [np.random.default_rng([seed, 15, number]) for number in range(n_stimuli)]
    planted = [score for rng in rngs[:1] for score in _simulated("planted", 4, 0, rng)]
    none = [score for rng in rngs for score in _simulated("none", 6, 0, rng)]
    checks = [_check_planted(planted), _check_none(none)]
    if size == "full":
        checks.append(_check_shared([score for rng in rngs for score in _simulated("shared", 3, 19, rng)]))
    return checks


def _check_planted(found: list[HierarchyScore]) -> Check:
    r, p = np.mean([one.mean for one in found]), max(one.p_subjects for one in found)
    return Check(
        "V15",
        f"{DESIGN}; {len(found)} times with planted order",
        "mean r >= .95, every p over subjects <= .05",
        f"r {r:.3f}, largest p {p:.3g}",
        bool(r >= 0.95 and p <= 0.05),
    )


def _check_none(found: list[HierarchyScore]) -> Check:
    every = np.concatenate([one.r for one in found])
    single = every[np.isfinite(every)]
    rejected, beyond = _rejected(found, "p_subjects"), float(np.mean(np.abs(single) > CRITICAL_R))
    return Check(
        "V15",
        f"{DESIGN}; {len(found)} times with none",
        "|mean r| <= .25, p over subjects <= .05 in at most 10 %; single subjects: SD >= .35, > 15 % beyond .576",
        f"r {single.mean():+.3f}, {rejected:.1%}; SD {single.std():.2f}, {beyond:.0%}; "
        f"{len(every) - len(single)} undefined",
        bool(abs(single.mean()) <= 0.25 and rejected <= 0.10 and single.std() >= 0.35 and beyond > 0.15),
    )


def _check_shared(found: list[HierarchyScore]) -> Check:
    over_stimuli, over_subjects = _rejected(found, "p_stimulus"), _rejected(found, "p_subjects")
    return Check(
        "V15",
        f"{DESIGN}, who share {SHARED:.0%} of their noise; {len(found)} times with no order",
        "p of shared shifts <= .05 in at most 10 %; p over subjects in more than 15 % (must show the illusion)",
        f"{over_stimuli:.1%}; {over_subjects:.1%}",
        over_stimuli <= 0.10 and over_subjects > 0.15,
    )


def _rejected(found: list[HierarchyScore], p: str) -> float:
    return float(np.mean([getattr(one, p) <= 0.05 for one in found]))


def _simulated(kind: str, n_groups: int, n_shifts: int, rng: np.random.Generator) -> list[HierarchyScore]:
    """The scores of groups of subjects who hear the same stimulus."""
    layers = _smooth_layers(rng)
    responses = _noise((n_groups, N_SUBJECTS), rng)
    if kind == "shared":
        responses = np.sqrt(1 - SHARED) * responses + np.sqrt(SHARED) * _noise((n_groups, 1), rng)
    if kind == "planted":
        responses = responses + _ordered(layers, n_groups, rng)
    shifts = rng.integers(N_WORDS // 10, N_WORDS - N_WORDS // 10, size=n_shifts)
    every = np.stack([responses, *(np.roll(responses, shift, axis=2) for shift in shifts)])
    latency_s = _best_latencies(layers, every)
    depth = np.arange(N_LAYERS, dtype=float)
    return [
        temporal_score(latency_s[0, group], depth, null=latency_s[1:, group] if n_shifts else None, n_permutations=200)
        for group in range(n_groups)
    ]


def _smooth_layers(rng: np.random.Generator) -> Floats:
    own = rng.normal(size=(N_LAYERS, N_WORDS, DIMENSION))
    layers = [own[0]]
    for part in own[1:]:
        layers.append(0.9 * layers[-1] + np.sqrt(1 - 0.9**2) * part)
    return np.stack(layers)


def _ordered(layers: Floats, n_groups: int, rng: np.random.Generator) -> Floats:
    """Responses to each layer around a latency of its own, shape (group, subject, word, latency)."""
    centres_s = np.linspace(0.1, 0.5, N_LAYERS)
    course = np.exp(-0.5 * ((LATENCIES_S - centres_s[:, None]) / WIDTH_S) ** 2)  # (layer, latency)
    weights = rng.normal(size=(n_groups, N_SUBJECTS, N_LAYERS, DIMENSION)) / np.sqrt(DIMENSION)
    return np.einsum("lnd,gsld,lt->gsnt", layers, weights, course, optimize=True)


def _noise(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Noise of unit variance that is smooth over latencies, shape (group, subject, word, latency)."""
    from scipy.ndimage import gaussian_filter1d

    white = rng.normal(size=(*shape, N_WORDS, len(LATENCIES_S)))
    noise = np.asarray(gaussian_filter1d(white, 1.5, axis=3, mode="wrap"))
    return noise / noise.std()


def _best_latencies(layers: Floats, responses: Floats) -> Floats:
    """T_max of each layer, from scores of all latencies at once, shape (shift, group, subject, layer)."""
    shape = responses.shape[:3]
    targets = np.moveaxis(responses, 3, 0).reshape(N_WORDS, -1)
    encoder, splitter = RidgeEncoder(alphas=(10.0, 100.0, 1000.0)), ContiguousBlocks(4)
    found = []
    for layer in layers:
        r = cross_validate(encoder, layer, targets, None, splitter)[0].r
        courses = r.reshape(len(r), -1, len(LATENCIES_S)).swapaxes(1, 2)  # (fold, latency, series)
        found.append(preferred_latency(courses, LATENCIES_S).peak_s.reshape(shape))
    return np.stack(found, axis=-1)
