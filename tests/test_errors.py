"""The message that helps after a misspelt name, and the tree of errors the command's exit codes rest on."""

from __future__ import annotations

import pytest

from brainalign import errors
from brainalign.errors import BrainalignError, BrainalignWarning, MissingExtraError, nearest


@pytest.mark.parametrize(
    ("wrong", "known", "message"),
    [
        ("laeyrs", ["model", "layers"], "Did you mean 'layers'? Known: layers, model."),
        ("Ridge", ["ridge"], "Did you mean 'ridge'? Known: ridge."),
        ("xyzzy", ["ridge", "banded"], "Known: banded, ridge."),
        ("", ["b", "a"], "Known: a, b."),
        ("anything", [], "Known: none."),
    ],
)
def test_the_nearest_name_is_offered_only_where_one_is_near(wrong, known, message):
    assert nearest(wrong, known) == message


def test_the_known_names_may_come_from_a_generator():
    assert nearest("a", (name for name in "cab")) == "Did you mean 'a'? Known: a, b, c."


def test_every_error_is_one_the_command_can_tell_from_a_defect():
    raised = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]
    assert len(raised) == 6
    assert all(issubclass(error, BrainalignError) for error in raised)
    # A bare `except ValueError` around foreign code must not swallow them.
    assert not any(issubclass(error, (ValueError, OSError)) for error in raised)


def test_every_warning_can_be_filtered_at_once():
    warned = [getattr(errors, name) for name in errors.__all__ if name.endswith("Warning")]
    assert len(warned) == 4
    assert all(issubclass(warning, BrainalignWarning) for warning in warned)


def test_a_missing_extra_is_named_with_the_line_that_installs_it():
    message = str(MissingExtraError("GGUF models", "gguf", "demo"))
    assert message == "GGUF models need the package 'gguf': pip install 'brainalign[demo]'"
