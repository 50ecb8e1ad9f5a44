"""Responses about the means of their runs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import zscore

from brainalign.analysis.ceilings.runs import run_rows, within_runs
from brainalign.errors import DataError


def test_each_run_is_standardised_for_itself() -> None:
    values = np.random.default_rng(0).normal(size=(3, 30, 4)) * 5 + 7
    groups = np.array(["b"] * 10 + ["a"] * 20)
    expected = np.concatenate([zscore(values[:, :10], axis=1, ddof=1), zscore(values[:, 10:], axis=1, ddof=1)], axis=1)
    np.testing.assert_allclose(within_runs(values, groups, standardise=True), expected, atol=1e-12)
    centred = within_runs(values, groups, standardise=False)
    np.testing.assert_allclose(centred[:, :10], values[:, :10] - values[:, :10].mean(axis=1, keepdims=True), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, "constant in a run"])
def test_an_unusable_target_is_nan_and_leaves_the_others_and_the_input_alone(dtype: type, bad: float | str) -> None:
    values = np.random.default_rng(0).normal(size=(20, 3)).astype(dtype)
    groups = np.repeat([0, 1], 10)
    expected = within_runs(values, groups, standardise=True)
    broken = values.copy()
    if isinstance(bad, str):
        broken[:10, 1] = 0.1
    else:
        broken[3, 1] = bad
    given = broken.copy()
    found = within_runs(broken, groups, standardise=True)
    assert np.isnan(found[:, 1]).all()
    np.testing.assert_array_equal(found[:, [0, 2]], expected[:, [0, 2]])
    np.testing.assert_array_equal(broken, given)


def test_runs_are_found_wherever_their_samples_stand() -> None:
    assert [rows.tolist() for rows in run_rows(5, np.array(["x", "y", "x", "y", "x"]))] == [[0, 2, 4], [1, 3]]
    assert [rows.tolist() for rows in run_rows(3, None)] == [[0, 1, 2]]


def test_a_run_of_one_sample_and_groups_of_other_samples_are_refused() -> None:
    with pytest.raises(DataError, match="Run 'b' has 1 sample"):
        run_rows(3, np.array(["a", "a", "b"]))
    with pytest.raises(DataError, match=r"groups has shape \(2,\); the run of each of the 3 samples"):
        run_rows(3, np.array(["a", "a"]))
