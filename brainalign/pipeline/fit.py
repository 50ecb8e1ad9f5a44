"""One unit of work: one subject's responses to one feature space, all layers, on held-out data."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone

from brainalign.alignment import ItemsRun
from brainalign.datasets import check_recording
from brainalign.encoding import BandedRidgeEncoder, RidgeEncoder, Splits
from brainalign.encoding.cross_validation import HOLD, cross_validate, plan_of
from brainalign.encoding.planning import free_memory
from brainalign.encoding.responses import Responses
from brainalign.errors import DataError
from brainalign.features import SOUND_ENVELOPE, Baseline, sound_envelope
from brainalign.types import AlignedRun, Aligner, Features, Finding, Floats, Recording, Stimulus

__all__ = ["BASELINE_OF_WORDS", "Unit", "UnitScores", "baseline_names", "check_baseline", "fit_units", "shareable"]

# Bytes of aligned features held at once: layers beyond are placed in a second pass.
LAYERS_AT_ONCE = 512 * 2**20
# Stories of which one at a time can be held out; fewer are cut into blocks.
LEAST_RUNS = 3
# The share of the free memory that responses of subjects fitted together may fill.
MEMORY_OF_SUBJECTS = 0.25

# What a word-level baseline holds where none is named. Word-locked samples have one word each, so that the word rate
# is the same for all.
BASELINE_OF_WORDS = {
    "fmri": ("word_rate", "word_length", "word_duration", "log_frequency", "pause_before", "position"),
    "meg": ("word_length", "word_duration", "log_frequency", "pause_before", "position"),
    # Of items no times are known but by convention, nor their order, which is each subject's own.
    "words": ("word_length", "log_frequency"),
    "sentences": ("word_rate", "word_length", "log_frequency"),
}


@dataclass(frozen=True)
class Unit:
    """What a unit needs: one subject's recordings, the stimuli, one space's features and the settings."""

    recordings: Sequence[Recording]
    stimuli: Mapping[str, Stimulus]
    features: Mapping[str, Features]
    baseline: tuple[str, ...]
    aligner: Aligner
    encoder: BaseEstimator
    splits: Splits


@dataclass(frozen=True)
class UnitScores:
    """What a unit gives: arrays by name, and facts.

    `arrays`: ``r``, ``r2``, ``alpha``, ``at_edge`` and, with a baseline, ``r_joint``, ``r2_joint``, each (layer, fold,
    column), and ``r_baseline``, ``r2_baseline``, each (fold, column); columns are targets, or targets x latencies. No
    arrays where the subject had to be left out.
    """

    arrays: Mapping[str, Floats]
    facts: Mapping[str, Any]


def baseline_names(modality: str, recordings: Sequence[Recording], stimuli: Mapping[str, Stimulus]) -> tuple[str, ...]:
    """The baseline that these data allow: properties of words, and the sound's envelope where all have it."""
    items = [stimulus.words["item"] for stimulus in stimuli.values() if "item" in stimulus.words]
    if items:
        return BASELINE_OF_WORDS["sentences" if any(item.duplicated().any() for item in items) else "words"]
    words = BASELINE_OF_WORDS["fmri" if modality == "fmri" else "meg"]
    has_sound = all(_has_sound(recording, stimuli[recording.stimulus]) for recording in recordings)
    return (*words, SOUND_ENVELOPE) if has_sound and recordings else words


def check_baseline(names: Sequence[str], recordings: Sequence[Recording], stimuli: Mapping[str, Stimulus]) -> None:
    """Raise a DataError if `names` asks for sound where there is none, before anything is computed."""
    for recording in recordings if SOUND_ENVELOPE in names else ():
        if not _has_sound(recording, stimuli[recording.stimulus]):
            raise DataError(
                f"{recording}: the baseline names {SOUND_ENVELOPE}, but stimulus '{recording.stimulus}' comes without "
                "sound; leave it out of the baseline, or give the sound."
            )


def _has_sound(recording: Recording, stimulus: Stimulus) -> bool:
    return stimulus.audio is not None or SOUND_ENVELOPE in recording.regressors()


def shareable(units: Sequence[Unit]) -> list[list[int]]:
    """Numbers of the units that may have one design: the same stimuli at the same times, nothing regressed out.

    Whether they do is seen once they are aligned, in `fit_units`.
    """
    groups: dict[Any, list[int]] = {}
    for number, unit in enumerate(units):
        own = any(recording.read_confounds or recording.read_regressors for recording in unit.recordings)
        heard = tuple((r.stimulus, r.offset_s, r.clock.step_s, r.clock.start_s) for r in unit.recordings)
        groups.setdefault(number if own else heard, []).append(number)
    return list(groups.values())


