"""The baseline ladder: planted gains over each rung, and a model of neighbours that knows no language."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from brainalign.analysis.partitions.ladder import Ladder, baseline_ladder, drift_column, oasm, oasm_r, share_explained
from brainalign.encoding import (
    BandedRidgeEncoder,
    ContiguousBlocks,
    Delayed,
    LeaveOneRunOut,
    RidgeEncoder,
    WholeRuns,
    cross_validate,
)
from brainalign.errors import DataError, RecipeError

RUNS = np.repeat(["a", "b", "c", "d"], 150)
SPLITTER = LeaveOneRunOut()


class Shuffled:
    """Folds that put neighbours on both sides."""

    def split(self, X, y=None, groups=None):
        fold = np.random.default_rng(0).permutation(np.arange(len(X)) % 5)
        for number in range(5):
            yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


@pytest.fixture(scope="module")
def problem() -> dict[str, np.ndarray]:
    """Word rate, length and meaning explain a fifth of the responses each; the second layer knows the meaning."""
    rng = np.random.default_rng(0)
    rate, length, meaning, other = (rng.normal(size=(600, q)) for q in (1, 2, 5, 10))
    signals = [columns @ rng.normal(size=(columns.shape[1], 30)) for columns in (rate, length, meaning)]
    y = sum(signal / signal.std(axis=0) for signal in signals) + np.sqrt(2.0) * rng.normal(size=(600, 30))
    shallow, deep = np.hstack([rate, length, other]), np.hstack([rate, length, meaning, other])
    return {"rate": rate, "length": length, "shallow": shallow, "deep": deep, "y": y}


@pytest.fixture(scope="module")
def ladder(problem: dict[str, np.ndarray]) -> Ladder:
    rungs = {"rate": problem["rate"], "length": problem["length"]}
    return baseline_ladder([problem["shallow"], problem["deep"]], rungs, problem["y"], RUNS, SPLITTER)


def test_what_was_planted_comes_back_rung_by_rung(ladder: Ladder) -> None:
    rate, length = ladder.rungs
    assert (rate.n_columns, length.n_columns) == (1, 3)
    assert rate.r2.mean() == pytest.approx(0.2, abs=0.03)
    assert length.r2.mean() == pytest.approx(0.4, abs=0.03)
    np.testing.assert_allclose(rate.unique_r2.mean(axis=(1, 2)), [0.2, 0.4], atol=0.03)
    np.testing.assert_allclose(length.unique_r2.mean(axis=(1, 2)), [0.0, 0.2], atol=0.03)
    np.testing.assert_allclose(length.share_explained, [1.0, 2 / 3], atol=0.04)
    assert length.gain_r[1].mean() > 0.1 > abs(length.gain_r[0].mean())
    assert ladder["rate"] is rate


def test_shapes_are_those_of_the_folds_and_targets(ladder: Ladder) -> None:
    assert ladder.r.shape == ladder.r2.shape == (2, 4, 30)
    for rung in ladder.rungs:
        assert rung.r.shape == rung.r2.shape == (4, 30)
        assert rung.r_joint.shape == rung.r2_joint.shape == rung.unique_r2.shape == rung.gain_r.shape == (2, 4, 30)
        assert rung.share_explained.shape == (2,)
        assert rung.variance_kept == 1.0


def test_scores_are_those_of_cross_validation_on_the_same_folds(ladder: Ladder, problem: dict[str, np.ndarray]) -> None:
    encoder = RidgeEncoder(baseline_alphas=(1.0, 1e2, 1e4, 1e6))
    both = np.hstack([problem["rate"], problem["length"]])
    rung, _ = cross_validate(encoder, both, problem["y"], RUNS, SPLITTER)
    model, joint = cross_validate(encoder, problem["deep"], problem["y"], RUNS, SPLITTER, both)
    assert joint is not None
    np.testing.assert_allclose(ladder["length"].r2, rung.r2, atol=1e-12)
    np.testing.assert_allclose(ladder["length"].r_joint[1], joint.r, atol=1e-12)
    np.testing.assert_allclose(ladder.r2[1], model.r2, atol=1e-12)


def test_layers_may_be_delayed_designs_that_come_one_by_one(problem: dict[str, np.ndarray]) -> None:
    layers = (Delayed(problem[name], (0, 1), RUNS) for name in ("shallow", "deep"))
    found = baseline_ladder(layers, {"rate": problem["rate"]}, problem["y"], RUNS, SPLITTER)
    np.testing.assert_allclose(found["rate"].unique_r2.mean(axis=(1, 2)), [0.2, 0.4], atol=0.04)


def test_a_banded_encoder_keeps_its_bands_for_the_layer(problem: dict[str, np.ndarray]) -> None:
    encoder = BandedRidgeEncoder({"one": 8, "two": 10}, (1.0, 100.0, 1e4), n_iter=3)
    found = baseline_ladder([problem["deep"]], {"rate": problem["rate"]}, problem["y"], RUNS, SPLITTER, encoder)
    assert found["rate"].r2.mean() == pytest.approx(0.2, abs=0.03)
    assert found["rate"].unique_r2.mean() == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize("n_components", [3, 8])
def test_wide_rungs_are_their_first_principal_components(n_components: int, problem: dict[str, np.ndarray]) -> None:
    """The scores are those of scikit-learn's components, given as a narrow rung."""
    rng = np.random.default_rng(1)
    wide = problem["deep"][:, 3:8] @ rng.normal(size=(5, 200)) + rng.normal(size=(600, 200))
    wide[:, 7] = 3.0  # never varies
    rungs = {"rate": problem["rate"], "embedding": wide}
    found = baseline_ladder([problem["deep"]], rungs, problem["y"], RUNS, SPLITTER, n_components=n_components)
    pca = PCA(n_components, svd_solver="full")
    components = pca.fit_transform(StandardScaler().fit_transform(wide))
    same = baseline_ladder(
        [problem["deep"]], rungs | {"embedding": components}, problem["y"], RUNS, SPLITTER, n_components=n_components
    )
    assert found["rate"].variance_kept == 1.0
    assert found["embedding"].n_columns == 1 + n_components
    assert found["embedding"].variance_kept == pytest.approx(pca.explained_variance_ratio_.sum())
    np.testing.assert_allclose(found["embedding"].r2, same["embedding"].r2, atol=1e-8)
    np.testing.assert_allclose(found["embedding"].r2_joint, same["embedding"].r2_joint, atol=1e-8)


