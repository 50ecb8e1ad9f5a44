"""The baseline ladder: what simpler and simpler properties explain of what a model does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from sklearn.base import clone

from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.analysis.partitions.ladder import BASELINE_ALPHAS, baseline_ladder, drift_column, oasm_r
from brainalign.encoding import RidgeEncoder
from brainalign.encoding.cross_validation import HOLD
from brainalign.encoding.responses import Responses
from brainalign.errors import RecipeError, nearest
from brainalign.features import SOUND_ENVELOPE, Baseline
from brainalign.questions.study import Part, SubjectData, by_target
from brainalign.types import Features, Finding, Floats, Scores

__all__ = ["Ladder"]

OF_RATE = ("word_rate", SOUND_ENVELOPE)
OF_SENTENCES = ("sentence_position", "sentence_length")
# A ladder that explains so much leaves the model little.
MOST_EXPLAINED = 0.9
# Scores above this on folds that know nothing but neighbours are memory.
MOST_REMEMBERED = 0.1
# The diagnosis is as wide as it is long.
MOST_SAMPLES = 3000


@dataclass(frozen=True)
class Ladder:
    """Nested baselines, each scored alone and beside some layers of each model.

    Rungs, as far as the data have them: ``rate`` (words, sound), ``words`` (the rest of the baseline, sentences, drift
    within the run), ``static`` (an embedding that knows no context), ``surprisal`` and ``untrained`` (a network that
    has learnt nothing). Each holds the columns of all before it.

    Parameters
    ----------
    static : str, optional
        The feature space whose first layer is the static embedding; by default that of the first space with several
        layers. "none" leaves the rung out; so it does in the next two.
    surprisal : str, optional
        By default all spaces of that kind.
    untrained : str, optional
        The space of an untrained network, whose middle layer is taken; by default the first that is called so.
    n_layers : int
        Layers of each model that are fitted beside each rung, evenly spaced, the last among them.
    n_components : int
        Principal components of a rung with more columns than that.

    Examples
    --------
    >>> Ladder(n_layers=3).n_components
    30
    """

    section: ClassVar[str] = "ladder"
    of_group: ClassVar[bool] = False
    by_space: ClassVar[bool] = False

    static: str | None = None
    surprisal: str | None = None
    untrained: str | None = None
    n_layers: int = 5
    n_components: int = 30

    def __post_init__(self) -> None:
        if self.n_layers < 1 or self.n_components < 1:
            raise RecipeError(f"ladder: {self.n_layers} layers of {self.n_components} components; at least 1 of each.")

    def of_subject(self, data: SubjectData) -> Part:
        """Mean scores over folds: ``r2`` and ``r`` (rung, column); beside layers ``r2_joint`` (rung, layer, column).

        Layers that were not fitted are NaN. ``share`` (rung, layer) is what the rung explains of both together;
        ``oasm`` (column,) what neighbours alone tell.
        """
        samples = data.samples
        rungs = dict(self._rungs(data))
        prepared = Responses(samples.responses, hold=HOLD)
        plain = type(data.encoder) is RidgeEncoder
        encoder = clone(data.encoder) if plain else RidgeEncoder(gap=samples.gap)
        encoder.set_params(baseline_alphas=BASELINE_ALPHAS)
        n_all = [len(data.fits[space]["r"]) for space in data.features]
        shape = (len(rungs), sum(n_all), samples.responses.shape[1])
        arrays: dict[str, Floats] = {
            "r2_joint": np.full(shape, np.nan, dtype=np.float32),
            "share": np.full(shape[:2], np.nan),
        }
        before, columns, kept = 0, (), ()
        for features, n in zip(data.features.values(), n_all, strict=True):
            chosen = np.unique(np.linspace(n - 1, 0, min(self.n_layers, n)).round().astype(int))
            picked = {name: one.select(chosen.tolist()) for name, one in features.items()}
            found = baseline_ladder(
                samples.place(picked), rungs, prepared, samples.groups, samples.splitter, encoder, self.n_components
            )
            for number, rung in enumerate(found.rungs):
                arrays["r2_joint"][number, before + chosen] = rung.r2_joint.mean(axis=1)
                arrays["share"][number, before + chosen] = rung.share_explained
            before += n
            arrays |= {
                name: np.stack([getattr(rung, name).mean(axis=0) for rung in found.rungs]) for name in ("r2", "r")
            }
            columns, kept = zip(*((rung.n_columns, rung.variance_kept) for rung in found.rungs), strict=True)
        if len(samples.responses) <= MOST_SAMPLES:
            remembered = oasm_r(prepared, samples.groups, samples.splitter)
            arrays["oasm"] = mean_defined(remembered, axis=0)
        facts = {"rungs": list(rungs), "n_columns": list(columns), "variance_kept": list(kept)}
        return Part(arrays, facts=facts)

    def of_study(self, parts: Mapping[str, Part], scores: Scores) -> xr.Dataset:
        """The rungs' scores of all targets, and what is to be said where they explain nearly all."""
        first = next(iter(parts.values()))
        found = {}
        for name, dims in (("r2", ["rung"]), ("r", ["rung"]), ("r2_joint", ["rung", "layer"]), ("oasm", [])):
            values = by_target(parts, name, scores, dims)
            if values is not None:
                found[f"ladder_{name}"] = values.mean("latency") if "latency" in values.dims else values
        shares = np.stack([part.arrays["share"] for part in parts.values()])
        found["ladder_share"] = xr.DataArray(shares, dims=("of_subject", "rung", "layer"))
        result = xr.Dataset(found, coords={"rung": first.facts["rungs"], "of_subject": list(parts)})
        result.attrs = {**first.facts, "findings": list(_findings(result, scores))}
        return result

    def _rungs(self, data: SubjectData) -> Iterator[tuple[str, Floats]]:
        """The new columns of each rung."""
        samples = data.samples
        names = np.array(samples.baseline_names, dtype=str)
        rate = np.isin(names, OF_RATE)
        if samples.baseline is not None and rate.any():
            yield "rate", samples.baseline[:, rate]
        words = [drift_column(samples.run, len(samples.responses))]
        if samples.baseline is not None and not rate.all():
            words.append(samples.baseline[:, ~rate])
        if all("sentence" in stimulus.words for stimulus in data.stimuli.values()):
            sentences = Baseline(OF_SENTENCES)
            words.append(_only({name: sentences.extract(one) for name, one in data.stimuli.items()}, 0, data))
        yield "words", np.hstack(words)
        for rung, space, layer in self._models(data):
            yield rung, _only(data.features[space], layer, data)

    def _models(self, data: SubjectData) -> Iterator[tuple[str, str, int]]:
        """The rungs that are layers of feature spaces: name, space and layer."""
        spaces = list(data.features)
        n_layers = {space: len(data.fits[space]["r"]) for space in spaces}
        trained = [space for space in spaces if "untrained" not in space]
        static = self._named(self.static, data, [space for space in trained if n_layers[space] > 1])
        yield from (("static", space, 0) for space in static[:1])
        surprisal = self._named(self.surprisal, data, [space for space in trained if "surprisal" in space])
        yield from (("surprisal" if len(surprisal) == 1 else space, space, 0) for space in surprisal)
        untrained = self._named(self.untrained, data, [space for space in spaces if space not in trained])
        yield from (("untrained", space, n_layers[space] // 2) for space in untrained[:1])

    def _named(self, name: str | None, data: SubjectData, default: Sequence[str]) -> Sequence[str]:
        if name is None:
            return default
        if name == "none":
            return []
        if name not in data.features:
            raise RecipeError(f"ladder: there is no feature space '{name}'. {nearest(name, data.features)}")
        return [name]


def _only(features: Mapping[str, Features], layer: int, data: SubjectData) -> Floats:
    """One layer's columns on the samples."""
    return next(iter(data.samples.place({name: one.select([layer]) for name, one in features.items()})))


def _findings(found: xr.Dataset, scores: Scores) -> Iterator[Finding]:
    spaces = scores["feature_space"].values.astype(str)
    top = found["ladder_share"].mean("of_subject").values[-1]
    for space in dict.fromkeys(spaces.tolist()):
        of_space = top[spaces == space]
        share = np.nanmin(of_space) if np.isfinite(of_space).any() else np.nan
        if share >= MOST_EXPLAINED:
            message = (
                f"the ladder's rungs together explain at least {share:.0%} of what they and any of the layers tried "
                "explain: the model adds little."
            )
            yield Finding("W204", space, message)
    if "ladder_oasm" in found:
        remembered = float(found["ladder_oasm"].mean())
        if remembered > MOST_REMEMBERED:
            message = f"on these folds neighbouring samples alone predict with r = {remembered:.2f}: scores are memory."
            yield Finding("W205", "splits", message)
