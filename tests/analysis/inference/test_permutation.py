"""Null scores against plain refits of every surrogate, and what they say of planted effects and of nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from brainalign.analysis.inference import permutation
from brainalign.analysis.inference.permutation import Penalties, gain_null, score_null
from brainalign.analysis.inference.significance import p_values
from brainalign.analysis.inference.surrogates import surrogates
from brainalign.encoding import ContiguousBlocks, LeaveOneRunOut, RidgeEncoder, cross_validate
from brainalign.types import Floats

N, V = 96, 7
RUNS = np.repeat(["a", "b", "c"], N // 3)
Folds = list[tuple[np.ndarray, np.ndarray]]
# Features fewer and more than the training samples: the two ways of the mathematics.
WIDTHS = pytest.mark.parametrize("width", [6, 150], ids=["few features", "many features"])


def folds_of(n: int = N) -> Folds:
    return list(ContiguousBlocks(3, 4).split(np.zeros((n, 1))))


def problem(width: int, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Features, a baseline and responses that follow some of both; means and scales as recordings have them."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(N, width)) * random.uniform(0.1, 10, width) + random.normal(size=width)
    baseline = random.normal(size=(N, 2)) + 3.0
    drive = features[:, :3] @ random.normal(size=(3, V)) + baseline @ random.normal(size=(2, V))
    responses = 5.0 + np.linspace(0.1, 100, V) * (drive + 3 * random.normal(size=(N, V)))
    return features, baseline, responses


def chosen(seed: int, n_folds: int = 3) -> Floats:
    """A penalty for each fold and target, some of them shared."""
    return np.random.default_rng(seed).choice([0.3, 20.0, 400.0], size=(n_folds, V))


def roll(number: int, responses: Floats) -> Floats:
    return np.roll(responses, 11 + 7 * number, axis=0)


def standard(columns: Floats, train: np.ndarray) -> Floats:
    return (columns - columns[train].mean(axis=0)) / columns[train].std(axis=0)


def refitted(columns: Floats, responses: Floats, folds: Folds, alpha: Floats, bands: Callable[..., Floats]) -> Floats:
    """Mean r over folds, every fold and target fitted from scratch by scikit-learn."""
    r = np.zeros((len(folds), V))
    for k, (train, test) in enumerate(folds):
        for target in range(V):
            x = bands(standard(columns, train), k, target)
            model = Ridge(alpha[k, target], solver="svd").fit(x[train], responses[train, target])
            r[k, target] = np.corrcoef(model.predict(x[test]), responses[test, target])[0, 1]
    return r.mean(axis=0)


def as_they_are(x: Floats, k: int, target: int) -> Floats:
    return x


# ----------------------------------------------------------------------------------------------- the definition


@WIDTHS
def test_the_scores_of_surrogates_are_those_of_refitting_each_from_scratch(width: int) -> None:
    features, _, responses = problem(width)
    alpha = chosen(1)
    observed, null = score_null(features, responses, folds_of(), Penalties(alpha), roll, 4)
    expected = [refitted(features, y, folds_of(), alpha, as_they_are) for y in surrogates_of(responses, 4)]
    np.testing.assert_allclose(observed, refitted(features, responses, folds_of(), alpha, as_they_are), atol=1e-6)
    np.testing.assert_allclose(null, expected, atol=1e-6)


def surrogates_of(responses: Floats, count: int) -> list[Floats]:
    return [roll(number, responses) for number in range(count)]


@WIDTHS
def test_the_gains_of_surrogates_are_those_of_refitting_each_from_scratch(width: int) -> None:
    """Both bands by one scikit-learn ridge of columns over the roots of their penalties; only residuals are moved."""
    features, baseline, responses = problem(width)
    alpha, beta, alone = chosen(1), chosen(2), chosen(3)
    both = np.hstack([features, baseline])
    ones = np.ones_like(alpha)

    def weighted(x: Floats, k: int, target: int) -> Floats:
        return x / np.sqrt(np.r_[np.full(width, alpha[k, target]), np.full(2, beta[k, target])])

    def gain(y: Floats) -> Floats:
        joint = refitted(both, y, folds_of(), ones, weighted)
        return joint - refitted(baseline, y, folds_of(), alone, as_they_are)

    observed, null = gain_null(
        features, baseline, responses, folds_of(), Penalties(alpha, beta), Penalties(alone), roll, 3
    )
    explained = LinearRegression().fit(baseline, responses).predict(baseline)
    expected = [gain(explained + y) for y in surrogates_of(responses - explained, 3)]
    np.testing.assert_allclose(observed, gain(responses), atol=1e-6)
    np.testing.assert_allclose(null, expected, atol=1e-6)


@WIDTHS
@pytest.mark.parametrize("splitter", [LeaveOneRunOut(), ContiguousBlocks(3, 4)], ids=["runs", "blocks"])
def test_what_is_observed_is_the_mean_score_of_cross_validation(
    width: int, splitter: LeaveOneRunOut | ContiguousBlocks
) -> None:
    features, baseline, responses = problem(width)
    folds = list(splitter.split(features, groups=RUNS))
    alone, joint = cross_validate(RidgeEncoder(), features, responses, RUNS, splitter, baseline=baseline)
    of_baseline, _ = cross_validate(RidgeEncoder(), baseline, responses, RUNS, splitter)
    assert joint is not None
    observed, _ = score_null(features, responses, folds, Penalties(alone.alpha), roll, 1)
    np.testing.assert_allclose(observed, alone.r.mean(axis=0), atol=2e-6)
    gain, _ = gain_null(
        features, baseline, responses, folds,
        Penalties(joint.alpha, joint.beta), Penalties(of_baseline.alpha), roll, 1,
    )  # fmt: skip
    np.testing.assert_allclose(gain, (joint.r - of_baseline.r).mean(axis=0), atol=2e-6)


@WIDTHS
@pytest.mark.parametrize("at_once", [1, 2**26])
@pytest.mark.parametrize("n_folds", [3, 16], ids=["fewer targets than held-out samples", "more"])
def test_moving_the_predictors_comes_to_the_same_as_moving_the_responses(
    width: int, n_folds: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, baseline, responses = problem(width)
    folds = list(ContiguousBlocks(n_folds, 4).split(np.zeros((N, 1))))
    first, second, third = (chosen(seed, n_folds) for seed in (1, 2, 3))
    if n_folds > V:
        # All targets of one penalty: seven, of six held-out samples.
        first, second, third = (np.broadcast_to(values[:1, :1], values.shape) for values in (first, second, third))
    joint, alone = Penalties(first, second), Penalties(third)
    of_score = (features, responses, folds, alone, roll, 7)
    of_gain = (features, baseline, responses, folds, joint, alone, roll, 7)
    expected = score_null(*of_score), gain_null(*of_gain)
    monkeypatch.setattr(permutation, "AT_ONCE", at_once)

    def order(number: int) -> np.ndarray:
        return roll(number, np.arange(N))

    for found, known in zip((score_null(*of_score, order), gain_null(*of_gain, order)), expected, strict=True):
        np.testing.assert_array_equal(found[0], known[0])
        np.testing.assert_allclose(found[1], known[1], atol=1e-6)


@pytest.mark.parametrize("at_once", [1, 5 * N * V * 4, 2**26])
def test_batches_of_surrogates_change_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features, baseline, responses = problem(6)
    joint, alone = Penalties(chosen(1), chosen(2)), Penalties(chosen(3))
    given = (features, baseline, responses, folds_of(), joint, alone, roll, 11)
    expected = gain_null(*given)[1], score_null(features, responses, folds_of(), alone, roll, 11)[1]
    monkeypatch.setattr(permutation, "AT_ONCE", at_once)
    np.testing.assert_allclose(gain_null(*given)[1], expected[0], atol=1e-6)
    np.testing.assert_allclose(score_null(features, responses, folds_of(), alone, roll, 11)[1], expected[1], atol=1e-6)


def test_surrogates_that_change_nothing_score_what_is_observed() -> None:
    features, baseline, responses = problem(150)
    same = lambda number, y: y  # noqa: E731
    joint, alone = Penalties(chosen(1), chosen(2)), Penalties(chosen(3))
    for observed, null in (
        score_null(features, responses, folds_of(), alone, same, 5),
        gain_null(features, baseline, responses, folds_of(), joint, alone, same, 5),
    ):
        np.testing.assert_allclose(null, np.tile(observed, (5, 1)), atol=1e-6)


def test_offsets_of_runs_and_units_of_responses_do_not_matter() -> None:
    """A drift far above what is fitted would leave nothing but rounding, were sums of squares not centred."""
    features, _, responses = problem(6)
    alpha, folds = chosen(1), list(LeaveOneRunOut().split(features, groups=RUNS))
    steps = 3000 * responses.std(axis=0) * (RUNS == "b")[:, None]

    def within_runs(number: int, y: Floats) -> Floats:
        return np.concatenate([np.roll(y[run == RUNS], 5 + number, axis=0) for run in "abc"])

    given = (features, responses.astype(np.float32) * np.float32(1e-12), folds, Penalties(alpha), within_runs, 3)
    observed, null = score_null(*given)
    plain, plain_null = score_null(features, responses, folds, Penalties(alpha), within_runs, 3)
    np.testing.assert_allclose(observed, plain, atol=1e-6)
    np.testing.assert_allclose(null, plain_null, atol=1e-6)
    # The step cannot be fitted in the run that has it, which is held out: its own score is that without the step.
    only = [folds[1]]
    stepped, _ = score_null(features, responses + steps, only, Penalties(alpha[1:2]), within_runs, 1)
    flat, _ = score_null(features, responses, only, Penalties(alpha[1:2]), within_runs, 1)
    np.testing.assert_allclose(stepped, flat, atol=2e-3)


def test_constant_columns_and_a_response_that_stands_still_in_one_fold() -> None:
    """As in cross-validation: a column that never varies weighs nothing, and such a fold has no correlation."""
    features, baseline, responses = problem(6)
    widened = np.hstack([features, np.ones((N, 2))])
    folds = list(LeaveOneRunOut().split(features, groups=RUNS))
    responses[RUNS == "a", 2] = 1.0
    alone, _ = cross_validate(RidgeEncoder(), features, responses, RUNS, LeaveOneRunOut())
    within = surrogates("circular_shift", responses, RUNS, n_permutations=5, length=3).apply
    given = (responses, folds, Penalties(alone.alpha), within, 5)
    observed, null = score_null(features, *given)
    np.testing.assert_allclose(observed, np.nanmean(alone.r, axis=0), atol=2e-6)
    assert np.isfinite(null).all()
    np.testing.assert_allclose(score_null(widened, *given)[1], null, atol=1e-6)
    idle = np.hstack([baseline, np.ones((N, 1))])
    joint = Penalties(alone.alpha, alone.alpha)
    with_idle = gain_null(features, idle, responses, folds, joint, Penalties(alone.alpha), within, 5)
    without = gain_null(features, baseline, responses, folds, joint, Penalties(alone.alpha), within, 5)
    np.testing.assert_allclose(with_idle[1], without[1], atol=1e-6)
    # What is left of a response that stands still does vary once it is moved; the fold is left out all the same.
    two_folds = gain_null(
        features, baseline, responses, folds[1:], Penalties(alone.alpha[1:], alone.alpha[1:]),
        Penalties(alone.alpha[1:]), within, 5,
    )  # fmt: skip
    np.testing.assert_allclose(without[0][2], two_folds[0][2], atol=1e-6)
    np.testing.assert_allclose(without[1][:, 2], two_folds[1][:, 2], atol=1e-6)


def test_a_response_without_any_scored_fold_is_undefined() -> None:
    features, _, responses = problem(6)
    folds = list(LeaveOneRunOut().split(features, groups=RUNS))
    responses[:, 1] = np.searchsorted(["a", "b", "c"], RUNS)
    within = surrogates("circular_shift", responses, RUNS, n_permutations=5, length=3).apply
    observed, null = score_null(features, responses, folds, Penalties(chosen(1)), within, 5)
    assert np.isnan(observed).tolist() == [False, True, *[False] * 5]
    assert np.isnan(p_values(observed, null)).tolist() == [False, True, *[False] * 5]


# -------------------------------------------------------------------------------------------- what it says


def planted(effect: float, seed: int, n: int = 300) -> tuple[Floats, Floats, Floats, np.ndarray]:
    """Slow features, a slow baseline that the responses follow, and responses that follow the features so much."""
    from scipy.signal import lfilter

    random = np.random.default_rng(seed)
    runs = np.repeat(["a", "b", "c"], n // 3)
    slow = lfilter([0.6], [1, -0.8], random.normal(size=(n + 100, 8 + 2 + 40)), axis=0)[100:]
    features, baseline, noise = slow[:, :8], slow[:, 8:10], slow[:, 10:]
    responses = noise + 2.0 * baseline[:, :1] + effect * features[:, :1]
    return features, baseline, responses, runs


@pytest.mark.parametrize(("effect", "share"), [(1.5, (0.95, 1.0)), (0.0, (0.0, 0.15))], ids=["planted", "nothing"])
def test_a_planted_gain_over_the_baseline_is_found_and_nothing_in_noise(
    effect: float, share: tuple[float, float]
) -> None:
    features, baseline, responses, runs = planted(effect, seed=3)
    splitter = LeaveOneRunOut()
    _, joint = cross_validate(RidgeEncoder(), features, responses, runs, splitter, baseline=baseline)
    alone, _ = cross_validate(RidgeEncoder(), baseline, responses, runs, splitter)
    assert joint is not None
    drawn = surrogates("circular_shift", responses, runs, n_permutations=199, length=20)
    folds = list(splitter.split(features, groups=runs))
    found = gain_null(
        features, baseline, responses, folds,
        Penalties(joint.alpha, joint.beta), Penalties(alone.alpha), drawn.apply, 199,
    )  # fmt: skip
    assert share[0] <= (p_values(*found) <= 0.05).mean() <= share[1]


def test_a_layer_that_only_repeats_the_baseline_is_significant_alone_and_gains_nothing() -> None:
    _, baseline, responses, runs = planted(0.0, seed=5)
    features = baseline @ np.random.default_rng(1).normal(size=(2, 6))
    folds = list(LeaveOneRunOut().split(features, groups=runs))
    drawn = surrogates("circular_shift", responses, runs, n_permutations=99, length=20)
    penalties = np.full((3, 40), 10.0)
    alone = score_null(features, responses, folds, Penalties(penalties), drawn.apply, 99)
    gain = gain_null(
        features, baseline, responses, folds, Penalties(penalties, penalties), Penalties(penalties), drawn.apply, 99
    )
    assert (p_values(*alone) <= 0.05).all()
    assert (p_values(*gain) <= 0.05).mean() <= 0.15
