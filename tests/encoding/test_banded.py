"""Banded ridge: himalaya's numbers, brute force's, and what is planted."""

from __future__ import annotations

import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, PredefinedSplit
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from brainalign.config import parse_recipe
from brainalign.encoding import (
    BandedRidgeEncoder,
    ContiguousBlocks,
    LeaveOneRunOut,
    RidgeEncoder,
    cross_val_scores,
    pearson,
    r2,
)
from brainalign.encoding.cross_validation import cross_validate
from brainalign.encoding.designs import Matrix
from brainalign.encoding.nested import Targets
from brainalign.errors import DataError

ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0)
RUNS = np.repeat(np.arange(5), 24)


@parametrize_with_checks([BandedRidgeEncoder(alphas=[1.0, 100.0], n_iter=3)])
def test_it_is_a_scikit_learn_estimator(estimator: Any, check: Any) -> None:
    check(estimator)


def planted(n: int = 120, widths: tuple[int, ...] = (6, 9), v: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets that follow the first band, the last, or both."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, sum(widths))) * rng.uniform(0.5, 2.0, sum(widths)) + rng.normal(size=sum(widths))
    weights = rng.normal(size=(sum(widths), v)) * (rng.random((sum(widths), v)) < 0.6)
    weights[: widths[0], ::3] = 0.0
    weights[widths[0] :, 1::3] = 0.0
    return x, x @ weights + 2.0 * rng.normal(size=(n, v)) + 3.0


def brute_force(
    x: np.ndarray, y: np.ndarray, widths: tuple[int, ...], gammas: np.ndarray, folds: list[Any], standardise: bool
) -> np.ndarray:
    """Mean inner R2 (candidate, alpha, target) with scikit-learn's Ridge on rescaled columns."""
    scores = np.zeros((len(gammas), len(ALPHAS), y.shape[1]))
    for train, test in folds:
        scaler = StandardScaler(with_std=standardise).fit(x[train])
        total = ((y[test] - y[train].mean(axis=0)) ** 2).sum(axis=0)
        for g, gamma in enumerate(gammas):
            scale = np.repeat(np.sqrt(gamma), widths)
            fit, held = scaler.transform(x[train]) * scale, scaler.transform(x[test]) * scale
            for a, alpha in enumerate(ALPHAS):
                predicted = Ridge(alpha=alpha).fit(fit, y[train]).predict(held).reshape(len(test), -1)
                error = ((y[test] - predicted) ** 2).sum(axis=0)
                scores[g, a] += (1.0 - error / total) / len(folds)
    return scores


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("widths", [(6, 9), (40, 90), (3, 4, 5)], ids=["long", "wide", "three"])
def test_scores_choices_and_weights_are_those_of_brute_force(widths: tuple[int, ...], standardise: bool) -> None:
    x, y = planted(widths=widths)
    encoder = BandedRidgeEncoder(widths, ALPHAS, n_iter=4, inner_splits=3, standardise=standardise, random_state=1)
    encoder.fit(x, y)
    gammas = encoder.gammas_
    assert gammas.shape == (1 + len(widths) + 4, len(widths))
    np.testing.assert_allclose(gammas.sum(axis=1), 1.0)
    scores = brute_force(x, y, widths, gammas, list(ContiguousBlocks(3).split(x)), standardise)
    np.testing.assert_allclose(encoder.inner_scores_, scores.max(axis=1), atol=1e-9)
    best = scores.max(axis=1).argmax(axis=0)
    np.testing.assert_allclose(encoder.gamma_, gammas[best].T, atol=1e-9)  # corners may be drawn twice
    assert len(np.unique(best)) > 1, "the targets were to differ in what suits them"
    for target in range(y.shape[1]):
        alpha = ALPHAS[scores[best[target], :, target].argmax()]
        assert encoder.alpha_[target] == alpha
        scaler = StandardScaler(with_std=standardise).fit(x)
        scale = np.repeat(np.sqrt(gammas[best[target]]), widths)
        reference = Ridge(alpha=alpha).fit(scaler.transform(x) * scale, y[:, target])
        predicted = reference.predict(scaler.transform(x) * scale)
        np.testing.assert_allclose(encoder.predict(x)[:, target], predicted, atol=1e-8)


def test_candidates_penalties_and_predictions_are_himalaya_s() -> None:
    pytest.importorskip("himalaya", reason="a reference that only the extra 'bench' installs")
    from himalaya.ridge import GroupRidgeCV
    from himalaya.scoring import r2_score

    widths, (x, y) = (6, 9), planted()
    # himalaya takes R2 about the held-out mean: with every run centred by itself that is the training mean too.
    for run in range(5):
        x[run == RUNS] -= x[run == RUNS].mean(axis=0)
        y[run == RUNS] -= y[run == RUNS].mean(axis=0)
    gammas = np.random.default_rng(3).dirichlet(np.ones(2), size=7)
    ours = BandedRidgeEncoder(widths, ALPHAS, gammas=gammas, inner_splits=LeaveOneRunOut(), standardise=False)
    ours.fit(x, y, groups=RUNS)
    params = {"n_iter": gammas, "alphas": np.array(ALPHAS), "score_func": r2_score, "progress_bar": False}
    theirs = GroupRidgeCV(np.repeat([0, 1], widths), cv=PredefinedSplit(RUNS), fit_intercept=True, solver_params=params)
    with warnings.catch_warnings(action="ignore"):
        theirs.fit(x, y)
    np.testing.assert_allclose(np.log(ours.gamma_ / ours.alpha_), theirs.deltas_, atol=1e-6)
    np.testing.assert_allclose(ours.inner_scores_, theirs.cv_scores_, atol=1e-8)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), atol=1e-6)


