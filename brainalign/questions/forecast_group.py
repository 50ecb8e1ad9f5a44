"""What forecasts of all subjects say together: curves with intervals and tests, and where they are highest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from brainalign.analysis.forecasts.curves import forecast_peak, past_mirror_contrast
from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.analysis.inference.groups import group_null, subject_test
from brainalign.analysis.inference.intervals import bootstrap_interval, narrow_interval
from brainalign.analysis.inference.significance import fdr, p_values
from brainalign.errors import DataError
from brainalign.questions.shared_draws import unlike_draws
from brainalign.questions.study import Part, by_target, subject_of_target
from brainalign.types import Finding, Floats, Scores

__all__ = ["of_group"]

SUBJECT_TESTS: tuple[Literal["wilcoxon", "sign_flip"], ...] = ("wilcoxon", "sign_flip")
TEST = "circular shift"
LEVEL = 0.05
OVER = "forecast_distance"


def of_group(
    parts: Mapping[str, Part], scores: Scores, width: int, variants: Sequence[str], n_bootstrap: int, seed: int
) -> xr.Dataset:
    """All that is known of the forecasts of a study.

    Parameters
    ----------
    parts : mapping of subject -> Part
        Of `Forecast.of_subject`.
    scores : Scores
    width : int
        Words in a window.
    variants : sequence of str
        What the other windows are called.
    n_bootstrap, seed : int
        Of intervals over subjects.

    Returns
    -------
    xarray.Dataset
        Of targets, averaged over latencies: ``forecast_gain`` and ``forecast_contrast`` (forecast_distance, target),
        ``forecast_r_alone``, ``forecast_floor``, ``forecast_peak``, the distance at which F is highest, and
        ``forecast_depth_peak``, the number of the layer at which A is (target,);
        of subjects ``forecast_subject_gain`` and so on; of the group ``forecast_group_gain``, ``_low``, ``_high`` and
        so on.
    """
    facts = next(iter(parts.values())).facts
    distances = facts["distances"]
    coords = {OVER: distances, "forecast_seconds": (OVER, _seconds(parts)), "of_subject": list(parts)}
    if variants:
        coords["forecast_variant"] = list(variants)
    findings: list[Finding] = [*narrow_interval(len(parts))]
    found: dict[str, Any] = {}
    some = any("gain" in part.arrays for part in parts.values())
    if some:
        curves = _Curves(parts, distances, width)
        found |= _of_targets(parts, scores, distances, width)
        found |= _of_subjects(curves, variants, n_bootstrap, seed)
        found |= _tests(curves, findings, seed)
        found |= _peak(curves.gain, distances)
        found |= _deepest(parts, scores, found)
        found |= _shared_targets(parts, scores, found, findings)
        found |= _horizon(parts, coords)
    result = xr.Dataset(found, coords=coords if some else {})
    result.attrs = {**_told(parts), "findings": findings}
    return result


class _Curves:
    """Means over each subject's columns, arrays (subject, distance); NaN for subjects without."""

    def __init__(self, parts: Mapping[str, Part], distances: Sequence[int], width: int) -> None:
        self.parts, self.distances, self.width = parts, distances, width
        self.gain = self.stacked("mean_gain")
        self.contrast = self.contrast_of(self.gain)

    def stacked(self, name: str) -> Floats:
        """Arrays of this name, one for each subject."""
        having = next(part.arrays[name] for part in self.parts.values() if name in part.arrays)
        nothing = np.full(having.shape, np.nan)
        return np.stack([part.arrays.get(name, nothing) for part in self.parts.values()]).astype(np.float64)

    def has(self, name: str) -> bool:
        """Whether a subject has an array of this name."""
        return any(name in part.arrays for part in self.parts.values())

    def contrast_of(self, gain: Floats) -> Floats:
        """A(d) of F(d), (..., distance)."""
        return past_mirror_contrast(gain, self.distances, self.width)

    @property
    def contrasted(self) -> np.ndarray:
        """Whether each distance has a contrast."""
        return np.isfinite(self.contrast_of(np.zeros(len(self.distances))))


