"""Figures of order draw the numbers they are given, and say what they leave out."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest

from brainalign.errors import DataError
from brainalign.report.hierarchies import context_curves, layer_latencies, preferred_layers, size_curves

CONTEXTS = np.array([64.0, 1.0, 8.0])


def test_regions_stand_in_the_order_of_their_means_with_every_subject() -> None:
    preferred = np.array([[0.8, 0.1, np.nan], [0.6, 0.3, np.nan], [0.7, np.nan, np.nan]])
    figure = preferred_layers(preferred, ["IFG", "A1", "silent"], reliability=0.754)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["silent", "A1", "IFG"]
    drawn = [np.asarray(line.get_xdata()) for line in axes.lines]
    assert any(np.allclose(x, [0.8, 0.6, 0.7]) for x in drawn if len(x) == 3)
    assert any(np.allclose(x, 0.2) for x in drawn if len(x) == 1)
    assert "4 of 9" in figure.caption
    assert "r = 0.75" in figure.caption
    figure.savefig(BytesIO(), format="png")


def test_regions_of_the_same_name_are_drawn_apart() -> None:
    figure = preferred_layers(np.array([[0.8, 0.1]]), ["x", "x"])
    assert len(figure.axes[0].get_yticklabels()) == 2
    assert "n = 1" in figure.caption


def test_latencies_are_drawn_by_depth_and_a_p_value_never_without_its_test() -> None:
    latency_s, depth = np.array([[0.4, 0.1], [0.5, np.nan]]), np.array([1.0, 0.0])
    figure = layer_latencies(latency_s, depth, r=np.array([0.9, np.nan]), p=0.03, test="sign flips, 256")
    mean = figure.axes[0].lines[-1]
    np.testing.assert_allclose(mean.get_xdata(), [0.0, 1.0])
    np.testing.assert_allclose(mean.get_ydata(), [0.1, 0.45])
    assert "mean r = 0.90" in figure.axes[0].get_title(loc="left")
    assert "p = 0.03 (sign flips, 256)" in figure.caption
    assert "1 of 4" in figure.caption
    assert "p =" not in layer_latencies(latency_s, depth).caption
    with pytest.raises(DataError, match="name of its test"):
        layer_latencies(latency_s, depth, p=0.03)


def test_curves_are_drawn_in_the_order_of_contexts_with_their_windows() -> None:
    r = np.array([[0.3, 0.5], [0.1, 0.1], [0.2, 0.4]])
    figure = context_curves({"STG": r, "silent": np.full((3, 2), np.nan)}, CONTEXTS, windows={"STG": 8.0})
    axes = figure.axes[0]
    drawn = {tuple(np.round(np.asarray(line.get_ydata(), dtype=float), 6)) for line in axes.lines}
    assert (0.1, 0.3, 0.4) in drawn
    assert (0.3,) in drawn  # the window, on the line
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "8", "64"]
    assert "n = 0 to 2" in figure.caption
    figure.savefig(BytesIO(), format="png")


def test_large_sizes_are_named_and_those_without_room_are_not() -> None:
    sizes = np.array([1.25e8, 1.3e8, 1e9, 1e10])
    figure = size_curves({"OPT": np.full((4, 3), 0.1)}, sizes, slopes={"OPT": (0.01, 0.0, 0.02)})
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["125M", "1G", "10G"]
    assert "+0.0100 per decade (+0.0000 to +0.0200)" in figure.caption


@pytest.mark.parametrize(
    "draw",
    [
        lambda: preferred_layers(np.ones((2, 3)), ["a"]),
        lambda: layer_latencies(np.ones((2, 3)), np.ones(2)),
        lambda: context_curves({"a": np.ones((2, 3))}, CONTEXTS),
        lambda: context_curves({}, CONTEXTS),
        lambda: size_curves({"a": np.ones((3, 2))}, CONTEXTS - 1),
    ],
)
def test_shapes_that_do_not_agree_are_told(draw: Callable[[], object]) -> None:
    with pytest.raises(DataError):
        draw()
