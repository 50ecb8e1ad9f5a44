"""Scores where they belong: on the cortical surface, in the glass brain, at parcels and electrodes.

A map needs to know what the places of the targets are in: ``scores.attrs["space"]`` holds the `Recording.space` of each
subject, and the coordinates of the targets say where in it each is. Where these are missing there is no map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from brainalign.errors import RecipeError, nearest
from brainalign.report.brains import (
    N_VERTICES,
    SIDES,
    SIDES_OF_ANY,
    SURFACE_VIEWS,
    draw_points,
    draw_surface,
    draw_volume,
)
from brainalign.report.curves import Curve, curves, layer_called
from brainalign.report.drawing import STYLE, colour_scale, wrapped
from brainalign.report.figures import HELD_OUT, MEANINGS, SIGNED, WIDTH_IN, CaptionedFigure, best_layer
from brainalign.report.means import VARIABLES, fold_means, layer_table, subject_names
from brainalign.types import Floats, Scores

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

__all__ = ["What", "score_image", "score_map"]

What = Literal["score", "preferred layer"]

# Coordinates that say which target of one subject is which of another's.
KEYS: Mapping[str, tuple[str, ...]] = {
    "volume": ("i", "j", "k"),
    "surface": ("hemisphere", "vertex"),
    "parcels": ("target_name",),
    "electrodes": ("subject", "target_name"),
}
PLACES: Mapping[str, tuple[str, ...]] = {
    "volume": ("i", "j", "k"),
    "surface": ("hemisphere", "vertex"),
    "parcels": ("x", "y", "z"),
    "electrodes": ("x", "y", "z"),
}
SURFACES = ("fsaverage5", "fsaverage6", "fsaverage7", "fsaverage")
HEMISPHERES: Mapping[str, tuple[str, ...]] = {"left": ("L", "l", "left", "lh"), "right": ("R", "r", "right", "rh")}
# Beyond so many targets a preferred layer is shown only where there is something to prefer.
N_ALL_SHOWN = 200
LEAST_SHARE = 0.5
# Other colours than those of the scores, and none of them grey as the bare cortex is.
PREFERRED = "plasma"


@rc_context(STYLE)
def score_map(scores: Scores, what: What = "score", subject: str | None = None) -> CaptionedFigure | None:
    """Draw scores where their targets are: on the cortical surface, or in the brain seen from several sides.

    Surfaces of fsaverage's family are drawn on fsaverage5, volumes as the highest score along each line of sight,
    parcels and electrodes as markers; volumes, parcels and electrodes of MNI's space in the glass brain. Sensors of MEG
    and EEG have `topography`.

    Parameters
    ----------
    scores : Scores
        With ``attrs["space"]`` and the coordinates of `Recording.targets`.
    what : {"score", "preferred layer"}
        The best layer's gain over the baseline (r where there is no baseline), or for each target the layer at which
        that is highest.
    subject : str, optional
        Whose. By default the mean over subjects where they share a standard brain, else the subject with the highest
        mean score; electrodes of all subjects are drawn together.

    Returns
    -------
    CaptionedFigure or None
        None where nothing can be placed, or all layers are one.

    Raises
    ------
    RecipeError
        If there is no such subject, or `what` is neither.

    Examples
    --------
    >>> scores = Scores(
    ...     {"r": (("layer", "fold", "target"), [[[0.1, 0.3]]])},
    ...     coords={
    ...         "feature_space": ("layer", ["gpt2"]), "layer_name": ("layer", ["embedding"]),
    ...         "layer_index": ("layer", [0]), "depth": ("layer", [0.0]),
    ...         "subject": ("target", ["01", "01"]), "target_name": ("target", ["A1 left", "A1 right"]),
    ...         "x": ("target", [-50.0, 50.0]), "y": ("target", [-20.0, -20.0]), "z": ("target", [8.0, 8.0]),
    ...     },
    ...     attrs={"space": {"01": {"kind": "parcels", "unit": "mm", "template": "MNI152NLin2009cAsym"}}},
    ... )
    >>> score_map(scores).caption.partition(",")[0]
    'Map of r of gpt2'
    """
    if what not in get_args(What):
        raise RecipeError(f"There is no map of '{what}'. {nearest(what, get_args(What))}")
    if subject is not None and subject not in subject_names(scores):
        raise RecipeError(f"The scores have no subject '{subject}'. {nearest(subject, subject_names(scores))}")
    best = best_layer(scores)
    placed = None if best is None else _placed(scores, best, subject)
    if best is None or placed is None:
        return None
    curve = next(curve for curve in curves(layer_table(scores)) if best in curve.rows)
    if what == "score":
        norm, colours = colour_scale(placed.of_layer(best), placed.variable in SIGNED)
        mappable, values = ScalarMappable(norm, colours), placed.of_layer(best)
    elif curve.is_single:
        return None
    else:
        values = _preferred(placed, curve)
        mappable = ScalarMappable(Normalize(curve.numbers.min(), curve.numbers.max()), PREFERRED)
    figure = _drawn(placed, values, placed.of_layer(best), mappable, _label(placed, what, curve), what)
    figure.caption = _caption(scores, placed, best, what, curve)
    return figure


def score_image(scores: Scores, subject: str, layer: int | None = None, variable: str | None = None) -> Nifti1Image:
    """Give one subject's scores as a volume, for other programs; voxels that were not scored are NaN.

    Parameters
    ----------
    scores : Scores
        Of a space of kind "volume".
    subject : str
    layer : int, optional
        Place along ``layer``; by default the layer with the highest mean r over subjects.
    variable : {"r", "r2", "r_baseline", "r_joint", "gain"}, optional
        Mean over folds; by default the gain over the baseline, or r where there is no baseline.

    Returns
    -------
    nibabel.Nifti1Image
        float32, in the space of the subject's recordings.

    Raises
    ------
    RecipeError
        If the subject's targets are not voxels, or there is no such subject, layer or variable.
    """
    import nibabel

    space = _spaces(scores).get(subject, {})
    if space.get("kind") != "volume" or not set(PLACES["volume"]) <= set(scores.coords) or "latency" in scores.dims:
        known = [name for name, other in _spaces(scores).items() if other.get("kind") == "volume"]
        raise RecipeError(f"The scores of subject '{subject}' are not of voxels. {nearest(subject, known)}")
    means = fold_means(scores)
    variable = variable or ("gain" if "gain" in means else "r")
    if variable not in means:
        raise RecipeError(f"No variable '{variable}' in these scores. {nearest(variable, VARIABLES)}")
    layer = best_layer(scores) if layer is None else layer
    if layer is None or not 0 <= layer < scores.sizes["layer"]:
        raise RecipeError(f"No layer {layer} in these scores; they have {scores.sizes['layer']}, from 0 on.")
    own = np.flatnonzero(scores["subject"].values.astype(str) == subject)
    values = means[variable].isel(target=own)
    values = values.isel(layer=layer) if "layer" in values.dims else values
    image = np.full(tuple(space["shape"]), np.nan, dtype=np.float32)
    image[tuple(scores[axis].values[own].astype(int) for axis in PLACES["volume"])] = values.values
    return nibabel.Nifti1Image(image, np.asarray(space["affine"], dtype=float))


@dataclass(frozen=True)
class Placed:
    """Scores of targets whose places are known.

    Parameters
    ----------
    space : mapping
        As of `Recording`.
    subjects : tuple of str
        Whose they are, of all those scored.
    n_all : int
        How many subjects were scored.
    variable : str
        "gain" or "r".
    latency_s : float or None
        At which latency.
    places : pandas.DataFrame
        One row per target: its place in the space.
    values : array (layer, target)
        Mean over the subjects who have the target.
    """

    space: Mapping[str, Any]
    subjects: tuple[str, ...]
    n_all: int
    variable: str
    latency_s: float | None
    places: pd.DataFrame
    values: Floats

    @property
    def kind(self) -> str:
        """Of the space."""
        return str(self.space["kind"])

    @property
    def in_mni(self) -> bool:
        """Whether the places are those of MNI's standard brains, whose outline is known."""
        return _standard(self.space).lower().startswith("mni")

    @property
    def xyz_mm(self) -> Floats:
        """Of points, shape (target, 3)."""
        factor = {"m": 1000.0, "cm": 10.0}.get(str(self.space.get("unit", "mm")), 1.0)
        return factor * self.places[["x", "y", "z"]].to_numpy(dtype=float)

    def of_layer(self, row: int) -> Floats:
        """The values of one layer, shape (target,)."""
        return self.values[row]


