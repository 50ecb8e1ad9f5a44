"""Designs that are never made, against the same matrices made in full."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brainalign.alignment import delays as alignment_delays
from brainalign.encoding.designs import Delayed, Design, Matrix, Moments, merge

VARIED = settings(max_examples=60, deadline=None, derandomize=True)


def made(values: np.ndarray, delays: list[int], lengths: list[int]) -> np.ndarray:
    """The delayed matrix, entry by entry as it is defined."""
    n, d = values.shape
    x = np.zeros((n, len(delays) * d))
    starts = np.cumsum([0, *lengths])
    for start, end in pairwise(starts):
        for column, delay in enumerate(delays):
            for t in range(start, end):
                if start <= t - delay < end:
                    x[t, column * d : (column + 1) * d] = values[t - delay]
    return x


def check_moments(moments: Moments, x: np.ndarray, rtol: float = 1e-10) -> None:
    """Against the rows `x` themselves; an error counts relative to the two columns' spread."""
    centred = x - x.mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=0))
    assert moments.n == len(x)
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-12, atol=1e-12 * np.abs(x).max(initial=0))
    error = np.abs(moments.gram - centred.T @ centred)
    rounding = len(x) * (1e-14 * np.abs(x).max(initial=0)) ** 2
    assert (error <= rtol * np.outer(spread, spread) + rounding).all()
    np.testing.assert_array_equal(moments.gram, moments.gram.T)


RUNS = st.lists(st.integers(1, 300), min_size=1, max_size=5)
DELAYS = st.one_of(
    st.lists(st.integers(-12, 12), min_size=1, max_size=6),
    st.lists(st.sampled_from([-400, -299, -40, 0, 1, 7, 40, 299, 300, 1000]), min_size=1, max_size=4),
)
PROBLEM = {
    "seed": st.integers(0, 10**6),
    "lengths": RUNS,
    "delays": DELAYS,
    "d": st.integers(1, 4),
    "offset": st.sampled_from([0.0, -50.0]),
}


def delayed(
    seed: int, lengths: list[int], delays: list[int], d: int, offset: float
) -> tuple[Delayed, np.ndarray, np.random.Generator]:
    random = np.random.default_rng(seed)
    values = random.normal(size=(sum(lengths), d)) + offset
    groups = np.repeat([f"run {i}" for i in range(len(lengths))], lengths)
    return Delayed(values, delays, groups), made(values, delays, lengths), random


def some_rows(random: np.random.Generator, n: int) -> np.ndarray:
    """Rows of one of the kinds that folds ask for, and of the kinds that they do not."""
    first, end = np.sort(random.integers(0, n + 1, size=2))
    kinds = [
        np.arange(n),
        np.r_[0:first, end:n],
        np.arange(first, end),
        np.flatnonzero(random.random(n) < 0.5),
        random.integers(0, n, size=n),  # a bootstrap
        np.r_[np.arange(n)[::-1], np.arange(first, end)],
    ]
    index = kinds[random.integers(len(kinds))]
    return index if len(index) else np.arange(n)


@VARIED
@given(**PROBLEM)
def test_rows_are_those_of_the_delayed_matrix(**problem) -> None:
    design, x, random = delayed(**problem)
    index = some_rows(random, len(x))
    assert design.shape == x.shape
    np.testing.assert_array_equal(design.rows(index), x[index])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(**PROBLEM)
@example(seed=0, lengths=[300], delays=[3, 1, 2, 4], d=3, offset=0.0)
@example(seed=1, lengths=[300, 250, 100], delays=[0, 9, 5, 5], d=2, offset=-50.0)
@example(seed=2, lengths=[300, 300], delays=[-3, 2, -1], d=2, offset=0.0)
def test_moments_are_those_of_the_delayed_matrix(**problem) -> None:
    design, x, random = delayed(**problem)
    index = some_rows(random, len(x))
    check_moments(design.moments(index), x[index])


@VARIED
@given(**PROBLEM)
def test_the_kernel_is_that_of_the_delayed_matrix(**problem) -> None:
    design, x, _ = delayed(**problem)
    centred = x - x.mean(axis=0)
    kernel = design.kernel()
    rounding = 1e-13 * x.shape[1] * (abs(problem["offset"]) + 5) ** 2
    assert np.abs(kernel - centred @ centred.T).max() <= 1e-10 * (centred**2).sum(axis=1).max() + rounding
    np.testing.assert_array_equal(kernel, kernel.T)


