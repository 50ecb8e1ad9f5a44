"""Load a language model, and find out how it reads.

Whether what it gives at a token depends on later tokens is found by changing a token, not taken from the model's name:
from a causal model one pass gives every word its own context, from any other it would give the future away.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from brainalign.errors import DataError, RecipeError
from brainalign.features.block_outputs import blocks_of
from brainalign.features.checkpoints import (
    Head,
    LastLoaded,
    choose_dtype,
    draw_weights,
    explained,
    quietly,
    read_config,
    read_weights,
)
from brainalign.features.model_files import ModelFiles
from brainalign.features.pretrained import Pretrained, Stack, hidden_states
from brainalign.features.tokens import read_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["load", "unload"]

# Where configurations say how many positions a model has; those that say nothing have no limit. The smaller counts
# where an encoder and a decoder have one each.
POSITION_LIMITS = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "max_encoder_position_embeddings",
    "max_decoder_position_embeddings",
)
# Rotary positions that are scaled by how long a pass is: within the original length they are not.
SCALED_BY_LENGTH = ("longrope", "dynamic")

# Relative to the root mean square of a layer: what rounding changes (in batches of experts), and what is a leak.
LEAK = 1e-4
# The same for reading in two parts, in which products of other shapes are rounded otherwise.
ROUNDING = 1e-3

_last = LastLoaded[Pretrained]()


def load(files: ModelFiles, seed: int | None, device: str, dtype: str = "float32", head: Head = "none") -> Pretrained:
    """Load a language model, unless it is the one that was loaded last.

    Parameters
    ----------
    files : ModelFiles
        Where it is.
    seed : int or None
        Of random weights in the same configuration; None for the trained ones.
    device : str
        A device of torch.
    dtype : {"float32", "bfloat16", "float16"}
        Of the weights, and what is computed with.
    head : {"none", "causal_lm"}
        Whether next-token probabilities are asked for.

    Raises
    ------
    RecipeError
        If the model does not read text, has no fast tokeniser or no hidden states, or would need code of its own; or
        if probabilities are asked of a model that is not causal.
    DataError
        If its files are damaged, or its numbers overflow.
    MissingExtraError
        If it is a GGUF file and the packages that read those are absent.
    """
    # The digest is there to load changed files anew.
    key = (files, files.digest(), seed, device, dtype)
    if head == "none":
        # One that can predict serves as well.
        kept = _last.peek((*key, "causal_lm"))
        if kept is not None:
            return kept
    return _last.get((*key, head), lambda: _load(files, seed, device, dtype, head))


def unload() -> None:
    """Let go of the model that was loaded last."""
    _last.clear()


def _load(files: ModelFiles, seed: int | None, device: str, dtype: str, head: Head) -> Pretrained:
    import torch

    numbers = choose_dtype(dtype)
    with quietly(), explained(files):
        config = read_config(files)
        _check_reads_text(config, files.name)
        if head == "causal_lm":
            _check_predicts(config, files.name)
        tokenizer = read_tokenizer(files)
        whole = (
            read_weights(files, config, head, numbers) if seed is None else draw_weights(config, seed, head, numbers)
        )
        # The checker does not see through the decorator of this method.
        whole.to(torch.device(device))  # pyrefly: ignore[bad-argument-type]
        whole.eval()
        model: PreTrainedModel = whole.base_model if head == "causal_lm" else whole  # type: ignore[assignment]
        stacks = _stacks(model, files.name)
        causal = len(stacks) == 1 and not _reads_both_sides_by_name(config) and _is_causal(model, files.name)
    if head == "causal_lm" and not causal:
        raise RecipeError(f"Model '{files.name}' is not causal: it does not predict a word from those before it alone.")
    before, after = _begin_of_text(tokenizer) if causal else _frame(tokenizer)
    limit = _max_positions(model)
    return Pretrained(
        name=files.name,
        model=model,
        predictor=whole if head == "causal_lm" else None,
        tokenizer=tokenizer,
        device=torch.device(device),
        stacks=stacks,
        causal=causal,
        resumes=causal and _resumes(model),
        before=before,
        after=after,
        # A decoder reads one token more than the text.
        max_tokens=None if limit is None else limit - len(before) - max(len(after), len(stacks) - 1),
    )


def _check_reads_text(config: PreTrainedConfig, name: str) -> None:
    from transformers import MODEL_MAPPING

    # Some configurations stand for several classes, of which the first is the plain model.
    kinds = MODEL_MAPPING.get(type(config), None)
    reads = getattr(kinds[0] if isinstance(kinds, tuple) else kinds, "main_input_name", "input_ids")
    if reads != "input_ids":
        raise RecipeError(
            f"Model '{name}' ({config.model_type}) reads {reads}, not text; for sound take `kind: speech_model`."
        )
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        raise RecipeError(
            f"Model '{name}' ({config.model_type}) does not say with which token its decoder starts "
            "(decoder_start_token_id in config.json), since that depends on the language: write it there."
        )


def _check_predicts(config: PreTrainedConfig, name: str) -> None:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if (
        config.is_encoder_decoder
        or type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING
        or _reads_both_sides_by_name(config)
    ):
        raise RecipeError(
            f"Model '{name}' is of the architecture '{config.model_type}', which does not predict the next word.\n"
            "Choose a causal model, such as gpt2."
        )


def _reads_both_sides_by_name(config: PreTrainedConfig) -> bool:
    from transformers import MODEL_FOR_MASKED_LM_MAPPING

    return type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)


def _begin_of_text(tokenizer: PreTrainedTokenizerFast) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens that begin a text for a causal model, by its tokeniser or by its settings; none for some."""
    before, _ = _frame(tokenizer)
    if not before and tokenizer.bos_token_id is not None:
        before = (int(tokenizer.bos_token_id),)
    return before, ()


