"""Layers chosen inside the training samples never saw the held-out ones."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.analysis.hierarchies.layer_choice import nested_choice, scores_inside
from brainalign.encoding import ContiguousBlocks, LeaveOneRunOut, RidgeEncoder, Splitter, WholeRuns, cross_validate
from brainalign.encoding.splits import nested_folds
from brainalign.errors import DataError, RecipeError


def test_a_nested_choice_takes_each_fold_s_own_layer() -> None:
    r = np.arange(24.0).reshape(3, 2, 4)
    inside = np.zeros((3, 2, 4))
    inside[2, 0], inside[1, 1] = 1.0, 1.0
    inside[:, :, 3] = np.nan
    found = nested_choice(r, inside)
    np.testing.assert_array_equal(found.layer[:, :3], [[2, 2, 2], [1, 1, 1]])
    np.testing.assert_array_equal(found.r[:, :3], [r[2, 0, :3], r[1, 1, :3]])
    assert (found.layer[:, 3] == -1).all()
    assert np.isnan(found.r[:, 3]).all()
    np.testing.assert_allclose(found.dipped, r.mean(axis=1).max(axis=0))
    assert found.finding("here").code == "W206"
    with pytest.raises(DataError, match="must agree"):
        nested_choice(r, inside[:2])


@pytest.mark.parametrize("splitter", [ContiguousBlocks(3, gap=2), WholeRuns(3), LeaveOneRunOut()])
def test_inner_scores_never_see_the_held_out_samples(splitter: Splitter) -> None:
    rng = np.random.default_rng(0)
    layers, y = rng.normal(size=(2, 120, 5)), rng.normal(size=(120, 3))
    groups = None if isinstance(splitter, ContiguousBlocks) else np.repeat(list("abcd"), 30)
    encoder = RidgeEncoder(alphas=[1.0, 100.0])
    before = scores_inside(layers, y, groups, splitter, encoder, inner_splits=2)
    for number, (_, test) in enumerate(splitter.split(y, groups=groups)):
        spoilt = y.copy()
        spoilt[test] = 7 * rng.normal(size=(len(test), 3))
        after = scores_inside(layers, spoilt, groups, splitter, encoder, inner_splits=2)
        np.testing.assert_allclose(after[:, number], before[:, number], atol=1e-8)
        others = np.delete(np.arange(before.shape[1]), number)
        assert np.abs(after[:, others] - before[:, others]).max() > 1e-3


def test_inner_scores_are_those_of_fits_on_the_training_samples_alone() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(150, 4)), rng.normal(size=(150, 3))
    groups, encoder = np.repeat(list("abcde"), 30), RidgeEncoder(alphas=[1.0, 100.0])
    found = scores_inside([x], y, groups, LeaveOneRunOut(), encoder)
    for number, fold in enumerate(nested_folds(LeaveOneRunOut(), 4, 150, groups)):
        rows = fold.train
        alone = cross_validate(encoder, x[rows], y[rows], groups[rows], LeaveOneRunOut())[0].r
        np.testing.assert_allclose(found[0, number], alone.mean(axis=0), atol=1e-8)


def test_a_planted_layer_is_chosen_inside() -> None:
    rng = np.random.default_rng(0)
    layers = rng.normal(size=(4, 300, 5))
    y = layers[2] @ rng.normal(size=(5, 6)) + rng.normal(size=(300, 6))
    splitter = ContiguousBlocks(4)
    r = np.stack([cross_validate(RidgeEncoder(), x, y, None, splitter)[0].r for x in layers])
    found = nested_choice(r, scores_inside(layers, y, None, splitter))
    assert (found.layer == 2).all()
    np.testing.assert_allclose(found.optimism, 0.0, atol=1e-12)


def test_without_layers_there_is_nothing_to_choose() -> None:
    with pytest.raises(RecipeError, match="no layers"):
        scores_inside([], np.ones((9, 1)), None, ContiguousBlocks(3))
