"""A language model in memory: its tokens, and what each of its layers gives for them.

What a model reads at a token may or may not depend on later tokens. That is found by changing a token, not taken from
the model's name: from a causal model one pass gives every word its own context, from any other it would give the
future away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from brainalign.errors import RecipeError
from brainalign.features.block_outputs import blocks_of, recorded
from brainalign.features.checkpoints import (
    Head,
    choose_dtype,
    draw_weights,
    explained,
    quietly,
    read_config,
    read_weights,
)
from brainalign.features.model_files import ModelFiles
from brainalign.features.tokens import read_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["Output", "Pretrained", "load"]

Output = Literal["hidden", "attention", "mlp", "static"]

# Where configurations say how many positions a model has; those that say nothing have no limit.
POSITION_LIMITS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
ATOL, RTOL = 1e-5, 1e-5


@dataclass(frozen=True)
class Stack:
    """One of a model's stacks of blocks: "", or "encoder " and "decoder "; and the width of its hidden states."""

    prefix: str
    blocks: Sequence[torch.nn.Module]
    widths: tuple[int, ...]


@dataclass(frozen=True)
class Pretrained:
    """A language model in memory.

    Parameters
    ----------
    name : str
        For messages.
    model, tokenizer
        Of transformers.
    device : torch.device
        Where the model is.
    stacks : tuple of Stack
        One, or an encoder and a decoder.
    causal : bool
        Whether no token depends on a later one.
    resumes : bool
        Whether it can go on reading where it stopped (from its keys and values), with the same numbers.
    before, after : tuple of int
        Tokens that stand around every text that it reads.
    max_tokens : int or None
        Tokens of a text, besides those, that it can read at once.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    device: torch.device
    stacks: tuple[Stack, ...]
    causal: bool
    resumes: bool
    before: tuple[int, ...]
    after: tuple[int, ...]
    max_tokens: int | None

    def layers(self, outputs: Sequence[Output]) -> list[tuple[str, int]]:
        """Name and width of every layer that these outputs have, from the input up."""
        names: list[tuple[str, int]] = []
        if "static" in outputs:
            names.append(("static", self._embeddings().weight.shape[1]))
        for stack in self.stacks:
            for number, width in enumerate(stack.widths):
                if "hidden" in outputs:
                    names.append((f"{stack.prefix}layer {number}", width))
                # Block k, from 1, is what leads from layer k - 1 to layer k.
                names += [
                    (f"{stack.prefix}layer {number} {part}", width)
                    for part in ("attention", "mlp")
                    if part in outputs and number > 0
                ]
        return names

    def states(
        self, windows: Sequence[Sequence[int]], outputs: Sequence[Output] = ("hidden",)
    ) -> dict[str, torch.Tensor]:
        """Each layer's states of windows of equal length, float32, (window, token, dimension).

        What stands around the windows is read with them and cut off.
        """
        with ExitStack() as hooks:
            parts = {
                (stack.prefix, part): hooks.enter_context(recorded(stack.blocks, part, self.name))
                for stack in self.stacks
                for part in ("attention", "mlp")
                if part in outputs
            }
            output = self._run(windows)
        found: dict[str, torch.Tensor] = {}
        n_tokens = len(windows[0])
        if "static" in outputs:
            found["static"] = self._embeddings().weight.detach()[self._ids(windows)].float()
        for stack, states in zip(self.stacks, _hidden_states(output), strict=True):
            if "hidden" in outputs:
                found |= {
                    f"{stack.prefix}layer {number}": self._cut(state, stack, len(windows), n_tokens)
                    for number, state in enumerate(states)
                }
            for part in ("attention", "mlp"):
                for number, state in parts.get((stack.prefix, part), {}).items():
                    name = f"{stack.prefix}layer {number + 1} {part}"
                    found[name] = self._cut(state, stack, len(windows), n_tokens)
        return found

    def resumed_states(self, chunks: Sequence[Sequence[int]]) -> Iterator[dict[str, torch.Tensor]]:
        """Hidden states of one window that is read chunk by chunk, each going on from the keys and values before it."""
        import torch

        assert self.resumes, "this model cannot go on where it stopped"
        cache, before = None, list(self.before)
        for chunk in chunks:
            ids = self._ids([[*before, *chunk]])
            with torch.inference_mode():
                output = self.model(input_ids=ids, past_key_values=cache, use_cache=True, output_hidden_states=True)
            cache = output.past_key_values
            yield {
                f"layer {number}": state[:, len(before) :].float() for number, state in enumerate(output.hidden_states)
            }
            before = []

    def log_probabilities(self, windows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Log-probabilities (natural) of the next token, (window, 1 + token, vocabulary).

        The first position is what the tokens before the text predict: where there are none it is NaN.
        """
        import torch

        n_before = len(self.before)
        with torch.inference_mode():
            ids = self._ids([[*self.before, *window] for window in windows])
            logits = self.model(input_ids=ids, use_cache=False).logits.float()
            known = torch.log_softmax(logits, dim=-1)
        if n_before:
            return known[:, n_before - 1 :]
        unknown = torch.full_like(known[:, :1], torch.nan)
        return torch.cat([unknown, known], dim=1)

    def _run(self, windows: Sequence[Sequence[int]]) -> Any:
        import torch

        with torch.inference_mode():
            inputs = {"input_ids": self._ids([[*self.before, *window, *self.after] for window in windows])}
            if len(self.stacks) == 2:
                # The decoder reads the same text, one token later; so a token's state is that which has read it.
                start = int(self.model.config.decoder_start_token_id)
                inputs["decoder_input_ids"] = self._ids([[start, *self.before, *window] for window in windows])
            return self.model(**inputs, output_hidden_states=True, use_cache=False)

    def _cut(self, state: torch.Tensor, stack: Stack, n_windows: int, n_tokens: int) -> torch.Tensor:
        start = len(self.before) + (stack.prefix == "decoder ")
        # Some families' products run over the tokens of all windows in one row.
        return state.reshape(n_windows, -1, state.shape[-1])[:, start : start + n_tokens].float()

    def _embeddings(self) -> torch.nn.Embedding:
        return self.model.get_input_embeddings()  # type: ignore[return-value]

    def _ids(self, windows: Sequence[Sequence[int]]) -> torch.Tensor:
        import torch

        return torch.tensor(windows, dtype=torch.long, device=self.device)


