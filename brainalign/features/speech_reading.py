"""Read sound, and the words that go with it, in passes: one vector per item and layer.

Items are what has a vector each: words, or the steps of a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainalign.errors import DataError
from brainalign.features.speech_network import Layer, SpeechNetwork
from brainalign.features.speech_windows import FrameGrid, Pass, cut, resample
from brainalign.features.text import WRITTEN_WITHOUT_BLANKS, running_text
from brainalign.features.tokens import tokenize
from brainalign.features.windows import match_tokens
from brainalign.types import Block, Floats, Stimulus

if TYPE_CHECKING:
    import torch

__all__ = [
    "Items",
    "RunningWords",
    "Waveform",
    "place_steps",
    "place_words",
    "prepare_text",
    "read_batch",
    "read_sound",
]

# No sound between -1 and 1 comes near this, and that of integers that were only called floats goes far beyond.
TOO_LOUD = 100.0


@dataclass(frozen=True)
class Waveform:
    """Mono sound at a model's rate.

    Parameters
    ----------
    samples : array (sample,), float32
    rate_hz : float
    reach : int
        Each sample is made of nothing later than so many samples after it.
    duration_s : float
        Of the sound as it was given.
    """

    samples: Floats
    rate_hz: float
    reach: int
    duration_s: float


@dataclass(frozen=True)
class Items:
    """When each item is.

    Parameters
    ----------
    onset_s, duration_s : array (item,)
        As the features have them.
    stop_s : array (item,)
        Where it stops, or the sound does.
    names : sequence of str
        What messages call it.
    cut_short : tuple of int
        Those that stop after the sound does.
    """

    onset_s: Floats
    duration_s: Floats
    stop_s: Floats
    names: Sequence[str]
    cut_short: tuple[int, ...] = ()


def read_sound(stimulus: Stimulus, rate_hz: float) -> Waveform:
    """A stimulus's sound, checked, at a model's rate.

    Raises
    ------
    DataError
        If there is none, or it is not mono, finite floats between about -1 and 1.
    """
    audio = stimulus.audio
    if audio is None or len(audio.samples) == 0:
        raise DataError("there is no sound, which a speech model needs; give the stimulus its audio.")
    samples = np.asarray(audio.samples)
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise DataError(
            f"the sound is of shape {samples.shape} and type {samples.dtype}; expected floats between -1 and 1, (n,)."
        )
    if not (np.isfinite(audio.rate_hz) and audio.rate_hz > 0):
        raise DataError(f"the sound has {audio.rate_hz} samples per second; expected a positive number.")
    if not np.isfinite(samples).all():
        first = int(np.argmin(np.isfinite(samples)))
        raise DataError(f"the sound has samples that are not finite, the first at {first / audio.rate_hz:g} s.")
    if (peak := float(np.abs(samples).max())) > TOO_LOUD:
        raise DataError(f"the sound reaches {peak:g}; models expect -1 to 1: divide 16-bit samples by 32768.")
    resampled, exact_hz, reach = resample(samples, audio.rate_hz, rate_hz)
    return Waveform(resampled, exact_hz, reach, len(samples) / audio.rate_hz)


def place_words(stimulus: Stimulus, sound: Waveform) -> Items:
    """A stimulus's words on its sound.

    Raises
    ------
    DataError
        If a word begins when the sound has ended.
    """
    onset_s: Floats = np.array(stimulus.words["onset"], dtype=float)
    duration_s: Floats = np.array(stimulus.words["duration"], dtype=float)
    stop_s: Floats = onset_s + duration_s
    end_s = np.float64(sound.duration_s)
    names = [f"word {i + 1} ('{text}')" for i, text in enumerate(stimulus.words["text"].astype(str))]
    late = [i for i, onset in enumerate(onset_s) if onset >= end_s]
    if late:
        raise DataError(
            f"{names[late[0]]} begins at {onset_s[late[0]]:g} s, when the sound has ended, at {end_s:g} s; "
            f"{len(late)} of {len(names)} words do. See that words and sound have one clock, or leave these words out."
        )
    # Less than a sample is rounding.
    cut_short = tuple(i for i, stop in enumerate(stop_s) if stop > end_s + 1 / sound.rate_hz)
    return Items(onset_s, duration_s, np.clip(stop_s, 0, end_s), names, cut_short)


def place_steps(step_s: float, sound: Waveform) -> Items:
    """Steps of `step_s` from the sound's start to its end; the last may be shorter."""
    onset_s: Floats = step_s * np.arange(int(np.ceil(sound.duration_s / step_s - 1e-9)))
    stop_s: Floats = np.r_[onset_s[1:], sound.duration_s]
    return Items(onset_s, stop_s - onset_s, stop_s, [f"the step at {onset:g} s" for onset in onset_s])


