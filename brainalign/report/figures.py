"""Figures of scores. Each function gives a matplotlib Figure with a caption, which a notebook shows as it is.

pyplot is never used, so that nothing of the caller's session (open figures, its backend, its style) is changed. Names
that come from data are drawn letter by letter, never read as mathematics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pandas as pd
import xarray as xr

# This module does nothing but draw, and is itself loaded on first use, so matplotlib may stand here.
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from brainalign.errors import RecipeError, nearest
from brainalign.report.curves import Curve, curves, layer_called
from brainalign.report.drawing import (
    BASELINE,
    LETTER_IN,
    STYLE,
    Look,
    add_key,
    cell_edges,
    draw_level,
    draw_mean,
    draw_points,
    draw_subjects,
    even_edges,
    heat_map,
    key_height_in,
    look,
    mark_curves,
    number_curves,
    short,
    wrapped,
)
from brainalign.report.means import VARIABLES, fold_means, layer_table, mean_by
from brainalign.report.tables import group_profile, summary
from brainalign.types import Scores

__all__ = [
    "HELD_OUT",
    "MEANINGS",
    "SIGNED",
    "WIDTH_IN",
    "CaptionedFigure",
    "best_layer",
    "layer_by_latency",
    "layer_profile",
    "region_by_layer",
]

WIDTH_IN = 5.4
# What the names of targets and the colour bar take of a heat map's width, and the least for each curve.
MARGINS_IN = 2.2
CURVE_IN = 0.3
POINT_IN = 0.5
N_POINT_LETTERS = 24
# With more curves the subjects' thin lines would hide the means.
N_LINES_WITH_SUBJECTS = 3
N_TARGETS_SHOWN = 40
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

    Notes
    -----
    The parts of a space (attention, mlp, encoder, decoder) are a line each. Single layers, which have no depth, stand
    side by side in panels of their own. With more than three lines each subject's are left out.

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
    table["row"] = table.groupby("subject").cumcount()
    table, layers = (frame[frame["feature_space"].isin(spaces)] for frame in (table, layers))
    by_layer = {
        name: table.pivot(index="row", columns="subject", values=name) for name in ("r", "gain") if name in table
    }
    drawn = [Drawn(curve, look(i), _name(curve, by_layer["r"])) for i, curve in enumerate(curves(layers))]
    lines = [curve for curve in drawn if not curve.layers.is_single]
    points = [curve for curve in drawn if curve.layers.is_single]
    figure, beside = _panels(list(by_layer), lines, points)
    levels = table.groupby("subject", sort=False)["r_baseline"].mean() if "r_baseline" in table else None
    handles = {}
    if lines:
        depth = layers["depth"] if len(spaces) > 1 else _numbers(lines)
        handles |= {curve.name: line for curve, line in _draw_lines(beside[0], lines, by_layer, depth)}
    if points:
        _draw_points(beside[-1], points, by_layer, is_alone=not lines)
    for panels in beside:
        level = draw_level(panels["r"], levels) if levels is not None else None
        handles |= {"baseline alone": level} if level else {}
    _finish_profile(figure, beside, spaces if lines else [])
    _add_legend(figure, beside[0]["r"], handles)
    n_subjects = _n_subjects(table)
    beside[0]["r"].set_title(_sample(n_subjects, table["n_targets"]), loc="left")
    figure.caption = _profile_caption(scores, table, len(lines), len(points))
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
    drawn = curves(layer_table(scores))
    grid = grid.isel(layer=np.concatenate([curve.rows for curve in drawn]))
    n_names = grid.sizes["target_name"]
    if n_names > N_TARGETS_SHOWN:
        grid = grid.isel(target_name=_highest(grid.values, N_TARGETS_SHOWN))
    length_in = max(WIDTH_IN - MARGINS_IN, CURVE_IN * len(drawn))
    height_in = 1.3 + 0.2 * max(len(grid), 8) + (key_height_in(number_curves(drawn)) if len(drawn) > 1 else 0)
    figure = CaptionedFigure(figsize=(length_in + MARGINS_IN, height_in), layout="constrained")
    axes = figure.subplots()
    x = cell_edges(drawn, length_in)
    heat_map(
        figure, axes, grid.values, MEANINGS[variable], x, np.arange(len(grid) + 1) - 0.5, is_signed=variable in SIGNED
    )
    axes.invert_yaxis()
    axes.set_yticks(range(len(grid)), labels=[short(name, 28) for name in grid["target_name"].values], parse_math=False)
    add_key(figure, mark_curves(axes, axes.xaxis, drawn, x, length_in))
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
    latency_s, drawn = scores["latency"].values.astype(float), curves(layers)
    length_in = max(2.6, CURVE_IN * len(drawn))
    key_in = key_height_in(number_curves(drawn)) if len(drawn) > 1 else 0
    figure = CaptionedFigure(figsize=(WIDTH_IN, 3.0 + length_in + key_in), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(length_in, 1.7))
    y = cell_edges(drawn, length_in)
    rows = np.concatenate([curve.rows for curve in drawn])
    heat_map(figure, top, r.mean("subject").values[rows], MEANINGS["r"], even_edges(latency_s), y)
    key = mark_curves(top, top.yaxis, drawn, y, length_in)
    best = best_layer(scores)
    handles = {} if best is None else _draw_courses(bottom, latency_s, r, means, best, layers)
    if len(drawn) == 1 and handles:
        bottom.legend(list(handles.values()), [wrapped(name, 40) for name in handles], loc="best")
    else:
        add_key(figure, [*handles, *key], list(handles.values()))
    for axes in (top, bottom):
        axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    bottom.axhline(0, color="black", linewidth=0.8)
    bottom.set(xlabel="latency from word onset (s)", ylabel="r", xlim=even_edges(latency_s)[[0, -1]])
    figure.caption = _latency_caption(scores, int(r.notnull().any(["layer", "latency"]).sum()), best is not None)
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


@dataclass(frozen=True)
class Drawn:
    """Layers as the profile shows them."""

    layers: Curve
    look: Look
    name: str


def _name(curve: Curve, r: pd.DataFrame) -> str:
    return curve.name if r.loc[curve.rows].notna().any(axis=None) else f"{curve.name} (no r is defined)"


def _numbers(lines: Sequence[Drawn]) -> pd.Series:
    """The layers' numbers, indexed by their place along ``layer``."""
    return pd.concat([pd.Series(curve.layers.numbers, index=curve.layers.rows) for curve in lines])


