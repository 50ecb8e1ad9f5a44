from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from brainalign.errors import BrainalignWarning, DataError, RecipeError
from brainalign.features.acoustic import sound_envelope
from brainalign.features.own import OwnSpace, Precomputed, own_space
from brainalign.features.toy_model import ToyModel
from brainalign.types import Audio, Features, Stimulus


def stimulus(name: str, n_words: int = 3) -> Stimulus:
    texts = [f"word{number}" for number in range(n_words)]
    words = pd.DataFrame({"onset": 0.5 * np.arange(n_words), "duration": 0.4, "text": texts})
    return Stimulus(name, words, Audio(np.ones(int(800 * n_words)), 1600.0))


ONE, TWO = stimulus("one"), stimulus("two", 5)


def random_values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize(
    ("values", "layers"),
    [
        (random_values(3), ("layer 0",)),
        (random_values(3, 4), ("layer 0",)),
        (random_values(2, 3, 4), ("layer 0", "layer 1")),
        (random_values(3, 3, 3), ("layer 0", "layer 1", "layer 2")),
        (np.array([True, False, True]), ("layer 0",)),
        (np.array([1, 2, 3], dtype=np.uint8), ("layer 0",)),
        (random_values(3, 2).astype(np.float16), ("layer 0",)),
        ([1, 2.5, 3], ("layer 0",)),
        (pd.Series([1.0, 2.0, 3.0]), ("layer 0",)),
        (pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [0, 1, 0]}), ("layer 0",)),
    ],
)
def test_arrays_of_each_shape_are_features(values: Any, layers: tuple[str, ...]) -> None:
    features = own_space(lambda _: values, [ONE], "mine").extract(ONE)
    expected = np.asarray(values, dtype=np.float32)
    np.testing.assert_array_equal(features.values.ravel(), expected.ravel())
    assert features.values.dtype == np.float32
    assert features.values.shape == (len(layers), 3, features.values.shape[2])
    assert features.layers == layers
    assert features.name == "mine"
    assert features.kind == "word"
    np.testing.assert_array_equal(features.onset_s, ONE.words["onset"])
    assert len(features.metadata["dimensions"]) == features.values.shape[2]


def test_features_of_another_stage_keep_their_layers_times_and_kind() -> None:
    words = own_space(ToyModel(n_layers=2).extract, {"one": ONE, "two": TWO}, "twice the toy").extract(TWO)
    np.testing.assert_array_equal(words.values, ToyModel(n_layers=2).extract(TWO).values)
    assert (words.name, words.layers) == ("twice the toy", ("layer 0", "layer 1", "layer 2"))
    signal = own_space(sound_envelope, [ONE, TWO]).extract(ONE)
    assert (signal.name, signal.kind) == ("sound envelope", "signal")
    np.testing.assert_array_equal(signal.onset_s, sound_envelope(ONE).onset_s)


def test_the_function_is_called_once_for_each_stimulus() -> None:
    calls = []

    def letters(given: Stimulus) -> pd.Series:
        calls.append(given.id)
        return given.words["text"].str.len()

    space = own_space(letters, {"one": ONE, "two": TWO})
    for of in (ONE, TWO, ONE):
        space.fingerprint()
        space.extract(of)
    assert calls == ["one", "two"]
    assert space.name == "letters"


def test_later_changes_of_the_function_s_array_change_nothing() -> None:
    values = np.ones((3, 2), dtype=np.float32)
    space = own_space(lambda _: values, [ONE], "mine")
    before = space.fingerprint()
    values[:] = 7
    assert space.fingerprint() == before
    assert (space.extract(ONE).values == 1).all()


@settings(deadline=None)
@given(arrays(np.float32, (3, 2), elements=st.floats(-9, 9, width=32)), st.integers(0, 5), st.floats(0.5, 2, width=32))
def test_the_fingerprint_is_the_values(values: np.ndarray, place: int, change: float) -> None:
    factor = {"factor": 1.0}

    def scaled(_: Stimulus) -> np.ndarray:
        return values * factor["factor"]

    def otherwise(_: Stimulus) -> np.ndarray:
        return values.copy()

    first = own_space(scaled, [ONE]).fingerprint()
    assert json.loads(json.dumps(first)) == first
    assert own_space(otherwise, [ONE], "scaled").fingerprint() == first
    # The code is the same, what it reads is not.
    factor["factor"] = 2.0
    assert (own_space(scaled, [ONE]).fingerprint() == first) == (values == 0).all()
    changed = values.copy()
    changed.flat[place] += change
    assert own_space(lambda _: changed, [ONE], "x").fingerprint() != first