def test_one_band_is_ridge() -> None:
    x, y = planted()
    banded, ridge = BandedRidgeEncoder(alphas=ALPHAS).fit(x, y), RidgeEncoder(alphas=ALPHAS).fit(x, y)
    np.testing.assert_array_equal(banded.alpha_, ridge.alpha_)
    np.testing.assert_allclose(banded.coef_, ridge.coef_, atol=1e-12)
    np.testing.assert_allclose(banded.predict(x), ridge.predict(x), atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("widths", [(6, 9), (60, 90)], ids=["primal", "dual"])
def test_the_nested_path_is_fitting_and_predicting_fold_by_fold(widths: tuple[int, ...], dtype: str) -> None:
    x, y = planted(widths=widths)
    encoder = BandedRidgeEncoder(widths, ALPHAS, n_iter=3, inner_splits=LeaveOneRunOut())
    scores, _ = cross_validate(encoder, x, y.astype(dtype), RUNS, LeaveOneRunOut())
    for run in range(5):
        train, test = run != RUNS, run == RUNS
        model = clone(encoder).fit(x[train], y[train], groups=RUNS[train])
        expected = r2(model.predict(x[test]), y[test], y[train].mean(axis=0))
        np.testing.assert_allclose(scores.r2[run], expected, atol=1e-9 if dtype == "float64" else 1e-4)
        np.testing.assert_array_equal(scores.alpha[run], model.alpha_)
    assert scores.r2_band is not None
    np.testing.assert_allclose(scores.r2_band.sum(axis=1), scores.r2, atol=1e-10 if dtype == "float64" else 1e-6)


def test_a_baseline_beside_it_is_one_band_more() -> None:
    x, y = planted(widths=(6, 9, 2))
    features, baseline = x[:, :15], x[:, 15:]
    encoder = BandedRidgeEncoder({"a": 6, "b": 9}, ALPHAS, n_iter=3)
    alone, joint = cross_validate(encoder, features, y, RUNS, LeaveOneRunOut(), baseline)
    three = clone(encoder).set_params(bands=[6, 9, 2])
    np.testing.assert_allclose(alone.r2, cross_validate(encoder, features, y, RUNS, LeaveOneRunOut())[0].r2, atol=1e-10)
    assert joint is not None
    np.testing.assert_allclose(joint.r2, cross_validate(three, x, y, RUNS, LeaveOneRunOut())[0].r2, atol=1e-10)
    with pytest.raises(ValueError, match="as a band"):
        encoder.fit(features, y, baseline=baseline)


def test_noise_beside_the_signal_costs_next_to_nothing_and_gets_none_of_the_variance() -> None:
    """SCIENCE.md 4.3: 20 true dimensions beside 500 of noise, 600 samples."""
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=(600, 20)), rng.normal(size=(600, 500))
    true = signal @ rng.normal(size=(20, 30))
    y = true / true.std(axis=0) * np.sqrt(0.2) + rng.normal(size=(600, 30)) * np.sqrt(0.8)
    runs, both = np.repeat(np.arange(5), 120), np.hstack([signal, noise])
    banded = BandedRidgeEncoder({"signal": 20, "noise": 500}, n_iter=10)
    joint = cross_val_scores({"both": both}, y, runs, banded).mean(("feature_space", "fold", "target"))
    plain = cross_val_scores({"signal": signal, "both": both}, y, runs).mean(("fold", "target"))
    assert float(joint.r2) > 5 * float(plain.r2.sel(feature_space="both"))
    assert float(joint.r2) > float(plain.r2.sel(feature_space="signal")) - 0.01
    assert float(joint.r2_band.sel(band="signal")) == pytest.approx(float(joint.r2), abs=0.01)
    assert abs(float(joint.r2_band.sel(band="noise"))) < 0.01


