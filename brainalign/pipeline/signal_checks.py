"""Three things that responses to language show where clocks, offsets and words are right, and not where they are wrong.

Subjects who heard the same resemble each other (`shared_responses`); BOLD follows the rate of words as the haemodynamic
response does, and no earlier or later (`word_rate_course`); sensors and electrodes answer each word within a second
(`word_response`). None of them needs a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from brainalign.alignment import cleaner, resampling_matrix
from brainalign.encoding.metrics import is_constant, pearson
from brainalign.types import Clock, Finding, Floats, Recording, Stimulus

__all__ = [
    "CLEAR_R",
    "LATENCIES_S",
    "SHIFTS_S",
    "Course",
    "SharedResponse",
    "WordResponse",
    "lag_is_odd",
    "lag_message",
    "odd_word_lag",
    "on_coarse_clock",
    "shared_responses",
    "word_rate_course",
    "word_response",
]

# Faster signals are averaged over so long before subjects are compared: what they share in speech is slow.
COARSE_S = 0.1
LEAST_ROWS = 20
SHIFTS_S = np.arange(-10.0, 11.0)
RATE_STEP_S = 0.1
HIGH_PASS_S = 128.0
HRF_S = 32.0
WORDS_TOGETHER = 20
LATENCIES_S = np.round(np.arange(-0.5, 1.005, 0.01), 2)
# The response to a word is highest so many seconds later in Glover's form, and between these wherever it was measured.
HRF_PEAK_S = 5.0
LAGS_S = (3.0, 8.0)
# So clear a correlation with the rate of words says where the clock is; of few rows it must be clearer still.
CLEAR_R = 0.1
CLEAR_DEVIATIONS = 5.0
# Of whole brains so many evenly spread targets are enough.
N_TARGETS = 1000


@dataclass(frozen=True)
class Course:
    """Some targets' responses to a stimulus, on the stimulus's clock.

    Parameters
    ----------
    names : tuple of str
        Of the targets.
    clock : Clock
        Its start is in seconds of the stimulus.
    values : array (row, target), float32
    """

    names: tuple[str, ...]
    clock: Clock
    values: Floats


@dataclass(frozen=True)
class SharedResponse:
    """How alike subjects' responses to one stimulus are.

    Parameters
    ----------
    names : tuple of str
        Of the targets that all have.
    subjects : tuple of str
    r : array (subject, target)
        Of each subject with the mean of the others; NaN where a subject's target is constant or not finite.
    step_s : float
        Of the clock they were compared on.
    """

    names: tuple[str, ...]
    subjects: tuple[str, ...]
    r: Floats
    step_s: float


@dataclass(frozen=True)
class WordResponse:
    """The mean response to the onset of a word.

    Parameters
    ----------
    n_words : int
        Averaged.
    channels : array (latency, channel)
        Mean over words at `LATENCIES_S`, in standard deviations of each channel over the recording, less the mean over
        latencies; NaN for channels that are constant or not finite.
    field_power : array (latency,)
        Root mean square of it over channels.
    snr : float
        The highest field power over that of the noise: of the plus-minus average, in which every other block of 20
        words is subtracted (root mean square over latencies).
    half_split_r : float
        Correlation, over channels and latencies, of the means over every other block of words and over the rest.
    """

    n_words: int
    channels: Floats
    field_power: Floats
    snr: float
    half_split_r: float


def on_coarse_clock(recording: Recording, response: Floats, n_targets: int, *, high_pass: bool) -> Course:
    """At most ten rows a second, on the stimulus's clock, of at most `n_targets` evenly spread targets.

    Faster signals are averaged over tenths of a second; with `high_pass`, drifts slower than 128 s are taken out.
    """
    columns = _spread(response.shape[1], n_targets)
    step_s, start_s = recording.clock.step_s, recording.clock.start_s - recording.offset_s
    n_joined = min(max(1, round(COARSE_S / step_s)), len(response))
    kept = response[: len(response) // n_joined * n_joined, columns]
    values = kept.reshape(-1, n_joined, len(columns)).mean(axis=1)
    if high_pass and recording.clock.step_s * len(response) > HIGH_PASS_S:
        values = cleaner(recording.clock.times(len(values)), pd.DataFrame(), HIGH_PASS_S, str(recording))(values)
    names = tuple(recording.targets["name"].astype(str).iloc[columns])
    return Course(names, Clock(step_s * n_joined, start_s + step_s * (n_joined - 1) / 2), values.astype(np.float32))


def shared_responses(courses: Mapping[str, Course]) -> SharedResponse | None:
    """Correlate each subject's response with the mean of the others' (Hasson et al., 2004; Nastase et al., 2019).

    Parameters
    ----------
    courses : mapping of subject -> Course
        To one stimulus. They are interpolated linearly to the coarsest of their clocks, where all of them were
        recorded; targets are matched by name.

    Returns
    -------
    SharedResponse or None
        None where there are fewer than two subjects, common targets, or 20 common rows.

    Examples
    --------
    >>> heard = np.random.default_rng(0).normal(size=(50, 1))
    >>> found = shared_responses({name: Course(("A1",), Clock(2.0), heard) for name in "abc"})
    >>> found.r.ravel().round(3).tolist()
    [1.0, 1.0, 1.0]
    """
    if len(courses) < 2:
        return None
    names = [name for name in next(iter(courses.values())).names if all(name in set(c.names) for c in courses.values())]
    step_s = max(course.clock.step_s for course in courses.values())
    start_s = max(course.clock.start_s for course in courses.values())
    stop_s = min(course.clock.times(len(course.values))[-1] for course in courses.values())
    times = start_s + step_s * np.arange(int((stop_s - start_s) / step_s + 1e-6) + 1)
    if not names or stop_s < start_s or len(times) < LEAST_ROWS:
        return None
    series = np.stack([_standardised(_interpolated(course, names, times)) for course in courses.values()])
    total = np.nansum(series, axis=0)
    r = np.stack([pearson(own, total - np.nan_to_num(own)) for own in series])
    return SharedResponse(tuple(names), tuple(courses), r, step_s)


def word_rate_course(recording: Recording, response: Floats, words: pd.DataFrame) -> Floats:
    """Correlate the mean response with the rate of words as the haemodynamic response passes it on, moved in time.

    Targets are standardised and averaged; both courses lose drifts slower than 128 s, as in `Hemodynamic`.

    Returns
    -------
    array (shift,)
        At each of `SHIFTS_S` seconds by which the words are moved later; highest near zero where the offset is right,
        and at +4 s where the response comes four seconds later than the clock says. NaN where too little was recorded.
    """
    times = recording.clock.times(len(response))
    onset_s = recording.offset_s + words["onset"].to_numpy(dtype=float)
    heard = np.flatnonzero((times >= onset_s[0]) & (times <= onset_s[-1] + HRF_S / 2))
    nowhere = np.full(len(SHIFTS_S), np.nan)
    if len(heard) < LEAST_ROWS:
        return nowhere
    targets = _standardised(response[heard])
    targets = targets[:, np.isfinite(targets).all(axis=0)]
    if targets.shape[1] == 0:
        return nowhere
    clean = cleaner(times[heard], pd.DataFrame(), HIGH_PASS_S, str(recording))
    rate_times, rate = _convolved_rate(onset_s)
    moved = np.stack([np.interp(times[heard] - s, rate_times, rate, left=0.0, right=0.0) for s in SHIFTS_S], axis=1)
    y = clean(targets.mean(axis=1, keepdims=True))
    return pearson(np.broadcast_to(y, moved.shape), clean(moved))


def odd_word_lag(recordings: Sequence[Recording], stimuli: Mapping[str, Stimulus]) -> list[Finding]:
    """Warn (W216) if one subject's fMRI clearly follows the rate of words, but less than 3 or more than 8 s after them.

    Parameters
    ----------
    recordings : sequence of Recording
        Of one subject; those of other modalities, and whose rows are items, are passed over.
    stimuli : mapping of id -> Stimulus
    """
    courses, n_rows = [], 0
    for recording in recordings:
        words = stimuli[recording.stimulus].words
        if recording.modality != "fmri" or "item" in words:
            continue
        response = recording.response()
        r = word_rate_course(recording, response[:, _spread(response.shape[1], N_TARGETS)], words)
        if np.isfinite(r).all():
            courses.append(r)
            n_rows += len(response)
    if not courses:
        return []
    r = np.mean(courses, axis=0)
    if not lag_is_odd(r, n_rows, least_r=2 * CLEAR_R):
        return []
    return [Finding("W216", f"subject {recordings[0].subject}", lag_message(r))]


def lag_is_odd(r: Floats, n_rows: int, least_r: float) -> bool:
    """Whether responses clearly follow the rate of words, and sooner or later than they should.

    Parameters
    ----------
    r : array (shift,)
        What `word_rate_course` gives, or a mean of several.
    n_rows : int
        Of the recordings behind it: of few rows a correlation must be larger to be clear.
    least_r : float
        That the highest correlation must have in any case; it must exceed the one at no shift by half of that.

    Examples
    --------
    >>> r = np.where(SHIFTS_S == 6.0, 0.5, 0.1)
    >>> lag_is_odd(r, n_rows=400, least_r=0.2), lag_is_odd(r, n_rows=50, least_r=0.2)
    (True, False)
    """
    least_r = max(least_r, CLEAR_DEVIATIONS / np.sqrt(n_rows))
    is_clear = r.max() >= least_r and r.max() - r_at_no_shift(r) >= least_r / 2
    return bool(is_clear and not LAGS_S[0] <= word_lag_s(r) <= LAGS_S[1])


def word_lag_s(r: Floats) -> float:
    """Seconds from the words to the highest response, by what `word_rate_course` gives.

    Examples
    --------
    >>> word_lag_s(np.where(SHIFTS_S == 2.0, 1.0, 0.0))
    7.0
    """
    return HRF_PEAK_S + float(SHIFTS_S[r.argmax()])


def r_at_no_shift(r: Floats) -> float:
    """The correlation where words are not moved, of what `word_rate_course` gives."""
    return float(r[len(SHIFTS_S) // 2])


def lag_message(r: Floats) -> str:
    """What is odd about a response that follows words too soon or too late."""
    shift_s = float(SHIFTS_S[r.argmax()])
    later = "later" if shift_s > 0 else "earlier"
    return (
        f"the response follows the rate of words {abs(shift_s):g} s {later} than the haemodynamic response does "
        f"(r = {r.max():.2f} there, {r_at_no_shift(r):z.2f} at zero): {word_lag_s(r):g} s after the words, where "
        f"{LAGS_S[0]:g} to {LAGS_S[1]:g} s are expected; look at offset and start."
    )


def word_response(recording: Recording, response: Floats, words: pd.DataFrame) -> WordResponse | None:
    """Average the response around the onsets of words, from 0.5 s before to 1 s after.

    Returns
    -------
    WordResponse or None
        None where fewer than two words, or no channel, can be used.
    """
    clock = recording.clock
    onset_s = recording.offset_s + words["onset"].to_numpy(dtype=float) - clock.start_s
    rows = np.round((onset_s[:, None] + LATENCIES_S) / clock.step_s).astype(int)  # (word, latency)
    rows = rows[(rows[:, 0] >= 0) & (rows[:, -1] < len(response))]
    with np.errstate(invalid="ignore"):
        spread = response.std(axis=0, dtype=np.float64)
    usable = np.isfinite(spread) & (spread > 0)
    if len(rows) < 2 or not usable.any():
        return None
    scaled = response[:, usable] / spread[usable]
    # Words that follow each other share a second of signal, so the halves are made of blocks of words.
    in_first = np.arange(len(rows)) // min(WORDS_TOGETHER, len(rows) // 2) % 2 == 0
    first, second = (_centred_mean(scaled, half) for half in (rows[in_first], rows[~in_first]))
    mean, noise = (first + second) / 2, (first - second) / 2
    channels = np.full((len(LATENCIES_S), response.shape[1]), np.nan)
    channels[:, usable] = mean
    field_power = np.sqrt((mean**2).mean(axis=1))
    noise_power = float(np.sqrt((noise**2).mean()))
    return WordResponse(
        len(rows),
        channels,
        field_power,
        float(field_power.max() / noise_power) if noise_power > 0 else np.inf,
        float(pearson(first.reshape(-1, 1), second.reshape(-1, 1))[0]),
    )


def _spread(n_targets: int, at_most: int) -> np.ndarray:
    """Evenly spread targets."""
    return np.unique(np.linspace(0, n_targets - 1, min(at_most, n_targets)).round().astype(int))


def _centred_mean(values: Floats, rows: np.ndarray) -> Floats:
    """The mean over words of `values` at `rows` (word, latency), less its mean over latencies."""
    mean = np.stack([values[rows[:, k]].mean(axis=0, dtype=np.float64) for k in range(rows.shape[1])])
    return mean - mean.mean(axis=0)


def _convolved_rate(onset_s: Floats) -> tuple[Floats, Floats]:
    """The rate of words through Glover's response, every tenth of a second, and the times."""
    edges = np.arange(onset_s[0], onset_s[-1] + HRF_S + RATE_STEP_S, RATE_STEP_S)
    counts, _ = np.histogram(onset_s, edges)
    kernel = resampling_matrix(np.zeros(1), np.zeros(1), Clock(RATE_STEP_S), round(HRF_S / RATE_STEP_S), "hrf")[:, 0]
    return edges[:-1] + RATE_STEP_S / 2, np.convolve(counts, kernel)[: len(counts)]


def _interpolated(course: Course, names: list[str], times: Floats) -> Floats:
    own = course.clock.times(len(course.values))
    columns = [course.names.index(name) for name in names]
    return np.stack([np.interp(times, own, course.values[:, column]) for column in columns], axis=1)


def _standardised(values: Floats) -> Floats:
    """Columns with mean zero and a standard deviation of one; NaN where one is constant or not finite."""
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = values - values.mean(axis=0)
        return np.where(is_constant(values.astype(np.float32)), np.nan, centred / centred.std(axis=0))
