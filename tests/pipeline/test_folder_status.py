"""How far a study is: told from its folder alone, whatever has happened to those who work on it."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from brainalign.errors import DataError
from brainalign.files import digest_of
from brainalign.pipeline.executors.slurm_handed import CANCELLED, STOPPED, HandedJob, note_jobs
from brainalign.pipeline.folder_status import process_state, status
from brainalign.pipeline.journal import Journal
from brainalign.pipeline.plan import Cost, Plan, Unit
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.safe_yaml import yaml_text
from brainalign.store import Store

STARTED = datetime.now(UTC) - timedelta(hours=1)


def units(n_fits: int = 4) -> list[Unit]:
    """One extraction, fits that wait for it, an answer that waits for them."""
    cost = Cost(1e9, 1e6, 1e6)
    extract = Unit("extract-0", "extract", "extract m, stimulus a", (key(0),), space="m", stimulus="a", cost=cost)
    fits = [
        Unit(f"fit-{n}", "fit", f"fit m, subject {n}", (key(n),), space="m", cost=cost) for n in range(1, n_fits + 1)
    ]
    return [extract, *fits, Unit("answer-0", "answer", "tests, subject 1", (key(10**6),), question="tests", cost=cost)]


def key(number: int) -> str:
    return digest_of({"number": number})


def begun(folder: Path, planned: list[Unit], **facts: Any) -> WorkFolder:
    """A folder as a run leaves it that goes on."""
    folder.mkdir(exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml_text({"title": "A study"}), encoding="utf-8")
    work = WorkFolder(folder)
    process = {"host": platform.node(), "pid": os.getpid()}
    standard = {"title": "A study", "started": STARTED.isoformat(), "notices": [], "process": process}
    work.write_plan(Plan(tuple(planned)), {**standard, "executor": {"kind": "local", "jobs": 2}, **facts})
    return work


def counts(folder: Path) -> dict[str, tuple[int, ...]]:
    """Done, running, failed, waiting and to do of each stage."""
    return {
        stage.stage: (stage.done, stage.running, stage.failed, stage.waiting, stage.to_do)
        for stage in status(folder).stages
    }


def test_units_are_told_apart_by_what_has_become_of_them(tmp_path: Path) -> None:
    work = begun(tmp_path, units())
    assert counts(tmp_path) == {"extract": (0, 0, 0, 0, 1), "fit": (0, 0, 0, 4, 0), "answer": (0, 0, 0, 1, 0)}
    journal = Journal(work.journal)
    journal.write("extract-0", "done", {"seconds": 2.0, "cpu_s": 2.0})
    journal.write("fit-1", "started")
    journal.write("fit-2", "failed", {"why": "no space left", "error": "DataError"})
    # Another run has done it: there is no line of it here.
    Store().put(key(3), {}, {})
    found = status(tmp_path)
    assert counts(tmp_path) == {"extract": (1, 0, 0, 0, 0), "fit": (1, 1, 1, 0, 1), "answer": (0, 0, 0, 1, 0)}
    assert found.state == "unfinished"
    assert found.title == "A study"
    (failure,) = found.failures
    assert (failure.unit, failure.about, failure.why) == ("fit-2", "fit m, subject 2", "no space left")
    assert failure.log == work.log_of("fit-2")
    # Four units of 1e9 operations are left, of which one took 2 s: fits that are done told nothing.
    assert found.seconds_left is not None
    assert found.seconds_left > 0


def test_a_failure_from_before_the_plan_is_to_be_done_again(tmp_path: Path) -> None:
    work = begun(tmp_path, units())
    Journal(work.journal).write("extract-0", "failed", {"why": "no network"})
    assert counts(tmp_path)["extract"] == (0, 0, 1, 0, 0)
    begun(tmp_path, units(), started=(datetime.now(UTC) + timedelta(seconds=5)).isoformat())
    assert counts(tmp_path)["extract"] == (0, 0, 0, 0, 1)
    assert status(tmp_path).failures == ()


def test_a_unit_whose_process_was_killed_is_lost_and_not_running(tmp_path: Path) -> None:
    work = begun(tmp_path, units())
    code = (
        "import os, signal; from pathlib import Path; from brainalign.pipeline.journal import Journal\n"
        f"Journal(Path({str(work.journal)!r})).write('extract-0', 'started'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    found = status(tmp_path)
    assert found.lost == ("extract m, stimulus a",)
    assert found.failures == ()
    assert counts(tmp_path)["extract"] == (0, 0, 0, 0, 1)


def test_time_left_is_that_of_what_is_left_shared_by_the_workers(tmp_path: Path) -> None:
    work = begun(tmp_path, units(9)[:-1], n_workers=4)
    journal = Journal(work.journal)
    assert status(tmp_path).seconds_left is None
    journal.write("extract-0", "done", {"seconds": 5.0, "cpu_s": 5.0})
    journal.write("fit-1", "done", {"seconds": 10.0, "cpu_s": 20.0})
    # Eight fits of 10 s by the clock.
    assert status(tmp_path).seconds_left == pytest.approx(20.0)


def test_units_that_went_into_one_job_are_done_one_after_the_other(tmp_path: Path) -> None:
    work = begun(tmp_path, units(9)[:-1], n_workers=100)
    journal = Journal(work.journal)
    journal.write("extract-0", "done", {"seconds": 5.0, "cpu_s": 5.0})
    journal.write("fit-1", "done", {"seconds": 10.0, "cpu_s": 20.0})
    assert status(tmp_path).seconds_left == pytest.approx(10.0)
    fits = [unit.id for unit in work.read_plan().of("fit")]
    note_jobs(work, [handed("7_0", *fits[:4]), handed("7_1", *fits[4:])])
    assert status(tmp_path).seconds_left == pytest.approx(50.0)
    # Those of the second are handed over again, each in a job of its own; of the first one is done.
    note_jobs(work, [handed(f"8_{number}", fit) for number, fit in enumerate(fits[4:])])
    assert status(tmp_path).seconds_left == pytest.approx(30.0)


def handed(job: str, *units: str) -> HandedJob:
    return HandedJob(job, "fit", units, log="", submitted_s=0.0, memory_gb=1.0, time_min=60)


SQUEUE = {
    "an answer": ("echo '7_0|RUNNING'; echo '7_1|PENDING'; echo '99|RUNNING'", {"RUNNING": 1, "PENDING": 1}),
    "an empty queue": ("true", {}),
    "an error": ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", None),
    "no answer": ("exec sleep 60", None),
}


@pytest.mark.parametrize(("script", "states"), SQUEUE.values(), ids=SQUEUE)
def test_the_queue_is_asked_and_no_answer_is_no_failure(
    script: str, states: Mapping[str, int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brainalign.pipeline.folder_status.ANSWER_WITHIN_S", 60.0 if states is not None else 2.0)
    work = begun(tmp_path / "out", units(), executor={"kind": "slurm"})
    jobs = [{"id": f"7_{n}", "units": [f"fit-{n}"], "stage": "fit", "log": "", "kind": "slurm"} for n in range(3)]
    work.jobs.write_text("".join(f"{json.dumps(job)}\n" for job in jobs) + '{"id": "7_3", "un')
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f"#!/bin/sh\n{script}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(squeue.parent), prepend=os.pathsep)
    (found,) = status(tmp_path / "out").jobs
    assert (found.kind, found.jobs, found.states) == ("slurm", 3, states)


def test_without_slurm_what_was_handed_over_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = begun(tmp_path, units())
    work.jobs.write_text('{"id": "7", "units": [], "kind": "slurm"}\n')
    monkeypatch.setenv("PATH", "")
    (found,) = status(tmp_path).jobs
    assert found.states is None


def test_it_is_told_why_jobs_do_not_go_on(tmp_path: Path) -> None:
    work = begun(tmp_path, units())
    assert status(tmp_path).stopped == ""
    (work.path / CANCELLED).touch()
    assert status(tmp_path).stopped == "its jobs were cancelled"
    (work.path / STOPPED).write_text("2 of 6 units are not done after 4 rounds of jobs.\n", encoding="utf-8")
    assert status(tmp_path).stopped == "2 of 6 units are not done after 4 rounds of jobs."


def test_the_process_that_began_a_run_is_known_again(tmp_path: Path) -> None:
    def state(**process: Any) -> str:
        own = {"host": platform.node(), "pid": os.getpid()}
        now = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
        return process_state({"process": own | process, "started": process.pop("started", now)})

    gone = subprocess.Popen([sys.executable, "-c", ""])
    assert gone.wait() == 0
    assert state(pid=gone.pid) == "gone"
    assert state(host="another") == "elsewhere"
    # Its number was given to a process that is younger than the plan.
    assert state(started="2001-01-01T00:00:00+00:00") == "gone"
    code = "import sys; print(flush=True); sys.stdin.read()"
    for name, expected in (("brainalign", "running"), ("notebook", "other")):
        with subprocess.Popen(
            [sys.executable, "-c", code, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert state(pid=process.pid) == expected
            process.communicate()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "nothing"),
        ({"recipe.yaml": "title: Mine\n"}, "unfinished"),
        ({"recipe.yaml": "title: Mine\n", "run.json": "{cut sho"}, "unfinished"),
        ({"recipe.yaml": "title: Mine\n", "run.json": "[]"}, "unfinished"),
        (
            {
                "recipe.yaml": "title: Mine\n",
                "run.json": '{"recipe_yaml": "title: Mine\\n", "title": "Mine", "started": "s", "findings": []}',
            },
            "finished",
        ),
    ],
)
def test_a_folder_without_a_plan_is_told_by_its_files(files: Mapping[str, str], said: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert status(tmp_path).state == said


def test_a_foreign_or_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        status(tmp_path / "none")
    (tmp_path / "recipe.yaml").write_text("- flour\n- water\n")
    with pytest.raises(DataError, match="no result folder"):
        status(tmp_path)


def test_the_plan_of_another_version_is_named(tmp_path: Path) -> None:
    work = begun(tmp_path, units())
    plan = work.path / "plan.json"
    plan.write_text(plan.read_text().replace('"layout": 1', '"layout": 0'))
    with pytest.raises(DataError, match="another version"):
        status(tmp_path)


MANY = """
import sys, json
from brainalign_cli.main import main
try:
    main(["status", sys.argv[1], "--json"])
finally:
    heavy = {"torch", "pandas", "sklearn", "scipy", "xarray", "transformers", "mne", "joblib"} & set(sys.modules)
    print("heavy:", sorted(heavy), file=sys.stderr)
"""


def test_ten_thousand_units_are_told_in_two_seconds_and_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    many = units(9_998)
    work = begun(tmp_path, many)
    journal = Journal(work.journal)
    lines = []
    for number, unit in enumerate(many[:6000]):
        for kind in ("started", "done"):
            facts = {"seconds": 1.0, "cpu_s": 1.0, "peak_mb": 100.0}
            lines.append(json.dumps({"unit": unit.id, "kind": kind, "at_s": time.time() + number, "facts": facts}))
    journal.path.write_text("".join(f"{line}\n" for line in lines))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run([sys.executable, "-c", MANY, str(tmp_path)], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"10,000 units told in {took_s:.2f} s of processor time, the start of Python included")
    found = json.loads(ran.stdout)
    assert sum(stage["units"] for stage in found["stages"]) == 10_000
    assert sum(stage["done"] for stage in found["stages"]) == 6000
    assert "heavy: []" in ran.stderr
    # Processors of other machines, and of a busy one, are slower.
    assert took_s < 4
