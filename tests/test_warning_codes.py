"""Every code is raised by what it stands for, and `strict` makes an error of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_models
from sklearn.model_selection import KFold

from brainalign.alignment import Hemodynamic
from brainalign.analysis.forecasts.scoring import forecast
from brainalign.analysis.hierarchies.layer_choice import nested_choice
from brainalign.analysis.hierarchies.orders import temporal_score
from brainalign.encoding import ContiguousBlocks, RidgeEncoder, Splits, cross_val_scores
from brainalign.errors import BrainalignError, DataError, DataWarning, FitWarning
from brainalign.features import LanguageModel, Named, ToyModel, loading
from brainalign.pipeline import score_layers
from brainalign.pipeline.inspection import inspect
from brainalign.pipeline.signal_checks import odd_word_lag
from brainalign.questions import Ceiling, Ladder
from brainalign.questions.compare import Compare
from brainalign.simulate import InMemory, simulate_fmri, words_from_text
from brainalign.types import Clock, Recording, Scores, Stimulus
from brainalign.warning_codes import CODES, CODES_OF_FITS, is_warning, split_code, titled

TOY = ToyModel(n_layers=1, dimension=4)
TRUTH = pd.DataFrame(
    {
        "name": ["rate", "first", "second"],
        "planted_layer": [-1, 1, 1],
        "explained_variance": [0.0, 0.5, 0.5],
        "rate_variance": [0.9, 0.1, 0.1],
    }
)


def study(n_runs: int = 3, n_words: int = 150, subjects: Sequence[str] = ("a",)) -> InMemory:
    """Runs of fMRI, two targets of which follow the last layer of `TOY`, and one the rate of words."""
    stimuli = {f"run{k}": Stimulus(f"run{k}", speech(n_words, k)) for k in range(n_runs)}
    features = {name: TOY.extract(one) for name, one in stimuli.items()}
    return simulate_fmri(stimuli, features, TRUTH, subjects)


def speech(n_words: int, seed: int) -> pd.DataFrame:
    vocabulary = [a + b for a in ("ba", "de", "fi", "go") for b in ("na", "ket", "rol", "mi", "s")]
    return words_from_text(" ".join(np.random.default_rng(seed).choice(vocabulary, n_words)), seed)


def scored(data: InMemory, features: Any = TOY, **settings: Any) -> Scores:
    with warnings.catch_warnings(action="ignore"):
        return score_layers(data, features, **{"baseline": (), "store": None} | settings)


def codes(data: InMemory, features: Any = TOY, **settings: Any) -> set[str]:
    return {finding["code"] for finding in scored(data, features, **settings).attrs["findings"]}


def refused(call: Callable[[], object]) -> set[str]:
    """The code that an error's message begins with."""
    with pytest.raises(BrainalignError) as caught:
        call()
    return {split_code(str(caught.value))[0]}


def autoregressive(n: int, n_columns: int, seed: int, rho: float = 0.9) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, n_columns))
    for row in range(1, n):
        x[row] += rho * x[row - 1]
    return x


def changed(data: InMemory, change: Callable[[Recording], Recording]) -> InMemory:
    return replace(data, given=[change(recording) for recording in data.given])


def answering(data: InMemory, response: Callable[[Recording], np.ndarray]) -> InMemory:
    """The same study with other responses."""
    return changed(data, lambda one: replace(one, read=partial(np.copy, response(one).astype(np.float32))))


# What provokes each code: gives the codes raised.


def shuffled_folds(*_: Any) -> set[str]:
    x, y = autoregressive(200, 5, 0), autoregressive(200, 4, 1)
    return refused(lambda: cross_val_scores(x, y, splitter=KFold(5, shuffle=True, random_state=0)))


def a_stimulus_under_two_names(*_: Any) -> set[str]:
    data = study()
    again = replace(data.stimuli["run0"], id="again")
    copies = [replace(one, run="again", stimulus="again") for one in data.given if one.stimulus == "run0"]
    return refused(
        lambda: scored(replace(data, stimuli_by_id={**data.stimuli, "again": again}, given=[*data.given, *copies]))
    )


def a_leaking_model(folder: Path, patch: pytest.MonkeyPatch) -> set[str]:
    """BERT, taken for a model that reads from left to right only."""
    patch.setattr(loading, "_is_causal", lambda *_: True)
    patch.setattr(loading, "_reads_both_sides_by_name", lambda *_: False)
    model = LanguageModel(str(tiny_models.save("bert", folder / "leaking")), context=16)
    return refused(lambda: model.extract(Stimulus("story", words_from_text(tiny_models.STORY))))


def short_gap(*_: Any) -> set[str]:
    return codes(study(n_runs=1, n_words=400), splits=Splits(gap_s=2.0))


