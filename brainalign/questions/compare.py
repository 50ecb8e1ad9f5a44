"""How alike layers and responses are as representations, without a fit: alignment, similarity, neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import xarray as xr

from brainalign.analysis.inference.intervals import narrow_interval
from brainalign.analysis.inference.moments import Moments, shift_in_samples
from brainalign.analysis.similarity.compare import Compare as Settings
from brainalign.analysis.similarity.compare import Comparison
from brainalign.encoding import Samples
from brainalign.encoding.metrics import is_constant
from brainalign.encoding.splits import Splitter
from brainalign.questions.shared_draws import over_subjects, unlike_draws
from brainalign.questions.study import Part, SubjectData
from brainalign.types import Features, Finding, Floats, Scores

__all__ = ["Compare"]

TEST = "circular shift"
# Longer than signals remember.
MIN_SHIFT_S = 20.0
# Layers whose widths differ by more are not compared like with like.
MOST_UNLIKE = 2


@dataclass(frozen=True)
class Compare(Settings):
    """Compare each layer with each subject's responses, row by row, and with responses that are circularly shifted.

    Rows are moments: responses to several hearings of one are averaged. Runs are stimuli, so that subjects who heard
    the same get the same shifts, and the mean over subjects has a null of its own. The settings are those of
    `brainalign.analysis.similarity.compare.Compare`; `min_shift` is by default the samples of 20 s.

    Examples
    --------
    >>> Compare(measures=("cka", "rsa"), permutations=200).section
    'compare'
    """

    section: ClassVar[str] = "compare"
    of_group: ClassVar[bool] = False
    by_space: ClassVar[bool] = False

    def of_subject(self, data: SubjectData) -> Part:
        """As `of_layers`, of all feature spaces."""
        return self.of_layers(data.samples, data.features)

    def of_layers(self, samples: Samples, features: Mapping[str, Mapping[str, Features]]) -> Part:
        """What is found of each layer of some feature spaces and one subject.

        ``value`` and ``p`` (measure, layer), ``null`` (permutation, measure, layer), ``band`` and ``n_columns``
        (layer,).
        """
        moments = Moments.of(samples)
        first = moments.first
        stimulus, times_s = samples.stimulus[first], samples.times_s[first]
        min_shift = self.min_shift or shift_in_samples(times_s, stimulus, stimulus, MIN_SHIFT_S)
        settings = replace(self, min_shift=min_shift)
        responses, usable = moments.mean(samples.responses), bool(samples.usable.any())
        folds = _FoldsOfStories(samples.splitter, samples.groups[first])
        found, widths, unlike = [], [], dict[str, None]()
        for space, of_stimuli in features.items():
            for design in samples.place(of_stimuli):
                columns = moments.mean(design)
                measures, reasons = self._possible(columns, usable)
                possible = replace(settings, measures=measures)
                found.append(possible.compare(columns, responses, stimulus, folds) if measures else {})
                widths.append(columns.shape[1])
                unlike |= {f"{space}: {reason}": None for reason in reasons}
        where = f"compare, subject {samples.subject}"
        findings = [Finding("not-compared", where, reason) for reason in unlike]
        return Part(
            self._arrays(found) | {"n_columns": np.array(widths, dtype=float)},
            [*findings, *_findings(found, where)],
            {"min_shift": min_shift, "n_samples": len(first)},
        )

    def of_study(self, parts: Mapping[str, Part], scores: Scores | None = None) -> xr.Dataset:
        """Values of all layers and subjects, what shifted responses give, and their means over subjects."""
        found: dict[str, Any] = {}
        for name in ("value", "p"):
            values = np.stack([part.arrays[name] for part in parts.values()], axis=-1)
            found[f"compare_{name}"] = (("measure", "layer", "of_subject"), values)
        null = [part.arrays["null"] for part in parts.values()]
        if all(len(drawn) for drawn in null):
            noise = np.stack([drawn.mean(axis=0) for drawn in null], axis=-1)
            high = np.stack([np.quantile(drawn, 0.95, axis=0) for drawn in null], axis=-1)
            found["compare_chance"] = (("measure", "layer", "of_subject"), noise)
            found["compare_chance_high"] = (("measure", "layer", "of_subject"), high)
        observed = np.stack([part.arrays["value"] for part in parts.values()])
        # Of one measure all layers are a family.
        of_measures = [
            over_subjects(observed[:, number], [drawn[:, number] for drawn in null], TEST, self.seed)
            for number in range(len(self.measures))
        ]
        for name in of_measures[0]:
            found[f"compare_group_{name}"] = (("measure", "layer"), np.stack([one[name] for one in of_measures]))
        bands = np.stack([part.arrays["band"] for part in parts.values()], axis=-1)
        found["compare_band"] = (("layer", "of_subject"), bands)
        found["compare_n_columns"] = ("layer", next(iter(parts.values())).arrays["n_columns"])
        result = xr.Dataset(found, coords={"measure": list(self.measures), "of_subject": list(parts)})
        result.attrs = {
            "test": TEST,
            "n_permutations": {subject: len(drawn) for subject, drawn in zip(parts, null, strict=True)},
            "min_shifts": {subject: part.facts["min_shift"] for subject, part in parts.items()},
            "n_moments": {subject: part.facts["n_samples"] for subject, part in parts.items()},
            "findings": [*_of_all(result, null), *narrow_interval(len(parts))],
        }
        return result

    def _possible(self, columns: Floats, usable: bool) -> tuple[list[Any], list[str]]:
        """The measures that these features and responses have, and why not the others."""
        n_varying = int((~is_constant(columns)).sum())
        if not usable or n_varying == 0:
            what = "no feature of a layer varies" if usable else "no response varies and is finite"
            return [], [f"{what}, so that there is nothing to compare."]
        if "rsa" in self.measures and self.distance == "correlation" and n_varying == 1:
            reason = "a single column has no correlation between rows; for rsa use distance: euclidean."
            return [measure for measure in self.measures if measure != "rsa"], [reason]
        return list(self.measures), []

    def _arrays(self, found: Sequence[Mapping[Any, Comparison]]) -> dict[str, Floats]:
        """Of each layer's comparisons; NaN where a measure is lacking."""
        made = [comparison for of_layer in found for comparison in of_layer.values()]
        n_permutations = len(made[0].null) if made else 0
        value, p = np.full((2, len(self.measures), len(found)), np.nan)
        null = np.full((n_permutations, len(self.measures), len(found)), np.nan)
        for layer, of_layer in enumerate(found):
            for number, measure in enumerate(self.measures):
                if measure in of_layer:
                    comparison = of_layer[measure]
                    value[number, layer], p[number, layer] = comparison.value, comparison.p
                    null[:, number, layer] = comparison.null
        bands = [max((one.band for one in of_layer.values()), default=0) for of_layer in found]
        return {"value": value, "p": p, "null": null, "band": np.array(bands, dtype=float)}