def test_components_of_columns_that_depend_on_each_other_are_no_more_than_these(
    problem: dict[str, np.ndarray],
) -> None:
    copies = np.tile(problem["length"], 20)
    found = baseline_ladder([problem["deep"]], {"copies": copies}, problem["y"], RUNS, SPLITTER)
    assert found["copies"].n_columns == 2
    assert found["copies"].variance_kept == pytest.approx(1.0)
    assert found["copies"].r2.mean() == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("q", [1, 40], ids=["narrow", "wide"])
def test_a_rung_that_never_varies_explains_nothing(q: int, problem: dict[str, np.ndarray]) -> None:
    found = baseline_ladder([problem["deep"]], {"flat": np.full((600, q), 2.0)}, problem["y"], RUNS, SPLITTER)
    np.testing.assert_allclose(found["flat"].r2, 0.0, atol=1e-12)
    assert np.isnan(found["flat"].r).all()
    np.testing.assert_allclose(found["flat"].unique_r2, found.r2, atol=1e-6)
    np.testing.assert_allclose(found["flat"].share_explained, 0.0, atol=1e-9)


def test_undefined_targets_stay_undefined_and_out_of_the_share(problem: dict[str, np.ndarray]) -> None:
    y = problem["y"].copy()
    y[:, 0], y[:, 1] = np.nan, 5.0
    found = baseline_ladder([problem["deep"]], {"rate": problem["rate"]}, y, RUNS, SPLITTER)["rate"]
    assert np.isnan(found.unique_r2[..., :2]).all()
    assert np.isfinite(found.unique_r2[..., 2:]).all()
    assert found.share_explained[0] == pytest.approx(share_explained(found.r2[:, 2:], found.r2_joint[0, :, 2:]))
    nothing = baseline_ladder([problem["deep"]], {"rate": problem["rate"]}, y[:, :2], RUNS, SPLITTER)["rate"]
    assert np.isnan(nothing.share_explained).all()


def test_the_share_leaves_targets_out_that_neither_predicts() -> None:
    baseline = np.array([[0.1, -0.5, 0.0]])
    joint = np.array([[0.2, -0.5, 0.2]])
    assert share_explained(baseline, joint) == pytest.approx(0.25)
    assert np.isnan(share_explained(-np.ones((2, 3)), -np.ones((2, 3))))