@VARIED
@given(v=st.integers(1, 3), responses_offset=st.sampled_from([0.0, 1e3]), **PROBLEM)
def test_cross_products_are_those_of_the_delayed_matrix(v: int, responses_offset: float, **problem) -> None:
    design, x, random = delayed(**problem)
    index = some_rows(random, len(x))
    y = random.normal(size=(len(index), v)) + responses_offset
    centred, y_centred = x[index] - x[index].mean(axis=0), y - y.mean(axis=0)
    size = np.sqrt((centred**2).sum(axis=0))[:, None] * np.sqrt((y_centred**2).sum(axis=0))
    rounding = len(index) * 1e-14 * np.abs(x).max() * max(responses_offset, 1.0)
    error = np.abs(design.cross(index, y) - centred.T @ y_centred)
    assert (error <= 1e-10 * size + rounding).all()


@pytest.mark.parametrize("delays", [[0, 1, 2], [3, 1], [0], [5, 5], [700]])
def test_columns_are_in_the_order_of_the_alignment_stage(delays: list[int]) -> None:
    values = np.random.default_rng(0).normal(size=(9, 2))
    expected = np.concatenate([alignment_delays.delay(run, delays) for run in (values[:4], values[4:])])
    np.testing.assert_array_equal(Delayed(values, delays, [0] * 4 + [1] * 5).rows(np.arange(9)), expected)


def wide_and_long(name: str) -> tuple[Design, np.ndarray]:
    random = np.random.default_rng(0)
    if name == "matrix":
        x = random.normal(size=(700, 5))
        return Matrix(x), x
    values = random.normal(size=(700, 2))
    return Delayed(values, [2, 0, 1], [0] * 300 + [1] * 400), made(values, [2, 0, 1], [300, 400])


@pytest.mark.parametrize("name", ["matrix", "delayed"])
def test_both_designs_keep_the_one_protocol(name: str) -> None:
    design, x = wide_and_long(name)
    index = np.r_[0:250, 400:700]
    y = np.random.default_rng(1).normal(size=(len(index), 4))
    centred = x - x.mean(axis=0)
    assert design.shape == x.shape
    np.testing.assert_array_equal(design.rows(index), x[index])
    check_moments(design.moments(index), x[index])
    np.testing.assert_allclose(design.kernel(), centred @ centred.T, atol=1e-12 * len(x))
    np.testing.assert_allclose(
        design.cross(index, y), (x[index] - x[index].mean(axis=0)).T @ (y - y.mean(axis=0)), atol=1e-10
    )


@pytest.mark.parametrize("name", ["matrix", "delayed"])
def test_rows_are_the_caller_s_to_change(name: str) -> None:
    design, x = wide_and_long(name)
    design.rows(np.arange(700))[:] = 0.0
    np.testing.assert_array_equal(design.rows(np.arange(700)), x)


@pytest.mark.parametrize("name", ["matrix", "delayed"])
def test_small_blocks_change_nothing_but_rounding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    design, x = wide_and_long(name)
    index = np.flatnonzero(np.arange(700) % 3)
    y = x[index][:, :2]
    whole = design.moments(index).gram, design.kernel(), design.cross(index, y)
    monkeypatch.setattr("brainalign.encoding.designs.BLOCK_VALUES", 50)
    monkeypatch.setattr("brainalign.encoding.designs.BLOCK_ROWS", 7)
    blocks = design.moments(index).gram, design.kernel(), design.cross(index, y)
    for one, other in zip(whole, blocks, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("name", ["matrix", "delayed"])
def test_float32_responses_are_multiplied_in_float32_and_lose_no_more(name: str) -> None:
    design, x = wide_and_long(name)
    index = np.arange(700)
    y = (np.random.default_rng(1).normal(size=(700, 4)) + 1e5).astype(np.float32)
    exact, single = design.cross(index, y.astype(np.float64)), design.cross(index, y)
    assert (exact.dtype, single.dtype) == (np.float64, np.float32)
    assert np.abs(single - exact).max() <= 1e-6 * np.linalg.norm(x - x.mean(axis=0), axis=0).max() * np.sqrt(700)


@pytest.mark.parametrize("name", ["matrix", "delayed"])
def test_float32_responses_meet_features_that_were_centred_first(name: str) -> None:
    values = np.random.default_rng(0).normal(size=(700, 3))
    make = Matrix if name == "matrix" else lambda values: Delayed(values, [1, 0, 2])
    index = np.arange(10, 700)
    y = np.random.default_rng(1).normal(size=(690, 4)).astype(np.float32)
    np.testing.assert_allclose(make(values + 1e7).cross(index, y), make(values).cross(index, y), atol=1e-3)


@pytest.mark.parametrize("name", ["matrix", "delayed"])
def test_features_of_float32_are_worked_on_in_float64(name: str) -> None:
    values = (np.random.default_rng(0).normal(size=(500, 3)) + 1000).astype(np.float32)
    make = Matrix if name == "matrix" else lambda values: Delayed(values, [0, 1, 2])
    single, double = make(values), make(values.astype(np.float64))
    index = np.arange(500)
    for design in (single, double):
        assert {design.rows(index).dtype, design.kernel().dtype, design.moments(index).gram.dtype} == {np.dtype("f8")}
    np.testing.assert_array_equal(single.moments(index).gram, double.moments(index).gram)
    np.testing.assert_array_equal(single.kernel(), double.kernel())


@VARIED
@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    p=st.integers(1, 5),
    offset=st.sampled_from([0.0, 1e6]),
)
def test_moments_of_parts_merge_to_those_of_the_whole(seed: int, sizes: list[int], p: int, offset: float) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=(sum(sizes), p)) + offset + np.repeat(random.normal(size=len(sizes)), sizes)[:, None]
    design, ends = Matrix(x), np.cumsum(sizes)
    parts = [design.moments(np.arange(end - size, end)) for size, end in zip(sizes, ends, strict=True)]
    check_moments(merge(iter(parts)), x, rtol=1e-9)