def _panels(
    variables: Sequence[str], lines: Sequence[Drawn], points: Sequence[Drawn]
) -> tuple[CaptionedFigure, list[dict[str, Axes]]]:
    """Panels by variable, one below the other: those of lines, and beside them those of single layers, if any."""
    names_in = LETTER_IN * N_POINT_LETTERS if points and (lines or not _point_letters(points)) else 0.0
    key_in = key_height_in([curve.name for curve in lines]) if len(lines) > 1 else 0.0
    points_in = POINT_IN * len(points) + 0.2
    width_in = (WIDTH_IN if lines else max(WIDTH_IN, 0.9 + points_in)) + (points_in if lines and points else 0)
    figure = CaptionedFigure(figsize=(width_in, 1.4 + 2.2 * len(variables) + key_in + names_in), layout="constrained")
    widths = [width for width, is_drawn in ((WIDTH_IN - 0.9, lines), (points_in, points)) if is_drawn]
    grid = figure.add_gridspec(len(variables), len(widths), width_ratios=widths, height_ratios=(3, 2)[: len(variables)])
    beside: list[dict[str, Axes]] = []
    for column in range(len(widths)):
        panels: dict[str, Axes] = {}
        for row, variable in enumerate(variables):
            panels[variable] = figure.add_subplot(
                grid[row, column], sharex=panels.get("r"), sharey=beside[0][variable] if beside else None
            )
        beside.append(panels)
    for axes in [axes for panels in beside for axes in list(panels.values())[:-1]]:
        axes.tick_params(labelbottom=False)
    for axes in beside[1].values() if len(beside) > 1 else ():
        axes.tick_params(labelleft=False)
    return figure, beside


