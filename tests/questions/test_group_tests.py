"""Tests of all subjects together: chance that they share is no effect, and what cannot be tested is said."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.questions import Part
from brainalign.questions.group_tests import group_tests
from brainalign.types import Finding, Scores

N_DRAWS, N_LAYERS = 199, 2


def parts_of(
    n_subjects: int, effect: float = 0.0, shared: float = 0.0, n_targets: int = 6, n_latencies: int = 1, seed: int = 0
) -> dict[str, Part]:
    """Scores of two layers: an effect in the second, chance that subjects share (in draws too), and their own."""
    random = np.random.default_rng(seed)
    shape = (N_LAYERS, 1 + N_DRAWS, n_targets * n_latencies)
    chance = shared * random.normal(size=(N_LAYERS, 1 + N_DRAWS, 1))
    parts = {}
    for number in range(n_subjects):
        drawn = chance + 0.1 * random.normal(size=shape)
        drawn[1, 0] += effect
        parts[f"s{number}"] = Part(
            {
                "observed_r": drawn[:, 0].astype(np.float32), "null_r": drawn[:, 1:].astype(np.float32),
                "mean_r": drawn[:, 0].mean(axis=-1), "null_mean_r": drawn[:, 1:].mean(axis=-1),
            }
        )  # fmt: skip
    return parts


def scores_of(n_subjects: int, n_targets: int = 6, n_latencies: int = 0, voxels: bool = False) -> Scores:
    coords: dict = {
        "subject": ("target", np.repeat([f"s{i}" for i in range(n_subjects)], n_targets)),
        "target_name": ("target", [f"t{i}" for i in range(n_targets)] * n_subjects),
    }
    if n_latencies:
        coords["latency"] = ("latency", np.arange(n_latencies) / 10)
    if voxels:
        coords |= {axis: ("target", np.zeros(n_targets * n_subjects)) for axis in "jk"}
        coords["i"] = ("target", np.tile(np.arange(n_targets), n_subjects))
    space = {f"s{i}": {"kind": "volume"} for i in range(n_subjects)} if voxels else {}
    return Scores({"status": ("target", ["ok"] * (n_targets * n_subjects))}, coords=coords, attrs={"space": space})


def codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def test_an_effect_of_one_layer_is_found_in_the_means_and_target_by_target() -> None:
    found = group_tests(parts_of(8, effect=0.3), scores_of(8), ["r", "gain"], 0)
    assert found["group_p_stimulus_r"].values[1] == pytest.approx(1 / 200)
    assert found["group_p_stimulus_r"].values[0] > 0.02
    for test in ("wilcoxon", "t", "sign_flip"):
        assert found[f"group_p_{test}_r"].values[1] < 0.01
    assert (found["target_p_stimulus_r"].values[1] < 0.02).all()
    assert (found["target_q_stimulus_r"].values >= found["target_p_stimulus_r"].values).all()
    assert found["group_low_r"].values[1] < found["group_mean_r"].values[1] < found["group_high_r"].values[1]
    assert found["shared_target"].values.tolist() == [f"t{i}" for i in range(6)]
    assert not [name for name in found if str(name).endswith("gain")]


def test_chance_that_subjects_share_is_no_effect_of_the_stimulus_level_though_it_is_of_subjects() -> None:
    """Twenty studies of nothing, with more shared chance than of one's own."""
    of_stimulus, of_subjects = [], []
    for seed in range(20):
        found = group_tests(parts_of(8, shared=0.2, seed=seed), scores_of(8), ["r"], 0)
        of_stimulus.append(found["group_p_stimulus_r"].values <= 0.05)
        of_subjects.append(found["group_p_wilcoxon_r"].values <= 0.05)
    assert np.mean(of_stimulus) <= 0.15
    assert np.mean(of_subjects) >= 0.3


def test_each_subject_s_mean_is_tested_against_its_own_draws() -> None:
    parts = parts_of(3, effect=0.3)
    found = group_tests(parts, scores_of(3), ["r"], 0)
    for number, part in enumerate(parts.values()):
        count = (part.arrays["null_mean_r"][1] >= part.arrays["mean_r"][1]).sum()
        assert found["subject_p_r"].values[1, number] == pytest.approx((1 + count) / 200)
        assert found["subject_mean_r"].values[1, number] == pytest.approx(part.arrays["mean_r"][1])


def test_clusters_of_the_means_are_where_neighbours_share_an_effect() -> None:
    n_targets, n_latencies = 5, 4
    parts = parts_of(4, n_targets=n_targets, n_latencies=n_latencies)
    for part in parts.values():
        part.arrays["observed_r"].reshape(N_LAYERS, n_targets, n_latencies)[1, 1:3, 1:3] += 0.15
    found = group_tests(parts, scores_of(4, n_targets, n_latencies, voxels=True), ["r"], 0)
    clusters = found["target_p_cluster_r"]
    assert clusters.dims == ("layer", "shared_target", "latency")
    assert (clusters.values[1, 1:3, 1:3] < 0.05).all()
    assert (clusters.values[1, 4] > 0.05).all()
    assert (clusters.values[0] > 0.05).all()
    without = group_tests(parts, scores_of(4, n_targets, n_latencies, voxels=True), ["r"], 0, clusters=False)
    assert "target_p_cluster_r" not in without
    assert "target_p_cluster_r" not in group_tests(parts_of(4), scores_of(4), ["r"], 0)


def test_one_subject_has_its_own_test_only() -> None:
    found = group_tests(parts_of(1), scores_of(1), ["r"], 0)
    assert set(found.data_vars) == {"subject_mean_r", "subject_p_r", "group_mean_r", "group_chance_r"}
    assert codes(found.attrs["findings"]) == ["one-subject"]


def test_too_few_subjects_for_ranks_get_no_p_of_ranks_and_it_is_said() -> None:
    found = group_tests(parts_of(4), scores_of(4), ["r"], 0)
    assert "group_p_t_r" in found
    assert "group_p_wilcoxon_r" not in found
    assert codes(found.attrs["findings"]) == ["narrow-interval", "few-subjects", "few-subjects"]


def test_targets_of_other_names_are_not_averaged() -> None:
    scores = scores_of(3)
    scores["target_name"] = ("target", [f"t{i}" for i in range(18)])
    found = group_tests(parts_of(3), scores, ["r"], 0)
    assert "group_p_stimulus_r" in found
    assert not [name for name in found.variables if "target" in str(name)]


def test_a_target_that_some_subjects_lack_is_the_mean_of_the_others_and_one_that_all_lack_is_undefined() -> None:
    parts = parts_of(3)
    for part, lost in zip(parts.values(), ([0], [0], [0, 1]), strict=True):
        for name in ("observed_r", "null_r"):
            part.arrays[name][..., lost] = np.nan
    found = group_tests(parts, scores_of(3), ["r"], 0)
    two = np.mean([part.arrays["observed_r"][:, 1] for part in list(parts.values())[:2]], axis=0)
    np.testing.assert_allclose(found["target_mean_r"].values[:, 1], two, atol=1e-6)
    for name in ("target_mean_r", "target_p_stimulus_r", "target_q_stimulus_r"):
        assert np.isnan(found[name].values[:, 0]).all()
        assert np.isfinite(found[name].values[:, 1:]).all()