def one_run(*_: Any) -> set[str]:
    return codes(study(n_runs=1, n_words=400))


def narrow_grid(*_: Any) -> set[str]:
    return codes(study(), encoder=RidgeEncoder(alphas=[1e-3, 1e-2]))


def a_model_without_meaning(*_: Any) -> set[str]:
    def only_rate(recording: Recording) -> np.ndarray:
        return np.repeat(recording.response()[:, :1], 3, axis=1)

    def chance(stimulus: Stimulus) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(len(stimulus.words), 2))

    return codes(answering(study(), only_rate), chance, baseline=("word_rate",), questions=[Ladder()])


def folds_of_a_slow_signal(*_: Any) -> set[str]:
    """Drifts far slower than a block, and no gap between blocks."""

    def slow(recording: Recording) -> np.ndarray:
        return autoregressive(len(recording.response()), 3, 5, rho=0.995)

    data = answering(study(n_runs=1, n_words=250), slow)
    settings = {"alignment": Hemodynamic(high_pass_s=None), "splits": Splits(n_splits=10, gap_s=0.0)}
    return codes(data, baseline=("word_rate",), questions=[Ladder()], **settings)


def a_layer_chosen_on_the_test(*_: Any) -> set[str]:
    r = np.random.default_rng(0).normal(size=(4, 3, 5))
    return {nested_choice(r, np.random.default_rng(1).normal(size=r.shape)).finding("layers").code}


def wide_features(*_: Any) -> set[str]:
    """Far more features than samples, hardly penalised."""
    wide = ToyModel(n_layers=1, dimension=400)
    return codes(study(), wide, encoder=RidgeEncoder(alphas=[1e-6, 1e-5, 1e-4]))


def responses_without_repeatable_signal(*_: Any) -> set[str]:
    data = answering(study(subjects=["a", "b", "c"]), noise_of)
    return codes(data, questions=[Ceiling(kind="subjects", n_bootstrap=10)])


def noise_of(recording: Recording) -> np.ndarray:
    seed = sum(map(ord, str(recording)))
    return np.random.default_rng(seed).normal(size=(len(recording.response()), 3))


def responses_that_subjects_do_not_share(*_: Any) -> set[str]:
    """Each subject follows the words by weights of its own, so that others tell less of it than words do."""
    return codes(study(subjects=["a", "b"]), questions=[Ceiling(kind="subjects", threshold=0.0, n_bootstrap=10)])


def a_test_over_subjects_alone(*_: Any) -> set[str]:
    latency_s = 0.1 + np.random.default_rng(0).normal(scale=0.1, size=(8, 6))
    return {finding.code for finding in temporal_score(latency_s, np.linspace(0, 1, 6)).findings}


def spaces_of_unlike_width(*_: Any) -> set[str]:
    return codes(study(), [TOY, Named("wider", ToyModel(n_layers=1, dimension=7))])


def a_context_that_cannot_be_read(folder: Path, patch: pytest.MonkeyPatch) -> set[str]:
    words = words_from_text(" ".join([tiny_models.STORY] * 12))
    stimulus = Stimulus("s", words)
    data = simulate_fmri({"s": stimulus}, {"s": TOY.extract(stimulus)}, TRUTH, ["a"])
    return codes(data, LanguageModel(str(tiny_models.save("gpt2", folder / "short")), context=60))


def an_outlier(*_: Any) -> set[str]:
    def huge(stimulus: Stimulus) -> np.ndarray:
        values = np.random.default_rng(len(stimulus.words)).normal(size=(len(stimulus.words), 3))
        values[7, 1] = 1e3 if stimulus.id == "run0" else 0.0
        return values

    return codes(study(n_words=250), huge)


def forecasts_with_delays(*_: Any) -> set[str]:
    x, y = np.random.default_rng(0).normal(size=(300, 4)), np.random.default_rng(1).normal(size=(300, 2))
    windows = {1: x[:, :2], -8: x[:, 2:]}
    found = forecast(RidgeEncoder(), x, y, None, ContiguousBlocks(3, 5), windows, width=7, delays=(1, 2), n_floor=0)
    return {finding.code for finding in found.findings}


def similarities_of_slow_signals(*_: Any) -> set[str]:
    x, y = autoregressive(200, 5, 0, rho=0.98), autoregressive(200, 4, 1, rho=0.98)
    settings = Compare(measures=("cka",), band=1, permutations=0)
    found = settings.compare(x, y, None, ContiguousBlocks(4))
    return {finding.code for comparison in found.values() for finding in comparison.findings}


def a_late_start(*_: Any) -> set[str]:
    """The stimulus began six seconds later than the recording says."""
    late = changed(study(subjects=["a", "b"]), lambda one: replace(one, offset_s=one.offset_s - 6.0))
    assert "W216" in {finding.code for finding in inspect(late).findings}
    return codes(late)


