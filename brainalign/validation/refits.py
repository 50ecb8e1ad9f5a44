"""False positives of tests that refit every surrogate: cross-validated scores of data in which there is nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.signal import lfilter
from scipy.stats import binom

from brainalign.analysis.inference.permutation import Penalties, gain_null, score_null
from brainalign.analysis.inference.significance import p_values
from brainalign.analysis.inference.surrogates import SurrogateKind, Surrogates, surrogates
from brainalign.encoding import LeaveOneRunOut, RidgeEncoder, cross_validate, pearson
from brainalign.types import Floats
from brainalign.validation.checks import Check, Size

__all__ = ["v5b"]

LEVEL = 0.05
N_RUNS, N_FEATURES, N_RESPONSES, N_DRAWS = 4, 10, 20, 199
KINDS: tuple[SurrogateKind, ...] = ("circular_shift", "block_permutation", "phase_randomisation")


def v5b(size: Size = "quick", seed: int = 0) -> list[Check]:
    """False positives of the mean over folds of r, and of the gain over a baseline, on independent signals.

    Twenty independent responses to each set of features are a null data set each: 1,000 of every autocorrelation and
    test in full, 200 in the quick size; the rate must lie in the binomial 99 % interval of 5 %.
    """
    n_sets = 50 if size == "full" else 10
    n_data = n_sets * N_RESPONSES
    low, high = binom.ppf([0.005, 0.995], n_data, LEVEL) / n_data
    checks = []
    for rho in (0.0, 0.5, 0.8, 0.95) if size == "full" else (0.0, 0.8):
        for kind in KINDS if size == "full" else KINDS[:1]:
            p = np.concatenate(list(_p_values(rho, kind, n_sets, seed)), axis=1)
            rates = np.mean(p <= LEVEL, axis=1).tolist()
            # The gain's test is allowed to be careful: what the baseline leaves is not all that it should leave.
            for what, rate, least in zip(("r", "gain over a baseline"), rates, (low, 0.0), strict=True):
                checks.append(
                    Check(
                        "V5b",
                        f"{what}, {kind.replace('_', ' ')} refitted, AR({rho}), {n_data} null data sets",
                        f"false positives at .05 within {least:.3f} to {high:.3f}",
                        f"{rate:.3f}",
                        bool(least <= rate <= high),
                    )
                )
    rate = float(np.mean(np.concatenate(list(_rescored(0.8, n_sets, seed))) <= LEVEL))
    checks.append(
        Check(
            "V5b",
            f"r, held-out responses shifted against fixed predictions, AR(0.8), {n_data} null data sets",
            f"false positives above {high:.3f}: the shortcut that is not taken",
            f"{rate:.3f}",
            bool(rate > high),
        )
    )
    return checks


def _data(rho: float, number: int, seed: int) -> tuple[Floats, Floats, Floats, np.ndarray]:
    """Features, a baseline and responses, none of which knows of the others, and the runs."""
    random = np.random.default_rng([seed, int(100 * rho), number])
    # Ten blocks of 3 / (1 - rho) samples are needed in all.
    n_in_run = 150 if rho < 0.9 else 300
    shape = (N_RUNS, 300 + n_in_run, N_FEATURES + 2 + N_RESPONSES)
    noise = np.asarray(lfilter([np.sqrt(1 - rho**2)], [1, -rho], random.normal(size=shape), axis=1))
    columns = noise[:, 300:].reshape(-1, shape[2])
    runs = np.repeat([f"run {run}" for run in range(N_RUNS)], n_in_run)
    return columns[:, :N_FEATURES], columns[:, N_FEATURES:-N_RESPONSES], columns[:, -N_RESPONSES:], runs


def _drawn(kind: SurrogateKind, rho: float, responses: Floats, runs: np.ndarray, seed: int) -> Surrogates:
    length = int(np.ceil(3 / (1 - rho)))
    return surrogates(kind, responses, runs, n_permutations=N_DRAWS, seed=seed, length=length)


def _p_values(rho: float, kind: SurrogateKind, n_sets: int, seed: int) -> Iterator[Floats]:
    """The p of r and of the gain, (2, response) of each set of features; for the gain responses follow the baseline."""
    for number in range(n_sets):
        features, baseline, noise, runs = _data(rho, number, seed)
        responses = noise + 0.5 * baseline[:, :1]
        folds = list(LeaveOneRunOut().split(features, groups=runs))
        drawn = _drawn(kind, rho, responses, runs, number)
        encoder, splitter = RidgeEncoder(), LeaveOneRunOut()
        unrelated, _ = cross_validate(encoder, features, noise, runs, splitter)
        _, joint = cross_validate(encoder, features, responses, runs, splitter, baseline=baseline)
        alone, _ = cross_validate(encoder, baseline, responses, runs, splitter)
        assert joint is not None
        of_r = score_null(features, noise, folds, Penalties(unrelated.alpha), drawn.apply, N_DRAWS)
        both, only = Penalties(joint.alpha, joint.beta), Penalties(alone.alpha)
        of_gain = gain_null(features, baseline, responses, folds, both, only, drawn.apply, N_DRAWS)
        yield np.stack([p_values(*of_r), p_values(*of_gain)])


def _rescored(rho: float, n_sets: int, seed: int) -> Iterator[Floats]:
    """The p of r, (response,), where predictions stay and only the held-out responses are shifted."""
    for number in range(n_sets):
        features, _, responses, runs = _data(rho, number, seed)
        predicted = np.empty_like(responses)
        folds = list(LeaveOneRunOut().split(features, groups=runs))
        for train, test in folds:
            predicted[test] = RidgeEncoder().fit(features[train], responses[train], runs[train]).predict(features[test])
        drawn = _drawn("circular_shift", rho, responses, runs, number)
        scores = [
            np.mean([pearson(predicted[test], changed[test]) for _, test in folds], axis=0)
            for changed in (responses, *(drawn.apply(draw, responses) for draw in range(N_DRAWS)))
        ]
        yield p_values(scores[0], scores[1:])
