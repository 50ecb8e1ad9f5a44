"""The steps that are taken with a recording at its new rate: noise, reference, notch and band; bad channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from brainalign.errors import RecipeError, nearest
from brainalign.reading.decimation import Decimation
from brainalign.reading.signals import Signals
from brainalign.types import Floats, Modality

if TYPE_CHECKING:
    from mne.io import BaseRaw

__all__ = ["KINDS_OF_MODALITY", "Step", "data_of", "interpolate_bads", "steps_of", "words_of_decimation"]

KINDS_OF_MODALITY = {"meg": ("mag", "grad"), "eeg": ("eeg",), "ecog": ("ecog", "seeg")}
# Half of MNE's notch filter, whose flanks of 0.5 Hz take 6.6 s.
NOTCH_REACH_S = 3.4
# Where no head shape tells the middle of the head: in head coordinates, and in the device's (Neuromag's own default).
ORIGIN_HEAD_M, ORIGIN_DEVICE_M = (0.0, 0.0, 0.04), (0.0, 0.013, -0.006)
CTF_GRADE = 3


@dataclass(frozen=True)
class Step:
    """One thing done to a recording in memory, in place; `reach_s` says how far from a row it looks."""

    words: str
    apply: Callable[[BaseRaw], object]
    reach_s: float = 0.0


def steps_of(raw: BaseRaw, settings: Signals, modality: Modality, decimation: Decimation, where: str) -> list[Step]:
    """The steps that the settings ask for, in order; raise a RecipeError where the recording cannot give one."""
    steps = [_noise_step(raw, step, modality, where) for step in settings.noise]
    if settings.reference != "recorded":
        steps.append(_reference_step(raw, settings.reference, modality, where))
    return [*steps, *_notch_steps(settings.notch_hz, decimation, where), *_band_steps(settings, decimation, where)]


def words_of_decimation(decimation: Decimation) -> tuple[str, ...]:
    """What is said of a change of rate."""
    if decimation.keeps_all:
        return ()
    rate_hz = decimation.rate_hz
    return (
        f"low-pass {0.4 * rate_hz:g} Hz against aliasing",
        f"resampled from {decimation.from_hz:g} to {rate_hz:g} Hz",
    )


def interpolate_bads(low: BaseRaw) -> None:
    """Replace the bad channels by what the good ones say of them."""
    origin = "auto" if _has_head_shape(low) else ORIGIN_HEAD_M
    # The fast way looks its Legendre polynomials up in a table: the same to six digits, in a third of the time.
    low.interpolate_bads(mode="fast", origin=origin, verbose="error")


def data_of(
    raw: BaseRaw, picks: Sequence[int] | np.ndarray | None = None, start: int = 0, stop: int | None = None
) -> Floats:
    """Shape (channel, time)."""
    picks = np.arange(len(raw.ch_names)) if picks is None else np.asarray(picks)
    return np.asarray(raw.get_data(picks=picks, start=start, stop=stop, verbose="error"))


def _noise_step(raw: BaseRaw, step: str, modality: Modality, where: str) -> Step:
    if modality != "meg":
        raise RecipeError(f"{where}: the noise step '{step}' is one of MEG; leave it out of signals.noise.")
    kinds = raw.get_channel_types()
    if step == "projections":
        projections = [projection for projection in raw.info["projs"] if not _is_average(projection)]
        if not projections:
            raise RecipeError(f"{where}: the file brings no projections; leave 'projections' out of signals.noise.")
        return Step(f"projections applied ({len(projections)})", _project)
    if step == "reference_channels":
        n_references = kinds.count("ref_meg")
        if not n_references:
            raise RecipeError(f"{where}: no reference sensors; leave 'reference_channels' out of signals.noise.")
        return Step(f"reference channels regressed out ({n_references})", _regress_references, reach_s=np.inf)
    if step == "gradient_compensation":
        if not any(comp["kind"] == CTF_GRADE for comp in raw.info["comps"]):
            raise RecipeError(f"{where}: it brings no compensation of grade {CTF_GRADE}; only CTF's recordings do.")
        return Step(f"gradient compensation of grade {CTF_GRADE}", _compensate)
    if not {"mag", "grad"} <= set(kinds):
        raise RecipeError(f"{where}: 'maxwell' needs Neuromag's magnetometers and gradiometers.")
    return Step("signal space separation (Maxwell filter)", _maxwell_filter)


def _reference_step(raw: BaseRaw, reference: str | Sequence[str], modality: Modality, where: str) -> Step:
    if modality == "meg":
        raise RecipeError(f"{where}: MEG has no reference; leave signals.reference as 'recorded'.")
    names = reference if isinstance(reference, str) else list(reference)
    for name in () if isinstance(names, str) else names:
        if name not in raw.ch_names:
            raise RecipeError(f"{where}: signals.reference names '{name}'. {nearest(name, raw.ch_names)}")
    words = "average" if isinstance(names, str) else ", ".join(names)
    return Step(f"referenced to {words}", partial(_refer, names, KINDS_OF_MODALITY[modality]))


def _notch_steps(notch_hz: Sequence[float], decimation: Decimation, where: str) -> list[Step]:
    nyquist_hz = decimation.rate_hz / 2
    left = [freq_hz for freq_hz in notch_hz if freq_hz < nyquist_hz or decimation.keeps_all]
    for freq_hz in left:
        # Below the flank of the notch there must be something, or MNE has no filter.
        if freq_hz * (1 + 1 / 400) + 0.5 >= nyquist_hz:
            raise RecipeError(
                f"{where}: a notch at {freq_hz:g} Hz cannot be told from the end of what {decimation.rate_hz:g} rows a "
                "second show; raise rate_hz, or leave it out of notch_hz."
            )
    if not left:
        return []
    return [Step(f"notch {', '.join(f'{f:g}' for f in left)} Hz", partial(_notch, tuple(left)), NOTCH_REACH_S)]


def _band_steps(settings: Signals, decimation: Decimation, where: str) -> list[Step]:
    low, high = settings.band_hz
    if low is None and high is None:
        return []
    highest = max(edge for edge in (low, high) if edge is not None)
    if highest >= decimation.rate_hz / 2:
        raise RecipeError(
            f"{where}: signals.band_hz names {highest:g} Hz, but {decimation.rate_hz:g} rows a second show less than "
            f"{decimation.rate_hz / 2:g} Hz."
        )
    from mne.filter import create_filter

    n_taps = len(create_filter(None, decimation.rate_hz, low, high, verbose="error"))
    if low is None:
        words = f"low-pass {high:g} Hz"
    else:
        words = f"high-pass {low:g} Hz" if high is None else f"band-pass {low:g} to {high:g} Hz"
    return [Step(words, partial(_band_pass, low, high), reach_s=n_taps / 2 / decimation.rate_hz)]


def _project(low: BaseRaw) -> None:
    average = [i for i, p in enumerate(low.info["projs"]) if _is_average(p) and not p["active"]]
    low.del_proj(average)
    low.apply_proj(verbose="error")


def _is_average(projection: Mapping[str, object]) -> bool:
    return str(projection["desc"]).startswith("Average EEG")


def _regress_references(low: BaseRaw) -> None:
    """Least squares with an intercept, over all rows."""
    kinds = np.array(low.get_channel_types())
    references = data_of(low, np.flatnonzero(kinds == "ref_meg"))
    references = references - references.mean(axis=1, keepdims=True)
    # Scaled before anything is called small: in tesla, everything is.
    scale = np.linalg.norm(references, axis=1, keepdims=True)
    _, size, basis = np.linalg.svd(references / np.where(scale > 0, scale, 1.0), full_matrices=False)
    basis = basis[size > size.max() * 1e-10] if size.max() > 0 else basis[:0]
    low.apply_function(
        lambda signal: signal - (signal @ basis.T) @ basis, picks=np.isin(kinds, ("mag", "grad")).nonzero()[0]
    )


def _compensate(low: BaseRaw) -> None:
    low.apply_gradient_compensation(CTF_GRADE, verbose="error")


def _maxwell_filter(low: BaseRaw) -> None:
    from mne.preprocessing import maxwell_filter

    in_head = low.info["dev_head_t"] is not None and _has_head_shape(low)
    frame, origin = ("head", "auto") if in_head else ("meg", ORIGIN_DEVICE_M)
    separated = maxwell_filter(low, origin=origin, coord_frame=frame, verbose="error")
    separated = data_of(separated)
    rows = iter(range(len(separated)))
    low.apply_function(lambda signal: separated[next(rows)], picks="all")


def _refer(names: str | list[str], kinds: Sequence[str], low: BaseRaw) -> None:
    there = [kind for kind in kinds if kind in low.get_channel_types(unique=True)]
    low.set_eeg_reference(names, ch_type=there, joint=True, verbose="error")


def _notch(freqs_hz: Sequence[float], low: BaseRaw) -> None:
    low.notch_filter(np.array(freqs_hz), picks="all", verbose="error")


def _band_pass(low_hz: float | None, high_hz: float | None, low: BaseRaw) -> None:
    low.filter(low_hz, high_hz, picks="all", verbose="error")


def _has_head_shape(raw: BaseRaw) -> bool:
    from mne._fiff.constants import FIFF

    kinds = (FIFF.FIFFV_POINT_EXTRA, FIFF.FIFFV_POINT_EEG)
    return sum(point["kind"] in kinds for point in raw.info["dig"] or ()) >= 10