def test_merging_leaves_its_parts_alone() -> None:
    parts = [Matrix(np.random.default_rng(seed).normal(size=(5, 2))).moments(np.arange(5)) for seed in (0, 1)]
    before = [part.gram.copy() for part in parts]
    merge(parts)
    np.testing.assert_array_equal([part.gram for part in parts], before)


@pytest.mark.parametrize("offset", [1e3, 1e6])
@pytest.mark.parametrize("zero_filled", [False, True])
def test_means_far_from_zero_cost_no_digits(offset: float, zero_filled: bool) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(600, 3)) + offset
    delays, lengths = [0, 3, 1, 7, -2], [350, 250]
    design, x = Delayed(values, delays, np.repeat([0, 1], lengths)), made(values, delays, lengths)
    index = np.arange(600) if zero_filled else np.r_[20:340, 360:590]
    # Longdouble keeps the reference's own rounding out of the comparison.
    centred = x[index].astype(np.longdouble)
    centred -= centred.mean(axis=0)
    exact = (centred.T @ centred).astype(np.float64)
    spread = np.sqrt(np.diag(exact))
    assert (np.abs(design.moments(index).gram - exact) <= 1e-9 * np.outer(spread, spread)).all()
    y = random.normal(size=(len(index), 2))
    error = np.abs(design.cross(index, y) - (centred.T @ (y - y.mean(axis=0))).astype(np.float64))
    assert (error <= 1e-9 * spread[:, None] * np.linalg.norm(y, axis=0)).all()
    everything = x.astype(np.longdouble)
    everything -= everything.mean(axis=0)
    # Far from the borders a row's products are small beside those of rows that are partly filled.
    own = np.sqrt((everything**2).sum(axis=1)).astype(np.float64)
    error = np.abs(design.kernel() - (everything @ everything.T).astype(np.float64))
    assert (error <= 1e-9 * np.outer(own, own)).all()


@pytest.mark.parametrize("make", [Matrix, lambda values: Delayed(values, [0], [0] * 100 + [1] * 200)])
def test_a_constant_column_adds_nothing_to_the_kernel_however_large(make) -> None:
    values = np.random.default_rng(0).normal(size=(300, 3))
    alone = make(values[:, :2]).kernel()
    values[:, 2] = 1e9
    np.testing.assert_allclose(make(values).kernel(), alone, atol=1e-10)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, -1e12])
@pytest.mark.parametrize("make", [Matrix, lambda values: Delayed(values, [4, 0, 2], np.repeat([0, 1, 2], 10_000))])
def test_a_constant_column_keeps_only_rounding_through_every_merge(value: float, make) -> None:
    values = np.random.default_rng(0).normal(size=(1500, 3))
    values[:, 1] = value
    values = np.tile(values, (20, 1))
    design = make(values)
    interior = [np.arange(10_000 * run + 10, 10_000 * run + 9_990) for run in range(3)]  # nothing filled in
    moments = merge(design.moments(index) for index in interior)
    constant = np.arange(1, design.shape[1], 3)
    assert (np.diag(moments.gram)[constant] <= moments.n * (1e-15 * value) ** 2).all()
    np.testing.assert_allclose(moments.mean[constant], value, rtol=1e-15)
    varied = np.setdiff1d(np.arange(design.shape[1]), constant)
    assert (np.diag(moments.gram)[varied] > 1000).all()


