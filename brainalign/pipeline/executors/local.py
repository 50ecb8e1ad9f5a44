"""Units done by processes of this machine, which share its cores and memory and do not fight over them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

from brainalign.errors import RecipeError
from brainalign.limits import THREADS, allowed_cpus, environment, free_memory, threads_limited
from brainalign.pipeline.executors.common import check_failures
from brainalign.pipeline.extraction import Progress, silent
from brainalign.pipeline.journal import units_lost
from brainalign.pipeline.plan import STAGES, Plan, Stage, Unit
from brainalign.pipeline.work import Failure, do_units
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.store import Store

if TYPE_CHECKING:
    from joblib.externals.loky import ProcessPoolExecutor

__all__ = ["Local"]


MEND = "Take fewer --jobs, or a machine with more."
VANISHED = "what it gives, or waits for, has vanished from the store meanwhile. Run again."
# Processes that nothing was asked of for so long end; until then the next stage, or run, need not start new ones.
IDLE_S = 60.0
# What units have to hold for their processes to be let go after the stage, and with them the models that they keep.
LET_GO_BYTES = 1e9
# How often a process looks whether its parent is still there.
LOOKS_EACH_S = 0.2


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
        How often a unit is begun again whose process was killed, each time with fewer side by side, at last alone.

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

    def together(self, plan: Plan, units: Sequence[Unit]) -> Sequence[Sequence[str]]:
        """None: each unit is done on its own; see `Executor.together`."""
        return ()

    def execute(self, plan: Plan, work: WorkFolder, progress: Progress = silent) -> bool:
        """Do all units that are not done, stage after stage; see `Executor.execute`."""
        failures = [failure for stage in STAGES for failure in self._do(stage, plan, work, progress)]
        check_failures(plan, work, failures)
        return True

    def _do(self, stage: Stage, plan: Plan, work: WorkFolder, progress: Progress) -> list[Failure]:
        """Do a stage's units; gives those that failed."""
        store, total = Store(), len(plan.of(stage))
        # Of the whole plan, not of what is left of it: bits may hang on the number of threads.
        n_at_once = min(self.n_workers, total)
        n_threads = self.threads or max(1, allowed_cpus() // max(1, n_at_once))
        failures: dict[str, Failure] = {}
        n_kills: Counter[str] = Counter()
        while todo := [unit for unit in plan.ready(stage, plan.done(store)) if unit.id not in failures]:
            begun_s, now = time.time(), self._next(todo, n_kills)
            told = _Counted(stage, total - len(todo), total, progress)
            try:
                if n_at_once == 1:
                    found = self._one_by_one(now, n_threads, work, told)
                else:
                    found = self._side_by_side(now, self._width(now, n_at_once, n_kills), n_threads, work, told)
                failures |= {failure.unit: failure for failure in found}
            except BrokenProcessPool:
                lost = units_lost(work.journal, since_s=begun_s) & {unit.id for unit in now}
                # Killed before any unit was begun: it may have been any.
                n_kills.update(lost or [unit.id for unit in now])
                failures |= {unit.id: self._killed(unit) for unit in now if n_kills[unit.id] > self.retries}
            else:
                left = [unit for unit in now if unit.id not in failures and not unit.is_done(store)]
                failures |= {unit.id: Failure(unit.id, "DataError", f"{unit.about}: {VANISHED}") for unit in left}
        return list(failures.values())

    def _next(self, todo: Sequence[Unit], n_kills: Counter[str]) -> Sequence[Unit]:
        """Those first whose processes were killed most often: apart from the others, which they would take along."""
        most = max(n_kills[unit.id] for unit in todo)
        return [unit for unit in todo if n_kills[unit.id] == most]

    def _width(self, units: Sequence[Unit], n_at_once: int, n_kills: Counter[str]) -> int:
        """How many of these units may be done side by side: half as many with each kill, one the last time."""
        n_before = n_kills[units[0].id]
        if n_before and n_before == self.retries:
            return 1
        return min(len(units), max(1, n_at_once >> n_before), self._fitting(units))

    def _fitting(self, units: Sequence[Unit]) -> int:
        """How many of these units memory has room for side by side; one at least."""
        largest = max(unit.cost.memory_bytes for unit in units)
        return max(1, int(self._memory() // max(largest, 1.0)))

    def _memory(self) -> float:
        """Bytes that all processes together may fill."""
        return free_memory() if self.memory_gb is None else min(free_memory(), self.memory_gb * 1e9)

    def _killed(self, unit: Unit) -> Failure:
        times = "once" if self.retries == 0 else f"{1 + self.retries} times"
        why = f"its process was killed, {times}: it may need more memory than there is. {MEND}"
        return Failure(unit.id, "DataError", f"{unit.about}: {why}")

    def _one_by_one(self, units: Sequence[Unit], n_threads: int, work: WorkFolder, told: _Counted) -> Iterator[Failure]:
        """Do units in this process, where what goes on within them can be shown."""
        with threads_limited(n_threads):
            # What goes on within an extraction is told by itself.
            if told.stage != "extract":
                told.begin()
            for unit in units:
                yield from do_units(work.folder, [unit.id], progress=told.progress)
                if unit.stage != "extract":
                    told.one_more()

    def _side_by_side(
        self, units: Sequence[Unit], n_workers: int, n_threads: int, work: WorkFolder, told: _Counted
    ) -> Iterator[Failure]:
        """Do units in processes of their own, as they become free."""
        folder, share_gb = str(work.folder.resolve()), self._memory() / n_workers / 1e9
        told.begin()
        workers, waiting, handed = _started(n_workers, n_threads), iter(units), set()
        try:
            with warnings.catch_warnings():
                # loky says so of a process that has waited long enough, and starts another. In its thread, where such
                # a warning made an error would end the thread, and nobody would ever be told of any result.
                warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")
                # As many at a time as keep all busy: what was not handed over need not be taken back.
                while True:
                    more = list(islice(waiting, 2 * n_workers - len(handed)))
                    handed |= {workers.submit(_do_in_process, folder, unit.id, share_gb, os.getpid()) for unit in more}
                    if not handed:
                        break
                    ended, handed = wait(handed, return_when=FIRST_COMPLETED)
                    for future in ended:
                        yield from future.result()
                        told.one_more()
            if max(unit.cost.memory_bytes for unit in units) > LET_GO_BYTES:
                workers.shutdown(wait=True)
        except BaseException:
            # Whatever stops this, and be it the user: none of them is waited for.
            workers.shutdown(wait=True, kill_workers=True)
            raise


@dataclass
class _Counted:
    """Progress of a stage, whatever was done before and in whichever order."""

    stage: Stage
    n_done: int
    total: int
    progress: Progress

    def begin(self) -> None:
        self.progress(self.stage, self.n_done, self.total)

    def one_more(self) -> None:
        self.n_done += 1
        self.progress(self.stage, self.n_done, self.total)


def _started(n_workers: int, n_threads: int) -> ProcessPoolExecutor:
    """Processes that wait for work; those of before, if they are as many and their settings are the same."""
    from joblib.externals.loky import get_reusable_executor

    settings = {name: value for name, value in os.environ.items() if name.startswith("BRAINALIGN_")}
    threads = dict.fromkeys(THREADS, str(n_threads))
    with _interrupts_held():
        _start_tracker()
        workers = get_reusable_executor(n_workers, timeout=IDLE_S, env={**settings, **threads})
        workers.submit(os.getpid)
    return workers


@cache
def _start_tracker() -> None:
    """Start loky's process that frees what killed processes leave; what it says of that is of no use to anybody."""
    from joblib.externals.loky.backend import resource_tracker

    given = os.environ.get("PYTHONWARNINGS")
    with environment({"PYTHONWARNINGS": ",".join(filter(None, [given, "ignore:resource_tracker"]))}):
        resource_tracker.ensure_running()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Within it the key that interrupts waits, and processes that are started are never told of it.

    It reaches all processes of a terminal at once: the first one ends the others.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _do_in_process(folder: str, unit: str, memory_gb: float, parent: int) -> list[Failure]:
    _end_with(parent)
    _may_grow()
    return do_units(folder, [unit], memory_gb)


@cache
def _may_grow() -> None:
    """Have loky not take for a leak, and end this process, what is kept for the next unit: a language model, say."""
    from joblib.externals.loky import process_executor

    if hasattr(process_executor, "_MAX_MEMORY_LEAK_SIZE"):
        process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize


@cache
def _end_with(parent: int) -> None:
    """End this process soon after its parent, whatever ended that: nobody is left who would be told of its work."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOKS_EACH_S)
        os._exit(1)

    if os.name == "posix":
        threading.Thread(target=watch, daemon=True).start()
