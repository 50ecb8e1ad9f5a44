"""The best layer of a group: planted ones found, and noise that does not look better for having been chosen."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.analysis.inference.group_layers import ChosenOn, best_layer
from brainalign.errors import DataError, RecipeError


def planted(layer: int = 6, effect: float = 0.1, n_subjects: int = 12) -> np.ndarray:
    """Scores (subject, layer, fold) that peak at a layer."""
    curve = effect * np.exp(-0.5 * ((np.arange(13) - layer) / 2.0) ** 2)
    return curve[:, None] + 0.02 * np.random.default_rng(0).normal(size=(n_subjects, 13, 5))


@pytest.mark.parametrize("chosen_on", ["inside", "folds", "subjects"])
def test_the_planted_layer_is_in_the_interval_and_its_score_is_recovered(chosen_on: ChosenOn) -> None:
    scores = planted()
    found = best_layer(scores, planted() if chosen_on == "inside" else None, chosen_on)
    assert found.layer_low <= 6 <= found.layer_high
    assert found.layer_high - found.layer_low <= 3
    assert found.score.estimate == pytest.approx(0.1, abs=0.02)
    assert found.chosen.shape == (12, 5)
    assert [finding.code for finding in found.findings] == (
        [] if chosen_on == "inside" else [f"layer-chosen-on-{chosen_on}"]
    )


@pytest.mark.parametrize("chosen_on", ["inside", "folds", "subjects"])
def test_independent_noise_scores_zero_when_chosen_elsewhere_and_not_when_dipped(chosen_on: ChosenOn) -> None:
    rng = np.random.default_rng(0)
    scores, inside = rng.normal(size=(2, 20, 13, 5, 200))
    found = best_layer(scores, inside if chosen_on == "inside" else None, chosen_on, n_resamples=300)
    assert abs(found.score.estimate.mean()) < 0.02
    assert found.dipped.mean() > 0.6
    holds = (found.score.low <= 0) & (found.score.high >= 0)
    assert holds.mean() > (0.8 if chosen_on == "subjects" else 0.88), "halves share their choices"
    assert (found.layer_high - found.layer_low).mean() > 8, "the interval of a layer that is not there is wide"


def test_targets_are_chosen_for_one_by_one() -> None:
    both = np.stack([planted(3), planted(9)], axis=-1)
    found = best_layer(both, chosen_on="subjects", seed=1)
    for target in range(2):
        one = best_layer(both[..., target], chosen_on="subjects", seed=1)
        assert (found.layer[target], found.layer_low[target], found.layer_high[target]) == (
            one.layer, one.layer_low, one.layer_high,
        )  # fmt: skip
        assert found.score.low[target] == pytest.approx(float(one.score.low))
    assert found.layer.tolist() == [3.0, 9.0]


def test_the_layer_of_a_subject_is_not_chosen_by_its_own_scores() -> None:
    scores = planted()
    changed = scores.copy()
    changed[4, 0] += 10.0
    found, other = (best_layer(values, chosen_on="subjects") for values in (scores, changed))
    np.testing.assert_array_equal(found.chosen[4], other.chosen[4])
    changed = scores.copy()
    changed[4, 0, 2] += 10.0
    found, other = (best_layer(values, chosen_on="folds") for values in (scores, changed))
    assert found.chosen[4, 2] == other.chosen[4, 2]
    assert other.chosen[4, 0] == 0


def test_what_is_undefined_stays_undefined() -> None:
    scores = planted()[..., None].repeat(3, axis=-1)
    scores[..., 1] = np.nan
    scores[0, :, :, 2] = np.nan
    found = best_layer(scores, chosen_on="folds")
    assert np.isnan(found.layer).tolist() == np.isnan(found.layer_low).tolist() == [False, True, False]
    assert np.isnan(found.score.estimate).tolist() == np.isnan(found.dipped).tolist() == [False, True, False]
    assert np.isnan(found.chosen[0, :, 2]).all()


def test_what_there_is_nothing_else_to_choose_on_is_refused() -> None:
    scores = planted()
    with pytest.raises(DataError, match="scores_inside"):
        best_layer(scores)
    with pytest.raises(DataError, match="on other folds: there is one only"):
        best_layer(scores[:, :, :1], chosen_on="folds")
    with pytest.raises(DataError, match="on other subjects: there is one only"):
        best_layer(scores[:1], chosen_on="subjects")
    with pytest.raises(RecipeError, match="cannot be chosen on 'targets'"):
        best_layer(scores, chosen_on="targets")  # pyrefly: ignore
    assert np.isnan(best_layer(scores[:1], chosen_on="folds").layer_low)
