"""How far ahead layers can be foretold: planted memories come back, and the floor is what is left without them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from brainalign.analysis.forecasts.horizons import half_life, horizon
from brainalign.encoding import ContiguousBlocks, LeaveOneRunOut, RidgeEncoder, cross_validate
from brainalign.errors import DataError, RecipeError
from brainalign.types import Features, Floats

MEMORIES = (0.0, 0.8, 0.95)
ENCODER = RidgeEncoder(alphas=[1.0, 100.0])


def remembering(n_words: int, seed: int = 0, dimension: int = 4) -> Features:
    """Layers whose words resemble the ones before by more and more."""
    rng = np.random.default_rng(seed)
    layers = [
        lfilter([np.sqrt(1 - phi**2)], [1.0, -phi], rng.normal(size=(n_words + 200, dimension)), axis=0)[200:]
        for phi in MEMORIES
    ]
    names = tuple(f"memory {phi}" for phi in MEMORIES)
    return Features("model", names, np.stack(layers).astype(np.float32), np.arange(n_words) * 0.4, np.ones(n_words))


def joined(features: Features) -> Features:
    """One layer of all layers' dimensions."""
    values = np.concatenate(list(features.values), axis=1)[None]
    return replace(features, layers=("all",), values=values)


def test_planted_memories_come_back() -> None:
    later = {name: remembering(1500, seed) for seed, name in enumerate("abc")}
    present = {name: joined(one) for name, one in later.items()}
    distances = [1, 2, 4, 8, 16]
    found = horizon(present, later, distances, LeaveOneRunOut(), encoder=ENCODER)
    assert found.r2.shape == found.floor.shape == (3, 5, 3)
    assert found.n_words == 3 * (1500 - 16)
    for layer, phi in enumerate(MEMORIES):
        expected = phi ** (2 * np.array(distances))
        np.testing.assert_allclose(found.above_floor[layer], expected, atol=0.06)
    assert np.isnan(found.half_life_words[0]) or found.half_life_words[0] < 2
    # phi^(2 d) = phi^2 / 2, read between the distances on straight lines.
    np.testing.assert_allclose(found.half_life_words[1:], 1 + np.log(0.5) / (2 * np.log(MEMORIES[1:])), rtol=0.25)


def test_words_from_elsewhere_are_not_foretold() -> None:
    later = {"story": remembering(3000)}
    present = {"story": joined(later["story"])}
    found = horizon(present, later, [1, 3], ContiguousBlocks(5, gap=50), encoder=ENCODER)
    assert np.abs(found.floor[:2]).max() < 0.05
    assert found.floor.mean() < 0.01 < found.r2[2].min()
    again = horizon(present, later, [1, 3], ContiguousBlocks(5, gap=50), encoder=ENCODER)
    np.testing.assert_array_equal(again.floor, found.floor)


def test_each_distance_is_the_fit_of_its_own_responses() -> None:
    later = {name: remembering(80, seed) for seed, name in enumerate("abc")}
    found = horizon(later, later, [-2, 3], LeaveOneRunOut(), layer=1, encoder=ENCODER)
    x = np.concatenate([one.values[1, 2:77] for one in later.values()])
    groups = np.repeat(["a", "b", "c"], 75)
    for number, distance in enumerate((-2, 3)):
        for layer in range(3):
            y = np.concatenate([one.values[layer, 2 + distance : 77 + distance] for one in later.values()])
            scores, _ = cross_validate(ENCODER, x, y, groups, LeaveOneRunOut())
            expected = scores.r2 @ y.var(axis=0) / y.var(axis=0).sum()
            np.testing.assert_allclose(found.r2[layer, number], expected, atol=1e-5)


def test_a_dimension_that_does_not_vary_has_no_part() -> None:
    one = remembering(200)
    padded = replace(one, values=np.concatenate([one.values, np.full((3, 200, 2), 7.0, dtype=np.float32)], axis=2))
    plain, with_constants = (
        horizon({"story": one}, {"story": later}, [1, 2], ContiguousBlocks(5, gap=4), encoder=ENCODER)
        for later in (one, padded)
    )
    np.testing.assert_allclose(with_constants.r2, plain.r2, atol=1e-6)
    silent = replace(one, values=np.zeros_like(one.values))
    nothing = horizon({"story": one}, {"story": silent}, [1], ContiguousBlocks(5, gap=4), encoder=ENCODER)
    assert np.isnan(nothing.above_floor).all()
    assert np.isnan(nothing.half_life_words).all()


def test_the_accuracy_of_guessing_stands_beside() -> None:
    one = {"story": remembering(100)}
    found = horizon(one, one, [1, 2, 3], ContiguousBlocks(5, gap=3), encoder=ENCODER, accuracy=[0.3, 0.1, 0.05])
    assert found.accuracy is not None
    np.testing.assert_allclose(half_life(found.accuracy, found.distances), 1.75)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(rate=st.floats(0.02, 2.0), height=st.floats(1e-3, 10.0), step=st.integers(1, 3))
def test_the_half_life_of_an_exponential_is_its_own(rate: float, height: float, step: int) -> None:
    distances = np.arange(0, 60, step)
    found = float(half_life(height * np.exp(-rate * distances), distances))
    expected = np.log(2) / rate
    assert np.isinf(found) if expected > distances[-1] else abs(found - expected) <= step / 2


@pytest.mark.parametrize(
    ("curve", "expected"),
    [([0.4, 0.4, 0.4], np.inf), ([-0.1, 0.2, 0.3], np.nan), ([0.4, 0.0, 0.4], 1.5), ([np.nan, 0.1, 0.2], np.nan)],
)
def test_half_lives_of_odd_curves(curve: Floats, expected: float) -> None:
    np.testing.assert_array_equal(half_life(np.array(curve), [1, 2, 3]), expected)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"distances": [2, 1]}, RecipeError, "increasing order"),
        ({"distances": []}, RecipeError, "at least one"),
        ({"accuracy": [0.1]}, RecipeError, "accuracy of 1 distances for 2"),
        ({"distances": [1, 95]}, DataError, "fewer than 10 have others at distances 1 to 95"),
        ({"later": {"other": remembering(100)}}, DataError, "must be the same"),
        ({"later": {"story": remembering(99)}}, DataError, "100 words, later ones 99"),
        ({"present": {}, "later": {}}, DataError, "must be the same"),
        (
            {"later": {"story": replace(remembering(100), values=np.full((3, 100, 4), np.nan))}},
            DataError,
            "'story' are not finite",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_has_no_horizon_is_refused(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    one = {"story": remembering(100)}
    given_ = {"present": one, "later": one, "distances": [1, 2], "splitter": ContiguousBlocks(5, gap=2), **changed}
    with pytest.raises(error, match=message):
        horizon(**given_)
