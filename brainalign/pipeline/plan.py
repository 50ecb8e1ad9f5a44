"""A study as units of work: what each gives, what it waits for, and what it is expected to cost.

A unit's results lie in the store under keys of all that they depend on. It is done when they are there, whoever made
them, so that a study that was interrupted, moved or begun twice goes on from what is finished; the scores are put
together from them at the end, by the very code that computes what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import TypeAdapter

if TYPE_CHECKING:
    from brainalign.store import Store

__all__ = ["STAGES", "Cost", "Plan", "Stage", "Unit"]

Stage = Literal["extract", "fit", "answer"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class Cost:
    """What a unit is expected to take.

    Parameters
    ----------
    operations : float
        Multiplications and additions in float32; one in float64 counts as two.
    memory_bytes : float
        Of the process that does it, at most.
    disk_bytes : float
        Left in the store.
    """

    operations: float = 0.0
    memory_bytes: float = 0.0
    disk_bytes: float = 0.0


@dataclass(frozen=True)
class Unit:
    """A piece of work that one process does in one go.

    Parameters
    ----------
    id : str
        The stage and a digest of the keys.
    stage : {"extract", "fit", "answer"}
    about : str
        What it does, for people.
    keys : tuple of str
        Of what it leaves in the store.
    space : str
        The feature space that is extracted, fitted, or asked about; nothing where all are asked about together.
    stimulus : str
        Whose features are extracted.
    subjects : tuple of str
        Who are fitted together, or asked about.
    question : str
        The section of the recipe that is answered.
    cost : Cost
    """

    id: str
    stage: Stage
    about: str
    keys: tuple[str, ...]
    space: str = ""
    stimulus: str = ""
    subjects: tuple[str, ...] = ()
    question: str = ""
    cost: Cost = field(default_factory=Cost)

    def is_done(self, store: Store) -> bool:
        """Whether all that it gives is in the store."""
        return all(store.has(key) for key in self.keys)


@dataclass(frozen=True)
class Plan:
    """The units of a study, stage after stage."""

    units: tuple[Unit, ...]

    def done(self, store: Store) -> set[str]:
        """The ids of the units that are done."""
        return {unit.id for unit in self.units if unit.is_done(store)}

    def of(self, stage: Stage) -> list[Unit]:
        """The units of a stage."""
        return self._by_stage[stage]

    def ready(self, stage: Stage, done: Set[str]) -> list[Unit]:
        """The units of a stage that are not done and that nothing keeps waiting; `done` holds ids."""
        if stage == "answer" and not all(unit.id in done for unit in self.of("fit")):
            return []
        lacking = {unit.space for unit in self.of("extract") if unit.id not in done} if stage == "fit" else set()
        return [unit for unit in self.of(stage) if unit.id not in done and unit.space not in lacking]

    def needs(self, unit: Unit) -> Sequence[Unit]:
        """What a unit waits for: a fit for all features of its space, an answer for all fits."""
        if unit.stage == "extract":
            return ()
        return self._extractions.get(unit.space, ()) if unit.stage == "fit" else self.of("fit")

    @cached_property
    def _by_stage(self) -> dict[Stage, list[Unit]]:
        return {stage: [unit for unit in self.units if unit.stage == stage] for stage in STAGES}

    @cached_property
    def _extractions(self) -> dict[str, list[Unit]]:
        found: dict[str, list[Unit]] = {}
        for unit in self.of("extract"):
            found.setdefault(unit.space, []).append(unit)
        return found

    def as_json(self) -> Any:
        """What `from_json` makes a plan of again."""
        return TypeAdapter(tuple[Unit, ...]).dump_python(self.units, mode="json")

    @classmethod
    def from_json(cls, content: Any) -> Plan:
        """A plan as it was written."""
        return cls(TypeAdapter(tuple[Unit, ...]).validate_python(content))
