"""The command `brainalign check`: what it prints, what it leaves, and how it leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from brainalign_cli.main import main

from brainalign.pipeline import inspection
from brainalign.types import Finding
from brainalign.warning_codes import CODES

WORDS = "onset,duration,text\n" + "".join(f"{0.5 * k},0.3,word{k % 9}\n" for k in range(200))
RECIPE = """\
dataset:
  name: arrays
  modality: fmri
  words: {one: one.csv, two: two.csv}
  responses: {path: "{subject}_{stimulus}.npy", subjects: [s1, s2], tr_s: 2.0}
features:
  - {kind: toy_model, n_layers: 2, dimension: 8}
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for story in ("one", "two"):
        (tmp_path / f"{story}.csv").write_text(WORDS)
        heard = random.normal(size=(55, 3))
        for subject in ("s1", "s2"):
            np.save(tmp_path / f"{subject}_{story}.npy", heard + random.normal(size=(55, 3)))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def leave(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return exit_.value.code


def test_a_recipe_s_dataset_is_checked(study: Path, capsys: pytest.CaptureFixture) -> None:
    assert leave("check", "recipe.yaml", "--quiet") == 0
    out = capsys.readouterr().out
    assert "Inter-subject correlation, one: median" in out
    assert "Page: checks/recipe/check.html" in out
    record = json.loads((study / "checks" / "recipe" / "check.json").read_text())
    assert [entry["subject"] for entry in record["recordings"]] == ["s1", "s1", "s2", "s2"]
    assert (study / "checks" / "recipe" / "check.html").is_file()
    assert leave("check", "recipe.yaml", "--quiet", "--subjects", "s2", "--out", "here") == 0
    record = json.loads((study / "here" / "check.json").read_text())
    assert [entry["subject"] for entry in record["recordings"]] == ["s2", "s2"]


def test_what_is_odd_is_printed_with_its_code_and_the_exit_is_still_0(
    study: Path, capsys: pytest.CaptureFixture
) -> None:
    np.save(study / "s2_two.npy", np.zeros((55, 3)))
    assert leave("check", "recipe.yaml", "--quiet") == 0
    assert "[empty-recording] subject s2, run two: all 3 targets are constant" in capsys.readouterr().out


def test_a_warning_is_printed_under_what_its_code_says(
    study: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Finding("W216", "subject s1, run one", "six seconds late.")
    monkeypatch.setattr(inspection, "_odd_rate", lambda _: [odd])
    assert leave("check", "recipe.yaml", "--quiet") == 0
    printed = capsys.readouterr().out
    assert f"[W216] {CODES['W216']}\n[W216] subject s1, run one: six seconds late." in printed


def test_settings_of_a_dataset_or_a_recipe_are_changed(study: Path, capsys: pytest.CaptureFixture) -> None:
    assert leave("check", "recipe.yaml", "--quiet", "--set", "responses.tr_s=2.5") == 0
    record = json.loads((study / "checks" / "recipe" / "check.json").read_text())
    assert record["recordings"][0]["duration_s"] == 137.5
    few = ["--set", "n_subjects=1", "--set", "n_runs=1", "--set", "n_words=150"]
    assert leave("check", "simulated", "--quiet", *few, "--set", "modality=meg") == 0
    assert "Response to words: highest" in capsys.readouterr().out
    record = json.loads((study / "checks" / "simulated" / "check.json").read_text())
    assert [entry["n_words"] for entry in record["recordings"]] == [150]


def test_files_are_looked_at_without_reading_recordings(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shared / "datasets" / "alice", tmp_path / "alice")
    next((tmp_path / "alice" / "alice_data_shared").glob("6mm/s18*")).unlink()
    assert leave("check", "alice", "--root", "alice", "--no-responses", "--quiet", "--subjects", "s18,s22") == 0
    out = capsys.readouterr().out
    assert "1 missing, 0 damaged." in out
    assert "[missing-file] alice: 1 of" in out
    assert json.loads((tmp_path / "checks" / "alice" / "check.json").read_text())["recordings"] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["alice"], "`brainalign fetch alice` brings them"),
        (["alcie"], "Did you mean 'alice'?"),
        (["alice", "--subjects", "s1"], "no subject 's1'"),
        (["alice", "--set", "radius=6"], "Did you mean 'radius_mm'?"),
        (["alice", "--set", "radius_mm"], "write key=value"),
        (["recipe.yaml", "--set", "words.one=none.csv"], "none.csv"),
    ],
)
def test_what_the_user_can_mend_leaves_with_2(
    study: Path, capsys: pytest.CaptureFixture, arguments: list[str], expected: str
) -> None:
    assert leave("check", *arguments, "--quiet") == 2
    error = capsys.readouterr().err
    assert expected in error
    assert len([line for line in error.splitlines() if line.strip()]) <= 3
    assert not (study / "checks").exists()
