"""The same recipe gives the same bytes again, and run.json says what made them and where that cannot be promised."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brainalign.config import parse_recipe
from brainalign.datasets import load_dataset
from brainalign.features import ToyModel
from brainalign.pipeline import open_scores, provenance, report, run
from brainalign.pipeline.executors import Local
from brainalign.pipeline.machine import made_here
from brainalign.pipeline.provenance import code_version, made_by, seeds_of
from brainalign.pipeline.study import Study
from brainalign.store import Store

DATA: Mapping[str, Any] = {"name": "simulated", "n_subjects": 3, "n_runs": 3, "n_words": 150, "dimension": 8}
TOY: Mapping[str, Any] = {"kind": "toy_model", "n_layers": 2, "dimension": 8}
SMALL: Mapping[str, Any] = {
    "title": "A small study",
    "dataset": {**DATA, "n_layers": 2},
    "features": [TOY],
    "tests": {"permutations": 20},
}
MEG: Mapping[str, Any] = {
    "title": "A small study of sensors",
    "dataset": {**DATA, "n_layers": 1, "n_subjects": 2, "n_words": 60, "modality": "meg"},
    "features": [{**TOY, "n_layers": 1}],
    "baseline": ["word_rate"],
}

# Said of a study that one sort of machine made.
PROMISED = "^A second run on this machine gives the same bytes, with the same versions, as many processes and threads"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that runs a recipe into a folder of its own, with a cache of its own, and gives the folder."""
    made = iter(range(100))

    def one_more(recipe: Mapping[str, Any], executor: Any = None) -> Path:
        out = tmp_path / f"run {next(made)}"
        monkeypatch.setenv("BRAINALIGN_CACHE", str(out / "cache"))
        run(parse_recipe(recipe), out, executor=executor or Local(jobs=1, threads=1))
        return out

    return one_more


def scores_in(folder: Path) -> bytes:
    return (folder / "scores.nc").read_bytes()


def record_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [SMALL, MEG], ids=["fmri", "meg"])
def test_the_same_recipe_gives_the_same_bytes_again(recipe: Mapping[str, Any], runs: Any) -> None:
    first = runs(recipe)
    assert scores_in(runs(recipe)) == scores_in(first)
    # In processes side by side, and subjects grouped another way.
    assert scores_in(runs(recipe, Local(jobs=2, threads=1))) == scores_in(first)


@pytest.mark.slow
def test_neither_the_order_of_hashes_nor_the_hour_nor_the_place_is_in_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(json.dumps(dict(SMALL)))
    command = (
        "import sys; from brainalign.pipeline import run; from brainalign.pipeline.executors import Local; "
        "run(sys.argv[1], sys.argv[2], executor=Local(jobs=1, threads=1))"
    )
    found = []
    for seed, zone in (("1", "UTC"), ("4711", "Pacific/Apia")):
        out = tmp_path / f"out of {seed}"
        given = {"PYTHONHASHSEED": seed, "TZ": zone, "BRAINALIGN_CACHE": str(out / "cache"), "LC_ALL": "C"}
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", command, str(tmp_path / "recipe.yaml"), str(out)],
            env={**os.environ, **given},
            check=True,
        )
        found.append(scores_in(out))
    assert found[0] == found[1]


def test_more_subjects_and_spaces_change_no_bit_of_what_was_there(runs: Any) -> None:
    plain = {name: value for name, value in SMALL.items() if name != "tests"}
    few = open_scores(runs({**plain, "dataset": {**SMALL["dataset"], "subjects": ["01", "02"]}}))
    more = open_scores(
        runs({**plain, "features": [TOY, {"kind": "toy_model", "n_layers": 1, "dimension": 12, "name": "wide"}]})
    )
    here = np.isin(more["subject"].values, np.unique(few["subject"].values))
    layers = slice(0, few.sizes["layer"])
    assert here.sum() == few.sizes["target"] < more.sizes["target"]
    assert few.sizes["layer"] < more.sizes["layer"]
    for name in ("r", "r2", "alpha", "r_joint", "r2_joint"):
        assert few[name].values.tobytes() == more[name].values[layers][..., here].tobytes(), name


def test_fits_do_not_hang_on_the_number_of_threads() -> None:
    from threadpoolctl import threadpool_limits

    from brainalign.encoding import RidgeEncoder, cross_val_scores

    rng = np.random.default_rng(0)
    # Sizes of which products on several threads differ in their last bits.
    X = rng.normal(size=(935, 403))
    Y = X[:, :40] @ rng.normal(size=(40, 30)) + rng.normal(size=(935, 30))
    found = []
    for n_threads in (1, 2, 3):
        with threadpool_limits(n_threads):
            scores = cross_val_scores(X, Y, np.repeat(range(5), 187), RidgeEncoder(backend="numpy"))
        found.append(scores["r"].values.tobytes())
    assert len(set(found)) == 1


