"""Word-locked epochs: planted latencies come back, and what is left out or clipped is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from brainalign.alignment import Epochs
from brainalign.encoding import ContiguousBlocks, RidgeEncoder, cross_validate
from brainalign.encoding.responses import target_status
from brainalign.errors import DataError, RecipeError
from brainalign.types import Clock, Features, Recording, Stimulus

N_WORDS, LEAD_S = 700, 2.0
LATENCIES_S = np.array([0.12, 0.25, 0.4])
WIDTH_S = 0.03
PLAIN = {"band_hz": (None, None), "clip": None}


@pytest.fixture(scope="module")
def story() -> Stimulus:
    random = np.random.default_rng(0)
    onset = np.cumsum(random.gamma(4.0, 0.33 / 4, N_WORDS))
    return Stimulus("story", pd.DataFrame({"onset": onset, "duration": 0.2, "text": "word"}))


@pytest.fixture(scope="module")
def features(story: Stimulus) -> Features:
    values = np.random.default_rng(1).normal(size=(1, N_WORDS, 5)).astype(np.float32)
    words = story.words
    return Features("space", ("layer 0",), values, words["onset"].to_numpy(), words["duration"].to_numpy())


def recording(
    signal: np.ndarray, sfreq_hz: float, offset_s: float = LEAD_S, start_s: float = 0.0, **more: Any
) -> Recording:
    targets = pd.DataFrame({"name": [f"sensor {i}" for i in range(signal.shape[1])], "kind": "sensor"})
    clock = Clock(1 / sfreq_hz, start_s)
    return Recording("01", "1", "story", "meg", clock, offset_s, targets, lambda: signal, "digest", **more)


def bumps(features: Features, times_s: np.ndarray, latencies_s: np.ndarray) -> np.ndarray:
    """Each channel answers each word with a bump at its latency, its height a weighting of the word's features."""
    signal = np.zeros((len(times_s), len(latencies_s)))
    for channel, latency in enumerate(latencies_s):
        height = features.values[0] @ np.random.default_rng(channel).normal(size=features.values.shape[2])
        for onset, size in zip(features.onset_s + LEAD_S + latency, height, strict=True):
            near = slice(*np.searchsorted(times_s, [onset - 5 * WIDTH_S, onset + 5 * WIDTH_S]))
            signal[near, channel] += size * np.exp(-0.5 * ((times_s[near] - onset) / WIDTH_S) ** 2)
    return signal


def times_of(story: Stimulus, sfreq_hz: float) -> np.ndarray:
    return np.arange(int((story.duration_s + LEAD_S + 3) * sfreq_hz)) / sfreq_hz


def random_recording(story: Stimulus, n_channels: int = 3, sfreq_hz: float = 100.0, **more: Any) -> Recording:
    signal = np.random.default_rng(3).normal(size=(len(times_of(story, sfreq_hz)), n_channels))
    return recording(signal.astype(np.float32), sfreq_hz, **more)


# ------------------------------------------------------------------------------------------------ planted truth


@pytest.mark.parametrize("sfreq_hz", [100.0, 250.0])
def test_planted_latencies_come_back_within_a_sample(story: Stimulus, features: Features, sfreq_hz: float) -> None:
    # V3, shrunk: bumps in noise that varies slowly, words at moments that no sample meets.
    times = times_of(story, sfreq_hz)
    signal = bumps(features, times, LATENCIES_S)
    white = np.random.default_rng(2).normal(size=signal.shape)
    noise = np.asarray(lfilter([1.0], [1.0, -(0.9 ** (100 / sfreq_hz))], white, axis=0))
    mixed = signal / signal.std() * 0.3 + noise / noise.std()
    stage = Epochs(tmin_s=-0.3, tmax_s=0.8, sfreq_hz=50.0)
    run = stage.align(recording((mixed * 1e-13).astype(np.float32), sfreq_hz), story)
    scores, _ = cross_validate(
        RidgeEncoder(), run.place(features)[0], run.responses, np.zeros(len(run.words)), ContiguousBlocks(4, 15)
    )
    r = scores.r.mean(axis=0).reshape(3, -1)
    np.testing.assert_allclose(run.latencies_s[r.argmax(axis=1)], LATENCIES_S, atol=0.021)
    assert r.max(axis=1).min() > 0.15
    before_onset = run.latencies_s < -0.05
    assert abs(r[:, before_onset].mean()) < 0.02, "features without memory predict nothing before the word"


