"""Hearings of one moment are found and averaged, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.analysis.inference.moments import Moments, shift_in_samples
from brainalign.encoding.samples import Samples
from brainalign.encoding.splits import ContiguousBlocks


def samples_at(times_s: list[float], run: list[str], stimulus: list[str] | None = None) -> Samples:
    """Samples in the order of stimuli and times."""
    n = len(times_s)
    heard = np.array(stimulus or ["a"] * n)
    responses = np.arange(2.0 * n).reshape(n, 2)
    return Samples(
        "s1", responses, heard, np.array(run), heard, np.array(times_s), ContiguousBlocks(2), 0, None, None, iter
    )


@pytest.mark.parametrize(
    ("times_s", "run", "first"),
    [
        ([0, 2, 4], ["x", "x", "x"], [0, 1, 2]),
        ([0, 0, 2, 2], ["x", "y", "x", "y"], [0, 2]),
        ([0, 0.7, 2, 2.7], ["x", "y", "x", "y"], [0, 2]),
        ([0, 0, 2, 4, 4], ["x", "y", "x", "x", "y"], [0, 2, 3]),
        ([0, 1, 2, 3], ["x", "y", "x", "y"], [0, 1, 2, 3]),
        ([0, 0, 0.3, 0.3, 1], ["x", "x", "x", "x", "x"], [0, 1, 2, 3, 4]),
        ([0, 0.5, 0.7, 2, 2.5, 2.7], ["x", "y", "z"] * 2, [0, 3]),
    ],
    ids=[
        "once",
        "twice",
        "twice, a little later",
        "one hearing lacks a sample",
        "half a step apart",
        "two words at once",
        "three times",
    ],
)
def test_samples_of_one_moment_are_found(times_s: list[float], run: list[str], first: list[int]) -> None:
    assert Moments.of(samples_at(times_s, run)).first.tolist() == first


def test_stimuli_are_not_mixed_up() -> None:
    samples = samples_at([0, 0, 2, 2, 0, 2], ["x", "y", "x", "y", "x", "x"], ["a"] * 4 + ["b"] * 2)
    assert Moments.of(samples).first.tolist() == [0, 2, 4, 5]


def test_means_are_over_hearings_and_keep_the_type() -> None:
    moments = Moments.of(samples_at([0, 0, 2], ["x", "y", "x"]))
    values = np.array([[1.0, 5.0], [3.0, np.nan], [7.0, 1.0]], dtype=np.float32)
    mean = moments.mean(values)
    np.testing.assert_array_equal(mean, np.array([[2.0, np.nan], [7.0, 1.0]]))
    assert mean.dtype == np.float32


def test_what_was_heard_once_is_given_back_as_it_is() -> None:
    samples = samples_at([0, 2, 4], ["x"] * 3)
    assert Moments.of(samples).mean(samples.responses) is samples.responses


def test_seconds_are_counted_hearing_by_hearing() -> None:
    times = np.repeat(np.arange(0, 100, 2.0), 2)
    assert shift_in_samples(times, np.tile(["x", "y"], 50), np.full(100, "a"), 20.0) == 10
    assert shift_in_samples(np.array([0.0, 50.0]), np.array(["x", "x"]), np.array(["a", "a"]), 20.0) == 1
