"""From words to volumes: one matrix of weights (volume, word), the same for every layer.

Each way is linear, so a regressor is ``weights @ values`` and the word rate is ``weights @ ones``. None but "mean" is
normalised: the others add up words, so that what they give grows with the word rate (which is why the rate is among
the baselines).
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from brainalign.errors import RecipeError, nearest
from brainalign.types import Clock, Floats

__all__ = ["Resampling", "resampled", "resampling_matrix"]

Resampling = Literal["hrf", "lanczos", "sum", "mean"]

HRF_LENGTH_S = 32.0
HRF_STEP_S = 0.02
LANCZOS_LOBES = 3
# Words or moments that are weighted at once: an hour of sound has hundreds of thousands.
AT_ONCE = 8192


def resampling_matrix(
    onset_s: Floats, duration_s: Floats, clock: Clock, n_volumes: int, resampling: Resampling
) -> Floats:
    """Weights that turn values of words into values of volumes.

    Parameters
    ----------
    onset_s, duration_s : array (word,)
        In seconds of the recording.
    clock : Clock
        Of the volumes.
    n_volumes : int
    resampling : {"hrf", "lanczos", "sum", "mean"}
        "hrf": a word adds Glover's haemodynamic response, started at its onset (nilearn's ``glover_hrf``).
        "lanczos": a word adds a Lanczos kernel of 3 lobes around its middle, with half power at the volumes' Nyquist
        frequency (Huth et al., 2016). "sum" and "mean": over the words with their onset within the volume's TR.

    Returns
    -------
    array (volume, word)

    Raises
    ------
    RecipeError
        If there is no such resampling.

    Examples
    --------
    >>> onset = np.array([0.1, 0.9, 2.5])
    >>> resampling_matrix(onset, np.full(3, 0.3), Clock(2.0), 2, "sum")
    array([[1., 1., 0.],
           [0., 0., 1.]])
    """
    times = clock.times(n_volumes)[:, None]
    if resampling == "hrf":
        return _glover(times - onset_s)
    if resampling == "lanczos":
        return _lanczos((times - (onset_s + duration_s / 2)) / clock.step_s)
    if resampling not in ("sum", "mean"):
        raise RecipeError(f"There is no resampling '{resampling}'. {nearest(resampling, get_args(Resampling))}")
    within = ((onset_s >= times) & (onset_s < times + clock.step_s)).astype(np.float64)
    if resampling == "sum":
        return within
    return within / np.maximum(within.sum(axis=1, keepdims=True), 1.0)


def resampled(
    values: Floats, onset_s: Floats, duration_s: Floats, clock: Clock, n_volumes: int, resampling: Resampling
) -> Floats:
    """Values of words or moments as values of volumes, in float64: ``weights @ values``, some thousand at a time.

    Parameters
    ----------
    values : array (layer, word, dimension)
    onset_s, duration_s, clock, n_volumes, resampling
        As those of `resampling_matrix`.

    Returns
    -------
    array (layer, volume, dimension)

    Examples
    --------
    >>> onset = np.array([0.1, 0.9, 2.5])
    >>> resampled(np.array([[[1.0], [3.0], [5.0]]]), onset, np.full(3, 0.3), Clock(2.0), 2, "mean")[0, :, 0]
    array([2., 5.])
    """
    total = np.zeros((values.shape[0], n_volumes, values.shape[2]))
    counts = np.zeros((n_volumes, 1))
    for start in range(0, len(onset_s), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        # Sums can be added part by part, means cannot.
        way: Resampling = "sum" if resampling == "mean" else resampling
        weights = resampling_matrix(onset_s[part], duration_s[part], clock, n_volumes, way)
        total += np.matmul(weights, values[:, part], dtype=np.float64)
        counts += weights.sum(axis=1, keepdims=True)
    return total / np.maximum(counts, 1.0) if resampling == "mean" else total


def _glover(since_onset_s: Floats) -> Floats:
    """Glover's response (Glover, 1999), with an integral of one, at these seconds after onset."""
    from nilearn.glm.first_level import glover_hrf

    response = glover_hrf(HRF_STEP_S, oversampling=1, time_length=HRF_LENGTH_S)
    grid = np.linspace(0, HRF_LENGTH_S, len(response))
    return np.interp(since_onset_s, grid, response / HRF_STEP_S, left=0.0, right=0.0)


def _lanczos(distance: Floats) -> Floats:
    """The Lanczos window at these distances, in volumes."""
    return np.where(np.abs(distance) < LANCZOS_LOBES, np.sinc(distance) * np.sinc(distance / LANCZOS_LOBES), 0.0)
