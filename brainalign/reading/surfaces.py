"""fMRI on the cortical surface as responses: GIFTI time series of two hemispheres, and CIFTI dense series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from brainalign.archives.local_files import require_file
from brainalign.errors import DataError, listed
from brainalign.reading.images import LONGEST_TR_S, Images, Notes, checked_tr, mean_of_sets, sets_of
from brainalign.types import Floats

if TYPE_CHECKING:
    from nibabel import Cifti2Image
    from nibabel.cifti2 import BrainModelAxis
    from scipy.sparse import csr_array

__all__ = ["open_cifti", "open_surfaces", "surfaces_of_scores"]

HEMISPHERES = ("L", "R")
ANATOMY = {"L": "CortexLeft", "R": "CortexRight"}
CORTEX = {"CIFTI_STRUCTURE_CORTEX_LEFT": "L", "CIFTI_STRUCTURE_CORTEX_RIGHT": "R"}
# The GIFTI standard wants the first for time series; several programs leave it out.
SERIES_INTENTS = ("NIFTI_INTENT_TIME_SERIES", "NIFTI_INTENT_NONE")
# What parcellations call vertices that are in no parcel.
BACKGROUND = ("", "???", "unknown", "medial_wall", "medial wall", "background+freesurfer_defined_medial_wall")


def open_surfaces(
    left: Path,
    right: Path,
    where: str,
    *,
    labels: tuple[Path, Path] | None = None,
    template: str | None = None,
    tr_s: float | None = None,
) -> Images:
    """Say what a run on the surfaces of both hemispheres holds; of the files only the tags are read.

    Parameters
    ----------
    left, right : Path
        GIFTI time series (``.func.gii``): one array of vertices per volume, or one array (volume, vertex).
    where : str
        The recording, for findings.
    labels : (Path, Path), optional
        A parcellation of the left and of the right hemisphere, ``.label.gii`` or ``.annot``; targets are then the means
        over its parcels. By default they are the vertices, those of the left hemisphere first.
    template : str, optional
        The surface: "fsaverage6".
    tr_s : float, optional
        Seconds from volume to volume where that is known from elsewhere (a sidecar); goes before the files' own.

    Raises
    ------
    DataError
        If a file is missing, damaged, of the other hemisphere or holds no time series; the hemispheres have not the
        same number of volumes; the TR is not known; or the labels are of another surface.

    Notes
    -----
    GIFTI's ``TimeStep`` is in milliseconds as FreeSurfer writes it and in seconds as others do; above 20 it is taken
    for milliseconds. FreeSurfer writes 0 where it does not know it.

    Reading takes the memory of what is returned, 4 bytes a number, and that of one hemisphere's file.

    Vertices of the medial wall, which hold NaN or zeros, are targets like others; checks of the data find them.
    """
    notes = Notes(where)
    headers = [_gifti_header(path) for path in (left, right)]
    for hemisphere, header in zip(HEMISPHERES, headers, strict=True):
        anatomy = header.meta.get("AnatomicalStructurePrimary", ANATOMY[hemisphere])
        if anatomy in ANATOMY.values() and anatomy != ANATOMY[hemisphere]:
            raise DataError(f"{header.path}: it is of {anatomy}, given as hemisphere {hemisphere}; exchange the two.")
    n_volumes, others = (header.shape[0] for header in headers)
    if n_volumes != others:
        raise DataError(f"{left} has {n_volumes} volumes, {right} has {others}; one of them is of another run.")
    n_vertices = [header.shape[1] for header in headers]
    tr_s = checked_tr(left, headers[0].time_step_s, tr_s, notes)
    targets, weights = _vertices(n_vertices), None
    if labels is not None:
        targets, weights = _surface_parcels(labels, n_vertices, notes)
    kind = "surface" if labels is None else "parcels"
    return Images(
        targets=targets,
        space={"kind": kind, "template": template, "n_vertices": n_vertices},
        tr_s=tr_s,
        n_volumes=n_volumes,
        read=partial(_read_surfaces, tuple(headers), weights),
        steps=tuple(notes.steps),
        findings=tuple(notes.findings),
    )


def open_cifti(
    path: Path,
    where: str,
    *,
    parcels: Path | None = None,
    template: str | None = None,
    tr_s: float | None = None,
) -> Images:
    """Say what a CIFTI dense series holds, by its header.

    Parameters
    ----------
    path : Path
        The run (``.dtseries.nii``): vertices of the cortex, and voxels of what lies below.
    where : str
        The recording, for findings.
    parcels : Path, optional
        A parcellation (``.dlabel.nii``); targets are then the means over its parcels. By default they are the series'
        own vertices and voxels, in its order.
    template : str, optional
        The surface: "fsLR".
    tr_s : float, optional
        Seconds from volume to volume where that is known from elsewhere; goes before the header's.

    Returns
    -------
    Images
        Its targets have ``structure`` ("CORTEX_LEFT", "THALAMUS_LEFT" ...) as well; where something is no vertex of a
        hemisphere, ``hemisphere`` is empty, and ``vertex``, or ``i``, ``j``, ``k``, are -1.

    Raises
    ------
    DataError
        If the file is missing, damaged or no dense series in time; its time step is not known; or the parcellation has
        none of its vertices and voxels.

    Notes
    -----
    Reading takes the memory of what is returned, 4 bytes a number, and once more where the file holds another type.
    """
    notes = Notes(where)
    image = _load_cifti(path)
    time, models = _series_axes(path, image)
    tr_s = checked_tr(path, float(time.step), tr_s, notes)
    targets, weights = _grayordinates(models), None
    space: dict[str, Any] = {
        "kind": "surface" if parcels is None else "parcels",
        "template": template,
        "n_vertices": [int(models.nvertices.get(structure, 0)) for structure in CORTEX],
    }
    if models.affine is not None and models.volume_shape is not None:
        space |= {"unit": "mm", "affine": np.asarray(models.affine).tolist(), "shape": list(models.volume_shape)}
    if parcels is not None:
        targets, weights = _cifti_parcels(parcels, targets, notes)
    return Images(
        targets=targets,
        space=space,
        tr_s=tr_s,
        n_volumes=len(time),
        read=partial(_read_cifti, path, weights),
        steps=tuple(notes.steps),
        findings=tuple(notes.findings),
    )


def surfaces_of_scores(values: Floats, targets: pd.DataFrame, space: Mapping[str, Any]) -> tuple[Floats, Floats]:
    """Put one number per target back onto the left and the right surface, NaN elsewhere.

    Parameters
    ----------
    values : array (target,)
        The scores.
    targets, space
        Of vertices, from `open_surfaces` or `open_cifti`.

    Returns
    -------
    left, right : array (vertex,)

    Examples
    --------
    >>> targets = pd.DataFrame({"kind": "vertex", "hemisphere": ["L", "R"], "vertex": [1, 0]})
    >>> surfaces_of_scores(np.array([0.5, 0.25]), targets, {"n_vertices": [2, 1]})
    (array([nan, 0.5], dtype=float32), array([0.25], dtype=float32))
    """
    if len(values) != len(targets):
        raise DataError(f"{len(values)} scores for {len(targets)} targets.")
    left, right = (np.full(n, np.nan, dtype=np.float32) for n in space["n_vertices"])
    for hemisphere, surface in zip(HEMISPHERES, (left, right), strict=True):
        chosen = np.asarray((targets["kind"] == "vertex") & (targets["hemisphere"] == hemisphere))
        surface[np.asarray(targets["vertex"])[chosen]] = values[chosen]
    return left, right


# GIFTI


@dataclass(frozen=True)
class _GiftiHeader:
    """What the tags of a GIFTI time series say: its shape (volume, vertex), and whether that is one array's."""

    path: Path
    shape: tuple[int, int]
    is_one_array: bool
    meta: Mapping[str, str]

    @property
    def time_step_s(self) -> float:
        """NaN where there is none."""
        try:
            step = float(self.meta.get("TimeStep", "nan"))
        except ValueError as error:
            raise DataError(f"{self.path}: TimeStep is {self.meta['TimeStep']!r}, not a number.") from error
        return step / 1000 if step > LONGEST_TR_S else step


