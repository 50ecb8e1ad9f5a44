"""The command `brainalign cache`: what it says of the cache, and what it removes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from brainalign_cli.cache import KINDS, human
from brainalign_cli.main import main
from child_processes import answer_of, folder_for_all, make_read_only

from brainalign.files import digest_of
from brainalign.store import Store
from brainalign.store_housekeeping import LEFTOVERS, entries


def leave(*arguments: str) -> int:
    """Run the command; the code it leaves with."""
    with pytest.raises(SystemExit) as exit_:
        main(("cache", *arguments))
    return exit_.value.code


@pytest.fixture
def filled(own_cache: Path) -> Store:
    """Features of two models, used today and ten days ago, and a fit, used five days ago."""
    store = Store()
    for name, what, n, days in [
        ("gpt2", "features", 1000, 0),
        ("llama", "features", 10_000, 10),
        ("gpt2", "fit", 10, 5),
    ]:
        key = digest_of({"name": name, "what": what})
        store.put(key, {"values": np.zeros(n)}, {"what": what, "name": name})
        record = next(own_cache.rglob(f"{key}.*/record.json"))
        os.utime(record, (time.time() - 86400 * days,) * 2)
    (own_cache / "datasets" / "alice").mkdir(parents=True)
    (own_cache / "datasets" / "alice" / "words.csv").write_bytes(bytes(1500))
    (own_cache / "models").mkdir()
    (own_cache / "models" / "weights").write_bytes(bytes(2_500_000))
    return store


def kinds_in(store: Store) -> list[str]:
    return sorted(f"{stored.kind} {stored.name}" for stored in entries(store))


ALL = ["features gpt2", "features llama", "fit gpt2"]


def test_list_sums_by_kind_and_feature_space(filled: Store, own_cache: Path, capsys: pytest.CaptureFixture) -> None:
    assert leave("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2:4] for line in lines[:3]] == [["features", "gpt2"], ["features", "llama"], ["fit", "gpt2"]]
    assert all(line.endswith("1 entry") for line in lines[:3])
    assert re.fullmatch(r" +8\d\.\d kB  features +llama +1 entry", lines[1])
    total = sum(path.stat().st_size for path in (own_cache / "store").rglob("*") if path.is_file())
    assert lines[3].split() == [*human(total).split(), "total,", "in", str(own_cache / "store")]


def test_list_can_have_one_line_per_entry(filled: Store, capsys: pytest.CaptureFixture) -> None:
    assert leave("list", "--entries") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    ten_days_ago = time.strftime("%Y-%m-%d", time.localtime(time.time() - 864_000))
    assert lines[1].endswith(f"used {ten_days_ago}  {digest_of({'name': 'llama', 'what': 'features'})}")


def test_size_names_every_part_of_the_cache(filled: Store, own_cache: Path, capsys: pytest.CaptureFixture) -> None:
    (own_cache / "notes.txt").write_bytes(bytes(7))
    assert leave("size") == 0
    lines = {line.split()[2]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == ["store", "datasets", "models", "notes.txt", "total"]
    assert lines["datasets"].startswith("   1.5 kB")
    assert lines["models"].startswith("   2.5 MB")
    assert lines["notes.txt"].startswith("      7 B")
    total = sum(path.stat().st_size for path in own_cache.rglob("*") if path.is_file())
    assert lines["total"].split() == [*human(total).split(), "total", "in", str(own_cache)]


@pytest.mark.parametrize(
    ("options", "stay"),
    [
        (["--older-than", "7"], ["features gpt2", "fit gpt2"]),
        (["--older-than", "3"], ["features gpt2"]),
        (["--max-size", "20kB"], ["features gpt2", "fit gpt2"]),
        (["--max-size", "0B"], []),
        (["--max-size", "1.5 TB"], ALL),
        (["--kind", "fit"], ["features gpt2", "features llama"]),
        (["--kind", "fit", "--kind", "features"], []),
        (["--kind", "fit", "--older-than", "7"], ALL),
    ],
    ids=" ".join,
)
def test_prune_removes_what_was_asked_for(
    filled: Store, own_cache: Path, options: list[str], stay: list[str], capsys: pytest.CaptureFixture
) -> None:
    before = sum(stored.n_bytes for stored in entries(filled))
    assert leave("prune", *options, "--dry-run") == 0
    announced = capsys.readouterr().out
    assert kinds_in(filled) == ALL
    assert leave("prune", *options) == 0
    done = capsys.readouterr().out
    assert done == announced.replace("Would remove", "Removed")
    assert kinds_in(filled) == stay
    after = sum(stored.n_bytes for stored in entries(filled))
    n_removed = len(ALL) - len(stay)
    counted = "1 entry" if n_removed == 1 else f"{n_removed} entries"
    assert done.splitlines()[-1] == f"Removed {counted}, {human(before - after)}; {human(after)} stay."
    # What was downloaded is no matter of the store.
    assert (own_cache / "models" / "weights").is_file()
    assert (own_cache / "datasets" / "alice" / "words.csv").is_file()


def test_prune_without_a_reason_says_what_there_is_and_leaves_with_2(
    filled: Store, capsys: pytest.CaptureFixture
) -> None:
    assert leave("prune") == 2
    said = capsys.readouterr()
    assert [line.split()[2:4] for line in said.out.splitlines()] == [kind.split() for kind in ALL]
    assert "--older-than DAYS, --max-size 10GB or --kind" in said.err
    assert len(said.err.splitlines()) <= 3
    assert kinds_in(filled) == ALL


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prune", "--max-size", "10"], "500MB or 10GB"),
        (["prune", "--max-size", "-1GB"], "500MB or 10GB"),
        (["prune", "--max-size", "a lot"], "500MB or 10GB"),
        (["prune", "--older-than", "-1"], "--older-than"),
        (["prune", "--older-than", "tomorrow"], "--older-than"),
        (["prune", "--kind", "feature"], "features"),
        (["lst"], "lst"),
    ],
    ids=" ".join,
)
def test_a_wrong_call_leaves_with_2_and_removes_nothing(
    filled: Store, arguments: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    assert leave(*arguments) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message
    assert kinds_in(filled) == ALL


@pytest.mark.parametrize("kind", LEFTOVERS)
def test_every_kind_of_leftover_can_be_asked_for(filled: Store, kind: str) -> None:
    assert kind in KINDS
    assert leave("prune", "--kind", kind) == 0
    assert kinds_in(filled) == ALL


@pytest.mark.parametrize("missing", [False, True], ids=["empty", "missing"])
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["list"], 0, "Nothing is stored in"),
        (["list", "--entries"], 0, "Nothing is stored in"),
        (["size"], 0, None),
        (["prune", "--max-size", "1GB"], 0, "Removed 0 entries, 0 B; 0 B stay."),
        (["prune"], 2, "Say what to remove"),
    ],
    ids=str,
)
def test_a_cache_with_nothing_in_it_is_no_error(
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    missing: bool,
    arguments: list[str],
    code: int,
    said: str | None,
) -> None:
    folder = own_cache / "not there" if missing else own_cache
    monkeypatch.setenv("BRAINALIGN_CACHE", str(folder))
    assert leave(*arguments) == code
    captured = capsys.readouterr()
    expected = said or ("There is no cache yet" if missing else "0 B  total")
    assert expected in captured.out + captured.err
    assert folder.exists() != missing


@pytest.mark.parametrize("arguments", [["list"], ["size"], ["prune", "--max-size", "1GB"], ["prune"]], ids=" ".join)
def test_a_file_in_place_of_the_cache_is_said(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, arguments: list[str]
) -> None:
    (own_cache / "file").write_text("mine")
    monkeypatch.setenv("BRAINALIGN_CACHE", str(own_cache / "file"))
    assert leave(*arguments) == 2
    message = capsys.readouterr().err
    assert "is a file, no folder; name another by BRAINALIGN_CACHE" in message
    assert len(message.splitlines()) == 1


@pytest.fixture
def others_cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache with one entry, in a folder that any user can reach."""
    with folder_for_all() as folder:
        monkeypatch.setenv("BRAINALIGN_CACHE", str(folder / "cache"))
        Store().put(digest_of({"n": 1}), {"r": np.zeros(3)}, {"what": "fit", "name": "gpt2"})
        yield folder / "cache"


