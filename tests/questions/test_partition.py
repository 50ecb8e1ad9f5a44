"""A partition through the whole way: unique and shared variance as planted, by name."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import brainalign as ba
from brainalign.config import parse_recipe, resolved
from brainalign.errors import RecipeError
from brainalign.pipeline.results import open_scores, save_scores
from brainalign.questions import Partition
from brainalign.report.sections.partition import section
from brainalign.simulate import InMemory
from brainalign.types import Clock, Recording, Scores, Stimulus

N_WORDS = 700


def first(stimulus: Stimulus) -> np.ndarray:
    return _vectors(stimulus)[:, :4]


def second(stimulus: Stimulus) -> np.ndarray:
    return _vectors(stimulus)[:, 2:6]


def _vectors(stimulus: Stimulus) -> np.ndarray:
    return np.random.default_rng(len(stimulus.id)).normal(size=(len(stimulus.words), 6))


@pytest.fixture(scope="module")
def data() -> InMemory:
    """Word-locked responses; columns 0 and 1 only the first space has, 2 and 3 both, 4 and 5 only the second."""
    from functools import partial

    import pandas as pd

    recordings, stimuli = [], {}
    for number in range(3):
        name = "story" + number * "x"
        words = pd.DataFrame({"onset": np.arange(N_WORDS) * 0.5, "duration": 0.3, "text": f"word{number}"})
        stimuli[name] = Stimulus(name, words)
    for subject in "ab":
        for name, stimulus in stimuli.items():
            rng = np.random.default_rng([ord(subject), len(name)])
            vectors = _vectors(stimulus)
            weights = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1]], dtype=float).T
            values = vectors @ weights + rng.normal(size=(N_WORDS, 3)) * np.sqrt(2)
            signal = np.zeros((int(N_WORDS * 0.5 * 20) + 60, 3), dtype=np.float32)
            signal[np.rint(np.arange(N_WORDS) * 0.5 * 20).astype(int) + 20 + 4] = values
            targets = pd.DataFrame({"name": ["only first", "both", "only second"], "kind": "sensor"})
            recordings.append(
                Recording(
                    subject, name, name, "meg", Clock(0.05), 1.0, targets, partial(np.array, signal), f"{subject}{name}"
                )
            )
    return InMemory("planted", "Planted", "meg", stimuli, recordings)


@pytest.fixture(scope="module")
def scores(data: InMemory) -> Scores:
    alignment = ba.alignment.Epochs(tmin_s=0.2, tmax_s=0.2)
    with warnings.catch_warnings(action="ignore"):
        return ba.score_layers(
            data, [first, second], (), alignment, questions=[Partition(["first", "second"], n_iter=10)], store=None
        )


def test_unique_and_shared_variance_come_back(scores: Scores) -> None:
    part = scores["partition_part"].groupby("target_name").mean("target")
    expected = {"only first": (0.5, 0.0, 0.0), "both": (0.0, 0.0, 0.5), "only second": (0.0, 0.5, 0.0)}
    for target, values in expected.items():
        found = part.sel(target_name=target).values
        np.testing.assert_allclose(found, values, atol=0.06, err_msg=target)


def test_parts_sum_to_the_joint_model_and_products_too(scores: Scores) -> None:
    joint = scores["partition_r2"].isel(subset=-1)
    np.testing.assert_allclose(scores["partition_part"].sum("subset"), joint, atol=1e-6)
    np.testing.assert_allclose(scores["partition_product"].sum("space"), joint, atol=1e-5)


def test_the_section_names_subsets_and_their_intervals(scores: Scores, tmp_path) -> None:  # type: ignore[no-untyped-def]
    save_scores(scores, tmp_path / "scores.nc")
    found = section(open_scores(tmp_path))
    (_, table) = found.tables[0]
    rows = table.groups[0][1]
    assert [row[0] for row in rows] == ["first", "second", "first & second"]
    assert "95 % interval (bootstrap over subjects)" in table.headers
    assert found == section(scores)
    assert "principal components" not in found.paragraphs[0]
    scores = scores.assign_attrs(answers={"partition": {"spaces": ["first", "second"], "n_components": 3}})
    assert "more than 3 columns is given as so many principal components" in section(scores).paragraphs[0]


def test_a_layer_is_named_by_number_or_name(data: InMemory) -> None:
    alignment = ba.alignment.Epochs(tmin_s=0.2, tmax_s=0.2)

    def layered(stimulus: Stimulus) -> np.ndarray:
        return np.stack([first(stimulus), second(stimulus)])

    def partitioned(spaces: list[str]) -> Scores:
        with warnings.catch_warnings(action="ignore"):
            return ba.score_layers(
                data, [layered, second], (), alignment, questions=[Partition(spaces, n_iter=2)], store=None
            )

    by_number, by_name = (partitioned([f"layered @ {layer}", "second"]) for layer in ("1", "layer 1"))
    np.testing.assert_array_equal(by_number["partition_part"], by_name["partition_part"])
    with pytest.raises(RecipeError, match="no layer '7'"):
        partitioned(["layered @ 7", "second"])
    with pytest.raises(RecipeError, match=r"no feature space 'secnd'\. Did you mean 'second'"):
        partitioned(["layered", "secnd"])


@pytest.mark.parametrize("spaces", [[], ["a"], ["a", "a"], ["a", "b", "c", "d"]])
def test_two_or_three_spaces_are_needed(spaces: list[str]) -> None:
    with pytest.raises(RecipeError, match="two or three"):
        Partition(spaces)


def test_a_recipe_asks_for_it_and_is_written_out() -> None:
    content = {
        "dataset": {"name": "simulated"},
        "features": [{"kind": "toy_model"}],
        "partition": {"spaces": ["ToyModel @ 3", "baseline"]},
    }
    recipe = parse_recipe(content)
    assert recipe.questions == (Partition(["ToyModel @ 3", "baseline"]),)
    again = parse_recipe(resolved(recipe))
    assert again.questions == recipe.questions
    with pytest.raises(RecipeError, match="two or three"):
        parse_recipe({**content, "partition": {}})
