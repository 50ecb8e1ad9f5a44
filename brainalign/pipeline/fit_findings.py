"""What all fits of a study together show: how they must be read, by stable codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from brainalign.encoding import Splits
from brainalign.errors import listed
from brainalign.pipeline.fit import SubjectScores
from brainalign.types import Aligner, Finding, Recording

__all__ = ["Result", "feature_outliers", "fit_findings"]

# Feature space, layer names, metadata, and each subject's scores.
Result = tuple[str, tuple[str, ...], Mapping[str, Any], Mapping[str, SubjectScores]]

# Of the fits that explain something (a target that cannot be predicted rightly chooses the largest penalty), so many
# may choose a penalty at the edge of the grid.
EDGE_SHARE = 0.05
EXPLAINS_R2 = 0.01
# Of all layers and columns, so many may correlate and yet be predicted worse than by their mean.
DISAGREEING_SHARE = 0.05
# Standard deviations from the mean of a feature beyond which a single value rules a fit.
OUTLIER_Z = 20.0


def fit_findings(
    results: Sequence[Result], recordings: Sequence[Recording], aligner: Aligner, splits: Splits
) -> list[Finding]:
    """What the fits show: W201, W202, W203, W207, W211, and layers without a score (``fit-undefined``).

    Parameters
    ----------
    results : sequence of (feature space, layer names, metadata, subject -> SubjectScores)
    recordings : sequence of Recording
    aligner : Aligner
    splits : Splits
        As it was asked for.

    Returns
    -------
    list of Finding
        None where no subject has scores.
    """
    if not any(unit.arrays for unit in results[0][3].values()):
        return []
    found = [*_of_splits(results[0][3], aligner, splits), *_of_dimensions(results)]
    for result in results:
        found += [*_at_edge(result), *_of_disagreement(result, recordings[0], aligner), *_undefined(result)]
    return found


def feature_outliers(space: str, features: Mapping[str, Any]) -> list[Finding]:
    """Warn (W213) of values more than 20 standard deviations from their feature's mean over all stimuli.

    Parameters
    ----------
    space : str
    features : mapping of stimulus -> Features
        Read layer by layer.
    """
    layers = next(iter(features.values())).layers
    found: list[tuple[float, str]] = []
    n_features = 0
    for number, layer in enumerate(layers):
        z, n_beyond, place = _furthest([(name, one.values[number]) for name, one in features.items()])
        n_features += n_beyond
        if n_beyond:
            found.append((z, f"{layer}, {place}"))
    if not found:
        return []
    z, where = max(found)
    message = (
        f"{n_features} features in {len(found)} of {len(layers)} layers have values more than {OUTLIER_Z:g} standard "
        f"deviations from their mean, up to {z:.0f} ({where}); a fit may follow these few samples."
    )
    return [Finding("W213", space, message)]


def _furthest(parts: Sequence[tuple[str, np.ndarray]]) -> tuple[float, int, str]:
    """The largest |z| of one layer's values (sample, dimension) by stimulus, how many features go beyond, and where."""
    n = sum(len(values) for _, values in parts)
    mean = np.sum([values.sum(axis=0, dtype=np.float64) for _, values in parts], axis=0) / n
    spread = np.sqrt(np.sum([np.square(values - mean).sum(axis=0) for _, values in parts], axis=0) / n)
    # A constant feature varies by rounding only.
    varies = spread > 4 * np.finfo(np.float32).eps * np.abs(mean)
    largest, beyond, place = 0.0, np.zeros(len(mean), dtype=bool), ""
    for stimulus, values in parts:
        z = np.abs(values[:, varies] - mean[varies]) / spread[varies]
        beyond[varies] |= (z > OUTLIER_Z).any(axis=0)
        if z.size and z.max() > largest:
            largest = float(z.max())
            sample, column = np.unravel_index(z.argmax(), z.shape)
            place = f"dimension {np.flatnonzero(varies)[column]}, sample {sample} of {stimulus}"
    return largest, int(beyond.sum()), place


