"""Clocks that run apart: what was planted comes back, what cannot be is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.errors import DataError
from brainalign.reading.clocks import fit_clock


@settings(deadline=None)
@given(
    offset_s=st.floats(-100, 1000),
    drift=st.floats(-1e-3, 1e-3),
    seed=st.integers(0, 1000),
    wrong=st.floats(0, 0.07),
)
def test_offset_and_rate_come_back_though_events_are_wrong(
    offset_s: float, drift: float, seed: int, wrong: float
) -> None:
    random = np.random.default_rng(seed)
    stimulus = np.sort(random.uniform(0, 600, 400))
    recorded = offset_s + (1 + drift) * stimulus + random.uniform(-5e-4, 5e-4, 400)
    spoiled = random.random(400) < wrong
    recorded[spoiled] += random.uniform(0.5, 5, spoiled.sum()) * random.choice([-1, 1], spoiled.sum())
    fit = fit_clock(stimulus, recorded, "run")
    assert abs(fit.offset_s - offset_s) < 1e-3
    assert abs(fit.rate - 1 - drift) < 3e-6
    assert np.isnan(fit.residual_s).sum() == spoiled.sum()
    codes = [finding.code for finding in fit.findings("run")]
    assert ("clock-drift" in codes) == (abs(drift) * 60 > 0.010)
    assert ("clock-outliers" in codes) == bool(spoiled.any())


def test_a_recordings_clock_tells_the_stimulus_seconds() -> None:
    stimulus = np.linspace(0, 600, 50)
    fit = fit_clock(stimulus, 12.0 + 1.0002 * stimulus, "run")
    clock = fit.clock(step_s=0.01)
    # The row in which something at 300 s of the stimulus was recorded.
    row = (12.0 + 1.0002 * 300.0) / 0.01
    assert clock.start_s + row * clock.step_s - fit.stimulus_start_s == pytest.approx(300.0, abs=1e-6)


def test_few_events_say_nothing_of_the_rate() -> None:
    stimulus = np.arange(6.0)
    fit = fit_clock(stimulus, 5.0 + stimulus + 0.02 * (stimulus > 2), "run")
    assert (fit.rate, fit.offset_s) == (1.0, pytest.approx(5.01))


@pytest.mark.parametrize(
    ("recorded", "match"),
    [
        (np.linspace(0, 500, 100) * 1.2, "do not follow"),
        (np.random.default_rng(0).uniform(0, 500, 100), "do not follow"),
        (np.empty(0), "0 recorded events"),
        (np.linspace(0, 500, 100) + 3.0 * (np.arange(100) > 45), "without a stop"),
        (np.linspace(0, 500, 100) + 0.5 * (np.arange(100) > 50), "without a stop"),
        (np.linspace(0, 500, 100) + 0.09 * (-1.0) ** np.arange(100), "half of them within"),
    ],
)
def test_events_of_another_stimulus_are_refused(recorded: np.ndarray, match: str) -> None:
    with pytest.raises(DataError, match=match):
        fit_clock(np.linspace(0, 500, 100), recorded, "run 3")
