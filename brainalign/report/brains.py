"""Brains to draw on: the cortical surface from four sides, the glass brain, and projections without an outline.

Arrays in, drawings out: what is drawn, of whom, and what to say of it is `brainalign.report.maps`'s.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from numpy.typing import NDArray

from brainalign.types import Floats

__all__ = ["N_VERTICES", "SIDES", "SIDES_OF_ANY", "SURFACE_VIEWS", "Side", "draw_points", "draw_surface", "draw_volume"]

# Of a hemisphere of fsaverage5. Finer members of its family begin with the same vertices, since each mesh was made by
# dividing the triangles of the one before.
N_VERTICES = 10_242
SURFACE_VIEWS = (("left", "lateral"), ("right", "lateral"), ("left", "medial"), ("right", "medial"))

Side = Literal["left", "right", "back", "top"]
SIDES: tuple[Side, ...] = ("left", "right", "back", "top")
# Which axes of (x, y, z) run along a picture's width and height, and along the line of sight.
AXES: dict[Side, tuple[int, int, int]] = {"left": (1, 2, 0), "right": (1, 2, 0), "back": (0, 2, 1), "top": (0, 1, 2)}
# Without an outline nobody knows where the midline is.
SIDES_OF_ANY: tuple[Side, ...] = ("left", "back", "top")
SCHEMATICS: dict[Side, str] = {"left": "l", "right": "r", "back": "y", "top": "z"}
OUTLINE = {"alpha": 0.5, "linewidth": 0.7}
# Gyri and sulci where nothing was scored.
BARE = (0.86, 0.74)
MARKER_PT2 = 40.0


def draw_surface(
    axes: Axes, values: Floats, hemisphere: str, view: str, colours: ScalarMappable, *, blend: bool = True
) -> None:
    """Draw one hemisphere of fsaverage5, inflated, with the colours of `values`.

    Parameters
    ----------
    axes : matplotlib Axes
    values : array (vertex,)
        Of the hemisphere; NaN where nothing was scored, which stays grey, sulci darker than gyri.
    hemisphere : {"left", "right"}
    view : {"lateral", "medial"}
    colours : ScalarMappable
    blend : bool
        Whether a triangle shows the mean of its corners (of an amount) or the first of them (of a number of a layer).
    """
    xyz, faces, is_sulcus = _fsaverage5(hemisphere)
    towards = 1.0 if (hemisphere == "right") == (view == "lateral") else -1.0  # along x, to who looks
    corners = xyz[faces]  # (face, corner, axis)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing = towards * normal[:, 0] / np.linalg.norm(normal, axis=1)
    order = np.argsort(towards * corners[:, :, 0].mean(axis=1))
    order = order[facing[order] > 0]
    of_face = values[faces[order]].mean(axis=1) if blend else values[faces[order, 0]]
    bare = np.where(is_sulcus[faces[order, 0]], BARE[1], BARE[0])
    rgb = np.repeat(bare[:, None], 3, axis=1)
    scored = np.isfinite(of_face)
    rgb[scored] = colours.to_rgba(of_face[scored])[:, :3]
    rgb *= (0.75 + 0.25 * facing[order])[:, None]
    flat = corners[order][:, :, 1:] * [towards, 1.0]
    # Edges of the faces' own colour close the seams between them.
    axes.add_collection(PolyCollection(list(flat), facecolors=rgb, edgecolors=rgb, linewidths=0.25, rasterized=True))
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.autoscale_view()


def draw_volume(
    axes: Axes,
    side: Side,
    indices: NDArray[np.intp],
    affine: Floats,
    values: Floats,
    priority: Floats,
    colours: ScalarMappable,
    *,
    outline: bool,
) -> None:
    """Draw voxels as seen through a transparent head: along each line of sight the one of the highest `priority`.

    Parameters
    ----------
    axes : matplotlib Axes
    side : {"left", "right", "back", "top"}
        From where; with an outline, left and right show one hemisphere each.
    indices : array (voxel, 3)
    affine : array (4, 4)
        From indices to millimetres; of an oblique volume the nearest axes are taken.
    values, priority : array (voxel,)
        What the colours say; which of the voxels behind each other is seen.
    colours : ScalarMappable
    outline : bool
        Whether to draw the brain of MNI's space around it.
    """
    from nibabel.orientations import io_orientation

    orientation = io_orientation(affine)
    axis_of = np.argsort(orientation[:, 0])  # which index runs along x, y, z
    sizes_mm = np.linalg.norm(affine[:3, :3], axis=0)[axis_of]
    mm = indices @ affine[:3, :3].T + affine[:3, 3]
    steps = indices[:, axis_of] * orientation[axis_of, 1].astype(int)
    shown = np.isfinite(priority) & (_in_sight(mm[:, 0], side) if outline else True)
    if shown.any():
        across, up, _ = AXES[side]
        first = steps[shown].min(axis=0)
        column, row = (steps[shown] - first)[:, [across, up]].T
        picture = np.full((row.max() + 1, column.max() + 1), np.nan)
        order = np.argsort(priority[shown], kind="stable")
        picture[row[order], column[order]] = values[shown][order]
        low = np.array([mm[shown][steps[shown][:, axis] == first[axis], axis].mean() for axis in range(3)])
        edges = [
            (low[axis] - sizes_mm[axis] / 2, low[axis] + sizes_mm[axis] * (n - 0.5))
            for axis, n in ((across, picture.shape[1]), (up, picture.shape[0]))
        ]
        lowest, highest = colours.get_clim()
        axes.imshow(
            picture,
            origin="lower",
            extent=(*edges[0], *edges[1]),
            cmap=colours.cmap,
            vmin=lowest,
            vmax=highest,
            interpolation="nearest",
        )
    _finish(axes, side, mm, outline=outline)


def draw_points(
    axes: Axes, side: Side, xyz_mm: Floats, values: Floats, priority: Floats, colours: ScalarMappable, *, outline: bool
) -> None:
    """Draw markers at these places, shape (target, 3), those of the highest `priority` in front."""
    shown = np.flatnonzero(np.isfinite(values) & (_in_sight(xyz_mm[:, 0], side) if outline else True))
    shown = shown[np.argsort(priority[shown], kind="stable")]
    across, up, _ = AXES[side]
    # Many small ones where many would hide each other.
    size = max(5.0, MARKER_PT2 / max(1.0, len(xyz_mm) / 150.0))
    axes.scatter(
        xyz_mm[shown, across],
        xyz_mm[shown, up],
        s=size,
        c=colours.to_rgba(values[shown]),
        edgecolors="#333333",
        linewidths=0.3,
        zorder=3,
    )
    _finish(axes, side, xyz_mm, outline=outline)


def _finish(axes: Axes, side: Side, mm: Floats, *, outline: bool) -> None:
    axes.set_aspect("equal")
    axes.set_title(f"from the {side}" if side != "top" else "from above", fontsize=9)
    across, up, _ = AXES[side]
    if outline:
        from nilearn.plotting.glass_brain import plot_brain_schematics  # slow to import

        left, right, bottom, top = plot_brain_schematics(axes, SCHEMATICS[side], **OUTLINE)
        axes.set_axis_off()
    else:
        (left, bottom), (right, top) = mm[:, [across, up]].min(axis=0) - 5, mm[:, [across, up]].max(axis=0) + 5
        axes.tick_params(labelsize=7)
        axes.set_xlabel(f"{'xyz'[across]} (mm)", fontsize=8, labelpad=1)
        axes.set_ylabel(f"{'xyz'[up]} (mm)", fontsize=8, labelpad=1)
    # Seen from the left, the nose is on the left.
    axes.set(xlim=(right, left) if side == "left" else (left, right), ylim=(bottom, top))


def _in_sight(x_mm: Floats, side: Side) -> NDArray[np.bool_]:
    if side == "left":
        return x_mm <= 0
    return x_mm >= 0 if side == "right" else np.ones(len(x_mm), dtype=bool)


@cache
def _fsaverage5(hemisphere: str) -> tuple[Floats, NDArray[np.intp], NDArray[np.bool_]]:
    """Places (vertex, 3) and triangles of the inflated hemisphere that nilearn carries; which vertices are sulci."""
    from nilearn.datasets import load_fsaverage, load_fsaverage_data

    mesh = load_fsaverage("fsaverage5")["inflated"].parts[hemisphere]
    depth = load_fsaverage_data("fsaverage5", mesh_type="inflated", data_type="sulcal").data.parts[hemisphere]
    return np.asarray(mesh.coordinates), np.asarray(mesh.faces), np.asarray(depth).ravel() > 0
