"""Every kind of features that a recipe may name goes all the way, and a planted one of them is found again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import speech_files
from tiny_models import story_words

from brainalign.alignment import Epochs, Hemodynamic
from brainalign.config import parse_recipe, resolved
from brainalign.errors import DataWarning, FitWarning, RecipeError
from brainalign.features import LanguageModel, Named, Sound, SpeechModel, Surprisal, ToyModel
from brainalign.pipeline import score_layers
from brainalign.registry import FEATURES
from brainalign.simulate import InMemory, simulate_fmri, simulate_meg
from brainalign.types import Audio, Stimulus

# Whether features of no planted kind choose penalties at the edge of the grid is of no interest here.
pytestmark = pytest.mark.filterwarnings("ignore::brainalign.errors.FitWarning")

N_WORDS = 150


@pytest.fixture(scope="module")
def stimuli() -> dict[str, Stimulus]:
    """Three stories with sound: a tone for each word, higher for longer words."""
    stories = {}
    for number in range(3):
        words = [word for word in story_words(400) if word.isalpha()][number * 60 : number * 60 + N_WORDS]
        onset = 0.4 * np.arange(N_WORDS)
        table = pd.DataFrame({"onset": onset, "duration": 0.3, "text": words, "sentence": np.arange(N_WORDS) // 10})
        seconds = np.arange(int(16_000 * (onset[-1] + 1))) / 16_000
        pitch = np.repeat([100.0 + 20 * len(word) for word in words], 6400)
        pitch = np.pad(pitch, (0, len(seconds) - len(pitch)), mode="edge")
        sound = 0.1 * np.sin(2 * np.pi * np.cumsum(pitch) / 16_000) * (seconds % 0.4 < 0.3)
        stories[f"s{number}"] = Stimulus(f"s{number}", table, Audio(sound.astype(np.float32), 16_000.0))
    return stories


def dataset(stimuli: dict[str, Stimulus], modality: str) -> InMemory:
    toy = ToyModel(n_layers=1, dimension=4)
    features = {name: toy.extract(stimulus) for name, stimulus in stimuli.items()}
    truth = pd.DataFrame(
        {"name": ["a", "b"], "planted_layer": [0, 1], "explained_variance": 0.4, "rate_variance": 0.05}
    )
    if modality == "fmri":
        return simulate_fmri(stimuli, features, truth, ["p"])
    return simulate_meg(stimuli, features, truth.assign(planted_latency=0.2), ["p"])


@pytest.fixture(scope="module")
def settings_of_kind(tmp_path_factory: pytest.TempPathFactory, stimuli: dict[str, Stimulus]) -> Callable[[str], Any]:
    """What a recipe says of each kind, with the files that it names."""
    root = tmp_path_factory.mktemp("recipe")
    vocabulary = sorted({word.lower() for stimulus in stimuli.values() for word in stimulus.words["text"]})
    random = np.random.default_rng(0)
    (root / "small.dict").write_text("".join(f"{word} K AH0 {'T ' * (len(word) % 3)}\n" for word in vocabulary))
    lines = (f"{word} {' '.join(map(str, random.normal(size=5)))}\n" for word in vocabulary)
    (root / "vectors.txt").write_text("".join(lines))
    for name in stimuli:
        np.save(root / f"{name}.npy", random.normal(size=(2, N_WORDS, 6)))
    speech_files.save_model("wav2vec2", root / "wav2vec2")

    def settings(kind: str, tiny_llama: Path) -> tuple[Path, dict[str, Any]]:
        return root, {
            "language_model": {"model": str(tiny_llama), "layers": [0, 3], "context": 20},
            "surprisal": {"model": str(tiny_llama), "measures": ["surprisal", "entropy"]},
            "speech_model": {"model": str(root / "wav2vec2"), "layers": [1, 2], "bidirectional": True},
            "sound": {"space": "mel_spectrum", "n_bands": 8, "rate_hz": 50},
            "phonemes": {"dictionary": "small.dict"},
            "phoneme_onsets": {"dictionary": "small.dict", "by": "class"},
            "word_vectors": {"path": "vectors.txt"},
            "precomputed": {"path": "{stimulus}.npy"},
            "toy_model": {"n_layers": 1, "dimension": 4},
        }[kind]

    return settings


@pytest.mark.parametrize("modality", ["fmri", "meg"])
@pytest.mark.parametrize("kind", sorted(FEATURES))
def test_every_kind_of_features_goes_all_the_way(
    kind: str,
    modality: str,
    stimuli: dict[str, Stimulus],
    settings_of_kind: Callable[..., Any],
    tiny_llama: Path,
) -> None:
    root, settings = settings_of_kind(kind, tiny_llama)
    content = {"dataset": {"name": "simulated"}, "features": [{"kind": kind, **settings}]}
    recipe = parse_recipe(content, folder=root)
    assert parse_recipe(resolved(recipe)).features == recipe.features, "what is written beside the results runs again"
    alignment = Hemodynamic() if modality == "fmri" else Epochs(-0.1, 0.6, 20.0, (0.5, 10.0))
    scores = score_layers(dataset(stimuli, modality), recipe.features, baseline=["word_rate"], alignment=alignment)
    assert np.isfinite(scores.r.values).mean() > 0.9
    assert set(scores.feature_space.values) == {recipe.features[0].name}
    again = score_layers(dataset(stimuli, modality), recipe.features, baseline=["word_rate"], alignment=alignment)
    np.testing.assert_array_equal(scores.r.values, again.r.values)


def test_a_function_of_ones_own_is_scored_and_found_again_where_it_was_planted(stimuli: dict[str, Stimulus]) -> None:
    toy = ToyModel(n_layers=1, dimension=4)

    def mine(stimulus: Stimulus) -> np.ndarray:
        return toy.extract(stimulus).values

    scores = score_layers(dataset(stimuli, "fmri"), [toy, mine], store=None)
    r = scores.r.mean("fold").values
    assert list(scores.feature_space.values) == ["ToyModel", "ToyModel", "mine", "mine"]
    np.testing.assert_allclose(r[:2], r[2:], atol=1e-6)


def test_what_a_feature_space_warns_of_is_a_finding_also_when_it_is_read_again(
    stimuli: dict[str, Stimulus], tmp_path: Path
) -> None:
    words = sorted({word.lower() for stimulus in stimuli.values() for word in stimulus.words["text"]})
    missing = words.pop()
    (tmp_path / "most.dict").write_text("".join(f"{word} K AH0 T\n" for word in words))
    content = {"dataset": {"name": "simulated"}, "features": [{"kind": "phonemes", "dictionary": "most.dict"}]}
    recipe = parse_recipe(content, folder=tmp_path)
    for _ in range(2):
        with pytest.warns(DataWarning, match=f"phonemes: .*{missing}"):
            scores = score_layers(dataset(stimuli, "fmri"), recipe.features, baseline=["word_rate"])
        assert any(missing in finding["message"] for finding in scores.attrs["findings"])


def test_two_spaces_of_one_name_are_refused_before_anything_is_computed_and_a_name_of_ones_own_helps(
    stimuli: dict[str, Stimulus], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, toys = dataset(stimuli, "fmri"), [ToyModel(n_layers=1, seed=seed) for seed in (0, 1)]
    named = Named("another toy", toys[1])
    scores = score_layers(data, [toys[0], named], baseline=["word_rate"])
    assert list(dict.fromkeys(scores.feature_space.values)) == ["ToyModel", "another toy"]
    alone = score_layers(data, toys[1], baseline=["word_rate"], store=None)
    np.testing.assert_array_equal(scores.r.values[2:], alone.r.values)
    monkeypatch.setattr(ToyModel, "extract", lambda *_: pytest.fail("something was computed"))
    with pytest.raises(RecipeError, match=r"two feature spaces are called 'ToyModel'\. Give one a `name`"):
        score_layers(data, toys, baseline=["word_rate"])


def test_a_recipe_names_any_kind_of_features(tmp_path: Path) -> None:
    entries = [
        {"kind": "toy_model", "name": "mine"},
        {"kind": "precomputed", "path": "{stimulus}.npy", "name": "theirs"},
    ]
    recipe = parse_recipe({"dataset": {"name": "simulated"}, "features": entries}, folder=tmp_path)
    assert [space.name for space in recipe.features] == ["mine", "theirs"]
    assert parse_recipe(resolved(recipe)).features == recipe.features
    with pytest.raises(RecipeError, match=r"features\.0\.name: .* needs one"):
        parse_recipe({"dataset": {"name": "simulated"}, "features": [{"kind": "toy_model", "name": " "}]})


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (LanguageModel("nowhere", context="sentence"), "needs sentences, and stimulus 's0' has none"),
        (LanguageModel("nowhere", shuffle="sentences"), "a column `sentence` in its words"),
        (Surprisal("nowhere", context="sentence"), "needs sentences"),
        (Sound("pitch"), "'pitch' needs sound, and stimulus 's0' has none: it needs its audio"),
        (SpeechModel("nowhere"), "needs sound"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_a_stimulus_lacks_is_told_before_anything_is_computed(
    space: Any, message: str, stimuli: dict[str, Stimulus], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = {
        name: replace(stimulus, words=stimulus.words.drop(columns="sentence"), audio=None)
        for name, stimulus in stimuli.items()
    }
    data = dataset(bare, "fmri")
    monkeypatch.setattr(ToyModel, "extract", lambda *_: pytest.fail("something was computed"))
    with pytest.raises(RecipeError, match=message):
        score_layers(data, [ToyModel(), space], baseline=["word_rate"])


def test_features_that_do_not_vary_have_no_score_and_are_named(stimuli: dict[str, Stimulus]) -> None:
    def constant(stimulus: Stimulus) -> np.ndarray:
        return np.ones((2, len(stimulus.words), 3))

    data = dataset(stimuli, "meg")
    with pytest.warns(FitWarning, match=r"constant: 2 of 2 layers have no r for any target \(layer 0, layer 1\)"):
        scores = score_layers(data, constant, alignment=Epochs(-0.1, 0.6, 20.0, (0.5, 10.0)), store=None)
    assert np.isnan(scores.r.values).all()
