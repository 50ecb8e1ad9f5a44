"""How far a study is, from its folder and the store alone: from any machine, while it runs, in a moment.

What is light stays light here: neither arrays nor models are loaded.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from brainalign.errors import DataError
from brainalign.pipeline.executors.slurm_handed import CANCELLED, STOPPED, read_jobs
from brainalign.pipeline.journal import Event, latest_events
from brainalign.pipeline.plan import STAGES, Plan, Stage, Unit
from brainalign.pipeline.rates import known_rates, measured_rate, seconds_left
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.safe_yaml import read_yaml
from brainalign.store import Store

__all__ = ["FailedUnit", "JobCounts", "StageCounts", "Status", "process_state", "status"]

State = Literal["nothing", "unfinished", "finished"]
ProcessState = Literal["running", "other", "gone", "elsewhere"]
# A batch system that does not answer within so long says nothing.
ANSWER_WITHIN_S = 5.0


@dataclass(frozen=True)
class StageCounts:
    """The units of a stage: done, being done, failed, waiting for others, and to be done next; together all units."""

    stage: Stage
    units: int
    done: int
    running: int
    failed: int
    waiting: int
    to_do: int


@dataclass(frozen=True)
class FailedUnit:
    """A unit that failed when it was last begun: what it is, the last line of what went wrong, and where its log is."""

    unit: str
    about: str
    why: str
    log: Path


@dataclass(frozen=True)
class JobCounts:
    """Jobs that were handed to a batch system.

    Parameters
    ----------
    kind : str
        Of the executor: "slurm".
    jobs : int
        All that were handed to it.
    states : mapping of str to int, optional
        How many it says are in each state ("RUNNING", "PENDING"); None where it cannot be asked, or does not answer.
    """

    kind: str
    jobs: int
    states: Mapping[str, int] | None


@dataclass(frozen=True)
class Status:
    """What a result folder holds.

    Parameters
    ----------
    state : {"nothing", "unfinished", "finished"}
    title, started : str
        Of the recipe; when the run that ended was started.
    findings : tuple of str
        Of a finished run.
    stages : tuple of StageCounts
        Where there is a plan.
    failures : tuple of FailedUnit
    lost : tuple of str
        What units do whose process is gone before they ended.
    jobs : tuple of JobCounts
    seconds_left : float, optional
        By the clock, if as many go on at a time as the executor may have; None where nothing is known.
    process : {"running", "other", "gone", "elsewhere"}, optional
        What has become of the process that began the run, see `process_state`; None without a plan.
    scores : bool
        Whether ``scores.nc`` is there.
    stopped : str
        Why a cluster's jobs do not go on although units are missing; nothing where they do.
    """

    state: State
    title: str = ""
    started: str = ""
    findings: tuple[str, ...] = ()
    stages: tuple[StageCounts, ...] = ()
    failures: tuple[FailedUnit, ...] = ()
    lost: tuple[str, ...] = ()
    jobs: tuple[JobCounts, ...] = ()
    seconds_left: float | None = None
    process: ProcessState | None = None
    scores: bool = False
    stopped: str = ""


def status(folder: str | Path) -> Status:
    """Look at a result folder.

    Raises
    ------
    DataError
        If there is no such folder, or its plan is of another version of brainalign.

    Examples
    --------
    >>> status(".").state
    'nothing'
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    recipe, record = folder / "recipe.yaml", _record_in(folder)
    if not recipe.is_file():
        return Status("nothing")
    text, scores = recipe.read_text(encoding="utf-8"), (folder / "scores.nc").is_file()
    # The recipe is written when a run starts, the record when it has ended.
    if record is not None and record.get("recipe_yaml") == text:
        findings = tuple(f"{finding['where']}: {finding['message']}" for finding in record["findings"])
        return Status("finished", str(record["title"]), record["started"], findings, scores=scores)
    work = WorkFolder(folder)
    if not (work.path / "plan.json").is_file():
        return Status("unfinished", _title_in(recipe, text), scores=scores)
    return _of_plan(work, work.read_facts(), work.read_plan(), scores)


def _of_plan(work: WorkFolder, facts: Mapping[str, Any], plan: Plan, scores: bool) -> Status:
    events = latest_events(work.journal)
    done = _done(plan, events)
    begun_s = datetime.fromisoformat(facts["started"]).timestamp()
    # What failed before the plan was written anew is to be done again.
    events = {unit: event for unit, event in events.items() if event.kind != "failed" or event.at_s >= begun_s}
    left = [unit for unit in plan.units if unit.id not in done]
    lost = tuple(unit.about for unit in left if unit.id in events and events[unit.id].kind == "lost")
    return Status(
        "unfinished",
        facts["title"],
        stages=tuple(_counts(plan, stage, done, events) for stage in STAGES if plan.of(stage)),
        failures=tuple(_failures(work, left, events)),
        lost=lost,
        jobs=tuple(_jobs(work)),
        seconds_left=_seconds_left(work, plan, left, events, facts),
        process=process_state(facts),
        scores=scores,
        stopped=_stopped(work),
    )


