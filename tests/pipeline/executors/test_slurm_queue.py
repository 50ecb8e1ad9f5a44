"""What Slurm says is understood: durations, why jobs ended, what it refuses; with and without accounting."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.errors import DataError
from brainalign.pipeline.executors import slurm_queue
from brainalign.pipeline.executors.slurm_handed import HandedJob, note_jobs, read_jobs
from brainalign.pipeline.executors.slurm_jobs import Ask
from brainalign.pipeline.executors.slurm_queue import (
    Limits,
    NoAnswerError,
    TooManyJobsError,
    endings,
    limits,
    minutes_of,
    patiently,
    queued,
    refusal,
    room,
)
from brainalign.pipeline.executors.slurm_round import grown_ask
from brainalign.pipeline.work_folder import WorkFolder

BEGINNING = "submitit INFO (2026-11-26 21:40:11,853) - Starting with JobEnvironment(job_id=5)\n"


def shims(folder: Path, monkeypatch: pytest.MonkeyPatch, **commands: str) -> None:
    """Put commands that print a text, or fail with one that begins with "error", in the place of Slurm's."""
    folder.mkdir()
    for name, text in commands.items():
        (folder / f"{name}.txt").write_text(text + "\n")
        where = ">&2; exit 1" if "error" in text else ""
        (folder / name).write_text(f"#!/bin/sh\n/bin/cat {folder / name}.txt {where}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def job(number: int, log: Path) -> HandedJob:
    return HandedJob(f"7_{number}", "fit", (f"fit-{number}",), str(log), 0.0, 4.0, 60)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("5", 5 / 60), ("30:00", 30), ("1:30:00", 90), ("2-00:00:00", 2880), ("1-12", 2160), ("infinite", float("inf"))],
)
def test_durations_are_read(text: str, minutes: float) -> None:
    assert minutes_of(text) == minutes


@pytest.mark.parametrize(
    ("state", "log", "ending"),
    [
        ("OUT_OF_MEMORY", "", "memory"),
        ("FAILED", "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.0", "memory"),
        ("FAILED", "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks", "memory"),
        ("FAILED", "slurmstepd: error: Exceeded memory limit at some point.", "memory"),
        ("TIMEOUT", "", "time"),
        ("FAILED", "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-26T21:44:56 DUE TO TIME LIMIT ***", "time"),
        ("FAILED", "brainalign: no unit was finished before the TIME LIMIT", "time"),
        ("PREEMPTED", "", "preempted"),
        ("", "*** JOB 7 ON n1 CANCELLED AT 2026-11-26T21:44:56 DUE TO PREEMPTION ***", "preempted"),
        ("NODE_FAIL", "", "node"),
        ("", "*** JOB 7 ON n1 CANCELLED AT 2026-11-26T21:44:56 DUE TO NODE FAILURE, SEE SLURMCTLD LOG ***", "node"),
        ("CANCELLED by 0", "", "cancelled"),
        ("", "*** STEP 7.0 ON n1 CANCELLED AT 2026-11-26T21:44:56 ***", "cancelled"),
        ("FAILED", "srun: error: n1: task 0: Killed", "killed"),
        # What was before it was begun again is over.
        ("FAILED", f"CANCELLED AT 2026-11-26T21:44:56 DUE TO TIME LIMIT ***\n{BEGINNING}", "killed"),
    ],
)
def test_why_a_job_ended_is_found_by_its_state_or_by_its_log(
    state: str, log: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shims(tmp_path / "bin", monkeypatch, squeue="slurm_load_jobs error: Invalid job id specified", sacct=f"7_1|{state}")
    (tmp_path / "log").write_text(log if BEGINNING in log else BEGINNING + log)
    assert endings([job(1, tmp_path / "log")]) == {"7_1": ending}


def test_the_state_of_a_step_tells_as_much_as_that_of_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = "7_1|FAILED\n7_1.batch|FAILED\n7_1.0|OUT_OF_MEMORY\n7_2|FAILED\n7_2.0|FAILED"
    shims(tmp_path / "bin", monkeypatch, squeue="", sacct=states)
    found = endings([job(1, tmp_path / "none"), job(2, tmp_path / "none")])
    assert found == {"7_1": "memory", "7_2": "killed"}


def test_without_accounting_the_queue_is_asked_as_long_as_it_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shims(
        tmp_path / "bin",
        monkeypatch,
        sacct="error: Slurm accounting storage is disabled",
        squeue="7_1|OUT_OF_MEMORY\n7_2|TIMEOUT",
    )
    found = endings([job(1, tmp_path / "none"), job(2, tmp_path / "none")])
    assert found == {"7_1": "memory", "7_2": "time"}


def test_jobs_that_slurm_has_forgotten_are_not_in_its_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shims(tmp_path / "bin", monkeypatch, squeue="slurm_load_jobs error: Invalid job id specified")
    assert queued(["7_1", "8"]) == {}


def test_a_queue_that_cannot_be_seen_is_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shims(
        tmp_path / "bin",
        monkeypatch,
        squeue="slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
    )
    with pytest.raises(NoAnswerError, match="does not answer"):
        queued(["7_1"])


def test_a_command_that_hangs_is_a_controller_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shims(tmp_path / "bin", monkeypatch, squeue="")
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    monkeypatch.setattr(slurm_queue, "TIMEOUT_S", 0.2)
    with pytest.raises(NoAnswerError):
        queued(["7_1"])


def test_only_own_jobs_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shims(tmp_path / "bin", monkeypatch, squeue="7_1|RUNNING\n7_2|PENDING\n77|RUNNING\n8|COMPLETING")
    assert queued(["7_1", "8"]) == {"7_1": "RUNNING", "8": "COMPLETING"}
    assert set(queued(["7"])) == {"7_1", "7_2"}


def test_the_largest_node_and_the_longest_time_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shims(
        tmp_path / "bin",
        monkeypatch,
        scontrol="MaxArraySize            = 1001",
        sinfo="main*|65536|1-00:00:00\nmain*|131072|1-00:00:00\nbig|1048576|infinite",
    )
    assert limits(None) == Limits(1001, 128.0, 1440.0)
    assert limits("big") == Limits(1001, 1024.0, float("inf"))


@pytest.mark.parametrize(
    ("account", "allowed", "left"),
    [
        ("lab", "10", 8),
        ("lab", "1", 0),
        ("lab", "", float("inf")),
        (None, "10\n50", 48),
        (None, "10\n\n", float("inf")),
        (None, "error: no accounting", float("inf")),
    ],
)
def test_room_is_what_accounts_allow_less_what_is_in_the_queue(
    account: str | None, allowed: str, left: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shims(tmp_path / "bin", monkeypatch, sacctmgr=allowed, squeue="1\n2")
    assert room(account, None) == left


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            NoAnswerError,
            "does not answer",
        ),
        (
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            NoAnswerError,
            "does not answer",
        ),
        (
            "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting"
            "/QOS policy (job submit limit, user's size and/or time limits)",
            TooManyJobsError,
            "AssocMaxSubmitJobLimit; Batch job submission failed",
        ),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", TooManyJobsError, "no more jobs of yours"),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            DataError,
            "refuses the jobs: Batch job submission failed: Invalid account",
        ),
        ("", DataError, "no reason given"),
    ],
)
def test_what_slurm_refuses_is_told_in_three_lines(words: str, kind: type[DataError], said: str) -> None:
    error = refusal(words)
    assert type(error) is kind
    assert said in str(error)
    assert len(str(error).splitlines()) <= 3


