"""The scores of several runs, one for each context or size, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.types import Floats, Scores

__all__ = ["StackedScores", "stack_scores"]


@dataclass(frozen=True)
class StackedScores:
    """Scores of one layer for each value of what was varied.

    Attributes
    ----------
    values : array (value,)
        Increasing.
    r : array (value, fold, target)
        Averaged over latencies; NaN for targets whose status is not "ok".
    subject, target_name : arrays (target,) of str
    """

    values: Floats
    r: Floats
    subject: NDArray[np.str_]
    target_name: NDArray[np.str_]

    def by_subject(self) -> tuple[list[str], Floats]:
        """The subjects, and their means over folds and targets, shape (value, subject)."""
        names = list(dict.fromkeys(self.subject.tolist()))
        of_target = mean_defined(self.r, axis=1)
        return names, np.stack([mean_defined(of_target[:, self.subject == name], axis=1) for name in names], axis=1)


def stack_scores(
    scores: Mapping[float, Scores], depth: float, space: str | None = None, variable: str = "r"
) -> StackedScores:
    """Put the same layer of several runs side by side.

    Parameters
    ----------
    scores : mapping of value to Scores
        By context, by size, by minutes of data.
    depth : float
        Relative depth; the nearest layer of each is taken. Fixed beforehand: a best layer of each run would be chosen
        on its test, and from more layers in larger models.
    space : str, optional
        The feature space, where scores hold several.
    variable : {"r", "r2", "r_joint", "gain"}
        Gain is that of baseline and layer together over the baseline.

    Raises
    ------
    DataError
        If the runs differ in their folds or targets.
    RecipeError
        If there is no such feature space or variable, or none to compare.

    Examples
    --------
    >>> def run(r):
    ...     coords = {"feature_space": ("layer", ["gpt2"]), "depth": ("layer", [0.0])}
    ...     coords |= {"subject": ("target", ["01"]), "target_name": ("target", ["STG"])}
    ...     return Scores({"r": (("layer", "fold", "target"), [[[r]]])}, coords=coords)
    >>> stack_scores({64: run(0.2), 8: run(0.1)}, depth=0.67).r.ravel()
    array([0.1, 0.2])
    """
    if not scores:
        raise RecipeError("There are no scores to put side by side.")
    values = np.array(sorted(scores), dtype=np.float64)
    runs = [scores[value] for value in sorted(scores)]
    first, found = runs[0], []
    for value, run in zip(values, runs, strict=True):
        for name in ("subject", "target_name"):
            if run[name].values.astype(str).tolist() != first[name].values.astype(str).tolist():
                raise DataError(f"The scores at {value:g} and {values[0]:g} differ in {name}: score the same targets.")
        if run.sizes["fold"] != first.sizes["fold"]:
            raise DataError(
                f"The scores at {value:g} have {run.sizes['fold']} folds, those at {values[0]:g} "
                f"{first.sizes['fold']}: score them on the same folds."
            )
        found.append(_layer_of(run, depth, space, variable))
    names = (first[name].values.astype(str) for name in ("subject", "target_name"))
    return StackedScores(values, np.stack(found), *names)


def _layer_of(scores: Scores, depth: float, space: str | None, variable: str) -> Floats:
    """Of the layer nearest to `depth`, shape (fold, target)."""
    spaces = scores["feature_space"].values.astype(str)
    if space is None and len(set(spaces.tolist())) > 1:
        raise RecipeError(f"The scores hold several feature spaces: name one. {nearest('', set(spaces.tolist()))}")
    if space is not None and space not in spaces:
        raise RecipeError(f"No feature space '{space}' in these scores. {nearest(space, set(spaces.tolist()))}")
    known = [name for name in ("r", "r2", "r_joint") if name in scores]
    known += ["gain"] if {"r_joint", "r_baseline"} <= set(scores) else []
    if variable not in known:
        raise RecipeError(f"No variable '{variable}' in these scores. {nearest(variable, known)}")
    rows = np.arange(len(spaces)) if space is None else np.flatnonzero(spaces == space)
    row = rows[np.abs(scores["depth"].values[rows] - depth).argmin()]
    values = scores["r_joint"] - scores["r_baseline"] if variable == "gain" else scores[variable]
    values = values.isel(layer=row)
    if "latency" in values.dims:
        values = values.mean("latency")
    r = values.transpose("fold", "target").values.astype(np.float64)
    return np.where(scores["status"].values.astype(str) == "ok", r, np.nan) if "status" in scores else r
