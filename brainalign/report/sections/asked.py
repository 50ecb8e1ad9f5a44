"""What the report says of each question that was asked: a section each, with its words, tables and pictures."""

from __future__ import annotations

from brainalign.registry import find
from brainalign.report.html import Section
from brainalign.types import Scores

__all__ = ["SECTIONS", "sections_of"]

SECTIONS = {
    "ceiling": "brainalign.report.sections.ceiling:section",
    "ladder": "brainalign.report.sections.ladder:section",
    "tests": "brainalign.report.sections.tests:section",
    "profile": "brainalign.report.sections.profile:section",
    "partition": "brainalign.report.sections.partition:section",
    "forecast": "brainalign.report.sections.forecast:section",
    "compare": "brainalign.report.sections.compare:section",
    "decoding": "brainalign.report.sections.decoding:section",
}


def sections_of(scores: Scores) -> list[Section]:
    """The sections of the questions that these scores have answers to."""
    asked = scores.attrs.get("answers", {})
    found = (find(name, SECTIONS, "section")(scores) for name in SECTIONS if name in asked)
    return [section for section in found if section is not None]
