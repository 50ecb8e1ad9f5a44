"""What answers are expected to cost: roughly, by the products that each question asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from brainalign.pipeline.design_costs import Design
from brainalign.questions import Question, Tests

__all__ = ["Fits", "operations_of_answer"]

# A product in float64 counts as two; all of these are.
DOUBLE = 2.0
# Different penalties that the targets of a fold choose, each with a matrix of its own.
PENALTIES_CHOSEN = 6
# Rungs below the layers of a ladder, and components that spaces are reduced to in a decoding or a forecast.
RUNGS = 3
# Drawing, sorting and comparing a number takes as long as so many operations.
OPERATIONS_OF_NUMBER = 200.0


@dataclass(frozen=True)
class Fits:
    """What is known of a subject's fits before they are made.

    Parameters
    ----------
    design : Design
    columns : int
        Targets, times latencies.
    layers : sequence of (int, int)
        Layers and width of each feature space that is asked about.
    n_baseline, n_folds, n_subjects : int
    of_layer : callable
        Operations of one layer's fits, of so many features and targets.
    """

    design: Design
    columns: int
    layers: Sequence[tuple[int, int]]
    n_baseline: int
    n_folds: int
    n_subjects: int
    of_layer: Callable[[int, int], float]

    @property
    def n_layers(self) -> int:
        """Of all spaces."""
        return sum(n_layers for n_layers, _ in self.layers)

    @property
    def once(self) -> float:
        """Operations of fitting all layers once more."""
        return sum(n_layers * self.of_layer(width, self.columns) for n_layers, width in self.layers)

    @property
    def one_layer(self) -> float:
        """Operations of fitting one layer of the widest space."""
        return max((self.of_layer(width, self.columns) for _, width in self.layers), default=0.0)


def operations_of_answer(question: Question, fits: Fits) -> tuple[float, float]:
    """Operations that an answer takes, and how many numbers it leaves.

    A question that stands in no table here counts as fitting all layers once more.
    """
    count = _COUNTS.get(question.section)
    operations = count(question, fits) if count else fits.once
    return operations, _kept(question, fits)


def _of_surrogates(fits: Fits, n_surrogates: int, n_layers: int | None = None) -> float:
    """Predictors of each fold and penalty, and a product of each with each surrogate's responses."""
    n, folds = fits.design.n_samples, fits.n_folds
    n_train = n * (1 - 1 / folds)
    n_statistics = 2 if fits.n_baseline else 1
    n_all = fits.n_layers if n_layers is None else n_layers
    predictors = 0.0
    for n_of_space, width in fits.layers:
        narrow = min(width, n_train)
        one = 2 * n_train * width * narrow + PENALTIES_CHOSEN * (2 * narrow**3 + 2 * n_train * narrow * n / folds)
        predictors += n_of_space * folds * DOUBLE * one
    predictors *= n_all / max(1, fits.n_layers)
    products = DOUBLE * 2 * n * n_train * fits.columns * n_surrogates * n_all
    scored = OPERATIONS_OF_NUMBER * n * fits.columns * n_surrogates * n_all
    return n_statistics * (predictors + products + scored)


def _tests(question: Any, fits: Fits) -> float:
    return _of_surrogates(fits, question.permutations)


def _ceiling(question: Any, fits: Fits) -> float:
    n, drawn = fits.design.n_samples, question.n_bootstrap * OPERATIONS_OF_NUMBER
    correlated = fits.n_subjects * n * fits.columns * (drawn + 10)
    if not question.predict_from_others or fits.n_subjects < 2:
        return correlated
    return correlated + fits.of_layer(min(fits.columns * (fits.n_subjects - 1), n), fits.columns)


def _ladder(question: Any, fits: Fits) -> float:
    return sum(
        (1 + RUNGS) * min(question.n_layers, n_layers) * fits.of_layer(width, fits.columns)
        for n_layers, width in fits.layers
    )


def _partition(question: Any, fits: Fits) -> float:
    n_subsets = 2 ** len(question.spaces) - 1
    return n_subsets * (question.n_iter + 3) * fits.one_layer


def _forecast(question: Any, fits: Fits) -> float:
    n_distances = 10 if question.distances is None else len(question.distances)
    n_variants = 1 + len(question.variants) + (1 if question.passive else 0)
    once = n_distances * n_variants * fits.one_layer
    by_layer = fits.n_layers * fits.one_layer * ((2 if question.depth else 0) + (2 if question.horizon else 0))
    return once + by_layer + _of_surrogates(fits, question.permutations * n_distances, 1)


def _profile(question: Any, fits: Fits) -> float:
    refits = (1 if question.nested else 0) * OPERATIONS_OF_NUMBER * fits.n_layers * fits.columns * fits.n_folds
    halves = fits.once if question.halves else 0.0
    return refits + halves + _of_surrogates(fits, question.permutations)


def _compare(question: Any, fits: Fits) -> float:
    n, draws = fits.design.n_samples, 1 + question.permutations
    each = [DOUBLE * 2 * n**2 * (width + fits.columns) + OPERATIONS_OF_NUMBER * n**2 for _, width in fits.layers]
    n_measures = len(question.measures)
    return n_measures * sum(
        n_layers * (one + draws * OPERATIONS_OF_NUMBER * n**2)
        for (n_layers, _), one in zip(fits.layers, each, strict=True)
    )


def _decoding(question: Any, fits: Fits) -> float:
    n_decoded = question.n_components or 20
    backward = fits.n_layers * fits.of_layer(fits.columns, n_decoded)
    return backward + DOUBLE * 2 * fits.design.n_samples**2 * n_decoded * fits.n_layers * question.permutations


_COUNTS: Mapping[str, Callable[[Any, Fits], float]] = {
    "tests": _tests,
    "ceiling": _ceiling,
    "ladder": _ladder,
    "partition": _partition,
    "forecast": _forecast,
    "profile": _profile,
    "compare": _compare,
    "decoding": _decoding,
}


def _kept(question: Any, fits: Fits) -> float:
    """Numbers that an answer leaves: some of each layer and column, and the null scores where they are not many."""
    scores = 12.0 * fits.n_layers * fits.columns
    n_draws = getattr(question, "permutations", 0)
    by_column = isinstance(question, Tests) and question.keeps_null(fits.n_layers, fits.columns)
    n_statistics = 2 if fits.n_baseline else 1
    return scores + float(n_statistics * n_draws * fits.n_layers * (fits.columns if by_column else 1))
