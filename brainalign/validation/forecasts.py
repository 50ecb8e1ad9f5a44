"""Forecast scores of responses that look ahead, look back, or do neither, by a known number of words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from brainalign.alignment.delays import delay
from brainalign.alignment.resampling import Resampling, resampling_matrix
from brainalign.analysis.forecasts.curves import forecast_peak, past_mirror_contrast
from brainalign.analysis.forecasts.scoring import Forecast, forecast
from brainalign.analysis.forecasts.windows import reached, word_windows
from brainalign.encoding import ContiguousBlocks, RidgeEncoder
from brainalign.types import Clock, Features, Floats
from brainalign.validation.checks import Check, Size

__all__ = ["v7a", "v7b"]

WIDTH = 7
AHEAD = tuple(range(2, 9))
# What responses of each kind take up besides the present word, in words from it.
TRUTHS = {"ahead": AHEAD, "one word": (8,), "behind": tuple(range(-7, 0)), "null": ()}
# Penalties of the present words and of windows. Single words need few; among delays a coarse grid costs the windows
# what it saves in time.
WORD_ALPHAS = (1.0, 100.0, 10000.0), (10.0, 300.0, 10000.0)
VOLUME_ALPHAS = (1.0, 10.0, 100.0, 1000.0, 10000.0), (10.0, 100.0, 1000.0, 10000.0, 100000.0)

DISTANCES = (-10, -7, -4, -2, -1, 0, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20)
DECISIVE = {
    "ahead": (-4, 0, 4, 6, 7, 8, 9, 12),
    "one word": (7, 8, 11, 14, 15),
    "behind": (-4, -1, 0, 8),
    "null": (-4, -1, 0, 8, 12),
}

WORDS_PER_S, TR_S = 2.54, 1.5
FIR = tuple(range(7))
EXPLAINABLE = 0.4
DIMENSION, REDUCED = 40, 20


def v7a(size: Size = "quick", seed: int = 0) -> list[Check]:
    """Find how many words ahead responses look, word by word.

    Parameters
    ----------
    size : {"quick", "full"}
        Quick: 1,500 words of 10 dimensions, 20 targets, one seed and the distances that decide each criterion; full:
        3,000 words of 20 dimensions, 60 targets, four seeds and 21 distances from -10 to 20.
    seed : int
        Of the first data set.
    """
    scale = QUICK_WORDS if size == "quick" else FULL_WORDS
    seeds = range(seed, seed + scale.n_seeds)

    def curves(truth: str, memories: Sequence[float] = (0.0, 0.8)) -> _Curves:
        distances = DECISIVE[truth] if size == "quick" else DISTANCES
        gains = [_of_words(TRUTHS[truth], phi, scale, distances, one).gain for phi in memories for one in seeds]
        return _Curves(distances, [gain.mean(axis=0) for gain in gains])

    return [
        _found_ahead(f"{scale}; words +2 to +8", curves("ahead")),
        _nothing(f"{scale}; present word only", curves("null")),
        _behind(f"{scale}; words -7 to -1", curves("behind")),
        _one_word(f"{scale}, AR 0 only; word +8", curves("one word", (0.0,))),
    ]


def v7b(size: Size = "quick", seed: int = 0) -> list[Check]:
    """Tell forecasts from what base features lost and from the shape of haemodynamic responses.

    Parameters
    ----------
    size : {"quick", "full"}
        Quick: 20 targets, the cells that decide each criterion; full: 50 targets, all 16 cells.
    seed : int
        Of the first data set.
    """
    quick = size == "quick"
    n_volumes, n_targets, n_seeds = 1200, 20 if quick else 50, 2
    design = (
        f"words 2.54/s, p {DIMENSION}, white or slow (AR .6 to .98), TR 1.5 s, n {n_volumes}, {n_targets} targets, "
        f"EV {EXPLAINABLE}, gap 8, {n_seeds} seed(s)"
    )

    def mean_of(cell: _Cell, distances: Sequence[int] = (-2, 8)) -> _Found:
        found = [cell.forecast(n_volumes, n_targets, distances, seed + number) for number in range(n_seeds)]
        return _Found(np.mean([one.gain.mean(axis=0) for one in found], axis=0), found[0])

    null = [cell for cell in _cells(()) if not quick or (cell.fixed and cell.slow)]
    fixed = [cell for cell in _cells(AHEAD) if cell.fixed and not (quick and (cell.slow or not cell.lossy))]
    fir = [cell for cell in _cells(AHEAD) if not cell.fixed and not (quick and (cell.slow or not cell.lossy))]
    around = (-4, -3, -2, -1, 0, 2, 4, 6, 7, 8, 9, 10) if quick else tuple(range(-6, 13))
    of_null = {str(cell): mean_of(cell) for cell in null}
    of_fixed = {str(cell): mean_of(cell, around) for cell in fixed}
    of_fir = {str(cell): mean_of(cell) for cell in fir}
    return [
        _raw_misleads(
            f"{design}; null, base reduced to 20", {name: of_null[name] for name in of_null if "PCA" in name}
        ),
        _contrast_does_not(f"{design}; null", of_null),
        _contrast_finds(f"{design}; +2 to +8 words, fixed HRF", of_fixed),
        _blind_with_delays(f"{design}; +2 to +8 words, FIR 0-9 s", of_fir),
    ]


# ------------------------------------------------------------------------------------------- word by word


@dataclass(frozen=True)
class _Words:
    """How much is simulated word by word."""

    n_words: int
    dimension: int
    n_targets: int
    n_seeds: int
    n_folds: int

    def __str__(self) -> str:
        return (
            f"words AR 0 and .8, p {self.dimension}, n {self.n_words}, {self.n_targets} targets, SNR .3, windows of "
            f"{WIDTH} words, {self.n_seeds} seed(s)"
        )


QUICK_WORDS, FULL_WORDS = _Words(1500, 10, 20, 1, 3), _Words(3000, 20, 60, 4, 5)


@dataclass(frozen=True)
class _Curves:
    """F at each distance, averaged over targets, of each data set."""

    distances: Sequence[int]
    gains: Sequence[Floats]

    def at(self, distance: int) -> list[float]:
        return [float(gain[self.distances.index(distance)]) for gain in self.gains]

    def peaks(self) -> list[float]:
        """d* of each; below every distance where the curve is nowhere above zero."""
        found = [float(forecast_peak(gain[None, None], self.distances).at[0]) for gain in self.gains]
        return [-np.inf if np.isnan(peak) else peak for peak in found]


def _of_words(offsets: Sequence[int], phi: float, scale: _Words, distances: Sequence[int], seed: int) -> Forecast:
    """Forecast scores of responses to single words."""
    rng = np.random.default_rng(seed)
    vectors = _autoregressive(phi, scale.n_words, scale.dimension, rng)
    drive = _drive(vectors, offsets, scale.n_targets, rng)
    responses = np.sqrt(0.3) * _z_scored(drive) + rng.normal(size=drive.shape)
    story = {"story": _story(vectors, np.arange(scale.n_words) * 0.4)}
    made = word_windows(story, distances, WIDTH, n_components=None)
    kept = made.complete["story"]
    return forecast(
        RidgeEncoder(WORD_ALPHAS[0], inner_splits=2, baseline_alphas=WORD_ALPHAS[1]),
        vectors[kept],
        responses[kept],
        None,
        ContiguousBlocks(scale.n_folds, gap=20),
        {distance: of["story"].values[0, kept] for distance, of in made.features.items()},
        WIDTH,
        n_floor=0,
    )


def _found_ahead(design: str, curves: _Curves) -> Check:
    peaks, heights = curves.peaks(), curves.at(8)
    observed = f"d* {_counted(peaks)}; F(8) {_span(heights)}"
    passed = float(np.mean(np.array(peaks) == 8)) >= 0.9 and min(heights) >= 0.08
    return Check("V7a", design, "d* = 8 in >= 90 % of data sets, F(8) >= .08", observed, passed)


def _nothing(design: str, curves: _Curves) -> Check:
    largest = float(np.max(curves.gains))
    return Check("V7a", design, "F(d) <= .005 at all d", f"largest F {largest:.3f}", largest <= 0.005)


def _behind(design: str, curves: _Curves) -> Check:
    peaks = curves.peaks()
    return Check("V7a", design, "argmax of F at d <= 0", f"d* {_counted(peaks)}", max(peaks) <= 0)


def _one_word(design: str, curves: _Curves) -> Check:
    top = [float(np.mean(curves.at(distance))) for distance in curves.distances if 8 <= distance <= 14]
    drops = [float(np.mean(top) - np.mean(curves.at(outside))) for outside in (7, 15)]
    observed = f"range over 8 to 14 {np.ptp(top):.4f}; drop at 7 {drops[0]:.3f}, at 15 {drops[1]:.3f}"
    criterion = "plateau 8 to 14 (range <= .005), drop at 7 and 15 >= .05"
    return Check("V7a", design, criterion, observed, bool(np.ptp(top) <= 0.005 and min(drops) >= 0.05))


# ------------------------------------------------------------------------------------------- volumes


@dataclass(frozen=True)
class _Cell:
    """One way to simulate and to analyse: what is taken up, words' memory, resampling, and the base features."""

    offsets: Sequence[int]
    slow: bool
    fixed: bool
    lossy: bool

    def __str__(self) -> str:
        memory, way = "slow" if self.slow else "white", "Glover" if self.fixed else "FIR"
        return f"{memory} {way} {'PCA20' if self.lossy else 'lossless'}"

    def forecast(self, n_volumes: int, n_targets: int, distances: Sequence[int], seed: int) -> Forecast:
        """Forecast scores of haemodynamic responses to words that come at random moments."""
        rng = np.random.default_rng(seed)
        duration_s = n_volumes * TR_S
        onset_s = np.cumsum(rng.gamma(4.0, 1 / (4.0 * WORDS_PER_S), size=int(duration_s * WORDS_PER_S)))
        onset_s = onset_s[onset_s < duration_s]
        vectors = _slow(len(onset_s), rng) if self.slow else rng.normal(size=(len(onset_s), DIMENSION))
        drive = _drive(vectors, self.offsets, n_targets, rng)
        evoked = _z_scored(_on_volumes(drive, onset_s, n_volumes, "hrf"))
        responses = np.sqrt(EXPLAINABLE) * evoked + np.sqrt(1 - EXPLAINABLE) * rng.normal(size=evoked.shape)
        story = {"story": _story(vectors, onset_s)}
        # Both of one size, as in the paper.
        n_components = REDUCED if self.lossy else DIMENSION
        made = word_windows(story, distances, WIDTH, n_components)
        base = word_windows(story, (0,), 1, n_components).features[0]["story"].values[0]
        times_s = Clock(TR_S).times(n_volumes)
        kept = ~reached(times_s, onset_s, made.complete["story"])

        def place(values: Floats) -> Floats:
            return self._placed(values, onset_s, n_volumes)[kept]

        return forecast(
            RidgeEncoder(VOLUME_ALPHAS[0], inner_splits=2, baseline_alphas=VOLUME_ALPHAS[1]),
            place(base),
            responses[kept],
            None,
            ContiguousBlocks(5, gap=8),
            {distance: place(of["story"].values[0]) for distance, of in made.features.items()},
            WIDTH,
            delays=(0,) if self.fixed else FIR,
            n_floor=0,
        )

    def _placed(self, values: Floats, onset_s: Floats, n_volumes: int) -> Floats:
        if self.fixed:
            return _on_volumes(values, onset_s, n_volumes, "hrf")
        return delay(_on_volumes(values, onset_s, n_volumes, "sum"), FIR)


