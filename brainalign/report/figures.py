"""Figures of scores. Each function gives a matplotlib Figure with a caption, which a notebook shows as it is.

pyplot is never used, so that nothing of the caller's session (open figures, its backend, its style) is changed. Names
that come from data are drawn letter by letter, never read as mathematics.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import pandas as pd
import xarray as xr

# This module does nothing but draw, and is itself loaded on first use, so matplotlib may stand here.
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from brainalign.errors import RecipeError, nearest
from brainalign.report.means import VARIABLES, fold_means, layer_table, mean_by
from brainalign.report.tables import group_profile, summary
from brainalign.types import Scores

__all__ = ["CaptionedFigure", "layer_by_latency", "layer_profile", "region_by_layer", "topography"]

# Okabe and Ito's colours without yellow, told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
BASELINE_COLOUR = "#555555"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 10,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "text.usetex": False,
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
WIDTH_IN = 5.4
N_TARGETS_SHOWN = 40
N_MAPS = 6
SENSOR_KINDS = ("sensor", "channel", "meg", "eeg", "mag", "grad", "magnetometer", "gradiometer")
MEANINGS = {
    "r": "r of the layer alone",
    "r2": "R² of the layer alone",
    "r_baseline": "r of the baseline alone",
    "r_joint": "r of baseline and layer together",
    "gain": "gain in r over the baseline",
}
SIGNED = ("gain", "r2")
HELD_OUT = "r: Pearson correlation of predicted and measured response in each held-out fold, averaged over folds"


class CaptionedFigure(Figure):
    """A matplotlib Figure with a `caption`, which shows itself in a notebook even where pyplot was never loaded."""

    caption: str = ""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=144)
        return buffer.getvalue()


@rc_context(STYLE)
def layer_profile(scores: Scores, space: str | None = None) -> CaptionedFigure:
    """Draw r, and below it the gain over the baseline, layer by layer.

    Parameters
    ----------
    scores : Scores
        Averaged over folds, targets and latencies for each subject (thin lines), then over subjects (thick line, with
        a band of one standard error where there are two or more).
    space : str, optional
        One feature space; all by default, over relative depth, since they may differ in their numbers of layers.

    Raises
    ------
    RecipeError
        If there is no such feature space.

    Examples
    --------
    >>> scores = Scores(
    ...     {"r": (("layer", "fold", "target"), [[[0.1]], [[0.3]]])},
    ...     coords={
    ...         "feature_space": ("layer", ["gpt2", "gpt2"]), "layer_name": ("layer", ["embedding", "block 1"]),
    ...         "layer_index": ("layer", [0, 1]), "depth": ("layer", [0.0, 1.0]),
    ...         "subject": ("target", ["01"]), "target_name": ("target", ["STG"]),
    ...     },
    ... )
    >>> figure = layer_profile(scores)
    >>> figure.axes[0].get_xlabel()
    'layer of gpt2'
    >>> figure.savefig("profile.svg")  # doctest: +SKIP
    """
    table, layers = summary(scores), layer_table(scores)
    spaces = _chosen(layers, space)
    table = table[table["feature_space"].isin(spaces)]
    variables = ["r", "gain"] if "gain" in table else ["r"]
    figure = CaptionedFigure(figsize=(WIDTH_IN, 1.4 + 2.2 * len(variables)), layout="constrained")
    panels = figure.subplots(len(variables), 1, sharex=True, squeeze=False, height_ratios=(3, 2)[: len(variables)])
    panels = dict(zip(variables, panels[:, 0], strict=True))
    if "r_baseline" in table:
        _draw_level(panels["r"], table.groupby("subject", sort=False)["r_baseline"].mean())
    for i, name in enumerate(spaces):
        x = layers[layers["feature_space"] == name].set_index("layer", drop=False)[
            "depth" if len(spaces) > 1 else "layer"
        ]
        for variable, axes in panels.items():
            by_layer = table[table["feature_space"] == name].pivot(index="layer", columns="subject", values=variable)
            _draw_lines(axes, x.loc[by_layer.index].to_numpy(), by_layer, COLOURS[i % len(COLOURS)], _short(name))
    _finish_profile(panels, spaces)
    n_subjects = _n_subjects(table)
    figure.caption = _profile_caption(scores, table, n_subjects)
    panels["r"].set_title(_sample(n_subjects, table["n_targets"]), loc="left")
    return figure


@rc_context(STYLE)
def region_by_layer(scores: Scores, variable: str = "r") -> CaptionedFigure:
    """Draw a heat map of targets x layers, averaged over the subjects who have a target of that name.

    Parameters
    ----------
    scores : Scores
        Averaged over folds and latencies.
    variable : {"r", "r2", "r_joint", "gain"}
        What to draw; R² and gain, which have a sign that matters, in colours centred at zero.

    Raises
    ------
    RecipeError
        If the scores have no such variable, or it does not differ between layers.
    """
    means = fold_means(scores)
    known = [name for name in VARIABLES if name in means and "layer" in means[name].dims]
    if variable not in known:
        raise RecipeError(f"No variable '{variable}' by layer in these scores. {nearest(variable, known)}")
    values = means[variable].mean("latency") if "latency" in means[variable].dims else means[variable]
    grid = mean_by(values, "target_name").transpose("target_name", "layer")
    n_names = grid.sizes["target_name"]
    if n_names > N_TARGETS_SHOWN:
        grid = grid.isel(target_name=_highest(grid.values, N_TARGETS_SHOWN))
    figure = CaptionedFigure(figsize=(WIDTH_IN, 1.3 + 0.2 * max(grid.sizes["target_name"], 8)), layout="constrained")
    axes = figure.subplots()
    _heat_map(figure, axes, grid.values, MEANINGS[variable], signed=variable in SIGNED)
    axes.invert_yaxis()
    axes.set_yticks(range(len(grid)), labels=[_short(name) for name in grid["target_name"].values], parse_math=False)
    _mark_layers(axes, axes.xaxis, layer_table(scores))
    axes.set_ylabel("target")
    figure.caption = _grid_caption(scores, variable, n_names)
    return figure


@rc_context(STYLE)
def layer_by_latency(scores: Scores) -> CaptionedFigure:
    """Draw r of word-locked responses by layer and latency, and below it the time course of the best layer.

    Parameters
    ----------
    scores : Scores
        With latencies; averaged over folds, then over each subject's targets, then over subjects.

    Raises
    ------
    RecipeError
        If the scores have no latencies.
    """
    if "latency" not in scores.dims:
        raise RecipeError("These scores have no latencies: their responses are not word-locked. Use layer_profile.")
    means, layers = fold_means(scores), layer_table(scores)
    r = mean_by(means["r"], "subject").transpose("subject", "layer", "latency")
    latency_s = scores["latency"].values.astype(float)
    figure = CaptionedFigure(figsize=(WIDTH_IN, 5.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _heat_map(figure, top, r.mean("subject").values, MEANINGS["r"], x=latency_s)
    _mark_layers(top, top.yaxis, layers)
    best = _best_layer(scores)
    if best is not None:
        label = f"layer {layers['layer'][best]}" + (
            f" of {layers['feature_space'][best]}" if layers["feature_space"].nunique() > 1 else ""
        )
        _draw_lines(bottom, latency_s, _courses(r.isel(layer=best)), COLOURS[0], _short(label))
        if "r_baseline" in means:
            baseline = mean_by(means["r_baseline"], "subject")
            baseline = baseline.isel(layer=best) if "layer" in baseline.dims else baseline
            _draw_mean(bottom, latency_s, _courses(baseline), BASELINE_COLOUR, "baseline alone", "--")
        _legend(bottom)
    for axes in (top, bottom):
        axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    bottom.axhline(0, color="black", linewidth=0.8)
    bottom.set(xlabel="latency from word onset (s)", ylabel="r", xlim=_edges(latency_s)[[0, -1]])
    figure.caption = _latency_caption(int(r.notnull().any(["layer", "latency"]).sum()), best is not None)
    return figure


@rc_context(STYLE)
def topography(scores: Scores) -> CaptionedFigure | None:
    """Draw sensor maps of r at the best layer, at a few latencies.

    Targets of the same name are averaged over subjects and sensors at the same place (a magnetometer and its
    gradiometers) with each other. Places are projected to the plane by angle from the top of a sphere that is fitted
    to them (azimuthal equidistant); +y is the nose and +x the right, as in MNE, in any unit.

    Returns
    -------
    CaptionedFigure or None
        None where there is nothing to map: fewer than four places of targets of the kinds "sensor", "channel",
        "meg", "eeg", "mag", "grad", "magnetometer" or "gradiometer" with finite ``x``, ``y``, ``z``, or no defined r.
    """
    best, places = _best_layer(scores), _sensor_places(scores)
    if best is None or places is None:
        return None
    r = fold_means(scores)["r"].isel(layer=best)
    r = r.isel(target=places.index.to_numpy())
    names = mean_by(r, "target_name")
    xyz = places.groupby(r["target_name"].values.astype(str), sort=False).mean()
    xyz, grid = _merge_places(xyz.to_numpy(), names.values.reshape(len(xyz), -1))
    defined = np.isfinite(grid).all(axis=1)
    if defined.sum() < 4:
        return None
    shown = _shown_latencies(grid[defined])
    titles = [_seconds(s) for s in scores["latency"].values[shown]] if "latency" in scores.dims else [""]
    figure = _draw_maps(_project(xyz)[defined], grid[defined][:, shown], titles)
    figure.caption = _map_caption(scores, best, int((~defined).sum()))
    return figure


def _chosen(layers: pd.DataFrame, space: str | None) -> list[str]:
    spaces = layers["feature_space"].unique().tolist()
    if space is None:
        return spaces
    if space not in spaces:
        raise RecipeError(f"No feature space '{space}' in these scores. {nearest(space, spaces)}")
    return [space]


def _n_subjects(table: pd.DataFrame) -> int:
    """How many subjects have a defined r."""
    return int(table.loc[table["r"].notna(), "subject"].nunique())


def _draw_lines(axes: Axes, x: np.ndarray, by_subject: pd.DataFrame, colour: str, label: str) -> None:
    """Draw each column of `by_subject` thin, then their mean."""
    if by_subject.notna().any().sum() > 1:
        axes.plot(x, by_subject.to_numpy(), color=colour, linewidth=0.5, alpha=0.35)
    _draw_mean(axes, x, by_subject, colour, label)


def _draw_mean(axes: Axes, x: np.ndarray, by_subject: pd.DataFrame, colour: str, label: str, style: str = "-") -> None:
    """Draw the mean of the columns thick, with a band of one standard error where there are two or more."""
    mean, se = by_subject.mean(axis=1).to_numpy(), by_subject.sem(axis=1).to_numpy()
    # Without a marker a profile of one layer would be invisible.
    marker = "o" if len(x) <= 1 else None
    axes.plot(x, mean, color=colour, linewidth=2, linestyle=style, marker=marker, label=label)
    if np.isfinite(se).any() and len(x) > 1:
        axes.fill_between(x, mean - se, mean + se, color=colour, alpha=0.25, linewidth=0)
    elif np.isfinite(se).any():
        axes.errorbar(x, mean, yerr=se, color=colour, capsize=4)


def _draw_level(axes: Axes, by_subject: pd.Series) -> None:
    """Draw the mean of one value per subject across the panel, with its standard error as a band."""
    mean, se = by_subject.mean(), by_subject.std() / np.sqrt(by_subject.count())
    if np.isfinite(mean):
        axes.axhline(mean, color=BASELINE_COLOUR, linestyle="--", linewidth=1.5, label="baseline alone")
    if np.isfinite(se):
        axes.axhspan(mean - se, mean + se, color=BASELINE_COLOUR, alpha=0.2, linewidth=0)


def _finish_profile(panels: dict[str, Axes], spaces: Sequence[str]) -> None:
    *_, last = panels.values()
    if len(spaces) > 1:
        last.set_xlabel("relative depth (0: first layer, 1: last layer)")
    else:
        last.set_xlabel(f"layer of {_short(spaces[0])}")
        last.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels["r"].set_ylabel("r")
    if "gain" in panels:
        panels["gain"].axhline(0, color="black", linewidth=0.8)
        panels["gain"].set_ylabel("gain in r over\nthe baseline")
    _legend(panels["r"])


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best")


def _heat_map(
    figure: Figure, axes: Axes, grid: np.ndarray, label: str, *, signed: bool = False, x: np.ndarray | None = None
) -> None:
    """Draw `grid` (row, column) with its colour bar; the columns are at `x`, or counted."""
    columns = np.arange(grid.shape[1]) if x is None else x
    norm, colours = _colours(grid, signed)
    axes.set_facecolor("#dddddd")  # undefined cells are grey, a colour of neither map
    mesh = axes.pcolormesh(
        _edges(columns), np.arange(grid.shape[0] + 1) - 0.5, grid, norm=norm, cmap=colours, rasterized=True
    )
    figure.colorbar(mesh, ax=axes, label=label)
    axes.spines[:].set_visible(False)


def _colours(grid: np.ndarray, signed: bool) -> tuple[Normalize, str]:
    """The scale and the colour map: diverging around zero, or sequential from zero or the lowest value below it."""
    finite = grid[np.isfinite(grid)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    if signed:
        span = max(abs(low), abs(high)) or 1.0
        return TwoSlopeNorm(0.0, -span, span), "PuOr_r"
    return Normalize(min(0.0, low), high if high > min(0.0, low) else min(0.0, low) + 1.0), "viridis"


def _edges(centres: np.ndarray) -> np.ndarray:
    """The borders of cells around evenly spaced `centres`; one more than they are."""
    step = np.diff(centres).mean() if len(centres) > 1 else 1.0
    return np.r_[centres - step / 2, centres[-1] + step / 2]


def _mark_layers(axes: Axes, axis: Axis, layers: pd.DataFrame) -> None:
    """Name the cells along `axis` by layer index, and the feature spaces where there are several."""
    spaces = layers["feature_space"].unique().tolist()
    every = max(1, -(-len(layers) // 12))
    shown = layers.index[layers["layer"] % every == 0].to_numpy()
    # The last label of one space must not run into the first of the next.
    shown = shown[np.r_[np.diff(shown) > every / 2, True]]
    axis.set_ticks(shown, labels=layers["layer"][shown].astype(str))
    axis.set_label_text(f"layer of {_short(spaces[0])}" if len(spaces) == 1 else "layer")
    for space in spaces if len(spaces) > 1 else []:
        _mark_space(axes, axis, layers.index[layers["feature_space"] == space].to_numpy(), _short(space, 20))


def _mark_space(axes: Axes, axis: Axis, rows: np.ndarray, name: str) -> None:
    """Write the name of a feature space beside its cells, and part it from the one before."""
    if axis is axes.xaxis:
        axes.axvline(rows[0] - 0.5, color="white", linewidth=2)
        axes.text(rows.mean(), 1.02, name, transform=axes.get_xaxis_transform(), ha="center")
    else:
        axes.axhline(rows[0] - 0.5, color="white", linewidth=2)
        place = axes.get_yaxis_transform()
        axes.text(1.02, rows.mean(), name, transform=place, rotation=270, va="center")


def _highest(grid: np.ndarray, n_rows: int) -> np.ndarray:
    """The `n_rows` rows with the highest maximum, highest first; undefined rows come last."""
    peak = np.where(np.isnan(grid), -np.inf, grid).max(axis=1)
    return np.argsort(-peak, kind="stable")[:n_rows]


def _best_layer(scores: Scores) -> int | None:
    """The place along ``layer`` of the highest mean r over subjects; None where no r is defined."""
    r = group_profile(scores)["r"]
    return None if r.isna().all() else int(r.idxmax())


def _courses(by_subject: xr.DataArray) -> pd.DataFrame:
    """Rows are latencies, columns subjects."""
    return pd.DataFrame(by_subject.transpose("latency", "subject").values)


def _sensor_places(scores: Scores) -> pd.DataFrame | None:
    """x, y, z of the sensors, indexed by their place along ``target``; None where there are fewer than four."""
    if not {"x", "y", "z", "target_kind"} <= set(scores.coords):
        return None
    places = pd.DataFrame({axis: scores[axis].values.astype(float) for axis in "xyz"})
    is_sensor = np.isin(scores["target_kind"].values.astype(str), SENSOR_KINDS)
    places = places[is_sensor & np.isfinite(places.to_numpy()).all(axis=1)]
    return places if len(places.drop_duplicates()) >= 4 else None


def _merge_places(xyz: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average the rows of `grid` (sensor, latency) that are at the same place."""
    # A thousandth of the helmet: closer than any two sites, further than rounding.
    size = np.ptp(xyz, axis=0).max() / 1000
    cells = pd.DataFrame(np.round(xyz / size))
    groups = cells.groupby([0, 1, 2], sort=False).ngroup().to_numpy()
    return pd.DataFrame(xyz).groupby(groups).mean().to_numpy(), pd.DataFrame(grid).groupby(groups).mean().to_numpy()