def fit_units(units: Sequence[Unit]) -> list[UnitScores]:
    """Align, cross-validate and score every layer of one feature space for several subjects.

    Subjects whose samples have the same features, baseline and folds are one problem with more targets: everything but
    the products with responses is done once for all of them.

    Raises
    ------
    DataError
        If there are too few samples or runs.
    """
    results: list[UnitScores | None] = [None] * len(units)
    waiting = list(range(len(units)))
    while waiting:
        together: list[tuple[int, _Aligned]] = []
        room = np.inf
        for number in list(waiting):
            if len(together) >= room:
                break
            aligned = _align(units[number])
            if isinstance(aligned, UnitScores):
                results[number] = aligned
            elif not together or aligned.same_design(together[0][1]):
                together.append((number, aligned))
                room = max(1.0, MEMORY_OF_SUBJECTS * free_memory() // max(aligned.responses.nbytes, 1))
            else:
                continue
            waiting.remove(number)
        if together:
            scores = _fit_together([aligned for _, aligned in together])
            for (number, _), scored in zip(together, scores, strict=True):
                results[number] = scored
    return [result for result in results if result is not None]


@dataclass(frozen=True)
class _Aligned:
    """A unit's samples, in the order of stimuli and times within them."""

    unit: Unit
    recordings: Sequence[Recording]
    runs: Sequence[AlignedRun]
    findings: Sequence[Finding]
    responses: Floats
    groups: np.ndarray
    times_s: Floats
    order: np.ndarray
    baseline: Floats | None

    def designs(self) -> Iterator[Floats]:
        """The features of each layer, (sample, dimension)."""
        return (design[self.order] for design in _designs(self.runs, self.recordings, self.unit.features))

    def same_design(self, other: _Aligned) -> bool:
        """Whether the two have the same samples, features and baseline to the last bit."""
        samples = zip((self.groups, self.times_s, self.order), (other.groups, other.times_s, other.order), strict=True)
        if not all(np.array_equal(mine, theirs) for mine, theirs in samples):
            return False
        mine, theirs = (np.empty(0) if one.baseline is None else one.baseline for one in (self, other))
        if not np.array_equal(mine, theirs):
            return False
        return all(np.array_equal(mine, theirs) for mine, theirs in zip(self._probed(), other._probed(), strict=True))

    def _probed(self) -> list[Floats]:
        """Random features as they are placed: placing is linear, so that where these agree all do."""
        placed = []
        for run, recording in zip(self.runs, self.recordings, strict=True):
            space = self.unit.features[recording.stimulus]
            values = np.random.default_rng(0).normal(size=(1, space.values.shape[1], 2)).astype(space.values.dtype)
            placed.append(run.place(replace(space, layers=("probe",), values=values)))
        return placed


def _align(unit: Unit) -> _Aligned | UnitScores:
    """The unit's samples; no scores but the findings where nothing of it can be used."""
    recordings, findings = _usable(unit.recordings, unit.stimuli)
    if not recordings:
        return UnitScores({}, {"findings": [vars(finding) for finding in findings], "n_samples": 0})
    runs = [unit.aligner.align(recording, unit.stimuli[recording.stimulus]) for recording in recordings]
    findings += [finding for run in runs for finding in run.findings]
    groups, times, order = _in_stimulus_order(runs, recordings)
    groups = _stories(groups, unit.stimuli)
    responses = np.concatenate([run.responses for run in runs])[order]
    baseline = _baseline(unit, runs, recordings)
    baseline = None if baseline is None else baseline[order]
    return _Aligned(unit, recordings, runs, findings, responses, groups, times, order, baseline)


def _fit_together(aligned: Sequence[_Aligned]) -> list[UnitScores]:
    """Scores of units of the same design, their targets side by side."""
    first = aligned[0]
    unit, groups, times, baseline = first.unit, first.groups, first.times_s, first.baseline
    splitter = unit.splits.splitter(groups, times, unit.aligner.span_s)
    encoder = unit.encoder
    if isinstance(encoder, RidgeEncoder):
        # Where one run is all that is left to train on, it is cut into inner blocks, with the same gap between them.
        gap = unit.splits.gap(groups, times, unit.aligner.span_s)
        encoder = clone(encoder).set_params(gap=max(encoder.gap, gap))
    edges = np.cumsum([0, *(one.responses.shape[1] for one in aligned)])
    stacked = aligned[0].responses if len(aligned) == 1 else np.hstack([one.responses for one in aligned])
    responses = Responses(stacked, hold=HOLD)
    score = partial(cross_validate, responses=responses, groups=groups, splitter=splitter)
    scores: dict[str, list[Floats]] = {}
    solver = None
    for design in first.designs():
        if solver is None and isinstance(encoder, RidgeEncoder):
            how, backend = plan_of(encoder, design, responses, groups, splitter)
            solver = f"{how.route}, {backend}"
        alone, joint = score(encoder, features=design, baseline=baseline)
        named = {"r": alone.r, "r2": alone.r2, "alpha": alone.alpha, "at_edge": alone.at_edge}
        if joint is not None:
            named |= {"r_joint": joint.r, "r2_joint": joint.r2}
        for name, values in named.items():
            scores.setdefault(name, []).append(values)
    arrays = {name: np.stack(values) for name, values in scores.items()}
    if baseline is not None:
        # The bands of a banded encoder are those of the features; the baseline is one.
        one_band = clone(encoder).set_params(bands=None) if isinstance(encoder, BandedRidgeEncoder) else encoder
        alone, _ = score(one_band, features=baseline)
        arrays |= {"r_baseline": alone.r, "r2_baseline": alone.r2}
    found = []
    for one, (start, stop) in zip(aligned, itertools.pairwise(edges.tolist()), strict=True):
        latencies = one.runs[0].latencies_s
        facts = {
            "findings": [vars(finding) for finding in one.findings],
            "n_samples": len(one.responses),
            "n_folds": arrays["r"].shape[1],
            "splitter": repr(splitter),
            "solver": solver,
            "status": responses.status[start:stop].tolist(),
            "latencies_s": None if latencies is None else latencies.tolist(),
        }
        own = {name: values[..., start:stop].astype(np.float32) for name, values in arrays.items()}
        found.append(UnitScores(own, facts))
    return found


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
    stories = list(story.values())
    twice = sorted({name for name in stories if stories.count(name) > 1})
    if twice and len(set(stories)) < LEAST_RUNS:
        versions = ", ".join(name for name in story if story[name] in twice)
        raise DataError(
            f"{versions} are versions of one story, so that blocks of one would be tested on by what was trained on in "
            "another; choose one of them as `stimuli`, or more stories."
        )
    return np.array([story[name] for name in stimulus.tolist()])


def _designs(runs: Sequence[AlignedRun], recordings: Sequence[Recording], features: Mapping[str, Features]) -> Any:
    """Each layer's features of all runs, one under the other, (sample, dimension)."""
    spaces = [features[recording.stimulus] for recording in recordings]
    n_layers = len(spaces[0].layers)
    one_layer = sum(run.place(space.select([0])).nbytes for run, space in zip(runs, spaces, strict=True))
    step = max(1, LAYERS_AT_ONCE // max(one_layer, 1))
    for first in range(0, n_layers, step):
        chosen = range(first, min(first + step, n_layers))
        placed = [run.place(space.select(chosen)) for run, space in zip(runs, spaces, strict=True)]
        for layer in range(len(chosen)):
            yield np.concatenate([values[layer] for values in placed])


def _baseline(unit: Unit, runs: Sequence[AlignedRun], recordings: Sequence[Recording]) -> Floats | None:
    """The baseline's columns of all runs, one under the other, (sample, column)."""
    if not unit.baseline:
        return None
    words = Baseline(tuple(name for name in unit.baseline if name != SOUND_ENVELOPE))
    blocks = []
    for run, recording in zip(runs, recordings, strict=True):
        stimulus = unit.stimuli[recording.stimulus]
        place = run.place_properties if isinstance(run, ItemsRun) else run.place
        columns = [place(words.extract(stimulus))[0]] if words.names else []
        if SOUND_ENVELOPE in unit.baseline:
            columns.append(_envelope(run, recording, stimulus))
        blocks.append(np.hstack(columns))
    return np.concatenate(blocks)


def _envelope(run: AlignedRun, recording: Recording, stimulus: Stimulus) -> Floats:
    given = run.regressors()
    if SOUND_ENVELOPE in given:
        return given[[SOUND_ENVELOPE]].to_numpy(dtype=np.float64)
    return run.place(sound_envelope(stimulus))[0]
