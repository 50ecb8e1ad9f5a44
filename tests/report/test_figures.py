"""Figures draw the numbers of the tables, and names as they are."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO, StringIO
from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from brainalign.errors import RecipeError
from brainalign.report import group_profile, layer_by_latency, layer_profile, region_by_layer, summary
from brainalign.types import Scores

Make = Callable[..., Scores]
LATENCIES_S = np.linspace(-0.2, 0.8, 11)


def texts(figure: Figure) -> str:
    """All text of the figure as it stands in an SVG."""
    import html

    from matplotlib import rc_context

    stream = StringIO()
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(stream, format="svg")
    return html.unescape(" | ".join(re.findall(r"<text[^>]*>(.*?)</text>", stream.getvalue(), re.DOTALL)))


def test_the_profile_draws_the_group_means_and_each_subject(make_scores: Make) -> None:
    scores = make_scores()
    figure, profile, table = layer_profile(scores), group_profile(scores), summary(scores)
    for axes, name in zip(figure.axes, ("r", "gain"), strict=True):
        drawn = [np.asarray(line.get_ydata()) for line in axes.lines]
        assert any(len(y) == 4 and np.allclose(y, profile[name]) for y in drawn)
        for _, rows in table.groupby("subject"):
            assert any(len(y) == 4 and np.allclose(y, rows[name]) for y in drawn)
    assert any(np.allclose(line.get_ydata(), profile["r_baseline"][0]) for line in figure.axes[0].lines)
    assert "n = 3" in figure.caption
    assert "standard error" in figure.caption


def test_one_subject_has_no_band_and_the_caption_says_why(make_scores: Make) -> None:
    figure = layer_profile(make_scores(subjects=["a"]))
    assert [len(axes.collections) + len(axes.patches) for axes in figure.axes] == [0, 0]
    assert "no standard error" in figure.caption
    figure.savefig(BytesIO(), format="png")


def test_without_a_baseline_there_is_one_panel(make_scores: Make) -> None:
    figure = layer_profile(make_scores(baseline=False))
    assert len(figure.axes) == 1
    assert "baseline" not in figure.caption


def test_spaces_of_different_size_share_the_axis_of_depth(make_scores: Make) -> None:
    scores = make_scores(spaces={"gpt2": 3, "bert": 5})
    both, one = layer_profile(scores), layer_profile(scores, space="bert")
    assert max(line.get_xdata()[-1] for line in both.axes[1].lines) == 1.0
    assert one.axes[-1].get_xlabel() == "layer of bert"
    assert {len(line.get_xdata()) for line in one.axes[1].lines} == {5, 2}  # 2: the line at zero


def test_an_unknown_space_or_variable_names_the_nearest(make_scores: Make) -> None:
    with pytest.raises(RecipeError, match="'toy-model'"):
        layer_profile(make_scores(), space="toy-modle")
    with pytest.raises(RecipeError, match="Did you mean 'gain'"):
        region_by_layer(make_scores(), variable="gian")
    with pytest.raises(RecipeError, match="r_baseline"):
        region_by_layer(make_scores(), variable="r_baseline")


@pytest.mark.parametrize("name", ["$x$", "a_b^c", r"\alpha$", "$", "_x", "<b>&\"'", "日本語", "naïve"])
@pytest.mark.filterwarnings("ignore:Glyph .* missing from:UserWarning")
def test_names_are_drawn_letter_by_letter(make_scores: Make, name: str) -> None:
    scores = make_scores(targets=[name, "other"], spaces={name: 2, "second": 2}, latency_s=LATENCIES_S)
    for figure in (layer_profile(scores), region_by_layer(scores), layer_by_latency(scores)):
        assert name in texts(figure)


def test_names_that_no_svg_may_hold_are_replaced(make_scores: Make) -> None:
    figure = region_by_layer(make_scores(targets=["a\x00b", "c\nd"]))
    assert "a\N{REPLACEMENT CHARACTER}b" in texts(figure)


def test_the_heat_map_averages_over_the_subjects_who_have_the_target(make_scores: Make, spoil: Make) -> None:
    scores = make_scores(subjects=["a", "b"], targets={"a": ["A1", "STG"], "b": ["STG", "IFG"]})
    figure = region_by_layer(spoil(scores, 0))
    drawn = np.ma.filled(figure.axes[0].collections[0].get_array(), np.nan).reshape(3, 4)
    r = scores["r"].mean("fold").values
    np.testing.assert_allclose(drawn, [np.full(4, np.nan), r[:, 1:3].mean(axis=1), r[:, 3]], atol=1e-6)
    assert "1 to 2" in figure.caption


def test_of_many_targets_the_highest_are_shown_and_the_caption_says_so(make_scores: Make) -> None:
    names = [f"parcel {i}" for i in range(200)]
    scores = make_scores(subjects=["a", "b"], targets=names)
    figure = region_by_layer(scores)
    r = scores["r"].mean("fold").values
    peak = ((r[:, :200] + r[:, 200:]) / 2).max(axis=0)
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert shown == [names[i] for i in np.argsort(-peak)[:40]]
    assert "40 of 200 targets" in figure.caption


@pytest.mark.parametrize(("variable", "is_centred"), [("r", False), ("gain", True), ("r2", True), ("r_joint", False)])
def test_signed_variables_have_colours_centred_at_zero(make_scores: Make, variable: str, is_centred: bool) -> None:
    mesh = region_by_layer(make_scores(), variable).axes[0].collections[0]
    assert (mesh.norm(0.0) == pytest.approx(0.5)) == is_centred


def test_latencies_are_drawn_where_they_are(make_scores: Make) -> None:
    scores = make_scores(latency_s=LATENCIES_S)
    figure = layer_by_latency(scores)
    top, bottom = figure.axes[:2]
    drawn = top.collections[0].get_array().reshape(4, 11)
    np.testing.assert_allclose(drawn, scores["r"].mean(["fold", "target"]).values, atol=1e-6)
    best = int(scores["r"].mean(["fold", "target", "latency"]).values.argmax())
    curves = [line for line in bottom.lines if len(line.get_xdata()) == 11]
    assert any(np.allclose(line.get_ydata(), drawn[best], atol=1e-6) for line in curves)
    np.testing.assert_allclose(curves[0].get_xdata(), LATENCIES_S)
    assert "(s)" in bottom.get_xlabel()


def test_scores_without_latencies_have_no_time_course(make_scores: Make) -> None:
    with pytest.raises(RecipeError, match="no latencies"):
        layer_by_latency(make_scores())


def test_all_undefined_still_draws_and_says_so(make_scores: Make, spoil: Make) -> None:
    scores = spoil(make_scores(subjects=["a"], latency_s=LATENCIES_S), 0, 1)
    figures = [
        layer_profile(scores),
        region_by_layer(scores),
        region_by_layer(scores, "gain"),
        layer_by_latency(scores),
    ]
    for figure in figures:
        figure.savefig(BytesIO(), format="png")
    assert "No score is defined" in figures[0].caption


def test_a_notebook_shows_a_returned_figure(make_scores: Make) -> None:
    formatters = pytest.importorskip("IPython.core.formatters", reason="needs IPython, which ipykernel brings")
    bundle, _ = formatters.DisplayFormatter().format(layer_profile(make_scores()))
    assert bundle["image/png"].startswith(b"\x89PNG")


def test_figures_show_themselves_without_pyplot() -> None:
    code = """
