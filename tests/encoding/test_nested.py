"""Nested cross-validation by every route and backend, against brute force with scikit-learn and himalaya."""

from __future__ import annotations

import hashlib
import itertools
import warnings
from typing import Any, Literal

import numpy as np
import pytest
import threadpoolctl
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import PredefinedSplit
from sklearn.preprocessing import StandardScaler

from brainalign.encoding import ContiguousBlocks, Delayed, LeaveOneRunOut, RidgeEncoder, WholeRuns, spectra
from brainalign.encoding import ridge as ridge_module
from brainalign.encoding.cross_validation import FoldScores, cross_validate
from brainalign.encoding.designs import Matrix
from brainalign.encoding.planning import Plan
from brainalign.encoding.responses import Responses
from brainalign.encoding.splits import NestedFold, Splitter, nested_folds

Route = Literal["primal", "dual", "downdating"]
ALPHAS = tuple(np.logspace(-1, 5, 13).tolist())
RUNS = np.repeat(np.arange(5), 12)
SHAPES = {"long": 9, "square": 48, "wide": 100}
TOLERANCE = {"float64": 1e-8, "float32": 1e-3}


def planted(p: int, v: int = 7, n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) * rng.uniform(0.1, 3.0, p) + 5.0 * rng.normal(size=p)
    return x, x @ rng.normal(size=(p, v)) * 0.3 + np.linspace(0.5, 6, v) * rng.normal(size=(n, v)) + 4.0


def predict(
    x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, alpha: float, scaled: bool
) -> np.ndarray:
    scaler = StandardScaler(with_std=scaled).fit(x[train])
    fitted = Ridge(alpha=alpha, solver="svd").fit(scaler.transform(x[train]), y[train])
    return fitted.predict(scaler.transform(x[test])).reshape(len(test), -1)


def score(predicted: np.ndarray, observed: np.ndarray, mean: np.ndarray, selection: str) -> np.ndarray:
    if selection == "r2":
        return 1 - ((observed - predicted) ** 2).sum(axis=0) / ((observed - mean) ** 2).sum(axis=0)
    return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, observed.T, strict=True)])


