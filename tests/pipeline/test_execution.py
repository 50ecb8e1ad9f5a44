"""A recipe becomes a result folder, once; a second run does only what is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from brainalign.config import load_recipe, parse_recipe
from brainalign.datasets import load_dataset
from brainalign.errors import DataError, DataWarning, StoreWarning, UnreachableError
from brainalign.pipeline import execution, open_scores, report, run, score_layers, status

SMALL: Mapping[str, Any] = {
    "title": "A small study",
    "dataset": {"name": "simulated", "n_subjects": 2, "n_runs": 3, "n_words": 150, "n_layers": 2, "dimension": 8},
    "features": [{"kind": "toy_model", "n_layers": 2, "dimension": 8}],
}
FILES = {"scores.nc", "summary.csv", "report.html", "recipe.yaml", "run.json"}
# Plan, logs and journal of the units.
WORK = "work"


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make scoring anything a failure."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(execution, "scores_of", forbidden)


def test_a_run_leaves_five_files_and_nothing_else(tmp_path: Path) -> None:
    outcome = run(parse_recipe(SMALL), tmp_path / "out")
    assert outcome.computed
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {WORK}
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["dataset"]["n_subjects"] == 2
    assert record["versions"]["numpy"] == np.__version__
    assert "SIMULATED DATA" in (tmp_path / "out" / "report.html").read_text()


def test_running_again_computes_nothing_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(parse_recipe(SMALL), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    forbid(monkeypatch)
    again = run(parse_recipe(SMALL), tmp_path)
    assert not again.computed
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_scores_survive_the_disk(tmp_path: Path) -> None:
    outcome = run(parse_recipe(SMALL), tmp_path)
    read = open_scores(tmp_path)
    xr.testing.assert_equal(outcome.scores, read)
    assert read.attrs["findings"] == outcome.scores.attrs["findings"]
    assert read.to_frame()["gain"].notna().any()


def test_a_recipe_and_the_library_give_the_same_arrays(tmp_path: Path) -> None:
    recipe = parse_recipe(SMALL)
    by_recipe = run(recipe, tmp_path).scores
    data = load_dataset("simulated", options={k: v for k, v in SMALL["dataset"].items() if k != "name"})
    with pytest.warns(DataWarning):
        by_hand = score_layers(data, recipe.features[0], store=None)
    xr.testing.assert_identical(by_recipe, by_hand)


@pytest.mark.parametrize("lost", sorted(FILES))
def test_a_lost_file_is_written_again(lost: str, tmp_path: Path) -> None:
    run(parse_recipe(SMALL), tmp_path)
    (tmp_path / lost).unlink()
    run(parse_recipe(SMALL), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES | {WORK}


def test_damaged_scores_are_written_again(tmp_path: Path) -> None:
    first = run(parse_recipe(SMALL), tmp_path).scores
    content = bytearray((tmp_path / "scores.nc").read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / "scores.nc").write_bytes(content)
    xr.testing.assert_equal(run(parse_recipe(SMALL), tmp_path).scores, first)


def test_another_recipes_result_is_replaced_only_when_told_to(tmp_path: Path) -> None:
    first = run(parse_recipe(SMALL), tmp_path).scores
    other = parse_recipe({**SMALL, "encoder": {"alphas": [10.0, 1000.0]}})
    with pytest.raises(DataError, match=r"belongs to another recipe, 'A small study'.*--overwrite"):
        run(other, tmp_path)
    xr.testing.assert_equal(open_scores(tmp_path), first)
    assert run(other, tmp_path, overwrite=True).computed
    assert set(np.unique(open_scores(tmp_path).alpha.values)) == {10.0, 1000.0}


def test_a_damaged_stored_fit_is_told_and_done_again(tmp_path: Path, own_cache: Path) -> None:
    first = run(parse_recipe(SMALL), tmp_path / "one").scores
    stored = sorted(own_cache.glob("store/*/*/*/r.npy"))[0]
    content = bytearray(stored.read_bytes())
    content[-5] ^= 1
    stored.write_bytes(content)
    with pytest.warns(StoreWarning, match="damaged"):
        again = run(parse_recipe(SMALL), tmp_path / "two").scores
    xr.testing.assert_identical(first, again)


def write_arrays_study(folder: Path, seed: int = 0) -> dict[str, Any]:
    """A lab's own files: two stories, one subject; the response follows the word rate."""
    random = np.random.default_rng(seed)
    responses = []
    for story in ("one", "two", "three"):
        onset = np.sort(random.uniform(0, 160, 300))
        rows = [f"{time:.3f},0.2,{story if k == 5 else f'word{k % 7}'}" for k, time in enumerate(onset)]
        (folder / f"{story}.csv").write_text("\n".join(["onset,duration,text", *rows]) + "\n")
        np.save(folder / f"s1_{story}.npy", random.normal(size=(90, 3)).astype(np.float32))
        responses.append({"subject": "s1", "stimulus": story, "path": f"s1_{story}.npy", "tr_s": 2.0})
    words = {story: f"{story}.csv" for story in ("one", "two", "three")}
    return {
        "dataset": {"name": "arrays", "modality": "fmri", "words": words, "responses": responses},
        "features": [{"kind": "toy_model", "n_layers": 1, "dimension": 4}],
        "baseline": ["word_rate"],
    }


