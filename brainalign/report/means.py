"""The averages that tables and figures share: over folds, then over targets, then over latencies."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.types import Scores

__all__ = ["VARIABLES", "fold_means", "is_ok", "layer_table", "mean_by", "subject_names"]

# In the order in which tables show them; `gain` is computed here, the others are in the scores.
VARIABLES = ("r", "r2", "r_baseline", "r_joint", "gain")


def fold_means(scores: Scores) -> xr.Dataset:
    """Average each variable of `VARIABLES` that the scores have over the folds in which it is defined.

    The gain, `r_joint - r_baseline`, is taken fold by fold before it is averaged: where one of the two is undefined in
    a fold, means over different folds would be subtracted. Targets whose status is not "ok" are NaN throughout.

    Returns
    -------
    xarray.Dataset
        float64, dimensions ``layer`` (not for a baseline that has none), ``target`` and, if scored, ``latency``.
    """
    found = {name: scores[name] for name in VARIABLES if name in scores}
    if "r_joint" in found and "r_baseline" in found:
        found["gain"] = found["r_joint"] - found["r_baseline"]
    ok = xr.DataArray(is_ok(scores), dims="target")
    means = {name: values.mean("fold").astype(np.float64).where(ok) for name, values in found.items()}
    return xr.Dataset(means)


def is_ok(scores: Scores) -> np.ndarray:
    """Whether each target has the status "ok", shape (target,); all have where the scores hold no status."""
    if "status" not in scores:
        return np.ones(scores.sizes["target"], dtype=bool)
    return scores["status"].values.astype(str) == "ok"


def mean_by(values: xr.DataArray, coordinate: str) -> xr.DataArray:
    """Average the targets that share a `coordinate` of ``target``, over those that are defined.

    Returns
    -------
    xarray.DataArray
        The dimension `coordinate`, in order of first appearance, in the place of ``target``, put first.
    """
    values = values.transpose("target", ...)
    others = [dimension for dimension in values.dims if dimension != "target"]
    # pandas groups tens of thousands of voxels in one pass, and gives NaN, without a warning, for what is all NaN.
    flat = pd.DataFrame(values.values.reshape(values.sizes["target"], -1))
    means = flat.groupby(values[coordinate].values.astype(str), sort=False).mean()
    return xr.DataArray(
        means.to_numpy().reshape(len(means), *(values.sizes[dimension] for dimension in others)),
        dims=[coordinate, *others],
        coords={coordinate: means.index.to_numpy(dtype=str)}
        | {dimension: values[dimension] for dimension in others if dimension in values.indexes},
    )


def layer_table(scores: Scores) -> pd.DataFrame:
    """Name the layers: columns ``feature_space``, ``layer`` (index within its space), ``layer_name``, ``depth``."""
    return pd.DataFrame(
        {
            "feature_space": scores["feature_space"].values.astype(str),
            "layer": scores["layer_index"].values.astype(int),
            "layer_name": scores["layer_name"].values.astype(str),
            "depth": scores["depth"].values.astype(float),
        }
    )


def subject_names(scores: Scores) -> list[str]:
    """The subjects, in order of first appearance."""
    return list(dict.fromkeys(scores["subject"].values.astype(str).tolist()))
