"""Units done by jobs of Slurm, which go on when the process that submitted them has ended."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from brainalign.errors import DataError, RecipeError
from brainalign.pipeline.executors.slurm_handed import CANCELLED, STOPPED, read_jobs
from brainalign.pipeline.executors.slurm_jobs import arrays_of
from brainalign.pipeline.executors.slurm_queue import NoAnswerError, cancel_jobs, check_slurm, queued
from brainalign.pipeline.extraction import Progress, silent
from brainalign.pipeline.plan import STAGES, Plan, Unit
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.settings import checked_settings
from brainalign.store import Store

__all__ = ["Slurm", "cancel", "check_idle", "jobs_alive"]

# Settings that a stage may have of its own. The job that puts the scores together counts as one.
OF_STAGES = ("partition", "qos", "constraint", "time_min", "memory_gb", "cpus", "gpus")
OWN_STAGES = (*STAGES, "finish")
# Options of sbatch that follow from the settings, or that the jobs hang together by.
OURS = (
    *("array", "dependency", "error", "output", "open-mode", "job-name", "signal", "wrap", "ntasks", "nodes"),
    *("partition", "account", "qos", "time", "mem", "cpus-per-task", "gpus-per-node", "constraint", "requeue"),
)
# While this process waits: how often it asks Slurm, at first and after a while.
FIRST_PAUSE_S, LAST_PAUSE_S = 2.0, 60.0


@dataclass(frozen=True)
class Slurm:
    """Jobs of a Slurm cluster.

    Parameters
    ----------
    partition, account, qos, constraint : str, optional
        As sbatch takes them; by default the cluster's own.
    time_min : int
        Time limit of a job, in minutes. A job that reaches it goes on from what is finished; a unit that cannot be
        done in it gets twice as much, as far as the partition allows.
    memory_gb : float, optional
        Of a job; by default what the plan expects, and 4 at least. A unit that runs out of it gets twice as much, as
        far as the partition's nodes have it.
    cpus : int
        Cores of a job, and threads of linear algebra in it.
    gpus : int
        Of a job.
    setup : tuple of str
        Lines of the shell that run in a job before Python, such as ``module load cuda``.
    extra : mapping of str -> str, int or bool
        Further options of sbatch, such as ``{mail-type: END}``.
    max_jobs : int
        Jobs of a stage at most.
    job_min : float
        How long a job should last, in minutes; so many units are put together.
    retries : int
        How often what is missing after all jobs have ended is handed over again.
    stages : mapping of stage -> settings
        For "extract", "fit", "answer" or "finish": another partition, qos, constraint, time_min, memory_gb, cpus, gpus.
    wait : bool
        Whether the process that submits stays until all is done, as it must where jobs may not submit jobs.

    Raises
    ------
    RecipeError
        If a setting cannot be.

    Examples
    --------
    >>> slurm = Slurm(partition="cpu", stages={"extract": {"partition": "gpu", "gpus": 1}})
    >>> slurm.of_stage("extract").partition, slurm.of_stage("fit").partition
    ('gpu', 'cpu')
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    time_min: int = 240
    memory_gb: float | None = None
    cpus: int = 1
    gpus: int = 0
    setup: tuple[str, ...] = ()
    extra: Mapping[str, str | int | bool] = field(default_factory=dict)
    max_jobs: int = 100
    job_min: float = 30.0
    retries: int = 3
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    wait: bool = False

    def __post_init__(self) -> None:
        for name in ("time_min", "memory_gb", "cpus", "max_jobs", "job_min"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise RecipeError(f"{name} must be above zero, not {getattr(self, name)}.")
        for name in ("gpus", "retries"):
            if getattr(self, name) < 0:
                raise RecipeError(f"{name} cannot be negative; it is {getattr(self, name)}.")
        self._check_lines()
        self._check_extra()
        for stage in self.stages:
            if stage not in OWN_STAGES:
                raise RecipeError(f"stages: there is no stage '{stage}'; there are {', '.join(OWN_STAGES)}.")
            self.of_stage(stage)

    def _check_lines(self) -> None:
        texts = [getattr(self, one.name) for one in fields(self) if isinstance(getattr(self, one.name), str)]
        for text in (*texts, *self.setup, *map(str, self.extra.values())):
            if "\n" in text or "\r" in text:
                raise RecipeError(f"{text[:40]!r} has several lines; an option of sbatch or a line of setup is one.")

    def _check_extra(self) -> None:
        for name in self.extra:
            option = str(name).replace("_", "-")
            if option in OURS:
                raise RecipeError(f"extra: '{name}' is not to be given here: the executor's settings decide on it.")
            if not re.fullmatch(r"[a-z][a-z0-9-]*", option):
                raise RecipeError(f"extra: '{name}' is no option of sbatch; write it without dashes before it.")

    @property
    def n_workers(self) -> int:
        """How many units may be done side by side."""
        return self.max_jobs

    def together(self, plan: Plan, units: Sequence[Unit]) -> Sequence[Sequence[str]]:
        """The ids of each job's units; see `Executor.together`."""
        from brainalign.pipeline.executors.slurm_round import first_asks

        cpus = {stage: self.of_stage(stage).cpus for stage in STAGES}
        arrays = arrays_of(units, first_asks(self, plan), cpus, self.job_min, self.max_jobs)
        return [job for array in arrays for job in array.jobs]

    def of_stage(self, stage: str) -> Slurm:
        """The settings of one stage."""
        given = dict(self.stages.get(stage, {}))
        unknown = [name for name in given if name not in OF_STAGES]
        if unknown:
            raise RecipeError(f"stages.{stage}: '{unknown[0]}' is not of a stage; these are: {', '.join(OF_STAGES)}.")
        return replace(self, stages={}, **checked_settings(Slurm, given, f"stages.{stage}"))

    def execute(self, plan: Plan, work: WorkFolder, progress: Progress = silent) -> bool:
        """Hand over all units that are not done; see `Executor.execute`."""
        from brainalign.pipeline.executors.slurm_round import first_round, next_round

        if all(unit.is_done(Store()) for unit in plan.units):
            return True
        check_slurm()
        check_idle(work)
        for name in (CANCELLED, STOPPED):
            (work.path / name).unlink(missing_ok=True)
        begun = first_round(self, plan, work)
        if not self.wait:
            return False
        while begun is not None:
            self._watch(begun.jobs, plan, progress)
            if all(unit.is_done(Store()) for unit in plan.units):
                return True
            begun = next_round(self, plan, work, begun)
        raise DataError((work.path / STOPPED).read_text(encoding="utf-8").strip())

    def _watch(self, jobs: tuple[str, ...], plan: Plan, progress: Progress) -> None:
        """Wait until jobs have left the queue; a controller that is away for a while is waited for."""
        pause_s, store = FIRST_PAUSE_S, Store()
        while True:
            time.sleep(pause_s)
            pause_s = min(LAST_PAUSE_S, 1.2 * pause_s)
            for stage in STAGES:
                if units := plan.of(stage):
                    progress(stage, sum(unit.is_done(store) for unit in units), len(units))
            try:
                if not queued(jobs):
                    return
            except NoAnswerError:
                continue


def check_idle(work: WorkFolder) -> None:
    """Raise a DataError while jobs of a folder are in Slurm's queue; a machine without Slurm knows of none."""
    if shutil.which("squeue") is None:
        return
    alive = list(jobs_alive(work))
    if alive:
        more = f" and {len(alive) - 3} more" if len(alive) > 3 else ""
        raise DataError(
            f"Jobs of {work.folder} are in Slurm's queue: {', '.join(alive[:3])}{more}.\n"
            f"See `brainalign status {work.folder}`, or end them first: `brainalign cancel {work.folder}`."
        )


def jobs_alive(work: WorkFolder) -> dict[str, str]:
    """The jobs of a folder that are in Slurm's queue, and their states (PENDING, RUNNING ...).

    Raises
    ------
    DataError
        If there is no Slurm here, or its controller does not answer.
    """
    # A job that asks is not one that it waits for.
    own = os.environ.get("SLURM_JOB_ID", "")
    found = queued([job.id for job in read_jobs(work)])
    return {job: state for job, state in found.items() if job != own}


def cancel(work: WorkFolder) -> list[str]:
    """Take the jobs of a folder out of Slurm's queue, those that run too; what is finished stays.

    Returns
    -------
    list of str
        Their ids.

    Raises
    ------
    DataError
        If there is no Slurm here, or its controller does not answer.
    """
    alive = list(jobs_alive(work))
    if alive:
        # First the word that no more are to be handed over, which the job between rounds looks for last.
        (work.path / CANCELLED).touch()
        cancel_jobs(list(dict.fromkeys(job.partition("_")[0] for job in alive)))
    return alive
