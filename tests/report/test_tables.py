"""Averages against plain loops, undefined values that stay undefined, and planted truths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.errors import DataError
from brainalign.report import group_profile, planted_recovery, summary, write_summary
from brainalign.types import Scores

Make = Callable[..., Scores]


def test_summary_is_what_plain_loops_give(make_scores: Make) -> None:
    scores = make_scores(subjects=["b", "a"], targets=["A1", "STG", "AG"], latency_s=[0.0, 0.2, 0.4, 0.6])
    table = summary(scores).set_index(["subject", "layer"])
    assert list(table.index) == [("b", 0), ("b", 1), ("b", 2), ("b", 3), ("a", 0), ("a", 1), ("a", 2), ("a", 3)]
    for subject, first in (("b", 0), ("a", 3)):
        for layer in range(4):
            r = scores["r"].values[layer, :, first : first + 3].astype(float)  # (fold, target, latency)
            row = table.loc[(subject, layer)]
            assert row["r"] == pytest.approx(np.mean([r[:, i].mean() for i in range(3)]), abs=1e-7)
            assert row["best_target"] == ["A1", "STG", "AG"][r.mean(axis=(0, 2)).argmax()]
            assert row["r_best_target"] == pytest.approx(r.mean(axis=(0, 2)).max(), abs=1e-7)
            assert row["best_latency"] == [0.0, 0.2, 0.4, 0.6][r.mean(axis=(0, 1)).argmax()]
            assert row["n_targets"] == 3


def test_gain_is_joint_minus_baseline(make_scores: Make) -> None:
    table = summary(make_scores())
    np.testing.assert_allclose(table["gain"], table["r_joint"] - table["r_baseline"], atol=1e-7)


def test_gain_subtracts_within_folds_where_some_are_undefined(make_scores: Make) -> None:
    scores = make_scores(subjects=["a"], targets=["A1"], spaces={"gpt2": 1}, n_folds=2)
    scores["r_baseline"].values[:, 0] = [0.9, 0.1]
    scores["r_joint"].values[0, :, 0] = [np.nan, 0.2]
    assert summary(scores)["gain"][0] == pytest.approx(0.1, abs=1e-6)  # not 0.2 - 0.5


def test_what_was_not_scored_is_not_a_column(make_scores: Make) -> None:
    table = summary(make_scores(baseline=False).drop_vars("r2"))
    assert not {"r2", "r_baseline", "r_joint", "gain", "best_latency"} & set(table)
    assert not {"r_baseline", "r_joint", "gain", "gain_se"} & set(group_profile(make_scores(baseline=False)))


def test_a_target_without_a_valid_response_enters_no_mean(make_scores: Make, spoil: Make) -> None:
    scores = make_scores(subjects=["a", "b"], targets=["A1", "STG"])
    spoilt, alone = summary(spoil(scores, 1)), summary(scores.isel(target=[0]))
    of_a = spoilt[spoilt["subject"] == "a"]
    np.testing.assert_allclose(of_a["r"], alone["r"])
    assert of_a["n_targets"].tolist() == [1] * 4
    assert spoilt[spoilt["subject"] == "b"]["n_targets"].tolist() == [2] * 4


def test_a_bad_status_counts_even_where_the_score_is_a_number(make_scores: Make) -> None:
    scores = make_scores(subjects=["a"], targets=["A1", "STG"])
    expected = summary(scores.isel(target=[0]))["r"]
    scores["status"][1] = "nonfinite"
    np.testing.assert_allclose(summary(scores)["r"], expected)


def test_all_undefined_stays_undefined_and_is_never_zero(make_scores: Make, spoil: Make) -> None:
    scores = spoil(make_scores(subjects=["a", "b"], latency_s=[0.0, 0.4]), 0, 1, 2, 3)
    table = summary(scores)
    undefined = ["r", "r2", "r_baseline", "r_joint", "gain", "best_target", "r_best_target", "best_latency"]
    assert table[undefined].isna().all(axis=None)
    assert table["n_targets"].eq(0).all()
    profile = group_profile(scores)
    assert profile[["r", "r_se", "gain", "gain_se"]].isna().all(axis=None)
    assert profile["n_subjects"].eq(0).all()


def test_a_subject_without_scores_leaves_the_group_of_the_others(make_scores: Make, spoil: Make) -> None:
    scores = make_scores(subjects=["a", "b", "c"], targets=["A1"])
    profile, others = group_profile(spoil(scores, 1)), group_profile(scores.isel(target=[0, 2]))
    pd.testing.assert_frame_equal(profile, others)
    assert profile["n_subjects"].eq(2).all()


def test_subjects_may_differ_in_targets_and_spaces_in_layers(make_scores: Make) -> None:
    scores = make_scores(subjects=["a", "b"], targets={"a": ["A1", "STG"], "b": ["IFG"]}, spaces={"x": 2, "y": 3})
    table = summary(scores)
    assert table.groupby("subject")["n_targets"].first().to_dict() == {"a": 2, "b": 1}
    assert table[table["subject"] == "b"]["best_target"].eq("IFG").all()
    assert table[table["subject"] == "a"][["feature_space", "layer"]].to_numpy().tolist() == [
        ["x", 0], ["x", 1], ["y", 0], ["y", 1], ["y", 2],
    ]  # fmt: skip
    assert len(group_profile(scores)) == 5


def test_the_group_profile_is_mean_and_standard_error_over_subjects(make_scores: Make) -> None:
    scores = make_scores(subjects=list("abcde"))
    table, profile = summary(scores), group_profile(scores)
    for name in ("r", "r_baseline", "r_joint", "gain"):
        by_subject = table.pivot(index="layer", columns="subject", values=name).to_numpy()
        np.testing.assert_allclose(profile[name], by_subject.mean(axis=1))
        np.testing.assert_allclose(profile[f"{name}_se"], by_subject.std(axis=1, ddof=1) / np.sqrt(5))


def test_one_subject_has_no_standard_error(make_scores: Make) -> None:
    profile = group_profile(make_scores(subjects=["a"]))
    assert profile["r"].notna().all()
    assert profile["r_se"].isna().all()


def test_scores_from_netcdf_give_the_same_summary(make_scores: Make, tmp_path: Path) -> None:
    scores = make_scores(latency_s=[0.0, 0.4])
    scores.to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "scores.nc", engine="h5netcdf") as read:
        read.load()
        again = Scores(read.data_vars, read.coords, read.attrs)
    pd.testing.assert_frame_equal(summary(again), summary(scores))


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t"])
def test_a_spreadsheet_takes_no_name_for_a_formula(make_scores: Make, tmp_path: Path, first: str) -> None:
    name = f"{first}HYPERLINK(1)"
    scores = make_scores(subjects=[name], targets=[name], spaces={name: 1})
    write_summary(scores, tmp_path / "summary.csv")
    row = pd.read_csv(tmp_path / "summary.csv").loc[0]
    assert row["subject"] == row["feature_space"] == row["best_target"] == f"'{name}"


def test_the_written_summary_reads_back_whole(make_scores: Make, spoil: Make, tmp_path: Path) -> None:
    scores = spoil(make_scores(subjects=["日本", 'a,"b"\nc'], targets=["é"]), 0)
    write_summary(scores, tmp_path / "summary.csv")
    again = pd.read_csv(tmp_path / "summary.csv")
    pd.testing.assert_frame_equal(again, summary(scores), check_dtype=False)
    assert "NaN" in (tmp_path / "summary.csv").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["summary.csv"]


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.floats(-1, 1, width=32), min_size=12, max_size=12),
    undefined=st.sets(st.integers(0, 11), max_size=12),
)
def test_means_agree_with_numpy_wherever_scores_are_undefined(values: list[float], undefined: set[int]) -> None:
    r = np.array(values).reshape(1, 3, 4)  # (layer, fold, target)
    r.flat[list(undefined)] = np.nan
    scores = Scores(
        {"r": (("layer", "fold", "target"), r)},
        coords={
            "feature_space": ("layer", ["x"]), "layer_name": ("layer", ["0"]), "layer_index": ("layer", [0]),
            "depth": ("layer", [0.0]), "subject": ("target", list("aabb")), "target_name": ("target", list("wxyz")),
        },
    )  # fmt: skip
    by_target = [[x for x in r[0, :, i] if not np.isnan(x)] for i in range(4)]
    means = [np.mean(x) if x else np.nan for x in by_target]
    expected = [
        np.mean(d) if (d := [m for m in pair if not np.isnan(m)]) else np.nan for pair in (means[:2], means[2:])
    ]
    np.testing.assert_allclose(summary(scores)["r"], expected, atol=1e-12)


def plant(scores: Scores, layer: list[int], latency_s: list[float] | None = None) -> Scores:
    """Make each target's r highest, by far, where its coordinates say."""
    scores = scores.assign_coords(planted_layer=("target", layer))
    if latency_s is not None:
        scores = scores.assign_coords(planted_latency=("target", latency_s))
    for target, place in enumerate(layer):
        if place >= 0:
            where = {"layer": place, "target": target}
            if latency_s is not None:
                where["latency"] = int(np.abs(scores["latency"].values - latency_s[target]).argmin())
            scores["r"][where] = 0.9
    return scores


