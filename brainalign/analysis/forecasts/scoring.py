"""Does the brain carry what comes next? What windows of words ahead add to the prediction of its responses.

F(d) is the score of a word's features and the window at distance d together, less that of the features alone
(Caucheteux, Gramfort & King, 2023). It is not zero where nothing is forecast:

- further columns cost: F is then -.01 to -.04, and a window from elsewhere in the story (the floor) shows how much;
- base features that lost information (principal components) get it back from neighbouring words, in a window ahead as
  in one behind: F(8) up to +.14 on responses that know nothing of the future. F above the floor is therefore no test.

What is reported is the contrast A(d) = F(d) - F(mirror of d), a window ahead against the one as far behind: of the same
dimension and, for features whose statistics are the same forwards and backwards, of the same information. Contextual
vectors are not (those ahead know of the present word, those behind do not), so A is also to be shown for windows of
static vectors and of a context that restarts.

With several delays (FIR) a window ahead is the present one of a shorter delay: F and A are then blind, about 0 with a
true forecast, and told as such (W214). Convolve with a fixed haemodynamic response instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.forecasts.curves import past_mirror_contrast
from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.analysis.inference.surrogates import CircularShift, PhaseRandomisation
from brainalign.encoding import RidgeEncoder, Splitter
from brainalign.encoding.beside import cross_validate_beside
from brainalign.encoding.responses import Responses, target_status
from brainalign.errors import DataError, RecipeError
from brainalign.types import Features, Finding, Floats

__all__ = [
    "Forecast",
    "forecast",
    "forecast_by_layer",
    "passive_responses",
    "split_by_syntax",
]

# Vectors of sentences of equal syntax agree on their mean from about so many on (Caucheteux et al., 2023).
ENOUGH_ALTERNATIVES = 7


@dataclass(frozen=True)
class Forecast:
    """Scores of one subject's features alone and with each window.

    Attributes
    ----------
    distances : array (distance,) of int
        In words, increasing.
    width : int
        Words in a window.
    r_alone, r2_alone : arrays (fold, target)
    r_joint, r2_joint : arrays (distance, fold, target)
    r_floor : array (shift, fold, target)
        With windows from elsewhere in the story: what so many columns cost. Not to be tested against.
    findings : tuple of Finding
        W214 where delays make forecasts unidentifiable.
    """

    distances: NDArray[np.intp]
    width: int
    r_alone: Floats
    r2_alone: Floats
    r_joint: Floats
    r2_joint: Floats
    r_floor: Floats
    findings: tuple[Finding, ...] = ()

    @property
    def gain(self) -> Floats:
        """F(d), shape (target, distance): averaged over the folds in which both scores are defined."""
        return mean_defined(self.r_joint - self.r_alone, axis=1).T

    @property
    def contrast(self) -> Floats:
        """A(d), shape (target, distance); see `past_mirror_contrast`."""
        return past_mirror_contrast(self.gain, self.distances, self.width)

    @property
    def floor(self) -> Floats:
        """The gain of windows from elsewhere, averaged over shifts, shape (target,); NaN without any."""
        return mean_defined((self.r_floor - self.r_alone).reshape(-1, self.r_alone.shape[1]), axis=0)

    @property
    def explained(self) -> Floats:
        """The share of variance that the features alone explain, r squared, shape (target,); zero where r is below."""
        return np.maximum(mean_defined(self.r_alone, axis=0), 0.0) ** 2


def forecast(
    encoder: RidgeEncoder,
    features: Floats,
    responses: Floats | Responses,
    groups: np.ndarray | None,
    splitter: Splitter,
    windows: Mapping[int, Floats],
    width: int = 7,
    *,
    delays: Sequence[int] = (0,),
    n_floor: int = 3,
    floor_shift: int = 60,
    seed: int = 0,
) -> Forecast:
    """Score features alone and with the window at each distance, from shared factorisations.

    Parameters
    ----------
    encoder : RidgeEncoder
        Its `baseline_alphas` are the windows' penalties: a grid as wide as the window needs.
    features : array (sample, feature)
        The present words, placed on the responses' clock.
    responses : array (sample, target) or Responses
    groups : array (sample,), optional
        The run or story of each sample.
    splitter : scikit-learn splitter
    windows : mapping of distance to array (sample, q)
        Placed as the features are, the samples that an incomplete word reaches left out of both (see `windows`).
    width : int
        Words in a window.
    delays : sequence of int
        The delays in samples that features and windows come with. More than one are a finite impulse response.
    n_floor : int
        Windows from elsewhere in the story that the floor is averaged over; 0 for none.
    floor_shift : int
        Samples that they are moved by, at least: about a minute.
    seed : int
        Of these shifts.

    Returns
    -------
    Forecast

    Raises
    ------
    DataError
        If samples do not agree or are not finite, or a story is too short for the floor's shift.
    RecipeError
        If there are no windows or delays.

    Examples
    --------
    >>> from brainalign.encoding import ContiguousBlocks
    >>> rng = np.random.default_rng(0)
    >>> words = rng.normal(size=(400, 3))
    >>> ahead, behind = np.roll(words, -1, axis=0), np.roll(words, 1, axis=0)
    >>> brain = words + ahead + rng.normal(size=words.shape)
    >>> found = forecast(RidgeEncoder(), words, brain, None, ContiguousBlocks(), {1: ahead, -1: behind}, width=1)
    >>> found.distances, bool((found.contrast[:, 1] > 0.1).all())
    (array([-1,  1]), True)
    """
    if not windows or not len(delays):
        raise RecipeError("forecast: there is no window, or no delay; give at least one of each.")
    responses = responses if isinstance(responses, Responses) else Responses(responses)
    distances = sorted(windows)
    floors = _from_elsewhere(windows[distances[-1]], groups, n_floor, floor_shift, seed)
    sets = [*(windows[distance] for distance in distances), *floors]
    alone, joints = cross_validate_beside(encoder, features, responses, groups, splitter, sets)
    n = len(distances)
    return Forecast(
        distances=np.array(distances),
        width=width,
        r_alone=alone.r,
        r2_alone=alone.r2,
        r_joint=np.stack([joint.r for joint in joints[:n]]),
        r2_joint=np.stack([joint.r2 for joint in joints[:n]]),
        r_floor=np.array([joint.r for joint in joints[n:]]).reshape(-1, *alone.r.shape),
        findings=_not_identifiable(delays),
    )


def forecast_by_layer(
    encoder: RidgeEncoder,
    features: Floats,
    responses: Floats | Responses,
    groups: np.ndarray | None,
    splitter: Splitter,
    layers: Sequence[Floats],
) -> Floats:
    """F of the window at one distance, made of each layer in turn, beside the same features.

    Parameters
    ----------
    encoder, features, responses, groups, splitter
        As for `forecast`.
    layers : sequence of arrays (sample, q)
        The window of each layer.

    Returns
    -------
    array (target, layer)
        Where it is highest is the depth of the forecast (`forecast_peak`).
    """
    alone, joints = cross_validate_beside(encoder, features, responses, groups, splitter, layers)
    return mean_defined(np.stack([joint.r for joint in joints]) - alone.r, axis=1).T


def passive_responses(
    features: Floats,
    responses: Floats,
    groups: np.ndarray | None,
    encoder: RidgeEncoder,
    explained: Floats,
    seed: int = 0,
) -> Floats:
    """Responses as they would be if the brain knew nothing but the present words.

    What the features alone, unreduced, predict of each target, and noise of the spectrum of what they leave, mixed so
    that they explain the same share of its variance. Analysed like the responses themselves, such a system must show no
    contrast: passive systems have most of what is taken for a sign of prediction (Schoenmann et al., 2026).

    Parameters
    ----------
    features : array (sample, feature)
        The present words, all dimensions.
    responses : array (sample, target)
    groups : array (sample,), optional
        The run of each sample; noise is drawn run by run, samples evenly spaced within.
    encoder : RidgeEncoder
    explained : array (target,)
        Share of variance, such as `Forecast.explained`.
    seed : int

    Returns
    -------
    array (sample, target)
        Of standard deviation one about; NaN for targets that are constant, not finite or of undefined share.

    Raises
    ------
    DataError
        If a share is below zero or above one.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> words, brain = rng.normal(size=(300, 3)), rng.normal(size=(300, 1))
    >>> passive = passive_responses(words, words[:, :1] + brain, None, RidgeEncoder(), np.array([0.5]))
    >>> round(float(np.corrcoef(passive[:, 0], words[:, 0])[0, 1]), 1)
    0.7
    """
    explained = np.asarray(explained, dtype=np.float64)
    if np.any((explained < 0) | (explained > 1)):
        raise DataError("passive_responses: explained must be shares of variance, from 0 to 1.")
    usable = (target_status(responses) == "ok") & np.isfinite(explained)
    passive = np.full(responses.shape, np.nan)
    if not usable.any():
        return passive
    y = np.asarray(responses, dtype=np.float64)[:, usable]
    predicted = encoder.fit(features, y, groups).predict(features)
    runs = np.zeros(len(y), dtype=int) if groups is None else np.asarray(groups)
    noise = PhaseRandomisation(runs, 1, seed).apply(0, y - predicted)
    share = explained[usable]
    passive[:, usable] = np.sqrt(share) * _z_scored(predicted) + np.sqrt(1 - share) * _z_scored(noise)
    return passive


def split_by_syntax(features: Features, alternatives: Sequence[Features]) -> tuple[Features, Features]:
    """A stimulus's vectors as what its syntax alone gives, and what its words add to that.

    Parameters
    ----------
    features : Features
        Of the words as they were heard.
    alternatives : sequence of Features
        Of the same number of words in sentences of the same syntax and other content, word by word.

    Returns
    -------
    syntactic, semantic : Features
        The mean over the alternatives, and the rest.

    Raises
    ------
    DataError
        If there are fewer than two alternatives, or one has other layers, words or dimensions.

    References
    ----------
    Caucheteux, Gramfort & King (2021). Disentangling syntax and semantics in the brain with deep networks. ICML.

    Examples
    --------
    >>> def said(value):
    ...     return Features("model", ("layer 0",), np.full((1, 1, 1), value), np.zeros(1), np.ones(1))
    >>> syntactic, semantic = split_by_syntax(said(5.0), [said(2.0), said(4.0)])
    >>> syntactic.values.item(), semantic.values.item()
    (3.0, 2.0)
    """
    if len(alternatives) < 2:
        raise DataError(
            f"split_by_syntax: {len(alternatives)} alternative sentence(s); at least 2 are needed, and their mean "
            f"settles from about {ENOUGH_ALTERNATIVES} on."
        )
    for number, other in enumerate(alternatives):
        if other.layers != features.layers or other.values.shape != features.values.shape:
            raise DataError(
                f"split_by_syntax: alternative {number} has values of shape {other.values.shape}, the features "
                f"{features.values.shape} (layer, word, dimension): they must agree word by word."
            )
    mean = np.asarray(np.mean([other.values for other in alternatives], axis=0, dtype=np.float64))
    how = {**features.metadata, "n_alternatives": len(alternatives)}
    syntactic = replace(features, name=f"{features.name}, syntactic", values=mean, metadata=how)
    semantic = replace(features, name=f"{features.name}, semantic", values=features.values - mean, metadata=how)
    return syntactic, semantic


def _from_elsewhere(
    columns: Floats, groups: np.ndarray | None, n_shifts: int, min_shift: int, seed: int
) -> list[Floats]:
    """The columns of one window, moved along each story, which leaves them all they are but where they belong."""
    if n_shifts == 0:
        return []
    runs = np.zeros(len(columns), dtype=int) if groups is None else np.asarray(groups)
    shift = CircularShift(runs, n_shifts, seed, min_shift=min_shift)
    return [shift.apply(number, columns) for number in range(n_shifts)]


def _not_identifiable(delays: Sequence[int]) -> tuple[Finding, ...]:
    if len(set(delays)) < 2:
        return ()
    message = (
        f"features come at {len(set(delays))} delays, so that words ahead are the present ones at a shorter delay: "
        "forecasts cannot be told from the latency of the response. Use one fixed haemodynamic response."
    )
    return (Finding("W214", "forecast", message),)


def _z_scored(values: Floats) -> Floats:
    values = values - values.mean(axis=0)
    deviation = values.std(axis=0)
    return values / np.where(deviation > 0, deviation, 1.0)
