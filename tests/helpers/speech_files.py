"""Small speech models with random weights, and real ones with real recordings from the package index."""

from __future__ import annotations

import json
import re
import shutil
import struct
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainalign.types import Audio

RATE_HZ = 16_000

# A step of 80 samples, 5 ms: four times as fine as the models that are used.
CONVOLUTIONS = {"conv_dim": (16, 16, 16), "conv_kernel": (10, 8, 4), "conv_stride": (5, 4, 4)}
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_conv_pos_embedding_groups": 4,
    "num_feat_extract_layers": 3,
    "initializer_range": 0.3,
    **CONVOLUTIONS,
}
STORY = "it was the best of times it was the worst of times it was the age of wisdom it was the age of foolishness"

WAVEFORM_MODELS = {
    "wav2vec2": ("Wav2Vec2Config", {"num_conv_pos_embeddings": 16}),
    "wav2vec2-stable": (
        "Wav2Vec2Config",
        {"num_conv_pos_embeddings": 16, "do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True},
    ),
    "hubert": ("HubertConfig", {"num_conv_pos_embeddings": 16}),
    "wavlm": ("WavLMConfig", {"num_conv_pos_embeddings": 16}),
    "data2vec-audio": ("Data2VecAudioConfig", {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5}),
}
MODELS = [*WAVEFORM_MODELS, "whisper"]


def save_model(kind: str, folder: Path) -> Path:
    """Save a random model of one of `MODELS` as a folder, with all that goes with it."""
    import transformers

    if kind == "whisper":
        return save_whisper(folder)
    class_name, changes = WAVEFORM_MODELS[kind]
    _save_weights(getattr(transformers, class_name)(**SMALL | changes), folder)
    # WavLM's base model is the one that is not normalised.
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE_HZ, do_normalize=kind != "wavlm").save_pretrained(folder)
    return folder


def save_whisper(folder: Path, **changes: object) -> Path:
    """Save a random Whisper that reads 2 s of sound and 40 tokens at once."""
    from transformers import WhisperConfig, WhisperFeatureExtractor

    tokenizer = make_tokenizer()
    settings = {
        "vocab_size": len(tokenizer),
        "num_mel_bins": 20,
        "d_model": 16,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_source_positions": 100,
        "max_target_positions": 40,
        "init_std": 0.3,
        "decoder_start_token_id": tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    _save_weights(WhisperConfig(**settings | changes), folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=20, chunk_length=2).save_pretrained(folder)
    return folder


def make_tokenizer():
    """A byte-level tokeniser trained on the story, with the tokens that start a text for Whisper."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([STORY], vocab_size=290, special_tokens=["<|endoftext|>"], show_progress=False)
    special = ["<|startoftranscript|>", "<|en|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token="<|endoftext|>")
    tokenizer.add_special_tokens({"extra_special_tokens": special})
    return tokenizer


def _save_weights(config, folder: Path) -> None:
    import torch
    from transformers import AutoModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        AutoModel.from_config(config).save_pretrained(folder)


# The types of numbers in a CTranslate2 file, by their codes there.
CT2_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_ctranslate2(path: Path) -> dict[str, NDArray]:
    """The variables of a CTranslate2 model file of version 6.

    Little-endian: version, name and revision of the model's specification, number of variables; of each its name
    (length in 2 bytes, ends with a zero), rank, sizes, type and bytes; then aliases, one name for another.
    """
    with path.open("rb") as stream:

        def read(code: str) -> int:
            return struct.unpack(f"<{code}", stream.read(struct.calcsize(f"<{code}")))[0]

        def read_name() -> str:
            return stream.read(read("H")).rstrip(b"\0").decode()

        assert read("I") == 6
        assert read_name() == "WhisperSpec"
        read("I")
        variables = {}
        for _ in range(read("I")):
            name = read_name()
            sizes = [read("I") for _ in range(read("B"))]
            kind = CT2_TYPES[read("B")]
            variables[name] = np.frombuffer(stream.read(read("I")), dtype=kind).reshape(sizes)
        for _ in range(read("I")):
            alias = read_name()
            variables[alias] = variables[read_name()]
        assert stream.read() == b""
    return variables


def convert_whisper(source: Path, folder: Path) -> Path:
    """Write a CTranslate2 Whisper (tiny.en) as a folder that transformers reads; all weights are used and set."""
    import torch
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    variables = read_ctranslate2(source / "model.bin")
    vocabulary, width = variables["decoder/embeddings/weight"].shape
    config = WhisperConfig(
        vocab_size=vocabulary,
        d_model=width,
        num_mel_bins=variables["encoder/conv1/weight"].shape[1],
        encoder_layers=4,
        decoder_layers=4,
        encoder_attention_heads=int(variables["encoder/num_heads"]),
        decoder_attention_heads=int(variables["decoder/num_heads"]),
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        decoder_start_token_id=50257,
        bos_token_id=50256,
        eos_token_id=50256,
        pad_token_id=50256,
        begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config)
    state = {}
    for name, value in variables.items():
        # Settings of CTranslate2's own have no letters of weights in their rank.
        if value.dtype.kind == "f":
            state |= {key: torch.from_numpy(part.astype(np.float32)) for key, part in _renamed(name, value).items()}
    # Keys' maps have no bias in Whisper; CTranslate2 joins them with the others' and writes zeros.
    assert not any(state.pop(key).any() for key in [key for key in state if key.endswith("k_proj.bias")])
    model.load_state_dict(state, strict=True)
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)
    shutil.copy(source / "tokenizer.json", folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "WhisperTokenizer"}))
    return folder


def _renamed(name: str, value: NDArray) -> dict[str, NDArray]:
    """What transformers calls one of CTranslate2's variables; joined maps are taken apart."""
    if name == "decoder/projection/weight":
        return {"proj_out.weight": value}
    for pattern, new in (
        (r"/position_encodings/encodings", "/embed_positions.weight"),
        (r"/embeddings/", "/embed_tokens/"),
        (r"layer_(\d+)/", r"layers/\1/"),
        (r"/ffn/layer_norm/", "/final_layer_norm/"),
        (r"/ffn/linear_0/", "/fc1/"),
        (r"/ffn/linear_1/", "/fc2/"),
        (r"/self_attention/", "/self_attn/"),
        (r"/attention/", "/encoder_attn/"),
        (r"/(self_attn|encoder_attn)/layer_norm/", r"/\1_layer_norm/"),
        (r"/gamma$", "/weight"),
        (r"/beta$", "/bias"),
    ):
        name = re.sub(pattern, new, name)
    key = "model." + name.replace("/", ".")
    joined = {
        "self_attn.linear_0": ("q_proj", "k_proj", "v_proj"),
        "self_attn.linear_1": ("out_proj",),
        "encoder_attn.linear_0": ("q_proj",),
        "encoder_attn.linear_1": ("k_proj", "v_proj"),
        "encoder_attn.linear_2": ("out_proj",),
    }
    for old, maps in joined.items():
        if old in key:
            linear = old.rpartition(".")[2]
            return {key.replace(linear, new): part for new, part in zip(maps, np.split(value, len(maps)), strict=True)}
    return {key: value}


def read_wav(path: Path) -> Audio:
    """A recording of 16 bits as floats between -1 and 1."""
    with wave.open(str(path)) as stream:
        assert (stream.getnchannels(), stream.getsampwidth()) == (1, 2)
        samples = np.frombuffer(stream.readframes(stream.getnframes()), dtype="<i2")
        return Audio(samples.astype(np.float32) / 32768, float(stream.getframerate()))