# A model is loaded once for all stimuli; only one is kept, since two may not fit. The stage itself stays a plain
# frozen value that can be compared and sent to another process. The digest is there to load changed files anew.
@lru_cache(maxsize=1)
def load(
    files: ModelFiles, digest: str, seed: int | None, device: str, dtype: str = "float32", head: Head = "none"
) -> Pretrained:
    """Load a language model, and find out whether a later token reaches an earlier one.

    Parameters
    ----------
    files : ModelFiles
        Where it is.
    digest : str
        ``files.digest()``.
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
        If its files are damaged.
    MissingExtraError
        If it is a GGUF file and the packages that read those are absent.
    """
    import torch

    numbers = choose_dtype(dtype)
    with quietly(), explained(files):
        config = read_config(files)
        _check_reads_text(config, files.name)
        if head == "causal_lm":
            _check_predicts(config, files.name)
        tokenizer = read_tokenizer(files)
        model = (
            read_weights(files, config, head, numbers) if seed is None else draw_weights(config, seed, head, numbers)
        )
    # The checker does not see through the decorator of this method.
    model.to(torch.device(device))  # pyrefly: ignore[bad-argument-type]
    model.eval()
    stacks = _stacks(model, files.name)
    causal = len(stacks) == 1 and not _reads_both_sides_by_name(config) and _is_causal(model)
    if head == "causal_lm" and not causal:
        raise RecipeError(f"Model '{files.name}' is not causal: it does not predict a word from those before it alone.")
    before, after = _begin_of_text(tokenizer) if causal else _frame(tokenizer)
    limit = _max_positions(model)
    return Pretrained(
        name=files.name,
        model=model,
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


def _begin_of_text(tokenizer: PreTrainedTokenizerFast) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The token that begins a text for a causal model; none for some."""
    return (() if tokenizer.bos_token_id is None else (int(tokenizer.bos_token_id),)), ()


def _frame(tokenizer: PreTrainedTokenizerFast) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that the tokeniser puts before and after a text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    framed = list(tokenizer("a")["input_ids"])
    n_before = next((i for i in range(len(framed)) if framed[i : i + len(plain)] == plain), 0)
    return tuple(framed[:n_before]), tuple(framed[n_before + len(plain) :])


def _check_reads_text(config: PreTrainedConfig, name: str) -> None:
    from transformers import MODEL_MAPPING

    # Some configurations stand for several classes, of which the first is the plain model.
    kinds = MODEL_MAPPING.get(type(config), None)
    reads = getattr(kinds[0] if isinstance(kinds, tuple) else kinds, "main_input_name", "input_ids")
    if reads != "input_ids":
        raise RecipeError(
            f"Model '{name}' ({config.model_type}) reads {reads}, not text; for sound take `kind: speech_model`."
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


def _stacks(model: PreTrainedModel, name: str) -> tuple[Stack, ...]:
    """The model's stacks, from a short pass that shows their layers."""
    states = _hidden_states(_short_pass(model, _tokens(model)))
    if not states or not states[0]:
        raise RecipeError(f"Model '{name}' ({model.config.model_type}) gives no hidden states.")
    if len(states) == 1:
        parts = [("", model)]
    else:
        parts = [("encoder ", model.get_encoder()), ("decoder ", model.get_decoder())]
    return tuple(
        Stack(prefix, blocks_of(part, len(layers) - 1), tuple(layer.shape[-1] for layer in layers))
        for (prefix, part), layers in zip(parts, states, strict=True)
    )


def _is_causal(model: PreTrainedModel) -> bool:
    """Change the last token of a short window, and see whether anything before it changes."""
    import torch

    tokens = _tokens(model)
    n_known = int(model.config.get_text_config().vocab_size)
    changed = [*tokens[:-1], (tokens[-1] + n_known // 2) % n_known]
    # Two passes of one shape, not one of two rows: so the numbers before the change are rounded alike.
    (before,), (after,) = (_hidden_states(_short_pass(model, ids)) for ids in (tokens, changed))
    return all(
        torch.allclose(one[:, :-1].float(), other[:, :-1].float(), rtol=RTOL, atol=ATOL)
        for one, other in zip(before, after, strict=True)
    )


def _resumes(model: PreTrainedModel) -> bool:
    """Read a short window whole and in two parts, and see whether the numbers are the same."""
    import inspect

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
    (whole,), (resumed,) = _hidden_states(_short_pass(model, tokens)), _hidden_states(rest)
    return all(
        torch.allclose(one[:, 5:].float(), other.float(), rtol=1e-3, atol=1e-4)
        for one, other in zip(whole, resumed, strict=True)
    )


def _tokens(model: PreTrainedModel) -> list[int]:
    return [i % int(model.config.get_text_config().vocab_size) for i in range(1, 9)]


def _short_pass(model: PreTrainedModel, tokens: Sequence[int]) -> Any:
    import torch

    with torch.inference_mode():
        inputs = {"input_ids": torch.tensor([tokens], device=model.device)}
        if model.config.is_encoder_decoder:
            inputs["decoder_input_ids"] = inputs["input_ids"]
        return model(**inputs, output_hidden_states=True, use_cache=False)


def _hidden_states(output: Any) -> tuple[tuple[torch.Tensor, ...], ...]:
    """The hidden states of each stack."""
    if getattr(output, "decoder_hidden_states", None) is not None:
        return output.encoder_hidden_states, output.decoder_hidden_states
    return (tuple(getattr(output, "hidden_states", None) or ()),)


def _max_positions(model: PreTrainedModel) -> int | None:
    of_text = model.config.get_text_config()
    limits = (getattr(of_text, name, None) for name in POSITION_LIMITS)
    limit = next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)
    if limit is None:
        return None
    return limit - _positions_lost_to_padding(model, limit)


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
