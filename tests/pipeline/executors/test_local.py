"""Processes of this machine: as many as there is room for, begun again when killed, ended with their parent."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from brainalign.errors import DataError, RecipeError
from brainalign.files import digest_of
from brainalign.pipeline import work as work_module
from brainalign.pipeline.executors import Executor, Local, local
from brainalign.pipeline.plan import Cost, Plan, Unit
from brainalign.pipeline.work_folder import WorkFolder
from brainalign.store import Store

Call = Callable[[str, str, float, int], list]


def units(n_units: int, memory_bytes: float = 0.0) -> Plan:
    """Units that nothing keeps waiting."""
    keys = [digest_of({"unit": number}) for number in range(n_units)]
    made = [
        Unit(f"extract-{i}", "extract", f"extract {i}", (key,), f"space {i}", cost=Cost(memory_bytes=memory_bytes))
        for i, key in enumerate(keys)
    ]
    return Plan(tuple(made))


def planned(folder: Path, plan: Plan) -> WorkFolder:
    work = WorkFolder(folder)
    work.write_plan(plan, {"title": "units"})
    return work


@pytest.fixture(autouse=True)
def own_processes() -> Iterator[None]:
    """No test's processes are another's, and all are gone in the end."""
    from joblib.externals.loky import get_reusable_executor

    yield
    get_reusable_executor(1).shutdown(wait=True, kill_workers=True)


def stand_in(keys: dict[str, str], guilty: str = "", deaths: int = 0) -> Call:
    """In place of the units' work, in their processes: one of them dies the first few times that it is begun."""

    # Within another, so that it is handed over whole and not by the name of this module.
    def do(folder: str, unit: str, memory_gb: float, parent: int) -> list:
        import os as system
        from pathlib import Path as Where

        from brainalign.pipeline.journal import Journal
        from brainalign.store import Store as Results

        told = Where(folder, f"{unit} {system.getpid()} {memory_gb:.4f} {system.urandom(4).hex()}")
        told.touch()
        Journal(Where(folder, "work", "journal")).write(unit, "started")
        if unit == guilty and len(list(Where(folder).glob(f"{unit} *"))) <= deaths:
            system.kill(system.getpid(), 9)
        Results().put(keys[unit], {}, {"threads": system.environ["OMP_NUM_THREADS"]})
        return []

    return do


def keys_of(plan: Plan) -> dict[str, str]:
    return {unit.id: unit.keys[0] for unit in plan.units}


