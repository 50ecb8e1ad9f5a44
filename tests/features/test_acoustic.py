from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from brainalign.errors import DataError, RecipeError
from brainalign.features import sound_envelope
from brainalign.types import Audio, Stimulus

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
