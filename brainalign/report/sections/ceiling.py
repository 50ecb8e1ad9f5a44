"""Ceilings in the report: what a perfect model would score, and how near each layer comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from brainalign.report.html import Section, table_of
from brainalign.report.sections.naming import layer_names
from brainalign.report.writing import number
from brainalign.types import Scores

__all__ = ["section"]


def section(scores: Scores) -> Section:
    """Where the ceiling comes from, and scores as shares of it, or that there is none."""
    if "ceiling" not in scores:
        nothing = 'No subject has a ceiling ("Warnings and findings" says why), so that no score is divided by one.'
        return Section("Ceiling", (nothing,))
    told = scores.attrs["answers"]["ceiling"]
    rows = []
    for place, name in enumerate(layer_names(scores)):
        share, low, high = (
            float(scores[f"r_over_ceiling_{end}"].values[place]) for end in ("aggregate", "low", "high")
        )
        interval = f"{number(low)} to {number(high)}" if np.isfinite(low) else number(np.nan)
        rows.append({"layer": name, "r / ceiling": number(share), "95 % interval": interval})
    drawn = " and ".join(told["resampled"])
    caption = (
        f"Mean r over mean ceiling, of targets with a usable ceiling (interval: bootstrap over {drawn or 'nothing'})"
    )
    return Section("Ceiling", tuple(_sentences(scores, told)), tables=((caption, table_of(rows, ["layer"])),))


def _sentences(scores: Scores, told: Mapping[str, Any]) -> Iterator[str]:
    sources = sorted(set(told["sources"].values()))
    status = scores["ceiling_status"].values.astype(str)
    ceiling = scores["ceiling"].values
    usable = status == "ok"
    yield f"The ceiling of a target is the root of its {'; '.join(sources)}."
    if usable.any():
        middle = np.nanmedian(ceiling[usable])
        yield (
            f"{int(usable.sum())} of {len(usable)} targets have a usable ceiling, of median r = {_mean(middle)}. "
            f"The others are left out by name in scores.nc (ceiling_status): {_counts(status)}. A ceiling is an "
            "estimate; scores above it are told below and not cut."
        )
    else:
        yield f"No target has a usable ceiling ({_counts(status)}), so that no score is divided by one."
    if "isc_leave_one_out" in scores:
        yield (
            "Beside it stands the correlation of a subject with the mean of the others, on average "
            f"{_mean(scores['isc_leave_one_out'])}{_from_others(scores)}. None of these is an upper bound: a subject's "
            "own part can be predictable too."
        )


def _from_others(scores: Scores) -> str:
    if "r_from_others" not in scores:
        return ""
    return f", and a ridge from the others' mean response, on the same folds, with r = {_mean(scores['r_from_others'])}"


def _mean(values: Any) -> str:
    return number(float(np.nanmean(values)) if np.isfinite(values).any() else np.nan)


def _counts(status: np.ndarray) -> str:
    others = {name: int((status == name).sum()) for name in ("low", "undefined", "not significant")}
    words = {"low": "at most the threshold", "undefined": "undefined", "not significant": "not significant"}
    return ", ".join(f"{count} {words[name]}" for name, count in others.items() if count) or "none"
