"""Subjects' responses fitted to one feature space, all layers, and scored on held-out data."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone

from brainalign.encoding import BandedRidgeEncoder, RidgeEncoder, Samples
from brainalign.encoding.cross_validation import HOLD, cross_validate, plan_of
from brainalign.encoding.responses import Responses
from brainalign.limits import free_memory, has_gpu
from brainalign.pipeline.aligned import Subject, aligned, same_design
from brainalign.types import Features, Finding, Floats, Recording

__all__ = ["SubjectFit", "SubjectScores", "encoder_for", "fit_subjects", "shareable"]

# The share of the free memory that responses of subjects fitted together may fill.
MEMORY_OF_SUBJECTS = 0.125


@dataclass(frozen=True)
class SubjectFit:
    """What a fit needs: one subject, and one space's features of the stimuli."""

    subject: Subject
    features: Mapping[str, Features]
    encoder: BaseEstimator


@dataclass(frozen=True)
class SubjectScores:
    """What a fit gives: arrays by name, and facts.

    `arrays`: ``r``, ``r2``, ``alpha``, ``at_edge`` and, with a baseline, ``r_joint``, ``r2_joint``, ``alpha_joint``,
    ``beta_joint``, each (layer, fold, column), and ``r_baseline``, ``r2_baseline``, ``alpha_baseline``, each (fold,
    column); columns are targets, or targets x latencies. No arrays where the subject had to be left out.
    """

    arrays: Mapping[str, Floats]
    facts: Mapping[str, Any]


def shareable(subjects: Mapping[str, Sequence[Recording]]) -> list[list[str]]:
    """Subjects that may have one design: the same stimuli at the same times, as many targets, nothing regressed out.

    Whether they do is seen once they are aligned, in `fit_subjects`.
    """
    groups: dict[Any, list[str]] = {}
    for subject, recordings in subjects.items():
        own = any(recording.read_confounds or recording.read_regressors for recording in recordings)
        heard = tuple((r.stimulus, r.offset_s, r.clock.step_s, r.clock.start_s) for r in recordings)
        groups.setdefault(subject if own else (heard, len(recordings[0].targets)), []).append(subject)
    return list(groups.values())


def fit_subjects(fits: Sequence[SubjectFit]) -> list[SubjectScores]:
    """Align, cross-validate and score every layer of one feature space for several subjects.

    Subjects whose samples have the same features, baseline and folds are one problem with more targets: everything but
    the products with responses is done once for all of them. Each one's scores are to the last bit the same as alone.

    Raises
    ------
    DataError
        If there are too few samples or runs.
    """
    results: list[SubjectScores | None] = [None] * len(fits)
    waiting = list(range(len(fits)))
    while waiting:
        together: list[tuple[int, Samples, list[Finding]]] = []
        room = np.inf
        for number in list(waiting):
            if len(together) >= room:
                break
            samples, findings = aligned(fits[number].subject)
            if samples is None:
                results[number] = SubjectScores({}, {"findings": [vars(one) for one in findings], "n_samples": 0})
            elif not together or same_design(samples, together[0][1], fits[number].features):
                together.append((number, samples, findings))
                room = max(1.0, MEMORY_OF_SUBJECTS * free_memory() // max(samples.responses.nbytes, 1))
            else:
                continue
            waiting.remove(number)
        if together:
            first = fits[together[0][0]]
            scores = _fit_together([samples for _, samples, _ in together], first.features, first.encoder)
            for (number, _, findings), scored in zip(together, scores, strict=True):
                facts = {**scored.facts, "findings": [vars(finding) for finding in findings]}
                results[number] = SubjectScores(scored.arrays, facts)
    return [result for result in results if result is not None]


def encoder_for(encoder: BaseEstimator, samples: Samples) -> BaseEstimator:
    """The encoder, with the gap that its inner folds must keep, and with what computes it settled.

    Where one run is all that is left to train on, it is cut into inner blocks, with the same gap between them. Without
    a GPU it is numpy that computes, not what a calibration finds faster: the bits would hang on the timing.
    """
    if not isinstance(encoder, RidgeEncoder):
        return encoder
    settled = "numpy" if encoder.backend == "auto" and encoder.device is None and not has_gpu() else encoder.backend
    return clone(encoder).set_params(gap=max(encoder.gap, samples.gap), backend=settled)


def _fit_together(
    subjects: Sequence[Samples], features: Mapping[str, Features], encoder: BaseEstimator
) -> list[SubjectScores]:
    """Scores of subjects of the same design, their targets side by side."""
    first = subjects[0]
    groups, splitter, baseline = first.groups, first.splitter, first.baseline
    encoder = encoder_for(encoder, first)
    edges = np.cumsum([0, *(one.responses.shape[1] for one in subjects)])
    stacked = first.responses if len(subjects) == 1 else np.hstack([one.responses for one in subjects])
    responses = Responses(stacked, hold=HOLD, each=first.responses.shape[1])
    score = partial(cross_validate, responses=responses, groups=groups, splitter=splitter)
    scores: dict[str, list[Floats]] = {}
    solver = None
    for design in first.place(features):
        if solver is None and isinstance(encoder, RidgeEncoder):
            how, backend = plan_of(encoder, design, responses, groups, splitter)
            solver = f"{how.route}, {backend}"
        alone, joint = score(encoder, features=design, baseline=baseline)
        named = {"r": alone.r, "r2": alone.r2, "alpha": alone.alpha, "at_edge": alone.at_edge}
        if joint is not None:
            named |= {"r_joint": joint.r, "r2_joint": joint.r2, "alpha_joint": joint.alpha, "beta_joint": joint.beta}
        for name, values in named.items():
            scores.setdefault(name, []).append(values)
    arrays = {name: np.stack(values) for name, values in scores.items()}
    if baseline is not None:
        # The bands of a banded encoder are those of the features; the baseline is one.
        one_band = clone(encoder).set_params(bands=None) if isinstance(encoder, BandedRidgeEncoder) else encoder
        alone, _ = score(one_band, features=baseline)
        arrays |= {"r_baseline": alone.r, "r2_baseline": alone.r2, "alpha_baseline": alone.alpha}
    found = []
    for one, (start, stop) in zip(subjects, itertools.pairwise(edges.tolist()), strict=True):
        facts = {
            "n_samples": len(one.responses),
            "n_folds": arrays["r"].shape[1],
            "splitter": repr(splitter),
            "solver": solver,
            "status": responses.status[start:stop].tolist(),
            "latencies_s": None if one.latencies_s is None else one.latencies_s.tolist(),
        }
        own = {name: values[..., start:stop].astype(np.float32) for name, values in arrays.items()}
        found.append(SubjectScores(own, facts))
    return found
