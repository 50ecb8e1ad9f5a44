"""The figures of a check: how alike subjects are, and how responses lie to the words in time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from brainalign.report.drawing import STYLE, draw_mean, draw_subjects, look, short
from brainalign.report.figures import WIDTH_IN, CaptionedFigure

__all__ = ["shared_response", "word_rate", "word_response"]

# Of more a histogram is drawn.
N_NAMED = 30
N_CHANNELS = 400
# The least that an axis of correlations spans on either side, so that nothing does not look like much.
LEAST_R = 0.05


@rc_context(STYLE)
def shared_response(shared: Sequence[Mapping[str, Any]]) -> CaptionedFigure:
    """Draw the inter-subject correlation of targets and of subjects, each the mean over stimuli."""
    of_target, of_subject = (_means(entry[key] for entry in shared) for key in ("targets", "subjects"))
    n_lines = max(len(values) if len(values) <= N_NAMED else 0 for values in (of_target, of_subject))
    height_in = 1.0 + 0.18 * max(n_lines, 10)
    figure = CaptionedFigure(figsize=(1.2 * WIDTH_IN, height_in), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_values(left, of_target, "target")
    _draw_values(right, of_subject, "subject")
    stimuli = f", mean over {len(shared)} stimuli" if len(shared) > 1 else ""
    figure.caption = (
        f"Correlation of each subject's response with the mean of the others' (leave-one-out){stimuli}. Left: targets "
        f"(n = {len(of_target)}), mean over subjects; right: subjects (n = {len(of_subject)}), mean over targets. A "
        "subject near zero did not hear the same, or not at the same time."
    )
    return figure


@rc_context(STYLE)
def word_rate(found: Mapping[str, Any]) -> CaptionedFigure:
    """Draw the correlation of the mean response with the rate of words, by how far the words are moved."""
    shift_s = np.array(found["shift_s"], dtype=float)
    figure = CaptionedFigure(figsize=(WIDTH_IN, 2.9), layout="constrained")
    axes = figure.subplots()
    table = pd.DataFrame({i: entry["r"] for i, entry in enumerate(found["recordings"])}, dtype=float)
    draw_subjects(axes, shift_s, table, look(0))
    draw_mean(axes, shift_s, table, look(0))
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.plot([found["peak_s"]], [found["peak_r"]], "o", color=look(1).colour, markersize=6)
    axes.set(xlabel="words moved later by (s)", ylabel="r", xlim=(shift_s[0], shift_s[-1]))
    n = len(found["recordings"])
    figure.caption = (
        f"Correlation of the mean response with the rate of words through the haemodynamic response. {_lines(n)} "
        "Dotted: the clock as it is, where the peak (dot) should be; to the right, the response comes later than the "
        "clock says."
    )
    return figure


@rc_context(STYLE)
def word_response(found: Mapping[str, Any]) -> CaptionedFigure:
    """Draw the mean response to word onset: every channel, and below it the field power."""
    latency_s = np.array(found["latency_s"], dtype=float)
    figure = CaptionedFigure(figsize=(WIDTH_IN, 4.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    channels = np.array(found["channels"]["values"], dtype=float)
    shown = channels[np.unique(np.linspace(0, len(channels) - 1, min(N_CHANNELS, len(channels))).round().astype(int))]
    top.plot(latency_s, shown.T, color=look(0).colour, linewidth=0.5, alpha=0.4, rasterized=True)
    table = pd.DataFrame({i: entry["field_power"] for i, entry in enumerate(found["recordings"])}, dtype=float)
    draw_subjects(bottom, latency_s, table, look(0))
    draw_mean(bottom, latency_s, table, look(0))
    for axes in (top, bottom):
        axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    top.axhline(0, color="black", linewidth=0.8)
    bottom.axvline(found["peak_s"], color=look(1).colour, linewidth=1)
    top.set(ylabel="channels (SD)")
    bottom.set(xlabel="latency from word onset (s)", ylabel="field power (SD)", xlim=(latency_s[0], latency_s[-1]))
    bottom.set_ylim(bottom=0)
    n, n_channels = len(found["recordings"]), len(channels)
    figure.caption = (
        f"Mean response to word onset, in standard deviations of each channel over its recording. Above: {len(shown)} "
        f"of {n_channels} channels, mean over the {found['channels']['n_recordings']} recordings that have the same. "
        f"Below: root mean square over channels. {_lines(n)} Dotted: word onset; upright line: the highest mean."
    )
    return figure


def _lines(n: int) -> str:
    if n == 1:
        return "A single recording."
    return f"Thin lines: recordings (n = {n}); thick line: their mean; band: ± 1 standard error over recordings."


def _means(tables: Iterable[Mapping[str, float | None]]) -> dict[str, float]:
    """The mean by name over stimuli, of those that are defined, in order of first appearance."""
    values: dict[str, list[float]] = {}
    for table in tables:
        for name, value in table.items():
            values.setdefault(name, []).extend([] if value is None else [value])
    return {name: float(np.mean(given)) for name, given in values.items() if given}


def _draw_values(axes: Axes, values: Mapping[str, float], what: str) -> None:
    """A dot for each name, the highest on top, or a histogram where there are too many."""
    names, r = sorted(values, key=lambda name: values[name]), np.sort(list(values.values()))
    if len(r) > N_NAMED:
        axes.hist(r, bins="auto", color=look(0).colour)
        axes.set_ylabel(f"{what}s")
    else:
        y = np.arange(len(r))
        axes.hlines(y, 0, r, color=look(0).colour, linewidth=1, alpha=0.5)
        axes.plot(r, y, "o", color=look(0).colour, markersize=5)
        axes.set_yticks(y, labels=[short(str(name), 24) for name in names], fontsize=8, parse_math=False)
        axes.set_ylim(-0.7, len(r) - 0.3)
    axes.axvline(0, color="black", linewidth=0.8)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, -LEAST_R), max(high, LEAST_R))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(f"r with the other subjects, by {what}")
