"""MEG, EEG and iEEG recordings, read lazily through MNE: first brought to a lower rate, block by block, then cleaned.

Every step that follows the change of rate is linear and the same at all times, or weighs channels moment by moment;
so it gives at the low rate what it would at the archive's, and a recording is never in memory whole at that.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from brainalign.errors import DataError, RecipeError, listed, nearest
from brainalign.reading.decimation import Decimation
from brainalign.reading.recording_files import data_errors
from brainalign.reading.sensor_steps import (
    KINDS_OF_MODALITY,
    Step,
    data_of,
    interpolate_bads,
    steps_of,
    words_of_decimation,
)
from brainalign.reading.signals import Signals
from brainalign.types import Clock, Finding, Floats, Modality

if TYPE_CHECKING:
    from mne.io import BaseRaw

__all__ = ["Sensors", "open_sensors"]

KINDS = ("mag", "grad", "eeg", "ecog", "seeg", "dbs")


@dataclass(frozen=True)
class Sensors:
    """The channels of a recording and how their rows are made; made by `open_sensors`, read by `read`.

    Parameters
    ----------
    targets : pandas.DataFrame
        ``name``, ``kind`` (MNE's: "mag", "grad", "eeg", "ecog", "seeg") and ``x``, ``y``, ``z`` in metres, NaN where
        not known.
    space : dict
        ``kind`` ("sensors" or "electrodes"), ``unit`` and ``frame`` of the places: "device" (the helmet's own
        coordinates, which topographies are drawn in), "head", "mri", "mni" or "unknown".
    clock : Clock
        Of all rows. Zero is the first sample of the file, as in MNE's ``raw.times``.
    duration_s : float
        Of the recording.
    n_rows : int
        Rows of the whole.
    steps : tuple of str
        What is done to the archive's numbers, in order.
    findings : tuple of Finding
        Codes: ``bad-channels``, ``bad-segments`` (marked so by annotations; their numbers are kept), ``low-rate``,
        ``unknown-bad-channels``, ``reader`` (what MNE warned of).
    """

    targets: pd.DataFrame
    space: dict[str, str]
    clock: Clock
    duration_s: float
    n_rows: int
    steps: tuple[str, ...]
    findings: tuple[Finding, ...]
    recipe: _Recipe

    def read(self, start_s: float | None = None, stop_s: float | None = None) -> Floats:
        """The rows from `start_s` to before `stop_s`, shape (time, channel), float32; all by default.

        They are the rows of the whole: filters see what lies around them.

        Raises
        ------
        DataError
            If no row lies there, or the file cannot be read.
        """
        first, stop = self._rows_between(start_s, stop_s)
        return self.recipe.rows(first, stop, self.n_rows, self.targets["name"].tolist())

    def cropped_clock(self, start_s: float | None) -> Clock:
        """The clock of what `read` gives from `start_s` on."""
        return replace(self.clock, start_s=self._first_row(start_s) * self.clock.step_s)

    def _first_row(self, start_s: float | None) -> int:
        return 0 if start_s is None else max(0, _first_at_or_after(start_s, self.clock.step_s))

    def _rows_between(self, start_s: float | None, stop_s: float | None) -> tuple[int, int]:
        first = self._first_row(start_s)
        stop = self.n_rows if stop_s is None else min(self.n_rows, _first_at_or_after(stop_s, self.clock.step_s))
        if stop <= first:
            raise DataError(
                f"{self.recipe.where}: it lasts {self.duration_s:g} s; nothing lies between {start_s or 0:g} and "
                f"{self.duration_s if stop_s is None else stop_s:g} s. Check the times of its events."
            )
        return first, stop


def open_sensors(
    open_raw: Callable[[], BaseRaw],
    settings: Signals,
    modality: Modality,
    where: str,
    *,
    bad_channels: Sequence[str] = (),
    positions: pd.DataFrame | None = None,
    frame: str = "head",
) -> Sensors:
    """Look at a recording's header and decide how its rows are made; its signals are not read.

    Parameters
    ----------
    open_raw : callable
        Gives the recording, not preloaded; to be pickled: a `functools.partial` of `open_recording`.
    settings : Signals
    modality : {"meg", "eeg", "ecog"}
        Decides which channels are taken: magnetometers and gradiometers, EEG, or ECoG and sEEG.
    where : str
        The recording, for messages.
    bad_channels : sequence of str
        Those that the archive's tables call bad, beside the file's own.
    positions : pandas.DataFrame, optional
        ``name``, ``x``, ``y``, ``z`` of electrodes in metres, in place of the file's.
    frame : str
        What `positions` are in: "head", "mri", "mni" or "unknown".

    Raises
    ------
    RecipeError
        If the settings ask for what this recording has not: channels, a reference, a noise step.
    DataError
        If the file cannot be read, or no channel is left.

    Examples
    --------
    >>> import mne
    >>> def open_raw():
    ...     info = mne.create_info(["Cz", "Pz"], 500.0, "eeg")
    ...     return mne.io.RawArray(np.ones((2, 5000)), info, verbose="error")
    >>> sensors = open_sensors(open_raw, Signals(band_hz=(None, 20.0)), "eeg", "run 1")
    >>> sensors.read(2.0, 4.0).shape, sensors.steps
    ((200, 2), ('low-pass 40 Hz against aliasing', 'resampled from 500 to 100 Hz', 'low-pass 20 Hz'))
    """
    if modality not in KINDS_OF_MODALITY:
        raise RecipeError(f"{where}: signals are read of meg, eeg and ecog, not of {modality}.")
    if positions is not None:
        open_raw = partial(_placed, open_raw, positions)
    raw, findings = _opened(open_raw, where)
    targets = _targets_of(raw, _picked(raw, settings.picks, modality, where))
    decimation = Decimation(float(raw.info["sfreq"]), settings.rate_hz)
    bads, bad_findings = _bads_of(raw, bad_channels, settings.more_bad_channels, where)
    bads_of_targets = [name for name in targets["name"] if name in bads]
    mended = _what_to_do(raw, targets, bads_of_targets, settings, where)
    if mended == "left out":
        targets = targets[~targets["name"].isin(bads)].reset_index(drop=True)
        if len(targets) == 0:
            raise DataError(f"{where}: all of its channels are bad; with bad_channels 'keep' they are read.")
    interpolated = mended == "interpolated" and bool(bads_of_targets)
    needed = _needed(raw, targets["name"].tolist(), settings, modality, interpolated)
    steps = steps_of(raw, settings, modality, decimation, where)
    if interpolated and "maxwell" not in settings.noise:
        steps.append(Step(f"bad channels interpolated: {', '.join(bads_of_targets)}", interpolate_bads))
    if bads_of_targets:
        message = f"{len(bads_of_targets)} bad channels {mended}: {listed(bads_of_targets)}."
        findings.append(Finding("bad-channels", where, message))
    return Sensors(
        targets=targets,
        space={
            "kind": "electrodes" if modality == "ecog" else "sensors",
            "unit": "m",
            "frame": _frame_of(raw, targets) if positions is None else frame,
        },
        clock=Clock(step_s=1.0 / decimation.rate_hz),
        duration_s=len(raw.times) / float(raw.info["sfreq"]),
        n_rows=decimation.n_rows(len(raw.times)),
        steps=(*words_of_decimation(decimation), *(step.words for step in steps)),
        findings=(*findings, *bad_findings, *_other_findings(raw, decimation, settings, where)),
        recipe=_Recipe(open_raw, tuple(needed), tuple(name for name in needed if name in bads), decimation,
                       tuple(steps), where),
    )  # fmt: skip


@dataclass(frozen=True)
class _Recipe:
    """How rows are made: which channels are read, and what is done to them."""

    open_raw: Callable[[], BaseRaw]
    needed: tuple[str, ...]
    bads: tuple[str, ...]
    decimation: Decimation
    steps: tuple[Step, ...]
    where: str

    def rows(self, first: int, stop: int, n_rows: int, names: Sequence[str]) -> Floats:
        reach_s = sum(step.reach_s for step in self.steps)
        if np.isinf(reach_s) and (first, stop) != (0, n_rows):
            return _whole(self, n_rows, tuple(names))[first:stop].copy()
        reach = int(np.ceil(min(reach_s * self.decimation.rate_hz, n_rows))) + 1
        begin, end = max(0, first - reach), min(n_rows, stop + reach)
        # What MNE warns of on opening was told when the header was read.
        with data_errors(self.where), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            low = self._at_low_rate(self.open_raw(), begin, end)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for step in self.steps:
                with data_errors(self.where, f"the step '{step.words}' cannot be done"):
                    step.apply(low)
            picks = [low.ch_names.index(name) for name in names]
            return data_of(low)[picks, first - begin : stop - begin].T.astype(np.float32)

    def _at_low_rate(self, raw: BaseRaw, begin: int, end: int) -> BaseRaw:
        import mne

        picks = [raw.ch_names.index(name) for name in self.needed]

        def read(start: int, stop: int) -> Floats:
            return data_of(raw, picks, start, stop)

        values = self.decimation.rows(read, len(picks), len(raw.times), begin, end)
        info = mne.pick_info(raw.info, picks, copy=True, verbose="error")
        # MNE changes the rate only together with data that it holds at the old one.
        with info._unlock():
            info["sfreq"] = self.decimation.rate_hz
            info["lowpass"] = min(info["lowpass"] or np.inf, self.decimation.rate_hz / 2)
            info["bads"] = list(self.bads)
        return mne.io.RawArray(values, info, copy="auto", verbose="error")


@lru_cache(maxsize=1)
def _whole(recipe: _Recipe, n_rows: int, names: tuple[str, ...]) -> Floats:
    """All rows, kept until those of another recording are asked for: crops of one come one after the other."""
    return recipe.rows(0, n_rows, n_rows, names)


def _picked(raw: BaseRaw, picks: Sequence[str], modality: Modality, where: str) -> list[str]:
    """Names of the channels wanted, in the file's order."""
    wanted = picks or KINDS_OF_MODALITY[modality]
    kind_of = dict(zip(raw.ch_names, raw.get_channel_types(), strict=True))
    for pick in wanted:
        if pick not in (*KINDS, "meg") and pick not in kind_of:
            raise RecipeError(f"{where}: signals.picks names '{pick}'. {nearest(pick, [*KINDS, 'meg', *kind_of])}")
    kinds = {kind for pick in wanted for kind in (KINDS_OF_MODALITY["meg"] if pick == "meg" else (pick,))}
    names = [name for name, kind in kind_of.items() if kind in kinds or name in wanted]
    if not names:
        found = pd.Series(kind_of).value_counts()
        has = ", ".join(f"{n} {kind}" for kind, n in found.items())
        raise DataError(
            f"{where}: no channels of kind {' or '.join(wanted)}; it has {has}. Name kinds in signals.picks."
        )
    return names


def _needed(raw: BaseRaw, names: Sequence[str], settings: Signals, modality: Modality, interpolated: bool) -> list[str]:
    """Those to be read: the targets, and whatever their noise, reference or interpolation is made from."""
    kinds: set[str] = set()
    if settings.noise:
        kinds |= {"mag", "grad", "ref_meg"}
    if interpolated or settings.reference == "average":
        kinds |= set(KINDS_OF_MODALITY[modality])
    named = set(names) | (set() if isinstance(settings.reference, str) else set(settings.reference))
    channels = zip(raw.ch_names, raw.get_channel_types(), strict=True)
    return [name for name, kind in channels if name in named or kind in kinds]


def _bads_of(raw: BaseRaw, told: Sequence[str], more: Sequence[str], where: str) -> tuple[set[str], list[Finding]]:
    for name in more:
        if name not in raw.ch_names:
            raise RecipeError(f"{where}: signals.more_bad_channels names '{name}'. {nearest(name, raw.ch_names)}")
    unknown = [name for name in told if name not in raw.ch_names]
    findings = []
    if unknown:
        message = f"{len(unknown)} channels that the archive calls bad are not in the file: {listed(unknown)}."
        findings.append(Finding("unknown-bad-channels", where, message))
    return {*raw.info["bads"], *told, *more} & set(raw.ch_names), findings


def _what_to_do(raw: BaseRaw, targets: pd.DataFrame, bads: Sequence[str], settings: Signals, where: str) -> str:
    """What is done about bad channels, in words that follow their number."""
    if settings.bad_channels == "keep":
        return "kept"
    if settings.bad_channels == "leave_out":
        return "left out"
    kinds = set(targets["kind"][targets["name"].isin(bads)])
    if kinds <= {"mag", "grad"} or (kinds == {"eeg"} and _all_placed(raw)):
        return "interpolated"
    if settings.bad_channels == "interpolate" and bads:
        raise RecipeError(
            f"{where}: {listed(bads)} cannot be interpolated: that takes MEG, or EEG with all positions known.\n"
            "Set signals.bad_channels to 'leave_out'."
        )
    return "left out"


def _all_placed(raw: BaseRaw) -> bool:
    eeg = _targets_of(raw, [name for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True)
                            if kind == "eeg"])  # fmt: skip
    return len(eeg) >= 4 and bool(np.isfinite(eeg[["x", "y", "z"]].to_numpy()).all())


