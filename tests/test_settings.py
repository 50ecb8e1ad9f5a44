"""Settings are what a signature says they are, and an error names the key it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from brainalign.errors import RecipeError
from brainalign.settings import SettingError, check_keys, checked_settings


@dataclass(frozen=True)
class Part:
    path: Path
    rate_hz: float | None = None


@dataclass(frozen=True)
class Stage:
    width: int
    scale: float = 1.0
    mode: Literal["fast", "exact"] = "fast"
    span_s: tuple[float, float] = (0.0, 1.0)
    layers: Literal["all"] | tuple[int, ...] = "all"
    seed: bool | int = False
    names: Mapping[str, Path] | None = None
    parts: tuple[Part, ...] = ()


class Estimator:
    """A class of the other kind: settings are parameters of `__init__`."""

    def __init__(self, alphas: Sequence[float], gap: int = 0) -> None:
        self.alphas, self.gap = alphas, gap


def test_only_what_is_given_is_given_back():
    assert checked_settings(Stage, {"width": 3}, "stage") == {"width": 3}


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"width": "3"}, 3),
        ({"width": 3.0}, 3),
        ({"scale": 2}, 2.0),
        ({"span_s": [1, 2.5]}, (1.0, 2.5)),
        ({"layers": [1, 2]}, (1, 2)),
        ({"layers": "all"}, "all"),
        ({"seed": True}, True),
        ({"seed": 0}, 0),
        ({"seed": 1}, 1),
        ({"names": {"01": "a.csv"}}, {"01": Path("a.csv")}),
        ({"names": None}, None),
        ({"parts": [{"path": "a"}]}, (Part(Path("a")),)),
    ],
    ids=str,
)
def test_values_become_what_the_signature_names(given, taken):
    (name,) = given
    value = checked_settings(Stage, {"width": 1, **given}, "stage")[name]
    assert value == taken
    assert type(value) is type(taken)


def test_a_class_that_is_no_dataclass_is_read_by_its_init():
    assert checked_settings(Estimator, {"alphas": [1, 2], "gap": "5"}, "e") == {"alphas": [1.0, 2.0], "gap": 5}


@pytest.mark.parametrize(
    ("settings", "key", "what"),
    [
        ({}, "stage.width", "missing"),
        ({"width": "wide"}, "stage.width", "'wide'"),
        ({"width": 2.5}, "stage.width", "'2.5'"),
        ({"width": None}, "stage.width", "'None'"),
        ({"width": [1]}, "stage.width", "integer"),
        ({"width": 1, "scale": "x"}, "stage.scale", "'x'"),
        ({"width": 1, "mode": "slow"}, "stage.mode", "'fast' or 'exact'"),
        ({"width": 1, "span_s": [1]}, "stage.span_s.1", "missing"),
        ({"width": 1, "span_s": ["x", 1]}, "stage.span_s.0", "'x'"),
        ({"width": 1, "span_s": 5}, "stage.span_s", "'5'"),
        ({"width": 1, "layers": "some"}, "stage.layers", "'some'"),
        ({"width": 1, "layers": [1, "x"]}, "stage.layers.1", "'x'"),
        ({"width": 1, "seed": "maybe"}, "stage.seed", "'maybe'"),
        ({"width": 1, "names": {"01": 5}}, "stage.names.01", "'5'"),
        ({"width": 1, "names": {"Story": 5}}, "stage.names.Story", "'5'"),
        ({"width": 1, "names": {"": 5}}, "stage.names.", "'5'"),
        ({"width": 1, "names": 5}, "stage.names", "'5'"),
        ({"width": 1, "parts": [{"path": "a"}, {}]}, "stage.parts.1.path", "missing"),
        ({"width": 1, "parts": [{"path": "a", "rate_hz": "x"}]}, "stage.parts.0.rate_hz", "'x'"),
    ],
    ids=str,
)
def test_a_wrong_value_is_named_by_its_key(settings, key, what):
    with pytest.raises(SettingError) as raised:
        checked_settings(Stage, settings, "stage")
    assert raised.value.key == key
    assert str(raised.value).startswith(f"{key}: ")
    assert what in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", "-inf", "1e400"])
@pytest.mark.parametrize("name", ["scale", "span_s"])
def test_a_number_that_is_none_is_refused(name, value):
    # Every comparison with NaN is false, so that a stage's own checks let it pass.
    with pytest.raises(SettingError, match=f"stage.{name}"):
        checked_settings(Stage, {"width": 1, name: value if name == "scale" else [value, 1.0]}, "stage")


def test_an_unknown_key_is_named_with_the_nearest():
    with pytest.raises(SettingError, match=r"^stage\.widht: unknown key\. Did you mean 'width'\? Known: layers, mode"):
        checked_settings(Stage, {"widht": 3}, "stage")


def test_what_the_caller_looks_after_is_known_but_neither_checked_nor_given_back():
    assert checked_settings(Stage, {"kind": object(), "width": 1}, "", ("kind",)) == {"width": 1}
    with pytest.raises(SettingError, match="Did you mean 'kind'"):
        checked_settings(Stage, {"kin": 1, "width": 1}, "", ("kind",))


@pytest.mark.parametrize("long", ["x" * 10_000, list(range(10_000)), "a\nb\nc\nd"], ids=["text", "list", "lines"])
def test_a_long_value_is_not_repeated_whole(long):
    with pytest.raises(SettingError) as raised:
        checked_settings(Stage, {"width": long}, "stage")
    assert len(str(raised.value)) < 300
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(("where", "key"), [("", "a"), ("b.c", "b.c.a")])
def test_keys_are_dotted_from_where_they_stand(where, key):
    with pytest.raises(SettingError) as raised:
        check_keys({"a": 1}, ["x"], where)
    assert raised.value.key == key


@pytest.mark.parametrize("key", [1, None, True, 1.5])
def test_a_key_that_is_no_text_is_unknown(key):
    with pytest.raises(SettingError, match=f"stage.{key}: unknown key"):
        check_keys({key: 1}, ["a"], "stage")


def test_an_error_about_no_key_is_its_message_alone():
    assert str(SettingError("", "wrong.")) == "wrong."
    assert issubclass(SettingError, RecipeError)
