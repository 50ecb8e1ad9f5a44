"""What the sound alone carries."""

from __future__ import annotations

import numpy as np

from brainalign.errors import DataError, RecipeError
from brainalign.types import Features, Stimulus

__all__ = ["SOUND_ENVELOPE", "sound_envelope"]

SOUND_ENVELOPE = "sound_envelope"


def sound_envelope(stimulus: Stimulus, rate_hz: float = 100.0) -> Features:
    """Give the sound's loudness over time: its root mean square in consecutive stretches of ``1 / rate_hz`` seconds.

    Parameters
    ----------
    stimulus : Stimulus
        With sound.
    rate_hz : float
        Stretches per second; at most the sound's own rate.

    Returns
    -------
    Features
        Of kind "signal": one layer, one dimension, one sample per stretch, with the second at which it begins and how
        long it lasts (the last may be shorter).

    Raises
    ------
    DataError
        If the stimulus has no sound, or samples that are not finite.
    RecipeError
        If `rate_hz` is not positive, or more than the sound's own.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainalign.types import Audio
    >>> words = pd.DataFrame({"onset": [0.0], "duration": [0.5], "text": ["beep"]})
    >>> sound = Audio(np.array([0.0, 0.0, 3.0, -3.0]), rate_hz=4.0)
    >>> sound_envelope(Stimulus("beep", words, sound), rate_hz=2.0).values.ravel()
    array([0., 3.], dtype=float32)
    """
    audio = stimulus.audio
    if audio is None or len(audio.samples) == 0:
        raise DataError(f"stimulus '{stimulus.id}' has no sound; leave sound_envelope out of the baseline.")
    if not 0 < rate_hz <= audio.rate_hz:
        raise RecipeError(f"rate_hz: more than 0 and at most the sound's own {audio.rate_hz:g} Hz, not {rate_hz:g}.")
    if not np.isfinite(audio.samples).all():
        raise DataError(f"stimulus '{stimulus.id}': the sound has samples that are not finite.")

    n_samples = len(audio.samples)
    n_stretches = int(np.ceil(n_samples * rate_hz / audio.rate_hz - 1e-9))
    # Each border is rounded on its own, so that rates that do not divide each other do not drift.
    borders = np.round(np.arange(n_stretches) * audio.rate_hz / rate_hz).astype(np.intp)
    stops = np.r_[borders[1:], n_samples]
    power = np.add.reduceat(np.square(audio.samples, dtype=np.float64), borders) / (stops - borders)
    return Features(
        name=SOUND_ENVELOPE,
        layers=(SOUND_ENVELOPE,),
        values=np.sqrt(power)[None, :, None].astype(np.float32),
        onset_s=borders / audio.rate_hz,
        duration_s=(stops - borders) / audio.rate_hz,
        kind="signal",
        metadata={"rate_hz": rate_hz, "dimensions": [SOUND_ENVELOPE]},
    )
