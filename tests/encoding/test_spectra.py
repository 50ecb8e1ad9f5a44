"""Factorisations put together from stretches of samples are those of each training set by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.encoding.backends import Backend
from brainalign.encoding.designs import Matrix
from brainalign.encoding.spectra import (
    DualPieces,
    PrimalPieces,
    Rotation,
    atoms_of,
    column_weights_of,
    spectrum_of_all,
)

RUNS = np.repeat(np.arange(4), 10)
SETS = [np.flatnonzero(run != RUNS) for run in range(4)]
# One of every sample or so: more parts than it would pay to share.
SCATTERED = [np.flatnonzero(np.random.default_rng(0).random(40) < 0.7)]
SHAPES = {"long": 6, "wide": 70}


def pieces_of(kind: str, x: np.ndarray, sets: list[np.ndarray], backend: Backend, **settings_: Any) -> Any:
    if kind == "primal":
        return PrimalPieces(Matrix(x), sets, backend, **settings_)
    return DualPieces(Matrix(x), backend, **settings_)


def planted(p: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(40, p)) * rng.uniform(0.1, 10.0, p) + rng.normal(size=p) * 5


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 30), n_sets=st.integers(1, 6))
def test_parts_are_the_fewest_of_which_every_set_is_made(seed: int, n: int, n_sets: int) -> None:
    member = np.random.default_rng(seed).random((n_sets, n)) < 0.5
    parts = atoms_of([np.flatnonzero(row) for row in member], n)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    seen = [tuple(member[:, part[0]]) for part in parts]
    assert len(set(seen)) == len(seen), "two parts that are always together could be one"
    for part in parts:
        assert (member[:, part] == member[:, part[:1]]).all()


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("smallest_alpha", [np.inf, 1e-30], ids=["from squares", "from rows"])
@pytest.mark.parametrize("sets", [SETS, SCATTERED], ids=["runs", "scattered"])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("kind", ["primal", "dual"])
@pytest.mark.parametrize("p", SHAPES.values(), ids=SHAPES)
def test_a_rotation_is_the_decomposition_of_its_training_set(
    p: int, kind: str, scaled: bool, sets: list[np.ndarray], smallest_alpha: float, name: Any
) -> None:
    x, backend = planted(p), Backend(name)
    y = np.random.default_rng(1).normal(size=(40, 3)) + 2.0
    pieces = pieces_of(kind, x, sets, backend, standardise=scaled, smallest_alpha=smallest_alpha)
    sums = pieces.sums(y)
    for train in sets:
        rotation = pieces.rotate(train)
        u, s = backend.to_numpy(pieces.left(rotation)), backend.to_numpy(rotation.s)
        deviation = x[train].std(axis=0) if scaled else 1.0
        standard = (x - x[train].mean(axis=0)) / deviation
        np.testing.assert_allclose(s, np.linalg.svd(standard[train])[1][: len(s)], rtol=1e-9)
        np.testing.assert_allclose(u.T @ u, np.eye(len(s)), atol=1e-9)
        # V from U: what is projected must be the features in that basis, in and out of training.
        v = standard[train].T @ u / s
        np.testing.assert_allclose(u * s @ v.T, standard[train], atol=1e-8)
        every = backend.to_numpy(pieces.project(rotation, np.arange(40)))
        np.testing.assert_allclose(every, standard @ v, atol=1e-8)
        z = pieces.reduce(rotation, y, sums)
        np.testing.assert_allclose(backend.to_numpy(z), u.T @ (y[train] - y[train].mean(axis=0)), atol=1e-8)
        coef = pieces.coefficients(rotation, z)
        np.testing.assert_allclose(coef * np.reshape(deviation, (-1, 1)), v @ backend.to_numpy(z), atol=1e-8)


@pytest.mark.parametrize("kind", ["primal", "dual"])
def test_weights_multiply_the_standardised_columns(kind: str) -> None:
    x, weights = planted(6), np.array([0.0, 1.0, 2.0, 0.5, 1.0, 3.0])
    pieces = pieces_of(kind, x, SETS, Backend())
    weighted = pieces.weighted(weights)
    train = SETS[0]
    standard = (x[train] - x[train].mean(axis=0)) / x[train].std(axis=0)
    np.testing.assert_allclose(weighted.rotate(train).s, np.linalg.svd(standard * weights)[1][:5], rtol=1e-9)
    np.testing.assert_allclose(pieces.rotate(train).s, np.linalg.svd(standard)[1], rtol=1e-9)


@pytest.mark.parametrize("kind", ["primal", "dual"])
@pytest.mark.parametrize("smallest_alpha", [np.inf, 1e-30])
def test_so_many_components_are_kept_as_are_asked_for(kind: str, smallest_alpha: float) -> None:
    pieces = pieces_of(kind, planted(70), SETS, Backend(), n_components=3, smallest_alpha=smallest_alpha)
    assert pieces.rotate(SETS[0]).s.shape == (3,)


@pytest.mark.parametrize("kind", ["primal", "dual"])
@pytest.mark.parametrize("p", SHAPES.values(), ids=SHAPES)
def test_a_small_penalty_gets_singular_values_that_were_never_squared(p: int, kind: str) -> None:
    rng = np.random.default_rng(0)
    k = min(p, 29)
    turn = np.linalg.qr(rng.normal(size=(p, p)))[0][:, :k]
    basis = np.linalg.qr(np.column_stack([np.ones(30), rng.normal(size=(30, k))]))[0][:, 1:]
    expected = np.logspace(4, -4, k)
    x = np.zeros((40, p))
    x[SETS[0]] = basis * expected @ turn.T

    def smallest(alpha: float) -> float:
        s = pieces_of(kind, x, SETS, Backend(), standardise=False, smallest_alpha=alpha).rotate(SETS[0]).s
        return float(np.abs(s[:k] / expected[: len(s)] - 1).max()) if len(s) >= k else 1.0

    assert smallest(1e-6) < 1e-6
    assert smallest(1.0) > 1e-2, "squared, the small ones are lost: the test would not tell"


@pytest.mark.parametrize("distance", [1e2, 1e4])
def test_a_held_out_run_far_from_the_others_is_projected_where_it_is(distance: float) -> None:
    # Found in review: the far run's share of constants leaked into directions of next to no variance.
    x = planted(6)
    x[RUNS == 0] += distance * np.random.default_rng(5).normal(size=6)
    primal, dual = (pieces_of(kind, x, SETS, Backend(), standardise=False) for kind in ("primal", "dual"))
    predicted = []
    for pieces in (primal, dual):
        rotation: Rotation = pieces.rotate(SETS[0])
        z = pieces.reduce(rotation, np.random.default_rng(1).normal(size=(40, 2)), None)
        shrink = (rotation.s / (rotation.s**2 + 1.0))[:, None]
        predicted.append(pieces.project(rotation, np.flatnonzero(RUNS == 0)) @ (shrink * z))
    np.testing.assert_allclose(predicted[1], predicted[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["primal", "dual"])
@pytest.mark.parametrize("scaled", [True, False])
def test_columns_that_do_not_vary_in_training_have_no_weight(kind: str, scaled: bool) -> None:
    x = planted(6)
    x[SETS[0], 2], x[:, 4] = 0.1, 1e9
    pieces = pieces_of(kind, x, SETS, Backend(), standardise=scaled)
    rotation = pieces.rotate(SETS[0])
    assert rotation.s.shape == (4,)
    coef = pieces.coefficients(rotation, np.ones((4, 1)))
    np.testing.assert_allclose(coef[[2, 4]], 0.0, atol=1e-12)


def test_a_constant_column_is_one_whatever_its_size_and_a_small_one_is_not() -> None:
    mean, deviation = np.array([1e6, 1e6, 0.0, 1e-30, 0.0]), np.array([1e-8, 1e-3, 1e-200, 0.0, 0.0])
    np.testing.assert_array_equal(column_weights_of(mean, deviation) > 0, [False, True, True, False, False])
    np.testing.assert_array_equal(column_weights_of(mean, deviation, standardise=False), [0, 1, 1, 0, 0])


@pytest.mark.parametrize("p", SHAPES.values(), ids=SHAPES)
def test_the_spectrum_of_all_samples_is_that_of_the_centred_features(p: int) -> None:
    x = planted(p)
    u, s = spectrum_of_all(Matrix(x), Backend(), 1.0)
    np.testing.assert_allclose((u * s**2) @ u.T, (x - x.mean(0)) @ (x - x.mean(0)).T, atol=1e-7)
    np.testing.assert_allclose(u.T @ u, np.eye(len(s)), atol=1e-9)