def test_planted_layers_are_found_and_targets_without_one_are_left_out(make_scores: Make) -> None:
    recovery = planted_recovery(plant(make_scores(subjects=["a", "b"]), [0, 3, -1, 1]))
    assert recovery.targets["recovered_layer"].tolist() == [0, 3, 1]
    assert recovery.shares.loc[0, ["n_targets", "layer"]].tolist() == [3, 1.0]


def test_missed_layers_and_latencies_lower_the_shares(make_scores: Make) -> None:
    scores = plant(make_scores(subjects=["a", "b"], latency_s=[0.0, 0.1, 0.2, 0.3]), [0, 3, 2, 1], [0.0, 0.1, 0.2, 0.3])
    scores = scores.assign_coords(
        planted_layer=("target", [0, 3, 2, 2]), planted_latency=("target", [0.04, 0.2, 0.0, 0.3])
    )
    share = planted_recovery(scores).shares.loc[0]
    assert (share["layer"], share["latency"], share["latency_within_one"]) == (0.75, 0.5, 0.75)


def test_a_planted_target_without_scores_counts_as_missed(make_scores: Make, spoil: Make) -> None:
    recovery = planted_recovery(spoil(plant(make_scores(subjects=["a"]), [2, 2]), 1))
    assert recovery.targets["recovered_layer"].isna().tolist() == [False, True]
    assert recovery.shares["layer"][0] == 0.5


