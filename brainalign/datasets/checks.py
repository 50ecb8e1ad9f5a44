"""What reading a response shows that its file names do not: dead targets, words that nobody was recorded hearing."""

from __future__ import annotations

import numpy as np

from brainalign.errors import listed
from brainalign.types import Finding, Floats, Recording, Stimulus

__all__ = ["check_recording", "looks_like_milliseconds", "response_end_s"]

# After the last word most recordings go on for ten to thirty seconds.
LONG_SILENCE_S = 40.0


def check_recording(recording: Recording, response: Floats, stimulus: Stimulus | None = None) -> list[Finding]:
    """Say what is wrong with a response, and with the words of its stimulus on its clock.

    Parameters
    ----------
    recording : Recording
        Whose response it is.
    response : array (time, target)
        What it gave.
    stimulus : Stimulus, optional
        What was heard; without it only the response is looked at. If its words have a column ``item``, rows are items:
        those without a response (NaN in every target) were rejected, which is no fault of a target, and there are no
        times.

    Returns
    -------
    list of Finding
        Codes: ``empty-recording`` (no target can be used: the recording is to be left out), ``nonfinite-target``,
        ``constant-target`` (these targets are to be left out), ``words-past-end``, ``milliseconds``.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainalign.types import Clock
    >>> dead = np.zeros((100, 2), dtype=np.float32)
    >>> targets = pd.DataFrame({"name": ["A1", "V1"], "kind": "region"})
    >>> recording = Recording("s1", "1", "story", "fmri", Clock(2.0), 0.0, targets, lambda: dead, "")
    >>> [finding.code for finding in check_recording(recording, dead)]
    ['empty-recording']
    """
    if stimulus is not None and "item" in stimulus.words:
        answered = np.isfinite(response).any(axis=1)
        return _check_response(recording, response[answered] if answered.any() else response)
    findings = _check_response(recording, response)
    if stimulus is not None:
        findings += _check_times(recording, len(response), stimulus)
    return findings


def response_end_s(recording: Recording, n_rows: int) -> float:
    """Seconds of the stimulus's clock at which the last row of the response ends."""
    clock = recording.clock
    return clock.start_s + n_rows * clock.step_s - recording.offset_s


def looks_like_milliseconds(onset_s: Floats, end_s: float) -> bool:
    """Whether onsets that cannot be seconds of a response that ends at `end_s` would fit as milliseconds.

    Examples
    --------
    >>> looks_like_milliseconds(np.array([500.0, 90_000.0]), end_s=100.0)
    True
    """
    last = float(np.max(onset_s))
    return last > 20 * end_s and last / 1000 <= end_s


def _check_response(recording: Recording, response: Floats) -> list[Finding]:
    where = str(recording)
    names = recording.targets["name"].astype(str).tolist()
    n_bad = np.count_nonzero(~np.isfinite(response), axis=0)  # (target,)
    nonfinite = n_bad > 0
    constant = ~nonfinite & _is_constant(response)
    if (nonfinite | constant).all():
        kinds = [kind for kind, which in (("constant", constant), ("not finite", nonfinite)) if which.any()]
        message = f"all {len(names)} targets are {' or '.join(kinds)}; the recording is left out."
        return [Finding("empty-recording", where, message)]
    findings = []
    if nonfinite.any():
        bad = [f"{names[i]} ({n_bad[i]} rows)" for i in np.flatnonzero(nonfinite)]
        message = f"{len(bad)} of {len(names)} targets hold NaN or infinite values: {listed(bad)}. "
        message += "Each is undefined for this subject if such a row is used."
        findings.append(Finding("nonfinite-target", where, message))
    if constant.any():
        bad = [names[i] for i in np.flatnonzero(constant)]
        message = f"{len(bad)} of {len(names)} targets are constant: {listed(bad)}. "
        message += "Each has no score where this run is held out."
        findings.append(Finding("constant-target", where, message))
    return findings


def _is_constant(response: Floats) -> np.ndarray:
    """Whether each column varies by no more than the rounding of float32. Shape (target,)."""
    with np.errstate(invalid="ignore"):
        spread = response.max(axis=0) - response.min(axis=0)
        rounding = 4 * np.finfo(np.float32).eps * np.abs(response).max(axis=0)
        return spread <= rounding


def _check_times(recording: Recording, n_rows: int, stimulus: Stimulus) -> list[Finding]:
    end_s = response_end_s(recording, n_rows)
    onset_s: Floats = np.asarray(stimulus.words["onset"], dtype=float)
    where = f"{recording}, stimulus {stimulus.id}"
    if looks_like_milliseconds(onset_s, end_s):
        message = f"the last word is at {onset_s[-1]:g} s and the response ends at {end_s:g} s: are these milliseconds?"
        return [Finding("milliseconds", where, message)]
    past = int(np.count_nonzero(onset_s >= end_s))
    if past == 0:
        return _check_end(end_s, stimulus, where)
    message = (
        f"{past} of {len(onset_s)} words ({past / len(onset_s):.1%}) begin after the response ends, at {end_s:g} s; "
        "nothing was recorded of them."
    )
    return [Finding("words-past-end", where, message)]


def _check_end(end_s: float, stimulus: Stimulus, where: str) -> list[Finding]:
    """Whether the response goes on so long after the last word that its clock may be wrong."""
    left_s = end_s - stimulus.duration_s
    if left_s <= LONG_SILENCE_S:
        return []
    message = f"the response lasts {left_s:.0f} s longer than the words; if that is not so, look at tr_s or rate_hz."
    return [Finding("words-end-early", where, message)]