def _gifti_header(path: Path) -> _GiftiHeader:
    arrays, meta = _gifti_tags(path)
    intents = sorted({array.get("Intent", "") for array in arrays})
    if not arrays or not set(intents) <= set(SERIES_INTENTS):
        raise DataError(f"{path}: its intent is {listed(intents) or 'none'}; expected {SERIES_INTENTS[0]}.")
    if any(array.get("ExternalFileName") for array in arrays):
        raise DataError(f"{path}: keeps its numbers in another file; save them into this one.")
    shapes = {tuple(int(array[f"Dim{i}"]) for i in range(int(array["Dimensionality"]))) for array in arrays}
    shape = next(iter(shapes))
    is_one_array = len(arrays) == 1 and len(shape) == 2
    if len(shapes) > 1 or (len(arrays) == 1) != is_one_array or 0 in shape or (len(shape) != 1 and not is_one_array):
        raise DataError(
            f"{path}: {len(arrays)} arrays of shape {listed(sorted(shapes))}; expected one of all vertices per volume."
        )
    # A surface has more vertices than a run has volumes, whichever way round they were written.
    return _GiftiHeader(path, (min(shape), max(shape)) if is_one_array else (len(arrays), shape[0]), is_one_array, meta)


def _gifti_tags(path: Path) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The attributes of each array, and the first of each entry of metadata; the numbers are passed over."""
    from xml.parsers.expat import ParserCreate

    from nibabel.openers import ImageOpener

    require_file(path)
    arrays: list[dict[str, str]] = []
    meta: dict[str, str] = {}
    text: list[str] = []
    names: list[str] = []
    parser = ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "DataArray":
            arrays.append(attributes)
        text.clear()
        parser.CharacterDataHandler = text.append if tag in ("Name", "Value") else None

    def end(tag: str) -> None:
        if tag == "Name":
            names.append("".join(text).strip())
        elif tag == "Value":
            meta.setdefault(names[-1], "".join(text).strip())
        parser.CharacterDataHandler = None

    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        with ImageOpener(str(path)) as stream:
            parser.ParseFile(stream)
    except Exception as error:  # a damaged file is met as whatever expat, gzip and we stumble over
        raise _damaged(path, "GIFTI", error) from error
    return arrays, meta


def _vertices(n_vertices: Sequence[int]) -> pd.DataFrame:
    vertex = np.concatenate([np.arange(n) for n in n_vertices])
    hemisphere = np.repeat(HEMISPHERES, n_vertices)
    names = [f"{side} {i}" for side, i in zip(hemisphere.tolist(), vertex.tolist(), strict=True)]
    return pd.DataFrame({"name": names, "kind": "vertex", "hemisphere": hemisphere, "vertex": vertex})


def _surface_parcels(
    paths: tuple[Path, Path], n_vertices: Sequence[int], notes: Notes
) -> tuple[pd.DataFrame, csr_array]:
    rows: list[dict[str, Any]] = []
    parcel_of = []
    for hemisphere, path, n in zip(HEMISPHERES, paths, n_vertices, strict=True):
        labels, names = _surface_labels(path)
        if labels.shape != (n,):
            raise DataError(f"{path}: labels of {len(labels)} vertices; the data have {n} in hemisphere {hemisphere}.")
        kept = _kept_labels(path, names, labels, notes)
        number = {label: len(rows) + i for i, label in enumerate(kept)}
        parcel_of.append(np.array([number.get(label, -1) for label in labels.tolist()]))
        rows += [
            {"name": f"{hemisphere} {names[label]}", "kind": "parcel", "hemisphere": hemisphere, "label": label}
            for label in kept
        ]
    members = sets_of(np.concatenate(parcel_of), np.arange(len(rows)))
    return pd.concat([pd.DataFrame(rows), pd.DataFrame({"n_vertices": np.diff(members.indptr)})], axis=1), members


def _surface_labels(path: Path) -> tuple[np.ndarray, dict[int, str]]:
    """The label of each vertex, and the labels' names."""
    import nibabel

    require_file(path)
    try:
        if path.suffix == ".annot":
            labels, _, names = nibabel.freesurfer.read_annot(path)
            return np.asarray(labels), {i: name.decode() for i, name in enumerate(names)}
        image = nibabel.GiftiImage.from_filename(path)
        [labels] = [array.data for array in image.get_arrays_from_intent("NIFTI_INTENT_LABEL")]
        return np.asarray(labels).astype(int), dict(image.labeltable.get_labels_as_dict())
    except Exception as error:  # as above
        raise _damaged(path, "parcellation (.label.gii, .annot)", error) from error


