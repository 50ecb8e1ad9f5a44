"""What executors share: what they are, and what is said of units that failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from brainalign import errors
from brainalign.errors import BrainalignError
from brainalign.pipeline.extraction import Progress
from brainalign.pipeline.plan import Plan, Unit
from brainalign.pipeline.work import Failure
from brainalign.pipeline.work_folder import WorkFolder

__all__ = ["Executor", "check_failures"]


@runtime_checkable
class Executor(Protocol):
    """How and where units are done: a frozen dataclass whose fields are keys of a recipe's ``executor`` section."""

    @property
    def n_workers(self) -> int:
        """How many units it may do side by side."""
        ...

    def together(self, plan: Plan, units: Sequence[Unit]) -> Sequence[Sequence[str]]:
        """The ids of units that one job would do after another, of each job; none where each unit is on its own."""
        ...

    def execute(self, plan: Plan, work: WorkFolder, progress: Progress) -> bool:
        """Have all units done that are not; whether they are when this returns, or go on being done elsewhere.

        Raises
        ------
        BrainalignError
            If units failed, and the user can mend it.
        """
        ...


def check_failures(plan: Plan, work: WorkFolder, failures: Sequence[Failure]) -> None:
    """Raise what a failed unit raised, with how many others there are and where the logs are.

    Raises
    ------
    BrainalignError
        If the user can mend all of them.
    RuntimeError
        If one is a defect; with its traceback.
    """
    if not failures:
        return
    first = next((failure for failure in failures if failure.trace), failures[0])
    if first.trace:
        raise RuntimeError(f"{first.trace}\nThe log: {work.log_of(first.unit)}")
    kind = getattr(errors, first.error, BrainalignError)
    # One that has a signature of its own is told as its parent.
    if "__init__" in vars(kind):
        kind = BrainalignError
    if len(failures) == 1 and len(plan.units) == 1:
        raise kind(first.message)
    about = {unit.id: unit.about for unit in plan.units}[first.unit]
    raise kind(
        f"{first.message}\n{len(failures)} of {len(plan.units)} units failed, this one: {about}. All others that could "
        f"be done are. Mend it and run again; logs: {work.log_of(first.unit).parent}"
    )
