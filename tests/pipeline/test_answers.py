"""Questions asked of scores: each subject's part is computed once, kept, and done again where it has to be."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr
from studies import MODEL, planted_fmri

from brainalign.config import load_recipe, parse_recipe
from brainalign.errors import RecipeError, StoreWarning
from brainalign.features import Named
from brainalign.limits import free_memory
from brainalign.pipeline import answers, run, score_layers
from brainalign.pipeline.results import open_scores
from brainalign.questions import Ceiling, Part, Partition, SubjectData
from brainalign.simulate import InMemory
from brainalign.store import Store
from brainalign.types import Finding, Scores

ASKED: list[str] = []


@dataclass(frozen=True)
class Spread:
    """The standard deviation of each column, times a factor; one that notes whom it was asked about."""

    section: ClassVar[str] = "spread"
    of_group: ClassVar[bool] = False
    by_space: ClassVar[bool] = False

    factor: float = 1.0

    def of_subject(self, data: SubjectData) -> Part:
        ASKED.append(data.samples.subject)
        found = [Finding("looked-at", data.samples.subject, "was looked at."), Finding("same", "all", "is told once.")]
        spread = self.factor * data.samples.responses.std(axis=0)
        return Part({"spread": spread}, found, {"n": len(data.samples.responses)})

    def of_study(self, parts: Mapping[str, Part], scores: Scores) -> xr.Dataset:
        values = np.concatenate([part.arrays["spread"] for part in parts.values()])
        found = xr.Dataset({"spread": ("target", values)}, coords={"of_subject": list(parts)})
        counts = {subject: part.facts["n"] for subject, part in parts.items()}
        found.attrs = {"counts": counts, "findings": [Finding("study", "spread", "was looked at.")]}
        return found


@dataclass(frozen=True)
class GroupSpread(Spread):
    """The same of the mean of all subjects."""

    section: ClassVar[str] = "spread"
    of_group: ClassVar[bool] = True

    def of_subject(self, data: SubjectData) -> Part:
        everyone = [data.samples, *(other.samples for other in data.others())]
        ASKED.append(data.samples.subject)
        return Part({"spread": np.mean([one.responses for one in everyone], axis=0).std(axis=0)}, (), {"n": 0})


@dataclass(frozen=True)
class SpreadOfLayers:
    """The standard deviation of each layer; one that notes of whom and of what it was asked."""

    section: ClassVar[str] = "layers"
    of_group: ClassVar[bool] = False
    by_space: ClassVar[bool] = True

    def of_subject(self, data: SubjectData) -> Part:
        [space] = data.features
        assert list(data.fits) == [space]
        ASKED.append(f"{data.samples.subject} {space}")
        spread = [layer.std() for layer in data.samples.place(data.features[space])]
        found = [Finding("looked-at", space, "was looked at."), Finding("same", "all", "is told once.")]
        return Part({"spread": np.array(spread)}, found, {"n": len(data.samples.responses)})

    def of_study(self, parts: Mapping[str, Part], scores: Scores) -> xr.Dataset:
        values = np.stack([np.asarray(part.arrays["spread"]) for part in parts.values()], axis=1)
        return xr.Dataset({"spread_of_layer": (("layer", "of_subject"), values)}, coords={"of_subject": list(parts)})


@pytest.fixture(autouse=True)
def forget() -> None:
    ASKED.clear()


@pytest.fixture(scope="module")
def data() -> InMemory:
    return planted_fmri(3, layers=(2, -1))


def scored(
    data: InMemory,
    *questions: object,
    store: Store | None = Store(),  # noqa: B008
    model: object = MODEL,
) -> Scores:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", StoreWarning)
        return score_layers(data, model, questions=questions, store=store)


def changed(data: InMemory, subject: str) -> InMemory:
    given = [
        replace(one, read=partial(np.copy, 2 * one.response() ** 3), digest=one.digest + "!")
        if one.subject == subject
        else one
        for one in data.given
    ]
    return InMemory(data.name, data.title, data.modality, data.stimuli_by_id, given)


def test_answers_join_the_scores_with_settings_facts_and_findings(data: InMemory) -> None:
    scores = scored(data, Spread(factor=2.0), store=None)
    assert scores["spread"].dims == ("target",)
    assert scores["of_subject"].values.tolist() == ["s0", "s1", "s2"]
    answer = scores.attrs["answers"]["spread"]
    assert answer["factor"] == 2.0
    assert answer["counts"]["s1"] == scores.attrs["n_samples"]["s1"]
    assert "findings" not in answer
    codes = [finding["code"] for finding in scores.attrs["findings"]]
    assert [codes.count(code) for code in ("looked-at", "same", "study")] == [3, 1, 1]


def test_findings_of_questions_are_warned_of(data: InMemory) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        score_layers(data, MODEL, questions=[Spread()], store=None)
    assert {f"s{i}: was looked at." for i in range(3)} <= {str(one.message) for one in told}


def test_a_second_call_reads_the_parts_and_asks_nobody(data: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scored(data, Spread())
    assert ASKED == ["s0", "s1", "s2"]
    monkeypatch.setattr(answers, "aligned", lambda *_: pytest.fail("aligned again"))
    xr.testing.assert_identical(scored(data, Spread()), first)
    assert len(ASKED) == 3


def test_a_changed_setting_asks_again_and_both_are_kept(data: InMemory) -> None:
    first, other = scored(data, Spread()), scored(data, Spread(factor=3.0))
    assert len(ASKED) == 6
    np.testing.assert_allclose(other["spread"], 3 * first["spread"], rtol=1e-6)
    scored(data, Spread())
    assert len(ASKED) == 6


@pytest.mark.parametrize(("question", "again"), [(Spread(), ["s1"]), (GroupSpread(), ["s0", "s1", "s2"])])
def test_another_subject_s_data_matter_only_to_questions_of_the_group(
    data: InMemory, question: Spread, again: list[str]
) -> None:
    scored(data, question)
    ASKED.clear()
    scored(changed(data, "s1"), question)
    assert again == ASKED


@pytest.mark.parametrize("store", [Store(), None], ids=["kept", "not kept"])
def test_spaces_that_are_asked_one_by_one_stand_one_after_the_other(data: InMemory, store: Store | None) -> None:
    spaces = [Named("one", replace(MODEL, dimension=2)), Named("two", replace(MODEL, n_layers=1))]
    told: list[tuple[object, ...]] = []
    with warnings.catch_warnings(action="ignore"):
        both = score_layers(
            data, spaces, questions=[SpreadOfLayers()], store=store, progress=lambda *what: told.append(what)
        )
    assert [what for what in told if what[0] == "layers"] == [("layers", number, 6) for number in range(7)]
    assert [f"{subject} {space}" for subject in ("s0", "s1", "s2") for space in ("one", "two")] == ASKED
    apart = [scored(data, SpreadOfLayers(), store=None, model=space)["spread_of_layer"].values for space in spaces]
    np.testing.assert_array_equal(both["spread_of_layer"].values, np.concatenate(apart))
    assert both["spread_of_layer"].shape == (5, 3)
    codes = [finding["code"] for finding in both.attrs["findings"]]
    assert [codes.count(code) for code in ("looked-at", "same")] == [2, 1]


def test_what_several_questions_say_alike_is_said_once(data: InMemory) -> None:
    scores = scored(data, Spread(), SpreadOfLayers(), store=None)
    assert [finding["code"] for finding in scores.attrs["findings"]].count("same") == 1


def test_another_space_is_asked_of_alone(data: InMemory) -> None:
    """A model that is added to a study leaves what was found of the others as it is."""
    one, two = Named("one", MODEL), Named("two", replace(MODEL, n_layers=1))
    scored(data, SpreadOfLayers(), model=one)
    ASKED.clear()
    scored(data, SpreadOfLayers(), model=[one, two])
    assert ASKED == ["s0 two", "s1 two", "s2 two"]
    scored(data, SpreadOfLayers(), model=[two, one])
    assert len(ASKED) == 3


def test_a_damaged_part_is_found_and_done_again(data: InMemory, own_cache: Path) -> None:
    first = scored(data, Spread())
    path = sorted(own_cache.glob("store/*/*/*/spread.npy"))[0]
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    ASKED.clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        again = score_layers(data, MODEL, questions=[Spread()])
    assert any(issubclass(one.category, StoreWarning) and "damaged" in str(one.message) for one in told)
    assert len(ASKED) == 1
    xr.testing.assert_identical(first, again)


def test_parts_are_read_from_the_disk_rather_than_held(data: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    study = Spread.of_study

    def looking(self: Spread, parts: Mapping[str, Part], scores: Scores) -> xr.Dataset:
        held.extend(type(part.arrays["spread"]) for part in parts.values())
        return study(self, parts, scores)

    monkeypatch.setattr(Spread, "of_study", looking)
    scored(data, Spread())
    scored(data, Spread(), store=None)
    assert held == [np.memmap] * 3 + [np.ndarray] * 3


@pytest.mark.parametrize(("memory", "times"), [(free_memory(), 3), (0, 9)], ids=["kept", "too large to keep"])
def test_subjects_are_aligned_once_where_memory_allows(
    data: InMemory, memory: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    aligned, done = answers.aligned, []
    monkeypatch.setattr(answers, "free_memory", lambda: memory)
    monkeypatch.setattr(answers, "aligned", lambda subject: (done.append(1), aligned(subject))[1])
    scored(data, GroupSpread(), store=None)
    assert len(done) == times


def test_a_part_without_arrays_is_kept_too(data: InMemory) -> None:
    """One subject who heard all once: no ceiling, and a finding that must come back from the store."""
    alone = InMemory(data.name, data.title, "fmri", data.stimuli_by_id, data.recordings(["s0"]))
    first, second = (scored(alone, Ceiling()) for _ in range(2))
    for scores in (first, second):
        assert [finding["code"] for finding in scores.attrs["findings"]].count("no-ceiling") == 1


def test_progress_tells_each_subject(data: InMemory) -> None:
    told = []
    with warnings.catch_warnings(action="ignore"):
        progress = lambda *what: told.append(what)  # noqa: E731
        score_layers(data, MODEL, questions=[Spread()], store=None, progress=progress)
    assert told[-4:] == [("spread", number, 3) for number in range(4)]


def test_a_recipe_with_questions_runs_and_its_results_hold_the_answers(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "dataset: {name: simulated, n_subjects: 2, n_runs: 3, n_words: 200, n_layers: 1}\n"
        "features: [{kind: toy_model, n_layers: 1}]\n"
        "ceiling: {n_bootstrap: 20}\n"
        "tests: {permutations: 20, min_shift_s: 10}\n"
    )
    assert [question.section for question in load_recipe(recipe).questions] == ["ceiling", "tests"]
    with warnings.catch_warnings(action="ignore"):
        results = run(load_recipe(recipe), tmp_path / "out")
    scores = open_scores(tmp_path / "out" / "scores.nc")
    assert {"ceiling", "p_r", "p_gain", "group_p_stimulus_gain"} <= set(scores)
    assert scores.attrs["answers"]["tests"]["min_shift_s"] == 10
    page = (results.folder / "report.html").read_text()
    assert "circular shift, 20 permutations" in page
    assert "tests:" in (results.folder / "recipe.yaml").read_text()


def test_a_setting_that_a_question_has_not_is_refused_by_name() -> None:
    recipe = {"dataset": {"name": "simulated"}, "features": [{"kind": "toy_model"}], "tests": {"permutation": 10}}
    with pytest.raises(RecipeError, match="permutation"):
        parse_recipe(recipe)


def test_spaces_that_exchange_their_names_exchange_their_answers(data: InMemory) -> None:
    """What is stored of a space that is asked for by name is not read for another of the same name."""
    small, large = replace(MODEL, dimension=2), replace(MODEL, dimension=5)

    def answer(first: str, second: str) -> np.ndarray:
        spaces = [Named(first, small), Named(second, large)]
        with warnings.catch_warnings(action="ignore"):
            question = Partition(["mine @ 1", "baseline"], n_iter=2)
            return score_layers(data, spaces, questions=[question])["partition_r2"].values[0]

    of_small, of_large = answer("mine", "other"), answer("other", "mine")
    assert not np.allclose(of_small, of_large)
    np.testing.assert_array_equal(answer("mine", "other"), of_small)
