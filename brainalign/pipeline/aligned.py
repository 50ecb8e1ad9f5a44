"""One subject's recordings as the samples that encoders are fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from brainalign.datasets import check_recording
from brainalign.encoding import Samples, Splits
from brainalign.errors import DataError
from brainalign.pipeline.baselines import baseline_columns
from brainalign.pipeline.signal_checks import odd_word_lag
from brainalign.types import AlignedRun, Aligner, Features, Finding, Floats, Recording, Stimulus

__all__ = ["Subject", "aligned", "same_design"]

# Bytes of aligned features held at once: layers beyond are placed in a second pass.
LAYERS_AT_ONCE = 512 * 2**20
# Stories of which one at a time can be held out; fewer are cut into blocks.
LEAST_RUNS = 3


@dataclass(frozen=True)
class Subject:
    """What one subject's samples are made of."""

    recordings: Sequence[Recording]
    stimuli: Mapping[str, Stimulus]
    baseline: tuple[str, ...]
    aligner: Aligner
    splits: Splits


def aligned(subject: Subject) -> tuple[Samples | None, list[Finding]]:
    """The subject's samples, None where nothing of the recordings can be used, and what was found on the way.

    Raises
    ------
    DataError
        If there are too few samples or runs, or what is held out would also be trained on under another name.
    """
    recordings, findings = _usable(subject.recordings, subject.stimuli)
    if not recordings:
        return None, findings
    runs = [subject.aligner.align(recording, subject.stimuli[recording.stimulus]) for recording in recordings]
    findings += [finding for run in runs for finding in run.findings]
    findings += odd_word_lag(recordings, subject.stimuli)
    stimulus, times, order = _in_stimulus_order(runs, recordings)
    groups = _stories(stimulus, subject.stimuli)
    baseline, baseline_names = baseline_columns(subject.baseline, runs, recordings, subject.stimuli)
    run = np.concatenate([np.full(len(run.times_s), recording.run) for run, recording in _pairs(runs, recordings)])
    samples = Samples(
        subject=recordings[0].subject,
        responses=np.concatenate([run.responses for run in runs])[order],
        stimulus=stimulus,
        run=run[order],
        groups=groups,
        times_s=times,
        splitter=subject.splits.splitter(groups, times, subject.aligner.span_s),
        gap=subject.splits.gap(groups, times, subject.aligner.span_s),
        baseline=None if baseline is None else baseline[order],
        latencies_s=runs[0].latencies_s,
        place=partial(_place, runs, recordings, order),
        baseline_names=baseline_names,
    )
    return samples, findings


def same_design(mine: Samples, other: Samples, features: Mapping[str, Features]) -> bool:
    """Whether two subjects have the same samples, features and baseline to the last bit."""
    same = [np.array_equal(getattr(mine, name), getattr(other, name)) for name in ("stimulus", "groups", "times_s")]
    same.append(mine.n_targets == other.n_targets)
    if not all(same) or not np.array_equal(_or_empty(mine.baseline), _or_empty(other.baseline)):
        return False
    probe = _probe(features)
    return all(np.array_equal(*placed) for placed in zip(mine.place(probe), other.place(probe), strict=True))


def _or_empty(columns: Floats | None) -> Floats:
    return np.empty(0) if columns is None else columns


def _probe(features: Mapping[str, Features]) -> dict[str, Features]:
    """Random features of the same samples: placing is linear, so that where these agree all do."""
    probes = {}
    for name, space in features.items():
        values = np.random.default_rng(0).normal(size=(1, space.values.shape[1], 2)).astype(space.values.dtype)
        probes[name] = replace(space, layers=("probe",), values=values)
    return probes


def _pairs(runs: Sequence[AlignedRun], recordings: Sequence[Recording]) -> Iterator[tuple[AlignedRun, Recording]]:
    return zip(runs, recordings, strict=True)


def _usable(recordings: Sequence[Recording], stimuli: Mapping[str, Stimulus]) -> tuple[list[Recording], list[Finding]]:
    """The recordings that can be fitted, their responses read, and what was found in them."""
    usable, findings = [], []
    for recording in recordings:
        response = recording.response()
        found = check_recording(recording, response, stimuli[recording.stimulus])
        findings += found
        if not any(finding.code == "empty-recording" for finding in found):
            # One infinite value makes its target undefined, as NaN does, and must not reach the others' arithmetic.
            finite = np.where(np.isfinite(response), response, np.float32(np.nan))
            usable.append(replace(recording, read=partial(np.asarray, finite)))
    return usable, findings


def _in_stimulus_order(
    runs: Sequence[AlignedRun], recordings: Sequence[Recording]
) -> tuple[np.ndarray, Floats, np.ndarray]:
    """Each sample's stimulus and seconds within it, in the order of stimuli and times, and that order.

    A stimulus heard twice must not be trained on once and tested on once. Folds hold whole stimuli or stretches of
    consecutive samples, and in this order all hearings of a moment stand side by side.
    """
    pairs = list(zip(runs, recordings, strict=True))
    rank = {name: number for number, name in enumerate(dict.fromkeys(recording.stimulus for recording in recordings))}
    stimulus = np.concatenate([np.full(len(run.times_s), rank[recording.stimulus]) for run, recording in pairs])
    times = np.concatenate([run.times_s - recording.offset_s for run, recording in pairs])
    order = np.lexsort((times, stimulus))
    return np.array(list(rank))[stimulus[order]], times[order], order


def _stories(stimulus: np.ndarray, stimuli: Mapping[str, Stimulus]) -> np.ndarray:
    """Each sample's story: versions of one must not be trained on and tested on."""
    story = {name: stimuli[name].story or name for name in dict.fromkeys(stimulus.tolist())}
    _check_texts(story, stimuli)
    stories = list(story.values())
    twice = sorted({name for name in stories if stories.count(name) > 1})
    if twice and len(set(stories)) < LEAST_RUNS:
        versions = ", ".join(name for name in story if story[name] in twice)
        raise DataError(
            f"E102: {versions} are versions of one story, so that blocks of one would be tested on by what was trained "
            "on in another; choose one of them as `stimuli`, or more stories."
        )
    return np.array([story[name] for name in stimulus.tolist()])


def _check_texts(story: Mapping[str, str], stimuli: Mapping[str, Stimulus]) -> None:
    """Raise a DataError if stimuli of unlike stories have the same words."""
    with_text: dict[tuple[str, ...], str] = {}
    for name in story:
        words = tuple(stimuli[name].words["text"].astype(str).str.strip().str.lower())
        other = with_text.setdefault(words, name)
        if story[other] != story[name]:
            raise DataError(
                f"E102: stimuli {other} and {name} have the same {len(words)} words, so that one would be tested on by "
                "what was trained on in the other. Give both the same `story`, or choose one of them as `stimuli`."
            )


def _place(
    runs: Sequence[AlignedRun], recordings: Sequence[Recording], order: np.ndarray, features: Mapping[str, Features]
) -> Iterator[Floats]:
    """Each layer's features of all runs, (sample, dimension)."""
    spaces = [features[recording.stimulus] for recording in recordings]
    n_layers = len(spaces[0].layers)
    one_layer = sum(run.place(space.select([0])).nbytes for run, space in zip(runs, spaces, strict=True))
    step = max(1, LAYERS_AT_ONCE // max(one_layer, 1))
    for first in range(0, n_layers, step):
        chosen = range(first, min(first + step, n_layers))
        placed = [run.place(space.select(chosen)) for run, space in zip(runs, spaces, strict=True)]
        for layer in range(len(chosen)):
            yield np.concatenate([values[layer] for values in placed])[order]