def _spaces(scores: Scores) -> dict[str, Mapping[str, Any]]:
    """The spaces in which a map can be drawn, by subject."""
    spaces = scores.attrs.get("space") or {}
    return {str(subject): space for subject, space in spaces.items() if _is_drawable(space, set(scores.coords))}


def _is_drawable(space: Mapping[str, Any], coordinates: set[Any]) -> bool:
    kind = space.get("kind")
    if kind not in PLACES or not {*PLACES[kind], "subject", "target_name"} <= coordinates:
        return False
    if kind == "surface":
        return space.get("template") in SURFACES
    return kind != "volume" or ("affine" in space and "shape" in space)


def _standard(space: Mapping[str, Any]) -> str:
    """The standard brain that the places are in; empty for a subject's own."""
    return str(space.get("template") or (space.get("frame") if "mni" in str(space.get("frame")).lower() else "") or "")


def _placed(scores: Scores, best: int, subject: str | None) -> Placed | None:
    """The scores that one map shows; None where no place is known."""
    spaces = _spaces(scores)
    if subject is not None:
        spaces = {name: space for name, space in spaces.items() if name == subject}
    means = fold_means(scores)
    variable = "gain" if "gain" in means else "r"
    values, latency_s = means[variable].transpose("layer", "target", ...), None
    if "latency" in values.dims:
        at = int(values.isel(layer=best).mean("target").fillna(-np.inf).values.argmax())
        values, latency_s = values.isel(latency=at), float(scores["latency"].values[at])
    shown = _shown_subjects(scores, values.isel(layer=best).values, spaces)
    if not shown:
        return None
    space = spaces[shown[0]]
    columns = list(dict.fromkeys((*KEYS[space["kind"]], *PLACES[space["kind"]])))
    table = pd.DataFrame({name: scores[name].values for name in columns})
    grid = values.values
    has_place = table[list(PLACES[space["kind"]])].map(_is_place).all(axis=1).to_numpy()
    rows = np.flatnonzero(
        has_place & np.isin(scores["subject"].values.astype(str), shown) & np.isfinite(grid).any(axis=0)
    )
    if len(rows) == 0:
        return None
    groups = table.iloc[rows].reset_index(drop=True).groupby(list(KEYS[space["kind"]]), sort=False)
    numbers = groups.ngroup().to_numpy()
    # pandas takes the mean over who has a defined score there.
    of_place = pd.DataFrame(grid[:, rows].T).groupby(numbers).mean().to_numpy().T
    return Placed(
        space, tuple(shown), len(subject_names(scores)), variable, latency_s, _first(groups, numbers), of_place
    )


