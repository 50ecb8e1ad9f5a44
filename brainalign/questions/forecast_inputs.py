"""What forecasts are fitted on: samples that no word without all its windows reaches, and windows placed on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from brainalign.alignment import Hemodynamic
from brainalign.analysis.forecasts.windows import WordWindows, complete_words, reached
from brainalign.analysis.inference.moments import shift_in_samples
from brainalign.analysis.partitions.ladder import BASELINE_ALPHAS
from brainalign.encoding import RidgeEncoder
from brainalign.errors import DataError, RecipeError, nearest
from brainalign.questions.study import SubjectData, layer_number
from brainalign.types import Features, Floats

__all__ = ["WholeWindows", "heard", "known_space", "layer_of", "plain_ridge"]

# Seconds of the haemodynamic response to a word, and volumes that resampling without it spreads a word over.
RESPONSE_S, SPREAD_VOLUMES = 20.0, 3
FEWEST_SAMPLES = 30


def layer_of(features: Mapping[str, Features], layer: int | str | None, where: str) -> tuple[dict[str, Features], int]:
    """One layer of a feature space, by name or number, at two thirds of the depth by default; and which it is.

    Raises
    ------
    RecipeError
        If there is no such layer.
    """
    layers = next(iter(features.values())).layers
    number = round((len(layers) - 1) * 2 / 3) if layer is None else layer_number(layer, layers, f"forecast: '{where}'")
    return {name: one.select([number]) for name, one in features.items()}, number


def known_space(space: str, data: SubjectData) -> str:
    """The name of a feature space; raises a RecipeError if there is none of this name."""
    if space not in data.features:
        raise RecipeError(f"forecast: there is no feature space '{space}'. {nearest(space, data.features)}")
    return space


def heard(data: SubjectData) -> list[str]:
    """The stimuli of the samples, in their order."""
    return list(dict.fromkeys(data.samples.stimulus.tolist()))


def plain_ridge(data: SubjectData) -> RidgeEncoder:
    """The study's encoder where it is plain ridge, else a default one; of all columns, with penalties for windows."""
    known = type(data.encoder) is RidgeEncoder
    encoder = clone(data.encoder) if known else RidgeEncoder(gap=data.samples.gap)
    encoder.set_params(n_components=None, standardise=True, baseline_alphas=BASELINE_ALPHAS)
    return encoder.set_params(inner_splits=4) if encoder.inner_splits == "loo" else encoder


@dataclass(frozen=True)
class WholeWindows:
    """The samples of one subject on which the windows at all distances are whole.

    Attributes
    ----------
    data : SubjectData
    rows : array (kept,) of int
        Among all samples.
    delays : tuple of int
        In samples, at which features come; (0,) where responses are word-locked.
    """

    data: SubjectData
    rows: NDArray[np.intp]
    delays: tuple[int, ...]

    @classmethod
    def of(
        cls, data: SubjectData, features: Mapping[str, Features], distances: Sequence[int], width: int
    ) -> WholeWindows:
        """Find them.

        Raises
        ------
        DataError
            If too few are left.
        RecipeError
            If responses are to items.
        """
        if getattr(data.aligner, "rows", "time") == "items":
            raise RecipeError(
                "forecast: these responses are to items, and what was heard a few words later is not known of them; "
                "it needs responses on a clock. Leave `forecast` out."
            )
        samples = data.samples
        delays, reach_s = _delays_and_reach(data)
        left_out = np.zeros(len(samples.times_s), dtype=bool)
        for name in heard(data):
            onset_s = features[name].onset_s
            complete = complete_words(len(onset_s), distances, width)
            here = samples.stimulus == name
            left_out[here] = reached(samples.times_s[here], onset_s, complete, reach_s)
        rows = np.flatnonzero(~left_out)
        if len(rows) < FEWEST_SAMPLES:
            raise DataError(
                f"{len(rows)} of {len(left_out)} samples have whole windows of {width} words at all distances from "
                f"{min(distances)} to {max(distances)}: take shorter distances."
            )
        return cls(data, rows, delays)

    @property
    def responses(self) -> Floats:
        """Of these samples, (kept, column)."""
        return self.data.samples.responses[self.rows]

    @property
    def heard(self) -> list[str]:
        """The stimuli of all samples."""
        return heard(self.data)

    @property
    def groups(self) -> np.ndarray:
        """Their stories, (kept,)."""
        return self.data.samples.groups[self.rows]

    def place(self, features: Mapping[str, Features]) -> list[Floats]:
        """Each layer's columns on these samples, arrays (kept, column)."""
        return [columns[self.rows] for columns in self.data.samples.place(features)]

    def windows(self, made: WordWindows, layer: int = 0) -> dict[int, Floats]:
        """The windows of one layer, by distance, arrays (kept, column)."""
        distances = list(made.features)
        # Distances pass for layers, so that each run is resampled once.
        together = {
            name: replace(
                one,
                layers=tuple(map(str, distances)),
                values=np.stack([made.features[distance][name].values[layer] for distance in distances]),
            )
            for name, one in made.features[distances[0]].items()
        }
        return dict(zip(distances, self.place(together), strict=True))

    def shift(self, seconds: float) -> int:
        """The largest number of samples of a hearing in so many seconds."""
        samples = self.data.samples
        return shift_in_samples(
            samples.times_s[self.rows], samples.run[self.rows], samples.stimulus[self.rows], seconds
        )


def _delays_and_reach(data: SubjectData) -> tuple[tuple[int, ...], tuple[float, float]]:
    """The delays at which features come, and the seconds after its onset in which a word is in the samples."""
    if not isinstance(data.aligner, Hemodynamic):
        return (0,), (0.0, 0.0)
    samples = data.samples
    steps = [np.diff(samples.times_s[samples.run == run]) for run in np.unique(samples.run)]
    tr_s = float(np.median(np.concatenate(steps)))
    delays = data.aligner.volumes_of_delay(tr_s)
    first_s, last_s = min(delays) * tr_s, max(delays) * tr_s
    if data.aligner.resampling == "hrf":
        return delays, (first_s, last_s + RESPONSE_S)
    return delays, (first_s - SPREAD_VOLUMES * tr_s, last_s + SPREAD_VOLUMES * tr_s)
