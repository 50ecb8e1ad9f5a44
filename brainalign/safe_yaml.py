"""YAML that can only be plain values: no tags, no surprises, no key twice, and the line of each key."""

from __future__ import annotations

import re
from typing import Any

import yaml

from brainalign.errors import RecipeError

__all__ = ["read_yaml"]


class _Loader(yaml.SafeLoader):
    """Plain values only; text that merely looks like a number, date or truth value of YAML 1.1 stays text."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        # A few nested aliases can stand for gigabytes.
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1
            raise RecipeError(f"line {line}: aliases (*name) are not read; write the value out.")
        return super().compose_node(parent, index)


# YAML 1.2's core schema: `no`, `on`, `12:30`, `010` and `2024-01-01` are text, `1e3` is a number.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("merge", r"^<<$", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: float(loader.construct_scalar(node)))


def read_yaml(text: str) -> tuple[Any, dict[str, int]]:
    r"""Read a YAML text.

    Returns
    -------
    content : mapping, list or scalar
    lines : dict
        The line of each dotted key, such as ``features.0.kind``.

    Raises
    ------
    RecipeError
        If it is not YAML, is empty, gives a key twice, or holds a tag (which could name code).

    Examples
    --------
    >>> read_yaml("subjects: [01, no]\nalpha: 1e3")
    ({'subjects': ['01', 'no'], 'alpha': 1000.0}, {'subjects': 1, 'subjects.0': 1, 'subjects.1': 1, 'alpha': 2})
    """
    lines: dict[str, int] = {}
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise RecipeError("the file is empty.")
        _note_lines(node, "", lines)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise RecipeError(f"{line}not YAML that can be read: {error.problem or error.context}.") from error
    except RecursionError as error:
        raise RecipeError("nested too deeply.") from error
    finally:
        loader.dispose()


def _note_lines(node: yaml.Node, prefix: str, lines: dict[str, int]) -> None:
    """Note the line of every key below `node`; a key given twice is an error, since the last would win silently."""
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            dotted = f"{prefix}.{i}" if prefix else str(i)
            lines[dotted] = item.start_mark.line + 1
            _note_lines(item, dotted, lines)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            dotted = f"{prefix}.{key.value}" if prefix else str(key.value)
            lines[dotted] = key.start_mark.line + 1
            if str(key.value) in seen:
                raise RecipeError(f"line {lines[dotted]}: the key '{dotted}' stands here a second time.")
            seen.add(str(key.value))
            _note_lines(value, dotted, lines)
