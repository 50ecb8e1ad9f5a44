"""Representational alignment in the report: every measure beside what shifted responses give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from brainalign.report.html import Section, picture, table_of
from brainalign.report.means import subject_names
from brainalign.report.sections.against_chance import Panel, against_chance, interval
from brainalign.report.sections.naming import layer_names
from brainalign.report.writing import number, p_text
from brainalign.types import Scores

__all__ = ["MEASURES", "section"]

MEASURES = {
    "cka": "unbiased linear CKA",
    "cka_biased": "biased linear CKA",
    "rsa": "RSA",
    "procrustes": "held-out Procrustes similarity",
    "cca": "held-out canonical correlation",
    "mutual_neighbours": "shared nearest neighbours",
}
# Measures of pairs of samples, from which near ones are left out.
OF_PAIRS = ("cka", "cka_biased", "rsa", "mutual_neighbours")


def section(scores: Scores) -> Section | None:
    """How alike layers and responses are, and how alike they would be by chance; None where nothing was compared."""
    if "compare_value" not in scores or not np.isfinite(scores["compare_value"].values).any():
        return None
    told = scores.attrs["answers"]["compare"]
    measures = scores["measure"].values.astype(str).tolist()
    tables = tuple(
        (_title(measure, told), table_of(list(_rows(scores, place, told)), ["layer"]))
        for place, measure in enumerate(measures)
    )
    each = tuple(
        (f"{_upper(MEASURES[measure])} in each subject", table_of(list(_each(scores, place, told)), TEXT))
        for place, measure in enumerate(measures)
    )
    return Section(
        "Representational alignment",
        tuple(_sentences(scores, told, measures)),
        pictures=(_picture(scores, measures),),
        tables=tables,
        folded=each,
    )


TEXT = ["subject", "layer"]


def _sentences(scores: Scores, told: Mapping[str, Any], measures: list[str]) -> Iterator[str]:
    names = ", ".join(MEASURES[measure] for measure in measures)
    n_moments = _one_or_range(told["n_moments"].values())
    yield (
        f"Layers and responses are compared as representations of the same {n_moments} moments of the stimulus, "
        f"without a fit from one to the other: {names}. Where a moment was heard more than once, the mean response is "
        f"taken. Columns are {'divided by their standard deviation' if told['standardise'] else 'centred only'}."
    )
    bands = scores["compare_band"].values[np.isfinite(scores["compare_band"].values)]
    if set(measures) & set(OF_PAIRS) and bands.max() > 1:
        how = "as asked for" if told["band"] is not None else "until rows no longer resemble each other"
        yield (
            f"Samples of one run that are less than {_one_or_range(bands.astype(int).tolist())} samples apart ({how}) "
            "are not compared: neighbours in time are alike on both sides, which passes for alignment."
        )
    fitted = [MEASURES[measure] for measure in measures if measure not in OF_PAIRS]
    if fitted:
        yield (
            f"{_upper(' and '.join(fitted))}: the two sides are turned onto each other on training samples and "
            f"compared on held-out ones, on the folds of the scores above, {told['n_components']} principal components "
            "of each side at most."
        )
    if not any(told["n_permutations"].values()):
        yield "There were no shifts, so that no value has a p; values are not zero by chance alone."
        return
    yield (
        f"Chance is what responses give that are circularly shifted within each stimulus ({_count(told)} permutations, "
        f"by at least {_one_or_range(told['min_shifts'].values())} samples), which keep their autocorrelation; p is "
        "one-sided, (1 + number as high) / (1 + number of shifts). A value means little without it: two slow series "
        "are alike without any alignment."
    )
    if len(subject_names(scores)) > 1:
        yield (
            "The mean over subjects has a p of its own, in which each shift is the same for all subjects; q: "
            "Benjamini-Hochberg over the layers of all feature spaces, a family for each measure. Intervals say where "
            "the mean of other subjects would lie; they are no test of chance."
        )


def _rows(scores: Scores, place: int, told: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for layer, name in enumerate(layer_names(scores)):

        def of_group(what: str, layer: int = layer) -> float:
            variable = f"compare_group_{what}"
            return float(scores[variable].values[place, layer]) if variable in scores else np.nan

        row = {"layer": name, "mean": number(of_group("mean"))}
        if "compare_group_low" in scores:
            row["95 % interval (bootstrap over subjects)"] = interval(of_group("low"), of_group("high"))
        if "compare_group_p" in scores:
            row |= {
                "shifted: mean": number(of_group("chance")),
                "shifted: 95th percentile": number(of_group("chance_high")),
                f"p circular shift ({_count(told)} permutations)": p_text(of_group("p"), _most(told)),
                "q over layers": p_text(of_group("q")),
            }
        yield row


def _each(scores: Scores, place: int, told: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for column, subject in enumerate(scores["of_subject"].values.astype(str)):
        for layer, name in enumerate(layer_names(scores)):
            row = {
                "subject": subject,
                "layer": name,
                "value": number(float(scores["compare_value"].values[place, layer, column])),
            }
            if "compare_chance" in scores:
                count = told["n_permutations"][subject]
                row["shifted: mean"] = number(float(scores["compare_chance"].values[place, layer, column]))
                p = p_text(float(scores["compare_p"].values[place, layer, column]), count)
                row[f"p circular shift ({_count(told)} permutations)"] = p
            yield row


def _picture(scores: Scores, measures: list[str]) -> Any:
    panels = []
    for place, measure in enumerate(measures):
        chance = [
            scores[f"compare_group_{name}"].values[place] if f"compare_group_{name}" in scores else None
            for name in ("chance", "chance_high")
        ]
        values = scores.transpose("measure", "layer", "of_subject", ...)["compare_value"].values[place]
        panels.append(Panel(MEASURES[measure].replace(", ", ",\n").replace("held-out ", "held-out\n"), values, *chance))
    figure = against_chance(scores, panels)
    n = scores.sizes["of_subject"]
    lines = f"Thin lines: subjects (n = {n}); thick: their mean" if n > 1 else "A single subject"
    band = ", ± 1 standard error" if n > 1 else ""
    shifted = (
        " Grey: the mean of shifted responses, up to their 95th percentile." if panels[0].chance is not None else ""
    )
    figure.caption = f"Representational alignment by layer. {lines}{band}.{shifted}"
    return picture("Alignment of each layer, beside chance", figure)


def _title(measure: str, told: Mapping[str, Any]) -> str:
    details = {
        "rsa": f" ({told['distance']} distance, {told['comparing']} of dissimilarities)",
        "mutual_neighbours": f" ({told['n_neighbours']} neighbours)",
        "procrustes": f" (alpha {told['alpha']:g})",
    }
    return f"{_upper(MEASURES[measure])}{details.get(measure, '')}, mean over subjects"


def _upper(words: str) -> str:
    return words[0].upper() + words[1:]


def _count(told: Mapping[str, Any]) -> str:
    return _one_or_range(told["n_permutations"].values())


def _most(told: Mapping[str, Any]) -> int:
    return max(told["n_permutations"].values())


def _one_or_range(values: Any) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
