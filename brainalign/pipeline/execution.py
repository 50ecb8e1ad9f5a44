"""A recipe, from its file to a result folder."""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from brainalign.config import Recipe, executor_of, executor_settings, load_recipe, resolved
from brainalign.errors import DataError, DataWarning, FitWarning, UnreachableError
from brainalign.files import digest_of, sha256_of_file, sweep_parts
from brainalign.pipeline.answers import CODE_VERSION as CODE_OF_ANSWERS
from brainalign.pipeline.executors import Executor, Local
from brainalign.pipeline.executors.slurm import check_idle
from brainalign.pipeline.extraction import Progress, silent, stimulus_digest
from brainalign.pipeline.machine import peak_memory_mb
from brainalign.pipeline.plan import Plan
from brainalign.pipeline.planning import dataset_of, study_of
from brainalign.pipeline.provenance import provenance
from brainalign.pipeline.redaction import redacted
from brainalign.pipeline.results import open_scores, read_run, save_scores, write_json, write_yaml, writing_to
from brainalign.pipeline.score import scores_of
from brainalign.pipeline.study import CODE_VERSION, Study
from brainalign.pipeline.units import units_of
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.report import write_report, write_summary
from brainalign.safe_yaml import read_yaml, yaml_text
from brainalign.store import Store
from brainalign.types import Dataset, Scores

__all__ = ["Outcome", "Planned", "finish", "finish_in", "plan_of", "report", "retry", "run"]


# How the notice begins that another recipe was run than the one asked for.
REPLACED = "NOT WHAT WAS ASKED FOR"


@dataclass(frozen=True)
class Outcome:
    """What `run` did.

    Parameters
    ----------
    folder : Path
    scores : Scores or None
        None where the work goes on elsewhere, as jobs of a cluster.
    notices : tuple of str
        For the user.
    computed : bool
        Whether anything had to be done.
    """

    folder: Path
    scores: Scores | None
    notices: tuple[str, ...]
    computed: bool


def run(
    recipe: Recipe | str,
    out: str | Path,
    n_jobs: int = 1,
    progress: Progress = silent,
    overwrite: bool = False,
    executor: Executor | None = None,
) -> Outcome:
    """Do what a recipe says and write its result folder; what is already there is not done again.

    Parameters
    ----------
    recipe : Recipe or str
        A checked recipe, the path of one, or the name of a shipped one.
    out : str or Path
        The folder for ``scores.nc``, ``summary.csv``, ``report.html``, ``recipe.yaml`` and ``run.json``.
    n_jobs : int
        Processes side by side, where they are of this machine and neither recipe nor site say how many.
    progress : callable
        Told what is being done, how much of it is done, and how much there is.
    overwrite : bool
        Whether the result of another recipe in that folder may be replaced.
    executor : Executor, optional
        Where and how the work is done; by default what the recipe's section and the site's file say.

    Returns
    -------
    Outcome

    Raises
    ------
    BrainalignError
        If the user can mend it: a bad recipe, malformed data, a failed checksum, an unreachable source.
    """
    recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
    folder = Path(out)
    _check_writable(folder)
    for swept in (folder, WorkFolder(folder).path):
        sweep_parts(swept)
    finished = _finished(recipe, folder)
    if finished is not None:
        return finished
    if not overwrite:
        _check_same_recipe(recipe, folder)
    try:
        with writing_to(folder):
            return _run(recipe, folder, executor or _executor_of(recipe, n_jobs), progress, ())
    except UnreachableError as error:
        if recipe.fallback is None:
            raise
        notice = (
            f"{REPLACED}, but the recipe '{recipe.fallback}' in its place. '{recipe.title}' needs data or "
            f"a model that cannot be reached from here; run it again when they can. {error}"
        )
        other = load_recipe(recipe.fallback)
        with writing_to(folder):
            return _run(other, folder, executor or _executor_of(other, n_jobs), progress, (redacted(notice),))


def retry(folder: str | Path, progress: Progress = silent) -> Outcome:
    """Go on with the study in a result folder, where and how it was begun; units that failed are begun again.

    Parameters
    ----------
    folder : str or Path
        With the recipe and the plan that `run` left there.
    progress : callable
        As that of `run`.

    Raises
    ------
    BrainalignError
        As `run`; and if the folder holds no run that was begun.
    """
    work = WorkFolder(Path(folder))
    recipe, facts = work.folder / "recipe.yaml", work.read_facts()
    if not recipe.is_file():
        raise DataError(f"{folder} has a plan, but no recipe.yaml: `brainalign run RECIPE --out {folder}` goes on.")
    _check_writable(work.folder)
    read = load_recipe(os.fspath(recipe))
    finished = _finished(read, work.folder)
    if finished is not None:
        return finished
    # What was noticed when it was begun holds still: that another recipe stands in for the one asked for.
    with writing_to(work.folder):
        return _run(read, work.folder, executor_of(facts["executor"]), progress, tuple(facts["notices"]))


