"""A study: which recordings, stimuli, feature spaces and settings go together, and under which keys results lie."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pandas as pd
from sklearn.base import BaseEstimator

from brainalign.config import alignment_of, check_alignment, settings_of
from brainalign.encoding import RidgeEncoder, Splits
from brainalign.errors import DataError
from brainalign.files import digest_of
from brainalign.pipeline.aligned import Subject
from brainalign.pipeline.baselines import baseline_names, check_baseline
from brainalign.pipeline.extraction import stimulus_digest
from brainalign.pipeline.spaces import Space, by_subject, check_features, spaces_of
from brainalign.questions import Question
from brainalign.registry import ALIGNMENTS, find
from brainalign.types import Aligner, Dataset, Extractor, Recording, Stimulus

__all__ = ["CODE_VERSION", "Study"]

# Raised when the same settings and data would give other scores than before.
CODE_VERSION = 10


@dataclass(frozen=True)
class Study:
    """What all feature spaces, subjects and questions share.

    Parameters
    ----------
    data : Dataset
    recordings : sequence of Recording
    stimuli : mapping of id -> Stimulus
        Those of the recordings.
    spaces : sequence of Extractor
    baseline : tuple of str
    aligner : Aligner
    encoder : scikit-learn estimator
    splits : Splits
    questions : sequence of Question
    """

    data: Dataset
    recordings: Sequence[Recording]
    stimuli: Mapping[str, Stimulus]
    spaces: Sequence[Extractor]
    baseline: tuple[str, ...]
    aligner: Aligner
    encoder: BaseEstimator
    splits: Splits
    questions: Sequence[Question] = ()

    @classmethod
    def of(
        cls,
        data: Dataset,
        features: Space | Sequence[Space],
        baseline: Sequence[str] | Literal["auto"] = "auto",
        alignment: Aligner | None = None,
        encoder: BaseEstimator | None = None,
        splits: Splits | None = None,
        questions: Sequence[Question] = (),
    ) -> Study:
        """A study with the defaults filled in; parameters are those of `score_layers`.

        Raises
        ------
        BrainalignError
            If data, features and settings cannot go together.
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
        return cls(
            data,
            recordings,
            stimuli,
            spaces,
            names,
            alignment,
            encoder if encoder is not None else RidgeEncoder(),
            splits if splits is not None else Splits(),
            questions,
        )

    @cached_property
    def subjects(self) -> dict[str, list[Recording]]:
        """Each subject's recordings."""
        return by_subject(self.recordings)

    def subject(self, name: str) -> Subject:
        """What the samples of one subject are made of."""
        return Subject(self.subjects[name], self.stimuli, self.baseline, self.aligner, self.splits)

    @cached_property
    def fingerprints(self) -> dict[str, dict[str, Any]]:
        """What each feature space's values depend on; reading it finds the models' files."""
        return {space.name: dict(space.fingerprint()) for space in self.spaces}

    @cached_property
    def _digests_of_stimuli(self) -> dict[str, str]:
        return {name: stimulus_digest(stimulus) for name, stimulus in self.stimuli.items()}

    def key_of_fit(self, space: str, subject: str) -> str:
        """The key of one subject's fit to a feature space: a digest of all that it depends on."""
        return digest_of({"features": self.fingerprints[space], **self._told_of_subjects[subject]})

    @cached_property
    def _told_of_subjects(self) -> dict[str, dict[str, Any]]:
        """What the fits of each subject depend on besides the features: the same for all spaces."""
        shared = {
            "what": "fit",
            "code": CODE_VERSION,
            "baseline": list(self.baseline),
            "alignment": [type(self.aligner).__name__, settings_of(self.aligner)],
            "encoder": [type(self.encoder).__name__, repr(settings_of(self.encoder))],
            "splits": settings_of(self.splits),
        }
        return {subject: shared | self._told_of_data(recordings) for subject, recordings in self.subjects.items()}

    def _told_of_data(self, recordings: Sequence[Recording]) -> dict[str, Any]:
        """What the fits of these recordings depend on."""
        heard = {recording.stimulus: self.stimuli[recording.stimulus] for recording in recordings}
        items = {name: stimulus.words["item"].tolist() for name, stimulus in heard.items() if "item" in stimulus.words}
        stories = {name: stimulus.story for name, stimulus in heard.items() if stimulus.story}
        # One table serves many recordings of a subject.
        tables = {id(recording.targets): recording.targets for recording in recordings}
        return {
            "stimuli": {name: self._digests_of_stimuli[name] for name in heard},
            "recordings": [[r.digest, r.stimulus, r.offset_s, r.clock.step_s, r.clock.start_s] for r in recordings],
            # Whatever a loader's digest forgets: scores are of these targets, which lie there.
            "targets": list(dict.fromkeys(_digest_of_targets(table) for table in tables.values())),
            **({"items": items} if items else {}),
            **({"stories": stories} if stories else {}),
        }

    @cached_property
    def keys_of_fits(self) -> dict[str, dict[str, str]]:
        """The keys of all fits: feature space -> subject -> key."""
        return {
            space.name: {subject: self.key_of_fit(space.name, subject) for subject in self.subjects}
            for space in self.spaces
        }

    @cached_property
    def keys_of_subjects(self) -> dict[str, str]:
        """What answers about each subject depend on: its fits to all feature spaces, which are asked for by name."""
        fits = self.keys_of_fits
        return {
            subject: digest_of({"fits": [[space, keys[subject]] for space, keys in fits.items()]})
            for subject in self.subjects
        }


def _digest_of_targets(targets: pd.DataFrame) -> str:
    values = pd.util.hash_pandas_object(targets, index=False).to_numpy()
    return hashlib.sha256(values.tobytes() + ",".join(map(str, targets.columns)).encode()).hexdigest()
