"""What units are expected to cost: operations, memory and disk, from what is known before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from brainalign.pipeline.plan import Cost
from brainalign.pipeline.study import Study
from brainalign.questions import Question
from brainalign.types import Extractor, Stimulus

__all__ = ["cost_of_answer", "cost_of_extraction", "cost_of_fit"]


def cost_of_extraction(space: Extractor, stimulus: Stimulus) -> Cost:
    """What a stimulus's features cost."""
    return Cost()


def cost_of_fit(study: Study, space: Extractor, subjects: Sequence[str]) -> Cost:
    """What fitting some subjects to a feature space costs."""
    return Cost()


def cost_of_answer(study: Study, question: Question, subject: str) -> Cost:
    """What answering a question about a subject costs."""
    return Cost()
