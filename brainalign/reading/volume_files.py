"""NIfTI files: their grids, their volumes a few at a time, masks computed of them, and images moved onto their grid."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brainalign.archives.local_files import require_file
from brainalign.errors import DataError
from brainalign.types import Floats

if TYPE_CHECKING:
    from nibabel import Nifti1Image

__all__ = ["Grid", "computed_mask", "image_on_grid", "open_series", "volume_blocks"]

# Two affines that place a voxel less than this apart are one; headers keep float32.
SAME_PLACE_MM = 1e-2
# What is read of a run at a time, in float64.
BLOCK_BYTES = 2**26
# What readers of images raise at a file that ends early or is damaged.
DAMAGED = (EOFError, OSError, ValueError, zlib.error)


@dataclass(frozen=True)
class Grid:
    """Where voxels lie: their number along each axis, and indices to mm."""

    shape: tuple[int, int, int]
    affine: Floats

    @classmethod
    def of(cls, image: Nifti1Image) -> Grid:
        """The grid of an image."""
        nx, ny, nz = image.shape[:3]
        return cls((nx, ny, nz), np.asarray(image.affine, dtype=float))

    @property
    def indices(self) -> np.ndarray:
        """The indices of all voxels in C order, shape (voxel, 3)."""
        return np.stack(np.unravel_index(np.arange(np.prod(self.shape)), self.shape), axis=1)

    def is_same(self, other: Grid) -> bool:
        """Whether voxels of the same indices are at the same places."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[[0, n - 1] for n in self.shape])).reshape(3, -1).T
        return float(np.abs(self.places_mm(corners) - other.places_mm(corners)).max()) <= SAME_PLACE_MM

    def places_mm(self, indices: np.ndarray) -> Floats:
        """Where voxels (voxel, axis) are, shape (voxel, 3)."""
        return indices @ self.affine[:3, :3].T + self.affine[:3, 3]

    def __str__(self) -> str:
        rows = "; ".join(" ".join(f"{value:g}" for value in row) for row in self.affine[:3].round(3) + 0.0)
        return f"{' x '.join(map(str, self.shape))} voxels, affine [{rows}]"


def open_series(path: Path) -> Nifti1Image:
    """A run of volumes, its header only.

    Raises
    ------
    DataError
        If it is no NIfTI image (x, y, z, time) of real numbers with places in mm.
    """
    image = _load(path)
    if len(image.shape) != 4 or image.shape[3] < 2:
        single = " That is a single volume." if len(image.shape) == 3 or image.shape[3:] == (1,) else ""
        raise DataError(f"{path}: an image of shape {image.shape}; expected (x, y, z, time).{single}")
    if 0 in image.shape:
        raise DataError(f"{path}: an image of shape {image.shape}, without voxels.")
    return image