@pytest.mark.parametrize("start_s", [0.0, 12.5, -1.0])
@pytest.mark.parametrize("offset_s", [0.0, 3.7])
def test_each_value_is_the_sample_nearest_to_its_moment(story: Stimulus, offset_s: float, start_s: float) -> None:
    # A signal that tells the time.
    sfreq_hz = 120.0
    moments = start_s + np.arange(int((story.duration_s + 20) * sfreq_hz)) / sfreq_hz
    given = recording(np.stack([moments, -moments], axis=1).astype(np.float32), sfreq_hz, offset_s, start_s)
    stage = Epochs(tmin_s=-0.2, tmax_s=0.7, sfreq_hz=40.0, **PLAIN)
    run = stage.align(given, story)
    response = given.response().astype(np.float64)
    quartiles = np.percentile(response[:, 0], [25, 50, 75])
    told = run.responses.reshape(len(run.words), 2, -1) * (quartiles[2] - quartiles[0])
    expected = story.words["onset"].to_numpy()[run.words][:, None] + offset_s + stage.latencies_s
    np.testing.assert_allclose(told[:, 0] + quartiles[1], expected, atol=0.5 / sfreq_hz + 1e-4)
    np.testing.assert_allclose(told[:, 1], -told[:, 0], atol=1e-9)
    np.testing.assert_allclose(run.times_s, story.words["onset"].to_numpy()[run.words] + offset_s)


def test_the_rate_of_the_recording_hardly_matters(story: Stimulus) -> None:
    def wave(t: np.ndarray) -> np.ndarray:
        return sum(size * np.sin(2 * np.pi * hz * t + hz) for size, hz in ((1.0, 3.1), (0.5, 7.7), (0.3, 1.3)))

    found = [
        Epochs().align(recording(wave(times_of(story, rate))[:, None].astype(np.float32), rate), story).responses
        for rate in (1000.0, 200.0, 250.0)
    ]
    for other in found[1:]:
        assert np.corrcoef(found[0].ravel(), other.ravel())[0, 1] > 0.995
        assert other.std() == pytest.approx(found[0].std(), rel=0.02)


@pytest.mark.parametrize(
    ("frequency_hz", "passes"), [(0.05, False), (3.0, True), (12.0, True), (30.0, False), (50.0, False)]
)
def test_the_band_decides_what_passes(story: Stimulus, frequency_hz: float, passes: bool) -> None:
    times = times_of(story, 200.0)
    marker = np.sin(2 * np.pi * 6.3 * times)  # what sets the scale
    signal = (marker + 4 * np.sin(2 * np.pi * frequency_hz * times))[:, None].astype(np.float32)
    found = Epochs(tmin_s=0.0, tmax_s=1.0, clip=None).align(recording(signal, 200.0), story)
    alone = Epochs(tmin_s=0.0, tmax_s=1.0, clip=None).align(recording(marker[:, None].astype(np.float32), 200.0), story)
    r = abs(np.corrcoef(found.responses.ravel(), alone.responses.ravel())[0, 1])
    assert r < 0.5 if passes else r > 0.97


def test_filters_do_not_move_a_response(story: Stimulus) -> None:
    times = times_of(story, 200.0)
    first = story.words["onset"].to_numpy()[350] + LEAD_S
    bump = np.exp(-0.5 * ((times - first - 0.2) / 0.05) ** 2)[:, None]
    noise = 1e-3 * np.random.default_rng(0).normal(size=bump.shape)
    run = Epochs(clip=None).align(recording((bump + noise).astype(np.float32), 200.0), story)
    assert run.latencies_s[run.responses[350].argmax()] == pytest.approx(0.2, abs=0.021)


# ------------------------------------------------------------------------------------------------- the epochs


@pytest.mark.parametrize(
    ("tmin_s", "tmax_s", "sfreq_hz", "expected"),
    [
        (-0.3, 1.0, 50.0, np.arange(-15, 51) / 50),
        (0.0, 0.0, 50.0, [0.0]),
        (-0.1, 0.2, 10.0, [-0.1, 0.0, 0.1, 0.2]),
        (0.0, 0.25, 10.0, [0.0, 0.1, 0.2]),
        (-0.5, 2.0, 128.0, -0.5 + np.arange(321) / 128),
    ],
)
def test_latencies_are_exact(tmin_s: float, tmax_s: float, sfreq_hz: float, expected: Any) -> None:
    stage = Epochs(tmin_s, tmax_s, sfreq_hz, band_hz=(None, None))
    np.testing.assert_allclose(stage.latencies_s, expected, rtol=0, atol=1e-9)
    assert stage.latencies_s.tolist() == [round(latency, 9) for latency in expected]
    assert stage.span_s >= tmax_s - tmin_s


