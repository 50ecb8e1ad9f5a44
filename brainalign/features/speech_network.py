"""Load a speech model through transformers, and give the states of its layers for stretches of sound."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from brainalign.errors import RecipeError
from brainalign.features.checkpoints import (
    LastLoaded,
    choose_dtype,
    draw_weights,
    explained,
    quietly,
    read_config,
    read_weights,
)
from brainalign.features.model_files import ModelFiles
from brainalign.features.speech_windows import FrameGrid
from brainalign.features.tokens import read_tokenizer
from brainalign.types import Floats

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["Layer", "SpeechNetwork", "SpeechPlan", "load", "read_plan"]

Stack = Literal["encoder", "decoder"]

# They read the waveform through convolutions; Whisper reads a mel spectrogram.
WAVEFORM_MODELS = ("data2vec-audio", "hubert", "wav2vec2", "wavlm")
SPEECH_MODELS = (*WAVEFORM_MODELS, "whisper")

# What says how sound is prepared: as transformers writes it alone, or together with a tokeniser's settings.
INPUT_FILES = ("preprocessor_config.json", "processor_config.json")

# OpenAI's own rule: Whisper models with fewer tokens know only English, and are told neither language nor task.
MULTILINGUAL_VOCABULARY = 51865


@dataclass(frozen=True)
class Layer:
    """Layer `number` of a stack: the input of its block `number`; the last is what the stack gives."""

    stack: Stack
    number: int
    name: str


@dataclass(frozen=True)
class SpeechPlan:
    """What a speech model's configuration says of it.

    Parameters
    ----------
    config : PreTrainedConfig
    prepare : feature extractor of transformers
        Turns windows of sound into what the network reads: normalised, or as a log-mel spectrogram.
    rate_hz : float
        Of the sound it reads.
    frames : FrameGrid
        Of its encoder.
    n_least, n_most : int
        Samples that one window must and may have; `n_most` is None where there is no limit.
    layers : tuple of Layer
        From the encoder's first to the decoder's last.
    dimension : int
        Of each layer.
    final_norm : bool
        Whether the last layer of each stack is normalised once more than those below.
    """

    config: PreTrainedConfig
    prepare: Any
    rate_hz: float
    frames: FrameGrid
    n_least: int
    n_most: int | None
    layers: tuple[Layer, ...]
    dimension: int
    final_norm: bool

    @property
    def is_whisper(self) -> bool:
        """Whether it has a decoder, and reads spectrograms of one fixed length."""
        return self.config.model_type == "whisper"

    @property
    def top(self) -> int:
        """The number of the encoder's last layer, which a decoder is given."""
        return max(layer.number for layer in self.layers if layer.stack == "encoder")

    def n_frames(self, n_samples: int) -> int:
        """Frames of a window of so many samples; of Whisper, those centred on the window, not on its padding."""
        if self.is_whisper:
            return -int(-n_samples // self.frames.step)
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            n_samples = (n_samples - kernel) // stride + 1
        return n_samples


def read_plan(files: ModelFiles) -> SpeechPlan:
    """Read what a model's configuration files say; no weights.

    Raises
    ------
    RecipeError
        If it is no speech model of a known kind, or how it takes sound is not in its files.
    DataError
        If a file is damaged.
    """
    if files.gguf is not None:
        raise RecipeError(f"Model '{files.name}': speech models are read from safetensors, not from GGUF.")
    with quietly(), explained(files):
        config = read_config(files)
        if config.model_type not in SPEECH_MODELS:
            raise RecipeError(
                f"Model '{files.name}' is of the architecture '{config.model_type}', which is none of the speech "
                f"models that can be read: {', '.join(SPEECH_MODELS)}. For models of text there is LanguageModel."
            )
        prepare = _read_feature_extractor(files, config)
    # No weight for masked training is then made, which many checkpoints do not have.
    config.mask_time_prob = config.mask_feature_prob = 0.0
    return _plan_whisper(config, prepare) if config.model_type == "whisper" else _plan_waveform(config, prepare)


def _read_feature_extractor(files: ModelFiles, config: PreTrainedConfig) -> Any:
    from transformers import AutoFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

    if not any((files.folder / name).is_file() for name in INPUT_FILES):
        raise RecipeError(
            f"Model '{files.name}': no {INPUT_FILES[0]} in {files.folder}, which says at what rate and how normalised "
            "it reads sound.\nTake it from where the model is from: AutoFeatureExtractor.from_pretrained(...)"
            ".save_pretrained(folder)."
        )
    prepare = AutoFeatureExtractor.from_pretrained(files.folder, local_files_only=True, trust_remote_code=False)
    expected = WhisperFeatureExtractor if config.model_type == "whisper" else Wav2Vec2FeatureExtractor
    if not isinstance(prepare, expected):
        raise RecipeError(
            f"Model '{files.name}': a {config.model_type} reads sound through {expected.__name__}, but its files name "
            f"{type(prepare).__name__}."
        )
    return prepare


def _plan_waveform(config: PreTrainedConfig, prepare: Any) -> SpeechPlan:
    strides = [prod(config.conv_stride[:i]) for i in range(len(config.conv_stride) + 1)]
    # Samples that one frame sees: each convolution adds its kernel, less one, at its own step.
    field = 1 + sum((kernel - 1) * step for kernel, step in zip(config.conv_kernel, strides, strict=False))
    return SpeechPlan(
        config=config,
        prepare=prepare,
        rate_hz=float(prepare.sampling_rate),
        frames=FrameGrid(first=(field - 1) / 2, step=strides[-1]),
        n_least=field,
        n_most=None,
        layers=tuple(Layer("encoder", i, f"layer {i}") for i in range(config.num_hidden_layers + 1)),
        dimension=config.hidden_size,
        final_norm=bool(getattr(config, "do_stable_layer_norm", False)),
    )


def _plan_whisper(config: PreTrainedConfig, prepare: Any) -> SpeechPlan:
    return SpeechPlan(
        config=config,
        prepare=prepare,
        rate_hz=float(prepare.sampling_rate),
        # The second convolution takes every other frame of the spectrogram; both are centred.
        frames=FrameGrid(first=0, step=2 * prepare.hop_length),
        n_least=prepare.n_fft,
        n_most=prepare.n_samples,
        layers=(
            *(Layer("encoder", i, f"encoder layer {i}") for i in range(config.encoder_layers + 1)),
            *(Layer("decoder", i, f"decoder layer {i}") for i in range(config.decoder_layers + 1)),
        ),
        dimension=config.d_model,
        final_norm=True,
    )


@dataclass(frozen=True)
class SpeechNetwork:
    """A speech model in memory.

    Parameters
    ----------
    plan : SpeechPlan
    model : PreTrainedModel
    tokenizer : PreTrainedTokenizerFast, optional
        Where there is a decoder whose layers are asked for.
    """

    plan: SpeechPlan
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast | None

    @property
    def max_text_tokens(self) -> int:
        """Tokens that the decoder reads at once, those that start a text included."""
        return int(self.plan.config.max_target_positions)

    def encode(self, windows: Sequence[Floats], layers: Collection[int]) -> dict[int, torch.Tensor]:
        """The encoder's states for windows of equal length, by layer: (window, frame, dimension) each."""
        import torch

        prepared = self.plan.prepare(
            list(windows), sampling_rate=int(self.plan.rate_hz), return_tensors="np", return_attention_mask=False
        )
        values = torch.from_numpy(np.asarray(prepared[self.plan.prepare.model_input_names[0]]))
        values = values.to(self.model.device, self.model.dtype)
        encoder: Any = self.model.encoder
        with torch.inference_mode(), _recorded(encoder, layers) as states:
            (encoder if self.plan.is_whisper else self.model)(values)
        return states

    def decode(
        self, encoded: torch.Tensor, texts: Sequence[Sequence[int]], layers: Collection[int]
    ) -> dict[int, torch.Tensor]:
        """The decoder's states for one text per window, by layer: (window, token, dimension) each.

        Parameters
        ----------
        encoded : tensor
            The encoder's last layer.
        texts : sequence of sequence of int
            Tokens, with those that start a text. Shorter texts are filled up at their end, which a decoder that reads
            from left to right does not see before it is there.
        layers : collection of int
        """
        import torch

        length = max(map(len, texts))
        filler = int(self.plan.config.decoder_start_token_id)
        ids = torch.tensor([[*text, *[filler] * (length - len(text))] for text in texts], device=self.model.device)
        decoder: Any = self.model.decoder
        with torch.inference_mode(), _recorded(decoder, layers) as states:
            decoder(input_ids=ids, encoder_hidden_states=encoded, use_cache=False)
        return states

    def start_of_text(self, language: str) -> list[int]:
        """The tokens that tell the decoder to transcribe this language, without timestamps.

        Raises
        ------
        RecipeError
            If the model does not know the language.
        """
        assert self.tokenizer is not None
        tokens = ["<|notimestamps|>"]
        if self.plan.config.vocab_size >= MULTILINGUAL_VOCABULARY:
            tokens = [f"<|{language}|>", "<|transcribe|>", *tokens]
        elif language != "en":
            raise RecipeError(f"The model knows only English, and the text is in '{language}'.")
        known = self.tokenizer.get_vocab()
        if unknown := [token for token in tokens if token not in known]:
            raise RecipeError(f"The model's tokeniser has no token '{unknown[0]}', with which a text in it starts.")
        return [int(self.plan.config.decoder_start_token_id), *(known[token] for token in tokens)]


@contextmanager
def _recorded(stack: Any, layers: Collection[int]) -> Iterator[dict[int, torch.Tensor]]:
    """Keep a stack's states at these layers while it runs: what each block is given, and what comes out at the end."""
    states: dict[int, torch.Tensor] = {}

    def keep_input(number: int) -> Any:
        return lambda module, inputs: states.__setitem__(number, inputs[0])

    def keep_output(module: Any, inputs: Any, output: Any) -> None:
        states[len(stack.layers)] = output[0]

    # transformers' own hidden states end before the final norm in some versions and models, and after it in others.
    hooks = [
        stack.register_forward_hook(keep_output)
        if number == len(stack.layers)
        else stack.layers[number].register_forward_pre_hook(keep_input(number))
        for number in layers
    ]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


_last = LastLoaded[SpeechNetwork]()


def load(files: ModelFiles, seed: int | None, device: str, dtype: str, with_text: bool) -> SpeechNetwork:
    """Load a speech model, unless it is the one that was loaded last.

    Parameters
    ----------
    files : ModelFiles
        Where it is.
    seed : int or None
        Of random weights in the same configuration; None for the trained ones.
    device, dtype : str
        A device of torch, and the type of its numbers.
    with_text : bool
        Whether its decoder is to read, for which it needs a tokeniser.

    Raises
    ------
    RecipeError
        If the model is of another kind, or has no tokeniser where it needs one.
    DataError
        If its files are damaged, or lack weights.
    """
    # The digest is there to load changed files anew.
    key = (files, files.digest(), seed, device, dtype, with_text)
    return _last.get(key, lambda: _load(files, seed, device, dtype, with_text))


def _load(files: ModelFiles, seed: int | None, device: str, dtype: str, with_text: bool) -> SpeechNetwork:
    import torch

    plan = read_plan(files)
    kind = choose_dtype(dtype)
    with quietly(), explained(files):
        tokenizer = _read_tokenizer(files) if with_text else None
        if seed is None:
            model = read_weights(files, plan.config, "none", kind)
        else:
            model = draw_weights(plan.config, seed, "none", kind)
    # The checker does not see through the decorator of this method.
    model.to(torch.device(device))  # pyrefly: ignore[bad-argument-type]
    model.eval()
    return SpeechNetwork(plan, model, tokenizer)


def _read_tokenizer(files: ModelFiles) -> PreTrainedTokenizerFast:
    if not any((files.folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "tokenizer_config.json")):
        raise RecipeError(
            f"Model '{files.name}' has no tokeniser in {files.folder}: its decoder layers need a fast one "
            "(tokenizer.json); choose layers='encoder' or add it."
        )
    return read_tokenizer(files)
