"""Units are done one after the other in any process, each with a log and lines in the journal."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from child_processes import answer_of

from brainalign.config import parse_recipe, resolved
from brainalign.errors import BrainalignError, DataError
from brainalign.pipeline import work as work_module
from brainalign.pipeline.journal import latest_events
from brainalign.pipeline.plan import STAGES, Plan, Unit
from brainalign.pipeline.planning import study_of
from brainalign.pipeline.results import write_yaml
from brainalign.pipeline.score import StoredFits, score_layers
from brainalign.pipeline.units import units_of
from brainalign.pipeline.work import do_units
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.store import Store

SMALL: Mapping[str, Any] = {
    "title": "A small study",
    "dataset": {"name": "simulated", "n_subjects": 2, "n_runs": 3, "n_words": 100, "n_layers": 2, "dimension": 6},
    "features": [{"kind": "toy_model", "n_layers": 1, "dimension": 6}],
    "ladder": {"n_layers": 1},
}


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    return planned(tmp_path / "out", SMALL)


def planned(folder: Path, content: Mapping[str, Any]) -> WorkFolder:
    recipe, work = parse_recipe(content), WorkFolder(folder)
    folder.mkdir(exist_ok=True)
    write_yaml(resolved(recipe), folder / "recipe.yaml")
    work.write_plan(units_of(study_of(recipe), 1), {"title": recipe.title})
    return work


def ids_of(work: WorkFolder, *stages: str) -> list[str]:
    return [unit.id for unit in work.read_plan().units if unit.stage in (stages or STAGES)]


def kinds_of(work: WorkFolder) -> dict[str, list[str]]:
    """What the journals say of each unit, in order."""
    found: dict[str, list[str]] = {}
    for path in work.journal.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            event = json.loads(line)
            found.setdefault(event["unit"], []).append(event["kind"])
    return found


def test_all_units_are_done_with_a_log_and_two_lines_each(work: WorkFolder) -> None:
    assert do_units(work.folder, ids_of(work)) == []
    plan = work.read_plan()
    assert plan.done(Store()) == set(ids_of(work))
    assert kinds_of(work) == {unit: ["started", "done"] for unit in ids_of(work)}
    for unit in plan.units:
        log = work.log_of(unit.id).read_text()
        assert f"{unit.about}: begins" in log
        assert "done in" in log
    facts = latest_events(work.journal)[ids_of(work)[0]].facts
    assert facts["seconds"] > 0
    assert facts["peak_mb"] > 0


def test_what_is_done_is_not_begun_again(work: WorkFolder) -> None:
    do_units(work.folder, ids_of(work))
    before = kinds_of(work)
    assert do_units(work.folder, ids_of(work)) == []
    assert kinds_of(work) == before


def test_units_are_done_in_the_plans_order_whatever_the_order_asked_for(work: WorkFolder) -> None:
    do_units(work.folder, ids_of(work)[::-1])
    events = latest_events(work.journal)
    assert sorted(ids_of(work), key=lambda unit: events[unit].at_s) == ids_of(work)


def test_a_unit_whose_needs_are_missing_is_passed_over_without_a_trace(work: WorkFolder) -> None:
    assert do_units(work.folder, ids_of(work, "fit", "answer")) == []
    assert kinds_of(work) == {}
    assert work.read_plan().done(Store()) == set()
    assert not work.log_of(ids_of(work, "fit")[0]).exists()


def test_a_unit_that_another_plan_has_is_passed_over(work: WorkFolder) -> None:
    assert do_units(work.folder, ["fit-0000"]) == []
    assert kinds_of(work) == {}


def test_a_unit_that_fails_does_not_stop_the_others(work: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = ids_of(work, "extract")
    make = work_module.Worker._make

    def failing(self: work_module.Worker, unit: Unit, progress: Any) -> None:
        if unit.id == first:
            raise DataError("story one has no words.\nGive it some.")
        make(self, unit, progress)

    monkeypatch.setattr(work_module.Worker, "_make", failing)
    [failure] = do_units(work.folder, ids_of(work))
    assert (failure.unit, failure.error, failure.trace) == (first, "DataError", "")
    assert failure.message.startswith("story one")
    assert work.read_plan().done(Store()) == set(others)
    assert latest_events(work.journal)[first].facts["why"] == "Give it some."
    assert "story one has no words." in work.log_of(first).read_text()


def test_a_defect_is_told_with_its_traceback(work: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_module.Worker, "_make", lambda *_: 1 / 0)
    failures = do_units(work.folder, ids_of(work, "extract")[:1])
    assert [failure.error for failure in failures] == ["ZeroDivisionError"]
    assert "Traceback" in failures[0].trace


def test_an_interrupt_stops_all_and_is_in_the_log(work: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(work_module.Worker, "_make", interrupted)
    with pytest.raises(KeyboardInterrupt):
        do_units(work.folder, ids_of(work))
    assert kinds_of(work) == {ids_of(work)[0]: ["started"]}
    assert "stopped: KeyboardInterrupt" in work.log_of(ids_of(work)[0]).read_text()


def test_data_that_changed_since_the_plan_are_told(work: WorkFolder) -> None:
    changed = {**SMALL, "dataset": {**SMALL["dataset"], "seed": 1}}
    write_yaml(resolved(parse_recipe(changed)), work.folder / "recipe.yaml")
    failures = do_units(work.folder, ids_of(work, "extract"))
    assert len(failures) == len(ids_of(work, "extract"))
    assert all("not what was planned" in failure.message for failure in failures)
    assert all(len(failure.message.splitlines()) <= 3 for failure in failures)


def test_a_new_plan_is_read_by_a_process_that_knew_the_old_one(work: WorkFolder) -> None:
    do_units(work.folder, ids_of(work, "extract"))
    planned(work.folder, {**SMALL, "dataset": {**SMALL["dataset"], "seed": 1}})
    assert do_units(work.folder, ids_of(work)) == []
    assert work.read_plan().done(Store()) == set(ids_of(work))


def test_a_folder_without_a_plan_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BrainalignError, match=r"no plan|gone") as raised:
        do_units(tmp_path / "nowhere", ["fit-0000"])
    assert len(str(raised.value).splitlines()) <= 3


def test_a_fork_writes_a_journal_of_its_own(work: WorkFolder) -> None:
    first, second, *_ = ids_of(work, "extract")
    do_units(work.folder, [first])
    assert answer_of(lambda: do_units(work.folder, [second])) == []
    assert {path.stem.split("-")[-2] for path in work.journal.glob("*.jsonl")} > {str(os.getpid())}
    assert len(list(work.journal.glob("*.jsonl"))) == 2


def test_a_damaged_feature_is_made_again_and_the_log_says_so(work: WorkFolder, own_cache: Path) -> None:
    do_units(work.folder, ids_of(work, "extract"))
    damaged = sorted(own_cache.glob("store/*/*/*/values.npy"))[0]
    content = bytearray(damaged.read_bytes())
    content[-3] ^= 4
    damaged.unlink()
    damaged.write_bytes(content)
    assert do_units(work.folder, ids_of(work, "fit")) == []
    assert "is damaged" in work.log_of(ids_of(work, "fit")[0]).read_text()


def test_stored_fits_are_those_of_the_scores(work: WorkFolder) -> None:
    do_units(work.folder, ids_of(work, "extract", "fit"))
    study = study_of(parse_recipe(SMALL))
    fits = StoredFits(study, Store())
    with pytest.warns(match="."):
        scores = score_layers(study.data, study.spaces, store=None)
    assert list(fits) == list(dict.fromkeys(scores["subject"].values.tolist()))
    for subject, of_spaces in fits.items():
        own = scores["r"].values[..., scores["subject"].values == subject]
        assert of_spaces["ToyModel"]["r"].tobytes() == own.tobytes()
    with pytest.raises(KeyError):
        fits["nobody"]


def test_fits_that_vanish_between_are_told(work: WorkFolder) -> None:
    do_units(work.folder, ids_of(work, "extract", "fit"))
    study = study_of(parse_recipe(SMALL))
    fits = StoredFits(study, Store())
    subject = next(iter(fits))
    arrays = fits[subject]["ToyModel"]
    for path in Store().root.rglob("*.npy"):
        path.unlink()
    with pytest.raises(DataError, match="run again"):
        arrays["r"]


def test_a_plan_with_nothing_to_do_is_no_error(tmp_path: Path) -> None:
    work = WorkFolder(tmp_path)
    work.write_plan(Plan(()), {})
    assert do_units(tmp_path, []) == []
