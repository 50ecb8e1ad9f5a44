"""What the figures share: looks of curves, means with their standard error, heat maps, and keys outside the axes."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brainalign.report.curves import Curve
from brainalign.types import Floats

__all__ = [
    "BASELINE",
    "LETTER_IN",
    "LINE_IN",
    "STYLE",
    "Look",
    "add_key",
    "cell_edges",
    "colour_scale",
    "draw_level",
    "draw_mean",
    "draw_points",
    "draw_subjects",
    "even_edges",
    "heat_map",
    "key_height_in",
    "look",
    "mark_curves",
    "number_curves",
    "short",
    "wrapped",
]

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
# Okabe and Ito's colours without yellow, told apart by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
# Each time the colours begin anew, lines and markers change; dashes are the baseline's.
LINES = ("-", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
MARKERS = ("", "o", "s", "^", "D", "v", "P")
# The size of a letter and of a line of text with the space around them, for text that is not drawn yet.
LETTER_IN = 0.09
LINE_IN = 0.18
KEY_LETTERS = 62
# No two labels of cells may stand closer.
LABEL_IN = 0.28
N_LETTERS = 200


@dataclass(frozen=True)
class Look:
    """What tells one curve from the others."""

    colour: str
    line: Any = "-"
    marker: str = ""


BASELINE = Look("#555555", "--")


def look(i: int) -> Look:
    """The look of the curve number `i`; the first 168 differ.

    >>> look(0), look(6)
    (Look(colour='#0072B2', line='-', marker=''), Look(colour='#0072B2', line='-.', marker='o'))
    """
    turn, colour = divmod(i, len(COLOURS))
    return Look(COLOURS[colour], LINES[turn % len(LINES)], MARKERS[turn % len(MARKERS)])


def draw_subjects(axes: Axes, x: np.ndarray, by_subject: pd.DataFrame, style: Look) -> None:
    """Draw each column of `by_subject` thin, where there are two or more."""
    if by_subject.notna().any().sum() > 1:
        axes.plot(x, by_subject.to_numpy(), color=style.colour, linewidth=0.5, alpha=0.35)


def draw_mean(axes: Axes, x: np.ndarray, by_subject: pd.DataFrame, style: Look, alpha: float = 0.25) -> Line2D:
    """Draw the mean of the columns thick, with a band of one standard error where there are two or more."""
    mean, se = by_subject.mean(axis=1).to_numpy(), by_subject.sem(axis=1).to_numpy()
    # Without a marker a course of one latency would be invisible.
    marker = style.marker or ("o" if len(x) == 1 else "")
    (line,) = axes.plot(x, mean, color=style.colour, linewidth=2, linestyle=style.line, marker=marker, markersize=5)
    if np.isfinite(se).any():
        axes.fill_between(x, mean - se, mean + se, color=style.colour, alpha=alpha, linewidth=0)
    return line


def draw_points(axes: Axes, x: int, by_subject: pd.Series, style: Look) -> None:
    """Draw the mean of one value per subject as a point with its standard error, and each subject's beside it."""
    if by_subject.notna().sum() > 1:
        beside = np.full(len(by_subject), x + 0.15)
        axes.plot(beside, by_subject.to_numpy(), ".", color=style.colour, markersize=4, alpha=0.45)
    mean, se = _mean_se(by_subject)
    axes.errorbar([x], [mean], yerr=[se], color=style.colour, fmt=style.marker or "o", capsize=4)


def draw_level(axes: Axes, by_subject: pd.Series) -> Line2D | None:
    """Draw the mean of one value per subject across the panel, with its standard error as a band."""
    mean, se = _mean_se(by_subject)
    if np.isfinite(se):
        axes.axhspan(mean - se, mean + se, color=BASELINE.colour, alpha=0.2, linewidth=0)
    if not np.isfinite(mean):
        return None
    return axes.axhline(mean, color=BASELINE.colour, linestyle=BASELINE.line, linewidth=1.5)


def heat_map(
    figure: Figure, axes: Axes, grid: np.ndarray, label: str, x: np.ndarray, y: np.ndarray, *, is_signed: bool = False
) -> None:
    """Draw `grid` (row, column) between the borders `x` and `y` of its cells, with its colour bar."""
    norm, colours = colour_scale(grid, is_signed)
    axes.set_facecolor("#dddddd")  # undefined cells are grey, a colour of neither map
    mesh = axes.pcolormesh(x, y, grid, norm=norm, cmap=colours, rasterized=True)
    figure.colorbar(mesh, ax=axes, label=label)
    axes.spines[:].set_visible(False)


