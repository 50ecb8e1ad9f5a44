"""Subjects who heard the same stimuli are fitted as one problem, and get the scores they would get alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import pytest

from brainalign.alignment import Epochs, Hemodynamic
from brainalign.encoding import BandedRidgeEncoder, RidgeEncoder, Splits
from brainalign.errors import DataError
from brainalign.features import ToyModel
from brainalign.pipeline import fit as fit_module
from brainalign.pipeline.aligned import Subject
from brainalign.pipeline.fit import Unit, fit_units, shareable
from brainalign.simulate import words_from_text
from brainalign.types import Aligner, Clock, Recording, Stimulus

TOY = ToyModel(n_layers=2, dimension=6)
TEXT = "the cat sat on a mat and saw the dog run by the old house " * 20
STIMULI = {f"story{k}": Stimulus(f"story{k}", words_from_text(f"{TEXT} number {k}", seed=k)) for k in range(3)}
FEATURES = {name: TOY.extract(stimulus) for name, stimulus in STIMULI.items()}
# The layers, the embeddings among them, and the baseline.
PROBLEMS = len(TOY.extract(STIMULI["story0"]).layers) + 1
ALIGNERS: dict[str, Aligner] = {"fmri": Hemodynamic(), "meg": Epochs(tmin_s=0.0, tmax_s=0.2)}


def recording(
    subject: str, stimulus: str, modality: str = "fmri", offset_s: float = 4.0, n_targets: int = 3
) -> Recording:
    step = 2.0 if modality == "fmri" else 0.05
    last = float(STIMULI[stimulus].words["onset"].iloc[-1])
    n_rows = int((last + 20.0) / step)
    seed = sum(map(ord, subject + stimulus))
    response = np.random.default_rng(seed).normal(size=(n_rows, n_targets)).astype(np.float32)
    return Recording(
        subject,
        stimulus,
        stimulus,
        modality,  # type: ignore[arg-type]
        Clock(step_s=step),
        offset_s,
        pd.DataFrame({"name": [f"t{k}" for k in range(n_targets)], "kind": "region"}),
        partial(np.asarray, response),
        digest=f"{subject}{stimulus}",
    )


def unit(subject: str, modality: str = "fmri", **settings: float) -> Unit:
    recordings = [recording(subject, name, modality, **settings) for name in STIMULI]  # type: ignore[arg-type]
    baseline = ("word_length",) if modality == "meg" else ("word_rate",)
    subject = Subject(recordings, STIMULI, baseline, ALIGNERS[modality], Splits())
    return Unit(subject, FEATURES, RidgeEncoder(alphas=(1, 100)))


def with_recordings(unit: Unit, recordings: Sequence[Recording]) -> Unit:
    return dataclasses.replace(unit, subject=dataclasses.replace(unit.subject, recordings=recordings))


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of targets of each problem that is solved."""
    widths: list[int] = []
    real = fit_module.cross_validate

    def counted(*args, **settings):  # type: ignore[no-untyped-def]
        widths.append(settings["responses"].n_targets)
        return real(*args, **settings)

    monkeypatch.setattr(fit_module, "cross_validate", counted)
    return widths


def assert_as_alone(units: Sequence[Unit]) -> None:
    together = fit_units(units)
    for one, scores in zip(units, together, strict=True):
        (alone,) = fit_units([one])
        # How it was solved says how many targets there were.
        assert {**scores.facts, "solver": None} == {**alone.facts, "solver": None}
        assert alone.facts["solver"].startswith(("primal", "dual"))
        for name, values in alone.arrays.items():
            np.testing.assert_allclose(scores.arrays[name], values, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("modality", ["fmri", "meg"])
def test_the_same_stimuli_at_the_same_times_are_one_problem(modality: str, fits: list[int]) -> None:
    units = [unit("a", modality), unit("b", modality, n_targets=5), unit("c", modality)]
    assert shareable(units) == [[0, 1, 2]]
    scores = fit_units(units)
    n_latencies = 1 if scores[0].facts["latencies_s"] is None else len(scores[0].facts["latencies_s"])
    assert fits == [11 * n_latencies] * PROBLEMS
    assert_as_alone(units)


def test_stimuli_heard_at_other_moments_of_the_scan_are_problems_of_their_own(fits: list[int]) -> None:
    units = [unit("a"), unit("b", offset_s=5.0)]
    assert shareable(units) == [[0], [1]]
    fit_units(units)
    assert len(fits) == 2 * PROBLEMS
    assert_as_alone(units)


def test_what_differs_only_once_aligned_is_seen_then(fits: list[int]) -> None:
    long, short = unit("a"), unit("b")
    last = short.subject.recordings[-1]
    cut = dataclasses.replace(last, read=partial(np.asarray, last.read()[:-20]))
    short = with_recordings(short, [*short.subject.recordings[:-1], cut])
    assert shareable([long, short]) == [[0, 1]]
    first, second = fit_units([long, short])
    assert len(fits) == 2 * PROBLEMS
    assert second.facts["n_samples"] < first.facts["n_samples"]
    assert_as_alone([long, short])


def test_confounds_of_one_s_own_make_a_design_of_one_s_own() -> None:
    units = [unit("a"), unit("b")]
    moving = dataclasses.replace(
        units[0].subject.recordings[0], read_confounds=lambda: pd.DataFrame({"motion": np.arange(10.0)})
    )
    units[0] = with_recordings(units[0], [moving, *units[0].subject.recordings[1:]])
    assert shareable(units) == [[0], [1]]


def test_a_subject_without_usable_data_stands_aside(fits: list[int]) -> None:
    empty = unit("b")
    blank = [
        dataclasses.replace(one, read=partial(np.full, one.read().shape, np.nan, np.float32))
        for one in empty.subject.recordings
    ]
    first, second, third = fit_units([unit("a"), with_recordings(empty, blank), unit("c")])
    assert second.arrays == {}
    assert second.facts["n_samples"] == 0
    assert fits == [6] * PROBLEMS
    assert first.arrays["r"].shape == third.arrays["r"].shape


def test_subjects_beyond_the_memory_are_fitted_one_by_one(fits: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "MEMORY_OF_SUBJECTS", 0.0)
    units = [unit("a"), unit("b")]
    scores = fit_units(units)
    assert fits == [3] * 2 * PROBLEMS
    assert [len(score.facts["status"]) for score in scores] == [3, 3]


def test_bands_of_the_features_leave_the_baseline_one_of_its_own() -> None:
    n_columns = FEATURES["story0"].values.shape[2]
    banded = BandedRidgeEncoder([2, n_columns - 2], alphas=(1, 100), n_iter=1)
    (scores,) = fit_units([dataclasses.replace(unit("a"), encoder=banded)])
    (ridge,) = fit_units([unit("a")])
    np.testing.assert_allclose(scores.arrays["r_baseline"], ridge.arrays["r_baseline"], atol=1e-6)
    assert np.isfinite(scores.arrays["r_joint"]).all()
    with pytest.raises(DataError, match="bands"):
        fit_units([dataclasses.replace(unit("a"), encoder=banded.set_params(bands=[3]))])
