"""The section on decoding says what was read out and how well by chance, and no p without its test."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from one_planted_layer import planted_data, three_layers

from brainalign.pipeline import score_layers
from brainalign.questions.decoding import Decoding
from brainalign.report.html import Section, Table
from brainalign.report.sections import sections_of
from brainalign.report.sections.decoding import section
from brainalign.types import Scores

pytestmark = pytest.mark.filterwarnings("ignore::brainalign.errors.DataWarning", "ignore::brainalign.errors.FitWarning")


def asked(n_subjects: int, question: Decoding) -> Scores:
    return score_layers(planted_data(n_subjects), three_layers, baseline=(), questions=[question], store=None)


@pytest.fixture(scope="module")
def scores() -> Scores:
    return asked(2, Decoding(n_components=5, k=(1, 5), permutations=49))


def made(scores: Scores) -> Section:
    found = section(scores)
    assert found is not None
    return found


def rows(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.headers, row, strict=True)) for _, group in table.groups for row in group]


def by_latency(scores: Scores) -> Scores:
    """The same as if each latency had been decoded by itself; layer 1 best at the second."""
    strength = xr.DataArray([0.2, 1.0, 0.5], dims="latency", coords={"latency": [-0.1, 0.2, 0.4]})
    names = [name for name in scores.data_vars if name.startswith("decoding_") and "n_components" not in name]
    changed = scores.drop_vars(names)
    for name in names:
        values = scores[name] * (strength if name in ("decoding_r", "decoding_group_mean") else strength**0)
        order = [dim for dim in ("layer", "of_subject", "latency", "k") if dim in values.dims]
        changed[name] = values.transpose(*order)
    changed.attrs = {
        **scores.attrs,
        "answers": {"decoding": {**scores.attrs["answers"]["decoding"], "latencies": "each"}},
    }
    return changed


def test_layers_have_scores_beside_chance(scores: Scores) -> None:
    found = made(scores)
    (_, table), (_, retrieved) = found.tables
    planted = rows(table)[1] | rows(retrieved)[1]
    top, chance = (float(scores[f"decoding_{name}"][1, :, 1].mean()) for name in ("top_k", "chance_top_k"))
    assert planted["top 5 (chance)"] == f"{top:.3f} ({chance:.3f})"
    assert planted["r"] == f"{float(scores.decoding_group_mean[1]):.3f}"
    assert planted["two told apart"] == f"{float(scores.decoding_two_vs_two[1].mean()):.3f}"
    ((_, each),) = found.folded
    assert [row["subject"] for row in rows(each)] == ["s0"] * 3 + ["s1"] * 3
    assert rows(each)[4]["r"] == f"{float(scores.decoding_r[1, 1]):.3f}"
    assert len(found.pictures) == 1
    assert sections_of(scores) == [found]


def test_p_values_stand_with_test_permutations_and_family(scores: Scores) -> None:
    found = made(scores)
    text = " ".join(found.paragraphs)
    told = ("circularly shifted", "49 permutations", "at least 20 s", "one-sided", "Benjamini-Hochberg over layers")
    assert all(said in text for said in told)
    assert rows(found.tables[0][1])[1]["p circular shift (49 permutations)"] == "\N{LESS-THAN OR EQUAL TO} .020"
    for _, table in (*found.tables, *found.folded):
        assert all("circular shift (49 permutations)" in name for name in table.headers if name.startswith("p "))
    assert "5 principal components" in text


def test_latencies_are_a_heat_map_and_each_layer_stands_with_its_best(scores: Scores) -> None:
    found = made(by_latency(scores))
    (caption, table), (of_retrieval, _) = found.tables
    assert "selected on these same scores" in caption
    assert "selected on these same scores" in of_retrieval
    # More columns than these are wider than the page.
    assert all(len(table.headers) <= 7 for _, table in found.tables)
    assert rows(table)[1]["latency (s)"] == "0.20"
    assert rows(table)[1]["r"] == f"{float(scores.decoding_group_mean[1]):.3f}"
    assert "q over layers and latencies" in table.headers
    assert "at each latency by themselves" in found.paragraphs[0]
    assert "latency" in found.pictures[0].caption


def test_a_single_subject_without_permutations_has_no_p_and_no_interval() -> None:
    found = made(asked(1, Decoding(n_components=5, permutations=0)))
    for _, table in (*found.tables, *found.folded):
        assert not any(name.startswith(("p ", "q ")) or "interval" in name for name in table.headers)
    assert "There were no shifts" in " ".join(found.paragraphs)
    assert "A single subject" in found.pictures[0].caption


def test_where_nothing_could_be_decoded_there_is_no_section(scores: Scores) -> None:
    empty = scores.copy()
    empty["decoding_r"] = scores["decoding_r"] * np.nan
    empty.attrs = scores.attrs
    assert section(empty) is None
