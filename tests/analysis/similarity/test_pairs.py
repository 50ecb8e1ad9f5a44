"""Sums over pairs of samples, against tables that are made whole."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.analysis.similarity import pairs as module
from brainalign.analysis.similarity.pairs import Pairs, gram, pair_sums, shifted_sums, squared_distances, table
from brainalign.errors import DataError

VARIED = settings(max_examples=30, deadline=None, derandomize=True)
RUNS = st.lists(st.integers(1, 25), min_size=1, max_size=4).filter(lambda lengths: sum(lengths) > 3)


def sides(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.normal(size=(n, 3)), random.normal(size=(n, 5)) + 2.0


def kept_pair_by_pair(lengths: list[int], band: int) -> np.ndarray:
    where = [(run, place) for run, length in enumerate(lengths) for place in range(length)]
    return np.array([[a != b or min(abs(i - j), lengths[a] - abs(i - j)) >= band for b, j in where] for a, i in where])


@VARIED
@given(lengths=RUNS, band=st.integers(0, 8))
def test_pairs_of_a_run_nearer_than_the_band_are_left_out(lengths: list[int], band: int) -> None:
    pairs, expected = Pairs(tuple(lengths), band), kept_pair_by_pair(lengths, band)
    np.testing.assert_array_equal(pairs.kept(slice(0, sum(lengths))), expected)
    np.testing.assert_array_equal(pairs.kept(slice(1, 3)), expected[1:3])
    np.testing.assert_array_equal(pairs.degrees(), expected.sum(axis=1))


@VARIED
@given(seed=st.integers(0, 1000), lengths=RUNS, band=st.integers(0, 6))
def test_sums_are_those_of_the_whole_tables(seed: int, lengths: list[int], band: int) -> None:
    x, y = sides(seed, sum(lengths))
    kept = kept_pair_by_pair(lengths, band)
    k, m = kept * (x @ x.T), kept * ((y[:, None] - y) ** 2).mean(axis=2)
    sums = pair_sums(gram(x), squared_distances(y), Pairs(tuple(lengths), band))
    np.testing.assert_allclose(sums.first_rows, k.sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(sums.second_rows, m.sum(axis=1), atol=1e-9)
    found = [sums.first_squares, sums.second_squares, sums.products, sums.row_products]
    expected = [(k**2).sum(), (m**2).sum(), (k * m).sum(), k.sum(axis=1) @ m.sum(axis=1)]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("values_at_once", [1, 60, 2**22])
@pytest.mark.parametrize(
    ("lengths", "band"), [((40,), 0), ((41,), 1), ((40,), 7), ((20, 31, 9), 3), ((1, 2, 37), 2), ((2, 2, 2), 1)]
)
def test_all_shifts_at_once_are_each_shift_summed_anew(
    monkeypatch: pytest.MonkeyPatch, lengths: tuple[int, ...], band: int, values_at_once: int
) -> None:
    monkeypatch.setattr(module, "VALUES_AT_ONCE", values_at_once)
    x, y = sides(0, sum(lengths))
    pairs = Pairs(lengths, band)
    shifts = np.stack([np.random.default_rng(1).integers(0, length, size=8) for length in lengths], axis=1)
    once = pair_sums(gram(x), squared_distances(y), pairs)
    found = shifted_sums(gram(x), squared_distances(y), pairs, once, shifts)
    for number, shift in enumerate(shifts):
        moved = y[pairs.shifted(shift)]
        anew = pair_sums(gram(x), squared_distances(moved), pairs)
        np.testing.assert_allclose(found.products[number], anew.products, rtol=1e-9)
        np.testing.assert_allclose(found.row_products[number], anew.row_products, rtol=1e-9)
        np.testing.assert_allclose(found.second_squares, anew.second_squares, rtol=1e-9)


def test_a_shift_of_zero_leaves_all_as_it_is() -> None:
    pairs = Pairs((5, 4), 1)
    np.testing.assert_array_equal(pairs.shifted(np.array([0, 0])), np.arange(9))
    np.testing.assert_array_equal(pairs.shifted(np.array([2, 1])), [2, 3, 4, 0, 1, 6, 7, 8, 5])


def test_a_table_that_is_there_reads_as_the_kernel_it_was_made_by() -> None:
    x, y = sides(3, 30)
    pairs = Pairs((12, 18), 2)
    direct, read = (pair_sums(gram(x), kernel, pairs) for kernel in (gram(y), table(y @ y.T)))
    assert direct.products == pytest.approx(read.products, rel=1e-12)


def test_long_series_are_never_held_as_whole_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VALUES_AT_ONCE", 2**17)
    x, y = sides(0, 2000)
    pairs = Pairs((2000,), 5)
    tracemalloc.start()
    sums = pair_sums(gram(x), gram(y), pairs)
    shifted_sums(gram(x), gram(y), pairs, sums, np.arange(3)[:, None])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15 * 2**20, "some blocks of 1 MB; one table would be 32 MB"


def test_runs_are_read_from_the_groups_in_their_order() -> None:
    pairs = Pairs.of(np.array(["b", "b", "a", "c", "c", "c"]), 6, 1)
    assert pairs.lengths == (2, 1, 3)
    assert [stretch.start for stretch in pairs.stretches()] == [0, 2, 3]
    assert Pairs.of(None, 6, 1).lengths == (6,)


def test_wrong_runs_and_bands_are_named() -> None:
    with pytest.raises(DataError, match="do not stand together"):
        Pairs.of(np.array(["a", "b", "a", "b"]), 4, 1)
    with pytest.raises(DataError, match="the run of each of 5 samples"):
        Pairs.of(np.array(["a", "b"]), 5, 1)
    with pytest.raises(DataError, match="cannot be negative"):
        Pairs.of(None, 5, -1)
    with pytest.raises(DataError, match="A band of 30 samples leaves out more than half"):
        Pairs.of(None, 100, 30)
    assert Pairs.of(np.repeat(np.arange(10), 10), 100, 30).degrees().tolist() == [90] * 100, "other runs are far"
