"""Time in alternation, peak memory, the machine's product rate and name, and rows of a table."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

__all__ = ["Row", "Timed", "alternate", "describe_machine", "peak_rise_mb", "product_rate", "ratios"]


@dataclass(frozen=True)
class Timed:
    """Seconds of each round, and what the last one gave."""

    seconds: list[float]
    result: Any

    @property
    def median_s(self) -> float:
        return median(self.seconds)


@dataclass(frozen=True)
class Row:
    """One line of the table: a number (median), its range over rounds, and what it was measured from."""

    line: str
    what: str
    value: float
    low: float
    high: float
    note: str = ""
    measured: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        spread = f"({self.low:.2f} to {self.high:.2f})" if self.low != self.high else ""
        return f"({self.line}) {self.what:<64} {self.value:8.2f} {spread:<18} {self.note}"


def alternate(functions: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Timed]:
    """Time each function in turn, so many rounds, so that what else the machine does falls on all alike.

    Each time goes to the standard error as it comes.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    results: dict[str, Any] = {}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            results[name] = function()
            seconds[name].append(time.perf_counter() - start)
            print(f"    {name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return {name: Timed(seconds[name], results[name]) for name in functions}


def ratios(theirs: Timed, ours: Timed, scale: float = 1.0) -> list[float]:
    """How many times longer theirs took, round by round; `scale` where only a part of theirs was timed."""
    return [scale * their_s / our_s for their_s, our_s in zip(theirs.seconds, ours.seconds, strict=True)]


def peak_rise_mb(function: Callable[[], Any]) -> float:
    """How far the process's resident memory rises above where it is, in MB, while the function runs (Linux)."""
    # Forgets the peak so far: that of importing, of reading the data.
    Path("/proc/self/clear_refs").write_text("5")
    before_bytes = psutil.Process().memory_info().rss
    function()
    peak_kb = next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line
    )
    return (1024 * peak_kb - before_bytes) / 1e6


def product_rate(size: int = 4000, rounds: int = 5) -> dict[str, float]:
    """Operations per second of a float32 matrix product, the best of some rounds, by numpy and by torch."""
    import torch

    a, b = np.random.default_rng(0).standard_normal((2, size, size), dtype=np.float32)
    products = {"numpy": lambda: a @ b, "torch": lambda: torch.from_numpy(a) @ torch.from_numpy(b)}
    return {name: 2 * size**3 / min(timed.seconds) for name, timed in alternate(products, rounds).items()}


def describe_machine() -> dict[str, str]:
    """The processor, its cores and threads, and the versions of all that is compared."""
    import torch
    from threadpoolctl import threadpool_info

    threads = {pool["internal_api"]: pool["num_threads"] for pool in threadpool_info()}
    packages = ("numpy", "scipy", "torch", "himalaya", "scikit-learn", "mne")
    return {
        "processor": _processor_name(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "threads": ", ".join(f"{name} {n}" for name, n in {**threads, "torch": torch.get_num_threads()}.items()),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version(name)}" for name in packages),
    }


def _processor_name() -> str:
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
