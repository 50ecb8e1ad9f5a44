"""The answer in words says what the numbers say, and no more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from brainalign.report import group_profile, headline
from brainalign.types import Scores

Make = Callable[..., Scores]


def with_gains(make_scores: Make, gains: np.ndarray) -> Scores:
    """One layer, one target, and for each subject this gain in every fold."""
    scores = make_scores(subjects=[f"s{i:02d}" for i in range(len(gains))], targets=["A1"], spaces={"gpt2": 1})
    scores["r_joint"].values[:] = scores["r_baseline"].values + np.float32(gains)
    return scores


NOISE = np.linspace(-1, 1, 20)  # standard deviation 0.62, standard error 0.139


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        (0.05 + 0.1 * NOISE, "for these stimuli the layer adds to the baseline"),
        (0.02 + 0.1 * NOISE, "adds nothing measurable over the baseline"),
        (-0.02 + 0.1 * NOISE, "adds nothing measurable over the baseline"),
        (-0.05 + 0.1 * NOISE, "makes the baseline worse"),
        (np.array([0.02, 0.03, 0.06]), "3 subjects are too few for a verdict"),
        (np.array([0.048, 0.049, 0.05, 0.051, 0.052]), "for these stimuli the layer adds to the baseline"),
    ],
    ids=["above", "includes-zero", "includes-zero-below", "below", "few-subjects", "few-but-clear"],
)
def test_the_verdict_follows_the_interval_of_the_gain(make_scores: Make, gains: np.ndarray, verdict: str) -> None:
    assert headline(with_gains(make_scores, gains))[0].statement.endswith(f"{verdict}.")


def test_the_statement_has_the_best_layers_numbers(make_scores: Make) -> None:
    scores = make_scores(subjects=[f"s{i}" for i in range(12)], spaces={"gpt2": 13})
    best = group_profile(scores).sort_values("r").iloc[-1]
    answer = headline(scores)[0]
    assert f"Of the 13 layers of gpt2, layer {best['layer']} predicts best" in answer.statement
    assert f"r = {best['r']:.3f} ± {best['r_se']:.3f}" in answer.statement
    assert f"r = {best['r_baseline']:.3f}" in answer.statement
    assert any("selected on these same scores" in remark for remark in answer.remarks)


def test_one_subject_gets_no_interval_and_no_verdict(make_scores: Make) -> None:
    answer = headline(make_scores(subjects=["a"]))[0]
    assert "±" not in answer.statement
    assert "interval" not in answer.statement
    assert any("no standard error can be given" in remark for remark in answer.remarks)


def test_without_a_baseline_the_answer_says_what_is_missing(make_scores: Make) -> None:
    answer = headline(make_scores(baseline=False))[0]
    assert "baseline" not in answer.statement
    assert any("No baseline was scored" in remark for remark in answer.remarks)


def test_each_feature_space_has_its_answer(make_scores: Make) -> None:
    statements = [answer.statement for answer in headline(make_scores(spaces={"gpt2": 3, "bert": 5}))]
    assert ["3 layers of gpt2" in statements[0], "5 layers of bert" in statements[1]] == [True, True]


def test_the_peak_latency_is_told(make_scores: Make) -> None:
    answer = headline(make_scores(latency_s=np.linspace(0, 0.8, 9)))[0]
    assert any("highest at 0.40 s" in remark for remark in answer.remarks)


def test_no_defined_score_is_no_best_layer(make_scores: Make, spoil: Make) -> None:
    answer = headline(spoil(make_scores(subjects=["a"]), 0, 1))[0]
    assert answer.statement == "No layer of toy-model has a defined score."
