"""Ceilings, from repeats and from subjects, of responses whose share of signal is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.signal import lfilter

from brainalign.analysis.ceilings.normalisation import normalise
from brainalign.analysis.ceilings.repeats import cc_norm, repeatability
from brainalign.analysis.ceilings.shared_response import shared_response
from brainalign.encoding.metrics import pearson
from brainalign.types import Floats
from brainalign.validation.checks import Check, Size

__all__ = ["v6", "v6b"]

# Of what the stimulus evokes, and of the noise: the correlation of neighbouring samples.
SIGNAL_MEMORY, NOISE_MEMORY = 0.6, 0.4
N_TARGETS = 2000
# What the model of V6 correlates with the signal, which is its true CCnorm.
MODEL_R = 0.7


@dataclass(frozen=True)
class _Cell:
    """What came out for so many repeats, samples and a planted explainable variance."""

    n_repeats: int
    n_samples: int
    planted: float
    explainable_variance: float
    undefined_share: float
    ratio_of_means: float
    mean_of_ratios: float

    def __str__(self) -> str:
        return f"R={self.n_repeats}, T={self.n_samples}, EV={self.planted}"


def v6(size: Size = "quick", seed: int = 0) -> list[Check]:
    """Recover the explainable variance from repeats, and how near a model comes to the signal.

    Parameters
    ----------
    size : {"quick", "full"}
        Quick: 2 and 5 repeats of 300 samples; full: 10 repeats and 150 samples too.
    seed : int
        Of the data.
    """
    repeats, lengths = ((2, 5), (300,)) if size == "quick" else ((2, 5, 10), (150, 300))
    rng = np.random.default_rng(seed)
    cells = [_cell(*cell, rng) for cell in product(repeats, lengths, (0.0, 0.05, 0.2, 0.5))]
    silent = [cell for cell in cells if cell.planted == 0]
    clear = [cell for cell in cells if cell.planted >= 0.2 and cell.n_samples == 300]
    design = (
        f"signal AR .6, noise AR .4, R={_either(repeats)}, T={_either(lengths)}, EV=0/.05/.2/.5, {N_TARGETS} targets; "
        "a model that correlates .7 with the signal"
    )
    off = {str(cell): abs(cell.explainable_variance - cell.planted) for cell in cells}
    return [
        Check("V6", design, "|EV - planted| <= .01 in each cell", _largest(off), max(off.values()) <= 0.01),
        _without_signal(design, silent),
        Check(
            "V6",
            design,
            "CCnorm as ratio of means .70 +- .02, EV >= .2, T = 300",
            f"{_span(cell.ratio_of_means for cell in clear)} (mean of ratios {_span(c.mean_of_ratios for c in clear)})",
            all(abs(cell.ratio_of_means - MODEL_R) <= 0.02 for cell in clear),
        ),
    ]


def v6b(size: Size = "quick", seed: int = 0) -> list[Check]:
    """Recover, from inter-subject correlations, what a perfect model would score.

    Parameters
    ----------
    size : {"quick", "full"}
        Quick: 3 and 10 subjects; full: 5 and 30 too.
    seed : int
        Of the data.
    """
    subjects = (3, 10) if size == "quick" else (3, 5, 10, 30)
    rng = np.random.default_rng(seed)
    from_perfect, from_formula = {}, {}
    for n_subjects, ev in product(subjects, (0.05, 0.2)):
        signal = _autoregressive((1, 300, N_TARGETS), SIGNAL_MEMORY, rng)
        responses = _with_noise(signal, ev, n_subjects, rng)
        found = shared_response(responses)
        cell = f"S={n_subjects}, ev={ev}"
        # Averaged before the root, which is not defined for the targets that are negative by chance.
        from_perfect[cell] = float(abs(np.sqrt(found.pairwise.mean()) - pearson(signal, responses).mean()))
        formula = ev / np.sqrt(ev + (1 - ev) / (n_subjects - 1))
        from_formula[cell] = float(abs(found.leave_one_out.mean() - formula))
    design = f"S={_either(subjects)}, shared variance ev=.05/.2, signal AR .6, noise AR .4, T=300, {N_TARGETS} targets"
    return [
        Check(
            "V6b",
            design,
            "root of mean pairwise ISC within .01 of a perfect model's r",
            _largest(from_perfect),
            max(from_perfect.values()) <= 0.01,
        ),
        Check(
            "V6b",
            design,
            "leave-one-out ISC within .005 of ev / sqrt(ev + (1 - ev) / (S - 1))",
            _largest(from_formula),
            max(from_formula.values()) <= 0.005,
        ),
    ]


def _cell(n_repeats: int, n_samples: int, ev: float, rng: np.random.Generator) -> _Cell:
    signal = _autoregressive((1, n_samples, N_TARGETS), SIGNAL_MEMORY, rng)
    repeats = _with_noise(signal, ev, n_repeats, rng)
    astray = _autoregressive((n_samples, N_TARGETS), SIGNAL_MEMORY, rng)
    predicted = MODEL_R * signal[0] + np.sqrt(1 - MODEL_R**2) * astray
    power = repeatability(repeats)
    scored = normalise(pearson(predicted, repeats.mean(axis=0))[None], power.cc_max(), threshold=0.0)
    return _Cell(
        n_repeats,
        n_samples,
        ev,
        explainable_variance=float(power.explainable_variance.mean()),
        undefined_share=scored.undefined_share,
        ratio_of_means=float(scored.aggregate),
        mean_of_ratios=float(np.nanmean(cc_norm(predicted, repeats))),
    )


def _without_signal(design: str, cells: list[_Cell]) -> Check:
    means = {str(cell): abs(cell.explainable_variance) for cell in cells}
    shares = [cell.undefined_share for cell in cells]
    return Check(
        "V6",
        design,
        "EV = 0: |mean EV| <= .005, and 45 to 55 % of targets reported as undefined",
        f"{_largest(means)}; undefined {_span(shares)}",
        max(means.values()) <= 0.005 and min(shares) >= 0.45 and max(shares) <= 0.55,
    )


def _with_noise(signal: Floats, ev: float, n: int, rng: np.random.Generator) -> Floats:
    """So many responses of unit variance, of which the signal (1, sample, target) has the share ev."""
    noise = _autoregressive((n, *signal.shape[1:]), NOISE_MEMORY, rng)
    return np.sqrt(ev) * signal + np.sqrt(1 - ev) * noise


def _autoregressive(shape: tuple[int, ...], memory: float, rng: np.random.Generator) -> Floats:
    """Series (..., sample, target) of unit variance, each sample correlated with the one before."""
    burn_in = 50
    white = rng.normal(size=(*shape[:-2], shape[-2] + burn_in, shape[-1]))
    series = np.asarray(lfilter([np.sqrt(1 - memory**2)], [1, -memory], white, axis=-2))
    return series[..., burn_in:, :]


def _either(values: Iterable[int]) -> str:
    return "/".join(map(str, values))


def _largest(values: dict[str, float]) -> str:
    where = max(values, key=values.__getitem__)
    return f"at most {values[where]:.4f} ({where})"


def _span(values: Iterable[float]) -> str:
    listed = list(values)
    return f"{min(listed):.3f} to {max(listed):.3f}"