def _of_targets(parts: Mapping[str, Part], scores: Scores, distances: Sequence[int], width: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    gain = by_target(parts, "gain", scores, [OVER])
    assert gain is not None
    if "latency" in gain.dims:
        found["forecast_subject_contrast_latency"] = _courses(gain, parts, scores, distances, width)
        gain = gain.mean("latency")
    found["forecast_gain"] = gain
    contrast = past_mirror_contrast(gain.values.T, distances, width).T
    found["forecast_contrast"] = ((OVER, "target"), contrast.astype(np.float32))
    own = forecast_peak(gain.values.T[None], distances)
    found["forecast_peak"] = ("target", own.at.astype(np.float32))
    named = (("r_alone", []), ("floor", []), ("p", [OVER]), ("depth_gain", ["layer"]), ("depth_contrast", ["layer"]))
    for name, dims in named:
        values = by_target(parts, name, scores, dims)
        if values is not None:
            found[f"forecast_{name}"] = values.mean("latency") if "latency" in values.dims else values
    return found


def _courses(
    gain: xr.DataArray, parts: Mapping[str, Part], scores: Scores, distances: Sequence[int], width: int
) -> tuple[tuple[str, ...], Floats]:
    """A(d) latency by latency, mean over each subject's targets."""
    whose = subject_of_target(scores)
    means = [mean_defined(gain.transpose(..., "target").values[..., whose == one], axis=-1) for one in parts]
    contrast = past_mirror_contrast(np.stack(means).swapaxes(1, 2), distances, width)
    return ("of_subject", "latency", OVER), contrast.astype(np.float32)


def _of_subjects(curves: _Curves, variants: Sequence[str], n_bootstrap: int, seed: int) -> dict[str, Any]:
    """Each subject's curves, their means, and with two subjects or more the intervals of these."""
    named = {"gain": curves.gain, "contrast": curves.contrast}
    if curves.has("passive_gain"):
        named["passive"] = curves.contrast_of(curves.stacked("passive_gain"))
    found: dict[str, Any] = {}
    for name, values in named.items():
        found[f"forecast_subject_{name}"] = (("of_subject", OVER), values)
        found |= _mean_of(name, (OVER,), values, n_bootstrap, seed)
    if curves.has("variant_gain"):
        gain = curves.stacked("variant_gain")
        for name, values in (("variant_gain", gain), ("variant_contrast", curves.contrast_of(gain))):
            found[f"forecast_subject_{name}"] = (("of_subject", "forecast_variant", OVER), values)
            found |= _mean_of(name, ("forecast_variant", OVER), values, n_bootstrap, seed)
    return found


def _mean_of(name: str, dims: tuple[str, ...], values: Floats, n_bootstrap: int, seed: int) -> dict[str, Any]:
    interval = bootstrap_interval(values, n_resamples=n_bootstrap, seed=seed)
    ends = {"": interval.estimate} | ({"_low": interval.low, "_high": interval.high} if len(values) > 1 else {})
    return {f"forecast_group_{name}{end}": (dims, of) for end, of in ends.items()}


def _tests(curves: _Curves, findings: list[Finding], seed: int) -> dict[str, Any]:
    """P values of A(d), distance by distance: over subjects, and against draws that all subjects share."""
    found: dict[str, Any] = {}
    over_subjects = False
    for test in SUBJECT_TESTS if len(curves.contrast) > 1 else ():
        try:
            result = subject_test(curves.contrast[:, curves.contrasted], test, seed=seed)
        except DataError as problem:
            findings.append(Finding("few-subjects", "forecast", str(problem)))
            continue
        over_subjects = True
        found[f"forecast_group_p_{test}"] = (OVER, _spread(result.p, curves))
        found[f"forecast_group_q_{test}"] = (OVER, _spread(result.p_corrected, curves))
    found |= _of_draws(curves, findings)
    if over_subjects and "forecast_group_p_stimulus" not in found:
        message = (
            "A(d) is tested over subjects only, who share the stimulus and what goes along with it by chance; ask for "
            "permutations too."
        )
        findings.append(Finding("W210", "forecast", message))
    return found


def _of_draws(curves: _Curves, findings: list[Finding]) -> dict[str, Any]:
    if not curves.has("null"):
        return {}
    having = [part for part in curves.parts.values() if "null" in part.arrays]
    p, tested = np.full((2, len(curves.parts), len(curves.distances)), np.nan)
    for row, part in enumerate(curves.parts.values()):
        if "null" in part.arrays:
            p[row, curves.contrasted] = p_values(part.arrays["observed"], part.arrays["null"])
            tested[row, curves.contrasted] = part.arrays["observed"]
    # What was tested is A at common penalties, which is another number than A at the penalties chosen.
    found: dict[str, Any] = {
        "forecast_subject_p": (("of_subject", OVER), p),
        "forecast_subject_tested": (("of_subject", OVER), tested),
        "forecast_group_tested": (OVER, mean_defined(tested, axis=0)),
    }
    null = [part.arrays["null"] for part in having]
    if len(having) < len(curves.parts) or unlike_draws(null):
        message = "not all subjects have the same shifts, so that their mean is not tested against the stimulus."
        findings.append(Finding("unlike-draws", "forecast", message))
        return found
    together = group_null(np.stack([part.arrays["observed"] for part in having]), null, test=TEST)
    found["forecast_group_p_stimulus"] = (OVER, _spread(together.p, curves))
    found["forecast_group_q_stimulus"] = (OVER, _spread(together.p_corrected, curves))
    return found


def _spread(values: Floats, curves: _Curves) -> Floats:
    """Of all distances, those without a contrast NaN."""
    whole = np.full(len(curves.distances), np.nan)
    whole[curves.contrasted] = values
    return whole


def _peak(gain: Floats, distances: Sequence[int]) -> dict[str, Any]:
    """Where the mean curve is highest, in words, with what leaving out subjects changes and the width of its top."""
    peak = forecast_peak(gain[:, None], distances)
    ends = {"": peak.at, "_error": peak.error, "_low": peak.low, "_high": peak.high}
    return {f"forecast_group_peak{end}": ((), float(values[0])) for end, values in ends.items()}


def _deepest(parts: Mapping[str, Part], scores: Scores, found: Mapping[str, Any]) -> dict[str, Any]:
    """The number of the layer whose windows have the highest A, of each target and of the mean over them."""
    if "forecast_depth_contrast" not in found:
        return {}
    contrast = found["forecast_depth_contrast"].values
    rows = np.isfinite(contrast).any(axis=1)
    layers, whose = scores["layer_index"].values[rows].astype(float), subject_of_target(scores)
    curves = np.stack([mean_defined(contrast[rows][:, whose == subject], axis=1) for subject in parts])
    own, of_mean = forecast_peak(contrast[rows].T[None], layers), forecast_peak(curves[:, None], layers)
    return {
        "forecast_depth_peak": ("target", own.at.astype(np.float32)),
        "forecast_group_depth": ((), float(of_mean.at[0])),
        "forecast_group_depth_error": ((), float(of_mean.error[0])),
    }


def _shared_targets(
    parts: Mapping[str, Part], scores: Scores, found: Mapping[str, Any], findings: list[Finding]
) -> dict[str, Any]:
    """The distance of the peak of each target that all subjects have, where its A(d) is above zero over subjects."""
    whose, names = subject_of_target(scores), scores["target_name"].values.astype(str)
    of_first = names[whose == next(iter(parts))].tolist()
    if len(parts) < 2 or any(names[whose == subject].tolist() != of_first for subject in parts):
        return {}
    gain = np.stack([found["forecast_gain"].values[:, whose == subject].T for subject in parts])
    distances = next(iter(parts.values())).facts["distances"]
    contrast = np.stack([found["forecast_contrast"][1][:, whose == subject].T for subject in parts])
    there = np.isfinite(contrast).any(axis=(0, 1))
    try:
        p = subject_test(contrast[..., there], "wilcoxon", correction="none").p
    except DataError:
        # Said of the mean already.
        return {}
    q = fdr(p)
    forecasts = np.where(np.isfinite(q), q, 1.0).min(axis=1) < LEVEL
    peak = forecast_peak(gain, distances, where=forecasts)
    dim = "shared_target"
    return {
        "forecast_target_q": (
            dim,
            np.where(np.isfinite(q).any(axis=1), np.where(np.isfinite(q), q, 2).min(axis=1), np.nan),
        ),
        "forecast_target_peak": (dim, peak.at),
        "forecast_target_peak_error": (dim, peak.error),
        "forecast_target_peak_low": (dim, peak.low),
        "forecast_target_peak_high": (dim, peak.high),
        dim: (dim, of_first),
    }


def _horizon(parts: Mapping[str, Part], coords: dict[str, Any]) -> dict[str, Any]:
    """H_k(d) above its floor and the words after which it is half, mean over subjects, who may differ in stimuli."""
    having = [part for part in parts.values() if "horizon" in part.arrays]
    if not having:
        return {}
    told = having[0].facts["horizon"]
    coords["horizon_layer"], coords["horizon_distance"] = told["layers"], told["distances"]
    curves, half = (
        mean_defined(np.stack([part.arrays[name] for part in having]), axis=0) for name in ("horizon", "half_life")
    )
    return {
        "forecast_horizon": (("horizon_layer", "horizon_distance"), curves),
        "forecast_half_life": ("horizon_layer", half),
    }


def _seconds(parts: Mapping[str, Part]) -> Floats:
    """The median seconds of so many words, mean over subjects."""
    return mean_defined(np.array([part.facts["seconds"] for part in parts.values()], dtype=float), axis=0)


def _told(parts: Mapping[str, Part]) -> dict[str, Any]:
    first = next(iter(parts.values())).facts
    told: dict[str, Any] = {"space": first["space"], "layer_name": first["layer"], "test": TEST}
    for name in ("n_samples", "n_left_out", "floor_samples", "min_shift", "retained"):
        values = {subject: part.facts[name] for subject, part in parts.items() if name in part.facts}
        if values:
            told[name] = values
    horizons = [part.facts["horizon"]["space"] for part in parts.values() if "horizon" in part.facts]
    return told | ({"horizon_space": horizons[0]} if horizons else {})
