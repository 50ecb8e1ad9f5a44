"""The report's section on forecasts: what F is not, what A is, and every p with its test."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.report.sections.forecast import section
from brainalign.report.sections.forecast_picture import forecast_picture
from brainalign.types import Scores

DISTANCES = (-4, -2, 5, 8)
N_SUBJECTS = 3


def answered(*, permutations: int = 99, variants: bool = True, over_subjects: bool = False) -> Scores:
    """Scores whose A is .04 at 5 (mirror 1, lacking) and .05 at 8 (mirror -2)."""
    random = np.random.default_rng(0)
    gain = np.array([0.0, -0.01, 0.03, 0.04]) + 0.002 * random.normal(size=(N_SUBJECTS, 4))
    contrast = np.full((N_SUBJECTS, 4), np.nan)
    contrast[:, 3] = gain[:, 3] - gain[:, 1]
    variables = {
        "forecast_subject_gain": (("of_subject", "forecast_distance"), gain),
        "forecast_subject_contrast": (("of_subject", "forecast_distance"), contrast),
        "forecast_group_gain": ("forecast_distance", gain.mean(axis=0)),
        "forecast_group_contrast": ("forecast_distance", contrast.mean(axis=0)),
        "forecast_group_contrast_low": ("forecast_distance", contrast.min(axis=0)),
        "forecast_group_contrast_high": ("forecast_distance", contrast.max(axis=0)),
        "forecast_group_passive": ("forecast_distance", np.array([np.nan, np.nan, np.nan, 0.004])),
        "forecast_floor": ("target", np.full(N_SUBJECTS, -0.012)),
        "forecast_group_peak": ((), 8.0),
        "forecast_group_peak_error": ((), 1.0),
        "forecast_group_peak_low": ((), 5.0),
        "forecast_group_peak_high": ((), 8.0),
    }
    if variants:
        of_variant = np.stack([gain, 0 * gain], axis=1)
        dims = ("of_subject", "forecast_variant", "forecast_distance")
        variables |= {
            "forecast_subject_variant_gain": (dims, of_variant),
            "forecast_subject_variant_contrast": (dims, np.stack([contrast, 0 * contrast], axis=1)),
            "forecast_group_variant_contrast": (dims[1:], np.stack([contrast, 0 * contrast], axis=1).mean(axis=0)),
        }
    p = np.array([np.nan, np.nan, np.nan, 0.01])
    if permutations:
        variables |= {f"forecast_group_{name}_stimulus": ("forecast_distance", p) for name in "pq"}
        variables["forecast_subject_p"] = (("of_subject", "forecast_distance"), np.tile(p, (N_SUBJECTS, 1)))
    if over_subjects:
        for test in ("wilcoxon", "sign_flip"):
            variables |= {f"forecast_group_{name}_{test}": ("forecast_distance", 3 * p) for name in "pq"}
    coords = {
        "forecast_distance": list(DISTANCES),
        "forecast_seconds": ("forecast_distance", np.array(DISTANCES) * 0.4),
        "of_subject": [f"s{i}" for i in range(N_SUBJECTS)],
        "feature_space": ("layer", ["gpt2", "gpt2"]),
        "layer_name": ("layer", ["layer 0", "layer 1"]),
        "layer_index": ("layer", [0, 1]),
        "depth": ("layer", [0.0, 1.0]),
        "subject": ("target", [f"s{i}" for i in range(N_SUBJECTS)]),
        "target_name": ("target", ["STG"] * N_SUBJECTS),
    }
    if variants:
        coords["forecast_variant"] = ["static", "restarting"]
    subjects = [f"s{i}" for i in range(N_SUBJECTS)]
    told = {
        "space": "gpt2",
        "layer_name": "layer 1",
        "base": "all",
        "n_components": 20,
        "width": 7,
        "depth_distance": 8,
    }
    told |= {"permutations": permutations, "horizon_space": "restarting"}
    told |= {
        name: dict.fromkeys(subjects, value)
        for name, value in {
            "n_samples": 300, "n_left_out": 44, "floor_samples": 40, "min_shift": 13, "retained": 0.8
        }.items()
    }  # fmt: skip
    return Scores(variables, coords=coords, attrs={"answers": {"forecast": told}})


def words(scores: Scores) -> str:
    found = section(scores)
    assert found is not None
    return " ".join(found.paragraphs)


def test_it_says_that_raw_gains_are_no_forecast_and_that_the_contrast_is_the_statistic() -> None:
    text = words(answered())
    assert "above zero without any prediction where base features have lost information" in text
    assert "A(d), F of the window ahead less F of the window as far behind, is the statistic" in text
    assert "all its dimensions" in text
    assert "300 samples of a subject; 44 that a word reaches" in text
    assert "d* = 8 words ± 1.0 (leaving out one subject at a time), 3.20 s" in text
    assert "from 5 to 8 words" in text


def test_every_p_stands_with_its_test_its_permutations_and_its_family() -> None:
    scores = answered(over_subjects=True)
    found = section(scores)
    assert found is not None
    (_, table), (caption, of_tests) = found.tables
    assert "family: the distances" in caption
    headers = of_tests.headers
    p_columns = [header for header in headers if header[:2] in ("p ", "q ")]
    assert p_columns == [
        "p stimulus-level (99 permutations)", "q stimulus-level", "p Wilcoxon", "q Wilcoxon", "p sign flip",
        "q sign flip",
    ]  # fmt: skip
    (row,) = of_tests.groups[0][1]
    cells = dict(zip(headers, row, strict=True))
    assert cells["d (words)"] == "+8"
    assert cells["p stimulus-level (99 permutations)"] == "≤ .010"
    assert cells["p Wilcoxon"] == ".030"
    assert dict(zip(table.headers, table.groups[0][1][0], strict=True))["A, restarting"] == "0.0000"
    text = " ".join(found.paragraphs)
    assert "99 passive brains" in text
    assert "Benjamini-Hochberg over the distances" in text
    assert "take subjects for independent" in text
    assert "p circular shift (99 permutations)" in found.folded[0][1].headers


def test_beside_a_p_over_the_stimulus_stands_the_number_that_was_tested() -> None:
    tested = np.array([np.nan, np.nan, np.nan, 0.0345])
    of_subjects = (("of_subject", "forecast_distance"), np.tile(tested, (N_SUBJECTS, 1)))
    scores = answered().assign(forecast_group_tested=("forecast_distance", tested), forecast_subject_tested=of_subjects)
    found = section(scores)
    assert found is not None
    for table in (found.tables[1][1], found.folded[0][1]):
        cells = dict(zip(table.headers, table.groups[0][1][0], strict=True))
        assert cells["A"] != cells["A, common penalties"] == "+0.0345"


def test_what_is_lacking_is_said() -> None:
    text = words(answered(permutations=0, variants=False))
    assert "no variant (static vectors, a context that restarts) stands beside them" in text
    assert "A(d) is not tested over subjects" in text
    assert section(Scores(attrs={"answers": {"forecast": {}}})) is None


def test_layers_and_the_horizon_have_tables_of_their_own() -> None:
    scores = answered().assign(
        forecast_depth_gain=(("layer", "target"), [[0.01] * 3, [0.02] * 3]),
        forecast_depth_contrast=(("layer", "target"), [[0.0] * 3, [0.015] * 3]),
        forecast_group_depth=1.0,
        forecast_group_depth_error=0.0,
        forecast_horizon=(("horizon_layer", "horizon_distance"), [[0.3, 0.1], [0.4, 0.35]]),
        forecast_half_life=("horizon_layer", [1.5, np.inf]),
    )
    scores = scores.assign_coords(horizon_layer=["layer 0", "layer 1"], horizon_distance=[1, 2])
    found = section(scores)
    assert found is not None
    assert [table.n_rows for _, table in found.tables] == [1, 1, 2, 2]
    assert found.tables[3][1].groups[0][1][1] == ("layer 1", "+0.400", "+0.350", "beyond")
    assert "layer number k* = 1 ± 0.0" in " ".join(found.paragraphs)


def test_the_picture_has_both_curves_the_variants_and_the_controls() -> None:
    figure = forecast_picture(answered())
    top, bottom = figure.axes
    assert top.get_ylabel().startswith("F")
    assert bottom.get_ylabel().startswith("A")
    drawn = bottom.get_lines()
    assert {tuple(line.get_xdata()) for line in drawn if len(line.get_xdata()) == 1} == {(8.0,)}
    (key,) = figure.legends
    names = [text.get_text() for text in key.get_texts()]
    assert names == ["the layer's own vectors", "static", "restarting", "windows from elsewhere", "passive control"]
    assert "n = 3" in figure.caption


@pytest.mark.parametrize("n", [1, 2])
def test_one_subject_has_no_band(n: int) -> None:
    figure = forecast_picture(answered(variants=False).isel(of_subject=slice(n)))
    assert ("no band" in figure.caption) == (n == 1)