def one_fit_at_a_time(
    x: np.ndarray, y: np.ndarray, folds: list[NestedFold], scaled: bool, selection: str = "r2", alphas: Any = ALPHAS
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """r, R2, penalty (fold, target) and the inner scores (fold, penalty, target)."""
    found: list[list[np.ndarray]] = [[], [], [], []]
    for fold in folds:
        inner = np.zeros((len(alphas), y.shape[1]))
        for (number, alpha), held in itertools.product(enumerate(alphas), fold.inner):
            predicted = predict(x, y, held.train, held.test, alpha, scaled)
            mean = y[held.train].mean(axis=0)
            inner[number] += score(predicted, y[held.test], mean, selection) / len(fold.inner)
        best = inner.argmax(axis=0)
        predicted = np.column_stack(
            [predict(x, y[:, [t]], fold.train, fold.test, alphas[best[t]], scaled)[:, 0] for t in range(y.shape[1])]
        )
        mean = y[fold.train].mean(axis=0)
        values = (score(predicted, y[fold.test], mean, "r"), score(predicted, y[fold.test], mean, "r2"))
        for kept, value in zip(found, (*values, np.asarray(alphas)[best], inner), strict=True):
            kept.append(value)
    return tuple(np.stack(kept) for kept in found)  # type: ignore[return-value]


KNOWN: dict[bytes, tuple[np.ndarray, ...]] = {}


def brute_force(
    x: np.ndarray, y: np.ndarray, folds: list[NestedFold], scaled: bool, selection: str = "r2", alphas: Any = ALPHAS
) -> tuple[np.ndarray, ...]:
    """`one_fit_at_a_time`, once for all the routes and backends that are compared with it."""
    indices = [part for fold in folds for pair in (fold, *fold.inner) for part in (pair.train, pair.test)]
    given_ = [x.tobytes(), y.tobytes(), *(part.tobytes() for part in indices), np.asarray(alphas).tobytes()]
    key = hashlib.sha256(b"|".join([*given_, f"{x.shape} {y.shape} {scaled} {selection}".encode()])).digest()
    if key not in KNOWN:
        KNOWN[key] = one_fit_at_a_time(x, y, folds, scaled, selection, alphas)
    return KNOWN[key]


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make the engine take a route, whatever the plan says."""

    def by(route: Route | None) -> None:
        if route is None:
            return
        plan = ridge_module.plan

        def always(problem: Any, memory_limit: float, allowed: Any) -> Plan:
            operations = plan(problem, memory_limit, allowed).operations
            # Where downdating is left for its lack of digits the plan is asked again.
            taken = route if route in allowed else "dual"
            return Plan(taken, operations, problem.n_targets, problem.n_targets)

        monkeypatch.setattr(ridge_module, "plan", always)

    return by


def by_any_of(route: Route, v: int) -> Any:
    """A plan that takes this route where it is allowed."""

    def always(problem: Any, memory_limit: float, allowed: Any) -> Plan:
        taken: Route = route if route in allowed else "dual"
        return Plan(taken, {taken: 1.0}, v, v)

    return always


def agree(scores: FoldScores, expected: tuple[np.ndarray, ...], tolerance: float) -> None:
    r, r2, alpha, inner = expected
    two_best = np.sort(inner, axis=1)[:, -2:]
    clear = two_best[:, -1] - two_best[:, 0] > 1e-6
    np.testing.assert_allclose(scores.alpha[clear], alpha[clear], rtol=1e-6)
    same = scores.alpha == alpha
    assert same.mean() > 0.9
    np.testing.assert_allclose(scores.r[same], r[same], atol=tolerance)
    np.testing.assert_allclose(scores.r2[same], r2[same], atol=tolerance)


# ------------------------------------------------------------------------------------------ the same numbers


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("route", "scaled"),
    [("primal", True), ("dual", True), ("primal", False), ("dual", False), ("downdating", False)],
)
@pytest.mark.parametrize("p", SHAPES.values(), ids=SHAPES)
def test_every_route_and_backend_gives_the_numbers_of_brute_force(
    p: int, route: Route, scaled: bool, backend: Any, dtype: str, take: Any
) -> None:
    x, y = planted(p)
    encoder = RidgeEncoder(alphas=ALPHAS, inner_splits=LeaveOneRunOut(), standardise=scaled, backend=backend)
    expected = brute_force(x, y, nested_folds(LeaveOneRunOut(), LeaveOneRunOut(), 60, RUNS), scaled)
    take(route)
    scores, _ = cross_validate(encoder, x, y.astype(dtype), RUNS, LeaveOneRunOut())
    agree(scores, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("route", ["primal", "dual", "downdating"])
@pytest.mark.parametrize("splitter", [WholeRuns(2), ContiguousBlocks(4, gap=3)], ids=type)
def test_correlation_chooses_by_every_route_and_kind_of_fold(splitter: Splitter, route: Route, take: Any) -> None:
    x, y = planted(9)
    take(route)
    scaled = route != "downdating"
    encoder = RidgeEncoder(alphas=ALPHAS, inner_splits=3, standardise=scaled, selection="r")
    scores, _ = cross_validate(encoder, x, y, RUNS, splitter)
    agree(scores, brute_force(x, y, nested_folds(splitter, 3, 60, RUNS), scaled, "r"), 1e-8)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(4, 14), min_size=3, max_size=5),
    p=st.integers(1, 60),
    v=st.integers(1, 3),
    degenerate=st.sampled_from(["no", "constant", "constant in a run", "duplicated", "all zero", "scales"]),
    route=st.sampled_from(["primal", "dual", "downdating"]),
    alphas=st.lists(st.sampled_from([1e-6, 1e-2, 1.0, 30.0, 1e4, 1e12]), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 10**6),
)
def test_any_shape_penalties_and_degenerate_columns(
    lengths: list[int], p: int, v: int, degenerate: str, route: Route, alphas: list[float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    runs = np.repeat(np.arange(len(lengths)), lengths)
    x, y = rng.normal(size=(len(runs), p)) + 3.0, rng.normal(size=(len(runs), v))
    scaled = route != "downdating"
    if degenerate == "constant":
        x[:, 0] = 0.1
    elif degenerate == "constant in a run":
        x[runs != 0, 0] = 0.1
    elif degenerate == "duplicated":
        x[:, -1] = x[:, 0]
    elif degenerate == "all zero":
        x[:] = 0.0
    elif degenerate == "scales":
        x = x * np.logspace(-3, 3, p)
    alphas = sorted(alphas)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ridge_module, "plan", by_any_of(route, v))
        encoder = RidgeEncoder(alphas=alphas, inner_splits=LeaveOneRunOut(), standardise=scaled)
        scores, _ = cross_validate(encoder, x, y, runs, LeaveOneRunOut())
    folds = nested_folds(LeaveOneRunOut(), LeaveOneRunOut(), len(runs), runs)
    with np.errstate(invalid="ignore"):
        _, r2, alpha, inner = brute_force(x, y, folds, scaled, alphas=alphas)
    # Where the two best are nearly equal, rounding decides; both are then right.
    gap = np.sort(inner, axis=1)[:, -1] - np.sort(inner, axis=1)[:, -2] if len(alphas) > 1 else np.ones_like(alpha)
    clear = gap > 1e-6
    np.testing.assert_array_equal(scores.alpha[clear], alpha[clear])
    np.testing.assert_allclose(scores.r2[clear], r2[clear], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("p", SHAPES.values(), ids=SHAPES)
def test_penalties_and_predictions_are_himalaya_s_in_nested_folds(p: int) -> None:
    pytest.importorskip("himalaya", reason="a reference that only the extra 'bench' installs")
    from himalaya.ridge import RidgeCV as HimalayaRidgeCV
    from himalaya.scoring import r2_score

    x, y = planted(p)
    # himalaya takes R2 about the held-out mean: with every run centred by itself that is the training mean too.
    for run in range(5):
        y[run == RUNS] -= y[run == RUNS].mean(axis=0)
    encoder = RidgeEncoder(alphas=ALPHAS, inner_splits=LeaveOneRunOut(), standardise=False)
    scores, _ = cross_validate(encoder, x, y, RUNS, LeaveOneRunOut())
    for run in range(5):
        train, test = run != RUNS, run == RUNS
        split = PredefinedSplit(np.unique(RUNS[train], return_inverse=True)[1])
        theirs = HimalayaRidgeCV(
            np.array(ALPHAS), fit_intercept=True, cv=split, solver_params={"score_func": r2_score, "warn": False}
        )
        with warnings.catch_warnings(action="ignore"):
            predicted = theirs.fit(x[train], y[train]).predict(x[test])
        np.testing.assert_allclose(scores.alpha[run], theirs.best_alphas_, rtol=1e-6)
        np.testing.assert_allclose(scores.r[run], score(predicted, y[test], 0.0, "r"), atol=1e-8)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("p", SHAPES.values(), ids=SHAPES)
def test_leaving_out_one_sample_at_a_time_is_scikit_learn_s_ridgecv(p: int, dtype: str) -> None:
    x, y = planted(p)
    standard = StandardScaler().fit_transform(x)
    theirs = RidgeCV(ALPHAS, alpha_per_target=True).fit(standard, y)
    ours = RidgeEncoder(alphas=ALPHAS, inner_splits="loo").fit(x, y.astype(dtype))
    np.testing.assert_allclose(ours.alpha_, theirs.alpha_)
    tolerance = 1e-8 if dtype == "float64" else 1e-4
    np.testing.assert_allclose(ours.coef_.T * x.std(axis=0), theirs.coef_, atol=tolerance)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(standard), atol=tolerance * 10)


def test_leaving_out_one_sample_at_a_time_with_a_baseline_is_doing_so() -> None:
    x, y = planted(8, v=2, n=20)
    baseline = np.random.default_rng(5).normal(size=(20, 2))
    encoder = RidgeEncoder(alphas=(1.0, 50.0), baseline_alphas=(3.0, 90.0), inner_splits="loo")
    found = encoder.fit(x, y, baseline=baseline).inner_scores_
    # Standardised on all training samples, as its columns are when one is left out.
    xs, bs = StandardScaler().fit_transform(x), StandardScaler().fit_transform(baseline)
    expected = []
    for alpha, beta in itertools.product((1.0, 50.0), (3.0, 90.0)):
        columns = np.hstack([xs / np.sqrt(alpha), bs / np.sqrt(beta)])
        errors = np.zeros(2)
        for i in range(20):
            rest = np.arange(20) != i
            errors += (y[i] - Ridge(alpha=1.0).fit(columns[rest], y[rest]).predict(columns[[i]])[0]) ** 2
        expected.append(1 - errors / ((y - y.mean(axis=0)) ** 2).sum(axis=0))
    np.testing.assert_allclose(found, expected, atol=1e-10)


# ------------------------------------------------------------------------------------------ hard conditions


def ill_conditioned(n: int, p: int) -> np.ndarray:
    """Singular values over eight decades."""
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.normal(size=(n, n)))
    v, _ = np.linalg.qr(rng.normal(size=(p, p)))
    k = min(n, p)
    return (u[:, :k] * np.logspace(4, -4, k)) @ v[:, :k].T


@pytest.mark.parametrize("route", ["primal", "dual", "downdating"])
@pytest.mark.parametrize("p", [20, 150])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_condition_number_of_1e8_costs_no_more_than_the_promised_digits(
    p: int, route: Route, dtype: str, take: Any
) -> None:
    x = ill_conditioned(60, p)
    y = np.random.default_rng(1).normal(size=(60, 6)) + x[:, :1] / x[:, 0].std()
    take(route)
    alphas = (1e-3, 1.0, 1e3, 1e6)
    encoder = RidgeEncoder(alphas=alphas, inner_splits=LeaveOneRunOut(), standardise=False)
    scores, _ = cross_validate(encoder, x, y.astype(dtype), RUNS, LeaveOneRunOut())
    expected = brute_force(x, y, nested_folds(LeaveOneRunOut(), LeaveOneRunOut(), 60, RUNS), False, alphas=alphas)
    agree(scores, expected, {"float64": 1e-5, "float32": 1e-3}[dtype])


@pytest.mark.parametrize("gap", [0.0, 1e-8, 1e-6, 1e-5, 1e-4, 1e-2])
def test_singular_values_that_nearly_agree_do_not_spoil_the_partial_fractions(gap: float) -> None:
    rng = np.random.default_rng(0)
    # Orthogonal columns in every run, so that singular values are what we make them; pairs differ by the gap.
    blocks = [np.linalg.qr(np.column_stack([np.ones(24), rng.normal(size=(24, 16))]))[0][:, 1:] for _ in range(4)]
    sizes = np.repeat([5.0, 3.0, 2.0, 1.0], 4) * np.tile([1.0, 1.0 + gap, 1.0, 1.0 - gap], 4)
    turn = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    x = np.concatenate([block @ np.linalg.qr(rng.normal(size=(16, 16)))[0] for block in blocks]) * sizes @ turn
    y = x @ rng.normal(size=(16, 5)) + rng.normal(size=(96, 5))
    runs = np.repeat(np.arange(4), 24)
    alphas = tuple(np.logspace(-3, 3, 40).tolist())
    encoder = RidgeEncoder(alphas=alphas, inner_splits=LeaveOneRunOut(), standardise=False).fit(x, y, groups=runs)
    folds = nested_folds(LeaveOneRunOut(), None, 96, runs)
    whole = NestedFold(np.arange(96), np.arange(96), tuple(folds))  # type: ignore[arg-type]
    inner = brute_force(x, y, [whole], False, alphas=alphas)[3][0]
    np.testing.assert_allclose(encoder.inner_scores_, inner, atol=1e-8)


@pytest.mark.parametrize("route", ["primal", "dual", "downdating"])
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 1e5), (1e-15, 0.0), (1e20, 0.0)])
def test_units_and_offsets_of_float32_responses_do_not_matter(
    scale: float, offset: float, route: Route, take: Any
) -> None:
    x, y = planted(30)
    y = (y - y.mean(axis=0)) * 1000 if offset else y
    take(route)
    encoder = RidgeEncoder(alphas=ALPHAS, standardise=route != "downdating")
    plain, _ = cross_validate(encoder, x, y.astype(np.float32), RUNS, LeaveOneRunOut())
    moved, _ = cross_validate(encoder, x, (y * scale + offset).astype(np.float32), RUNS, LeaveOneRunOut())
    np.testing.assert_allclose(moved.r, plain.r, atol=2e-3)
    np.testing.assert_allclose(moved.r2, plain.r2, atol=2e-3)


WAYS = [("primal", True), ("dual", True), ("primal", False), ("dual", False)]
DOWNDATED = ("downdating", False)


@pytest.mark.parametrize(("route", "scaled"), [*WAYS, DOWNDATED])
@pytest.mark.parametrize("alpha", [1e6, 1e9, 1e12])
def test_small_predictions_keep_their_correlation_in_float32(
    alpha: float, route: Route, scaled: bool, take: Any
) -> None:
    # Found in review: the largest penalties are those of targets of noise, and rounding of the mean drowned them.
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 20)), rng.normal(size=(60, 30)).astype(np.float32)
    y += np.repeat(rng.normal(size=(5, 30)), 12, axis=0).astype(np.float32)
    take(route)
    encoder = RidgeEncoder(alphas=[alpha], inner_splits=LeaveOneRunOut(), standardise=scaled)
    scores, _ = cross_validate(encoder, x, y, RUNS, LeaveOneRunOut())
    folds = nested_folds(LeaveOneRunOut(), LeaveOneRunOut(), 60, RUNS)
    np.testing.assert_allclose(scores.r, brute_force(x, y.astype(float), folds, scaled, alphas=[alpha])[0], atol=1e-4)


@pytest.mark.parametrize(("route", "scaled"), [*WAYS, DOWNDATED])
def test_correlation_chooses_as_well_in_float32(route: Route, scaled: bool, take: Any) -> None:
    x, y = planted(9)
    alphas = tuple(np.logspace(-1, 9, 11).tolist())
    take(route)
    encoder = RidgeEncoder(alphas=alphas, inner_splits=LeaveOneRunOut(), standardise=scaled, selection="r")
    scores, _ = cross_validate(encoder, x, y.astype(np.float32), RUNS, LeaveOneRunOut())
    folds = nested_folds(LeaveOneRunOut(), LeaveOneRunOut(), 60, RUNS)
    inner = brute_force(x, y, folds, scaled, "r", alphas)[3]
    chosen = np.take_along_axis(inner, np.searchsorted(alphas, scores.alpha)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(chosen, inner.max(axis=1), atol=1e-4)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("route", ["primal", "dual", "downdating"])
@pytest.mark.parametrize("value", [0.1, 17.3, 1e6])
def test_a_target_that_is_flat_in_training_is_predicted_flat(value: float, route: Route, dtype: str, take: Any) -> None:
    # Found in review: rounding had a correlation of its own.
    x, y = planted(9)
    y[:, 0] += value - 4.0
    y[RUNS != 0, 0] = value
    take(route)
    encoder = RidgeEncoder(alphas=ALPHAS, inner_splits=LeaveOneRunOut(), standardise=route != "downdating")
    scores, _ = cross_validate(encoder, x, y.astype(dtype), RUNS, LeaveOneRunOut())
    assert np.isnan(scores.r[:, 0]).all()
    assert scores.r2[0, 0] == pytest.approx(0.0, abs=1e-6)
    assert np.isfinite(scores.r[:, 1:]).all()


@pytest.mark.parametrize("route", ["primal", "dual", "downdating"])
@pytest.mark.parametrize("p", [20, 150])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_condition_number_of_1e8_is_as_harmless_where_grams_are_decomposed(
    p: int, route: Route, dtype: str, take: Any
) -> None:
    # Found in review: with the smallest penalty at 1e-8 of the largest eigenvalue nothing falls back on the features.
    x = ill_conditioned(60, p)
    y = (np.random.default_rng(1).normal(size=(60, 6)) + x[:, :1] / x[:, 0].std()).astype(dtype)
    take(route)
    encoder = RidgeEncoder(alphas=[1.0, 1e4], inner_splits=LeaveOneRunOut(), standardise=False)
    scores, _ = cross_validate(encoder, x, y, RUNS, LeaveOneRunOut())
    folds = nested_folds(LeaveOneRunOut(), LeaveOneRunOut(), 60, RUNS)
    expected = brute_force(x, y.astype(float), folds, False, alphas=[1.0, 1e4])
    agree(scores, expected, {"float64": 1e-5, "float32": 1e-3}[dtype])


@pytest.mark.parametrize("route", ["primal", "dual"])
@pytest.mark.parametrize("distance", [1e2, 1e4])
def test_a_run_far_from_the_others_spoils_no_other_run_s_fit(distance: float, route: Route, take: Any) -> None:
    x, y = planted(8)
    x[RUNS == 2] += distance * np.random.default_rng(0).normal(size=8)
    take(route)
    encoder = RidgeEncoder(alphas=[1.0, 100.0], inner_splits=LeaveOneRunOut(), standardise=False)
    scores, _ = cross_validate(encoder, x, y, RUNS, LeaveOneRunOut())
    folds = nested_folds(LeaveOneRunOut(), LeaveOneRunOut(), 60, RUNS)
    agree(scores, brute_force(x, y, folds, False, alphas=[1.0, 100.0]), 1e-6)


def test_correlation_chooses_well_among_penalties_that_are_much_too_large() -> None:
    # Found in review: fractions of penalties of 1e12 times the components' squares cancelled.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 20))
    y = x[:, :5] * 0.5 + rng.normal(size=(60, 5))
    x, alphas = x * 1e-4, tuple(np.logspace(-1, 7, 21).tolist())
    encoder = RidgeEncoder(alphas=alphas, inner_splits=LeaveOneRunOut(), standardise=False, selection="r")
    encoder.fit(x, y, groups=RUNS)
    expected = np.zeros((21, 5))
    for (number, alpha), fold in itertools.product(enumerate(alphas), nested_folds(LeaveOneRunOut(), None, 60, RUNS)):
        centred = x - x[fold.train].mean(axis=0)
        gram = centred[fold.train].T @ centred[fold.train] + alpha * np.eye(20)
        # Without the mean, which would drown predictions of 1e-13.
        predicted = centred[fold.test] @ np.linalg.solve(
            gram, centred[fold.train].T @ (y[fold.train] - y[fold.train].mean(axis=0))
        )
        expected[number] += score(predicted, y[fold.test], y[0], "r") / 5
    np.testing.assert_allclose(encoder.inner_scores_, expected, atol=1e-8)


@pytest.mark.parametrize("n_targets", [3])
@pytest.mark.parametrize("scale", [1e2, 1e3])
@pytest.mark.parametrize("alpha", [1e-6, 1e-3])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_downdating_is_left_where_nothing_remains_of_a_sample_s_own_response(
    dtype: str, alpha: float, scale: float, n_targets: int, take: Any
) -> None:
    # Found in review: more features than samples and a penalty of 1e-14 of their squares left r wrong by .1.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 100))
    y = x @ rng.normal(size=(100, n_targets)) * 0.3 + rng.normal(size=(60, n_targets))
    take("downdating")
    encoder = RidgeEncoder(alphas=[alpha], inner_splits=LeaveOneRunOut(), standardise=False)
    scores, _ = cross_validate(encoder, x * scale, y.astype(dtype), RUNS, LeaveOneRunOut())
    folds = nested_folds(LeaveOneRunOut(), LeaveOneRunOut(), 60, RUNS)
    agree(scores, brute_force(x * scale, y, folds, False, alphas=[alpha]), {"float64": 1e-5, "float32": 1e-3}[dtype])


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("ratio", [4e-10, 1e-8, 1e-6])
def test_sums_in_float32_are_left_where_small_components_would_blow_their_rounding_up(
    ratio: float, scaled: bool, take: Any
) -> None:
    # Found in review: U'Y from X'Y was wrong by the ratio of the largest singular value to a small one.
    rng = np.random.default_rng(3)
    u, v = np.linalg.qr(rng.normal(size=(60, 60)))[0], np.linalg.qr(rng.normal(size=(45, 45)))[0]
    x = (u[:, :45] * np.logspace(0, -4, 45)) @ v.T * np.sqrt(60)
    y = rng.normal(size=(60, 5))
    alpha = float(ratio * np.linalg.svd(StandardScaler(with_std=scaled).fit_transform(x))[1][0] ** 2)
    take("primal")
    encoder = RidgeEncoder(alphas=[alpha], inner_splits=LeaveOneRunOut(), standardise=scaled)
    scores, _ = cross_validate(encoder, x, y.astype(np.float32), RUNS, LeaveOneRunOut())
    folds = nested_folds(LeaveOneRunOut(), LeaveOneRunOut(), 60, RUNS)
    r, r2, *_ = brute_force(x, y, folds, scaled, alphas=[alpha])
    np.testing.assert_allclose(scores.r, r, atol=1e-3)
    np.testing.assert_allclose(scores.r2, r2, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("spike", [10.0, 1e3])
@pytest.mark.parametrize("route", ["primal", "dual", "downdating"])
def test_an_artefact_in_one_sample_leaves_the_correlations_of_small_predictions(
    spike: float, route: Route, take: Any
) -> None:
    x, y = planted(9)
    y[3] += spike
    take(route)
    scaled = route != "downdating"
    encoder = RidgeEncoder(alphas=[10.0], inner_splits=LeaveOneRunOut(), standardise=scaled)
    scores, _ = cross_validate(encoder, x, y.astype(np.float32), RUNS, LeaveOneRunOut())
    folds = nested_folds(LeaveOneRunOut(), LeaveOneRunOut(), 60, RUNS)
    expected = brute_force(x, y.astype(np.float32).astype(float), folds, scaled, alphas=[10.0])[0]
    np.testing.assert_allclose(scores.r, expected, atol=1e-3)


# ----------------------------------------------------------------------------------------- work done once


@pytest.fixture
def factorised(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the training sets that are factorised."""
    sizes: list[int] = []
    spectrum = spectra._spectrum

    def counted(squares: Any, train: Any, pieces: Any) -> Any:
        sizes.append(len(train))
        return spectrum(squares, train, pieces)

    monkeypatch.setattr(spectra, "_spectrum", counted)
    return sizes


@pytest.mark.parametrize(("route", "times"), [("primal", 10 + 5), ("dual", 10 + 5), ("downdating", 1)])
def test_the_model_without_two_runs_is_made_once(route: Route, times: int, factorised: list[int], take: Any) -> None:
    x, y = planted(20)
    take(route)
    encoder = RidgeEncoder(alphas=ALPHAS, inner_splits=LeaveOneRunOut(), standardise=route != "downdating")
    cross_validate(encoder, x, y, RUNS, LeaveOneRunOut())
    assert len(factorised) == times


def test_blocks_with_gaps_share_their_models_too(factorised: list[int]) -> None:
    x, y = planted(20, n=100)
    baseline = np.random.default_rng(0).normal(size=(100, 2))
    cross_validate(RidgeEncoder(alphas=ALPHAS), x, y, np.zeros(100), ContiguousBlocks(5, gap=2), baseline)
    assert len(factorised) == 10 + 5


@pytest.mark.parametrize("route", ["primal", "dual", "downdating"])
def test_results_depend_neither_on_threads_nor_on_repetition(route: Route, take: Any) -> None:
    x, y = planted(40, v=300)
    take(route)
    encoder = RidgeEncoder(alphas=ALPHAS, inner_splits=LeaveOneRunOut(), standardise=route != "downdating")
    results = []
    for threads in (1, 2, 2):
        with threadpoolctl.threadpool_limits(threads):
            results.append(cross_validate(encoder, x, y, RUNS, LeaveOneRunOut())[0])
    for other in results[1:]:
        for name in ("r", "r2", "alpha", "at_edge"):
            np.testing.assert_array_equal(getattr(other, name), getattr(results[0], name))


@pytest.mark.parametrize("route", ["primal", "dual", "downdating"])
def test_narrow_blocks_and_little_memory_change_nothing_but_rounding(
    route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = planted(20, v=23)
    encoder = RidgeEncoder(alphas=ALPHAS, inner_splits=LeaveOneRunOut(), standardise=route != "downdating")
    baseline = None if route == "downdating" else np.random.default_rng(0).normal(size=(60, 2))
    monkeypatch.setattr(ridge_module, "plan", lambda problem, *_: Plan(route, {route: 1.0}, 23, 23))
    whole = cross_validate(encoder, x, y, RUNS, LeaveOneRunOut(), baseline)
    monkeypatch.setattr(ridge_module, "plan", lambda problem, *_: Plan(route, {route: 1.0}, 23, 6, threads=2))
    monkeypatch.setattr("brainalign.encoding.responses.block_width", lambda n_samples: 4)
    parts = cross_validate(encoder, x, y, RUNS, LeaveOneRunOut(), baseline)
    for one, other in zip(whole, parts, strict=True):
        for name in ("r", "r2", "alpha", "at_edge") if one is not None and other is not None else ():
            np.testing.assert_allclose(getattr(other, name), getattr(one, name), atol=1e-10)


def test_a_memory_limit_is_kept_by_fitting_fewer_targets_together() -> None:
    x, y = planted(20, v=400)
    folds = nested_folds(LeaveOneRunOut(), 4, 60, RUNS)
    design, responses = Matrix(x), Responses(y)
    generous, _ = RidgeEncoder(memory_limit=1e9).explain(design, responses, folds)
    tight, _ = RidgeEncoder(memory_limit=6e6).explain(design, responses, folds)
    assert generous.targets_at_once >= 400
    assert tight.targets_at_once < 400
    assert len(tight.parts(responses)) > len(generous.parts(responses))
    loose, _ = cross_validate(RidgeEncoder(memory_limit=1e9), x, y, RUNS, LeaveOneRunOut())
    close, _ = cross_validate(RidgeEncoder(memory_limit=6e6), x, y, RUNS, LeaveOneRunOut())
    np.testing.assert_allclose(close.r, loose.r, atol=1e-10)


@pytest.mark.parametrize("route", ["primal", "dual", "downdating"])
def test_delayed_features_are_as_if_they_had_been_made(route: Route, take: Any) -> None:
    rng = np.random.default_rng(0)
    values, y = rng.normal(size=(60, 4)), rng.normal(size=(60, 5))
    design = Delayed(values, [0, 1, 3], RUNS)
    made = design.rows(np.arange(60))
    y += made @ rng.normal(size=(12, 5))
    take(route)
    encoder = RidgeEncoder(alphas=ALPHAS, inner_splits=LeaveOneRunOut(), standardise=route != "downdating")
    one, _ = cross_validate(encoder, design, y, RUNS, LeaveOneRunOut())
    other, _ = cross_validate(encoder, made, y, RUNS, LeaveOneRunOut())
    np.testing.assert_allclose(one.r, other.r, atol=1e-9)
    np.testing.assert_array_equal(one.alpha, other.alpha)


class OnFile:
    """What slices like an array and can do nothing else, and remembers how wide it was read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype, self.widths = array, array.shape, array.dtype, []

    def __getitem__(self, key: Any) -> np.ndarray:
        values = self.array[key]
        self.widths.append(values.shape[1])
        return values


def test_responses_on_file_are_read_in_blocks_and_never_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = planted(20, v=50)
    monkeypatch.setattr("brainalign.encoding.responses.block_width", lambda n_samples: 8)
    source = OnFile(y)
    streamed, _ = cross_validate(RidgeEncoder(alphas=ALPHAS), x, Responses(source), RUNS, LeaveOneRunOut())
    assert max(source.widths) <= 8
    expected, _ = cross_validate(RidgeEncoder(alphas=ALPHAS), x, y, RUNS, LeaveOneRunOut())
    np.testing.assert_array_equal(streamed.r, expected.r)
