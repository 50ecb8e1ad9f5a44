"""Scores of every layer of some features against every recording of a dataset."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import joblib
from sklearn.base import BaseEstimator

from brainalign.encoding import Splits
from brainalign.errors import DataError, DataWarning, FitWarning, listed
from brainalign.pipeline.answers import Fitted, answered
from brainalign.pipeline.assemble import assemble
from brainalign.pipeline.extraction import Progress, WhenAsked, extract_features, silent
from brainalign.pipeline.fit import SubjectFit, SubjectScores, fit_subjects, shareable
from brainalign.pipeline.fit_findings import feature_outliers, fit_findings
from brainalign.pipeline.machine import made_here
from brainalign.pipeline.spaces import Space
from brainalign.pipeline.study import Study
from brainalign.questions import Question
from brainalign.store import Store
from brainalign.types import Aligner, Dataset, Extractor, Features, Finding, Floats, Scores
from brainalign.warning_codes import CODES_OF_FITS, is_warning, split_code

__all__ = ["StoredFits", "facts_of_space", "fit_and_keep", "score_layers", "scores_of", "stored_fit"]

# What extractors count in each stimulus.
COUNTED = ("n_tokens", "n_tokens_read")


def score_layers(
    data: Dataset,
    features: Space | Sequence[Space],
    baseline: Sequence[str] | Literal["auto"] = "auto",
    alignment: Aligner | None = None,
    encoder: BaseEstimator | None = None,
    splits: Splits | None = None,
    questions: Sequence[Question] = (),
    store: Store | None = Store(),  # noqa: B008  (frozen, and touches no disk until used)
    strict: bool = False,
    n_jobs: int = 1,
    progress: Progress = silent,
) -> Scores:
    """Score how well each layer predicts each target of each subject, alone and beyond a baseline.

    Parameters
    ----------
    data : Dataset
    features : Extractor or function, or several
        ``LanguageModel(...)`` and the like; or a function that takes a stimulus and gives an array, see
        `brainalign.features.own_space`. Each is a feature space of its own.
    baseline : sequence of str, or "auto"
        Simple properties that every layer is compared with; all that the data allow by default; () for none.
    alignment : stage of brainalign.alignment, optional
        By default the modality's: ``Hemodynamic()`` for fMRI, ``Epochs()`` for MEG, EEG and ECoG; ``Items()`` where
        the rows of the responses are items.
    encoder : scikit-learn estimator, optional
        ``RidgeEncoder()`` by default.
    splits : Splits, optional
        One run held out at a time where there are three or more, else contiguous blocks with a gap, by default.
    questions : sequence of Question
        What is to be found out about the scores: ``Tests()``, ``Ceiling()`` ... of `brainalign.questions`, in this
        order.
    store : Store or None
        Where features and finished fits are kept, so that a second call reads instead of computes; None keeps nothing.
    strict : bool
        Raise what would be a warning with a code (W201 and so on, see `brainalign.warning_codes`) as an error.
    n_jobs : int
        Processes that fit subjects side by side, each with one thread of linear algebra where there are several.
    progress : callable
        Told what is being done: ``progress("fit ToyModel", 3, 27)``.

    Returns
    -------
    Scores
        See `brainalign.types.Scores`. ``attrs`` hold what was found on the way.

    Warns
    -----
    DataWarning, FitWarning
        What was left out, defaulted, or is to be read with care, by name.

    Raises
    ------
    BrainalignError
        If data, features and settings cannot go together, or `strict` makes an error of a warning; the message says
        which and how to mend it.

    Examples
    --------
    >>> import warnings
    >>> import brainalign as ba
    >>> from brainalign.features import ToyModel
    >>> data = ba.load_dataset("simulated", options={"n_subjects": 1, "n_runs": 3, "n_words": 200, "n_layers": 2})
    >>> with warnings.catch_warnings(action="ignore"):
    ...     scores = ba.score_layers(data, ToyModel(n_layers=2), store=None)
    >>> dict(scores.r.sizes)
    {'layer': 3, 'fold': 3, 'target': 4}
    """
    study = Study.of(data, features, baseline, alignment, encoder, splits, questions)
    return scores_of(study, store, strict, n_jobs, progress)


def scores_of(
    study: Study, store: Store | None, strict: bool = False, n_jobs: int = 1, progress: Progress = silent
) -> Scores:
    """Score a study; what the store has is read, the rest computed. What is raised: see `score_layers`."""
    results = [(space.name, *_score_space(study, space, store, n_jobs, progress)) for space in study.spaces]
    of_fits = fit_findings(results, study.recordings, study.aligner, study.splits)
    scores = assemble(study.data, study.subjects, results, study.baseline, of_fits, store.root if store else None)
    if strict:
        _refuse_warnings(scores.attrs["findings"])
    fits = {
        subject: {name: of_space[subject].arrays for name, _, _, of_space in results}
        for subject, first in results[0][3].items()
        if first.arrays
    }
    fitted = Fitted(study, fits, WhenAsked(study.spaces, study.stimuli, store, progress))
    scores = answered(scores, fitted, store, progress)
    if strict:
        _refuse_warnings(scores.attrs["findings"])
    for finding in scores.attrs["findings"]:
        about_fit = finding["code"].startswith("fit-") or finding["code"] in CODES_OF_FITS
        warnings.warn(str(Finding(**finding)), FitWarning if about_fit else DataWarning, stacklevel=3)
    return scores


def _refuse_warnings(findings: Sequence[Mapping[str, str]]) -> None:
    """Raise a DataError that names the findings with the code of a warning, if there are any."""
    refused = [finding for finding in findings if is_warning(finding["code"])]
    if refused:
        codes = ", ".join(sorted({finding["code"] for finding in refused}))
        told = [f"{finding['code']} {Finding(**finding)}" for finding in refused]
        raise DataError(
            f"strict: these are warnings, and strict makes errors of them ({codes}). Mend them, or leave strict out.\n"
            f"{listed(told)}"
        )


def _score_space(
    study: Study, space: Extractor, store: Store | None, n_jobs: int, progress: Progress
) -> tuple[tuple[str, ...], Mapping[str, Any], dict[str, SubjectScores]]:
    """Layer names, metadata, and each subject's scores in one feature space; only what is missing is computed."""
    found = {subject: stored_fit(study, space.name, subject, store) for subject in study.subjects}
    done = {subject: scores for subject, scores in found.items() if scores is not None}
    if len(done) < len(found):
        features = extract_features(space, study.stimuli, store, progress)
        facts = facts_of_space(space, features)
        progress(f"fit {space.name}", len(done), len(found))
        missing = {subject: study.subjects[subject] for subject in found if subject not in done}
        for group in _fit_all(study, features, facts, shareable(missing), store, n_jobs):
            done |= group
            progress(f"fit {space.name}", len(done), len(found))
    facts = next(iter(done.values())).facts
    return tuple(facts["layers"]), facts["metadata"], {subject: done[subject] for subject in study.subjects}


