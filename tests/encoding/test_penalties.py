"""Scores of a whole grid without predicting are those of predicting with each penalty."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.encoding import penalties
from brainalign.encoding.backends import Backend
from brainalign.encoding.penalties import TOLERANCE, Baseline, Grid, HeldOut, score_of


class Planted:
    """A training and a test set in the basis of the training features' components."""

    def __init__(self, s: np.ndarray, n: int, m: int, v: int, q: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        k = len(s)
        self.n, self.m, self.s = n, m, s
        self.u = np.linalg.qr(np.column_stack([np.ones(n), rng.normal(size=(n, k))]))[0][:, 1:]
        self.held_out = rng.normal(size=(m, k)) * s / np.sqrt(n) + 0.1 * s / np.sqrt(n)
        self.y = rng.normal(size=(n + m, v))
        self.y[:n] += np.sqrt(n) * self.u @ rng.normal(size=(k, v)) / np.sqrt(max(k, 1))
        self.mean = self.y[:n].mean(axis=0)
        self.b = rng.normal(size=(n + m, q))
        self.b = (self.b - self.b[:n].mean(axis=0)) / self.b[:n].std(axis=0)

    def scorer(self, grid: Grid, backend: Backend, dtype: str = "float64") -> HeldOut:
        n, b = self.n, backend.array(self.b)
        columns = Baseline(b[:n], b[n:], backend.array(self.u.T @ self.b[:n])) if self.b.shape[1] else None
        rows = np.arange(n, n + self.m)
        s, held_out = backend.array(self.s), backend.array(self.held_out)
        return HeldOut(np.arange(n), rows, s, held_out, grid, backend, dtype, columns)

    def z(self, backend: Backend, dtype: str = "float64") -> Any:
        y = self.y[: self.n].astype(dtype)
        return backend.array(self.u.T.astype(dtype) @ (y - y.mean(axis=0)), dtype)

    def directly(self, alpha: float, beta: float, selection: str, joint: bool) -> np.ndarray:
        """The scores (v,) of one pair of penalties from the normal equations."""
        n, b = self.n, self.b if joint else self.b[:, :0]
        columns = np.hstack([self.u * self.s, b[:n]])
        penalty = np.diag([alpha] * len(self.s) + [beta] * b.shape[1])
        w = np.linalg.solve(columns.T @ columns + penalty, columns.T @ (self.y[:n] - self.mean))
        predicted, observed = np.hstack([self.held_out, b[n:]]) @ w, self.y[n:] - self.mean
        if selection == "r":
            return np.array([np.corrcoef(p, o)[0, 1] for p, o in zip(predicted.T, observed.T, strict=True)])
        return 1 - ((observed - predicted) ** 2).sum(axis=0) / (observed**2).sum(axis=0)


def agree(planted: Planted, grid: Grid, backend: Backend, tolerance: float, dtype: str = "float64") -> HeldOut:
    scorer = planted.scorer(grid, backend, dtype)
    y = planted.y.astype(scorer.dtype)
    scored = scorer.score(y, planted.mean.astype(scorer.dtype), planted.z(backend, scorer.dtype))
    alone = [planted.directly(alpha, 1.0, grid.selection, False) for alpha in grid.alphas]
    np.testing.assert_allclose(scored.alone, alone, atol=tolerance)
    assert scored.defined.all()
    assert (scored.joint is None) == (planted.b.shape[1] == 0)
    if scored.joint is not None:
        pairs = [(alpha, beta) for alpha in grid.alphas for beta in grid.betas]
        joint = [planted.directly(*pair, grid.selection, True) for pair in pairs]
        np.testing.assert_allclose(scored.joint, joint, atol=tolerance)
    return scorer


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    n=st.integers(8, 40),
    m=st.integers(3, 30),
    k=st.integers(1, 20),
    v=st.integers(1, 3),
    q=st.integers(0, 3),
    n_alphas=st.integers(1, 12),
    selection=st.sampled_from(["r2", "r"]),
    name=st.sampled_from(["numpy", "torch"]),
    seed=st.integers(0, 10**6),
)
def test_any_grid_and_baseline_gives_the_scores_of_predicting(
    n: int, m: int, k: int, v: int, q: int, n_alphas: int, selection: Any, name: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    s = np.sort(np.exp(rng.normal(size=min(k, n - 1))))[::-1] * np.sqrt(n)
    grid = Grid(np.sort(np.exp(rng.uniform(-3, 12, n_alphas))), np.array([0.5, 40.0]), selection)
    agree(Planted(s, n, m, v, q, seed), grid, Backend(name), 1e-7)


@pytest.mark.parametrize("fractions", [True, False])
@pytest.mark.parametrize("selection", ["r2", "r"])
@pytest.mark.parametrize("gap", [0.0, 1e-12, 1e-8, 1e-6, 4e-6, 6e-6, 1e-4, 1e-3, 1e-2])
def test_components_that_nearly_agree_cost_no_digits(gap: float, selection: Any, fractions: bool) -> None:
    s = np.repeat([50.0, 20.0, 5.0, 1.0], 4) * np.tile(1 + gap * np.array([3, 2, 1, 0]), 4)
    grid = Grid(np.logspace(-3, 5, 33 if fractions else 1), np.ones(1), selection)
    m = 30 if fractions else 5
    scorer = agree(Planted(s, 60, m, 3, 0, 0), grid, Backend(), 1e-8)
    assert scorer._by_fractions == fractions


def test_what_is_left_out_of_the_loop_cannot_move_a_prediction_by_more_than_is_said() -> None:
    s = np.logspace(3, -5, 25)
    planted = Planted(s, 40, 20, 50, 0, 3)
    grid = Grid(np.logspace(0, 8, 9), np.ones(1))
    scorer = planted.scorer(grid, Backend())
    z, deviation = planted.z(Backend()), planted.y[:40].std(axis=0)
    assert scorer.ranks[-1] < scorer.ranks[0] < 25, "nothing was left out: the test would not tell"
    for alpha, rank in zip(grid.alphas, scorer.ranks, strict=True):
        moved = (planted.held_out * s / (s**2 + alpha))[:, rank:] @ z[rank:]
        assert (np.sqrt((moved**2).mean(axis=0)) <= TOLERANCE * deviation).all()


def amplifying() -> tuple[Planted, Grid]:
    """Held-out samples far along components that training barely has."""
    planted = Planted(np.logspace(2, -2, 8), 60, 30, 20, 0, 0)
    planted.held_out[:, -1] *= 1e7
    # Of the last component responses have next to nothing, so that rounding shows.
    planted.y[:60] -= planted.u[:, -1:] @ (planted.u[:, -1:].T @ planted.y[:60]) * (1 - 1e-8)
    return planted, Grid(np.array([1e-8, 1e-6]), np.ones(1), "r")


def test_float32_is_left_where_its_rounding_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    planted, grid = amplifying()
    assert planted.scorer(grid, Backend(), "float32").dtype == "float64"
    agree(planted, grid, Backend(), 1e-6, "float32")
    monkeypatch.setattr(penalties, "AMPLIFICATION", np.inf)
    with pytest.raises(AssertionError):
        agree(planted, grid, Backend(), 1e-3, "float32")


def test_float32_is_kept_where_penalties_are_large_enough_for_it() -> None:
    planted = Planted(np.logspace(1.5, 0, 8), 60, 30, 20, 2, 0)
    scorer = agree(planted, Grid(np.logspace(0, 4, 5), np.array([1.0, 10.0])), Backend(), 1e-5, "float32")
    assert scorer.dtype == "float32"


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("selection", ["r2", "r"])
def test_features_of_no_variance_score_nothing(name: Any, selection: Any) -> None:
    planted, backend = Planted(np.empty(0), 10, 5, 2, 0, 0), Backend(name)
    scored = planted.scorer(Grid(np.ones(3), np.ones(1), selection), backend).score(
        planted.y, planted.mean, backend.array(np.empty((0, 2)))
    )
    np.testing.assert_array_equal(scored.alone, np.zeros((3, 2)))


def test_a_target_that_does_not_vary_among_the_held_out_samples_is_told() -> None:
    planted = Planted(np.array([3.0, 2.0]), 10, 5, 2, 0, 0)
    planted.y[10:, 1] = 0.3
    scored = planted.scorer(Grid(np.ones(1), np.ones(1)), Backend()).score(
        planted.y, planted.mean, planted.z(Backend())
    )
    assert scored.defined.tolist() == [True, False]
    assert np.isfinite(scored.alone).all()


def test_no_prediction_has_no_correlation() -> None:
    square, product, power = np.array([0.0, 4.0, -1e-30]), np.array([0.0, 3.0, 1e-20]), np.array([1.0, 9.0, 1.0])
    np.testing.assert_array_equal(score_of(square, product, power, "r"), [0.0, 0.5, 0.0])