import sys, numpy as np
from brainalign.report import layer_profile
from brainalign.types import Scores
scores = Scores({"r": (("layer", "fold", "target"), np.ones((2, 1, 1)))}, coords={
    "feature_space": ("layer", ["x", "x"]), "layer_name": ("layer", ["0", "1"]), "layer_index": ("layer", [0, 1]),
    "depth": ("layer", [0.0, 1.0]), "subject": ("target", ["a"]), "target_name": ("target", ["A1"])})
assert layer_profile(scores)._repr_png_().startswith(b"\\x89PNG")
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_drawing_leaves_the_callers_style_alone(make_scores: Make) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    layer_profile(make_scores()).savefig(BytesIO(), format="svg")
    assert dict(matplotlib.rcParams) == before


def test_a_table_does_not_wait_for_matplotlib() -> None:
    code = "import sys; from brainalign.report import summary; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


MANY = {f"a model of a rather long name (number {i}, context {20 * i} words exactly)": 2 + i % 4 for i in range(9)}
SINGLE = {f"surprisal and entropy of a model, number {i}": 1 for i in range(4)}


def named(scores: Scores, names: list[str]) -> Scores:
    return scores.assign_coords(layer_name=("layer", names))


def assert_readable(figure: Figure) -> None:
    """No two texts overlap, none is cut, and the key lies on no axes."""
    texts, (width_in, height_in) = shown_texts(figure), figure.get_size_inches()
    for (name, box), (other, another) in combinations(texts, 2):
        # A hundredth of an inch: boxes are higher than their letters.
        assert min(box.x1, another.x1) - max(box.x0, another.x0) < 0.01 or (
            min(box.y1, another.y1) - max(box.y0, another.y0) < 0.01
        ), (name, other)
    for name, box in texts:
        assert min(box.x0, box.y0, width_in - box.x1, height_in - box.y1) > -0.01, name
    for legend in figure.legends:
        for axes in figure.axes:
            assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def shown_texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """The texts that are drawn and their boxes in inches."""
    figure.draw_without_rendering()
    texts = [text for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        texts += [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for axis, low_high in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            low, high = sorted(low_high)
            texts += [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high and t.label1.get_visible()]
            texts += [t.label2 for t in axis.get_major_ticks() if low <= t.get_loc() <= high and t.label2.get_visible()]
    texts = [text for text in texts if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), Bbox(text.get_window_extent().get_points() / figure.dpi)) for text in texts]


