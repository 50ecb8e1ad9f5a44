"""The best layer of a group and its score, chosen and scored on different data, with intervals over subjects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from brainalign.analysis.ceilings.normalisation import bootstrap_counts, percentile_interval
from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.analysis.inference.intervals import Interval, bootstrap_interval
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.types import Finding, Floats

__all__ = ["BestLayer", "ChosenOn", "best_layer"]

ChosenOn = Literal["inside", "folds", "subjects"]

# What choosing on others leaves in the score.
SHARED: dict[ChosenOn, tuple[Finding, ...]] = {
    "inside": (),
    "folds": (
        Finding(
            "layer-chosen-on-folds",
            "best layer",
            "chosen on the other folds, whose training samples are this one's test: about half of the gain by choice "
            "stays in the score; choose by scores inside the training samples",
        ),
    ),
    "subjects": (
        Finding(
            "layer-chosen-on-subjects",
            "best layer",
            "chosen on the other half of the subjects: if they heard the same stimulus, what it shares with a layer by "
            "chance stays in the score, and the interval is narrow (of noise, it holds zero 86 % of the time, not 95); "
            "choose by scores inside the training samples",
        ),
    ),
}
# Resampled means that are made at once: 32 MB.
AT_ONCE = 2**22


@dataclass(frozen=True)
class BestLayer:
    """The best layer over subjects and its score, not chosen and scored on the same.

    Parameters
    ----------
    layer, layer_low, layer_high : arrays (...) of float
        Place of the highest mean over subjects, and the interval of it in resamples of subjects; NaN where undefined.
    chosen : array (subject, fold, ...) of float
        The layer chosen for each subject and fold.
    score : Interval
        Over subjects, of the mean over folds of what the chosen layers score.
    dipped : array (...)
        Mean over subjects of each one's highest score, chosen on the very scores that it is made of: for comparison.
    chosen_on : {"inside", "folds", "subjects"}
    findings : tuple of Finding
    """

    layer: Floats
    layer_low: Floats
    layer_high: Floats
    chosen: Floats
    score: Interval
    dipped: Floats
    chosen_on: ChosenOn
    findings: tuple[Finding, ...] = ()


def best_layer(
    scores: Floats,
    inside: Floats | None = None,
    chosen_on: ChosenOn = "inside",
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> BestLayer:
    """Choose each subject's layer on other data than it is scored on.

    Parameters
    ----------
    scores : array (subject, layer, fold, ...)
        Held-out scores.
    inside : array (subject, layer, fold, ...), optional
        Scores within the training samples of each fold (`layer_choice.scores_inside`).
    chosen_on : {"inside", "folds", "subjects"}
        "inside" needs `inside` and is the one without bias. The others have a finding: folds of one cross-validation
        share chance through their training samples (about half of the bias stays), and subjects, of whom a random
        half chooses for the other, through their stimulus.
    level : float
        Of the intervals, by percentiles over subjects.
    n_resamples, seed : int

    Raises
    ------
    DataError
        If there is nothing else to choose on: no `inside`, one fold, one subject.

    Examples
    --------
    >>> scores = 0.01 * np.random.default_rng(0).normal(size=(8, 5, 4)); scores[:, 3] += 0.1
    >>> found = best_layer(scores, chosen_on="subjects")
    >>> float(found.layer), float(found.layer_low), float(found.layer_high), float(found.score.estimate.round(2))
    (3.0, 3.0, 3.0, 0.1)
    """
    scores = np.asarray(scores, dtype=float)
    by = _choose_by(scores, inside, chosen_on, seed)
    chosen = _highest(by, axis=1)
    r = np.take_along_axis(scores, np.nan_to_num(chosen).astype(int)[:, None], axis=1)[:, 0]
    r = np.where(np.isnan(chosen), np.nan, r)
    profiles = mean_defined(scores, axis=2)
    layer_low, layer_high = _layer_interval(profiles, level, n_resamples, seed)
    highest = np.where(
        np.isnan(profiles).all(axis=1), np.nan, np.where(np.isnan(profiles), -np.inf, profiles).max(axis=1)
    )
    return BestLayer(
        layer=_highest(mean_defined(profiles, axis=0), axis=0),
        layer_low=layer_low,
        layer_high=layer_high,
        chosen=chosen,
        score=bootstrap_interval(mean_defined(r, axis=1), level=level, n_resamples=n_resamples, seed=seed),
        dipped=mean_defined(highest, axis=0),
        chosen_on=chosen_on,
        findings=SHARED[chosen_on],
    )


def _choose_by(scores: Floats, inside: Floats | None, chosen_on: ChosenOn, seed: int) -> Floats:
    """What the layer is chosen by, shape (subject, layer, fold, ...)."""
    if chosen_on not in get_args(ChosenOn):
        raise RecipeError(f"A layer cannot be chosen on '{chosen_on}'. {nearest(chosen_on, get_args(ChosenOn))}")
    if chosen_on == "inside":
        if inside is None or np.shape(inside) != scores.shape:
            raise DataError(
                f"To choose layers inside the training samples, scores of shape {scores.shape} from there are needed, "
                f"not {None if inside is None else np.shape(inside)}: make them with layer_choice.scores_inside."
            )
        return np.asarray(inside, dtype=float)
    n_others = scores.shape[2 if chosen_on == "folds" else 0] - 1
    if n_others < 1:
        raise DataError(f"The layer cannot be chosen on other {chosen_on}: there is one only.")
    if chosen_on == "folds":
        folds = np.arange(scores.shape[2])
        return np.stack([mean_defined(scores[:, :, folds != fold], axis=2) for fold in folds], axis=2)
    # Halves: had each subject the choice of all others, nearly all would have the same layer, which makes the best
    # mean of noise again, with intervals that miss zero half of the time.
    half = np.random.default_rng(seed).permutation(len(scores)) % 2
    profiles = mean_defined(scores, axis=2)
    of_half = np.stack([mean_defined(profiles[half != own], axis=0) for own in (0, 1)])
    return np.broadcast_to(of_half[half][:, :, None], scores.shape)


def _layer_interval(profiles: Floats, level: float, n_resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Of the layer with the highest mean, in resamples of subjects; `profiles` (subject, layer, ...)."""
    n_subjects, n_layers = profiles.shape[:2]
    flat = profiles.reshape(n_subjects, n_layers, -1)
    if n_subjects < 2:
        return tuple(np.full((2, *profiles.shape[2:]), np.nan))
    there = np.isfinite(flat)
    counts = bootstrap_counts(n_subjects, n_resamples, np.random.default_rng(seed))
    low, high = np.full((2, flat.shape[2]), np.nan)
    at_once = max(1, AT_ONCE // (n_resamples * n_layers))
    for start in range(0, flat.shape[2], at_once):
        part = slice(start, start + at_once)
        sums = np.tensordot(counts, np.where(there, flat, 0.0)[..., part], axes=1)
        n_there = np.tensordot(counts, there[..., part].astype(float), axes=1)
        best = _highest(sums / np.where(n_there > 0, n_there, np.nan), axis=1)
        low[part], high[part] = percentile_interval(best.T, level)
    # A layer is a whole number: outwards.
    return np.floor(low).reshape(profiles.shape[2:]), np.ceil(high).reshape(profiles.shape[2:])


def _highest(values: Floats, axis: int) -> Floats:
    """Where the highest is along an axis, as a float; NaN where nothing is defined."""
    undefined = np.isnan(values)
    return np.where(undefined.all(axis=axis), np.nan, np.where(undefined, -np.inf, values).argmax(axis=axis))
