from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from brainalign.errors import DataError, RecipeError
from brainalign.features import sound_envelope
from brainalign.features.acoustic import FLOOR_DB, Sound
from brainalign.types import Audio, Features, Stimulus

WORDS = pd.DataFrame({"onset": [0.0], "duration": [0.5], "text": ["beep"]})


def stimulus(samples: np.ndarray, rate_hz: float) -> Stimulus:
    return Stimulus("beep", WORDS, Audio(samples, rate_hz))


@pytest.mark.parametrize("rate_hz", [8000.0, 44100.0, 11025.0])
def test_a_sine_s_envelope_is_its_amplitude_over_root_two(rate_hz: float) -> None:
    time = np.arange(int(2 * rate_hz)) / rate_hz
    amplitude = np.where(time < 1, 1.0, 3.0)
    features = sound_envelope(stimulus(amplitude * np.sin(2 * np.pi * 500 * time), rate_hz))
    assert features.kind == "signal"
    assert features.values.shape == (1, 200, 1)
    np.testing.assert_allclose(features.values[0, :100, 0], 1 / np.sqrt(2), rtol=0.02)
    np.testing.assert_allclose(features.values[0, 100:, 0], 3 / np.sqrt(2), rtol=0.02)
    np.testing.assert_allclose(features.onset_s, np.arange(200) / 100, atol=0.5 / rate_hz)


@pytest.mark.parametrize("n_samples", [1, 7, 441, 442, 1000, 44100 * 3 + 1])
def test_stretches_cover_the_whole_sound_without_gap_or_overlap(n_samples: int) -> None:
    features = sound_envelope(stimulus(np.ones(n_samples), 44100.0), rate_hz=100.0)
    np.testing.assert_allclose(features.values, 1.0)
    np.testing.assert_allclose(features.onset_s[1:], (features.onset_s + features.duration_s)[:-1])
    assert features.onset_s[0] == 0
    assert features.onset_s[-1] + features.duration_s[-1] == pytest.approx(n_samples / 44100)


def test_a_click_is_found_at_its_time() -> None:
    samples = np.zeros(44100)
    samples[int(0.437 * 44100)] = 1.0
    features = sound_envelope(stimulus(samples, 44100.0))
    assert features.onset_s[np.argmax(features.values[0, :, 0])] == pytest.approx(0.43, abs=1e-4)


def test_loud_16_bit_samples_do_not_overflow() -> None:
    loud = np.full(1000, 32000, dtype=np.int16)
    np.testing.assert_allclose(sound_envelope(stimulus(loud, 1000.0)).values, 32000)


def test_a_stimulus_without_sound_is_named() -> None:
    with pytest.raises(DataError, match="'beep' has no sound"):
        sound_envelope(Stimulus("beep", WORDS))


def test_samples_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="not finite"):
        sound_envelope(stimulus(np.array([0.0, np.nan]), 100.0))


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, 1001.0, np.nan])
def test_rates_that_cannot_be_are_refused(rate_hz: float) -> None:
    with pytest.raises(RecipeError, match="at most the sound's own 1000 Hz"):
        sound_envelope(stimulus(np.ones(10), 1000.0), rate_hz=rate_hz)


SPACES = ("envelope", "mel_spectrum", "onsets", "onset_spectrum", "pitch")
RATES_HZ = (16000.0, 22050.0, 44100.0, 48000.0)


def seconds(duration_s: float, rate_hz: float) -> NDArray[np.float64]:
    return np.arange(round(duration_s * rate_hz)) / rate_hz


def noise(duration_s: float, rate_hz: float, seed: int = 0) -> NDArray[np.float64]:
    return 0.1 * np.random.default_rng(seed).normal(size=round(duration_s * rate_hz))


def middles(features: Features) -> NDArray[np.float64]:
    return (np.arange(features.values.shape[1]) + 0.5) / features.metadata["rate_hz"]