def leave_as_another(*arguments: str) -> tuple[int, str]:
    """The code and the standard error of the command, run by a user whom permissions bind."""

    def work() -> tuple[int, str]:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as said:
            return leave(*arguments), said.getvalue()

    return answer_of(work, as_another=True)


def test_a_read_only_cache_can_be_looked_at_and_not_pruned(others_cache: Path) -> None:
    make_read_only(others_cache)
    assert leave_as_another("list") == (0, "")
    assert leave_as_another("size") == (0, "")
    assert leave_as_another("prune", "--max-size", "0B", "--dry-run") == (0, "")
    code, message = leave_as_another("prune", "--max-size", "0B")
    assert code == 2
    assert message.startswith(f"brainalign: Cannot remove {others_cache}")
    assert "Permission denied" in message
    assert kinds_in(Store()) == ["fit gpt2"]


@pytest.mark.parametrize("arguments", [["list"], ["size"], ["prune", "--max-size", "1GB"], ["prune"]], ids=" ".join)
def test_a_cache_that_may_not_be_looked_into_is_said(others_cache: Path, arguments: list[str]) -> None:
    (others_cache / "store").chmod(0o000)
    code, message = leave_as_another(*arguments)
    assert code == 2
    assert str(others_cache / "store") in message
    assert "Permission denied" in message
    assert len(message.splitlines()) == 1


def test_a_name_cannot_move_the_cursor(own_cache: Path, capsys: pytest.CaptureFixture) -> None:
    Store().put(digest_of({"n": 1}), {}, {"what": "fit", "name": "gpt2\x1b[2J\nand more"})
    for arguments in (["list"], ["list", "--entries"], ["prune"], ["prune", "--kind", "other"]):
        leave(*arguments)
        assert "\x1b" not in capsys.readouterr().out
    leave("list")
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (79_872_128, "79.9 MB"), (10**10, "10.0 GB"), (2.5e15, "2500.0 TB")],
)
def test_sizes_are_written_in_the_largest_unit_of_which_there_is_one(n_bytes: float, text: str) -> None:
    assert human(n_bytes) == text