@dataclass(frozen=True)
class _Found:
    """F at each distance, averaged over targets and seeds, and the forecast of the first seed."""

    gain: Floats
    first: Forecast

    def at(self, distance: int) -> float:
        return float(self.gain[self.first.distances.tolist().index(distance)])

    @property
    def contrast(self) -> float:
        """A(8)."""
        return self.at(8) - self.at(-2)


def _cells(offsets: Sequence[int]) -> list[_Cell]:
    return [
        _Cell(offsets, slow, fixed, lossy)
        for slow in (False, True)
        for fixed in (False, True)
        for lossy in (True, False)
    ]


def _raw_misleads(design: str, found: Mapping[str, _Found]) -> Check:
    raw = {name: one.at(8) for name, one in found.items()}
    criterion = "negative control: raw F(8) >= .01 without any forecast"
    return Check("V7b", design, criterion, _each(raw), min(raw.values()) >= 0.01)


def _contrast_does_not(design: str, found: Mapping[str, _Found]) -> Check:
    contrasts = {name: one.contrast for name, one in found.items()}
    worst = max(map(abs, contrasts.values()))
    return Check("V7b", design, "|A(8)| <= .015 in each cell", _each(contrasts), worst <= 0.015)


def _contrast_finds(design: str, found: Mapping[str, _Found]) -> Check:
    contrasts = {name: one.contrast for name, one in found.items()}
    curves = np.stack([past_mirror_contrast(one.gain, one.first.distances, WIDTH) for one in found.values()])
    peak = forecast_peak(curves[None], found[next(iter(found))].first.distances)
    mean = float(peak.at.mean())
    holds = bool(((peak.low <= 8) & (peak.high >= 8)).all())
    tops = ", ".join(
        f"{at:g} ({low:g} to {high:g})" for at, low, high in zip(peak.at, peak.low, peak.high, strict=True)
    )
    return Check(
        "V7b",
        design,
        "A(8) >= .03 in each cell; d* of A within 5 to 9 on average, 8 on each flat top (90 % of the peak)",
        f"{_each(contrasts)}; d* {tops}",
        min(contrasts.values()) >= 0.03 and 5 <= mean <= 9 and holds,
    )


