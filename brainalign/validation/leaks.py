"""Ground truths about leaks: scores where nothing predicts, and where only the word rate does."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from brainalign.alignment import delay, resampled
from brainalign.analysis.partitions.ladder import baseline_ladder, oasm_r
from brainalign.encoding import ContiguousBlocks, LeaveOneRunOut, RidgeEncoder, Splitter, cross_val_scores, pearson
from brainalign.errors import DataError, FitWarning
from brainalign.types import Clock, Floats
from brainalign.validation.checks import Check, Size

__all__ = ["v4", "v4b", "v13"]

N_FOLDS = 5
# Samples in which an autoregressive series forgets how it was started.
BURN_IN = 200


def v4(size: Size = "quick", seed: int = 0) -> list[Check]:
    """Independent features and responses: what folds, gaps and concatenation make of nothing.

    Shuffled folds are refused, and if insisted on give high scores; contiguous blocks with a gap give none. One r over
    the predictions of all folds is below zero, as a fold's training mean is low where its held-out samples are high.
    """
    rng = np.random.default_rng(seed)
    slow, white = _Mean(), _Mean()
    for number in range(4 if size == "quick" else 30):
        x, y = (_autoregressive(rng, 600, 100, 0.8) for _ in range(2))
        shuffled = _Shuffled(N_FOLDS, seed + number)
        slow.add("refused", _is_refused(x, y, shuffled))
        slow.add("shuffled", _insisted_r(x, y, shuffled))
        slow.add("blocks", _mean_r(x, y, ContiguousBlocks(N_FOLDS, gap=20)))
        x, y = rng.normal(size=(2, 600, 100))
        white.add("blocks", _mean_r(x, y, ContiguousBlocks(N_FOLDS)))
        white.add("concatenated", _concatenated_r(x, y, ContiguousBlocks(N_FOLDS)))
    related = "independent X (600, 100), Y (600, 100), "
    return [
        Check(
            "V4",
            related + "AR .8, shuffled folds",
            "refused unless allow_leaky=True, then a warning and mean r >= .4",
            f"refused {slow['refused']:.0%}, r = {slow['shuffled']:.3f}",
            slow["refused"] == 1.0 and slow["shuffled"] >= 0.4,
        ),
        Check(
            "V4",
            related + "AR .8, contiguous folds, gap 20 samples",
            "|mean r| <= .015",
            f"r = {slow['blocks']:.4f}",
            abs(slow["blocks"]) <= 0.015,
        ),
        Check(
            "V4",
            related + "white, r of each contiguous fold",
            "|mean r| <= .01",
            f"r = {white['blocks']:.4f}",
            abs(white["blocks"]) <= 0.01,
        ),
        Check(
            "V4",
            related + "white, one r over the predictions of all folds",
            "mean r <= -.04 (why scores are means over folds)",
            f"r = {white['concatenated']:.3f}",
            white["concatenated"] <= -0.04,
        ),
    ]


def v4b(size: Size = "quick", seed: int = 0) -> list[Check]:
    """A model that knows only which samples are neighbours: it predicts in shuffled folds, in whole runs nothing."""
    n_runs, n_samples, n_targets = 10, 50, 20 if size == "quick" else 100
    rng = np.random.default_rng(seed)
    runs = np.repeat(np.arange(n_runs), n_samples)
    checks = []
    for phi, least in ((0.3, 0.2), (0.6, 0.5), (0.9, 0.8)):
        y = np.vstack([_autoregressive(rng, n_samples, n_targets, phi) for _ in range(n_runs)])
        shuffled = float(oasm_r(y, runs, _Shuffled(N_FOLDS, seed)).mean())
        whole = oasm_r(y, runs, LeaveOneRunOut())
        found = float(np.nan_to_num(whole).mean())
        checks.append(
            Check(
                "V4b",
                f"10 runs of 50 samples, AR {phi:g}; OASM, sigma 2 samples",
                f"shuffled folds: mean r >= {least:g}; whole runs: |mean r| <= .01, counting undefined as none",
                f"shuffled {shuffled:.3f}; whole runs {found:.3f} (undefined: {np.isnan(whole).mean():.0%})",
                shuffled >= least and abs(found) <= 0.01,
            )
        )
    return checks


def v13(size: Size = "quick", seed: int = 0) -> list[Check]:
    """Responses to the word rate only: random embeddings added up predict them, but add nothing to the rate."""
    rng = np.random.default_rng(seed)
    r, unique, share = _Mean(), _Mean(), _Mean()
    for _ in range(2 if size == "quick" else 12):
        rate, added, averaged, y = _word_rate_only(rng, n_volumes=600, n_targets=40, n_dimensions=50)
        ladder = baseline_ladder([added, averaged], {"word rate": rate}, y, None, ContiguousBlocks(N_FOLDS, gap=10))
        r.add("rate", float(ladder["word rate"].r.mean()))
        r.add("added", float(ladder.r[0].mean()))
        r.add("averaged", float(np.nan_to_num(ladder.r[1]).mean()))
        unique.add("added", float(ladder["word rate"].unique_r2[0].mean()))
        share.add("added", float(ladder["word rate"].share_explained[0]))
    design = "brain that follows the word rate (AR .95) through Glover's response; random embeddings, mean not zero; "
    return [
        Check(
            "V13",
            design + "added up per volume",
            "r >= .9 x r of the word rate, which is >= .3",
            f"r = {r['added']:.3f}, of the word rate {r['rate']:.3f}",
            r["added"] >= 0.9 * r["rate"] and r["rate"] >= 0.3,
        ),
        Check(
            "V13",
            design + "added up, beyond the word rate",
            "unique R2 within .02 of 0, and the rate explains 90 % or more",
            f"unique R2 = {unique['added']:.4f}, the rate explains {share['added']:.0%}",
            abs(unique["added"]) <= 0.02 and share["added"] >= 0.9,
        ),
        Check("V13", design + "averaged", "r < .1", f"r = {r['averaged']:.3f}", r["averaged"] < 0.1),
    ]


class _Mean:
    """Means by name over repetitions."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> float:
        return float(np.mean(self._values[name]))


