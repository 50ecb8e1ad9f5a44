"""What this machine has, and what brainalign and its libraries are."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata, util
from typing import Any
from urllib.parse import urlsplit

from brainalign.files import cache_folder
from brainalign.limits import allowed_cpus
from brainalign.manifests import Manifest, list_manifests, read_manifest

__all__ = ["describe_machine", "peak_memory_mb", "reachable", "versions"]

LIBRARIES = (
    "brainalign",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "xarray",
    "torch",
    "transformers",
    "mne",
    "nilearn",
    "wordfreq",
)
# What else can be installed, and what for.
OPTIONAL = {
    "gguf": "language models as GGUF files (the demo): pip install 'brainalign[demo]'",
    "accelerate": "language models as GGUF files (the demo): pip install 'brainalign[demo]'",
}


def versions() -> dict[str, str]:
    """Versions of Python, brainalign and the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


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
        "mirror": os.environ.get("BRAINALIGN_MIRROR"),
        "missing": {name: purpose for name, purpose in OPTIONAL.items() if util.find_spec(name) is None},
    }


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