def test_the_order_of_bands_does_not_matter() -> None:
    x, y = planted()
    gammas = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    one = BandedRidgeEncoder([6, 9], ALPHAS, gammas=gammas).fit(x, y)
    other = BandedRidgeEncoder([9, 6], ALPHAS, gammas=gammas[:, ::-1]).fit(np.hstack([x[:, 6:], x[:, :6]]), y)
    np.testing.assert_allclose(other.gamma_[::-1], one.gamma_)
    np.testing.assert_allclose(other.inner_scores_, one.inner_scores_, atol=1e-10)


def test_the_search_is_the_same_for_the_same_random_state_only() -> None:
    x, y = planted()
    first, again, other = (BandedRidgeEncoder([6, 9], ALPHAS, n_iter=5, random_state=s).fit(x, y) for s in (0, 0, 1))
    np.testing.assert_array_equal(first.gammas_, again.gammas_)
    np.testing.assert_array_equal(first.coef_, again.coef_)
    assert not np.array_equal(first.gammas_, other.gammas_)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    n=st.integers(16, 40),
    widths=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    v=st.integers(1, 3),
    seed=st.integers(0, 10**6),
)
def test_any_shape_gives_the_scores_of_brute_force(n: int, widths: list[int], v: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, sum(widths))), rng.normal(size=(n, v))
    gammas = rng.dirichlet(np.ones(len(widths)), size=2)
    encoder = BandedRidgeEncoder(widths, ALPHAS, gammas=gammas, inner_splits=2).fit(x, y)
    scores = brute_force(x, y, tuple(widths), gammas, list(ContiguousBlocks(2).split(x)), True)
    np.testing.assert_allclose(encoder.inner_scores_, scores.max(axis=1), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bands": [6, 8]}, "14 columns together; X has 15"),
        ({"bands": []}, "bands must give"),
        ({"bands": {"a": 0, "b": 15}}, "bands must give"),
        ({"bands": [6, 9], "gammas": [[1.0]]}, r"shape \(candidate, 2\)"),
        ({"bands": [6, 9], "gammas": [[1.0, -0.1]]}, "not negative"),
        ({"bands": [6, 9], "gammas": np.empty((0, 2))}, r"got shape \(0, 2\)"),
        ({"bands": [6, 9], "gammas": [[0.5, 0.5], [0.0, 0.0]]}, "none of them all zeros"),
        ({"bands": [6, 9], "random_state": "seed"}, "seed"),
        ({"bands": [6, 9], "n_iter": -1}, "n_iter"),
        ({"bands": [6, 9], "concentration": [0.0]}, "concentration"),
        ({"bands": [6, 9], "alphas": [-1.0]}, "alphas"),
    ],
)
def test_settings_that_make_no_sense_are_refused(parameters: dict[str, Any], message: str) -> None:
    x, y = planted()
    with pytest.raises(ValueError, match=message):
        BandedRidgeEncoder(**parameters).fit(x, y)