@pytest.mark.parametrize(
    "spaces",
    [
        {"gpt2": 13},
        {"gpt2": 13, "bert": 5},
        {"gpt2": 1},
        {"pitch": 1, "sound envelope": 1, "surprisal": 1},
        MANY,
        SINGLE,
        MANY | SINGLE,
        {f"space {i}": 1 for i in range(30)},
        {"x": 40, "y": 1, "z": 1},
    ],
    ids=["one", "two", "one-single", "three-single", "many", "single", "many-and-single", "thirty-single", "one-large"],
)
def test_nothing_overlaps_and_nothing_is_cut(make_scores: Make, spaces: dict[str, int]) -> None:
    scores = make_scores(spaces=spaces, latency_s=LATENCIES_S)
    for figure in (layer_profile(scores), region_by_layer(scores), layer_by_latency(scores)):
        assert_readable(figure)


def test_the_whole_names_of_many_spaces_are_in_every_figure(make_scores: Make) -> None:
    scores = make_scores(spaces=MANY | SINGLE, latency_s=LATENCIES_S)
    for figure in (layer_profile(scores), region_by_layer(scores), layer_by_latency(scores)):
        shown = " ".join(name for name, _ in shown_texts(figure)).replace("\n", " ")
        assert [name for name in MANY | SINGLE if name not in shown] == []


def test_many_lines_can_be_told_apart(make_scores: Make) -> None:
    figure = layer_profile(make_scores(spaces={f"space {i}": 3 for i in range(30)}))
    thick = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    looks = {f"{line.get_color()} {line.get_marker()} {line._dash_pattern}" for line in thick}
    assert len(thick) == len(looks) == 30
    assert "Thin lines" not in figure.caption


def test_single_layers_stand_side_by_side(make_scores: Make) -> None:
    scores = make_scores(spaces={"gpt2": 3, "pitch": 1, "envelope": 1})
    figure = layer_profile(named(scores, ["layer 0", "layer 1", "layer 2", "pitch", "layer 7"]))
    r, _, points, _ = figure.axes
    assert max(line.get_xdata()[-1] for line in r.lines if len(line.get_xdata()) == 3) == 1.0
    drawn = {container.lines[0].get_xdata()[0]: container.lines[0].get_ydata()[0] for container in points.containers}
    np.testing.assert_allclose([drawn[0], drawn[1]], group_profile(scores)["r"][3:], rtol=1e-6)
    assert [label.get_text() for label in figure.axes[3].get_xticklabels()] == ["pitch", "envelope, layer 7"]
    assert points.get_ylim() == r.get_ylim()


def test_parts_of_layers_are_a_line_each_at_the_numbers_of_their_names(make_scores: Make) -> None:
    names = ["layer 1 attention", "layer 1 mlp", "layer 2 attention", "layer 2 mlp", "layer 3 attention", "layer 3 mlp"]
    scores = named(make_scores(spaces={"gpt2": 6}), names)
    figure, r = layer_profile(scores), group_profile(scores)["r"].to_numpy()
    drawn = [line for line in figure.axes[0].lines if line.get_linewidth() == 2]
    assert [line.get_xdata().tolist() for line in drawn] == [[1, 2, 3], [1, 2, 3]]
    np.testing.assert_allclose([line.get_ydata() for line in drawn], [r[::2], r[1::2]])
    assert {"gpt2, attention", "gpt2, mlp"} <= {name for name, _ in shown_texts(figure)}
    grid = region_by_layer(scores).axes[0].collections[0].get_array()
    expected = scores["r"].mean("fold").values.reshape(6, 3, 2).mean(axis=1)[[0, 2, 4, 1, 3, 5]].T
    np.testing.assert_allclose(grid, expected, atol=1e-6)


def test_a_space_without_r_is_drawn_as_such(make_scores: Make) -> None:
    scores = make_scores(spaces={"gpt2": 3, "flat": 2, "silent": 1}, latency_s=LATENCIES_S)
    for name in ("r", "r2", "r_joint", "r2_joint"):
        scores[name][{"layer": slice(3, 6)}] = np.nan
    figure = layer_profile(scores)
    shown = " ".join(name for name, _ in shown_texts(figure)).replace("\n", " ")
    assert "flat (no r is defined)" in shown
    assert "silent, layer 0 (no r is defined)" in shown
    assert "No r is defined for flat, silent." in figure.caption
    for other in (region_by_layer(scores), region_by_layer(scores, "gain"), layer_by_latency(scores)):
        other.savefig(BytesIO(), format="svg")
