"""Jobs handed to Slurm through submitit."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainalign.errors import MissingExtraError
from brainalign.files import cache_folder
from brainalign.limits import THREADS
from brainalign.pipeline.executors.slurm_handed import HandedJob, note_jobs
from brainalign.pipeline.executors.slurm_jobs import Array, Ask
from brainalign.pipeline.executors.slurm_queue import refusal
from brainalign.pipeline.executors.slurm_tasks import UnitsTask
from brainalign.pipeline.redaction import redacted
from brainalign.pipeline.work_folder import WorkFolder

if TYPE_CHECKING:
    from brainalign.pipeline.executors.slurm import Slurm

__all__ = ["submit_array", "submit_task"]

# How long before its time limit a job is told, and how much earlier than that Slurm may do so.
WARNED_BEFORE_S, SLURM_EARLIER_S = 120, 60
# What a job takes until its own clock begins.
START_S = 60
# Jobs go back into the queue only if they have finished units, so that their number ends it.
REQUEUES = 100_000
# Variables of a job that say where its Slurm is; all others of that kind are about the job itself.
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS")


def submit_array(slurm: Slurm, work: WorkFolder, array: Array, after: Sequence[str], array_size: int) -> list[str]:
    """Hand over jobs that do units; in several arrays where there are more than fit into one.

    Parameters
    ----------
    slurm : Slurm
    work : WorkFolder
    array : Array
    after : sequence of str
        Arrays or jobs that have to end before.
    array_size : int
        Elements of an array at most.

    Returns
    -------
    list of str
        The ids of the arrays, or jobs, that Slurm made of it.

    Raises
    ------
    DataError
        If Slurm refuses.
    """
    limit_s = 60 * array.ask.time_min
    told_after_s = limit_s - _warned_before_s(array.ask) - SLURM_EARLIER_S - START_S
    ids = []
    for first in range(0, len(array.jobs), array_size):
        jobs = array.jobs[first : first + array_size]
        tasks = [UnitsTask(str(work.folder.resolve()), units, told_after_s) for units in jobs]
        handed = _submit(slurm, work, array.stage, array.ask, tasks, jobs, after)
        ids.append(handed[0].array)
    return ids


def submit_task(slurm: Slurm, work: WorkFolder, task: Any, ask: Ask, after: Sequence[str]) -> str:
    """Hand over the job that comes after all others; gives its id."""
    return _submit(slurm, work, "finish", ask, [task], [()], after)[0].id


def _submit(
    slurm: Slurm,
    work: WorkFolder,
    stage: str,
    ask: Ask,
    tasks: Sequence[Any],
    units: Sequence[tuple[str, ...]],
    after: Sequence[str],
) -> list[HandedJob]:
    try:
        import submitit
        from submitit.core.utils import FailedJobError
    except ModuleNotFoundError as error:
        raise MissingExtraError("Jobs of Slurm", "submitit", "slurm") from error
    with _outside_of_jobs():
        executor = submitit.SlurmExecutor(work.path / "jobs", REQUEUES, python=shlex.quote(sys.executable))
        executor.update_parameters(**_parameters(slurm, work, stage, ask, after))
        try:
            jobs = executor.submit_array(tasks)
        except FailedJobError as error:
            raise refusal(str(error)) from None
    now_s = time.time()
    handed = [
        HandedJob(job.job_id, stage, those, str(job.paths.stdout), now_s, ask.memory_gb, ask.time_min)
        for job, those in zip(jobs, units, strict=True)
    ]
    note_jobs(work, handed)
    return handed


def _parameters(slurm: Slurm, work: WorkFolder, stage: str, ask: Ask, after: Sequence[str]) -> dict[str, Any]:
    """What submitit writes into the script."""
    own = slurm.of_stage(stage)
    # Where the cluster's default is not to start a job again after its node was lost or given to others.
    more = {"requeue": True, **{name.replace("_", "-"): value for name, value in slurm.extra.items()}}
    given = {
        "job_name": f"brainalign-{stage}-{work.folder.resolve().name}",
        "partition": own.partition,
        "account": own.account,
        "qos": own.qos,
        "constraint": own.constraint,
        "time": ask.time_min,
        "mem": f"{int(1024 * ask.memory_gb)}MB",
        "cpus_per_task": own.cpus,
        "gpus_per_node": own.gpus or None,
        "signal_delay_s": _warned_before_s(ask),
        "dependency": f"afterany:{':'.join(after)}" if after else None,
        "setup": [*slurm.setup, *_exports(own.cpus)],
        "array_parallelism": slurm.max_jobs,
        "additional_parameters": {name: value for name, value in more.items() if value is not False},
        # Since Slurm 22.05 a step does not ask for the job's cores by itself.
        "srun_args": [f"--cpus-per-task={own.cpus}"],
        # The signal before the time limit reaches steps only; a step, on the other hand, may not be let submit.
        "use_srun": stage != "finish",
        "stderr_to_stdout": True,
        "wckey": None,
    }
    return {name: value for name, value in given.items() if value is not None or name == "wckey"}


def _exports(cpus: int) -> list[str]:
    """Lines that give each job the same threads, and this process's folders from wherever it runs."""
    given = {**dict.fromkeys(THREADS, str(cpus)), "BRAINALIGN_CACHE": str(cache_folder().resolve())}
    for name in ("BRAINALIGN_MIRROR", "BRAINALIGN_SITE"):
        value = os.environ.get(name)
        if value:
            given[name] = value if "://" in value else str(Path(value).expanduser().resolve())
    # Passwords stay out of scripts; they come with the environment, which Slurm hands on.
    return [f"export {name}={shlex.quote(value)}" for name, value in given.items() if redacted(value) == value]


def _warned_before_s(ask: Ask) -> int:
    return min(WARNED_BEFORE_S, 10 * ask.time_min)


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Take away what an enclosing job says of itself, which sbatch would take for what is asked for."""
    hidden = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("SLURM_", "SRUN_", "SUBMITIT_")) and name not in KEPT
    }
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
