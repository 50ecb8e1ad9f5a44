"""One subject's forecasts: windows ahead and behind, beside the same features on the same samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from brainalign.analysis.forecasts.horizons import horizon
from brainalign.analysis.forecasts.null import contrast_null, contrasted, passive_draws
from brainalign.analysis.forecasts.scoring import Forecast as Scored
from brainalign.analysis.forecasts.scoring import forecast, forecast_by_layer, passive_responses
from brainalign.analysis.forecasts.windows import WordWindows, mirror_distance, word_windows
from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.analysis.inference.surrogates import CircularShift
from brainalign.encoding import Splits
from brainalign.encoding.responses import Responses, target_status
from brainalign.errors import DataError, RecipeError
from brainalign.questions.forecast_inputs import WholeWindows, known_space, layer_of, plain_ridge
from brainalign.questions.study import SubjectData
from brainalign.types import Features, Finding, Floats

if TYPE_CHECKING:
    from brainalign.questions.forecast import Forecast

__all__ = ["SubjectForecast"]

# Words ahead at which a model's own layers are foretold.
HORIZON = (1, 2, 4, 8, 16)
FLOOR_S, MIN_SHIFT_S = 60.0, 20.0


class SubjectForecast:
    """One subject's forecasts, all beside the same base features on the same samples."""

    def __init__(
        self,
        question: Forecast,
        data: SubjectData,
        whole: WholeWindows,
        space: str,
        chosen: Mapping[str, Features],
        distances: Sequence[int],
    ) -> None:
        self.question, self.data, self.whole = question, data, whole
        self.space, self.chosen, self.distances = space, chosen, distances
        self.encoder = plain_ridge(data)
        self.splitter, self.groups = data.samples.splitter, whole.groups
        (self.present,) = whole.place(chosen)
        self.base = self.present
        if question.base == "components":
            (self.base,) = whole.place(self._windows(chosen, (0,), 1).features[0])
        self.responses = Responses(whole.responses)
        self.findings: list[Finding] = []
        n_all = len(data.samples.times_s)
        self.facts: dict[str, Any] = {"n_samples": len(whole.rows), "n_left_out": n_all - len(whole.rows)}

    def answers(self) -> dict[str, Floats]:
        """All that the question asks for, see `Forecast.of_subject`."""
        asked, where = self.question, f"forecast, subject {self.data.samples.subject}"
        made = self._windows(self.chosen, self.distances, asked.width)
        windows = self.whole.windows(made)
        found = self._scored(self.responses, windows, asked.floor)
        if not np.isfinite(found.r_alone).any():
            raise DataError("no response varies and is finite.")
        self.findings += found.findings
        self.facts["retained"] = float(made.retained[0])
        gain = found.gain.T
        arrays = {"gain": gain, "r_alone": mean_defined(found.r_alone, axis=0), "mean_gain": mean_defined(gain, axis=1)}
        if asked.floor:
            arrays["floor"] = found.floor
        if asked.variants:
            arrays["variant_gain"] = np.stack(
                [self._variant(named, made.features) for named in asked.variants.values()]
            )
        if asked.passive:
            arrays["passive_gain"] = self._passive(found, windows)
        if asked.permutations:
            arrays |= self._null(found, windows, where)
        if asked.depth:
            arrays |= self._by_layer()
        if asked.horizon:
            arrays |= self._horizon()
        return {name: np.asarray(values, dtype=np.float32) for name, values in arrays.items()}

    def _windows(self, features: Mapping[str, Features], distances: Sequence[int], width: int) -> WordWindows:
        n_columns = width * next(iter(features.values())).values.shape[2]
        n_components = min(self.question.n_components, n_columns)
        return word_windows(features, distances, width, n_components, self.question.seed)

    def _scored(self, responses: Responses | Floats, windows: Mapping[int, Floats], n_floor: int = 0) -> Scored:
        shortest = int(np.unique(self.groups, return_counts=True)[1].min())
        shift = max(1, min(self.whole.shift(FLOOR_S), shortest // 4))
        self.facts["floor_samples"] = shift
        return forecast(
            self.encoder,
            self.base,
            responses,
            self.groups,
            self.splitter,
            windows,
            self.question.width,
            delays=self.whole.delays,
            n_floor=n_floor,
            floor_shift=shift,
            seed=self.question.seed,
        )

    def _variant(self, named: str, own: Mapping[int, Any]) -> Floats:
        """F of windows of another space's vectors, mean over columns, (distance,)."""
        space, _, layer = (part.strip() for part in named.partition("@"))
        features = self.data.features[known_space(space, self.data)]
        layers = next(iter(features.values())).layers
        (name,) = next(iter(own[self.distances[0]].values())).layers
        chosen, _ = layer_of(features, layer or (name if name in layers else None), space)
        self._check_words(chosen, space)
        windows = self.whole.windows(self._windows(chosen, self.distances, self.question.width))
        return mean_defined(self._scored(self.responses, windows).gain, axis=0)

    def _check_words(self, features: Mapping[str, Features], space: str) -> None:
        for name in self.whole.heard:
            n_own, n_other = len(self.chosen[name].onset_s), len(features[name].onset_s)
            if features[name].kind != "word" or n_own != n_other:
                raise RecipeError(
                    f"forecast: the variant '{space}' has {n_other} {features[name].kind}s of '{name}', not "
                    f"its {n_own} words: name a feature space of the same words."
                )

    def _needed(self) -> list[int]:
        """The distances with a contrast, and their mirrors."""
        ahead = contrasted(self.distances, self.question.width)
        return sorted({*ahead, *(mirror_distance(one, self.question.width) for one in ahead)})

    def _passive(self, found: Scored, windows: Mapping[int, Floats]) -> Floats:
        """F of a passive brain at the distances that contrasts need, mean over columns, (distance,); others NaN."""
        responses = passive_responses(
            self.present, self.whole.responses, self.groups, self.encoder, found.explained, self.question.seed
        )
        needed = self._needed()
        scored = self._scored(responses, {distance: windows[distance] for distance in needed})
        gain = np.full(len(self.distances), np.nan)
        gain[np.isin(self.distances, needed)] = mean_defined(scored.gain, axis=0)
        return gain

    def _null(self, found: Scored, windows: Mapping[int, Floats], where: str) -> dict[str, Floats]:
        """A of passive brains, the same shifts in all subjects, (permutation, distance), and p values."""
        asked, samples, rows = self.question, self.data.samples, self.whole.rows
        usable = (target_status(self.whole.responses) == "ok") & np.isfinite(found.explained)
        responses = self.whole.responses[:, usable]
        try:
            shifts = CircularShift(
                samples.run[rows],
                asked.permutations,
                asked.seed,
                samples.stimulus[rows],
                min_shift=self.whole.shift(MIN_SHIFT_S),
            )
        except DataError as problem:
            self.findings.append(Finding("no-permutations", where, f"A(d) has no p value: {problem}"))
            return {}
        draw = passive_draws(self.present, responses, self.groups, self.encoder, found.explained[usable], shifts)
        null = contrast_null(
            self.encoder,
            self.base,
            responses,
            self.groups,
            self.splitter,
            {distance: windows[distance] for distance in self._needed()},
            draw,
            asked.permutations,
            asked.width,
        )
        self.facts["min_shift"] = shifts.min_shift
        arrays = {"null": null.mean, "observed": mean_defined(null.observed, axis=1)}
        if samples.latencies_s is None:
            arrays["p"] = np.full((len(self.distances), len(usable)), np.nan)
            arrays["p"][np.ix_(np.isin(self.distances, null.distances), usable)] = null.p
        return arrays

    def _by_layer(self) -> dict[str, Floats]:
        """F and A at one distance of each layer's windows beside the same base, NaN for other spaces' layers."""
        asked = self.question
        pair = (asked.depth_distance, mirror_distance(asked.depth_distance, asked.width))
        made = self._windows(self.data.features[self.space], pair, asked.width)
        n_layers = len(made.retained)
        columns = [self.whole.place(made.features[distance]) for distance in pair]
        gain = forecast_by_layer(
            self.encoder, self.base, self.responses, self.groups, self.splitter, [*columns[0], *columns[1]]
        ).T
        before, n_all = self._layers_before(), sum(len(fits["r"]) for fits in self.data.fits.values())
        found = {"depth_gain": gain[:n_layers], "depth_contrast": gain[:n_layers] - gain[n_layers:]}
        placed = {name: np.full((n_all, gain.shape[1]), np.nan) for name in found}
        for name, values in found.items():
            placed[name][before : before + n_layers] = values
        return placed

    def _layers_before(self) -> int:
        """Layers of the feature spaces that stand before this one."""
        spaces = list(self.data.features)
        return sum(len(self.data.fits[space]["r"]) for space in spaces[: spaces.index(self.space)])

    def _horizon(self) -> dict[str, Floats]:
        """How well components of later words' layers follow from the present word, above their floor."""
        present = {name: self.chosen[name] for name in self.whole.heard}
        space = self._later()
        later = {name: self.data.features[space][name] for name in present}
        distances = [one for one in HORIZON if one <= max(*self.distances, 1)]
        reduced = self._windows(later, (0,), 1).features[0]
        groups = np.repeat(list(present), [len(one.onset_s) for one in present.values()])
        times_s = np.concatenate([one.onset_s for one in present.values()])
        splitter = Splits().splitter(groups, times_s, MIN_SHIFT_S)
        found = horizon(present, reduced, distances, splitter, layer=0, encoder=self.encoder, seed=self.question.seed)
        self.facts["horizon"] = {"space": space, "layers": list(found.layers), "distances": distances}
        if space == self.space:
            message = (
                f"later words' vectors are those of '{space}' in their context, which carries the present word along; "
                "for what can be foretold give a variant whose context restarts, or a static one."
            )
            self.findings.append(Finding("contextual-horizon", "forecast", message))
        return {"horizon": found.above_floor, "half_life": found.half_life_words}

    def _later(self) -> str:
        """The space whose later words are foretold."""
        spaces = [named.partition("@")[0].strip() for named in self.question.variants.values()]
        several = (space for space in spaces if len(self.data.fits[known_space(space, self.data)]["r"]) > 1)
        return next(several, spaces[0] if spaces else self.space)
