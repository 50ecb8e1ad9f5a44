"""The answer in words says what the numbers say, and no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from brainalign.report import group_profile, headline
from brainalign.report.headline import caveats, verdicts
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


def undefined(scores: Scores, *layers: int) -> Scores:
    """The same scores with no r at these layers, as of features that do not change."""
    spoilt = scores.copy(deep=True)
    for name in ("r", "r2", "r_joint", "r2_joint"):
        spoilt[name][{"layer": list(layers)}] = np.nan
    return spoilt


@pytest.mark.parametrize("name", ["gpt2", "layer 0"])
def test_a_single_layer_named_like_its_space_is_named_once(make_scores: Make, name: str) -> None:
    scores = make_scores(spaces={"gpt2": 1}).assign_coords(layer_name=("layer", [name]))
    statement = headline(scores)[0].statement
    assert statement.startswith("The only layer of gpt2 " + ("predicts" if name == "gpt2" else "(layer 0) predicts"))


def test_a_layer_goes_by_the_number_in_its_name(make_scores: Make) -> None:
    names = ["layer 1 attention", "layer 1 mlp", "layer 2 attention", "layer 2 mlp"]
    scores = make_scores().assign_coords(layer_name=("layer", names))
    best = names[int(group_profile(scores)["r"].argmax())]
    assert f"Of the 4 layers of toy-model, {best} predicts best" in headline(scores)[0].statement


@pytest.mark.parametrize("latency_s", [None, np.linspace(0, 0.8, 9)])
def test_verdicts_say_the_same_as_the_statements(make_scores: Make, latency_s: np.ndarray | None) -> None:
    scores = make_scores(
        subjects=[f"s{i}" for i in range(9)], spaces={"gpt2": 3, "bert": 5, "pitch": 1}, latency_s=latency_s
    )
    rows = verdicts(scores).to_dict("records")
    for answer, row in zip(headline(scores), rows, strict=True):
        for column in ("feature_space", "best_layer", "r", "r_baseline", "gain", "interval", "verdict"):
            assert row[column] in answer.statement
        if latency_s is not None:
            assert any(f"highest at {row['best_latency']} s" in remark for remark in answer.remarks)


def test_a_caveat_of_all_is_given_once_and_others_name_whom_they_concern(make_scores: Make) -> None:
    scores = make_scores(spaces={"gpt2": 3, "bert": 5, "pitch": 1})
    found = caveats(scores)
    assert [remark for remark in found if "standard error (SE)" in remark] == [
        "± is the standard error (SE) over n = 3 subjects."
    ]
    assert [remark for remark in found if remark.startswith("All but pitch: The layer was selected")]
    of_each = {remark for answer in headline(scores) for remark in answer.remarks}
    assert {remark.partition(": ")[2] if remark not in of_each else remark for remark in found} <= of_each


@pytest.mark.parametrize("spoilt", [[0], [0, 1, 2], [8], range(9)])
def test_a_space_without_r_says_so_and_the_others_are_as_before(make_scores: Make, spoilt: list[int]) -> None:
    scores = make_scores(spaces={"gpt2": 3, "bert": 5, "pitch": 1})
    before, after = verdicts(scores), verdicts(undefined(scores, *spoilt))
    bounds = {"gpt2": range(3), "bert": range(3, 8), "pitch": range(8, 9)}
    for i, (space, rows) in enumerate(bounds.items()):
        if set(rows) <= set(spoilt):
            assert after["verdict"][i] == "has no defined r: see the warnings below"
            assert headline(undefined(scores, *spoilt))[i].statement == f"No layer of {space} has a defined score."
        elif not set(rows) & set(spoilt):
            assert after.loc[i].to_dict() == before.loc[i].to_dict()
    assert not [remark for remark in caveats(undefined(scores, 8)) if "pitch" in remark]


def test_verdicts_need_no_baseline(make_scores: Make) -> None:
    table = verdicts(make_scores(spaces={"gpt2": 3, "bert": 5}, baseline=False))
    assert list(table) == ["feature_space", "best_layer", "r"]


# ------------------------------------------------------------------------------------------------- nested, tested


def nested(scores: Scores, r: Sequence[float], gain: Sequence[float]) -> Scores:
    """The scores with those of layers chosen inside the training samples, subject by subject."""
    spaces = list(dict.fromkeys(scores["feature_space"].values.tolist()))
    dims = ("profile_space", "of_subject")
    found = {"profile_nested_subject": r, "profile_nested_gain_subject": gain}
    made = scores.assign({name: (dims, [values] * len(spaces)) for name, values in found.items()})
    return made.assign_coords(profile_space=spaces)


def under_test(scores: Scores, p: float, q: float | None = None) -> Scores:
    """The scores with a test of the gain: of the group, or of a single subject where there is no q."""
    n_layers = scores.sizes["layer"]
    if q is None:
        of_targets = np.full((n_layers, scores.sizes["target"]), p)
        made = scores.assign(subject_p_gain=(("layer", "of_subject"), of_targets[:, :1]))
        made = made.assign(q_gain=(("layer", "target"), of_targets))
        made = made.assign_coords(of_subject=scores["subject"].values[:1])
    else:
        found = {"group_p_stimulus_gain": p, "group_q_stimulus_gain": q}
        made = scores.assign({name: ("layer", np.full(n_layers, value)) for name, value in found.items()})
    made.attrs = {**scores.attrs, "answers": {"tests": {"name": "circular shift", "permutations": 1000}}}
    return made


def test_a_nested_score_is_quoted_in_place_of_the_one_chosen_on_the_test(make_scores: Make) -> None:
    subjects = [f"s{i}" for i in range(6)]
    r, gain = np.linspace(0.11, 0.13, 6), np.linspace(0.031, 0.033, 6)
    scores = nested(make_scores(subjects=subjects, spaces={"gpt2": 5}), r.tolist(), gain.tolist())
    answer = headline(scores)[0]
    se = r.std(ddof=1) / np.sqrt(6)
    assert f"the layer chosen inside the training folds with r = 0.120 ± {se:.3f}" in answer.statement
    assert "it changes r by +0.0320 (95 % interval over subjects: +0.0312 to +0.0328)" in answer.statement
    assert answer.statement.endswith("for these stimuli the layer adds to the baseline.")
    assert not any("selected on these same scores" in remark for remark in answer.remarks)
    assert any("chosen by scores within the training samples" in remark for remark in answer.remarks)
    assert verdicts(scores)["r"][0] == f"0.120 ± {se:.3f}"


def test_without_a_nested_score_of_every_subject_the_other_one_is_quoted(make_scores: Make) -> None:
    scores = make_scores(subjects=["a", "b", "c"])
    answer = headline(nested(scores, [0.1, np.nan, 0.1], [0.01, np.nan, 0.01]))[0]
    assert answer == headline(scores)[0]
    assert any("selected on these same scores" in remark for remark in answer.remarks)


def test_a_tested_gain_carries_its_p_with_test_permutations_and_family(make_scores: Make) -> None:
    scores = under_test(with_gains(make_scores, 0.05 + 0.1 * NOISE), 1 / 1001, 0.004)
    answer = headline(scores)[0]
    assert (
        "the gain of layer 0 has p \N{LESS-THAN OR EQUAL TO} .001 (circular shift, the same for all subjects, 1,000 "
        "permutations; q = .004, Benjamini-Hochberg over all 1 layers)" in answer.statement
    )
    assert not any("no test over stimuli" in remark for remark in answer.remarks)
    assert any("the p value allows for that" in remark for remark in answer.remarks)


def test_without_tests_no_p_is_written(make_scores: Make) -> None:
    answer = headline(make_scores())[0]
    assert " p " not in answer.statement
    assert any("no test over stimuli was made" in remark for remark in answer.remarks)
    assert "p" not in verdicts(make_scores())


@pytest.mark.parametrize(
    ("gains", "q", "verdict"),
    [
        (0.05 + 0.1 * NOISE, 0.3, "may be chance about these stimuli"),
        (0.05 + 0.1 * NOISE, 0.01, "for these stimuli the layer adds to the baseline"),
        (0.02 + 0.1 * NOISE, 0.01, "adds nothing measurable over the baseline, though less is lost"),
        (0.02 + 0.1 * NOISE, 0.3, "adds nothing measurable over the baseline"),
    ],
)
def test_the_verdict_follows_interval_and_test(make_scores: Make, gains: np.ndarray, q: float, verdict: str) -> None:
    scores = under_test(with_gains(make_scores, gains), q / 2, q)
    assert verdict in headline(scores)[0].statement
    assert verdict in verdicts(scores)["verdict"][0]


def test_of_a_single_subject_the_p_is_that_of_the_layer_alone(make_scores: Make) -> None:
    answer = headline(under_test(make_scores(subjects=["a"]), 0.02))[0]
    assert "has p = .020 (circular shift, 1,000 permutations; of this layer alone)." in answer.statement
    assert answer.remarks[0] == "There is a single subject: no standard error can be given."


def test_a_gain_that_could_not_be_tested_has_no_p(make_scores: Make) -> None:
    assert headline(under_test(make_scores(), np.nan, np.nan))[0] == headline(make_scores())[0]


def test_the_table_of_verdicts_has_p_values_and_the_caveats_their_test(make_scores: Make) -> None:
    scores = under_test(make_scores(spaces={"gpt2": 3, "bert": 5}), 0.01, 0.04)
    table = verdicts(scores)
    assert table["p"].tolist() == ["p = .010, q = .040"] * 2
    assert [remark for remark in caveats(scores) if "circular shift, the same for all subjects" in remark]
    for answer, row in zip(headline(scores), table.to_dict("records"), strict=True):
        assert row["verdict"] in answer.statement