def _frame(tokenizer: PreTrainedTokenizerFast) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that the tokeniser puts before and after a text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = list(tokenizer("a")["input_ids"])
    n_before = next((i for i in range(len(framed)) if framed[i : i + len(plain)] == plain), 0)
    return tuple(framed[:n_before]), tuple(framed[n_before + len(plain) :])


def _stacks(model: PreTrainedModel, name: str) -> tuple[Stack, ...]:
    """The model's stacks, from a short pass that shows their layers."""
    states = hidden_states(_short_pass(model, _tokens(model)))
    if not states or not states[0]:
        raise RecipeError(f"Model '{name}' ({model.config.model_type}) gives no hidden states.")
    if len(states) == 1:
        parts = [("", model)]
    else:
        parts = [("encoder ", model.get_encoder()), ("decoder ", model.get_decoder())]
    blocks = [blocks_of(part, len(layers) - 1) for (_, part), layers in zip(parts, states, strict=True)]
    ends = _ends_of_blocks(model, blocks)
    return tuple(
        Stack(prefix, of_stack, tuple(layer.shape[-1] for layer in layers), _last_layer_is(end, layers[-1]))
        for (prefix, _), of_stack, layers, end in zip(parts, blocks, states, ends, strict=True)
    )


def _ends_of_blocks(model: PreTrainedModel, blocks: Sequence[Sequence[torch.nn.Module]]) -> list[torch.Tensor | None]:
    """What the last block of each stack gives in the same short pass; None where the blocks cannot be told."""
    ends: list[torch.Tensor | None] = [None] * len(blocks)

    def keep(number: int) -> Any:
        def hook(module: Any, given: Any, output: Any) -> None:
            ends[number] = (output[0] if isinstance(output, (tuple, list)) else output).clone()

        return hook

    hooks = [of_stack[-1].register_forward_hook(keep(i)) for i, of_stack in enumerate(blocks) if of_stack]
    try:
        _short_pass(model, _tokens(model))
    finally:
        for hook in hooks:
            hook.remove()
    return ends


def _last_layer_is(end: torch.Tensor | None, last: torch.Tensor) -> str:
    import torch

    if end is None:
        return "the model's last hidden state"
    if end.shape == last.shape and torch.equal(end, last):
        return "the last block's output"
    return "the last block's output after the final norm"


