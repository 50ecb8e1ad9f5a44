"""What units are expected to cost: operations, memory and disk, from what is known before anything is computed.

Operations of fits are counted as `brainalign.encoding.planning` counts them; those of features by the models'
configurations; those of answers by the formulas of `answer_costs`. All are about right, not exact: what a machine makes
of them is learnt from the units that it has done (`rates`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np

from brainalign.alignment import Epochs, Hemodynamic
from brainalign.features import SOUND_ENVELOPE, LanguageModel, SpeechModel, Surprisal
from brainalign.features.naming import Named
from brainalign.pipeline.answer_costs import Fits, operations_of_answer
from brainalign.pipeline.design_costs import Design, operations_of_layer
from brainalign.pipeline.plan import Cost
from brainalign.pipeline.study import Study
from brainalign.questions import Question
from brainalign.types import Expected, Extractor, Recording, Stimulus

__all__ = ["Costs"]

# Of an interpreter with the libraries that a unit needs, and of one with torch as well.
PROCESS_BYTES, TORCH_BYTES = 320e6, 800e6
# Of words' features whose space does not tell.
UNTOLD_DIMENSION, UNTOLD_OPERATIONS = 64, 1e6
# Reading, cleaning and checking a number of a response takes as long as so many operations; so do beginning a unit, and
# what of a fold of a layer is no product.
OPERATIONS_OF_NUMBER, OPERATIONS_OF_UNIT, OPERATIONS_OF_FOLD = 500.0, 1.5e9, 3e8
# Arrays of responses and of placed features that are there at once, in bytes of a number.
BYTES_OF_RESPONSE, BYTES_OF_FEATURE = 36.0, 20.0
# Matrices of the size that is factorised, of eight bytes.
FACTORS = 6
# Layers beyond are placed in a second pass.
LAYERS_BYTES = 512 * 2**20
# Of facts beside arrays.
RECORD_BYTES = 4096.0
# Seconds within which no two words of a moment are told apart, for the step between word-locked samples.
LEAST_STEP_S = 0.01


@runtime_checkable
class _TellsExpected(Protocol):
    def expected(self, stimulus: Stimulus) -> Expected | None: ...


class Costs:
    """What the units of a study are expected to cost.

    Parameters
    ----------
    study : Study

    Examples
    --------
    >>> from brainalign.datasets import load_dataset
    >>> from brainalign.features import ToyModel
    >>> data = load_dataset("simulated", options={"n_subjects": 2, "n_runs": 3, "n_words": 200})
    >>> costs = Costs(Study.of(data, ToyModel(n_layers=2)))
    >>> one, two = (costs.of_fit(costs.study.spaces[0], subjects) for subjects in (["01"], ["01", "02"]))
    >>> 1 < two.operations / one.operations < 2
    True
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self._expected: dict[tuple[str, str], Expected] = {}
        self._shapes: dict[str, tuple[int, int]] = {}

    def of_extraction(self, space: Extractor, stimulus: Stimulus) -> Cost:
        """What a stimulus's features cost."""
        expected = self._of(space, stimulus.id)
        n_bytes = 4.0 * float(np.prod(expected.shape))
        memory = _process(space) + expected.memory_bytes + n_bytes
        return Cost(expected.operations + OPERATIONS_OF_UNIT, memory, n_bytes + RECORD_BYTES)

    def of_fit(self, space: Extractor, subjects: Sequence[str]) -> Cost:
        """What fitting some subjects to a feature space costs."""
        n_layers, dimension = self._shape(space)
        designs = [self.designs[subject] for subject in subjects]
        columns = [self.columns[subject] for subject in subjects]
        design, width = designs[0], dimension * self.delays[subjects[0]]
        # What they share is done once: they are one problem with more targets.
        products = n_layers * self._of_layer(design, width, sum(columns))
        aligning = OPERATIONS_OF_NUMBER * sum(one.n_samples * n for one, n in zip(designs, columns, strict=True))
        n_scores = (10 if self.n_baseline else 4) * n_layers * self.n_folds(design) * sum(columns)
        return Cost(
            products + aligning + OPERATIONS_OF_UNIT,
            PROCESS_BYTES + self._bytes_of_fit(design, n_layers, width, sum(columns)) + 8.0 * n_scores,
            4.0 * n_scores + RECORD_BYTES * len(subjects),
        )

    def of_answer(self, question: Question, subject: str, space: str | None = None) -> Cost:
        """What answering a question about a subject costs; of one feature space, or of all together."""
        design, columns = self.designs[subject], self.columns[subject]
        shapes = [self._shape(one) for one in self.study.spaces if space in (None, one.name)]
        layers = [(n_layers, dimension * self.delays[subject]) for n_layers, dimension in shapes]
        fits = Fits(
            design,
            columns,
            layers,
            self.n_baseline,
            self.n_folds(design),
            len(self.study.subjects),
            lambda n_features, n_targets: self._of_layer(design, n_features, n_targets),
        )
        widest = max((width for _, width in layers), default=1)
        most = max((n_layers for n_layers, _ in layers), default=1)
        operations, kept = operations_of_answer(question, fits)
        n_heard = len(self.study.subjects) if question.of_group else 1
        aligning = OPERATIONS_OF_NUMBER * design.n_samples * columns * n_heard
        others = BYTES_OF_RESPONSE / 3 * design.n_samples * columns * (n_heard - 1)
        memory = PROCESS_BYTES + self._bytes_of_fit(design, most, widest, columns) + others + 2 * 4.0 * kept
        return Cost(operations + aligning + OPERATIONS_OF_UNIT, memory, 4.0 * kept + RECORD_BYTES)

    def n_folds(self, design: Design) -> int:
        """The outer folds."""
        splits = self.study.splits
        by_run = splits.outer == "run" or (splits.outer == "auto" and design.n_runs >= 3)
        return design.n_runs if by_run else splits.n_splits

    @cached_property
    def designs(self) -> Mapping[str, Design]:
        """Each subject's samples, as far as they are known."""
        return {name: self._design(recordings) for name, recordings in self.study.subjects.items()}

    @cached_property
    def columns(self) -> Mapping[str, int]:
        """Each subject's targets, times latencies where there are some."""
        aligner = self.study.aligner
        n_latencies = len(aligner.latencies_s) if isinstance(aligner, Epochs) else 1
        return {name: len(of_one[0].targets) * n_latencies for name, of_one in self.study.subjects.items()}

    @cached_property
    def delays(self) -> Mapping[str, int]:
        """How many delayed copies of the features each subject's design holds."""
        aligner = self.study.aligner
        if not isinstance(aligner, Hemodynamic):
            return dict.fromkeys(self.study.subjects, 1)
        return {
            name: len(aligner.volumes_of_delay(of_one[0].clock.step_s)) for name, of_one in self.study.subjects.items()
        }

    @cached_property
    def n_baseline(self) -> int:
        """Columns of the baseline; of the first subject, where delays differ."""
        n_delays = next(iter(self.delays.values()), 1)
        return sum(1 if name == SOUND_ENVELOPE else n_delays for name in self.study.baseline)

    @cached_property
    def _durations(self) -> Mapping[str, float]:
        return {name: stimulus.duration_s for name, stimulus in self.study.stimuli.items()}

    @cached_property
    def _n_items(self) -> Mapping[str, int]:
        """Samples of each stimulus that are words or items, not moments."""
        return {
            name: int(stimulus.words["item"].nunique()) if "item" in stimulus.words else len(stimulus.words)
            for name, stimulus in self.study.stimuli.items()
        }

    def _design(self, recordings: Sequence[Recording]) -> Design:
        n_samples = sum(self._n_samples(recording) for recording in recordings)
        heard = dict.fromkeys(recording.stimulus for recording in recordings)
        n_runs = len({self.study.stimuli[name].story or name for name in heard})
        seconds = sum(self._durations[recording.stimulus] for recording in recordings)
        step_s = max(seconds / n_samples, LEAST_STEP_S)
        # To two digits: one count then serves all subjects who heard about as much.
        n_each = max(1, int(_two_digits(n_samples / n_runs)))
        return Design(n_runs, n_each, _two_digits(step_s), self.study.splits, self.study.aligner.span_s)

    def _n_samples(self, recording: Recording) -> int:
        aligner = self.study.aligner
        if not isinstance(aligner, Hemodynamic):
            return max(1, self._n_items[recording.stimulus])
        seconds = self._durations[recording.stimulus] - sum(aligner.trim_s)
        return max(1, int(seconds / recording.clock.step_s))

    def _of_layer(self, design: Design, n_features: int, n_targets: int) -> float:
        products = operations_of_layer(self.study.encoder, design, n_features, n_targets, self.n_baseline)
        return products + OPERATIONS_OF_FOLD * self.n_folds(design)

    def _bytes_of_fit(self, design: Design, n_layers: int, width: int, columns: int) -> float:
        """Responses, features placed and as they are read, and what is factorised."""
        n, narrow = design.n_samples, min(design.n_samples, width)
        placed = min(n_layers * n * width * 4.0, LAYERS_BYTES) + BYTES_OF_FEATURE * n * width
        return BYTES_OF_RESPONSE * n * columns + placed + 8.0 * FACTORS * narrow**2

    def _of(self, space: Extractor, stimulus: str) -> Expected:
        key = (space.name, stimulus)
        if key not in self._expected:
            self._expected[key] = _expected(space, self.study.stimuli[stimulus])
        return self._expected[key]

    def _shape(self, space: Extractor) -> tuple[int, int]:
        """Layers and dimension of a space; the same for all stimuli."""
        if space.name not in self._shapes:
            shape = self._of(space, next(iter(self.study.stimuli))).shape
            self._shapes[space.name] = (shape[0], shape[2])
        return self._shapes[space.name]


def _expected(space: Extractor, stimulus: Stimulus) -> Expected:
    told = space.expected(stimulus) if isinstance(space, _TellsExpected) else None
    if told is not None:
        return told
    n_words = len(stimulus.words)
    return Expected((1, n_words, UNTOLD_DIMENSION), UNTOLD_OPERATIONS * n_words)


def _process(space: Extractor) -> float:
    """Bytes of the process before it holds anything."""
    made = space.space if isinstance(space, Named) else space
    return TORCH_BYTES if isinstance(made, (LanguageModel, SpeechModel, Surprisal)) else PROCESS_BYTES


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")
