"""Which units go together into one job, and what it asks for: jobs should last minutes to hours, not seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from brainalign.pipeline.plan import Stage, Unit

__all__ = ["Array", "Ask", "arrays_of", "grouped"]

# What a core does in a second, roughly, in float32; a job that lasts half or twice as long as meant does no harm.
OPERATIONS_PER_S = 1e10
# What any unit takes beside its operations: files, a log, a line in the journal.
UNIT_S = 1.0
# Jobs of a stage whose cost is not known.
HANDFUL = 8


@dataclass(frozen=True)
class Ask:
    """What a job asks for: memory, and time at most."""

    memory_gb: float
    time_min: int


@dataclass(frozen=True)
class Array:
    """Jobs of one stage that ask for the same.

    Parameters
    ----------
    stage : {"extract", "fit", "answer"}
    ask : Ask
    jobs : tuple of tuple of str
        The ids of each job's units.
    """

    stage: Stage
    ask: Ask
    jobs: tuple[tuple[str, ...], ...]


def arrays_of(
    units: Sequence[Unit],
    asks: Mapping[str, Ask],
    cpus: Mapping[Stage, int],
    job_min: float,
    max_jobs: int,
    room: float = math.inf,
) -> list[Array]:
    """Put units into arrays of jobs, stage after stage.

    Parameters
    ----------
    units : sequence of Unit
        In the order of their stages.
    asks : mapping of unit id -> Ask
    cpus : mapping of stage -> int
        The cores of a job.
    job_min : float
        How long a job should last, in minutes.
    max_jobs : int
        Jobs of a stage at most.
    room : float
        Jobs in all at most; where there is none for a later stage, its units are left out.
    """
    batches = [(key, list(those)) for key, those in groupby(_sorted(units, asks), lambda u: (u.stage, asks[u.id]))]
    n_of_stage = {stage: sum(unit.stage == stage for unit in units) for stage in cpus}
    jobs = {}
    for (stage, ask), those in batches:
        most = max(1, max_jobs * len(those) // n_of_stage[stage])
        jobs[stage, ask] = (those, len(grouped(those, job_min, most, cpus[stage])))
    share = min(1.0, room / max(1, sum(n_jobs for _, n_jobs in jobs.values())))
    found = []
    for (stage, ask), (those, n_jobs) in jobs.items():
        most = min(max(1, int(share * n_jobs)), room - sum(len(array.jobs) for array in found))
        if most >= 1:
            groups = grouped(those, job_min, int(most), cpus[stage])
            found.append(Array(stage, ask, tuple(tuple(unit.id for unit in group) for group in groups)))
    return found


def _sorted(units: Sequence[Unit], asks: Mapping[str, Ask]) -> list[Unit]:
    """Units of a stage that ask for the same one after the other, else in their order."""
    place = {ask: number for number, ask in enumerate(dict.fromkeys(asks[unit.id] for unit in units))}
    stages = {stage: number for number, stage in enumerate(dict.fromkeys(unit.stage for unit in units))}
    return sorted(units, key=lambda unit: (stages[unit.stage], place[asks[unit.id]]))


def grouped(units: Sequence[Unit], job_min: float, most: int, cpus: int = 1) -> list[list[Unit]]:
    """Cut units into at most so many groups of about the same duration; neighbours stay together.

    Examples
    --------
    >>> from brainalign.pipeline.plan import Cost
    >>> units = [Unit(f"fit-{k}", "fit", "", ("",), cost=Cost(operations=3e12)) for k in range(10)]
    >>> [len(group) for group in grouped(units, job_min=20, most=100)]
    [3, 4, 3]
    """
    seconds = [UNIT_S + unit.cost.operations / (OPERATIONS_PER_S * cpus) for unit in units]
    is_known = any(unit.cost.operations for unit in units)
    wanted = math.ceil(sum(seconds) / (60 * job_min)) if is_known else HANDFUL
    n_jobs = max(1, min(wanted, most, len(units)))
    # Where the middle of each unit falls on the way from the first one's beginning to the last one's end.
    middles = [end - own / 2 for end, own in zip(accumulate(seconds), seconds, strict=True)]
    numbers = [int(n_jobs * middle / sum(seconds)) for middle in middles]
    pairs = groupby(zip(numbers, units, strict=True), lambda pair: pair[0])
    return [[unit for _, unit in those] for _, those in pairs]
