"""Runs of a study that are killed at random moments, each followed by another into the same folder, in processes forked
from one that has everything imported: `python killed_runs.py RECIPE FOLDER N_KILLS SEED`.

Prints, as JSON, what a run that was left alone gives, what the last of those gives, and what is in the journal.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
# Which kills are of runs with processes of their own, and of whom there.
WITH_WORKERS = {2: "worker", 5: "parent", 8: "group"}


def main(recipe: str, folder: str, n_kills: str, seed: str) -> None:
    # Whose parent was killed is then waited for by this process, and is no zombie for long.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    root, rng = Path(folder), random.Random(int(seed))
    alone = root / "alone"
    # In this process, so that all those forked from it have everything imported.
    run_in(recipe, alone, jobs=1)
    begun_s = time.monotonic()
    assert ended_well(start(recipe, root / "timed", jobs=1))
    # Most kills while units are done, some while their scores are put together.
    within_s = 0.2 * (time.monotonic() - begun_s)
    n_killed: Counter[str] = Counter()
    rounds = [root / "killed 0"]
    while n_killed.total() < int(n_kills):
        # With two processes now and then: those take seconds to begin.
        whom = WITH_WORKERS.get(n_killed.total(), "run")
        after_s = rng.uniform(0, within_s) if whom == "run" else None
        if kill_one(recipe, rounds[-1], whom, after_s, rng):
            n_killed[whom] += 1
            print(f"{time.monotonic() - begun_s:.1f} s: {whom} killed", file=sys.stderr, flush=True)
        if (rounds[-1] / "out" / "run.json").exists():
            # It has ended in spite of all: the next begins from nothing.
            rounds.append(root / f"killed {len(rounds)}")
    assert ended_well(start(recipe, rounds[-1], jobs=1))
    print(json.dumps({"kills": n_killed, "alone": outcome(alone), "killed": [outcome(folder) for folder in rounds]}))


def run_in(recipe: str, folder: Path, jobs: int) -> None:
    from brainalign.pipeline import run
    from brainalign.pipeline.executors import Local

    os.environ["BRAINALIGN_CACHE"] = str(folder / "cache")
    run(recipe, folder / "out", executor=Local(jobs=jobs))


def start(recipe: str, folder: Path, jobs: int) -> int:
    """Fork a run; gives its process."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setpgid(0, 0)
            run_in(recipe, folder, jobs)
            code = 0
        finally:
            sys.stderr.flush()
            if code:
                import traceback

                traceback.print_exc()
            os._exit(code)
    with suppress(OSError):
        os.setpgid(child, child)
    return child


def kill_one(recipe: str, folder: Path, whom: str, after_s: float | None, rng: random.Random) -> bool:
    """Kill a run, all its processes or one of them; whether it was still there."""
    child = start(recipe, folder, jobs=2 if after_s is None else 1)
    if after_s is None:
        while not (workers := workers_at_work(child, folder / "out")) and not has_ended(child):
            time.sleep(0.02)
        wait_for(child, rng.uniform(0, 1))
    else:
        workers = []
        wait_for(child, after_s)
    if has_ended(child):
        assert ended_well(child)
        return False
    if whom == "worker":
        with suppress(ProcessLookupError):
            os.kill(rng.choice(workers), signal.SIGKILL)
        # It goes on by itself.
        assert ended_well(child)
    else:
        kill, target = (os.killpg, child) if whom == "group" else (os.kill, child)
        kill(target, signal.SIGKILL)
        assert not ended_well(child)
    reap(workers)
    return True


def workers_at_work(child: int, out: Path) -> list[int]:
    """The processes of a run's own that have begun a unit, by the names of their journals."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        mine = {process.pid for process in psutil.Process(child).children(recursive=True)}
        begun = {int(path.stem.split("-")[-2]) for path in out.glob("work/journal/*.jsonl")}
        return sorted(mine & begun)
    return []


def wait_for(child: int, seconds: float) -> None:
    """Wait so long, or until the child has ended."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s and not has_ended(child):
        time.sleep(0.005)


def has_ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def ended_well(child: int) -> bool:
    return os.waitpid(child, 0)[1] == 0


def reap(workers: list[int]) -> None:
    """Wait until these have ended, as they do when their parent has."""
    for worker in workers:
        with suppress(ChildProcessError):
            os.waitpid(worker, 0)


def outcome(folder: Path) -> dict[str, object]:
    events = [
        json.loads(line)
        for path in (folder / "out" / "work" / "journal").glob("*.jsonl")
        for line in path.read_bytes().splitlines()
        if line.endswith(b"}")
    ]
    names = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    return {
        "sha256": hashlib.sha256((folder / "out" / "scores.nc").read_bytes()).hexdigest(),
        "begun": Counter(event["unit"] for event in events if event["kind"] == "started"),
        "done": Counter(event["unit"] for event in events if event["kind"] == "done"),
        "units": [unit["id"] for unit in json.loads((folder / "out" / "work" / "plan.json").read_text())["units"]],
        "files": sorted(names),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
