"""The ground truths of forecasts hold, and methods that are known to be wrong do not pass for right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from brainalign.analysis.forecasts.scoring import forecast
from brainalign.analysis.forecasts.windows import WordWindows, word_windows
from brainalign.types import Features
from brainalign.validation import forecasts
from brainalign.validation.forecasts import v7a, v7b


@pytest.mark.slow
def test_how_many_words_ahead_responses_look_comes_back() -> None:
    checks = v7a()
    assert [check.id for check in checks] == ["V7a"] * 4
    assert [f"{check.criterion}: {check.observed}" for check in checks if not check.passed] == []


@pytest.mark.slow
def test_forecasts_are_told_from_what_the_base_lost() -> None:
    checks = v7b()
    assert [check.id for check in checks] == ["V7b"] * 4
    assert [f"{check.criterion}: {check.observed}" for check in checks if not check.passed] == []


def test_windows_that_are_one_word_off_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(features: Mapping[str, Features], distances: Sequence[int], *settings: Any, **named: Any) -> WordWindows:
        made = word_windows(features, [distance + 1 for distance in distances], *settings, **named)
        return replace(made, features={distance - 1: of for distance, of in made.features.items()})

    monkeypatch.setattr(forecasts, "word_windows", off)
    scale = forecasts._Words(800, 5, 10, 1, 3)
    gain = forecasts._of_words(forecasts.AHEAD, 0.0, scale, (4, 6, 7, 8, 9), 0).gain.mean(axis=0)
    check = forecasts._found_ahead("", forecasts._Curves((4, 6, 7, 8, 9), [gain]))
    assert not check.passed
    assert check.observed.startswith("d* 7 ")


@pytest.fixture(scope="module")
def lossy_null() -> forecasts._Found:
    found = forecasts._Cell((), slow=True, fixed=True, lossy=True).forecast(1200, 20, (-2, 8), 0)
    return forecasts._Found(found.gain.mean(axis=0), found)


def test_the_raw_gain_in_the_place_of_the_contrast_fails(
    lossy_null: forecasts._Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert forecasts._raw_misleads("", {"cell": lossy_null}).passed
    assert forecasts._contrast_does_not("", {"cell": lossy_null}).passed
    monkeypatch.setattr(forecasts._Found, "contrast", property(lambda self: self.at(8)))
    assert not forecasts._contrast_does_not("", {"cell": lossy_null}).passed


def test_delays_that_are_not_told_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasts, "REDUCED", 3)
    cell = forecasts._Cell(forecasts.AHEAD, slow=False, fixed=False, lossy=True)

    def blind() -> bool:
        found = cell.forecast(400, 5, (-2, 8), 0)
        return forecasts._blind_with_delays("", {"cell": forecasts._Found(np.zeros(2), found)}).passed

    assert blind()
    monkeypatch.setattr(forecasts, "forecast", lambda *given, **named: forecast(*given, **{**named, "delays": (0,)}))
    assert not blind()
