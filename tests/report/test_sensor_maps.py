"""Sensor maps: what is drawn, where, and apart by kind."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest

from brainalign.report import topography
from brainalign.types import Scores

Make = Callable[..., Scores]
LATENCIES_S = np.linspace(-0.2, 0.8, 11)


def helmet(n_sensors: int = 30) -> np.ndarray:
    """Places on the upper half of a sphere of 0.1 m around (0, 0, 0.04) m."""
    i = np.arange(n_sensors)
    z = 1 - i / n_sensors
    return 0.1 * np.c_[np.sqrt(1 - z**2) * np.cos(2.4 * i), np.sqrt(1 - z**2) * np.sin(2.4 * i), z] + [0, 0, 0.04]


def sensors(make_scores: Make, **settings: object) -> Scores:
    names = [f"MEG{i:03d}" for i in range(30)]
    return make_scores(
        subjects=["a", "b"], targets=names, kind="mag", places=np.tile(helmet(), (2, 1)), spaces={"gpt2": 3}, **settings
    )


def test_sensor_maps_show_the_peak_among_spread_latencies(make_scores: Make) -> None:
    figure = topography(sensors(make_scores, latency_s=LATENCIES_S))
    assert figure is not None
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles[0] == "\N{MINUS SIGN}0.20 s"
    assert "0.40 s" in titles
    assert len(titles) == 6
    figure.savefig(BytesIO(), format="png")


def test_sensor_maps_need_no_latencies(make_scores: Make) -> None:
    assert topography(sensors(make_scores)) is not None


def test_the_projection_keeps_angles_from_the_top_in_any_unit() -> None:
    from brainalign.report.sensor_maps import _project

    polar = np.array([0.0, 30, 60, 90, 90, 90, 45]) * np.pi / 180
    around = np.array([0.0, 10, 100, 0, 120, 240, 300]) * np.pi / 180
    sphere = np.c_[np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)]
    for places in (0.1 * sphere + [0.01, 0.02, 0.03], 100 * sphere + [10, 20, 30]):
        flat = _project(places)
        np.testing.assert_allclose(np.hypot(*flat.T), polar / (np.pi / 2), atol=1e-6)
        np.testing.assert_allclose(
            flat[1:], (polar[1:, None] / (np.pi / 2)) * np.c_[np.cos(around), np.sin(around)][1:], atol=1e-6
        )


def test_sensors_at_one_place_are_averaged() -> None:
    from brainalign.report.sensor_maps import _merge_places

    places = np.vstack([helmet(), helmet()[:2]])
    values = np.arange(32.0)[:, None]
    xyz, merged = _merge_places(places, values)
    np.testing.assert_allclose(xyz, helmet())
    np.testing.assert_allclose(merged[:3, 0], [(0 + 30) / 2, (1 + 31) / 2, 2])


@pytest.mark.parametrize("kind", ["region", "electrode"])
def test_regions_and_electrodes_in_the_brain_have_no_sensor_map(make_scores: Make, kind: str) -> None:
    assert (
        topography(make_scores(subjects=["a"], targets=[str(i) for i in range(30)], kind=kind, places=helmet())) is None
    )


def test_sensors_without_places_or_scores_have_no_map(make_scores: Make, spoil: Make) -> None:
    assert topography(make_scores(kind="mag")) is None
    assert topography(spoil(sensors(make_scores), *range(60))) is None


def test_magnetometers_and_gradiometers_are_drawn_apart(make_scores: Make) -> None:
    places = np.repeat(helmet(), 3, axis=0)
    names = [f"MEG{i:03d}{j}" for i in range(30) for j in (1, 2, 3)]
    scores = make_scores(subjects=["a"], targets=names, places=places, latency_s=LATENCIES_S, baseline=False)
    kinds = np.array(["mag", "grad", "grad"] * 30)
    scores = scores.assign_coords(target_kind=("target", kinds))
    scores["r"] = scores["r"] * 0 + np.where(kinds == "mag", 0.1, 0.3)[:, None]
    figure = topography(scores)
    assert figure is not None
    rows = [axes for axes in figure.axes if axes.get_title()]
    assert len(rows) == 8
    assert [axes.get_ylabel() for axes in rows if axes.get_ylabel()] == ["magnetometers", "gradiometers"]
    for axes, value in zip(rows, [0.1] * 4 + [0.3] * 4, strict=True):
        np.testing.assert_allclose(np.ma.compressed(axes.images[0].get_array()), value, atol=1e-5)
    assert "gradiometers at one place are averaged" in figure.caption


def test_with_a_baseline_the_gain_is_drawn(make_scores: Make) -> None:
    figure = topography(sensors(make_scores))
    assert figure is not None
    assert figure.caption.startswith("Sensor maps of the gain in r over the baseline")
    assert topography(sensors(make_scores, baseline=False)).caption.startswith("Sensor maps of r of")  # type: ignore[union-attr]
