"""Several score files, one for each context of a model, become a curve with the window that was planted."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainalign.alignment import Epochs
from brainalign.analysis.hierarchies.context_curves import context_curve
from brainalign.analysis.hierarchies.size_curves import size_curve
from brainalign.analysis.hierarchies.stacked_scores import stack_scores
from brainalign.errors import DataError
from brainalign.features import own_space
from brainalign.pipeline import open_scores, score_layers
from brainalign.pipeline.results import save_scores
from brainalign.simulate import InMemory
from brainalign.types import Clock, Recording, Stimulus

CONTEXTS = (1, 2, 4, 8)
PLANTED = 4
WORD_S, RATE_HZ = 0.5, 20
N_WORDS = 200


def read(stimulus: Stimulus, context: int) -> np.ndarray:
    """Each word's vectors of itself and as many words before it as the context holds, newest first."""
    vectors = np.random.default_rng(ord(stimulus.id[-1])).normal(size=(len(stimulus.words), 2))
    padded = np.vstack([np.zeros((max(CONTEXTS), 2)), vectors])
    start, stop = max(CONTEXTS), len(padded)
    seen = [padded[start - back : stop - back] * (back < context) for back in range(max(CONTEXTS))]
    return np.hstack(seen)[:, : 2 * context]


@pytest.fixture(scope="module")
def data() -> InMemory:
    """Three subjects whose responses at 0.1 s follow the last four words."""
    onset_s = np.arange(N_WORDS) * WORD_S
    words = pd.DataFrame({"onset": onset_s, "duration": 0.3, "text": "word"})
    stimuli = {f"story{k}": Stimulus(f"story{k}", words.assign(text=f"word{k}")) for k in range(3)}
    rows = np.rint((onset_s + 0.6) * RATE_HZ).astype(int)
    given = []
    for subject in "abc":
        weights = np.random.default_rng(ord(subject)).normal(size=(2 * PLANTED, 3))
        for k, (name, stimulus) in enumerate(stimuli.items()):
            values = np.random.default_rng([ord(subject), k]).normal(size=(int((N_WORDS + 2) * WORD_S * RATE_HZ), 3))
            signal = read(stimulus, PLANTED) @ weights
            values[rows] = signal / signal.std(axis=0) + 0.5 * values[rows]
            targets = pd.DataFrame({"name": ["x", "y", "z"], "kind": "sensor"})
            array = partial(np.array, values.astype(np.float32))
            given.append(Recording(subject, name, name, "meg", Clock(0.05), 0.5, targets, array, f"{subject}{name}"))
    return InMemory("planted", "Planted", "meg", stimuli, given)


@pytest.fixture(scope="module")
def files(data: InMemory, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("scores")
    for context in CONTEXTS:
        space = own_space(partial(read, context=context), data.stimuli, "words before")
        with warnings.catch_warnings(action="ignore"):
            scores = score_layers(data, space, (), Epochs(0.1, 0.1, RATE_HZ, (None, None), None), store=None)
        save_scores(scores, folder / f"{context}.nc")
    return {context: folder / f"{context}.nc" for context in CONTEXTS}


def test_the_planted_context_is_the_window(files: dict[int, Path]) -> None:
    stacked = stack_scores({context: open_scores(path) for context, path in files.items()}, depth=0.0)
    names, r = stacked.by_subject()
    assert names == ["a", "b", "c"]
    np.testing.assert_array_equal(stacked.values, CONTEXTS)
    curve = context_curve(r[:, :, None], stacked.values, share=0.95)
    assert curve.window.tolist() == [PLANTED]
    assert curve.status.tolist() == ["ok"]
    assert (np.diff(curve.r[:3, 0]) > 0.03).all()
    of_targets = context_curve(stacked.r, stacked.values, share=0.95)
    assert np.mean(of_targets.window == PLANTED) > 0.7


def test_scores_rise_with_the_context_per_decade(files: dict[int, Path]) -> None:
    stacked = stack_scores({context: open_scores(path) for context, path in files.items() if context <= 4}, depth=0.0)
    curve = size_curve(stacked.by_subject()[1], stacked.values)
    assert curve.interval[0] > 0
    assert curve.n_subjects == 3


def test_files_of_other_targets_are_not_put_side_by_side(files: dict[int, Path]) -> None:
    first, second = open_scores(files[1]), open_scores(files[2])
    with pytest.raises(DataError, match="differ in subject"):
        stack_scores({1: first, 2: second.isel(target=slice(3, None))}, depth=0.0)
