"""The arithmetic below all scores: ridge against other implementations, words on volumes against formulas."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import KFold

from brainalign.alignment import delay, resampled, resampling_matrix
from brainalign.encoding import ContiguousBlocks, Delayed, Responses, RidgeEncoder, cross_validate, explain
from brainalign.types import Clock, Floats
from brainalign.validation.checks import Check, Size

__all__ = ["v1", "v9"]

# (samples, features, targets), more samples than features and fewer.
SHAPES = ((400, 120, 50), (150, 400, 50))
ALPHAS: tuple[float, ...] = tuple(np.logspace(1, 8, 20).tolist())
N_FOLDS = 5
# Penalties of two implementations are the same if only rounding sets them apart; neighbours differ by a factor of 2.3.
SAME = 1e-6


def v1(size: Size = "quick", seed: int = 0) -> list[Check]:
    """Compare ridge with scikit-learn and himalaya, with its formula in another convention, and with itself.

    Parameters
    ----------
    size : {"quick", "full"}
        The same for both: it takes seconds.
    seed : int
        Of the data.
    """
    checks = []
    for shape in SHAPES:
        x, y = _ridge_problem(shape, np.random.default_rng(seed))
        design = "ridge, n={}, p={}, v={}".format(*shape)
        checks += [
            _against_leave_one_out(design, x, y),
            _against_folds(design, x, y),
            _against_singular_values(design, x, y),
            _two_formulas(design, x, y),
            _single_precision(design, x, y),
        ]
        if x.shape[1] < len(x):
            checks.append(_two_routes(design, x, y))
    return checks


def v9(size: Size = "quick", seed: int = 0) -> list[Check]:
    """Compare delays, Lanczos resampling and the haemodynamic response with what they are by definition.

    Parameters
    ----------
    size : {"quick", "full"}
        "full" takes five times as many volumes.
    seed : int
        Of the words' times.
    """
    random = np.random.default_rng(seed)
    n_volumes = 200 if size == "quick" else 1000
    return [_delays_stay_in_their_run(), _lanczos_formula(random), _lanczos_gain(n_volumes), _glover()]


def _ridge_problem(shape: tuple[int, int, int], random: np.random.Generator) -> tuple[Floats, Floats]:
    """Standardised features, and targets that they tell from next to nothing to well, so that penalties differ."""
    n, p, v = shape
    x, noise = random.normal(size=(n, p)), random.normal(size=(n, v))
    y = x @ random.normal(size=(p, v)) / np.sqrt(p) + noise * np.geomspace(0.3, 10.0, v)
    return (x - x.mean(axis=0)) / x.std(axis=0), y - y.mean(axis=0)


def _against_leave_one_out(design: str, x: Floats, y: Floats) -> Check:
    ours = RidgeEncoder(alphas=ALPHAS, inner_splits="loo").fit(x, y)
    theirs: Any = RidgeCV(alpha_per_target=True).set_params(alphas=ALPHAS)
    theirs.fit(x, y)
    return _same_fit(
        f"{design}, leave-one-out",
        "scikit-learn RidgeCV",
        (ours.alpha_, ours.coef_),
        (theirs.alpha_, theirs.coef_.T),
        1e-8,
    )


def _against_folds(design: str, x: Floats, y: Floats) -> Check:
    """Each fold standardised by itself, as any union of folds is then: others standardise nothing, with R2 about 0."""
    x, y = x.copy(), y.copy()
    for _, block in ContiguousBlocks(N_FOLDS).split(x):
        x[block] = (x[block] - x[block].mean(axis=0)) / x[block].std(axis=0)
        y[block] -= y[block].mean(axis=0)
    ours = RidgeEncoder(alphas=ALPHAS, inner_splits=N_FOLDS).fit(x, y)
    # himalaya is no dependency of ours; scikit-learn has no penalty for each target over folds, but can be asked for
    # each penalty by itself.
    has_himalaya = find_spec("himalaya") is not None
    name, reference = ("himalaya RidgeCV", _himalaya) if has_himalaya else ("scikit-learn Ridge", _scikit_learn)
    return _same_fit(f"{design}, {N_FOLDS} folds", name, (ours.alpha_, ours.coef_), reference(x, y), 1e-6)


def _himalaya(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Penalties (target,) and weights (feature, target) of himalaya, over folds."""
    from himalaya.ridge import RidgeCV as HimalayaRidgeCV
    from himalaya.scoring import r2_score

    model = HimalayaRidgeCV(
        alphas=ALPHAS, fit_intercept=True, cv=KFold(N_FOLDS), solver_params={"score_func": r2_score}
    )
    with warnings.catch_warnings(action="ignore"):  # that a kernel would be faster where p > n
        model.fit(x, y)
    return np.asarray(model.best_alphas_), np.asarray(model.coef_)