def volume_blocks(path: Path, image: Nifti1Image) -> Iterator[Floats]:
    """The volumes of a series, a few at a time, scaled, shape (x, y, z, volume), in the order of the file.

    Raises
    ------
    DataError
        When it meets the place where the file is damaged or ends.
    """
    from nibabel import FileHolder
    from nibabel.openers import ImageOpener

    n_volumes = image.shape[3]
    step = max(1, BLOCK_BYTES // (8 * int(np.prod(image.shape[:3]))))
    # One stream for all blocks: a compressed one is read on, never again from its start.
    with ImageOpener(str(path)) as stream:
        volumes = image.from_file_map({"image": FileHolder(str(path), stream.fobj)}).dataobj
        for start in range(0, n_volumes, step):
            try:
                block = np.asarray(volumes[..., start : start + step])
                if start + step >= n_volumes:
                    # gzip compares its checksum only where the file ends.
                    while stream.read(2**20):
                        pass
            except DAMAGED as error:
                raise _damaged(path, error) from error
            yield block


def computed_mask(path: Path) -> tuple[np.ndarray, int]:
    """The mask that nilearn's `compute_epi_mask` finds in a run, less its voxels that have no signal.

    Returns
    -------
    inside : array (x, y, z) of bool
    n_left_out : int
        How many of the mask's voxels are zero throughout the run, or at some time no number.
    """
    status = require_file(path).stat()
    return _computed_mask(path, status.st_size, status.st_mtime_ns)


# A subject's runs are opened one after another, all with the same reference.
@lru_cache(maxsize=4)
def _computed_mask(path: Path, size: int, modified_ns: int) -> tuple[np.ndarray, int]:
    from nibabel import Nifti1Image
    from nilearn.masking import compute_epi_mask

    image = open_series(path)
    total = np.zeros(image.shape[:3])
    has_signal = np.zeros(image.shape[:3], dtype=bool)
    for block in volume_blocks(path, image):
        total += block.sum(axis=3)
        has_signal |= (block != 0).any(axis=3)
    mean = total / image.shape[3]
    has_signal &= np.isfinite(mean)
    try:
        mask = compute_epi_mask(Nifti1Image(np.where(has_signal, mean, 0.0), image.affine))
    except Exception as error:  # nilearn's heuristics fail in many ways at what is no image of a head
        raise DataError(f"{path}: no mask can be computed of it ({error}); give one as `mask`.") from error
    inside = np.asarray(mask.dataobj) != 0
    if not (inside & has_signal).any():
        raise DataError(f"{path}: the mask computed of it has no voxel; give one as `mask`.")
    kept = inside & has_signal
    kept.flags.writeable = False
    return kept, int(np.count_nonzero(inside & ~has_signal))


def image_on_grid(path: Path, grid: Grid) -> tuple[np.ndarray, float | None]:
    """The values of a 3-D image on a grid, by the nearest voxel.

    Where they had to be moved there, also the share of the image's voxels that are not 0 which lie on the grid; else
    None.
    """
    from nilearn.image import resample_img
    from nilearn.image.resampling import BoundingBoxError

    image = _load(path)
    if len(image.shape) == 4 and image.shape[3] == 1:
        image = image.slicer[..., 0]
    if len(image.shape) != 3:
        raise DataError(f"{path}: an image of shape {image.shape}; expected one volume (x, y, z).")
    covered = None if Grid.of(image).is_same(grid) else _share_on_grid(image, grid)
    try:
        if covered is not None:
            image = resample_img(
                image, target_affine=grid.affine, target_shape=grid.shape, interpolation="nearest", copy_header=True
            )
        return np.asarray(image.dataobj), covered
    except BoundingBoxError:  # nothing of it is where the grid is
        return np.zeros(grid.shape), covered
    except DAMAGED as error:
        raise _damaged(path, error) from error


def _share_on_grid(image: Nifti1Image, grid: Grid) -> float:
    from nibabel.affines import apply_affine

    voxels = np.argwhere(np.asarray(image.dataobj) != 0)
    if len(voxels) == 0:
        return 0.0
    places = apply_affine(np.linalg.inv(grid.affine) @ np.asarray(image.affine, dtype=float), voxels)
    return float(((places > -0.5) & (places < np.array(grid.shape) - 0.5)).all(axis=1).mean())


def _load(path: Path) -> Nifti1Image:
    """The image, its header only."""
    import nibabel

    require_file(path)
    try:
        image = nibabel.load(path)
    except (*DAMAGED, nibabel.filebasedimages.ImageFileError) as error:
        raise DataError(f"{path}: not an image that can be read ({' '.join(str(error).split())[:150]}).") from error
    if not isinstance(image, nibabel.Nifti1Image):
        raise DataError(f"{path}: {type(image).__name__}; expected a NIfTI image (.nii, .nii.gz).")
    affine = np.asarray(image.affine, dtype=float)
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        raise DataError(f"{path}: its affine cannot be one: {affine.tolist()}.")
    if image.get_data_dtype().kind not in "iuf":
        raise DataError(f"{path}: holds {image.get_data_dtype()}, not real numbers.")
    if image.header.get_xyzt_units()[0] in ("meter", "micron"):
        raise DataError(f"{path}: its places are in {image.header.get_xyzt_units()[0]}; save it with an affine in mm.")
    return image


def _damaged(path: Path, error: BaseException) -> DataError:
    reason = " ".join(str(error).split())[:120]
    return DataError(f"{path}: damaged, or it ends early ({reason}); fetch or copy it again.")
