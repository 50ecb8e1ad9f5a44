"""Peak memory of a whole-brain fit: 200,000 targets of 9,000 volumes from a file, in at most 4 GB.

    python tests/benchmarks/memory.py [--targets 200000] [--volumes 9000] [--features 500] [--limit-gb 4] [--folder DIR]

The responses are written to a file block by block, then scored in a process of its own that the operating system
allows no more private memory than the limit (RLIMIT_DATA: an allocation beyond it fails). Of the limit the interpreter
and its libraries take a part, so `memory_limit` is set to three quarters of it.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

N_RUNS = 5
BLOCK = 4000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--targets", type=int, default=200_000)
    options.add_argument("--volumes", type=int, default=9_000)
    options.add_argument("--features", type=int, default=500)
    options.add_argument("--limit-gb", type=float, default=4.0)
    options.add_argument("--folder", type=Path, default=None, help="where the responses are written for the while")
    options.add_argument("--score", type=Path, default=None, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.score is not None:
        _score(chosen.score, chosen.limit_gb)
        return
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        _write(Path(folder), chosen.volumes, chosen.targets, chosen.features)
        command = [sys.executable, __file__, "--score", folder, "--limit-gb", str(chosen.limit_gb)]
        subprocess.run(command, check=True)


def _write(folder: Path, n: int, v: int, p: int) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(n, p)).astype(np.float32)
    np.save(folder / "features.npy", features)
    responses = np.lib.format.open_memmap(folder / "responses.npy", mode="w+", dtype=np.float32, shape=(n, v))
    for start in range(0, v, BLOCK):
        width = min(BLOCK, v - start)
        signal = features[:, :50] @ rng.normal(size=(50, width)).astype(np.float32) * 0.05
        responses[:, start : start + width] = signal + rng.standard_normal((n, width), dtype=np.float32)
    responses.flush()


def _score(folder: Path, limit_gb: float) -> None:
    from brainalign.encoding import LeaveOneRunOut, RidgeEncoder, cross_val_scores, explain

    resource.setrlimit(resource.RLIMIT_DATA, (int(limit_gb * 2**30),) * 2)
    peak = [0.0]
    threading.Thread(target=_watch, args=(peak,), daemon=True).start()
    features = np.load(folder / "features.npy")
    responses = np.load(folder / "responses.npy", mmap_mode="r")
    runs = np.repeat(np.arange(N_RUNS), -(-len(features) // N_RUNS))[: len(features)]
    encoder = RidgeEncoder(memory_limit=0.75 * limit_gb * 2**30)
    print(f"{len(responses)} volumes x {responses.shape[1]} targets, {features.shape[1]} features, {N_RUNS} runs")
    print(explain(encoder, features, responses, runs, LeaveOneRunOut()))
    start = time.perf_counter()
    scores = cross_val_scores(features, responses, runs, encoder, splitter=LeaveOneRunOut(), out=folder / "scores.nc")
    seconds = time.perf_counter() - start
    print(f"mean r {float(scores.r.mean()):.3f}, {seconds:.0f} s, peak private memory {peak[0] / 2**30:.2f} GB")


def _watch(peak: list[float]) -> None:
    """Keep the largest private memory of this process: pages of the file itself are the cache's."""
    status = Path("/proc/self/status")
    while True:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        peak[0] = max(peak[0], float(lines["RssAnon"].split()[0]) * 1024)
        time.sleep(0.05)


if __name__ == "__main__":
    main()
