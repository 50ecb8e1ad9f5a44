"""On real recordings the numbers are what other people's code gave beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brainalign.alignment import Hemodynamic
from brainalign.datasets import load_dataset
from brainalign.encoding import ContiguousBlocks, cross_val_scores
from brainalign.features import Baseline
from brainalign.types import Floats


@pytest.fixture(scope="module")
def brains(shared: Path) -> tuple[Floats, Floats]:
    """The word rate through delays of 1 to 5 volumes, and the cleaned responses of 27 subjects, on shared volumes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINALIGN_MIRROR", str(shared / "datasets"))
        data = load_dataset("alice")
        stimulus = data.stimuli["alice-chapter-1"]
        way = Hemodynamic("sum", delays=(1, 2, 3, 4, 5), high_pass_s=100.0, confounds=False, trim_s=(0.0, 0.0))
        runs = [way.align(recording, stimulus) for recording in data.recordings() if recording.subject != "s33"]
    n_volumes = min(len(run.responses) for run in runs)
    rate = np.mean([run.place(Baseline(("word_rate",)).extract(stimulus))[0][:n_volumes] for run in runs], axis=0)
    return rate, np.stack([run.responses[:n_volumes] for run in runs])


def test_subjects_agree_as_they_should(brains: tuple[Floats, Floats]) -> None:
    """Leave-one-out correlation of .20 to .45 by region was measured beforehand."""
    _, responses = brains
    others = (responses.sum(axis=0) - responses) / (len(responses) - 1)
    agreement = [
        [np.corrcoef(one[:, region], rest[:, region])[0, 1] for region in range(6)]
        for one, rest in zip(responses, others, strict=True)
    ]
    by_region = np.mean(agreement, axis=0)
    assert ((by_region > 0.15) & (by_region < 0.5)).all(), by_region


def test_the_word_rate_predicts_the_mean_brain(brains: tuple[Floats, Floats]) -> None:
    """r = .43 .44 .48 .54 .53 .43 in five contiguous folds was measured beforehand."""
    rate, responses = brains
    scores = cross_val_scores(rate, responses.mean(axis=0), splitter=ContiguousBlocks(5))
    r = scores["r"].mean("fold").values[0]
    np.testing.assert_allclose(r, [0.43, 0.44, 0.48, 0.54, 0.53, 0.43], atol=0.06)


def test_a_shifted_word_rate_does_not(brains: tuple[Floats, Floats]) -> None:
    rate, responses = brains
    shifted = [np.roll(rate, shift, axis=0) for shift in range(60, 300, 30)]
    scores = [cross_val_scores(x, responses.mean(axis=0), splitter=ContiguousBlocks(5))["r"].mean() for x in shifted]
    assert abs(np.mean(scores)) < 0.1