def _first(groups: Any, numbers: np.ndarray) -> pd.DataFrame:
    """The places of the groups, in their order: of targets that subjects share, the first subject's."""
    _, first = np.unique(numbers, return_index=True)
    return groups.obj.iloc[first].reset_index(drop=True)


def _is_place(value: Any) -> bool:
    return bool(np.isfinite(value)) if isinstance(value, int | float | np.number) else str(value) not in ("", "nan")


def _shown_subjects(scores: Scores, best_values: Floats, spaces: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """All subjects where they share a standard brain, else the one with the highest mean score."""
    names = [name for name in subject_names(scores) if name in spaces]
    if not names:
        return []
    kinds = {_identity(spaces[name]) for name in names}
    if len(kinds) == 1 and (len(names) == 1 or _standard(spaces[names[0]])):
        return names
    owner = scores["subject"].values.astype(str)
    mean = pd.Series(best_values).groupby(owner).mean().reindex(names)
    return [names[0] if mean.isna().all() else str(mean.idxmax())]


def _identity(space: Mapping[str, Any]) -> str:
    grid = [np.round(space["affine"], 3).tolist(), list(space["shape"])] if space["kind"] == "volume" else []
    return repr((space["kind"], _standard(space), grid))


def _preferred(placed: Placed, curve: Curve) -> Floats:
    """The number of the layer with the highest score at each target; NaN where there is too little to prefer."""
    values = placed.values[curve.rows]
    filled = np.where(np.isnan(values), -np.inf, values)
    best = filled.max(axis=0)
    shown = np.isfinite(best)
    if len(best) > N_ALL_SHOWN:
        shown &= best >= LEAST_SHARE * np.percentile(best[shown], 99)
    return np.where(shown, curve.numbers[filled.argmax(axis=0)], np.nan)


def _drawn(
    placed: Placed, values: Floats, priority: Floats, colours: ScalarMappable, label: str, what: What
) -> CaptionedFigure:
    figure = CaptionedFigure(figsize=(WIDTH_IN, 4.4), layout="constrained")
    if placed.kind == "surface":
        panels = figure.subplots(2, 2).ravel()
        for (hemisphere, view), axes in zip(SURFACE_VIEWS, panels, strict=True):
            of_vertex = _of_vertices(placed.places, values, hemisphere)
            draw_surface(axes, of_vertex, hemisphere, view, colours, blend=what == "score")
            axes.set_title(f"{hemisphere}, {view}", fontsize=9)
    elif placed.in_mni:
        panels = figure.subplots(2, 2).ravel()
        for side, axes in zip(SIDES, panels, strict=True):
            _draw_from(side, axes, placed, values, priority, colours)
    else:
        figure.set_size_inches(1.3 * WIDTH_IN, 2.6)
        panels = figure.subplots(1, 3)
        for side, axes in zip(SIDES_OF_ANY, panels, strict=True):
            _draw_from(side, axes, placed, values, priority, colours)
    bar = figure.colorbar(colours, ax=panels, label=label, shrink=0.75)
    if what == "preferred layer":
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def _draw_from(side: Any, axes: Any, placed: Placed, values: Floats, priority: Floats, colours: ScalarMappable) -> None:
    # A place without a value must not hide one behind it that has one.
    priority = np.where(np.isfinite(values), priority, np.nan)
    if placed.kind == "volume":
        indices = placed.places[["i", "j", "k"]].to_numpy(dtype=int)
        affine = np.asarray(placed.space["affine"], dtype=float)
        draw_volume(axes, side, indices, affine, values, priority, colours, outline=placed.in_mni)
    else:
        draw_points(axes, side, placed.xyz_mm, values, priority, colours, outline=placed.in_mni)


def _of_vertices(places: pd.DataFrame, values: Floats, hemisphere: str) -> Floats:
    """Values of the vertices of fsaverage5's hemisphere; NaN where nothing was scored."""
    vertex = places["vertex"].to_numpy(dtype=float).astype(int)
    rows = np.flatnonzero(places["hemisphere"].isin(HEMISPHERES[hemisphere]) & (vertex < N_VERTICES))
    of_vertex = np.full(N_VERTICES, np.nan)
    of_vertex[vertex[rows]] = values[rows]
    return of_vertex


def _label(placed: Placed, what: What, curve: Curve) -> str:
    if what == "score":
        return MEANINGS[placed.variable]
    return wrapped(f"layer of {curve.name} with the highest {placed.variable}", 34)


def _caption(scores: Scores, placed: Placed, best: int, what: What, curve: Curve) -> str:
    layer = layer_table(scores).to_dict("records")[best]
    name = layer_called(str(layer["feature_space"]), str(layer["layer_name"]))
    drawn = "the gain in r over the baseline" if placed.variable == "gain" else "r"
    if what == "score":
        parts = [
            f"Map of {drawn} of {name}, the layer with the highest mean r, selected on these same scores; "
            f"{_whose(placed)}."
        ]
    else:
        parts = [
            f"Preferred layer: which layer of {curve.name} has the highest {placed.variable} at each target; "
            f"{_whose(placed)}. "
            "It is selected on these same scores, and noise prefers some layer too."
        ]
        if len(placed.places) > N_ALL_SHOWN:
            parts.append(
                f"Shown where that {placed.variable} is at least {LEAST_SHARE:.0%} of the map's 99th percentile."
            )
    parts += [f"{HELD_OUT}.", _seen(placed)]
    if placed.latency_s is not None:
        parts.append(f"At {placed.latency_s:.2f} s from word onset, the latency of the highest mean {placed.variable}.")
    if what == "score" and placed.variable in SIGNED:
        parts.append("Colours are centred at zero.")
    return " ".join(parts)


def _whose(placed: Placed) -> str:
    shown: Sequence[str] = placed.subjects
    if len(shown) > 1 and placed.kind == "electrodes":
        return f"electrodes of {len(shown)} subjects, none averaged"
    if len(shown) > 1:
        return f"mean over the subjects who have a target there (of n = {len(shown)})"
    if placed.n_all == 1:
        return f"subject {shown[0]}"
    return f"subject {shown[0]}, one of {placed.n_all}, who do not share a map or were not asked for"


def _seen(placed: Placed) -> str:
    template = _standard(placed.space)
    if placed.kind == "surface":
        if template == "fsaverage5":
            return "On the inflated surface of fsaverage5; grey: not scored, sulci darker."
        return (
            f"The scores of {template} at the {N_VERTICES:,} vertices of each hemisphere that fsaverage5 shares with "
            "it, on its inflated surface; grey: not scored, sulci darker."
        )
    space = f"in the space {template}" if template else "in the subject's own space, without an outline"
    if placed.kind == "volume":
        return f"Seen through the brain {space}: along each line of sight the voxel with the highest score."
    marker = "its parcel's centre" if placed.kind == "parcels" else "its electrode"
    return f"Each marker is a target at {marker}, {space}; the highest scores lie in front."
