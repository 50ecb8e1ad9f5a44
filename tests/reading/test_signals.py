"""The settings of signals: what cannot be is refused, by name."""

from __future__ import annotations

from typing import Any

import pytest

from brainalign.errors import RecipeError
from brainalign.reading.signals import Signals
from brainalign.settings import SettingError, checked_settings


class Loader:
    """A dataset with signals, as loaders have them."""

    def __init__(self, signals: Signals = Signals()) -> None:  # noqa: B008
        self.signals = signals


def test_they_come_from_yaml_as_lists() -> None:
    given = {"rate_hz": 50, "band_hz": [0.5, None], "noise": ["maxwell"], "reference": ["M1", "M2"], "picks": ["mag"]}
    signals = checked_settings(Loader, {"signals": given}, "dataset")["signals"]
    assert signals == Signals(
        picks=("mag",), rate_hz=50.0, band_hz=(0.5, None), noise=("maxwell",), reference=("M1", "M2")
    )


def test_an_unknown_key_is_named_with_where_it_stands() -> None:
    with pytest.raises(SettingError, match=r"dataset\.signals\.rate"):
        checked_settings(Loader, {"signals": {"rate": 100}}, "dataset")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate_hz": 0.0}, "rate_hz is 0.0"),
        ({"rate_hz": float("nan")}, "rate_hz is nan"),
        ({"notch_hz": (50.0, -1.0)}, "notch_hz is"),
        ({"band_hz": (40.0, 0.5)}, "lower edge must lie below"),
        ({"band_hz": (None, 50.0)}, "band_hz lets 50 Hz pass, but 100 rows a second show less than 50 Hz"),
        ({"noise": ("projection",)}, "noise knows no 'projection'. Did you mean 'projections'"),
        ({"noise": ("maxwell", "maxwell")}, "noise names something twice"),
        ({"bad_channels": "leave"}, "Did you mean 'leave_out'"),
        ({"reference": "mean"}, "reference is 'mean'"),
        ({"reference": ()}, "reference is an empty list"),
        ({"picks": "mag"}, "picks is a list"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as error:
        Signals(**settings)
    assert message in str(error.value)


def test_a_band_may_be_wide_where_the_rate_is_the_archives() -> None:
    assert Signals(rate_hz=None, band_hz=(70.0, 200.0)).band_hz == (70.0, 200.0)
