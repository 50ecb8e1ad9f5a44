"""What units are expected to cost: against what they are, and in no time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainalign.config import parse_recipe
from brainalign.datasets import load_dataset
from brainalign.encoding import BandedRidgeEncoder, RidgeEncoder
from brainalign.encoding.cross_validation import plan_of
from brainalign.features import ToyModel
from brainalign.features.naming import Named
from brainalign.pipeline import run
from brainalign.pipeline.aligned import aligned
from brainalign.pipeline.costs import Costs
from brainalign.pipeline.design_costs import operations_of_layer
from brainalign.pipeline.executors import Local
from brainalign.pipeline.extraction import extract_features
from brainalign.pipeline.fit import encoder_for
from brainalign.pipeline.journal import Event, latest_events
from brainalign.pipeline.plan import STAGES
from brainalign.pipeline.rates import core_hours, known_rates, measured_rate, seconds_left
from brainalign.pipeline.study import Study
from brainalign.pipeline.units import units_of
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.questions import Ceiling, Compare, Decoding, Forecast, Ladder, Partition, Profile
from brainalign.questions import Tests as SurrogateTests
from brainalign.registry import QUESTIONS
from brainalign.store import Store
from tests.helpers.studies import heard, stories

SIMULATED = {
    "fmri": {"modality": "fmri", "n_subjects": 2, "n_runs": 4, "n_words": 500},
    "meg": {"modality": "meg", "n_subjects": 2, "n_runs": 3, "n_words": 150},
    "few runs": {"modality": "fmri", "n_subjects": 2, "n_runs": 1, "n_words": 900},
}


def study(kind: str = "fmri", dimension: int = 24, **settings: Any) -> Study:
    return Study.of(
        load_dataset("simulated", options=SIMULATED[kind]), ToyModel(n_layers=2, dimension=dimension), **settings
    )


@pytest.mark.parametrize("kind", SIMULATED)
@pytest.mark.parametrize("dimension", [8, 400])
def test_fits_are_counted_as_they_are_once_the_samples_are_known(kind: str, dimension: int) -> None:
    given = study(kind, dimension)
    costs, subject, space = Costs(given), next(iter(given.subjects)), given.spaces[0]
    samples, _ = aligned(given.subject(subject))
    assert samples is not None
    design, columns = costs.designs[subject], costs.columns[subject]
    assert columns == samples.responses.shape[1]
    assert costs.n_baseline == samples.baseline.shape[1]
    assert design.n_samples == pytest.approx(len(samples.responses), rel=0.15)
    features = extract_features(space, given.stimuli, store=None)
    placed = next(iter(samples.place(features)))
    encoder = encoder_for(given.encoder, samples)
    assert isinstance(encoder, RidgeEncoder)
    how, _ = plan_of(encoder, placed, samples.responses, samples.groups, samples.splitter)
    counted = how.operations[how.route]
    assert operations_of_layer(encoder, design, placed.shape[1], columns) == pytest.approx(counted, rel=0.5)


def test_a_baseline_and_bands_cost_more() -> None:
    design = Costs(study()).designs["01"]
    alone = operations_of_layer(RidgeEncoder(), design, 50, 100)
    assert operations_of_layer(RidgeEncoder(), design, 50, 100, n_baseline=3) > alone
    banded = BandedRidgeEncoder(bands=[20, 30], n_iter=20)
    assert operations_of_layer(banded, design, 50, 100) > 10 * alone


def test_features_leave_as_many_bytes_as_are_expected() -> None:
    given = study()
    space, store = given.spaces[0], Store()
    extract_features(space, given.stimuli, store)
    expected = sum(Costs(given).of_extraction(space, one).disk_bytes for one in given.stimuli.values())
    assert sum(path.stat().st_size for path in store.root.rglob("*") if path.is_file()) == pytest.approx(
        expected, rel=0.2
    )


ASKED = {
    "ceiling": (Ceiling(n_bootstrap=100), Ceiling(n_bootstrap=10000)),
    "ladder": (Ladder(n_layers=1), Ladder(n_layers=3)),
    "tests": (SurrogateTests(permutations=100), SurrogateTests(permutations=10000)),
    "profile": (Profile(halves=False), Profile(permutations=1000)),
    "partition": (Partition(("a", "b"), n_iter=2), Partition(("a", "b"), n_iter=50)),
    "forecast": (Forecast(), Forecast(permutations=500)),
    "compare": (Compare(permutations=0), Compare(permutations=1000)),
    "decoding": (Decoding(permutations=0), Decoding(permutations=10000)),
}


@pytest.mark.parametrize("section", QUESTIONS)
def test_answers_cost_more_the_more_is_asked(section: str) -> None:
    costs = Costs(study())
    few, many = (costs.of_answer(question, "01") for question in ASKED[section])
    assert 0 < few.operations < many.operations
    assert min(few.memory_bytes, few.disk_bytes) > 0


def test_ten_times_the_surrogates_take_about_ten_times_as_long() -> None:
    costs = Costs(study())
    few, many = (costs.of_answer(SurrogateTests(permutations=n), "01").operations for n in (1000, 10000))
    assert 5 < many / few < 10


def test_null_scores_that_are_not_kept_take_no_disk() -> None:
    costs = Costs(study())
    kept, dropped = (
        costs.of_answer(SurrogateTests(permutations=1000, group_targets=wanted), "01").disk_bytes
        for wanted in (True, False)
    )
    n_null = 2 * 3 * costs.columns["01"] * 1000
    assert kept - dropped == pytest.approx(4.0 * (n_null - 2 * 3 * 1000))


def test_what_is_asked_of_each_space_costs_as_much_as_of_all_together() -> None:
    data = load_dataset("simulated", options=SIMULATED["fmri"])
    of_two = Study.of(data, [Named("one", ToyModel(n_layers=2)), Named("two", ToyModel(n_layers=5, dimension=40))])
    costs, asked = Costs(of_two), SurrogateTests(permutations=1000)
    apart = [costs.of_answer(asked, "01", space.name).operations for space in of_two.spaces]
    assert len(apart) == 2
    assert sum(apart) == pytest.approx(costs.of_answer(asked, "01").operations, rel=0.05)


def test_subjects_together_cost_less_than_one_by_one() -> None:
    costs = Costs(study(dimension=200))
    space = costs.study.spaces[0]
    one, two = (costs.of_fit(space, subjects) for subjects in (["01"], ["01", "02"]))
    assert one.operations < two.operations < 2 * one.operations
    assert one.memory_bytes < two.memory_bytes


def test_too_few_samples_are_for_the_fit_to_complain_of() -> None:
    given = Study.of(
        load_dataset("simulated", options={"n_subjects": 1, "n_runs": 1, "n_words": 30}), ToyModel(n_layers=1)
    )
    assert Costs(given).of_fit(given.spaces[0], ["01"]).operations >= 0


def test_two_thousand_units_are_planned_in_five_seconds() -> None:
    random = np.random.default_rng(0)
    data = heard([f"s{i}" for i in range(20)], stories(3, 100), lambda *_: random.normal(size=(20, 5)))
    spaces = [Named(f"model {i}", ToyModel(n_layers=2, dimension=8 + i % 30)) for i in range(90)]
    started = time.process_time()
    plan = units_of(Study.of(data, spaces, questions=[SurrogateTests(permutations=100)]), n_workers=20)
    took_s = time.process_time() - started
    print(f"{len(plan.units)} units planned in {took_s:.2f} s of processor time")
    assert len(plan.units) >= 2000
    assert all(unit.cost.operations > 0 and unit.cost.memory_bytes > 0 for unit in plan.units)
    assert took_s < 5


def test_half_of_the_units_tell_how_long_the_other_half_takes(tmp_path: Path) -> None:
    recipe = parse_recipe(
        {
            "dataset": {"name": "simulated", "n_subjects": 4, "n_runs": 3, "n_words": 200},
            "features": [
                {"kind": "toy_model", "name": f"m{width}", "n_layers": 2, "dimension": width} for width in (16, 64)
            ],
            "tests": {"permutations": 40},
        }
    )
    # What is imported on the way counts for no unit.
    run(parse_recipe({**SMALLEST, "tests": {"permutations": 20}}), tmp_path / "first", executor=Local(jobs=1))
    run(recipe, tmp_path / "out", executor=Local(jobs=1, threads=1))
    work = WorkFolder(tmp_path / "out")
    plan, events = work.read_plan(), latest_events(work.journal)
    assert {unit.id for unit in plan.units} == {unit for unit, event in events.items() if event.kind == "done"}
    known: dict[str, Event] = {}
    for stage in STAGES:
        known |= {unit.id: events[unit.id] for unit in plan.of(stage)[::2]}
    rest = [unit for unit in plan.units if unit.id not in known]
    predicted_s = 3600 * core_hours(rest, known_rates(plan, known), measured_rate())
    took_s = sum(event.facts["cpu_s"] for unit, event in events.items() if unit not in known)
    print(f"expected {predicted_s:.2f} s of processor time, took {took_s:.2f} s")
    assert 1 / 2.2 < predicted_s / took_s < 2.2
    assert seconds_left(rest, known_rates(plan, known), measured_rate(), 1) > 0


SMALLEST = {
    "dataset": {"name": "simulated", "n_subjects": 1, "n_runs": 3, "n_words": 100},
    "features": [{"kind": "toy_model", "n_layers": 1, "dimension": 4}],
}


def test_more_workers_take_less_time_but_no_less_than_the_longest_unit() -> None:
    plan = units_of(study(questions=[SurrogateTests(permutations=100)]), n_workers=2)
    rate = measured_rate()
    alone, two, many = (seconds_left(plan.units, {}, rate, n) for n in (1, 2, 10**6))
    assert alone > two > many
    assert many == pytest.approx(sum(max(u.cost.operations for u in plan.of(s)) / rate.worker for s in STAGES))
    assert alone == pytest.approx(3600 * core_hours(plan.units, {}, rate))
    assert seconds_left([], {}, rate, 4) == 0
    in_one_job = [[unit.id for unit in plan.of(stage)] for stage in STAGES]
    assert seconds_left(plan.units, {}, rate, 100, in_one_job) == pytest.approx(alone)
