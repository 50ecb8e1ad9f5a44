"""A study is cut into units so that nothing is left out and nothing is done twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import MODEL, heard, planted_fmri, stories

from brainalign.datasets import load_dataset
from brainalign.features import Named, ToyModel
from brainalign.pipeline.study import Study
from brainalign.pipeline.units import MOST_TOGETHER, _parts, units_of
from brainalign.questions import Ceiling, Ladder
from brainalign.questions import Tests as SurrogateTests

OTHER = Named("other", ToyModel(n_layers=1, dimension=3, seed=4))


@given(st.integers(1, 400), st.integers(1, 64))
def test_each_subject_is_in_one_group_and_there_are_as_many_as_asked(n_subjects: int, n_workers: int) -> None:
    group = [f"s{i}" for i in range(n_subjects)]
    parts = list(_parts(group, n_workers))
    assert [subject for part in parts for subject in part] == group
    sizes = [len(part) for part in parts]
    assert min(sizes) > 0
    assert max(sizes) <= MOST_TOGETHER
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) >= min(n_workers, n_subjects)
    # And no more than that, but where a group would be too large.
    assert len(parts) == max(min(n_workers, n_subjects), -(-n_subjects // MOST_TOGETHER))


ASKED = (Ceiling(), Ladder(), SurrogateTests())


@pytest.fixture(scope="module")
def study() -> Study:
    data = planted_fmri(n_subjects=5)
    return Study.of(data, [MODEL, OTHER], questions=ASKED)


@settings(deadline=None, max_examples=20)
@given(n_workers=st.integers(1, 9))
def test_every_result_of_a_study_is_of_one_unit(study: Study, n_workers: int) -> None:
    plan = units_of(study, n_workers)
    keys = Counter(key for unit in plan.units for key in unit.keys)
    assert set(keys.values()) == {1}
    assert len({unit.id for unit in plan.units}) == len(plan.units)
    assert Counter(unit.stage for unit in plan.units)["extract"] == len(study.spaces) * len(study.stimuli)
    fitted = Counter((unit.space, subject) for unit in plan.of("fit") for subject in unit.subjects)
    assert fitted == {(space.name, subject): 1 for space in study.spaces for subject in study.subjects}
    asked = Counter((unit.question, *unit.subjects, unit.space) for unit in plan.of("answer"))
    together = {(section, subject, ""): 1 for section in ("ceiling", "ladder") for subject in study.subjects}
    # Tests take longest by far: each space is a unit of its own.
    apart = {("tests", subject, space.name): 1 for space in study.spaces for subject in study.subjects}
    assert asked == together | apart


@pytest.mark.parametrize(("n_spaces", "n_groups"), [(1, 8), (3, 8), (6, 4), (100, 1)])
def test_where_there_are_many_spaces_subjects_share_more(n_spaces: int, n_groups: int) -> None:
    """Eight workers and eight subjects: with spaces enough nobody is fitted alone to keep a worker busy."""
    spaces = [Named(f"space {k}", replace(MODEL, seed=k)) for k in range(n_spaces)]
    plan = units_of(Study.of(planted_fmri(n_subjects=8), spaces), n_workers=8)
    assert len(plan.of("fit")) == n_spaces * n_groups


def test_how_subjects_are_grouped_changes_no_key(study: Study) -> None:
    keys = [{key for unit in units_of(study, n).units for key in unit.keys} for n in (1, 2, 5)]
    assert keys[0] == keys[1] == keys[2]


def test_the_same_study_has_the_same_units_in_another_process(study: Study) -> None:
    again = Study.of(
        planted_fmri(n_subjects=5),
        [MODEL, OTHER],
        questions=ASKED,
    )
    assert units_of(again, 3) == units_of(study, 3)


def test_subjects_who_heard_other_stories_are_fitted_apart() -> None:

    stimuli = stories()
    data = heard(["a", "b", "c"], stimuli, lambda subject, *_: np.ones((60, 2 if subject == "b" else 3)))
    plan = units_of(Study.of(data, MODEL), n_workers=1)
    assert {unit.subjects for unit in plan.of("fit")} == {("a", "c"), ("b",)}


def test_the_grouped_are_named_in_words() -> None:
    data = load_dataset("simulated", options={"n_subjects": 4, "n_runs": 3, "n_words": 100})
    about = [unit.about for unit in units_of(Study.of(data, MODEL), 1).of("fit")]
    assert len(about) == 1
    assert about[0].startswith("fit ToyModel, subjects ")
    assert " to " in about[0]