@pytest.mark.parametrize(("selection", "inner"), [("r", 3), ("r2", "loo"), ("r", "loo")])
@pytest.mark.parametrize("widths", [(6, 9), (20, 40)], ids=["long", "wide"])
def test_other_ways_of_choosing_are_those_of_brute_force(widths: tuple[int, ...], selection: Any, inner: Any) -> None:
    x, y = planted(n=45, widths=widths, v=4)
    gammas = np.array([[0.5, 0.5], [1.0, 0.0], [0.1, 0.9]])
    encoder = BandedRidgeEncoder(
        widths, ALPHAS, gammas=gammas, inner_splits=inner, selection=selection, standardise=False
    )
    scores = np.empty((3, len(ALPHAS), 4))
    folds = list(KFold(45 if inner == "loo" else inner).split(x))
    for g, gamma in enumerate(gammas):
        scaled = x * np.repeat(np.sqrt(gamma), widths)
        for a, alpha in enumerate(ALPHAS):
            # One sample at a time, predictions are scored together, about the mean of all.
            predicted = [Ridge(alpha=alpha).fit(scaled[train], y[train]).predict(scaled[test]) for train, test in folds]
            if inner == "loo":
                whole = np.vstack(predicted)
                scores[g, a] = pearson(whole, y) if selection == "r" else r2(whole, y, y.mean(axis=0))
            else:
                scores[g, a] = np.mean(
                    [pearson(p, y[test]) for p, (_, test) in zip(predicted, folds, strict=True)], axis=0
                )
    encoder.fit(x, y)
    np.testing.assert_allclose(encoder.inner_scores_, scores.max(axis=1), atol=1e-8)
    best = scores.max(axis=1).argmax(axis=0)
    np.testing.assert_allclose(encoder.gamma_, gammas[best].T)
    np.testing.assert_allclose(encoder.alpha_, [ALPHAS[scores[g, :, v].argmax()] for v, g in enumerate(best)])


def test_targets_do_not_know_of_each_other() -> None:
    x, y = planted()
    encoder = BandedRidgeEncoder([6, 9], ALPHAS, n_iter=4)
    together, _ = cross_validate(encoder, x, y, RUNS, LeaveOneRunOut())
    for target in range(y.shape[1]):
        alone, _ = cross_validate(encoder, x, y[:, [target]], RUNS, LeaveOneRunOut())
        np.testing.assert_allclose(alone.r2[:, 0], together.r2[:, target], atol=1e-10)


