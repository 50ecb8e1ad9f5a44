"""Whether responses carry what comes next: what windows of words ahead add, beside all that passes for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import xarray as xr

from brainalign.analysis.forecasts.curves import seconds_ahead
from brainalign.analysis.forecasts.null import contrasted
from brainalign.analysis.forecasts.windows import mirror_distance
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.questions.forecast_fits import SubjectForecast
from brainalign.questions.forecast_group import of_group
from brainalign.questions.forecast_inputs import WholeWindows, heard, known_space, layer_of
from brainalign.questions.study import Part, SubjectData
from brainalign.types import Finding, Scores

__all__ = ["Forecast"]

Base = Literal["all", "components"]
# From past to future: of slow responses, and of word-locked ones.
DISTANCES = {"volumes": range(-10, 31), "words": range(-8, 21)}


@dataclass(frozen=True)
class Forecast:
    """Score windows of words ahead beside the present word's features, and against windows as far behind.

    F(d) is what the window that ends d words ahead adds to r; A(d) = F(d) - F(mirror), the same less what the window as
    far behind adds, is the statistic (`brainalign.analysis.forecasts.scoring`). All distances are scored on the same
    samples: those that a word without all its windows reaches are left out.

    Parameters
    ----------
    features : str, optional
        The feature space of words; by default the first of several layers.
    layer : int or str, optional
        By default that at two thirds of the depth.
    distances : tuple of int, optional
        In words, of the window's last word from the present one; by default -10 to 30 for fMRI, -8 to 20 for
        word-locked responses. At least one must have its mirror, width - 1 - d.
    width : int
        Words in a window.
    n_components : int
        Principal components of windows, and of the base features where `base` says so; fewer where there are fewer
        dimensions.
    base : {"all", "components"}
        The present word's features: all dimensions, which lose nothing and cost no more than the layer's own fit, or as
        many components as windows have, as published, whose F is above zero without any forecast.
    variants : mapping of str -> str
        Other feature spaces whose vectors make the windows, by what they are to be called: ``{static: glove}``. With
        "space @ layer" a layer of it, by name or number; by default the one of the same name, or at two thirds of the
        depth. Contextual vectors of words ahead know of the present word: static ones, and those of a context that
        restarts, do not.
    passive : bool
        Whether to analyse, in the same way, responses that only the present words and noise are made of.
    floor : int
        Windows from elsewhere in the story that the cost of so many columns is averaged over; 0 for none.
    depth : bool
        Whether to find the layer whose windows forecast best, at `depth_distance`.
    depth_distance : int
    horizon : bool
        Whether to see how far ahead the model's own layers follow from the present word (components of them): of the
        first variant of several layers, else the first variant, else the space itself.
    permutations : int
        Passive brains with the same shifts for all subjects that A(d) is tested against (see
        `brainalign.analysis.forecasts.null`); 0 for none, since all windows are fitted to each.
    n_bootstrap : int
        Draws for intervals over subjects.
    seed : int

    Examples
    --------
    >>> Forecast(variants={"static": "glove"}, permutations=200).base
    'all'
    """

    section: ClassVar[str] = "forecast"
    of_group: ClassVar[bool] = False
    by_space: ClassVar[bool] = False

    features: str | None = None
    layer: int | str | None = None
    distances: tuple[int, ...] | None = None
    width: int = 7
    n_components: int = 20
    base: Base = "all"
    variants: Mapping[str, str] = field(default_factory=dict)
    passive: bool = True
    floor: int = 3
    depth: bool = False
    depth_distance: int = 8
    horizon: bool = False
    permutations: int = 0
    n_bootstrap: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.base not in get_args(Base):
            raise RecipeError(f"forecast: there is no base '{self.base}'. {nearest(self.base, get_args(Base))}")
        if min(self.width, self.n_components) < 1 or self.floor < 0 or self.n_bootstrap < 100:
            raise RecipeError("forecast: width and n_components are at least 1, floor at least 0, n_bootstrap 100.")
        if self.permutations < 0 or 0 < self.permutations < 20:
            raise RecipeError(f"forecast: {self.permutations} permutations cannot give a p below .05; take 200, or 0.")
        if self.distances is None:
            return
        if not contrasted(self.distances, self.width):
            raise RecipeError(
                f"forecast: of the distances {list(self.distances)} none has its mirror, {self.width} - 1 - d, as 8 "
                f"has {mirror_distance(8, self.width)}; without it a forecast cannot be told from other gains."
            )
        mirror = mirror_distance(self.depth_distance, self.width)
        if self.depth and not {self.depth_distance, mirror} <= set(self.distances):
            raise RecipeError(
                f"forecast: depth needs {self.depth_distance} and {mirror} among the distances: add them, or set "
                "depth_distance."
            )

    def of_subject(self, data: SubjectData) -> Part:
        """What windows add for one subject, averaged over folds.

        ``gain`` (distance, column), F; ``r_alone`` and ``floor`` (column,); ``mean_gain`` (distance,), over columns,
        and likewise ``passive_gain`` and ``variant_gain`` (variant, distance); with `permutations` ``null`` and
        ``observed``, A of draws and responses, and where responses have no latencies ``p`` (distance, column); with
        `depth` ``depth_gain`` and ``depth_contrast`` (layer, column), of the layers of all spaces; with `horizon`
        ``horizon`` (layer, distance) and ``half_life`` (layer,).
        """
        space = self._space(data)
        given = data.features[space]
        chosen, number = layer_of(given, self.layer, space)
        distances = self._distances(data)
        facts = {
            "space": space,
            "layer": next(iter(given.values())).layers[number],
            "distances": distances,
            "seconds": seconds_ahead(distances, [given[name].onset_s for name in heard(data)]).tolist(),
        }
        try:
            whole = WholeWindows.of(data, given, distances, self.width)
            study = SubjectForecast(self, data, whole, space, chosen, distances)
            arrays = study.answers()
        except DataError as problem:
            message = f"no forecast is scored: {problem}"
            return Part({}, [Finding("no-forecast", f"forecast, subject {data.samples.subject}", message)], facts)
        return Part(arrays, study.findings, facts | study.facts)

    def of_study(self, parts: Mapping[str, Part], scores: Scores) -> xr.Dataset:
        """Curves of all targets and subjects, their means with intervals and tests, and the distance of the peak."""
        return of_group(parts, scores, self.width, list(self.variants), self.n_bootstrap, self.seed)

    def _space(self, data: SubjectData) -> str:
        """The feature space that is asked for, or the first of words with several layers."""
        if self.features is not None:
            return known_space(self.features, data)
        for space, features in data.features.items():
            first = next(iter(features.values()))
            if first.kind == "word" and len(first.layers) > 1:
                return space
        raise RecipeError(
            "forecast: no feature space of words has several layers: say which one makes the windows, "
            f"forecast: {{features: {next(iter(data.features))}}}."
        )

    def _distances(self, data: SubjectData) -> list[int]:
        if self.distances is not None:
            return sorted(set(self.distances))
        return list(DISTANCES["volumes" if data.samples.latencies_s is None else "words"])
