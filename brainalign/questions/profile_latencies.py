"""What `Profile` says of time: when targets and layers are predicted best, and whether deeper layers are later."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from brainalign.analysis.hierarchies.latencies import before_onset, preferred_latency
from brainalign.analysis.hierarchies.orders import temporal_score
from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.analysis.inference.moments import shift_in_samples
from brainalign.analysis.inference.permutation import Penalties, score_null
from brainalign.analysis.inference.surrogates import CircularShift
from brainalign.encoding import BandedRidgeEncoder, RidgeEncoder
from brainalign.errors import DataError, RecipeError
from brainalign.questions.profile_layers import Space
from brainalign.questions.study import Part, SubjectData, subject_of_target
from brainalign.types import Finding, Floats, Scores

__all__ = ["latencies_of", "null_latencies"]

# Seconds of the shortest shift: longer than signals remember.
SHORTEST_SHIFT_S = 20.0


def null_latencies(space: str, data: SubjectData, permutations: int, threshold: float, seed: int) -> Floats:
    """When each layer of a space is best under shifts of the responses that all subjects share.

    Shifted responses are fitted anew at the penalties that were chosen (`brainalign.analysis.inference.permutation`).

    Returns
    -------
    array (layer, permutation)
        In seconds from word onset; NaN where no latency is above the threshold.

    Raises
    ------
    RecipeError
        If predictions are not those of plain ridge.
    """
    samples, encoder = data.samples, data.encoder
    plain = isinstance(encoder, RidgeEncoder) and not isinstance(encoder, BandedRidgeEncoder)
    if not plain or encoder.n_components is not None or not encoder.standardise:
        raise RecipeError("profile: shifted responses are fitted by plain ridge; leave permutations out, or take that.")
    latencies_s = samples.latencies_s
    assert latencies_s is not None
    length = shift_in_samples(samples.times_s, samples.run, samples.stimulus, SHORTEST_SHIFT_S)
    shifts = CircularShift(samples.run, permutations, seed, samples.stimulus, min_shift=length)
    responses = samples.responses[:, samples.usable]
    folds = list(samples.splitter.split(responses, groups=samples.groups))
    course = np.full((1, len(latencies_s), permutations), np.nan)
    found = []
    for layer, columns in enumerate(samples.place(data.features[space])):
        penalties = Penalties(data.fits[space]["alpha"][layer][:, samples.usable])
        _, null = score_null(columns, responses, folds, penalties, shifts.apply, permutations, shifts.order)
        every = np.full((permutations, len(samples.usable)), np.nan)
        every[:, samples.usable] = null
        course[0] = mean_defined(every.reshape(permutations, -1, len(latencies_s)), axis=1).T
        found.append(preferred_latency(course, latencies_s, threshold=threshold).peak_s)
    return np.stack(found)


def latencies_of(
    parts: Mapping[str, Part],
    spaces: Mapping[str, Space],
    scores: Scores,
    control: str | None,
    threshold: float,
    n_flips: int,
    seed: int,
) -> xr.Dataset:
    """Preferred latencies, and the correlation over layers of depth and latency.

    Parameters
    ----------
    parts : mapping of subject -> Part
        Whose ``null_latency`` (layer, permutation), if they have it, gives a null that subjects share.
    spaces : mapping of name -> Space
    scores : Scores
    control : str, optional
        The space of an untrained network, subtracted from spaces with the same layers.
    threshold : float
        Targets and layers that score no higher have no latency.
    n_flips, seed : int
        Of subjects' signs.

    Returns
    -------
    xarray.Dataset
        ``profile_latency``, ``profile_latency_half_area`` and their jackknifed standard errors over folds, ``..._se``
        (profile_space, target), of the mean over layers; ``profile_layer_latency`` (layer, of_subject), of the mean
        over targets; ``profile_temporal`` (profile_space, of_subject), ``profile_temporal_mean``, ``..._low``,
        ``..._high``, ``..._p``, ``..._p_stimulus`` (profile_space,).
    """
    latencies_s = scores["latency"].values.astype(float)
    if latencies_s.max() < 0:
        message = "all latencies are before word onset: none can be preferred."
        return xr.Dataset(attrs={"findings": [Finding("no-latency", "profile", message)]})
    whose = subject_of_target(scores)
    subjects = list(dict.fromkeys(whose.tolist()))
    courses = {name: _courses(space, scores) for name, space in spaces.items()}
    of_layers = np.full((scores.sizes["layer"], len(subjects)), np.nan)
    of_targets, findings = [], []
    for name, course in courses.items():
        mean = mean_defined(course, axis=3)  # over layers, so that none is chosen
        of_targets.append(preferred_latency(mean, latencies_s, threshold=threshold))
        for place, subject in enumerate(subjects):
            of_subject = mean_defined(course[:, :, whose == subject], axis=2)
            of_layers[spaces[name].rows, place] = preferred_latency(of_subject, latencies_s, threshold=threshold).peak_s
        if latencies_s[0] < 0:
            findings.append(before_onset(mean, latencies_s).finding(name))
    variables = {
        f"profile_{name}": (("profile_space", "target"), np.stack([getattr(found, value) for found in of_targets]))
        for name, value in OF_TARGETS.items()
    }
    variables["profile_layer_latency"] = (("layer", "of_subject"), of_layers)
    temporal = _temporal(spaces, of_layers, _null(parts), control, n_flips, seed)
    findings = [*(finding for finding in findings if finding), *temporal.attrs["findings"]]
    return temporal.assign(variables).assign_attrs(findings=findings)


OF_TARGETS = {
    "latency": "peak_s",
    "latency_se": "peak_se_s",
    "latency_half_area": "half_area_s",
    "latency_half_area_se": "half_area_se_s",
}


def _courses(space: Space, scores: Scores) -> Floats:
    """Scores of usable targets over time, shape (fold, latency, target, layer)."""
    values = scores["r"].isel(layer=space.rows).transpose("fold", "latency", "target", "layer").values
    ok = scores["status"].values.astype(str) == "ok"
    return np.where(ok[:, None], values.astype(np.float64), np.nan)


def _null(parts: Mapping[str, Part]) -> Floats | None:
    """Latencies under shifts, shape (permutation, subject, layer of all these spaces); None where there are none."""
    if any("null_latency" not in part.arrays for part in parts.values()):
        return None
    return np.stack([part.arrays["null_latency"].T for part in parts.values()], axis=1)


def _temporal(
    spaces: Mapping[str, Space],
    latency_s: Floats,
    null: Floats | None,
    control: str | None,
    n_flips: int,
    seed: int,
) -> xr.Dataset:
    """The correlation over layers in each subject, and of all; `latency_s` (layer of all spaces, subject)."""
    r = np.full((len(spaces), latency_s.shape[1]), np.nan)
    of_all = np.full((5, len(spaces)), np.nan)
    findings: list[Finding] = []
    facts: dict[str, dict[str, int | str]] = {}
    ends = np.cumsum([len(space.rows) for space in spaces.values()])
    for number, (name, space) in enumerate(spaces.items()):
        other = spaces.get(control) if control is not None and control != name else None
        if control not in (None, name) and (other is None or not np.array_equal(other.depth, space.depth)):
            message = f"'{control}' has other layers than '{name}': it is not subtracted from its correlation."
            findings.append(Finding("no-control", name, message))
            other = None
        try:
            found = temporal_score(
                latency_s[space.rows].T,
                space.depth,
                control=None if other is None else latency_s[other.rows].T,
                null=None if null is None else null[..., ends[number] - len(space.rows) : ends[number]],
                n_permutations=n_flips,
                seed=seed,
            )
        except DataError as problem:
            findings.append(Finding("no-temporal-score", name, str(problem)))
            continue
        r[number] = found.r
        of_all[:, number] = (found.mean, *found.interval, found.p_subjects, found.p_stimulus)
        facts[name] = {"n_flips": found.n_flips, "n_shifts": found.n_shifts}
        facts[name] |= {} if other is None else {"less": str(control)}
        findings += [_in_study(name, finding) for finding in found.findings]
    variables: dict[str, tuple[tuple[str, ...], Floats]] = {
        f"profile_temporal_{name}": (("profile_space",), values)
        for name, values in zip(("mean", "low", "high", "p", "p_stimulus"), of_all, strict=True)
    }
    variables["profile_temporal"] = (("profile_space", "of_subject"), r)
    return xr.Dataset(variables, attrs={"findings": findings, "temporal": facts})


def _in_study(space: str, finding: Finding) -> Finding:
    """The finding as who writes a recipe can mend it."""
    message = finding.message
    if finding.code == "W210":
        message = (
            "the correlation of depth and latency is tested over subjects only; what they share by chance because they "
            "heard the same stimulus counts as an effect. profile: {permutations: 200} adds a null that they share."
        )
    return Finding(finding.code, f"{space}, {finding.where}", message)
