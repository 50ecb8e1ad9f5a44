"""Layer profiles in the report: which layer is best, how sure that is, and whether deeper layers are later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from brainalign.report.html import Picture, Section, picture, table_of
from brainalign.report.means import layer_table
from brainalign.report.writing import equals, number, signed
from brainalign.types import Floats, Scores

__all__ = ["section"]

# With more regions a picture of them cannot be read.
MOST_DRAWN = 60
CONTRASTS = {"middle minus output": "middle_minus_output", "middle minus input": "middle_minus_input"}


def section(scores: Scores) -> Section | None:
    """The group's best layers, the targets' preferred ones, and the order of both; None without several layers."""
    told = scores.attrs["answers"]["profile"]
    if not told["spaces"]:
        return None
    several = scores.sizes["of_subject"] > 1
    interval = " (95 % intervals: bootstrap over subjects)" if several else "; a single subject has no intervals"
    tables = [
        (f"The best layer of the mean over targets{interval}", table_of(_best(scores), ["layers of", "best layer"])),
        (
            f"Middle layers (relative depth .5 to .75) minus the last and the first{interval}",
            table_of(_contrasts(scores), ["layers of"]),
        ),
    ]
    each = ("Each subject", table_of(list(_subjects(scores)), ["subject", "layers of"]))
    paragraphs = [*_of_best(told), *_of_targets(scores, told), *_of_time(scores, told)]
    return Section("Layer profile", tuple(paragraphs), tuple(_pictures(scores)), tuple(tables), (each,))


def _of_best(told: Mapping[str, Any]) -> Iterator[str]:
    if told["nested"]:
        yield (
            "For each subject and held-out fold the best layer is chosen by the mean over targets of scores within the "
            "training samples, and scored on the fold (nested r): nothing is chosen on the samples that it is scored "
            "on. Beside it stands what each subject's highest score would be (chosen on the test), which is too high."
        )
    else:
        yield (
            "Best layers are chosen on the held-out scores themselves (nested: false), so that their r is too high; on "
            "pure noise the best of 13 layers scores about .1."
        )


def _of_targets(scores: Scores, told: Mapping[str, Any]) -> Iterator[str]:
    status = scores["profile_status"].values.astype(str)
    for place, space in enumerate(told["spaces"]):
        names, counts = np.unique(status[place], return_counts=True)
        others = ", ".join(f"{n} {name}" for name, n in zip(names, counts, strict=True) if name != "ok")
        yield (
            f"{space}: {int((status[place] == 'ok').sum())} of {status.shape[1]} targets prefer a layer"
            f"{f' (the others: {others})' if others else ''}: the one of the highest r, and the mean depth weighted "
            f"with positive r (centre of mass).{_reliability(scores, place)}"
        )
    yield (
        (
            "Only targets count whose highest r has p < .05 by the maximum statistic over targets and layers (see "
            "Tests). "
            if told["by_tests"]
            else f"A target counts where its highest r is above {told['threshold']:g}; that is no test. "
        )
        + ("A region counts in a subject where one of its targets does. " if _has_regions(scores) else "")
        + "A centre of mass is drawn to the middle, the more the weaker a target is predicted; compare targets that "
        "are predicted equally well."
    )


def _reliability(scores: Scores, place: int) -> str:
    if "profile_reliability_peak" not in scores:
        return ""
    peak, centre, same = (scores[f"profile_reliability_{name}"].values[place] for name in ("peak", "centre", "same"))
    if not np.isfinite(same).any():
        return " Between two halves of the data there is nothing to compare."
    return (
        " Between two halves of the data, each fitted alone, preferred layers agree over a subject's targets with "
        f"r = {number(_mean(peak), 2)} (highest) and {number(_mean(centre), 2)} (centre of mass), and "
        f"{_mean(same):.0%} are the same, mean over subjects."
    )


def _of_time(scores: Scores, told: Mapping[str, Any]) -> Iterator[str]:
    """When targets and layers are predicted best; nothing where there are no latencies."""
    for place, space in enumerate(told["spaces"] if "profile_latency" in scores else ()):
        peak_s, half_s = (scores[f"profile_latency{end}"].values[place] for end in ("", "_half_area"))
        known = np.isfinite(peak_s)
        if known.any():
            low_s, middle_s, high_s = np.quantile(peak_s[known], (0.25, 0.5, 0.75)).tolist()
            yield (
                f"{space}: r, mean over its layers, is highest at {number(middle_s, 2)} s from word onset (median of "
                f"{int(known.sum())} targets, half of them from {number(low_s, 2)} to {number(high_s, 2)} s); half of "
                f"the area under it lies before {number(float(np.median(half_s[known])), 2)} s. scores.nc has each "
                "target's, with jackknifed standard errors over folds."
            )
    for space, facts in told.get("temporal", {}).items():
        place = told["spaces"].index(space)
        mean, low, high, p, p_stimulus = (
            float(scores[f"profile_temporal_{name}"].values[place])
            for name in ("mean", "low", "high", "p", "p_stimulus")
        )
        less = f", less that of {facts['less']} in the same subject" if "less" in facts else ""
        interval = f" (95 % interval, bootstrap over subjects: {number(low, 2)} to {number(high, 2)})"
        words = (
            f"{space}: depth of a layer and the latency of its highest r (mean over targets, from word onset on) "
            f"correlate with r = {number(mean, 2)}{less}, mean over subjects{interval if np.isfinite(low) else ''}. "
            "Neighbouring layers resemble each other, so that a correlation over layers has no p value of its own"
        )
        tests = []
        if np.isfinite(p):
            tests.append(f"over subjects p {equals(p)} (one-sided sign flips of subjects, {facts['n_flips']:,} flips)")
        if np.isfinite(p_stimulus):
            count = facts["n_shifts"]
            tests.append(
                f"over the stimulus p {equals(p_stimulus, count)} (circular shift, the same for all subjects, "
                f"{count:,} permutations{', before the subtraction' if less else ''})"
            )
        yield words + (f": {'; '.join(tests)}; family: this one correlation." if tests else ", and none is given.")


def _best(scores: Scores) -> list[dict[str, str]]:
    layers, rows = layer_table(scores), []
    for place, space in enumerate(scores["profile_space"].values.astype(str)):
        names = layers.loc[layers["feature_space"] == space, "layer_name"].tolist()
        best, low, high = (scores[f"profile_{name}"].values[place] for name in ("best", "best_low", "best_high"))
        row = {"layers of": space, "best layer": _layer(names, best)}
        if np.isfinite(low):
            row["best layer"] += f" ({_layer(names, low)} to {_layer(names, high)})"
        row["nested r"] = _with_interval(scores, "nested", place, number)
        row["chosen on the test"] = number(float(scores["profile_dipped"].values[place]))
        if "profile_nested_gain_mean" in scores:
            row["nested gain over the baseline"] = _with_interval(scores, "nested_gain", place, signed)
        rows.append(row)
    return rows


def _layer(names: list[str], place: float) -> str:
    return names[int(place)] if np.isfinite(place) else number(np.nan)


def _contrasts(scores: Scores) -> list[dict[str, str]]:
    return [
        {"layers of": space} | {title: _with_interval(scores, name, place, signed) for title, name in CONTRASTS.items()}
        for place, space in enumerate(scores["profile_space"].values.astype(str))
    ]


def _with_interval(scores: Scores, name: str, place: int, write: Any) -> str:
    mean, low, high = (float(scores[f"profile_{name}_{end}"].values[place]) for end in ("mean", "low", "high"))
    digits = 3 if write is number else 4
    return write(mean, digits) + (f" ({write(low, digits)} to {write(high, digits)})" if np.isfinite(low) else "")


def _subjects(scores: Scores) -> Iterator[dict[str, str]]:
    columns = {"nested r": "nested_subject", "depth chosen": "chosen_depth"}
    columns |= {"nested gain": "nested_gain_subject", "halves agree, r": "reliability_peak", "temporal": "temporal"}
    titles = {"temporal": "depth by latency, r"}
    for number_, subject in enumerate(scores["of_subject"].values.astype(str)):
        for place, space in enumerate(scores["profile_space"].values.astype(str)):
            yield {"subject": subject, "layers of": space} | {
                titles.get(title, title): number(float(scores[f"profile_{name}"].values[place, number_]))
                for title, name in columns.items()
                if f"profile_{name}" in scores
            }


def _pictures(scores: Scores) -> Iterator[Picture]:
    from brainalign.report.hierarchies import layer_latencies, preferred_layers

    depth, spaces = scores["depth"].values.astype(float), scores["feature_space"].values.astype(str)
    several = scores.sizes["profile_space"] > 1
    for place, space in enumerate(scores["profile_space"].values.astype(str)):
        of_space = f", {space}" if several else ""
        if _has_regions(scores) and np.isfinite(peak := scores["profile_region_peak"].values[place]).any():
            regions = scores["profile_region"].values.astype(str).tolist()
            figure = preferred_layers(peak, regions, reliability=_of_regions(scores, place))
            yield picture(f"Preferred layer by region{of_space}", figure)
        if "profile_layer_latency" in scores:
            rows = spaces == space
            latency_s = scores["profile_layer_latency"].values[rows].T
            if np.isfinite(latency_s).any():
                r = scores["profile_temporal"].values[place]
                yield picture(f"Latency by layer{of_space}", layer_latencies(latency_s, depth[rows], r=r))


def _has_regions(scores: Scores) -> bool:
    """Whether there are regions, and no more than can be drawn."""
    return "profile_region_peak" in scores and 0 < scores.sizes["profile_region"] <= MOST_DRAWN


def _of_regions(scores: Scores, place: int) -> float | None:
    if "profile_region_reliability" not in scores:
        return None
    found = float(scores["profile_region_reliability"].values[place])
    return found if np.isfinite(found) else None


def _mean(values: Floats) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan
