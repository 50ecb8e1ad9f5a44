"""Responses to items through the whole pipeline: planted layers are found, and no other alignment is taken."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainalign.alignment import Epochs, Hemodynamic, Items
from brainalign.config import load_recipe, parse_recipe
from brainalign.datasets import check_recording, load_dataset
from brainalign.encoding import Splits
from brainalign.errors import DataError, DataWarning, RecipeError
from brainalign.features import ToyModel
from brainalign.pipeline import score_layers
from brainalign.pipeline.baselines import baseline_names
from brainalign.simulate import InMemory
from brainalign.store import Store
from brainalign.types import Clock, Finding, Floats, Recording, Stimulus

MODEL = ToyModel(n_layers=3, dimension=6)
# There is one run only.
BLOCKS = Splits(outer="blocks")
VOCABULARY = ["the", "cat", "sat", "on", "mats", "and", "saw", "some", "dogs", "running", "by", "an", "old", "house"]
POOL: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "words": lambda words: words,
    "sentences": lambda words: words.groupby(level=0).last(),
}


def stimulus_of(kind: str, n_items: int = 300) -> Stimulus:
    """Words, each an item of its own, or sentences of two to nine words."""
    random = np.random.default_rng(2)
    lengths = np.ones(n_items, dtype=int) if kind == "words" else random.integers(2, 10, n_items)
    item = np.repeat(np.arange(n_items), lengths)
    text = random.choice(VOCABULARY, len(item))
    onset = np.arange(len(item), dtype=float)
    return Stimulus(kind, pd.DataFrame({"onset": onset, "duration": 1.0, "text": text, "item": item}))


def planted(stimulus: Stimulus, seed: int) -> Floats:
    """Target t follows layer t, as it is at the last word of each item."""
    features = MODEL.extract(stimulus).values
    columns = []
    for layer, values in enumerate(features):
        items = POOL[stimulus.id](pd.DataFrame(values, index=stimulus.words["item"])).to_numpy()
        columns.append(items @ np.random.default_rng([layer, seed]).normal(size=MODEL.dimension))
    drives = np.stack(columns, axis=1)
    noise = np.random.default_rng(seed).normal(size=drives.shape)
    return drives / drives.std(axis=0) + 0.5 * noise


def dataset_of(stimulus: Stimulus, responses: Sequence[Floats]) -> InMemory:
    recordings = [
        Recording(
            f"s{number}", "1", stimulus.id, "eeg", Clock(1.0), 0.0,
            pd.DataFrame({"name": [f"t{i}" for i in range(response.shape[1])], "kind": "component"}),
            partial(np.asarray, response), digest=f"{stimulus.id} {number}",
        )
        for number, response in enumerate(responses)
    ]  # fmt: skip
    data = InMemory("mine", "Items", "eeg", {stimulus.id: stimulus}, recordings)
    data.rows = "items"
    return data


@pytest.mark.parametrize("kind", POOL)
def test_the_planted_layer_is_found_though_trials_are_rejected(kind: str) -> None:
    stimulus = stimulus_of(kind)
    responses = [planted(stimulus, seed) for seed in (1, 2)]
    responses[1][::7] = np.nan
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scores = score_layers(dataset_of(stimulus, responses), MODEL, store=None)
    told = " ".join(str(warning.message) for warning in caught)
    assert "subject s1, run 1: 43 of 300 items have no response" in told
    assert "fewer than three runs" in told
    r = scores["r"].mean("fold").values
    assert "latency" not in scores.dims
    assert r.argmax(axis=0).tolist() == [0, 1, 2, 3] * 2, r.round(2)
    assert (r.max(axis=0) > 0.7).all(), r.round(2)
    assert set(scores["status"].values) == {"ok"}


def test_a_target_that_lacks_an_item_is_undefined_and_the_others_are_scored() -> None:
    stimulus = stimulus_of("words")
    response = planted(stimulus, 1)
    response[5, 2] = np.nan
    with pytest.warns(DataWarning, match="1 of 4 targets hold NaN"):
        scores = score_layers(dataset_of(stimulus, [response]), MODEL, baseline=(), splits=BLOCKS, store=None)
    assert scores["status"].values.tolist() == ["ok", "ok", "nonfinite", "ok"]
    defined = np.isfinite(scores["r"].values).all(axis=(0, 1))
    assert defined.tolist() == [True, True, False, True]


def test_subjects_of_the_same_items_get_the_scores_that_they_get_alone() -> None:
    stimulus = stimulus_of("sentences")
    responses = [planted(stimulus, seed) for seed in (1, 2)]
    both = score_layers(dataset_of(stimulus, responses), MODEL, splits=BLOCKS, store=None)
    alone = score_layers(dataset_of(stimulus, responses[:1]), MODEL, splits=BLOCKS, store=None)
    np.testing.assert_allclose(both["r_joint"].values[..., :4], alone["r_joint"].values, atol=1e-5)


def test_words_that_are_counted_to_other_items_are_fitted_anew(tmp_path: Path) -> None:
    """The same words, times and responses, and another grouping: a stored fit must not be taken for it."""
    stimulus, store = stimulus_of("sentences"), Store(tmp_path)
    response = planted(stimulus, 1)
    # Each sentence loses its first word to the one before.
    moved = np.r_[0, stimulus.words["item"][:-1]]
    other = Stimulus(stimulus.id, stimulus.words.assign(item=moved))
    first = score_layers(dataset_of(stimulus, [response]), MODEL, splits=BLOCKS, store=store)
    second = score_layers(dataset_of(other, [response]), MODEL, splits=BLOCKS, store=store)
    assert abs(first["r"].values - second["r"].values).max() > 0.05


# Baselines and checks


@pytest.mark.parametrize(
    ("kind", "names"),
    [("words", ("word_length", "log_frequency")), ("sentences", ("word_rate", "word_length", "log_frequency"))],
)
def test_the_baseline_of_items_holds_nothing_that_is_made_of_times(kind: str, names: tuple[str, ...]) -> None:
    stimulus = stimulus_of(kind)
    data = dataset_of(stimulus, [planted(stimulus, 1)])
    assert baseline_names("eeg", data.recordings(), data.stimuli) == names


def found(response: Floats, stimulus: Stimulus) -> list[Finding]:
    [recording] = dataset_of(stimulus, [response]).recordings()
    return check_recording(recording, recording.response(), stimulus)


def test_rejected_items_are_no_fault_of_a_target() -> None:
    stimulus = stimulus_of("words")
    response = planted(stimulus, 1)
    response[::3] = np.nan
    assert found(response, stimulus) == []
    response[1, 0] = np.nan
    assert [finding.code for finding in found(response, stimulus)] == ["nonfinite-target"]
    response[:, 1] = np.where(np.isnan(response[:, 3]), np.nan, 4.0)
    assert [finding.code for finding in found(response, stimulus)] == ["nonfinite-target", "constant-target"]


def test_a_subject_without_any_response_is_left_out_and_named() -> None:
    stimulus = stimulus_of("words")
    responses = [planted(stimulus, 1), np.full((300, 4), np.nan)]
    with warnings.catch_warnings(action="ignore"):
        scores = score_layers(dataset_of(stimulus, responses), MODEL, baseline=(), splits=BLOCKS, store=None)
    assert {finding["code"] for finding in scores.attrs["findings"]} == {"empty-recording", "subject-left-out"}
    assert np.isfinite(scores["r"].values[..., :4]).all()
    assert set(scores["status"].values[:4]) == {"ok"}


# Which alignment


@pytest.mark.parametrize("alignment", [Hemodynamic(), Epochs()], ids=["hemodynamic", "epochs"])
def test_an_alignment_in_time_is_refused_before_anything_is_computed(alignment: Hemodynamic | Epochs) -> None:
    def never() -> Floats:
        raise AssertionError("the response was read")

    stimulus = stimulus_of("words")
    data = dataset_of(stimulus, [planted(stimulus, 1)])
    data.given = [replace(one, read=never) for one in data.given]
    with pytest.raises(RecipeError, match=r"'mine', whose responses are to items.*take the kind 'items'"):
        score_layers(data, MODEL, alignment=alignment, store=None)


def test_items_are_refused_where_responses_have_a_time_axis() -> None:
    data = load_dataset("simulated", options={"n_subjects": 1, "n_runs": 3, "n_words": 200})
    with pytest.raises(RecipeError, match=r"'simulated', whose responses are to moments.*leave the kind out"):
        score_layers(data, MODEL, alignment=Items(), store=None)


@pytest.mark.parametrize(
    ("dataset", "kind"), [("frank2015", "epochs"), ("pereira2018", "hemodynamic"), ("alice", "items")]
)
def test_a_recipe_with_the_wrong_alignment_is_refused_at_its_line(tmp_path: Path, dataset: str, kind: str) -> None:
    path = tmp_path / "recipe.yaml"
    text = f"dataset: {{name: {dataset}}}\nfeatures: [{{kind: toy_model}}]\nalignment: {{kind: {kind}}}\n"
    path.write_text(text)
    with pytest.raises(RecipeError, match=rf"recipe\.yaml:3: alignment\.kind: .* cannot align '{dataset}'"):
        load_recipe(str(path))


@pytest.mark.parametrize("dataset", ["frank2015", "pereira2018"])
def test_a_recipe_of_items_takes_their_alignment(dataset: str) -> None:
    recipe = {"dataset": {"name": dataset}, "features": [{"kind": "toy_model"}], "alignment": {"pooling": "mean"}}
    assert parse_recipe(recipe).alignment == Items(pooling="mean")


def test_signals_are_refused_by_name() -> None:
    stimulus = stimulus_of("words")
    with pytest.raises(DataError, match="sound"):
        score_layers(dataset_of(stimulus, [planted(stimulus, 1)]), MODEL, baseline=("sound_envelope",), store=None)


# Real data


@pytest.mark.slow
def test_frank2015_runs_whole(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Length and frequency of words predict the N400 of most subjects, and not what came before the word."""
    monkeypatch.setenv("BRAINALIGN_MIRROR", str(shared / "datasets"))
    model = ToyModel(n_layers=0, dimension=3)
    scores = {}
    for measure in ("N400", "baseline"):
        data = load_dataset("frank2015", options={"measure": measure})
        with warnings.catch_warnings(action="ignore"):
            scores[measure] = score_layers(data, model, store=None)
    r = {measure: each["r_baseline"].mean("fold").values for measure, each in scores.items()}
    assert r["N400"].shape == (24,)
    assert (r["N400"] > 0).sum() >= 18
    assert r["N400"].mean() == pytest.approx(0.07, abs=0.01)
    assert abs(r["baseline"].mean()) < 0.03
    codes = {finding["code"] for finding in scores["N400"].attrs["findings"]}
    assert codes == {"items-without-response", "words-not-scored", "W202"}