def _targets_of(raw: BaseRaw, names: Sequence[str]) -> pd.DataFrame:
    index = {name: i for i, name in enumerate(raw.ch_names)}
    places = np.array([raw.info["chs"][index[name]]["loc"][:3] for name in names])
    # MNE writes zeros where it knows no place.
    places[~places.any(axis=1)] = np.nan
    kinds = raw.get_channel_types(picks=[index[name] for name in names])
    x, y, z = places.T
    return pd.DataFrame({"name": list(names), "kind": kinds, "x": x, "y": y, "z": z})


def _frame_of(raw: BaseRaw, targets: pd.DataFrame) -> str:
    """What the places are in, in a word."""
    from mne._fiff.constants import FIFF

    names: dict[object, str] = {
        FIFF.FIFFV_COORD_DEVICE: "device",
        FIFF.FIFFV_COORD_HEAD: "head",
        FIFF.FIFFV_COORD_MRI: "mri",
        FIFF.FIFFV_MNE_COORD_MNI_TAL: "mni",
    }
    found = {int(raw.info["chs"][raw.ch_names.index(name)]["coord_frame"]) for name in targets["name"]}
    placed = bool(np.isfinite(targets["x"]).any())
    return names.get(next(iter(found)), "unknown") if placed and len(found) == 1 else "unknown"