def test_the_written_recipe_runs_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = write_arrays_study(tmp_path)
    first = run(parse_recipe(content, folder=tmp_path), tmp_path / "out").scores
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = run(str(tmp_path / "out" / "recipe.yaml"), "again").scores
    xr.testing.assert_identical(first, again)


def test_changed_data_are_noticed(tmp_path: Path) -> None:
    content = write_arrays_study(tmp_path)
    first = run(parse_recipe(content, folder=tmp_path), tmp_path / "out").scores
    changed = np.load(tmp_path / "s1_one.npy")
    np.save(tmp_path / "s1_one.npy", changed[::-1])
    again = run(parse_recipe(content, folder=tmp_path), tmp_path / "out")
    assert again.computed
    assert not np.array_equal(first.r.values, again.scores.r.values)


def test_changed_words_are_noticed(tmp_path: Path) -> None:
    content = write_arrays_study(tmp_path)
    first = run(parse_recipe(content, folder=tmp_path), tmp_path / "out").scores
    text = (tmp_path / "one.csv").read_text().replace("word1", "another")
    (tmp_path / "one.csv").write_text(text)
    again = run(parse_recipe(content, folder=tmp_path), tmp_path / "out")
    assert again.computed
    assert not np.array_equal(first.r.values, again.scores.r.values)


def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every download fail at once, as on a machine without a network."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)


def test_what_cannot_be_reached_is_replaced_loudly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable(monkeypatch)
    (tmp_path / "fallback.yaml").write_text(json.dumps(SMALL))
    recipe = parse_recipe({**SMALL, "dataset": {"name": "alice"}, "fallback": str(tmp_path / "fallback.yaml")})
    outcome = run(recipe, tmp_path / "out")
    assert outcome.notices[0].startswith("NOT WHAT WAS ASKED FOR")
    assert "SIMULATED DATA" in outcome.notices[1]
    # When it can be reached again, the same command replaces what stands in for it.
    again = {**SMALL, "dataset": {**SMALL["dataset"], "seed": 1}}
    page = (tmp_path / "out" / "report.html").read_text()
    assert run(parse_recipe(again), tmp_path / "out").computed
    assert page.index("NOT WHAT WAS ASKED FOR") < page.index("Layer profile")


def test_without_a_fallback_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable(monkeypatch)
    with pytest.raises(UnreachableError, match="BRAINALIGN_MIRROR"):
        run(parse_recipe({**SMALL, "dataset": {"name": "alice", "subjects": ["s18"]}}), tmp_path / "out")