def _blind_with_delays(design: str, found: Mapping[str, _Found]) -> Check:
    contrasts = {name: one.contrast for name, one in found.items()}
    told = all([finding.code for finding in one.first.findings] == ["W214"] for one in found.values())
    observed = f"{_each(contrasts)}; W214 {'raised' if told else 'missing'}"
    return Check(
        "V7b", design, "W214 raised; A(8) < .03: not identifiable", observed, told and max(contrasts.values()) < 0.03
    )


# ------------------------------------------------------------------------------------------- what both use


def _autoregressive(phi: float, n: int, dimension: int, rng: np.random.Generator) -> Floats:
    """Vectors (n, dimension) of unit variance whose neighbours correlate with `phi`."""
    white = rng.normal(size=(n + 200, dimension))
    return np.asarray(lfilter([1.0], [1.0, -phi], white, axis=0))[200:] * np.sqrt(1 - phi**2)


def _slow(n: int, rng: np.random.Generator) -> Floats:
    """Vectors whose dimensions have memories from .6 to .98, the slower of less variance, turned at random.

    What principal components of single words leave out is then what those of windows keep.
    """
    memories, sizes = np.linspace(0.6, 0.98, DIMENSION), np.linspace(1.3, 0.7, DIMENSION)
    of_each = [size * _autoregressive(phi, n, 1, rng) for phi, size in zip(memories, sizes, strict=True)]
    turn = np.linalg.qr(rng.normal(size=(DIMENSION, DIMENSION)))[0]
    return np.hstack(of_each) @ turn