def _draw_lines(
    panels: dict[str, Axes], lines: Sequence[Drawn], by_layer: dict[str, pd.DataFrame], depth: pd.Series
) -> Iterator[tuple[Drawn, Line2D]]:
    """Draw the lines of each variable; gives them and what stands for them in the legend."""
    are_few = len(lines) <= N_LINES_WITH_SUBJECTS
    for curve in lines:
        x = depth.reindex(curve.layers.rows).to_numpy()
        for variable, axes in panels.items():
            values = by_layer[variable].loc[curve.layers.rows]
            if are_few:
                draw_subjects(axes, x, values, curve.look)
            line = draw_mean(axes, x, values, curve.look, alpha=0.25 if are_few else 0.1)
            if variable == "r":
                yield curve, line


def _point_letters(points: Sequence[Drawn]) -> int:
    """How many letters side by side names may have in a line; 0 where they must be turned."""
    n_letters = int((WIDTH_IN - 0.9) / len(points) / LETTER_IN)
    return n_letters if max(len(word) for curve in points for word in curve.name.split() or [""]) < n_letters else 0


def _draw_points(
    panels: dict[str, Axes], points: Sequence[Drawn], by_layer: dict[str, pd.DataFrame], *, is_alone: bool
) -> None:
    """Draw single layers side by side, each over its name."""
    for variable, axes in panels.items():
        for x, curve in enumerate(points):
            draw_points(axes, x, by_layer[variable].loc[curve.layers.rows[0]], curve.look)
    *_, last = panels.values()
    n_letters = _point_letters(points) if is_alone else 0
    names = [wrapped(curve.name, n_letters or N_POINT_LETTERS) for curve in points]
    rotation = 0 if n_letters else 90
    last.set_xticks(range(len(points)), labels=names, rotation=rotation, fontsize=8.5, parse_math=False)
    last.set_xlim(-0.6, len(points) - 0.4)


def _finish_profile(figure: Figure, beside: Sequence[dict[str, Axes]], spaces: Sequence[str]) -> None:
    first = beside[0]
    first["r"].set_ylabel("r")
    if "gain" in first:
        first["gain"].set_ylabel("gain in r over\nthe baseline")
    for panels in beside:
        if "gain" in panels:
            panels["gain"].axhline(0, color="black", linewidth=0.8)
    *_, last = first.values()
    if len(spaces) > 1:
        last.set_xlabel("relative depth (0: first layer, 1: last layer)")
    elif spaces:
        last.set_xlabel(wrapped(f"layer of {spaces[0]}", 50))
        last.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _add_legend(figure: Figure, axes: Axes, handles: dict[str, Line2D]) -> None:
    """Name the lines: in the axes where there is one and perhaps the baseline, else below all axes."""
    handles = {name: handles[name] for name in sorted(handles, key=lambda name: name != "baseline alone")}
    names = [wrapped(name, 40) for name in handles]
    if len(figure.axes) <= 2 and len(handles) <= 2 and all("\n" not in name for name in names) and handles:
        axes.legend(list(handles.values()), names, loc="best")
    else:
        add_key(figure, list(handles), list(handles.values()))


