"""What of the machine a process may use: the least of what the system, a batch system and a parent process allot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import joblib
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from brainalign import limits
from brainalign.limits import MEMORY_GB, THREADS, allowed_cpus, allowed_memory, free_memory, has_gpu, threads_limited

MIB = 2**20


@pytest.fixture(autouse=True)
def nothing_allotted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No limit but the machine's; the folder stands for that of the control groups."""
    for name in (*limits.CPUS_OF_JOBS, MEMORY_GB, "SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(limits, "CGROUPS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_CPUS_PER_TASK": "3"}, 3),
        ({"NSLOTS": "5"}, 5),
        ({"PBS_NCPUS": "7"}, 7),
        ({"LSB_DJOB_NUMPROC": "9"}, 9),
        ({"SLURM_CPUS_PER_TASK": "2", "NSLOTS": "8"}, 2),
        ({"SLURM_CPUS_PER_TASK": "0"}, 1),
        ({"SLURM_CPUS_PER_TASK": "", "NSLOTS": "many"}, None),
        ({"SLURM_CPUS_PER_TASK": "-4"}, None),
        ({}, None),
    ],
)
def test_cores_are_those_of_the_job_or_else_of_the_process(
    environment: dict[str, str], expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert allowed_cpus() == (joblib.cpu_count() if expected is None else expected)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({MEMORY_GB: "0.25"}, 0.25e9),
        ({"SLURM_MEM_PER_NODE": "100"}, 100 * MIB),
        ({"SLURM_MEM_PER_CPU": "50", "SLURM_CPUS_PER_TASK": "3"}, 150 * MIB),
        ({"SLURM_MEM_PER_NODE": "100", MEMORY_GB: "0.05"}, 0.05e9),
        ({"SLURM_MEM_PER_NODE": "100", MEMORY_GB: "5"}, 100 * MIB),
        # Slurm says 0 where a job has the whole node.
        ({"SLURM_MEM_PER_NODE": "0"}, None),
        ({MEMORY_GB: "much", "SLURM_MEM_PER_CPU": ""}, None),
        ({}, None),
    ],
)
def test_memory_is_the_least_that_was_allotted(
    environment: dict[str, str], expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert allowed_memory() == pytest.approx(psutil.virtual_memory().total if expected is None else expected)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        pytest.param("0::/job/step\n", {"job/step/memory.max": "12345678\n"}, 12345678, id="version 2"),
        pytest.param("0::/job/step\n", {"job/step/memory.max": "max\n"}, None, id="version 2, no limit"),
        pytest.param("0::/job/step\n", {"job/memory.max": "12345678\n"}, 12345678, id="version 2, of the group above"),
        pytest.param(
            "0::/job/step\n", {"job/step/memory.max": "max\n", "job/memory.max": "12345678"}, 12345678, id="none below"
        ),
        pytest.param("0::/\n", {"memory.max": "12345678\n"}, 12345678, id="version 2, of a container"),
        pytest.param(
            "5:memory:/slurm/job\n3:cpu,cpuacct:/\n0::/\n",
            {"memory/slurm/job/memory.limit_in_bytes": "23456789\n"},
            23456789,
            id="version 1",
        ),
        pytest.param(
            "5:memory:/docker/abc\n", {"memory/memory.limit_in_bytes": "23456789"}, 23456789, id="version 1, container"
        ),
        pytest.param(
            "5:memory:/job\n", {"memory/job/memory.limit_in_bytes": str(2**63 - 4096)}, None, id="version 1, no limit"
        ),
        pytest.param("5:memory:/gone\n", {}, None, id="no such group"),
        pytest.param("", {}, None, id="no groups"),
        pytest.param("what is this\n", {}, None, id="something else"),
    ],
)
def test_a_control_group_s_limit_counts_whichever_version_and_level_it_is_of(
    own: str, files: dict[str, str], expected: int | None, nothing_allotted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(nothing_allotted / "own", own)
    monkeypatch.setattr(limits, "OWN_CGROUPS", nothing_allotted / "own")
    for name, text in files.items():
        write(nothing_allotted / name, text)
    assert allowed_memory() == (psutil.virtual_memory().total if expected is None else expected)


def test_without_control_groups_the_machine_s_memory_is_the_limit(
    nothing_allotted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OWN_CGROUPS", nothing_allotted / "no such file")
    assert allowed_memory() == psutil.virtual_memory().total


@given(st.floats(0.001, 1e6))
def test_what_is_free_is_never_more_than_what_is_allotted_nor_below_nothing(gigabytes: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MEMORY_GB, str(gigabytes))
        own = psutil.Process().memory_info().rss
        assert 0 <= free_memory() <= allowed_memory()
        assert free_memory() <= max(0.0, gigabytes * 1e9 - own / 2)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_threads_are_limited_within_and_as_before_without(n_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)

    def counts() -> tuple[object, ...]:
        blas = tuple(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return blas, torch.get_num_threads(), tuple(os.environ.get(name) for name in THREADS)

    def fail_within() -> None:
        with threads_limited(n_threads):
            blas, of_torch, environment = counts()
            assert blas == (n_threads,) * len(blas)
            assert of_torch == n_threads
            assert environment == (str(n_threads),) * len(THREADS)
            raise RuntimeError("in the midst of it")

    before = counts()
    with pytest.raises(RuntimeError, match="midst"):
        fail_within()
    assert counts() == before


def test_whoever_asks_for_a_gpu_where_there_is_no_device_loads_no_torch() -> None:
    if sys.platform != "linux" or has_gpu():
        pytest.skip("needs Linux without a GPU")
    asked = "import sys; from brainalign.limits import has_gpu; assert not has_gpu(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", asked], check=True)
