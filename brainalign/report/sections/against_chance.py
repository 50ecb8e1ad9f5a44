"""A picture of layers beside chance, which sections share: values, and what shifted responses or features give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import rc_context

from brainalign.report.curves import curves
from brainalign.report.drawing import (
    STYLE,
    add_key,
    cell_edges,
    draw_mean,
    draw_subjects,
    key_height_in,
    look,
    mark_curves,
    number_curves,
)
from brainalign.report.figures import WIDTH_IN, CaptionedFigure
from brainalign.report.means import layer_table
from brainalign.report.writing import number
from brainalign.types import Floats, Scores

__all__ = ["Panel", "against_chance", "interval"]

CHANCE = "#999999"


@dataclass(frozen=True)
class Panel:
    """One measure: `values` (layer, subject), and of the mean `chance` and `chance_high` (layer,), where there are."""

    label: str
    values: Floats
    chance: Floats | None = None
    chance_high: Floats | None = None


@rc_context(STYLE)
def against_chance(scores: Scores, panels: Sequence[Panel]) -> CaptionedFigure:
    """Draw each measure layer by layer in a panel of its own, one below the other, feature spaces side by side.

    Parameters
    ----------
    scores : Scores
        For the names of layers.
    panels : sequence of Panel
    """
    drawn = curves(layer_table(scores))
    length_in = WIDTH_IN - 0.9
    edges = cell_edges(drawn, length_in)
    centres = (edges[1:] + edges[:-1]) / 2
    key_in = key_height_in(number_curves(drawn)) if len(drawn) > 1 else 0
    figure = CaptionedFigure(figsize=(WIDTH_IN, 0.9 + 1.8 * len(panels) + key_in), layout="constrained")
    all_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(all_axes, panels, strict=True):
        places = np.concatenate([curve.rows for curve in drawn])
        if panel.chance is not None and panel.chance_high is not None:
            low, high = (np.repeat(ends[places], 2) for ends in (panel.chance, panel.chance_high))
            axes.fill_between(np.repeat(edges, 2)[1:-1], low, high, color=CHANCE, alpha=0.35, linewidth=0)
        start = 0
        for place, curve in enumerate(drawn):
            x = centres[start : start + len(curve.rows)]
            by_subject = pd.DataFrame(panel.values[curve.rows])
            draw_subjects(axes, x, by_subject, look(place))
            draw_mean(axes, x, by_subject, look(place))
            start += len(curve.rows)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set(ylabel=panel.label, xlim=edges[[0, -1]])
    # The panels share their axis: names of curves stand above the first, that of the axis below the last.
    add_key(figure, mark_curves(all_axes[0], all_axes[0].xaxis, drawn, edges, length_in))
    name = all_axes[0].get_xlabel()
    all_axes[0].set_xlabel("")
    all_axes[-1].set_xlabel(name)
    return figure


def interval(low: float, high: float) -> str:
    """Write both ends, or a dash where there are none.

    >>> interval(0.1, 0.25)
    '0.100 to 0.250'
    """
    return f"{number(low)} to {number(high)}" if np.isfinite(low) else number(np.nan)
