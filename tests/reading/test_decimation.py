"""To a lower rate: no shift, no distortion, no aliases, and blocks that give what the whole would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import sine
from scipy.signal import resample_poly

from brainalign.reading import decimation as decimation_module
from brainalign.reading.decimation import Decimation

RATES = [(1000.0, 100.0), (512.0, 100.0), (1200.0, 100.0), (500.0, 128.0), (2048.0, 100.0), (600.614990234375, 100.0)]


def decimated(signal: np.ndarray, decimation: Decimation, first: int = 0, stop: int | None = None) -> np.ndarray:
    n_times = signal.shape[1]
    stop = decimation.n_rows(n_times) if stop is None else stop
    return decimation.rows(lambda start, end: signal[:, start:end], len(signal), n_times, first, stop)


@pytest.mark.parametrize("rates", RATES, ids=str)
def test_below_two_fifths_of_the_new_rate_nothing_changes(rates: tuple[float, float]) -> None:
    decimation = Decimation(*rates)
    n_times = int(8 * rates[0])
    for share in (0.01, 0.1, 0.25, 0.39):
        freq_hz = share * rates[1]
        times_s = np.arange(decimation.n_rows(n_times)) / decimation.rate_hz
        given = decimated(sine(freq_hz, rates[0], n_times, phase=0.7)[None], decimation)[0]
        inside = (times_s > 0.5) & (times_s < 7.5)
        np.testing.assert_allclose(given[inside], np.sin(2 * np.pi * freq_hz * times_s + 0.7)[inside], atol=2e-4)


@pytest.mark.parametrize("rates", RATES, ids=str)
def test_above_half_of_the_new_rate_nothing_comes_back(rates: tuple[float, float]) -> None:
    decimation = Decimation(*rates)
    n_times = int(8 * rates[0])
    highest = rates[0] / rates[1] / 2
    for share in (0.501, 0.6, 1.0, min(1.7, 0.98 * highest), 0.98 * highest):
        given = decimated(sine(share * rates[1], rates[0], n_times)[None], decimation)[0]
        assert np.abs(given[60:-60]).max() < 2e-4


@pytest.mark.parametrize("rates", RATES, ids=str)
def test_a_short_wave_keeps_its_moment(rates: tuple[float, float]) -> None:
    decimation = Decimation(*rates)
    times_s = np.arange(int(4 * rates[0])) / rates[0]
    moment_s = 1.9873
    given = decimated(np.exp(-0.5 * ((times_s - moment_s) / 0.03) ** 2)[None], decimation)[0]
    found_s = np.sum(np.arange(len(given)) * given) / np.sum(given) / decimation.rate_hz
    assert abs(found_s - moment_s) < 1e-4


@settings(max_examples=30, deadline=None)
@given(
    rates=st.sampled_from(RATES[:5]),
    n_times=st.integers(3, 3000),
    at_once=st.integers(1, 2000),
    seed=st.integers(0, 99),
)
def test_blocks_of_any_size_give_what_the_whole_does(
    rates: tuple[float, float], n_times: int, at_once: int, seed: int
) -> None:
    signal = np.random.default_rng(seed).standard_normal((2, n_times)) + 1000.0
    decimation = Decimation(*rates)
    whole = decimated(signal, decimation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decimation_module, "AT_ONCE", at_once)
        np.testing.assert_allclose(decimated(signal, decimation), whole, rtol=0, atol=1e-9)
    first = whole.shape[1] // 3
    np.testing.assert_allclose(decimated(signal, decimation, first), whole[:, first:], rtol=0, atol=1e-9)


@pytest.mark.parametrize("rates", RATES[:5], ids=str)
def test_it_is_scipys_polyphase_filter(rates: tuple[float, float]) -> None:
    signal = np.random.default_rng(0).standard_normal((1, int(5 * rates[0])))
    decimation = Decimation(*rates)
    up, down = decimation.ratio.numerator, decimation.ratio.denominator
    theirs = resample_poly(signal, up, down, axis=1, window=decimation._filter / up)
    given = decimated(signal, decimation)
    np.testing.assert_allclose(given[:, 60:-60], theirs[:, 60 : given.shape[1] - 60], atol=1e-12)


@pytest.mark.parametrize("rates", RATES, ids=str)
def test_a_constant_stays_one_up_to_both_ends(rates: tuple[float, float]) -> None:
    np.testing.assert_allclose(decimated(np.full((1, 2000), 7.0), Decimation(*rates)), 7.0, rtol=1e-12)


def test_an_odd_rate_is_met_as_nearly_as_its_clock_tells() -> None:
    decimation = Decimation(600.614990234375, 100.0)
    assert decimation.rate_hz == pytest.approx(100.0, rel=1e-6)
    assert decimation.rate_hz == 600.614990234375 * decimation.ratio


@pytest.mark.parametrize("to_hz", [None, 250.0, 1000.0])
def test_no_rate_is_raised(to_hz: float | None) -> None:
    signal = np.random.default_rng(0).standard_normal((3, 100))
    np.testing.assert_array_equal(decimated(signal, Decimation(250.0, to_hz)), signal)