def pitch_hz(features: Features) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    octaves, voiced = features.values[0].T
    return features.metadata["reference_hz"] * 2.0**octaves, voiced == 1


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize(
    ("n_samples", "rate_hz"), [(1, 16000.0), (160, 16000.0), (161, 16000.0), (44100 * 2 + 7, 44100.0)]
)
def test_all_spaces_share_the_envelope_s_clock(space: str, n_samples: int, rate_hz: float) -> None:
    sound = stimulus(0.1 * np.ones(n_samples), rate_hz)
    envelope, features = sound_envelope(sound), Sound(space).extract(sound)
    np.testing.assert_array_equal(features.onset_s, envelope.onset_s)
    np.testing.assert_array_equal(features.duration_s, envelope.duration_s)
    assert features.kind == "signal"
    assert features.values.dtype == np.float32
    assert np.isfinite(features.values).all()
    assert features.values.shape[2] == len(features.metadata["dimensions"])


def test_the_envelope_is_that_of_the_baseline_under_a_name_to_read() -> None:
    sound = stimulus(noise(1.0, 16000.0), 16000.0)
    features = Sound("envelope", 50.0).extract(sound)
    np.testing.assert_array_equal(features.values, sound_envelope(sound, 50.0).values)
    assert features.name == "sound envelope"


@pytest.mark.parametrize("space", SPACES)
def test_silence_has_documented_values(space: str) -> None:
    expected = FLOOR_DB if space == "mel_spectrum" else 0.0
    assert (Sound(space).extract(stimulus(np.zeros(16000), 16000.0)).values == expected).all()


@pytest.mark.parametrize("space", SPACES)
def test_values_depend_only_on_the_sound_around(space: str) -> None:
    one = noise(3.0, 16000.0) + np.sin(2 * np.pi * 200 * seconds(3.0, 16000.0))
    other = one.copy()
    other[: 16000 - 800] = noise(0.95, 16000.0, seed=1)
    other[2 * 16000 + 800 :] = 0.0
    before, after = (Sound(space).extract(stimulus(sound, 16000.0)).values[0, 100:200] for sound in (one, other))
    np.testing.assert_allclose(before, after, atol=1e-3)
    assert not np.allclose(one, other)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("frequency_hz", [300.0, 1000.0, 4000.0])
def test_a_tone_is_loudest_in_its_band_at_its_level(rate_hz: float, frequency_hz: float) -> None:
    tone = np.sin(2 * np.pi * frequency_hz * seconds(1.0, rate_hz))
    features = Sound("mel_spectrum", n_bands=20).extract(stimulus(tone, rate_hz))
    centres = np.array([float(name.split()[0]) for name in features.metadata["dimensions"]])
    spectrum = features.values[0, 5:-5]
    assert (spectrum.argmax(axis=1) == np.abs(centres - frequency_hz).argmin()).all()
    # The triangles of all bands add up to 1: together they let the mean square of a sine pass.
    assert 10 * np.log10(np.sum(10 ** (spectrum / 10), axis=1)) == pytest.approx(10 * np.log10(0.5), abs=0.05)


def test_spectra_do_not_depend_on_the_sound_s_rate() -> None:
    rng = np.random.default_rng(0)
    partials = np.column_stack([rng.uniform(50, 7500, 200), rng.uniform(0, 0.02, 200), rng.uniform(0, 6, 200)])
    spectra = [
        Sound("mel_spectrum")
        .extract(stimulus(sum(a * np.sin(2 * np.pi * f * seconds(1.0, rate) + p) for f, a, p in partials), rate))
        .values[0, 5:-5]
        for rate in RATES_HZ
    ]
    for spectrum in spectra[:-1]:
        assert np.abs(spectrum - spectra[-1]).mean() < 0.05
        # In valleys between partials the few samples by which windows differ count more.
        assert np.percentile(np.abs(spectrum - spectra[-1]), 99) < 0.5


