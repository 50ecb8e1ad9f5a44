"""Small fMRI images in the formats of archives: NIfTI, GIFTI, CIFTI, and what fMRIPrep lays beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from nibabel.cifti2 import BrainModelAxis, Cifti2Image, LabelAxis, SeriesAxis
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiLabel, GiftiLabelTable

# Left is right, as radiologists and fMRIPrep have it.
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -12], [0, 0, 3, -6], [0, 0, 0, 1]])
CORTEX = {"L": "CIFTI_STRUCTURE_CORTEX_LEFT", "R": "CIFTI_STRUCTURE_CORTEX_RIGHT"}


def planted_volumes(shape: tuple[int, int, int] = (5, 6, 4), n_volumes: int = 12, seed: int = 0) -> np.ndarray:
    """Noise about 100, of which each voxel's is its own; (x, y, z, time), float32."""
    return np.random.default_rng(seed).normal(100, 10, (*shape, n_volumes)).astype(np.float32)


def write_nifti(
    path: Path, values: np.ndarray, affine: np.ndarray = AFFINE, tr: float = 1.5, time_unit: str = "sec"
) -> Path:
    """A NIfTI image of `values`; of four axes with a TR."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", time_unit)
    image.set_sform(affine, 1)
    if values.ndim == 4:
        image.header["pixdim"][4] = tr
    image.to_filename(path)
    return path


def write_gifti(
    path: Path,
    series: np.ndarray,
    *,
    time_step: str | None = "1500.000000",
    intent: str = "NIFTI_INTENT_TIME_SERIES",
    anatomy: str | None = None,
) -> Path:
    """A GIFTI image of a series (time, vertex), one array per volume, as FreeSurfer and fMRIPrep write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = {} if time_step is None else {"TimeStep": time_step}
    rows = [
        GiftiDataArray(row.astype(np.float32), intent=intent, datatype="NIFTI_TYPE_FLOAT32", meta=meta)
        for row in series
    ]
    image = GiftiImage(darrays=rows)
    if anatomy is not None:
        image.meta["AnatomicalStructurePrimary"] = anatomy
    image.to_filename(path)
    return path


def write_gifti_labels(path: Path, labels: np.ndarray, names: Mapping[int, str]) -> Path:
    """A ``.label.gii`` file: a label per vertex, and what labels are called."""
    table = GiftiLabelTable()
    for key, name in names.items():
        label = GiftiLabel(key=key, red=0.5, green=0.5, blue=0.5, alpha=1.0)
        label.label = name
        table.labels.append(label)
    array = GiftiDataArray(labels.astype(np.int32), intent="NIFTI_INTENT_LABEL", datatype="NIFTI_TYPE_INT32")
    GiftiImage(darrays=[array], labeltable=table).to_filename(path)
    return path


def write_annot(path: Path, labels: np.ndarray, names: Sequence[str]) -> Path:
    """FreeSurfer's annotation: for each vertex the number of its name, -1 where it has none."""
    colours = np.array([[10 + i, 20 + i, 30 + i, 0] for i in range(len(names))])
    nibabel.freesurfer.write_annot(path, labels, colours, list(names), fill_ctab=True)
    return path


def grayordinates(
    n_vertices: tuple[int, int] = (10, 8), shape: tuple[int, int, int] = (4, 4, 3), affine: np.ndarray = AFFINE
) -> BrainModelAxis:
    """Cortex without its first vertex on either side (a medial wall), and two voxels of the left thalamus."""
    surfaces = [
        BrainModelAxis.from_surface(np.arange(1, n), n, CORTEX[side].removeprefix("CIFTI_STRUCTURE_"))
        for side, n in zip("LR", n_vertices, strict=True)
    ]
    mask = np.zeros(shape, dtype=bool)
    mask[1, 2, 0] = mask[3, 0, 2] = True
    return surfaces[0] + surfaces[1] + BrainModelAxis.from_mask(mask, "THALAMUS_LEFT", affine)


def write_cifti(
    path: Path, series: np.ndarray, axis: BrainModelAxis | None = None, tr_s: float = 0.72, unit: str = "SECOND"
) -> Path:
    """A ``.dtseries.nii`` file of a series (time, grayordinate)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = SeriesAxis(0, tr_s, len(series), unit)
    Cifti2Image(series.astype(np.float32), (time, axis or grayordinates())).to_filename(path)
    return path


def write_cifti_labels(path: Path, labels: np.ndarray, names: Mapping[int, str], axis: BrainModelAxis) -> Path:
    """A ``.dlabel.nii`` file: a label per grayordinate, and what labels are called."""
    colours = {key: (name, (0.5, 0.5, 0.5, 1.0)) for key, name in names.items()}
    Cifti2Image(labels[np.newaxis].astype(np.float32), (LabelAxis(["atlas"], [colours]), axis)).to_filename(path)
    return path


def fmriprep_confounds(n_volumes: int, seed: int = 0) -> pd.DataFrame:
    """Columns as fMRIPrep's: motion and tissue with derivatives (first row NaN) and squares, drifts, components."""
    rng = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {}
    for name in ("csf", "white_matter", *(f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz")):
        values = rng.normal(size=n_volumes).cumsum()
        slope = np.r_[np.nan, np.diff(values)]
        columns |= {name: values, f"{name}_derivative1": slope, f"{name}_power2": values**2}
        columns[f"{name}_derivative1_power2"] = slope**2
    for i in range(8):
        columns[f"a_comp_cor_{i:02d}"] = rng.normal(size=n_volumes)
    for i in range(3):
        columns[f"cosine{i:02d}"] = np.cos(np.pi * (i + 1) * (np.arange(n_volumes) + 0.5) / n_volumes)
    return pd.DataFrame(columns)


def write_confounds(path: Path, table: pd.DataFrame) -> Path:
    """fMRIPrep's table of confounds (its name must end in ``desc-confounds_timeseries.tsv``), and its sidecar."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    # Of two masks, so that who takes the first five regardless takes wrong ones.
    components = [name for name in table if str(name).startswith("a_comp_cor")]
    sidecar = {
        name: {"Mask": "CSF" if i < 2 else "combined", "Method": "aCompCor", "Retained": True}
        for i, name in enumerate(components)
    }
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path


def write_fmriprep_run(
    folder: Path,
    name: str,
    values: np.ndarray,
    *,
    space: str = "MNI152NLin2009cAsym",
    mask: np.ndarray | None = None,
    tr_s: float = 1.5,
    affine: np.ndarray = AFFINE,
) -> Path:
    """What fMRIPrep leaves of a run: volumes, their sidecar and mask, and confounds; gives the path of the volumes.

    Parameters
    ----------
    folder : Path
        The folder ``func`` of the subject.
    name : str
        The run's entities: "sub-01_task-black".
    values : array (x, y, z, time)
    mask : array (x, y, z), optional
        All voxels by default.
    """
    image = write_nifti(folder / f"{name}_space-{space}_desc-preproc_bold.nii.gz", values, affine, tr_s)
    image.with_name(f"{name}_space-{space}_desc-preproc_bold.json").write_text(json.dumps({"RepetitionTime": tr_s}))
    inside = np.ones(values.shape[:3]) if mask is None else mask
    write_nifti(folder / f"{name}_space-{space}_desc-brain_mask.nii.gz", inside.astype(np.uint8), affine)
    confounds = fmriprep_confounds(values.shape[3])
    write_confounds(folder / f"{name}_desc-confounds_timeseries.tsv", confounds)
    return image