def process_state(facts: Mapping[str, Any]) -> ProcessState:
    """What has become of the process that began a run; `facts` are those of its plan.

    "running": of this machine, and brainalign's own; "other": of another program that called brainalign, a notebook
    perhaps, which may have gone on to other things; "elsewhere": of another machine.
    """
    import psutil

    if facts["process"]["host"] != platform.node():
        return "elsewhere"
    try:
        process = psutil.Process(int(facts["process"]["pid"]))
        # Numbers of processes are given again: one that is younger than the plan is another.
        is_younger = process.create_time() > datetime.fromisoformat(facts["started"]).timestamp() + 1
        if is_younger or process.status() == psutil.STATUS_ZOMBIE:
            return "gone"
        return "running" if any("brainalign" in word for word in process.cmdline()) else "other"
    except psutil.NoSuchProcess:
        return "gone"
    except psutil.AccessDenied:
        return "other"


def _done(plan: Plan, events: Mapping[str, Event]) -> set[str]:
    """The ids of units that are done: by the journal, and of the others by the store."""
    told = {unit for unit, event in events.items() if event.kind == "done"}
    store = Store(Store().root)  # named once, so that it is not looked for with each unit
    return {unit.id for unit in plan.units if unit.id in told or unit.is_done(store)}


def _counts(plan: Plan, stage: Stage, done: set[str], events: Mapping[str, Event]) -> StageCounts:
    units = plan.of(stage)
    ready = {unit.id for unit in plan.ready(stage, done)}
    kinds = Counter(_kind(unit, done, ready, events) for unit in units)
    return StageCounts(stage, len(units), *(kinds[kind] for kind in ("done", "running", "failed", "waiting", "to do")))


def _kind(unit: Unit, done: set[str], ready: set[str], events: Mapping[str, Event]) -> str:
    event = events.get(unit.id)
    if unit.id in done:
        return "done"
    if event is not None and event.kind != "lost":
        return "running" if event.kind == "started" else "failed"
    return "to do" if unit.id in ready else "waiting"


def _failures(work: WorkFolder, left: Sequence[Unit], events: Mapping[str, Event]) -> Sequence[FailedUnit]:
    failed = [unit for unit in left if _kind(unit, set(), set(), events) == "failed"]
    return [
        FailedUnit(unit.id, unit.about, str(events[unit.id].facts.get("why", "unknown")), work.log_of(unit.id))
        for unit in failed
    ]


def _seconds_left(
    work: WorkFolder, plan: Plan, left: Sequence[Unit], events: Mapping[str, Event], facts: Mapping[str, Any]
) -> float | None:
    settings = facts.get("executor", {})
    n_workers = facts.get("n_workers") or settings.get("jobs") or os.cpu_count() or 1
    rates = known_rates(plan, events)
    if not left:
        return 0.0
    if not rates:
        return None
    # A stage of which nothing is done yet is as fast as this machine, if not faster than those that are under way.
    otherwise = measured_rate()
    last_job = {unit: job.id for job in read_jobs(work) for unit in job.units}
    together: dict[str, list[str]] = {}
    for unit, job in last_job.items():
        together.setdefault(job, []).append(unit)
    return seconds_left(left, rates, otherwise, int(n_workers), together.values())


def _jobs(work: WorkFolder) -> Sequence[JobCounts]:
    """What was handed to batch systems, by kind."""
    if not work.jobs.is_file():
        return ()
    ids: dict[str, set[str]] = {}
    for line in work.jobs.read_bytes().splitlines():
        try:
            job = json.loads(line)
            ids.setdefault(str(job.get("kind", "batch system")), set()).add(str(job["id"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # cut short by a kill
    return [
        JobCounts(kind, len(jobs), _states_in_slurm(jobs) if kind == "slurm" else None) for kind, jobs in ids.items()
    ]


def _states_in_slurm(ids: set[str]) -> dict[str, int] | None:
    """How many of these jobs are in each state; None where Slurm is not here, or does not answer."""
    if shutil.which("squeue") is None:
        return None
    # One question for all, of this user only: a list of ids may be longer than a command line.
    question = ["squeue", "--noheader", "--array", "--me", "--format=%i|%T"]
    try:
        answer = subprocess.run(question, capture_output=True, text=True, timeout=ANSWER_WITHIN_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    told = dict(line.strip().split("|", 1) for line in answer.splitlines() if "|" in line)
    return dict(Counter(told[job] for job in sorted(ids & set(told))))


def _stopped(work: WorkFolder) -> str:
    """What the last job of a cluster has said, if it gave up or was told to."""
    try:
        return (work.path / STOPPED).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return "its jobs were cancelled" if (work.path / CANCELLED).exists() else ""


def _record_in(folder: Path) -> dict[str, Any] | None:
    """What run.json says; None where there is none, or it is cut short."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        return record if {"recipe_yaml", "title", "started", "findings"} <= set(record) else None
    except (OSError, ValueError, TypeError):
        return None


def _title_in(recipe: Path, text: str) -> str:
    content, _ = read_yaml(text)
    if not isinstance(content, dict) or "title" not in content:
        raise DataError(f"{recipe.parent} is no result folder: brainalign did not write the recipe.yaml that is in it.")
    return str(content["title"])
