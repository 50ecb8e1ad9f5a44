"""Sections of the report: each can be found, and stands where its question was asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from studies import MODEL, planted_fmri

from brainalign import questions
from brainalign.pipeline import score_layers
from brainalign.pipeline.results import open_scores, save_scores
from brainalign.registry import QUESTIONS, find
from brainalign.report.sections import SECTIONS, sections_of
from brainalign.report.sections.naming import layer_names
from brainalign.types import Scores


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_is_there_and_answers_a_question(name: str) -> None:
    assert callable(find(name, SECTIONS, "section"))
    assert name in QUESTIONS


def test_every_question_has_a_section() -> None:
    assert set(QUESTIONS) == set(SECTIONS)


def test_scores_without_answers_have_no_sections() -> None:
    assert sections_of(Scores()) == []


@pytest.mark.filterwarnings("ignore")
def test_sections_are_read_from_the_file_in_the_order_of_the_report(tmp_path: Path) -> None:
    asked = [questions.Tests(permutations=20, min_shift_s=10.0), questions.Ceiling(n_bootstrap=20)]
    scores = score_layers(planted_fmri(2, layers=(2, -1)), MODEL, questions=asked, store=None)
    save_scores(scores, tmp_path / "scores.nc")
    sections = sections_of(open_scores(tmp_path / "scores.nc"))
    titles = [section.title for section in sections]
    assert titles == ["Ceiling", "Tests"]
    assert [section.paragraphs for section in sections] == [section.paragraphs for section in sections_of(scores)]
    for section in sections:
        for _, table in (*section.tables, *section.folded):
            assert all(len(row) == len(table.headers) for _, rows in table.groups for row in rows)


def names_of(spaces: list[str], layers: list[str]) -> list[str]:
    coords = {"feature_space": ("layer", spaces), "layer_name": ("layer", layers)}
    numbers = {"layer_index": ("layer", range(len(spaces))), "depth": ("layer", [0.0] * len(spaces))}
    return layer_names(Scores(coords={**coords, **numbers}))


def test_layers_are_named_with_their_space_only_where_there_are_several() -> None:
    assert names_of(["gpt2", "gpt2"], ["embedding", "layer 1"]) == ["embedding", "layer 1"]
    assert names_of(["gpt2", "other"], ["layer 1", "layer 1"]) == ["gpt2, layer 1", "other, layer 1"]
    assert names_of(["gpt2", "pitch"], ["layer 1", "pitch"]) == ["gpt2, layer 1", "pitch"]