def _is_causal(model: PreTrainedModel, name: str) -> bool:
    """Change the last token of a short window, and see whether anything before it changes."""
    tokens = _tokens(model)
    n_known = int(model.config.get_text_config().vocab_size)
    changed = [*tokens[:-1], (tokens[-1] + n_known // 2) % n_known]
    # Two passes of one shape, not one of two rows: so the numbers before the change are rounded alike.
    (before,), (after,) = (hidden_states(_short_pass(model, ids)) for ids in (tokens, changed))
    if not all(bool(state.isfinite().all()) for state in before):
        raise DataError(
            f"Model '{name}': its numbers are not finite; in dtype: float16 they overflow where float32 or bfloat16 "
            "do not."
        )
    return _are_alike([state[:, :-1] for state in before], [state[:, :-1] for state in after], LEAK)


def _resumes(model: PreTrainedModel) -> bool:
    """Read a short window whole and in two parts, and see whether the numbers are the same."""
    import torch

    if "past_key_values" not in inspect.signature(model.forward).parameters:
        return False
    tokens = _tokens(model)
    with torch.inference_mode():
        head, tail = (torch.tensor([part], device=model.device) for part in (tokens[:5], tokens[5:]))
        first = model(input_ids=head, use_cache=True)
        if getattr(first, "past_key_values", None) is None:
            return False
        rest = model(input_ids=tail, past_key_values=first.past_key_values, use_cache=True, output_hidden_states=True)
    (whole,), (resumed,) = hidden_states(_short_pass(model, tokens)), hidden_states(rest)
    # In half precision all numbers are rounded, and what is alike cannot be told from what is not.
    return model.dtype == torch.float32 and _are_alike([state[:, 5:] for state in whole], resumed, ROUNDING)


def _are_alike(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor], tolerance: float) -> bool:
    """Whether the states of all layers differ by no more than a share of each layer's root mean square."""
    for one, other in zip(some, others, strict=True):
        size = one.float().square().mean().sqrt()
        if not bool((one.float() - other.float()).abs().max() <= tolerance * size):
            return False
    return True


def _tokens(model: PreTrainedModel) -> list[int]:
    return [i % int(model.config.get_text_config().vocab_size) for i in range(1, 9)]


def _short_pass(model: PreTrainedModel, tokens: Sequence[int]) -> Any:
    import torch

    with torch.inference_mode():
        inputs = {"input_ids": torch.tensor([tokens], device=model.device)}
        if model.config.is_encoder_decoder:
            inputs["decoder_input_ids"] = inputs["input_ids"]
        return model(**inputs, output_hidden_states=True, use_cache=False)


def _max_positions(model: PreTrainedModel) -> int | None:
    of_text = model.config.get_text_config()
    named = [limit for name in POSITION_LIMITS if isinstance(limit := getattr(of_text, name, None), int) and limit > 0]
    limits = named[:1] if not of_text.is_encoder_decoder else [min(named)] if named else []
    limits = [limit - _positions_lost_to_padding(model, limit) for limit in limits]
    return min([*limits, *_original_lengths(of_text)], default=None)


def _original_lengths(config: PreTrainedConfig) -> list[int]:
    """The longest passes in which rotary positions do not depend on the length of the pass."""
    ropes = [getattr(config, name, None) or {} for name in ("rope_parameters", "rope_scaling")]
    # Some models have settings for each kind of layer.
    ropes += [nested for rope in ropes for nested in rope.values() if isinstance(nested, dict)]
    lengths = [
        rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
        for rope in ropes
        if rope.get("rope_type", rope.get("type")) in SCALED_BY_LENGTH
    ]
    return [int(length) for length in lengths if length]


def _positions_lost_to_padding(model: PreTrainedModel, limit: int) -> int:
    """RoBERTa and its kin count positions from the padding token's number on, so that some are never used."""
    import torch

    for name, module in model.named_modules():
        if (
            name.endswith("position_embeddings")
            and isinstance(module, torch.nn.Embedding)
            and module.padding_idx is not None
            and module.num_embeddings == limit
        ):
            return module.padding_idx + 1
    return 0
