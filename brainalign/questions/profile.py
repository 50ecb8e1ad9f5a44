"""Where along its layers a model predicts best, chosen without double dipping, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator

from brainalign.analysis.hierarchies.layer_choice import nested_choice, scores_inside
from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.encoding import Responses, Samples, cross_validate
from brainalign.encoding.cross_validation import HOLD
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.questions.profile_latencies import latencies_of, null_latencies
from brainalign.questions.profile_layers import Space, group_of, preferences_of, regions_of, spaces_of
from brainalign.questions.study import Part, SubjectData
from brainalign.types import Finding, Floats, Scores

__all__ = ["Profile"]

# With so many stories every second one is a half; with fewer each is cut in the middle.
LEAST_STORIES = 4
# What target tables call what scores call otherwise.
IN_SCORES = {"name": "target_name", "kind": "target_kind"}


@dataclass(frozen=True)
class Profile:
    """Which layer predicts best, for each target, each region and the group, and what it scores without double dipping.

    A layer chosen by the scores that are then reported for it scores too high (.10 on pure noise, the best of 13).
    Here it is chosen, for each fold, by scores within its training samples.

    Parameters
    ----------
    nested : bool
        Whether to choose layers inside the training samples, which costs about four more fits of everything.
    halves : bool
        Whether to fit two halves of the data on their own, to see how well preferred layers agree: about one more fit.
    regions : str, optional
        The coordinate of targets whose equal values are a region ("atlas_label"); by default the targets' names, where
        all subjects have the same.
    untrained : str, optional
        The feature space of an untrained network with the same layers, whose correlation of depth and latency is
        subtracted; by default the first that is called so, "none" for none.
    threshold : float
        Targets that no layer predicts better have no preferred layer.
    permutations : int
        Shifts of word-locked responses, the same for all subjects, against which the correlation of depth and latency
        is tested; 0 for none, since each costs about what it costs in `Tests`.
    n_bootstrap : int
        Draws for intervals over subjects, and flips of their signs.
    seed : int

    Examples
    --------
    >>> Profile(nested=False).threshold
    0.0
    """

    section: ClassVar[str] = "profile"
    of_group: ClassVar[bool] = False
    by_space: ClassVar[bool] = False

    nested: bool = True
    halves: bool = True
    regions: str | None = None
    untrained: str | None = None
    threshold: float = 0.0
    permutations: int = 0
    n_bootstrap: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.threshold < 0:
            raise RecipeError(f"profile: threshold is {self.threshold:g}; no layer that predicts nothing is preferred.")
        if self.n_bootstrap < 100:
            raise RecipeError(f"profile: {self.n_bootstrap} draws give no interval; n_bootstrap is 100 or more.")
        if self.permutations and self.permutations < 20:
            raise RecipeError(f"profile: {self.permutations} permutations cannot give a p below .05; take 200, or 0.")

    def of_subject(self, data: SubjectData) -> Part:
        """What needs fits: of the layers of all spaces with several, one space after the other.

        ``inside`` (layer, fold), the mean over targets of the scores inside the training samples; ``r_nested`` (space,
        target), of the layer that each target chooses there; ``r_half`` (half, layer, target). Latencies are averaged.
        With permutations and latencies, ``null_latency`` (layer, permutation), see `null_latencies`.
        """
        self._check_names(data)
        arrays: dict[str, list[Floats]] = {}
        findings: list[Finding] = []
        spaces = [space for space in data.features if len(data.fits[space]["r"]) > 1]
        for space in spaces:
            found = {**self._nested(space, data, findings), **self._halves(space, data, findings)}
            if self.permutations and data.samples.latencies_s is not None:
                found["null_latency"] = null_latencies(space, data, self.permutations, self.threshold, self.seed)
            for name, values in found.items():
                arrays.setdefault(name, []).append(values)
        axes = {"r_half": 1}
        joined = {
            name: np.concatenate(values, axis=axes.get(name, 0)).astype(np.float32) for name, values in arrays.items()
        }
        return Part(joined, findings, {"spaces": spaces})

    def of_study(self, parts: Mapping[str, Part], scores: Scores) -> xr.Dataset:
        """Preferred layers and latencies of targets and regions, and the group's best layer; see the report."""
        names = next(iter(parts.values())).facts["spaces"]
        if not names:
            message = "each feature space has a single layer: there is none to prefer."
            return xr.Dataset(attrs={"spaces": [], "findings": [Finding("one-layer", "profile", message)]})
        spaces = spaces_of(scores, names)
        preferences = preferences_of(parts, spaces, scores, self.threshold)
        status = preferences["profile_status"].values.astype(str)
        answers = [
            preferences,
            group_of(parts, spaces, scores, self.n_bootstrap, self.seed),
            regions_of(parts, spaces, scores, status, self.regions, self.threshold, self.seed),
        ]
        if "latency" in scores.dims:
            control = self._control(spaces)
            answers.append(latencies_of(parts, spaces, scores, control, self.threshold, self.n_bootstrap, self.seed))
        found = xr.merge(
            [answer.drop_attrs() for answer in answers], join="exact", compat="no_conflicts", combine_attrs="drop"
        ).assign_coords(profile_space=names, of_subject=list(parts))
        facts = {name: value for answer in answers for name, value in answer.attrs.items() if name != "findings"}
        findings = [finding for answer in answers for finding in answer.attrs["findings"]]
        found.attrs = {**facts, "spaces": names, "findings": [*self._without_choice(spaces, found), *findings]}
        return found

    def _check_names(self, data: SubjectData) -> None:
        """Raise a RecipeError, before anything is fitted, if the settings name what is not there."""
        coordinates = [IN_SCORES.get(str(name), str(name)) for name in data.targets]
        if self.regions is not None and self.regions not in coordinates:
            raise RecipeError(
                f"profile: regions is '{self.regions}', but targets have no such coordinate. "
                f"{nearest(self.regions, coordinates)}"
            )
        if self.untrained not in (None, "none", *data.features):
            raise RecipeError(
                f"profile: there is no feature space '{self.untrained}'. {nearest(str(self.untrained), data.features)}"
            )

    def _nested(self, space: str, data: SubjectData, findings: list[Finding]) -> dict[str, Floats]:
        """Scores inside the training samples, and those of the layers that are best there."""
        samples = data.samples
        r = _of_targets(data.fits[space]["r"], samples)
        inside = np.full(r.shape, np.nan)
        if self.nested:
            try:
                layers = samples.place(data.features[space])
                within = scores_inside(layers, samples.responses, samples.groups, samples.splitter, data.encoder)
                inside = _of_targets(within, samples)
            except DataError as problem:
                where = f"subject {samples.subject}, {space}"
                findings.append(Finding("no-nested-choice", where, f"no layer is chosen inside the folds: {problem}"))
        choice = nested_choice(r, inside)
        return {"inside": mean_defined(inside, axis=2), "r_nested": mean_defined(choice.r, axis=0)[None]}

    def _halves(self, space: str, data: SubjectData, findings: list[Finding]) -> dict[str, Floats]:
        """Mean scores over folds of each half of the data, NaN where a half is too short."""
        if not self.halves:
            return {}
        samples = data.samples
        found = np.full((2, len(data.fits[space]["r"]), samples.n_targets), np.nan)
        halves = [_Half(rows, samples, data.encoder) for rows in _half_rows(samples)]
        try:
            for layer, columns in enumerate(samples.place(data.features[space])):
                for half, scores in enumerate(halves):
                    found[half, layer] = scores.of(columns)
        except DataError as problem:
            found[:] = np.nan
            where = f"subject {samples.subject}, {space}"
            findings.append(Finding("no-halves", where, f"the data cannot be halved: {problem}"))
        return {"r_half": found}

    def _control(self, spaces: Mapping[str, Space]) -> str | None:
        if self.untrained is not None:
            return None if self.untrained == "none" else self.untrained
        return next((name for name in spaces if "untrained" in name), None)

    def _without_choice(self, spaces: Mapping[str, Space], found: xr.Dataset) -> Iterator[Finding]:
        """Warning W206 for spaces of whose best layer there is no score but the one that it was chosen by."""
        for place, space in enumerate(spaces):
            if np.isfinite(found["profile_nested_mean"].values[place]):
                continue
            dipped = float(found["profile_dipped"].values[place])
            why = "no layer could be chosen inside the training folds" if self.nested else "take nested: true"
            message = f"the layer was selected on the test folds, and its r = {dipped:.3f} stands alone: {why}."
            yield Finding("W206", space, message)


