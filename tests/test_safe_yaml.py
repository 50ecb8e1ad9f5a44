"""YAML that can only be plain values; whatever else a file holds is an error that says the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brainalign.errors import RecipeError
from brainalign.safe_yaml import read_yaml


def value_of(text: str) -> object:
    return read_yaml(f"key: {text}")[0]["key"]


@pytest.mark.parametrize(
    "text",
    [
        *("no", "yes", "on", "off", "y", "n", "No", "YES", "tRUE"),
        *("12:30", "1:2:3", "190:20:30"),
        *("010", "01", "08", "00", "0b1", "0x10", "0o7", "1_000", "1_0.5"),
        *("2024-01-01", "2024-01-01T12:00:00Z"),
        *(".inf", "-.inf", ".nan", "nan", "inf", "NaN", "+", ".", "e5", "1e", "1e+", "=", "<<"),
    ],
)
def test_text_stays_as_it_is_written(text):
    assert value_of(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("0", 0), ("7", 7), ("-12", -12), ("+3", 3), ("-0", 0)),
        *(("1e3", 1000.0), ("1E-3", 0.001), ("1.5e+2", 150.0), (".5", 0.5), ("-.5", -0.5), ("1.", 1.0), ("0.0", 0.0)),
        *(("true", True), ("True", True), ("TRUE", True), ("false", False), ("FALSE", False)),
        *(("null", None), ("~", None), ("Null", None), ("", None)),
        *(("'1'", "1"), ('"true"', "true"), ("'null'", "null"), ('"\\u00e9"', "é")),
        *(("[1, a]", [1, "a"]), ("{a: 1}", {"a": 1}), ("[]", []), ("{}", {})),
    ],
)
def test_numbers_truth_values_and_nothing_are_those_of_yaml_1_2(text, value):
    read = value_of(text)
    assert read == value
    assert type(read) is type(value)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(min_codepoint=32, max_codepoint=0xFF, exclude_categories=["Cc", "Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc .:#-é", max_size=6), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(st.text("abc", max_size=3), PLAIN, max_size=4))
def test_json_is_read_as_json_reads_it(content):
    text = json.dumps(content, ensure_ascii=False)
    assert json.dumps(read_yaml(text)[0]) == json.dumps(json.loads(text))


@settings(deadline=None)
@given(
    st.text(st.sampled_from(list("ab1:-[]{},&*!|>'\"%@`#?<~.\\ \n\t\0\x07\x7f\ufeff\ud800é")), max_size=30) | st.text()
)
@example("!!int a")
@example("!!bool maybe")
@example("a: !!timestamp b")
@example("\0")
@example("9" * 5000)
def test_any_text_is_read_or_refused_in_a_line(text):
    message = ""
    try:
        read_yaml(text)
    except RecipeError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1


@pytest.mark.parametrize(
    "tagged",
    [
        "!!python/object/apply:os.system ['touch {trap}']",
        "!!python/object/new:os.system ['touch {trap}']",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{trap}']]",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/tuple [1, 2]",
        "!mine x",
        "!<tag:yaml.org,2002:python/name:os.system> x",
    ],
)
def test_a_tag_runs_nothing_and_is_named_with_its_line(tagged, tmp_path):
    trap = tmp_path / "trap"
    with pytest.raises(RecipeError, match=r"^line 2: .*tag"):
        read_yaml("a: 1\nb: " + tagged.format(trap=trap))
    assert not Path(trap).exists()


@pytest.mark.parametrize(
    "tagged",
    [
        *("!!int abc", "!!float abc", "!!bool maybe", "!!timestamp soon", "!!null x", "!!int '1'", "!!str 5"),
        *("!!set {a, b}", "!!binary aGk=", "!!timestamp 2024-01-01", "!!omap [a: 1]", "!!map {a: 1}", "!!seq [a]"),
    ],
)
def test_no_tag_is_read_not_even_a_harmless_one(tagged):
    with pytest.raises(RecipeError, match=r"^line 2: .*tag"):
        read_yaml("a: 1\nb: " + tagged)


@pytest.mark.parametrize("text", ["a: &x [1]\nb: *x", "a: 1\nb: *x", "a: 1\nb: &x [*x]", "a: &x {k: 1}\n<<: *x"])
def test_an_alias_is_refused_with_its_line(text):
    with pytest.raises(RecipeError, match=r"^line 2: aliases"):
        read_yaml(text)


def test_a_bomb_of_aliases_is_refused_before_it_grows():
    levels = [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    with pytest.raises(RecipeError, match="line 2: aliases"):
        read_yaml("\n".join(["a: &a [lol]", *levels]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands here a second time"),
        ("a: 1\n'a': 3", "line 2: the key 'a'"),
        ("1: a\n'1': b", "line 2: the key '1'"),
        ("a:\n  b: 1\n  c: 2\n  b: 3", "line 4: the key 'a.b'"),
        ("a:\n- {b: 1}\n- {c: 1, c: 1}", "line 3: the key 'a.1.c'"),
        ("{a: 1, a: 1}", "line 1: the key 'a'"),
    ],
)
def test_a_key_given_twice_is_refused_with_its_line(text, message):
    with pytest.raises(RecipeError, match=message):
        read_yaml(text)


def test_a_merge_cannot_give_a_key_a_second_time():
    # What PyYAML would do with it: keep 1 and say nothing.
    assert read_yaml("a: 1\n<<: {a: 2}")[0] == {"a": 1, "<<": {"a": 2}}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 3000,
        "{a: " * 3000,
        "- " * 3000 + "x",
        "[" * 3000 + "]" * 3000,
        "\n".join(" " * i + "a:" for i in range(2000)),
    ],
    ids=["lists", "mappings", "blocks", "closed", "indented"],
)
def test_deep_nesting_is_refused_without_a_recursion_error(text):
    with pytest.raises(RecipeError, match=r"^nested too deeply\.$"):
        read_yaml(text)


def test_reasonable_nesting_is_read():
    value, depth = read_yaml("[" * 50 + "x" + "]" * 50)[0], 0
    while isinstance(value, list):
        value, depth = value[0], depth + 1
    assert (value, depth) == ("x", 50)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "\ufeff"])
def test_an_empty_text_is_refused(text):
    with pytest.raises(RecipeError, match=r"^the file is empty\.$"):
        read_yaml(text)


@pytest.mark.parametrize("sign", ["\0", "\x07", "\x1b", "\x7f", "\ufffe"])
def test_a_sign_that_no_text_has_is_refused_with_its_line(sign):
    with pytest.raises(RecipeError, match=r"^line 2: "):
        read_yaml(f"a: 1\nb: x{sign}y")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\n---\nb: 2", 2),
        ("a: 'x", 1),
        ("a: 1\nb: [1, 2\nc: 3", 3),
        ("a: 1\n  b: 2", 2),
        ("a: 1\n\tb: 2", 2),
        ("a: b: c", 1),
        ("a: 1\nb: }", 2),
        ("? [a]\n: b", 1),
        ("%YAML 9.9\n---\na: 1", 1),
        ("a: 1\n`b`: 2", 2),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_line(text, line):
    with pytest.raises(RecipeError, match=rf"^line {line}: not YAML that can be read: ."):
        read_yaml(text)


def test_a_number_too_long_for_any_setting_is_refused():
    with pytest.raises(RecipeError, match="line 1: "):
        read_yaml("a: " + "9" * 5000)


def test_the_line_of_every_key_and_entry_is_known():
    text = "# head\na: 1\n\nb:\n  - c: 2\n    d: [x,\n        y]\n  - e\nf: {g: 1,\n    h: 2}\n"
    assert read_yaml(text)[1] == {
        **{"a": 2, "b": 4, "b.0": 5, "b.0.c": 5, "b.0.d": 6, "b.0.d.0": 6, "b.0.d.1": 7, "b.1": 8},
        **{"f": 9, "f.g": 9, "f.h": 10},
    }


def test_windows_line_ends_are_line_ends():
    assert read_yaml("a: 1\r\nb: x\r\n") == ({"a": 1, "b": "x"}, {"a": 1, "b": 2})


@pytest.mark.parametrize("text", ["word", "42", "[a]", "null"])
def test_a_value_that_is_no_mapping_is_given_as_it_is(text):
    assert read_yaml(text)[0] == {"word": "word", "42": 42, "[a]": ["a"], "null": None}[text]
