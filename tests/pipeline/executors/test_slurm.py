"""Recipes on a real Slurm, parts of which are broken meanwhile: the same bytes as on one machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from slurm_cluster import Cluster, find_cluster, output, wait_for

from brainalign.config import parse_recipe
from brainalign.errors import DataError
from brainalign.files import sha256_of_file
from brainalign.pipeline import run
from brainalign.pipeline.executors import Local, Slurm, slurm_round
from brainalign.pipeline.executors.slurm import cancel, jobs_alive
from brainalign.pipeline.executors.slurm_handed import STOPPED, read_jobs
from brainalign.pipeline.executors.slurm_queue import TooManyJobsError
from brainalign.pipeline.executors.slurm_tasks import UnitsTask
from brainalign.pipeline.work_folder import WorkFolder

# A study of 93 units: 3 feature spaces x 3 stories, 3 x 12 fits, 3 x 12 tests, 12 ladders.
TWELVE: Mapping[str, Any] = {
    "title": "Twelve subjects on a cluster",
    "dataset": {"name": "simulated", "n_subjects": 12, "n_runs": 3, "n_words": 150, "n_layers": 2, "dimension": 6},
    "features": [
        {"kind": "toy_model", "name": name, "n_layers": 2, "dimension": 6, "seed": seed}
        for seed, name in enumerate(("first", "second", "third"))
    ],
    "baseline": ["word_rate", "word_length"],
    "ladder": {"n_layers": 3},
    "tests": {"permutations": 20},
}
# One of 7 units: 3 stories, 4 fits.
SMALL: Mapping[str, Any] = {
    **{name: TWELVE[name] for name in ("title", "baseline")},
    "dataset": {**TWELVE["dataset"], "n_subjects": 4},
    "features": TWELVE["features"][:1],
}
# What is done in a process that is killed once all jobs are in the queue.
SUBMIT = """
import json, sys, time
from brainalign.config import parse_recipe
from brainalign.pipeline import run
from brainalign.pipeline.executors import Slurm
recipe, folder, settings = json.loads(sys.argv[1])
assert run(parse_recipe(recipe), folder, executor=Slurm(**settings)).scores is None
time.sleep(600)
"""


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return find_cluster()


@pytest.fixture(scope="module")
def enforced(cluster: Cluster) -> Iterator[None]:
    """Have Slurm look at accounts and their limits, as most clusters do."""
    before = cluster.conf.read_text()
    try:
        cluster.conf.write_text(before + "AccountingStorageEnforce=associations,limits,qos\n")
        cluster.restart("slurmctld")
        yield
    finally:
        cluster.conf.write_text(before)
        cluster.restart("slurmctld")


@pytest.fixture
def work(cluster: Cluster, tmp_path: Path) -> Iterator[WorkFolder]:
    """A result folder whose jobs do not outlive the test."""
    work = WorkFolder(tmp_path / "out")
    yield work
    cancel(work)
    wait_for(lambda: not jobs_alive(work), "the queue to be empty")


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have units fail in jobs; see tests/helpers/faults_in_jobs."""

    def set_faults(*faults: Mapping[str, Any]) -> None:
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "helpers" / "faults_in_jobs"))
        monkeypatch.setenv("FAULTS_IN_JOBS", json.dumps(faults))

    return set_faults


