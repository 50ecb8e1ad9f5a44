"""What a plan says of its units: what is done, what may be begun, what waits for what."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.files import digest_of
from brainalign.pipeline.plan import STAGES, Cost, Plan, Unit
from brainalign.store import Store


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Feature spaces of some stimuli each, groups of subjects and questions."""
    made = []
    subjects = [f"s{i}" for i in range(draw(st.integers(1, 4)))]
    for space in "ab"[: draw(st.integers(1, 2))]:
        for stimulus in range(draw(st.integers(0, 3))):
            made.append(Unit(f"extract-{space}{stimulus}", "extract", "", (f"{space}{stimulus}",), space))
        for subject in subjects:
            made.append(Unit(f"fit-{space}-{subject}", "fit", "", (f"{space}{subject}",), space, subjects=(subject,)))
    for subject in subjects[: draw(st.integers(0, 4))]:
        made.append(Unit(f"answer-{subject}", "answer", "", (f"q{subject}",), question="q", subjects=(subject,)))
    return Plan(tuple(draw(st.permutations(made))))


@given(plans(), st.data())
def test_what_is_ready_waits_for_nothing_that_is_not_done(plan: Plan, data: st.DataObject) -> None:
    done = {unit.id for unit in plan.units if data.draw(st.booleans())}
    for stage in STAGES:
        ready = {unit.id for unit in plan.ready(stage, done)}
        expected = {
            unit.id
            for unit in plan.of(stage)
            if unit.id not in done and all(need.id in done for need in plan.needs(unit))
        }
        assert ready == expected


@given(plans())
def test_stage_after_stage_all_become_ready(plan: Plan) -> None:
    done: set[str] = set()
    for stage in STAGES:
        done |= {unit.id for unit in plan.ready(stage, done)}
    assert done == {unit.id for unit in plan.units}


@given(plans())
def test_each_unit_is_of_one_stage_in_the_order_of_the_plan(plan: Plan) -> None:
    staged = [unit for stage in STAGES for unit in plan.of(stage)]
    assert sorted(unit.id for unit in staged) == sorted(unit.id for unit in plan.units)
    for stage in STAGES:
        assert plan.of(stage) == [unit for unit in plan.units if unit.stage == stage]


@given(plans())
def test_a_fit_needs_the_features_of_its_space_alone_and_an_answer_all_fits(plan: Plan) -> None:
    for unit in plan.units:
        needs = {need.id for need in plan.needs(unit)}
        if unit.stage == "extract":
            assert needs == set()
        elif unit.stage == "fit":
            assert needs == {other.id for other in plan.of("extract") if other.space == unit.space}
        else:
            assert needs == {other.id for other in plan.of("fit")}


COSTS = st.builds(Cost, *[st.floats(0, 1e18)] * 3)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.text(), st.lists(st.text(), max_size=3), COSTS), max_size=4))
def test_a_plan_survives_json(parts: list[tuple[str, list[str], Cost]]) -> None:
    units = [
        Unit(f"fit-{i}", "fit", about, tuple(keys), "s", "", tuple(keys), "", cost)
        for i, (about, keys, cost) in enumerate(parts)
    ]
    plan = Plan(tuple(units))
    assert Plan.from_json(json.loads(json.dumps(plan.as_json()))) == plan


def test_a_unit_is_done_once_all_its_keys_are_there_whoever_put_them() -> None:
    store, keys = Store(), [digest_of({"subject": i}) for i in range(2)]
    unit = Unit("fit-1", "fit", "", tuple(keys), "s", subjects=("one", "two"))
    plan = Plan((unit,))
    assert plan.done(store) == set()
    store.put(keys[0], {}, {})
    assert plan.done(store) == set()
    store.put(keys[1], {}, {})
    assert plan.done(store) == {"fit-1"}
