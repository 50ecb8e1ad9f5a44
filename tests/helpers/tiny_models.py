"""Small random models of every family that is read, each a folder as the Hub has them; and a slow way to read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign.features import running_text
from brainalign.types import Stimulus

STORY = (
    "Once upon a time , there was a little girl named Lily . She liked to play outside in the park . One day , she "
    "saw a big , red ball . It was very high up in a tree ! She did n't know what to do , so she asked her mom ."
)
N_TOKENS = 400
MAX_TOKENS = 64

# Larger weights than usual, so that attention does not average everything alike.
SMALL = {
    "vocab_size": N_TOKENS,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": MAX_TOKENS,
    "initializer_range": 0.3,
}
IDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
FRAME = IDS | {"cls_token_id": 0, "sep_token_id": 1}

CAUSAL = (
    "gpt2",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "opt",
    "pythia",
    "gpt_neo",
    "bloom",
    "phi",
    "phi3",
    "falcon",
    "mpt",
    "mixtral",
    "mamba",
    "rwkv",
)
BIDIRECTIONAL = ("bert", "roberta", "modernbert", "xlnet")
ENCODER_DECODER = ("t5", "bart")
FAMILIES = CAUSAL + BIDIRECTIONAL + ENCODER_DECODER


def config_of(family: str) -> Any:
    """A small configuration of a family; windows of sliding attention are shorter than the texts of the tests."""
    import transformers as tf

    one_head = {"num_key_value_heads": 1, "head_dim": 12}
    gpt = {"vocab_size": N_TOKENS, "initializer_range": 0.3}
    configs: Mapping[str, Callable[[], Any]] = {
        "gpt2": lambda: tf.GPT2Config(**gpt, n_embd=24, n_layer=2, n_head=2, n_positions=MAX_TOKENS, **IDS),
        "llama": lambda: tf.LlamaConfig(**SMALL, num_key_value_heads=1, **IDS),
        "mistral": lambda: tf.MistralConfig(**SMALL, **one_head, sliding_window=8, **IDS),
        "qwen2": lambda: tf.Qwen2Config(**SMALL, num_key_value_heads=1, **IDS),
        "qwen3": lambda: tf.Qwen3Config(**SMALL, **one_head, **IDS),
        "gemma2": lambda: tf.Gemma2Config(**SMALL, **one_head, sliding_window=8, **IDS),
        "gemma3": lambda: tf.Gemma3TextConfig(**SMALL, **one_head, sliding_window=8, **IDS),
        "opt": lambda: tf.OPTConfig(
            vocab_size=N_TOKENS,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            ffn_dim=32,
            max_position_embeddings=MAX_TOKENS,
            word_embed_proj_dim=24,
            init_std=0.3,
            **IDS,
        ),
        "pythia": lambda: tf.GPTNeoXConfig(**SMALL, **IDS),
        "gpt_neo": lambda: tf.GPTNeoConfig(
            **gpt,
            hidden_size=24,
            num_layers=2,
            num_heads=2,
            attention_types=[[["global", "local"], 1]],
            window_size=8,
            max_position_embeddings=MAX_TOKENS,
            **IDS,
        ),
        "bloom": lambda: tf.BloomConfig(**gpt, hidden_size=24, n_layer=2, n_head=2, **IDS),
        "phi": lambda: tf.PhiConfig(**SMALL, **IDS),
        # Its rotary positions depend on the length of a pass that is longer than 32 tokens.
        "phi3": lambda: tf.Phi3Config(
            **SMALL,
            **IDS,
            original_max_position_embeddings=32,
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0] * 6,
                "long_factor": [4.0] * 6,
                "original_max_position_embeddings": 32,
            },
        ),
        "falcon": lambda: tf.FalconConfig(**gpt, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, **IDS),
        "mpt": lambda: tf.MptConfig(
            vocab_size=N_TOKENS, d_model=24, n_heads=2, n_layers=2, max_seq_len=MAX_TOKENS, initializer_range=0.3
        ),
        "mixtral": lambda: tf.MixtralConfig(
            **SMALL, num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2, **IDS
        ),
        "mamba": lambda: tf.MambaConfig(
            vocab_size=N_TOKENS, hidden_size=24, num_hidden_layers=2, state_size=4, initializer_range=0.3, **IDS
        ),
        "rwkv": lambda: tf.RwkvConfig(
            vocab_size=N_TOKENS,
            hidden_size=24,
            num_hidden_layers=2,
            attention_hidden_size=24,
            intermediate_size=32,
            bos_token_id=0,
            eos_token_id=1,
        ),
        "bert": lambda: tf.BertConfig(**SMALL, pad_token_id=2),
        "roberta": lambda: tf.RobertaConfig(**SMALL, **IDS),
        "modernbert": lambda: tf.ModernBertConfig(**SMALL, **FRAME, local_attention=8),
        "xlnet": lambda: tf.XLNetConfig(
            vocab_size=N_TOKENS, d_model=24, n_layer=2, n_head=2, d_inner=32, initializer_range=0.3, **IDS
        ),
        "t5": lambda: tf.T5Config(
            vocab_size=N_TOKENS,
            d_model=24,
            d_kv=12,
            d_ff=32,
            num_layers=2,
            num_heads=2,
            decoder_start_token_id=2,
            pad_token_id=2,
            eos_token_id=1,
        ),
        "bart": lambda: tf.BartConfig(
            vocab_size=N_TOKENS,
            d_model=24,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_position_embeddings=MAX_TOKENS,
            decoder_start_token_id=1,
            init_std=0.3,
            **IDS,
        ),
    }
    return configs[family]()


def tokenizer_of(family: str) -> Any:
    """A tokeniser of the family's kind, trained on the story: byte-level, word pieces or a unigram model."""
    from tokenizers import BertWordPieceTokenizer, ByteLevelBPETokenizer, SentencePieceUnigramTokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "</s>", "<pad>", "<unk>"]
    if family == "bert":
        trained: Any = BertWordPieceTokenizer(lowercase=True, unk_token="<unk>")
        trained.train_from_iterator([STORY], vocab_size=N_TOKENS, special_tokens=special, show_progress=False)
    elif family in ("t5", "xlnet"):
        trained = SentencePieceUnigramTokenizer()
        trained.train_from_iterator(
            [STORY], vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    else:
        trained = ByteLevelBPETokenizer()
        trained.train_from_iterator([STORY], vocab_size=N_TOKENS, special_tokens=special, show_progress=False)
    frame = {"bert": "<s> $A </s>", "t5": "$A </s>", "xlnet": "$A </s> <s>"}.get(family, "<s> $A </s>")
    if family not in CAUSAL:
        trained._tokenizer.post_processor = TemplateProcessing(single=frame, special_tokens=[("<s>", 0), ("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
    )


def save(family: str, folder: Path, head: bool = True) -> Path:
    """Write a random model and its tokeniser to a folder, with the map to the next token where the family has one."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    auto = AutoModelForCausalLM if head and (family in CAUSAL or family == "xlnet") else AutoModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        auto.from_config(config_of(family)).save_pretrained(folder)
    tokenizer_of(family).save_pretrained(folder)
    return folder


def stimulus_of(words: Sequence[str], name: str = "story", language: str = "en") -> Stimulus:
    """Words every 0.4 seconds; a sentence ends with a full stop or the like."""
    ends = np.array([word in (".", "!", "?") for word in words])
    sentence = np.r_[0, np.cumsum(ends)[:-1]]
    table = {"onset": 0.4 * np.arange(len(words)), "duration": 0.3, "text": list(words), "sentence": sentence}
    return Stimulus(name, pd.DataFrame(table), language=language)


def story_words(n_words: int) -> list[str]:
    """The story, and then its words in other orders; its sentences stay sentences."""
    words = STORY.split()
    rng = np.random.default_rng(0)
    while len(words) < n_words:
        words += list(rng.permutation(STORY.split()))
    return words[:n_words]


class OnePassPerWord:
    """Read each word in a pass of its own, written as plainly as can be: what shared passes are compared with."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        self.network = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.is_pair = AutoConfig.from_pretrained(folder).is_encoder_decoder

    def tokens(self, stimulus: Stimulus) -> tuple[list[int], list[list[int]]]:
        """The text's tokens, and which are each word's."""
        text, spans = running_text(stimulus.words, stimulus.language)
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids = encoded["input_ids"]
        visible = [i for i, token in enumerate(ids) if self.tokenizer.decode([token]).strip()]
        offsets = encoded["offset_mapping"]
        return ids, [[i for i in visible if offsets[i][0] < b and offsets[i][1] > a] for a, b in spans]

    def vectors(
        self, stimulus: Stimulus, context_tokens: Sequence[int], before: Sequence[int], after: Sequence[int]
    ) -> np.ndarray:
        """Mean-pooled states of each word, from a pass that ends with it: (layer, word, dimension)."""
        import torch

        ids, words = self.tokens(stimulus)
        vectors = []
        for own, n_context in zip(words, context_tokens, strict=True):
            first = own[0] - n_context
            window = ids[first : own[-1] + 1]
            inputs = {"input_ids": torch.tensor([[*before, *window, *after]])}
            if self.is_pair:
                start = self.network.config.decoder_start_token_id
                inputs["decoder_input_ids"] = torch.tensor([[start, *before, *window]])
            with torch.inference_mode():
                output = self.network(**inputs, output_hidden_states=True)
            at = [i - first + len(before) for i in own]
            if self.is_pair:
                states = [state[0, at] for state in output.encoder_hidden_states]
                states += [state[0, [i + 1 for i in at]] for state in output.decoder_hidden_states]
            else:
                states = [state[0, at] for state in output.hidden_states]
            vectors.append([state.mean(dim=0).numpy() for state in states])
        return np.array(vectors).transpose(1, 0, 2)
