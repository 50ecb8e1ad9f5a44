"""RidgeEncoder against scikit-learn, himalaya, brute force and laws that ridge obeys."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from brainalign.encoding.ridge import RidgeEncoder
from brainalign.encoding.splits import ContiguousBlocks, WholeRuns
from brainalign.errors import DataError

VARIED = settings(max_examples=25, deadline=None, derandomize=True)
ALPHAS = [0.3, 10.0, 300.0, 1e4]
BETAS = [1.0, 30.0, 1000.0]
SHAPES = {"long": (60, 8), "wide": (40, 90), "one feature": (30, 1)}


@parametrize_with_checks([RidgeEncoder(inner_splits=2), RidgeEncoder(alphas=[1.0, 10.0], selection="r")])
def test_it_is_a_scikit_learn_estimator(estimator: Any, check: Any) -> None:
    check(estimator)


def planted(n: int, p: int, v: int, seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Features of unlike scales and offsets, and targets of growing noise that follow them."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, p)) * np.linspace(0.5, 5, p) + np.linspace(-3, 3, p)
    w = random.normal(size=(p, v)) / np.linspace(0.5, 5, p)[:, None] / np.sqrt(p)
    return x, x @ w + random.normal(size=(n, v)) * noise * np.linspace(0.3, 3, v) + np.linspace(0, 10, v)


def columns(x: np.ndarray, alpha: float, baseline: np.ndarray | None, beta: float, train: np.ndarray) -> np.ndarray:
    """Columns, standardised on the training rows, for which ridge with a penalty of one is the fit wanted."""
    scaled = StandardScaler().fit(x[train]).transform(x) / np.sqrt(alpha)
    if baseline is None:
        return scaled
    return np.hstack([scaled, StandardScaler().fit(baseline[train]).transform(baseline) / np.sqrt(beta)])


def brute_force(
    x: np.ndarray, y: np.ndarray, folds: Any, selection: str = "r2", baseline: np.ndarray | None = None
) -> np.ndarray:
    """Mean inner score of each penalty or pair of penalties, with one scikit-learn fit for each of them and fold."""
    folds, scores = list(folds), []
    for alpha, beta in itertools.product(ALPHAS, BETAS if baseline is not None else [1.0]):
        of_fold = []
        for train, test in folds:
            design = columns(x, alpha, baseline, beta, train)
            predicted = Ridge(alpha=1.0).fit(design[train], y[train]).predict(design[test]).reshape(len(test), -1)
            if selection == "r":
                of_fold.append([np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, y[test].T, strict=True)])
            else:
                total = ((y[test] - y[train].mean(axis=0)) ** 2).sum(axis=0)
                of_fold.append(1 - ((y[test] - predicted) ** 2).sum(axis=0) / total)
        scores.append(np.mean(of_fold, axis=0))
    return np.array(scores)


def reference_prediction(
    x: np.ndarray,
    y: np.ndarray,
    new: np.ndarray,
    alpha: np.ndarray,
    baseline: Any = None,
    new_b: Any = None,
    beta: Any = None,
) -> np.ndarray:
    """One scikit-learn fit per target with the penalties given."""
    predicted = []
    every = np.arange(len(x))
    beta = np.ones(len(alpha)) if beta is None else beta
    rows = np.vstack([x, new])
    rows_b = None if baseline is None else np.vstack([baseline, new_b])
    for target in range(y.shape[1]):
        design = columns(rows, alpha[target], rows_b, beta[target], every)
        predicted.append(Ridge(alpha=1.0).fit(design[: len(x)], y[:, target]).predict(design[len(x) :]))
    return np.stack(predicted, axis=1)


# ------------------------------------------------------------------------------------------------ references


def spoilt(x: np.ndarray, kind: str) -> np.ndarray:
    x = x.copy()
    if kind == "duplicated columns":
        x = np.hstack([x, x, x[:, :1] * 3 - 2])
    if kind == "constant columns":
        x = np.hstack([np.full((len(x), 1), 7.1), x, np.zeros((len(x), 2))])
    return x


@pytest.mark.parametrize("selection", ["r2", "r"])
@pytest.mark.parametrize("kind", ["plain", "duplicated columns", "constant columns"])
@pytest.mark.parametrize("n_targets", [1, 5])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_scores_penalties_and_predictions_are_those_of_brute_force(
    shape: tuple[int, int], n_targets: int, kind: str, selection: Any
) -> None:
    x, y = planted(*shape, n_targets)
    x, new = spoilt(x, kind), spoilt(planted(*shape, n_targets, seed=1)[0], kind)
    encoder = RidgeEncoder(alphas=ALPHAS, inner_splits=3, selection=selection, gap=2).fit(x, y)
    expected = brute_force(x, y, ContiguousBlocks(3, 2).split(x), selection)
    np.testing.assert_allclose(encoder.inner_scores_, expected, atol=1e-9)
    # The correlation of a single feature's prediction is the same at every penalty: any may be the best.
    chosen = np.searchsorted(ALPHAS, encoder.alpha_)
    np.testing.assert_allclose(expected[chosen, np.arange(n_targets)], expected.max(axis=0), atol=1e-12)
    np.testing.assert_allclose(encoder.predict(new), reference_prediction(x, y, new, encoder.alpha_), atol=1e-8)
    np.testing.assert_allclose(encoder.predict(x), x @ encoder.coef_ + encoder.intercept_, atol=1e-10)
    assert np.isnan(encoder.baseline_alpha_).all()
    assert encoder.baseline_coef_.shape == (0, n_targets)


@pytest.mark.parametrize("selection", ["r2", "r"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_baseline_beside_is_ridge_on_rescaled_columns_over_all_pairs(shape: tuple[int, int], selection: Any) -> None:
    x, y = planted(*shape, 6)
    new = planted(*shape, 6, seed=1)[0]
    random = np.random.default_rng(2)
    baseline, new_b = random.normal(size=(shape[0], 3)) * 40 + 9, random.normal(size=(shape[0], 3)) * 40 + 9
    baseline[:, 2] = baseline[:, 0] - x[:, 0]  # not apart from the features, nor from each other
    y = y + baseline[:, :1] * np.linspace(0, 0.2, 6)
    encoder = RidgeEncoder(alphas=ALPHAS, baseline_alphas=BETAS, inner_splits=3, selection=selection)
    encoder.fit(x, y, baseline=baseline)
    expected = brute_force(x, y, ContiguousBlocks(3).split(x), selection, baseline)
    np.testing.assert_allclose(encoder.inner_scores_, expected, atol=1e-8)
    pairs = np.array(list(itertools.product(ALPHAS, BETAS)))[expected.argmax(axis=0)]
    np.testing.assert_array_equal(encoder.alpha_, pairs[:, 0])
    np.testing.assert_array_equal(encoder.baseline_alpha_, pairs[:, 1])
    reference = reference_prediction(x, y, new, encoder.alpha_, baseline, new_b, encoder.baseline_alpha_)
    np.testing.assert_allclose(encoder.predict(new, baseline=new_b), reference, atol=1e-8)
    assert len(np.unique(pairs, axis=0)) > 1, "the targets were to differ in what suits them"


@VARIED
@given(
    n=st.integers(12, 50),
    p=st.integers(1, 60),
    v=st.integers(1, 4),
    q=st.integers(0, 3),
    splits=st.integers(2, 4),
    seed=st.integers(0, 10**6),
)
def test_any_shape_gives_the_scores_of_brute_force(n: int, p: int, v: int, q: int, splits: int, seed: int) -> None:
    x, y = planted(n, p, v, seed)
    baseline = np.random.default_rng(seed).normal(size=(n, q)) if q else None
    encoder = RidgeEncoder(alphas=ALPHAS, baseline_alphas=BETAS, inner_splits=splits).fit(x, y, baseline=baseline)
    expected = brute_force(x, y, ContiguousBlocks(splits).split(x), baseline=baseline)
    np.testing.assert_allclose(encoder.inner_scores_, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("n_components", [1, 4, 1000])
@pytest.mark.parametrize("shape", [(60, 8), (40, 90)], ids=["long", "wide"])
def test_components_are_ridge_on_scikit_learn_s_principal_components(shape: tuple[int, int], n_components: int) -> None:
    x, y = planted(*shape, 3)
    new = planted(*shape, 3, seed=1)[0]
    encoder = RidgeEncoder(alphas=[20.0], n_components=n_components, inner_splits=2).fit(x, y)
    k = min(n_components, min(shape) - (shape[0] <= shape[1]))
    reference = make_pipeline(StandardScaler(), PCA(k, svd_solver="full"), Ridge(alpha=20.0))
    np.testing.assert_allclose(encoder.predict(new), reference.fit(x, y).predict(new), atol=1e-8)
    scores = []
    for train, test in ContiguousBlocks(2).split(x):
        inner = make_pipeline(
            StandardScaler(), PCA(min(k, min(len(train) - 1, shape[1])), svd_solver="full"), Ridge(alpha=20.0)
        )
        predicted = inner.fit(x[train], y[train]).predict(x[test])
        total = ((y[test] - y[train].mean(axis=0)) ** 2).sum(axis=0)
        scores.append(1 - ((y[test] - predicted) ** 2).sum(axis=0) / total)
    np.testing.assert_allclose(encoder.inner_scores_[0], np.mean(scores, axis=0), atol=1e-8)


@pytest.mark.parametrize("kernel", [False, True], ids=["primal", "kernel"])
@pytest.mark.parametrize("shape", [(120, 20), (60, 150)], ids=["long", "wide"])
def test_penalties_and_predictions_are_himalaya_s_on_the_same_folds(shape: tuple[int, int], kernel: bool) -> None:
    pytest.importorskip("himalaya", reason="a reference that only the extra 'bench' installs")
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.ridge import RidgeCV
    from himalaya.scoring import r2_score

    x, y = planted(*shape, 12, noise=2.0)
    # himalaya standardises nothing and takes R2 about the held-out mean. With every block standardised by itself all
    # their unions are, and every mean is zero, so that both minimise and maximise the same.
    blocks = [test for _, test in KFold(4).split(x)]
    for block in blocks:
        x[block], y[block] = StandardScaler().fit_transform(x[block]), y[block] - y[block].mean(axis=0)
    new = planted(*shape, 12, seed=1)[0]
    alphas = np.logspace(0, 5, 11)
    encoder = RidgeEncoder(alphas=alphas, inner_splits=4).fit(x, y)
    estimator = KernelRidgeCV if kernel else RidgeCV
    reference = estimator(alphas=alphas, fit_intercept=True, cv=KFold(4), solver_params={"score_func": r2_score})
    with warnings.catch_warnings(action="ignore"):
        reference.fit(x, y)
    np.testing.assert_allclose(encoder.alpha_, reference.best_alphas_, rtol=1e-6)
    np.testing.assert_allclose(encoder.inner_scores_.max(axis=0), reference.cv_scores_, atol=1e-8)
    assert len(set(encoder.alpha_)) > 1, "the targets were to differ in what suits them"
    np.testing.assert_allclose(encoder.predict(new), reference.predict(new), atol=1e-6)


# ------------------------------------------------------------------------------------------------------ laws


def test_copying_every_feature_is_halving_the_penalty() -> None:
    x, y = planted(50, 6, 3)
    once = RidgeEncoder(alphas=[3.0, 50.0], inner_splits=3).fit(x, y)
    twice = RidgeEncoder(alphas=[6.0, 100.0], inner_splits=3).fit(np.hstack([x, x]), y)
    np.testing.assert_allclose(twice.alpha_, 2 * once.alpha_)
    np.testing.assert_allclose(twice.inner_scores_, once.inner_scores_, atol=1e-10)
    np.testing.assert_allclose(twice.predict(np.hstack([x, x])), once.predict(x), atol=1e-9)


def test_features_of_no_variance_change_the_side_of_the_algebra_but_not_the_fit() -> None:
    x, y = planted(50, 6, 3)
    primal = RidgeEncoder(alphas=ALPHAS).fit(x, y)
    dual = RidgeEncoder(alphas=ALPHAS).fit(np.hstack([x, np.zeros((50, 60))]), y)
    np.testing.assert_allclose(dual.inner_scores_, primal.inner_scores_, atol=1e-10)
    np.testing.assert_allclose(dual.coef_[:6], primal.coef_, atol=1e-9)
    np.testing.assert_array_equal(dual.coef_[6:], 0.0)


@pytest.mark.parametrize("selection", ["r2", "r"])
def test_targets_do_not_know_of_each_other(selection: Any) -> None:
    x, y = planted(50, 70, 7)
    order = np.array([3, 0, 6, 1, 5, 2, 4])
    encoder = RidgeEncoder(alphas=ALPHAS, selection=selection)
    together = clone(encoder).fit(x, y)
    permuted = clone(encoder).fit(x, y[:, order])
    np.testing.assert_array_equal(permuted.alpha_, together.alpha_[order])
    np.testing.assert_allclose(permuted.coef_, together.coef_[:, order], atol=1e-10)
    for target in range(7):
        alone = clone(encoder).fit(x, y[:, target])
        assert alone.alpha_ == together.alpha_[target]
        np.testing.assert_allclose(alone.coef_, together.coef_[:, target], atol=1e-10)


def test_many_targets_in_blocks_are_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = planted(40, 10, 9)
    baseline = np.random.default_rng(0).normal(size=(40, 2))
    at_once = RidgeEncoder(alphas=ALPHAS).fit(x, y, baseline=baseline)
    monkeypatch.setattr("brainalign.encoding.responses.block_width", lambda n_samples: 2)
    in_blocks = RidgeEncoder(alphas=ALPHAS).fit(x, y, baseline=baseline)
    np.testing.assert_allclose(in_blocks.inner_scores_, at_once.inner_scores_, atol=1e-12)
    np.testing.assert_allclose(in_blocks.coef_, at_once.coef_, atol=1e-12)


@pytest.mark.parametrize("shape", [(50, 6), (40, 90)], ids=["long", "wide"])
def test_the_order_and_units_of_features_do_not_matter(shape: tuple[int, int]) -> None:
    x, y = planted(*shape, 3)
    order = np.random.default_rng(0).permutation(shape[1])
    changed = (x * np.logspace(-6, 6, shape[1]) - 4.0)[:, order]
    one, other = RidgeEncoder(alphas=ALPHAS).fit(x, y), RidgeEncoder(alphas=ALPHAS).fit(changed, y)
    np.testing.assert_array_equal(other.alpha_, one.alpha_)
    np.testing.assert_allclose(other.predict(changed), one.predict(x), atol=1e-6)


def test_a_million_added_to_features_or_targets_changes_nothing_but_the_intercept() -> None:
    x, y = planted(50, 6, 3)
    one = RidgeEncoder(alphas=ALPHAS).fit(x, y)
    moved_x = RidgeEncoder(alphas=ALPHAS).fit(x + 1e6, y)
    moved_y = RidgeEncoder(alphas=ALPHAS).fit(x, y + 1e6)
    for moved in (moved_x, moved_y):
        np.testing.assert_array_equal(moved.alpha_, one.alpha_)
        np.testing.assert_allclose(moved.inner_scores_, one.inner_scores_, atol=1e-8)
        np.testing.assert_allclose(moved.coef_, one.coef_, atol=1e-8)
    np.testing.assert_allclose(moved_x.predict(x + 1e6), one.predict(x), atol=1e-7)
    np.testing.assert_allclose(moved_y.predict(x) - 1e6, one.predict(x), atol=1e-7)


@pytest.mark.parametrize("scale", [1e-15, 1e20])
@pytest.mark.parametrize("selection", ["r2", "r"])
def test_the_units_of_targets_do_not_matter(scale: float, selection: Any) -> None:
    x, y = planted(50, 6, 3)
    baseline = np.random.default_rng(0).normal(size=(50, 2))
    encoder = RidgeEncoder(alphas=ALPHAS, selection=selection)
    one = clone(encoder).fit(x, y, baseline=baseline)
    scaled = clone(encoder).fit(x, y * scale, baseline=baseline)
    np.testing.assert_array_equal(scaled.alpha_, one.alpha_)
    np.testing.assert_array_equal(scaled.baseline_alpha_, one.baseline_alpha_)
    np.testing.assert_allclose(scaled.coef_ / scale, one.coef_, rtol=1e-8)
    np.testing.assert_allclose(scaled.inner_scores_, one.inner_scores_, atol=1e-10)


@pytest.mark.parametrize("selection", ["r2", "r"])
def test_single_precision_costs_digits_but_no_more_than_that(selection: Any) -> None:
    x, y = planted(50, 70, 3)
    encoder = RidgeEncoder(alphas=ALPHAS, selection=selection)
    single = clone(encoder).fit(x.astype(np.float32), y.astype(np.float32))
    double = clone(encoder).fit(x.astype(np.float32).astype(float), y.astype(np.float32).astype(float))
    np.testing.assert_array_equal(single.alpha_, double.alpha_)
    np.testing.assert_allclose(single.inner_scores_, double.inner_scores_, atol=2e-5)
    np.testing.assert_allclose(single.predict(x), double.predict(x), atol=1e-4)
    assert single.coef_.dtype == np.float64


def test_a_penalty_without_end_leaves_the_baseline_alone() -> None:
    x, y = planted(60, 8, 3)
    baseline = np.random.default_rng(0).normal(size=(60, 2))
    y = y + baseline @ np.ones((2, 3))
    joint = RidgeEncoder(alphas=[1e15], baseline_alphas=[5.0]).fit(x, y, baseline=baseline)
    alone = RidgeEncoder(alphas=[5.0]).fit(baseline, y)
    np.testing.assert_allclose(joint.predict(x, baseline=baseline), alone.predict(baseline), atol=1e-9)
    np.testing.assert_allclose(joint.inner_scores_, alone.inner_scores_, atol=1e-9)


def test_a_baseline_penalty_without_end_leaves_the_features_alone() -> None:
    x, y = planted(60, 8, 3)
    baseline = np.random.default_rng(0).normal(size=(60, 2))
    joint = RidgeEncoder(alphas=[5.0], baseline_alphas=[1e15]).fit(x, y, baseline=baseline)
    np.testing.assert_allclose(
        joint.predict(x, baseline=baseline), RidgeEncoder(alphas=[5.0]).fit(x, y).predict(x), atol=1e-9
    )


@pytest.mark.parametrize("penalties", [[1e9], [1e12, 1e15]])
def test_without_bound_on_the_penalty_the_mean_remains(penalties: list[float]) -> None:
    x, y = planted(60, 8, 3)
    np.testing.assert_allclose(
        RidgeEncoder(alphas=penalties).fit(x, y).predict(x), np.tile(y.mean(axis=0), (60, 1)), atol=1e-5
    )


@pytest.mark.parametrize("constant", [0.0, 1e6])
def test_a_constant_baseline_column_carries_no_weight(constant: float) -> None:
    x, y = planted(60, 8, 3)
    baseline = np.random.default_rng(0).normal(size=(60, 1))
    with_constant = np.hstack([baseline, np.full((60, 1), constant)])
    one = RidgeEncoder(alphas=ALPHAS).fit(x, y, baseline=baseline)
    other = RidgeEncoder(alphas=ALPHAS).fit(x, y, baseline=with_constant)
    np.testing.assert_array_equal(other.baseline_coef_[1], 0.0)
    np.testing.assert_allclose(other.coef_, one.coef_, atol=1e-10)


# -------------------------------------------------------------------------------------- penalties and folds


def test_ties_and_targets_without_signal_take_the_largest_penalty() -> None:
    x, y = planted(60, 8, 3)
    y[:, 1] = 4.0
    encoder = RidgeEncoder(alphas=ALPHAS).fit(x, y)
    assert encoder.alpha_[1] == max(ALPHAS)
    np.testing.assert_allclose(encoder.predict(x)[:, 1], 4.0)
    flat = RidgeEncoder(alphas=ALPHAS).fit(np.ones((60, 4)), y)
    assert flat.alpha_.tolist() == [max(ALPHAS)] * 3


def test_the_order_in_which_penalties_are_given_does_not_matter() -> None:
    x, y = planted(60, 8, 3)
    one, other = RidgeEncoder(alphas=ALPHAS).fit(x, y), RidgeEncoder(alphas=ALPHAS[::-1]).fit(x, y)
    np.testing.assert_array_equal(one.alpha_, other.alpha_)
    np.testing.assert_array_equal(one.coef_, other.coef_)


def test_groups_make_inner_folds_of_whole_runs() -> None:
    x, y = planted(60, 8, 3)
    groups = np.repeat(list("ccab"), 15)
    encoder = RidgeEncoder(alphas=ALPHAS, inner_splits=4).fit(x, y, groups=groups)
    expected = brute_force(x, y, WholeRuns(4).split(x, groups=groups))
    assert len(list(WholeRuns(4).split(x, groups=groups))) == 3
    np.testing.assert_allclose(encoder.inner_scores_, expected, atol=1e-9)


def test_one_run_only_is_cut_into_blocks() -> None:
    x, y = planted(60, 8, 3)
    with_groups = RidgeEncoder(alphas=ALPHAS, gap=3).fit(x, y, groups=["only"] * 60)
    np.testing.assert_array_equal(with_groups.inner_scores_, RidgeEncoder(alphas=ALPHAS, gap=3).fit(x, y).inner_scores_)


def test_a_splitter_of_one_s_own_makes_the_inner_folds() -> None:
    x, y = planted(60, 8, 3)
    encoder = RidgeEncoder(alphas=ALPHAS, inner_splits=KFold(3)).fit(x, y)
    np.testing.assert_allclose(encoder.inner_scores_, brute_force(x, y, KFold(3).split(x)), atol=1e-9)


def test_the_edge_of_the_grid_is_told_only_where_a_wider_grid_would_matter() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 30))
    y = np.stack([x @ random.normal(size=30), x[:, 0] + 4 * random.normal(size=200), random.normal(size=200)], axis=1)
    too_large = RidgeEncoder(alphas=[1e3, 1e4]).fit(x, y)
    assert too_large.alpha_[0] == 1e3
    assert too_large.at_edge_.tolist()[0] is True, "the noise-free target wants less"
    wide = RidgeEncoder(alphas=np.logspace(-1, 9, 21)).fit(x, y)
    assert wide.alpha_[2] >= 1e3
    assert not wide.at_edge_[2], "towards an endless penalty nothing rises any more"
    assert not wide.at_edge_[1]
    too_small = RidgeEncoder(alphas=[1e-3, 1e-1, 1.0]).fit(x, y)
    assert too_small.at_edge_.tolist()[2] is True, "the target of noise alone wants more"


# ----------------------------------------------------------------------------------------- shapes and errors


@pytest.mark.parametrize("with_baseline", [False, True])
def test_one_dimensional_targets_give_one_dimensional_predictions(with_baseline: bool) -> None:
    x, y = planted(50, 6, 1)
    baseline = np.random.default_rng(0).normal(size=(50, 2)) if with_baseline else None
    flat, column = (RidgeEncoder(alphas=ALPHAS).fit(x, each, baseline=baseline) for each in (y[:, 0], y))
    assert flat.predict(x, baseline=baseline).shape == (50,)
    assert flat.coef_.shape == (6,)
    assert np.ndim(flat.intercept_) == np.ndim(flat.alpha_) == 0
    np.testing.assert_array_equal(flat.predict(x, baseline=baseline), column.predict(x, baseline=baseline)[:, 0])


def test_fitting_changes_no_input() -> None:
    x, y = planted(50, 6, 2)
    baseline = np.random.default_rng(0).normal(size=(50, 2))
    before = [x.copy(), y.copy(), baseline.copy()]
    RidgeEncoder(alphas=ALPHAS).fit(x, y, baseline=baseline).predict(x, baseline=baseline)
    for given_array, kept in zip([x, y, baseline], before, strict=True):
        np.testing.assert_array_equal(given_array, kept)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alphas": []}, "alphas"),
        ({"alphas": [0.0, 1.0]}, "alphas"),
        ({"alphas": [-1.0]}, "alphas"),
        ({"alphas": [np.nan]}, "alphas"),
        ({"alphas": [np.inf]}, "alphas"),
        ({"alphas": 3.0}, "alphas"),
        ({"baseline_alphas": [0.0]}, "baseline_alphas"),
        ({"selection": "R2"}, "selection"),
        ({"n_components": 0}, "n_components"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(parameters: dict[str, Any], message: str) -> None:
    x, y = planted(50, 6, 2)
    with pytest.raises(ValueError, match=message):
        RidgeEncoder(**parameters).fit(x, y)


@pytest.mark.parametrize(
    "baseline",
    [np.zeros(50), np.zeros((49, 1)), np.full((50, 1), np.nan), np.full((50, 1), np.inf)],
    ids=["one-dimensional", "too short", "nan", "infinite"],
)
def test_a_baseline_that_cannot_be_used_is_refused(baseline: np.ndarray) -> None:
    x, y = planted(50, 6, 2)
    with pytest.raises(ValueError, match=r"baseline must be finite with shape \(50, q\)"):
        RidgeEncoder().fit(x, y, baseline=baseline)


def test_a_baseline_is_given_to_both_fit_and_predict_or_to_neither() -> None:
    x, y = planted(50, 6, 2)
    baseline = np.ones((50, 2)) * np.arange(50)[:, None]
    with pytest.raises(ValueError, match="0 baseline columns"):
        RidgeEncoder().fit(x, y).predict(x, baseline=baseline)
    with pytest.raises(ValueError, match="2 baseline columns"):
        RidgeEncoder().fit(x, y, baseline=baseline).predict(x)


@pytest.mark.parametrize("what", ["X", "y"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(what: str, value: float) -> None:
    x, y = planted(50, 6, 2)
    (x if what == "X" else y)[3, 1] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        RidgeEncoder().fit(x, y)


def test_too_few_samples_for_the_inner_folds_are_named() -> None:
    x, y = planted(9, 3, 2)
    with pytest.raises(DataError, match="9 samples are too few for 4 blocks with a gap of 5"):
        RidgeEncoder(gap=5).fit(x, y)


# ------------------------------------------------------------------------------------------- found in review


@pytest.mark.parametrize("selection", ["r2", "r"])
def test_a_target_that_is_flat_in_one_inner_fold_is_chosen_for_by_the_others(selection: Any) -> None:
    # A channel that is dead in one run still has the others to choose a penalty by.
    x, y = planted(200, 8, 1, noise=0.3)
    groups = np.repeat(list("abcd"), 50)
    dead = y.copy()
    dead[groups == "a"] = y[groups == "a"].mean()
    encoder = RidgeEncoder(selection=selection).fit(x, dead, groups=groups)
    assert np.isfinite(encoder.inner_scores_).all()
    assert encoder.alpha_[0] < 1e4


def test_groups_of_another_length_are_refused() -> None:
    x, y = planted(60, 4, 1)
    with pytest.raises(ValueError, match="groups"):
        RidgeEncoder().fit(x, y, groups=np.repeat([0, 1, 2], 10))


def test_with_one_dimensional_targets_every_fitted_array_loses_its_last_axis() -> None:
    x, y = planted(60, 4, 1)
    encoder = RidgeEncoder(alphas=ALPHAS, baseline_alphas=BETAS).fit(
        x, y[:, 0], baseline=np.sin(np.arange(60.0))[:, None]
    )
    assert np.ndim(encoder.baseline_alpha_) == 0
    assert encoder.inner_scores_.shape == (len(ALPHAS) * len(BETAS),)


def test_the_number_of_inner_folds_may_come_from_numpy() -> None:
    x, y = planted(60, 4, 1)
    encoder = RidgeEncoder(alphas=ALPHAS, inner_splits=np.int64(3)).fit(x, y)  # type: ignore[arg-type]
    np.testing.assert_array_equal(encoder.coef_, RidgeEncoder(alphas=ALPHAS, inner_splits=3).fit(x, y).coef_)