@dataclass(frozen=True)
class RunningWords:
    """A stimulus's words as a decoder reads them, window by window; from `prepare_text`.

    Parameters
    ----------
    network : SpeechNetwork
    words : pandas.DataFrame
    language : str
    onsets : array (word,)
        In samples of the sound.
    start : list of int
        The tokens that a text starts with.
    """

    network: SpeechNetwork
    words: pd.DataFrame
    language: str
    onsets: Floats
    start: list[int]

    def of(self, window: Pass) -> tuple[list[int], list[NDArray[np.intp]]]:
        """What is read with a window: the tokens up to its last word, and which of them are its own words'.

        It begins with the first word that begins within the window; later, where the decoder cannot read so much.
        """
        room = self.network.max_text_tokens - len(self.start)
        # A word that begins with the window is in it, whatever the rounding.
        first = min(int(np.searchsorted(self.onsets, window.start)), window.first)
        ids, tokens = self.tokenize(first, window.stop_item)
        while (n_excess := len(ids) - room) > 0:
            # A blank that is a token of its own belongs to no word, so that even the first may begin after the excess.
            first += max(1, sum(int(own[0]) < n_excess for own in tokens))
            if first > window.first:
                raise DataError(
                    f"word {window.first + 1} and those read with it have more tokens than the {room} that the "
                    "decoder reads at once; choose a shorter context_s, or leave decoder layers out."
                )
            ids, tokens = self.tokenize(first, window.stop_item)
        return [*self.start, *ids], [len(self.start) + own for own in tokens[window.first - first :]]

    def tokenize(self, first: int, stop: int) -> tuple[list[int], list[NDArray[np.intp]]]:
        """The tokens of the words `first` to `stop`, and which are each word's."""
        text, spans = running_text(self.words.iloc[first:stop], self.language)
        # Whisper was trained on texts that begin with a blank, where the language has blanks.
        blank = "" if self.language in WRITTEN_WITHOUT_BLANKS else " "
        assert self.network.tokenizer is not None
        ids, token_spans, is_blank = tokenize(self.network.tokenizer, blank + text)
        spans = [(begin + len(blank), end + len(blank)) for begin, end in spans]
        return ids, match_tokens(spans, token_spans, is_blank, blank + text)


def prepare_text(network: SpeechNetwork, stimulus: Stimulus, onsets: Floats) -> RunningWords:
    """The words for a decoder to read, checked.

    Raises
    ------
    RecipeError
        If the model does not know the language.
    DataError
        If a word has no token.
    """
    start = network.start_of_text(stimulus.language)
    words = RunningWords(network, stimulus.words, stimulus.language, onsets, start)
    # Once as a whole, so that a word without a token is named by its place in the stimulus.
    words.tokenize(0, len(stimulus.words))
    return words


def read_batch(
    network: SpeechNetwork,
    batch: Sequence[Pass],
    sound: Waveform,
    items: Items,
    layers: Sequence[Layer],
    words: RunningWords | None,
) -> Block:
    """Run a network over some passes, and average each item's frames or tokens.

    Parameters
    ----------
    network : SpeechNetwork
    batch : sequence of Pass
        Neighbours.
    sound : Waveform
    items : Items
    layers : sequence of Layer
        Which to give, in this order.
    words : RunningWords, optional
        Where there are decoder layers among them.

    Raises
    ------
    DataError
        If a vector is not finite, or the decoder cannot read so many tokens.
    """
    plan = network.plan
    numbers = {stack: {layer.number for layer in layers if layer.stack == stack} for stack in ("encoder", "decoder")}
    encoded = network.encode([cut(sound.samples, window) for window in batch], numbers["encoder"] | {plan.top})
    n_read = [plan.n_frames(len(window)) for window in batch]
    means = {
        ("encoder", number): _means(
            encoded[number],
            [_frames_of(window, items, sound.rate_hz, plan.frames, n) for window, n in zip(batch, n_read, strict=True)],
        )
        for number in numbers["encoder"]
    }
    if words is not None:
        texts = [words.of(window) for window in batch]
        decoded = network.decode(encoded[plan.top], [ids for ids, _ in texts], numbers["decoder"])
        n_read += [len(ids) for ids, _ in texts]
        means |= {("decoder", number): _means(decoded[number], [own for _, own in texts]) for number in decoded}
    values = np.stack([means[layer.stack, layer.number] for layer in layers])
    _check_finite(values, layers, items.names[batch[0].first : batch[-1].stop_item])
    return Block(slice(batch[0].first, batch[-1].stop_item), values, sum(n_read))


def _frames_of(window: Pass, items: Items, rate_hz: float, grid: FrameGrid, n_frames: int) -> list[slice]:
    own = slice(window.first, window.stop_item)
    onsets = items.onset_s[own] * rate_hz - window.start
    stops = items.stop_s[own] * rate_hz - window.start
    return [grid.within(onset, stop, n_frames) for onset, stop in zip(onsets, stops, strict=True)]


def _means(states: torch.Tensor, parts: Sequence[Sequence[slice]] | Sequence[Sequence[NDArray[np.intp]]]) -> Floats:
    """Average states, (window, position, dimension), over each window's parts: (item, dimension)."""
    means = []
    for state, own in zip(states, parts, strict=True):
        vectors = state.float().cpu().numpy()
        means += [vectors[part].mean(axis=0) for part in own]
    return np.stack(means)


def _check_finite(values: Floats, layers: Sequence[Layer], names: Sequence[str]) -> None:
    bad = np.argwhere(~np.isfinite(values).all(axis=-1))
    if len(bad):
        layer, item = bad[0]
        raise DataError(
            f"the model's vector of {names[item]} in {layers[layer].name} is not finite; with dtype float16 try "
            "bfloat16 or float32."
        )