def _kept_labels(path: Path, names: Mapping[int, str], labels: np.ndarray, notes: Notes) -> list[int]:
    """The labels that are parcels and have a vertex; tells of the others."""
    found = set(np.unique(labels).tolist())
    unnamed = sorted(label for label in found if label > 0 and label not in names)
    if unnamed:
        raise DataError(f"{path}: no name for its labels {listed(unnamed)}.")
    parcels = [label for label in sorted(names) if names[label].lower() not in BACKGROUND]
    kept = [label for label in parcels if label in found]
    if not kept:
        raise DataError(
            f"{path}: none of its labels ({listed(list(names.values()))}) has a vertex or voxel of the data."
        )
    if len({names[label] for label in kept}) < len(kept):
        raise DataError(f"{path}: several labels have the same name; names tell targets apart.")
    if len(kept) < len(parcels):
        empty = [names[label] for label in parcels if label not in found]
        message = f"{len(empty)} of {len(parcels)} parcels of {path.name} are nowhere in the data and left out: "
        notes.find("empty-parcel", f"{message}{listed(empty)}.")
    n_outside = int(np.count_nonzero(~np.isin(labels, kept)))
    notes.steps.append(
        f"mean over each parcel of {path.name}, of what is a number; {n_outside} of {len(labels)} places are in none"
    )
    return kept


