"""How unexpected each word is to a language model, and how open it is what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import DataError, RecipeError, nearest
from brainalign.features.checkpoints import choose_device
from brainalign.features.language_model import LanguageModel
from brainalign.features.model_files import locate
from brainalign.features.passes import TokenisedText, batches, fitting, named, tokenised, tokens_per_pass
from brainalign.features.pretrained import Pretrained, load
from brainalign.features.windows import Context, Unit, Window
from brainalign.types import Features, Floats, Stimulus, StimulusPart

if TYPE_CHECKING:
    import torch

__all__ = ["Measure", "Surprisal", "word_information"]

Measure = Literal["surprisal", "entropy"]

CODE_VERSION = 1

# How byte-level and sentence-piece vocabularies write the blank that a token begins with.
BLANK_SIGNS = ("\u0120", "\u2581", " ")


@dataclass(frozen=True)
class Surprisal:
    """Extract how unexpected each word is to a causal language model, as a feature space of one layer.

    ==========  ======================================================================================
    surprisal   -log2 p(word | context): the sum over the word's tokens and the blank before it, in bits
    entropy     of the distribution of the next token where the word begins, in bits
    ==========  ======================================================================================

    Parameters
    ----------
    model : str
        As that of `LanguageModel`; causal.
    measures : tuple of {"surprisal", "entropy"}
        The columns.
    context, context_unit, exact, untrained, dtype, device, memory_limit
        As those of `LanguageModel`.
    boundary_correction : bool
        Where tokens carry the blank before them, the probability that a word is over belongs to the next word's first
        token. True moves it to the word: p(word) = prod p(token) p(blank | context, word) / p(blank | context), for
        words that a blank stands before (Oh & Schuler 2024; Pimentel & Meister 2024).

    Notes
    -----
    A first word that nothing stands before, not even a beginning-of-text token, has no surprisal: `extract` refuses it
    by name, and `LanguageModel.surprisal` gives NaN.

    Examples
    --------
    >>> Surprisal("gpt2").name
    'surprisal of gpt2'
    """

    reads: ClassVar[tuple[StimulusPart, ...]] = ("text",)

    model: str
    measures: tuple[Measure, ...] = ("surprisal",)
    context: Context = 512
    context_unit: Unit = "tokens"
    exact: bool = False
    untrained: bool | int = False
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    memory_limit: float | None = None
    boundary_correction: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "measures", (self.measures,) if isinstance(self.measures, str) else tuple(self.measures)
        )
        if not self.measures or len(set(self.measures)) < len(self.measures):
            raise RecipeError(f"measures: name at least one, each once, not {list(self.measures)}.")
        for measure in self.measures:
            if measure not in get_args(Measure):
                raise RecipeError(f"Unknown measure '{measure}'. {nearest(measure, get_args(Measure))}")
        self._language_model()  # checks the settings that the two share

    @property
    def name(self) -> str:
        """The measures, and the model's name."""
        return f"{' and '.join(self.measures)} of {self._language_model().name}"

    def fingerprint(self) -> dict[str, Any]:
        """All that the values depend on besides the text."""
        shared = self._language_model().fingerprint()
        return {
            **{key: shared[key] for key in ("weights", "tokenizer", "context", "seed", "dtype", "transformers")},
            "kind": "surprisal",
            "measures": list(self.measures),
            "boundary_correction": self.boundary_correction,
            "code": [CODE_VERSION, shared["code"]],
        }

    def extract(self, stimulus: Stimulus) -> Features:
        """Give the measures of each word; the metadata's ``dimensions`` name the columns.

        Raises
        ------
        RecipeError
            If the model is not causal; or with `boundary_correction`, if its tokens carry no blanks.
        DataError
            If a word has no token, or none stands before the first.
        """
        found = word_information(self._language_model(), stimulus, self.boundary_correction)
        values = np.stack([found[measure] for measure in self.measures], axis=-1)
        if not np.isfinite(values[0]).all():
            raise DataError(
                f"stimulus '{stimulus.id}': the model '{self.model}' has no token that begins a text, so that the "
                "first word has no surprisal. Leave that word out, or choose another model."
            )
        return Features(
            name=self.name,
            layers=(self.name,),
            values=values[None].astype(np.float32),
            onset_s=stimulus.words["onset"].to_numpy(dtype=float, copy=True),
            duration_s=stimulus.words["duration"].to_numpy(dtype=float, copy=True),
            metadata={
                "dimensions": list(self.measures),
                "unit": "bits",
                "context": self.context,
                "context_unit": self.context_unit,
                "boundary_correction": self.boundary_correction,
            },
        )

    def _language_model(self) -> LanguageModel:
        return LanguageModel(
            self.model,
            context=self.context,
            context_unit=self.context_unit,
            exact=self.exact,
            untrained=self.untrained,
            dtype=self.dtype,
            device=self.device,
            memory_limit=self.memory_limit,
        )


