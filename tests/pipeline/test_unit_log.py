"""A unit's log is plain text with times, whatever is printed, and tells no secret; nor does any file of a result."""

from __future__ import annotations

import io
import json
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.config import load_recipe, parse_recipe
from brainalign.errors import DataError, DataWarning, StoreWarning
from brainalign.pipeline import run
from brainalign.pipeline.executors import Local
from brainalign.pipeline.redaction import redacted
from brainalign.pipeline.unit_log import UnitLog, unit_log

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 .*\S")
# What is nobody's business, under the names by which it goes.
CANARIES = {
    "HF_TOKEN": "hf_CanaryCanaryCanary1",
    "AWS_SECRET_ACCESS_KEY": "aws/Canary+Canary=Canary2",
    "GITHUB_PAT_TOKEN": "ghp_Canary3Canary3",
    "DB_PASSWORD": "hush Canary4 hush",
    "LAB_API_KEY": "Canary5-Canary5",
}
ADDRESS = "https://ann:pass:Canary6@files.invalid/data"


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def said(path: Path) -> list[str]:
    """The lines without their times, and without those that say when the unit began and what stopped it."""
    return [line.partition(" ")[2] for line in lines_of(path)[1:]]


def test_what_is_printed_and_warned_of_stands_in_the_log_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "unit.log"
    with unit_log(path, "fit something") as log, log.warnings_too():
        print("one", end=" ")
        print("line")
        sys.stderr.write("from a library\n")
        warnings.warn("beware", UserWarning, stacklevel=1)
        warnings.warn("kept with the results", DataWarning, stacklevel=1)
        print("\x1b[31mred\x1b[0m and \x1b]0;a title\x07plain\x1b[2K")
        print("\n\n")
        print("no end", end="")
    assert all(LINE.fullmatch(line) for line in lines_of(path))
    assert "fit something: begins on" in lines_of(path)[0]
    shown = said(path)
    assert shown[:2] == ["one line", "from a library"]
    assert sum("UserWarning: beware" in line for line in shown) == 1
    assert not any("kept with the results" in line for line in shown)
    assert shown[-2:] == ["red and plain", "no end"]


def test_a_damaged_result_is_told_in_the_log_and_to_whoever_looks_on(tmp_path: Path) -> None:
    path = tmp_path / "unit.log"
    with pytest.warns(StoreWarning, match="put aside"), unit_log(path, "fit") as log, log.warnings_too():
        warnings.warn("put aside", StoreWarning, stacklevel=1)
    assert any("StoreWarning: put aside" in line for line in said(path))


def test_a_bar_that_is_drawn_over_and_over_is_one_line(tmp_path: Path) -> None:
    tqdm = pytest.importorskip("tqdm")
    path = tmp_path / "unit.log"
    with unit_log(path, "read"):
        for _ in tqdm.tqdm(range(200), mininterval=0, desc="words"):
            pass
        sys.stderr.write("10 %\r50 %\r100 %\r\n")
    shown = said(path)
    assert len(shown) == 2
    assert "200/200" in shown[0]
    assert shown[1] == "100 %"


@given(st.lists(st.text(alphabet="ab \n\r\t\x1b[31m", max_size=12), max_size=12))
def test_every_line_is_whole_however_it_is_cut_into_writes(pieces: list[str]) -> None:
    whole, cut = io.StringIO(), io.StringIO()
    UnitLog(whole).write("".join(pieces) + "\n")
    log = UnitLog(cut)
    for piece in pieces:
        log.write(piece)
    log.write("\n")
    texts = [[line.partition(" ")[2] for line in stream.getvalue().splitlines()] for stream in (whole, cut)]
    assert texts[0] == texts[1]
    assert "\x1b" not in cut.getvalue()
    assert "\r" not in cut.getvalue()


