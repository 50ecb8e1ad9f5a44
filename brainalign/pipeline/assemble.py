"""From the units' scores to one labelled dataset, unit by unit: what is large is never in memory as a whole."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign.errors import DataError
from brainalign.files import reserve_space_of
from brainalign.pipeline.fit import SubjectScores
from brainalign.pipeline.fit_findings import Result
from brainalign.types import Dataset, Finding, Floats, Recording, Scores

__all__ = ["assemble"]

PER_LAYER = ("r", "r2", "alpha", "r_joint", "r2_joint")
PER_TARGET = ("r_baseline", "r2_baseline")
# Arrays beyond this size lie on disk while scores are put together.
LARGE_BYTES = 64 * 2**20


def assemble(
    data: Dataset,
    recordings: Mapping[str, Sequence[Recording]],
    results: Sequence[Result],
    baseline: tuple[str, ...],
    of_fits: Sequence[Finding] = (),
    scratch: Path | None = None,
) -> Scores:
    """Put the scores of all feature spaces and subjects into one `Scores`.

    Parameters
    ----------
    data : Dataset
    recordings : mapping of subject -> recordings
    results : sequence of (feature space, layer names, metadata, subject -> SubjectScores)
    baseline : tuple of str
    of_fits : sequence of Finding
        What the fits show.
    scratch : Path, optional
        Where large arrays lie, in files without a name; by default they are in memory.

    Raises
    ------
    DataError
        If every subject had to be left out, or the disk has no room.
    """
    first = results[0][3]
    subjects = [subject for subject, scores in first.items() if scores.arrays]
    if not subjects:
        reasons = "; ".join(str(Finding(**f)) for scores in first.values() for f in scores.facts["findings"][:1])
        raise DataError(f"Dataset '{data.name}': every subject had to be left out ({reasons[:300]}).")
    latencies = first[subjects[0]].facts["latencies_s"]
    dims = ("target",) if latencies is None else ("target", "latency")
    names = list(first[subjects[0]].arrays)
    layout = _Layout.of(results, subjects, () if latencies is None else (len(latencies),))
    variables: dict[str, tuple[tuple[str, ...], Any]] = {}
    for name in PER_LAYER:
        if name in names:
            variables[name] = (("layer", "fold", *dims), layout.stacked(name, results, scratch))
    for name in PER_TARGET:
        if name in names:
            variables[name] = (("fold", *dims), layout.stacked(name, results[:1], scratch, per_layer=False))
    status = [np.array(first[subject].facts["status"]) for subject in subjects]
    if latencies is not None:
        # A channel is one signal: its status at any latency is its status at all.
        status = [_worst(values.reshape(-1, len(latencies))) for values in status]
    variables["status"] = (("target",), np.concatenate(status))

    coords = _layer_coords(results) | _target_coords(recordings, subjects)
    if latencies is not None:
        coords["latency"] = ("latency", np.asarray(latencies), {"units": "s", "long_name": "latency from word onset"})
    scores = Scores(variables, coords=coords)
    scores.attrs = {
        "dataset": data.name,
        "modality": data.modality,
        "baseline": list(baseline),
        "n_samples": {subject: first[subject].facts["n_samples"] for subject in subjects},
        "splitter": first[subjects[0]].facts["splitter"],
        "solver": {name: scores_of[subjects[0]].facts["solver"] for name, _, _, scores_of in results},
        "features": [{"name": name, "metadata": _short(metadata)} for name, _, metadata, _ in results],
        "space": {subject: dict(recordings[subject][0].space) for subject in subjects if recordings[subject][0].space},
        "steps": _steps(recordings, subjects),
        "findings": [*_findings(data, recordings, first, results), *map(vars, of_fits)],
    }
    return scores


@dataclass(frozen=True)
class _Layout:
    """Where in an array of all scores those of a unit are: its layers, folds and targets (x latencies)."""

    subjects: Sequence[str]
    n_layers: Sequence[int]
    n_folds: int
    n_targets: Sequence[int]
    latencies: tuple[int, ...]

    @classmethod
    def of(cls, results: Sequence[Result], subjects: Sequence[str], latencies: tuple[int, ...]) -> _Layout:
        first = results[0][3]
        n_columns = [first[subject].arrays["r"].shape[-1] for subject in subjects]
        return cls(
            subjects,
            [len(layers) for _, layers, _, _ in results],
            max(first[subject].facts["n_folds"] for subject in subjects),
            [n // int(np.prod(latencies)) for n in n_columns],
            latencies,
        )

    def stacked(self, name: str, results: Sequence[Result], scratch: Path | None, per_layer: bool = True) -> Floats:
        """One array of all units; folds that others have and a subject lacks are NaN."""
        layers = (sum(self.n_layers),) if per_layer else ()
        shape = (*layers, self.n_folds, sum(self.n_targets), *self.latencies)
        stacked = _room(shape, results[0][3][self.subjects[0]].arrays[name].dtype, scratch)
        for layer, target, unit in self._units(results):
            values = unit.arrays[name]
            place = stacked[layer, :, target] if per_layer else stacked[:, target]
            folds = values.shape[-2]
            # Layer by layer: what is written to is let go by and by.
            for into, one in zip(place, values, strict=True) if per_layer else [(place, values)]:
                into[:folds] = one.reshape(into[:folds].shape)
                into[folds:] = np.nan
        return stacked

    def _units(self, results: Sequence[Result]) -> Iterator[tuple[slice, slice, SubjectScores]]:
        layer_edges, target_edges = np.cumsum([0, *self.n_layers]), np.cumsum([0, *self.n_targets])
        for number, (_, _, _, scores) in enumerate(results):
            for place, subject in enumerate(self.subjects):
                yield slice(*layer_edges[number : number + 2]), slice(*target_edges[place : place + 2]), scores[subject]


def _room(shape: tuple[int, ...], dtype: np.dtype, scratch: Path | None) -> Floats:
    """An array to be filled; a large one in a file that is gone with it, however the process ends."""
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    if scratch is None or n_bytes <= LARGE_BYTES:
        return np.empty(shape, dtype)
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=scratch) as file:
            file.truncate(n_bytes)
            reserve_space_of(file.fileno())
            return np.memmap(file, dtype, mode="r+", shape=shape)
    except OSError as error:
        raise DataError(
            f"No room in {scratch} to put scores together ({n_bytes / 1e9:.1f} GB): {error.strerror or error}. Free "
            "some space (brainalign cache prune), or set BRAINALIGN_CACHE to a folder with more, and run again."
        ) from error


def _short(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata for tables: of one number per word the range, of long lists of names the first and the last."""
    return {key: _in_short(value) for key, value in metadata.items() if key != "findings"}


