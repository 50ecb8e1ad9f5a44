"""Variance partitioning in the report."""

from __future__ import annotations

import numpy as np

from brainalign.report.html import Section, table_of
from brainalign.report.means import is_ok
from brainalign.report.writing import number, signed
from brainalign.types import Scores

__all__ = ["section"]


def section(scores: Scores) -> Section | None:
    """What each space explains alone and what spaces share, mean over targets and subjects."""
    told = scores.attrs["answers"]["partition"]
    ok = is_ok(scores)
    of_subjects = scores["partition_subject"].values
    several = "partition_low" in scores
    rows = []
    for place, subset in enumerate(scores["subset"].values.astype(str)):
        row = {
            "spaces": subset,
            "R² of their model": number(_mean(scores["partition_r2"].values[place, ok]), 4),
            "explained by exactly these": signed(float(of_subjects[:, place].mean()), 4),
        }
        if several:
            low, high = (float(scores[f"partition_{end}"].values[place]) for end in ("low", "high"))
            row["95 % interval (bootstrap over subjects)"] = f"{signed(low, 4)} to {signed(high, 4)}"
        if place < scores.sizes["space"] and "partition_product" in scores:
            row["product measure"] = signed(_mean(scores["partition_product"].values[place, ok]), 4)
        rows.append(row)
    reduced = (
        f" A feature space of more than {told['n_components']} columns is given as so many principal components, made "
        "without the responses."
        if told["n_components"]
        else ""
    )
    paragraphs = (
        f"Models of every subset of {', '.join(told['spaces'])} on the same folds, joint ones with a penalty for each "
        "space (banded ridge, random search). What exactly some spaces explain is what each of them explains and no "
        "other does: for one space its unique part, for several their shared part. The parts add up to the R² of all "
        "together. They are held-out estimates: negative ones stay negative, and each falls short of what its spaces "
        f"could explain, the more the wider these are.{reduced}",
        "The product measure divides the R² of the joint model among the spaces, what they share included.",
    )
    caption = "Partition of R² (against the training mean), mean over targets, then subjects"
    return Section("Variance partition", paragraphs, tables=((caption, table_of(rows, ["spaces"])),))


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