def test_responses_hold_each_channel_with_all_its_latencies(story: Stimulus) -> None:
    given = random_recording(story, n_channels=3)
    stage = Epochs(**PLAIN)
    run = stage.align(given, story)
    assert run.responses.shape == (N_WORDS, 3 * len(stage.latencies_s))
    alone = recording(given.response()[:, 1:2], 100.0)
    n = len(stage.latencies_s)
    np.testing.assert_array_equal(run.responses[:, n : 2 * n], stage.align(alone, story).responses)


@pytest.mark.parametrize("edge", ["start", "end", "both"])
def test_words_whose_epochs_leave_the_recording_are_left_out_and_counted(
    story: Stimulus, features: Features, edge: str
) -> None:
    onset = story.words["onset"].to_numpy()
    start = 40.0 if edge in ("start", "both") else 0.0
    stop = 150.0 if edge in ("end", "both") else onset[-1] + 10
    signal = np.random.default_rng(0).normal(size=(round((stop - start) * 100) + 1, 1)).astype(np.float32)
    run = Epochs(**PLAIN).align(recording(signal, 100.0, offset_s=0.5, start_s=start), story)
    rows = np.rint((onset[:, None] + 0.5 + np.array([-0.3, 1.0]) - start) * 100)
    kept = np.flatnonzero((rows[:, 0] >= 0) & (rows[:, 1] <= len(signal) - 1))
    np.testing.assert_array_equal(run.words, kept)
    np.testing.assert_array_equal(run.place(features), features.values[:, kept])
    assert len(run.responses) == len(run.times_s) == len(kept)
    n_left_out = N_WORDS - len(kept)
    assert n_left_out > 0
    (finding,) = run.findings
    assert finding.code == "epochs-outside"
    assert "subject 01, run 1" in str(finding)
    assert f"{n_left_out} of {N_WORDS} words left out" in str(finding)


def test_an_epoch_may_touch_the_first_and_the_last_sample_but_not_reach_beyond() -> None:
    onset = [0.19, 0.2, 0.21, 1.68, 1.69, 1.70]  # of 200 samples: rows -1, 0, 1 first, and 198, 199, 200 last
    words = Stimulus("story", pd.DataFrame({"onset": onset, "duration": 0.1, "text": "word"}))
    signal = np.random.default_rng(0).normal(size=(200, 1)).astype(np.float32)
    stage = Epochs(tmin_s=-0.2, tmax_s=0.3, **PLAIN)
    run = stage.align(recording(signal, 100.0, offset_s=0.0), words)
    assert run.words.tolist() == [1, 2, 3, 4]


def test_nothing_is_reported_where_nothing_is_left_out(story: Stimulus) -> None:
    run = Epochs().align(random_recording(story), story)
    assert run.findings == []
    assert len(run.words) == N_WORDS


def test_a_recording_without_any_epoch_is_an_error_that_names_both(story: Stimulus) -> None:
    with pytest.raises(DataError, match=r"subject 01, run 1: no word of stimulus 'story'.*check the offset"):
        Epochs().align(random_recording(story, offset_s=1e4), story)


# -------------------------------------------------------------------------------------------- scale and clipping


def with_artefacts(story: Stimulus) -> np.ndarray:
    signal = np.random.default_rng(3).normal(size=(len(times_of(story, 100.0)), 2))
    signal[::1000, 1] = 1e4
    return signal.astype(np.float32)


def test_artefacts_are_clipped_and_the_share_is_told(story: Stimulus) -> None:
    signal = with_artefacts(story)
    run = Epochs(band_hz=(None, None)).align(recording(signal, 100.0), story)
    assert np.abs(run.responses).max() == 20.0
    (finding,) = run.findings
    assert finding.code == "clipped"
    assert f"{(signal == 1e4).mean():.2%} of the values were clipped" in str(finding)
    free = Epochs(band_hz=(None, None), clip=None).align(recording(signal, 100.0), story)
    assert free.findings == []
    assert np.abs(free.responses).max() > 1000
    inside = np.abs(free.responses) <= 20
    np.testing.assert_array_equal(run.responses[inside], free.responses[inside])


