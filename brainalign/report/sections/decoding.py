"""Decoding in the report: what of each layer is read out of the responses, beside chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context

from brainalign.report.curves import curves
from brainalign.report.drawing import STYLE, add_key, cell_edges, even_edges, heat_map, mark_curves
from brainalign.report.figures import WIDTH_IN, CaptionedFigure
from brainalign.report.html import Picture, Section, picture, table_of
from brainalign.report.means import layer_table, subject_names
from brainalign.report.sections.against_chance import Panel, against_chance, interval
from brainalign.report.sections.naming import layer_names
from brainalign.report.writing import number, p_text
from brainalign.types import Floats, Scores

__all__ = ["section"]


def section(scores: Scores) -> Section | None:
    """What is decoded of each layer, mean over subjects and each by itself; None where nothing could be."""
    if "decoding_r" not in scores or not np.isfinite(scores["decoding_r"].values).any():
        return None
    told = scores.attrs["answers"]["decoding"]
    caption = ", mean over folds, then over subjects"
    if "latency" in scores["decoding_r"].dims:
        caption += "; at the latency with the highest mean r of each layer, selected on these same scores"
    retrieved = table_of(list(_retrieved(scores)), ["layer"])
    return Section(
        "Decoding",
        tuple(_sentences(scores, told)),
        pictures=(_by_latency(scores) if "latency" in scores["decoding_r"].dims else _by_layer(scores),),
        tables=(
            (f"Decoding{caption}", table_of(list(_rows(scores, told)), ["layer"])),
            (f"Retrieval{caption}", retrieved),
        ),
        folded=(("Decoding in each subject", table_of(list(_each(scores, told)), ["subject", "layer"])),),
    )


def _sentences(scores: Scores, told: Mapping[str, Any]) -> Iterator[str]:
    counts = scores["decoding_n_components"].values
    components = "columns" if told["n_components"] is None else "principal components (of the features of all samples)"
    delays = "" if list(told["delays"]) == [0] else f", those of {told['delays']} rows later"
    latencies = {"all": "all responses together", "each": "the responses at each latency by themselves"}
    yield (
        f"The model of encoding read backwards: {_range(counts)} {components} of each layer are predicted by ridge "
        f"from {latencies[told['latencies']]}{delays}, on the folds of the scores above. r is the mean correlation of "
        "predicted and actual components. That a layer can be read out says that its content can be had from the "
        "responses, not where they carry it, nor that they carry it as the layer does."
    )
    yield (
        "Retrieval is within each held-out fold, among samples that are no neighbours in time, by the cosine of their "
        "components: how often a sample's own features are among the k nearest to what is predicted of it, the rank of "
        "its own, and how often two samples are told apart; chance is .5 for the last two."
    )
    if not any(told["n_permutations"].values()):
        yield "There were no shifts, so that no r has a p."
        return
    yield (
        f"r is tested against features that are circularly shifted within each hearing ({_count(told)} permutations, "
        f"by at least {told['min_shift_s']:g} s), every one fitted anew at the penalties that were chosen; one-sided, "
        "p = (1 + number as high) / (1 + number of shifts)."
    )
    if len(subject_names(scores)) > 1:
        yield (
            "The mean over subjects has a p of its own, in which each shift is the same for all subjects; q: "
            f"Benjamini-Hochberg over {_family(scores)}."
        )


def _rows(scores: Scores, told: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    peak = _peaks(scores)
    for layer, name in enumerate(layer_names(scores)):

        def of_group(what: str, layer: int = layer) -> float:
            variable = f"decoding_group_{what}"
            if variable not in scores:
                return np.nan
            return float(scores[variable].values[layer, *peak[layer]])

        row = {"layer": name}
        if peak[layer]:
            row["latency (s)"] = number(float(scores["latency"].values[peak[layer][0]]), 2)
        row["r"] = number(of_group("mean"))
        if "decoding_group_low" in scores:
            row["95 % interval (bootstrap over subjects)"] = interval(of_group("low"), of_group("high"))
        if "decoding_group_p" in scores:
            row["r of shifted features"] = number(of_group("chance"))
            row[f"p circular shift ({_count(told)} permutations)"] = p_text(of_group("p"), _most(told))
            row[f"q over {_family(scores)}"] = p_text(of_group("q"))
        yield row


def _retrieved(scores: Scores) -> Iterator[dict[str, str]]:
    peak = _peaks(scores)
    for layer, name in enumerate(layer_names(scores)):
        yield {"layer": name} | _matches(scores, (layer, slice(None), *peak[layer]))


def _each(scores: Scores, told: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    peak = _peaks(scores)
    for column, subject in enumerate(scores["of_subject"].values.astype(str)):
        for layer, name in enumerate(layer_names(scores)):
            place = (layer, slice(column, column + 1), *peak[layer])
            row = {"subject": subject, "layer": name, "r": number(_mean(scores["decoding_r"].values[place]))}
            count = told["n_permutations"][subject]
            if count:
                p = p_text(_mean(scores["decoding_p"].values[place]), count)
                row[f"p circular shift ({_count(told)} permutations)"] = p
            yield row | _matches(scores, place)


def _matches(scores: Scores, place: tuple[Any, ...]) -> dict[str, str]:
    """How well samples are told apart, mean over the subjects at this place."""
    row = {}
    for number_, k in enumerate(scores["k"].values.tolist()):
        found, chance = (
            _mean(scores[f"decoding_{name}"].values[(*place, number_)]) for name in ("top_k", "chance_top_k")
        )
        row[f"top {k} (chance)"] = f"{number(found)} ({number(chance)})"
    row["rank accuracy"] = number(_mean(scores["decoding_rank_accuracy"].values[place]))
    row["two told apart"] = number(_mean(scores["decoding_two_vs_two"].values[place]))
    return row


def _peaks(scores: Scores) -> list[tuple[int, ...]]:
    """Where each layer's latency of the highest mean r is; nothing where there are none."""
    mean = scores["decoding_group_mean"].values
    if mean.ndim == 1:
        return [()] * len(mean)
    return [(int(np.where(np.isfinite(course), course, -np.inf).argmax()),) for course in mean]