def test_layers_shape_and_stimulus_count_in_the_fingerprint() -> None:
    flat = np.zeros((3, 3))
    prints = [
        own_space(lambda _: flat, [ONE], "mine").fingerprint(),
        own_space(lambda _: np.stack([flat, flat]), [ONE], "mine").fingerprint(),
        own_space(lambda _: flat[:, :1], [ONE], "mine").fingerprint(),
        own_space(lambda _: flat, [stimulus("other")], "mine").fingerprint(),
    ]
    assert len({json.dumps(one) for one in prints}) == 4


BAD = [
    (np.zeros(4), r"shape \(4,\); expected \(word,\), \(word, dimension\) or .* for 3 words"),
    (np.zeros((4, 3)), r"shape \(4, 3\)"),
    (np.zeros((3, 4, 2)), r"shape \(3, 4, 2\)"),
    (np.zeros((3, 0)), r"shape \(3, 0\)"),
    (np.zeros((0, 3, 2)), r"shape \(0, 3, 2\)"),
    (np.float64(1.0), r"shape \(\)"),
    (np.zeros((1, 1, 3, 2)), r"shape \(1, 1, 3, 2\)"),
    (np.array([0.0, np.nan, 1.0]), r"1 of 3 values are NaN.*at \(1,\)"),
    (np.array([0.0, 1.0, np.inf]), "infinite"),
    (np.array([0.0, 1.0, 1e300]), "too large for float32"),
    (np.array([1j, 0, 0]), "complex128"),
]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        *BAD,
        (np.array(["a", "b", "c"]), "expected plain real numbers"),
        ([[1.0], [1.0, 2.0], [3.0]], "no array of numbers"),
        (None, "object"),
        (np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0]), "masked"),
    ],
)
def test_what_cannot_be_features_is_named(values: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"^mine\(stimulus 'one'\): .*{message}"):
        own_space(lambda _: values, [ONE], "mine")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: Features("x", ("a",), np.zeros((1, 2, 1)), np.zeros(2), np.zeros(2)), "2 words, or at other onsets"),
        (lambda s: Features("x", ("a",), np.zeros((1, 3, 1)), np.arange(3.0), np.ones(3)), "at other onsets"),
        (lambda s: Features("x", ("a",), np.zeros((1, 2, 1)), np.array([1.0, 0.0]), np.ones(2), "signal"), "not fall"),
        (lambda s: Features("x", ("a",), np.full((1, 2, 1), np.nan), np.arange(2.0), np.ones(2), "signal"), "2 of 2"),
        (lambda s: Features("x", ("a",), np.zeros((1, 2, 0)), np.arange(2.0), np.ones(2), "signal"), "some values"),
    ],
)
def test_features_that_do_not_fit_their_stimulus_are_named(make: Callable[[Stimulus], Features], message: str) -> None:
    with pytest.raises(DataError, match=message):
        own_space(make, [ONE], "mine")


def test_stimuli_must_have_the_same_columns() -> None:
    with pytest.raises(DataError, match="1 layers of 5 dimensions, kind word, for stimulus 'two', but 1 of 3"):
        own_space(lambda s: np.eye(len(s.words)), [ONE, TWO], "mine")


def test_errors_of_the_function_are_its_own() -> None:
    with pytest.raises(ZeroDivisionError):
        own_space(lambda s: 1 / 0, [ONE], "mine")  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(("stimuli", "message"), [([], "got none"), ([ONE, stimulus("one", 4)], "got one, one")])
def test_stimuli_that_cannot_be_told_apart_are_refused(stimuli: list[Stimulus], message: str) -> None:
    with pytest.raises(DataError, match=message):
        own_space(lambda s: np.zeros(len(s.words)), stimuli, "mine")


def test_a_function_without_a_name_needs_one() -> None:
    with pytest.raises(RecipeError, match="no name of its own"):
        own_space(lambda s: np.zeros(3), [ONE])


def test_stimuli_that_were_not_given_are_named() -> None:
    space = own_space(lambda s: np.zeros(len(s.words)), [ONE], "mine")
    with pytest.raises(DataError, match="no features of stimulus 'two'"):
        space.extract(TWO)
    with pytest.raises(DataError, match="than the 4 words"):
        space.extract(stimulus("one", 4))