def test_recovery_is_told_for_each_feature_space(make_scores: Make) -> None:
    scores = plant(make_scores(subjects=["a"], spaces={"x": 3, "y": 2}), [1, 1])
    shares = planted_recovery(scores).shares.set_index("feature_space")["layer"]
    assert shares["x"] == 1.0
    assert list(shares.index) == ["x", "y"]


@pytest.mark.parametrize("planted", [None, [-1, -1]])
def test_where_nothing_was_planted_recovery_says_so(make_scores: Make, planted: list[int] | None) -> None:
    scores = make_scores(subjects=["a"])
    if planted is not None:
        scores = scores.assign_coords(planted_layer=("target", planted))
    with pytest.raises(DataError, match="nothing was planted"):
        planted_recovery(scores)


def test_ceilings_and_tests_are_columns_where_the_scores_have_them(make_scores: Make) -> None:
    scores = make_scores(subjects=["a", "b"], targets=["A1", "STG", "AG"], spaces={"x": 2})
    rising = np.arange(12.0).reshape(2, 6) / 100
    scores = scores.assign_coords(of_subject=["a", "b"]).assign(
        ceiling=("target", [0.5, 0.3, 0.9, 0.4, np.nan, 0.2]),
        ceiling_status=("target", ["ok", "ok", "low", "ok", "undefined", "not significant"]),
        subject_p_r=(("layer", "of_subject"), [[0.01, 0.02], [0.03, 0.04]]),
        q_r=(("layer", "target"), rising),
        subject_p_gain=(("layer", "of_subject"), [[0.1, 0.2], [0.3, 0.4]]),
        q_gain=(("layer", "target"), rising + 0.04),
    )
    table = summary(scores).set_index(["subject", "layer"])
    assert table["ceiling"].tolist() == pytest.approx([0.4, 0.4, 0.4, 0.4])
    r = scores["r"].mean("fold").values.astype(float)
    assert table.loc[("a", 1), "r_over_ceiling"] == pytest.approx(r[1, :2].mean() / 0.4, rel=1e-6)
    assert table.loc[("b", 0), "r_over_ceiling"] == pytest.approx(r[0, 3] / 0.4, rel=1e-6)
    assert table["p"].tolist() == [0.01, 0.03, 0.02, 0.04]
    assert table["p_gain"].tolist() == [0.1, 0.3, 0.2, 0.4]
    # q of r: .00 .01 .02 | .03 .04 .05 in the first layer, above it in the second.
    assert table["n_significant"].tolist() == [3, 0, 2, 0]
    assert table["n_significant_gain"].tolist() == [1, 0, 0, 0]
    assert "test" not in table
    scores.attrs["answers"] = {"tests": {"name": "circular shift", "permutations": 200}}
    (test,) = set(summary(scores)["test"])
    assert test.startswith("circular shift, 200 permutations; ")
    assert "Benjamini-Hochberg over all targets of a subject and layer" in test


def test_with_latencies_a_target_is_significant_once_and_divided_where_its_ceiling_is_usable(make_scores: Make) -> None:
    scores = make_scores(subjects=["a"], targets=["A1", "STG"], spaces={"x": 1}, latency_s=[0.0, 0.4])
    scores = scores.assign_coords(of_subject=["a"]).assign(
        ceiling=(("target", "latency"), [[0.1, 0.5], [np.nan, 0.3]]),
        ceiling_usable=(("target", "latency"), [[False, True], [False, True]]),
        ceiling_status=("target", ["ok", "ok"]),
        subject_p_r=(("layer", "of_subject"), [[0.01]]),
        q_r=(("layer", "target", "latency"), [[[0.01, 0.02], [0.5, 0.6]]]),
    )
    (row,) = summary(scores).to_dict("records")
    assert row["ceiling"] == pytest.approx(0.4)
    r = scores["r"].mean("fold").values.astype(float)
    assert row["r_over_ceiling"] == pytest.approx(r[0, :, 1].mean() / 0.4, rel=1e-6)
    assert row["n_significant"] == 1


def test_without_a_usable_ceiling_the_share_is_undefined(make_scores: Make) -> None:
    scores = make_scores(subjects=["a"], targets=["A1"])
    scores = scores.assign(ceiling=("target", [np.nan]), ceiling_status=("target", ["undefined"]))
    assert summary(scores)[["ceiling", "r_over_ceiling"]].isna().all(axis=None)
    assert not {"p", "n_significant"} & set(summary(scores))
