"""What a recipe can name exists, and its settings are typed and documented where they are taken."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest
from sklearn.base import BaseEstimator

from brainalign.datasets import Response, ResponseTemplate
from brainalign.encoding import Splits
from brainalign.errors import RecipeError
from brainalign.features import Baseline
from brainalign.manifests import list_manifests, read_manifest
from brainalign.registry import ALIGNMENTS, DATASETS, ENCODERS, FEATURES, find
from brainalign.types import Dataset

TABLES = {"dataset": DATASETS, "features": FEATURES, "alignment": ALIGNMENTS, "encoder": ENCODERS}
NAMED = [(what, kind) for what, table in TABLES.items() for kind in table]
# Not named, but filled from a recipe all the same.
OTHERS = [Splits, Baseline, Response, ResponseTemplate]
CLASSES = [find(kind, TABLES[what], what) for what, kind in NAMED] + OTHERS


def parameters_section(docstring: str) -> str:
    """The part of a numpydoc docstring between the heading Parameters and the next."""
    found = re.search(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-{3,}\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    return found.group(1) if found else ""


def documented(cls: type) -> set[str]:
    """The names that stand in a definition line: ``a, b : float``, or without a type."""
    lines = re.findall(
        r"^(\w[\w, ]*?)(?: : .*)?$", parameters_section(inspect.cleandoc(cls.__doc__ or "")), re.MULTILINE
    )
    return {name for line in lines for name in line.split(", ")}


@pytest.mark.parametrize(("what", "kind"), NAMED)
def test_every_name_stands_for_a_class(what, kind):
    assert inspect.isclass(find(kind, TABLES[what], what))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_setting_has_a_type(cls):
    hints = get_type_hints(cls if is_dataclass(cls) else cls.__init__)
    assert set(inspect.signature(cls).parameters) <= set(hints)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_setting_is_documented_and_no_other(cls):
    assert documented(cls) == set(inspect.signature(cls).parameters)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_no_class_takes_settings_it_does_not_name(cls):
    kinds = {parameter.kind for parameter in inspect.signature(cls).parameters.values()}
    assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("kind", DATASETS)
def test_every_loader_is_a_dataset_that_takes_root_and_subjects(kind):
    cls = find(kind, DATASETS, "loader")
    assert issubclass(cls, Dataset)
    assert {"root", "subjects"} <= set(inspect.signature(cls).parameters)


@pytest.mark.parametrize("kind", DATASETS)
def test_every_loader_is_used_by_a_dataset(kind):
    assert kind in {read_manifest(name).loader for name in list_manifests()}


@pytest.mark.parametrize("kind", FEATURES)
def test_every_kind_of_features_is_a_frozen_dataclass_that_extracts(kind):
    cls = find(kind, FEATURES, "features")
    assert cls.__dataclass_params__.frozen
    assert callable(cls.extract)
    assert callable(cls.fingerprint)


@pytest.mark.parametrize("kind", ALIGNMENTS)
def test_every_kind_of_alignment_works_without_settings(kind):
    cls = find(kind, ALIGNMENTS, "alignment")
    assert cls.__dataclass_params__.frozen
    assert cls().span_s > 0
    assert len({field.name for field in fields(cls)}) == len(fields(cls))


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_encoder_is_a_scikit_learn_estimator_that_works_without_settings(kind):
    cls = find(kind, ENCODERS, "encoder")
    assert isinstance(cls(), BaseEstimator)


@pytest.mark.parametrize("what", TABLES)
def test_an_unknown_name_is_refused_with_the_nearest(what):
    kind = next(iter(TABLES[what]))
    with pytest.raises(RecipeError, match=rf"^Unknown {what} '{kind}x'\. Did you mean '{kind}'\? Known: "):
        find(kind + "x", TABLES[what], what)