@pytest.mark.parametrize("band_hz", [(0.5, 20.0), (None, None)])
@pytest.mark.parametrize("scale", [1e-13, 1e-6, 1e6])
def test_units_and_offsets_do_not_matter(story: Stimulus, scale: float, band_hz: Any) -> None:
    signal = with_artefacts(story)
    one = Epochs(band_hz=band_hz).align(recording(signal, 100.0), story)
    other = Epochs(band_hz=band_hz).align(recording((signal * scale).astype(np.float32), 100.0), story)
    np.testing.assert_allclose(other.responses, one.responses, atol=1e-4)
    assert other.clipped == pytest.approx(one.clipped, rel=0.01)
    moved = Epochs(band_hz=band_hz).align(recording(signal + 100, 100.0), story)
    np.testing.assert_allclose(moved.responses, one.responses, atol=2e-2)


def test_each_channel_has_median_zero_and_interquartile_range_one(story: Stimulus) -> None:
    signal = np.random.default_rng(0).normal(size=(len(times_of(story, 100.0)), 2)) * [1e-3, 50] + [3, -700]
    run = Epochs(**PLAIN).align(recording(signal.astype(np.float32), 100.0), story)
    low, middle, high = np.percentile(run.responses.reshape(N_WORDS, 2, -1), [25, 50, 75], axis=(0, 2))
    np.testing.assert_allclose(middle, 0.0, atol=0.02)
    np.testing.assert_allclose(high - low, 1.0, atol=0.02)


@pytest.mark.parametrize("band_hz", [(0.5, 20.0), (0.5, None), (None, 20.0), (None, None)])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, 1e-13])
def test_a_constant_channel_stays_constant_and_a_nan_stays_in_its_channel(
    story: Stimulus, band_hz: Any, value: float
) -> None:
    signal = random_recording(story, n_channels=4).response()
    stage = Epochs(band_hz=band_hz)
    intact = stage.align(recording(signal, 100.0), story).responses
    spoilt = signal.copy()
    spoilt[:, 1] = value
    spoilt[:, 2] = np.nan
    found = stage.align(recording(spoilt, 100.0), story).responses
    status = target_status(found).reshape(4, -1)
    assert [set(each) for each in status] == [{"ok"}, {"constant"}, {"nonfinite"}, {"ok"}]
    n = status.shape[1]
    np.testing.assert_array_equal(found[:, n : 2 * n], 0.0)
    others = np.r_[0:n, 3 * n : 4 * n]
    np.testing.assert_allclose(found[:, others], intact[:, others], atol=1e-10)


def test_a_single_nan_is_not_hidden(story: Stimulus) -> None:
    signal = random_recording(story, n_channels=2).response()
    signal[5000, 1] = np.nan
    for band_hz in ((0.5, 20.0), (None, None)):
        status = target_status(Epochs(band_hz=band_hz).align(recording(signal, 100.0), story).responses).reshape(2, -1)
        assert set(status[0]) == {"ok"}
        assert "nonfinite" in status[1]


# ------------------------------------------------------------------------------------- signals and regressors


def test_a_signal_counts_for_a_word_by_its_mean_over_the_first_three_tenths_of_a_second(story: Stimulus) -> None:
    onset = np.arange(0, story.duration_s + 1, 0.01)
    values = np.stack([onset, np.random.default_rng(0).normal(size=len(onset))], axis=1)[None].astype(np.float32)
    sound = Features("sound", ("sound",), values, onset, np.full(len(onset), 0.01), kind="signal")
    run = Epochs(**PLAIN).align(random_recording(story), story)
    words = story.words["onset"].to_numpy()[run.words]
    placed = run.place(sound)
    assert placed.shape == (1, len(words), 2)
    np.testing.assert_allclose(placed[0, :, 0], words + 0.145, atol=0.006)
    middle = onset + 0.005
    expected = [values[0, (middle >= word) & (middle < word + 0.3), 1].mean() for word in words]
    np.testing.assert_allclose(placed[0, :, 1], expected, atol=1e-6)


@pytest.mark.parametrize("offset_s", [0.0, 4.2])
def test_a_signal_is_taken_at_stimulus_time_whatever_the_offset(story: Stimulus, offset_s: float) -> None:
    onset = np.arange(0, story.duration_s + 1, 0.01)
    sound = Features("s", ("s",), onset[None, :, None].astype(np.float32), onset, np.full(len(onset), 0.01), "signal")
    run = Epochs(**PLAIN).align(random_recording(story, offset_s=offset_s), story)
    words = story.words["onset"].to_numpy()[run.words]
    np.testing.assert_allclose(run.place(sound)[0, :, 0], words + 0.145, atol=0.006)