def stored_fit(study: Study, space: str, subject: str, store: Store | None) -> SubjectScores | None:
    """One subject's scores in a feature space where they are stored."""
    entry = store.get(study.keys_of_fits[space][subject]) if store else None
    return None if entry is None else SubjectScores(entry.on_disk, entry.facts)


class StoredFits(Mapping[str, Mapping[str, Mapping[str, Floats]]]):
    """The scores of those subjects who have any, read when they are asked for: subject -> feature space -> arrays."""

    def __init__(self, study: Study, store: Store) -> None:
        self._study, self._store = study, store
        first = study.spaces[0].name
        # Who was left out in one space was in all.
        self._subjects = [subject for subject in study.subjects if self._read(first, subject)]

    def __getitem__(self, subject: str) -> Mapping[str, Mapping[str, Floats]]:
        if subject not in self._subjects:
            raise KeyError(subject)
        return {space.name: self._read(space.name, subject) for space in self._study.spaces}

    def __iter__(self) -> Iterator[str]:
        return iter(self._subjects)

    def __len__(self) -> int:
        return len(self._subjects)

    def _read(self, space: str, subject: str) -> Mapping[str, Floats]:
        scores = stored_fit(self._study, space, subject, self._store)
        if scores is None:
            raise DataError(f"The fits of subject {subject} are not in the store any more; run again.")
        return scores.arrays


def facts_of_space(space: Extractor, features: Mapping[str, Features]) -> dict[str, Any]:
    """What is kept beside every fit of how its features were made: counts and what was found are of all stimuli."""
    first = next(iter(features.values()))
    found = [Finding(**finding) for one in features.values() for finding in one.metadata["findings"]]
    found = [_with_code(finding) for finding in found] + feature_outliers(space.name, features)
    counted = [name for name in COUNTED if name in first.metadata]
    counts = {name: sum(one.metadata.get(name, 0) for one in features.values()) for name in counted}
    told = {"dimension": first.values.shape[2], "findings": [vars(finding) for finding in found]}
    metadata = {**first.metadata, **counts, **told}
    return {"what": "fit", "name": space.name, "layers": list(first.layers), "metadata": metadata}


def _with_code(finding: Finding) -> Finding:
    """A stage warns in words alone: its code is that which the message begins with, where it has one."""
    code, message = split_code(finding.message)
    return replace(finding, code=code, message=message) if code else finding


def fit_and_keep(
    study: Study,
    subjects: Sequence[str],
    features: Mapping[str, Features],
    facts: Mapping[str, Any],
    store: Store | None,
) -> dict[str, SubjectScores]:
    """Fit some subjects to a feature space and keep each one's scores; `facts` are those of `facts_of_space`."""
    started = time.perf_counter()
    found = fit_subjects([SubjectFit(study.subject(subject), features, study.encoder) for subject in subjects])
    made = made_here((time.perf_counter() - started) / max(len(found), 1))
    scores = {}
    for subject, one in zip(subjects, found, strict=True):
        scores[subject] = SubjectScores(one.arrays, {**one.facts, **facts})
        if store:
            store.put(study.keys_of_fits[facts["name"]][subject], one.arrays, {**scores[subject].facts, "made": made})
            # From here on they lie on disk: those of all subjects and spaces together may be large.
            scores[subject] = stored_fit(study, facts["name"], subject, store) or scores[subject]
    return scores


def _fit_all(
    study: Study,
    features: Mapping[str, Features],
    facts: Mapping[str, Any],
    groups: Sequence[Sequence[str]],
    store: Store | None,
    n_jobs: int,
) -> Iterator[dict[str, SubjectScores]]:
    """Scores group by group, as they come."""
    if n_jobs == 1 or len(groups) == 1:
        yield from (fit_and_keep(study, group, features, facts, store) for group in groups)
        return
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        calls = (joblib.delayed(fit_and_keep)(study, group, features, facts, store) for group in groups)
        yield from joblib.Parallel(n_jobs=min(n_jobs, len(groups)), return_as="generator")(calls)