def _in_short(value: Any) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) <= 20:
        return value
    if all(isinstance(item, (int, float)) for item in value):
        return f"{min(value)} to {max(value)}"
    return f"{value[0]} to {value[-1]} ({len(value)})"


def _worst(status: np.ndarray) -> np.ndarray:
    bad = status != "ok"
    return np.where(bad.any(axis=1), status[np.arange(len(status)), bad.argmax(axis=1)], "ok")


def _layer_coords(results: Sequence[Result]) -> dict[str, Any]:
    """Name, number and depth of every layer; where a model says which layers were taken, by its own counting."""
    rows = []
    for space, layers, metadata, _ in results:
        numbers = metadata.get("layer_index", range(len(layers)))
        last = max(metadata.get("last_layer", len(layers) - 1), 1)
        rows += [(space, name, number, number / last) for name, number in zip(layers, numbers, strict=True)]
    table = pd.DataFrame(rows, columns=["feature_space", "layer_name", "layer_index", "depth"])
    return {str(column): ("layer", table[column].to_numpy()) for column in table}


def _target_coords(recordings: Mapping[str, Sequence[Recording]], subjects: Sequence[str]) -> dict[str, Any]:
    """Name, kind and place of every target, one subject after the other."""
    tables = []
    for subject in subjects:
        table = recordings[subject][0].targets.reset_index(drop=True)
        for other in recordings[subject][1:]:
            if list(other.targets["name"]) != list(table["name"]):
                raise DataError(f"{other}: its targets are not those of run {recordings[subject][0].run}.")
        tables.append(table.assign(subject=subject))
    table = pd.concat(tables, ignore_index=True).rename(columns={"name": "target_name", "kind": "target_kind"})
    return {
        str(column): ("target", table[column].to_numpy(dtype=str if table[column].dtype.kind in "OUST" else None))
        for column in table
    }


def _steps(recordings: Mapping[str, Sequence[Recording]], subjects: Sequence[str]) -> dict[str, list[str]]:
    """What was done to the signals, subject by subject; runs of a subject that differ are told one after the other."""
    steps: dict[str, list[str]] = {}
    for subject in subjects:
        ways = dict.fromkeys("; ".join(recording.steps) for recording in recordings[subject] if recording.steps)
        if ways:
            steps[subject] = list(ways)
    return steps


def _findings(
    data: Dataset,
    recordings: Mapping[str, Sequence[Recording]],
    scores: Mapping[str, SubjectScores],
    results: Sequence[Result],
) -> list[dict[str, str]]:
    found = [vars(finding) for finding in data.findings]
    runs = [recording for subject in recordings for recording in recordings[subject]]
    for stimulus in dict.fromkeys(recording.stimulus for recording in runs):
        found += [vars(finding) for finding in data.stimuli[stimulus].findings]
    found += [vars(finding) for recording in runs for finding in recording.findings]
    found += [finding for _, _, metadata, _ in results for finding in metadata.get("findings", ())]
    for subject, unit in scores.items():
        found += unit.facts["findings"]
        if not unit.arrays:
            found.append(vars(Finding("subject-left-out", f"subject {subject}", "no usable recording: left out.")))
    return [json.loads(text) for text in dict.fromkeys(json.dumps(finding, sort_keys=True) for finding in found)]
