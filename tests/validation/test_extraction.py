"""V16: it passes without a network, and an extraction that looks ahead, wraps or mixes words does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brainalign.features import LanguageModel
from brainalign.types import Features, Stimulus
from brainalign.validation import extraction
from brainalign.validation.checks import Check


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extraction._model("gpt2", tmp_path_factory.mktemp("models") / "gpt2", 0)


def test_extraction_holds_what_it_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    checks = extraction.v16()
    assert [check.observed for check in checks if not check.passed] == []
    assert len(checks) == 11
    assert {check.id for check in checks} == {"V16"}


def test_models_of_another_seed_pass_as_well(tmp_path: Path) -> None:
    other, words = extraction._model("gpt2", tmp_path / "gpt2", 5), extraction._text(40, 5)
    assert extraction._context_as_alone(other, words).passed
    assert extraction._blind_to_what_follows("GPT-2", LanguageModel(str(other), context=16), words).passed


class WrapsAround(LanguageModel):
    """Before the first words it reads the last ones, as a context made by rolling does."""

    def extract(self, stimulus: Stimulus) -> Features:
        features = super().extract(stimulus)
        values = features.values.copy()
        values[:, :4] += 0.01 * values[:, -4:]
        return replace(features, values=values)


class NeighboursMixed(LanguageModel):
    """Each word's vector has something of the word before it."""

    def extract(self, stimulus: Stimulus) -> Features:
        features = super().extract(stimulus)
        values = features.values.copy()
        values[:, 1:] += 0.01 * features.values[:, :-1]
        return replace(features, values=values)


class Remembers(LanguageModel):
    """What was read before, whatever the story, leaves a trace."""

    read: list[float] = []  # noqa: RUF012  (shared by all on purpose)

    def extract(self, stimulus: Stimulus) -> Features:
        features = super().extract(stimulus)
        values = features.values + np.float32(sum(self.read))
        self.read.append(float(np.abs(features.values).mean()))
        return replace(features, values=values)


def test_an_unbroken_model_passes_what_broken_ones_are_put_to(gpt2: Path) -> None:
    assert all(check.passed for check in checks_with(gpt2))


@pytest.mark.parametrize(
    ("broken", "missed"),
    [
        (WrapsAround, {"later words", "alone", "beginning", "own tokens"}),
        (NeighboursMixed, {"alone", "own tokens"}),
        (Remembers, {"later words", "alone", "own tokens", "beginning", "apart"}),
    ],
)
def test_broken_extraction_is_found_out(
    broken: type[LanguageModel], missed: set[str], gpt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "LanguageModel", broken)
    names = ("later words", "alone", "beginning", "apart", "own tokens")
    found = {name for name, check in zip(names, checks_with(gpt2), strict=True) if not check.passed}
    assert found == missed


def checks_with(folder: Path) -> list[Check]:
    words = extraction._text(40, 0)
    return [
        extraction._blind_to_what_follows("GPT-2", extraction.LanguageModel(str(folder), context=16), words),
        extraction._context_as_alone(folder, words),
        extraction._story_begins_with_nothing(folder, words),
        extraction._stories_apart(folder, words),
        extraction._vectors_are_of_own_tokens(folder),
    ]
