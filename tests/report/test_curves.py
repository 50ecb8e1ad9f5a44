"""Layers that follow each other are found by their names."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.report.curves import curves
from brainalign.report.drawing import look


def table(*layers: tuple[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(layers, columns=["feature_space", "layer_name"])
    return frame.assign(layer=frame.groupby("feature_space").cumcount())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["layer 0", "layer 1"], {"x": [0, 1]}),
        (["embedding", "block 1", "block 2"], {"x": [0, 1, 2]}),
        (["static", "layer 0", "layer 1"], {"x, static": [0], "x": [0, 1]}),
        (["layer 2 attention", "layer 2 mlp"], {"x, layer 2 attention": [2], "x, layer 2 mlp": [2]}),
        (
            ["encoder layer 0", "encoder layer 1", "decoder layer 0", "decoder layer 1"],
            {"x, encoder": [0, 1], "x, decoder": [0, 1]},
        ),
        (
            ["layer 0", "layer 1", "layer 1 mlp", "layer 2", "layer 2 mlp"],
            {"x": [0, 1, 2], "x, mlp": [1, 2]},
        ),
        (["x"], {"x": [0]}),
    ],
)
def test_parts_are_told_by_the_names_of_layers(names: list[str], expected: dict[str, list[int]]) -> None:
    found = curves(table(*(("x", name) for name in names)))
    assert {curve.name: curve.numbers.tolist() for curve in found} == expected


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(["static", "layer 1", "layer 2 mlp", "", "é"]))))
def test_every_layer_is_in_one_curve(layers: list[tuple[str, str]]) -> None:
    rows = [row for curve in curves(table(*layers)) for row in curve.rows]
    assert sorted(rows) == list(range(len(layers)))


def test_rows_are_places_along_all_layers() -> None:
    layers = table(("a", "layer 0"), ("b", "layer 0"), ("b", "layer 1"))
    (only,) = curves(layers[layers["feature_space"] == "b"])
    np.testing.assert_array_equal(only.rows, [1, 2])


def test_looks_differ() -> None:
    assert len({look(i) for i in range(168)}) == 168
