"""What units cost beyond their work, and what a second process gains.

    OMP_NUM_THREADS=1 python tests/benchmarks/executors.py [--units 1000] [--subjects 12] [--rounds 3] [--folder DIR]

Overhead: trivial units (a record in the store each) by `Local`, in this process and in two, over what the records alone
take; the aim is 10 s for 1,000. Throughput: the simulated study, its units done by one process and by two that are
there already, one thread each; the aim is 1.7 times. What else the machine does falls on both, and is told as its load.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from brainalign.config import Recipe, parse_recipe, resolved
from brainalign.files import digest_of
from brainalign.pipeline.executors import Local
from brainalign.pipeline.plan import Plan
from brainalign.pipeline.planning import study_of
from brainalign.pipeline.results import write_yaml
from brainalign.pipeline.units import units_of
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.store import Store

AIM_S, AIM_RATIO = 10.0, 1.7


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--units", type=int, default=1000)
    options.add_argument("--subjects", type=int, default=12)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--folder", type=Path, default=None, help="where all is written for the while")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        show_overhead(Path(folder), chosen.units)
        show_throughput(Path(folder), chosen.subjects, chosen.rounds)
        print(f"load of the machine: {os.getloadavg()[0]:.1f}")


def show_overhead(folder: Path, n_units: int) -> None:
    """Stimuli of few words by a toy model: as little work as a unit can be."""
    recipe = parse_recipe(
        {
            "dataset": {"name": "simulated", "n_subjects": 1, "n_runs": n_units, "n_words": 100},
            "features": [{"kind": "toy_model", "n_layers": 1, "dimension": 2}],
        }
    )
    study = study_of(recipe)
    plan = Plan(tuple(unit for unit in units_of(study, 1).units if unit.stage == "extract"))
    took: dict[str, float] = {}
    for jobs in (1, 2):
        work = begun(folder / f"trivial {jobs}", plan, recipe)
        Local(jobs=jobs).execute(Plan(plan.units[: 2 * jobs]), work)  # imports, and the study is read
        began_s = time.perf_counter()
        Local(jobs=jobs).execute(plan, work)
        took[f"{jobs} at a time"] = time.perf_counter() - began_s
    store = begun_store(folder / "alone")
    began_s = time.perf_counter()
    for unit in plan.units:
        one = study.spaces[0].extract(study.stimuli[unit.stimulus])
        store.put(digest_of({"of": unit.id}), {"values": one.values}, dict(one.metadata))
    alone_s = time.perf_counter() - began_s
    for name, seconds in took.items():
        kept = "yes" if seconds - alone_s <= AIM_S * n_units / 1000 else "no"
        print(f"{n_units} trivial units, {name}: {seconds - alone_s:.2f} s over their work ({alone_s:.2f} s): {kept}")


def show_throughput(folder: Path, n_subjects: int, rounds: int) -> None:
    """The simulated study's units by one process and by two, in turn."""
    recipe = parse_recipe(
        {
            "dataset": {"name": "simulated", "n_subjects": n_subjects, "n_runs": 4, "n_words": 2000},
            "features": [{"kind": "toy_model"}],
            "ladder": {"n_layers": 3},
            "tests": {"permutations": 200},
        }
    )
    plan = units_of(study_of(recipe), 2)
    # Two processes, of which one or two are given work; each has imported all by then.
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for number in range(rounds + 1):
        for jobs in seconds:
            work = begun(folder / f"study {number} {jobs}", plan, recipe)
            began_s = time.perf_counter()
            Local(jobs=jobs, threads=1).execute(plan, work)
            if number:
                seconds[jobs].append(time.perf_counter() - began_s)
    gains = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    kept = "yes" if median(gains) >= AIM_RATIO else "no"
    print(
        f"{len(plan.units)} units of {n_subjects} subjects: {median(seconds[1]):.1f} s by one process, "
        f"{median(seconds[2]):.1f} s by two: {median(gains):.2f} times ({min(gains):.2f} to {max(gains):.2f}): {kept}"
    )


def begun(folder: Path, plan: Plan, recipe: Recipe) -> WorkFolder:
    """A result folder with a plan, and a store of its own."""
    begun_store(folder)
    write_yaml(resolved(recipe), folder / "recipe.yaml")
    work = WorkFolder(folder)
    work.write_plan(plan, {"title": "benchmark"})
    return work


def begun_store(folder: Path) -> Store:
    folder.mkdir()
    # Another value would have processes started anew: the store's path is a link that is turned.
    os.environ["BRAINALIGN_CACHE"] = str(folder.parent / "cache")
    link = folder.parent / "cache"
    link.unlink(missing_ok=True)
    (folder / "own cache").mkdir()
    link.symlink_to(folder / "own cache")
    return Store()


if __name__ == "__main__":
    main()
