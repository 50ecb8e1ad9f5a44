"""The baseline ladder in the report: what each rung explains, and what layers add to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from brainalign.report.html import Section, table_of
from brainalign.report.means import is_ok
from brainalign.report.sections.naming import layer_names
from brainalign.report.writing import number, signed
from brainalign.types import Scores

__all__ = ["section"]

WORDS = {
    "rate": "the rate of words, and the sound where it is given",
    "words": "length, frequency and the other properties of the baseline, place in the sentence, time within the run",
    "static": "a static embedding",
    "surprisal": "surprisal",
    "untrained": "the middle layer of an untrained network",
}


def section(scores: Scores) -> Section | None:
    """The rungs' scores and the layers' increments, mean over targets and subjects."""
    told = scores.attrs["answers"]["ladder"]
    ok = is_ok(scores)
    r2, r = (scores[f"ladder_{name}"].values[:, ok] for name in ("r2", "r"))
    rungs = [
        {
            "rung": rung,
            "columns": str(columns),
            "variance kept": f"{kept:.0%}",
            "R²": number(_mean(r2[place]), 4),
            "r": number(_mean(r[place])),
        }
        for place, (rung, columns, kept) in enumerate(
            zip(told["rungs"], told["n_columns"], told["variance_kept"], strict=True)
        )
    ]
    tables = (
        ("Each rung with all before it, mean over targets and subjects", table_of(rungs, ["rung"])),
        ("R² that a layer adds to each rung (joint minus rung)", table_of(list(_increments(scores, ok)), ["layer"])),
    )
    return Section("Baseline ladder", tuple(_sentences(scores, told)), tables=tables)


def _sentences(scores: Scores, told: Mapping[str, Any]) -> Iterator[str]:
    rungs = "; ".join(f"{rung}: {WORDS.get(rung, rung)}" for rung in told["rungs"])
    yield (
        f"Nested baselines on the same folds, each with the columns of all before it ({rungs}). A rung of more than "
        f"{told['n_components']} columns is given as so many principal components, made without the responses; what "
        "they leave out may be what a layer seems to add. R² is against the training mean."
    )
    if "ladder_oasm" in scores:
        r = _mean(scores["ladder_oasm"].values)
        yield (
            "Neighbouring samples alone (identity smoothed within runs; Feghhi et al., 2024) "
            + (
                f"predict held-out responses on these folds with r = {number(r)}."
                if np.isfinite(r)
                else "predict nothing on these folds: no held-out sample has a neighbour among the training samples."
            )
        )


def _increments(scores: Scores, ok: np.ndarray) -> Iterator[dict[str, str]]:
    joint, alone = scores["ladder_r2_joint"].values[..., ok], scores["ladder_r2"].values[:, ok]
    for place, layer in enumerate(layer_names(scores)):
        added = joint[:, place] - alone
        if np.isfinite(added).any():
            rungs = scores["rung"].values.astype(str)
            yield {"layer": layer} | {
                f"over {rung}": signed(_mean(added[rung_number]), 4) for rung_number, rung in enumerate(rungs)
            }


def _mean(values: Any) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
