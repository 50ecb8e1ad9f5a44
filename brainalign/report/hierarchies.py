"""Figures of order: the layers that regions prefer, when layers are best, and scores over contexts and sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, NullLocator

from brainalign.errors import DataError
from brainalign.report.drawing import STYLE, add_key, draw_mean, draw_subjects, key_height_in, look, short
from brainalign.report.figures import WIDTH_IN, CaptionedFigure
from brainalign.types import Floats

__all__ = ["context_curves", "layer_latencies", "preferred_layers", "size_curves"]

# The least share of an axis between two sizes that are both named.
LABELLED = 0.09


@rc_context(STYLE)
def preferred_layers(
    preferred: Floats, regions: Sequence[str], *, reliability: float | None = None, halves: str = "halves of the data"
) -> CaptionedFigure:
    """Draw the depth that each region prefers: subjects as dots, their mean with one standard error.

    Parameters
    ----------
    preferred : array (subject, region)
        Relative depth, by peak or by centre of mass; NaN where a region has no preferred layer.
    regions : sequence of str (region,)
        Drawn in the order of their means, the deepest on top.
    reliability : float, optional
        Correlation over regions of the preferred depth in two halves.
    halves : str
        What the halves are of.

    Raises
    ------
    DataError
        If there is not one name for each region.

    Examples
    --------
    >>> figure = preferred_layers(np.array([[0.2, 0.7], [0.4, 0.6]]), ["A1", "IFG"], reliability=0.8)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['A1', 'IFG']
    """
    table = _table(preferred, list(regions), "regions")
    # By place, since names need not differ; regions without a preferred layer come last, at the bottom.
    means = np.asarray(table.mean(axis=1).fillna(-np.inf))
    table = table.take(np.argsort(means, kind="stable").tolist())
    figure = CaptionedFigure(figsize=(WIDTH_IN, 1.2 + 0.25 * max(len(table), 3)), layout="constrained")
    axes = figure.subplots()
    for row, (_, of_subjects) in enumerate(table.iterrows()):
        _draw_row(axes, row, of_subjects)
    axes.set_yticks(range(len(table)), labels=[short(str(name), 28) for name in table.index], parse_math=False)
    axes.set(xlabel="preferred relative depth (0: first layer, 1: last layer)", ylabel="region", xlim=(-0.03, 1.03))
    axes.set_ylim(-0.7, len(table) - 0.3)
    n_subjects = table.shape[1]
    parts = [
        f"Preferred layer by region. Dots: subjects (n = {n_subjects}); bars: mean ± 1 standard error over subjects."
    ]
    if table.isna().any(axis=None):
        n_missing, n_all = int(table.isna().sum().sum()), table.size
        parts.append(f"{n_missing} of {n_all} (subject, region) have no preferred layer and are left out.")
    if reliability is not None:
        parts.append(f"Reliability: r = {reliability:.2f} over regions between {halves}.")
    figure.caption = " ".join(parts)
    return figure


@rc_context(STYLE)
def layer_latencies(
    latency_s: Floats, depth: Floats, *, r: Floats | None = None, p: float | None = None, test: str = ""
) -> CaptionedFigure:
    """Draw when each layer predicts best against its depth: subjects as dots, their mean as a line.

    Parameters
    ----------
    latency_s : array (subject, layer)
        In seconds from word onset; NaN where a layer predicts nothing.
    depth : array (layer,)
    r : array (subject,), optional
        Each subject's correlation, NaN where undefined; the mean stands above.
    p : float, optional
        Of the mean r; drawn only with `test`, which says by what test, with how many permutations.
    test : str

    Raises
    ------
    DataError
        If shapes do not agree, or p is given without the name of its test.

    Examples
    --------
    >>> figure = layer_latencies(np.array([[0.1, 0.3], [0.2, 0.4]]), np.array([0.0, 1.0]), r=np.array([1.0, 1.0]))
    >>> figure.axes[0].get_title(loc="left")
    'n = 2 subjects, mean r = 1.00'
    """
    if p is not None and not test:
        raise DataError("A p value is drawn with the name of its test only: pass test='sign flips over subjects, 256'.")
    table = _table(latency_s, np.asarray(depth, dtype=float).tolist(), "layers").sort_index()
    figure = CaptionedFigure(figsize=(WIDTH_IN, 3.4), layout="constrained")
    axes = figure.subplots()
    x = np.asarray(table.index, dtype=float)
    style = look(0)
    axes.plot(x, np.asarray(table), ".", color=style.colour, alpha=0.45, markersize=5)
    draw_mean(axes, x, table, style)
    axes.set(xlabel="relative depth (0: first layer, 1: last layer)", ylabel="latency of the highest r (s)")
    n_subjects = table.shape[1]
    title = f"n = {n_subjects} subject{'s' * (n_subjects != 1)}"
    caption = "When each layer predicts best. Dots: subjects; line: their mean; band: ± 1 standard error."
    if r is not None and np.isfinite(r).any():
        title += f", mean r = {np.nanmean(r):.2f}"
        low, high = np.nanmin(r), np.nanmax(r)
        caption += f" r: correlation over layers, in each subject (from {low:.2f} to {high:.2f}), averaged."
        caption += " Neighbouring layers resemble each other, so that r has no p value over layers."
    if p is not None:
        caption += f" p = {p:.3g} ({test})."
    axes.set_title(title, loc="left")
    n_missing = int(table.isna().sum().sum())
    if n_missing:
        caption += f" {n_missing} of {table.size} (subject, layer) predict nothing and are left out."
    figure.caption = caption
    return figure


@rc_context(STYLE)
def context_curves(
    by_region: Mapping[str, Floats],
    contexts: Floats,
    *,
    windows: Mapping[str, float] | None = None,
    unit: str = "words",
) -> CaptionedFigure:
    """Draw scores over the length of context, on a logarithmic scale, one line for each region.

    Parameters
    ----------
    by_region : mapping of name to array (context, subject)
    contexts : array (context,)
        Positive.
    windows : mapping of name to float, optional
        The smallest context that is nearly as good as the best, marked on the line; NaN is not.
    unit : str
        Of contexts.

    Raises
    ------
    DataError
        If shapes do not agree or a context is not positive.

    Examples
    --------
    >>> figure = context_curves({"STG": np.array([[0.1], [0.2]])}, np.array([1.0, 64.0]), windows={"STG": 64.0})
    >>> figure.axes[0].get_xlabel()
    'context (words)'
    """
    figure, n_subjects = _over_sizes(by_region, contexts, f"context ({unit})")
    caption = f"Scores over the length of context (n = {n_subjects}; bands: ± 1 standard error over subjects)."
    for number, (name, values) in enumerate(by_region.items()):
        window = (windows or {}).get(name, np.nan)
        if np.isfinite(window):
            x, mean = np.log(np.asarray(contexts, dtype=float)), pd.DataFrame(values).mean(axis=1).to_numpy()
            order = np.argsort(x)
            height = np.interp(np.log(window), x[order], mean[order])
            figure.axes[0].plot([window], [height], "o", color=look(number).colour, markersize=8)
    if windows:
        caption += " Points: the smallest context that reaches the given share of the highest score."
    figure.caption = caption
    return figure


@rc_context(STYLE)
def size_curves(
    by_name: Mapping[str, Floats],
    sizes: Floats,
    *,
    slopes: Mapping[str, tuple[float, float, float]] | None = None,
    label: str = "parameters of the model",
) -> CaptionedFigure:
    """Draw scores over a size, on a logarithmic scale.

    Parameters
    ----------
    by_name : mapping of name to array (size, subject)
    sizes : array (size,)
        Positive.
    slopes : mapping of name to (slope, low, high), optional
        Change per decade and its interval, said in the caption.
    label : str
        What the size is of.

    Raises
    ------
    DataError
        If shapes do not agree or a size is not positive.

    Examples
    --------
    >>> r = np.array([[0.10, 0.12], [0.11, 0.13]])
    >>> size_curves({"OPT": r}, np.array([1e8, 1e9]), slopes={"OPT": (0.01, 0.008, 0.012)}).caption[-45:]
    'OPT: +0.0100 per decade (+0.0080 to +0.0120).'
    """
    figure, n_subjects = _over_sizes(by_name, sizes, label)
    caption = f"Scores over size (n = {n_subjects}; bands: ± 1 standard error over subjects)."
    if slopes:
        said = [
            f"{name}: {slope:+.4f} per decade ({low:+.4f} to {high:+.4f})"
            for name, (slope, low, high) in slopes.items()
        ]
        caption += f" {'; '.join(said)}."
    figure.caption = caption
    return figure


def _over_sizes(by_name: Mapping[str, Floats], sizes: Floats, label: str) -> tuple[CaptionedFigure, str]:
    """A line for each name, with its subjects where there are few lines; and the number of subjects in words."""
    sizes = np.asarray(sizes, dtype=float)
    if not (sizes > 0).all() or not by_name:
        raise DataError("Sizes and contexts must be positive, and there must be scores: the axis is logarithmic.")
    names = [short(name, 40) for name in by_name]
    key_in = key_height_in(names) if len(names) > 1 else 0.0
    figure = CaptionedFigure(figsize=(WIDTH_IN, 3.2 + key_in), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    handles, counts, order = [], [], np.argsort(sizes)
    for i, values in enumerate(by_name.values()):
        table = _table(np.asarray(values).T, sizes.tolist(), "sizes").take(order.tolist())
        counts.append(int(table.notna().any().sum()))
        if len(by_name) <= 3:
            draw_subjects(axes, sizes[order], table, look(i))
        handles.append(draw_mean(axes, sizes[order], table, look(i)))
    shown = _with_room(sizes[order])
    axes.set_xticks(shown, labels=[_number(size) for size in shown])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel=label, ylabel="r")
    if len(names) > 1:
        add_key(figure, names, handles)
    low, high = min(counts), max(counts)
    return figure, f"{low}" if low == high else f"{low} to {high}"


def _with_room(sizes: Floats) -> list[float]:
    """Those of increasing sizes that a logarithmic axis has room to name."""
    shown: list[float] = []
    for size in sizes.tolist():
        if not shown or np.log(size / shown[-1]) > LABELLED * np.log(sizes[-1] / sizes[0]):
            shown.append(size)
    return shown


def _number(size: float) -> str:
    return f"{size:g}" if size < 1e4 else EngFormatter(sep="").format_eng(size)


def _draw_row(axes: Axes, row: int, of_subjects: pd.Series) -> None:
    style = look(0)
    axes.plot(np.asarray(of_subjects), np.full(len(of_subjects), row + 0.18), ".", color=style.colour, alpha=0.45)
    one = of_subjects.to_frame().T
    mean, error = one.mean(axis=1).iloc[0], one.sem(axis=1).iloc[0]
    axes.errorbar([mean], [row], xerr=[error], color=style.colour, fmt="o", capsize=4)


def _table(values: Floats, columns: Sequence[str] | Sequence[float], what: str) -> pd.DataFrame:
    """A row for each of `columns`, a column for each subject, from an array (subject, ...)."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or values.shape[1] != len(columns):
        raise DataError(f"Values of shape {values.shape} for {len(columns)} {what}: (subject, {what}) is needed.")
    return pd.DataFrame(values.T, index=list(columns))
