"""Whatever kills a run, damages what it stored or takes its disk away: nothing is lost and nothing wrong is read."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from child_processes import answer_of, finish, folder_for_all, limit_files_to, make_read_only, start_child
from disk_faults import FAULTS

from brainalign.config import parse_recipe
from brainalign.errors import BrainalignError, DataError, StoreWarning
from brainalign.files import atomic_path, sweep_parts
from brainalign.pipeline import run
from brainalign.pipeline.executors import Local
from brainalign.safe_yaml import yaml_text
from brainalign.store import Store

HELPERS = Path(__file__).parents[1] / "helpers"
SMALL: Mapping[str, Any] = {
    "title": "A small study",
    "dataset": {"name": "simulated", "n_subjects": 4, "n_runs": 3, "n_words": 100, "n_layers": 2, "dimension": 8},
    "features": [
        {"kind": "toy_model", "n_layers": 2, "dimension": 8},
        {"kind": "toy_model", "n_layers": 1, "dimension": 4, "seed": 3, "name": "another"},
    ],
    "ladder": {"n_layers": 1},
    "ceiling": {},
}


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml_text(SMALL), encoding="utf-8")
    return path


def run_here(folder: Path, jobs: int = 1) -> bytes:
    """The bytes of the scores."""
    run(parse_recipe(SMALL), folder, executor=Local(jobs=jobs))
    return (folder / "scores.nc").read_bytes()


def run_in_child(folder: Path) -> bytes:
    """The same by a process that is gone then: whose files stay as long as their owner lives is not the question."""

    def quietly() -> None:
        with warnings.catch_warnings(action="ignore"):
            run_here(folder)

    child = start_child(quietly)
    child.join()
    assert child.exitcode == 0
    return (folder / "scores.nc").read_bytes()


def temporary(names: list[str]) -> list[str]:
    """Of all files of a result folder and a store, those that are of a write that was not finished."""
    places: dict[str, int] = {}
    for name in names:
        # In the store, an entry has one folder, its writer's, and one record; what was put aside is kept on purpose.
        parts = name.split("/")
        if "store" in parts and len(parts) == parts.index("store") + 4 and "damaged." not in name:
            place = "/".join(parts[:-1])
            places[place] = places.get(place, 0) + 1
    crowded = [place for place, n in places.items() if n != 2]
    return crowded + [
        name
        for name in names
        if ".tmp" in name or ".writable" in name or (name.endswith("record.json") and name.count("/") > 4)
    ]


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# Kills


@pytest.mark.slow
def test_thirty_kills_at_random_moments_lose_nothing_and_nothing_is_done_twice(
    recipe_file: Path, tmp_path: Path
) -> None:
    command = [sys.executable, HELPERS / "killed_runs.py", recipe_file, tmp_path, "30", "7"]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    n_begun = n_twice = 0
    for killed in found["killed"]:
        n_begun += sum(killed["begun"].values())
        n_twice += sum(n > 1 for n in killed["done"].values())
        assert killed["sha256"] == found["alone"]["sha256"]
        # A unit that was finished, and whose process was killed before it could say so, is not begun again.
        assert set(killed["done"]) <= set(killed["begun"])
        assert temporary(killed["files"]) == []
    n_units = sum(len(killed["units"]) for killed in found["killed"])
    print(
        f"{sum(found['kills'].values())} kills ({found['kills']}) of {len(found['killed'])} studies, {n_units} units "
        f"begun {n_begun} times, done twice: {n_twice}"
    )
    assert sum(found["kills"].values()) == 30
    assert n_twice == 0
    assert n_begun > n_units


def test_what_a_killed_process_was_writing_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    def die_while_writing() -> None:
        with atomic_path(tmp_path / "scores.nc") as part:
            part.write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)

    assert finish(start_child(die_while_writing)) == -signal.SIGKILL
    assert len(files_of(tmp_path)) == 1
    with atomic_path(tmp_path / "run.json") as part:
        part.write_bytes(b"whole")
        sweep_parts(tmp_path)
        assert files_of(tmp_path) == [part.name]
    assert files_of(tmp_path) == ["run.json"]


# Damage


def damage(path: Path, rng: random.Random) -> bool:
    """Damage a file; whether a bit of it is another now."""
    whole = path.read_bytes()
    if not whole:
        return False  # cut off before, and not read since
    content = bytearray(whole)
    rng.choice(FAULTS)(content, rng)
    # A new file, so that whoever has mapped the old one keeps it.
    path.unlink()
    path.write_bytes(content)
    return content != whole


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was run: its folder ``out``, its cache, and in memory nothing."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINALIGN_CACHE", str(folder / "cache"))
        run_in_child(folder / "out")
    return folder


def contents_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_two_thousand_faults_of_the_disk_are_never_read_as_data(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "cache" / "store", tmp_path / "store")
    store, rng = Store(tmp_path / "store"), random.Random(2000)
    places = sorted(path.parent for path in store.root.rglob("record.json"))
    entries = {place: store.get(place.name.partition(".")[0]) for place in places}
    wanted = {place: {name: (a.dtype, a.tobytes()) for name, a in e.arrays.items()} for place, e in entries.items()}
    kinds = {entry.facts["what"] for entry in entries.values()}
    assert kinds == {"features", "fit", "answer"}
    n_found = n_without_meaning = 0
    for _ in range(2000):
        place = rng.choice(places)
        whole = contents_of(place)
        path = rng.choice(sorted(whole))
        changed = damage(path, rng)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            entry = store.get(place.name.partition(".")[0])
        if changed:
            assert entry is None
            assert [warning.category for warning in caught] == [StoreWarning]
            n_found += 1
        else:
            assert {name: (a.dtype, a.tobytes()) for name, a in entry.arrays.items()} == wanted[place]
            n_without_meaning += 1
        shutil.rmtree(place)
        for kept, content in whole.items():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(content)
    print(f"2,000 faults: {n_found} found, {n_without_meaning} changed no bit, 0 read as data")
    assert n_found + n_without_meaning == 2000
    assert n_found > 1800


@pytest.mark.slow
def test_runs_over_damaged_stores_give_the_same_bytes(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = (finished / "out" / "scores.nc").read_bytes()
    shutil.copytree(finished / "cache", tmp_path / "cache")
    monkeypatch.setenv("BRAINALIGN_CACHE", str(tmp_path / "cache"))
    # How the page looks is no question here, and takes most of the time.
    monkeypatch.setattr("brainalign.pipeline.execution.write_report", lambda scores, path, *_: path.write_text("page"))
    rng, n_damaged = random.Random(20), 0
    for number in range(20):
        files = [path for path in Store().root.rglob("*") if path.is_file() and "damaged." not in str(path)]
        for path in rng.sample(files, k=rng.randint(1, 12)):
            n_damaged += damage(path, rng)
        assert run_in_child(tmp_path / f"out {number}") == wanted
    # Every one of them that a run had to read was made again; those that it had not are found by whoever reads them.
    assert n_damaged > 50
    assert temporary([name for name in files_of(tmp_path) if "damaged." not in name]) == []


# Interrupts


def started(recipe_file: Path, out: Path, cache: Path) -> subprocess.Popen[str]:
    """The command, in a group of processes of its own as a terminal makes one, once its workers are at work."""
    command = [sys.executable, "-m", "brainalign_cli.main", "run", recipe_file, "--out", out, "--jobs", "2", "--quiet"]
    environment = {**os.environ, "BRAINALIGN_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, text=True, stderr=subprocess.PIPE, env=environment, process_group=0)
    while not any(out.glob("work/journal/*.jsonl")) and process.poll() is None:
        time.sleep(0.02)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_all_within_five_seconds_with_one_line(
    sent: signal.Signals, code: int, recipe_file: Path, tmp_path: Path
) -> None:
    process = started(recipe_file, tmp_path / "out", tmp_path / "cache")
    family = psutil.Process(process.pid).children(recursive=True)
    began_s = time.monotonic()
    if sent == signal.SIGINT:
        # To all of the terminal's foreground.
        os.killpg(process.pid, sent)
    else:
        process.send_signal(sent)
    _, told = process.communicate(timeout=60)
    took_s = time.monotonic() - began_s
    assert process.returncode == code, told
    assert [line for line in told.splitlines() if line.strip()] == [told.strip()], told
    assert "goes on from what is finished" in told
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []
    print(f"{sent.name}: ended after {took_s:.1f} s")
    assert took_s < 5 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.mark.slow
def test_a_run_that_was_interrupted_goes_on_and_gives_the_same_bytes(
    recipe_file: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = started(recipe_file, tmp_path / "out", tmp_path / "cache")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    monkeypatch.setenv("BRAINALIGN_CACHE", str(tmp_path / "cache"))
    run(str(recipe_file), tmp_path / "out")
    assert (tmp_path / "out" / "scores.nc").read_bytes() == (finished / "out" / "scores.nc").read_bytes()


# Disks that do not take it


def refusal_of(folder: Path) -> str:
    """What a run into a folder is refused with."""
    try:
        run_here(folder)
    except BrainalignError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system to fill")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("no small file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, left: int) -> None:
    """Leave so many bytes of a disk."""
    with suppress(OSError), (folder / "others").open("wb", buffering=0) as stream:
        while shutil.disk_usage(folder).free > left:
            stream.write(bytes(4096))


@pytest.mark.parametrize("left", [0, 12_288, 40_960, 122_880], ids=lambda left: f"{left} bytes left")
def test_a_full_disk_under_the_results_is_told_and_nothing_is_half_written(
    left: int, tiny_disk: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All units are done: what is written is the work folder and the five files.
    monkeypatch.setenv("BRAINALIGN_CACHE", str(finished / "cache"))
    fill(tiny_disk, left)
    message = refusal_of(tiny_disk / "out")
    assert message.startswith("DataError: "), message
    assert "No space left" in message
    assert "ree some space" in message or "--out" in message
    assert len(message.splitlines()) <= 3
    assert_whole(tiny_disk / "out", finished)
    (tiny_disk / "others").unlink()


def assert_whole(folder: Path, finished: Path) -> None:
    """What has a final name in a result folder is whole, and no temporary file is there."""
    names = files_of(folder) if folder.exists() else []
    assert [name for name in names if ".tmp" in name or ".writable" in name] == []
    assert "run.json" not in names
    if "scores.nc" in names:
        assert (folder / "scores.nc").read_bytes() == (finished / "out" / "scores.nc").read_bytes()
    if "work/plan.json" in names:
        json.loads((folder / "work" / "plan.json").read_text())


@pytest.mark.parametrize("limit", [100, 2_000, 6_000, 20_000], ids=lambda limit: f"{limit} bytes")
def test_a_limit_of_files_under_store_and_results_is_told(
    limit: int, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINALIGN_CACHE", str(tmp_path / "cache"))

    def limited() -> str:
        limit_files_to(limit)
        return refusal_of(tmp_path / "out")

    message = answer_of(limited)
    assert message.startswith("DataError: "), message
    assert "File too large" in message or "requested" in message
    assert "None" not in message
    assert len(message.splitlines()) <= 3
    assert_whole(tmp_path / "out", finished)
    assert temporary(files_of(tmp_path)) == []


@pytest.mark.parametrize("which", ["out", "cache"])
def test_a_read_only_folder_is_told_by_name(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with folder_for_all() as folder:
        for name in ("out", "cache/store"):
            (folder / name).mkdir(parents=True)
            (folder / name).chmod(0o777)
        (folder / "cache").chmod(0o777)
        make_read_only(folder / which)
        monkeypatch.setenv("BRAINALIGN_CACHE", str(folder / "cache"))
        message = answer_of(lambda: refusal_of(folder / "out"), as_another=True)
    assert message.startswith("DataError: "), message
    assert str(folder / which) in message
    assert "Permission denied" in message
    assert len(message.splitlines()) <= 3


def test_a_folder_that_vanishes_while_it_is_run_into_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(what: str, done: int, total: int, note: str = "") -> None:
        if what == "fit":
            shutil.rmtree(tmp_path / "out", ignore_errors=True)

    with pytest.raises(DataError) as raised:
        run(parse_recipe(SMALL), tmp_path / "out", progress=vanish, executor=Local(jobs=1))
    assert str(tmp_path / "out") in str(raised.value)
    assert len(str(raised.value).splitlines()) <= 3


# Two at once


@pytest.mark.slow
def test_two_runs_into_one_folder_at_once_both_end_well(finished: Path, tmp_path: Path) -> None:
    def go() -> None:
        os.environ["BRAINALIGN_CACHE"] = str(tmp_path / "cache")
        run_here(tmp_path / "out")

    children = [start_child(go) for _ in range(2)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert (tmp_path / "out" / "scores.nc").read_bytes() == (finished / "out" / "scores.nc").read_bytes()
    assert temporary(files_of(tmp_path)) == []
