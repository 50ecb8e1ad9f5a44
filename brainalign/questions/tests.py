"""The tests of a study: each subject against surrogates of the responses, and all subjects together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator

from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.analysis.inference.adjacency import adjacency_of, neighbours_among, with_latencies
from brainalign.analysis.inference.clusters import cluster_test
from brainalign.analysis.inference.moments import shift_in_samples
from brainalign.analysis.inference.permutation import Penalties, gain_null, score_null
from brainalign.analysis.inference.significance import fdr, p_values
from brainalign.analysis.inference.surrogates import Reordering, SurrogateKind, Surrogates, surrogates
from brainalign.encoding import BandedRidgeEncoder, RidgeEncoder, Samples
from brainalign.errors import DataError, RecipeError, listed, nearest
from brainalign.questions.group_tests import group_tests
from brainalign.questions.study import Part, SubjectData, by_target
from brainalign.types import Finding, Floats, Scores

if TYPE_CHECKING:
    from scipy.sparse import sparray

__all__ = ["STATISTICS", "Tests"]

Kind = Literal["auto", SurrogateKind]
# What "auto" tries, in this order.
AUTO: tuple[SurrogateKind, ...] = ("circular_shift", "phase_randomisation")
# Bytes of one subject's null scores in one feature space, target by target, that are kept for tests of the group.
KEPT = 200 * 2**20
STATISTICS = ("r", "gain")
# What each subject's tests say of targets, in the order of `_Problem`: one by one, and of a family.
OF_TARGETS = ("p", "q", "p_max", "p_cluster")


@dataclass(frozen=True)
class Tests:
    """Test the scores of each layer, and its gain over the baseline, against surrogates of the responses.

    Every surrogate is fitted anew, in training and test, at the penalties that were chosen (see `permutation`). All
    subjects get the same draws, so that the mean over subjects has a null of its own, which allows for the chance that
    they share because they heard the same stimulus.

    Parameters
    ----------
    permutations : int
        Surrogates.
    surrogate : {"auto", "circular_shift", "block_permutation", "phase_randomisation", "iid_shuffle"}
        How responses are changed, see `brainalign.analysis.inference.surrogates`. "auto" shifts them; where runs have
        not so many different shifts, as a single one of ten minutes has not, it gives their frequencies random phases.
    min_shift_s : float
        Seconds of the shortest shift, or of a block: longer than signals remember. Where rows are items (words,
        sentences) so many items: longer than what belongs together.
    clusters : bool
        Whether to test clusters of neighbouring sensors, voxels or vertices, and latencies.
    group_targets : bool
        Whether the mean over subjects is tested target by target too. For it each subject's null scores are kept, in
        each feature space up to 200 MB of r, and of the gain.
    allow_iid : bool
        Must be True for "iid_shuffle".
    seed : int

    Examples
    --------
    >>> Tests(permutations=200).surrogate
    'auto'
    """

    section: ClassVar[str] = "tests"
    of_group: ClassVar[bool] = False
    by_space: ClassVar[bool] = True

    permutations: int = 1000
    surrogate: Kind = "auto"
    min_shift_s: float = 20.0
    clusters: bool = True
    group_targets: bool = True
    allow_iid: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.permutations < 20:
            raise RecipeError(f"tests: {self.permutations} permutations cannot give a p below .05; take 1000.")
        if self.surrogate not in get_args(Kind):
            raise RecipeError(
                f"tests: there is no surrogate '{self.surrogate}'. {nearest(self.surrogate, get_args(Kind))}"
            )
        if self.surrogate == "iid_shuffle" and not self.allow_iid:
            raise RecipeError(
                "tests: shuffled samples lose their memory, which makes chance look significant (23 % at .05 where the "
                "lag-1 autocorrelation is .8): take circular_shift, or say allow_iid: true."
            )
        if not self.min_shift_s >= 0:
            raise RecipeError(f"tests: min_shift_s is {self.min_shift_s}; seconds cannot be negative.")

    def of_subject(self, data: SubjectData) -> Part:
        """P values of each layer and target, and the null scores of their means.

        Of each statistic ("r", "gain"): ``p``, ``q``, ``p_max`` and, where targets have neighbours, ``p_cluster``
        (layer, column); ``mean`` (layer,) over columns and ``null_mean`` (layer, permutation); where they are not too
        many ``observed`` (layer, column) and ``null`` (layer, permutation, column).
        """
        _check_encoder(data.encoder)
        drawn = self._surrogates(data.samples)
        problem = _Problem(data, drawn, self)
        (space,) = data.features
        arrays = {
            f"{name}_{statistic}": values
            for statistic in STATISTICS[: 1 if data.samples.baseline is None else 2]
            for name, values in problem.tested(space, statistic).items()
        }
        return Part(arrays, problem.findings, {"rows": getattr(data.aligner, "rows", "time"), "surrogate": drawn.kind})

    def of_study(self, parts: Mapping[str, Part], scores: Scores) -> xr.Dataset:
        """P values of all targets, and of means over subjects."""
        kind = _one_kind(parts)
        variables = {}
        for statistic in STATISTICS:
            for name in OF_TARGETS:
                values = by_target(parts, f"{name}_{statistic}", scores, ["layer"])
                if values is not None:
                    variables[f"{name}_{statistic}"] = values
        of_group = group_tests(parts, scores, STATISTICS, self.seed, self.clusters, self.group_targets)
        found = xr.Dataset({**variables, **of_group.data_vars}, coords=of_group.coords)
        rows = {part.facts["rows"] for part in parts.values()}
        found.attrs = {**of_group.attrs, "name": kind.replace("_", " "), "rows": "/".join(sorted(rows))}
        return found

    def keeps_null(self, n_layers: int, n_columns: int) -> bool:
        """Whether null scores of so many layers and columns of one subject are kept, column by column."""
        return self.group_targets and 4 * n_layers * self.permutations * n_columns <= KEPT

    def _surrogates(self, samples: Samples) -> Surrogates:
        kinds = AUTO if self.surrogate == "auto" else (self.surrogate,)
        for kind in kinds[:-1]:
            with suppress(DataError):
                return self._drawn(kind, samples)
        return self._drawn(kinds[-1], samples)

    def _drawn(self, kind: SurrogateKind, samples: Samples) -> Surrogates:
        try:
            return surrogates(
                kind,
                samples.responses,
                samples.run,
                n_permutations=self.permutations,
                seed=self.seed,
                stimulus=samples.stimulus,
                # Of what was heard and when, not of the responses: subjects who heard the same get the same draws.
                length=shift_in_samples(samples.times_s, samples.run, samples.stimulus, self.min_shift_s),
                allow_iid=self.allow_iid,
            )
        except DataError as problem:
            settings = f"surrogate: {kind}, permutations: {self.permutations}, min_shift_s: {self.min_shift_s:g}"
            raise DataError(f"tests of subject {samples.subject} ({settings}): {problem}") from problem


def _one_kind(parts: Mapping[str, Part]) -> str:
    """The kind of surrogates that all subjects had; a DataError if they differ, as draws are then not the same."""
    of_subject = {subject: part.facts["surrogate"] for subject, part in parts.items()}
    kinds = sorted(set(of_subject.values()))
    if len(kinds) > 1:
        few = listed([subject for subject, kind in of_subject.items() if kind == kinds[-1]])
        raise DataError(
            f"tests: the runs of subjects {few} allow too few different shifts, those of others enough, so that the "
            "group would have no common draws: say surrogate: phase_randomisation, or leave these subjects out."
        )
    return kinds[0]


def _check_encoder(encoder: BaseEstimator) -> None:
    """Raise a RecipeError if predictions are not those of plain ridge, which is what is refitted."""
    if isinstance(encoder, RidgeEncoder) and not isinstance(encoder, BandedRidgeEncoder):
        if encoder.n_components is None and encoder.standardise:
            return
        raise RecipeError("tests: surrogates are fitted by ridge of all standardised columns: leave n_components out.")
    raise RecipeError(f"tests: surrogates are fitted by ridge; for {type(encoder).__name__} take encoder kind 'ridge'.")


class _Problem:
    """One subject's responses and surrogates, tested space by space."""

    def __init__(self, data: SubjectData, drawn: Surrogates, asked: Tests) -> None:
        samples = data.samples
        self.data, self.drawn, self.asked = data, drawn, asked
        self.usable = samples.usable
        self.responses = samples.responses[:, self.usable]
        self.folds = [
            (np.asarray(train), np.asarray(test))
            for train, test in samples.splitter.split(self.responses, groups=samples.groups)
        ]
        self.clusters = asked.clusters and self.adjacency is not None
        self.findings: list[Finding] = []

    @cached_property
    def adjacency(self) -> sparray | None:
        """Neighbours among the usable columns; None where nothing has any."""
        targets, latencies = self.data.targets, self.data.samples.latencies_s
        of_targets = adjacency_of(targets, self.data.space)
        if latencies is not None:
            of_targets = with_latencies(of_targets, len(targets), len(latencies))
        return None if of_targets is None else neighbours_among(of_targets, self.usable)

    def tested(self, space: str, statistic: str) -> dict[str, Floats]:
        """What the tests say of each layer of a space, arrays with layers first."""
        layers: dict[str, list[Floats]] = {}
        largest = []
        keeps_null = self.asked.keeps_null(len(self.data.fits[space]["r"]), int(self.usable.sum()))
        for observed, null in self._nulls(space, statistic):
            p = p_values(observed, null)
            found = {"p": p, "q": fdr(p), "observed": observed}
            found |= {"mean": mean_defined(observed, axis=0), "null_mean": mean_defined(null, axis=1)}
            if self.clusters:
                found["p_cluster"] = self._of_clusters(observed, null)
            if keeps_null:
                found["null"] = null
            largest.append(np.where(np.isfinite(observed), null, -np.inf).max(axis=1))
            for name, values in found.items():
                layers.setdefault(name, []).append(np.asarray(values, dtype=np.float32))
        arrays = {name: np.stack(values) for name, values in layers.items()}
        # The largest of all layers and columns: nothing of the space is picked without paying for it.
        top = np.max(largest, axis=0)
        arrays["p_max"] = p_values(arrays["observed"], (np.broadcast_to(one, arrays["observed"].shape) for one in top))
        return {name: self._spread(values) if name in SPREAD else values for name, values in arrays.items()}

    def _nulls(self, space: str, statistic: str) -> Iterator[tuple[Floats, Floats]]:
        """Observed (column,) and null (permutation, column) of each layer, of the usable columns."""
        samples, fits = self.data.samples, self.data.fits[space]
        order = self.drawn.order if isinstance(self.drawn, Reordering) else None
        draws = (self.drawn.apply, self.drawn.n_permutations, order)

        def chosen(name: str, layer: int | None = None) -> Floats:
            values = fits[name] if layer is None else fits[name][layer]
            return values[..., self.usable]

        for layer, design in enumerate(samples.place(self.data.features[space])):
            if statistic == "r":
                penalties = Penalties(chosen("alpha", layer))
                yield score_null(design, self.responses, self.folds, penalties, *draws)
            else:
                assert samples.baseline is not None
                joint = Penalties(chosen("alpha_joint", layer), chosen("beta_joint", layer))
                alone = Penalties(chosen("alpha_baseline"))
                yield gain_null(design, samples.baseline, self.responses, self.folds, joint, alone, *draws)

    def _of_clusters(self, observed: Floats, null: Floats) -> Floats:
        if not np.isfinite(observed).any():
            return np.full(observed.shape, np.nan)
        found = cluster_test(observed, null, self.adjacency, test=self.drawn.name, n=len(self.responses)).significance
        self.findings += [finding for finding in found.findings if finding not in self.findings]
        return found.p_corrected

    def _spread(self, values: Floats) -> Floats:
        """Of all columns, those that could not be tested NaN."""
        whole = np.full((*values.shape[:-1], len(self.usable)), np.nan, dtype=np.float32)
        whole[..., self.usable] = values
        return whole


SPREAD = (*OF_TARGETS, "observed", "null")