@dataclass(frozen=True)
class _FoldsOfStories:
    """The folds of these stories, whatever other groups are given: versions of one are held out together."""

    splitter: Splitter
    stories: np.ndarray

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self.splitter.split(X, y, self.stories)


def _findings(found: Sequence[Mapping[Any, Comparison]], where: str) -> Iterator[Finding]:
    """What was found of several layers, once; W215 with how many they are."""
    alike = [one.band for of_layer in found for one in of_layer.values() if _has(one, "W215")]
    if alike:
        n_layers = sum(any(_has(one, "W215") for one in of_layer.values()) for of_layer in found)
        message = (
            f"in {n_layers} of {len(found)} layers rows of features and responses {min(alike)} samples apart still "
            "resemble each other, so that values are above zero without any alignment: widen the band, and read them "
            "beside those of shifted responses."
        )
        yield Finding("W215", where, message)
    others = [one for of_layer in found for comparison in of_layer.values() for one in comparison.findings]
    yield from dict.fromkeys(Finding(one.code, where, one.message) for one in others if one.code != "W215")


def _has(comparison: Comparison, code: str) -> bool:
    return any(finding.code == code for finding in comparison.findings)


def _of_all(result: xr.Dataset, null: Sequence[Floats]) -> Iterator[Finding]:
    """W211, of layers of unlike widths; and subjects without common draws."""
    widths = result["compare_n_columns"].values
    if widths.max() > MOST_UNLIKE * widths.min():
        message = (
            f"layers have from {widths.min():.0f} to {widths.max():.0f} columns; procrustes, cca and biased cka rise "
            "with their number, and a wide layer can be like responses in more ways: compare spaces with care."
        )
        yield Finding("W211", "compare", message)
    if unlike_draws(null):
        message = "subjects have different numbers of shifts, so that their mean is not tested."
        yield Finding("unlike-draws", "compare", message)