def test_the_recording_s_own_regressors_are_taken_at_word_onsets(story: Stimulus) -> None:
    signal = random_recording(story).response()
    moments = 7.0 + np.arange(len(signal)) / 100
    table = pd.DataFrame({"clock": moments, "other": -moments})
    given = recording(signal, 100.0, offset_s=9.0, start_s=7.0, read_regressors=lambda: table)
    run = Epochs(**PLAIN).align(given, story)
    found = run.regressors()
    np.testing.assert_allclose(found["clock"], run.times_s, atol=0.0051)
    np.testing.assert_array_equal(found["other"], -found["clock"])
    assert found.index.tolist() == list(range(len(run.words)))
    assert Epochs(**PLAIN).align(random_recording(story), story).regressors().shape == (N_WORDS, 0)


# ----------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings_given", "message"),
    [
        ({"tmin_s": 0.5, "tmax_s": 0.4}, "tmax_s"),
        ({"sfreq_hz": 0.0}, "sfreq_hz"),
        ({"sfreq_hz": -50.0}, "sfreq_hz"),
        ({"clip": 0.0}, "clip"),
        ({"sfreq_hz": 30.0}, "band_hz lets 20.0 Hz pass"),
        ({"band_hz": (0.5, 40.0)}, "25.0 Hz at most"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings_given: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Epochs(**settings_given)


def test_the_upper_edge_may_lie_at_the_latencies_limit_but_not_beyond() -> None:
    assert Epochs(sfreq_hz=40.0, band_hz=(0.5, 20.0)).sfreq_hz == 40.0
    with pytest.raises(RecipeError, match=r"19\.5 Hz at most"):
        Epochs(sfreq_hz=39.0, band_hz=(0.5, 20.0))


def test_a_recording_slower_than_the_band_s_edge_needs_no_low_pass(story: Stimulus) -> None:
    given = random_recording(story, sfreq_hz=40.0)
    run = Epochs().align(given, story)
    expected = Epochs(band_hz=(0.5, None)).align(given, story)
    np.testing.assert_array_equal(run.responses, expected.responses)


# ------------------------------------------------------------------------------------------- found in review


def test_a_band_whose_edges_are_the_wrong_way_round_is_refused() -> None:
    # The filter would take it for a band to stop, and keep everything else.
    with pytest.raises(RecipeError, match="band_hz"):
        Epochs(band_hz=(20.0, 0.5))


@pytest.mark.parametrize("scale", [1e-15, 1e-18])
def test_signals_of_tiny_units_are_scaled_and_clipped_as_well(story: Stimulus, scale: float) -> None:
    signal = with_artefacts(story)
    one = Epochs().align(recording(signal, 100.0), story)
    other = Epochs().align(recording((signal * scale).astype(np.float32), 100.0), story)
    np.testing.assert_allclose(other.responses, one.responses, atol=1e-4)
    assert one.clipped > 0


@pytest.mark.parametrize("band_hz", [(0.5, 20.0), (None, None)])
def test_a_channel_with_an_infinite_value_is_nonfinite_and_costs_no_other(story: Stimulus, band_hz: Any) -> None:
    signal = random_recording(story, n_channels=2).response()
    signal[5000, 1] = np.inf
    run = Epochs(band_hz=band_hz).align(recording(signal, 100.0), story)
    status = target_status(run.responses).reshape(2, -1)
    assert set(status[0]) == {"ok"}
    assert "nonfinite" in status[1]


def test_regressors_of_another_length_are_refused_with_both_numbers(story: Stimulus) -> None:
    signal = random_recording(story).response()
    short: Callable[[], pd.DataFrame] = lambda: pd.DataFrame({"sound_envelope": np.zeros(100)})  # noqa: E731
    run = Epochs().align(recording(signal, 100.0, read_regressors=short), story)
    with pytest.raises(DataError, match=f"100 rows of sound_envelope.*{len(signal)}"):
        run.regressors()


@pytest.mark.parametrize("band_hz", [(0.5, 20.0), (None, None)])
def test_a_channel_that_differs_in_its_last_bit_only_is_constant_as_its_status_says(
    story: Stimulus, band_hz: Any
) -> None:
    signal = random_recording(story, n_channels=2).response()
    steps = np.float32([1e6, np.nextafter(np.float32(1e6), np.float32(2e6))])
    signal[:, 1] = np.random.default_rng(0).choice(steps, len(signal))
    assert target_status(signal).tolist() == ["ok", "constant"]
    status = target_status(Epochs(band_hz=band_hz).align(recording(signal, 100.0), story).responses).reshape(2, -1)
    assert [set(each) for each in status] == [{"ok"}, {"constant"}]
