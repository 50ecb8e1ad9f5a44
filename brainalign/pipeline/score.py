"""Scores of every layer of some features against every recording of a dataset."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import joblib
import pandas as pd
from sklearn.base import BaseEstimator

from brainalign.config import alignment_of, check_alignment, settings_of
from brainalign.encoding import RidgeEncoder, Splits
from brainalign.errors import DataError, DataWarning, FitWarning, listed
from brainalign.files import digest_of
from brainalign.pipeline.aligned import Subject
from brainalign.pipeline.answers import Fitted, answered
from brainalign.pipeline.assemble import assemble
from brainalign.pipeline.baselines import baseline_names, check_baseline
from brainalign.pipeline.extraction import Progress, extract_features, silent, stimulus_digest
from brainalign.pipeline.fit import Unit, UnitScores, fit_units, shareable
from brainalign.pipeline.fit_findings import Result, feature_outliers, fit_findings
from brainalign.pipeline.spaces import Space, by_subject, check_features, spaces_of
from brainalign.questions import Question
from brainalign.registry import ALIGNMENTS, find
from brainalign.store import Store
from brainalign.types import Aligner, Dataset, Extractor, Features, Finding, Recording, Scores, Stimulus
from brainalign.warning_codes import CODES_OF_FITS, is_warning, split_code

__all__ = ["score_layers"]

# Raised when the same settings and data would give other numbers than before.
CODE_VERSION = 8


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
    check_features(features)
    if alignment is None:
        alignment = find(alignment_of(data.modality, data.rows), ALIGNMENTS, "alignment")()
    check_alignment(alignment, data.rows, data.name)
    recordings = data.recordings()
    if not recordings:
        raise DataError(f"Dataset '{data.name}' has no recordings of the subjects chosen.")
    stimuli = {recording.stimulus: data.stimuli[recording.stimulus] for recording in recordings}
    spaces = spaces_of(features, stimuli)
    names = baseline_names(data.modality, recordings, stimuli) if baseline == "auto" else tuple(baseline)
    check_baseline(names, recordings, stimuli)
    study = Study(
        recordings,
        stimuli,
        names,
        alignment,
        encoder if encoder is not None else RidgeEncoder(),
        splits if splits is not None else Splits(),
        store,
    )
    results = [(space.name, *_score_space(study, space, n_jobs, progress)) for space in spaces]
    of_fits = fit_findings(results, recordings, alignment, study.splits)
    scores = assemble(data, study.by_subject(), results, names, of_fits)
    if strict:
        _refuse_warnings(scores.attrs["findings"])
    scores = answered(scores, questions, _fitted(study, spaces, results, progress), store, progress)
    if strict:
        _refuse_warnings(scores.attrs["findings"])
    for finding in scores.attrs["findings"]:
        about_fit = finding["code"].startswith("fit-") or finding["code"] in CODES_OF_FITS
        warnings.warn(str(Finding(**finding)), FitWarning if about_fit else DataWarning, stacklevel=2)
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


@dataclass(frozen=True)
class Study:
    """What all feature spaces share."""

    recordings: Sequence[Recording]
    stimuli: Mapping[str, Stimulus]
    baseline: tuple[str, ...]
    aligner: Aligner
    encoder: BaseEstimator
    splits: Splits
    store: Store | None

    def by_subject(self) -> dict[str, list[Recording]]:
        """Each subject's recordings."""
        return by_subject(self.recordings)

    def subject(self, recordings: Sequence[Recording]) -> Subject:
        """What the samples of one subject are made of."""
        return Subject(recordings, self.stimuli, self.baseline, self.aligner, self.splits)

    def _stories(self, recordings: Sequence[Recording]) -> dict[str, str]:
        stories = {r.stimulus: self.stimuli[r.stimulus].story for r in recordings}
        return {stimulus: story for stimulus, story in stories.items() if story}

    def key_of_fit(self, space: Mapping[str, Any], recordings: Sequence[Recording]) -> str:
        """The key of one subject's fit: a digest of all that it depends on."""
        words = {recording.stimulus: self.stimuli[recording.stimulus].words for recording in recordings}
        items = {stimulus: table["item"].tolist() for stimulus, table in words.items() if "item" in table}
        return digest_of(
            {
                "what": "fit",
                "code": CODE_VERSION,
                "features": space,
                "stimuli": {r.stimulus: stimulus_digest(self.stimuli[r.stimulus]) for r in recordings},
                "recordings": [[r.digest, r.stimulus, r.offset_s, r.clock.step_s, r.clock.start_s] for r in recordings],
                # Whatever a loader's digest forgets: scores are of these targets, which lie there.
                "targets": list(dict.fromkeys(_digest_of_targets(recording.targets) for recording in recordings)),
                "baseline": list(self.baseline),
                "alignment": [type(self.aligner).__name__, settings_of(self.aligner)],
                "encoder": [type(self.encoder).__name__, repr(settings_of(self.encoder))],
                "splits": settings_of(self.splits),
                **({"items": items} if items else {}),
                **({"stories": stories} if (stories := self._stories(recordings)) else {}),
            }
        )