def word_information(lm: LanguageModel, stimulus: Stimulus, boundary_correction: bool = False) -> dict[str, Floats]:
    """Surprisal and entropy at each word of a stimulus, in bits, shape (word,); in `lm`'s context and order.

    Raises
    ------
    RecipeError
        If the model is not causal; or with `boundary_correction`, if its tokens carry no blanks.
    DataError
        If a word has no token, or is longer than the model can read.
    """
    files = locate(lm.model)
    model = load(files, files.digest(), lm.seed, choose_device(lm.device), lm.dtype, "causal_lm")
    found = {measure: np.full(len(stimulus.words), np.nan) for measure in get_args(Measure)}
    blanks = _tokens_with_blank(model) if boundary_correction else None
    with named(stimulus):
        text = tokenised(model, stimulus, lm.shuffle, lm.shuffle_seed, needs_sentences=lm.context == "sentence")
        windows = text.windows(lm.reading(model))
        for batch, words in _read(model, text, windows, lm.memory_limit, blanks):
            for window, row in zip(batch, words, strict=True):
                order = text.order[window.first_word : window.stop_word]
                found["surprisal"][order], found["entropy"][order] = row
    return found


def _read(
    model: Pretrained,
    text: TokenisedText,
    windows: Sequence[Window],
    memory_limit: float | None,
    blanks: torch.Tensor | None,
) -> Iterator[tuple[list[Window], list[tuple[Floats, Floats]]]]:
    widths = [width for _, width in model.layers(("hidden",))]
    # The logits, their logarithms and what the entropy takes: several numbers for each word of the vocabulary.
    n_tokens = tokens_per_pass(
        model, widths, memory_limit, per_token=4 * model.model.config.get_text_config().vocab_size
    )

    def read(batch: list[Window]) -> list[tuple[Floats, Floats]]:
        known = model.log_probabilities([text.of(window) for window in batch])
        return [_of_words(known[row], text, window, blanks) for row, window in enumerate(batch)]

    for batch in batches(windows, n_tokens):
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
        over_before, over_after = (known[rows][:, blanks].double().logsumexp(dim=-1) for rows in (begins, ends))
        surprisal = surprisal - over_after + torch.where(is_blank, over_before, 0.0)
    nats = np.stack([surprisal.cpu().numpy(), entropy.cpu().numpy()])
    bits = nats / np.log(2)
    return bits[0], bits[1]


def _run(text: TokenisedText, word: int, start: int) -> tuple[int, int]:
    """The tokens of a word in a window that begins at `start`, with those of blanks before it: first and stop.

    Most tokens hold the blank before them; where it is a token of its own, it belongs to the word as well, so that a
    text's surprisal is the sum of its words'.
    """
    first, last = int(text.tokens_of_words[word][0]), int(text.tokens_of_words[word][-1])
    after_previous = int(text.tokens_of_words[word - 1][-1]) + 1 if word > 0 else 0
    return max(min(first, after_previous), start) - start, last + 1 - start


def _tokens_with_blank(model: Pretrained) -> torch.Tensor:
    """The tokens that begin with a blank, and that which ends a text: each says that the word before is over."""
    import torch

    tokenizer = model.tokenizer
    n_known = int(model.model.config.get_text_config().vocab_size)
    names: NDArray[np.str_] = np.array(
        [str(name) for name in tokenizer.convert_ids_to_tokens(list(range(min(n_known, len(tokenizer)))))]
    )
    chosen = np.flatnonzero(np.any([np.char.startswith(names, sign) for sign in BLANK_SIGNS], axis=0)).tolist()
    if not chosen:
        raise RecipeError("boundary_correction: this model's tokens carry no blanks; leave it out.")
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in chosen:
        chosen.append(int(tokenizer.eos_token_id))
    return torch.tensor(chosen, device=model.device)
