"""What is asked of scores, answered: what is found about each subject is kept, and put together for the study."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
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
from brainalign.questions.study import joined
from brainalign.store import Store
from brainalign.types import Features, Finding, Floats, Scores

__all__ = ["Fitted", "answer", "answered", "asked_apart", "key_of_answer"]

# Of the free memory, what responses may fill that are kept for the next question, or for other subjects' questions.
MEMORY_SHARE = 0.125
# Raised when a question with the same settings and fits would give other numbers than before.
CODE_VERSION = 3


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
        apart = asked_apart(fitted.study, question)
        n_all = len(fitted.fits) * len(apart)
        progress(question.section, 0, n_all)
        for subject in fitted.fits:
            of_spaces: list[Part] = []
            for space in apart:
                of_spaces.append(answer(question, subject, fitted, store, space))
                progress(question.section, len(parts) * len(apart) + len(of_spaces), n_all)
            parts[subject] = joined(of_spaces) if question.by_space else of_spaces[0]
        found = question.of_study(parts, scores)
        findings = [finding for part in parts.values() for finding in part.findings]
        findings += found.attrs.get("findings", [])
        # Several questions may say the same, as of intervals over few subjects.
        new = [one for one in map(vars, dict.fromkeys(findings)) if one not in scores.attrs["findings"]]
        told = {name: value for name, value in found.attrs.items() if name != "findings"}
        attrs = {
            **scores.attrs,
            "findings": [*scores.attrs["findings"], *new],
            "answers": {**scores.attrs.get("answers", {}), question.section: {**settings_of(question), **told}},
        }
        scores = scores.assign(found.data_vars).assign_coords(found.coords)
        scores.attrs = attrs
    return scores


def asked_apart(study: Study, question: Question) -> Sequence[str | None]:
    """The feature spaces that a question is asked of one by one; None alone where it is asked of all together."""
    return [space.name for space in study.spaces] if question.by_space else [None]


def key_of_answer(study: Study, question: Question, subject: str, space: str | None = None) -> str:
    """The key of what a question finds about a subject (in a space): a digest of all that it depends on."""
    keys = study.keys_of_subjects if space is None else study.keys_of_fits[space]
    return digest_of(
        {
            "what": "answer",
            "code": CODE_VERSION,
            "question": [question.section, settings_of(question)],
            "subject": subject,
            "fits": keys if question.of_group else {subject: keys[subject]},
        }
    )


def answer(question: Question, subject: str, fitted: Fitted, store: Store | None, space: str | None = None) -> Part:
    """What a question finds about one subject, read where it is known; nothing about one who was left out.

    `space` is the feature space that it is asked of, None where it is asked of all together.
    """
    key = key_of_answer(fitted.study, question, subject, space)
    known = _read(store, key) if store else None
    if known is not None:
        return known
    started = time.perf_counter()
    part = question.of_subject(_data_of(subject, fitted, space)) if subject in fitted.fits else Part({})
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


def _data_of(subject: str, fitted: Fitted, space: str | None) -> SubjectData:
    study, samples = fitted.study, fitted.samples(subject)
    first = study.subjects[subject][0]
    fits = fitted.fits[subject]
    others = [other for other in fitted.fits if other != subject]
    return SubjectData(
        samples=samples,
        targets=first.targets,
        space=first.space,
        features=fitted.features if space is None else {space: fitted.features[space]},
        fits=fits if space is None else {space: fits[space]},
        stimuli=study.stimuli,
        aligner=study.aligner,
        encoder=encoder_for(study.encoder, samples),
        others=lambda: (_data_of(other, fitted, space) for other in others),
    )
