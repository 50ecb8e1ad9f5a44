"""The section on layer profiles says what the scores hold, and every p with its test."""

from __future__ import annotations

import re

import numpy as np
import pytest

from brainalign.report.html import Section, Table
from brainalign.report.sections import sections_of
from brainalign.report.sections.profile import section
from brainalign.types import Scores

SUBJECTS = ["s0", "s1", "s2", "s3", "s4"]


def profiled(spaces: tuple[str, ...] = ("gpt2",), time: bool = False, **told: object) -> Scores:
    """Scores with a profile of three layers for each space; the numbers are made up, and easily told apart."""
    n, of_all = len(spaces), ("profile_space",)
    target, subject = (*of_all, "target"), (*of_all, "of_subject")
    variables: dict[str, tuple[tuple[str, ...], object]] = {
        "profile_status": (target, [["ok", "ok", "ok", "below threshold", "undefined"]] * n),
        "profile_best": (of_all, [1.0] * n),
        "profile_best_low": (of_all, [0.0] * n),
        "profile_best_high": (of_all, [2.0] * n),
        "profile_dipped": (of_all, [0.321] * n),
        "profile_chosen_depth": (subject, [[0.5] * 5] * n),
        "profile_reliability_peak": (subject, [[0.8, 0.6, 0.7, np.nan, 0.7]] * n),
        "profile_reliability_centre": (subject, [[0.5] * 5] * n),
        "profile_reliability_same": (subject, [[0.4] * 5] * n),
        "profile_region_peak": ((*subject, "profile_region"), np.tile([0.0, 0.5], (n, 5, 1))),
        "profile_region_reliability": (of_all, [0.77] * n),
    }
    figures = {"nested": 0.21, "nested_gain": 0.0123, "middle_minus_output": 0.0456, "middle_minus_input": -0.0456}
    for name, value in figures.items():
        variables |= {f"profile_{name}_{end}": (of_all, [value] * n) for end in ("mean", "low", "high")}
        variables[f"profile_{name}_subject"] = (subject, [[value] * 5] * n)
    coords = {
        "profile_space": list(spaces),
        "of_subject": SUBJECTS,
        "profile_region": ["A1", "IFG"],
        "feature_space": ("layer", [space for space in spaces for _ in range(3)]),
        "layer_name": ("layer", ["embedding", "block 1", "block 2"] * n),
        "layer_index": ("layer", [0, 1, 2] * n),
        "depth": ("layer", [0.0, 0.5, 1.0] * n),
    }
    facts: dict[str, object] = {"nested": True, "threshold": 0.0, "by_tests": False, "spaces": list(spaces)}
    if time:
        variables |= {
            "profile_latency": (target, [[0.1, 0.2, 0.3, np.nan, np.nan]] * n),
            "profile_latency_half_area": (target, [[0.2] * 5] * n),
            "profile_layer_latency": (("layer", "of_subject"), np.tile([[0.1], [0.2], [0.3]], (n, 5))),
            "profile_temporal": (subject, [[0.9] * 5] * n),
        }
        ends = {"mean": 0.9, "low": 0.85, "high": 0.95, "p": 1 / 32, "p_stimulus": 1 / 201}
        variables |= {f"profile_temporal_{name}": (of_all, [value] * n) for name, value in ends.items()}
        facts["temporal"] = {space: {"n_flips": 32, "n_shifts": 200} for space in spaces}
    scores = Scores(variables, coords=coords)
    scores.attrs = {"answers": {"profile": {**facts, **told}}}
    return scores


def found(scores: Scores) -> Section:
    sections = sections_of(scores)
    assert len(sections) == 1
    return sections[0]


def cells(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.headers, row, strict=True)) for _, rows in table.groups for row in rows]


def test_the_best_layer_stands_with_its_interval_and_its_nested_score() -> None:
    (_, table), _ = found(profiled()).tables
    (row,) = cells(table)
    assert row["best layer"] == "block 1 (embedding to block 2)"
    assert row["nested r"] == "0.210 (0.210 to 0.210)"
    assert row["chosen on the test"] == "0.321"
    assert row["nested gain over the baseline"] == "+0.0123 (+0.0123 to +0.0123)"


def test_contrasts_have_their_signs() -> None:
    _, (_, table) = found(profiled()).tables
    (row,) = cells(table)
    assert row["middle minus output"].startswith("+0.0456 (")
    assert row["middle minus input"].startswith("\N{MINUS SIGN}0.0456 (")


