"""fMRI volumes (NIfTI) as responses: the voxels of a mask, or means over parcels or spheres.

Each target is a set of voxels, found once, from headers, mask and atlas. A run is then read a few volumes at a time:
scaled and smoothed in float64, averaged, kept as float32. nilearn computes masks, resamples and smooths. Its maskers,
which the tests compare with, hold a run several times over and put 0 in place of what is no number; here that stays
NaN, so that checks of the data find it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import ConfigDict

from brainalign.errors import DataError, RecipeError, listed, nearest
from brainalign.reading.images import Images, Notes, checked_tr, mean_of_sets, sets_of
from brainalign.reading.tables import read_table
from brainalign.reading.volume_files import Grid, computed_mask, image_on_grid, open_series, volume_blocks
from brainalign.types import Floats

if TYPE_CHECKING:
    from nibabel import Nifti1Image
    from scipy.sparse import csr_array

__all__ = ["Images", "Volumes", "open_volumes", "volume_of_scores"]

# Less of a mask or atlas than this on the data's grid deserves to be told.
MOSTLY = 0.9
SECONDS_PER_UNIT = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}


@dataclass(frozen=True)
class Volumes:
    """Which targets are made of fMRI volumes; the key `volumes` of a dataset in a recipe.

    Parameters
    ----------
    targets : {"voxels", "parcels", "spheres"}
        The voxels of the mask, or means over the labels of an atlas, or over spheres.
    mask : Path, optional
        Image of 0 and 1. By default the one that comes with the data (fMRIPrep's ``desc-brain_mask``); where none
        does, it is computed of the subject's first run.
    atlas : Path, optional
        For parcels: an image of whole numbers, 0 where no label is.
    labels : Path, optional
        Names of the atlas's labels: a csv or tsv file with the columns ``index`` (or ``value``) and ``name``.
    spheres : mapping of str to (x, y, z), optional
        For spheres: their centres in mm, by name.
    radius_mm : float
        Of the spheres.
    smoothing_mm : float, optional
        Full width at half maximum of a Gaussian with which volumes are smoothed first.

    Raises
    ------
    RecipeError
        If settings are missing, or are given that these targets do not use.

    Examples
    --------
    >>> Volumes("spheres", spheres={"left IFG": (-48, 18, 12)}).radius_mm
    6.0
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    targets: Literal["voxels", "parcels", "spheres"] = "voxels"
    mask: Path | None = None
    atlas: Path | None = None
    labels: Path | None = None
    spheres: Mapping[str, tuple[float, float, float]] | None = None
    radius_mm: float = 6.0
    smoothing_mm: float | None = None

    def __post_init__(self) -> None:
        if (self.targets == "parcels") != (self.atlas is not None):
            raise RecipeError("volumes: `atlas` and targets: parcels go together; give both or neither.")
        if (self.targets == "spheres") != bool(self.spheres):
            raise RecipeError("volumes: `spheres` and targets: spheres go together; give both or neither.")
        if self.labels is not None and self.atlas is None:
            raise RecipeError("volumes: `labels` are the names of an `atlas`; give that too.")
        for name in ("radius_mm", "smoothing_mm"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise RecipeError(f"volumes: {name} is {value:g}; it must be positive.")


def open_volumes(
    image: Path,
    settings: Volumes,
    where: str,
    *,
    reference: Path | None = None,
    mask: Path | None = None,
    template: str | None = None,
    tr_s: float | None = None,
) -> Images:
    """Say what a run of volumes holds, by its header, mask and atlas.

    Parameters
    ----------
    image : Path
        The run: NIfTI, (x, y, z, time).
    settings : Volumes
        Which targets.
    where : str
        The recording, for findings.
    reference : Path, optional
        The subject's first run: `image` must lie on its grid, and of it the mask is computed where none is given, so
        that all runs have the same targets. `image` itself by default.
    mask : Path, optional
        The mask that comes with the data; that of the settings goes first.
    template : str, optional
        The standard brain that the data lie in.
    tr_s : float, optional
        Seconds from volume to volume where that is known from elsewhere (a sidecar); goes before the header's.

    Raises
    ------
    DataError
        If the image, mask or atlas is missing, damaged or no such thing; the image has no time axis or lies on another
        grid than the reference; its TR is unknown or cannot be one; or the mask, or a sphere, has no voxel.

    Notes
    -----
    A mask that is given is taken as it is, voxels without signal too. From a computed one, voxels that are zero
    throughout the first run, or not numbers, are left out, and counted.

    Reading takes the memory of what is returned, 4 bytes a number, and that of a few volumes: at most 64 MB as
    float64, a few times that where they are smoothed.

    Examples
    --------
    >>> import tempfile
    >>> import nibabel
    >>> bold, brain = np.zeros((2, 2, 2, 9), np.float32), np.zeros((2, 2, 2), np.uint8)
    >>> bold[1, 0, 1], brain[1, 0, 1] = np.arange(9), 1
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, values in (("bold.nii", bold), ("mask.nii", brain)):
    ...         nibabel.Nifti1Image(values, np.diag([3.0, 3, 3, 1])).to_filename(f"{folder}/{name}")
    ...     images = open_volumes(
    ...         Path(folder) / "bold.nii", Volumes(), "run 1", mask=Path(folder) / "mask.nii", tr_s=1.5
    ...     )
    ...     images.read().ravel()
    array([0., 1., 2., 3., 4., 5., 6., 7., 8.], dtype=float32)
    >>> print(images.targets.to_string(index=False))
     name  kind  i  j  k   x   y   z
    1 0 1 voxel  1  0  1 3.0 0.0 3.0
    """
    from scipy.sparse import csr_array

    run = open_series(image)
    grid = Grid.of(run)
    if reference is not None and reference != image:
        _check_same_grid(image, grid, reference, Grid.of(open_series(reference)))
    notes = Notes(where)
    if int(run.header["sform_code"]) == int(run.header["qform_code"]) == 0:
        notes.find("unknown-orientation", f"{image.name}: its header does not say how voxels lie; x, y, z are guesses.")
    tr_s = checked_tr(image, _header_tr_s(run), tr_s, notes)

    if settings.smoothing_mm:
        notes.steps.append(f"smoothed, {settings.smoothing_mm:g} mm FWHM")
    inside = _mask(settings.mask or mask, reference or image, grid, notes)
    targets, members = _members(settings, grid, inside, notes)
    voxels = np.unique(members.indices)
    weights = None if settings.targets == "voxels" else csr_array(members[:, voxels])
    # In the order of the file, so that a volume is gathered in one go.
    flat = np.ravel_multi_index(np.unravel_index(voxels, grid.shape), grid.shape, order="F")
    return Images(
        targets=targets,
        space=_space(settings, grid, template),
        tr_s=tr_s,
        n_volumes=run.shape[3],
        read=partial(_read_volumes, image, flat, weights, settings.smoothing_mm),
        steps=tuple(notes.steps),
        findings=tuple(notes.findings),
    )


def volume_of_scores(
    values: Floats, targets: pd.DataFrame, space: Mapping[str, Any], *, atlas: Path | None = None
) -> Nifti1Image:
    """Put one number per target back into a brain image, NaN elsewhere; where spheres overlap, their mean.

    Parameters
    ----------
    values : array (target,)
        The scores.
    targets, space
        Of `Images` that `open_volumes` gave.
    atlas : Path, optional
        For parcels: the label image, whose voxels get the scores of their labels.

    Raises
    ------
    DataError
        If there is not one number per target, or no atlas for parcels.

    Examples
    --------
    >>> targets = pd.DataFrame({"name": ["1 0 1"], "kind": ["voxel"], "i": [1], "j": [0], "k": [1]})
    >>> space = {"kind": "volume", "affine": np.eye(4).tolist(), "shape": [2, 2, 2]}
    >>> float(volume_of_scores(np.array([0.25]), targets, space).get_fdata()[1, 0, 1])
    0.25
    """
    from nibabel import Nifti1Image

    grid = Grid(tuple(space["shape"]), np.asarray(space["affine"], dtype=float))
    values = np.asarray(values, dtype=np.float32)
    if values.shape != (len(targets),):
        raise DataError(f"scores of shape {values.shape} for {len(targets)} targets.")
    if (targets["kind"] == "voxel").all():
        volume = np.full(grid.shape, np.nan, dtype=np.float32)
        volume[tuple(targets[list("ijk")].to_numpy(dtype=int).T)] = values
        return Nifti1Image(volume, grid.affine)
    if (targets["kind"] == "parcel").all():
        if atlas is None:
            raise DataError("the scores are of parcels; name the atlas to put them into its voxels.")
        members = sets_of(_label_image(atlas, grid, Notes("")).ravel(), np.asarray(targets["label"]))
    else:
        members = _within_spheres(np.asarray(targets[list("xyz")], dtype=float), space["radius_mm"], grid)
    return Nifti1Image(mean_of_sets(values[np.newaxis], members.T.tocsr()).reshape(grid.shape), grid.affine)


def _space(settings: Volumes, grid: Grid, template: str | None) -> dict[str, Any]:
    """What `volume_of_scores` needs besides the table of targets; JSON-able."""
    space = {
        "kind": "volume" if settings.targets == "voxels" else "parcels",
        "unit": "mm",
        "template": template,
        "affine": grid.affine.tolist(),
        "shape": list(grid.shape),
    }
    return space | ({"radius_mm": settings.radius_mm} if settings.targets == "spheres" else {})


def _header_tr_s(run: Nifti1Image) -> float:
    """NaN where the last axis is of another unit than time."""
    step = float(np.asarray(run.header["pixdim"])[4])
    return step * SECONDS_PER_UNIT.get(str(run.header.get_xyzt_units()[1]), np.nan)


def _check_same_grid(path: Path, grid: Grid, other_path: Path, other: Grid) -> None:
    if not grid.is_same(other):
        raise DataError(
            f"{path} has {grid};\n{other_path} has {other}.\nResample the runs of a subject to one grid first."
        )


# The mask


def _mask(path: Path | None, reference: Path, grid: Grid, notes: Notes) -> np.ndarray:
    """Which voxels are in the mask, of the grid's shape."""
    if path is not None:
        values, covered = image_on_grid(path, grid)
        resampled = covered is not None
        _tell_coverage(path, covered, notes)
        kinds = np.unique(values[values != 0])
        if len(kinds) > 1 or not np.isfinite(kinds).all():
            raise DataError(
                f"{path}: holds {len(kinds) + 1} different values; a mask has two, 0 and 1. Threshold it first."
            )
        if len(kinds) == 0:
            raise DataError(f"{path}: the mask has no voxel" + (" on the grid of the data." if resampled else "."))
        notes.steps.append(
            f"voxels of the mask {path.name}" + (", resampled to the data (nearest)" if resampled else "")
        )
        return values != 0
    inside, n_left_out = computed_mask(reference)
    notes.steps.append("voxels of a mask computed of the first run (nilearn's compute_epi_mask)")
    message = f"no mask is given; one of {int(inside.sum())} voxels was computed of {reference.name}."
    notes.find("computed-mask", message)
    if n_left_out:
        message = f"{n_left_out} voxels of the computed mask are zero throughout {reference.name}, or not numbers."
        notes.find("voxels-without-signal", message + " They are left out.")
    return inside


def _tell_coverage(path: Path, covered: float | None, notes: Notes) -> None:
    if covered is not None and covered < MOSTLY:
        message = f"only {covered:.0%} of {path.name} lies where the data are; is it of the same space?"
        notes.find("image-beyond-data", message)


# Which voxels make a target


def _members(settings: Volumes, grid: Grid, inside: np.ndarray, notes: Notes) -> tuple[pd.DataFrame, csr_array]:
    """The table of targets, and which voxels each has: (target, voxel in C order)."""
    from scipy.sparse import csr_array

    if settings.atlas is not None:
        return _parcels(settings.atlas, settings.labels, grid, inside, notes)
    if settings.spheres:
        return _spheres(settings.spheres, settings.radius_mm, grid, inside, notes)
    indices = np.argwhere(inside)
    voxels = np.flatnonzero(inside)
    members = csr_array((np.ones(len(voxels)), (np.arange(len(voxels)), voxels)), shape=(len(voxels), inside.size))
    names = [f"{i} {j} {k}" for i, j, k in indices.tolist()]
    numbers = dict(zip("ijk", indices.T, strict=True))
    return pd.DataFrame({"name": names, "kind": "voxel", **numbers, **_xyz(grid.places_mm(indices))}), members


def _parcels(
    atlas: Path, table: Path | None, grid: Grid, inside: np.ndarray, notes: Notes
) -> tuple[pd.DataFrame, csr_array]:
    image = _label_image(atlas, grid, notes)
    labels = np.where(inside, image, 0).ravel()
    there = np.unique(image[image != 0])
    names = _label_names(table, there) if table else {label: f"parcel {label}" for label in there.tolist()}
    found = np.unique(labels[labels != 0])
    if len(found) == 0:
        raise DataError(f"{atlas}: none of its {len(there)} labels has a voxel of the data's mask.")
    empty = [name for label, name in names.items() if label not in set(found.tolist())]
    if empty:
        message = (
            f"{len(empty)} of {len(names)} parcels of {atlas.name} have no voxel and are left out: {listed(empty)}."
        )
        notes.find("empty-parcel", message)
    notes.steps.append(f"mean over the voxels of each parcel of {atlas.name}, those that are numbers")
    members = sets_of(labels, found)
    count = np.diff(members.indptr)
    centroids = grid.places_mm((members @ grid.indices) / count[:, np.newaxis])
    targets = pd.DataFrame(
        {
            "name": [names[label] for label in found.tolist()],
            "kind": "parcel",
            "label": found,
            **_xyz(centroids),
            "n_voxels": count,
        }
    )
    return targets, members


def _label_image(path: Path, grid: Grid, notes: Notes) -> np.ndarray:
    values, covered = image_on_grid(path, grid)
    resampled = covered is not None
    _tell_coverage(path, covered, notes)
    values = np.where(np.isfinite(values), values, 0)
    if (values != np.round(values)).any() or (values < 0).any():
        raise DataError(f"{path}: an atlas has whole numbers as labels, none of them negative; this has others.")
    if resampled:
        notes.steps.append(f"atlas {path.name} resampled to the data (nearest)")
    return values.astype(int)


def _label_names(path: Path, labels: np.ndarray) -> dict[int, str]:
    """The names of the labels in a table, which must have all that the atlas has."""
    table = read_table(path)
    column = next((name for name in ("index", "value") if name in table.columns), None)
    if column is None:
        raise DataError(
            f"{path}: no column 'index' or 'value' with the atlas's labels. {nearest('index', table.columns)}"
        )
    numbers = table.numbers(column)
    if (numbers != np.round(numbers)).any() or len(set(numbers.tolist())) < len(numbers):
        raise DataError(f"{path}: the labels in '{column}' must be whole numbers, each in one row only.")
    names = {int(number): name for number, name in zip(numbers, table.texts("name"), strict=True) if number != 0}
    unnamed = [label for label in labels.tolist() if not names.get(label)]
    if unnamed:
        raise DataError(f"{path}: no name for the atlas's labels {listed(unnamed)}; is it the table of another atlas?")
    twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if twice:
        raise DataError(f"{path}: more than one label is named {listed(twice)}; names tell targets apart.")
    return names


def _spheres(
    spheres: Mapping[str, tuple[float, float, float]],
    radius_mm: float,
    grid: Grid,
    inside: np.ndarray,
    notes: Notes,
) -> tuple[pd.DataFrame, csr_array]:
    from scipy.sparse import diags_array

    centres = np.array(list(spheres.values()), dtype=float)
    members = (_within_spheres(centres, radius_mm, grid) @ diags_array(inside.ravel().astype(float))).tocsr()
    members.eliminate_zeros()
    count = np.diff(members.indptr)
    if (count == 0).any():
        empty = [f"{name} {tuple(spheres[name])}" for name, n in zip(spheres, count, strict=True) if n == 0]
        raise DataError(
            f"spheres without a voxel of the data's mask: {listed(empty)}.\n"
            f"The data have {grid}; centres are in mm of the same space."
        )
    notes.steps.append(f"mean over the voxels within {radius_mm:g} mm of each centre, those that are numbers")
    return pd.DataFrame({"name": list(spheres), "kind": "sphere", **_xyz(centres), "n_voxels": count}), members


def _within_spheres(centres_mm: Floats, radius_mm: float, grid: Grid) -> csr_array:
    """Which voxels' centres are within the radius, and the voxel that a centre lies in: (sphere, voxel)."""
    from scipy.sparse import csr_array

    places = grid.places_mm(grid.indices)
    own = np.round(np.linalg.solve(grid.affine, np.c_[centres_mm, np.ones(len(centres_mm))].T)[:3]).astype(int)
    rows, voxels = [], []
    for sphere, (centre, index) in enumerate(zip(centres_mm, own.T, strict=True)):
        within = ((places - centre) ** 2).sum(axis=1) <= radius_mm**2
        if ((index >= 0) & (index < grid.shape)).all():
            within[np.ravel_multi_index(tuple(index), grid.shape)] = True
        voxels.append(np.flatnonzero(within))
        rows.append(np.full(len(voxels[-1]), sphere))
    row, voxel = np.concatenate(rows), np.concatenate(voxels)
    return csr_array((np.ones(len(row)), (row, voxel)), shape=(len(centres_mm), len(places)))


def _xyz(places_mm: Floats) -> dict[str, Floats]:
    return dict(zip("xyz", places_mm.T, strict=True))


# The numbers


def _read_volumes(path: Path, voxels: np.ndarray, weights: csr_array | None, smoothing_mm: float | None) -> Floats:
    """The series of voxels, by their place in the file, or their means; shape (volume, target), float32."""
    image = open_series(path)
    n_targets = len(voxels) if weights is None else len(weights.indptr) - 1
    series = np.empty((image.shape[3], n_targets), dtype=np.float32)
    start = 0
    for block in volume_blocks(path, image):
        if smoothing_mm:
            block = _smoothed(block, Grid.of(image).affine, smoothing_mm)
        values = block.reshape(-1, block.shape[3], order="F").T[:, voxels]  # (volume, voxel)
        stop = start + len(values)
        try:
            with np.errstate(over="raise"):
                series[start:stop] = values if weights is None else mean_of_sets(values, weights)
        except FloatingPointError as error:
            raise DataError(f"{path}: holds numbers too large for float32 (3.4e38); rescale them.") from error
        start = stop
    return series


def _smoothed(block: Floats, affine: Floats, smoothing_mm: float) -> Floats:
    """Volumes smoothed; what is no number counts as 0 for its neighbours and stays none."""
    from nibabel import Nifti1Image
    from nilearn.image import smooth_img

    unknown = ~np.isfinite(block)
    image = Nifti1Image(np.where(unknown, 0.0, block), affine)
    smoothed = np.asarray(smooth_img(image, smoothing_mm).dataobj)
    return np.where(unknown, np.nan, smoothed)
