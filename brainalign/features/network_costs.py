"""What a network's passes cost, from its configuration: parameters, operations, bytes; no weights are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from brainalign.features.checkpoints import explained, quietly, read_config
from brainalign.features.model_files import ModelFiles
from brainalign.features.windows import Reading, cut_windows

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["NetworkCosts", "costs_of_network", "lengths_of_passes", "network_costs", "tokens_of"]

# Of one token in running text; most tokenisers are near it.
CHARACTERS_OF_TOKEN = 3.8
# Bytes of a weight in memory.
BYTES_OF = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class NetworkCosts:
    """What decides the cost of a pass.

    Parameters
    ----------
    n_layers : int
        Blocks of all stacks.
    width : int
        Of the hidden states.
    active : float
        Parameters of all blocks that a token is multiplied with.
    stored : float
        Parameters in memory, those of the embeddings and of experts that rest too.
    n_vocabulary : int
    limit : int or None
        Tokens that can be read at once, where the configuration says so.
    reads_both_sides : bool
        Whether it is trained to, as its kind tells.
    attends : bool
        Whether each token looks at all before it.
    """

    n_layers: int
    width: int
    active: float
    stored: float
    n_vocabulary: int
    limit: int | None = None
    reads_both_sides: bool = False
    attends: bool = True

    def operations(self, lengths: Sequence[int]) -> float:
        """Multiplications and additions of passes over so many tokens each.

        Examples
        --------
        >>> network = NetworkCosts(n_layers=2, width=8, active=1000.0, stored=2000.0, n_vocabulary=50)
        >>> network.operations([10]), network.operations([5, 5])
        (26400.0, 23200.0)
        """
        tokens = np.asarray(lengths, dtype=np.float64)
        # Scores and weighted sums of values, 2 products of width x length each for every token.
        attention = 4.0 * self.n_layers * self.width * float((tokens**2).sum()) if self.attends else 0.0
        return 2.0 * self.active * float(tokens.sum()) + attention


def tokens_of(words: Sequence[str]) -> list[int]:
    """About how many tokens each word has.

    >>> tokens_of(["a", "little", "internationalisation"])
    [1, 2, 6]
    """
    return [max(1, round((len(word) + 1) / CHARACTERS_OF_TOKEN)) for word in words]


@lru_cache(maxsize=4096)
def lengths_of_passes(
    tokens: tuple[int, ...], reading: Reading, sentences: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """How many tokens each pass over a text reads whose words have so many.

    Examples
    --------
    >>> lengths_of_passes((1, 2, 1), Reading(context=2))
    (4,)
    >>> lengths_of_passes((1, 2, 1), Reading(context=2, alone=True))
    (1, 3, 3)
    """
    edges = np.cumsum([0, *tokens])
    of_words = [np.arange(start, stop) for start, stop in pairwise(edges.tolist())]
    numbers = None if sentences is None else np.asarray(sentences)
    return tuple(len(window) for window in cut_windows(of_words, int(edges[-1]), reading, numbers))


@lru_cache(maxsize=256)
def network_costs(files: ModelFiles) -> NetworkCosts:
    """The costs of a model that is on this machine.

    Raises
    ------
    RecipeError, DataError, MissingExtraError
        If its configuration cannot be read.
    """
    with quietly(), explained(files):
        return costs_of_network(read_config(files))


def costs_of_network(config: PreTrainedConfig) -> NetworkCosts:
    """The costs of a network of this configuration: exact for plain transformers, about right for others."""
    text = config.get_text_config()
    width = int(_first(text, ("hidden_size", "d_model", "n_embd"), 768))
    blocks = int(_first(text, ("num_hidden_layers", "encoder_layers", "num_layers", "n_layer"), 12))
    decoder = int(_first(text, ("num_decoder_layers", "decoder_layers"), blocks)) if config.is_encoder_decoder else 0
    n_vocabulary = int(_first(text, ("vocab_size",), 0))
    heads = _first(text, ("num_attention_heads", "encoder_attention_heads", "n_head", "num_heads"), 0)
    attention = _attention(text, width, int(heads)) if heads else 0.0
    one, used, held = _feed_forward(text, width, bool(heads))
    # A decoder also looks at what its encoder gives.
    n_attentions, n_networks = blocks + 2 * decoder, blocks + decoder
    active = n_attentions * attention + n_networks * one * used
    stored = n_attentions * attention + n_networks * one * held + n_vocabulary * width
    return NetworkCosts(
        n_layers=n_networks,
        width=width,
        active=float(active),
        stored=float(stored),
        n_vocabulary=n_vocabulary,
        limit=_limit(text),
        reads_both_sides=bool(config.is_encoder_decoder) or _is_masked(config),
        attends=bool(heads),
    )


def _attention(config: Any, width: int, heads: int) -> float:
    """Parameters of queries, keys, values and output."""
    of_head = int(_first(config, ("head_dim", "d_kv"), width // heads))
    # Some share keys and values among heads.
    multi_query = getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False)
    of_keys = 1 if multi_query else int(_first(config, ("num_key_value_heads", "num_kv_heads"), heads))
    return 2.0 * width * of_head * (heads + of_keys)


def _feed_forward(config: Any, width: int, attends: bool) -> tuple[float, int, int]:
    """Parameters of one feed-forward network, how many of them a token passes, and how many there are."""
    inner = _first(config, ("intermediate_size", "encoder_ffn_dim", "ffn_dim", "n_inner", "d_ff", "d_inner"), 4 * width)
    inner = inner[0] if isinstance(inner, (list, tuple)) else inner
    # Root mean square norms came with networks that are gated: three matrices in place of two.
    gated = hasattr(config, "rms_norm_eps") or getattr(config, "is_gated_act", False) or not attends
    n_experts = int(_first(config, ("num_local_experts", "num_experts", "n_routed_experts"), 1))
    n_used = int(_first(config, ("num_experts_per_tok",), 1)) if n_experts > 1 else 1
    if n_experts > 1:
        inner = _first(config, ("moe_intermediate_size",), inner)
    return (3.0 if gated else 2.0) * width * float(inner), n_used, n_experts


def _limit(config: Any) -> int | None:
    limit = _first(config, ("max_position_embeddings", "n_positions", "max_seq_len"), None)
    # Some write a number beyond any text where there is none.
    return int(limit) if limit is not None and 0 < int(limit) <= 10**7 else None


def _is_masked(config: PreTrainedConfig) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)


def _first(config: Any, names: Sequence[str], default: Any) -> Any:
    """The first of these settings that there is."""
    found = (getattr(config, name, None) for name in names)
    return next((value for value in found if value is not None), default)
