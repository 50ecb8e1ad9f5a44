"""Folds: nothing shuffled, nothing shared, and the gap kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_score

from brainalign.encoding.splits import (
    ContiguousBlocks,
    Fold,
    LeaveOneRunOut,
    Splits,
    Splitter,
    WholeRuns,
    gap_in_samples,
    inner_folds,
    leaky_share,
    nested_folds,
)
from brainalign.errors import DataError, RecipeError

VARIED = settings(max_examples=60, deadline=None, derandomize=True)


def is_consecutive(rows: np.ndarray) -> bool:
    return bool((np.diff(rows) == 1).all())


@VARIED
@given(n=st.integers(4, 200), n_splits=st.integers(2, 8), gap=st.integers(0, 20))
def test_blocks_are_consecutive_cover_every_sample_once_and_keep_the_gap(n: int, n_splits: int, gap: int) -> None:
    assume(n // n_splits >= 2 and n - -(-n // n_splits) - 2 * gap >= 2)
    folds = list(ContiguousBlocks(n_splits, gap).split(range(n)))
    assert np.concatenate([test for _, test in folds]).tolist() == list(range(n))
    assert {len(test) for _, test in folds} <= {n // n_splits, n // n_splits + 1}
    for train, test in folds:
        assert is_consecutive(test)
        assert (np.diff(train) > 0).all()
        assert np.abs(train[:, None] - test).min() == gap + 1
        left_out = n - len(train) - len(test)
        assert left_out == min(gap, test[0]) + min(gap, n - 1 - test[-1]), "no more is left out than the gap"


@VARIED
@given(lengths=st.lists(st.integers(1, 6), min_size=2, max_size=9), n_splits=st.integers(2, 12))
def test_runs_stay_whole_and_each_is_held_out_once(lengths: list[int], n_splits: int) -> None:
    groups = np.repeat([f"run {k}" for k in range(len(lengths))], lengths)
    folds = list(WholeRuns(n_splits).split(groups, groups=groups))
    assert len(folds) == min(n_splits, len(lengths))
    assert np.concatenate([test for _, test in folds]).tolist() == list(range(len(groups))), "in the order of the runs"
    sizes = [len(np.unique(groups[test])) for _, test in folds]
    assert max(sizes) - min(sizes) <= 1, "folds hold as many runs as each other"
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert sorted([*train, *test]) == list(range(len(groups)))


@pytest.mark.parametrize("groups", [list("bbaac"), [2, 2, 1, 1, 3], [2.5, 2.5, 0.0, 0.0, 1.0]])
def test_leave_one_run_out_follows_the_order_of_appearance(groups: list[Any]) -> None:
    folds = [test.tolist() for _, test in LeaveOneRunOut().split(groups, groups=groups)]
    assert folds == [[0, 1], [2, 3], [4]]


def test_a_run_in_two_pieces_is_still_held_out_whole() -> None:
    folds = [test.tolist() for _, test in LeaveOneRunOut().split(range(5), groups=list("abbac"))]
    assert folds == [[0, 3], [1, 2], [4]]


@pytest.mark.parametrize("splitter", [WholeRuns(), LeaveOneRunOut()])
def test_one_run_cannot_be_held_out(splitter: Splitter) -> None:
    with pytest.raises(DataError, match="blocks"):
        list(splitter.split(range(4), groups=["a"] * 4))
    with pytest.raises(DataError, match="pass groups"):
        list(splitter.split(range(4)))


@pytest.mark.parametrize(("n", "n_splits", "gap"), [(9, 5, 0), (20, 2, 9), (6, 3, 2), (10, 5, 8)])
def test_too_few_samples_are_named_with_what_to_change(n: int, n_splits: int, gap: int) -> None:
    with pytest.raises(DataError, match=rf"{n} samples are too few for {n_splits} blocks.*gap of {gap}.*n_splits"):
        list(ContiguousBlocks(n_splits, gap).split(range(n)))


def test_the_splitters_work_within_scikit_learn() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 3)), random.normal(size=60)
    groups = np.repeat([1, 2, 3], 20)
    assert len(cross_val_score(Ridge(), x, y, cv=list(ContiguousBlocks(4, 2).split(x)))) == 4
    assert len(cross_val_score(Ridge(), x, y, cv=list(LeaveOneRunOut().split(x, groups=groups)))) == 3
    assert isinstance(KFold(), Splitter)
    assert isinstance(WholeRuns(), Splitter)


@VARIED
@given(
    times=st.lists(st.floats(0, 100, allow_nan=False), min_size=1, max_size=60),
    gap_s=st.floats(0, 30),
)
def test_any_two_samples_closer_than_the_gap_are_within_its_number_of_samples(times: list[float], gap_s: float) -> None:
    ordered = np.sort(times)
    gap = gap_in_samples(ordered, gap_s)
    row, column = np.nonzero(np.abs(ordered[:, None] - ordered) <= gap_s)
    assert np.abs(row - column).max() <= gap
    # And it is no more than is needed: some stretch of so many samples does lie within the time.
    assert gap == 0 or (ordered[gap:] - ordered[:-gap]).min() <= gap_s * (1 + 1e-9)


def test_rounding_of_times_does_not_shorten_the_gap() -> None:
    assert gap_in_samples(np.arange(100) * 0.1, gap_s=0.3) == 3


@VARIED
@given(
    seed=st.integers(0, 10**6),
    n_runs=st.integers(1, 2),
    n_splits=st.integers(2, 5),
    gap_s=st.floats(0.0, 6.0),
)
def test_blocks_keep_training_and_test_samples_of_a_run_apart_in_time(
    seed: int, n_runs: int, n_splits: int, gap_s: float
) -> None:
    random = np.random.default_rng(seed)
    times = [np.cumsum(random.exponential(0.4, 150)) for _ in range(n_runs)]
    groups = np.repeat(np.arange(n_runs), 150)
    splitter = Splits(outer="blocks", n_splits=n_splits, gap_s=gap_s).splitter(groups, np.concatenate(times), 0.0)
    moment = np.concatenate(times)
    for train, test in splitter.split(moment):
        apart = np.abs(moment[train][:, None] - moment[test])
        assert apart[groups[train][:, None] == groups[test]].min(initial=np.inf) > gap_s


@pytest.mark.parametrize(
    ("outer", "n_runs", "expected"),
    [
        ("auto", 3, LeaveOneRunOut()),
        ("auto", 2, ContiguousBlocks(5, 4)),
        ("auto", 1, ContiguousBlocks(5, 4)),
        ("run", 2, LeaveOneRunOut()),
        ("blocks", 3, ContiguousBlocks(5, 4)),
    ],
)
def test_the_mode_decides_what_is_held_out(outer: Any, n_runs: int, expected: Splitter) -> None:
    groups, times = np.repeat(np.arange(n_runs), 20), np.tile(np.arange(20) * 2.0, n_runs)
    assert Splits(outer).splitter(groups, times, span_s=8.0) == expected


def test_the_gap_is_the_longest_of_any_run_and_can_be_set() -> None:
    groups, times = np.repeat(["slow", "fast"], 20), np.r_[np.arange(20) * 2.0, np.arange(20) * 0.5]
    assert Splits().splitter(groups, times, span_s=4.0) == ContiguousBlocks(5, 8)
    assert Splits(gap_s=1.0, n_splits=3).splitter(groups, times, span_s=4.0) == ContiguousBlocks(3, 2)
    assert Splits(gap_s=0.0).splitter(groups, times, span_s=4.0) == ContiguousBlocks(5, 0)


def test_holding_out_runs_where_there_is_one_names_it() -> None:
    with pytest.raises(DataError, match=r"only one run \('story'\).*outer: blocks"):
        Splits(outer="run").splitter(np.array(["story"] * 9), np.arange(9.0), 1.0)


@pytest.mark.parametrize("settings_given", [{"n_splits": 1}, {"n_splits": 0}, {"gap_s": -1.0}])
def test_settings_that_make_no_sense_are_refused(settings_given: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(settings_given))):
        Splits(**settings_given)


# ------------------------------------------------------------------------------------------- found in review


def test_an_unknown_way_to_hold_out_is_refused_rather_than_taken_for_blocks() -> None:
    with pytest.raises(RecipeError, match="outer"):
        Splits(outer="runs")  # type: ignore[arg-type]


@pytest.mark.parametrize(("n_splits", "gap"), [(5, -1), (0, 0), (1, 0)])
def test_blocks_that_would_overlap_or_leave_nothing_are_refused(n_splits: int, gap: int) -> None:
    with pytest.raises((DataError, RecipeError, ValueError), match=r"gap|n_splits|too few"):
        list(ContiguousBlocks(n_splits, gap).split(range(40)))


def test_one_fold_of_whole_runs_would_leave_no_training_data_and_is_refused() -> None:
    with pytest.raises((DataError, RecipeError, ValueError), match=r"n_splits|fold"):
        list(WholeRuns(1).split(range(4), groups=list("aabb")))


def test_blocks_never_hold_one_hearing_of_a_story_in_training_and_another_in_the_test() -> None:
    # One story heard twice: word for word the same features, at the same times, in both halves of the samples.
    times = np.tile(np.arange(100) * 2.0, 2)
    groups = np.array(["story"] * 200)
    try:
        splitter = Splits(outer="auto").splitter(groups, times, span_s=20.0)
    except DataError:
        return  # to refuse is as good as to keep the two together
    for train, test in splitter.split(times, groups=groups):
        assert not np.isin(times[test], times[train]).any()


# --------------------------------------------------------------------------------------------------- nested folds


@VARIED
@given(
    n=st.integers(20, 150),
    n_splits=st.integers(2, 6),
    n_inner=st.integers(2, 6),
    outer_gap=st.integers(0, 5),
    gap=st.integers(0, 5),
)
def test_inner_blocks_lie_within_training_and_keep_the_gap(
    n: int, n_splits: int, n_inner: int, outer_gap: int, gap: int
) -> None:
    try:
        folds = nested_folds(ContiguousBlocks(n_splits, outer_gap), n_inner, n, None, gap)
    except DataError:
        assume(False)
        return
    outer = list(ContiguousBlocks(n_splits, outer_gap).split(range(n)))
    for fold, (train, test) in zip(folds, outer, strict=True):
        np.testing.assert_array_equal(fold.train, train)
        np.testing.assert_array_equal(fold.test, test)
        assert 2 <= len(fold.inner) <= min(n_inner, n_splits - 1)
        held = np.concatenate([inner.test for inner in fold.inner])
        assert len(set(held)) == len(held), "each sample is held out once"
        for inner in fold.inner:
            assert set(inner.train) | set(inner.test) <= set(train)
            assert np.abs(inner.train[:, None] - inner.test).min() > max(gap, outer_gap)
            assert min(len(inner.train), len(inner.test)) >= 2


@pytest.mark.parametrize("gap", [0, 3])
@pytest.mark.parametrize("n_splits", [3, 5, 6])
def test_inner_blocks_of_two_outer_ones_train_on_the_same_samples(n_splits: int, gap: int) -> None:
    folds = nested_folds(ContiguousBlocks(n_splits, gap), n_splits, 120, None)
    trained = {inner.train.tobytes() for fold in folds for inner in fold.inner}
    assert len(trained) == n_splits * (n_splits - 1) // 2


def test_runs_are_nested_in_runs() -> None:
    groups = np.repeat(np.arange(4), 5)
    folds = nested_folds(LeaveOneRunOut(), LeaveOneRunOut(), 20, groups)
    for run, fold in enumerate(folds):
        assert set(groups[fold.test]) == {run}
        assert [set(groups[inner.test]) for inner in fold.inner] == [{other} for other in range(4) if other != run]
        for inner in fold.inner:
            assert sorted([*inner.train, *inner.test]) == fold.train.tolist()


def test_without_inner_folds_there_are_none() -> None:
    assert [fold.inner for fold in nested_folds(ContiguousBlocks(3), None, 30, None)] == [(), (), ()]


def test_too_few_samples_for_inner_blocks_are_named() -> None:
    with pytest.raises(DataError, match=r"training samples are too few for 4 inner blocks with a gap of 4"):
        nested_folds(ContiguousBlocks(3, 4), 4, 24, None)


@pytest.mark.parametrize(("groups", "kind"), [(None, "blocks"), (["a"] * 30, "blocks"), (list("aab" * 10), "runs")])
def test_inner_folds_are_runs_where_there_are_several(groups: Any, kind: str) -> None:
    train = np.arange(3, 30)
    folds = inner_folds(3, train, groups, gap=2)
    assert set(np.concatenate([fold.test for fold in folds])) == set(train)
    for fold in folds:
        if kind == "runs":
            assert not {groups[k] for k in fold.train} & {groups[k] for k in fold.test}
        else:
            assert np.abs(fold.train[:, None] - fold.test).min() == 3


# ------------------------------------------------------------------------------------------------------- the leak


@pytest.mark.parametrize(
    ("splitter", "groups", "expected"),
    [
        (LeaveOneRunOut(), np.repeat(np.arange(4), 25), 0.0),
        (WholeRuns(2), np.repeat(np.arange(4), 25), 0.0),
        (ContiguousBlocks(5, 3), None, 0.0),
        (ContiguousBlocks(5), None, 0.0),
        (KFold(5), None, 0.0),
    ],
    ids=["run by run", "runs", "blocks with gap", "blocks", "KFold"],
)
def test_contiguous_folds_do_not_leak(splitter: Splitter, groups: Any, expected: float) -> None:
    assert leaky_share(nested_folds(splitter, None, 100, groups), groups) == expected


def test_shuffled_folds_leak_wherever_a_sample_touches_training_ones() -> None:
    assert leaky_share(nested_folds(KFold(5, shuffle=True, random_state=0), None, 5000, None)) > 0.99


def test_a_neighbour_in_another_run_is_none() -> None:
    fold = Fold(np.array([0, 2, 3]), np.array([1]))
    assert leaky_share([fold], ["a", "a", "a", "a"]) == 1.0
    assert leaky_share([fold], ["a", "b", "b", "b"]) == 0.0


@pytest.mark.parametrize("width", [2, 3, 5])
def test_shuffled_stretches_leak_too(width: int) -> None:
    # On independent autoregressive series (.9) stretches of 2, 3 and 5 samples score r = .45, .42 and .39.
    stretch = np.arange(400) // width
    fold = np.random.default_rng(0).permutation(stretch.max() + 1)[stretch] % 5
    folds = [Fold(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(5)]
    assert leaky_share(folds) > 0.05
