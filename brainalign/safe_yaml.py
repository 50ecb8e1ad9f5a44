"""YAML that can only be plain values: no tags, no surprises, no key twice, and the line of each key."""

from __future__ import annotations

import re
from typing import Any

import yaml

from brainalign.errors import RecipeError

__all__ = ["read_yaml", "yaml_text"]


class _Loader(yaml.SafeLoader):
    """Plain values only; text that merely looks like a number, date or truth value of YAML 1.1 stays text."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        # A few nested aliases can stand for gigabytes.
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1
            raise RecipeError(f"line {line}: aliases (*name) are not read; write the value out.")
        if getattr(self.peek_event(), "tag", None) is not None:
            line = self.peek_event().start_mark.line + 1
            raise RecipeError(f"line {line}: tags ({self.peek_event().tag}) are not read; write plain values.")
        return super().compose_node(parent, index)


# YAML 1.2's core schema: `no`, `on`, `12:30`, `010` and `2024-01-01` are text, `1e3` is a number.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
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
    loader = None
    try:
        loader = _Loader(text)
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
    except (yaml.YAMLError, ValueError) as error:
        line = text[: getattr(error, "position", 0)].count("\n") + 1
        raise RecipeError(f"line {line}: not YAML that can be read: {str(error).splitlines()[0][:100]}.") from error
    finally:
        if loader is not None:
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


class _Dumper(yaml.SafeDumper):
    """Quotes whatever this module, or a reader of YAML 1.1, would else take for something other than text."""


_Dumper.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *_Loader.yaml_implicit_resolvers.get(first, [])]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # Between single quotes these are taken for the end of a line.
    style = '"' if any(sign in text for sign in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def yaml_text(content: Any) -> str:
    """Write plain mappings, lists and scalars so that `read_yaml` gives them back.

    Examples
    --------
    >>> read_yaml(yaml_text({"subjects": ["01", "1e3"]}))[0]
    {'subjects': ['01', '1e3']}
    """
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
