"""The Little Prince in fMRI: real French words, sections told by the order of runs, planted volumes."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from brainalign_cli.main import _exit_code
from miniatures import LAYERS, check_planted_layers, planted_bold, serve_miniature

from brainalign.datasets import load_dataset
from brainalign.errors import DataError, RecipeError
from brainalign.manifests import read_manifest
from brainalign.pipeline import open_scores
from brainalign.reading import read_words
from brainalign.simulate import words_from_text
from brainalign.types import Clock, Stimulus

CLOCK = Clock(2.0, 0.961)
LENGTHS = read_manifest("little_prince").facts["n_volumes"]["FR"]
SUBJECTS = {"FR001": range(1, 10), "FR007": range(15, 24)}


@pytest.fixture(scope="module")
def truth(shared: Path) -> dict[int, Stimulus]:
    """Two sections' real words, made ones of the others (shorter than the sections)."""
    folder = shared / "datasets" / "real" / "ds003643_lpp_fmri" / "annotation" / "FR"
    tables = {section: read_words(folder / f"lppFR_section{section}.TextGrid") for section in (1, 2)}
    for section in range(3, 10):
        spoken = np.roll(["le", "petit", "prince", "dit", "que", "la", "fleur", "est", "belle"], section).tolist()
        tables[section] = words_from_text(" ".join(spoken * 40), seed=section)
    return {section: Stimulus(f"FR-{section}", table, language="fr") for section, table in tables.items()}


@pytest.fixture(scope="module")
def archive(shared: Path, truth: dict[int, Stimulus], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two French subjects in the layout of ds003643, with run numbers as arbitrary as there."""
    folder = tmp_path_factory.mktemp("mirror") / "little_prince"
    rows = [
        (word.text, word.onset, word.onset + word.duration, section)
        for section, stimulus in truth.items()
        for word in stimulus.words.itertuples()
    ]
    table = pd.DataFrame(rows, columns=["word", "onset", "offset", "section"])
    # A line that is there twice, with a typing error, and one without a time.
    table = pd.concat([table.iloc[:500], table.iloc[[480]].assign(word="fiosr"), table.iloc[500:]])
    table.iloc[700, 1:3] = np.nan
    (folder / "annotation" / "FR").mkdir(parents=True)
    table.to_csv(folder / "annotation" / "FR" / "lppFR_word_information.csv", encoding="utf-8-sig")
    for subject, numbers in SUBJECTS.items():
        for section, number in enumerate(numbers, start=1):
            bold = planted_bold(truth[section], CLOCK, 0.0, LENGTHS[section - 1], seed=number)
            path = (
                folder
                / f"derivatives/sub-{subject}/func"
                / (f"sub-{subject}_task-lppFR_run-{number:02d}_space-MNIColin27_desc-preproc_bold.nii.gz")
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            image = nibabel.Nifti1Image(bold.T.reshape(2, 1, 2, -1) + 50, np.diag([-2, 2, 2, 1]))
            image.header.set_zooms((2, 2, 2, 2))
            nibabel.save(image, path)
    return folder


@pytest.fixture
def options(tmp_path: Path) -> dict:
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 1, 2), np.uint8), np.diag([-2, 2, 2, 1])), tmp_path / "mask.nii.gz")
    return {"language": "fr", "volumes": {"mask": tmp_path / "mask.nii.gz"}}


@pytest.fixture
def served(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    serve_miniature(monkeypatch, archive)
    return archive


def test_words_are_those_of_the_section_without_the_lines_that_cannot_be(
    served: Path, truth: dict[int, Stimulus], options: dict
) -> None:
    stimulus = load_dataset("little_prince", options=options).stimuli["FR-1"]
    planted = truth[1].words.drop(index=699).reset_index(drop=True)
    assert stimulus.language == "fr"
    assert stimulus.words["text"].tolist() == planted["text"].tolist()
    assert stimulus.words["text"].tolist()[:4] == ["lorsque", "j'", "avais", "six"]
    np.testing.assert_allclose(stimulus.words["onset"], planted["onset"], atol=1e-3)
    [finding] = stimulus.findings
    assert finding.message.startswith("2 of 1614 rows")
    assert "'fiosr'" in finding.message


def test_the_kth_run_is_section_k_whatever_its_number(served: Path, options: dict) -> None:
    recordings = load_dataset("little_prince", subjects=["FR007"], options=options).recordings()
    assert [r.stimulus for r in recordings] == [f"FR-{section}" for section in range(1, 10)]
    assert [len(r.response()) for r in recordings] == LENGTHS
    assert {(r.clock, r.offset_s) for r in recordings} == {(CLOCK, 0.0)}
    assert recordings[0].space["template"] == "MNIColin27"


def test_the_planted_layers_are_found(served: Path, options: dict) -> None:
    check_planted_layers(load_dataset("little_prince", subjects=["FR001"], options=options))


def test_a_missing_run_shifts_no_section_unseen(
    archive: Path, tmp_path: Path, options: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "little_prince"
    shutil.copytree(archive, folder)
    next(folder.rglob("sub-FR007*run-16_*")).unlink()
    serve_miniature(monkeypatch, folder)
    with pytest.raises(DataError, match="354 volumes, those of section 3, not 326"):
        load_dataset("little_prince", subjects=["FR007"], options=options).recordings(stimuli=["FR-2"])


def test_the_archive_has_nine_runs_of_each_listener() -> None:
    for language, n_subjects in (("en", 49), ("fr", 28), ("zh", 35)):
        data = load_dataset("little_prince", options={"language": language})
        assert len(data.subjects) == n_subjects
        assert len(data.all_runs()) == 9 * n_subjects
        assert {len(data.sound_files(name)) for name in data.stimuli} == {1}
        assert {*data.words_files("")} <= set(data.archive.table)


def test_a_subject_of_another_language_is_met_by_those_there_are() -> None:
    with pytest.raises(RecipeError, match="FR001"):
        load_dataset("little_prince", subjects=["FR001"])
    with pytest.raises(RecipeError, match="Known: EN057"):
        load_dataset("little_prince", subjects=["EN57"])


@pytest.mark.slow
def test_the_command_runs_on_it_finds_the_layers_and_draws_them_in_the_brain(
    served: Path, options: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "prince.yaml"
    recipe.write_text(
        f"dataset: {{name: little_prince, language: fr, subjects: [FR001, FR007], stimuli: [FR-1, FR-2, FR-3], "
        f"volumes: {{mask: '{options['volumes']['mask']}'}}}}\n"
        "features: [{kind: toy_model, n_layers: 3, dimension: 6}]\nbaseline: []\n"
    )
    command = ["run", str(recipe), "--out", str(tmp_path / "out"), "--jobs", "1", "--quiet"]
    assert _exit_code(command) == 0, capsys.readouterr().err
    scores = open_scores(tmp_path / "out")
    best = scores["r"].mean("fold").argmax("layer").values
    assert best.tolist() == [*LAYERS, *LAYERS]
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert set(summary["subject"]) == {"FR001", "FR007"}
    assert "Seen through the brain in the space MNIColin27" in (tmp_path / "out" / "report.html").read_text()