# The state of a generator moves on with each draw: targets fitted in parts would each get candidates of their own.
@pytest.mark.parametrize("with_baseline", [False, True])
def test_targets_fitted_in_parts_are_offered_the_same_candidates(
    with_baseline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = planted(v=9)
    baseline = np.random.default_rng(1).normal(size=(120, 2)) if with_baseline else None

    def scores() -> list[np.ndarray]:
        encoder = BandedRidgeEncoder([6, 9], ALPHAS, n_iter=4, random_state=np.random.RandomState(3))
        found = cross_validate(encoder, x, y, RUNS, LeaveOneRunOut(), baseline)
        return [one.r2 for one in found if one is not None]

    at_once = scores()
    monkeypatch.setattr("brainalign.encoding.planning.Plan.parts", _one_by_one)
    in_parts = scores()
    np.testing.assert_allclose(in_parts, at_once, atol=1e-10)


def _one_by_one(_: Any, responses: Any) -> list[Targets]:
    return [Targets(responses, [slice(number, number + 1)]) for number in range(responses.n_targets)]


def test_more_candidates_take_no_more_memory() -> None:
    x, y = planted(n=40, widths=(2, 2), v=4000)

    def peak(n_iter: int) -> int:
        encoder = BandedRidgeEncoder([2, 2], (1.0, 100.0), n_iter=n_iter, inner_splits=2)
        tracemalloc.start()
        try:
            cross_validate(encoder, x, y, np.repeat([0, 1, 2, 3], 10), LeaveOneRunOut())
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(60) < peak(2) + 60 * 4000 * 8 / 4


def test_wide_features_never_need_a_gram_of_their_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = planted(widths=(200, 300))
    encoder = BandedRidgeEncoder([200, 300], ALPHAS, n_iter=1)
    expected, _ = cross_validate(encoder, x, y, RUNS, LeaveOneRunOut())

    def refused(*_: Any) -> None:
        raise AssertionError("a Gram of 500 columns")

    monkeypatch.setattr(Matrix, "moments", refused)
    np.testing.assert_array_equal(cross_validate(encoder, x, y, RUNS, LeaveOneRunOut())[0].r2, expected.r2)


def test_a_target_that_is_flat_in_training_is_predicted_by_its_value() -> None:
    x, y = planted()
    y[RUNS != 2, 0] = 1.0 / 3.0
    scores, _ = cross_validate(BandedRidgeEncoder([6, 9], ALPHAS, n_iter=2), x, y, RUNS, LeaveOneRunOut())
    assert scores.r2_band is not None
    assert np.isnan(scores.r[2, 0]), "rounding has no correlation"
    np.testing.assert_array_equal(scores.r2_band[2, :, 0], 0.0)
    assert np.isfinite(scores.r[2, 1:]).all()


def test_candidates_of_a_baseline_s_band_cannot_be_left_out() -> None:
    x, y = planted()
    encoder = BandedRidgeEncoder([6, 9], ALPHAS, gammas=[[0.5, 0.5]])
    with pytest.raises(DataError, match="baseline; give it as one of the bands"):
        cross_validate(encoder, x, y, RUNS, LeaveOneRunOut(), np.ones((120, 1)))


@pytest.mark.parametrize("concentration", [1e-6, 1e-3, 0.1, 1.0, 100.0])
def test_candidates_are_on_the_simplex_with_its_centre_and_its_corners(concentration: float) -> None:
    gammas = BandedRidgeEncoder([2, 3, 4], n_iter=50, concentration=[concentration]).candidates(3)
    assert gammas.shape == (54, 3)
    np.testing.assert_array_equal(gammas[:4], [[1 / 3] * 3, *np.eye(3)])
    assert (gammas >= 0).all()
    np.testing.assert_allclose(gammas.sum(axis=1), 1.0)


def test_parts_of_bands_come_under_their_names_and_sum_to_the_whole() -> None:
    x, y = planted()
    encoder = BandedRidgeEncoder({"model": 6, "envelope": 9}, ALPHAS, n_iter=2)
    scores = cross_val_scores({"joint": x}, y, RUNS, encoder)
    assert scores.r2_band.dims == ("feature_space", "fold", "band", "target")
    assert scores.band.values.tolist() == ["model", "envelope"]
    np.testing.assert_allclose(scores.r2_band.sum("band"), scores.r2, atol=1e-10)


@pytest.mark.parametrize("bands", [None, {"a": 3, "b": 4}, [3, 4]])
def test_a_recipe_may_ask_for_bands(bands: Any) -> None:
    settings_ = {"dataset": {"name": "simulated"}, "features": [{"kind": "toy_model"}]}
    encoder = parse_recipe({**settings_, "encoder": {"kind": "banded", "bands": bands, "n_iter": 5}}).encoder
    assert isinstance(encoder, BandedRidgeEncoder)
    assert (encoder.bands, encoder.n_iter) == (bands, 5)
