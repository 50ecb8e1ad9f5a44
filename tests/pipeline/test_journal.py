"""What processes write of units is read by anyone, whatever has become of the processes."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from child_processes import finish, start_child
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.pipeline import journal as journal_module
from brainalign.pipeline.journal import LOST_AFTER_S, Journal, latest_events, units_lost


def written(folder: Path, process: str, *lines: dict) -> Path:
    """A journal of another machine's process."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{process}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def line(unit: str, kind: str, at_s: float, **facts: object) -> dict:
    return {"unit": unit, "kind": kind, "at_s": at_s, "facts": facts}


def test_the_last_event_of_each_unit_is_what_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("a", "started")
    journal.write("a", "failed", {"why": "no words"})
    journal.write("b", "started", {"job": "12"})
    found = latest_events(tmp_path)
    assert (found["a"].kind, found["a"].facts) == ("failed", {"why": "no words"})
    assert (found["b"].kind, found["b"].facts, found["b"].process) == ("started", {"job": "12"}, journal.path.stem)
    assert abs(found["b"].at_s - time.time()) < 60


def test_there_are_no_events_where_there_is_no_folder(tmp_path: Path) -> None:
    assert latest_events(tmp_path / "none") == {}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_line_that_a_kill_cut_short_is_passed_over(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    whole = json.dumps(line("a", "done", 1.0)) + "\n"
    last = json.dumps(line("b", "done", 2.0))
    cut = data.draw(st.integers(0, len(last) - 1))
    written(folder, "far-1-0000").write_text(whole + last[:cut])
    assert set(latest_events(folder)) == {"a"}


@given(st.binary(max_size=200))
def test_bytes_that_are_no_lines_are_passed_over(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("journal")
    written(folder, "far-1-0000").write_bytes(content + b"\n" + json.dumps(line("a", "done", 1.0)).encode())
    assert latest_events(folder)["a"].kind == "done"


def test_a_line_is_whole_beside_those_of_another_process(tmp_path: Path) -> None:
    def write() -> None:
        journal = Journal(tmp_path)
        for number in range(200):
            journal.write(f"{os.getpid()} {number}", "started", {"text": "x" * 500})

    children = [start_child(write) for _ in range(2)]
    assert [finish(child) for child in children] == [0, 0]
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    assert len(latest_events(tmp_path)) == 400


def test_what_is_finished_stays_so_whoever_begins_it_again(tmp_path: Path) -> None:
    written(tmp_path, "far-1-0000", line("a", "started", 1.0), line("a", "done", 2.0))
    written(tmp_path, "near-2-0000", line("a", "started", 3.0), line("a", "failed", 4.0))
    assert latest_events(tmp_path)["a"].kind == "done"


@pytest.mark.parametrize("names", [("a-1-00", "b-2-00"), ("b-2-00", "a-1-00")])
def test_of_two_that_tried_the_later_is_told_whichever_file_comes_first(tmp_path: Path, names: tuple[str, str]) -> None:
    written(tmp_path, names[0], line("a", "started", 1.0), line("a", "failed", 2.0, why="first"))
    written(tmp_path, names[1], line("a", "started", 3.0), line("a", "failed", 4.0, why="second"))
    assert latest_events(tmp_path)["a"].facts["why"] == "second"


# Processes that are gone


def test_what_a_killed_process_had_begun_is_lost(tmp_path: Path) -> None:
    def begin_and_die() -> None:
        Journal(tmp_path).write("a", "started")
        os.kill(os.getpid(), 9)

    begun_s = time.time()
    # It is a zombie until it is waited for, and lost all the same.
    child = start_child(begin_and_die)
    while (
        not any(path.stat().st_size for path in tmp_path.glob("*.jsonl"))
        or os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None
    ):
        time.sleep(0.01)
    for _ in range(2):
        found = latest_events(tmp_path)["a"]
        assert found.kind == "lost"
        assert units_lost(tmp_path, begun_s - 1) == {"a"}
        assert units_lost(tmp_path, begun_s + 3600) == set()
        finish(child)


def test_what_a_living_process_has_begun_is_not_lost(tmp_path: Path) -> None:
    Journal(tmp_path).write("a", "started")
    assert latest_events(tmp_path)["a"].kind == "started"
    assert units_lost(tmp_path, 0.0) == set()


def test_a_process_elsewhere_is_lost_once_its_file_has_not_been_touched_for_long(tmp_path: Path) -> None:
    path = written(tmp_path, "another-machine-1-0000", line("a", "started", 1.0))
    touched_s = path.stat().st_mtime
    assert latest_events(tmp_path, touched_s + LOST_AFTER_S - 1)["a"].kind == "started"
    assert latest_events(tmp_path, touched_s + LOST_AFTER_S + 1)["a"].kind == "lost"


def test_what_was_finished_before_is_not_lost_with_the_process(tmp_path: Path) -> None:
    path = written(tmp_path, "far-1-0000", line("a", "done", 1.0), line("b", "failed", 2.0, why="no words"))
    found = latest_events(tmp_path, path.stat().st_mtime + 10 * LOST_AFTER_S)
    assert (found["a"].kind, found["b"].facts["why"]) == ("done", "no words")


def test_a_clock_that_is_ahead_makes_nobody_lost(tmp_path: Path) -> None:
    path = written(tmp_path, "far-1-0000", line("a", "started", 1.0))
    assert latest_events(tmp_path, path.stat().st_mtime - 3600)["a"].kind == "started"


def test_a_living_process_touches_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "HEARTBEAT_S", 0.01)
    journal = Journal(tmp_path)
    journal.write("a", "started")
    os.utime(journal.path, (0, 0))
    n_threads = threading.active_count()
    with journal.beating():
        until_s = time.monotonic() + 30
        while journal.path.stat().st_mtime == 0 and time.monotonic() < until_s:
            time.sleep(0.01)
    assert journal.path.stat().st_mtime > 0
    os.utime(journal.path, (0, 0))
    assert threading.active_count() == n_threads
    assert journal.path.stat().st_mtime == 0


def test_a_folder_that_vanishes_does_not_stop_the_heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "HEARTBEAT_S", 0.001)
    journal = Journal(tmp_path)
    journal.write("a", "started")
    with journal.beating():
        for _ in range(50):
            journal.path.unlink()
            journal.write("a", "started")
            time.sleep(0.002)