def test_spectra_are_those_of_transformers() -> None:
    from transformers.audio_utils import mel_filter_bank, spectrogram

    rate_hz, n_window = 16000, 401
    sound = noise(1.0, rate_hz)
    # An odd window in the middle of each stretch of 160 samples: theirs begins with the sound, ours 120 before.
    window = np.hanning(n_window + 2)[1:-1]
    filters = mel_filter_bank(801, 32, 50.0, 8000.0, rate_hz, norm=None, mel_scale="htk")
    theirs = spectrogram(
        np.pad(sound, (120, 400)), window, n_window, 160, fft_length=1600, power=2.0, center=False, mel_filters=filters
    ).T
    theirs = 10 * np.log10(theirs * 2 / 1600 / np.sum(window**2))
    ours = Sound("mel_spectrum").extract(stimulus(sound, float(rate_hz))).values[0]
    np.testing.assert_allclose(ours[:98], theirs[:98], atol=1e-3)


def test_16_bit_sound_is_relative_to_full_scale() -> None:
    sound = np.round(noise(0.5, 16000.0) * 32768).astype(np.int16)
    for space in ("mel_spectrum", "pitch", "onset_spectrum"):
        whole, real = (Sound(space).extract(stimulus(s, 16000.0)).values for s in (sound, sound / 32768))
        np.testing.assert_allclose(whole, real, atol=1e-3)


@pytest.mark.parametrize("rate_hz", [25.0, 100.0, 128.0])
@pytest.mark.parametrize("space", ["onsets", "onset_spectrum"])
def test_bursts_of_noise_are_onsets_at_their_times_and_no_offsets(space: str, rate_hz: float) -> None:
    starts = np.array([0.5037, 1.1, 1.7213, 2.4])
    time_s = seconds(3.0, 44100.0)
    sound = noise(3.0, 44100.0) * sum(((time_s >= start) & (time_s < start + 0.2)) for start in starts)
    features = Sound(space, rate_hz).extract(stimulus(sound, 44100.0))
    strength = features.values[0].mean(axis=1)
    found = np.sort(np.argsort(strength)[-4:])
    np.testing.assert_allclose(middles(features)[found], starts, atol=1.5 / rate_hz)
    ends = (np.subtract.outer(middles(features), starts + 0.2) > -0.03) & (
        np.subtract.outer(middles(features), starts + 0.2) < 0.1
    )
    assert strength[ends.any(axis=1)].max() < 0.2 * strength.max()


def test_a_click_is_an_onset_within_a_stretch_of_its_time() -> None:
    sound = np.zeros(44100 * 2)
    sound[round(1.2345 * 44100)] = 1.0
    features = Sound("onsets").extract(stimulus(sound, 44100.0))
    assert middles(features)[features.values[0, :, 0].argmax()] == pytest.approx(1.2345, abs=0.015)
    assert (features.values[0, :120] == 0).all()
    assert (features.values[0, 127:] == 0).all()


def test_slowly_modulated_noise_rises_in_the_first_half_of_each_period() -> None:
    time_s = seconds(10.0, 16000.0)
    depth = 1 - 0.9 * np.cos(2 * np.pi * 2 * time_s)
    features = Sound("onsets").extract(stimulus(depth * noise(10.0, 16000.0), 16000.0))
    strength = features.values[0, :, 0]
    found = np.angle(np.sum(strength * np.exp(2j * np.pi * 2 * middles(features)))) / (2 * np.pi * 2)
    # d/dt log(1 - .9 cos) has its first harmonic at a quarter of the period.
    assert found % 0.5 == pytest.approx(0.125, abs=0.04)


def test_onsets_are_the_rises_of_the_spectrum() -> None:
    sound = stimulus(noise(1.0, 16000.0), 16000.0)
    spectrum, rises, summed = (
        Sound(s, n_bands=8).extract(sound).values[0] for s in ("mel_spectrum", "onset_spectrum", "onsets")
    )
    np.testing.assert_allclose(rises[1:], np.maximum(np.diff(spectrum, axis=0), 0) * 100, rtol=1e-3, atol=0.05)
    np.testing.assert_allclose(rises[0], (spectrum[0] - FLOOR_DB) * 100, rtol=1e-4)
    np.testing.assert_allclose(summed[:, 0], rises.mean(axis=1), rtol=1e-4)


