"""fMRI volumes: each voxel, parcel and sphere gets its planted series and its place back."""

from __future__ import annotations

import gzip
import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images import AFFINE, planted_volumes, write_fmriprep_run, write_nifti
from nilearn.maskers import NiftiLabelsMasker, NiftiMasker, NiftiSpheresMasker
from nilearn.masking import compute_epi_mask

from brainalign.errors import DataError, RecipeError
from brainalign.reading import volume_files
from brainalign.reading.volumes import Volumes, open_volumes, volume_of_scores
from brainalign.settings import checked_settings

SHAPE = (5, 6, 4)
VALUES = planted_volumes(SHAPE)
INSIDE = np.random.default_rng(1).random(SHAPE) < 0.6
# Labels 3, 7 and 9; the last has no voxel in the mask.
ATLAS = np.zeros(SHAPE, dtype=np.int16)
ATLAS[:2], ATLAS[2:4] = 7, 3
ATLAS[np.argwhere(~INSIDE & (ATLAS == 0))[0][0], np.argwhere(~INSIDE & (ATLAS == 0))[0][1]] = 0
ATLAS[tuple(np.argwhere(~INSIDE & (ATLAS == 0))[0])] = 9
SPHERES = {"one": (4.0, -2.0, 0.0), "two": (8.0, -10.0, -3.0), "corner": (9.5, -12.4, -6.0)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_nifti(tmp_path / "bold.nii.gz", VALUES)
    write_nifti(tmp_path / "mask.nii.gz", INSIDE.astype(np.uint8))
    write_nifti(tmp_path / "atlas.nii.gz", ATLAS)
    return tmp_path


def opened(folder: Path, options: Volumes | None = None, **given: object):
    arguments = {"mask": folder / "mask.nii.gz", **given}
    return open_volumes(folder / "bold.nii.gz", options or Volumes(), "subject s1, run 1", **arguments)


@pytest.fixture(params=[1, 5, 1000], ids=["a volume at a time", "five", "all"])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(volume_files, "BLOCK_BYTES", 8 * VALUES[..., 0].size * request.param)
    return request.param


def test_each_voxel_of_the_mask_gets_its_series_and_its_place(folder: Path, block: int) -> None:
    images = opened(folder, template="MNI152NLin2009cAsym")
    series = images.read()
    assert series.dtype == np.float32
    assert (images.n_volumes, images.tr_s) == (12, 1.5)
    assert len(images.targets) == INSIDE.sum()
    for column, row in enumerate(images.targets.itertuples()):
        np.testing.assert_array_equal(series[:, column], VALUES[row.i, row.j, row.k])
        assert INSIDE[row.i, row.j, row.k]
        assert (row.name, row.kind) == (f"{row.i} {row.j} {row.k}", "voxel")
        np.testing.assert_allclose([row.x, row.y, row.z], (AFFINE @ [row.i, row.j, row.k, 1])[:3])
    assert json.loads(json.dumps(images.space)) == {
        "kind": "volume",
        "unit": "mm",
        "template": "MNI152NLin2009cAsym",
        "affine": AFFINE.tolist(),
        "shape": [5, 6, 4],
    }
    assert images.steps == ("voxels of the mask mask.nii.gz",)
    assert images.findings == ()


@pytest.mark.parametrize("smoothing_mm", [None, 5.0])
def test_they_are_what_nilearn_s_maskers_give(smoothing_mm: float | None, folder: Path, block: int) -> None:
    bold, mask, atlas = (str(folder / f"{name}.nii.gz") for name in ("bold", "mask", "atlas"))
    options = {"mask_img": mask, "smoothing_fwhm": smoothing_mm, "standardize": None}
    voxels = NiftiMasker(**options).fit_transform(bold)
    parcels = NiftiLabelsMasker(atlas, resampling_target=None, **options)
    with pytest.warns(UserWarning, match="removed"):
        means = parcels.fit_transform(bold)
    spheres = NiftiSpheresMasker(list(SPHERES.values()), radius=4.5, allow_overlap=True, **options).fit_transform(bold)
    same = {"rtol": 2e-6, "atol": 0}
    np.testing.assert_allclose(opened(folder, Volumes(smoothing_mm=smoothing_mm)).read(), voxels, **same)
    ours = opened(folder, Volumes("parcels", atlas=folder / "atlas.nii.gz", smoothing_mm=smoothing_mm))
    assert ours.targets["label"].tolist() == [3, 7]
    np.testing.assert_allclose(ours.read(), means, **same)
    ours = opened(folder, Volumes("spheres", spheres=SPHERES, radius_mm=4.5, smoothing_mm=smoothing_mm))
    np.testing.assert_allclose(ours.read(), spheres, **same)
    assert ("smoothed, 5 mm FWHM" in ours.steps) == (smoothing_mm is not None)


def test_parcels_are_means_of_their_voxels_with_names_and_centroids(folder: Path, block: int) -> None:
    (folder / "names.tsv").write_text("value\tname\n0\tBackground\n7\tNA\n3\tIFG\n9\tMTG\n11\tSTG\n")
    options = Volumes("parcels", atlas=folder / "atlas.nii.gz", labels=folder / "names.tsv")
    images = opened(folder, options)
    assert images.targets["name"].tolist() == ["IFG", "NA"]
    series = images.read()
    for column, row in enumerate(images.targets.itertuples()):
        members = INSIDE & (row.label == ATLAS)
        np.testing.assert_allclose(series[:, column], VALUES[members].mean(axis=0, dtype=float), rtol=1e-6)
        centroid = AFFINE @ np.r_[np.argwhere(members).mean(axis=0), 1]
        np.testing.assert_allclose([row.x, row.y, row.z], centroid[:3])
        assert row.n_voxels == members.sum()
    [finding] = images.findings
    assert finding.code == "empty-parcel"
    assert "2 of 4 parcels of atlas.nii.gz have no voxel and are left out: MTG, STG." in str(finding)
    assert images.space["kind"] == "parcels"


def test_spheres_hold_the_voxels_within_their_radius(folder: Path) -> None:
    images = opened(folder, Volumes("spheres", spheres=SPHERES, radius_mm=4.5))
    series = images.read()
    places = np.einsum("ab,xyzb->xyza", AFFINE[:3, :3], np.moveaxis(np.indices(SHAPE), 0, -1)) + AFFINE[:3, 3]
    for column, (name, centre) in enumerate(list(SPHERES.items())[:2]):
        members = INSIDE & (np.linalg.norm(places - centre, axis=-1) <= 4.5)
        np.testing.assert_allclose(series[:, column], VALUES[members].mean(axis=0, dtype=float), rtol=1e-6)
        assert images.targets["n_voxels"][column] == members.sum() > 1
        assert images.targets.loc[column, ["name", "x", "y", "z"]].tolist() == [name, *centre]


def random_affine(seed: int) -> np.ndarray:
    """Rotated, flipped, sheared by unequal voxels, moved."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag(rng.uniform(0.7, 4, 3) * rng.choice([-1, 1], 3))
    affine[:3, 3] = rng.normal(scale=60, size=3)
    return affine


@settings(max_examples=25, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 6)] * 3), seed=st.integers(0, 2**32 - 1))
def test_places_and_series_hold_under_any_affine(
    shape: tuple[int, int, int], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, affine, rng = tmp_path_factory.mktemp("grid"), random_affine(seed), np.random.default_rng(seed)
    inside = rng.random(shape) < 0.5
    inside[tuple(rng.integers(0, shape))] = True
    values = planted_volumes(shape, 3, seed)
    write_nifti(folder / "bold.nii", values, affine)
    write_nifti(folder / "mask.nii", inside.astype(np.uint8), affine)
    images = open_volumes(folder / "bold.nii", Volumes(), "run", mask=folder / "mask.nii")
    ijk = images.targets[["i", "j", "k"]].to_numpy()
    assert sorted(map(tuple, ijk.tolist())) == sorted(map(tuple, np.argwhere(inside).tolist()))
    expected = nibabel.affines.apply_affine(affine, ijk)
    np.testing.assert_allclose(images.targets[["x", "y", "z"]], expected, atol=1e-4)
    np.testing.assert_array_equal(images.read(), values[tuple(ijk.T)].T)
    scores = rng.normal(size=len(ijk)).astype(np.float32)
    volume = volume_of_scores(scores, images.targets, images.space)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-4)
    assert np.isnan(volume.get_fdata()[~inside]).all()
    np.testing.assert_array_equal(volume.get_fdata()[tuple(ijk.T)], scores)


def test_scores_of_parcels_and_spheres_go_back_into_their_voxels(folder: Path) -> None:
    parcels = opened(folder, Volumes("parcels", atlas=folder / "atlas.nii.gz"))
    volume = volume_of_scores(np.array([0.3, 0.7]), parcels.targets, parcels.space, atlas=folder / "atlas.nii.gz")
    values = volume.get_fdata(dtype=np.float32)
    assert (values[ATLAS == 3] == np.float32(0.3)).all()
    assert (values[ATLAS == 7] == np.float32(0.7)).all()
    assert np.isnan(values[(ATLAS != 3) & (ATLAS != 7)]).all()
    with pytest.raises(DataError, match="of parcels; name the atlas"):
        volume_of_scores(np.zeros(2), parcels.targets, parcels.space)
    with pytest.raises(DataError, match=r"shape \(3,\) for 2 targets"):
        volume_of_scores(np.zeros(3), parcels.targets, parcels.space)
    spheres = opened(folder, Volumes("spheres", spheres={"one": SPHERES["one"]}, radius_mm=1.0))
    values = volume_of_scores(np.array([0.5]), spheres.targets, spheres.space).get_fdata()
    assert np.argwhere(np.isfinite(values)).tolist() == [[3, 5, 2]]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"smoothing_mm": 4.0},
        {"targets": "parcels", "atlas": "atlas.nii.gz"},
        {"targets": "spheres", "spheres": SPHERES},
    ],
    ids=["voxels", "smoothed", "parcels", "spheres"],
)
def test_they_survive_pickling(options: dict, folder: Path) -> None:
    options = {key: folder / value if key == "atlas" else value for key, value in options.items()}
    images = opened(folder, Volumes(**options))
    copy = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(copy.read(), images.read())
    assert (copy.space, copy.steps) == (images.space, images.steps)


# Numbers


def test_slope_and_intercept_of_integers_are_applied(folder: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, AFFINE)
    image.header.set_data_dtype(np.int16)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.0
    image.to_filename(folder / "bold.nii.gz")
    stored = nibabel.load(folder / "bold.nii.gz")
    assert stored.dataobj.slope != 1
    expected = stored.get_fdata()[INSIDE].T.astype(np.float32)
    np.testing.assert_array_equal(opened(folder).read(), expected)
    np.testing.assert_allclose(expected, VALUES[INSIDE].T, atol=0.01)


def test_what_is_no_number_stays_so_and_is_not_averaged(folder: Path) -> None:
    values = VALUES.copy()
    lost = tuple(np.argwhere(INSIDE & (ATLAS == 3))[0])
    values[lost] = np.nan
    values[(*np.argwhere(INSIDE & (ATLAS == 7))[0], 4)] = np.inf
    write_nifti(folder / "bold.nii.gz", values)
    voxels = opened(folder)
    number = voxels.targets["name"].tolist().index("{} {} {}".format(*lost))
    assert np.isnan(voxels.read()[:, number]).all()
    assert np.count_nonzero(~np.isfinite(voxels.read())) == 12 + 1
    parcels = opened(folder, Volumes("parcels", atlas=folder / "atlas.nii.gz")).read()
    known = np.where(np.isfinite(values), values, np.nan)
    expected = np.nanmean(known[INSIDE & (ATLAS == 3)], axis=0), np.nanmean(known[INSIDE & (ATLAS == 7)], axis=0)
    np.testing.assert_allclose(parcels.T, expected, rtol=1e-6)
    smoothed = opened(folder, Volumes(smoothing_mm=4.0)).read()
    np.testing.assert_array_equal(np.isfinite(smoothed), np.isfinite(voxels.read()))


def test_a_run_is_never_whole_in_memory_but_as_what_is_returned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_files, "BLOCK_BYTES", 2**20)
    shape = (40, 40, 20)
    values = np.random.default_rng(0).integers(0, 1000, (*shape, 100)).astype(np.int16)
    write_nifti(tmp_path / "bold.nii.gz", values)
    write_nifti(tmp_path / "mask.nii.gz", np.ones(shape, dtype=np.uint8))
    images = open_volumes(tmp_path / "bold.nii.gz", Volumes(), "run", mask=tmp_path / "mask.nii.gz")
    images.read()
    tracemalloc.start()
    series = images.read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert series.shape == (100, 32_000)
    assert peak < series.nbytes + 5 * 2**20


# Masks


def head(n_volumes: int = 8) -> np.ndarray:
    """A bright ball in a dark box."""
    shape = (24, 24, 20)
    distance = np.linalg.norm(np.indices(shape).reshape(3, -1).T - np.array([12, 12, 10]), axis=1).reshape(shape)
    return planted_volumes(shape, n_volumes) * np.where(distance < 8, 1.0, 0.05)[..., None].astype(np.float32)


def test_without_a_mask_one_is_computed_of_the_first_run(tmp_path: Path) -> None:
    first = head()
    expected = np.asarray(compute_epi_mask(nibabel.Nifti1Image(first, AFFINE)).dataobj) != 0
    assert 1000 < expected.sum() < 3000
    write_nifti(tmp_path / "first.nii.gz", first)
    later = write_nifti(tmp_path / "later.nii.gz", head()[::-1].copy())
    for run in (tmp_path / "first.nii.gz", later):
        images = open_volumes(run, Volumes(), "s1", reference=tmp_path / "first.nii.gz")
        found = np.zeros(expected.shape, dtype=bool)
        found[tuple(images.targets[["i", "j", "k"]].to_numpy().T)] = True
        np.testing.assert_array_equal(found, expected)
        assert [finding.code for finding in images.findings] == ["computed-mask"]
        assert "voxels of a mask computed of the first run (nilearn's compute_epi_mask)" in images.steps


def test_voxels_without_signal_are_left_out_of_a_computed_mask_and_kept_in_a_given_one(tmp_path: Path) -> None:
    values = head()
    values[12, 12, 10] = 0
    values[11, 12, 10, 3] = np.nan
    image = write_nifti(tmp_path / "bold.nii.gz", values)
    images = open_volumes(image, Volumes(), "s1")
    assert not {"12 12 10", "11 12 10"} & set(images.targets["name"])
    assert {"13 12 10", "10 12 10"} <= set(images.targets["name"])
    left_out = next(finding for finding in images.findings if finding.code == "voxels-without-signal")
    assert "2 voxels of the computed mask are zero throughout bold.nii.gz, or not numbers" in left_out.message
    mask = write_nifti(tmp_path / "mask.nii.gz", np.ones(values.shape[:3], dtype=np.uint8))
    images = open_volumes(image, Volumes(mask=mask), "s1")
    assert len(images.targets) == values[..., 0].size
    assert images.findings == ()


def test_the_recipe_s_mask_goes_before_the_data_s(folder: Path) -> None:
    own = np.zeros(SHAPE, dtype=np.uint8)
    own[1, 2, 3] = 1
    write_nifti(folder / "own.nii.gz", own)
    assert opened(folder, Volumes(mask=folder / "own.nii.gz")).targets["name"].tolist() == ["1 2 3"]


def test_a_mask_and_an_atlas_of_another_grid_are_resampled_by_the_nearest_voxel(folder: Path) -> None:
    finer = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    finer[:3, 3] = (AFFINE @ [-0.25, -0.25, -0.25, 1])[:3]
    for name, values in (("mask", INSIDE.astype(np.uint8)), ("atlas", ATLAS)):
        fine = values.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
        write_nifti(folder / f"fine_{name}.nii.gz", fine, finer)
    images = opened(folder, mask=folder / "fine_mask.nii.gz")
    assert images.targets["name"].tolist() == opened(folder).targets["name"].tolist()
    assert images.steps == ("voxels of the mask fine_mask.nii.gz, resampled to the data (nearest)",)
    images = opened(folder, Volumes("parcels", atlas=folder / "fine_atlas.nii.gz"))
    np.testing.assert_array_equal(
        images.read(), opened(folder, Volumes("parcels", atlas=folder / "atlas.nii.gz")).read()
    )
    assert "atlas fine_atlas.nii.gz resampled to the data (nearest)" in images.steps


def test_what_fmriprep_leaves_is_read(tmp_path: Path) -> None:
    image = write_fmriprep_run(tmp_path, "sub-01_task-black", VALUES, mask=INSIDE)
    mask = image.with_name(image.name.replace("preproc_bold", "brain_mask"))
    images = open_volumes(image, Volumes(), "s1", mask=mask, template="MNI152NLin2009cAsym")
    np.testing.assert_array_equal(images.read(), VALUES[INSIDE].T)


# What cannot be


def test_a_run_on_another_grid_is_an_error_that_names_both(folder: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += 1
    for name, values, affine in (("moved", VALUES, moved), ("smaller", VALUES[:, :5], AFFINE)):
        other = write_nifti(folder / f"{name}.nii.gz", values, affine)
        with pytest.raises(DataError, match=rf"bold\.nii\.gz has 5 x 6 x 4 .*\n.*{name}\.nii\.gz has .*\nResample"):
            opened(folder, reference=other)
    nearly = AFFINE.copy()
    nearly[:3, :3] *= 1 + 1e-6
    opened(folder, reference=write_nifti(folder / "nearly.nii.gz", VALUES, nearly))


@pytest.mark.parametrize(
    ("tr", "unit", "tr_s", "expected"),
    [
        (2.0, "sec", None, 2.0),
        (1500.0, "msec", None, 1.5),
        (720_000.0, "usec", None, 0.72),
        (0.72, "unknown", None, 0.72),
        (0.0, "sec", 1.5, 1.5),
        (1500.0, "sec", 1.5, 1.5),
        (1.0, "sec", 1.5, 1.5),
        (1.0, "hz", 1.5, 1.5),
        (0.0, "sec", None, "no TR .*RepetitionTime"),
        (1.0, "hz", None, "no TR"),
        (float("nan"), "sec", None, "no TR"),
        (1500.0, "sec", None, "TR of 1500 s looks like milliseconds"),
        (2.0, "sec", 2000.0, "TR of 2000 s looks like milliseconds"),
        (2.0, "sec", 0.0, "TR of 0 s; it must be positive"),
    ],
)
def test_the_tr_is_seconds_or_an_error(
    tr: float, unit: str, tr_s: float | None, expected: float | str, folder: Path
) -> None:
    write_nifti(folder / "bold.nii.gz", VALUES, tr=tr, time_unit=unit)
    if isinstance(expected, str):
        with pytest.raises(DataError, match=rf"bold\.nii\.gz: .*{expected}"):
            opened(folder, tr_s=tr_s)
        return
    images = opened(folder, tr_s=tr_s)
    assert images.tr_s == expected
    differs = tr_s is not None and unit == "sec" and tr > 0
    assert [finding.code for finding in images.findings] == ["tr-differs"] * differs


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def corrupt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2000:-1000] = bytes(1000)
    path.write_bytes(content)


def write_short_volumes(path: Path) -> None:
    """Whole as gzip, but with fewer bytes than the header promises."""
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-500]))


@pytest.mark.parametrize("damage", [shorten, corrupt, write_short_volumes])
def test_a_damaged_image_is_named(damage: Callable[[Path], None], folder: Path) -> None:
    damage(folder / "bold.nii.gz")
    with pytest.raises(DataError, match=r"bold\.nii\.gz: damaged, or it ends early"):
        opened(folder).read()
    with pytest.raises(DataError, match=r"bold\.nii\.gz: damaged, or it ends early"):
        opened(folder, mask=None)


def test_an_uncompressed_image_that_ends_early_is_named(folder: Path) -> None:
    short = write_nifti(folder / "short.nii", VALUES)
    shorten(short)
    with pytest.raises(DataError, match=r"short\.nii: damaged, or it ends early"):
        open_volumes(short, Volumes(), "s1", mask=folder / "mask.nii.gz").read()


def write_rgb(path: Path) -> None:
    rgb = np.zeros((*SHAPE, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.Nifti1Image(rgb, AFFINE).to_filename(path)


def write_metres(path: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, AFFINE)
    image.header.set_xyzt_units("meter", "sec")
    image.to_filename(path)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("bold", lambda path: write_nifti(path, VALUES[..., 0]), r"shape \(5, 6, 4\); expected .* single volume"),
        ("bold", lambda path: write_nifti(path, VALUES[..., :1]), r"shape \(5, 6, 4, 1\).* single volume"),
        ("bold", lambda path: write_nifti(path, VALUES[..., None]), r"shape \(5, 6, 4, 12, 1\)"),
        ("bold", write_rgb, "not real numbers"),
        ("bold", write_metres, "places are in meter"),
        ("bold", lambda path: path.write_text("no image"), "not an image that can be read"),
        ("bold", lambda path: path.write_text("../.git/annex/objects/x"), "not an image that can be read"),
        ("bold", lambda path: path.write_text("/annex/objects/MD5E-s1--2.nii.gz"), "not downloaded"),
        ("bold", Path.unlink, "no such file"),
        ("mask", lambda path: write_nifti(path, np.zeros(SHAPE, np.uint8)), "the mask has no voxel"),
        (
            "mask",
            lambda path: write_nifti(path, INSIDE.astype(np.uint8), AFFINE + np.eye(4, k=3) * 500),
            "no voxel on the grid",
        ),
        ("mask", lambda path: write_nifti(path, VALUES[..., 0]), "121 different values; a mask has two"),
        ("mask", lambda path: write_nifti(path, VALUES), r"shape \(5, 6, 4, 12\); expected one volume"),
        ("mask", lambda path: write_nifti(path, np.where(INSIDE, np.nan, 0)), "a mask has two"),
        ("mask", shorten, "damaged|not an image"),
        ("atlas", lambda path: write_nifti(path, ATLAS * 0.5), "whole numbers"),
        ("atlas", lambda path: write_nifti(path, -ATLAS), "none of them negative"),
        (
            "atlas",
            lambda path: write_nifti(path, np.where(INSIDE, 0, 1).astype(np.uint8)),
            "none of its 1 labels has a voxel",
        ),
        ("atlas", lambda path: write_nifti(path, np.zeros(SHAPE, np.uint8)), "none of its 0 labels"),
        ("atlas", lambda path: write_nifti(path, VALUES), "expected one volume"),
    ],
)
def test_what_cannot_be_is_named(name: str, write: Callable[[Path], object], message: str, folder: Path) -> None:
    write(folder / f"{name}.nii.gz")
    with pytest.raises(DataError, match=rf"{name}\.nii\.gz: .*({message})") as caught:
        opened(folder, Volumes("parcels", atlas=folder / "atlas.nii.gz"))
    assert str(caught.value).count("\n") < 3


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("number\tname\n3\ta\n", "no column 'index' or 'value'"),
        ("index\tlabel\n3\ta\n", "no column 'name'"),
        ("index\tname\n3\ta\n7\tb\n", "no name for the atlas's labels 9; is it the table of another"),
        ("index\tname\n3\ta\n7\tb\n7\tc\n9\td\n", "each in one row only"),
        ("index\tname\n3.5\ta\n", "whole numbers"),
        ("index\tname\nx\ta\n", "line 2: index 'x' is not a finite number"),
        ("index\tname\n3\ta\n7\ta\n9\tb\n", "more than one label is named a"),
    ],
)
def test_a_table_of_labels_must_fit_the_atlas(table: str, message: str, folder: Path) -> None:
    (folder / "names.tsv").write_text(table)
    with pytest.raises(DataError, match=rf"names\.tsv.*{message}"):
        opened(folder, Volumes("parcels", atlas=folder / "atlas.nii.gz", labels=folder / "names.tsv"))


def test_spheres_outside_the_brain_are_named(folder: Path) -> None:
    spheres = {"inside": (4.0, -2.0, 0.0), "far": (400.0, 0.0, 0.0), "metres": (0.9, 0.9, 99.0)}
    with pytest.raises(DataError, match=r"mask: far \(400.0, 0.0, 0.0\), metres .*\n.*5 x 6 x 4 voxels"):
        opened(folder, Volumes("spheres", spheres=spheres))


def test_an_image_that_does_not_say_how_it_lies_is_told(folder: Path) -> None:
    image = nibabel.Nifti1Image(VALUES, None)
    image.header["pixdim"][4] = 2.0
    image.to_filename(folder / "bold.nii.gz")
    affine = nibabel.load(folder / "bold.nii.gz").affine
    images = opened(folder, mask=write_nifti(folder / "m.nii.gz", INSIDE.astype(np.uint8), affine))
    assert [finding.code for finding in images.findings] == ["unknown-orientation"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": "parcels"}, "`atlas` and targets: parcels go together"),
        ({"atlas": "a.nii"}, "`atlas` and targets: parcels go together"),
        ({"targets": "spheres"}, "`spheres` and targets: spheres go together"),
        ({"targets": "spheres", "spheres": {}}, "`spheres` and targets: spheres go together"),
        ({"labels": "a.csv"}, "give that too"),
        ({"smoothing_mm": 0}, "smoothing_mm is 0; it must be positive"),
        ({"targets": "spheres", "spheres": {"a": [1, 2, 3]}, "radius_mm": -1}, "radius_mm is -1"),
        ({"targets": "voxel"}, "voxels"),
        ({"smoothing": 3}, "smoothing"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options: dict, message: str) -> None:
    class Loader:
        def __init__(self, volumes: Volumes) -> None: ...

    with pytest.raises(RecipeError, match=message):
        checked_settings(Loader, {"volumes": options}, "dataset")


def test_a_mask_that_hardly_meets_the_data_is_told(tmp_path: Path) -> None:
    image = write_nifti(tmp_path / "bold.nii.gz", planted_volumes((6, 6, 6)), np.diag([3.0, 3, 3, 1]))
    mask = write_nifti(tmp_path / "mask.nii.gz", np.ones((20, 20, 20), np.uint8), np.diag([3.0, 3, 3, 1]))
    findings = open_volumes(image, Volumes(mask=mask), "run").findings
    [finding] = [finding for finding in findings if finding.code == "image-beyond-data"]
    assert finding.message.startswith("only 3% of mask.nii.gz")