@pytest.mark.parametrize("end", [0, -1])
def test_a_burst_that_only_some_delays_see_leaves_the_others_constant(end: int) -> None:
    values = np.full((400, 1), 0.3)
    values[end] = 1e9
    design = Delayed(values, [0, 1, 2])
    index = np.arange(2, 400) if end == 0 else np.arange(2, 399)
    x = design.rows(index)
    truth = np.ptp(x, axis=0) == 0
    assert truth.any(), "the burst must be out of some delay's sight"
    gram = np.diag(design.moments(index).gram)
    assert (gram[truth] <= len(index) * (1e-15 * 0.3) ** 2).all()
    np.testing.assert_allclose(gram[~truth], [float(exact_spread(column)) for column in x.T[~truth]], rtol=1e-12)


def exact_spread(column: np.ndarray) -> Fraction:
    entries = [Fraction(float(entry)) for entry in column]
    mean = sum(entries, Fraction(0)) / len(entries)
    return sum(((entry - mean) ** 2 for entry in entries), Fraction(0))


def test_a_delay_longer_than_every_run_leaves_exact_zeros() -> None:
    design = Delayed(np.random.default_rng(0).normal(size=(200, 2)) + 7, [0, 100, 5000], [0] * 100 + [1] * 100)
    index = np.arange(200)
    assert not design.rows(index)[:, 2:].any()
    assert not design.moments(index).gram[2:].any()
    assert not design.moments(index).mean[2:].any()


def test_runs_do_not_leak_into_each_other() -> None:
    random = np.random.default_rng(0)
    values, index = random.normal(size=(600, 2)), np.arange(300, 600)
    other = np.concatenate([random.normal(size=(300, 2)), values[300:]])
    one, two = (Delayed(each, [-2, 1, 3], [0] * 300 + [1] * 300) for each in (values, other))
    np.testing.assert_array_equal(one.moments(index).gram, two.moments(index).gram)


def test_the_delayed_matrix_is_never_made() -> None:
    values = np.random.default_rng(0).normal(size=(20_000, 5))
    design, index = Delayed(values, list(range(40))), np.arange(20_000)
    y = values[:, :3]
    tracemalloc.start()
    design.moments(index)
    design.cross(index, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000 * 200 * 8 / 4


def test_masks_and_negative_row_numbers_mean_what_they_mean_for_arrays() -> None:
    design, x = wide_and_long("delayed")
    mask = np.arange(700) % 2 == 0
    np.testing.assert_array_equal(design.rows(mask), x[mask])
    check_moments(design.moments(np.arange(-1, 600)), x[np.arange(-1, 600)])
    with pytest.raises(IndexError):
        design.rows(np.array([700]))


@pytest.mark.parametrize("name", ["matrix", "delayed"])
def test_moments_of_no_rows_are_refused(name: str) -> None:
    design, _ = wide_and_long(name)
    with pytest.raises(ValueError, match="no rows"):
        design.moments(np.arange(0))
    with pytest.raises(ValueError, match="no rows"):
        merge([])


def test_moments_of_different_columns_do_not_merge() -> None:
    one, two = (Matrix(np.ones((3, p))).moments(np.arange(3)) for p in (1, 2))
    with pytest.raises(ValueError, match="2 columns cannot be merged with those of 1"):
        merge([one, two])


@pytest.mark.parametrize(
    ("values", "delays", "groups", "message"),
    [
        (np.ones(3), [0], None, r"shape \(3,\); expected \(sample, column\)"),
        (np.ones((3, 1)), [], None, "delays must be whole numbers"),
        (np.ones((3, 1)), [0.5], None, "delays must be whole numbers"),
        (np.ones((3, 1)), [0], ["a", "b"], r"groups has shape \(2,\)"),
        (np.ones((3, 1)), [0], ["a", "b", "a"], "run a are in 2 separate stretches"),
    ],
    ids=["one dimension", "no delays", "half a sample", "a group missing", "a run in two stretches"],
)
def test_what_cannot_be_delayed_is_refused(values: np.ndarray, delays: list, groups: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Delayed(values, delays, groups)


@pytest.mark.parametrize("name", ["matrix", "delayed"])
@pytest.mark.parametrize("shape", [(3,), (4, 1)])
def test_responses_must_be_those_of_the_rows(name: str, shape: tuple[int, ...]) -> None:
    design, _ = wide_and_long(name)
    with pytest.raises(ValueError, match=r"expected \(3, v\)"):
        design.cross(np.arange(3), np.ones(shape))


def test_a_matrix_has_two_dimensions() -> None:
    with pytest.raises(ValueError, match="expected"):
        Matrix(np.ones(3))
