"""What the report says of tests: every p with its test, its number of permutations and its family."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from brainalign.report.html import Section, Table
from brainalign.report.sections.tests import section
from brainalign.report.writing import number, p_text
from brainalign.types import Scores


def answered(
    subjects: Sequence[str] = ("a", "b", "c"),
    gain: bool = True,
    latencies: int = 0,
    clusters: bool = False,
    **told: object,
) -> Scores:
    """Scores of two layers and three targets of each subject, whose tests say p = .01, .02 ... in a row."""
    n_layers, n_targets = 2, 3 * len(subjects)
    dims, shape = ("layer", "target"), (n_layers, n_targets)
    shared: tuple[tuple[str, ...], tuple[int, ...]] = (("layer", "shared_target"), (n_layers, 3))
    coords: dict = {
        "feature_space": ("layer", ["toy", "toy"]), "layer_name": ("layer", ["embedding", "layer 1"]),
        "layer_index": ("layer", [0, 1]), "depth": ("layer", [0.0, 1.0]),
        "subject": ("target", np.repeat(subjects, 3)), "target_name": ("target", ["A1", "STG", "IFG"] * len(subjects)),
        "of_subject": list(subjects),
    }  # fmt: skip
    if latencies:
        dims, shape = (*dims, "latency"), (*shape, latencies)
        shared = (*shared[0], "latency"), (*shared[1], latencies)
        coords["latency"] = ("latency", np.arange(latencies) / 10)
    variables: dict = {}
    for name in ("r", "gain") if gain else ("r",):
        count = int(np.prod(shape))
        rising = np.linspace(0.001, 0.2, count).reshape(shape)
        variables |= {f"p_{name}": (dims, rising), f"q_{name}": (dims, 2 * rising), f"p_max_{name}": (dims, 3 * rising)}
        variables |= {
            f"subject_mean_{name}": (("layer", "of_subject"), np.full((2, len(subjects)), 0.12)),
            f"subject_p_{name}": (("layer", "of_subject"), np.full((2, len(subjects)), 1 / 201)),
            f"group_mean_{name}": ("layer", [0.1, 0.2]),
            f"group_chance_{name}": ("layer", [-0.01, 0.01]),
        }
        if clusters:
            variables[f"p_cluster_{name}"] = (dims, np.where(rising < 0.1, 0.03, 1.0))
        if len(subjects) > 1:
            variables |= {f"group_{what}_{name}": ("layer", values) for what, values in GROUP.items()}
            of_shared = np.full(shared[1], 0.04)
            variables |= {f"target_{what}_{name}": (shared[0], of_shared) for what in ("p_stimulus", "q_stimulus")}
            if clusters:
                variables[f"target_p_cluster_{name}"] = (shared[0], of_shared)
    answer = {
        "permutations": 200,
        "surrogate": "circular_shift",
        "min_shift_s": 20.0,
        "name": "circular shift",
        "rows": "time",
    }
    return Scores(variables, coords=coords, attrs={"answers": {"tests": {**answer, **told}}})


GROUP = {
    "low": [0.05, 0.15], "high": [0.15, 0.25], "p_stimulus": [1 / 201, 0.3], "q_stimulus": [2 / 201, 0.3],
    "p_wilcoxon": [0.125, np.nan], "p_t": [0.0001, 0.2], "p_sign_flip": [0.03, 0.4],
}  # fmt: skip


def text_of(found: Section | None) -> str:
    assert found is not None
    return "\n".join(found.paragraphs)


def cells(table: Table) -> list[list[str]]:
    return [list(row) for _, rows in table.groups for row in rows]


def test_the_test_is_named_with_its_number_of_permutations_and_families() -> None:
    text = text_of(section(answered()))
    assert (
        "200 surrogates of the responses (circular shift, within each stimulus of each run, by at least 20 s)" in text
    )
    assert "family: all targets of a subject and layer" in text
    assert "family: all targets of a subject in all layers of a feature space" in text
    assert "9 to 22 % of such cases at .05" in text
    assert "only what the baseline leaves of the responses is changed" in text
    assert "cluster" not in text


def test_every_table_of_p_values_says_of_which_test() -> None:
    found = section(answered())
    assert found is not None
    of_r, of_gain = found.tables
    assert [caption for caption, _ in found.tables] == [
        "Tests of r, layer by layer", "Tests of gain over the baseline, layer by layer",
    ]  # fmt: skip
    assert of_r[1].headers == (
        "layer", "mean", "by chance", "95 % interval (bootstrap over subjects)", "p stimulus-level (200 permutations)",
        "q over layers", "p Wilcoxon", "p t", "p sign flip",
    )  # fmt: skip
    first, second = cells(of_r[1])
    assert first == [
        "embedding",
        "0.100",
        "\N{MINUS SIGN}0.010",
        "0.050 to 0.150",
        "≤ .005",
        ".010",
        ".125",
        "< .001",
        ".030",
    ]
    assert second[4:7] == [".300", ".300", second[6]]
    assert cells(of_gain[1])[0][1].startswith("+")


def test_each_subject_has_its_p_and_its_count_of_significant_targets() -> None:
    found = section(answered(subjects=["a", "b"]))
    assert found is not None
    rows = cells(found.folded[0][1])
    assert [row[0] for row in rows] == ["a", "a", "b", "b"]
    # q = 2 p is .002, .038 ... in a row: below .05 are the first two targets of the first subject and layer.
    assert rows[0] == ["a", "embedding", "0.1200", "≤ .005", "2 of 3"]
    assert rows[3][-1] == "0 of 3"


def test_one_subject_gets_no_test_of_others_and_it_is_said() -> None:
    found = section(answered(subjects=["a"]))
    assert "There is one subject" in text_of(found)
    assert "Stimulus-level" not in text_of(found)
    assert found is not None
    assert found.tables[0][1].headers == ("layer", "mean", "by chance")


def test_means_over_subjects_are_told_target_by_target() -> None:
    text = text_of(section(answered(latencies=4, clusters=True)))
    assert (
        "Of the means over 3 subjects of r, target by target (stimulus-level, circular shift, 200 permutations), 100%"
        in text
    )
    assert "family: all targets and latencies of a layer" in text
    assert "all clusters of a subject and layer; no claim on where a cluster begins or ends" in text
    assert "all clusters of a layer" in text


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"rows": "items"}, "by at least 20 items)"),
        ({"surrogate": "block_permutation", "name": "block permutation"}, "in blocks of at least 20 s)"),
        ({"surrogate": "phase_randomisation", "name": "phase randomisation"}, "(phase randomisation, within each"),
    ],
    ids=["items", "blocks", "phases"],
)  # fmt: skip
def test_how_far_responses_are_moved_is_said_in_their_own_unit(told: dict, words: str) -> None:
    assert words in text_of(section(answered(**told)))


def test_without_a_baseline_nothing_is_said_of_a_gain() -> None:
    found = section(answered(gain=False))
    assert "gain over" not in text_of(found)
    assert "baseline" not in text_of(found)
    assert found is not None
    assert len(found.tables) == len(found.folded) == 1


@pytest.mark.parametrize(("permutations", "words"), [(19, "takes 3 or more of its 3 tests"), (200, None)])
def test_it_is_said_how_many_tests_it_takes_for_any_q_to_be_small(permutations: int, words: str | None) -> None:
    text = text_of(section(answered(permutations=permutations)))
    assert (words in text) if words else ("or more of its" not in text)


def test_where_nothing_could_be_tested_there_is_no_share() -> None:
    scores = answered()
    for name in ("p_r", "q_r", "p_max_r"):
        scores[name][:] = np.nan
    assert "No target's r could be tested." in text_of(section(scores))


def test_without_tests_there_is_no_section() -> None:
    assert section(answered().drop_vars(["p_r", "p_gain"])) is None


@pytest.mark.parametrize(
    ("p", "count", "text"),
    [
        (0.5, None, ".500"), (1.0, None, "1"), (0.0004, None, "< .001"), (1 / 1001, 1000, "≤ .001"),
        (2 / 1001, 1000, ".002"), (1 / 21, 20, "≤ .048"), (1 / 100001, 100000, "< .001"), (np.nan, 100, number(np.nan)),
    ],
)  # fmt: skip
def test_p_values_are_written_as_they_are_or_as_bounds(p: float, count: int | None, text: str) -> None:
    assert p_text(p, count) == text
