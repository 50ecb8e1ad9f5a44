"""The commands around a run: what it would take, how far it is, going on with it and stopping it."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from brainalign_cli.main import main
from brainalign_cli.work import executor_changes

from brainalign.config import load_recipe
from brainalign.errors import DataError
from brainalign.pipeline import folder_status, open_scores, plan_of, run
from brainalign.pipeline.work import Worker
from brainalign.pipeline.work_folder import WorkFolder

RECIPE = """\
title: A small study
dataset: {name: simulated, n_subjects: 3, n_runs: 3, n_words: 120}
features:
  - {kind: toy_model, n_layers: 2, dimension: 8}
tests: {permutations: 20}
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(RECIPE)
    return tmp_path


def leave(*arguments: str) -> int:
    """Run the command; the code it leaves with."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return exit_.value.code


def rows(text: str) -> dict[str, list[str]]:
    """The lines of a table, by their first word."""
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("  ")}


def test_a_dry_run_says_what_a_run_would_take_and_leaves_nothing(
    study: Path, capsys: pytest.CaptureFixture, own_cache: Path
) -> None:
    assert leave("run", "study.yaml", "--dry-run", "--jobs", "2") == 0
    told = capsys.readouterr().out
    table = rows(told)
    assert table["extract"][:3] == ["3", "0", "3"]
    assert table["answer"][:3] == ["3", "0", "3"]
    assert int(table["all"][0]) == sum(int(table[stage][0]) for stage in ("extract", "fit", "answer"))
    assert "executor: local (jobs 2" in told
    assert "time: about a minute with 2 units at a time" in told
    assert re.search(r"the longest unit: about a minute \((extract|fit|tests)", told)
    assert not (study / "results").exists()
    assert not (own_cache / "store").exists()


def test_a_dry_run_for_slurm_counts_the_jobs_that_the_units_would_go_into(
    study: Path, capsys: pytest.CaptureFixture
) -> None:
    """A hundred jobs may run, but small units go together: that it takes a hundredth of the hours is not promised."""
    assert leave("run", "study.yaml", "--executor", "slurm", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "executor: slurm (" in told
    assert "time: about a minute in 3 jobs once they begin" in told


def test_a_dry_run_counts_what_is_done_and_learns_how_fast_it_was(study: Path, capsys: pytest.CaptureFixture) -> None:
    assert leave("run", "study.yaml", "--jobs", "1", "--quiet") == 0
    capsys.readouterr()
    assert leave("run", "study.yaml", "--jobs", "1", "--dry-run", "--set", "features.0.dimension=9") == 2
    assert "belongs to another recipe" in capsys.readouterr().err
    changed = ("--set", "features.0.dimension=9", "--overwrite")
    assert leave("run", "study.yaml", "--jobs", "1", "--dry-run", *changed) == 0
    assert rows(capsys.readouterr().out)["all"][1] == "0"
    assert leave("run", "study.yaml", "--jobs", "1", "--dry-run") == 0
    told = capsys.readouterr().out
    assert rows(told)["all"][1:3] == [rows(told)["all"][0], "0"]
    assert "as fast as the units that are done" in told


def test_a_dry_run_names_the_files_that_are_missing_and_plans_no_further(
    study: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("planned, or fetched")

    monkeypatch.setattr("brainalign.pipeline.execution.study_of", forbidden)
    monkeypatch.setattr("brainalign.archives.archive.Archive.fetch", forbidden)
    text = RECIPE.replace("{name: simulated, n_subjects: 3, n_runs: 3, n_words: 120}", "{name: alice, subjects: [s18]}")
    (study / "study.yaml").write_text(text)
    assert leave("run", "study.yaml", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "to fetch" in told
    assert "kB  alice_stim_shared/README.txt" in told
    assert "Nothing more can be planned before these files are here" in told


def test_a_model_that_is_not_here_is_named_before_anything_is_planned(
    study: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def snapshot(name: str, local_files_only: bool = False, dry_run: bool = False, **_: Any) -> Any:
        if local_files_only:
            raise FileNotFoundError("not in the cache")
        assert dry_run, "downloaded"
        sizes = {"config.json": (665, False), "model.safetensors": (548_000_000, True)}
        return [
            huggingface_hub.DryRunFileInfo("0" * 40, size, file, "", not wanted, wanted)
            for file, (size, wanted) in sizes.items()
        ]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    (study / "study.yaml").write_text(
        RECIPE.replace("toy_model, n_layers: 2, dimension: 8", "language_model, model: gpt2")
    )
    assert leave("run", "study.yaml", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "548.0 MB  gpt2: model.safetensors" in told
    assert "config.json" not in told
    assert "Nothing more can be planned" in told


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((None, None, False), {"kind": "local"}),
        (("slurm", None, True), {"kind": "slurm", "wait": True}),
        (("dask", "tcp://login-1:8786", False), {"kind": "dask", "scheduler": "tcp://login-1:8786"}),
    ],
)
def test_options_of_run_say_what_the_executor_section_would(
    arguments: tuple[Any, ...], expected: dict[str, Any], study: Path
) -> None:
    found = load_recipe("study.yaml", executor_changes(*arguments)).executor
    assert {name: found[name] for name in expected} == expected


def test_jobs_are_those_of_this_machine(study: Path, capsys: pytest.CaptureFixture) -> None:
    assert leave("run", "study.yaml", "--executor", "slurm", "--jobs", "3", "--dry-run") == 2
    assert "--jobs is for --executor local" in capsys.readouterr().err
    (study / "study.yaml").write_text(RECIPE + "executor: {kind: local, jobs: 7}\n")
    assert leave("run", "study.yaml", "--jobs", "3", "--dry-run") == 0
    assert "executor: local (jobs 3" in capsys.readouterr().out


def fail_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise DataError("the disk\nis full")

    monkeypatch.setattr(Worker, "_fit", failing)


def test_what_failed_is_told_with_its_log_and_begun_again(study: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fail_fits(patch)
        assert leave("run", "study.yaml", "--jobs", "1", "--quiet", "--out", "out") == 2
    capsys.readouterr()
    assert leave("status", "out") == 0
    told = capsys.readouterr().out
    assert "out: unfinished, A small study" in told
    n_fits = int(rows(told)["fit"][0])
    assert rows(told)["extract"] == ["3", "3", "0", "0", "0", "0"]
    assert rows(told)["fit"] == [str(n_fits), "0", "0", str(n_fits), "0", "0"]
    assert rows(told)["answer"] == ["3", "0", "0", "0", "3", "0"]
    assert "is full" in told
    log = Path(told.split("log: ")[1].splitlines()[0])
    assert "is full" in log.read_text()
    assert told.splitlines()[-1] == "  report: not yet: no scores.nc"
    assert leave("retry", "out", "--quiet") == 0
    assert "Report: out/report.html" in capsys.readouterr().out
    assert leave("status", "out") == 0
    assert "out: finished, A small study" in capsys.readouterr().out
    # The same as without any failure.
    again = run(load_recipe("study.yaml"), study / "whole").scores
    assert again.equals(open_scores("out"))


def test_many_failures_are_counted_and_the_first_five_told(study: Path, capsys: pytest.CaptureFixture) -> None:
    text = RECIPE.replace("n_subjects: 3", "n_subjects: 8") + "executor: {kind: local, jobs: 8}\n"
    (study / "study.yaml").write_text(text)
    work = WorkFolder(study / "out")
    with pytest.MonkeyPatch.context() as patch:
        # Eight groups of one, and all in this process.
        patch.setattr("brainalign.pipeline.executors.local.Local._side_by_side", one_by_one)
        fail_fits(patch)
        assert leave("run", "study.yaml", "--quiet", "--out", "out") == 2
    capsys.readouterr()
    assert leave("status", "out") == 0
    told = capsys.readouterr().out
    assert told.count("failed: fit ToyModel") == 5
    assert f"and 3 more that failed; logs: {Path('out') / 'work' / 'logs'}" in told
    assert len(work.read_plan().of("fit")) == 8


def one_by_one(self: Any, units: Any, n_workers: int, n_threads: int, work: WorkFolder, progress: Any) -> Any:
    return self._one_by_one(units, n_threads, work, progress)


def test_status_for_programs_is_json(study: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fail_fits(patch)
        assert leave("run", "study.yaml", "--jobs", "1", "--quiet", "--out", "out") == 2
    capsys.readouterr()
    assert leave("status", "out", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == "unfinished"
    assert found["scores"] is False
    assert {stage["stage"]: stage["done"] for stage in found["stages"]} == {"extract": 3, "fit": 0, "answer": 0}
    assert all(Path(failure["log"]).is_file() for failure in found["failures"])


@pytest.mark.parametrize("command", ["status", "retry", "cancel"])
def test_a_folder_that_holds_no_run_is_said_to(command: str, study: Path, capsys: pytest.CaptureFixture) -> None:
    (study / "foreign").mkdir()
    assert leave(command, "no such folder") == 2
    assert "no such folder" in capsys.readouterr().err
    code = leave(command, "foreign")
    found = capsys.readouterr()
    assert (code, found.out) == (0, "foreign: nothing\n") if command == "status" else code == 2
    assert command == "status" or "foreign has no plan: `brainalign run RECIPE --out foreign`" in found.err


BEGIN = "from brainalign_cli.main import main; import sys; main(sys.argv[2:])"


@pytest.mark.slow
def test_a_run_is_stopped_from_elsewhere_and_goes_on(study: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["run", "study.yaml", "--jobs", "1", "--quiet", "--out", "out", "--set", "tests.permutations=200000"]
    # What an interrupt of a shell's background job finds ignored is not ignored here.
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN, "brainalign", *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            work = WorkFolder(study / "out")
            until(lambda: work.journal.is_dir() and folder_status.status(study / "out").stages[2].running == 1)
            assert leave("status", "out") == 0
            assert "  running; about " in capsys.readouterr().out
            assert leave("cancel", "out") == 0
            assert f"Told process {process.pid} to stop" in capsys.readouterr().out
            _, told = process.communicate(timeout=120)
            assert process.returncode == 130
            assert "interrupted" in told
        finally:
            process.kill()
    assert leave("cancel", "out") == 2
    assert "Nothing to stop" in capsys.readouterr().err
    assert leave("status", "out") == 0
    told = capsys.readouterr().out
    assert rows(told)["fit"][2:5] == ["0", "0", "0"]
    assert "  process lost: tests, subject" in told
    assert "  stopped; it goes on from what is finished with: brainalign retry out" in told


def until(happened: Any, within_s: float = 240.0) -> None:
    """Wait until something has happened."""
    end = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("process", "said"),
    [
        ({"host": "login-7", "pid": 5}, "was begun on login-7, process 5: stop it there"),
        ({"host": platform.node(), "pid": os.getpid()}, "Nothing to stop"),
    ],
)
def test_what_cannot_be_stopped_from_here_is_not(
    process: dict[str, Any], said: str, study: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise AssertionError("a signal was sent")

    planned = plan_of(load_recipe("study.yaml"), "out")
    facts = {"title": "", "started": "2001-01-01T00:00:00+00:00", "notices": [], "executor": {"kind": "local"}}
    (study / "out").mkdir()
    WorkFolder(study / "out").write_plan(planned.plan, {**facts, "process": process})
    monkeypatch.setattr(os, "kill", killed)
    assert leave("cancel", "out") == 2
    assert said in capsys.readouterr().err


def test_jobs_of_slurm_are_cancelled_there(
    study: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = plan_of(load_recipe("study.yaml"), "out")
    facts = {"title": "", "started": "2001-01-01T00:00:00+00:00", "notices": [], "executor": {"kind": "slurm"}}
    (study / "out").mkdir()
    WorkFolder(study / "out").write_plan(planned.plan, {**facts, "process": {"host": "login-7", "pid": 5}})
    asked = []
    monkeypatch.setattr("brainalign.pipeline.executors.slurm.cancel", lambda work: asked.append(work) or ["7_1", "7_2"])
    assert leave("cancel", "out") == 0
    assert asked == [WorkFolder(Path("out"))]
    told = capsys.readouterr().out
    assert "Cancelled 2 jobs." in told
    assert "`brainalign retry out` goes on from there" in told