def test_a_finished_result_stands_when_its_source_is_gone(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINALIGN_MIRROR", str(shared / "datasets"))
    asked = {**SMALL, "dataset": {"name": "alice", "subjects": ["s18"]}, "fallback": "simulated"}
    run(parse_recipe(asked), tmp_path / "out")
    monkeypatch.delenv("BRAINALIGN_MIRROR")
    monkeypatch.setenv("BRAINALIGN_CACHE", str(tmp_path / "another"))
    unreachable(monkeypatch)
    forbid(monkeypatch)
    outcome = run(parse_recipe(asked), tmp_path / "out")
    assert not outcome.computed
    assert outcome.notices == ()


def test_status_tells_nothing_unfinished_and_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert status(tmp_path).state == "nothing"
    with pytest.raises(DataError, match="no folder"):
        status(tmp_path / "elsewhere")
    with monkeypatch.context() as patch:
        patch.setattr(execution, "scores_of", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            run(parse_recipe(SMALL), tmp_path)
    assert status(tmp_path).state == "unfinished"
    run(parse_recipe(SMALL), tmp_path)
    found = status(tmp_path)
    assert (found.state, found.title) == ("finished", "A small study")
    assert any("made by the computer" in finding for finding in found.findings)


def test_a_report_can_be_written_anew(tmp_path: Path) -> None:
    run(parse_recipe(SMALL), tmp_path)
    (tmp_path / "report.html").unlink()
    assert report(tmp_path).is_file()
    with pytest.raises(DataError, match="no finished run"):
        report(tmp_path / "elsewhere")


def test_a_folder_that_cannot_be_written_to_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    forbid(monkeypatch)
    with pytest.raises(DataError, match="--out"):
        run(parse_recipe(SMALL), tmp_path / "file" / "out")


def test_scores_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There are no scores"):
        open_scores(tmp_path)
    (tmp_path / "scores.nc").write_bytes(b"not netCDF")
    with pytest.raises(DataError, match="cannot be read as scores"):
        open_scores(tmp_path)


def test_hostile_names_are_text_in_every_file(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    content = write_arrays_study(tmp_path)
    for entry in content["dataset"]["responses"]:
        entry["subject"] = evil
    content["title"] = "</script><script>alert(2)</script>"
    run(parse_recipe(content, folder=tmp_path), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert status(tmp_path / "out").title == content["title"]


def test_a_choice_of_layers_keeps_their_numbers(
    tmp_path: Path, shared: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAINALIGN_MIRROR", str(shared / "datasets"))
    changes = [f"features.0.model={tiny_llama}", "features.0.layers=[1, 4]", "dataset.subjects=[s18]"]
    scores = run(load_recipe("demo", changes), tmp_path).scores
    assert scores["layer_index"].values.tolist() == [1, 4]
    np.testing.assert_allclose(scores["depth"], [0.2, 0.8])
    assert "layer 1" in (tmp_path / "report.html").read_text()
    table = (tmp_path / "summary.csv").read_text().splitlines()
    assert [line.split(",")[2] for line in table] == ["layer", "1", "4"]


@pytest.mark.slow
def test_the_demo_scores_real_brains(
    tmp_path: Path, shared: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demo with a smaller trained model in place of its own."""
    monkeypatch.setenv("BRAINALIGN_MIRROR", str(shared / "datasets"))
    changes = [f"features.0.model={tiny_llama}", "features.0.context=128", "tests.permutations=20", "ladder=false"]
    scores = run(load_recipe("demo", changes), tmp_path, n_jobs=2).scores
    assert len(set(scores.subject.values)) == 27
    assert "s33" not in scores.subject.values
    named = {finding["where"] for finding in scores.attrs["findings"]}
    assert {"subject s33", "subject s40", "subject s46", "subject s52"} <= named
    assert np.isfinite(scores.r.values).all()
    # Real responses to real words: the baseline predicts, and so does every layer.
    assert float(scores.r_baseline.mean()) > 0.05
    assert (scores.r.mean(["fold", "target"]) > 0.05).all()
    # 27 people who heard the same: a ceiling, and chance that they share.
    assert 0.1 < float(scores["ceiling"].where(scores["ceiling_status"] == "ok").mean()) < 0.6
    assert (scores["group_p_stimulus_r"] < 0.05).all()
