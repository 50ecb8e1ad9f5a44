"""The linear algebra, against closed forms in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.encoding import solvers
from brainalign.encoding.solvers import Standardiser, factorise, held_out_errors, target_blocks, weights

VARIED = settings(max_examples=30, deadline=None, derandomize=True)
SHAPES = {"long": (40, 7), "wide": (15, 60), "square": (12, 12)}


def features_of(kind: str, n: int, p: int) -> np.ndarray:
    x = np.random.default_rng(n * p).normal(size=(n, p)) * np.logspace(-3, 3, p) + 5.0
    if kind == "duplicated":
        x[:, 1] = 2 * x[:, 0] - 3
        x[:, -1] = x[:, 2] + x[:, 3]
    if kind == "constant":
        x[:, [0, 3]] = 0.1, 1e6
    return x


def standardised(x: np.ndarray) -> np.ndarray:
    scale = x.std(axis=0)
    scale[x.min(axis=0) == x.max(axis=0)] = np.inf
    return (x - x.mean(axis=0)) / scale


@pytest.mark.parametrize("kind", ["full", "duplicated", "constant"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_factorisation_gives_the_features_and_their_products_back(shape: tuple[int, int], kind: str) -> None:
    x = features_of(kind, *shape)
    expected, factor = standardised(x), factorise(x)
    k = len(factor.s)
    assert k == np.linalg.matrix_rank(expected, tol=1e-8 * np.linalg.norm(expected))
    np.testing.assert_allclose(factor.u.T @ factor.u, np.eye(k), atol=1e-9)
    np.testing.assert_allclose(factor.s, np.linalg.svd(expected, compute_uv=False)[:k], rtol=1e-8)
    np.testing.assert_allclose(factor.project(x), factor.u * factor.s, atol=1e-8)
    v = factor.from_basis(np.eye(k))
    np.testing.assert_allclose(v.T @ v, np.eye(k), atol=1e-8)
    np.testing.assert_allclose((factor.u * factor.s) @ v.T, expected, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_new_rows_are_projected_with_the_training_rows_standardisation(shape: tuple[int, int]) -> None:
    x = features_of("full", *shape)
    new = np.random.default_rng(9).normal(size=(5, shape[1])) * 3 + 5
    factor = factorise(x)
    expected = ((new - x.mean(axis=0)) / x.std(axis=0)) @ factor.from_basis(np.eye(len(factor.s)))
    np.testing.assert_allclose(factor.project(new), expected, rtol=1e-7, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("n_components", [1, 3, 10_000])
def test_components_are_the_largest_first_and_no_more_than_there_are(shape: tuple[int, int], n_components: int) -> None:
    x = features_of("full", *shape)
    whole, kept = factorise(x), factorise(x, n_components)
    k = min(n_components, len(whole.s))
    np.testing.assert_array_equal(kept.s, whole.s[:k])
    np.testing.assert_allclose(kept.u, whole.u[:, :k], atol=1e-12)


def test_features_that_are_all_constant_have_no_directions() -> None:
    x = np.full((10, 3), 4.0)
    factor = factorise(x)
    assert factor.s.shape == (0,)
    assert factor.project(x).shape == (10, 0)
    assert factor.from_basis(np.zeros((0, 2))).tolist() == [[0.0, 0.0]] * 3


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, 1e-12, -12345.678])
def test_a_constant_column_is_zero_after_standardisation_whatever_its_value(value: float) -> None:
    standardise = Standardiser.fit(np.full((17, 1), value))
    np.testing.assert_array_equal(standardise(np.full((5, 1), value + 100.0)), 0.0)


def test_a_small_column_on_a_large_offset_is_still_standardised() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(50, 1))
    np.testing.assert_allclose(Standardiser.fit(x + 1e6)(x + 1e6), standardised(x), atol=1e-8)
    np.testing.assert_allclose(Standardiser.fit(x * 1e-15)(x * 1e-15), standardised(x), atol=1e-10)


@VARIED
@given(n=st.integers(6, 40), p=st.integers(1, 40), q=st.integers(1, 4), v=st.integers(1, 3), seed=st.integers(0, 10**6))
def test_weights_are_the_closed_form_for_every_pair_of_penalties(n: int, p: int, q: int, v: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, baseline = random.normal(size=(n, p)), standardised(random.normal(size=(n, q)))
    y = random.normal(size=(n, v))
    y -= y.mean(axis=0)
    alphas, betas = np.array([0.5, 20.0, 1e4]), np.array([2.0, 300.0])
    factor, xs = factorise(x), standardised(x)

    alone = weights(factor, alphas, y, None, betas)
    joint = weights(factor, alphas, y, baseline, betas)

    assert alone.shape == (3, len(factor.s), v)
    assert joint.shape == (6, len(factor.s) + q, v)
    both = np.hstack([xs, baseline])
    for g, (alpha, beta) in enumerate((a, b) for a in alphas for b in betas):
        expected = np.linalg.solve(xs.T @ xs + alpha * np.eye(p), xs.T @ y)
        np.testing.assert_allclose(factor.from_basis(alone[g // 2]), expected, atol=1e-8)
        penalty = np.diag(np.r_[np.full(p, alpha), np.full(q, beta)])
        expected = np.linalg.solve(both.T @ both + penalty, both.T @ y)
        k = len(factor.s)
        np.testing.assert_allclose(factor.from_basis(joint[g, :k]), expected[:p], atol=1e-8)
        np.testing.assert_allclose(joint[g, k:], expected[p:], atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_baseline_within_the_span_of_the_features_is_solved_too(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(1).normal(size=shape)
    xs = standardised(x)
    y = xs[:, :2] - xs[:, :2].mean(axis=0)
    factor = factorise(x)
    joint = weights(factor, np.array([0.1]), y, xs[:, :1], np.array([1.0]))[0]
    both = np.hstack([xs, xs[:, :1]])
    expected = np.linalg.solve(both.T @ both + np.diag(np.r_[np.full(shape[1], 0.1), 1.0]), both.T @ y)
    np.testing.assert_allclose(factor.from_basis(joint[:-1]), expected[:-1], atol=1e-7)
    np.testing.assert_allclose(joint[-1], expected[-1], atol=1e-7)


@pytest.mark.parametrize("q", [0, 1, 5])
@pytest.mark.parametrize("m", [1, 4, 30])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_held_out_errors_are_those_of_predicting_with_the_weights(shape: tuple[int, int], m: int, q: int) -> None:
    random = np.random.default_rng(m + q)
    (n, p), v = shape, 3
    x, new = random.normal(size=(n, p)), random.normal(size=(m, p))
    y, observed = random.normal(size=(n, v)), random.normal(size=(m, v)) + 0.3
    y -= y.mean(axis=0)
    baseline = (standardised(random.normal(size=(n, q))), random.normal(size=(m, q))) if q else None
    alphas, betas = np.array([0.1, 10.0, 1e9]), np.array([1.0, 1e4])
    factor = factorise(x)
    projected = factor.project(new)
    w = weights(factor, alphas, y, baseline[0] if baseline else None, betas)
    design = np.hstack([projected, baseline[1]]) if baseline else projected
    expected = np.array([((design @ each - observed) ** 2).sum(axis=0) for each in w])
    found = held_out_errors(factor, alphas, y, projected, observed, baseline, betas)
    assert found.shape == (6 if q else 3, v)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_held_out_errors_of_a_perfect_prediction_are_zero_to_rounding() -> None:
    # The errors come as differences of squares, of which nearly all cancels here.
    random = np.random.default_rng(0)
    x, new, w = random.normal(size=(80, 10)), random.normal(size=(40, 10)), random.normal(size=(10, 3))
    y, observed = x @ w, new @ w
    factor = factorise(x)
    found = held_out_errors(
        factor, np.array([1e-9]), y - y.mean(axis=0), factor.project(new), observed - y.mean(axis=0), None, np.ones(1)
    )
    np.testing.assert_allclose(found / (observed**2).sum(axis=0), 0.0, atol=1e-12)


@given(n_targets=st.integers(0, 300), values=st.integers(0, 10**6))
@VARIED
def test_blocks_of_targets_cover_each_once_and_fit_in_memory(n_targets: int, values: int) -> None:
    blocks = list(target_blocks(n_targets, values))
    assert [target for block in blocks for target in range(n_targets)[block]] == list(range(n_targets))
    for block in blocks:
        assert block.stop - block.start == 1 or (block.stop - block.start) * values <= solvers.BLOCK_SIZE