@pytest.mark.slow
def test_own_features_can_be_scored() -> None:
    from brainalign.datasets import load_dataset
    from brainalign.pipeline.score import score_layers

    data = load_dataset("simulated", options={"n_subjects": 1, "n_runs": 3, "n_words": 200, "n_layers": 2})
    space = own_space(ToyModel(n_layers=2).extract, data.stimuli, "mine")
    assert isinstance(space, OwnSpace)
    with warnings.catch_warnings():
        # What simulated data bring along is not what is tested.
        warnings.simplefilter("ignore", BrainalignWarning)
        ours = score_layers(data, space, store=None)
        theirs = score_layers(data, ToyModel(n_layers=2), store=None)
    np.testing.assert_array_equal(ours.r, theirs.r)
    assert set(ours["feature_space"].values) == {"mine"}


def write(path: Path, values: np.ndarray, **others: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, features=values, **others)
    else:
        safetensors.numpy.save_file({"features": np.ascontiguousarray(values), **others}, path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 3, 4)])
def test_precomputed_arrays_come_back(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    values = random_values(*shape)
    write(tmp_path / "features" / f"one{suffix}", values)
    stage = Precomputed(f"features/{{stimulus}}{suffix}", root=tmp_path, name="theirs")
    features = stage.extract(ONE)
    np.testing.assert_array_equal(features.values.ravel(), values.astype(np.float32).ravel())
    assert features.layers == (("layer 0", "layer 1") if len(shape) == 3 else ("layer 0",))
    assert features.name == stage.name == "theirs"


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_one_of_several_arrays_is_named_by_a_key(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"all{suffix}", random_values(3), one=np.ones(3), two=np.full(5, 2.0))
    stage = Precomputed(f"all{suffix}", key="{stimulus}", root=tmp_path)
    assert (stage.extract(ONE).values == 1).all()
    assert (stage.extract(TWO).values == 2).all()
    with pytest.raises(DataError, match=r"no array 'three'"):
        stage.extract(stimulus("three"))
    with pytest.raises(DataError, match=r"3 arrays; name one as `key`"):
        Precomputed(f"{{stimulus}}{suffix}", root=tmp_path).extract(stimulus("all"))


@pytest.mark.parametrize(("values", "message"), BAD)
def test_precomputed_arrays_that_cannot_be_are_named(tmp_path: Path, values: np.ndarray, message: str) -> None:
    write(tmp_path / "one.npy", values)
    with pytest.raises(DataError, match=rf"one\.npy, stimulus 'one': .*{message}"):
        Precomputed("{stimulus}.npy", root=tmp_path).extract(ONE)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.array([{}, {}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read as an array of numbers"):
        Precomputed("{stimulus}.npy", root=tmp_path).extract(ONE)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_damaged_files_are_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"one{suffix}"
    write(path, random_values(3, 4))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=rf"one{suffix}"):
        Precomputed(f"{{stimulus}}{suffix}", root=tmp_path).extract(ONE)


def test_missing_files_are_named(tmp_path: Path) -> None:
    write(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(DataError, match=r"two\.npy: no such file"):
        Precomputed("{stimulus}.npy", root=tmp_path).extract(TWO)
    with pytest.raises(DataError, match="no such file of any stimulus"):
        Precomputed("none/{stimulus}.npy", root=tmp_path).fingerprint()


@pytest.mark.parametrize(
    ("path", "message"), [("all.npy", "one array for all"), ("{stimulus}.pkl", "must end in .npy")]
)
def test_paths_that_cannot_be_are_refused(path: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Precomputed(path)


def test_the_fingerprint_is_the_files_contents_wherever_they_lie(tmp_path: Path) -> None:
    # Signs that mean something in patterns.
    first, second = tmp_path / "a[1]", tmp_path / "b*"
    write(first / "features" / "one" / "x.npy", np.ones(3))
    write(first / "features" / "two" / "x.npy", np.ones(5))
    write(first / "features" / "two" / "y.npy", np.ones(5))
    shutil.copytree(first, second)
    stages = [Precomputed("features/{stimulus}/x.npy", root=folder) for folder in (first, second)]
    before = stages[0].fingerprint()
    assert json.loads(json.dumps(before)) == before == stages[1].fingerprint()
    assert len(before["files"]) == 2
    write(second / "features" / "two" / "x.npy", np.zeros(5))
    assert stages[1].fingerprint() != before


def test_a_recipe_can_set_it() -> None:
    from brainalign.config import build, settings_of

    stage = build(Precomputed, {"path": "features/{stimulus}.npy", "root": "somewhere"}, "features.0")
    assert stage == Precomputed("features/{stimulus}.npy", root=Path("somewhere"))
    assert settings_of(stage) == {
        "path": "features/{stimulus}.npy",
        "key": None,
        "name": "precomputed",
        "root": "somewhere",
    }
