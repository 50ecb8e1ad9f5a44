"""Units done by processes of this machine, which share its cores and memory and do not fight over them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import joblib

from brainalign.errors import RecipeError
from brainalign.limits import allowed_cpus, free_memory, threads_limited
from brainalign.pipeline.executors.common import check_failures
from brainalign.pipeline.extraction import Progress, silent
from brainalign.pipeline.plan import STAGES, Plan, Stage, Unit
from brainalign.pipeline.work import Failure, do_units
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.store import Store

__all__ = ["Local"]


MEND = "Take fewer --jobs, or a machine with more."


@dataclass(frozen=True)
class Local:
    """Processes of this machine.

    Parameters
    ----------
    jobs : int, optional
        Processes side by side; by default one per core. Fewer where memory does not suffice for so many.
    threads : int, optional
        Of linear algebra in each; by default the cores are shared out, so that processes times threads are the cores.
    memory_gb : float, optional
        What all processes together may fill; by default what is free.
    retries : int
        How often units are begun again whose process was killed, each time with half as many side by side.

    Raises
    ------
    RecipeError
        If a number is not positive.
    """

    jobs: int | None = None
    threads: int | None = None
    memory_gb: float | None = None
    retries: int = 2

    def __post_init__(self) -> None:
        for name in ("jobs", "threads", "memory_gb"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise RecipeError(f"{name} must be above zero, not {getattr(self, name)}.")
        if self.retries < 0:
            raise RecipeError(f"retries cannot be negative; it is {self.retries}.")

    @property
    def n_workers(self) -> int:
        """Processes side by side, if memory suffices."""
        return self.jobs or allowed_cpus()

    def execute(self, plan: Plan, work: WorkFolder, progress: Progress = silent) -> bool:
        """Do all units that are not done, stage after stage; see `Executor.execute`."""
        failures = [failure for stage in STAGES for failure in self._do(stage, plan, work, progress)]
        check_failures(plan, work, failures)
        return True

    def _do(self, stage: Stage, plan: Plan, work: WorkFolder, progress: Progress) -> list[Failure]:
        """Do a stage's units; gives those that failed."""
        store, units, done = Store(), plan.of(stage), plan.done(Store())
        # Of the whole plan, not of what is left of it: bits may hang on the number of threads.
        n_side_by_side = min(self.n_workers, len(units))
        n_threads = self.threads or max(1, allowed_cpus() // max(1, n_side_by_side))
        failures: dict[str, Failure] = {}
        n_at_once = n_side_by_side
        for _ in range(1 + self.retries):
            ready = [unit for unit in plan.ready(stage, done) if unit.id not in failures]
            todo = [unit for unit in ready if not unit.is_done(store)]
            if not todo:
                break
            try:
                if n_side_by_side == 1:
                    found = self._one_by_one(todo, n_threads, work, progress)
                else:
                    n_at_once = min(n_at_once, self._fitting(todo))
                    found = self._side_by_side(todo, n_at_once, n_threads, work, progress)
                failures |= {failure.unit: failure for failure in found}
            except BrokenProcessPool:
                n_at_once = max(1, n_at_once // 2)
        why = f"its process was killed, {1 + self.retries} times: it may need more memory than there is. {MEND}"
        lost = [unit for unit in plan.ready(stage, done) if unit.id not in failures and not unit.is_done(store)]
        return [*failures.values(), *(Failure(unit.id, "DataError", f"{unit.about}: {why}") for unit in lost)]

    def _fitting(self, units: Sequence[Unit]) -> int:
        """How many of these units memory has room for side by side; one at least."""
        largest = max(unit.cost.memory_bytes for unit in units)
        return max(1, int(self._memory() // max(largest, 1.0)))

    def _memory(self) -> float:
        """Bytes that all processes together may fill."""
        return free_memory() if self.memory_gb is None else min(free_memory(), self.memory_gb * 1e9)

    def _one_by_one(
        self, units: Sequence[Unit], n_threads: int, work: WorkFolder, progress: Progress
    ) -> Iterator[Failure]:
        """Do units in this process, where what goes on within them can be shown."""
        with threads_limited(n_threads):
            for number, unit in enumerate(units):
                yield from do_units(work.folder, [unit.id], progress=progress)
                if unit.stage != "extract":
                    progress(unit.stage, number + 1, len(units))

    def _side_by_side(
        self, units: Sequence[Unit], n_workers: int, n_threads: int, work: WorkFolder, progress: Progress
    ) -> Iterator[Failure]:
        """Do units in processes of their own, as they become free."""
        share_gb = self._memory() / n_workers / 1e9
        stage = units[0].stage
        progress(stage, 0, len(units))
        with joblib.parallel_config("loky", inner_max_num_threads=n_threads):
            parallel = joblib.Parallel(n_jobs=n_workers, return_as="generator_unordered")
            calls = (joblib.delayed(_do_in_process)(str(work.folder), unit.id, share_gb) for unit in units)
            for number, failures in enumerate(parallel(calls)):
                progress(stage, number + 1, len(units))
                yield from failures


def _do_in_process(folder: str, unit: str, memory_gb: float) -> list[Failure]:
    # The key that interrupts reaches all processes of a terminal: the first one ends these.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return do_units(folder, [unit], memory_gb)
