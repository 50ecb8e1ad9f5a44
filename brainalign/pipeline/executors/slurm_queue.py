"""What Slurm says: which jobs are in its queue, how others ended, what it allows."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from brainalign.errors import DataError
from brainalign.pipeline.executors.slurm_handed import HandedJob

__all__ = [
    "Ending",
    "Limits",
    "NoAnswerError",
    "TooManyJobsError",
    "cancel_jobs",
    "check_slurm",
    "endings",
    "limits",
    "patiently",
    "queued",
    "refusal",
    "room",
]

Ending = Literal["memory", "time", "preempted", "node", "cancelled", "killed"]
Answer = TypeVar("Answer")

# A command that has not answered by then will not.
TIMEOUT_S = 100.0
PAUSE_S = 10.0
# What Slurm's commands say of a controller that is away, and where an account or QOS has too many jobs already.
NO_ANSWER = re.compile(r"unable to contact|connect failure|timed out|connection refused|zero bytes", re.IGNORECASE)
TOO_MANY = re.compile(r"submit ?job|job submit limit|too many (jobs|tasks)|maximum number of jobs", re.IGNORECASE)
# Why a job ended, the stronger reason first: by the state that Slurm keeps, and by what it writes into the job's log.
STATES: tuple[tuple[str, Ending], ...] = (
    ("OUT_OF_ME", "memory"),
    ("TIMEOUT", "time"),
    ("DEADLINE", "time"),
    ("PREEMPTED", "preempted"),
    ("NODE_FAIL", "node"),
    ("BOOT_FAIL", "node"),
    ("CANCELLED", "cancelled"),
)
SIGNS: tuple[tuple[str, Ending], ...] = (
    (r"(?i)oom.kill|out of memory|exceeded memory limit", "memory"),
    (r"TIME LIMIT", "time"),
    (r"PREEMPTION", "preempted"),
    (r"NODE FAIL", "node"),
    (r"CANCELLED AT", "cancelled"),
)
# What the end of a log takes.
LOG_BYTES = 20_000


class NoAnswerError(DataError):
    """Slurm's controller does not answer."""


class TooManyJobsError(DataError):
    """Slurm takes no more jobs of this user, account or QOS."""


@dataclass(frozen=True)
class Limits:
    """What Slurm allows: elements of an array, memory of a node, time of a job."""

    array_size: int
    memory_gb: float
    time_min: float


def check_slurm() -> None:
    """Raise a DataError where there is no Slurm."""
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise DataError(
            "Slurm's commands (sbatch, srun) are not on the path of this machine.\n"
            "Run this on a login node of the cluster, or here without Slurm: executor kind local."
        )


def queued(ids: Sequence[str]) -> dict[str, str]:
    """Those of some jobs that Slurm has still in its queue, and their states (PENDING, RUNNING ...).

    Parameters
    ----------
    ids : sequence of str
        Of jobs; of an array, the array's or elements'.

    Raises
    ------
    NoAnswerError
        If the controller does not answer.
    """
    found = _states_in_queue(ids)
    return {job: state for job, state in found.items() if job in ids or job.partition("_")[0] in ids}


def cancel_jobs(ids: Sequence[str]) -> None:
    """Cancel jobs; those that have ended are passed over."""
    if ids:
        _output("scancel", "--quiet", *ids)


def endings(jobs: Sequence[HandedJob]) -> dict[str, Ending]:
    """Why each of some jobs ended before its units were done: by accounts where there are any, and by its log."""
    states = _states_in_accounts(jobs)
    return {job.id: _ending(states.get(job.id, ""), _end_of(Path(job.log))) for job in jobs}