def begun(folder: Path) -> Counter[str]:
    return Counter(path.name.partition(" ")[0] for path in folder.glob("extract-* *"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"jobs": 0}, "jobs"), ({"threads": -1}, "threads"), ({"memory_gb": 0.0}, "memory_gb"), ({"retries": -1}, "retr")],
)
def test_numbers_that_mean_nothing_are_refused_by_name(settings: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Local(**settings)


def test_it_is_an_executor() -> None:
    assert isinstance(Local(), Executor)
    assert Local(jobs=3).n_workers == 3


def test_all_units_are_done_once_and_progress_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, told = units(7), []
    monkeypatch.setattr(local, "_do_in_process", stand_in(keys_of(plan)))
    work = planned(tmp_path, plan)
    assert Local(jobs=2).execute(plan, work, lambda *now: told.append(now))
    assert begun(tmp_path) == {unit.id: 1 for unit in plan.units}
    assert told == [("extract", number, 7) for number in range(8)]
    assert len({path.name.split()[1] for path in tmp_path.glob("extract-* *")}) <= 2
    # What is done is not begun again.
    assert Local(jobs=2).execute(plan, work, lambda *now: told.append(now))
    assert begun(tmp_path).total() == 7
    assert len(told) == 8


@pytest.mark.parametrize(("jobs", "threads", "expected"), [(2, None, 4), (8, None, 1), (2, 3, 3), (100, None, 1)])
def test_processes_times_threads_are_the_cores(
    jobs: int, threads: int | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "allowed_cpus", lambda: 8)
    asked: list[tuple[int, int]] = []

    def never_started(n_workers: int, n_threads: int) -> None:
        asked.append((n_workers, n_threads))
        raise DataError("enough")

    monkeypatch.setattr(local, "_started", never_started)
    with pytest.raises(DataError, match="enough"):
        Local(jobs=jobs, threads=threads).execute(units(10), WorkFolder(tmp_path))
    assert asked == [(min(jobs, 10), expected)]


@pytest.mark.parametrize(("each_gb", "expected"), [(1.0, 4), (3.0, 3), (4.9, 2), (9.0, 1), (50.0, 1)])
def test_there_are_never_more_processes_than_memory_allows(
    each_gb: float, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "free_memory", lambda: 10e9)
    asked: list[int] = []

    def never_started(n_workers: int, _: int) -> None:
        asked.append(n_workers)
        raise DataError("enough")

    monkeypatch.setattr(local, "_started", never_started)
    with pytest.raises(DataError, match="enough"):
        Local(jobs=4).execute(units(10, each_gb * 1e9), WorkFolder(tmp_path))
    assert asked == [expected]


def test_each_process_is_told_its_share_of_memory_and_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = units(4)
    monkeypatch.setattr(local, "_do_in_process", stand_in(keys_of(plan)))
    Local(jobs=2, threads=3, memory_gb=0.5).execute(plan, planned(tmp_path, plan))
    assert {path.name.split()[2] for path in tmp_path.glob("extract-* *")} == {"0.2500"}
    assert {Store().get(unit.keys[0]).facts["threads"] for unit in plan.units} == {"3"}


def test_a_change_of_cache_reaches_processes_that_were_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = units(2)
    monkeypatch.setattr(local, "_do_in_process", stand_in(keys_of(plan)))
    for name in ("one", "two"):
        monkeypatch.setenv("BRAINALIGN_CACHE", str(tmp_path / name / "cache"))
        Local(jobs=2).execute(plan, planned(tmp_path / name, plan))
        assert plan.done(Store(tmp_path / name / "cache" / "store")) == set(keys_of(plan))


# Processes that are killed


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_unit_whose_process_is_killed_is_begun_again(
    deaths: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = units(6)
    monkeypatch.setattr(local, "_do_in_process", stand_in(keys_of(plan), "extract-2", deaths))
    assert Local(jobs=2).execute(plan, planned(tmp_path, plan))
    assert begun(tmp_path)["extract-2"] == deaths + 1
    assert all(unit.is_done(Store()) for unit in plan.units)


@pytest.mark.parametrize(("retries", "words"), [(0, "once"), (1, "2 times")])
def test_one_that_is_killed_each_time_is_told_and_all_others_are_done(
    retries: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = units(6)
    monkeypatch.setattr(local, "_do_in_process", stand_in(keys_of(plan), "extract-0", 100))
    # Alone in the first place where there is no second try, so that none is taken along.
    width = 1 if retries == 0 else 2
    monkeypatch.setattr(local, "allowed_cpus", lambda: 2)
    monkeypatch.setattr(Local, "_fitting", lambda self, units: width)
    with pytest.raises(DataError) as raised:
        Local(jobs=2, retries=retries).execute(plan, planned(tmp_path, plan))
    message = str(raised.value)
    assert f"extract 0: its process was killed, {words}" in message
    assert "--jobs" in message
    assert "1 of 6 units failed" in message
    assert len(message.splitlines()) <= 3
    assert begun(tmp_path)["extract-0"] == 1 + retries
    assert sum(unit.is_done(Store()) for unit in plan.units) == 5


def test_fewer_are_side_by_side_after_each_kill_and_at_last_one() -> None:
    executor, plan = Local(jobs=8, retries=3), units(20)
    now = list(plan.units)
    widths = [executor._width(now, 8, Counter({unit.id: kills for unit in now})) for kills in range(4)]
    assert widths == [8, 4, 2, 1]


def test_those_that_were_killed_most_often_come_first_and_by_themselves() -> None:
    todo = list(units(5).units)
    kills = Counter({"extract-3": 2, "extract-1": 1})
    assert [unit.id for unit in Local()._next(todo, kills)] == ["extract-3"]
    assert Local()._next(todo, Counter()) == todo


def test_a_unit_that_is_passed_over_is_a_failure_and_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = units(1)
    monkeypatch.setattr(local, "do_units", lambda *_, **__: [])
    with pytest.raises(DataError, match="vanished from the store"):
        Local(jobs=1).execute(plan, planned(tmp_path, plan))


def children_of_this() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "loky" in " ".join(child.cmdline())]


def test_an_interrupt_ends_all_processes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(folder: str, unit: str, memory_gb: float, parent: int) -> list:
        import time as clock
        from pathlib import Path as Where

        Where(folder, f"{unit} begun").touch()
        clock.sleep(600)
        return []

    monkeypatch.setattr(local, "_do_in_process", sleep)
    sent_s: list[float] = []

    def interrupt() -> None:
        while not begun(tmp_path):
            time.sleep(0.02)
        sent_s.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    plan = units(6)
    with pytest.raises(KeyboardInterrupt):
        Local(jobs=2).execute(plan, planned(tmp_path, plan))
    assert time.monotonic() - sent_s[0] < 5
    left = [child for child in children_of_this() if "resource_tracker" not in " ".join(child.cmdline())]
    assert left == []


def test_the_key_that_interrupts_does_not_reach_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: str, unit: str, memory_gb: float, parent: int) -> list:
        import os as system
        import signal as signals

        system.kill(system.getpid(), signals.SIGINT)
        return stand_in_of(folder, unit, memory_gb, parent)

    plan = units(4)
    stand_in_of = stand_in(keys_of(plan))
    monkeypatch.setattr(local, "_do_in_process", interrupted)
    assert Local(jobs=2).execute(plan, planned(tmp_path, plan))
    assert begun(tmp_path).total() == 4


def test_processes_end_with_their_parent() -> None:
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        child = os.fork()
        if child == 0:
            local._end_with.cache_clear()
            local._end_with(os.getppid())
            os.write(writer, b"ready")
            time.sleep(600)
        signal.pause()
    os.close(writer)
    assert os.read(reader, 5) == b"ready"
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    # The end of the pipe: nobody is left who could write to it.
    assert os.read(reader, 5) == b""
    os.close(reader)


# What it costs


def test_a_thousand_trivial_units_cost_little_beyond_their_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = units(1000)
    store = Store()
    monkeypatch.setattr(work_module.Worker, "_make", lambda self, unit, progress: store.put(unit.keys[0], {}, {}))
    # What results cost is work, and not the executor's; the disk's time is not the processor's.
    began_s = time.process_time()
    for number in range(1000):
        store.put(digest_of({"other": number}), {}, {})
    work_s = time.process_time() - began_s
    began_s = time.process_time()
    Local(jobs=1).execute(plan, planned(tmp_path, plan))
    overhead_s = time.process_time() - began_s - work_s
    print(f"1,000 trivial units: {overhead_s:.2f} s over the work itself ({work_s:.2f} s)")
    assert overhead_s < 10


def test_a_failure_of_one_unit_is_told_with_how_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, store = units(3), Store()

    def make(self: work_module.Worker, unit: Unit, progress: object) -> None:
        if unit.id == "extract-1":
            raise DataError("The words are none.")
        store.put(unit.keys[0], {}, {})

    monkeypatch.setattr(work_module.Worker, "_make", make)
    with pytest.raises(DataError, match=r"The words are none.\n1 of 3 units failed, this one: extract 1"):
        Local(jobs=1).execute(plan, planned(tmp_path, plan))
    assert len(plan.done(store)) == 2
