"""How unexpected each word of a text is to a causal model, and how open it is what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import RecipeError
from brainalign.features.passes import TokenisedText, batches, chunks_of, fitting, tokens_per_pass
from brainalign.features.pretrained import Pretrained
from brainalign.features.windows import Window
from brainalign.types import Floats

if TYPE_CHECKING:
    import torch

__all__ = ["Measure", "word_information"]

Measure = Literal["surprisal", "entropy"]

# How byte-level and sentence-piece vocabularies write the blank that a token begins with.
BLANK_SIGNS = ("\u0120", "\u2581", " ")


def word_information(
    model: Pretrained,
    text: TokenisedText,
    windows: Sequence[Window],
    memory_limit: float | None = None,
    boundary_correction: bool = False,
) -> dict[Measure, Floats]:
    """Surprisal and entropy at each word, in bits, in the order of the stimulus: (word,) each.

    Parameters
    ----------
    model : Pretrained
        Loaded with the head "causal_lm".
    text, windows
        What is read, and how; see `passes`.
    memory_limit : float, optional
        Bytes that one pass may take.
    boundary_correction : bool
        See `Surprisal`.

    Raises
    ------
    RecipeError
        With `boundary_correction`, if the model's tokens carry no blanks.
    """
    blanks = _tokens_with_blank(model) if boundary_correction else None
    surprisal, entropy = np.full((2, len(text.order)), np.nan)
    for batch, rows in _read(model, text, windows, memory_limit, blanks):
        for window, row in zip(batch, rows, strict=True):
            words = text.order[window.first_word : window.stop_word]
            surprisal[words], entropy[words] = row
    return {"surprisal": surprisal, "entropy": entropy}


def _read(
    model: Pretrained,
    text: TokenisedText,
    windows: Sequence[Window],
    memory_limit: float | None,
    blanks: torch.Tensor | None,
) -> Iterator[tuple[list[Window], list[tuple[Floats, Floats]]]]:
    widths = [width for _, width in model.layers(("hidden",))]
    # The logits, their logarithms and what the entropy takes: several numbers for each token that the model knows.
    n_tokens = tokens_per_pass(model, widths, memory_limit, per_token=4 * model.n_vocabulary)

    def read(batch: list[Window]) -> list[tuple[Floats, Floats]]:
        known = model.log_probabilities([text.of(window) for window in batch])
        return [_of_words(known[row], text, window, blanks) for row, window in enumerate(batch)]

    for batch in batches(windows, n_tokens):
        if len(batch[0]) > n_tokens and model.resumes:
            chunks = chunks_of(batch[0], text, n_tokens)
            probabilities = model.resumed_log_probabilities([text.of(chunk) for chunk in chunks])
            for chunk, known in zip(chunks, probabilities, strict=True):
                if chunk.first_word < chunk.stop_word:
                    yield [chunk], [_of_words(known[0], text, chunk, blanks)]
        else:
            yield from fitting(read, batch)


def _of_words(
    known: torch.Tensor, text: TokenisedText, window: Window, blanks: torch.Tensor | None
) -> tuple[Floats, Floats]:
    """Surprisal and entropy of a window's words, from log-probabilities (1 + token, vocabulary)."""
    import torch

    runs = [_run(text, word, window.start) for word in range(window.first_word, window.stop_word)]
    ids = torch.tensor(text.of(window), device=known.device)
    # Row t is what is known before token t.
    of_tokens = -known[:-1].gather(1, ids[:, None])[:, 0].double()
    begins = torch.tensor([begin for begin, _ in runs], device=known.device)
    at_begin = known[begins].double()
    entropy = -(at_begin.exp() * at_begin.clamp(min=torch.finfo(torch.float32).min)).sum(dim=-1)
    surprisal = torch.stack([of_tokens[begin:end].sum() for begin, end in runs])
    if blanks is not None:
        ends = torch.tensor([end for _, end in runs], device=known.device)
        is_blank = torch.isin(ids[begins], blanks)
        ends_at_blank = torch.tensor(
            [_ends_at_blank(text, word, blanks) for word in range(window.first_word, window.stop_word)],
            device=known.device,
        )
        over_before, over_after = (known[rows][:, blanks].double().logsumexp(dim=-1) for rows in (begins, ends))
        surprisal = surprisal - torch.where(ends_at_blank, over_after, 0.0) + torch.where(is_blank, over_before, 0.0)
    nats = np.stack([surprisal.cpu().numpy(), entropy.cpu().numpy()])
    bits = nats / np.log(2)
    return bits[0], bits[1]


def _run(text: TokenisedText, word: int, start: int) -> tuple[int, int]:
    """The tokens of a word in a window that begins at `start`, with those of blanks before it: first and stop.

    Most tokens hold the blank before them; where it is a token of its own, it belongs to the word as well, so that a
    text's surprisal is the sum of its words'.
    """
    begin = int(text.tokens_of_words[word - 1][-1]) + 1 if word > 0 else 0
    return max(begin, start) - start, int(text.tokens_of_words[word][-1]) + 1 - start


def _ends_at_blank(text: TokenisedText, word: int, blanks: torch.Tensor) -> bool:
    """Whether a blank, or nothing, comes after a word: what is attached to it is not said to be over by a blank."""
    after = int(text.tokens_of_words[word][-1]) + 1
    return after >= len(text.ids) or text.ids[after] in blanks


def _tokens_with_blank(model: Pretrained) -> torch.Tensor:
    """The tokens that begin with a blank, and that which ends a text: each says that the word before is over."""
    import torch

    tokenizer = model.tokenizer
    n_known = min(model.n_vocabulary, len(tokenizer))
    names: NDArray[np.str_] = np.array([str(name) for name in tokenizer.convert_ids_to_tokens(list(range(n_known)))])
    chosen = np.flatnonzero(np.any([np.char.startswith(names, sign) for sign in BLANK_SIGNS], axis=0)).tolist()
    if not chosen:
        raise RecipeError("boundary_correction: this model's tokens carry no blanks; leave it out.")
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in chosen:
        chosen.append(int(tokenizer.eos_token_id))
    return torch.tensor(chosen, device=model.device)