def _draw_courses(
    axes: Axes, latency_s: np.ndarray, r: xr.DataArray, means: xr.Dataset, best: int, layers: pd.DataFrame
) -> dict[str, Line2D]:
    """Draw the time course of the best layer and of the baseline; gives what stands for them in a legend."""
    course = _courses(r.isel(layer=best))
    name = layer_called(layers["feature_space"][best], layers["layer_name"][best])
    draw_subjects(axes, latency_s, course, look(0))
    handles = {name: draw_mean(axes, latency_s, course, look(0))}
    if "r_baseline" in means:
        baseline = mean_by(means["r_baseline"], "subject")
        baseline = baseline.isel(layer=best) if "layer" in baseline.dims else baseline
        handles["baseline alone"] = draw_mean(axes, latency_s, _courses(baseline), BASELINE)
    return handles


def _highest(grid: np.ndarray, n_rows: int) -> np.ndarray:
    """The `n_rows` rows with the highest maximum, highest first; undefined rows come last."""
    peak = np.where(np.isnan(grid), -np.inf, grid).max(axis=1)
    return np.argsort(-peak, kind="stable")[:n_rows]


def best_layer(scores: Scores) -> int | None:
    """The place along ``layer`` of the highest mean r over subjects; None where no r is defined."""
    r = group_profile(scores)["r"]
    return None if r.isna().all() else int(r.idxmax())


def _courses(by_subject: xr.DataArray) -> pd.DataFrame:
    """Rows are latencies, columns subjects."""
    return pd.DataFrame(by_subject.transpose("latency", "subject").values)


def _sample(n_subjects: int, n_targets: pd.Series) -> str:
    low, high = int(n_targets.min()), int(n_targets.max())
    targets = f"{low}" if low == high else f"{low} to {high}"
    return f"n = {n_subjects} subject{'s' * (n_subjects != 1)}, {targets} target{'s' * (high != 1)} each"


def _profile_caption(scores: Scores, table: pd.DataFrame, n_lines: int, n_points: int) -> str:
    latencies = " and latencies" if "latency" in scores.dims else ""
    parts = [f"Prediction by layer. {HELD_OUT} (n = {scores.sizes['fold']}), then over targets{latencies}."]
    n_subjects = _n_subjects(table)
    if n_subjects == 0:
        return f"{parts[0]} No score is defined."
    if n_subjects == 1:
        parts.append("A single subject: there is no standard error, so no band.")
    elif n_lines > N_LINES_WITH_SUBJECTS:
        parts.append(f"Lines: means over subjects (n = {n_subjects}); bands: ± 1 standard error over subjects.")
    elif n_lines:
        parts.append(
            f"Thin lines: subjects (n = {n_subjects}); thick line: their mean; band: ± 1 standard error over subjects."
        )
    if n_points:
        spread = f" with ± 1 standard error over subjects (n = {n_subjects}); dots: subjects" if n_subjects > 1 else ""
        parts.append(f"Points: what has a single layer{spread}.")
    without = [space for space, r in table.groupby("feature_space", sort=False)["r"] if r.isna().all()]
    if without:
        parts.append(f"No r is defined for {', '.join(map(str, without))}.")
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
    return " ".join([*parts, *_cells_caption(scores), "Grey: undefined."])


def _cells_caption(scores: Scores) -> list[str]:
    several = len(curves(layer_table(scores))) > 1
    return ["White lines part the feature spaces; cells of those with few layers may be wider."] if several else []


def _latency_caption(scores: Scores, n_subjects: int, has_course: bool) -> str:
    spread = (
        "a single subject: there is no standard error"
        if n_subjects == 1
        else f"thin lines: subjects (n = {n_subjects}); thick line: their mean; band: ± 1 standard error over subjects"
    )
    parts = [
        f"Prediction by layer and latency, mean over targets, then over subjects (n = {n_subjects}). {HELD_OUT}. "
        "Dotted: word onset. Before it, r above zero can come from earlier words, which a word's features may carry.",
        *_cells_caption(scores),
    ]
    if has_course:
        parts.append(
            "Below: time course of the layer with the highest mean r, selected on these same scores; "
            f"{spread}; dashed, where there is one: the baseline alone."
        )
    return " ".join(parts)
