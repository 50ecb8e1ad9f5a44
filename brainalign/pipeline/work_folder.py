"""The folder beside the results where the plan of the units, their logs and the journal are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainalign.errors import DataError
from brainalign.files import atomic_path
from brainalign.pipeline.plan import Plan

__all__ = ["WorkFolder"]

# Raised when a plan is written another way.
LAYOUT = 1


@dataclass(frozen=True)
class WorkFolder:
    """A result folder's ``work``: ``plan.json``, ``logs/`` (one per unit), ``journal/`` (one file per process).

    Parameters
    ----------
    folder : Path
        The result folder.
    """

    folder: Path

    @property
    def path(self) -> Path:
        """Where all of it is."""
        return self.folder / "work"

    @property
    def journal(self) -> Path:
        """Where the processes' journals are."""
        return self.path / "journal"

    @property
    def jobs(self) -> Path:
        """What was handed to a batch system: a line of JSON for each job."""
        return self.path / "jobs.jsonl"

    def log_of(self, unit: str) -> Path:
        """A unit's log."""
        return self.path / "logs" / f"{unit}.log"

    @property
    def state(self) -> str:
        """Changes whenever the plan's file does."""
        status = self._plan.stat()
        return f"{status.st_mtime_ns} {status.st_size} {status.st_ino}"

    def write_plan(self, plan: Plan, facts: Mapping[str, Any]) -> None:
        """Write a plan, and what else those who work on it have to know."""
        self.path.mkdir(parents=True, exist_ok=True)
        with atomic_path(self._plan) as part:
            part.write_text(json.dumps({"layout": LAYOUT, **facts, "units": plan.as_json()}), encoding="utf-8")

    def read_plan(self) -> Plan:
        """The plan that was written last.

        Raises
        ------
        DataError
            If there is none, or another version of brainalign wrote it.
        """
        return Plan.from_json(self._content()["units"])

    def read_facts(self) -> dict[str, Any]:
        """What stands beside the plan's units."""
        return {name: value for name, value in self._content().items() if name != "units"}

    @property
    def _plan(self) -> Path:
        return self.path / "plan.json"

    def _content(self) -> dict[str, Any]:
        try:
            content = json.loads(self._plan.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(
                f"{self.folder} has no plan: `brainalign run RECIPE --out {self.folder}` makes one."
            ) from None
        except ValueError as error:
            raise DataError(f"{self._plan} cannot be read ({error}); run the recipe again.") from error
        if content.get("layout") != LAYOUT:
            raise DataError(f"{self._plan} is of another version of brainalign; run the recipe again.")
        return content