def limits(partition: str | None) -> Limits:
    """What a partition allows, or the default one; what cannot be found out counts as unlimited."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _output("scontrol", "show", "config"))
    chosen = ["--partition", partition] if partition else []
    lines = _output("sinfo", "--noheader", "--exact", "--format=%P|%m|%l", *chosen).splitlines()
    rows = [line.split("|") for line in lines if partition or "*" in line]
    memories = [float(re.sub(r"\D", "", memory) or "inf") / 1024 for _, memory, _ in rows]
    times = [minutes_of(limit) for _, _, limit in rows]
    return Limits(int(found[1]) if found else 1001, max(memories, default=math.inf), max(times, default=math.inf))


def minutes_of(text: str) -> float:
    """The minutes of a duration as Slurm writes it.

    Examples
    --------
    >>> minutes_of("1-12:00:00"), minutes_of("30:00"), minutes_of("infinite")
    (2160.0, 30.0, inf)
    """
    days, _, clock = text.strip().rpartition("-")
    try:
        parts = [int(part) for part in clock.split(":")]
        hours, minutes, seconds = [*parts, 0, 0][:3] if days else [0, 0, *parts][-3:]
        return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60
    except ValueError:
        return math.inf


def room(account: str | None, qos: str | None) -> float:
    """How many more jobs this user may have in the queue, by the accounts; infinite where they set no limit."""
    import getpass

    user = getpass.getuser()
    of_account = [f"account={account}"] if account else []
    limits_of_user = _numbers("sacctmgr", "show", "assoc", f"user={user}", *of_account, "format=maxsubmit")
    limits_of_qos = _numbers("sacctmgr", "show", "qos", qos, "format=maxsubmitpu") if qos else []
    # Which of several accounts is taken is not known here: if it is one with less room, sbatch will say so.
    most = min(max(limits_of_user, default=math.inf), max(limits_of_qos, default=math.inf))
    if most == math.inf:
        return most
    taken = _output("squeue", "--noheader", "--array", "--user", user, "--format=%i").splitlines()
    return max(0, most - len(taken))


def patiently(ask: Callable[[], Answer], patience_s: float) -> Answer:
    """Ask as often as it takes while the controller does not answer, for so long."""
    until = time.monotonic() + patience_s
    while True:
        try:
            return ask()
        except NoAnswerError:
            if time.monotonic() >= until:
                raise
            time.sleep(PAUSE_S)


def refusal(words: str) -> DataError:
    """The error that Slurm's own words stand for."""
    errors = re.findall(r"error: (.*)", words) or words.strip().splitlines() or ["no reason given"]
    said = "; ".join(dict.fromkeys(error.strip() for error in errors))[:400]
    if NO_ANSWER.search(words):
        return NoAnswerError(
            f"Slurm's controller does not answer ({said}).\nTry again in some minutes; nothing is lost."
        )
    if TOO_MANY.search(words):
        return TooManyJobsError(
            f"Slurm takes no more jobs of yours ({said}).\n"
            "Wait for others to end, or take another account or QOS in the executor's settings."
        )
    return DataError(
        f"Slurm refuses the jobs: {said}.\n"
        "Mend the settings of the executor (partition, account, qos, constraint, memory_gb, time_min, gpus, extra); "
        "`sacctmgr show assoc user=$USER` and `sinfo` say what there is."
    )


def _states_in_queue(ids: Sequence[str], states: str = "") -> dict[str, str]:
    arrays = list(dict.fromkeys(job.partition("_")[0] for job in ids))
    if not arrays:
        return {}
    chosen = [f"--states={states}"] if states else []
    try:
        lines = _output("squeue", "--noheader", "--array", "--format=%i|%T", *chosen, "--jobs", ",".join(arrays))
    except NoAnswerError:
        raise
    except DataError as error:
        if "Invalid job id" in str(error):
            return {}  # it ended so long ago that Slurm has forgotten it
        raise
    rows = (line.split("|") for line in lines.splitlines() if "|" in line)
    return {job.strip(): state.strip() for job, state in rows}


def _states_in_accounts(jobs: Sequence[HandedJob]) -> dict[str, str]:
    """The states of jobs and their steps, by accounting, and where there is none as long as Slurm remembers them."""
    arrays = sorted({job.array for job in jobs})
    if not arrays:
        return {}
    found: dict[str, str] = {}
    with suppress(DataError):
        found |= _states_in_queue(arrays, "all")
    with suppress(DataError):
        lines = _output("sacct", "--noheader", "--parsable2", "--format=JobID,State", "--jobs", ",".join(arrays))
        for line in lines.splitlines():
            job, _, state = line.partition("|")
            job = job.partition(".")[0]
            found[job] = f"{found.get(job, '')} {state}"
    return found


def _ending(states: str, log: str) -> Ending:
    for sign, ending in STATES:
        # A user's cancelling ends all steps of a job; so do other things, of which the log may know.
        if sign in states and ending != "cancelled":
            return ending
    for pattern, ending in SIGNS:
        if re.search(pattern, log):
            return ending
    return "cancelled" if "CANCELLED" in states else "killed"


def _end_of(log: Path) -> str:
    """The end of what a job printed, since it was last begun."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - LOG_BYTES))
            return stream.read().decode(errors="replace").rpartition("Starting with")[2]
    except OSError:
        return ""


def _numbers(*command: str) -> list[float]:
    """A column of numbers; where there is none, there is no limit."""
    try:
        lines = _output(*command, "--noheader", "--parsable2").splitlines()
    except NoAnswerError:
        raise
    except DataError:
        return []  # no accounting here
    return [float(line) if line.isdigit() else math.inf for line in lines]


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise refusal(f"error: {command[0]} timed out") from None
    except FileNotFoundError:
        raise DataError(f"Slurm's command {command[0]} is not on the path of this machine.") from None
    if done.returncode:
        raise refusal(f"{command[0]}: {done.stderr or done.stdout}" if "error:" not in done.stderr else done.stderr)
    return done.stdout