@pytest.mark.parametrize(
    ("rungs", "n_layers", "n_components", "error", "message"),
    [
        ({}, 1, 30, RecipeError, r"a rung or more \(0 here\)"),
        ({"rate": np.ones((600, 1))}, 1, 0, RecipeError, r"a component or more \(0\)"),
        ({"rate": np.ones((600, 1))}, 0, 30, RecipeError, "there are no layers"),
        ({"rate": np.ones((599, 1))}, 1, 30, DataError, r"Rung 'rate' of shape \(599, 1\)"),
        ({"rate": np.full((600, 1), np.nan)}, 1, 30, DataError, "Rung 'rate' .* finite columns of 600 samples"),
    ],
)
def test_what_is_no_ladder_is_said(
    rungs: dict[str, np.ndarray], n_layers: int, n_components: int, error: type[Exception], message: str
) -> None:
    layers = [np.random.default_rng(0).normal(size=(600, 2))] * n_layers
    with pytest.raises(error, match=message):
        baseline_ladder(layers, rungs, np.ones((600, 1)), RUNS, SPLITTER, n_components=n_components)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5))
def test_drift_goes_from_minus_one_to_one_in_each_run(lengths: list[int]) -> None:
    groups = np.repeat(np.arange(len(lengths)), lengths)
    drift = drift_column(groups, len(groups))
    assert drift.shape == (len(groups), 1)
    for run, length in enumerate(lengths):
        expected = np.linspace(-1.0, 1.0, length) if length > 1 else [0.0]
        np.testing.assert_allclose(drift[groups == run, 0], expected)
    np.testing.assert_array_equal(drift_column(None, 5)[:, 0], [-1.0, -0.5, 0.0, 0.5, 1.0])


def test_drift_predicts_responses_that_wear_off_within_runs() -> None:
    drift = drift_column(RUNS, 600)
    y = -drift + np.random.default_rng(0).normal(size=(600, 10))
    model = np.random.default_rng(1).normal(size=(600, 5))
    rung = baseline_ladder([model], {"drift": drift}, y, RUNS, SPLITTER)["drift"]
    assert rung.r2.mean() == pytest.approx(0.25, abs=0.05)
    assert abs(rung.unique_r2.mean()) < 0.01


@pytest.mark.parametrize("sigma", [0.5, 1.5, 2.2, 4.8])
def test_oasm_is_the_identity_smoothed_within_runs(sigma: float) -> None:
    groups = np.repeat(["x", "y"], [40, 25])
    features = oasm(groups, 65, sigma)
    for run, length in (("x", 40), ("y", 25)):
        rows = np.flatnonzero(groups == run)
        smoothed = gaussian_filter1d(np.eye(length), sigma, axis=0, mode="constant", truncate=4.0)
        peak = smoothed[length // 2, length // 2]
        np.testing.assert_allclose(features[np.ix_(rows, rows)], smoothed / peak, atol=1e-3)
    assert not features[:40, 40:].any()
    np.testing.assert_array_equal(features, features.T)


def slow_responses(phi: float, n_runs: int = 6, n_samples: int = 50) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    runs = [lfilter([1.0], [1.0, -phi], rng.normal(size=(n_samples + 100, 20)), axis=0)[100:] for _ in range(n_runs)]
    return np.vstack(runs), np.repeat(np.arange(n_runs), n_samples)


@pytest.mark.parametrize(("phi", "least"), [(0.6, 0.5), (0.9, 0.8)])
def test_oasm_predicts_slow_responses_in_shuffled_folds_only(phi: float, least: float) -> None:
    y, runs = slow_responses(phi)
    assert oasm_r(y, runs, Shuffled()).mean() > least
    for honest in (LeaveOneRunOut(), WholeRuns(3), ContiguousBlocks(6)):
        assert np.isnan(oasm_r(y, runs, honest)).all()


def test_oasm_finds_nothing_in_white_noise_and_little_beyond_a_block_s_edges() -> None:
    white = np.random.default_rng(0).normal(size=(300, 20))
    assert abs(oasm_r(white, None, Shuffled()).mean()) < 0.05
    y, _ = slow_responses(0.6)
    assert abs(oasm_r(y, None, ContiguousBlocks(3)).mean()) < 0.1
    assert np.isnan(oasm_r(y, None, ContiguousBlocks(3, gap=20))).all()


def test_oasm_refuses_no_neighbourhood_and_foreign_groups() -> None:
    with pytest.raises(RecipeError, match="sigma is 0 samples"):
        oasm(None, 5, sigma=0)
    with pytest.raises(DataError, match=r"groups has shape \(4,\); the run of each of the 5 samples"):
        oasm(np.zeros(4), 5)
