"""Delayed copies within one run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.alignment.delays import delay


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    n_rows=st.integers(1, 12),
    n_dimensions=st.integers(1, 3),
    delays=st.lists(st.integers(0, 15), min_size=1, max_size=4),
    layers=st.integers(1, 2),
)
def test_a_delayed_copy_is_the_value_so_many_rows_before_or_zero(
    n_rows: int, n_dimensions: int, delays: list[int], layers: int
) -> None:
    values = np.random.default_rng(0).normal(size=(layers, n_rows, n_dimensions))
    delayed = delay(values, delays)
    assert delayed.shape == (layers, n_rows, len(delays) * n_dimensions)
    for layer in range(layers):
        for row in range(n_rows):
            expected = [values[layer, row - d] if row >= d else np.zeros(n_dimensions) for d in delays]
            np.testing.assert_array_equal(delayed[layer, row], np.concatenate(expected))


@pytest.mark.parametrize("row", [0, 5, 9])
def test_an_impulse_moves_and_never_wraps_round(row: int) -> None:
    impulse = np.zeros((10, 1))
    impulse[row] = 1.0
    delayed = delay(impulse, [0, 3, 9, 10, 11])
    expected = np.zeros((10, 5))
    for column, rows in enumerate([0, 3, 9, 10, 11]):
        if row + rows < 10:
            expected[row + rows, column] = 1.0
    np.testing.assert_array_equal(delayed, expected)


def test_the_input_is_left_as_it_was_and_its_precision_kept() -> None:
    values = np.ones((4, 2), dtype=np.float32)
    delayed = delay(values, [0, 1])
    delayed[:] = 7
    assert (values == 1).all()
    assert delayed.dtype == np.float32