@settings(deadline=None, max_examples=60)
@given(
    st.floats(61.0, 495.0),
    st.sampled_from((8000.0, 11000.0, 11025.0, *RATES_HZ)),
    st.sampled_from(("sine", "saw", "pulses")),
)
def test_the_pitch_of_tones_is_found_within_a_percent(frequency_hz: float, rate_hz: float, kind: str) -> None:
    harmonics = np.arange(1, 2 if kind == "sine" else int(0.45 * rate_hz / frequency_hz) + 1)
    loudness = 1 / harmonics if kind == "saw" else np.full(len(harmonics), 1 / len(harmonics))
    phase = 2 * np.pi * frequency_hz * np.outer(harmonics, seconds(0.3, rate_hz))
    found, voiced = pitch_hz(Sound("pitch").extract(stimulus(loudness @ np.cos(phase), rate_hz)))
    assert voiced[4:-4].all()
    np.testing.assert_allclose(found[4:-4], frequency_hz, rtol=0.002)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_glide_is_followed_without_delay(rate_hz: float) -> None:
    time_s = seconds(2.0, rate_hz)
    # One octave per second from 100 Hz on, with five harmonics.
    phase = 2 * np.pi * 100 * (2**time_s - 1) / np.log(2)
    features = Sound("pitch").extract(stimulus(sum(np.sin(k * phase) / k for k in range(1, 6)), rate_hz))
    found, voiced = pitch_hz(features)
    assert voiced[4:-4].all()
    np.testing.assert_allclose(found[4:-4], 100 * 2 ** middles(features)[4:-4], rtol=0.01)


def test_pitch_is_found_in_noise_twenty_decibels_below() -> None:
    sound = np.sin(2 * np.pi * 150 * seconds(2.0, 16000.0)) * np.sqrt(2) + noise(2.0, 16000.0)
    found, voiced = pitch_hz(Sound("pitch").extract(stimulus(sound, 16000.0)))
    assert voiced[4:-4].all()
    np.testing.assert_allclose(found[4:-4], 150, rtol=0.01)


@pytest.mark.parametrize(
    "sound",
    [
        noise(5.0, 16000.0),
        np.full(16000, 0.5),
        np.sin(2 * np.pi * 900 * seconds(1.0, 16000.0)),
        np.sin(2 * np.pi * 20 * seconds(1.0, 16000.0)),
        np.linspace(-1, 1, 16000),
    ],
    ids=["noise", "constant", "too high", "too low", "ramp"],
)
def test_what_has_no_pitch_in_the_range_is_unvoiced_and_zero(sound: np.ndarray) -> None:
    features = Sound("pitch").extract(stimulus(sound, 16000.0))
    assert features.values[0, :, 1].mean() < 0.01
    assert (features.values[0, features.values[0, :, 1] == 0, 0] == 0).all()


def test_voice_and_silence_are_told_apart_where_they_meet() -> None:
    time_s = seconds(2.0, 16000.0)
    sound = np.where(time_s < 1, np.sin(2 * np.pi * 220 * time_s), 0.0)
    _, voiced = pitch_hz(Sound("pitch").extract(stimulus(sound, 16000.0)))
    assert voiced[4:96].all()
    assert not voiced[104:].any()


