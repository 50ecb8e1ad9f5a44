"""What is projected out, against nilearn and the laws of projections."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from nilearn.signal import clean as nilearn_clean

from brainalign.alignment.cleaning import cleaner
from brainalign.errors import DataError

N, TR_S = 200, 2.0
TIMES = np.arange(N) * TR_S
NONE = pd.DataFrame(index=range(N))


def confounds(k: int, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    values = np.cumsum(random.normal(size=(N, k)), axis=0) * np.logspace(-4, 2, k) + 50
    return pd.DataFrame(values, columns=[f"motion {i}" for i in range(k)])


def signals(seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.cumsum(random.normal(size=(N, 4)), axis=0) + random.normal(size=(N, 4)) + 100


@pytest.mark.parametrize("n_confounds", [0, 1, 6])
@pytest.mark.parametrize("high_pass_s", [None, 60.0, 128.0, 300.0])
def test_cleaning_is_nilearn_s(high_pass_s: float | None, n_confounds: int) -> None:
    # White, as nilearn leaves its drifts out where a confound resembles one of them.
    table = pd.DataFrame(np.random.default_rng(2).normal(size=(N, n_confounds))) if n_confounds else NONE
    ours = cleaner(TIMES, table, high_pass_s, "run 1")(signals())
    expected = nilearn_clean(
        signals() - signals().mean(axis=0),
        detrend=False,
        standardize=None,
        filter="cosine" if high_pass_s else False,
        high_pass=1 / high_pass_s if high_pass_s else None,
        t_r=TR_S,
        confounds=table.to_numpy() if n_confounds else None,
        standardize_confounds=True,
    )
    np.testing.assert_allclose(ours, expected, atol=1e-8)


@pytest.mark.parametrize("n_confounds", [0, 6])
def test_cleaning_twice_is_cleaning_once_and_leaves_nothing_of_what_goes(n_confounds: int) -> None:
    table = confounds(n_confounds) if n_confounds else NONE
    clean = cleaner(TIMES, table, 128.0, "run 1")
    once = clean(signals())
    np.testing.assert_allclose(clean(once), once, atol=1e-10)
    np.testing.assert_allclose(once.mean(axis=0), 0.0, atol=1e-10)
    for column in table:
        values = table[column].to_numpy()
        np.testing.assert_allclose((values - values.mean()) / values.std() @ once, 0.0, atol=1e-7)
        np.testing.assert_allclose(clean(values[:, None]), 0.0, atol=1e-9 * np.abs(values).max())
    np.testing.assert_allclose(clean.basis.T @ clean.basis, np.eye(clean.basis.shape[1]), atol=1e-12)


def gain(period_s: float, high_pass_s: float | None) -> float:
    wave = np.sin(2 * np.pi * TIMES / period_s + 0.3)[:, None]
    return float(cleaner(TIMES, NONE, high_pass_s, "run 1")(wave).std() / wave.std())


def test_slow_drifts_go_and_fast_fluctuations_stay() -> None:
    assert gain(400.0, 128.0) < 0.2
    assert gain(200.0, 128.0) < 0.2
    assert gain(20.0, 128.0) > 0.98
    assert gain(8.0, 128.0) > 0.98
    assert gain(400.0, None) > 0.95


def test_layers_are_cleaned_each_like_a_signal() -> None:
    clean = cleaner(TIMES, confounds(3), 128.0, "run 1")
    stack = np.stack([signals(0), signals(1)]).astype(np.float32)
    np.testing.assert_allclose(clean(stack), [clean(each) for each in stack], atol=1e-12)
    assert clean(stack).dtype == np.float64


@pytest.mark.parametrize("step_s", [0.8, 2.0])
@pytest.mark.parametrize("start_s", [0.0, 31.4])
def test_the_moment_at_which_the_run_starts_does_not_matter(step_s: float, start_s: float) -> None:
    one = cleaner(np.arange(N) * step_s, NONE, 128.0, "run 1")(signals())
    other = cleaner(np.arange(N) * step_s + start_s, NONE, 128.0, "run 1")(signals())
    np.testing.assert_allclose(other, one, atol=1e-9)


def test_confounds_that_others_imply_or_that_never_vary_change_nothing() -> None:
    table = confounds(3)
    more = table.assign(
        copy=table["motion 0"] * -2 + 5,
        total=table.sum(axis=1),
        still=0.1,
        zero=0.0,
        large=1e9,
    )
    one, other = cleaner(TIMES, table, 128.0, "run 1"), cleaner(TIMES, more, 128.0, "run 1")
    assert other.basis.shape == one.basis.shape
    np.testing.assert_allclose(other(signals()), one(signals()), atol=1e-6)


def test_the_units_of_confounds_do_not_matter() -> None:
    table = confounds(4)
    one = cleaner(TIMES, table, 128.0, "run 1")(signals())
    other = cleaner(TIMES, table * [1e-9, 1e9, -3, 1], 128.0, "run 1")(signals())
    np.testing.assert_allclose(other, one, atol=1e-7)


def test_a_nan_stays_in_its_column() -> None:
    broken = signals()
    broken[5, 1] = np.nan
    clean = cleaner(TIMES, NONE, 128.0, "run 1")
    np.testing.assert_allclose(clean(broken)[:, [0, 2, 3]], clean(signals())[:, [0, 2, 3]], atol=1e-10)
    assert np.isnan(clean(broken)[:, 1]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_confound_that_is_not_finite_is_named_with_its_row(value: float) -> None:
    table = confounds(3)
    table.loc[17, "motion 2"] = value
    with pytest.raises(DataError, match="run 1: confound 'motion 2' is not finite at row 17"):
        cleaner(TIMES, table, 128.0, "run 1")


def test_more_confounds_than_half_the_rows_are_refused_with_the_number() -> None:
    random = np.random.default_rng(0)
    half = pd.DataFrame(random.normal(size=(N, N // 2 - 1)))
    assert cleaner(TIMES, half, None, "run 1").basis.shape[1] == N // 2
    with pytest.raises(DataError, match=f"run 1: .*{N // 2 + 1} of {N} degrees of freedom"):
        cleaner(TIMES, half.assign(more=random.normal(size=N)), None, "run 1")


def test_what_remains_of_noise_loses_only_the_degrees_of_freedom_taken() -> None:
    random = np.random.default_rng(3)
    clean = cleaner(TIMES, pd.DataFrame(random.normal(size=(N, 20))), 128.0, "run 1")
    noise = random.normal(size=(N, 4000))
    share = (clean(noise) ** 2).sum() / (noise**2).sum()
    assert share == pytest.approx(1 - clean.basis.shape[1] / N, abs=0.005)
