"""Units done, one after the other, in whichever process: each into the store, with a log and a line in the journal."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from brainalign.errors import BrainalignError, DataError
from brainalign.limits import MEMORY_GB
from brainalign.pipeline.answers import Fitted, answer
from brainalign.pipeline.extraction import Progress, WhenAsked, extract_features, silent
from brainalign.pipeline.journal import Journal
from brainalign.pipeline.machine import job_of_process, peak_memory_mb
from brainalign.pipeline.plan import Plan, Unit
from brainalign.pipeline.planning import study_in
from brainalign.pipeline.redaction import redacted
from brainalign.pipeline.results import writing_to
from brainalign.pipeline.score import StoredFits, facts_of_space, fit_and_keep
from brainalign.pipeline.study import Study
from brainalign.pipeline.unit_log import unit_log
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.store import Store
from brainalign.types import Extractor, Features

__all__ = ["Failure", "Worker", "do_units"]


@dataclass(frozen=True)
class Failure:
    """A unit that failed.

    Parameters
    ----------
    unit : str
        Its id.
    error : str
        The name of the error's class.
    message : str
        What the error says.
    trace : str
        Where it was raised; nothing where the user can mend it.
    """

    unit: str
    error: str
    message: str
    trace: str = ""


def do_units(
    folder: str | Path, ids: Sequence[str], memory_gb: float | None = None, progress: Progress = silent
) -> list[Failure]:
    """Do some units of the plan in a result folder; those that fail are told, and the others done all the same.

    Parameters
    ----------
    folder : path
        The result folder.
    ids : sequence of str
        Of the units; one that is done already, or that waits for another which is not, is passed over.
    memory_gb : float, optional
        What this process may fill.
    progress : callable
        Told of what goes on within a unit; the log is, in any case.

    Raises
    ------
    DataError
        If there is no plan, or logs and journal cannot be written.
    """
    if memory_gb is not None:
        os.environ[MEMORY_GB] = f"{memory_gb:.3f}"
    work = WorkFolder(Path(folder))
    with writing_to(work.folder):
        worker = _worker(work, work.state, os.getpid())
        with worker.journal.beating():
            failures = [worker.do(unit, progress) for unit in worker.chosen(ids)]
    return [failure for failure in failures if failure is not None]


@lru_cache(maxsize=1)
def _worker(work: WorkFolder, state: str, process: int) -> Worker:
    """What a process keeps from one call to the next, and a fork of it does not; `state` is that of the plan's file."""
    return Worker(work)


class Worker:
    """A process's view of a study: read when first needed, and kept for the units that follow."""

    def __init__(self, work: WorkFolder) -> None:
        self.work = work
        self.plan: Plan = work.read_plan()
        self.store = Store()
        self.journal = Journal(work.journal)
        self._study: Study | None = None
        self._features: WhenAsked | None = None
        self._fitted: Fitted | None = None
        self._known_done: set[str] = set()
        self._job = {"job": job} if (job := job_of_process()) else {}
        self._positions = {unit.id: number for number, unit in enumerate(self.plan.units)}

    @property
    def study(self) -> Study:
        """The study of the folder's recipe."""
        if self._study is None:
            self._study = study_in(self.work)
        return self._study

    def chosen(self, ids: Sequence[str]) -> list[Unit]:
        """These units, in the order of the plan; without those that another plan has."""
        positions = sorted(self._positions[unit] for unit in set(ids) if unit in self._positions)
        return [self.plan.units[position] for position in positions]

    def do(self, unit: Unit, progress: Progress) -> Failure | None:
        """Do one unit; gives what went wrong, None where nothing did."""
        if unit.is_done(self.store) or not self._is_ready(unit):
            return None
        started, cpu_started = time.perf_counter(), time.process_time()
        self.journal.write(unit.id, "started", self._job)
        with unit_log(self.work.log_of(unit.id), unit.about, progress) as log:
            try:
                with log.warnings_too(), writing_to(self.work.folder):
                    self._make(unit, log.progress)
                self._check(unit)
            except Exception as error:
                trace = traceback.format_exc()
                log.failed(trace)
                mendable = isinstance(error, BrainalignError)
                failure = Failure(unit.id, type(error).__name__, str(error), "" if mendable else trace)
                facts = {"why": redacted(str(error).splitlines()[-1] if str(error) else repr(error))[:500]}
                self.journal.write(unit.id, "failed", {**self._job, **facts, "error": failure.error})
                return failure
            seconds = time.perf_counter() - started
            log.done(seconds)
        took = {"seconds": seconds, "cpu_s": time.process_time() - cpu_started, "peak_mb": peak_memory_mb()}
        self.journal.write(unit.id, "done", {**self._job, **took})
        return None

    def _is_ready(self, unit: Unit) -> bool:
        """Whether all that it waits for is there."""
        needed = [need for need in self.plan.needs(unit) if need.id not in self._known_done]
        self._known_done |= {need.id for need in needed if need.is_done(self.store)}
        return all(need.id in self._known_done for need in needed)

    def _make(self, unit: Unit, progress: Progress) -> None:
        if unit.stage == "extract":
            space = next(space for space in self.study.spaces if space.name == unit.space)
            extract_features(space, {unit.stimulus: self.study.stimuli[unit.stimulus]}, self.store, progress)
        elif unit.stage == "fit":
            self._fit(unit)
        else:
            self._answer(unit)

    def _fit(self, unit: Unit) -> None:
        space = next(space for space in self.study.spaces if space.name == unit.space)
        features = self._features_of(space)
        missing = [subject for subject, key in zip(unit.subjects, unit.keys, strict=True) if not self.store.has(key)]
        fit_and_keep(self.study, missing, features, facts_of_space(space, features), self.store)

    def _answer(self, unit: Unit) -> None:
        question = next(one for one in self.study.questions if one.section == unit.question)
        if self._fitted is None:
            self._features = None
            features = WhenAsked(self.study.spaces, self.study.stimuli, self.store)
            self._fitted = Fitted(self.study, StoredFits(self.study, self.store), features)
        answer(question, unit.subjects[0], self._fitted, self.store, unit.space or None)

    def _features_of(self, space: Extractor) -> Mapping[str, Features]:
        """A space's features; those of other spaces, read for units before, are let go."""
        if self._features is None or space.name not in self._features:
            self._features = WhenAsked([space], self.study.stimuli, self.store)
        return self._features[space.name]

    def _check(self, unit: Unit) -> None:
        if not unit.is_done(self.store):
            raise DataError(
                f"What was computed is not what was planned ({unit.about}): data or code have changed since. "
                f"Plan again: brainalign run {self.work.folder / 'recipe.yaml'} --out {self.work.folder}"
            )