def _read_surfaces(headers: Sequence[_GiftiHeader], weights: csr_array | None) -> Floats:
    series = np.empty((headers[0].shape[0], sum(header.shape[1] for header in headers)), dtype=np.float32)
    stop = 0
    for header in headers:
        start, stop = stop, stop + header.shape[1]
        _fill_from_gifti(header, series[:, start:stop])
    return series if weights is None else mean_of_sets(series, weights)


def _fill_from_gifti(header: _GiftiHeader, series: Floats) -> None:
    import nibabel

    try:
        arrays = [array.data for array in nibabel.GiftiImage.from_filename(header.path).darrays]
        if header.is_one_array:
            series[:] = arrays[0] if arrays[0].shape == series.shape else arrays[0].T
            return
        for row, values in zip(series, arrays, strict=True):
            row[:] = values
    except Exception as error:  # as above
        raise _damaged(header.path, "GIFTI", error) from error


# CIFTI


def _load_cifti(path: Path) -> Cifti2Image:
    import nibabel

    require_file(path)
    try:
        image = nibabel.load(path)
    except Exception as error:  # as above
        raise _damaged(path, "CIFTI", error) from error
    if not isinstance(image, nibabel.Cifti2Image):
        raise DataError(f"{path}: {type(image).__name__}, not CIFTI-2; volumes are read by the key `volumes`.")
    return image