def _drive(vectors: Floats, offsets: Sequence[int], n_targets: int, rng: np.random.Generator) -> Floats:
    """What each word evokes: its own vector's part and, as large, that of the words at `offsets` from it."""
    shape = (vectors.shape[1], n_targets)
    drive = _z_scored(vectors @ rng.normal(size=shape))
    if not len(offsets):
        return drive
    # What wraps around stands at words whose windows are incomplete: they are left out.
    others = [np.roll(vectors, -offset, axis=0) @ rng.normal(size=shape) for offset in offsets]
    return drive + _z_scored(np.sum(others, axis=0))


def _on_volumes(values: Floats, onset_s: Floats, n_volumes: int, resampling: Resampling) -> Floats:
    weights = resampling_matrix(onset_s, np.full(len(onset_s), 0.3), Clock(TR_S), n_volumes, resampling)
    return weights @ values


def _story(vectors: Floats, onset_s: Floats) -> Features:
    return Features("simulated", ("vectors",), vectors[None].astype(np.float32), onset_s, np.full(len(onset_s), 0.3))


def _z_scored(values: Floats) -> Floats:
    return (values - values.mean(axis=0)) / values.std(axis=0)


def _counted(peaks: Sequence[float]) -> str:
    return ", ".join(f"{peak:g} ({peaks.count(peak)} of {len(peaks)})" for peak in sorted(set(peaks)))


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


def _each(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:+.3f}" for name, value in values.items())
