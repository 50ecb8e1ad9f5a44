"""What of each layer can be read out of the responses: the model of encoding backwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, clone

from brainalign.analysis.decoding.backward import Decoded
from brainalign.analysis.decoding.backward import Decoding as Settings
from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.analysis.inference.intervals import narrow_interval
from brainalign.encoding import RidgeEncoder
from brainalign.questions.shared_draws import over_subjects, unlike_draws
from brainalign.questions.study import Part, SubjectData, by_layer
from brainalign.types import Finding, Floats, Scores

__all__ = ["Decoding"]

TEST = "circular shift"
# Means over folds and components.
SCORES = ("r", "r2", "two_vs_two", "rank_accuracy", "top_k", "chance_top_k")
# More fits at an edge than these, of those that explain something, would be others with a wider grid.
EDGE_SHARE, EXPLAINS_R2 = 0.05, 0.01


@dataclass(frozen=True)
class Decoding(Settings):
    """Decode each layer's principal components from each subject's responses, and test it by shifted features.

    The settings are those of `brainalign.analysis.decoding.backward.Decoding`. The ridge takes the encoder's penalties
    where that is plain ridge, and its own default ones elsewhere.

    Examples
    --------
    >>> Decoding(n_components=10).section
    'decoding'
    """

    section: ClassVar[str] = "decoding"
    of_group: ClassVar[bool] = False
    by_space: ClassVar[bool] = False

    def of_subject(self, data: SubjectData) -> Part:
        """Means over folds and components: ``r``, ``r2``, ``two_vs_two``, ``rank_accuracy`` and ``p`` (layer, window).

        ``top_k`` and ``chance_top_k`` are (layer, window, k), ``null`` (permutation, layer, window), ``n_components``
        (layer,): those of the space that vary. A window is all of the response, or a latency.
        """
        if not data.samples.usable.any():
            return self._nothing(data)
        encoder = _plain_ridge(data.encoder)
        decoded = {
            space: self.decode(data.samples, data.samples.place(data.features[space]), encoder)
            for space in data.features
        }
        found = [self._means(one) for one in decoded.values()]
        arrays = {name: by_layer([one[name] for one in found], axis=int(name == "null")) for name in found[0]}
        where = f"decoding, subject {data.samples.subject}"
        findings = dict.fromkeys(finding for one in decoded.values() for finding in one.findings)
        return Part(arrays, [*findings, *_at_edge(decoded, where)], {"n_left_out": max(_left_out(decoded))})

    def of_study(self, parts: Mapping[str, Part], scores: Scores) -> xr.Dataset:
        """Scores of all layers and subjects beside chance, p values, and means over subjects."""
        by_latency = self.latencies == "each" and "latency" in scores.dims
        windows = ("latency",) if by_latency else ()
        found: dict[str, Any] = {}
        for name in (*SCORES, "p"):
            values = np.stack([part.arrays[name] for part in parts.values()], axis=1)  # (layer, subject, window, ...)
            values = values if by_latency else values[:, :, 0]
            of_k = ("k",) if name.endswith("top_k") else ()
            found[f"decoding_{name}"] = (("layer", "of_subject", *windows, *of_k), values)
        observed = np.stack([part.arrays["mean_r"] for part in parts.values()])
        null = [part.arrays["null"] for part in parts.values()]
        for name, values in over_subjects(observed, null, TEST, self.seed).items():
            found[f"decoding_group_{name}"] = (("layer", *windows), values if by_latency else values[:, 0])
        n_components = next(iter(parts.values())).arrays["n_components"]
        found["decoding_n_components"] = ("layer", n_components)
        result = xr.Dataset(found, coords={"k": list(self.k), "of_subject": list(parts)})
        result.attrs = {
            "test": TEST,
            "n_permutations": {subject: len(drawn) for subject, drawn in zip(parts, null, strict=True)},
            "n_left_out": {subject: part.facts["n_left_out"] for subject, part in parts.items()},
            "findings": [*_of_all(n_components, null), *narrow_interval(len(parts))],
        }
        return result

    def _means(self, decoded: Decoded) -> dict[str, Floats]:
        """Of one space: over folds, and over components where scores are of those."""
        n_layers, n_windows = decoded.mean_r.shape
        of_components = {
            name: mean_defined(getattr(decoded, name).reshape(n_layers, n_windows, -1), axis=-1) for name in ("r", "r2")
        }
        of_folds = {
            name: mean_defined(getattr(decoded, name), axis=2) for name in ("two_vs_two", "rank_accuracy", "top_k")
        }
        chance = mean_defined(decoded.chance_top_k, axis=0)
        varying = np.isfinite(decoded.r).any(axis=(1, 2)).sum(axis=-1)
        return {
            **of_components,
            **of_folds,
            "chance_top_k": np.broadcast_to(chance, (n_layers, n_windows, len(chance))),
            "mean_r": decoded.mean_r,
            "p": decoded.p,
            "null": np.moveaxis(decoded.null, 2, 0),
            "n_components": varying.astype(float),
        }

    def _nothing(self, data: SubjectData) -> Part:
        """Of a subject none of whose responses can be used."""
        n_layers = sum(len(data.fits[space]["r"]) for space in data.features)
        latencies = data.samples.latencies_s
        n_windows = len(latencies) if self.latencies == "each" and latencies is not None else 1
        arrays = {name: np.full((n_layers, n_windows), np.nan) for name in (*SCORES[:4], "mean_r", "p")}
        arrays |= {name: np.full((n_layers, n_windows, len(self.k)), np.nan) for name in SCORES[4:]}
        arrays |= {"null": np.empty((0, n_layers, n_windows)), "n_components": np.zeros(n_layers)}
        message = "no response varies and is finite; nothing can be decoded."
        return Part(arrays, [Finding("not-decoded", f"subject {data.samples.subject}", message)], {"n_left_out": 0})


def _plain_ridge(encoder: BaseEstimator) -> RidgeEncoder:
    """The encoder where it is plain ridge, of all columns, standardised, as shifts are fitted; else a default one."""
    plain = clone(encoder) if type(encoder) is RidgeEncoder else RidgeEncoder()
    return plain.set_params(n_components=None, standardise=True)


def _left_out(decoded: Mapping[str, Decoded]) -> Iterator[int]:
    return (one.n_left_out for one in decoded.values())


def _at_edge(decoded: Mapping[str, Decoded], where: str) -> Iterator[Finding]:
    """W203, where too many fits that explain something would have taken a penalty beyond the grid."""
    for space, one in decoded.items():
        explains = one.r2 > EXPLAINS_R2
        share = float(one.at_edge[explains].mean()) if explains.any() else 0.0
        if share > EDGE_SHARE:
            message = f"{space}: {share:.0%} of the fits that decode something chose a penalty at the grid's edge."
            yield Finding("W203", where, message)


def _of_all(n_components: Floats, null: Sequence[Floats]) -> Iterator[Finding]:
    """W211, of layers of which unlike numbers of components are decoded; and subjects without common draws."""
    varying = n_components[n_components > 0]
    if len(varying) and varying.max() > varying.min():
        message = (
            f"of layers {varying.min():.0f} to {varying.max():.0f} components are decoded; retrieval is "
            "easier with more of them: compare spaces with care, or set n_components to the fewest."
        )
        yield Finding("W211", "decoding", message)
    if unlike_draws(null):
        message = "subjects have different numbers of shifts, so that their mean is not tested."
        yield Finding("unlike-draws", "decoding", message)