def _placed(open_raw: Callable[[], BaseRaw], positions: pd.DataFrame) -> BaseRaw:
    """The recording with electrodes where a table says that they are."""
    import mne

    raw = open_raw()
    known = positions[np.isfinite(positions[["x", "y", "z"]].to_numpy(dtype=float)).all(axis=1)]
    places = dict(zip(known["name"], known[["x", "y", "z"]].to_numpy(dtype=float), strict=True))
    places = {name: place for name, place in places.items() if name in raw.ch_names}
    # Called the head's whatever they are, since MNE would move others to there.
    montage = mne.channels.make_dig_montage(places, coord_frame="head")
    raw.set_montage(montage, on_missing="ignore", verbose="error")
    return raw


def _opened(open_raw: Callable[[], BaseRaw], where: str) -> tuple[BaseRaw, list[Finding]]:
    """The recording, and what MNE warned of while it opened it."""
    with data_errors(where), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        raw = open_raw()
        if len(raw.times) == 0:
            raise DataError(f"{where}: the recording holds no samples.")
        # The end of a file that was cut off is what cannot be read.
        data_of(raw, [0], len(raw.times) - 1)
    messages = dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught)
    told = [message for message in messages if "naming conventions" not in message]
    return raw, [Finding("reader", where, message) for message in told]


