"""What of the machine this process may use: the cores and memory that a batch system or a parent process allots it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "MEMORY_GB",
    "THREADS",
    "allowed_cpus",
    "allowed_memory",
    "environment",
    "free_memory",
    "has_gpu",
    "threads_limited",
]

# Set for each of several processes side by side: what it may fill, in GB.
MEMORY_GB = "BRAINALIGN_MEMORY_GB"
# What batch systems say of a task's cores.
CPUS_OF_JOBS = ("SLURM_CPUS_PER_TASK", "NSLOTS", "PBS_NCPUS", "LSB_DJOB_NUMPROC")
# What linear algebra reads when it is first loaded.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Where control groups of version 2 and 1 hold a process's limit.
CGROUPS = Path("/sys/fs/cgroup")
LIMIT_FILES = {"": ("", "memory.max"), "memory": ("memory", "memory.limit_in_bytes")}
# Which of them a process is in.
OWN_CGROUPS = Path("/proc/self/cgroup")


def allowed_cpus() -> int:
    """How many cores this process may use: what the batch system gave, or what the operating system allows."""
    import joblib

    for name in CPUS_OF_JOBS:
        if os.environ.get(name, "").isdigit():
            return max(1, int(os.environ[name]))
    return joblib.cpu_count()


def allowed_memory() -> float:
    """Bytes that this process may fill in all: the least of what the machine has and of what it was allotted.

    Examples
    --------
    >>> 0 < allowed_memory() <= 2**60
    True
    """
    import psutil

    return min([float(psutil.virtual_memory().total), *_limits()])


def free_memory() -> float:
    """Bytes that this process may fill on top of what it holds.

    Examples
    --------
    >>> 0 <= free_memory() <= allowed_memory()
    True
    """
    import psutil

    own = psutil.Process().memory_info().rss
    return max(0.0, min([float(psutil.virtual_memory().available), *(limit - own for limit in _limits())]))


def has_gpu() -> bool:
    """Whether torch sees a GPU of CUDA's kind; where Linux has no device of that kind, torch need not be loaded."""
    if sys.platform == "linux" and not any(Path("/dev", name).exists() for name in ("nvidiactl", "kfd")):
        return False
    import torch

    return torch.cuda.is_available()


@contextmanager
def environment(told: Mapping[str, str], also: Sequence[str] = ()) -> Iterator[None]:
    """Within it the environment says what is told; after it what it said before, of the variables `also` too."""
    before = {name: os.environ.get(name) for name in (*told, *also)}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def threads_limited(n_threads: int) -> Iterator[None]:
    """Within it linear algebra has so many threads, that of libraries loaded meanwhile too."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    n_before = torch.get_num_threads() if torch else None
    with environment(dict.fromkeys(THREADS, str(n_threads))), threadpool_limits(n_threads):
        try:
            if torch:
                torch.set_num_threads(n_threads)
            yield
        finally:
            if torch and n_before:
                torch.set_num_threads(n_before)


def _limits() -> list[float]:
    """What was allotted, in bytes: by a parent process, a batch system, a control group."""
    found = []
    if own := _number(os.environ.get(MEMORY_GB)):
        found.append(own * 1e9)
    if of_node := _number(os.environ.get("SLURM_MEM_PER_NODE")):
        found.append(of_node * 2**20)
    elif of_cpu := _number(os.environ.get("SLURM_MEM_PER_CPU")):
        found.append(of_cpu * 2**20 * allowed_cpus())
    return found + _limits_of_cgroups()


def _limits_of_cgroups() -> list[float]:
    """Those of the process's control group and of all that it is inside of."""
    try:
        lines = OWN_CGROUPS.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return []
    found = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers in LIMIT_FILES:
            root, name = LIMIT_FILES[controllers]
            # In a container the path may be that outside of it, and the root the container's own group.
            group = Path(path.strip("/"))
            found += [_limit_in(CGROUPS / root / part / name) for part in (group, *group.parents)]
    return [limit for limit in found if limit]


def _limit_in(file: Path) -> float:
    try:
        return _number(file.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return 0.0


def _number(text: str | None) -> float:
    """A number above zero, or 0 where the text is none ("max", nothing)."""
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
