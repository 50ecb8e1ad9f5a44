"""What a study of 345 subjects and 40 models costs, by the planner's own numbers, and how far these can be trusted.

    OMP_NUM_THREADS=1 python tests/benchmarks/paper_study.py [--n-targets 400] [--n-cores 100]

The paper's study is planned, not done: 27 stories of 280 s to 56 min as in Narratives, 345 subjects who heard two or
three each, 40 language models of 32 blocks x 2,048, a baseline, tests with 1,000 surrogates (of the group's mean, not
of its targets one by one, for which all null scores would be kept). A small simulated study is
planned and done beside it, and its hours foretold from half of its units are printed with those that the rest took.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign.config import parse_recipe, resolved
from brainalign.features.network_costs import NetworkCosts, lengths_of_passes, tokens_of
from brainalign.features.windows import Reading
from brainalign.pipeline.executors import Local
from brainalign.pipeline.journal import latest_events
from brainalign.pipeline.plan import STAGES, Plan
from brainalign.pipeline.planning import study_of
from brainalign.pipeline.rates import core_hours, known_rates, measured_rate
from brainalign.pipeline.results import write_yaml
from brainalign.pipeline.study import Study
from brainalign.pipeline.units import units_of
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.questions.tests import Tests
from brainalign.simulate import InMemory, words_from_text
from brainalign.types import Clock, Expected, Features, Recording, Stimulus

N_SUBJECTS, N_STORIES, N_MODELS = 345, 27, 40
TR_S, WORDS_PER_SECOND = 1.5, 2.6
NETWORK = NetworkCosts(n_layers=32, width=2048, active=1.6e9, stored=1.8e9, n_vocabulary=50_000)
GB = 1e9


@dataclass(frozen=True)
class PlannedModel:
    """A language model that is never loaded."""

    name: str
    reads = ("text",)

    def fingerprint(self) -> Mapping[str, Any]:
        return {"model": self.name}

    def extract(self, stimulus: Stimulus) -> Features:
        raise NotImplementedError("this study is planned only")

    def expected(self, stimulus: Stimulus) -> Expected:
        tokens = tuple(tokens_of(stimulus.words["text"].tolist()))
        lengths = lengths_of_passes(tokens, Reading(context=512))
        shape = (NETWORK.n_layers + 1, len(stimulus.words), NETWORK.width)
        return Expected(shape, NETWORK.operations(lengths), 4.0 * NETWORK.stored)


def paper_study(n_targets: int) -> Study:
    """A study of the size of Narratives with 40 models."""
    random = np.random.default_rng(0)
    seconds = np.geomspace(280, 3360, N_STORIES)
    stimuli = {f"story{k:02d}": _story(f"story{k:02d}", length, random) for k, length in enumerate(seconds)}
    targets = pd.DataFrame({"name": [f"t{k}" for k in range(n_targets)], "kind": "parcel"})
    recordings = [
        Recording(f"sub-{s:03d}", f"run-{name}", name, "fmri", Clock(TR_S), 0.0, targets, _never, f"{s}{name}")
        for s in range(N_SUBJECTS)
        for name in sorted(random.choice(list(stimuli), size=2 + s % 2, replace=False))
    ]
    data = InMemory("paper", "345 subjects x 40 models", "fmri", stimuli, recordings)
    models = [PlannedModel(f"model {k:02d}") for k in range(N_MODELS)]
    tests = Tests(permutations=1000, group_targets=False)
    return Study.of(data, models, ("word_rate", "word_length", "log_frequency"), questions=(tests,))


def _story(name: str, seconds: float, random: np.random.Generator) -> Stimulus:
    lengths = random.integers(1, 9, int(seconds * WORDS_PER_SECOND))
    text = " ".join("x" * length for length in lengths)
    return Stimulus(name, words_from_text(text, words_per_second=WORDS_PER_SECOND))


def _never() -> np.ndarray:
    raise NotImplementedError("this study is planned only")


def show(plan: Plan, n_cores: int) -> None:
    rate = measured_rate()
    print(f"one core: {rate.core / 1e9:.1f} GFLOP/s of such work expected here")
    print(
        f"{'stage':<8} {'units':>8} {'PFLOP':>10} {'core hours':>12} {f'on {n_cores}':>10} "
        f"{'memory GB':>10} {'disk GB':>10}"
    )
    for stage in (*STAGES, "all"):
        units: Sequence = plan.units if stage == "all" else plan.of(stage)
        hours = core_hours(units, {}, rate)
        operations, disk = (sum(getattr(unit.cost, name) for unit in units) for name in ("operations", "disk_bytes"))
        memory = max(unit.cost.memory_bytes for unit in units)
        print(
            f"{stage:<8} {len(units):>8,} {operations / 1e15:>10,.0f} {hours:>12,.0f} {hours / n_cores:>10,.1f} "
            f"{memory / GB:>10.1f} {disk / GB:>10,.0f}"
        )


def check(folder: Path) -> None:
    """Do a small study; say what its first half foretells of its second half."""
    recipe = parse_recipe(
        {
            "dataset": {"name": "simulated", "n_subjects": 8, "n_runs": 4, "n_words": 1200},
            "features": [
                {"kind": "toy_model", "n_layers": 8, "dimension": 64, "name": f"toy {k}", "seed": k} for k in range(2)
            ],
            "tests": {"permutations": 50},
        }
    )
    work = WorkFolder(folder)
    plan = units_of(study_of(recipe), n_workers=8)
    write_yaml(resolved(recipe), folder / "recipe.yaml")
    work.write_plan(plan, {})
    Local(jobs=1, threads=1).execute(plan, work)
    events = latest_events(work.journal)
    first, second = set(plan.units[::2]), plan.units[1::2]
    rates = known_rates(plan, {unit.id: events[unit.id] for unit in first})
    took = sum(events[unit.id].facts["cpu_s"] for unit in second) / 3600
    told, blind = core_hours(second, rates, measured_rate()), core_hours(second, {}, measured_rate())
    print(f"\na small study, {len(second)} of {len(plan.units)} units: took {3600 * took:.1f} s of one core;")
    print(
        f"  foretold from the other units {3600 * told:.1f} s ({told / took:.2f}); from this machine's products alone "
        f"{3600 * blind:.1f} s ({blind / took:.2f})"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--n-targets", type=int, default=400)
    options.add_argument("--n-cores", type=int, default=100)
    chosen = options.parse_args()
    print(f"345 subjects, 40 models of 33 layers x 2,048, {chosen.n_targets:,} targets, 1,000 surrogates")
    show(units_of(paper_study(chosen.n_targets), n_workers=chosen.n_cores), chosen.n_cores)
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder))


if __name__ == "__main__":
    main()