PROVOKE: dict[str, Callable[[Path, pytest.MonkeyPatch], set[str]]] = {
    "E101": shuffled_folds,
    "E102": a_stimulus_under_two_names,
    "E103": a_leaking_model,
    "W201": short_gap,
    "W202": one_run,
    "W203": narrow_grid,
    "W204": a_model_without_meaning,
    "W205": folds_of_a_slow_signal,
    "W206": a_layer_chosen_on_the_test,
    "W207": wide_features,
    "W208": responses_without_repeatable_signal,
    "W209": responses_that_subjects_do_not_share,
    "W210": a_test_over_subjects_alone,
    "W211": spaces_of_unlike_width,
    "W212": a_context_that_cannot_be_read,
    "W213": an_outlier,
    "W214": forecasts_with_delays,
    "W215": similarities_of_slow_signals,
    "W216": a_late_start,
}


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_raised_by_what_it_stands_for(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code in PROVOKE[code](tmp_path, monkeypatch)


def test_a_sound_study_has_no_code_and_strict_lets_it_pass() -> None:
    data = study(subjects=["a", "b"])
    scores = score_layers(data, TOY, baseline=("word_rate",), store=None, strict=True)
    assert not [finding for finding in scores.attrs["findings"] if is_warning(finding["code"])]


def test_strict_makes_errors_of_warnings_and_names_them() -> None:
    data = study(n_runs=1, n_words=400)
    with pytest.raises(DataError, match=r"W201, W202(.|\n)*W201 splits: gap_s is 2(.|\n)*W202 splits") as caught:
        scored(data, splits=Splits(gap_s=2.0), strict=True)
    assert str(caught.value).count("\n") <= 2


def test_strict_also_refuses_what_a_question_warns_of() -> None:
    data = study(subjects=["a", "b"])
    with pytest.raises(DataError, match="W209"):
        scored(data, questions=[Ceiling(kind="subjects", threshold=0.0, n_bootstrap=10)], strict=True)


def test_what_is_found_without_a_code_does_not_stop_a_strict_run() -> None:
    data = study()
    response = data.given[0].response().copy()
    response[:, 0] = 1.0
    data = replace(data, given=[replace(data.given[0], read=lambda: response), *data.given[1:]])
    scores = scored(data, strict=True)
    assert "constant-target" in {finding["code"] for finding in scores.attrs["findings"]}


@pytest.mark.parametrize(("settings", "category"), [({"gap_s": 2.0}, FitWarning), ({}, DataWarning)])
def test_warnings_keep_their_categories(settings: dict[str, float], category: type[Warning]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        score_layers(study(n_runs=1, n_words=400), TOY, baseline=(), splits=Splits(**settings), store=None)
    assert category in {warning.category for warning in caught}


def test_a_gap_that_is_long_enough_and_blocks_that_were_asked_for_are_no_warnings() -> None:
    assert not {"W201", "W202"} & codes(study(n_runs=1, n_words=400), splits=Splits(outer="blocks", gap_s=20.0))


def test_the_same_text_may_be_heard_again_as_a_version_of_its_story() -> None:
    data = study(n_runs=4)
    stimuli = dict(data.stimuli)
    stimuli["run1"] = replace(stimuli["run0"], id="run1", story="run0")
    scores = scored(replace(data, stimuli_by_id=stimuli))
    assert scores.sizes["fold"] == 3


def test_features_are_found_far_out_only_where_they_are() -> None:
    def one_hot(stimulus: Stimulus) -> np.ndarray:
        values = np.zeros((len(stimulus.words), 2))
        values[::10, 0] = 1.0  # rare, but not so rare
        return values

    assert "W213" not in codes(study(), one_hot)


def test_codes_in_words() -> None:
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in CODES.values())
    assert set(CODES) >= CODES_OF_FITS
    assert split_code("W999: no such code") == ("", "W999: no such code")
    assert titled("W202", "splits").endswith("(splits)")


def test_a_clock_is_only_doubted_where_responses_follow_words_clearly() -> None:
    random = np.random.default_rng(3)
    data = study()
    noise_only = answering(data, lambda one: random.normal(size=(len(one.response()), 3)))
    assert "W216" not in codes(noise_only)
    assert "W216" not in {finding.code for finding in inspect(noise_only).findings}


def test_a_recording_of_sensors_has_no_haemodynamic_lag() -> None:
    words = speech(100, 0)
    table = pd.DataFrame({"name": ["MEG1"], "kind": "sensor"})
    response = np.random.default_rng(0).normal(size=(900, 1)).astype(np.float32)
    recording = Recording("a", "1", "s", "meg", Clock(0.05), 0.0, table, lambda: response, "")
    assert odd_word_lag([recording], {"s": Stimulus("s", words)}) == []
