"""What questions share: arrays of subjects put in the order of the scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brainalign import questions
from brainalign.questions import Ceiling, Part, Question
from brainalign.questions.study import Layers, by_layer, by_target, joined, subject_of_target
from brainalign.types import Finding, Scores


def scores_of(latencies: int = 0) -> Scores:
    """Subject b with three targets, then a with two."""
    coords = {"subject": ("target", list("bbbaa"))}
    if latencies:
        coords["latency"] = ("latency", np.arange(latencies) / 10)  # type: ignore[assignment]
    return Scores({"status": ("target", ["ok"] * 5)}, coords=coords)


def test_targets_of_all_subjects_stand_one_after_the_other() -> None:
    parts = {"b": Part({"x": np.arange(3.0)}), "a": Part({"x": np.array([7.0, 8.0])})}
    found = by_target(parts, "x", scores_of())
    assert found is not None
    assert found.dims == ("target",)
    assert found.values.tolist() == [0, 1, 2, 7, 8]


def test_a_target_s_latencies_lie_side_by_side_in_its_columns() -> None:
    parts = {"b": Part({"x": np.arange(24.0).reshape(2, 12)}), "a": Part({"x": 100 + np.arange(16.0).reshape(2, 8)})}
    found = by_target(parts, "x", scores_of(latencies=4), ["layer"])
    assert found is not None
    assert found.dims == ("layer", "target", "latency")
    assert found.values[1, 2].tolist() == [20, 21, 22, 23]
    assert found.values[0, 4].tolist() == [104, 105, 106, 107]


@pytest.mark.parametrize("latencies", [0, 2])
def test_a_subject_whose_part_lacks_an_array_is_undefined_there(latencies: int) -> None:
    width = max(1, latencies)
    parts = {"b": Part({}), "a": Part({"x": np.ones((3, 2 * width), dtype=np.float32)})}
    found = by_target(parts, "x", scores_of(latencies), ["layer"])
    assert found is not None
    assert found.dtype == np.float32
    assert np.isnan(found.values[:, :3]).all()
    assert (found.values[:, 3:] == 1).all()


def test_what_no_part_has_is_none() -> None:
    assert by_target({"b": Part({}), "a": Part({"y": np.ones(2)})}, "x", scores_of()) is None


def test_layers_of_spaces_stand_one_after_the_other() -> None:
    assert by_layer([np.zeros((2, 4)), np.ones((3, 4))])[:, 0].tolist() == [0, 0, 1, 1, 1]
    assert by_layer([np.zeros((4, 2)), np.ones((4, 3))], axis=1)[0].tolist() == [0, 0, 1, 1, 1]


def test_parts_of_spaces_are_one_part_that_is_read_layer_by_layer(tmp_path: Path) -> None:
    np.save(tmp_path / "of_two.npy", np.arange(6.0).reshape(2, 3))
    on_disk = np.load(tmp_path / "of_two.npy", mmap_mode="r")
    same, own = Finding("a", "x", "said twice."), Finding("b", "x", "said once.")
    part = joined(
        [Part({"r": on_disk, "null": on_disk}, [same], {"n": 1}), Part({"r": np.full((1, 3), 9.0)}, [same, own], {})]
    )
    assert list(part.arrays) == ["r"]
    assert list(part.findings) == [same, own]
    assert part.facts == {"n": 1}
    layers = part.arrays["r"]
    assert isinstance(layers, Layers)
    assert (len(layers), layers.shape) == (3, (3, 3))
    assert isinstance(layers[1], np.memmap)
    np.testing.assert_array_equal(layers, [[0, 1, 2], [3, 4, 5], [9, 9, 9]])
    found = by_target({"b": part}, "r", scores_of().isel(target=slice(3)), ["layer"])
    assert found is not None
    np.testing.assert_array_equal(found, layers)


def test_whose_each_target_is() -> None:
    assert subject_of_target(scores_of()).tolist() == list("bbbaa")


@pytest.mark.parametrize("question", [Ceiling(), questions.Tests()], ids=lambda question: question.section)
def test_what_is_asked_is_a_question(question: object) -> None:
    assert isinstance(question, Question)
