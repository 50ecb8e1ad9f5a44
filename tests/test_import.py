"""Importing is light, the public names exist, and the layers of the package keep their order."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import brainalign

HEAVY = ("numpy", "pandas", "torch", "transformers", "mne", "nilearn", "xarray", "scipy", "sklearn", "matplotlib")
PACKAGE = Path(str(files("brainalign")))
STUBS = sorted(PACKAGE.rglob("*.pyi"))
ROOT = PACKAGE.parent


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after `statement`."""
    code = (
        f"import json, sys\n{statement}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path), "PATH": ""},
    )
    return set(json.loads(ran.stdout.splitlines()[-1]))


def names_in(stub: Path) -> list[str]:
    """The names that a stub offers: what each of its imports is called."""
    return [alias.asname or alias.name for node in ast.parse(stub.read_text()).body for alias in node.names]


def module_of(stub: Path) -> str:
    return ".".join(["brainalign", *stub.parent.relative_to(PACKAGE).parts])


@pytest.mark.parametrize(
    "statement", ["import brainalign", "from brainalign import errors", "import brainalign; dir(brainalign)"]
)
def test_importing_the_package_loads_nothing_heavy(statement):
    assert modules_after(statement) & set(HEAVY) == set()


@pytest.mark.parametrize("module", ["files", "safe_yaml", "registry"])
def test_what_needs_no_arrays_loads_nothing_heavy(module):
    assert modules_after(f"import brainalign.{module}") & set(HEAVY) == set()


def test_naming_the_stages_loads_neither_models_nor_figures_nor_signals():
    statement = "import brainalign as ba; ba.LanguageModel, ba.RidgeEncoder, ba.load_dataset, ba.features.ToyModel"
    loaded = modules_after(statement)
    assert {"numpy", "sklearn"} <= loaded
    assert loaded & {"torch", "transformers", "mne", "nilearn", "matplotlib", "h5py"} == set()


def test_every_package_has_a_stub():
    assert {stub.parent for stub in STUBS} == {init.parent for init in PACKAGE.rglob("__init__.py")}


@pytest.mark.parametrize("stub", STUBS, ids=module_of)
def test_the_names_of_a_stub_are_those_of_the_package(stub):
    module, names = importlib.import_module(module_of(stub)), names_in(stub)
    assert len(names) > 0
    assert sorted(module.__all__) == sorted(dir(module)) == sorted(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("stub", STUBS, ids=module_of)
def test_every_name_of_a_stub_can_be_had(stub):
    module = importlib.import_module(module_of(stub))
    for name in names_in(stub):
        assert getattr(module, name) is not None


@pytest.mark.parametrize("stub", STUBS, ids=module_of)
def test_a_name_is_offered_only_where_its_module_offers_it(stub):
    for node in ast.parse(stub.read_text()).body:
        if node.module is not None:
            home = importlib.import_module(f"{module_of(stub)}.{node.module}")
            for alias in node.names:
                assert alias.name in home.__all__


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="LanguageModle"):
        brainalign.LanguageModle  # noqa: B018


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_a_module_offers_is_there(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    module = importlib.import_module(".".join(["brainalign", *(part for part in parts if part != "__init__")]))
    assert module.__doc__
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_data_flows_one_way():
    contract, command = ROOT / "pyproject.toml", Path(sys.executable).with_name("lint-imports")
    if not contract.is_file():
        pytest.skip("the contract stands in pyproject.toml of a checkout; this is an installed package")
    if not command.is_file():
        pytest.skip("needs import-linter, from the extra `test`")
    ran = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=60,
                         env={"PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}", "PATH": ""})  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 kept, 0 broken" in ran.stdout
