"""What is done to MEG, EEG and iEEG between the archive's file and the rows that are scored: the key `signals`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from brainalign.errors import RecipeError, nearest

__all__ = ["BadChannels", "NoiseStep", "Signals"]

BadChannels = Literal["auto", "interpolate", "leave_out", "keep"]
NoiseStep = Literal["projections", "reference_channels", "gradient_compensation", "maxwell"]


@dataclass(frozen=True)
class Signals:
    """How sensors and electrodes are read. A recording keeps the steps that were taken, in words.

    Parameters
    ----------
    picks : tuple of str
        Kinds of channels ("mag", "grad", "meg", "eeg", "ecog", "seeg") or names of channels; by default all channels
        of the modality.
    rate_hz : float or None
        Rows a second; None keeps the archive's. A recording that has fewer keeps its own. On the way down, what lies
        below 0.4 of the new rate is left as it is and what lies above 0.5 of it is weakened by 80 dB (at 100 Hz: 40
        and 50 Hz), without a shift in time.
    band_hz : (float or None, float or None)
        Band-pass, zero-phase (MNE's default filter); None leaves an edge open. It is applied to the signal at its new
        rate, which gives what it would at the old one.
    notch_hz : tuple of float
        Frequencies of the mains, and their multiples, to be taken out. Those that the new rate takes out anyway are
        left to it.
    bad_channels : {"auto", "interpolate", "leave_out", "keep"}
        "interpolate": from the good ones by spherical splines (EEG) or minimum-norm fields (MEG), as MNE does.
        "leave_out": they are no targets. "auto": MEG is interpolated, and EEG where all positions are known, so that
        subjects and runs keep the same targets; the rest (iEEG, whose electrodes cannot stand for each other) is left
        out.
    more_bad_channels : tuple of str
        Names of bad channels beside those that the archive names.
    reference : {"recorded", "average"} or tuple of str
        Of EEG and iEEG: as recorded, the mean of the good channels, or the mean of the channels named.
    noise : tuple of str
        What is done about noise from outside the head (MEG), in this order: "projections", the projections that the
        file brings (SSP); "reference_channels", what the reference sensors of KIT or CTF explain by ordinary least
        squares over the run, after the low-pass and before `band_hz`; "gradient_compensation", CTF's third grade;
        "maxwell", signal space separation of Neuromag (MNE's ``maxwell_filter``), in space alone and without the
        site's calibration files. All of these weigh channels, moment by moment, so that they give at the new rate
        what they would at the old.

    Raises
    ------
    RecipeError
        If a value cannot be.

    Examples
    --------
    >>> Signals(band_hz=(0.5, 40.0), noise=("reference_channels",)).rate_hz
    100.0
    >>> Signals(band_hz=(0.5, 60.0))
    Traceback (most recent call last):
    brainalign.errors.RecipeError: signals: band_hz lets 60 Hz pass, but 100 rows a second show less than 50 Hz; ...
    """

    picks: tuple[str, ...] = ()
    rate_hz: float | None = 100.0
    band_hz: tuple[float | None, float | None] = (None, None)
    notch_hz: tuple[float, ...] = ()
    bad_channels: BadChannels = "auto"
    more_bad_channels: tuple[str, ...] = ()
    reference: Literal["recorded", "average"] | tuple[str, ...] = "recorded"
    noise: tuple[NoiseStep, ...] = ()

    def __post_init__(self) -> None:
        for name, values in (("rate_hz", (self.rate_hz,)), ("band_hz", self.band_hz), ("notch_hz", self.notch_hz)):
            if any(value is not None and not 0 < value < float("inf") for value in values):
                raise RecipeError(f"signals: {name} is {getattr(self, name)}; frequencies must be positive.")
        self._check_names()
        self._check_band()

    def _check_names(self) -> None:
        for step in self.noise:
            if step not in get_args(NoiseStep):
                raise RecipeError(f"signals: noise knows no '{step}'. {nearest(step, get_args(NoiseStep))}")
        if self.bad_channels not in get_args(BadChannels):
            known = nearest(self.bad_channels, get_args(BadChannels))
            raise RecipeError(f"signals: bad_channels cannot be '{self.bad_channels}'. {known}")
        if isinstance(self.reference, str) and self.reference not in ("recorded", "average"):
            raise RecipeError(
                f"signals: reference is '{self.reference}'; give 'recorded', 'average' or a list of channels."
            )
        for name in ("picks", "more_bad_channels", "noise", "reference"):
            value = getattr(self, name)
            if name != "reference" and isinstance(value, str):
                raise RecipeError(f"signals: {name} is a list of names, not '{value}'.")
            if not isinstance(value, str) and len(set(value)) < len(value):
                raise RecipeError(f"signals: {name} names something twice: {', '.join(value)}.")
        if self.reference == ():
            raise RecipeError("signals: reference is an empty list; name channels, or 'recorded' or 'average'.")

    def _check_band(self) -> None:
        low, high = self.band_hz
        if low is not None and high is not None and low >= high:
            raise RecipeError(f"signals: band_hz is {low:g} to {high:g} Hz; its lower edge must lie below its upper.")
        if self.rate_hz is None:
            return
        highest = max((edge for edge in self.band_hz if edge is not None), default=0.0)
        if highest >= self.rate_hz / 2:
            raise RecipeError(
                f"signals: band_hz lets {highest:g} Hz pass, but {self.rate_hz:g} rows a second show less than "
                f"{self.rate_hz / 2:g} Hz; lower the band's edge or raise rate_hz."
            )
