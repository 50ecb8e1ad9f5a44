"""False positives of the tests, where nothing is to be found: memory of signals, and chance that subjects share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from brainalign.analysis.inference.groups import group_null, subject_test
from brainalign.analysis.inference.significance import bartlett_test, p_values
from brainalign.analysis.inference.surrogates import (
    BlockPermutation,
    CircularShift,
    IidShuffle,
    PhaseRandomisation,
    Surrogates,
)
from brainalign.encoding.cross_validation import cross_validate
from brainalign.encoding.metrics import pearson
from brainalign.encoding.ridge import RidgeEncoder
from brainalign.encoding.splits import ContiguousBlocks
from brainalign.types import Floats
from brainalign.validation.checks import Check, Size

__all__ = ["v5", "v14"]

LEVEL = 0.05


def v5(size: Size = "quick", seed: int = 0) -> list[Check]:
    """Tests of one held-out correlation between independent autoregressive series.

    Surrogates are of the held-out responses, against a prediction that stays; blocks have 3 / (1 - rho) samples, of
    which 300 samples hold ten up to rho .8, so that series of rho .95 are twice as long for them.
    """
    n_data, n_permutations = (250, 59) if size == "quick" else (1000, 199)
    rates: dict[str, dict[float, float]] = {}
    for rho in (0.0, 0.5, 0.8, 0.95):
        for name, n_samples, make in _tests(rho, n_permutations, seed):
            predicted, observed = _autoregressive(2, n_samples, n_data, rho, seed + int(100 * rho))
            p = make(predicted, observed)
            rates.setdefault(name, {})[rho] = float((p <= LEVEL).mean())
    low, high = (0.01, 0.10) if size == "quick" else (0.03, 0.08)
    design = f"{n_data} pairs of independent AR(1) series, 300 samples (blocks at .95: 600), rho 0, .5, .8, .95"
    held = [
        Check(
            "V5",
            f"{design}; {name}, {n_permutations} draws" if name != "Bartlett t" else f"{design}; {name}",
            f"false positives at .05 within {low:.2f} and {high:.2f} at each rho",
            _written(rates[name]),
            all(low <= rate <= high for rate in rates[name].values()),
        )
        for name in ("phase randomisation", "block permutation", "Bartlett t")
    ]
    shift = Check(
        "V5",
        f"{design}; circular shift, {n_permutations} draws",
        f"false positives at .05 at most {high:.2f} up to rho .8, {high + 0.04:.2f} at .95, of few independent shifts",
        _written(rates["circular shift"]),
        all(rate <= (high + 0.04 if rho > 0.9 else high) for rho, rate in rates["circular shift"].items()),
    )
    shuffled = Check(
        "V5",
        f"{design}; samples shuffled (negative control)",
        "false positives at .05 above 0.15 at rho .8",
        _written(rates["iid shuffle"]),
        rates["iid shuffle"][0.8] > 0.15,
    )
    return [*held, shift, shuffled]


def v14(size: Size = "quick", seed: int = 0) -> list[Check]:
    """Tests over 20 subjects who share a response to a stimulus that has nothing to do with the features.

    Features are fitted anew to each joint shift of all subjects' responses.
    """
    n_studies, n_permutations = (40, 39) if size == "quick" else (120, 99)
    joint, alone = np.empty((2, n_studies))
    for study in range(n_studies):
        observed, null = _study(n_permutations, [seed, study])
        joint[study] = group_null(observed, null, test="circular shift").p
        alone[study] = subject_test(observed).p
    rate, wrong = float((joint <= LEVEL).mean()), float((alone <= LEVEL).mean())
    design = (
        f"{n_studies} studies of 20 subjects, 600 samples, AR(.8), 30 % of the variance shared, 20 independent features"
    )
    highest = 0.10 if size == "full" else 0.125
    lowest = 0.01 if size == "full" else 0.0
    return [
        Check(
            "V14",
            f"{design}; one circular shift for all subjects, {n_permutations} draws",
            f"false positives at .05 within {lowest:g} and {highest:g}",
            f"{rate:.3f}",
            lowest <= rate <= highest,
        ),
        Check(
            "V14",
            f"{design}; Wilcoxon over subjects (negative control)",
            "false positives at .05 above 0.15",
            f"{wrong:.3f}",
            wrong > 0.15,
        ),
    ]


Test = Callable[[Floats, Floats], Floats]


def _tests(rho: float, n_permutations: int, seed: int) -> list[tuple[str, int, Test]]:
    """Name, number of samples, and what gives p values (target,) of predicted and observed (sample, target)."""
    block = int(np.ceil(3.0 / (1.0 - rho) - 1e-9))
    n_samples = max(300, 10 * block)
    runs, long_runs = np.zeros(300, dtype=int), np.zeros(n_samples, dtype=int)
    kinds: list[Surrogates] = [
        PhaseRandomisation(runs, n_permutations, seed),
        BlockPermutation(long_runs, n_permutations, seed, block_length=block),
        CircularShift(runs, n_permutations, seed, min_shift=20),
        IidShuffle(runs, n_permutations, seed, allow_iid=True),
    ]
    rescored = [(kind.name, len(kind.runs), _rescoring(kind)) for kind in kinds]
    return [*rescored, ("Bartlett t", 300, lambda predicted, observed: bartlett_test(predicted, observed).p)]


def _rescoring(kind: Surrogates) -> Test:
    def p(predicted: Floats, observed: Floats) -> Floats:
        drawn = (kind.apply(number, observed) for number in range(kind.n_permutations))
        return p_values(pearson(predicted, observed), (pearson(predicted, surrogate) for surrogate in drawn))

    return p


def _study(n_permutations: int, seed: list[int]) -> tuple[Floats, Floats]:
    """Scores (subject,) of one study, and of each joint shift (subject, permutation)."""
    n_samples, n_subjects, rho, shared = 600, 20, 0.8, 0.3
    features = _autoregressive(1, n_samples, 20, rho, [*seed, 0])[0]
    common = _autoregressive(1, n_samples, 1, rho, [*seed, 1])[0]
    own = _autoregressive(1, n_samples, n_subjects, rho, [*seed, 2])[0]
    responses = np.sqrt(shared) * common + np.sqrt(1.0 - shared) * own
    shifts = CircularShift(np.zeros(n_samples, dtype=int), n_permutations, seed[1], min_shift=20)
    drawn = [responses, *(shifts.apply(number, responses) for number in range(n_permutations))]
    # A surrogate of each subject is a target like any other, so that all are fitted at once.
    encoder = RidgeEncoder(alphas=(1.0, 10.0, 100.0, 1000.0, 10000.0), gap=20)
    scores, _ = cross_validate(encoder, features, np.hstack(drawn), None, ContiguousBlocks(5, gap=20))
    r = scores.r.mean(axis=0).reshape(1 + n_permutations, n_subjects)
    return r[0], r[1:].T


def _autoregressive(n: int, n_samples: int, n_series: int, rho: float, seed: int | list[int]) -> Floats:
    """Independent AR(1) series of variance one, shape (n, sample, series)."""
    from scipy.signal import lfilter

    noise = np.random.default_rng(seed).normal(size=(n, 300 + n_samples, n_series))
    return np.asarray(lfilter([np.sqrt(1.0 - rho**2)], [1.0, -rho], noise, axis=1))[:, 300:]


def _written(rates: dict[float, float]) -> str:
    return ", ".join(f"rho {rho:g}: {rate:.3f}" for rho, rate in rates.items())