def _digest_of_targets(targets: pd.DataFrame) -> str:
    values = pd.util.hash_pandas_object(targets, index=False).to_numpy()
    return hashlib.sha256(values.tobytes() + ",".join(map(str, targets.columns)).encode()).hexdigest()


def _score_space(
    study: Study, space: Extractor, n_jobs: int, progress: Progress
) -> tuple[tuple[str, ...], Mapping[str, Any], dict[str, UnitScores]]:
    """Layer names, metadata, and each subject's scores in one feature space; only what is missing is computed."""
    fingerprint = dict(space.fingerprint())
    subjects = study.by_subject()
    keys = {subject: study.key_of_fit(fingerprint, recordings) for subject, recordings in subjects.items()}
    done: dict[str, UnitScores] = {}
    layers: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = {}
    for subject, key in keys.items():
        entry = study.store.get(key) if study.store else None
        if entry is not None:
            done[subject] = UnitScores(entry.arrays, entry.facts)
            layers, metadata = tuple(entry.facts["layers"]), entry.facts["metadata"]
    missing = [subject for subject in subjects if subject not in done]
    if missing:
        features = extract_features(space, study.stimuli, study.store, progress)
        progress(f"fit {space.name}", len(done), len(subjects))
        layers, metadata = next(iter(features.values())).layers, _metadata(space.name, features)
        units = [Unit(study.subject(subjects[subject]), features, study.encoder) for subject in missing]
        for number, scores in _fit_all(units, n_jobs):
            facts = {**scores.facts, "what": "fit", "name": space.name, "layers": list(layers), "metadata": metadata}
            if study.store:
                study.store.put(keys[missing[number]], scores.arrays, facts)
            done[missing[number]] = UnitScores(scores.arrays, facts)
            progress(f"fit {space.name}", len(done), len(subjects))
    return layers, metadata, {subject: done[subject] for subject in subjects}


def _metadata(space: str, features: Mapping[str, Features]) -> dict[str, Any]:
    """What is kept of how features were made: of one stimulus, and what was found in all of them."""
    first = next(iter(features.values()))
    found = [Finding(**finding) for one in features.values() for finding in one.metadata["findings"]]
    found = [_with_code(finding) for finding in found] + feature_outliers(space, features)
    return {**first.metadata, "dimension": first.values.shape[2], "findings": [vars(finding) for finding in found]}


def _with_code(finding: Finding) -> Finding:
    """A stage warns in words alone: its code is that which the message begins with, where it has one."""
    code, message = split_code(finding.message)
    return replace(finding, code=code, message=message) if code else finding


def _fitted(
    study: Study,
    spaces: Sequence[Extractor],
    results: Sequence[Result],
    progress: Progress,
) -> Fitted:
    """What questions are given: the subjects that have scores, their fits, and the features when asked for."""
    recordings = study.by_subject()
    subjects = [subject for subject, scores in results[0][3].items() if scores.arrays]
    fingerprints = [(space.name, dict(space.fingerprint())) for space in spaces]

    def key(subject: str) -> str:
        # Questions ask for spaces by name, which is nothing that a fit depends on.
        fits = [[name, study.key_of_fit(fingerprint, recordings[subject])] for name, fingerprint in fingerprints]
        return digest_of({"fits": fits})

    return Fitted(
        subjects={subject: study.subject(recordings[subject]) for subject in subjects},
        keys={subject: key(subject) for subject in subjects},
        fits={subject: {name: fits[subject].arrays for name, _, _, fits in results} for subject in subjects},
        features=_WhenAsked({space.name: space for space in spaces}, study, progress),
        encoder=study.encoder,
    )


class _WhenAsked(Mapping[str, Mapping[str, Features]]):
    """Features of each space, extracted or read when they are first asked for."""

    def __init__(self, spaces: Mapping[str, Extractor], study: Study, progress: Progress) -> None:
        self._spaces, self._study, self._progress = spaces, study, progress
        self._read: dict[str, Mapping[str, Features]] = {}

    def __getitem__(self, name: str) -> Mapping[str, Features]:
        if name not in self._read:
            self._read[name] = extract_features(
                self._spaces[name], self._study.stimuli, self._study.store, self._progress
            )
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._spaces)

    def __len__(self) -> int:
        return len(self._spaces)


def _fit_all(units: Sequence[Unit], n_jobs: int) -> Iterator[tuple[int, UnitScores]]:
    """Each unit's number and scores, as they come; units that may share a design go together."""
    groups = shareable(units)
    if n_jobs == 1 or len(groups) == 1:
        results = map(fit_units, ([units[number] for number in group] for group in groups))
        yield from _numbered(groups, results)
        return
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        calls = (joblib.delayed(fit_units)([units[number] for number in group]) for group in groups)
        parallel = joblib.Parallel(n_jobs=min(n_jobs, len(groups)), return_as="generator")
        yield from _numbered(groups, parallel(calls))


def _numbered(groups: Sequence[Sequence[int]], results: Iterable[list[UnitScores]]) -> Iterator[tuple[int, UnitScores]]:
    for group, scores in zip(groups, results, strict=True):
        yield from zip(group, scores, strict=True)
