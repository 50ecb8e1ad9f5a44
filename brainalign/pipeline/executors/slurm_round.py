"""Rounds of jobs: all that is missing is handed over; after it, what is still missing is, with more where it lacked.

The job after all others of a round goes on to the next one, so that no process of the user's has to live. What is
done is judged by the store alone; Slurm is asked only why a job ended.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from brainalign import errors
from brainalign.config import executor_of
from brainalign.errors import BrainalignError
from brainalign.files import atomic_path
from brainalign.pipeline.executors.slurm import Slurm, jobs_alive
from brainalign.pipeline.executors.slurm_handed import CANCELLED, STOPPED, HandedJob, read_jobs
from brainalign.pipeline.executors.slurm_jobs import Array, Ask, arrays_of
from brainalign.pipeline.executors.slurm_queue import (
    Ending,
    Limits,
    NoAnswerError,
    TooManyJobsError,
    cancel_jobs,
    endings,
    limits,
    patiently,
    queued,
    room,
)
from brainalign.pipeline.executors.slurm_submission import submit_array, submit_task
from brainalign.pipeline.executors.slurm_tasks import RoundTask
from brainalign.pipeline.journal import Event, latest_events
from brainalign.pipeline.plan import STAGES, Plan, Stage, Unit
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.store import Store

__all__ = ["Round", "conclude", "first_round", "next_round"]

# How long the job between rounds waits for a controller that is away.
PATIENCE_S = 1800.0
# How long a file server may take to show here what another machine has written.
APPEARS_WITHIN_S = 60.0
# What units whose cost is not known ask for; of a known one, so much more.
MEMORY_GB, MEMORY_MARGIN = 4.0, 1.5
# How a unit's memory or time grows after it was found to lack.
GROWTH = 2
WORDS: Mapping[Ending, str] = {
    "memory": "ran out of memory",
    "time": "reached the time limit",
    "preempted": "was preempted",
    "node": "lost its node",
    "cancelled": "was cancelled",
    "killed": "was killed",
}


@dataclass(frozen=True)
class Round:
    """One round of jobs.

    Parameters
    ----------
    retry : int
        Rounds before it that handed over all that was missing, or did nothing.
    first_job : int
        Jobs noted before the first round.
    n_done : int
        Units done when it began.
    is_partial : bool
        Whether there was no room for all that was missing.
    jobs : tuple of str
        The ids of its arrays.
    """

    retry: int
    first_job: int
    n_done: int
    is_partial: bool = False
    jobs: tuple[str, ...] = ()


def first_round(slurm: Slurm, plan: Plan, work: WorkFolder) -> Round:
    """Hand over all units that are not done.

    Raises
    ------
    DataError
        If Slurm refuses.
    """
    missing, asks = _missing(plan), first_asks(slurm, plan)
    begun = Round(0, len(read_jobs(work)), len(plan.units) - len(missing))
    return _hand_over(slurm, plan, work, missing, asks, begun)


def next_round(slurm: Slurm, plan: Plan, work: WorkFolder, before: Round) -> Round | None:
    """Hand over what is still missing; None, and the reason in a file, where that is no use.

    Raises
    ------
    DataError
        If Slurm refuses.
    """
    missing = _missing(plan)
    outlook = Outlook.of(slurm, plan, work, missing, before)
    n_done = len(plan.units) - len(missing)
    # A round that had no room for all is no retry, as long as it gets on.
    retry = before.retry + (not before.is_partial or n_done <= before.n_done)
    lost = outlook.lost(plan)
    again = [unit for unit in missing if unit.id not in lost]
    if retry > slurm.retries or not again:
        _stop(work, outlook.why(plan, work, retry))
        return None
    return _hand_over(slurm, plan, work, again, outlook.asks, Round(retry, before.first_job, n_done))


def conclude(work: WorkFolder, done: Round) -> None:
    """What the job after all others does: write the results, hand over the next round, or say why not."""
    from brainalign.pipeline.execution import finish_in

    plan, slurm = work.read_plan(), executor_of(work.read_facts()["executor"])
    if _is_cancelled(work):
        return
    _wait_for_files(plan, work)
    try:
        if not _missing(plan):
            finish_in(work.folder)
        elif not _wait_for_others(slurm, plan, work, done):
            patiently(lambda: _go_on(slurm, plan, work, done), PATIENCE_S)
    except BrainalignError as error:
        _stop(work, str(error))
        raise
    if _is_cancelled(work):
        cancel_jobs(list(jobs_alive(work)))


def _go_on(slurm: Slurm, plan: Plan, work: WorkFolder, done: Round) -> None:
    # What is there is of an attempt at this that the controller's going away has cut short.
    cancel_jobs(list(jobs_alive(work)))
    next_round(slurm, plan, work, done)


def first_asks(slurm: Slurm, plan: Plan) -> dict[str, Ask]:
    """What the units of each stage ask for at first: what the settings say, or the plan expects."""
    of_stages = {stage: _first_ask(slurm, stage, plan.of(stage)) for stage in STAGES}
    return {unit.id: of_stages[unit.stage] for unit in plan.units}


def _first_ask(slurm: Slurm, stage: str, units: Sequence[Unit]) -> Ask:
    own = slurm.of_stage(stage)
    expected_gb = MEMORY_MARGIN * max((unit.cost.memory_bytes for unit in units), default=0.0) / 1e9
    return Ask(own.memory_gb or max(MEMORY_GB, expected_gb), own.time_min)


@dataclass(frozen=True)
class Outlook:
    """What can be expected of units that are missing after a round.

    Parameters
    ----------
    asks : mapping of unit id -> Ask
        What they would ask for next.
    hopeless : mapping of unit id -> str
        Those that would fail again, and why.
    ended : mapping of unit id -> (HandedJob, Ending)
        The job that each was begun in last, and how that ended.
    """

    asks: Mapping[str, Ask]
    hopeless: Mapping[str, str]
    ended: Mapping[str, tuple[HandedJob, Ending]]

    @classmethod
    def of(cls, slurm: Slurm, plan: Plan, work: WorkFolder, missing: Sequence[Unit], before: Round) -> Outlook:
        """Look at the journal, the jobs and what Slurm says of them."""
        handed = read_jobs(work)[before.first_job :]
        last = {unit: job for job in handed for unit in job.units}
        events = latest_events(work.journal)
        jobs = list({last[unit.id].id: last[unit.id] for unit in missing if unit.id in last}.values())
        how = endings(jobs)
        asks, hopeless, ended = first_asks(slurm, plan), {}, {}
        allowed = {stage: limits(slurm.of_stage(stage).partition) for stage in {unit.stage for unit in missing}}
        for unit in missing:
            if (job := last.get(unit.id)) is None:
                continue
            # All units of the job are alike: others lack what the one lacked in which it ended.
            asked, event = Ask(job.memory_gb, job.time_min), events.get(unit.id)
            is_begun = event is not None and event.facts.get("job", job.id) == job.id
            ending: Ending = "memory" if is_begun and event.facts.get("error") == "MemoryError" else how[job.id]
            grown = grown_ask(asked, ending, allowed[unit.stage])
            asks[unit.id] = grown or asked
            if not is_begun:
                continue
            ended[unit.id] = job, ending
            if _is_mendable(event):
                hopeless[unit.id] = str(event.facts.get("why", ""))
            elif grown is None:
                hopeless[unit.id] = f"its job {job.id} {WORDS[ending]}, with all that the partition allows"
        return cls(asks, hopeless, ended)

    def lost(self, plan: Plan) -> set[str]:
        """The ids of the units that cannot be done: hopeless ones, and those that wait for them."""
        found = set(self.hopeless)
        for stage in STAGES:
            spoilt = set(found)
            found |= {unit.id for unit in plan.of(stage) if any(need.id in spoilt for need in plan.needs(unit))}
        return found

    def why(self, plan: Plan, work: WorkFolder, retry: int) -> str:
        """Why there is no further round, in at most three lines."""
        about = {unit.id: unit.about for unit in plan.units}
        n_missing = len(_missing(plan))
        begun = f"{n_missing} of {len(plan.units)} units are not done after {retry} round{'s' * (retry != 1)} of jobs."
        if self.hopeless:
            unit, why = next(iter(self.hopeless.items()))
            said = f"{len(self.hopeless)} failed in a way that has to be mended, {about[unit]}: {why}"
        elif self.ended:
            unit, (job, ending) = next(iter(self.ended.items()))
            said = f"The last job of {about[unit]}, {job.id}, {WORDS[ending]}; what it printed: {job.log}"
        else:
            unit, said = next(iter(about)), "No job got to begin any of them."
        return f"{begun}\n{said}\nMend it and run again; what is done stays. Logs: {work.log_of(unit).parent}"


def grown_ask(ask: Ask, ending: Ending, allowed: Limits) -> Ask | None:
    """What a unit asks for after a job of it ended like this; None where it cannot be given what it lacked.

    Examples
    --------
    >>> grown_ask(Ask(4.0, 60), "memory", Limits(1001, 6.0, 1440.0))
    Ask(memory_gb=6.0, time_min=60)
    >>> grown_ask(Ask(6.0, 60), "memory", Limits(1001, 6.0, 1440.0)) is None
    True
    """
    if ending == "memory":
        memory_gb = min(GROWTH * ask.memory_gb, allowed.memory_gb)
        return replace(ask, memory_gb=memory_gb) if memory_gb > ask.memory_gb else None
    if ending == "time":
        time_min = int(min(GROWTH * ask.time_min, allowed.time_min))
        return replace(ask, time_min=time_min) if time_min > ask.time_min else None
    return ask


def _is_mendable(event: Event) -> bool:
    """Whether a unit failed with an error that the user has to mend."""
    kind = getattr(errors, str(event.facts.get("error", "")), None)
    return event.kind == "failed" and isinstance(kind, type) and issubclass(kind, BrainalignError)


def _hand_over(
    slurm: Slurm, plan: Plan, work: WorkFolder, units: Sequence[Unit], asks: Mapping[str, Ask], begun: Round
) -> Round:
    """Submit jobs for units, stage after stage, and the job after them all; fewer where Slurm takes fewer."""
    n_last = 0 if slurm.wait else 1
    allowed = {stage: limits(slurm.of_stage(stage).partition).array_size for stage in STAGES}
    left = room(slurm.account, slurm.qos) - n_last
    while True:
        cpus = {stage: slurm.of_stage(stage).cpus for stage in STAGES}
        arrays = arrays_of(units, asks, cpus, slurm.job_min, slurm.max_jobs, max(1, left))
        n_jobs = sum(len(array.jobs) for array in arrays)
        n_handed = sum(len(job) for array in arrays for job in array.jobs)
        partial = replace(begun, is_partial=n_handed < len(units))
        try:
            return _submit(slurm, plan, work, arrays, partial, allowed)
        except TooManyJobsError:
            if n_jobs <= 1:
                raise
            left = n_jobs // 2


def _submit(
    slurm: Slurm, plan: Plan, work: WorkFolder, arrays: Sequence[Array], begun: Round, array_sizes: Mapping[Stage, int]
) -> Round:
    """Submit all or nothing."""
    ids: list[str] = []
    stages: dict[str, list[str]] = {}
    try:
        for array in arrays:
            before = [job for stage, jobs in stages.items() if stage != array.stage for job in jobs]
            taken = submit_array(slurm, work, array, before, array_sizes[array.stage])
            stages.setdefault(array.stage, []).extend(taken)
            ids += taken
        begun = replace(begun, jobs=tuple(ids))
        if not slurm.wait:
            _submit_last(slurm, plan, work, begun, ids)
    except BaseException:
        with suppress(NoAnswerError):
            cancel_jobs(ids)
        raise
    return begun


def _submit_last(slurm: Slurm, plan: Plan, work: WorkFolder, begun: Round, after: Sequence[str]) -> None:
    ask = _first_ask(slurm, "finish", plan.units)
    submit_task(slurm, work, RoundTask(str(work.folder.resolve()), begun), ask, after)


def _wait_for_others(slurm: Slurm, plan: Plan, work: WorkFolder, done: Round) -> bool:
    """Whether jobs of the round are in the queue again, for which another job after them then waits."""
    alive = patiently(lambda: queued(done.jobs), PATIENCE_S)
    if not alive:
        return False
    after = list(dict.fromkeys(job.partition("_")[0] for job in alive))
    patiently(lambda: _submit_last(slurm, plan, work, done, after), PATIENCE_S)
    return True


def _wait_for_files(plan: Plan, work: WorkFolder) -> None:
    """Wait a little for what the journal says is done and a file server does not show yet."""
    events, until = latest_events(work.journal), time.monotonic() + APPEARS_WITHIN_S
    said = {unit for unit, event in events.items() if event.kind == "done"}
    while any(unit.id in said for unit in _missing(plan)) and time.monotonic() < until:
        time.sleep(1)


def _missing(plan: Plan) -> list[Unit]:
    store = Store()
    return [unit for unit in plan.units if not unit.is_done(store)]


def _is_cancelled(work: WorkFolder) -> bool:
    return (work.path / CANCELLED).exists()


def _stop(work: WorkFolder, why: str) -> None:
    path: Path = work.path / STOPPED
    with atomic_path(path) as part:
        part.write_text(f"{why}\n", encoding="utf-8")
