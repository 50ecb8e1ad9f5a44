"""The command `brainalign validate`: what it prints and how it leaves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from brainalign_cli.main import main

from brainalign.validation import table
from brainalign.validation.checks import Check

LONG = "a design that is told in so many words that they have to be wrapped to the width of a column, twice at least"


def leave(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return exit_.value.code


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What was asked for; of the checks that are given the second is missed, and those of V9 are not."""
    calls: list[tuple] = []

    def validate(ids: tuple[str, ...] | None, size: str, seed: int) -> Iterator[Check]:
        calls.append((ids, size, seed))
        yield Check("V9", "an impulse", "exactly 0", "0", True)
        if ids != ("V9",):
            yield Check("V4b", LONG, "r <= .01", "r = .2", False)
            yield Check("V4b", "x" * 150, "", "", False)

    monkeypatch.setattr(table, "validate", validate)
    return calls


def test_a_table_is_printed_that_fits_a_hundred_columns(asked: list[tuple], capsys: pytest.CaptureFixture) -> None:
    assert leave("validate") == 1
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split() == ["id", "design", "criterion", "observed", "passed"]
    assert lines[2].split() == ["V9", "an", "impulse", "exactly", "0", "0", "yes"]
    first = lines.index(next(line for line in lines if line.startswith("V4b")))
    assert lines[first].endswith("NO")
    wrapped = " ".join(line[6:34].strip() for line in lines[first : first + 4])
    assert wrapped == LONG
    assert lines[-1] == "1 of 3 passed; missed: V4b."
    assert out.count("x") >= 150, "nothing is cut off"
    assert asked == [(None, "quick", 0)]


def test_it_leaves_with_0_where_all_passed(asked: list[tuple], capsys: pytest.CaptureFixture) -> None:
    assert leave("validate", "V9", "--full", "--seed", "4") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 1 passed."
    assert asked == [(("V9",), "full", 4)]


def test_real_checks_are_run_and_printed(capsys: pytest.CaptureFixture) -> None:
    assert leave("validate", "v9") == 0
    out = capsys.readouterr().out
    assert "4 of 4 passed." in out
    assert "glover_hrf" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["V1b"], "Did you mean 'V1"), (["V9", "leaks"], "Known: V1"), (["--seed", "-1"], "range")],
)
def test_what_the_user_can_mend_leaves_with_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture
) -> None:
    assert leave("validate", *arguments) == 2
    printed = capsys.readouterr()
    assert expected in printed.err
    assert printed.out == ""
