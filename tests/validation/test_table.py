"""The table names every ground truth, and runs those that are asked for."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

from brainalign.errors import RecipeError
from brainalign.validation import table
from brainalign.validation.checks import Check


@pytest.mark.parametrize("name", table.DESIGNS)
def test_every_ground_truth_is_a_function_of_size_and_seed(name: str) -> None:
    module, _, function = table.DESIGNS[name].partition(":")
    found = getattr(import_module(f"brainalign.validation.{module}"), function)
    parameters = inspect.signature(found).parameters
    assert list(parameters) == ["size", "seed"]
    assert (parameters["size"].default, parameters["seed"].default) == ("quick", 0)
    assert function == name.lower()


def test_they_stand_in_their_order_and_none_is_missing() -> None:
    numbers = [int(name[1:].rstrip("ab")) for name in table.DESIGNS]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, 17))


def test_those_asked_for_are_run_in_that_order_with_their_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    import brainalign.validation.numerics as numerics

    called: list[tuple[str, str, int]] = []

    def design(name: str):
        def run(size: str = "quick", seed: int = 0) -> list[Check]:
            called.append((name, size, seed))
            return [Check(name, "", "", "", True)]

        return run

    monkeypatch.setattr(numerics, "v1", design("V1"))
    monkeypatch.setattr(numerics, "v9", design("V9"))
    checks = table.validate(["v9", "V1"], size="full", seed=3)
    assert called == [], "nothing is computed before it is asked for"
    assert next(checks).id == "V9"
    assert called == [("V9", "full", 3)], "one design at a time"
    assert [check.id for check in checks] == ["V1"]
    assert called[1:] == [("V1", "full", 3)]


@pytest.mark.parametrize(("wrong", "meant"), [("V7c", "V7"), ("v44", "V4"), ("W9", "V9")])
def test_an_unknown_ground_truth_is_refused_at_once(wrong: str, meant: str) -> None:
    with pytest.raises(RecipeError, match=f"no ground truth '{wrong}'. Did you mean '{meant}"):
        table.validate(["V1", wrong])