def test_an_hour_s_clock_does_not_drift() -> None:
    # 11,025 samples in 100 stretches are 110.25 each, and one missing quarter adds up to 8 s.
    rate_hz, duration_s = 11025.0, 3600
    sound = np.zeros(int(duration_s * rate_hz), dtype=np.float32)
    clicks = np.array([0.505, 1800.005, 3599.505])
    sound[np.round(clicks * rate_hz).astype(int)] = 1.0
    features = Sound("mel_spectrum", n_bands=1, range_hz=(50.0, 5000.0)).extract(stimulus(sound, rate_hz))
    loud = features.values[0, :, 0]
    found = [start + loud[start : start + 100].argmax() for start in (0, 179950, 359900)]
    assert found == [50, 180000, 359950]


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
def test_ten_minutes_take_a_few_seconds(space: str) -> None:
    sound = stimulus(noise(600.0, 44100.0).astype(np.float32), 44100.0)
    started = time.process_time()
    Sound(space).extract(sound)
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"space": "mel_spectre"}, "Did you mean 'mel_spectrum'"),
        ({"space": "pitch", "rate_hz": 0.0}, "rate_hz: more than 0"),
        ({"space": "pitch", "n_bands": 4}, "'pitch' has no bands"),
        ({"space": "onsets", "n_bands": 0}, "1 or more"),
        ({"space": "onsets", "n_bands": 400}, "choose fewer"),
        ({"space": "envelope", "range_hz": (1.0, 2.0)}, "leave it out"),
        ({"space": "mel_spectrum", "range_hz": (8000.0, 50.0)}, "two rising frequencies from 0 Hz"),
        ({"space": "pitch", "range_hz": (30.0, 500.0)}, "two rising frequencies from 40 Hz"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings_: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Sound(**settings_)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("space", "rate_hz", "message"),
    [
        ("mel_spectrum", 11025.0, "holds frequencies up to 5512.5 Hz, not 8000"),
        ("pitch", 2000.0, "lower the upper edge"),
        ("onsets", 50.0, "at most the sound's own 50 Hz"),
    ],
)
def test_sounds_of_too_low_a_rate_are_refused(space: str, rate_hz: float, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Sound(space).extract(stimulus(np.ones(1000), rate_hz))


@pytest.mark.parametrize("space", SPACES)
def test_stimuli_without_sound_or_with_unusable_sound_are_named(space: str) -> None:
    with pytest.raises(DataError, match="'beep' has no sound"):
        Sound(space).extract(Stimulus("beep", WORDS))
    with pytest.raises(DataError, match="not finite"):
        Sound(space).extract(stimulus(np.full(1000, np.inf), 16000.0))


def test_unsigned_sound_is_refused() -> None:
    with pytest.raises(DataError, match="not uint8"):
        Sound("pitch").extract(stimulus(np.full(1000, 128, dtype=np.uint8), 16000.0))


def test_fingerprints_are_json_and_tell_settings_apart() -> None:
    stages = [Sound(space) for space in SPACES] + [Sound("pitch", range_hz=(60.0, 400.0)), Sound("onsets", n_bands=8)]
    prints = [json.dumps(stage.fingerprint()) for stage in (*stages, Sound("pitch", 50.0))]
    assert len(set(prints)) == len(prints)
    assert json.loads(prints[0]) == stages[0].fingerprint()
    assert Sound("onsets") == Sound("onsets", n_bands=32, range_hz=(50.0, 8000.0))


def test_a_recipe_can_set_it_and_gets_the_defaults_written_out() -> None:
    from brainalign.config import build, settings_of

    stage = build(Sound, {"space": "pitch", "range_hz": [70, 300]}, "features.0")
    assert stage == Sound("pitch", range_hz=(70.0, 300.0))
    for space in SPACES:
        written_out = settings_of(Sound(space))
        assert build(Sound, written_out, "features.0") == Sound(space)
    assert written_out == {"space": "pitch", "rate_hz": 100.0, "n_bands": None, "range_hz": [60.0, 500.0]}


@pytest.mark.parametrize("space", SPACES)
def test_alignment_places_it_on_volumes_and_at_words(space: str) -> None:
    from brainalign.alignment import Epochs, Hemodynamic
    from brainalign.types import Clock, Recording

    words = pd.DataFrame({"onset": 0.5 * np.arange(150), "duration": 0.4, "text": "word"})
    heard = Stimulus("s", words, Audio(noise(75.0, 16000.0), 16000.0))
    targets = pd.DataFrame({"name": ["a"], "kind": ["region"]})
    for aligner, modality, step_s in ((Hemodynamic(), "fmri", 1.5), (Epochs(), "meg", 0.01)):
        signal = np.random.default_rng(0).normal(size=(round(80 / step_s), 1)).astype(np.float32)
        recording = Recording(
            "1", "1", "s", modality, Clock(step_s), 0.0, targets, lambda signal=signal: signal, "digest"
        )
        run = aligner.align(recording, heard)
        placed = run.place(Sound(space).extract(heard))
        assert placed.shape[:2] == (1, len(run.responses))
        assert np.isfinite(placed).all()
