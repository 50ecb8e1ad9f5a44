"""What runs inside jobs of Slurm. These objects are pickled on the way in; nothing is on the way out."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainalign.pipeline.executors.slurm_handed import CANCELLED
from brainalign.pipeline.work import do_units
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.store import Store

__all__ = ["RoundTask", "UnitsTask"]


@dataclass
class UnitsTask:
    """Some units, done in one job.

    Parameters
    ----------
    folder : str
        The result folder.
    units : tuple of str
        Their ids.
    told_after_s : float
        A signal that comes earlier than so many seconds after the start is no time limit.
    """

    folder: str
    units: tuple[str, ...]
    told_after_s: float
    _began_s: float = field(default=0.0, init=False, repr=False)
    _n_done: int = field(default=0, init=False, repr=False)

    def __call__(self) -> None:
        """Do those that are not done."""
        # A controller that crashed may have forgotten that it was told to cancel this.
        if (WorkFolder(Path(self.folder)).path / CANCELLED).exists():
            return
        self._began_s, self._n_done = time.monotonic(), self._count()
        for failure in do_units(self.folder, self.units):
            print(f"{failure.unit} failed: {failure.error}: {failure.message}", file=sys.stderr)

    def checkpoint(self) -> Any:
        """What submitit puts in the queue again when the job is about to be preempted or to reach its time limit.

        A job that finished none of its units in all its time would do so again: it ends, and whoever looks at what is
        missing gives it more time.
        """
        from submitit.helpers import DelayedSubmission

        is_early = time.monotonic() - self._began_s < self.told_after_s
        if not is_early and self._count() == self._n_done:
            # Not to a unit's log, where sys.stderr may lead at this moment.
            print("brainalign: no unit was finished before the TIME LIMIT", file=sys.__stderr__, flush=True)
            raise SystemExit(1)
        return DelayedSubmission(UnitsTask(self.folder, self.units, self.told_after_s))

    def _count(self) -> int:
        """How many of the units are done."""
        store, chosen = Store(), set(self.units)
        plan = WorkFolder(Path(self.folder)).read_plan()
        return sum(unit.is_done(store) for unit in plan.units if unit.id in chosen)


@dataclass(frozen=True)
class RoundTask:
    """The job after all others of a round: it writes the results, or has done again what is missing."""

    folder: str
    round: Any

    def __call__(self) -> None:
        """Look what is there, and go on from it."""
        from brainalign.pipeline.executors.slurm_round import conclude

        conclude(WorkFolder(Path(self.folder)), self.round)