def _other_findings(raw: BaseRaw, decimation: Decimation, settings: Signals, where: str) -> list[Finding]:
    findings = []
    if settings.rate_hz is not None and settings.rate_hz > decimation.from_hz * (1 + 1e-9):
        message = f"recorded at {decimation.from_hz:g} Hz, fewer than the {settings.rate_hz:g} asked for; kept so."
        findings.append(Finding("low-rate", where, message))
    marks = raw.annotations
    spans = [
        # MNE counts the onsets of marks from before the first sample that was kept.
        (max(0.0, float(onset_s - raw.first_time)), float(onset_s - raw.first_time + length_s))
        for onset_s, length_s, name in zip(marks.onset, marks.duration, marks.description, strict=True)
        if str(name).upper().startswith("BAD") and length_s > 0
    ]
    marked = _merged(spans)
    if marked:
        length_s = sum(stop - start for start, stop in marked)
        message = f"{len(marked)} stretches, {length_s:g} s in all, are marked as bad; their numbers are kept."
        findings.append(Finding("bad-segments", where, message))
    return findings


def _merged(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The spans in order, those that touch as one: readers mark some stretches twice."""
    merged: list[tuple[float, float]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _first_at_or_after(moment_s: float, step_s: float) -> int:
    # A time that was written as a decimal number may lie a rounding past its row.
    return int(np.ceil(moment_s / step_s - 1e-6))
