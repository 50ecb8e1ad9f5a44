"""What is handed over again after a round of jobs, what it asks for, and what is not because it would fail again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from brainalign.files import digest_of
from brainalign.pipeline.executors import Slurm, slurm_round
from brainalign.pipeline.executors.slurm_handed import STOPPED, HandedJob, note_jobs
from brainalign.pipeline.executors.slurm_jobs import Array, Ask
from brainalign.pipeline.executors.slurm_queue import Ending, Limits
from brainalign.pipeline.executors.slurm_round import Outlook, Round, next_round
from brainalign.pipeline.journal import Journal
from brainalign.pipeline.plan import Cost, Plan, Unit
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.store import Store

EXTRACTIONS = [
    Unit(f"extract-{space}", "extract", f"extract {space}", (digest_of(space),), space=space) for space in "ab"
]
FITS = [
    Unit(f"fit-{space}{k}", "fit", f"fit {space}{k}", (digest_of(f"{space}{k}"),), space=space)
    for space in "ab"
    for k in range(3)
]
ANSWER = Unit("answer-1", "answer", "answer 1", (digest_of("answer"),))
PLAN = Plan((*EXTRACTIONS, *FITS, ANSWER))
SLURM, FIRST = Slurm(memory_gb=4, time_min=60), Ask(4, 60)


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    work = WorkFolder(tmp_path)
    work.path.mkdir()
    return work


def make(*units: Unit) -> None:
    """Put what units give into the store."""
    for unit in units:
        Store().put(unit.keys[0], {"values": np.zeros(1)}, {})


def after(
    work: WorkFolder,
    monkeypatch: pytest.MonkeyPatch,
    jobs: Mapping[str, tuple[list[Unit], Ending]],
    ask: Ask = FIRST,
) -> None:
    """Jobs that were handed over, and how they ended."""
    handed = [
        HandedJob(name, units[0].stage, tuple(unit.id for unit in units), "log", 0.0, ask.memory_gb, ask.time_min)
        for name, (units, _) in jobs.items()
    ]
    note_jobs(work, handed)
    monkeypatch.setattr(slurm_round, "endings", lambda asked: {job.id: jobs[job.id][1] for job in asked})
    monkeypatch.setattr(slurm_round, "limits", lambda partition: Limits(1001, 16.0, 240.0))
    monkeypatch.setattr(slurm_round, "room", lambda account, qos: float("inf"))


def outlook(work: WorkFolder, missing: list[Unit]) -> Outlook:
    return Outlook.of(SLURM, PLAN, work, missing, Round(0, 0, 0))


@pytest.mark.parametrize(
    ("ending", "ask"),
    [
        ("memory", Ask(8, 60)),
        ("time", Ask(4, 120)),
        ("node", Ask(4, 60)),
        ("preempted", Ask(4, 60)),
        ("killed", Ask(4, 60)),
    ],
)
def test_units_whose_job_lacked_something_get_more_of_it_and_others_do_not(
    ending: Ending, ask: Ask, work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(*EXTRACTIONS)
    after(work, monkeypatch, {"1_0": (FITS[:3], ending), "1_1": (FITS[3:], "killed")})
    Journal(work.journal).write(FITS[0].id, "started", {"job": "1_0"})
    found = outlook(work, FITS)
    assert [found.asks[unit.id] for unit in FITS] == [ask] * 3 + [Ask(4, 60)] * 3
    assert not found.hopeless


def test_python_running_out_of_memory_by_itself_counts_as_that(
    work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    after(work, monkeypatch, {"1_0": (FITS[:1], "killed")})
    Journal(work.journal).write(FITS[0].id, "failed", {"job": "1_0", "error": "MemoryError", "why": "no room"})
    assert outlook(work, FITS).asks[FITS[0].id] == Ask(8, 60)


def test_with_all_that_the_partition_has_only_the_unit_that_was_begun_is_hopeless(
    work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    after(work, monkeypatch, {"1_0": (FITS[:2], "memory")}, Ask(16, 60))
    Journal(work.journal).write(FITS[0].id, "started", {"job": "1_0"})
    found = outlook(work, FITS[:2])
    assert found.hopeless == {FITS[0].id: "its job 1_0 ran out of memory, with all that the partition allows"}
    assert found.asks[FITS[1].id] == Ask(16, 60)


def test_what_the_user_has_to_mend_is_not_handed_over_again_nor_what_waits_for_it(
    work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(EXTRACTIONS[1], *FITS[3:5])
    after(work, monkeypatch, {"1_0": (EXTRACTIONS[:1], "killed"), "2_0": (FITS, "killed"), "3": ([ANSWER], "killed")})
    Journal(work.journal).write("extract-a", "failed", {"job": "1_0", "error": "DataError", "why": "no such model"})
    handed: list[Array] = []
    monkeypatch.setattr(
        slurm_round, "_submit", lambda slurm, plan, work, arrays, begun, sizes: handed.extend(arrays) or begun
    )
    assert next_round(SLURM, PLAN, work, Round(0, 0, 0)) is not None
    assert [array.jobs for array in handed] == [((FITS[5].id,),)]
    # Once that is done nothing is left that could be.
    make(FITS[5])
    assert next_round(SLURM, PLAN, work, Round(1, 0, 3)) is None
    assert (work.path / STOPPED).read_text().splitlines() == [
        "5 of 9 units are not done after 2 rounds of jobs.",
        "1 failed in a way that has to be mended, extract a: no such model",
        f"Mend it and run again; what is done stays. Logs: {work.path / 'logs'}",
    ]


def test_a_failure_of_an_earlier_run_does_not_count(work: WorkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    after(work, monkeypatch, {"1": (EXTRACTIONS[:1], "killed"), "2": (EXTRACTIONS[:1], "node")})
    Journal(work.journal).write("extract-a", "failed", {"job": "1", "error": "DataError", "why": "no such model"})
    assert not Outlook.of(SLURM, PLAN, work, EXTRACTIONS, Round(0, 1, 0)).hopeless


@pytest.mark.parametrize(
    ("before", "retry"),
    [
        (Round(0, 0, 2), 1),
        (Round(0, 0, 1, is_partial=True), 0),
        (Round(0, 0, 2, is_partial=True), 1),
        (Round(3, 0, 1, is_partial=True), 3),
        (Round(3, 0, 2), None),
    ],
)
def test_a_round_without_room_for_all_is_no_retry_as_long_as_it_gets_on(
    before: Round, retry: int | None, work: WorkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(*EXTRACTIONS)
    after(work, monkeypatch, {"1": (FITS, "killed")})
    monkeypatch.setattr(slurm_round, "_submit", lambda slurm, plan, work, arrays, begun, sizes: begun)
    found = next_round(SLURM, PLAN, work, before)
    assert (None if found is None else found.retry) == retry
    assert (work.path / STOPPED).exists() == (retry is None)


def test_memory_is_what_the_plan_expects_where_the_settings_do_not_say() -> None:
    large = Plan((Unit("fit-1", "fit", "", ("",), cost=Cost(memory_bytes=8e9)), *EXTRACTIONS))
    asks = slurm_round.first_asks(Slurm(time_min=30, stages={"extract": {"time_min": 90}}), large)
    assert asks == {"fit-1": Ask(12.0, 30), "extract-a": Ask(4.0, 90), "extract-b": Ask(4.0, 90)}
