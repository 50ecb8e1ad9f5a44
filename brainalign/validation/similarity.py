"""Alignment without a linear fit: none of noise, all of a turned copy, true models within the ceilings."""

from __future__ import annotations

import numpy as np

from brainalign.analysis.similarity.compare import Compare, compare_arrays
from brainalign.analysis.similarity.measures import linear_cka, procrustes_similarity
from brainalign.analysis.similarity.rdms import compare_rdms, crossnobis_rdm, euclidean_rdm, rdm_ceiling
from brainalign.encoding import ContiguousBlocks
from brainalign.types import Floats
from brainalign.validation.checks import Check, Size

__all__ = ["v12"]

N_SAMPLES, N_DIMENSIONS = 100, 768
MEMORY = 0.9


def v12(size: Size = "quick", seed: int = 0) -> list[Check]:
    """Compare representations that are unrelated, the same but turned, or the same but noisy.

    Parameters
    ----------
    size : {"quick", "full"}
        "full" takes 300 instead of 30 pairs of slow series.
    seed : int
        Of the data.
    """
    random = np.random.default_rng(seed)
    return [
        _independent(random),
        _turned(random),
        _noise_of_repeats(random),
        _true_model(random),
        _slow_rows_named(random),
        _slow_rows_tested(random, 30 if size == "quick" else 300),
    ]


def _independent(random: np.random.Generator) -> Check:
    pairs = [random.normal(size=(2, N_SAMPLES, N_DIMENSIONS)) for _ in range(10)]
    unbiased = np.mean([linear_cka(x, y) for x, y in pairs])
    biased = np.mean([linear_cka(x, y, band=0, unbiased=False) for x, y in pairs])
    every, train, test = np.arange(N_SAMPLES), np.arange(0, 70), np.arange(70, N_SAMPLES)
    fitted = np.mean([procrustes_similarity(x, y, every, every) for x, y in pairs[:2]])
    held_out = np.mean([procrustes_similarity(x, y, train, test) for x, y in pairs[:2]])
    return Check(
        "V12",
        f"independent noise, n={N_SAMPLES}, p={N_DIMENSIONS}, 10 pairs (Procrustes: 2)",
        "|unbiased CKA| <= .01, |held-out Procrustes| <= .02; the biased and the fitted one are above .8",
        f"{unbiased:.4f}, {held_out:.4f}; {biased:.3f}, {fitted:.3f}",
        bool(abs(unbiased) <= 0.01 and abs(held_out) <= 0.02 and min(biased, fitted) > 0.8),
    )


def _turned(random: np.random.Generator) -> Check:
    x = random.normal(size=(N_SAMPLES, 50)) * np.geomspace(1.0, 0.1, 50)
    turned = 2.0 * x @ np.linalg.qr(random.normal(size=(50, 50)))[0] + 3.0
    train, test = np.arange(0, 70), np.arange(70, N_SAMPLES)
    found = [
        linear_cka(x, turned),
        linear_cka(x, turned, band=0, unbiased=False),
        procrustes_similarity(x, turned, train, test),
        compare_rdms(euclidean_rdm(x), euclidean_rdm(turned), "pearson")[0, 0],
    ]
    return Check(
        "V12",
        "a representation and itself turned, scaled and moved, n=100, p=50",
        "CKA (both), Procrustes held out and RSA within 1e-6 of 1",
        ", ".join(f"{value:.8f}" for value in found),
        bool(np.abs(np.array(found) - 1.0).max() <= 1e-6),
    )


def _noise_of_repeats(random: np.random.Generator) -> Check:
    noise = random.normal(size=(4, 40, 1000))
    crossnobis, euclidean = crossnobis_rdm(noise).mean(), euclidean_rdm(noise.mean(axis=0)).mean()
    return Check(
        "V12",
        "noise in 4 repeats of 40 conditions, 1,000 features",
        "|mean crossnobis distance| <= .02; the squared Euclidean distance of the means is above .4",
        f"{crossnobis:.4f}; {euclidean:.3f}",
        bool(abs(crossnobis) <= 0.02 and euclidean > 0.4),
    )


def _true_model(random: np.random.Generator) -> Check:
    truth = random.normal(size=(20, 60))
    model = euclidean_rdm(truth)
    subjects = np.stack([crossnobis_rdm(truth + random.normal(scale=2.0, size=(4, 20, 60))) for _ in range(15)])
    observed, inside = [], True
    for comparing in ("pearson", "spearman"):
        ceiling, found = rdm_ceiling(subjects, comparing), compare_rdms(subjects, model, comparing).mean()
        observed.append(f"{comparing} {found:.3f} in [{ceiling.lower:.3f}, {ceiling.upper:.3f}]")
        inside &= bool(ceiling.lower <= found <= ceiling.upper)
    return Check(
        "V12",
        "crossnobis RDMs of 15 subjects, 20 conditions, 4 noisy repeats, against the true RDM",
        "within the noise ceiling",
        "; ".join(observed),
        inside,
    )


def _slow_rows_named(random: np.random.Generator) -> Check:
    x, y = _slow(random, 300, N_DIMENSIONS), _slow(random, 300, N_DIMENSIONS)
    narrow = compare_arrays(x, y, None, ContiguousBlocks(4), "cka", Compare(band=1, permutations=0))
    wide = compare_arrays(x, y, None, ContiguousBlocks(4), "cka", Compare(band=50, permutations=0))
    codes = [[finding.code for finding in found.findings] for found in (narrow, wide)]
    return Check(
        "V12",
        f"independent AR({MEMORY}) series, n=300, p={N_DIMENSIONS}",
        "unbiased CKA above .5 and W215 without a band; below .3 and no W215 with one of 50 samples",
        f"{narrow.value:.3f} {codes[0]}; {wide.value:.3f} {codes[1]}",
        bool(narrow.value > 0.5 and codes == [["W215"], []] and wide.value < 0.3),
    )


def _slow_rows_tested(random: np.random.Generator, n_pairs: int) -> Check:
    from scipy.stats import binom

    settings = Compare(permutations=200, min_shift=50)
    pairs = [(_slow(random, 300, 20), _slow(random, 300, 20)) for _ in range(n_pairs)]
    found = [compare_arrays(x, y, None, ContiguousBlocks(4), "cka", settings) for x, y in pairs]
    positives, mean = sum(comparison.p <= 0.05 for comparison in found), np.mean([each.value for each in found])
    without = np.mean([linear_cka(x, y) for x, y in pairs])
    # What a test that is right would exceed in one of 200 cases.
    most = int(binom.ppf(0.995, n_pairs, 0.05))
    return Check(
        "V12",
        f"{n_pairs} pairs of independent AR({MEMORY}) series, n=300, p=20, unbiased CKA, shifted responses",
        f"p <= .05 in at most {most} pairs, the binomial 99 % bound; |mean value| <= .05, above .2 without a band",
        f"{positives} pairs ({positives / n_pairs:.1%}); {mean:.3f}, {without:.3f}",
        bool(positives <= most and abs(mean) <= 0.05 and without > 0.2),
    )


def _slow(random: np.random.Generator, n: int, p: int) -> Floats:
    """Autoregressive columns, begun long enough before for their start to be forgotten."""
    from scipy.signal import lfilter

    return np.asarray(lfilter([1.0], [1.0, -MEMORY], random.normal(size=(n + 100, p)), axis=0))[100:]
