"""A language model in memory: what each of its layers gives for tokens, and what it expects next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from brainalign.features.block_outputs import recorded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["Output", "Pretrained", "Stack", "hidden_states"]

Output = Literal["hidden", "attention", "mlp", "static"]


@dataclass(frozen=True)
class Stack:
    """One of a model's stacks of blocks.

    Parameters
    ----------
    prefix : str
        "", or "encoder " and "decoder ": what the names of its layers begin with.
    blocks : sequence of torch.nn.Module
        From the input up; none where they cannot be told.
    widths : tuple of int
        Of its hidden states.
    last_layer_is : str
        Whether the last hidden state comes after a final norm.
    """

    prefix: str
    blocks: Sequence[torch.nn.Module]
    widths: tuple[int, ...]
    last_layer_is: str


@dataclass(frozen=True)
class Pretrained:
    """A language model in memory.

    Parameters
    ----------
    name : str
        For messages.
    model : PreTrainedModel
        Of transformers, without what predicts the next token.
    predictor : PreTrainedModel or None
        The same with it, where that was asked for.
    tokenizer : PreTrainedTokenizerFast
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
    predictor: PreTrainedModel | None
    tokenizer: PreTrainedTokenizerFast
    device: torch.device
    stacks: tuple[Stack, ...]
    causal: bool
    resumes: bool
    before: tuple[int, ...]
    after: tuple[int, ...]
    max_tokens: int | None
    # Hooks are the model's, and would record what another thread reads.
    hooking: Lock = field(default_factory=Lock, repr=False, compare=False)

    @property
    def n_vocabulary(self) -> int:
        """How many tokens the model knows."""
        return int(self.model.get_input_embeddings().weight.shape[0])  # type: ignore[union-attr]

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
            if {"attention", "mlp"} & set(outputs):
                hooks.enter_context(self.hooking)
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
        for stack, states in zip(self.stacks, hidden_states(output), strict=True):
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
        n_before = len(self.before)
        for output in self._resumed(self.model, chunks, output_hidden_states=True):
            yield {f"layer {number}": state[:, n_before:].float() for number, state in enumerate(output.hidden_states)}
            n_before = 0

    def log_probabilities(self, windows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Log-probabilities (natural) of the next token, (window, 1 + token, vocabulary).

        The first position is what the tokens before the text predict: where there are none it is NaN.
        """
        import torch

        with torch.inference_mode():
            ids = self._ids([[*self.before, *window] for window in windows])
            return self._known_from_the_first(self._predictor(input_ids=ids, use_cache=False).logits)

    def resumed_log_probabilities(self, chunks: Sequence[Sequence[int]]) -> Iterator[torch.Tensor]:
        """The same of one window that is read chunk by chunk, (1, 1 + token, vocabulary) each."""
        import torch

        known = None
        for output in self._resumed(self._predictor, chunks):
            if known is None:
                known = self._known_from_the_first(output.logits)
            else:
                # What the chunk before predicts of this one's first token.
                known = torch.cat([known[:, -1:], output.logits.float().log_softmax(dim=-1)], dim=1)
            yield known

    @property
    def _predictor(self) -> PreTrainedModel:
        assert self.predictor is not None, "loaded without what predicts the next token"
        return self.predictor

    def _known_from_the_first(self, logits: torch.Tensor) -> torch.Tensor:
        import torch

        known = torch.log_softmax(logits.float(), dim=-1)
        if self.before:
            return known[:, len(self.before) - 1 :]
        return torch.cat([torch.full_like(known[:, :1], torch.nan), known], dim=1)

    def _resumed(
        self, model: PreTrainedModel, chunks: Sequence[Sequence[int]], output_hidden_states: bool = False
    ) -> Iterator[Any]:
        import torch

        assert self.resumes, "this model cannot go on where it stopped"
        cache, before = None, self.before
        for chunk in chunks:
            with torch.inference_mode():
                output = model(
                    input_ids=self._ids([[*before, *chunk]]),
                    past_key_values=cache,
                    use_cache=True,
                    output_hidden_states=output_hidden_states,
                )
            cache, before = output.past_key_values, ()
            yield output

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


def hidden_states(output: Any) -> tuple[tuple[torch.Tensor, ...], ...]:
    """The hidden states of each stack, from a model's output."""
    if getattr(output, "decoder_hidden_states", None) is not None:
        return output.encoder_hidden_states, output.decoder_hidden_states
    return (tuple(getattr(output, "hidden_states", None) or ()),)