def _of_splits(scores: Mapping[str, SubjectScores], aligner: Aligner, splits: Splits) -> Iterator[Finding]:
    in_blocks = [
        subject
        for subject, unit in scores.items()
        if unit.arrays and str(unit.facts["splitter"]).startswith("ContiguousBlocks")
    ]
    if not in_blocks:
        return
    if splits.gap_s is not None and splits.gap_s < aligner.span_s:
        message = (
            f"gap_s is {splits.gap_s:g}, and a response spans {aligner.span_s:g}: the ends of what is trained on reach "
            "into what is tested. Leave gap_s out to keep the whole span."
        )
        yield Finding("W201", "splits", message)
    if splits.outer == "auto":
        message = (
            f"{len(in_blocks)} of {len(scores)} subjects ({listed(in_blocks)}) have fewer than three runs or stories: "
            f"each is cut into {splits.n_splits} contiguous blocks, so that training and test are of one recording. "
            "More runs mend it; `outer: blocks` says that it is meant."
        )
        yield Finding("W202", "splits", message)


def _of_dimensions(results: Sequence[Result]) -> Iterator[Finding]:
    width = {space: metadata["dimension"] for space, _, metadata, _ in results if "dimension" in metadata}
    if len(set(width.values())) > 1:
        each = listed([f"{space} {n}" for space, n in width.items()])
        message = f"dimensions are unlike ({each}); a wider space can score otherwise for its width alone."
        yield Finding("W211", "features", message)


def _at_edge(result: Result) -> Iterator[Finding]:
    """Whether too many fits that explain something would have taken a penalty beyond the grid."""
    space, _, _, scores = result
    units = [unit.arrays for unit in scores.values() if unit.arrays]
    at_edge = np.concatenate([arrays["at_edge"][arrays["r2"] > EXPLAINS_R2] for arrays in units])
    share = float(at_edge.mean()) if len(at_edge) else 0.0
    if share > EDGE_SHARE:
        text = f"{share:.0%} of the fits that explain something chose a penalty at the grid's edge; widen alphas."
        yield Finding("W203", space, text)


def _of_disagreement(result: Result, recording: Recording, aligner: Aligner) -> Iterator[Finding]:
    """Whether columns correlate with what is predicted from more features than samples, and yet are none the nearer."""
    space, _, metadata, scores = result
    if "dimension" not in metadata:
        return
    delays = getattr(aligner, "volumes_of_delay", None)
    n_features = metadata["dimension"] * (1 if delays is None else len(delays(recording.clock.step_s)))
    wide = [unit for unit in scores.values() if unit.arrays and n_features >= _n_train(unit)]
    if not wide:
        return
    disagree = np.concatenate([_disagree(unit).ravel() for unit in wide])
    share = float(disagree.mean())
    if share > DISAGREEING_SHARE:
        text = (
            f"{n_features} features for about {min(map(_n_train, wide))} training samples, and {share:.0%} of all "
            "layers and targets have r > 0 with R2 < 0: what is predicted goes the right way by the wrong amount. "
            "Trust neither alone; wider alphas, fewer dimensions or more data may mend it."
        )
        yield Finding("W207", space, text)


def _n_train(unit: SubjectScores) -> int:
    return round(unit.facts["n_samples"] * (1 - 1 / unit.facts["n_folds"]))


def _disagree(unit: SubjectScores) -> np.ndarray:
    """Whether the means over folds have r > 0 and R2 clearly below zero, of what is defined in every fold."""
    r, r2 = unit.arrays["r"].mean(axis=1), unit.arrays["r2"].mean(axis=1)
    defined = np.isfinite(r) & np.isfinite(r2)
    return (r[defined] > 0) & (r2[defined] < -EXPLAINS_R2) if defined.any() else np.zeros(1, dtype=bool)


def _undefined(result: Result) -> Iterator[Finding]:
    """Layers that have no score for any usable target: their features do not vary."""
    space, layers, _, scores = result
    units = [unit.arrays["r"] for unit in scores.values() if unit.arrays]
    undefined = [i for i in range(len(layers)) if all(np.isnan(r[i]).all() for r in units)]
    if undefined:
        names = ", ".join(layers[i] for i in undefined[:5]) + (" ..." if len(undefined) > 5 else "")
        text = f"{len(undefined)} of {len(layers)} layers have no r for any target ({names}): do they vary at all?"
        yield Finding("fit-undefined", space, text)
