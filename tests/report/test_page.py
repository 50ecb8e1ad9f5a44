"""The page shows everything as text, loads nothing, and says what the scores say."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import html5lib
import numpy as np
import pytest

from brainalign.report import group_profile, write_report
from brainalign.types import Scores

Make = Callable[..., Scores]
HTML = "{http://www.w3.org/1999/xhtml}"
HOSTILE = [
    "<script>alert(1)</script>",
    '"onmouseover="alert(1)',
    "'><img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "line\u2028separator\u2029",
    "]]><svg/onload=alert(1)>",
]
RUN: dict[str, Any] = {
    "title": "Alice",
    "dataset": {"title": "Alice, chapter 1", "modality": "fmri", "citation": "Doe (2020).", "licence": "CC0",
                "n_subjects": 3, "subjects": ["s01", "s02", "s03"], "n_stimuli": 1, "n_words": 2129},
    "features": [{"name": "gpt2", "metadata": {"context": 512, "causal": True}}],
    "baseline": ["word_rate", "log_frequency"],
    "alignment": {"kind": "hemodynamic", "delays_s": [2.0, 4.0]},
    "encoder": {"kind": "ridge"},
    "splits": {"outer": "run"},
    "n_folds": 3,
    "n_samples": 352,
    "findings": [{"code": "all-zero", "where": "s33", "message": "The response is zero everywhere."}],
    "versions": {"numpy": "2.4"},
    "machine": {"cores": 2, "gpu": None},
    "timings": {"encoding": 88.123},
    "seeds": {"seed": 7},
    "recipe_yaml": "dataset: {name: alice}\n",
    "command": "brainalign run demo",
    "started": "2026-01-01T12:00:00Z",
    "peak_memory_mb": 1893.4,
}  # fmt: skip


def write(scores: Scores, folder: Path, run: dict[str, Any] | None = None, *notices: str) -> str:
    write_report(scores, folder / "report.html", RUN if run is None else run, notices)
    assert [path.name for path in folder.iterdir()] == ["report.html"]
    return (folder / "report.html").read_text(encoding="utf-8")


def elements(page: str) -> Iterator[Any]:
    # html5lib parses as a browser does, so what it finds is what a browser would run.
    return (element for element in html5lib.parse(page).iter() if isinstance(element.tag, str))


def text_of(page: str) -> str:
    """What the reader sees: without style and data, blanks joined."""
    body = html5lib.parse(page).find(f"{HTML}body/{HTML}main")
    return " ".join("".join(body.itertext()).split())


def images(page: str) -> list[ElementTree.Element]:
    """The figures, parsed as XML."""
    sources = [element.get("src") for element in elements(page) if element.tag == f"{HTML}img"]
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    return [ElementTree.fromstring(base64.b64decode(source.split(",", 1)[1])) for source in sources]


def assert_inert(page: str) -> None:
    for element in elements(page):
        tag = element.tag.removeprefix(HTML)
        assert tag not in ("iframe", "object", "embed", "link", "base", "form", "a", "svg"), tag
        if tag == "script":
            assert element.get("type") == "application/json"
            json.loads(element.text)
        for name, value in element.attrib.items():
            assert not name.lower().startswith("on"), name
            assert not re.match(r"\s*(javascript|vbscript|https?|//)", value, re.IGNORECASE), (name, value)
            assert name not in ("src", "href", "srcset") or value.startswith("data:image/svg+xml;base64,")
    style = "".join(element.text for element in elements(page) if element.tag == f"{HTML}style")
    assert "url(" not in style
    assert "@import" not in style
    assert len([element for element in elements(page) if element.tag == f"{HTML}script"]) == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_data_hold_is_shown_as_text(make_scores: Make, spoil: Make, tmp_path: Path, text: str) -> None:
    scores = make_scores(subjects=[text, "b", "c"], targets=[text, f"{text} 2"], spaces={text: 2}, latency_s=[0.0, 0.4])
    scores = scores.assign_coords(
        layer_name=("layer", [text, "last"]), target_kind=("target", [text] * 6), planted_layer=("target", [1] * 6)
    )
    run = {
        "title": f"title {text}",
        "dataset": dict.fromkeys(RUN["dataset"], f"dataset {text}") | {"subjects": [text]},
        "features": [{"name": text, "metadata": {text: text}}],
        "baseline": [text],
        "findings": [{"code": text, "where": f"where {text}", "message": f"message {text}"}],
        "versions": {text: f"version {text}"},
        **{key: {text: text} for key in ("alignment", "encoder", "splits", "machine", "timings", "seeds")},
        **{key: f"{key} {text}" for key in ("recipe_yaml", "command", "started", "n_samples", "peak_memory_mb")},
    }
    page = write(spoil(scores, 1), tmp_path, run, f"NOTICE {text}")
    assert_inert(page)
    shown = " ".join(text.split())
    for prefix in ("title", "NOTICE", "dataset", "where", "message", "version", "recipe_yaml", "command"):
        assert f"{prefix} {shown}" in text_of(page)
    block = next(element.text for element in elements(page) if element.tag == f"{HTML}script")
    assert json.loads(block)[0]["feature_space"] == text
    assert not re.search("</|<!--|\u2028|\u2029", block)
    for image in images(page):
        assert not [element for element in image.iter() if str(element.tag).lower().endswith("script")]
        assert not [name for element in image.iter() for name in element.attrib if name.lower().startswith("on")]


def test_the_policy_forbids_everything_but_inline_style_and_data_images(make_scores: Make, tmp_path: Path) -> None:
    page = write(make_scores(), tmp_path)
    policies = [e.get("content") for e in elements(page) if e.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert page.index("Content-Security-Policy") < page.index("<style>") < page.index("<img")


def test_the_page_tells_what_was_run_and_what_came_out(make_scores: Make, tmp_path: Path) -> None:
    scores = make_scores(spaces={"gpt2": 13})
    page = write(scores, tmp_path, None, "SIMULATED DATA: no brain was recorded.")
    text = text_of(page)
    for expected in (
        "SIMULATED DATA", "Alice, chapter 1", "3: s01, s02, s03", "2129", "352", "word_rate, log_frequency",
        "context: 512; causal: yes", "kind: hemodynamic; delays_s: 2, 4", "s33: The response is zero everywhere.",
        "all-zero", "Doe (2020).", "Licence: CC0", "numpy: 2.4", "encoding: 88.12 s", "seed: 7", "1893 MB",
        "brainalign run demo", "dataset: {name: alice}", "selected on these same scores",
    ):  # fmt: skip
        assert expected in text
    assert text.index("SIMULATED DATA") < text.index("Of the 13 layers of gpt2") < text.index("What was run")
    for mean in group_profile(scores)["r"]:
        assert f"{mean:.3f}" in text
    assert len(images(page)) == 3
    assert all(e.get("alt") for e in elements(page) if e.tag == f"{HTML}img")


def test_p_values_stand_only_where_their_test_does(make_scores: Make, tmp_path: Path) -> None:
    scores = make_scores(subjects=["a"], targets=["A1"], spaces={"x": 1})
    q = (("layer", "target"), [[0.0123]])
    scores = scores.assign_coords(of_subject=["a"]).assign(
        subject_p_r=(("layer", "of_subject"), [[0.0321]]), q_r=q, subject_p_gain=(("layer", "of_subject"), [[0.0321]]),
        q_gain=q,
    )  # fmt: skip
    scores.attrs["answers"] = {"tests": {"name": "circular shift", "permutations": 200}}
    page = write(scores, tmp_path)
    assert "n_significant" not in page
    assert "0.032" not in text_of(page)
    assert "p = .032 (circular shift, 200 permutations" in text_of(page)


def test_best_layers_that_the_profile_chose_inside_are_excepted(make_scores: Make, tmp_path: Path) -> None:
    scores = make_scores()
    assert "shown for it." in text_of(write(scores, tmp_path))
    # Other sections have tests of their own, of other numbers.
    assert "No ceiling and no significance test of r or of the gain enters this page." in text_of(
        write(scores, tmp_path)
    )
    scores.attrs["answers"] = {"profile": {"spaces": []}}
    assert 'shown for it, except where the section "Layer profile" says otherwise.' in text_of(write(scores, tmp_path))


def test_a_warning_with_a_code_is_shown_under_what_the_code_says(make_scores: Make, tmp_path: Path) -> None:
    found = [{"code": "W203", "where": "gpt2", "message": "9% of the fits chose a penalty at the grid's edge."}]
    text = text_of(write(make_scores(), tmp_path, {**RUN, "findings": found}))
    assert "Many penalties lie at the edge of the grid (gpt2): 9% of the fits" in text
    assert "W203" in text


def test_the_embedded_profile_is_the_group_profile(make_scores: Make, tmp_path: Path) -> None:
    scores = make_scores(subjects=["a"])
    page = write(scores, tmp_path)
    rows = json.loads(next(element.text for element in elements(page) if element.tag == f"{HTML}script"))
    np.testing.assert_allclose([row["r"] for row in rows], group_profile(scores)["r"])
    assert [row["r_se"] for row in rows] == [None] * 4


def test_a_run_of_which_nothing_is_known_still_gives_a_page(make_scores: Make, tmp_path: Path) -> None:
    text = text_of(write(make_scores(), tmp_path, {}))
    assert "Brain scores of toy-model" in text
    assert "None" not in text.replace("findings None.", "")
    assert "citation" not in text


def test_undefined_scores_are_dashes_and_named(make_scores: Make, spoil: Make, tmp_path: Path) -> None:
    scores = spoil(make_scores(subjects=["a"], targets=["A1", "STG"], spaces={"gpt2": 1}, baseline=False), 1)
    text = text_of(write(scores, tmp_path, {}))
    assert "a: STG (constant)" in text
    assert "1 of 2 targets have no valid response" in text
    assert "nan" not in text.lower().split()


def test_a_valid_target_undefined_in_some_folds_is_counted(make_scores: Make, tmp_path: Path) -> None:
    scores = make_scores(subjects=["a"])
    scores["r"].values[0, 0, 0] = np.nan
    scores["r"].values[1, :, 1] = np.nan
    text = text_of(write(scores, tmp_path))
    assert "1 values of r are undefined in some folds" in text
    assert "1 mean values of r of valid targets are undefined" in text


def test_nothing_defined_still_gives_a_page(make_scores: Make, spoil: Make, tmp_path: Path) -> None:
    text = text_of(write(spoil(make_scores(subjects=["a", "b"]), 0, 1, 2, 3), tmp_path))
    assert "No layer of toy-model has a defined score." in text


def test_planted_truths_are_shown_beside_what_was_found(make_scores: Make, tmp_path: Path) -> None:
    scores = make_scores(latency_s=[0.2, 0.4, 0.6]).assign_coords(
        planted_layer=("target", [2] * 5 + [-1]), planted_latency=("target", [0.4] * 6)
    )
    scores["r"][{"layer": 2, "latency": 1}] = 0.9
    text = text_of(write(scores, tmp_path))
    assert "the planted layer is the one with the highest r in 100% of 5 targets" in text
    assert "found at the nearest sample in 100%" in text
    nothing = scores.assign_coords(planted_layer=("target", [-1] * 6))
    assert "Planted truth" not in text_of(write(nothing, tmp_path))


@pytest.mark.parametrize("name", ["日本語", "naïve ß", "a\x00b", "é" * 300])
def test_any_name_can_be_written_and_every_figure_is_whole(make_scores: Make, tmp_path: Path, name: str) -> None:
    page = write(make_scores(subjects=[name], targets=[name], spaces={name: 2}), tmp_path)
    assert len(images(page)) == 3
    if name.isprintable():
        assert name in text_of(page)


def test_a_file_name_that_is_no_text_does_not_stop_the_page(make_scores: Make, tmp_path: Path) -> None:
    finding = {"code": "unread", "where": "sub-\udcff.npy", "message": "not read"}
    assert "sub-?.npy: not read" in text_of(write(make_scores(), tmp_path, RUN | {"findings": [finding]}))


def test_a_large_study_stays_a_small_file(make_scores: Make, tmp_path: Path) -> None:
    scores = make_scores(
        subjects=[f"s{i}" for i in range(60)], targets=[f"parcel {i}" for i in range(200)], spaces={"a": 31, "b": 13}
    )
    page = write(scores, tmp_path)
    assert len(page) < 3_000_000
    assert "Only each subject's best layer is shown" in text_of(page)


def test_the_same_scores_give_the_same_page(make_scores: Make, tmp_path: Path) -> None:
    assert write(make_scores(), tmp_path) == write(make_scores(), tmp_path)


def test_a_failure_leaves_the_former_page(make_scores: Make, tmp_path: Path) -> None:
    page = write(make_scores(), tmp_path)
    with pytest.raises(KeyError, match="subject"):
        write_report(make_scores().drop_vars("subject"), tmp_path / "report.html", RUN)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page


def test_of_many_spaces_each_has_a_line_and_its_rows_a_title(make_scores: Make, tmp_path: Path) -> None:
    spaces = {f"model {i} (context {i} words exactly)": 3 for i in range(8)}
    page = write(make_scores(spaces=spaces), tmp_path)
    regions = {e.get("aria-label"): e for e in elements(page) if e.get("role") == "region"}
    lines = list(regions["What each feature space predicts"].iter(f"{HTML}tr"))
    assert [next(line.iter(f"{HTML}td")).text for line in lines[1:]] == list(spaces)
    for label in ("Layers, mean over subjects", "Each subject and layer"):
        titles = [e.text for e in regions[label].iter(f"{HTML}th") if e.get("scope") == "rowgroup"]
        assert titles == list(spaces)
    answer = next(e for e in elements(page) if e.get("class") == "answer")
    remarks = ["".join(e.itertext()) for e in answer.iter(f"{HTML}li")]
    assert len(remarks) == len(set(remarks)) <= 5


def test_the_rows_under_a_title_are_those_of_the_space(make_scores: Make, tmp_path: Path) -> None:
    scores = make_scores(spaces={"gpt2": 3, "bert": 2})
    page, profile = write(scores, tmp_path), group_profile(scores)
    region = next(e for e in elements(page) if e.get("aria-label") == "Layers, mean over subjects")
    for body, (_, rows) in zip(region.iter(f"{HTML}tbody"), profile.groupby("feature_space", sort=False), strict=True):
        cells = [[cell.text for cell in row.iter(f"{HTML}td")] for row in body.iter(f"{HTML}tr")][1:]
        assert [row[2] for row in cells] == [f"{r:.3f}" for r in rows["r"]]


@pytest.mark.parametrize("latency_s", [None, [0.0, 0.4, 0.8]])
def test_a_space_without_r_is_reported_as_such(
    make_scores: Make, tmp_path: Path, latency_s: list[float] | None
) -> None:
    scores = make_scores(spaces={"flat": 2, "gpt2": 3, "silent": 1}, latency_s=latency_s)
    for name in ("r", "r2", "r_joint", "r2_joint"):
        scores[name][{"layer": [0, 1, 5]}] = np.nan
    text = text_of(write(scores, tmp_path))
    assert text.count("has no defined r") == 2
    assert "flat: No r is defined" in text
    assert "silent: No r is defined" in text
    assert "gpt2: No r is defined" not in text
    assert "nan" not in text.lower().split()