def test_a_controller_that_comes_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_queue, "PAUSE_S", 0.01)
    answers = iter([NoAnswerError("away"), NoAnswerError("away"), "here"])

    def ask() -> str:
        answer = next(answers)
        if isinstance(answer, NoAnswerError):
            raise answer
        return answer

    assert patiently(ask, 30.0) == "here"
    answers = iter([NoAnswerError("away")] * 1000)
    with pytest.raises(NoAnswerError):
        patiently(ask, 0.05)


@given(
    st.floats(0.5, 500),
    st.integers(1, 10_000),
    st.sampled_from(["memory", "time", "preempted", "node", "cancelled", "killed"]),
    st.floats(1, 1000),
    st.floats(1, 20_000),
)
def test_what_a_unit_asks_for_grows_where_it_lacked_and_never_beyond_the_limits(
    memory_gb: float, time_min: int, ending: str, most_gb: float, most_min: float
) -> None:
    ask, allowed = Ask(memory_gb, time_min), Limits(1001, most_gb, most_min)
    grown = grown_ask(ask, ending, allowed)
    if ending == "memory":
        assert (grown is None) == (memory_gb >= most_gb)
        assert grown is None or (memory_gb < grown.memory_gb <= most_gb and grown.time_min == time_min)
    elif ending == "time":
        assert grown is None or (time_min < grown.time_min <= most_min and grown.memory_gb == memory_gb)
    else:
        assert grown == ask


def test_a_line_that_was_cut_short_or_is_of_another_kind_is_passed_over(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path)
    work.path.mkdir()
    note_jobs(work, [job(1, tmp_path / "log"), job(2, tmp_path / "log")])
    with work.jobs.open("a") as stream:
        stream.write('{"kind": "dask", "id": "3", "units": []}\n{"kind": "slurm", "id": "7_')
    assert [one.id for one in read_jobs(work)] == ["7_1", "7_2"]
    assert [one.array for one in read_jobs(work)] == ["7", "7"]