def _project(xyz: np.ndarray) -> np.ndarray:
    """Put sensors on the plane, shape (sensor, 2), within a circle of radius 1.

    Its rim is the equator of the sphere through the sensors, or where they reach below it, the lowest sensor.
    """
    # |p|^2 = 2 c.p + (R^2 - |c|^2) is linear in the centre c and the constant.
    centre = np.linalg.lstsq(np.c_[2 * xyz, np.ones(len(xyz))], (xyz**2).sum(axis=1), rcond=None)[0][:3]
    x, y, z = (xyz - centre).T
    angle = np.arctan2(np.hypot(x, y), z) / (np.pi / 2)
    around = np.arctan2(y, x)
    angle = angle / max(1.0, angle.max())
    return np.c_[angle * np.cos(around), angle * np.sin(around)]


def _shown_latencies(grid: np.ndarray) -> list[int]:
    """Up to `N_MAPS` evenly spread columns, of which the nearest gives way to the one with the highest mean."""
    n_latencies = grid.shape[1]
    shown = np.unique(np.linspace(0, n_latencies - 1, N_MAPS).round().astype(int))
    peak = int(grid.mean(axis=0).argmax())
    shown[np.abs(shown - peak).argmin()] = peak
    return shown.tolist()


def _draw_maps(places: np.ndarray, grid: np.ndarray, titles: Sequence[str]) -> CaptionedFigure:
    """One map per column of `grid`, all with the same colours."""
    from mne.viz import plot_topomap  # slow to import, and needed for MEG and EEG only

    n_columns = min(3, grid.shape[1])
    n_rows = -(-grid.shape[1] // n_columns)
    figure = CaptionedFigure(figsize=(WIDTH_IN if n_columns > 1 else 3.6, 0.3 + 1.7 * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    norm, colours = _colours(grid, signed=False)
    for title, values, axes in zip(titles, grid.T, panels, strict=False):
        image, _ = plot_topomap(
            values,
            places,
            axes=axes,
            show=False,
            cmap=colours,
            vlim=(norm.vmin, norm.vmax),
            contours=0,
            sphere=(0, 0, 0, 1),
            extrapolate="head",
        )
        axes.set_title(title)
    for axes in panels[grid.shape[1] :]:
        axes.set_axis_off()
    figure.colorbar(image, ax=panels, label=MEANINGS["r"], shrink=0.7)
    return figure


def _seconds(time_s: float) -> str:
    return f"{time_s:z.2f} s".replace("-", "\N{MINUS SIGN}")


def _short(name: str, n_letters: int = 28) -> str:
    """`name` as it can be drawn: at most so long, and without characters that an SVG must not hold."""
    clean = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs", "Cn") else c for c in name)
    return clean if len(clean) <= n_letters else clean[: n_letters - 1] + "…"


def _sample(n_subjects: int, n_targets: pd.Series) -> str:
    low, high = int(n_targets.min()), int(n_targets.max())
    targets = f"{low}" if low == high else f"{low} to {high}"
    return f"n = {n_subjects} subject{'s' * (n_subjects != 1)}, {targets} target{'s' * (high != 1)} each"


def _profile_caption(scores: Scores, table: pd.DataFrame, n_subjects: int) -> str:
    latencies = " and latencies" if "latency" in scores.dims else ""
    parts = [f"Prediction by layer. {HELD_OUT} (n = {scores.sizes['fold']}), then over targets{latencies}."]
    if n_subjects == 0:
        return f"{parts[0]} No score is defined."
    if n_subjects == 1:
        parts.append("A single subject: there is no standard error, so no band.")
    else:
        parts.append(
            f"Thin lines: subjects (n = {n_subjects}); thick line: their mean; band: ± 1 standard error over subjects."
        )
    if "r_baseline" in table:
        parts.append("Dashed: the baseline alone" + (", with its own band." if n_subjects > 1 else "."))
    if "gain" in table:
        parts.append(
            "Lower panel: gain, that is r of baseline and layer together minus r of the baseline alone; at zero the "
            "layer adds nothing to the baseline."
        )
    return " ".join(parts)


def _grid_caption(scores: Scores, variable: str, n_names: int) -> str:
    counts = (
        pd.Series(scores["target_name"].values.astype(str)).groupby(scores["target_name"].values.astype(str)).size()
    )
    low, high = counts.min(), counts.max()
    n = f"{low}" if low == high else f"{low} to {high}, since subjects differ in their targets"
    latencies = ", averaged over latencies" if "latency" in scores.dims else ""
    parts = [f"Targets by layer: {MEANINGS[variable]}{latencies}, mean over subjects (n = {n}). {HELD_OUT}."]
    if variable in SIGNED:
        parts.append("Colours are centred at zero.")
    if n_names > N_TARGETS_SHOWN:
        parts.append(
            f"Shown are the {N_TARGETS_SHOWN} of {n_names} targets with the highest value at any layer, the highest "
            "on top: selected on these same scores."
        )
    return " ".join([*parts, "Grey: undefined."])


def _latency_caption(n_subjects: int, has_course: bool) -> str:
    spread = (
        "a single subject: there is no standard error"
        if n_subjects == 1
        else f"thin lines: subjects (n = {n_subjects}); thick line: their mean; band: ± 1 standard error over subjects"
    )
    parts = [
        f"Prediction by layer and latency, mean over targets, then over subjects (n = {n_subjects}). {HELD_OUT}. "
        "Dotted: word onset. Before it, r above zero can come from earlier words, which a word's features may carry."
    ]
    if has_course:
        parts.append(
            "Below: time course of the layer with the highest mean r, selected on these same scores; "
            f"{spread}; dashed, where there is one: the baseline alone."
        )
    return " ".join(parts)


def _map_caption(scores: Scores, best: int, n_left_out: int) -> str:
    layer = layer_table(scores).loc[best]
    n_subjects = len(np.unique(scores["subject"].values.astype(str)))
    left_out = f" {n_left_out} places without a defined score are left out." if n_left_out else ""
    return (
        f"Sensor maps of r at layer {layer['layer']} ({layer['layer_name']}) of {layer['feature_space']}, the layer "
        f"with the highest mean r, selected on these same scores; mean over subjects (n = {n_subjects}). Seen from "
        f"above, nose up, the outline is schematic; times are latencies from word onset, among "
        f"them that of the highest mean r.{left_out}"
    )