@dataclass(frozen=True)
class Planned:
    """What a run would do: its units, the ids of those that are done, and the executor that would have it."""

    plan: Plan
    done: frozenset[str]
    executor: Executor


def plan_of(recipe: Recipe, out: str | Path, n_jobs: int = 1, overwrite: bool = False) -> Planned:
    """Plan what `run` would do with the same arguments, and do nothing; files are fetched where planning needs them.

    Raises
    ------
    BrainalignError
        If the user can mend it, as in `run`.
    """
    if not overwrite:
        _check_same_recipe(recipe, Path(out))
    executor = _executor_of(recipe, n_jobs)
    plan = units_of(study_of(recipe), executor.n_workers)
    return Planned(plan, frozenset(plan.done(Store())), executor)


def _check_same_recipe(recipe: Recipe, folder: Path) -> None:
    """Raise a DataError if the folder holds, or is about to hold, what another recipe gives."""
    path, record = folder / "recipe.yaml", read_run(folder)
    replaced = record is not None and any(notice.startswith(REPLACED) for notice in record["notices"])
    if not path.is_file() or replaced or path.read_text(encoding="utf-8") == yaml_text(resolved(recipe)):
        return
    title = read_yaml(path.read_text(encoding="utf-8"))[0].get("title", "untitled")
    raise DataError(
        f"{folder} belongs to another recipe, '{title}': name another folder with --out, or replace what it holds with "
        "--overwrite."
    )


def _executor_of(recipe: Recipe, n_jobs: int) -> Executor:
    """What the recipe and the site's file ask for."""
    executor: Executor = executor_of(recipe.executor)
    return replace(executor, jobs=n_jobs) if isinstance(executor, Local) and executor.jobs is None else executor


def _run(recipe: Recipe, folder: Path, executor: Executor, progress: Progress, notices: tuple[str, ...]) -> Outcome:
    """Plan the units, have them done, and write what they give."""
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    # Jobs in a queue go by the folder's recipe and plan.
    check_idle(WorkFolder(folder))
    write_yaml(resolved(recipe), folder / "recipe.yaml")
    data = dataset_of(recipe)
    progress(f"fetch {recipe.dataset}", 0, 1)
    data.fetch()
    progress(f"fetch {recipe.dataset}", 1, 1)
    study, fetched = study_of(recipe, data), time.perf_counter()
    plan, work = units_of(study, executor.n_workers), WorkFolder(folder)
    process = {"host": platform.node(), "pid": os.getpid()}
    facts = {"title": recipe.title, "started": started, "notices": list(notices), "process": process}
    work.write_plan(plan, {**facts, "executor": executor_settings(executor), "n_workers": executor.n_workers})
    if not executor.execute(plan, work, progress):
        return Outcome(folder, None, notices, computed=True)
    timings = {"fetch_s": round(fetched - clock, 2), "units_s": round(time.perf_counter() - fetched, 2)}
    return finish(recipe, study, folder, started, notices, timings, progress)


def finish_in(folder: str | Path, progress: Progress = silent) -> Outcome:
    """Put together the scores of a folder whose units are done, wherever that was, and write its files."""
    work = WorkFolder(Path(folder))
    facts, recipe = work.read_facts(), load_recipe(os.fspath(work.folder / "recipe.yaml"))
    study, notices = study_of(recipe), tuple(facts["notices"])
    with writing_to(work.folder):
        return finish(recipe, study, work.folder, facts["started"], notices, progress=progress)