def colour_scale(grid: np.ndarray, is_signed: bool) -> tuple[Normalize, str]:
    """The scale and the colour map: diverging around zero, or sequential from zero or the lowest value below it."""
    finite = grid[np.isfinite(grid)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    if is_signed:
        span = max(abs(low), abs(high)) or 1.0
        return TwoSlopeNorm(0.0, -span, span), "PuOr_r"
    return Normalize(min(0.0, low), high if high > min(0.0, low) else min(0.0, low) + 1.0), "viridis"


def even_edges(centres: np.ndarray) -> np.ndarray:
    """The borders of cells around evenly spaced `centres`; one more than they are."""
    step = np.diff(centres).mean() if len(centres) > 1 else 1.0
    return np.r_[centres - step / 2, centres[-1] + step / 2]


def cell_edges(drawn: Sequence[Curve], length_in: float) -> Floats:
    """The borders of the layers' cells, one more than they are, along an axis of `length_in`.

    Cells are one wide, but those of short curves wider where else there were no room for a label each.
    """
    counts = np.array([len(curve.rows) for curve in drawn])
    least = 1
    while least < counts.max() and least * length_in < LABEL_IN * np.maximum(counts, least).sum():
        least += 1
    widths = np.repeat(np.maximum(counts, least) / counts, counts)
    return np.r_[0.0, widths.cumsum()] - 0.5


def mark_curves(axes: Axes, axis: Axis, drawn: Sequence[Curve], edges: Floats, length_in: float) -> list[str]:
    """Number the layers along `axis` and name the curves beside their cells; gives the key where names have no room."""
    in_per_cell = length_in / (edges[-1] - edges[0])
    starts = np.cumsum([0, *(len(curve.rows) for curve in drawn)])
    centres = (edges[1:] + edges[:-1]) / 2
    _number_layers(axis, drawn, starts, centres * in_per_cell, centres)
    if len(drawn) == 1:
        (only,) = drawn
        axis.set_label_text(wrapped(only.name if only.is_single else f"layer of {only.name}", 44))
        return []
    axis.set_label_text("layer")
    spans_in = np.diff(edges[starts]) * in_per_cell
    has_room = all(len(curve.name) * LETTER_IN < span for curve, span in zip(drawn, spans_in, strict=True))
    titles = [short(curve.name) for curve in drawn] if has_room else [str(i + 1) for i in range(len(drawn))]
    for title, start, end in zip(titles, edges[starts[:-1]], edges[starts[1:]], strict=True):
        _mark_curve(axes, axis, start, (start + end) / 2, title, is_name=has_room)
    return [] if has_room else number_curves(drawn)


def number_curves(drawn: Sequence[Curve]) -> list[str]:
    """The lines of a key: "1  gpt2", "2  pitch" ..."""
    return [f"{i}  {curve.name}" for i, curve in enumerate(drawn, start=1)]


def add_key(figure: Figure, labels: Sequence[str], handles: Sequence[Line2D] = ()) -> None:
    """Put a key below all axes; labels beyond the number of handles have none."""
    if not labels:
        return
    blank = Line2D([], [], linestyle="none")
    shown = [*handles, *[blank] * (len(labels) - len(handles))]
    figure.legend(
        shown,
        [wrapped(label, KEY_LETTERS) for label in labels],
        loc="outside lower left",
        borderaxespad=0.2,
        **({} if handles else {"handlelength": 0, "handletextpad": 0}),
    )


def key_height_in(labels: Sequence[str]) -> float:
    """How much higher a figure must be for the key of these labels."""
    return LINE_IN * sum(wrapped(label, KEY_LETTERS).count("\n") + 1 for label in labels)


def short(name: str, n_letters: int = N_LETTERS) -> str:
    """`name` as it can be drawn: at most so long, and without characters that an SVG must not hold."""
    clean = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs", "Cn") else c for c in name)
    return clean if len(clean) <= n_letters else clean[: n_letters - 1] + "…"


def wrapped(name: str, n_letters: int) -> str:
    """`name` as it can be drawn, in lines of at most `n_letters`."""
    clean = short(name)
    return clean if len(clean) <= n_letters else textwrap.fill(clean, n_letters)


def _mean_se(by_subject: pd.Series) -> tuple[float, float]:
    """The mean over subjects and its standard error; NaN where there are too few for it."""
    table = by_subject.to_frame().T
    return float(table.mean(axis=1).iloc[0]), float(table.sem(axis=1).iloc[0])


def _number_layers(
    axis: Axis, drawn: Sequence[Curve], starts: np.ndarray, place_in: np.ndarray, centres: np.ndarray
) -> None:
    """Write the numbers of as many layers as there is room for; a single layer's stands in its name."""
    shown: list[tuple[int, str]] = []
    for curve, start in zip(drawn, starts[:-1], strict=True):
        n_layers = len(curve.rows)
        if curve.is_single:
            continue
        cell_in = (place_in[start + n_layers - 1] - place_in[start]) / (n_layers - 1)
        every = max(1, int(np.ceil(LABEL_IN / cell_in - 1e-9)))
        shown += [(start + i, str(curve.numbers[i])) for i in range(0, n_layers, every)]
    # The last label of one curve must not run into the first of the next.
    gaps = np.diff([place_in[row] for row, _ in shown], append=np.inf)
    shown = [label for label, gap in zip(shown, gaps, strict=True) if gap > 0.8 * LABEL_IN]
    axis.set_ticks([centres[row] for row, _ in shown], labels=[label for _, label in shown])


def _mark_curve(axes: Axes, axis: Axis, start: float, middle: float, title: str, *, is_name: bool) -> None:
    """Write the title of a curve beside its cells, and part it from the one before."""
    if axis is axes.xaxis:
        axes.axvline(start, color="white", linewidth=2)
        axes.text(middle, 1.02, title, transform=axes.get_xaxis_transform(), ha="center")
    else:
        axes.axhline(start, color="white", linewidth=2)
        place = axes.get_yaxis_transform()
        axes.text(1.02, middle, title, transform=place, rotation=270 if is_name else 0, va="center")