@dataclass(frozen=True)
class _Shuffled:
    """Folds as they should not be."""

    n_splits: int
    seed: int

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        fold = np.random.default_rng(self.seed).permutation(np.arange(len(X)) % self.n_splits)
        for number in range(self.n_splits):
            yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def _is_refused(x: Floats, y: Floats, splitter: Splitter) -> bool:
    try:
        cross_val_scores(x, y, splitter=splitter)
    except DataError as refusal:
        return "not contiguous" in str(refusal)
    return False


def _insisted_r(x: Floats, y: Floats, splitter: Splitter) -> float:
    """The mean r on folds that are refused unless insisted on; NaN if no warning comes with it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        r = cross_val_scores(x, y, splitter=splitter, allow_leaky=True).r
    warned = any(issubclass(one.category, FitWarning) and "Leaky" in str(one.message) for one in caught)
    return float(r.mean()) if warned else float("nan")


def _mean_r(x: Floats, y: Floats, splitter: Splitter) -> float:
    return float(cross_val_scores(x, y, splitter=splitter).r.mean())


def _concatenated_r(x: Floats, y: Floats, splitter: Splitter) -> float:
    """The mean over targets of one r over the predictions of all folds, end to end."""
    predicted = np.empty_like(y)
    for train, test in splitter.split(x):
        predicted[test] = RidgeEncoder().fit(x[train], y[train]).predict(x[test])
    return float(pearson(predicted, y).mean())


def _word_rate_only(
    rng: np.random.Generator, n_volumes: int, n_targets: int, n_dimensions: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """The word rate, random embeddings added up and averaged (volume, 4 delays x dimension), and the responses.

    Three words a second on average; a fifth of the responses' variance follows the rate.
    """
    tr_s, delays = 2.0, (1, 2, 3, 4)
    slow = _autoregressive(rng, n_volumes, 1, 0.95)[:, 0] * np.sqrt(1.0 - 0.95**2)
    counts = rng.poisson(3.0 * tr_s * np.exp(0.3 * slow))
    start_s = np.repeat(tr_s * np.arange(n_volumes), counts)
    onset_s = np.sort(start_s + rng.uniform(0.0, tr_s, len(start_s)))
    duration_s, clock = np.full(len(onset_s), 0.2), Clock(tr_s)
    ones = np.ones((1, len(onset_s), 1))
    embeddings = rng.normal(size=n_dimensions) + rng.normal(size=(1, len(onset_s), n_dimensions))
    rate, added = (resampled(values, onset_s, duration_s, clock, n_volumes, "sum")[0] for values in (ones, embeddings))
    averaged = resampled(embeddings, onset_s, duration_s, clock, n_volumes, "mean")[0]
    signal = resampled(ones, onset_s, duration_s, clock, n_volumes, "hrf")[0]
    signal = (signal - signal.mean()) / signal.std()
    y = np.sqrt(0.2) * signal + np.sqrt(0.8) * rng.normal(size=(n_volumes, n_targets))
    return delay(rate, delays), delay(added, delays), delay(averaged, delays), y


def _autoregressive(rng: np.random.Generator, n_samples: int, n_columns: int, phi: float) -> Floats:
    """Independent first-order autoregressive series (sample, column)."""
    from scipy.signal import lfilter

    noise = rng.normal(size=(BURN_IN + n_samples, n_columns))
    return np.asarray(lfilter([1.0], [1.0, -phi], noise, axis=0))[BURN_IN:]