def finish(
    recipe: Recipe,
    study: Study,
    folder: Path,
    started: str,
    notices: tuple[str, ...] = (),
    timings: Mapping[str, float] | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Put the scores together from what the units gave, and write the five files; what is damaged is done again."""
    written_out, clock = resolved(recipe), time.perf_counter()
    with warnings.catch_warnings():
        # What these say is in the scores' findings, which the report and the command show; a stored result that was
        # damaged is in none of them, so its warning stays.
        warnings.simplefilter("ignore", DataWarning)
        warnings.simplefilter("ignore", FitWarning)
        scores = scores_of(study, Store(), recipe.strict, progress=progress)
    if recipe.dataset == "simulated":
        notices = (*notices, "SIMULATED DATA: these responses were made by the computer, with planted truth.")
    record = _record(recipe, written_out, study.data, scores) | {
        "started": started,
        "timings": {**(timings or {}), "put_together_s": round(time.perf_counter() - clock, 2)},
        "peak_memory_mb": peak_memory_mb(),
        **provenance(study, written_out, Store()),
        "notices": list(notices),
        "scores_sha256": save_scores(scores, folder / "scores.nc"),
    }
    write_summary(scores, folder / "summary.csv")
    write_report(scores, folder / "report.html", record, notices)
    # Last, since it says that all the others are there.
    write_json(record, folder / "run.json")
    return Outcome(folder, scores, notices, computed=True)


def report(folder: str | Path) -> Path:
    """Write ``report.html`` and ``summary.csv`` anew from a folder's scores; gives the report's path.

    Raises
    ------
    DataError
        If the folder holds no finished run.
    """
    folder = Path(folder)
    record = read_run(folder)
    if record is None:
        raise DataError(
            f"{folder} holds no finished run (no run.json); `brainalign run RECIPE --out {folder}` makes one."
        )
    scores = open_scores(folder)
    write_summary(scores, folder / "summary.csv")
    write_report(scores, folder / "report.html", record, tuple(record.get("notices", ())))
    return folder / "report.html"


def _record(recipe: Recipe, written_out: dict[str, Any], data: Dataset, scores: Scores) -> dict[str, Any]:
    """What run.json says of the study itself."""
    subjects = list(dict.fromkeys(scores["subject"].values.tolist()))
    stimuli = data.stimuli
    return {
        "title": recipe.title,
        "recipe_digest": _digest(recipe),
        "dataset": {
            "name": data.name,
            "title": data.title,
            "citation": data.citation,
            "licence": data.licence,
            "modality": data.modality,
            "subjects": subjects,
            "n_subjects": len(subjects),
            "n_stimuli": len(stimuli),
            "n_words": sum(len(stimulus.words) for stimulus in stimuli.values()),
        },
        "features": scores.attrs["features"],
        "baseline": scores.attrs["baseline"],
        "signals": scores.attrs["steps"],
        "alignment": written_out["alignment"],
        "encoder": written_out["encoder"],
        "solver": scores.attrs["solver"],
        "splits": {**written_out["splits"], "used": scores.attrs["splitter"]},
        "n_folds": scores.sizes["fold"],
        "n_samples": _one_or_each(scores.attrs["n_samples"]),
        "answers": scores.attrs.get("answers", {}),
        "findings": scores.attrs["findings"],
        "inputs": _inputs(data),
        "recipe_yaml": yaml_text(written_out),
    }


def _one_or_each(by_subject: dict[str, int]) -> str | dict[str, int]:
    """A number that all subjects share, or each subject's."""
    values = set(by_subject.values())
    return f"{values.pop()} of each subject" if len(values) == 1 else by_subject


def _digest(recipe: Recipe) -> str:
    """Changes whenever the recipe does, or brainalign would give other numbers."""
    return digest_of({"recipe": repr(resolved(recipe)), "code": [CODE_VERSION, CODE_OF_ANSWERS]})


def _finished(recipe: Recipe, folder: Path) -> Outcome | None:
    """The outcome of an earlier run of the same recipe on the same data into this folder, if it is whole."""
    record = read_run(folder)
    files = [folder / name for name in ("scores.nc", "summary.csv", "report.html", "recipe.yaml")]
    if record is None or record.get("recipe_digest") != _digest(recipe) or not all(file.is_file() for file in files):
        return None
    if record.get("scores_sha256") != sha256_of_file(files[0]) or not _same_inputs(recipe, record["inputs"]):
        return None
    return Outcome(folder, open_scores(folder), tuple(record["notices"]), computed=False)


def _inputs(data: Dataset) -> dict[str, str]:
    """The digest of every stimulus and recording, by name."""
    stimuli = {f"stimulus {name}": stimulus_digest(stimulus) for name, stimulus in data.stimuli.items()}
    return stimuli | {str(recording): recording.digest for recording in data.recordings()}


def _same_inputs(recipe: Recipe, before: dict[str, str]) -> bool:
    """Whether words and recordings are what they were, so that a changed file is noticed."""
    try:
        return _inputs(dataset_of(recipe)) == before
    except UnreachableError:
        return True  # the source cannot be asked: what was computed from it stands


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        # Another run into this folder has the same probe.
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"Cannot write to {folder}: {error.strerror}. Name another folder with --out.") from error
