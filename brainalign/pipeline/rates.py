"""How fast units are done here: operations a second, learnt from those that are done, or else measured in a moment."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from brainalign.pipeline.journal import Event
from brainalign.pipeline.plan import STAGES, Plan, Stage, Unit

__all__ = ["Rate", "core_hours", "known_rates", "measured_rate", "seconds_left"]

# Rows and columns of what is multiplied, and seconds at least for which it is.
SIZE, MEASURED_S = 512, 0.05
# What work as it is reaches of what large products do: much of it is smaller products, in float64, and reading.
SHARE_OF_PRODUCTS = 0.15


@dataclass(frozen=True)
class Rate:
    """Operations per second.

    Parameters
    ----------
    core : float
        Of processor time, that of all threads together.
    worker : float
        As the clock goes, of one process with all its threads.
    """

    core: float
    worker: float


def known_rates(plan: Plan, events: Mapping[str, Event]) -> dict[Stage, Rate]:
    """The rates of those stages of which units are done and told how long they took."""
    return {stage: rate for stage in STAGES if (rate := _rate_of(plan.of(stage), events)) is not None}


def _rate_of(units: Iterable[Unit], events: Mapping[str, Event]) -> Rate | None:
    operations = cpu_s = wall_s = 0.0
    for unit in units:
        event = events.get(unit.id)
        if event is None or event.kind != "done":
            continue
        took_s = float(event.facts.get("seconds", 0.0))
        operations += unit.cost.operations
        wall_s += took_s
        cpu_s += float(event.facts.get("cpu_s", took_s))
    if min(operations, cpu_s, wall_s) <= 0:
        return None
    return Rate(operations / cpu_s, operations / wall_s)


def measured_rate(n_threads: int = 1) -> Rate:
    """What products of float32 matrices say of this machine, less what work loses against them; in a tenth of a second.

    Parameters
    ----------
    n_threads : int
        Of a worker.
    """
    from threadpoolctl import threadpool_limits

    values = np.random.default_rng(0).standard_normal((SIZE, SIZE), dtype=np.float32)
    with threadpool_limits(1):
        _ = values @ values
        n_products, started = 0, time.process_time()
        while time.process_time() - started < MEASURED_S:
            _ = values @ values
            n_products += 1
        core = SHARE_OF_PRODUCTS * n_products * 2.0 * SIZE**3 / (time.process_time() - started)
    return Rate(core, core * n_threads)


def core_hours(units: Iterable[Unit], rates: Mapping[Stage, Rate], otherwise: Rate) -> float:
    """Hours that one core takes for these units; `otherwise` is the rate of stages of which none is known."""
    return sum(unit.cost.operations / rates.get(unit.stage, otherwise).core for unit in units) / 3600


def seconds_left(
    units: Iterable[Unit],
    rates: Mapping[Stage, Rate],
    otherwise: Rate,
    n_workers: int,
    together: Iterable[Iterable[str]] = (),
) -> float:
    """Seconds by the clock until these units are done by so many workers: stages one after the other.

    No stage ends before its longest unit does, or its longest job: `together` are the ids of units that are done one
    after the other.
    """
    job_of = {unit: number for number, ids in enumerate(together) for unit in ids}
    by_stage: dict[Stage, dict[int | str, float]] = {}
    for unit in units:
        jobs, job = by_stage.setdefault(unit.stage, {}), job_of.get(unit.id, unit.id)
        jobs[job] = jobs.get(job, 0.0) + unit.cost.operations / rates.get(unit.stage, otherwise).worker
    return sum(max(*jobs.values(), sum(jobs.values()) / max(1, n_workers)) for jobs in by_stage.values())
