"""What is asked of scores, answered: what is found about each subject is kept, and put together for the study."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from brainalign.config import settings_of
from brainalign.encoding import Samples
from brainalign.files import digest_of
from brainalign.limits import free_memory
from brainalign.pipeline.aligned import aligned
from brainalign.pipeline.extraction import Progress
from brainalign.pipeline.fit import encoder_for
from brainalign.pipeline.machine import made_here
from brainalign.pipeline.study import Study
from brainalign.questions import Part, Question, SubjectData
from brainalign.store import Store
from brainalign.types import Features, Finding, Floats, Scores

__all__ = ["Fitted", "answer", "answered", "key_of_answer"]

# Of the free memory, what responses may fill that are kept for the next question, or for other subjects' questions.
MEMORY_SHARE = 0.125
# Raised when a question with the same settings and fits would give other numbers than before.
CODE_VERSION = 2


@dataclass(frozen=True)
class Fitted:
    """A study whose fits are there, and how to have more of it.

    Parameters
    ----------
    study : Study
    fits : mapping of subject -> feature space -> name -> array
        Of those who have scores, in the order of the scores.
    features : mapping of feature space -> stimulus -> Features
        Read when asked for.
    """

    study: Study
    fits: Mapping[str, Mapping[str, Mapping[str, Floats]]]
    features: Mapping[str, Mapping[str, Features]]
    _aligned: dict[str, Samples] = field(default_factory=dict, init=False, repr=False)

    def samples(self, subject: str) -> Samples:
        """The subject's samples; kept where they are few, since reading and aligning them takes long."""
        if subject in self._aligned:
            return self._aligned[subject]
        samples, _ = aligned(self.study.subject(subject))
        assert samples is not None  # it has scores
        if sum(one.responses.nbytes for one in (samples, *self._aligned.values())) < MEMORY_SHARE * free_memory():
            self._aligned[subject] = samples
        return samples


def answered(scores: Scores, fitted: Fitted, store: Store | None, progress: Progress) -> Scores:
    """Add to the scores what each question of the study finds."""
    for question in fitted.study.questions:
        parts: dict[str, Part] = {}
        progress(question.section, 0, len(fitted.fits))
        for subject in fitted.fits:
            parts[subject] = answer(question, subject, fitted, store)
            progress(question.section, len(parts), len(fitted.fits))
        found = question.of_study(parts, scores)
        findings = [finding for part in parts.values() for finding in part.findings]
        findings += found.attrs.get("findings", [])
        told = {name: value for name, value in found.attrs.items() if name != "findings"}
        attrs = {
            **scores.attrs,
            "findings": [*scores.attrs["findings"], *map(vars, dict.fromkeys(findings))],
            "answers": {**scores.attrs.get("answers", {}), question.section: {**settings_of(question), **told}},
        }
        scores = scores.assign(found.data_vars).assign_coords(found.coords)
        scores.attrs = attrs
    return scores


def key_of_answer(study: Study, question: Question, subject: str) -> str:
    """The key of what a question finds about a subject: a digest of all that it depends on."""
    keys = study.keys_of_subjects
    return digest_of(
        {
            "what": "answer",
            "code": CODE_VERSION,
            "question": [question.section, settings_of(question)],
            "subject": subject,
            "fits": keys if question.of_group else {subject: keys[subject]},
        }
    )


def answer(question: Question, subject: str, fitted: Fitted, store: Store | None) -> Part:
    """What a question finds about one subject, read where it is known; nothing about one who was left out."""
    key = key_of_answer(fitted.study, question, subject)
    known = _read(store, key) if store else None
    if known is not None:
        return known
    started = time.perf_counter()
    part = question.of_subject(_data_of(subject, fitted)) if subject in fitted.fits else Part({})
    if store:
        found = {"findings": [vars(one) for one in part.findings], "facts": dict(part.facts)}
        made = made_here(time.perf_counter() - started)
        store.put(key, part.arrays, {"what": "answer", "name": question.section, **found, "made": made})
        # From here on it lies on disk: those of all subjects together may be large.
        return _read(store, key) or part
    return part


def _read(store: Store, key: str) -> Part | None:
    entry = store.get(key)
    if entry is None:
        return None
    return Part(entry.on_disk, tuple(Finding(**one) for one in entry.facts["findings"]), entry.facts["facts"])


def _data_of(subject: str, fitted: Fitted) -> SubjectData:
    study, samples = fitted.study, fitted.samples(subject)
    first = study.subjects[subject][0]
    others = [other for other in fitted.fits if other != subject]
    return SubjectData(
        samples=samples,
        targets=first.targets,
        space=first.space,
        features=fitted.features,
        fits=fitted.fits[subject],
        stimuli=study.stimuli,
        aligner=study.aligner,
        encoder=encoder_for(study.encoder, samples),
        others=lambda: (_data_of(other, fitted) for other in others),
    )