def test_targets_without_a_preference_are_counted_by_reason_and_halves_compared() -> None:
    text = " ".join(found(profiled()).paragraphs)
    assert "3 of 5 targets prefer a layer (the others: 1 below threshold, 1 undefined)" in text
    assert "r = 0.70 (highest) and 0.50 (centre of mass), and 40% are the same" in text
    assert "above 0; that is no test" in text


def test_of_a_single_subject_no_intervals_are_announced() -> None:
    one = found(profiled().isel(of_subject=[0]))
    assert all(
        "bootstrap" not in caption and "a single subject has no intervals" in caption for caption, _ in one.tables
    )
    assert all("bootstrap over subjects" in caption for caption, _ in found(profiled()).tables)


def test_of_regions_it_speaks_only_where_they_are_drawn() -> None:
    assert "A region counts" in " ".join(found(profiled()).paragraphs)
    of_many = found(profiled().isel(profile_region=[0] * 61))
    assert "A region counts" not in " ".join(of_many.paragraphs)
    assert of_many.pictures == ()


def test_with_tests_it_says_which() -> None:
    text = " ".join(found(profiled(by_tests=True)).paragraphs)
    assert "p < .05 by the maximum statistic over targets and layers" in text
    assert "that is no test" not in text


def test_what_was_chosen_on_the_test_is_said_to_be() -> None:
    scores = profiled(nested=False)
    scores["profile_nested_mean"][:] = np.nan
    scores["profile_nested_low"][:] = np.nan
    section_ = found(scores)
    assert "chosen on the held-out scores themselves" in section_.paragraphs[0]
    assert cells(section_.tables[0][1])[0]["nested r"] == "\N{EN DASH}"


def test_every_p_stands_with_its_test_its_permutations_and_its_family() -> None:
    text = " ".join(found(profiled(time=True)).paragraphs)
    assert "correlate with r = 0.90, mean over subjects (95 % interval, bootstrap over subjects: 0.85 to 0.95)" in text
    assert "over subjects p = .031 (one-sided sign flips of subjects, 32 flips)" in text
    assert "p \N{LESS-THAN OR EQUAL TO} .005 (circular shift, the same for all subjects, 200 permutations)" in text
    assert "family: this one correlation" in text
    assert "highest at 0.20 s from word onset (median of 3 targets, half of them from 0.15 to 0.25 s)" in text


@pytest.mark.parametrize("missing", [("p",), ("p", "p_stimulus")])
def test_a_p_that_there_is_not_is_not_written(missing: tuple[str, ...]) -> None:
    scores = profiled(time=True)
    for name in missing:
        scores[f"profile_temporal_{name}"][:] = np.nan
    text = " ".join(found(scores).paragraphs)
    assert "sign flips" not in text
    assert ("circular shift" in text) == ("p_stimulus" not in missing)
    assert ("and none is given" in text) == ("p_stimulus" in missing)
    assert "nan" not in text


def test_a_subtracted_network_is_named() -> None:
    scores = profiled(time=True, temporal={"gpt2": {"n_flips": 32, "n_shifts": 200, "less": "random"}})
    text = " ".join(found(scores).paragraphs)
    assert "less that of random in the same subject" in text
    assert "before the subtraction" in text


def test_pictures_show_regions_and_latencies_of_each_space() -> None:
    assert [one.title for one in found(profiled(time=True)).pictures] == [
        "Preferred layer by region",
        "Latency by layer",
    ]
    titles = [one.title for one in found(profiled(("gpt2", "bert"))).pictures]
    assert titles == ["Preferred layer by region, gpt2", "Preferred layer by region, bert"]
    assert "Reliability: r = 0.77" in found(profiled()).pictures[0].caption


def test_scores_without_regions_halves_or_a_baseline_have_a_section_too() -> None:
    lacking = [name for name in profiled() if re.search("region|reliability|gain", str(name))]
    bare = profiled().drop_vars([*lacking, "profile_region"])
    section_ = found(bare)
    assert section_.pictures == ()
    assert "gain" not in " ".join(section_.tables[0][1].headers)
    assert "halves" not in " ".join(section_.paragraphs)


def test_each_subject_is_listed_with_each_space() -> None:
    (_, table) = found(profiled(("gpt2", "bert"))).folded[0]
    rows = cells(table)
    assert len(rows) == 10
    assert rows[0] == {
        "subject": "s0",
        "layers of": "gpt2",
        "nested r": "0.210",
        "depth chosen": "0.500",
        "nested gain": "0.012",
        "halves agree, r": "0.800",
    }


def test_single_layers_have_no_section() -> None:
    scores = Scores()
    scores.attrs = {"answers": {"profile": {"spaces": []}}}
    assert section(scores) is None