def _scikit_learn(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Penalties (target,) and weights (feature, target) of scikit-learn, one fit for each penalty and fold."""
    model: Any = Ridge()
    scores = np.zeros((len(ALPHAS), y.shape[1]))
    for train, test in ContiguousBlocks(N_FOLDS).split(x):
        for number, alpha in enumerate(ALPHAS):
            error = y[test] - model.set_params(alpha=alpha).fit(x[train], y[train]).predict(x[test])
            scores[number] -= (error**2).sum(axis=0) / (y[test] ** 2).sum(axis=0)
    chosen = np.array(ALPHAS)[scores.argmax(axis=0)]
    return chosen, model.set_params(alpha=chosen).fit(x, y).coef_.T


def _same_fit(
    design: str, name: str, ours: tuple[Floats, Floats], theirs: tuple[Floats, Floats], tolerance: float
) -> Check:
    """Whether penalties are the same and weights within a tolerance."""
    same = np.abs(ours[0] / theirs[0] - 1) <= SAME
    difference = np.abs(ours[1] - theirs[1]).max()
    n_chosen = len(np.unique(ours[0].round(6)))
    return Check(
        "V1",
        design,
        f"{name}: same alpha for all targets, |coef difference| <= {tolerance:.0e}",
        f"same alpha {same.mean():.1%} ({n_chosen} values chosen), {difference:.1e}",
        bool(same.all() and difference <= tolerance),
    )


def _against_singular_values(design: str, x: Floats, y: Floats) -> Check:
    """The convention of Huth et al. (2016), who shrink by S / (S^2 + a^2)."""
    a = 30.0
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    theirs = vt.T @ ((s / (s**2 + a**2))[:, None] * (u.T @ y))
    difference = np.abs(RidgeEncoder(alphas=[a**2], inner_splits=N_FOLDS).fit(x, y).coef_ - theirs).max()
    return Check(
        "V1",
        f"{design}, singular values",
        "alpha = a^2 gives the weights of S / (S^2 + a^2) within 1e-10",
        f"{difference:.1e}",
        bool(difference <= 1e-10),
    )


def _two_formulas(design: str, x: Floats, y: Floats) -> Check:
    """(X'X + alpha)^-1 X'Y, and X'(XX' + alpha)^-1 Y, whichever of the two is ours."""
    alpha = 100.0
    ours = RidgeEncoder(alphas=[alpha], inner_splits=N_FOLDS).fit(x, y).coef_
    primal = np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ y)
    dual = x.T @ np.linalg.solve(x @ x.T + alpha * np.eye(len(x)), y)
    found = [np.abs(ours - formula).max() for formula in (primal, dual)]
    return Check(
        "V1",
        f"{design}, normal equations",
        "primal and dual formula give the weights within 1e-8",
        f"primal {found[0]:.1e}, dual {found[1]:.1e}",
        max(found) <= 1e-8,
    )


def _two_routes(design: str, x: Floats, y: Floats) -> Check:
    """Our two ways to compute a fit: with enough columns that are zero the other one is the cheaper."""
    encoder = RidgeEncoder(alphas=ALPHAS, inner_splits=N_FOLDS)
    designs = x, np.hstack([x, np.zeros((len(x), 4 * len(x)))])
    routes = [explain(encoder, columns, y).partition(":")[0] for columns in designs]
    (alpha, coef), (alpha_padded, coef_padded) = (_fitted(encoder, columns, y) for columns in designs)
    difference = np.abs(coef - coef_padded[: x.shape[1]]).max()
    same = np.array_equal(alpha, alpha_padded)
    return Check(
        "V1",
        f"{design}, without and with {4 * len(x)} empty columns",
        "primal, then dual route: same alphas, |coef difference| <= 1e-8",
        f"{routes[0]}, {routes[1]}: alphas {'the same' if same else 'differ'}, {difference:.1e}",
        bool(routes == ["primal", "dual"] and same and difference <= 1e-8),
    )


def _single_precision(design: str, x: Floats, y: Floats) -> Check:
    folds, encoder = ContiguousBlocks(N_FOLDS), RidgeEncoder(alphas=ALPHAS, inner_splits=N_FOLDS - 1)
    single, double = (
        cross_validate(encoder, x, Responses(y, dtype=dtype), None, folds)[0] for dtype in ("float32", "float64")
    )
    same = (single.alpha == double.alpha).mean()
    r, r2 = (np.abs(getattr(single, name) - getattr(double, name)).max() for name in ("r", "r2"))
    return Check(
        "V1",
        f"{design}, cross-validated in float32",
        "against float64: same alphas, r and R2 within 1e-4",
        f"same alpha {same:.1%}, r {r:.1e}, R2 {r2:.1e}",
        bool(same == 1 and max(r, r2) <= 1e-4),
    )


def _fitted(encoder: RidgeEncoder, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    model = clone(encoder).fit(x, y)
    return model.alpha_, model.coef_


def _delays_stay_in_their_run() -> Check:
    """An impulse in the last rows of one run, and one early in the next."""
    runs, delays = np.repeat(["first", "second"], 20), (0, 1, 2, 3, 4)
    values = np.zeros((40, 1))
    values[[18, 25]] = 1.0
    expected = np.zeros((40, len(delays)))
    for column, rows in enumerate(delays):
        expected[25 + rows, column] = 1.0
        if 18 + rows < 20:
            expected[18 + rows, column] = 1.0
    side_by_side = Delayed(values, delays, runs).rows(np.arange(40))
    run_by_run = np.concatenate([delay(values[runs == run], delays) for run in ("first", "second")])
    across = max(np.abs(found[20:25]).sum() for found in (side_by_side, run_by_run))
    placed = np.array_equal(side_by_side, expected) and np.array_equal(run_by_run, expected)
    return Check(
        "V9",
        "an impulse 2 rows before the end of a run, delays 0 to 4",
        "each copy so many rows later, and exactly 0 in the next run",
        f"copies {'in place' if placed else 'out of place'}, {across:g} in the next run",
        bool(placed and across == 0),
    )


def _lanczos_formula(random: np.random.Generator) -> Check:
    """K(u) = a sin(pi u) sin(pi u / a) / (pi u)^2 for 0 < |u| <= a = 3, word by word and volume by volume."""
    clock, n_volumes, a = Clock(step_s=1.5, start_s=0.4), 60, 3
    onset, duration = np.sort(random.uniform(0, 90, 200)), random.uniform(0.05, 0.9, 200)
    onset[0], duration[0] = clock.start_s - 0.25, 0.5  # its middle is a volume's time: u = 0
    expected = np.zeros((n_volumes, len(onset)))
    for volume, word in np.ndindex(expected.shape):
        u = (clock.start_s + volume * clock.step_s - (onset[word] + duration[word] / 2)) / clock.step_s
        if u == 0:
            expected[volume, word] = 1.0
        elif abs(u) <= a:
            expected[volume, word] = a * np.sin(np.pi * u) * np.sin(np.pi * u / a) / (np.pi * u) ** 2
    difference = np.abs(resampling_matrix(onset, duration, clock, n_volumes, "lanczos") - expected).max()
    return Check(
        "V9",
        "200 words at random onto 60 volumes by Lanczos",
        "the formula of 3 lobes around each word's middle within 1e-10",
        f"{difference:.1e}",
        bool(difference <= 1e-10),
    )


def _lanczos_gain(n_volumes: int) -> Check:
    """What ones become: words come evenly, at a rate that has nothing to do with the volumes'."""
    rate_hz, tr_s, margin = 7.1803, 1.5, 10
    onset = np.arange(0, n_volumes * tr_s, 1 / rate_hz)
    placed = resampled(np.ones((1, len(onset), 1)), onset, np.zeros(len(onset)), Clock(tr_s), n_volumes, "lanczos")
    gain = placed[0, margin:-margin].mean() / (rate_hz * tr_s)
    return Check(
        "V9",
        f"{rate_hz:.2f} words a second, TR {tr_s} s, {n_volumes} volumes by Lanczos",
        "a one per word becomes .997 +- .002 of the words in a volume",
        f"{gain:.4f}",
        bool(abs(gain - 0.997) <= 0.002),
    )


def _glover() -> Check:
    """The response on the grid on which nilearn gives it."""
    from nilearn.glm.first_level import glover_hrf

    theirs = glover_hrf(2.0, oversampling=100, time_length=32.0)
    step_s = 32.0 / (len(theirs) - 1)
    ours = resampling_matrix(np.zeros(1), np.zeros(1), Clock(step_s), len(theirs), "hrf")[:, 0]
    difference = np.abs(ours * (2.0 / 100) - theirs).max()
    peak_s = step_s * ours.argmax()
    return Check(
        "V9",
        "a word's haemodynamic response, every 0.02 s",
        "nilearn's glover_hrf within 1e-10",
        f"{difference:.1e} (peak at {peak_s:.2f} s)",
        bool(difference <= 1e-10),
    )
