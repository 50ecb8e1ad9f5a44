"""What this machine has, and what brainalign and its libraries are."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata, util
from typing import Any
from urllib.parse import urlsplit

from brainalign.files import cache_folder, digest_of
from brainalign.limits import allowed_cpus, has_gpu
from brainalign.manifests import Manifest, list_manifests, read_manifest
from brainalign.pipeline.redaction import redacted

__all__ = [
    "brainalign_version",
    "describe_machine",
    "job_of_process",
    "made_here",
    "peak_memory_mb",
    "reachable",
    "versions",
]

LIBRARIES = (
    "brainalign",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "xarray",
    "h5netcdf",
    "h5py",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "mne",
    "nilearn",
    "wordfreq",
)
# Where batch systems say which job a process is of: Slurm, PBS, LSF, SGE.
JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
# What else can be installed, and what for.
OPTIONAL = {
    "gguf": "language models as GGUF files (the demo): pip install 'brainalign[demo]'",
    "accelerate": "language models as GGUF files (the demo): pip install 'brainalign[demo]'",
    "submitit": "jobs of a Slurm cluster (--executor slurm): pip install 'brainalign[slurm]'",
    "distributed": "workers of a Dask cluster (--executor dask): pip install 'brainalign[dask]'",
}


def brainalign_version() -> str:
    """The version of brainalign that is installed."""
    return metadata.version("brainalign")


def versions() -> dict[str, str]:
    """Versions of Python, brainalign and the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def made_here(seconds: float) -> dict[str, Any]:
    """What is kept beside a result of what made it, just now: all of this machine that its last bits may hang on.

    Parameters
    ----------
    seconds : float
        How long it took.

    Examples
    --------
    >>> sorted(made_here(1.5))
    ['at', 'blas', 'cpu', 'gpu', 'host', 'seconds', 'threads', 'versions']
    """
    blas, threads = _linear_algebra()
    made = {
        "host": platform.node(),
        "cpu": _cpu(),
        "gpu": _gpu() if has_gpu() else None,
        "blas": blas,
        "threads": threads,
        "versions": _digest_of_versions(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
    }
    job = job_of_process()
    return {**made, "job": job} if job else made


def peak_memory_mb() -> float:
    """The largest memory that this process and its finished children have held, in MB."""
    import resource

    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
    usages = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(max(usages) / unit, 1)


def describe_machine() -> dict[str, Any]:
    """Cores, memory, GPU, linear algebra, cache folder, and what is not installed.

    Examples
    --------
    >>> describe_machine()["cpus"] >= 1
    True
    """
    import numpy as np  # noqa: F401  (its BLAS is what threadpoolctl is to find)
    import psutil
    from threadpoolctl import threadpool_info

    blas = [f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads" for pool in threadpool_info()]
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": allowed_cpus(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "memory_free_gb": round(psutil.virtual_memory().available / 1e9, 1),
        "gpu": _gpu(),
        "blas": blas,
        "cache": str(cache_folder()),
        "mirror": redacted(os.environ.get("BRAINALIGN_MIRROR", "")) or None,
        "missing": {name: purpose for name, purpose in OPTIONAL.items() if util.find_spec(name) is None},
    }


@cache
def _cpu() -> str:
    """The processor's model; its kind where the system does not say more."""
    if sys.platform == "linux":
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _linear_algebra() -> tuple[str, int]:
    """Which libraries multiply, with the kind of core that they take this one for, and on how many threads."""
    import numpy as np  # noqa: F401  (both bring a BLAS, which threadpoolctl is to find)
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    names = {f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip() for pool in pools}
    return ", ".join(sorted(names)), max((pool["num_threads"] for pool in pools), default=1)


@cache
def _digest_of_versions() -> str:
    return digest_of(versions())[:16]


def job_of_process() -> str:
    """The batch system's number of the job that this process is a part of."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    if array and task:
        return f"{array}_{task}"
    return next((os.environ[name] for name in JOBS if os.environ.get(name)), "")


def reachable(timeout_s: float = 3.0) -> dict[str, bool]:
    """Whether the sources of data sets and the hub of models answer from here, by name."""
    from huggingface_hub import constants

    sources = {f"data set {name}": _host(read_manifest(name)) for name in list_manifests()}
    sources["model hub"] = None if constants.HF_HUB_OFFLINE else constants.ENDPOINT
    # Many sets lie on one host, which is asked once.
    answers = {url: _answers(url, timeout_s) for url in set(sources.values())}
    return {name: answers[url] for name, url in sources.items() if url or name == "model hub"}


def _host(manifest: Manifest) -> str | None:
    """Where the archive of a dataset is; None where nothing is fetched."""
    parts = urlsplit(next(iter(manifest.sources.values()), ""))
    return f"{parts.scheme}://{parts.netloc}/" if parts.netloc else None


def _answers(url: str | None, timeout_s: float) -> bool:
    import requests

    if url is None:
        return False
    try:
        # Any answer will do, also that there is nothing under this address.
        requests.head(url, timeout=timeout_s, allow_redirects=False)
    except requests.RequestException:
        return False
    return True


def _gpu() -> str | None:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return "Apple MPS" if torch.backends.mps.is_available() else None