def _by_layer(scores: Scores) -> Picture:
    chance = [
        scores[f"decoding_group_{name}"].values if f"decoding_group_{name}" in scores else None
        for name in ("chance", "chance_high")
    ]
    figure = against_chance(scores, [Panel("r of decoded\ncomponents", scores["decoding_r"].values, *chance)])
    n = scores.sizes["of_subject"]
    lines = f"Thin lines: subjects (n = {n}); thick: their mean ± 1 standard error" if n > 1 else "A single subject"
    shifted = " Grey: the mean of shifted features, up to their 95th percentile." if chance[0] is not None else ""
    figure.caption = f"Decoding by layer: mean correlation of predicted and actual components. {lines}.{shifted}"
    return picture("What of each layer is decoded", figure)


@rc_context(STYLE)
def _by_latency(scores: Scores) -> Picture:
    mean, drawn = scores["decoding_group_mean"].values, curves(layer_table(scores))
    rows = np.concatenate([curve.rows for curve in drawn])
    length_in = max(2.6, 0.3 * len(drawn))
    figure = CaptionedFigure(figsize=(WIDTH_IN, length_in + 1.2), layout="constrained")
    axes = figure.subplots()
    y = cell_edges(drawn, length_in)
    x = even_edges(scores["latency"].values.astype(float))
    heat_map(figure, axes, mean[rows], "r of decoded components", x, y)
    add_key(figure, mark_curves(axes, axes.yaxis, drawn, y, length_in))
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("latency from word onset (s)")
    figure.caption = (
        f"Decoding by layer and latency, mean over subjects (n = {scores.sizes['of_subject']}). Dotted: word onset. "
        "Grey: undefined."
    )
    return picture("When each layer is decoded", figure)


def _family(scores: Scores) -> str:
    return "layers and latencies" if "latency" in scores["decoding_r"].dims else "layers"


def _count(told: Mapping[str, Any]) -> str:
    return _range(np.array(list(told["n_permutations"].values())))


def _most(told: Mapping[str, Any]) -> int:
    return max(told["n_permutations"].values())


def _range(values: Floats) -> str:
    low, high = values.min(), values.max()
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def _mean(values: Any) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