def _of_targets(values: Floats, samples: Samples) -> Floats:
    """Scores (..., column) averaged over latencies, shape (..., target); NaN for targets that cannot be predicted."""
    by_target = values.reshape(*values.shape[:-1], samples.n_targets, -1)
    usable = samples.usable.reshape(samples.n_targets, -1).all(axis=1)
    return np.where(usable, mean_defined(by_target, axis=-1), np.nan)


def _half_rows(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Two halves without a story in common, or without a neighbouring sample where there are few stories."""
    stories = list(dict.fromkeys(samples.groups.tolist()))
    if len(stories) >= LEAST_STORIES:
        second = np.isin(samples.groups, stories[1::2])
        return np.flatnonzero(~second), np.flatnonzero(second)
    first, last = [], []
    for story in stories:
        rows = np.flatnonzero(samples.groups == story)
        middle = len(rows) // 2
        before = samples.gap // 2
        first.append(rows[: max(0, middle - before)])
        last.append(rows[middle + samples.gap - before :])
    return np.concatenate(first), np.concatenate(last)


class _Half:
    """Some of the samples, fitted and scored by themselves."""

    def __init__(self, rows: np.ndarray, samples: Samples, encoder: BaseEstimator) -> None:
        self.rows, self.samples, self.encoder = rows, samples, encoder
        self.responses = Responses(samples.responses[rows], hold=HOLD)
        self.groups = samples.groups[rows]

    def of(self, columns: Floats) -> Floats:
        """Mean scores over folds of one layer, shape (target,)."""
        splitter = self.samples.splitter
        alone, _ = cross_validate(self.encoder, columns[self.rows], self.responses, self.groups, splitter)
        return _of_targets(mean_defined(alone.r, axis=0), self.samples)
