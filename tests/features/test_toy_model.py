from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from brainalign.errors import RecipeError
from brainalign.features import ToyModel
from brainalign.types import Stimulus


def stimulus(words: list[str]) -> Stimulus:
    onset = np.arange(len(words), dtype=float)
    return Stimulus("s", pd.DataFrame({"onset": onset, "duration": 0.5, "text": words}))


def values(words: list[str], **settings: int) -> np.ndarray:
    return ToyModel(**settings).extract(stimulus(words)).values


WORDS = [f"word{i % 170}" for i in np.random.default_rng(0).integers(0, 1000, 600)]


def test_layers_are_counted_as_in_language_models() -> None:
    features = ToyModel(n_layers=3, dimension=5).extract(stimulus(WORDS))
    assert features.layers == ("layer 0", "layer 1", "layer 2", "layer 3")
    assert features.values.shape == (4, len(WORDS), 5)
    assert features.values.dtype == np.float32


def test_editing_a_later_word_changes_nothing_before_it() -> None:
    edited = [*WORDS[:300], "EDITED", *WORDS[301:400]]
    before, after = values(WORDS), values(edited)
    np.testing.assert_array_equal(before[:, :300], after[:, :300])
    assert not np.allclose(before[:, 300], after[:, 300])


def test_context_reaches_farther_in_higher_layers() -> None:
    edited = [*WORDS[:300], "EDITED", *WORDS[301:]]
    change = np.square(values(WORDS) - values(edited)).mean(axis=2)
    assert (change[0, 301:] == 0).all()
    five_to_fifteen_later = change[:, 305:315].mean(axis=1)
    assert (np.diff(five_to_fifteen_later[:4]) > 0).all()
    assert five_to_fifteen_later[8] > 3 * five_to_fifteen_later[1]


def test_every_layer_has_unit_variance() -> None:
    np.testing.assert_allclose((values(WORDS) ** 2).mean(axis=(1, 2)), 1.0, rtol=1e-5)
    np.testing.assert_allclose(values(WORDS).var(axis=1).mean(axis=1), 1.0, atol=0.1)


def test_no_layer_can_be_computed_linearly_from_another() -> None:
    layers = values(WORDS, n_layers=4, dimension=16).astype(float)
    for target in range(5):
        for source in set(range(5)) - {target}:
            weights, *_ = np.linalg.lstsq(layers[source, :400], layers[target, :400], rcond=None)
            error = layers[target, 400:] - layers[source, 400:] @ weights
            assert 1 - (error**2).mean() < 0.85, (source, target)


def test_layer_0_depends_on_the_word_alone_whatever_its_case() -> None:
    layer_0 = values(["Alice", "saw", "ALICE"])[0]
    np.testing.assert_array_equal(layer_0[0], layer_0[2])
    assert not np.allclose(layer_0[0], layer_0[1])


def test_seeds_differ_and_repeat() -> None:
    np.testing.assert_array_equal(values(WORDS, seed=3), values(WORDS, seed=3))
    assert not np.allclose(values(WORDS, seed=3), values(WORDS, seed=4))


def test_values_are_the_same_in_another_process_with_another_hash_seed() -> None:
    code = (
        "import pandas as pd; from brainalign.features import ToyModel; from brainalign.types import Stimulus\n"
        "words = pd.DataFrame({'onset': [0.0, 1.0], 'duration': [0.5, 0.5], 'text': ['so', 'long']})\n"
        "print(ToyModel(n_layers=2, dimension=3).extract(Stimulus('s', words)).values.tobytes().hex())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == values(["so", "long"], n_layers=2, dimension=3).tobytes().hex()


@pytest.mark.parametrize("settings", [{"n_layers": -1}, {"dimension": 0}])
def test_sizes_that_cannot_be_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(RecipeError):
        ToyModel(**settings)


def test_fingerprints_are_json_and_tell_settings_apart() -> None:
    models = [ToyModel(), ToyModel(n_layers=1), ToyModel(dimension=1), ToyModel(seed=1)]
    assert len({json.dumps(model.fingerprint(), sort_keys=True) for model in models}) == 4
    assert ToyModel().name == "ToyModel"


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, brainalign.features as f; f.ToyModel; f.LanguageModel('gpt2').name; f.Baseline\n"
        "assert not {'torch', 'transformers', 'wordfreq'} & set(sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
