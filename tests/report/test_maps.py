"""Maps: every score is drawn at its target's place, and the caption says whose it is."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.figure import Figure

from brainalign.errors import RecipeError
from brainalign.report import score_image, score_map, write_report
from brainalign.types import Scores

Make = Callable[..., Scores]
AFFINE = np.array([[-4.0, 0, 0, 80], [0, 4, 0, -110], [0, 0, 4, -70], [0, 0, 0, 1]])
SHAPE = (40, 50, 40)
MNI = {"unit": "mm", "template": "MNI152NLin2009cAsym"}


def plant(scores: Scores, of_target: np.ndarray, preferred: np.ndarray, variable: str = "r_joint") -> Scores:
    """The same scores, in which each target has a height and a layer of its own."""
    layers = np.arange(scores.sizes["layer"])[:, None]
    grid = of_target * (1 - 0.1 * np.abs(layers - preferred))  # (layer, target)
    base = scores["r_baseline"].values if "r_baseline" in scores else 0.0
    others = scores["r"].ndim - 3
    wide = grid[:, None].reshape(len(layers), 1, len(of_target), *[1] * others)
    scores[variable] = scores["r"] * 0 + (base + wide if variable == "r_joint" else wide)
    return scores


def voxels(make_scores: Make, subjects: tuple[str, ...] = ("a",), template: str | None = MNI["template"]) -> Scores:
    """A block of voxels in the left hemisphere and one in the right; the score grows with z."""
    ijk = np.array([(i, j, k) for i in (5, 6, 33, 34) for j in (20, 21) for k in range(10, 20)])
    scores = make_scores(
        subjects=subjects, targets=[f"voxel {n}" for n in range(len(ijk))], kind="voxel", spaces={"gpt2": 4}
    )
    every = np.tile(ijk, (len(subjects), 1))
    scores = scores.assign_coords({axis: ("target", every[:, n]) for n, axis in enumerate("ijk")})
    scores.attrs["space"] = {
        s: {"kind": "volume", "unit": "mm", "template": template, "affine": AFFINE.tolist(), "shape": list(SHAPE)}
        for s in subjects
    }
    return plant(scores, 0.01 * every[:, 2], np.where(every[:, 0] < 20, 1, 2))


def points(make_scores: Make, places: np.ndarray, space: dict[str, Any], **settings: Any) -> Scores:
    settings = {"subjects": ("a", "b"), "spaces": {"gpt2": 4}, **settings}
    names = [f"target {n}" for n in range(len(places) // len(settings["subjects"]))]
    scores = make_scores(targets=names, kind="parcel", places=places, **settings)
    scores.attrs["space"] = dict.fromkeys(settings["subjects"], space)
    return scores


def vertices(make_scores: Make, template: str, numbers: np.ndarray) -> Scores:
    every = [("L", n) for n in numbers] + [("R", n) for n in numbers]
    scores = make_scores(
        subjects=("a",), targets=[f"{side} {n}" for side, n in every], kind="vertex", spaces={"gpt2": 4}
    )
    scores = scores.assign_coords(
        hemisphere=("target", [side for side, _ in every]), vertex=("target", [n for _, n in every])
    )
    scores.attrs["space"] = {"a": {"kind": "surface", "template": template, "n_vertices": [40962, 40962]}}
    return plant(scores, np.where([side == "L" for side, _ in every], 0.2, 0.1), np.full(len(every), 2))


def panels(figure: Figure) -> dict[str, Any]:
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def picture(axes: Any) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    (image,) = axes.images
    return np.ma.filled(image.get_array(), np.nan), image.get_extent()


def test_voxels_are_seen_at_their_place_in_millimetres(make_scores: Make) -> None:
    figure = score_map(voxels(make_scores))
    assert figure is not None
    shown = panels(figure)
    # The best layer is the third, which the voxels on the right prefer less than the second.
    for side, share in (("from the left", 1.0), ("from the right", 0.9)):
        grid, (left, right, bottom, top) = picture(shown[side])
        # j 20 and 21 are at y -30 and -26 mm, k 10 to 19 at z -30 to 6 mm; voxels are 4 mm wide.
        assert (left, right, bottom, top) == (-32.0, -24.0, -32.0, 8.0)
        np.testing.assert_allclose(grid, share * np.repeat(0.01 * np.arange(10, 20)[:, None], 2, axis=1), rtol=1e-5)
    grid, (left, right, *_) = picture(shown["from above"])
    # i 34 and 33 are at x -56 and -52, i 6 and 5 at 56 and 60 mm: nothing is between.
    assert (left, right) == (-58.0, 62.0)
    assert np.isnan(grid[:, 2:-2]).all()
    # Along the line of sight the highest is seen.
    np.testing.assert_allclose(grid[:, [0, 1]], 0.19, rtol=1e-5)
    np.testing.assert_allclose(grid[:, [-2, -1]], 0.9 * 0.19, rtol=1e-5)
    assert "subject a." in figure.caption
    assert "MNI152NLin2009cAsym" in figure.caption
    figure.savefig(BytesIO(), format="png")


def test_each_voxel_shows_the_layer_that_it_prefers(make_scores: Make) -> None:
    figure = score_map(voxels(make_scores), "preferred layer")
    assert figure is not None
    # i below 20 is on the right, and prefers layer 1.
    assert set(np.unique(picture(panels(figure)["from the right"])[0])) == {1.0}
    assert set(np.unique(picture(panels(figure)["from the left"])[0])) == {2.0}
    assert "selected on these same scores" in figure.caption


def test_a_brain_without_a_template_has_three_projections_and_no_outline(make_scores: Make) -> None:
    figure = score_map(voxels(make_scores, template=None))
    assert figure is not None
    assert list(panels(figure)) == ["from the left", "from the back", "from above"]
    assert all(not axes.patches for axes in panels(figure).values())
    assert "own space" in figure.caption
    assert score_map(voxels(make_scores)).axes[0].patches  # type: ignore[union-attr]


def test_subjects_who_share_a_template_are_averaged_and_others_are_not(make_scores: Make) -> None:
    shared = voxels(make_scores, ("a", "b"))
    of_b = shared["subject"].values == "b"
    shared["r_joint"] = shared["r_joint"] + 0.2 * of_b
    figure = score_map(shared)
    assert figure is not None
    grid, _ = picture(panels(figure)["from the left"])
    np.testing.assert_allclose(grid[:, 0], 0.01 * np.arange(10, 20) + 0.1, rtol=1e-4)
    assert "of n = 2" in figure.caption
    own = shared.copy()
    own.attrs = {"space": {s: {**space, "template": None} for s, space in shared.attrs["space"].items()}}
    figure = score_map(own)
    assert figure is not None
    assert "subject b, one of 2" in figure.caption
    grid, _ = picture(panels(figure)["from the left"])
    np.testing.assert_allclose(grid[:, 0], 0.01 * np.arange(10, 20) + 0.2, rtol=1e-4)
    assert "subject a, one of 2" in score_map(own, subject="a").caption  # type: ignore[union-attr]


def test_parcels_and_electrodes_are_marked_in_millimetres(make_scores: Make) -> None:
    places = np.array([[-50.0, 20, 10], [50, -30, 5], [-40, 0, 60]])
    parcels = points(make_scores, np.tile(places, (2, 1)), {"kind": "parcels", **MNI})
    figure = score_map(parcels)
    assert figure is not None
    (markers,) = [c for c in panels(figure)["from above"].collections if isinstance(c, PathCollection)]
    assert {tuple(at) for at in np.asarray(markers.get_offsets())} == {(-50, 20), (50, -30), (-40, 0)}
    assert "of n = 2" in figure.caption
    electrodes = points(
        make_scores,
        np.vstack([places, places + 1]) / 1000,
        {"kind": "electrodes", "unit": "m", "frame": "mni_tal"},
        latency_s=np.linspace(-0.2, 0.8, 11),
        gain=0.5,
    )
    figure = score_map(electrodes)
    assert figure is not None
    (markers,) = [c for c in panels(figure)["from above"].collections if isinstance(c, PathCollection)]
    assert len(markers.get_offsets()) == 6
    assert np.abs(np.asarray(markers.get_offsets())).max() == pytest.approx(51)
    assert "electrodes of 2 subjects" in figure.caption
    assert "At 0.40 s from word onset" in figure.caption
    figure.savefig(BytesIO(), format="png")


@pytest.mark.parametrize("template", ["fsaverage5", "fsaverage6"])
def test_vertices_colour_the_triangles_that_they_are_the_corners_of(make_scores: Make, template: str) -> None:
    scored, beyond = np.arange(10_242), np.arange(20_000, 20_100)
    figure = score_map(vertices(make_scores, template, np.r_[scored, beyond]))
    bare = score_map(vertices(make_scores, template, scored[:3]))
    assert figure is not None
    assert bare is not None

    def saturation(axes: Any) -> np.ndarray:
        (faces,) = [c for c in axes.collections if isinstance(c, PolyCollection)]
        rgb = faces.get_facecolor()[:, :3]
        return np.ptp(rgb, axis=1) / rgb.max(axis=1)

    left, right = (saturation(panels(figure)[f"{side}, lateral"]) for side in ("left", "right"))
    # Scores of .2 and .1 in colours that pale towards zero, on every triangle that is seen.
    assert left.min() > right.max() > 0.1
    assert np.mean(saturation(panels(bare)["right, lateral"]) > 0.01) < 0.01
    assert template in figure.caption
    assert ("shares with it" in figure.caption) == (template != "fsaverage5")


def test_left_and_right_are_seen_from_outside_and_inside(make_scores: Make) -> None:
    from brainalign.report.brains import _fsaverage5

    vertex = int(np.argmin(_fsaverage5("left")[0][:, 1]))  # the occipital pole
    numbers = np.arange(10_242)
    scores = vertices(make_scores, "fsaverage5", numbers)
    near = np.linalg.norm(_fsaverage5("left")[0] - _fsaverage5("left")[0][vertex], axis=1) < 15
    scores = plant(scores, np.r_[np.where(near, 0.3, 0.0), np.zeros(10_242)], np.full(2 * 10_242, 2))
    figure = score_map(scores)
    assert figure is not None
    for view, is_right_of_picture in (("left, lateral", True), ("left, medial", False)):
        (faces,) = [c for c in panels(figure)[view].collections if isinstance(c, PolyCollection)]
        rgb = faces.get_facecolor()[:, :3]
        coloured = np.ptp(rgb, axis=1) > 0.2
        middle = np.array([path.vertices[:3, 0].mean() for path in faces.get_paths()])
        # Seen from outside the nose of a left hemisphere is on the left, so its back is on the right.
        assert coloured.any()
        assert (middle[coloured].mean() > np.median(middle)) == is_right_of_picture


def test_what_has_no_place_has_no_map(make_scores: Make, spoil: Make) -> None:
    plain = make_scores()
    assert score_map(plain) is None
    nowhere = points(make_scores, np.full((6, 3), np.nan), {"kind": "parcels", **MNI})
    assert score_map(nowhere) is None
    for space in ({}, {"kind": "sensors", "unit": "m"}, {"kind": "volume"}, {"kind": "surface", "template": "fsLR"}):
        assert score_map(points(make_scores, np.ones((6, 3)), space)) is None
    assert score_map(spoil(voxels(make_scores), *range(80))) is None


def test_some_places_may_be_missing(make_scores: Make) -> None:
    places = np.array([[-50.0, 20, 10], [np.nan] * 3, [-40, 0, 60]])
    figure = score_map(points(make_scores, np.tile(places, (2, 1)), {"kind": "parcels", **MNI}))
    assert figure is not None
    (markers,) = [c for c in panels(figure)["from above"].collections if isinstance(c, PathCollection)]
    assert len(markers.get_offsets()) == 2


def test_without_a_baseline_r_is_drawn_and_a_single_layer_is_preferred_by_none(make_scores: Make) -> None:
    places = np.tile([[-50.0, 20, 10], [50, -30, 5]], (2, 1))
    scores = points(make_scores, places, {"kind": "parcels", **MNI}, baseline=False, spaces={"pitch": 1})
    figure = score_map(scores)
    assert figure is not None
    assert figure.caption.startswith("Map of r of")
    assert score_map(scores, "preferred layer") is None


def test_the_report_shows_the_maps(make_scores: Make, tmp_path: Path) -> None:
    places = np.tile([[-50.0, 20, 10], [50, -30, 5]], (2, 1))
    scores = points(make_scores, places, {"kind": "parcels", **MNI}, baseline=False)
    write_report(scores, tmp_path / "report.html", {})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h3>Map</h3>" in page
    assert "<h3>Preferred layer</h3>" in page


def test_wrong_names_are_told_with_the_nearest(make_scores: Make) -> None:
    scores = voxels(make_scores)
    with pytest.raises(RecipeError, match="Did you mean 'score'"):
        score_map(scores, "scores")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="no subject 'b'"):
        score_map(scores, subject="b")
    with pytest.raises(RecipeError, match="not of voxels"):
        score_image(make_scores(), "s01")
    with pytest.raises(RecipeError, match="No layer 4"):
        score_image(scores, "a", layer=4)
    with pytest.raises(RecipeError, match="Did you mean 'gain'"):
        score_image(scores, "a", variable="gian")


def test_an_image_holds_every_voxel_at_its_index(make_scores: Make) -> None:
    scores = voxels(make_scores, ("a", "b"))
    image = score_image(scores, "b", layer=1)
    values = image.get_fdata()
    assert image.shape == SHAPE
    np.testing.assert_array_equal(image.affine, AFFINE)
    assert np.isfinite(values).sum() == 80
    np.testing.assert_allclose(values[5, 20, 10:20], 0.01 * np.arange(10, 20), rtol=1e-5)
    np.testing.assert_allclose(values[33, 20, 10:20], 0.009 * np.arange(10, 20), rtol=1e-5)
    r = score_image(scores, "b", layer=1, variable="r").get_fdata()[5, 20, 10]
    expected = scores["r"].isel(layer=1).mean("fold").values[80]
    assert r == pytest.approx(float(expected))
