"""Tables of scores: one row per subject and layer, the group's profile, and planted truths found again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.errors import DataError
from brainalign.files import atomic_path
from brainalign.report.means import VARIABLES, fold_means, is_ok, layer_table, mean_by, subject_names
from brainalign.types import Scores

__all__ = ["Recovery", "group_profile", "planted_recovery", "summary", "write_summary"]

LAYER_COLUMNS = ["feature_space", "layer", "layer_name"]
TEXT_COLUMNS = ("subject", "feature_space", "layer_name", "best_target")
# Of targets that are called significant.
LEVEL = 0.05
GROUP_VARIABLES = ("r", "r_baseline", "r_joint", "gain")


def summary(scores: Scores) -> pd.DataFrame:
    """Average the scores of each subject, feature space and layer.

    Means are over folds first, then over the targets whose status is "ok", then over latencies, each over what is
    defined; a mean of nothing is NaN. Correlations are averaged as they are, without Fisher's transform.

    Parameters
    ----------
    scores : Scores
        Of any number of subjects, who may differ in their targets.

    Returns
    -------
    pandas.DataFrame
        One row per subject x feature space x layer, with the columns ``subject``, ``feature_space``, ``layer`` (index
        within the space), ``layer_name``, ``n_targets`` (status ok); ``r``, ``r2``, ``r_baseline``, ``r_joint``,
        ``gain`` (`r_joint - r_baseline`, paired by fold) as far as the scores have them; with a ceiling ``ceiling``
        (the mean of the usable ones) and ``r_over_ceiling`` (the mean r of those targets over it); with tests ``p`` and
        ``p_gain`` (of the subject's mean over targets), ``n_significant`` and ``n_significant_gain`` (targets with
        q < .05 of r and of the gain, at one latency or more) and ``test``, which says by which test, of how many
        permutations and in which families; ``best_target`` and
        ``r_best_target``, the target with the highest r (mean over latencies); with latencies also
        ``best_latency``, in seconds from word onset, where the mean r over targets is highest. The best are chosen
        on these same scores, so that ``r_best_target`` is higher than new data would show.

    Examples
    --------
    >>> scores = Scores(
    ...     {"r": (("layer", "fold", "target"), [[[0.1, 0.5], [0.3, 0.7]]])},
    ...     coords={
    ...         "feature_space": ("layer", ["gpt2"]), "layer_name": ("layer", ["embedding"]),
    ...         "layer_index": ("layer", [0]), "depth": ("layer", [0.0]),
    ...         "subject": ("target", ["01", "01"]), "target_name": ("target", ["V1", "STG"]),
    ...     },
    ... )
    >>> summary(scores)[["subject", "layer", "n_targets", "r", "best_target", "r_best_target"]].round(3)
      subject  layer  n_targets    r best_target  r_best_target
    0      01      0          2  0.4         STG            0.6
    """
    means = fold_means(scores)
    layers = layer_table(scores)
    by_subject = {name: mean_by(values, "subject") for name, values in means.items()}
    n_ok = pd.Series(is_ok(scores)).groupby(scores["subject"].values.astype(str)).sum()
    rows = []
    for subject in subject_names(scores):
        table = layers.drop(columns="depth")
        table.insert(0, "subject", subject)
        table["n_targets"] = int(n_ok[subject])
        for name in VARIABLES:
            if name in by_subject:
                table[name] = _by_layer(by_subject[name].sel(subject=subject), len(layers))
        own = np.flatnonzero(scores["subject"].values.astype(str) == subject)
        one_subject = means["r"].isel(target=own)
        table = table.assign(**_of_ceiling(scores.isel(target=own), one_subject), **_of_tests(scores, subject, own))
        table["best_target"], table["r_best_target"] = _best_target(one_subject)
        if "latency" in means["r"].dims:
            table["best_latency"] = _best_latency(by_subject["r"].sel(subject=subject))
        rows.append(table)
    return pd.concat(rows, ignore_index=True)


def write_summary(scores: Scores, path: Path) -> None:
    """Write `summary(scores)` as comma separated values in UTF-8; what is undefined reads "NaN".

    A text that a spreadsheet would take for a formula (it starts with ``=``, ``+``, ``-``, ``@``, a tab or a carriage
    return) has an apostrophe put before it. The file appears whole or not at all.
    """
    table = summary(scores)
    for column in TEXT_COLUMNS:
        table[column] = table[column].map(_no_formula, na_action="ignore")
    with atomic_path(Path(path)) as part:
        table.to_csv(part, index=False, na_rep="NaN", encoding="utf-8", lineterminator="\n")


def group_profile(scores: Scores) -> pd.DataFrame:
    """Average `summary(scores)` over subjects, layer by layer.

    Returns
    -------
    pandas.DataFrame
        One row per feature space x layer: ``feature_space``, ``layer``, ``layer_name``, ``n_subjects`` (with a
        defined r), and of ``r``, ``r_baseline``, ``r_joint``, ``gain``, as far as the scores have them, the mean
        over subjects and ``..._se``, its standard error (standard deviation with n - 1, over the root of n; NaN for
        one subject).

    Examples
    --------
    >>> scores = Scores(
    ...     {"r": (("layer", "fold", "target"), [[[0.1, 0.3]]])},
    ...     coords={
    ...         "feature_space": ("layer", ["gpt2"]), "layer_name": ("layer", ["embedding"]),
    ...         "layer_index": ("layer", [0]), "depth": ("layer", [0.0]),
    ...         "subject": ("target", ["01", "02"]), "target_name": ("target", ["STG", "STG"]),
    ...     },
    ... )
    >>> group_profile(scores)[["layer", "n_subjects", "r", "r_se"]].round(3)
       layer  n_subjects    r  r_se
    0      0           2  0.2   0.1
    """
    table = summary(scores)
    groups = table.groupby(LAYER_COLUMNS, sort=False)
    columns: dict[str, pd.Series] = {"n_subjects": groups["r"].count()}
    for name in GROUP_VARIABLES:
        if name in table:
            columns[name] = groups[name].mean()
            columns[f"{name}_se"] = groups[name].sem()
    return pd.DataFrame(columns).reset_index()


@dataclass(frozen=True)
class Recovery:
    """Planted truths of a simulation beside what the scores find.

    Parameters
    ----------
    targets : pandas.DataFrame
        One row per feature space x planted target: ``feature_space``, ``subject``, ``target``, ``planted_layer``,
        ``recovered_layer`` and, where one was planted, ``planted_latency`` and ``recovered_latency`` (seconds).
        What has no defined score has recovered nothing (NaN).
    shares : pandas.DataFrame
        One row per feature space: ``feature_space``, ``n_targets`` and the shares, 0 to 1, of targets whose
        ``layer`` is exact, whose ``latency`` is the sample nearest to the planted one, and whose
        ``latency_within_one`` is at most one sample further.
    """

    targets: pd.DataFrame
    shares: pd.DataFrame


def planted_recovery(scores: Scores) -> Recovery:
    """Compare the planted layer and latency of simulated targets with where their r is highest.

    Parameters
    ----------
    scores : Scores
        With the target coordinates ``planted_layer`` (index within the feature space; -1: none) and optionally
        ``planted_latency`` (seconds from word onset). Fold means are maximised over layers and latencies at once. The
        truth holds for the feature space that it was planted from; it is compared with each.

    Raises
    ------
    DataError
        If the scores say of no target which layer was planted.

    Examples
    --------
    >>> scores = Scores(
    ...     {"r": (("layer", "fold", "target"), [[[0.1]], [[0.6]]])},
    ...     coords={
    ...         "feature_space": ("layer", ["toy", "toy"]), "layer_name": ("layer", ["a", "b"]),
    ...         "layer_index": ("layer", [0, 1]), "depth": ("layer", [0.0, 1.0]),
    ...         "subject": ("target", ["01"]), "target_name": ("target", ["A"]), "planted_layer": ("target", [1]),
    ...     },
    ... )
    >>> planted_recovery(scores).shares[["feature_space", "n_targets", "layer"]]
      feature_space  n_targets  layer
    0           toy          1    1.0
    """
    if "planted_layer" not in scores.coords:
        raise DataError("The scores have no coordinate 'planted_layer': nothing was planted in them.")
    planted = np.flatnonzero(scores["planted_layer"].values.astype(float) >= 0)
    if len(planted) == 0:
        raise DataError("The coordinate 'planted_layer' is -1 for every target: nothing was planted in them.")
    means = fold_means(scores)["r"].isel(target=planted)
    layers = layer_table(scores)
    tables = [_recovered(means, layers, space) for space in layers["feature_space"].unique()]
    targets = pd.concat(tables, ignore_index=True)
    step_s = float(np.diff(scores["latency"].values).min()) if scores.sizes.get("latency", 0) > 1 else 0.0
    return Recovery(targets, _shares(targets, step_s))


def _by_layer(values: xr.DataArray, n_layers: int) -> np.ndarray:
    """Average over latencies and repeat what has no layers (a baseline) for each; shape (layer,)."""
    if "latency" in values.dims:
        values = values.mean("latency")
    return np.broadcast_to(values.values, (n_layers,))


def _of_ceiling(scores: xr.Dataset, r: xr.DataArray) -> dict[str, float | np.ndarray]:
    """The mean usable ceiling of one subject, and its layers' mean r of those targets as shares of it."""
    if "ceiling" not in scores:
        return {}
    usable = xr.DataArray(scores["ceiling_status"].values.astype(str) == "ok", dims="target")
    ceiling, r = scores["ceiling"].where(usable), r.where(usable)
    if "latency" in scores.dims:
        # As the scores were divided: over the latencies at which the ceiling is usable.
        chosen = scores["ceiling_usable"]
        ceiling, r = ceiling.where(chosen).mean("latency"), r.where(chosen).mean("latency")
    mean = float(ceiling.mean())
    return {"ceiling": mean, "r_over_ceiling": r.mean("target").transpose("layer").values / mean}


