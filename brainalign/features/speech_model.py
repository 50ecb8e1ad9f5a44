"""The activations of a speech model at each word or moment of the sound, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from brainalign.errors import DataError, RecipeError, nearest
from brainalign.features.checkpoints import choose_device, choose_dtype, versions_of_readers
from brainalign.features.model_files import ModelFiles, locate, short_name
from brainalign.features.model_stage import ModelStage
from brainalign.features.network_costs import BYTES_OF, costs_of_network
from brainalign.features.passes import WORKING_VECTORS, named
from brainalign.features.speech_network import Layer, SpeechPlan, load, read_plan
from brainalign.features.speech_reading import (
    Items,
    Waveform,
    place_steps,
    place_words,
    prepare_text,
    read_batch,
    read_sound,
)
from brainalign.features.speech_windows import Pass, batches, causal_passes, chunk_passes, stops_before
from brainalign.types import Block, Expected, Features, FeatureStream, Stimulus, StimulusPart

__all__ = ["SpeechModel"]

Samples = Literal["words", "frames"]
Stacks = Literal["all", "encoder", "decoder"]

# Raised whenever the same settings and weights would give other values.
CODE_VERSION = 1


@dataclass(frozen=True, eq=False)
class SpeechModel(ModelStage):
    """Extract a speech model's hidden states at each word, or at each step of a clock, from the sound of a stimulus.

    The encoders of these models look both ways, so what a vector knows of is decided by what sound they are given. By
    default that is the `context_s` seconds that end with the word, or with the step: each has a pass of its own, and
    nothing that is heard later reaches it, be it through attention, normalisation or resampling. With `bidirectional`
    the sound is read once in overlapping chunks, which is many times faster, and each vector knows the future as well.

    A vector is the mean over the encoder's output frames (of 20 ms in most models) whose centres lie within the word or
    the step; where there is none, it is the frame in which its middle lies. A decoder reads the words' text: those that
    begin within the window, up to and including the word, given the encoder's states of the same window; the vector is
    the mean over the word's tokens.

    Parameters
    ----------
    model : str
        A folder, or an id of the Hugging Face Hub (``"openai/whisper-tiny.en"``): wav2vec 2.0, HuBERT, WavLM,
        data2vec-audio or Whisper, as safetensors.
    layers : "all", "encoder", "decoder", or tuple of int or str
        Numbers are layers of the encoder: 0 is what its first block is given, L what it gives out at the end. Names are
        those that the features have: "layer 3", and of Whisper "encoder layer 3" and "decoder layer 3".
    samples : {"words", "frames"}
        One vector per word, or one every `step_s` seconds. Decoder layers are there for words only.
    context_s : float
        Seconds of sound in one pass; of Whisper at most 30. Less is read only where the sound begins (and, with
        `bidirectional`, where it ends); what is shorter than one frame of the network, there, follows on silence.
    bidirectional : bool
        Read chunks of `context_s` seconds, in which each word or step has at least a third of that on either side,
        where there is as much sound.
    step_s : float
        Seconds from one sample to the next, with ``samples="frames"``. The last may be shorter.
    device : str
        "auto" takes a GPU where torch sees one; or a name that torch knows. Does not change the values but for
        rounding.
    dtype : {"float32", "bfloat16", "float16"}
        What the network computes in.
    untrained : bool or int
        True for random weights of the same configuration, drawn with seed 0; an int draws with that seed, so that 0
        is the same as True, and not as False.
    batch_s : float
        Seconds of sound that are in the network at once, which bounds memory; one pass at least. Does not change the
        values but for rounding. Whisper fills each pass up to 30 s, which count.

    Raises
    ------
    RecipeError
        On construction, for a setting that cannot be.

    Notes
    -----
    Words that end after the sound does are cut there; the metadata list them. A model that is normalised by a feature
    extractor is so window by window.

    The last layer of Whisper's encoder and decoder, and of wav2vec 2.0, HuBERT and WavLM models of the kind
    ``do_stable_layer_norm``, is given after a final norm, so it is not on one footing with those below.

    References
    ----------
    .. [1] Baevski et al. (2020). wav2vec 2.0. NeurIPS.
    .. [2] Hsu et al. (2021). HuBERT. IEEE/ACM TASLP 29.
    .. [3] Radford et al. (2023). Robust speech recognition via large-scale weak supervision. ICML.

    Examples
    --------
    >>> SpeechModel("openai/whisper-tiny.en", layers=("encoder layer 4", "decoder layer 2")).name
    'whisper-tiny.en'
    >>> SpeechModel("facebook/hubert-base-ls960", layers=(6, 9), untrained=True).name
    'hubert-base-ls960 (untrained, seed 0)'
    """

    needs: ClassVar[tuple[str, ...]] = ("sound",)

    model: str
    layers: Stacks | tuple[int | str, ...] = "all"
    samples: Samples = "words"
    context_s: float = 16.0
    bidirectional: bool = False
    step_s: float = 0.1
    device: str = "auto"
    dtype: str = "float32"
    untrained: bool | int = False
    batch_s: float = 60.0

    def __post_init__(self) -> None:
        self._take_layers(get_args(Stacks))
        if self.samples not in get_args(Samples):
            raise RecipeError(f"Unknown samples '{self.samples}'. {nearest(str(self.samples), get_args(Samples))}")
        for name, seconds in (("context_s", self.context_s), ("step_s", self.step_s), ("batch_s", self.batch_s)):
            if not (np.isfinite(seconds) and seconds > 0):
                raise RecipeError(f"{name}: a positive number of seconds, not {seconds}.")
        longest_s = self.context_s / 3 if self.bidirectional else self.context_s
        if self.samples == "frames" and self.step_s > longest_s:
            raise RecipeError(f"step_s: at most {longest_s:g} s with this context_s, not {self.step_s:g} s.")

    @property
    def name(self) -> str:
        """The model's short name, and whether it is untrained, or sees the future."""
        remarks = [] if self.seed is None else [f"untrained, seed {self.seed}"]
        if self.bidirectional:
            remarks.append("sees what comes after")
        return short_name(self.model) + (f" ({'; '.join(remarks)})" if remarks else "")

    @property
    def reads(self) -> tuple[StimulusPart, ...]:
        """What of a stimulus the values may depend on; the text only where a decoder may be asked for."""
        if self.samples == "frames":
            return ("sound",)
        encoder_only = self.layers == "encoder" or not (
            isinstance(self.layers, str) or any(str(layer).startswith("decoder") for layer in self.layers)
        )
        return ("sound", "times") if encoder_only else ("sound", "text", "times")

    def fingerprint(self) -> dict[str, Any]:
        """All that the values depend on besides the stimulus; finds the model's files and reads them for their digest.

        Raises
        ------
        RecipeError, UnreachableError, ChecksumError
            If the model cannot be had.
        """
        files = locate(self.model)
        return {
            "kind": "speech_model",
            "weights": files.weights_digest(),
            "preparation": files.tokenizer_digest(),
            "layers": self.layers if isinstance(self.layers, str) else list(self.layers),
            "samples": self.samples,
            "context_s": self.context_s,
            "bidirectional": self.bidirectional,
            "step_s": self.step_s if self.samples == "frames" else None,
            "dtype": self.dtype,
            "seed": self.seed,
            "versions": versions_of_readers(files),
            "code": CODE_VERSION,
        }

    def expected(self, stimulus: Stimulus) -> Expected:
        """What the features of a stimulus are expected to take, from the model's configuration and the sound's length.

        Raises
        ------
        RecipeError, UnreachableError, ChecksumError
            If the model cannot be had, or has not these layers.
        """
        plan = read_plan(locate(self.model))
        network, n_layers = costs_of_network(plan.config), len(self._choose_layers(plan))
        seconds = (
            stimulus.duration_s if stimulus.audio is None else len(stimulus.audio.samples) / stimulus.audio.rate_hz
        )
        n_samples = len(stimulus.words) if self.samples == "words" else int(np.ceil(seconds / self.step_s))
        # Whisper fills each pass up to what it can read; a chunk gives what lies in its middle third.
        whole_s = plan.n_most / plan.rate_hz if plan.is_whisper and plan.n_most else self.context_s
        n_passes = int(np.ceil(3 * seconds / self.context_s)) if self.bidirectional else n_samples
        n_frames = int(whole_s * plan.rate_hz / plan.frames.step)
        n_at_once = max(1, int(self.batch_s // whole_s)) * n_frames
        held = 4.0 * n_at_once * plan.dimension * (n_layers + WORKING_VECTORS)
        return Expected(
            (n_layers, n_samples, plan.dimension),
            network.operations([n_frames]) * n_passes,
            BYTES_OF[self.dtype] * network.stored + held,
        )

    def extract(self, stimulus: Stimulus) -> Features:
        """Give each word's or step's vector in each layer; see `stream`."""
        return self.stream(stimulus).collect()

    def stream(self, stimulus: Stimulus) -> FeatureStream:
        """Give the vectors block by block; the model is loaded for the first block, and kept for the next stimulus.

        Returns
        -------
        FeatureStream
            Of kind "word", or "signal" with ``samples="frames"``. Layers are named "layer 0" to "layer L", of Whisper
            "encoder layer 0" to "decoder layer L". The metadata's ``layer_index`` counts from the encoder's first to
            the decoder's ``last_layer``, whichever were chosen; ``future_s`` has the seconds of sound after a sample
            that it can know of, the least and the most.

        Raises
        ------
        RecipeError
            If the model is no speech model, has not these layers, cannot read as much at once, or its files cannot be
            used.
        DataError
            If there is no sound or not all of it is finite, if a word begins after its end, is longer than the context
            or has no token, or if a vector is not finite.
        UnreachableError, ChecksumError
            If the model cannot be had.
        """
        files = locate(self.model)
        # Before anything is read: a wrong name is found at once.
        choose_device(self.device)
        choose_dtype(self.dtype)
        plan = read_plan(files)
        layers = self._choose_layers(plan)
        self._check_context(plan)

        with named(stimulus):
            sound = read_sound(stimulus, plan.rate_hz)
            items = place_words(stimulus, sound) if self.samples == "words" else place_steps(self.step_s, sound)
            passes = self._plan_passes(items, sound, plan)
        return FeatureStream(
            name=self.name,
            layers=tuple(layer.name for layer in layers),
            onset_s=items.onset_s,
            duration_s=items.duration_s,
            dimension=plan.dimension,
            blocks=self._blocks(files, stimulus, sound, items, passes, layers),
            kind="word" if self.samples == "words" else "signal",
            metadata=self._describe(plan, layers, items, len(passes)),
        )

    def _choose_layers(self, plan: SpeechPlan) -> tuple[Layer, ...]:
        known = {layer.name: layer for layer in plan.layers}
        if isinstance(self.layers, str):
            chosen = tuple(layer for layer in plan.layers if self.layers in ("all", layer.stack))
            if not chosen:
                raise RecipeError(f"Model '{self.model}' has no decoder; choose layers='all' or some of its encoder.")
        else:
            prefix = "encoder layer" if plan.is_whisper else "layer"
            names = [f"{prefix} {layer}" if isinstance(layer, int) else layer for layer in self.layers]
            if wrong := [name for name in names if name not in known]:
                raise RecipeError(f"Model '{self.model}' has no {wrong[0]}: it has {', '.join(known)}.")
            if len(set(names)) < len(names):
                raise RecipeError(f"layers: each once, not {list(self.layers)}.")
            chosen = tuple(known[name] for name in names)
        if self.samples == "frames" and any(layer.stack == "decoder" for layer in chosen):
            raise RecipeError("Decoder layers have one vector per word: with samples='frames' choose layers='encoder'.")
        return chosen

    def _check_context(self, plan: SpeechPlan) -> None:
        if plan.n_most is not None and self.context_s * plan.rate_hz > plan.n_most:
            raise RecipeError(
                f"Model '{self.model}' reads at most {plan.n_most / plan.rate_hz:g} s at once; "
                f"context_s is {self.context_s:g} s."
            )

    def _plan_passes(self, items: Items, sound: Waveform, plan: SpeechPlan) -> list[Pass]:
        n_context = max(round(self.context_s * sound.rate_hz), plan.n_least)
        n_sound = len(sound.samples)
        if self.bidirectional:
            stops = stops_before(items.stop_s, sound.rate_hz, 0, n_sound)
            onsets = items.onset_s * sound.rate_hz
            return chunk_passes(onsets, stops, n_sound, n_context, plan.n_least, items.names)
        too_long = np.flatnonzero(items.stop_s - items.onset_s > self.context_s + 1e-9)
        if len(too_long):
            raise DataError(
                f"{items.names[too_long[0]]} lasts {items.duration_s[too_long[0]]:g} s, longer than context_s "
                f"({self.context_s:g} s); choose a longer context_s."
            )
        stops = stops_before(items.stop_s, sound.rate_hz, sound.reach, n_sound)
        return causal_passes(stops, n_context, plan.n_least)

    def _blocks(
        self,
        files: ModelFiles,
        stimulus: Stimulus,
        sound: Waveform,
        items: Items,
        passes: list[Pass],
        layers: tuple[Layer, ...],
    ) -> Iterator[Block]:
        with_text = any(layer.stack == "decoder" for layer in layers)
        device = choose_device(self.device)
        network = load(files, self.seed, device, self.dtype, with_text)
        with named(stimulus):
            text = prepare_text(network, stimulus, items.onset_s * sound.rate_hz) if with_text else None
            for batch in batches(passes, int(self.batch_s * sound.rate_hz), network.plan.n_most):
                yield read_batch(network, batch, sound, items, layers, text)

    def _describe(self, plan: SpeechPlan, layers: Sequence[Layer], items: Items, n_passes: int) -> dict[str, Any]:
        return {
            "architecture": plan.config.model_type,
            "seed": self.seed,
            "dtype": self.dtype,
            "samples": self.samples,
            "step_s": self.step_s if self.samples == "frames" else None,
            "sees_future": "yes: sound after it" if self.bidirectional else "no",
            "future_s": [self.context_s / 3, self.context_s] if self.bidirectional else [0.0, 0.0],
            "context_s": self.context_s,
            "pooling": "mean",
            "rate_hz": plan.rate_hz,
            "frame_s": plan.frames.step / plan.rate_hz,
            "n_passes": n_passes,
            "words_cut_by_end_of_sound": list(items.cut_short),
            "layer_index": [plan.layers.index(layer) for layer in layers],
            "last_layer": len(plan.layers) - 1,
            "last_layer_is": "after a final norm"
            if plan.final_norm
            else "the last block's output; there is no final norm",
        }