def test_a_second_try_is_appended_and_what_stopped_the_first_stays(tmp_path: Path) -> None:
    path = tmp_path / "unit.log"

    def interrupted() -> None:
        with unit_log(path, "fit"):
            print("half of a line", end="")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with unit_log(path, "fit") as log:
        log.done(1.25)
    shown = said(path)
    assert shown[0] == "half of a line"
    assert shown[1] == "stopped: KeyboardInterrupt"
    assert "begins on" in shown[2]
    assert shown[3] == "done in 1.2 s"


@pytest.mark.parametrize(
    "text",
    [
        *CANARIES.values(),
        ADDRESS,
        f"failed: {ADDRESS}/x.npy, and {ADDRESS}/y.npy",
        "GET https://host.invalid/a?X-Amz-Signature=Canary7&b=1",
        "https://host.invalid/a?access_token=Canary8",
        f"Authorization: Bearer {CANARIES['HF_TOKEN']}",
    ],
)
def test_a_secret_is_not_told(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    assert "Canary" not in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "write to ann@uni.edu, see https://host/a@b and git+https://host/x.git@main",
        "https://host:8080/path?n=1&name=token",
        "tab\tand line\nend",
        "layer 3 of 12, r = 0.31",
    ],
)
def test_what_is_no_secret_stays_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "1")
    assert redacted(text) == text


SMALL: Mapping[str, Any] = {
    "dataset": {"name": "simulated", "n_subjects": 2, "n_runs": 3, "n_words": 150, "n_layers": 2, "dimension": 8},
    "features": [{"kind": "toy_model", "n_layers": 2, "dimension": 8}],
}


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_no_file_of_a_result_holds_a_secret_of_the_environment(
    jobs: int, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BRAINALIGN_MIRROR", ADDRESS)
    run(parse_recipe(SMALL), tmp_path / "out", executor=Local(jobs=jobs))
    assert b"files.invalid" in (tmp_path / "out" / "run.json").read_bytes()
    found = everything_in(tmp_path / "out") + everything_in(own_cache)
    assert list((tmp_path / "out" / "work" / "logs").iterdir())
    assert list((tmp_path / "out" / "work" / "journal").iterdir())
    assert b"Canary" not in found


def test_an_error_and_its_traceback_tell_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)

    def failing(fits: object) -> None:
        print(f"trying {ADDRESS} with {CANARIES['HF_TOKEN']}")
        raise failure(f"no answer from {ADDRESS} with {CANARIES['HF_TOKEN']}")

    monkeypatch.setattr("brainalign.pipeline.score.fit_subjects", failing)
    for failure in (DataError, OSError):
        with pytest.raises((DataError, RuntimeError)):
            run(parse_recipe(SMALL), tmp_path / failure.__name__, executor=Local(jobs=1))
        found = everything_in(tmp_path / failure.__name__)
        assert b"Traceback" in found
        assert b"no answer from" in found
        assert b"Canary" not in found


def test_a_notice_that_another_recipe_was_run_tells_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from brainalign.errors import UnreachableError
    from brainalign.pipeline import execution

    small = parse_recipe(SMALL)
    asked = parse_recipe({**SMALL, "title": "asked", "fallback": "simulated"})

    def unreachable(recipe: Any) -> Any:
        if recipe.title == "asked":
            raise UnreachableError(f"{ADDRESS} does not answer")
        return found(recipe)

    found = execution.dataset_of
    monkeypatch.setattr(execution, "dataset_of", unreachable)
    monkeypatch.setattr(execution, "load_recipe", lambda name, *_: small if name == "simulated" else load_recipe(name))
    run(asked, tmp_path / "out", executor=Local(jobs=1))
    notices = json.loads((tmp_path / "out" / "run.json").read_text())["notices"]
    assert "files.invalid" in notices[0]
    assert b"Canary" not in everything_in(tmp_path / "out")


def test_arrays_of_odd_repr_do_not_break_the_log(tmp_path: Path) -> None:
    with unit_log(tmp_path / "unit.log", "fit") as log:
        print(np.zeros(3), "\udcff\x00.")
        log.progress("fit", 1, 2, "a note")
    assert said(tmp_path / "unit.log") == ["[0. 0. 0.] ?."]
