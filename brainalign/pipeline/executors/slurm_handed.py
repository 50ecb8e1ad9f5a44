"""What was handed to Slurm: a line of ``work/jobs.jsonl`` for each job, written as soon as Slurm has taken it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from brainalign.pipeline.work_folder import WorkFolder

__all__ = ["CANCELLED", "STOPPED", "HandedJob", "note_jobs", "read_jobs"]

# Files of the work folder. The first tells the job that goes on from round to round not to; the second says why no
# more jobs are handed over although units are missing.
CANCELLED, STOPPED = "cancelled", "stopped.txt"


@dataclass(frozen=True)
class HandedJob:
    """A job, or an element of a job array, that Slurm has taken.

    Parameters
    ----------
    id : str
        As Slurm writes it: "123", or "123_4" of an element.
    stage : str
        Of its units, or "finish".
    units : tuple of str
        Their ids.
    log : str
        The path of what the job prints.
    submitted_s : float
        Seconds since 1970.
    memory_gb : float
        What was asked for.
    time_min : int
        What was asked for.
    """

    id: str
    stage: str
    units: tuple[str, ...]
    log: str
    submitted_s: float
    memory_gb: float
    time_min: int

    @property
    def array(self) -> str:
        """The id of the whole array."""
        return self.id.partition("_")[0]


def note_jobs(work: WorkFolder, jobs: list[HandedJob]) -> None:
    """Append jobs to those handed over before."""
    lines = [json.dumps({"kind": "slurm", **asdict(job)}) + "\n" for job in jobs]
    with work.jobs.open("ab", buffering=0) as stream:
        stream.write("".join(lines).encode())
        os.fsync(stream.fileno())


def read_jobs(work: WorkFolder) -> list[HandedJob]:
    """All jobs handed to Slurm so far, in order."""
    if not work.jobs.is_file():
        return []
    return [job for line in work.jobs.read_bytes().splitlines() if (job := _job_in(line)) is not None]


def _job_in(line: bytes) -> HandedJob | None:
    try:
        content = json.loads(line)
        if content.pop("kind") != "slurm":
            return None
        return TypeAdapter(HandedJob).validate_python(content)
    except (ValueError, KeyError, AttributeError):
        return None  # cut short by a kill, or of another version
