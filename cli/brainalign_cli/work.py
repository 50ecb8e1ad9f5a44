"""The commands around a run: what it would take (``run --dry-run``), ``status``, ``retry`` and ``cancel``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from brainalign_cli.cache import human

if TYPE_CHECKING:
    from brainalign.config import Recipe
    from brainalign.pipeline import Outcome, Status
    from brainalign.pipeline.execution import Planned
    from brainalign.pipeline.plan import Unit
    from brainalign.pipeline.work_folder import WorkFolder

__all__ = ["cancel", "executor_changes", "jobs_change", "print_outcome", "print_plan", "retry", "status"]

# Failures that are told one by one.
FEW = 5
# The widths of a table's columns; the first is as wide as its stages' names.
WIDTH = 10
HEADERS_OF_PLAN = ("units", "done", "to do", "core hours", "memory", "disk")


def executor_changes(kind: str | None, scheduler: str | None, wait: bool) -> tuple[str, ...]:
    """What the options of ``run`` say of the executor, as ``--set`` would.

    >>> executor_changes("dask", "tcp://login:8786", wait=False)
    ('executor.kind=dask', 'executor.scheduler="tcp://login:8786"')
    """
    changes = [] if kind is None else [f"executor.kind={kind}"]
    if scheduler is not None:
        # Quoted, since it has colons.
        changes.append(f"executor.scheduler={json.dumps(scheduler)}")
    return (*changes, *(["executor.wait=true"] if wait else []))


def jobs_change(recipe: Recipe, jobs: int) -> tuple[str, ...]:
    """What ``--jobs`` says of the executor: that of this machine has jobs, others have settings of their own.

    Raises
    ------
    RecipeError
        If the recipe is for another executor.
    """
    from brainalign.errors import RecipeError

    kind = recipe.executor["kind"]
    if kind != "local":
        raise RecipeError(f"--jobs is for --executor local, and this recipe is for '{kind}': leave it out.")
    return (f"executor.jobs={jobs}",)


def print_outcome(outcome: Outcome) -> None:
    """Say what a run found, and where its files are; or that it goes on elsewhere."""
    from brainalign.report import group_profile
    from brainalign.report.curves import layer_called

    for notice in outcome.notices:
        click.secho(f"\n*** {notice}\n", fg="red", bold=True, err=True)
    if outcome.scores is None:
        click.echo(f"Submitted. How far it is: brainalign status {outcome.folder}")
        return
    for finding in outcome.scores.attrs["findings"]:
        click.echo(f"note: {finding['where']}: {finding['message']}", err=True)
    profile = group_profile(outcome.scores)
    shown = [name for name in ("r", "r_baseline", "r_joint", "gain") if name in profile]
    click.echo(profile[["feature_space", "layer_name", *shown]].round(3).to_string(index=False))
    if profile["r"].notna().any():
        best = profile.loc[profile["r"].idxmax()]
        layer = layer_called(str(best["feature_space"]), str(best["layer_name"]))
        click.echo(f"Best layer (selected on these scores): {layer}.")
    click.echo("Done." if outcome.computed else "Nothing was left to compute.")
    for notice in outcome.notices:
        click.secho(notice.split(".")[0] + ".", fg="red", err=True)
    click.echo(f"Report: {outcome.folder / 'report.html'}")


def print_plan(recipe: Recipe, folder: str, n_jobs: int, overwrite: bool = False) -> None:
    """Say what a run would take, and compute nothing; where files must be fetched first, say which, and no more."""
    if _print_what_to_fetch(recipe):
        click.echo("Nothing more can be planned before these files are here; a run fetches them first.")
        return
    from brainalign.pipeline import plan_of

    planned = plan_of(recipe, folder, n_jobs, overwrite)
    _print_table(planned, Path(folder))


def _print_what_to_fetch(recipe: Recipe) -> bool:
    """Whether files of the dataset or of models are missing; said by name and bytes."""
    from brainalign.datasets.archive_dataset import ArchiveDataset
    from brainalign.features.model_files import files_to_fetch
    from brainalign.pipeline.planning import dataset_of
    from brainalign_cli.datasets import print_missing

    data, any_missing = dataset_of(recipe), False
    if isinstance(data, ArchiveDataset):
        any_missing = print_missing(data)
    models = dict.fromkeys(name for space in recipe.features if (name := _model_of(space)) is not None)
    for model in models:
        files = files_to_fetch(model)
        for name, n_bytes in files.items():
            click.echo(f"  to fetch    {human(n_bytes) if n_bytes else '?':>9}  {model}: {name}")
        any_missing |= bool(files)
    return any_missing


def _model_of(space: Any) -> str | None:
    return getattr(getattr(space, "space", space), "model", None)


def _print_table(planned: Planned, folder: Path) -> None:
    from brainalign.config import executor_settings
    from brainalign.pipeline.journal import latest_events
    from brainalign.pipeline.plan import STAGES
    from brainalign.pipeline.rates import core_hours, known_rates, measured_rate, seconds_left
    from brainalign.pipeline.work_folder import WorkFolder

    plan, executor = planned.plan, planned.executor
    rates, otherwise = known_rates(plan, latest_events(WorkFolder(folder).journal)), measured_rate()
    left = [unit for unit in plan.units if unit.id not in planned.done]

    def cells(units: Sequence[Unit]) -> list[str]:
        todo = [unit for unit in units if unit.id not in planned.done]
        memory, disk = max((u.cost.memory_bytes for u in todo), default=0.0), sum(u.cost.disk_bytes for u in todo)
        hours = _hours(core_hours(todo, rates, otherwise))
        counts = [str(len(units)), str(len(units) - len(todo)), str(len(todo))]
        return [*counts, hours, human(int(memory)) if todo else "-", human(int(disk)) if todo else "-"]

    click.echo(_row("stage", HEADERS_OF_PLAN))
    for stage in STAGES:
        if plan.of(stage):
            click.echo(_row(stage, cells(plan.of(stage))))
    click.echo(_row("all", cells(plan.units)))
    settings = executor_settings(executor)
    told = ", ".join(
        f"{name} {value}" for name, value in settings.items() if name != "kind" and value not in (None, {}, [])
    )
    click.echo(f"executor: {settings['kind']}" + (f" ({told})" if told else ""))
    together = executor.together(plan, left)
    seconds = seconds_left(left, rates, otherwise, executor.n_workers, together)
    speed = "as fast as the units that are done" if rates else "as fast as this machine multiplies, about"
    at_once = f"in {len(together)} jobs once they begin" if together else f"with {executor.n_workers} units at a time"
    click.echo(f"time: about {_duration(seconds)} {at_once}, {speed}")
    if left:
        seconds, about = max((seconds_left([unit], rates, otherwise, 1), unit.about) for unit in left)
        click.echo(f"the longest unit: about {_duration(seconds)} ({about})")


@click.command()
@click.argument("folder")
@click.option("--json", "as_json", is_flag=True, help="For programs: everything that is known, as JSON.")
def status(folder: str, as_json: bool) -> None:
    """Say how far the run in a result folder is: also while it goes on, and from any machine that sees the folder."""
    from brainalign.pipeline.folder_status import status as look

    found = look(folder)
    if as_json:
        from dataclasses import asdict

        click.echo(json.dumps(asdict(found), default=str, indent=1))
        return
    click.echo(f"{folder}: {found.state}" + (f", {found.title}" if found.title else ""))
    if found.state == "unfinished":
        _print_unfinished(found, folder)
    if found.started:
        click.echo(f"  started {found.started}; report: {folder}/report.html")
    for finding in found.findings:
        click.echo(f"  {finding}")


def _print_unfinished(found: Status, folder: str) -> None:
    if found.stages:
        names = ("units", "done", "running", "failed", "waiting", "to_do")
        click.echo(_row("stage", [name.replace("_", " ") for name in names]))
        for stage in found.stages:
            click.echo(_row(stage.stage, [str(getattr(stage, name)) for name in names]))
    for failure in found.failures[:FEW]:
        click.echo(f"  failed: {failure.about}: {failure.why}\n    log: {failure.log}")
    if len(found.failures) > FEW:
        click.echo(f"  and {len(found.failures) - FEW} more that failed; logs: {found.failures[0].log.parent}")
    if found.lost:
        more = f" and {len(found.lost) - 1} more" if len(found.lost) > 1 else ""
        click.echo(f"  process lost: {found.lost[0]}{more}; what they did is begun again")
    for jobs in found.jobs:
        click.echo(f"  {jobs.kind}: {jobs.jobs} jobs handed over; {_states(jobs.states)}")
    if found.stopped:
        click.echo("\n".join(f"  {line}" for line in found.stopped.splitlines()))
    click.echo(f"  {_what_goes_on(found, folder)}")
    click.echo(f"  report: {'scores.nc is there, of a run before' if found.scores else 'not yet: no scores.nc'}")


def _states(states: Mapping[str, int] | None) -> str:
    if states is None:
        return "what became of them is unknown here: no answer from a batch system"
    return ", ".join(f"{n} {state.lower()}" for state, n in states.items()) or "none of them in the queue"


def _what_goes_on(found: Status, folder: str) -> str:
    """Whether anybody works on it, and how long it takes still; or how to go on."""
    queued = any(jobs.states for jobs in found.jobs)
    if found.process == "running" or queued or any(stage.running for stage in found.stages):
        if found.seconds_left is None:
            return "running; how long it takes is known when a unit is done"
        return f"running; about {_duration(found.seconds_left)} left"
    is_unknown = found.process in ("other", "elsewhere") or any(jobs.states is None for jobs in found.jobs)
    if is_unknown and not found.stopped:
        return f"running elsewhere, or stopped; if it is stopped: brainalign retry {folder}"
    how = f"brainalign retry {folder}" if found.stages else "the command that began it"
    return f"stopped; it goes on from what is finished with: {how}"


@click.command()
@click.argument("folder")
@click.option("--quiet", is_flag=True, help="No progress bars, for batch jobs.")
def retry(folder: str, quiet: bool) -> None:
    """Go on with the run in a result folder, as it was begun; what failed is begun again."""
    from brainalign import pipeline
    from brainalign_cli.progress import Bars

    with Bars(quiet) as bars:
        outcome = pipeline.retry(folder, progress=bars)
    print_outcome(outcome)


@click.command()
@click.argument("folder")
def cancel(folder: str) -> None:
    """Stop the run in a result folder: its jobs, or its process on this machine. What is finished stays."""
    from brainalign.pipeline.work_folder import WorkFolder

    work = WorkFolder(Path(folder))
    facts = work.read_facts()
    if facts["executor"]["kind"] == "slurm":
        _cancel_jobs(work)
    else:
        _interrupt(folder, facts)
    click.echo(f"What is finished stays; `brainalign retry {folder}` goes on from there.")


def _cancel_jobs(work: WorkFolder) -> None:
    from brainalign.pipeline.executors.slurm import cancel as cancel_in_slurm

    jobs = cancel_in_slurm(work)
    click.echo(f"Cancelled {len(jobs)} jobs." if jobs else "None of its jobs are in the queue.")


def _interrupt(folder: str, facts: Mapping[str, Any]) -> None:
    """Interrupt the process that does the units, as Ctrl-C does."""
    import os
    import signal

    from brainalign.errors import DataError
    from brainalign.pipeline.folder_status import process_state

    host, pid, state = facts["process"]["host"], int(facts["process"]["pid"]), process_state(facts)
    if state == "elsewhere":
        raise DataError(f"The run in {folder} was begun on {host}, process {pid}: stop it there (kill -INT {pid}).")
    if state == "other":
        raise DataError(
            f"The run in {folder} was begun by another program, process {pid}, a notebook perhaps: stop it there."
        )
    if state == "gone":
        raise DataError(f"Nothing to stop: the process that began the run in {folder} ({pid}) is gone.")
    os.kill(pid, signal.SIGINT)
    click.echo(f"Told process {pid} to stop; it takes a few seconds.")


def _row(name: str, cells: Iterable[str]) -> str:
    return f"  {name:<8}" + "".join(f"{cell:>{WIDTH + 2}}" for cell in cells)


def _hours(hours: float) -> str:
    return f"{hours:.0f}" if hours >= 10 else f"{hours:.2g}" if hours >= 0.01 else "< 0.01"


def _duration(seconds: float) -> str:
    """Seconds in words: as exact as an estimate is.

    >>> _duration(5), _duration(300), _duration(86400)
    ('a minute', '5 minutes', '24 hours')
    """
    if seconds < 90:
        return "a minute"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 3 * 86400 else f"{seconds / 86400:.0f} days"