def local_scores(recipe: Mapping[str, Any], folder: Path) -> str:
    """The digest of what this machine computes without Slurm, into a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINALIGN_CACHE", str(folder / "cache"))
        run(parse_recipe(recipe), folder / "out", executor=Local(jobs=2, threads=1))
    return sha256_of_file(folder / "out" / "scores.nc")


def events(work: WorkFolder) -> list[dict[str, Any]]:
    """All lines of all journals, with the process that wrote each."""
    found = []
    for path in work.journal.glob("*.jsonl"):
        process = int(path.stem.split("-")[-2])
        found += [{**json.loads(line), "process": process} for line in path.read_text().splitlines()]
    return sorted(found, key=lambda event: event["at_s"])


def begun(work: WorkFolder, stage: str) -> dict[str, int]:
    """The jobs that are in the midst of a unit of a stage, and their processes."""
    last = {event["process"]: event for event in events(work)}
    return {
        event["facts"]["job"]: process
        for process, event in last.items()
        if event["kind"] == "started" and event["unit"].startswith(stage) and Path(f"/proc/{process}").exists()
    }


def running(work: WorkFolder) -> set[str]:
    return {job for job, state in jobs_alive(work).items() if state == "RUNNING"}


def finished(work: WorkFolder) -> bool:
    """Whether the results are there; a run that gave up will not get there."""
    if (work.path / STOPPED).exists():
        pytest.fail((work.path / STOPPED).read_text())
    return (work.folder / "run.json").exists()


@contextmanager
def submit_limit(n_jobs: int) -> Iterator[None]:
    """Let the account 'lab' have no more jobs in the queue."""
    command = ("sacctmgr", "-i", "modify", "user", "root", "where", "account=lab", "set")
    try:
        output(*command, f"maxsubmit={n_jobs}")
        yield
    finally:
        output(*command, "maxsubmit=-1")


def is_begun(work: WorkFolder, unit: str, times: int) -> bool:
    return sum(event["unit"] == unit and event["kind"] == "started" for event in events(work)) == times


def done_once(work: WorkFolder) -> bool:
    return set(Counter(event["unit"] for event in events(work) if event["kind"] == "done").values()) == {1}


@pytest.mark.slow
def test_whatever_breaks_the_scores_are_the_same_bytes_and_nothing_is_done_twice(
    cluster: Cluster, work: WorkFolder, faults: Callable[..., None], tmp_path: Path
) -> None:
    # Features are extracted by one job, which needs longer than its time limit.
    faults(
        {"about": "extract ", "seconds": 6},
        {"about": "fit ", "seconds": 1.5},
        {"about": "fit second, subject 05", "gigabytes": 0.9},
    )
    stages = {"extract": {"time_min": 1}, "finish": {"memory_gb": 2.0}}
    settings = {"memory_gb": 1.0, "job_min": 0.25, "stages": stages}
    submitter = subprocess.Popen([sys.executable, "-c", SUBMIT, json.dumps([TWELVE, str(work.folder), settings])])
    wait_for(lambda: any(job.stage == "finish" for job in read_jobs(work)), "the submission")
    submitter.kill()
    assert submitter.wait() == -signal.SIGKILL
    assert len(work.read_plan().units) == 93

    extracting = next(iter(wait_for(lambda: begun(work, "extract"), "the first features")))
    # What a crash makes the controller forget, such as a job, it never finds out, or takes minutes to.
    cluster.wait_until_written(extracting)
    cluster.restart("slurmctld", crash=True)

    cancelled = next(iter(wait_for(lambda: begun(work, "fit"), "a fit")))
    subprocess.run(["scancel", cancelled], check=True)
    others = wait_for(lambda: {job: pid for job, pid in begun(work, "fit").items() if job != cancelled}, "another fit")
    os.kill(next(iter(others.values())), signal.SIGKILL)

    wait_for(lambda: finished(work), "the results", 600)
    assert sha256_of_file(work.folder / "scores.nc") == local_scores(TWELVE, tmp_path / "local")
    assert done_once(work)
    # Each fault was one.
    jobs = read_jobs(work)
    logs = {job.id: Path(job.log).read_text() for job in jobs}
    assert "CANCELLED AT" in logs[cancelled]
    assert any("oom-kill" in log or "oom_kill" in log for log in logs.values())
    assert any("this job is timed-out" in log for log in logs.values())
    assert {job.memory_gb for job in jobs if job.stage == "fit"} == {1.0, 2.0}
    assert sum(job.stage == "finish" for job in jobs) > 1


def test_more_jobs_than_an_array_holds_are_several_and_all_can_be_cancelled(
    cluster: Cluster, work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = int(output("scontrol", "show", "config").partition("MaxArraySize")[2].split()[1])
    assert most < 36, "start the cluster with SLURM_TEST_MAXARRAY=21"
    monkeypatch.setenv("BRAINALIGN_MIRROR", "https://someone:hunter-two@example.org/data")
    monkeypatch.setenv("LAB_TOKEN", "open-sesame")
    # Held back, so that the queue is as it was submitted.
    slurm = Slurm(
        memory_gb=1, job_min=1e-6, extra={"hold": True, "comment": "a pilot; $(hostname)"}, setup=("umask 027",)
    )
    assert run(parse_recipe(TWELVE), work.folder, executor=slurm).scores is None
    jobs = read_jobs(work)
    assert Counter(job.array for job in jobs if job.stage == "fit").most_common(1)[0][1] == most
    assert len([job for job in jobs if job.stage == "fit"]) == 36
    assert sorted(unit for job in jobs for unit in job.units) == sorted(unit.id for unit in work.read_plan().units)
    assert set(jobs_alive(work)) == {job.id for job in jobs}

    scripts = "".join(path.read_text() for path in work.path.glob("jobs/*.sh"))
    assert "export OMP_NUM_THREADS=1" in scripts
    assert f"export BRAINALIGN_CACHE={os.environ['BRAINALIGN_CACHE']}" in scripts
    assert "umask 027" in scripts
    assert "#SBATCH --comment='a pilot; $(hostname)'" in scripts
    assert not [
        text
        for text in ("hunter-two", "open-sesame")
        for path in work.path.rglob("*")
        if path.is_file() and text.encode() in path.read_bytes()
    ]

    plan = (work.path / "plan.json").read_bytes()
    for executor in (slurm, Local(jobs=1)):
        with pytest.raises(
            DataError, match=r"are in Slurm's queue: .* more\.\nSee `brainalign status .*`brainalign cancel"
        ):
            run(parse_recipe(TWELVE), work.folder, executor=executor)
    assert (work.path / "plan.json").read_bytes() == plan

    assert set(cancel(work)) == {job.id for job in jobs}
    wait_for(lambda: not jobs_alive(work), "the queue to be empty")
    assert cancel(work) == []


def test_a_round_that_was_cancelled_meanwhile_hands_over_nothing(
    cluster: Cluster, work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = Slurm(memory_gb=1, extra={"hold": True})
    run(parse_recipe(SMALL), work.folder, executor=slurm)
    n_jobs = len(read_jobs(work))
    cancel(work)
    slurm_round.conclude(work, slurm_round.Round(0, 0, 0))
    # Nor does a job begin that a controller, after a crash, takes for not cancelled.
    UnitsTask(str(work.folder), tuple(unit.id for unit in work.read_plan().units), 0.0)()
    assert not events(work)
    assert len(read_jobs(work)) == n_jobs


@pytest.mark.slow
def test_where_a_submit_limit_leaves_room_for_few_jobs_the_others_follow_and_count_as_no_retry(
    cluster: Cluster, work: WorkFolder, tmp_path: Path, enforced: None
) -> None:
    recipe = {**SMALL, "tests": {"permutations": 20}}
    # Of features, of fits, and the one after them; which counts itself while it hands over those of answers.
    with submit_limit(3):
        slurm = Slurm(memory_gb=2, account="lab", job_min=1e-6, retries=0)
        assert run(parse_recipe(recipe), work.folder, executor=slurm).scores is None
        wait_for(lambda: finished(work), "the results")
    assert [job.stage for job in read_jobs(work)] == ["extract", "fit", "finish", "answer", "finish"]
    assert sha256_of_file(work.folder / "scores.nc") == local_scores(recipe, tmp_path / "local")


def test_a_submit_limit_that_is_not_known_before_makes_fewer_jobs_of_more_units(
    cluster: Cluster, work: WorkFolder, enforced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_round, "room", lambda account, qos: float("inf"))
    with submit_limit(9):
        slurm = Slurm(memory_gb=1, account="lab", job_min=1e-6, extra={"hold": True})
        assert run(parse_recipe(TWELVE), work.folder, executor=slurm).scores is None
        alive = jobs_alive(work)
        assert 3 < len(alive) <= 9
        handed = [unit for job in read_jobs(work) if job.id in alive for unit in job.units]
        assert sorted(handed) == sorted(unit.id for unit in work.read_plan().units)
        other = parse_recipe({**SMALL, "dataset": {**SMALL["dataset"], "n_words": 160}})
    with submit_limit(1), pytest.raises(TooManyJobsError, match="Slurm takes no more jobs of yours"):
        run(other, work.folder.with_name("other"), executor=slurm)
    assert not jobs_alive(WorkFolder(work.folder.with_name("other")))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"account": "nobody"}, "Invalid account or account/partition combination specified"),
        ({"partition": "nowhere"}, "invalid partition specified: nowhere"),
        ({"qos": "fastest"}, "Invalid qos specification"),
        ({"constraint": "moon"}, "Invalid feature specification"),
        ({"memory_gb": 100_000.0}, "Memory specification can not be satisfied"),
        ({"gpus": 64}, "Requested node configuration is not available|Invalid generic resource"),
        ({"extra": {"no-such": "option"}}, "unrecognized option '--no-such=option'"),
    ],
)
def test_what_slurm_refuses_is_told_in_its_words_and_nothing_is_left_in_the_queue(
    settings: dict[str, Any], said: str, cluster: Cluster, work: WorkFolder, enforced: None
) -> None:
    # The last stage is refused, when the others are in the queue.
    if set(settings) <= {"partition", "qos", "constraint", "memory_gb", "gpus"}:
        settings = {"memory_gb": 1.0, "stages": {"finish": settings}}
    with pytest.raises(DataError, match=rf"Slurm refuses the jobs: .*({said})") as told:
        run(parse_recipe(SMALL), work.folder, executor=Slurm(**settings))
    assert len(str(told.value).splitlines()) <= 3
    wait_for(lambda: not jobs_alive(work), "the queue to be empty")


def test_a_machine_without_slurm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"sbatch, srun\) are not on the path.*\n.*login node"):
        run(parse_recipe(SMALL), tmp_path / "out", executor=Slurm())


def test_a_controller_that_does_not_answer_is_told(
    cluster: Cluster, work: WorkFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = cluster.conf.read_text().replace("MessageTimeout=20", "MessageTimeout=2")
    (tmp_path / "slurm.conf").write_text(re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=9", dead))
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
        with pytest.raises(DataError, match=r"controller does not answer .*\nTry again in some minutes") as told:
            run(parse_recipe(SMALL), work.folder, executor=Slurm())
    assert len(str(told.value).splitlines()) <= 3
    assert not read_jobs(work)


@pytest.mark.slow
def test_a_job_that_is_preempted_and_then_loses_its_node_goes_on(
    cluster: Cluster, work: WorkFolder, faults: Callable[..., None], tmp_path: Path
) -> None:
    faults({"about": "fit ", "seconds": 3})
    run(parse_recipe(SMALL), work.folder, executor=Slurm(memory_gb=1, retries=0, job_min=1e6, partition="main"))
    # Its only job of fits, when it has done one.
    wait_for(lambda: any(e["kind"] == "done" and e["unit"].startswith("fit") for e in events(work)), "the first fit")
    fit, process = next(iter(wait_for(lambda: begun(work, "fit"), "a fit").items()))
    nodes = len(cluster.nodes())
    cpus = int(output("sinfo", "-h", "-p", "main", "-o", "%c").strip().rstrip("+"))
    subprocess.run(
        [
            "sbatch",
            "-p",
            "urgent",
            f"--nodes={nodes}",
            f"--ntasks-per-node={cpus}",
            "--mem=100",
            "--output=/dev/null",
            "--wrap",
            "sleep 2",
        ],
        check=True,
        capture_output=True,
    )
    again = wait_for(lambda: {j: p for j, p in begun(work, "fit").items() if p != process}, "its second beginning")
    node = output("squeue", "-h", "-j", fit, "-o", "%N").strip()
    cluster.kill_node(node)
    try:
        wait_for(lambda: finished(work), "the results")
    finally:
        cluster.start(f"slurmd.{node}")
        cluster.wait_until_ready()
    assert len({event["process"] for event in events(work) if event["unit"].startswith("fit")}) == 3, again
    assert done_once(work)
    assert [job.stage for job in read_jobs(work)] == ["extract", "fit", "finish"]
    assert sha256_of_file(work.folder / "scores.nc") == local_scores(SMALL, tmp_path / "local")


@pytest.mark.slow
def test_a_unit_that_lasts_longer_than_its_job_gets_more_time(
    cluster: Cluster, work: WorkFolder, faults: Callable[..., None]
) -> None:
    faults({"about": "fit first, subject 02", "seconds": 4})
    # So short that a signal at any moment counts as the time limit, and so long that Slurm's own does not come.
    settings = Slurm(memory_gb=1, job_min=1e6, stages={"fit": {"time_min": 2}})
    run(parse_recipe(SMALL), work.folder, executor=settings)
    slow = next(unit.id for unit in work.read_plan().units if unit.about == "fit first, subject 02")
    # The first time it has done others, so it is put in the queue again; the second time it has not.
    for times in (1, 2):
        wait_for(partial(is_begun, work, slow, times), "the slow unit")
        subprocess.run(["scancel", "--signal=USR2", next(iter(begun(work, "fit")))], check=True)
    wait_for(lambda: finished(work), "the results")
    jobs = [job for job in read_jobs(work) if job.stage == "fit"]
    assert [(job.time_min, slow in job.units, len(job.units)) for job in jobs] == [(2, True, 4), (4, True, 3)]
    assert "before the TIME LIMIT" in Path(jobs[0].log).read_text()
    assert done_once(work)


@pytest.mark.slow
def test_who_waits_sees_how_far_it_is_and_why_it_stopped_without_any_accounting(
    cluster: Cluster, work: WorkFolder, faults: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults(
        {"about": "fit first, subject 01", "gigabytes": 0.9},
        {"about": "subject 02", "error": "the disk is upside down"},
    )
    shim = tmp_path / "bin" / "sacct"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    seen = []
    slurm = Slurm(memory_gb=1, job_min=1e6, wait=True)
    with pytest.raises(DataError, match="fit first, subject 02: the disk is upside down") as told:
        run(parse_recipe(SMALL), work.folder, progress=lambda *step: seen.append(step), executor=slurm)
    assert len(str(told.value).splitlines()) <= 3
    assert str(told.value).startswith("1 of 7 units are not done")
    assert (work.path / STOPPED).read_text().strip() == str(told.value)
    assert ("fit", 3, 4) in seen
    # What failed for want of memory got it, what has to be mended was not tried again.
    jobs = [job for job in read_jobs(work) if job.stage == "fit"]
    assert [job.memory_gb for job in jobs] == [1.0, 2.0]
    assert not any(job.stage == "finish" for job in read_jobs(work))
    # Mended, it goes on.
    monkeypatch.setenv("FAULTS_IN_JOBS", "[]")
    assert run(parse_recipe(SMALL), work.folder, executor=slurm).scores is not None
    assert not (work.path / STOPPED).exists()
    assert done_once(work)
