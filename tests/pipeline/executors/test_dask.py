"""Units done by Dask's workers give the bytes of a local run, whatever becomes of the workers."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from brainalign.config import executor_of, parse_recipe
from brainalign.errors import DataError, MissingExtraError, RecipeError
from brainalign.pipeline import run
from brainalign.pipeline.executors import Local, dask
from brainalign.pipeline.executors.dask import Dask
from brainalign.pipeline.journal import latest_events
from brainalign.pipeline.work_folder import WorkFolder

pytest.importorskip("distributed", reason="needs the extra 'dask'")

SMALL: Mapping[str, Any] = {
    "title": "A small study",
    "dataset": {"name": "simulated", "n_subjects": 3, "n_runs": 3, "n_words": 150, "n_layers": 2, "dimension": 8},
    "features": [{"kind": "toy_model", "n_layers": 2, "dimension": 8}],
    "tests": {"permutations": 20},
}
# Workers import brainalign and what it needs first, on a machine that may be busy.
LONG_S = 240.0


@contextmanager
def ended(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    """A process that ends with the block, and its children with it."""
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def dask_process(*arguments: str, **environment: str) -> subprocess.Popen[Any]:
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextmanager
def scheduler(folder: Path) -> Iterator[Path]:
    """A scheduler's file; the scheduler ends with the block."""
    file = folder / "scheduler.json"
    process = dask_process("scheduler", "--port=0", "--no-dashboard", "--no-show", f"--scheduler-file={file}")
    with ended(process):
        wait_for(file.is_file)
        yield file


@contextmanager
def worker(file: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[Any]]:
    """A worker with one thread, without a nanny that would begin it again."""
    given = ("worker", f"--scheduler-file={file}", "--nthreads=1", "--no-nanny", "--no-dashboard", *arguments)
    with ended(dask_process(*given, **environment)) as process:
        yield process


def wait_for(happened: Any) -> None:
    deadline = time.monotonic() + LONG_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a local run with a cache of its own."""
    folder = tmp_path_factory.mktemp("local")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINALIGN_CACHE", str(folder / "cache"))
        run(parse_recipe(SMALL), folder / "out", executor=Local(jobs=1))
    return scores_in(folder / "out")


def scores_in(folder: Path) -> bytes:
    return (folder / "scores.nc").read_bytes()


def hidden_files(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob(".dask-*")]


@pytest.mark.slow
def test_workers_of_a_local_cluster_give_the_bytes_of_a_local_run(
    expected: bytes, tmp_path: Path, own_cache: Path
) -> None:
    from distributed import Client, LocalCluster

    told: list[tuple[str, int, int]] = []
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        executor = Dask(scheduler=cluster.scheduler_address, n_workers=2)
        run(
            parse_recipe(SMALL),
            tmp_path / "out",
            executor=executor,
            progress=lambda what, done, total, note="": told.append((what, done, total)),
        )
        # Found as it was: its workers live, nothing is kept for anyone, and they have their own environment.
        with Client(cluster, set_as_default=False) as client:
            assert len(client.nthreads()) == 2
            assert not cluster.scheduler.tasks
            caches = client.run(lambda: os.environ.get("BRAINALIGN_CACHE"))
        assert set(caches.values()) == {os.environ["BRAINALIGN_CACHE"]}
    assert scores_in(tmp_path / "out") == expected
    assert ("extract", 3, 3) in told
    assert ("answer", 3, 3) in told
    events = latest_events(WorkFolder(tmp_path / "out").journal)
    assert {event.kind for event in events.values()} == {"done"}
    assert str(os.getpid()) not in {event.process.split("-")[-2] for event in events.values()}
    assert not hidden_files(tmp_path, own_cache)


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing_but_time(expected: bytes, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # The first worker has no environment of this run's: it is told where the store is.
    with scheduler(tmp_path) as file, worker(file, BRAINALIGN_CACHE=str(tmp_path / "elsewhere")) as first:
        command = (
            "import sys; from brainalign.config import load_recipe; from brainalign.pipeline import run; "
            "from brainalign.pipeline.executors.dask import Dask; "
            f"run(load_recipe(sys.argv[1]), sys.argv[2], executor=Dask(scheduler={str(file)!r}, n_workers=2))"
        )
        recipe = tmp_path / "recipe.json.yaml"
        recipe.write_text(json.dumps(dict(SMALL)))
        ours = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", command, str(recipe), str(out)],
            start_new_session=True,
            stderr=subprocess.PIPE,
        )
        with ended(ours):
            wait_for(lambda: latest_events(WorkFolder(out).journal) or ours.poll() is not None)
            os.kill(first.pid, signal.SIGKILL)
            with worker(file):
                _, told = ours.communicate(timeout=LONG_S)
                assert ours.returncode == 0, told.decode()
    assert scores_in(out) == expected
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
def test_a_worker_that_cannot_do_the_work_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with scheduler(tmp_path) as file, worker(file):
        executor, seen = Dask(scheduler=str(file), n_workers=1), tmp_path / "out"
        one_run = parse_recipe({**SMALL, "splits": {"outer": "run"}, "dataset": {**SMALL["dataset"], "n_runs": 1}})
        with monkeypatch.context() as patch:
            patch.setattr(dask, "brainalign_version", lambda: "99.0")
            with pytest.raises(DataError, match=r"has brainalign \S+, and this process 99\.0: install the same"):
                run(parse_recipe(SMALL), seen, executor=executor)
        # What is there for this process and not for the workers, as a folder of its own machine would be.
        with monkeypatch.context() as patch:
            patch.setattr(dask, "_touch", lambda path: path.parent.mkdir(parents=True, exist_ok=True))
            patch.setattr(dask, "SEEN_WITHIN_S", 1.0)
            with pytest.raises(DataError, match=r"does not see the same folder .*work as this process"):
                run(parse_recipe(SMALL), seen, executor=Dask(scheduler=str(file), n_workers=1))
        with pytest.raises(DataError, match="outer is 'run', but there is only one run"):
            run(one_run, tmp_path / "bad", executor=executor)
    assert not hidden_files(tmp_path)


@pytest.mark.slow
def test_workers_without_brainalign_are_told_apart_from_a_defect(tmp_path: Path) -> None:
    (tmp_path / "without.py").write_text("import sys\nsys.modules['brainalign'] = None\n")
    with (
        scheduler(tmp_path) as file,
        worker(file, f"--preload={tmp_path / 'without.py'}"),
        pytest.raises(DataError, match=r"Dask's worker on \S+ has not this version of brainalign .*install it there"),
    ):
        run(parse_recipe(SMALL), tmp_path / "out", executor=Dask(scheduler=str(file), n_workers=1))


@pytest.mark.slow
def test_an_interrupt_stops_at_once_and_leaves_the_cluster_as_it_was(expected: bytes, tmp_path: Path) -> None:
    from distributed import Client

    def interrupt(what: str, done: int, total: int, note: str = "") -> None:
        if what == "extract" and done:
            raise KeyboardInterrupt

    with scheduler(tmp_path) as file, worker(file):
        executor = Dask(scheduler=str(file), n_workers=1)
        with pytest.raises(KeyboardInterrupt):
            run(parse_recipe(SMALL), tmp_path / "out", executor=executor, progress=interrupt)
        assert not hidden_files(tmp_path)
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            assert len(client.nthreads()) == 1
            wait_for(lambda: not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))
        run(parse_recipe(SMALL), tmp_path / "out", executor=executor)
    assert scores_in(tmp_path / "out") == expected


@pytest.mark.slow
def test_a_job_queue_starts_workers_and_its_jobs_end_with_the_run(
    expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PBS's two commands: one begins a copy of a job script in the background and says a number, the other ends it.
    begin = f'cp "$1" {tmp_path}/job.sh; setsid bash {tmp_path}/job.sh > {tmp_path}/job.out 2>&1 &'
    commands = {
        "qsub": f"{begin} echo $!; echo $! >> {tmp_path}/jobs",
        "qdel": f'kill -TERM -- "-$1"; echo "$1" >> {tmp_path}/ended',
    }
    (tmp_path / "bin").mkdir()
    for name, script in commands.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    jobqueue = {"cluster": "PBSCluster", "cores": 1, "memory": "2GB", "scheduler_options": {"dashboard": False}}
    run(parse_recipe(SMALL), tmp_path / "out", executor=Dask(jobqueue=jobqueue, n_workers=1))
    assert scores_in(tmp_path / "out") == expected
    assert (tmp_path / "ended").read_text() == (tmp_path / "jobs").read_text()


@pytest.mark.parametrize(
    ("cluster", "lines"),
    [
        ("PBSCluster", ["#PBS -q short", "#PBS -l walltime=01:00:00"]),
        ("SGECluster", ["#$ -q short", "#$ -l h_rt=01:00:00"]),
        ("LSFCluster", ["#BSUB -q short", "#BSUB -W 01:00"]),
        ("SLURMCluster", ["#SBATCH -p short", "#SBATCH -t 01:00:00"]),
    ],
)
def test_a_job_script_says_what_was_asked_for(cluster: str, lines: list[str], tmp_path: Path) -> None:
    walltime = "01:00" if cluster == "LSFCluster" else "01:00:00"
    asked: dict[str, Any] = {"cluster": cluster, "cores": 2, "memory": "4GB", "queue": "short", "walltime": walltime}
    asked |= {"job_script_prologue": ["module load python"], "scheduler_options": {"dashboard": False}}
    asked |= {"use_stdin": True} if cluster == "LSFCluster" else {}
    with Dask(jobqueue=asked).cluster(WorkFolder(tmp_path)) as made:
        script = made.job_script()
    for line in (*lines, "module load python", str(tmp_path / "work" / "dask")):
        assert line in script


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Dask needs workers"),
        ({"jobqueue": {"cluster": "PBSCLuster"}}, "Did you mean 'PBSCluster'"),
        ({"jobqueue": {"cores": 1}}, "jobqueue.cluster"),
        ({"scheduler": "tcp://host:1", "n_workers": 0}, "n_workers must be above zero"),
        ({"scheduler": "tcp://host:1", "retries": -1}, "retries cannot be negative"),
        ({"scheduler": "tcp://host:1", "workers": 3}, "unknown key"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        executor_of({"kind": "dask", **settings})


# Of a cluster that could not be made, dask-jobqueue's own end stumbles over what is not there.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <function Cluster.__del__:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"cores": 1}, "memory"), ({"cores": 1, "memory": "1GB", "quueue": "short"}, "quueue")],
)
def test_a_job_queue_that_does_not_take_the_arguments_is_told(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=f"executor.jobqueue: PBSCluster .*{message}"):
        Dask(jobqueue={"cluster": "PBSCluster", **arguments}).cluster(WorkFolder(tmp_path))
    gc.collect()


def test_the_key_that_interrupts_stays_what_it_was() -> None:
    code = (
        "import signal; from brainalign.pipeline.executors.dask import _import; _import('dask_jobqueue'); "
        "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]


@pytest.mark.parametrize("kind", ["nothing listens", "never answers", "no such host", "no address", "no such file"])
def test_a_scheduler_that_does_not_answer_is_told_in_time(kind: str, tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        if kind == "never answers":
            listening.listen()
        addresses = {"no such host": "tcp://no-such-host.invalid:8786", "no address": "not an address"}
        addresses["no such file"] = str(tmp_path / "none.json")
        executor = Dask(scheduler=addresses.get(kind, f"tcp://127.0.0.1:{port}"))
        begun = time.monotonic()
        with pytest.raises(RecipeError, match="No Dask scheduler answers at"):
            run(parse_recipe(SMALL), tmp_path / "out", executor=executor)
    assert time.monotonic() - begun < 10 + 20  # the run's own beginnings, on a busy machine
    assert not hidden_files(tmp_path)


@pytest.mark.parametrize(
    ("package", "settings"),
    [
        ("distributed", {"scheduler": "tcp://127.0.0.1:1"}),
        ("dask_jobqueue", {"jobqueue": {"cluster": "PBSCluster", "cores": 1, "memory": "1GB"}}),
    ],
)
def test_what_is_not_installed_is_named(
    package: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'brainalign\[dask\]'"):
        run(parse_recipe(SMALL), tmp_path / "out", executor=Dask(**settings))
