"""What the report says of ceilings: where they come from, how many can be used, and how near scores come."""

from __future__ import annotations

import numpy as np

from brainalign.report.html import Section
from brainalign.report.sections.ceiling import section
from brainalign.types import Scores

REPEATS = "explainable variance of 3 presentations, 240 samples, 2 stimuli"
SUBJECTS = "inter-subject correlation of 4 subjects, 240 samples"


def with_ceiling(**variables: object) -> Scores:
    status = np.array(["ok", "ok", "low", "undefined", "not significant"])
    given = {
        "ceiling": ("target", [0.4, 0.6, 0.1, np.nan, 0.3]),
        "ceiling_status": ("target", status),
        "r_over_ceiling_aggregate": ("layer", [0.25, 0.5]),
        "r_over_ceiling_low": ("layer", [0.2, np.nan]),
        "r_over_ceiling_high": ("layer", [0.3, np.nan]),
    }
    coords = {
        "feature_space": ("layer", ["toy", "toy"]), "layer_name": ("layer", ["embedding", "layer 1"]),
        "layer_index": ("layer", [0, 1]), "depth": ("layer", [0.0, 1.0]), "subject": ("target", list("aaabb")),
    }  # fmt: skip
    answer = {"sources": {"a": REPEATS, "b": SUBJECTS}, "resampled": ["folds", "subjects"]}
    return Scores({**given, **variables}, coords=coords, attrs={"answers": {"ceiling": answer}})


def text_of(found: Section) -> str:
    return "\n".join(found.paragraphs)


def test_the_sources_and_the_targets_left_out_are_named() -> None:
    text = text_of(section(with_ceiling()))
    assert REPEATS in text
    assert SUBJECTS in text
    assert "2 of 5 targets have a usable ceiling, of median r = 0.500" in text
    assert "1 at most the threshold, 1 undefined, 1 not significant" in text


def test_each_layer_s_share_of_the_ceiling_stands_with_its_interval() -> None:
    found = section(with_ceiling())
    ((caption, table),) = found.tables
    assert "bootstrap over folds and subjects" in caption
    (_, rows), = table.groups  # fmt: skip
    assert rows[0] == ("embedding", "0.250", "0.200 to 0.300")
    assert rows[1][1] == "0.500"
    assert not any(character.isdigit() for character in rows[1][2])


def test_what_others_predict_is_no_upper_bound() -> None:
    values = ("target", [0.2, 0.4, 0.3, np.nan, 0.3])
    text = text_of(section(with_ceiling(isc_leave_one_out=values)))
    assert "the correlation of a subject with the mean of the others, on average 0.300" in text
    assert "None of these is an upper bound" in text
    assert "ridge" not in text
    assert "with r = 0.300" in text_of(section(with_ceiling(isc_leave_one_out=values, r_from_others=values)))


def test_without_any_usable_ceiling_no_score_is_said_to_be_divided() -> None:
    nothing = ("target", np.full(5, "undefined"))
    text = text_of(section(with_ceiling(ceiling_status=nothing, ceiling=("target", np.full(5, np.nan)))))
    assert "No target has a usable ceiling (5 undefined)" in text


def test_where_there_is_no_ceiling_the_section_says_so() -> None:
    found = section(with_ceiling().drop_vars("ceiling"))
    assert "No subject has a ceiling" in text_of(found)
    assert found.tables == ()
