"""The tests in the report: every p with its test, its number of permutations and its family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from brainalign.report.html import Section, table_of
from brainalign.report.means import subject_names
from brainalign.report.sections.naming import layer_names
from brainalign.report.writing import number, p_text, signed
from brainalign.types import Scores

__all__ = ["section"]

LEVEL = 0.05
TITLES = {"r": "r", "gain": "gain over the baseline"}
SUBJECT_TESTS = {"wilcoxon": "Wilcoxon", "t": "t", "sign_flip": "sign flip"}


def section(scores: Scores) -> Section | None:
    """What was tested, how, and the p values of each layer; None where nothing was."""
    told = scores.attrs["answers"]["tests"]
    statistics = [name for name in TITLES if f"p_{name}" in scores]
    if not statistics:
        return None
    tables = [
        (f"Tests of {TITLES[name]}, layer by layer", table_of(_rows(scores, name), ["layer"])) for name in statistics
    ]
    each = [
        (f"Tests of {TITLES[name]} in each subject", table_of(list(_subject_rows(scores, name)), ["subject", "layer"]))
        for name in statistics
    ]
    return Section("Tests", tuple(_sentences(scores, told, statistics)), tables=tuple(tables), folded=tuple(each))


def _sentences(scores: Scores, told: Mapping[str, Any], statistics: list[str]) -> Iterator[str]:
    count, name = told["permutations"], told["name"]
    yield (
        f"Each score is tested against those of {count:,} surrogates of the responses ({name}, within each stimulus of "
        f"each run{_length(told)}), every one fitted anew in training and test at the penalties that were chosen; "
        "one-sided, p = (1 + number as high) / (1 + number of surrogates)."
    )
    if "gain" in statistics:
        yield (
            "For the gain only what the baseline leaves of the responses is changed, so that what words share with "
            "their simple properties is in every surrogate (Freedman & Lane, 1983). By chance a gain is below zero, "
            "since the layer's columns cost more than they bring: a gain above chance need not be above zero."
        )
    if len(subject_names(scores)) > 1:
        yield (
            "Stimulus-level: the mean over subjects against its own null, where all subjects get the same surrogate; "
            "it allows for the chance that subjects share because they heard the same stimulus. Wilcoxon, t and sign "
            "flip take subjects for independent; alone they are wrong in 9 to 22 % of such cases at .05. q: "
            "Benjamini-Hochberg over the layers of all feature spaces."
        )
    else:
        yield "There is one subject: the tests say nothing of others."
    for statistic in statistics:
        yield _targets(scores, statistic, name, count)
        if f"target_p_stimulus_{statistic}" in scores:
            yield _shared_targets(scores, statistic, name, count)


def _length(told: Mapping[str, Any]) -> str:
    """How far, or in how long blocks, in words; nothing where a surrogate has no length."""
    unit = "items" if told["rows"] == "items" else "s"
    words = {"circular_shift": ", by at least {:g} {}", "block_permutation": ", in blocks of at least {:g} {}"}
    return words.get(told["name"].replace(" ", "_"), "").format(told["min_shift_s"], unit)


def _targets(scores: Scores, statistic: str, test: str, count: int) -> str:
    """How many targets are significant, with the family of the correction."""
    q, largest = scores[f"q_{statistic}"].values, scores[f"p_max_{statistic}"].values
    n_layers = scores.sizes["layer"]
    tested = np.isfinite(q)
    if not tested.any():
        return f"No target's {TITLES[statistic]} could be tested."
    latencies = " and latencies" if "latency" in scores.dims else ""
    words = (
        f"Target by target, {TITLES[statistic]} ({test}, {count:,} permutations): {(q < LEVEL)[tested].mean():.0%} of "
        f"{int(tested.sum()):,} tests over {n_layers} layers have q < .05 (Benjamini-Hochberg; family: all targets"
        f"{latencies} of a subject and layer{_fewest(scores, tested, count)}); "
        f"{(largest < LEVEL)[tested].mean():.0%} have p < .05 by the maximum statistic (family: all targets{latencies} "
        "of a subject in all layers of a feature space)"
    )
    name = f"p_cluster_{statistic}"
    if name in scores:
        words += (
            f"; {(scores[name].values < LEVEL)[tested].mean():.0%} lie in a cluster of p < .05 (cluster mass, family: "
            "all clusters of a subject and layer; no claim on where a cluster begins or ends)"
        )
    return f"{words}."


def _fewest(scores: Scores, tested: np.ndarray, count: int) -> str:
    """How many tests of a family must have the smallest p for any q to be below the level, where one is not enough."""
    whose = scores["subject"].values.astype(str)
    family = max(int(tested[0][whose == subject].sum()) for subject in subject_names(scores))
    fewest = int(np.ceil(family / (LEVEL * (count + 1))))
    if fewest <= 1:
        return ""
    return f"; with so many permutations q < .05 takes {fewest} or more of its {family:,} tests at the smallest p"


def _shared_targets(scores: Scores, statistic: str, test: str, count: int) -> str:
    """The same of the means over subjects, of targets that all subjects have."""
    q = scores[f"target_q_stimulus_{statistic}"].values
    tested = np.isfinite(q)
    latencies = " and latencies" if "latency" in scores.dims else ""
    words = (
        f"Of the means over {len(subject_names(scores))} subjects of {TITLES[statistic]}, target by target "
        f"(stimulus-level, {test}, {count:,} permutations), {(q < LEVEL)[tested].mean():.0%} of {int(tested.sum()):,} "
        f"tests have q < .05 (Benjamini-Hochberg; family: all targets{latencies} of a layer)"
    )
    name = f"target_p_cluster_{statistic}"
    if name in scores:
        words += (
            f"; {(scores[name].values < LEVEL)[tested].mean():.0%} lie in a cluster of p < .05 (cluster mass, family: "
            "all clusters of a layer)"
        )
    return f"{words}."


def _rows(scores: Scores, statistic: str) -> list[dict[str, str]]:
    count = scores.attrs["answers"]["tests"]["permutations"]
    digits = 4 if statistic == "gain" else 3
    write = signed if statistic == "gain" else number
    rows = []
    for place, layer in enumerate(layer_names(scores)):
        row = {
            "layer": layer,
            "mean": write(float(scores[f"group_mean_{statistic}"].values[place]), digits),
            "by chance": write(float(scores[f"group_chance_{statistic}"].values[place]), digits),
        }
        if f"group_low_{statistic}" in scores:
            low, high = (float(scores[f"group_{end}_{statistic}"].values[place]) for end in ("low", "high"))
            row["95 % interval (bootstrap over subjects)"] = f"{write(low, digits)} to {write(high, digits)}"
            row[f"p stimulus-level ({count:,} permutations)"] = _p(
                scores, f"group_p_stimulus_{statistic}", place, count
            )
            row["q over layers"] = p_text(float(scores[f"group_q_stimulus_{statistic}"].values[place]), count)
        for test, name in SUBJECT_TESTS.items():
            if f"group_p_{test}_{statistic}" in scores:
                row[f"p {name}"] = _p(scores, f"group_p_{test}_{statistic}", place)
        rows.append(row)
    return rows


def _subject_rows(scores: Scores, statistic: str) -> Iterator[dict[str, str]]:
    count = scores.attrs["answers"]["tests"]["permutations"]
    q, whose = scores[f"q_{statistic}"], scores["subject"].values.astype(str)
    for number_, subject in enumerate(scores["of_subject"].values.astype(str)):
        of_subject = q.values[:, whose == subject]
        for place, layer in enumerate(layer_names(scores)):
            tested = np.isfinite(of_subject[place])
            yield {
                "subject": subject,
                "layer": layer,
                "mean": number(float(scores[f"subject_mean_{statistic}"].values[place, number_]), 4),
                f"p of the mean ({count:,} permutations)": p_text(
                    float(scores[f"subject_p_{statistic}"].values[place, number_]), count
                ),
                "tests with q < .05": f"{int((of_subject[place] < LEVEL).sum())} of {int(tested.sum())}",
            }


def _p(scores: Scores, name: str, place: int, count: int | None = None) -> str:
    return p_text(float(scores[name].values[place]), count)
