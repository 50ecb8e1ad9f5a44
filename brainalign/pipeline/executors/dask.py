"""Units done by workers of a Dask cluster: one that is there, or one that dask-jobqueue starts on PBS, LSF, SGE ..."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from brainalign.errors import BrainalignError, DataError, MissingExtraError, RecipeError, nearest
from brainalign.files import cache_folder
from brainalign.limits import MEMORY_GB, environment, threads_limited
from brainalign.pipeline.executors.common import check_failures
from brainalign.pipeline.extraction import Progress, silent
from brainalign.pipeline.machine import brainalign_version
from brainalign.pipeline.plan import STAGES, Plan, Stage, Unit
from brainalign.pipeline.redaction import redacted
from brainalign.pipeline.work import Failure, do_units
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.store import Store

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Dask"]

Made = TypeVar("Made")

# The clusters of dask-jobqueue.
CLUSTERS = ("HTCondorCluster", "LSFCluster", "MoabCluster", "OARCluster", "PBSCluster", "SGECluster", "SLURMCluster")
# So long a scheduler may take to answer.
ANSWER_S = 8.0
# And a little for Dask itself to notice that.
MORE_S = 4.0
# Few enough that a task is worth sending, enough that workers end at about the same time.
TASKS_PER_WORKER = 4
# So long a file that was made here may take to be seen elsewhere, on network file systems that keep lists of names.
SEEN_WITHIN_S = 60.0
# Of a worker's memory: at 0.8 of it Dask lets a worker begin nothing more, at 0.95 it ends it.
SHARE_OF_MEMORY = 0.7
# What workers are told of this process's environment, for units are to find the same files; no secrets.
ENVIRONMENT = ("BRAINALIGN_MIRROR", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")

# A worker's threads are of one process, in which standard output, the environment and the threads of linear algebra
# are everyone's: one of them does units, with the threads of all.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Dask:
    """Workers of a Dask cluster, which see the same folders as this machine.

    Parameters
    ----------
    scheduler : str, optional
        Address of a cluster's scheduler (``tcp://host:8786``), or the file that it wrote (``--scheduler-file``). The
        cluster is left as it was found.
    jobqueue : mapping, optional
        Where no scheduler is given: a cluster that dask-jobqueue starts for this run, and that ends with it.
        ``cluster`` is the name of its class, such as PBSCluster; all else are that class's arguments (cores, memory,
        queue, walltime, account, job_script_prologue ...). Its scheduler is a part of this process.
    n_workers : int
        How many units are to be done side by side: subjects are cut into so many groups, and so many workers are asked
        of a job queue.
    adaptive : bool
        Whether workers of a job queue come and go with the work.
    retries : int
        How often units are begun again whose worker died more often than Dask itself puts up with.

    Raises
    ------
    RecipeError
        If a number is out of range, or it is not said where the workers are.

    Examples
    --------
    >>> Dask(jobqueue={"cluster": "PBSCluster", "cores": 4, "memory": "16GB", "queue": "short"}, n_workers=20).n_workers
    20
    """

    scheduler: str | None = None
    jobqueue: Mapping[str, Any] | None = None
    n_workers: int = 16
    adaptive: bool = False
    retries: int = 2

    def __post_init__(self) -> None:
        if self.scheduler is None and self.jobqueue is None:
            raise RecipeError(
                "Dask needs workers: name a cluster's scheduler (--scheduler tcp://host:8786), or have one started "
                "with a section jobqueue: {cluster: PBSCluster, cores: 4, memory: 16GB}."
            )
        if self.jobqueue is not None and self.jobqueue.get("cluster") not in CLUSTERS:
            named = str(self.jobqueue.get("cluster"))
            raise RecipeError(f"jobqueue.cluster: there is no '{named}'. {nearest(named, CLUSTERS)}")
        if self.n_workers < 1:
            raise RecipeError(f"n_workers must be above zero, not {self.n_workers}.")
        if self.retries < 0:
            raise RecipeError(f"retries cannot be negative; it is {self.retries}.")

    def together(self, plan: Plan, units: Sequence[Unit]) -> Sequence[Sequence[str]]:
        """None: each unit is done on its own; see `Executor.together`."""
        return ()

    def execute(self, plan: Plan, work: WorkFolder, progress: Progress = silent) -> bool:
        """Do all units that are not done, stage after stage; see `Executor.execute`.

        Raises
        ------
        MissingExtraError
            If Dask is not installed.
        RecipeError
            If no scheduler answers, or the job queue's cluster cannot be had.
        DataError
            If workers see other folders or have another version than this process, or the scheduler is lost.
        """
        with _lease(work) as lease, self._client(work) as client:
            run = _Run(client, plan, work, lease, self.n_workers, progress)
            check_failures(plan, work, [failure for stage in STAGES for failure in run.do(stage, self.retries)])
        return True

    @contextmanager
    def _client(self, work: WorkFolder) -> Iterator[Client]:
        """A client of the cluster; what was started for this run ends with it."""
        _import("distributed")
        if self.scheduler is not None:
            with _connected(self.scheduler) as client:
                yield client
            return
        with self.cluster(work) as cluster, _connected(cluster) as client:
            if self.adaptive:
                cluster.adapt(minimum=0, maximum=self.n_workers)
            else:
                cluster.scale(self.n_workers)
            yield client

    def cluster(self, work: WorkFolder) -> Any:
        """The job queue's cluster, without workers yet; ``job_script()`` shows what would be submitted.

        Raises
        ------
        RecipeError
            If dask-jobqueue does not take the arguments.
        """
        asked = dict(self.jobqueue or {})
        kind = getattr(_import("dask_jobqueue"), asked.pop("cluster"))
        given = {"log_directory": str(work.path / "dask"), **asked}
        try:
            return kind(**given)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"executor.jobqueue: {kind.__name__} cannot be made of this: {error}") from error


@dataclass(frozen=True)
class _Lease:
    """What a worker needs to know; it holds as long as two files are there, which show that folders are the same."""

    folder: str
    cache: str
    token: str
    version: str
    environment: Mapping[str, str]
    seen_within_s: float

    @property
    def files(self) -> tuple[Path, Path]:
        """Beside the plan, and beside the store."""
        return WorkFolder(Path(self.folder)).path / f".dask-{self.token}", Path(self.cache, f".dask-{self.token}")


@contextmanager
def _lease(work: WorkFolder) -> Iterator[_Lease]:
    folder, cache = str(work.folder.resolve()), str(cache_folder().resolve())
    told = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    told["BRAINALIGN_CACHE"] = cache
    lease = _Lease(folder, cache, uuid.uuid4().hex, brainalign_version(), told, SEEN_WITHIN_S)
    try:
        for path in lease.files:
            _touch(path)
        yield lease
    finally:
        for path in lease.files:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _touch(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise DataError(f"Cannot write to {path.parent}: {error.strerror}.") from error


@dataclass(frozen=True)
class _Run:
    """One run of a plan on a cluster."""

    client: Client
    plan: Plan
    work: WorkFolder
    lease: _Lease
    n_workers: int
    progress: Progress

    def do(self, stage: Stage, retries: int) -> list[Failure]:
        """Do a stage's units; gives those that failed."""
        store, done, failures = Store(), self.plan.done(Store()), dict[str, Failure]()
        for number in range(1 + retries):
            ready = [unit for unit in self.plan.ready(stage, done) if unit.id not in failures]
            todo = [unit for unit in ready if not unit.is_done(store)]
            if not todo:
                break
            # After a death each by itself, so that the unit that kills workers takes no others along.
            failures |= {failure.unit: failure for failure in self._round(todo, alone=number > 0)}
        why = f"its worker died, again and again, {1 + retries} times over: it may need more memory than workers have."
        ready = [unit for unit in self.plan.ready(stage, done) if unit.id not in failures]
        lost = [unit for unit in ready if not unit.is_done(store)]
        return [*failures.values(), *(Failure(unit.id, "DataError", f"{unit.about}: {why}") for unit in lost)]

    def _round(self, units: Sequence[Unit], alone: bool) -> Iterator[Failure]:
        from distributed import as_completed

        stage, n_done = units[0].stage, 0
        n_tasks = TASKS_PER_WORKER * max(self.n_workers, len(self.client.nthreads()))
        size = 1 if alone else -(-len(units) // n_tasks)
        groups = [[unit.id for unit in units[first : first + size]] for first in range(0, len(units), size)]
        # Nobody may mistake them for another run's of the same units.
        keys = [f"brainalign-{stage}-{uuid.uuid4().hex}" for _ in groups]
        lease = asdict(self.lease)
        futures = {
            self.client.submit(_task, lease, ids, key=key, pure=False): ids
            for ids, key in zip(groups, keys, strict=True)
        }
        self.progress(stage, 0, len(units), "" if self.client.nthreads() else "no workers yet")
        try:
            for future in as_completed(list(futures), loop=self.client.loop):
                yield from _failures_of(future)
                n_done += len(futures[future])
                self.progress(stage, n_done, len(units))
        finally:
            with suppress(Exception):  # the scheduler may be gone
                self.client.cancel(list(futures), force=True)


def _failures_of(future: Future) -> list[Failure]:
    """What a task says went wrong; nothing where its workers died: its units are looked for in the store.

    Raises
    ------
    DataError
        If the worker cannot do units of this study at all, or the scheduler is gone.
    """
    from distributed.scheduler import KilledWorker

    if future.cancelled() or future.status == "lost":
        raise DataError(
            "The connection to Dask's scheduler is lost. What was finished is kept: run again once there is one."
        )
    if isinstance(future.exception(), KilledWorker):
        return []
    told = future.result()
    if isinstance(told, str):
        raise DataError(told)
    return [Failure(**failure) for failure in told]


# On the workers


def _task(lease: Mapping[str, Any], ids: Sequence[str]) -> list[dict[str, str]] | str:
    import importlib
    import platform

    try:
        do = importlib.import_module("brainalign.pipeline.executors.dask").do_on_worker
    except (ImportError, AttributeError) as error:
        return (
            f"Dask's worker on {platform.node()} has not this version of brainalign ({error}): install it there, and "
            "start the worker again."
        )
    return do(lease, ids)


# So it is sent whole, not by its name, which a worker without brainalign could not look up, nor say so.
_task.__module__ = "__main__"


def do_on_worker(lease: Mapping[str, Any], ids: Sequence[str]) -> list[dict[str, str]] | str:
    """Do units as long as the lease holds; gives those that failed, or why none can be done here.

    Texts only: what another version would read otherwise is left to files.
    """
    from distributed import get_worker

    held, worker = _Lease(**lease), get_worker()
    limit = getattr(getattr(worker, "memory_manager", None), "memory_limit", None)
    memory_gb = SHARE_OF_MEMORY * limit / 1e9 if limit else None
    failures: list[Failure] = []
    # What units set themselves is undone too.
    with _one_at_a_time, environment(held.environment, also=[MEMORY_GB]):
        wrong = _unfit(held, worker.address)
        if wrong:
            return wrong
        with threads_limited(worker.state.nthreads):
            for unit in ids:
                if not all(path.exists() for path in held.files):
                    break  # whoever wanted it is gone
                try:
                    failures += do_units(held.folder, [unit], memory_gb)
                except BrainalignError as error:
                    return str(error)
    return [asdict(failure) for failure in failures]


def _unfit(lease: _Lease, address: str) -> str:
    """Why this worker cannot do units of the study; nothing where it can."""
    here = brainalign_version()
    if here != lease.version:
        return (
            f"Dask's worker {address} has brainalign {here}, and this process {lease.version}: install the same "
            "version there, and start it again."
        )
    deadline = time.monotonic() + lease.seen_within_s
    for path in lease.files:
        while not _is_seen(path):
            if not path.parent.is_dir() or time.monotonic() > deadline:
                return (
                    f"Dask's worker {address} does not see the same folder {path.parent} as this process: --out and "
                    "BRAINALIGN_CACHE must name folders that all machines share."
                )
            time.sleep(1.0)
    return ""


def _is_seen(path: Path) -> bool:
    # A folder that is listed anew is asked of the server, not of what is remembered of it.
    with suppress(OSError):
        return path.name in os.listdir(path.parent)
    return False


# Connecting


@contextmanager
def _connected(where: Any) -> Iterator[Client]:
    """A client that nobody else sees; `where` is an address, a scheduler's file, or a cluster."""
    try:
        client = _in_time(partial(_client_of, where), ANSWER_S + MORE_S)
    except (OSError, ValueError, TimeoutError) as error:
        why = str(error).partition("\n")[0][:120] or type(error).__name__
        raise RecipeError(
            f"No Dask scheduler answers at {redacted(str(where))} within {ANSWER_S:.0f} s ({redacted(why)}). Start one "
            "(`dask scheduler`), or name its address with --scheduler tcp://HOST:PORT."
        ) from error
    with client:
        yield client


def _client_of(where: Any) -> Client:
    from distributed import Client

    if not isinstance(where, str) or not where.endswith(".json"):
        return Client(where, set_as_default=False, timeout=ANSWER_S)
    path = Path(where).expanduser()
    if not path.is_file():
        raise OSError("there is no such file")
    return Client(scheduler_file=str(path), set_as_default=False, timeout=ANSWER_S)


def _in_time(make: Callable[[], Made], seconds: float) -> Made:
    """What is made by a thread of its own; one that has not ended in time is left to itself.

    Dask's own time-out has been seen to pass unnoticed, where whoever took the connection said nothing.
    """
    made: concurrent.futures.Future[Made] = concurrent.futures.Future()

    def run() -> None:
        try:
            made.set_result(make())
        except BaseException as error:
            made.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return made.result(seconds)


def _import(package: str) -> Any:
    import importlib

    # dask_jobqueue takes the key that interrupts for itself when it is imported.
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError("Dask clusters", package.replace("_", "-"), "dask") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
