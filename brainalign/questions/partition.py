"""Variance partitioning of two or three feature spaces: what each explains alone, and what they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr

from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.analysis.inference.intervals import bootstrap_interval, narrow_interval
from brainalign.analysis.partitions.partitioning import partition
from brainalign.encoding import BandedRidgeEncoder
from brainalign.errors import RecipeError, nearest
from brainalign.questions.study import Part, SubjectData, by_target, layer_number, subject_of_target
from brainalign.types import Finding, Floats, Scores

__all__ = ["Partition"]

BASELINE = "baseline"
# How a part of several spaces is written.
AND = " & "


@dataclass(frozen=True)
class Partition:
    """Split what feature spaces explain into what each explains alone and what they share.

    All models of one, two and all spaces are fitted on the same folds, joint ones with a penalty for each space.

    Parameters
    ----------
    spaces : sequence of str
        Two or three: ``baseline``, the name of a feature space (its only layer, or the one at two thirds of its
        depth), or ``name @ layer`` with the layer's name or number.
    n_iter : int
        Candidates of the random search over the spaces' penalties.
    n_components : int or None
        Principal components to which a wider space is reduced, so that unlike widths do not favour one; None for none.
    seed : int

    Examples
    --------
    >>> Partition(["gpt2 @ 8", "baseline"]).spaces
    ('gpt2 @ 8', 'baseline')
    """

    section: ClassVar[str] = "partition"
    of_group: ClassVar[bool] = False
    by_space: ClassVar[bool] = False

    spaces: tuple[str, ...] = ()
    n_iter: int = 50
    n_components: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "spaces", tuple(self.spaces))
        if len(self.spaces) not in (2, 3) or len(set(self.spaces)) < len(self.spaces):
            raise RecipeError(
                f"partition: spaces names {len(self.spaces)}; two or three different ones are needed, such as "
                "[gpt2 @ 8, baseline]."
            )

    def of_subject(self, data: SubjectData) -> Part:
        """Mean over folds: ``r2``, ``r`` and ``part`` (subset, column), ``product`` (space, column)."""
        samples = data.samples
        columns = {space: self._columns(space, data) for space in self.spaces}
        encoder = BandedRidgeEncoder(n_iter=self.n_iter, random_state=self.seed, gap=samples.gap)
        found = partition(columns, samples.responses, samples.groups, samples.splitter, encoder)
        subsets = list(found.r2)
        arrays = {
            "r2": np.stack([found.r2[subset].mean(axis=0) for subset in subsets]),
            "r": np.stack([found.r[subset].mean(axis=0) for subset in subsets]),
            "part": np.stack([found.parts[subset].mean(axis=0) for subset in subsets]),
        }
        if found.r2_product is not None:
            arrays["product"] = np.stack([found.r2_product[space].mean(axis=0) for space in self.spaces])
        widths = [values.shape[1] for values in columns.values()]
        findings = []
        if max(widths) > 2 * min(widths):
            told = ", ".join(f"{space} {width}" for space, width in zip(self.spaces, widths, strict=True))
            message = (
                f"spaces of unlike width ({told} columns) are partitioned; the wider one is estimated less well. "
                f"n_components: {min(widths)} makes them alike."
            )
            findings.append(Finding("W211", "partition", message))
        return Part(arrays, findings, {"subsets": [AND.join(subset) for subset in subsets]})

    def of_study(self, parts: Mapping[str, Part], scores: Scores) -> xr.Dataset:
        """The parts of all targets, and their means over subjects with intervals."""
        subsets = next(iter(parts.values())).facts["subsets"]
        found = {}
        for name, dim in (("r2", "subset"), ("r", "subset"), ("part", "subset"), ("product", "space")):
            values = by_target(parts, name, scores, [dim])
            if values is not None:
                found[f"partition_{name}"] = values.mean("latency") if "latency" in values.dims else values
        whose = subject_of_target(scores)
        means = np.stack(
            [mean_defined(found["partition_part"].values[:, whose == subject], axis=-1) for subject in parts]
        )
        found["partition_subject"] = xr.DataArray(means, dims=("of_subject", "subset"))
        coords = {"subset": subsets, "space": list(self.spaces), "of_subject": list(parts)}
        if len(parts) > 1:
            interval = bootstrap_interval(means, seed=self.seed)
            for end in ("low", "high"):
                found[f"partition_{end}"] = xr.DataArray(getattr(interval, end), dims="subset")
        return xr.Dataset(found, coords=coords, attrs={"findings": list(narrow_interval(len(parts)))})

    def _columns(self, named: str, data: SubjectData) -> Floats:
        """The columns of what is named, (sample, column)."""
        space, _, layer = (part.strip() for part in named.partition("@"))
        if space == BASELINE and data.samples.baseline is not None:
            return data.samples.baseline
        if space not in data.features:
            known = [*data.features, *([BASELINE] if data.samples.baseline is not None else [])]
            raise RecipeError(f"partition: there is no feature space '{space}'. {nearest(space, known)}")
        features = data.features[space]
        layers = next(iter(features.values())).layers
        number = layer_number(layer, layers, f"partition: '{space}'") if layer else round((len(layers) - 1) * 2 / 3)
        columns = next(iter(data.samples.place({name: one.select([number]) for name, one in features.items()})))
        if self.n_components is None or columns.shape[1] <= self.n_components:
            return columns
        from sklearn.decomposition import PCA
        from sklearn.preprocessing import StandardScaler

        # Of all samples, held-out ones too: responses do not enter.
        standard = StandardScaler().fit_transform(columns)
        return PCA(self.n_components, random_state=self.seed).fit_transform(standard)
