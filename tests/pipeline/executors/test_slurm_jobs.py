"""How units become jobs: none lost, none twice, no more jobs than allowed, of about the duration that was asked for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.pipeline.executors.slurm_jobs import OPERATIONS_PER_S, UNIT_S, Ask, arrays_of, grouped
from brainalign.pipeline.plan import STAGES, Cost, Unit

CPUS = dict.fromkeys(STAGES, 1)


def unit(number: int, stage: str = "fit", operations: float = 0.0) -> Unit:
    return Unit(f"{stage}-{number}", stage, "", (f"{number}",), cost=Cost(operations=operations))


@st.composite
def units(draw: st.DrawFn) -> list[Unit]:
    found = []
    for stage in STAGES:
        costs = draw(st.lists(st.sampled_from([0.0, 1e10, 1e12, 1e14]), max_size=25))
        found += [unit(number, stage, cost) for number, cost in enumerate(costs)]
    return found


@given(units(), st.floats(0.1, 600), st.integers(1, 30), st.one_of(st.just(math.inf), st.integers(1, 40)))
def test_every_unit_is_in_one_job_and_there_are_no_more_jobs_than_allowed(
    units: list[Unit], job_min: float, max_jobs: int, room: float
) -> None:
    asks = {one.id: Ask(4.0 * (1 + number % 2), 60) for number, one in enumerate(units)}
    arrays = arrays_of(units, asks, CPUS, job_min, max_jobs, room)
    handed = [one for array in arrays for job in array.jobs for one in job]
    assert len(handed) == len(set(handed))
    assert all(job for array in arrays for job in array.jobs)
    assert all(
        asks[one] == array.ask and one.startswith(array.stage) for array in arrays for job in array.jobs for one in job
    )
    assert sum(len(array.jobs) for array in arrays) <= room
    for stage in STAGES:
        # Two kinds of asks get one job each at least.
        assert sum(len(array.jobs) for array in arrays if array.stage == stage) <= max(2, max_jobs)
    if room == math.inf:
        assert set(handed) == {one.id for one in units}
    elif units:
        assert handed, "a round that hands over nothing would never end"


@given(units(), st.integers(1, 40))
def test_without_room_for_all_stages_the_first_ones_come_first(units: list[Unit], room: int) -> None:
    asks = {one.id: Ask(4.0, 60) for one in units}
    stages = [array.stage for array in arrays_of(units, asks, CPUS, 1.0, 10, room)]
    present = [stage for stage in STAGES if any(one.stage == stage for one in units)]
    assert stages == present[: len(stages)]


@pytest.mark.parametrize("job_min", [5.0, 30.0, 120.0])
def test_jobs_last_as_long_as_asked_for(job_min: float) -> None:
    seconds = 60.0
    units = [unit(number, operations=seconds * OPERATIONS_PER_S) for number in range(1000)]
    jobs = grouped(units, job_min, most=10_000)
    lasting = [len(job) * (seconds + UNIT_S) / 60 for job in jobs]
    assert job_min * 0.75 < min(lasting) <= max(lasting) < job_min * 1.25


def test_a_stage_that_lasts_seconds_is_one_job() -> None:
    assert len(grouped([unit(number, operations=1e9) for number in range(100)], job_min=30, most=100)) == 1


def test_more_cores_make_longer_jobs() -> None:
    units = [unit(number, operations=1e13) for number in range(100)]
    assert len(grouped(units, 30, 100, cpus=8)) < len(grouped(units, 30, 100, cpus=1))


def test_units_of_unknown_cost_are_spread_over_a_handful_of_jobs() -> None:
    assert {len(job) for job in grouped([unit(number) for number in range(80)], job_min=30, most=100)} == {10}
