"""What passes cost, from configurations alone: against networks that are made, and texts that are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from brainalign.features import LanguageModel, Surprisal, ToyModel
from brainalign.features.model_files import locate
from brainalign.features.naming import Named
from brainalign.features.network_costs import costs_of_network, network_costs
from brainalign.types import Stimulus
from tests.helpers.tiny_models import BIDIRECTIONAL, STORY, config_of


def story(text: str = STORY) -> Stimulus:
    words = text.split()
    return Stimulus("s", pd.DataFrame({"onset": np.arange(len(words)) / 2, "duration": 0.3, "text": words}))


# Some of each kind: shared keys, gates, experts, no attention, both sides, two stacks.
@pytest.mark.parametrize("family", ["gpt2", "qwen3", "falcon", "mixtral", "mamba", "modernbert", "t5", "bart"])
def test_parameters_are_those_of_the_network_within_a_third(family: str) -> None:
    import transformers

    config = config_of(family)
    network = transformers.AutoModel.from_config(config)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    found = costs_of_network(config)
    assert found.width == 24
    assert 2 / 3 < found.stored / n_parameters < 4 / 3
    assert found.active < found.stored
    assert found.reads_both_sides == (family in BIDIRECTIONAL or config.is_encoder_decoder)


@pytest.mark.parametrize(
    "settings",
    [{}, {"context": 16}, {"context": 8, "context_unit": "words"}, {"context": 16, "exact": True}, {"context": "none"}],
)
def test_what_is_expected_of_a_model_is_what_it_gives(tiny_llama: Path, settings: dict[str, object]) -> None:
    model = LanguageModel(str(tiny_llama), **settings)
    expected, stream = model.expected(story(STORY * 4)), model.stream(story(STORY * 4))
    assert expected.shape == stream.shape
    read = sum(model.lengths_of_passes(network_costs(locate(str(tiny_llama))), story(STORY * 4)))
    # Its tokens are shorter than usual, since it knows 512 of them.
    assert 0.4 < read / stream.metadata["n_tokens_read"] < 1.6


def test_longer_contexts_and_passes_of_their_own_cost_more(tiny_llama: Path) -> None:
    shared = LanguageModel(str(tiny_llama), context=32).expected(story(STORY * 4)).operations
    own = LanguageModel(str(tiny_llama), context=32, exact=True).expected(story(STORY * 4)).operations
    alone = LanguageModel(str(tiny_llama), context="none").expected(story(STORY * 4)).operations
    assert alone <= shared < own


def test_surprisal_costs_the_passes_and_the_vocabulary(tiny_llama: Path) -> None:
    passes, found = LanguageModel(str(tiny_llama)).expected(story()), Surprisal(str(tiny_llama)).expected(story())
    assert found.shape == (1, len(story().words), 1)
    assert found.operations > passes.operations


def test_a_name_of_ones_own_changes_no_cost() -> None:
    toy = ToyModel(n_layers=2, dimension=4)
    assert Named("mine", toy).expected(story()) == toy.expected(story())
    assert toy.expected(story()).shape == toy.extract(story()).values.shape
