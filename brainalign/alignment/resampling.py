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

__all__ = ["Resampling", "resampling_matrix"]

Resampling = Literal["hrf", "lanczos", "sum", "mean"]

HRF_LENGTH_S = 32.0
HRF_STEP_S = 0.02
LANCZOS_LOBES = 3


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


def _glover(since_onset_s: Floats) -> Floats:
    """Glover's response (Glover, 1999), with an integral of one, at these seconds after onset."""
    from nilearn.glm.first_level import glover_hrf

    response = glover_hrf(HRF_STEP_S, oversampling=1, time_length=HRF_LENGTH_S)
    grid = np.linspace(0, HRF_LENGTH_S, len(response))
    return np.interp(since_onset_s, grid, response / HRF_STEP_S, left=0.0, right=0.0)


def _lanczos(distance: Floats) -> Floats:
    """The Lanczos window at these distances, in volumes."""
    return np.where(np.abs(distance) < LANCZOS_LOBES, np.sinc(distance) * np.sinc(distance / LANCZOS_LOBES), 0.0)