def _series_axes(path: Path, image: Cifti2Image) -> tuple[Any, BrainModelAxis]:
    from nibabel.cifti2 import BrainModelAxis, SeriesAxis

    axes = [image.header.get_axis(i) for i in range(image.ndim)]
    found = ", ".join(type(axis).__name__.removesuffix("Axis") for axis in axes)
    if len(axes) != 2 or not isinstance(axes[0], SeriesAxis) or not isinstance(axes[1], BrainModelAxis):
        raise DataError(f"{path}: its axes are {found}; expected a dense series (Series, BrainModel; .dtseries.nii).")
    if axes[0].unit != "SECOND":
        raise DataError(f"{path}: its series runs in {str(axes[0].unit).lower()}, not in seconds.")
    return axes[0], axes[1]


def _grayordinates(models: BrainModelAxis) -> pd.DataFrame:
    """One row per column of a dense file."""
    is_vertex = np.asarray(models.surface_mask)
    structures = np.asarray(models.name).tolist()
    structure = [name.removeprefix("CIFTI_STRUCTURE_") for name in structures]
    hemisphere = [CORTEX.get(name, "") for name in structures]
    voxel = np.asarray(models.voxel)
    places = np.full(voxel.shape, np.nan)
    if models.affine is not None:
        places[~is_vertex] = voxel[~is_vertex] @ models.affine[:3, :3].T + models.affine[:3, 3]
    names = [
        f"{side or area} {vertex}" if surface else f"{area} {i} {j} {k}"
        for side, area, vertex, (i, j, k), surface in zip(
            hemisphere, structure, models.vertex.tolist(), voxel.tolist(), is_vertex.tolist(), strict=True
        )
    ]
    return pd.DataFrame(
        {
            "name": names,
            "kind": np.where(is_vertex, "vertex", "voxel"),
            "structure": structure,
            "hemisphere": hemisphere,
            "vertex": models.vertex,
            **dict(zip("ijk", voxel.T, strict=True)),
            **dict(zip("xyz", places.T, strict=True)),
        }
    )


def _cifti_parcels(path: Path, targets: pd.DataFrame, notes: Notes) -> tuple[pd.DataFrame, csr_array]:
    from nibabel.cifti2 import BrainModelAxis, LabelAxis

    image = _load_cifti(path)
    axes = [image.header.get_axis(i) for i in range(image.ndim)]
    if len(axes) != 2 or not isinstance(axes[0], LabelAxis) or not isinstance(axes[1], BrainModelAxis):
        raise DataError(f"{path}: not a parcellation of vertices and voxels (.dlabel.nii).")
    if len(axes[0]) != 1:
        raise DataError(f"{path}: holds {len(axes[0])} parcellations; save one of them alone.")
    place = ["structure", "vertex", "i", "j", "k"]
    known = _grayordinates(axes[1])[place].assign(label=np.asarray(image.dataobj)[0].astype(int))
    labels = np.asarray(targets[place].merge(known, how="left", on=place)["label"].fillna(-1), dtype=int)
    names = {int(label): name for label, (name, _) in axes[0].label[0].items()}
    kept = _kept_labels(path, names, labels, notes)
    members = sets_of(labels, np.array(kept))
    parcels = {"name": [names[label] for label in kept], "kind": "parcel", "label": kept}
    return pd.DataFrame({**parcels, "n_grayordinates": np.diff(members.indptr)}), members


def _read_cifti(path: Path, weights: csr_array | None) -> Floats:
    image = _load_cifti(path)
    try:
        series = np.array(image.get_fdata(dtype=np.float32, caching="unchanged"), order="C")
    except Exception as error:  # as above
        raise _damaged(path, "CIFTI", error) from error
    return series if weights is None else mean_of_sets(series, weights)


def _damaged(path: Path, kind: str, error: BaseException) -> DataError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:150]
    return DataError(f"{path}: not a whole {kind} file ({reason}).")