def _of_tests(scores: Scores, subject: str, targets: np.ndarray) -> dict[str, np.ndarray | str]:
    """P values of one subject's means over targets, and how many of its targets are significant, layer by layer."""
    found: dict[str, np.ndarray | str] = {}
    for statistic, end in (("r", ""), ("gain", "_gain")):
        if f"subject_p_{statistic}" in scores:
            p = scores[f"subject_p_{statistic}"].sel(of_subject=subject)
            below = scores[f"q_{statistic}"].isel(target=targets) < LEVEL
            significant = below.any("latency") if "latency" in below.dims else below
            found |= {f"p{end}": p.values, f"n_significant{end}": significant.sum("target").values}
    told = scores.attrs.get("answers", {}).get("tests", {})
    if found and "name" in told:
        found["test"] = (
            f"{told['name']}, {told['permutations']} permutations; p: of the mean alone; n_significant: "
            "Benjamini-Hochberg over all targets of a subject and layer"
        )
    return found


def _best_target(means: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """For each layer the name and the mean r of the target with the highest r; missing where none is defined."""
    if "latency" in means.dims:
        means = means.mean("latency")
    r = means.transpose("layer", "target").values
    place, defined = _argmax(r)
    names = means["target_name"].values.astype(str).astype(object)
    return np.where(defined, names[place], np.nan), r[np.arange(len(r)), place]


def _best_latency(values: xr.DataArray) -> np.ndarray:
    """For each layer the latency of the highest r, in seconds; NaN where none is defined."""
    place, defined = _argmax(values.transpose("layer", "latency").values)
    return np.where(defined, values["latency"].values[place], np.nan)


def _argmax(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each row's highest defined value is, and whether the row has any."""
    is_defined = ~np.isnan(rows)
    return np.where(is_defined, rows, -np.inf).argmax(axis=1), np.asarray(is_defined.any(axis=1))


def _no_formula(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _recovered(means: xr.DataArray, layers: pd.DataFrame, space: str) -> pd.DataFrame:
    """One row per target of `means`: what was planted, and what one feature space recovers."""
    rows = np.flatnonzero(layers["feature_space"] == space)
    ordered = [dimension for dimension in ("target", "layer", "latency") if dimension in means.dims]
    r = means.isel(layer=rows).transpose(*ordered).values
    n_latencies = r.shape[2] if r.ndim == 3 else 1
    place, defined = _argmax(r.reshape(len(r), -1))
    table = pd.DataFrame(
        {
            "feature_space": space,
            "subject": means["subject"].values.astype(str),
            "target": means["target_name"].values.astype(str),
            "planted_layer": means["planted_layer"].values.astype(int),
            "recovered_layer": np.where(defined, layers["layer"].to_numpy()[rows][place // n_latencies], np.nan),
        }
    )
    if "planted_latency" in means.coords and "latency" in means.dims:
        table["planted_latency"] = means["planted_latency"].values.astype(float)
        table["recovered_latency"] = np.where(defined, means["latency"].values[place % n_latencies], np.nan)
    return table


def _shares(targets: pd.DataFrame, step_s: float) -> pd.DataFrame:
    hits = pd.DataFrame({"layer": targets["recovered_layer"] == targets["planted_layer"]})
    if "planted_latency" in targets:
        error_s = (targets["recovered_latency"] - targets["planted_latency"]).abs()
        # Half a step is the sample nearest to the truth; latencies are decimal fractions, so allow for their rounding.
        hits["latency"] = error_s <= 0.5 * step_s + 1e-9
        hits["latency_within_one"] = error_s <= 1.5 * step_s + 1e-9
    groups = hits.groupby(targets["feature_space"], sort=False)
    shares = groups.mean().astype(float)
    shares.insert(0, "n_targets", groups.size())
    return shares.reset_index()
