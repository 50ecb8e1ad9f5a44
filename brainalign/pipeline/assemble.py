"""From the units' scores to one labelled dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainalign.errors import DataError
from brainalign.pipeline.fit import SubjectScores
from brainalign.pipeline.fit_findings import Result
from brainalign.types import Dataset, Finding, Floats, Recording, Scores

__all__ = ["assemble"]

PER_LAYER = ("r", "r2", "alpha", "r_joint", "r2_joint")
PER_TARGET = ("r_baseline", "r2_baseline")


def assemble(
    data: Dataset,
    recordings: Mapping[str, Sequence[Recording]],
    results: Sequence[Result],
    baseline: tuple[str, ...],
    of_fits: Sequence[Finding] = (),
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

    Raises
    ------
    DataError
        If every subject had to be left out.
    """
    first = results[0][3]
    subjects = [subject for subject, scores in first.items() if scores.arrays]
    if not subjects:
        reasons = "; ".join(str(Finding(**f)) for scores in first.values() for f in scores.facts["findings"][:1])
        raise DataError(f"Dataset '{data.name}': every subject had to be left out ({reasons[:300]}).")
    latencies = first[subjects[0]].facts["latencies_s"]
    dims = ("target",) if latencies is None else ("target", "latency")
    n_folds = max(first[subject].facts["n_folds"] for subject in subjects)

    def of_subject(values: Floats, subject: str) -> Floats:
        """Columns as targets (x latencies), folds that others have and this subject lacks as NaN."""
        shape = values.shape[:-1] + ((-1,) if latencies is None else (-1, len(latencies)))
        lacking = n_folds - first[subject].facts["n_folds"]
        axis = len(shape) - len(dims) - 1
        pad = [(0, lacking if i == axis else 0) for i in range(len(shape))]
        return np.pad(values.reshape(shape), pad, constant_values=np.nan)

    def stacked(name: str, scores: Mapping[str, SubjectScores]) -> Floats:
        parts = [of_subject(scores[subject].arrays[name], subject) for subject in subjects]
        return np.concatenate(parts, axis=parts[0].ndim - len(dims))

    variables: dict[str, tuple[tuple[str, ...], Any]] = {}
    for name in PER_LAYER:
        if name in first[subjects[0]].arrays:
            values = np.concatenate([stacked(name, scores) for _, _, _, scores in results])
            variables[name] = (("layer", "fold", *dims), values)
    for name in PER_TARGET:
        if name in first[subjects[0]].arrays:
            variables[name] = (("fold", *dims), stacked(name, first))
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
