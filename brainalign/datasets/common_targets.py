"""Runs of one subject with the targets that all of them have: a channel that is bad in one run cannot be scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from brainalign.errors import DataError, listed
from brainalign.files import digest_of
from brainalign.types import Finding, Floats, Recording

__all__ = ["with_common_targets"]


def with_common_targets(recordings: Sequence[Recording]) -> list[Recording]:
    """The recordings, each with the targets that all runs of its subject have, in the first run's order.

    What is left out of a run is told by a finding of code ``uncommon-targets``; parcels that are of other voxels than
    in the first run, as runs have masks of their own, by ``uncommon-parcels``.

    Raises
    ------
    DataError
        If two runs of a subject have no target in common.

    Examples
    --------
    >>> import pandas as pd
    >>> from brainalign.types import Clock
    >>> def run(number, names):
    ...     targets = pd.DataFrame({"name": names, "kind": "sensor"})
    ...     return Recording("s1", number, "story", "meg", Clock(0.01), 0.0, targets, lambda: np.ones((5, 2)), "")
    >>> both = with_common_targets([run("1", ["A", "B"]), run("2", ["B", "C"])])
    >>> [recording.response().shape for recording in both]
    [(5, 1), (5, 1)]
    """
    of_subject: dict[str, list[Recording]] = {}
    for recording in recordings:
        of_subject.setdefault(recording.subject, []).append(recording)
    common = {subject: _common_names(runs) for subject, runs in of_subject.items()}
    restricted = [_restricted(recording, common[recording.subject]) for recording in recordings]
    first = {recording.subject: recording for recording in reversed(restricted)}
    return [_with_sizes_compared(recording, first[recording.subject]) for recording in restricted]


def _common_names(runs: Sequence[Recording]) -> list[str]:
    names = runs[0].targets["name"].tolist()
    for run in runs[1:]:
        others = set(run.targets["name"])
        names = [name for name in names if name in others]
        if not names:
            raise DataError(f"{run}: it has none of the targets of run {runs[0].run}.")
    return names


def _restricted(recording: Recording, names: Sequence[str]) -> Recording:
    own = recording.targets["name"].tolist()
    if own == list(names):
        return recording
    columns = [own.index(name) for name in names]
    left_out = [name for name in own if name not in set(names)]
    message = f"{len(left_out)} of {len(own)} targets are not in every run and left out: {listed(left_out)}."
    return replace(
        recording,
        targets=recording.targets.iloc[columns].reset_index(drop=True),
        read=partial(_read_columns, recording.read, columns),
        digest=digest_of({"of": recording.digest, "targets": list(names)}),
        findings=(*recording.findings, *([Finding("uncommon-targets", str(recording), message)] if left_out else [])),
    )


def _with_sizes_compared(recording: Recording, first: Recording) -> Recording:
    if "n_voxels" not in recording.targets or "n_voxels" not in first.targets:
        return recording
    other = recording.targets["n_voxels"].to_numpy() != first.targets["n_voxels"].to_numpy()
    if not other.any():
        return recording
    names = recording.targets["name"][other].tolist()
    message = (
        f"{len(names)} of {len(other)} parcels hold another number of voxels than in run {first.run}, as the masks of "
        f"runs differ: {listed(names)}. Name one `mask` for all."
    )
    finding = Finding("uncommon-parcels", str(recording), message)
    return replace(recording, findings=(*recording.findings, finding))


def _read_columns(read: Callable[[], Floats], columns: Sequence[int]) -> Floats:
    return np.asarray(read())[:, list(columns)]
