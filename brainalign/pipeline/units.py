"""How a study is cut into units of work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product

from brainalign.files import digest_of
from brainalign.pipeline.answers import asked_apart, key_of_answer
from brainalign.pipeline.costs import Costs
from brainalign.pipeline.extraction import key_of_features, stimulus_digest
from brainalign.pipeline.fit import shareable
from brainalign.pipeline.plan import Plan, Unit
from brainalign.pipeline.study import Study
from brainalign.types import Stimulus, StimulusPart

__all__ = ["units_of"]

# Subjects of one unit: with more, what they share is a small part of the work, and much is lost with the unit.
MOST_TOGETHER = 16
# Fits for each worker, where there are feature spaces enough: so many that none is left without for long.
EACH_WORKER = 3


def units_of(study: Study, n_workers: int) -> Plan:
    """Cut a study into units.

    Parameters
    ----------
    study : Study
    n_workers : int
        How many units are to be done side by side. Subjects who may share a design are fitted in groups: as few as give
        each worker some, since what they share is then done once. How they are grouped changes no score.

    Examples
    --------
    >>> from brainalign.datasets import load_dataset
    >>> from brainalign.features import ToyModel
    >>> data = load_dataset("simulated", options={"n_subjects": 3, "n_runs": 3, "n_words": 200})
    >>> [unit.about for unit in units_of(Study.of(data, ToyModel(n_layers=2)), n_workers=2).units][-2:]
    ['fit ToyModel, subject 01', 'fit ToyModel, subjects 02 and 03']
    """
    costs = Costs(study)
    return Plan((*_extractions(study, costs), *_fits(study, costs, n_workers), *_answers(study, costs)))


def _extractions(study: Study, costs: Costs) -> Iterator[Unit]:
    known: dict[tuple[str, tuple[StimulusPart, ...]], str] = {}

    def digest(stimulus: Stimulus, parts: tuple[StimulusPart, ...]) -> str:
        # The same for all spaces that depend on the same parts.
        if (stimulus.id, parts) not in known:
            known[stimulus.id, parts] = stimulus_digest(stimulus, parts)
        return known[stimulus.id, parts]

    for space in study.spaces:
        for name, stimulus in study.stimuli.items():
            key = key_of_features(space, stimulus, study.fingerprints[space.name], digest)
            yield Unit(
                _id("extract", key),
                "extract",
                f"extract {space.name}, stimulus {name}",
                (key,),
                space=space.name,
                stimulus=name,
                cost=costs.of_extraction(space, stimulus),
            )


def _fits(study: Study, costs: Costs, n_workers: int) -> Iterator[Unit]:
    n_groups = min(n_workers, -(-EACH_WORKER * n_workers // len(study.spaces)))
    groups = [part for group in shareable(study.subjects) for part in _parts(group, n_groups)]
    for space in study.spaces:
        for subjects in groups:
            keys = tuple(study.keys_of_fits[space.name][subject] for subject in subjects)
            yield Unit(
                _id("fit", *keys),
                "fit",
                f"fit {space.name}, {_named(subjects)}",
                keys,
                space=space.name,
                subjects=tuple(subjects),
                cost=costs.of_fit(space, subjects),
            )


def _parts(group: Sequence[str], n_groups: int) -> Iterator[Sequence[str]]:
    """So many parts, or more where one would have too many subjects; as equal as can be."""
    n_parts = max(-(-len(group) // MOST_TOGETHER), min(n_groups, len(group)))
    edges = [len(group) * part // n_parts for part in range(n_parts + 1)]
    yield from (group[start:stop] for start, stop in pairwise(edges))


def _answers(study: Study, costs: Costs) -> Iterator[Unit]:
    for question in study.questions:
        for subject, space in product(study.subjects, asked_apart(study, question)):
            key = key_of_answer(study, question, subject, space)
            yield Unit(
                _id("answer", key),
                "answer",
                f"{question.section}, subject {subject}" + (f", {space}" if space else ""),
                (key,),
                space=space or "",
                subjects=(subject,),
                question=question.section,
                cost=costs.of_answer(question, subject, space),
            )


def _id(stage: str, *keys: str) -> str:
    return f"{stage}-{digest_of({'keys': keys})[:16]}"


def _named(subjects: Sequence[str]) -> str:
    if len(subjects) == 1:
        return f"subject {subjects[0]}"
    return f"subjects {subjects[0]} {'and' if len(subjects) == 2 else 'to'} {subjects[-1]}"
