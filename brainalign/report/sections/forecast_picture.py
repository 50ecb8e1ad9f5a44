"""The picture of forecasts: F and A over distances, with what they would be of a brain that knows nothing ahead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from brainalign.report.drawing import STYLE, add_key, draw_mean, draw_subjects, key_height_in, look
from brainalign.report.figures import WIDTH_IN, CaptionedFigure
from brainalign.types import Floats, Scores

__all__ = ["forecast_picture"]

FLOOR, PASSIVE = "#999999", "#555555"


@rc_context(STYLE)
def forecast_picture(scores: Scores) -> CaptionedFigure:
    """Draw F above and A below, mean over each subject's targets (thin lines) and over subjects (thick line).

    Parameters
    ----------
    scores : Scores
        With the answers of `brainalign.questions.forecast.Forecast`.
    """
    variants = scores["forecast_variant"].values.astype(str).tolist() if "forecast_variant" in scores.dims else []
    distance = scores["forecast_distance"].values.astype(float)
    names = ["the layer's own vectors", *variants, "windows from elsewhere", "passive control"]
    figure = CaptionedFigure(figsize=(WIDTH_IN, 4.6 + key_height_in(names)), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 3))
    gain, contrast = scores["forecast_subject_gain"].values, scores["forecast_subject_contrast"].values
    ahead = np.isfinite(contrast).any(axis=0)
    lines = {}
    for number, name in enumerate(variants, start=1):
        of_variant = scores["forecast_subject_variant_gain"].values[:, number - 1]
        lines[name] = _curve(top, distance, of_variant, number)
        of_variant = scores["forecast_subject_variant_contrast"].values[:, number - 1]
        _curve(bottom, distance[ahead], of_variant[:, ahead], number)
    # Last, so that it lies on the others, and is named first.
    lines = {names[0]: _curve(top, distance, gain, 0), **lines}
    _curve(bottom, distance[ahead], contrast[:, ahead], 0)
    if "forecast_floor" in scores:
        floor = float(scores["forecast_floor"].mean())
        lines["windows from elsewhere"] = top.axhline(floor, color=FLOOR, linestyle="--", linewidth=1)
    if "forecast_group_passive" in scores:
        passive = scores["forecast_group_passive"].values[ahead]
        (lines["passive control"],) = bottom.plot(distance[ahead], passive, color=PASSIVE, linestyle=":", linewidth=1.4)
    for axes in (top, bottom):
        axes.axhline(0, color="black", linewidth=0.8)
        axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    top.set_ylabel("F: gain in r")
    bottom.set(ylabel="A: ahead minus\nas far behind", xlabel="words from the present one to the window's last")
    if len(lines) > 1:
        add_key(figure, list(lines), list(lines.values()))
    figure.caption = _caption(scores, len(contrast), [name for name in lines if name != names[0]])
    return figure


def _curve(axes: Axes, x: Floats, by_subject: Floats, number: int) -> Line2D:
    table = pd.DataFrame(by_subject.T)
    if number == 0:
        draw_subjects(axes, x, table, look(number))
    return draw_mean(axes, x, table, look(number), alpha=0.25 if number == 0 else 0.1)


def _caption(scores: Scores, n_subjects: int, others: Sequence[str]) -> str:
    latencies = " and latencies" if "latency" in scores.dims else ""
    parts = [
        "Forecast scores. Above: F, what a window adds to the r of the present word's features; below: A, F of a "
        f"window ahead less F of the one as far behind. Mean over folds, then over targets{latencies}."
    ]
    if n_subjects > 1:
        parts.append(
            f"Thin lines: subjects (n = {n_subjects}); thick line: their mean; band: ± 1 standard error over subjects."
        )
    else:
        parts.append("A single subject: there is no standard error, so no band.")
    if "windows from elsewhere" in others:
        parts.append("Dashed: windows from elsewhere in the story, which is what so many columns cost.")
    if "passive control" in others:
        parts.append("Dotted: A of responses made of the present word and noise only.")
    return " ".join(parts)
