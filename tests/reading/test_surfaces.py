"""fMRI on the cortical surface: each vertex and parcel gets its planted series back, in GIFTI and in CIFTI."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from images import (
    AFFINE,
    grayordinates,
    planted_volumes,
    write_annot,
    write_cifti,
    write_cifti_labels,
    write_gifti,
    write_gifti_labels,
    write_nifti,
)
from nibabel.cifti2 import BrainModelAxis, Cifti2Image, ScalarAxis
from nilearn.surface import load_surf_data

from brainalign.errors import DataError
from brainalign.reading.surfaces import open_cifti, open_surfaces, surfaces_of_scores

N_VERTICES = (40, 30)
LEFT, RIGHT = (np.random.default_rng(i).normal(100, 10, (9, n)).astype(np.float32) for i, n in enumerate(N_VERTICES))
AXIS = grayordinates()
DENSE = np.random.default_rng(3).normal(100, 10, (9, len(AXIS))).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_gifti(tmp_path / "L.func.gii", LEFT, anatomy="CortexLeft")
    write_gifti(tmp_path / "R.func.gii", RIGHT, anatomy="CortexRight")
    write_cifti(tmp_path / "bold.dtseries.nii", DENSE)
    return tmp_path


def opened(folder: Path, **given: object):
    return open_surfaces(folder / "L.func.gii", folder / "R.func.gii", "subject s1, run 1", **given)


# GIFTI


def test_each_vertex_gets_its_series_and_its_number(folder: Path) -> None:
    images = opened(folder, template="fsaverage6")
    series = images.read()
    assert series.dtype == np.float32
    assert (images.n_volumes, images.tr_s, images.findings, images.steps) == (9, 1.5, (), ())
    np.testing.assert_array_equal(series, np.hstack([LEFT, RIGHT]))
    for side, name in (("L", "L.func.gii"), ("R", "R.func.gii")):
        theirs = load_surf_data(folder / name).T
        np.testing.assert_array_equal(series[:, images.targets["hemisphere"] == side], theirs)
    assert images.targets.iloc[[0, 39, 40, 69]].to_dict("list") == {
        "name": ["L 0", "L 39", "R 0", "R 29"],
        "kind": ["vertex"] * 4,
        "hemisphere": ["L", "L", "R", "R"],
        "vertex": [0, 39, 0, 29],
    }
    assert json.loads(json.dumps(images.space)) == {
        "kind": "surface",
        "template": "fsaverage6",
        "n_vertices": [40, 30],
    }
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(images)).read(), series)


@pytest.mark.parametrize("transposed", [False, True])
def test_one_array_of_all_volumes_is_read_as_well(transposed: bool, folder: Path) -> None:
    for name, values in (("L.func.gii", LEFT), ("R.func.gii", RIGHT)):
        array = nibabel.gifti.GiftiDataArray(values.T.copy() if transposed else values, intent="NIFTI_INTENT_NONE")
        nibabel.gifti.GiftiImage(darrays=[array]).to_filename(folder / name)
    np.testing.assert_array_equal(opened(folder, tr_s=1.5).read(), np.hstack([LEFT, RIGHT]))


@pytest.mark.parametrize(
    ("time_step", "tr_s", "expected"),
    [
        ("2000.000000", None, 2.0),
        ("0.72", None, 0.72),
        ("1500", 1.49, 1.49),
        ("0.000000", 1.5, 1.5),
        (None, 1.5, 1.5),
        ("0.000000", None, "no TR"),
        (None, None, "no TR .*RepetitionTime"),
        ("soon", None, "TimeStep is 'soon', not a number"),
        ("1500", 1500.0, "looks like milliseconds"),
    ],
)
def test_the_time_step_is_in_milliseconds_or_seconds(
    time_step: str | None, tr_s: float | None, expected: float | str, folder: Path
) -> None:
    write_gifti(folder / "L.func.gii", LEFT, time_step=time_step)
    if isinstance(expected, str):
        with pytest.raises(DataError, match=rf"L\.func\.gii: .*{expected}"):
            opened(folder, tr_s=tr_s)
        return
    images = opened(folder, tr_s=tr_s)
    assert images.tr_s == expected
    assert [finding.code for finding in images.findings] == ["tr-differs"] * (tr_s == 1.49)


LABELS = {"L": np.arange(40) % 4, "R": np.minimum(np.arange(30) % 3, 1)}
NAMES = ("unknown", "IFG", "MTG", "STG")


def write_label_gifti(folder: Path) -> tuple[Path, Path]:
    names = dict(enumerate(NAMES)) | {0: "???"}
    return (
        write_gifti_labels(folder / "L.label.gii", LABELS["L"], names),
        write_gifti_labels(folder / "R.label.gii", LABELS["R"], names),
    )


def write_labels_annot(folder: Path) -> tuple[Path, Path]:
    left = np.where(np.arange(40) == 0, -1, LABELS["L"])
    return write_annot(folder / "lh.annot", left, NAMES), write_annot(folder / "rh.annot", LABELS["R"], NAMES)


@pytest.mark.parametrize("write", [write_label_gifti, write_labels_annot], ids=["label.gii", "annot"])
def test_parcels_are_means_of_their_vertices(write: Callable[[Path], tuple[Path, Path]], folder: Path) -> None:
    values = LEFT.copy()
    values[:, 1] = np.nan
    write_gifti(folder / "L.func.gii", values)
    images = opened(folder, labels=write(folder))
    assert images.targets["name"].tolist() == ["L IFG", "L MTG", "L STG", "R IFG"]
    assert images.targets["n_vertices"].tolist() == [10, 10, 10, 20]
    expected = [np.nanmean(values[:, LABELS["L"] == label], axis=1, dtype=float) for label in (1, 2, 3)]
    expected.append(RIGHT[:, LABELS["R"] == 1].mean(axis=1, dtype=float))
    np.testing.assert_allclose(images.read().T, expected, rtol=1e-6)
    assert images.space["kind"] == "parcels"
    [finding] = images.findings
    assert finding.code == "empty-parcel"
    assert finding.message.endswith("left out: MTG, STG.")
    assert "10 of 40 places are in none" in images.steps[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(images)).read(), images.read())


def test_scores_go_back_onto_the_surfaces(folder: Path) -> None:
    images = opened(folder)
    scores = np.random.default_rng(0).normal(size=70).astype(np.float32)
    left, right = surfaces_of_scores(scores, images.targets, images.space)
    np.testing.assert_array_equal(np.r_[left, right], scores)
    dense = open_cifti(folder / "bold.dtseries.nii", "s1")
    left, right = surfaces_of_scores(DENSE[0], dense.targets, dense.space)
    np.testing.assert_array_equal(left, np.r_[np.nan, DENSE[0, :9]])
    np.testing.assert_array_equal(right, np.r_[np.nan, DENSE[0, 9:16]])
    with pytest.raises(DataError, match="3 scores for 70 targets"):
        surfaces_of_scores(np.zeros(3), images.targets, images.space)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_external(path: Path) -> None:
    path.write_text(path.read_text().replace('ExternalFileName=""', 'ExternalFileName="other.dat"'))


def write_uneven(path: Path) -> None:
    arrays = [nibabel.gifti.GiftiDataArray(np.zeros(n, "f4"), intent="NIFTI_INTENT_TIME_SERIES") for n in (40, 39)]
    nibabel.gifti.GiftiImage(darrays=arrays).to_filename(path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: write_gifti(path, LEFT, intent="NIFTI_INTENT_ZSCORE"), "intent is NIFTI_INTENT_ZSCORE; expected"),
        (lambda path: nibabel.gifti.GiftiImage().to_filename(path), "intent is none"),
        (lambda path: write_gifti(path, LEFT[:1]), r"1 arrays of shape \(40,\); expected one"),
        (write_uneven, r"2 arrays of shape \(39,\), \(40,\)"),
        (write_external, "its numbers in another file"),
        (shorten, "not a whole GIFTI file"),
        (lambda path: path.write_text("<GIFTI>"), "not a whole GIFTI file"),
        (lambda path: path.write_text("/annex/objects/MD5E-s1--2.gii"), "not downloaded"),
        (lambda path: write_gifti(path, LEFT, anatomy="CortexRight"), "it is of CortexRight.* exchange the two"),
        (lambda path: write_gifti(path, LEFT[:5]), "has 5 volumes, .*R.func.gii has 9"),
    ],
)
def test_what_is_no_time_series_of_the_hemisphere_is_named(
    write: Callable[[Path], object], message: str, folder: Path
) -> None:
    write(folder / "L.func.gii")
    with pytest.raises(DataError, match=rf"L\.func\.gii:? .*{message}"):
        opened(folder)


def test_numbers_that_are_damaged_are_named_when_they_are_read(folder: Path) -> None:
    path = folder / "L.func.gii"
    content = path.read_text()
    start = content.index("<Data>") + 6
    path.write_text(content[:start] + "A" * 60 + content[start + 60 :])
    images = opened(folder)
    with pytest.raises(DataError, match=r"L\.func\.gii: not a whole GIFTI file"):
        images.read()


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (np.ones(39), {1: "IFG"}, "labels of 39 vertices; the data have 40"),
        (np.ones(40), {2: "IFG"}, "no name for its labels 1"),
        (np.zeros(40), {0: "???", 1: "IFG"}, "none of its labels .* has a vertex"),
        (np.arange(40) % 2, {0: "IFG", 1: "IFG"}, "several labels have the same name"),
    ],
)
def test_labels_must_fit_the_surface(labels: np.ndarray, names: dict[int, str], message: str, folder: Path) -> None:
    _, right = write_label_gifti(folder)
    with pytest.raises(DataError, match=rf"x\.label\.gii: .*{message}"):
        opened(folder, labels=(write_gifti_labels(folder / "x.label.gii", labels, names), right))
    with pytest.raises(DataError, match=r"L\.func\.gii: not a whole parcellation"):
        opened(folder, labels=(folder / "L.func.gii", right))


# CIFTI


def test_each_grayordinate_gets_its_series_and_its_place(folder: Path) -> None:
    images = open_cifti(folder / "bold.dtseries.nii", "s1", template="fsLR")
    series = images.read()
    assert series.dtype == np.float32
    np.testing.assert_array_equal(series, DENSE)
    assert (images.n_volumes, images.tr_s) == (9, 0.72)
    targets = images.targets
    assert targets["name"].tolist() == [
        *(f"L {i}" for i in range(1, 10)),
        *(f"R {i}" for i in range(1, 8)),
        "THALAMUS_LEFT 1 2 0",
        "THALAMUS_LEFT 3 0 2",
    ]
    assert targets["kind"].tolist() == ["vertex"] * 16 + ["voxel"] * 2
    assert targets["hemisphere"].tolist() == ["L"] * 9 + ["R"] * 7 + [""] * 2
    assert targets["vertex"].tolist() == [*range(1, 10), *range(1, 8), -1, -1]
    places = (AFFINE @ [[1, 3], [2, 0], [0, 2], [1, 1]])[:3].T
    np.testing.assert_allclose(targets.loc[16:, ["x", "y", "z"]], places)
    assert targets.loc[:15, ["x", "y", "z"]].isna().all(axis=None)
    assert json.loads(json.dumps(images.space)) == {
        "kind": "surface",
        "template": "fsLR",
        "n_vertices": [10, 8],
        "unit": "mm",
        "affine": AFFINE.tolist(),
        "shape": [4, 4, 3],
    }
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(images)).read(), series)


def test_cortex_alone_has_no_voxels(folder: Path) -> None:
    cortex = BrainModelAxis.from_surface(np.arange(5), 5, "CORTEX_LEFT")
    path = write_cifti(folder / "cortex.dtseries.nii", DENSE[:, :5], cortex)
    images = open_cifti(path, "s1")
    assert images.space["n_vertices"] == [5, 0]
    assert "affine" not in images.space
    np.testing.assert_array_equal(images.read(), DENSE[:, :5])


def test_parcels_of_a_dlabel_file_are_means_of_what_both_files_have(folder: Path) -> None:
    # The parcellation has the medial wall, which the series has not, and no thalamus.
    axis = BrainModelAxis.from_surface(np.arange(10), 10, "CORTEX_LEFT") + BrainModelAxis.from_surface(
        np.arange(8), 8, "CORTEX_RIGHT"
    )
    labels = np.r_[[0], [5] * 4, [2] * 5, [0], [7] * 7]
    names = {0: "???", 2: "L_IFG", 5: "L_MTG", 7: "R_STG", 9: "R_none"}
    path = write_cifti_labels(folder / "atlas.dlabel.nii", labels, names, axis)
    images = open_cifti(folder / "bold.dtseries.nii", "s1", parcels=path)
    assert images.targets.to_dict("list") == {
        "name": ["L_IFG", "L_MTG", "R_STG"],
        "kind": ["parcel"] * 3,
        "label": [2, 5, 7],
        "n_grayordinates": [5, 4, 7],
    }
    expected = [DENSE[:, 4:9].mean(axis=1), DENSE[:, :4].mean(axis=1), DENSE[:, 9:16].mean(axis=1)]
    np.testing.assert_allclose(images.read().T, expected, rtol=1e-6)
    assert [finding.code for finding in images.findings] == ["empty-parcel"]
    assert "2 of 18 places are in none" in images.steps[0]


def write_scalars(path: Path) -> None:
    Cifti2Image(DENSE, (ScalarAxis([str(i) for i in range(9)]), AXIS)).to_filename(path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_scalars, "its axes are Scalar, BrainModel; expected a dense series"),
        (lambda path: write_cifti(path, DENSE, unit="HERTZ"), "runs in hertz, not in seconds"),
        (lambda path: write_cifti(path, DENSE, tr_s=0.0), "no TR .*RepetitionTime"),
        (lambda path: write_cifti(path, DENSE, tr_s=720.0), "looks like milliseconds"),
        (lambda path: write_nifti(path, planted_volumes()), "Nifti1Image, not CIFTI-2"),
        (lambda path: path.write_text("text"), "not a whole CIFTI file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not a whole CIFTI file"),
        (lambda path: path.write_text("/annex/objects/MD5E-s1--2.nii"), "not downloaded"),
    ],
)
def test_what_is_no_dense_series_is_named(write: Callable[[Path], object], message: str, folder: Path) -> None:
    write(folder / "bold.dtseries.nii")
    with pytest.raises(DataError, match=rf"bold\.dtseries\.nii: .*{message}"):
        open_cifti(folder / "bold.dtseries.nii", "s1").read()


def test_a_time_step_that_is_known_goes_before_the_header_s(folder: Path) -> None:
    write_cifti(folder / "bold.dtseries.nii", DENSE, tr_s=0.0)
    assert open_cifti(folder / "bold.dtseries.nii", "s1", tr_s=0.71).tr_s == 0.71


def test_a_series_is_no_parcellation(folder: Path) -> None:
    path = folder / "bold.dtseries.nii"
    with pytest.raises(DataError, match="not a parcellation of vertices and voxels"):
        open_cifti(path, "s1", parcels=path)
