"""The section on representational alignment says what was compared, and no p without its test and its permutations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from one_planted_layer import planted_data, three_layers

from brainalign.pipeline import score_layers
from brainalign.questions.compare import Compare
from brainalign.report.html import Section, Table
from brainalign.report.sections import sections_of
from brainalign.report.sections.compare import MEASURES, section
from brainalign.types import Scores

pytestmark = pytest.mark.filterwarnings("ignore::brainalign.errors.DataWarning", "ignore::brainalign.errors.FitWarning")

ALL = tuple(MEASURES)


def asked(n_subjects: int, question: Compare) -> Scores:
    return score_layers(planted_data(n_subjects), three_layers, baseline=(), questions=[question], store=None)


@pytest.fixture(scope="module")
def scores() -> Scores:
    return asked(2, Compare(measures=ALL, n_components=5, permutations=49))


def made(scores: Scores) -> Section:
    found = section(scores)
    assert found is not None
    return found


def rows(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.headers, row, strict=True)) for _, group in table.groups for row in group]


def test_every_measure_has_a_table_a_panel_and_one_of_each_subject(scores: Scores) -> None:
    found = made(scores)
    assert found.title == "Representational alignment"
    assert [title.split(" (")[0].split(", mean")[0].lower() for title, _ in found.tables] == [
        name.lower() for name in MEASURES.values()
    ]
    assert all(table.n_rows == 3 for _, table in found.tables)
    assert all(table.n_rows == 6 for _, table in found.folded)
    assert len(found.pictures) == 1
    assert sections_of(scores) == [found]


def test_numbers_are_those_of_the_scores(scores: Scores) -> None:
    (_, table), *_ = made(scores).tables
    planted = rows(table)[1]
    assert planted["mean"] == f"{float(scores.compare_group_mean[0, 1]):.3f}"
    assert planted["shifted: mean"].lstrip("\N{MINUS SIGN}") == f"{abs(float(scores.compare_group_chance[0, 1])):.3f}"
    assert planted["p circular shift (49 permutations)"] == "\N{LESS-THAN OR EQUAL TO} .020"
    (_, each), *_ = made(scores).folded
    assert rows(each)[4] == rows(each)[4] | {
        "subject": "s1",
        "layer": "layer 1",
        "value": f"{float(scores.compare_value[0, 1, 1]):.3f}",
    }


def test_p_values_stand_with_test_permutations_and_family(scores: Scores) -> None:
    found = made(scores)
    text = " ".join(found.paragraphs)
    told = ("circularly shifted", "49 permutations", "at least 10 samples", "one-sided", "a family for each measure")
    assert all(said in text for said in told)
    for _, table in (*found.tables, *found.folded):
        assert all("circular shift (49 permutations)" in name for name in table.headers if name.startswith("p "))
    bands = scores.compare_band.values
    band = f"{bands.min():.0f} to {bands.max():.0f}" if np.ptp(bands) else f"{bands.max():.0f}"
    assert f"less than {band} samples apart (until rows no longer resemble each other)" in text
    assert "5 principal components of each side at most" in text


def test_a_single_subject_has_neither_an_interval_nor_a_family_of_subjects() -> None:
    found = made(asked(1, Compare(permutations=30)))
    assert not any("interval" in name for name in found.tables[0][1].headers)
    assert not any("mean over subjects has a p" in paragraph for paragraph in found.paragraphs)
    assert "A single subject" in found.pictures[0].caption
    assert "turned onto each other" not in " ".join(found.paragraphs), "nothing is fitted for cka"


def test_without_permutations_there_is_no_p_and_the_section_says_so() -> None:
    found = made(asked(2, Compare(permutations=0, band=4, standardise=False)))
    for _, table in (*found.tables, *found.folded):
        assert not any(name.startswith(("p ", "q ", "shifted")) for name in table.headers)
    text = " ".join(found.paragraphs)
    assert "There were no shifts" in text
    assert "less than 4 samples apart (as asked for)" in text
    assert "centred only" in text
    assert "Grey" not in found.pictures[0].caption


@pytest.mark.parametrize("change", [lambda s: s.drop_vars("compare_value"), lambda s: s.where(False)])
def test_where_nothing_was_compared_there_is_no_section(scores: Scores, change: Any) -> None:
    bare = change(scores.copy())
    bare.attrs = scores.attrs
    assert section(bare) is None
    assert np.isfinite(scores.compare_value).all()