def test_run_json_says_where_the_numbers_come_from(runs: Any) -> None:
    out = runs({**SMALL, "tests": {"permutations": 20, "seed": 5}})
    record = record_in(out)
    assert record["code"]["version"] == record["versions"]["brainalign"]
    assert record["seeds"]["tests.seed"] == 5
    assert record["seeds"]["features.0.seed"] == ToyModel().seed
    assert set(record["models"]) == {"ToyModel"}
    assert record["threads"] == [1]
    assert record["made_by"]["unknown"] == 0
    (sort,) = record["made_by"]["sorts"]
    # Features of three runs, fits and answers of three subjects.
    assert sort["results"] == 3 + 3 + 3
    assert sort["seconds"] > 0
    assert sort["blas"]
    assert "openblas" in sort["blas"] or "mkl" in sort["blas"] or "blis" in sort["blas"]
    assert re.match(PROMISED, record["made_by"]["again"])
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "A second run on this machine gives the same bytes" in page
    assert sort["cpu"] in page
    assert not any(word in scores_in(out) for word in (sort["hosts"][0].encode(), b"made_by", sort["cpu"].encode()))


def test_a_record_of_an_earlier_version_still_makes_a_report(runs: Any) -> None:
    out = runs(SMALL)
    record = record_in(out)
    for name in ("made_by", "code", "models", "seeds", "threads"):
        del record[name]
    (out / "run.json").write_text(json.dumps(record))
    assert report(out).is_file()


@pytest.fixture
def study() -> Study:
    data = load_dataset("simulated", options={"n_subjects": 2, "n_runs": 3, "n_words": 100, "n_layers": 2})
    return Study.of(data, ToyModel(n_layers=2))


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ([{}, {}], None),
        ([{"host": "node-1"}, {"host": "node-2"}], None),
        ([{}, {"cpu": "Another CPU"}], r"results were made on 2 kinds of machine \(.*Another CPU"),
        ([{"cpu": "Another CPU"}] * 2, r"on another kind of machine than this \(Another CPU\)"),
        ([{"threads": 1}, {"threads": 4}], "results of one kind were made with 1 and 4 threads"),
        ([{}, {"versions": "0" * 16}], "with 2 sets of versions of packages"),
        ([{"versions": "0" * 16}] * 2, "with other versions of packages than are installed here"),
        ([{"gpu": "H100"}] * 2, "machines with a GPU"),
        ([{}, None], "1 results do not say what made them"),
    ],
)
def test_it_is_said_where_a_second_run_may_differ(
    changes: list[dict[str, Any] | None], doubt: str | None, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    keys = [key for keys in study.keys_of_fits.values() for key in keys.values()]
    monkeypatch.setattr(provenance, "_keys", lambda study: iter(keys))
    for key, change in zip(keys, changes, strict=True):
        store.put(key, {}, {} if change is None else {"made": {**made_here(2.0), **change}})
    found = made_by(study, store)
    assert sum(sort["results"] for sort in found["sorts"]) + found["unknown"] == 2
    if doubt is None:
        assert found["again"].startswith("A second run on this machine gives the same bytes")
        assert found["sorts"][0]["seconds"] == 4.0
        assert len(found["sorts"]) == 1
    else:
        assert re.search(f"cannot be promised: .*{doubt}", found["again"])


def test_a_result_whose_record_is_damaged_or_gone_is_counted_as_unknown(study: Study, own_cache: Path) -> None:
    assert made_by(study, Store())["unknown"] == 3 + 2
    key = study.keys_of_fits["ToyModel"][next(iter(study.subjects))]
    Store().put(key, {}, {"made": made_here(1.0)})
    assert made_by(study, Store())["unknown"] == 3 + 1
    (record,) = own_cache.glob("store/**/record.json")
    record.write_bytes(record.read_bytes()[:-10])
    assert made_by(study, Store())["unknown"] == 3 + 2


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({"SLURM_JOB_ID": "12"}, "12"),
        ({"SLURM_JOB_ID": "13", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "1"}, "12_1"),
        ({"PBS_JOBID": "7.server"}, "7.server"),
        ({"LSB_JOBID": "8"}, "8"),
        ({"JOB_ID": "9"}, "9"),
        ({}, None),
    ],
)
def test_the_job_is_named_whichever_batch_system_began_it(
    variables: dict[str, str], job: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert made_here(0.0).get("job") == job


def test_seeds_are_found_wherever_they_stand() -> None:
    recipe = {"a": [{"b": {"seed": 1}}, {"seed": None}], "seed": 2, "seeds": 3, "c": {"seeded": 4}}
    assert seeds_of(recipe) == {"a.0.b.seed": 1, "seed": 2}


def test_the_commit_and_whether_it_is_clean_are_told_of_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    package = tmp_path / "brainalign"
    package.mkdir()
    (package / "module.py").write_text("x = 1\n")
    assert set(code_version(package)) == {"version"}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    (tmp_path / "notes.txt").write_text("of no consequence")
    # Set by git for its hooks: another repository is meant.
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    found = code_version(package)
    assert len(found["commit"]) == 40
    assert found["clean"]
    (package / "another.py").write_text("x = 2\n")
    assert not code_version(package)["clean"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert set(code_version(package)) == {"version"}
