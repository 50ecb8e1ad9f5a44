"""The real Slurm that tests run on, one machine that plays several nodes: waiting for it, and breaking parts of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import pytest

Answer = TypeVar("Answer")

# Of the clusters that are made for tests, and may be broken.
TEST_CLUSTER = "brainalign"


def find_cluster() -> Cluster:
    """The cluster that SLURM_CONF names; without one the test is skipped, in CI it fails."""
    conf = Path(os.environ.get("SLURM_CONF", "nowhere"))
    why = None
    if shutil.which("sbatch") is None or not conf.is_file():
        why = "needs Slurm (shared/slurm/start-slurm.sh) and SLURM_CONF set to its configuration"
    elif f"ClusterName={TEST_CLUSTER}\n" not in conf.read_text():
        why = "the cluster is not one that was made for tests"
    if why and os.environ.get("BRAINALIGN_CI"):
        pytest.fail(why)
    elif why:
        pytest.skip(why)
    return Cluster(conf)


@dataclass(frozen=True)
class Cluster:
    """A cluster that the tests own."""

    conf: Path

    @property
    def pids(self) -> Path:
        """A line "pid name" for each daemon."""
        return self.conf.parent / "pids"

    def daemons(self) -> dict[str, int]:
        """The process of each daemon: slurmctld, slurmd.NODE ..."""
        lines = [line.split() for line in self.pids.read_text().splitlines()]
        return {name: int(pid) for pid, name in lines}

    def nodes(self) -> list[str]:
        """The names of the nodes."""
        return [name.partition(".")[2] for name in self.daemons() if name.startswith("slurmd.")]

    def kill(self, daemon: str) -> None:
        """Kill a daemon, as a crash of its machine would."""
        os.kill(self.daemons()[daemon], signal.SIGKILL)

    def kill_node(self, node: str) -> None:
        """Kill a node's daemon and all that runs there, as the loss of its power would."""
        self.kill(f"slurmd.{node}")
        for path in Path("/proc").glob("[0-9]*"):
            if _is_of_node(path, node):
                with suppress(ProcessLookupError):
                    os.kill(int(path.name), signal.SIGKILL)

    def start(self, daemon: str) -> None:
        """Start a daemon that was killed."""
        node = daemon.partition(".")[2]
        command = (
            ["slurmd", "-D", "-f", str(self.conf), "-N", node] if node else ["slurmctld", "-D", "-f", str(self.conf)]
        )
        with (self.conf.parent / "log" / f"{daemon}.out").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        daemons = {**self.daemons(), daemon: process.pid}
        self.pids.write_text("".join(f"{pid} {name}\n" for name, pid in daemons.items()))
        # Its end is no concern of the test's process: nothing may be left to be collected.
        process.returncode = 0

    def restart(self, daemon: str, crash: bool = False) -> None:
        """Stop a daemon and start it again; one that crashes has no time to write down what it knows."""
        os.kill(self.daemons()[daemon], signal.SIGKILL if crash else signal.SIGTERM)
        wait_for(lambda: not _runs(self.daemons()[daemon]), f"the end of {daemon}")
        self.start(daemon)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until all nodes take jobs, those too that the controller has drained after it was killed."""
        for node in self.nodes():
            output("scontrol", "update", f"nodename={node}", "state=resume")
        wait_for(
            lambda: all(state in ("idle", "mixed", "allocated") for state in self._states()), "nodes that take jobs"
        )

    def wait_until_written(self, job: str) -> None:
        """Wait until it is on the disk that a job has started: the controller writes its state every few seconds."""
        started = output("squeue", "-h", "-j", job, "-o", "%S").strip()
        state, started_s = self.conf.parent / "ctld" / "job_state", datetime.fromisoformat(started).timestamp()
        # To the second: the one in which it started may have been written before.
        wait_for(lambda: state.is_file() and state.stat().st_mtime > started_s + 1, "the controller's state")

    def _states(self) -> list[str]:
        states = output("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split()
        return states or ["unknown"]


def wait_for(condition: Callable[[], Answer], what: str, timeout_s: float = 300.0) -> Answer:
    """Wait until a condition holds, and give what it gave."""
    until = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() > until:
            pytest.fail(f"waited {timeout_s:.0f} s for {what}\n{output('squeue')}")
        time.sleep(0.2)
    return answer


def output(*command: str) -> str:
    """What a command prints; a controller that is away is no answer."""
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout


def _runs(process: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _is_of_node(process: Path, node: str) -> bool:
    """Whether a process was started for a job there, or looks after one; its control group has the node's name."""
    try:
        return f"/slurm_{node}/" in (process / "cgroup").read_text() or (
            f"SLURMD_NODENAME={node}\0" in (process / "environ").read_text(errors="replace")
        )
    except OSError:
        return False  # ended meanwhile
