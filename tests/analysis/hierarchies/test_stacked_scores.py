"""Runs are put side by side by value, layer by depth, and never where they differ in what was scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brainalign.analysis.hierarchies.stacked_scores import stack_scores
from brainalign.errors import DataError, RecipeError
from brainalign.types import Scores


def run(n_layers: int = 3, level: float = 0.0, subjects: tuple[str, ...] = ("a", "a", "b"), **kept: Any) -> Scores:
    """Scores that tell where they come from: level + layer + fold / 10 + target / 100."""
    layer, fold, target = np.ogrid[:n_layers, :2, : len(subjects)]
    r = level + layer + fold / 10 + target / 100
    dims = ("layer", "fold", "target")
    variables = {"r": (dims, r), "r_joint": (dims, r + 1), "r_baseline": (dims[1:], r[0])}
    if "status" in kept:
        variables["status"] = ("target", np.array(kept["status"], dtype=object))
    if "latency" in kept:
        variables["r"] = ((*dims, "latency"), np.stack([r, r + 2], axis=-1))
    return Scores(
        variables,
        coords={
            "feature_space": ("layer", kept.get("spaces", ["gpt2"] * n_layers)),
            "depth": ("layer", np.linspace(0, 1, n_layers)),
            "subject": ("target", list(subjects)),
            "target_name": ("target", [f"t{i}" for i in range(len(subjects))]),
        },
    )


def test_values_are_sorted_and_the_nearest_layer_of_each_is_taken() -> None:
    found = stack_scores({100.0: run(5, level=20), 10.0: run(3, level=10)}, depth=0.7)
    np.testing.assert_array_equal(found.values, [10, 100])
    np.testing.assert_allclose(found.r[:, 0, 0], [10 + 1, 20 + 3])
    names, means = found.by_subject()
    assert names == ["a", "b"]
    np.testing.assert_allclose(means, [[11.055, 11.07], [23.055, 23.07]])


def test_gain_latencies_and_status_are_as_in_the_tables() -> None:
    found = stack_scores({1.0: run()}, depth=1.0, variable="gain")
    np.testing.assert_allclose(found.r, 3.0)
    with_latency = stack_scores({1.0: run(latency=True)}, depth=0.0)
    np.testing.assert_allclose(with_latency.r[0, 0], [1.0, 1.01, 1.02])
    spoilt = stack_scores({1.0: run(status=["ok", "constant", "ok"])}, depth=0.0)
    np.testing.assert_array_equal(np.isnan(spoilt.r[0, 0]), [False, True, False])
    np.testing.assert_allclose(spoilt.by_subject()[1], [[0.05, 0.07]])


def test_one_of_several_spaces_is_named() -> None:
    scores = {1.0: run(spaces=["gpt2", "gpt2", "static"])}
    assert stack_scores(scores, depth=0.0, space="static").r[0, 0, 0] == 2
    with pytest.raises(RecipeError, match="several feature spaces"):
        stack_scores(scores, depth=0.0)
    with pytest.raises(RecipeError, match="Did you mean 'static'"):
        stack_scores(scores, depth=0.0, space="statik")
    with pytest.raises(RecipeError, match="No variable 'z'"):
        stack_scores({1.0: run()}, depth=0.0, variable="z")


def test_runs_that_differ_are_refused() -> None:
    with pytest.raises(DataError, match="differ in subject"):
        stack_scores({1.0: run(), 2.0: run(subjects=("a", "b", "b"))}, depth=0.0)
    with pytest.raises(DataError, match="have 1 folds"):
        stack_scores({1.0: run(), 2.0: run().isel(fold=[0])}, depth=0.0)
    with pytest.raises(RecipeError, match="no scores"):
        stack_scores({}, depth=0.0)
