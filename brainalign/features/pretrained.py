"""Load a language model through transformers, and give the hidden states of its tokens."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from brainalign.errors import BrainalignError, DataError, MissingExtraError, RecipeError
from brainalign.features.model_files import ModelFiles

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["Pretrained", "choose_device", "load"]

# Where configurations say how many positions a model has; those that say nothing have no limit.
POSITION_LIMITS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")


@dataclass(frozen=True)
class Pretrained:
    """A causal language model in memory.

    Parameters
    ----------
    model, tokenizer
        Of transformers.
    device : torch.device
        Where the model is.
    n_layers : int
        Hidden states it gives, embeddings included.
    max_tokens : int or None
        Tokens it can read at once.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    device: torch.device
    n_layers: int
    max_tokens: int | None

    @property
    def bos(self) -> list[int]:
        """The token that begins a text; none for some models."""
        return [] if self.tokenizer.bos_token_id is None else [int(self.tokenizer.bos_token_id)]

    def tokenize(self, text: str) -> tuple[list[int], list[tuple[int, int]], list[bool]]:
        """Tokenise a text whole: the tokens' ids, their characters, and whether they are blanks only."""
        encoded = self.tokenizer(
            text,
            add_special_tokens=False,
            # A word such as "</s>" in a stimulus is text, not the end of it.
            split_special_tokens=True,
            return_offsets_mapping=True,
            truncation=False,
            verbose=False,
        )
        ids, spans = list(encoded["input_ids"]), list(encoded["offset_mapping"])
        # Some tokenisers put a blank before the text whose offsets are the first character's: only its text tells.
        blank_ids = {token for token in set(ids) if str(self.tokenizer.decode([token])).strip() == ""}
        is_blank = [
            token in blank_ids or text[start:stop].strip() == ""
            for token, (start, stop) in zip(ids, spans, strict=True)
        ]
        return ids, spans, is_blank

    def hidden_states(self, windows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, ...]:
        """Each layer's states of windows of equal length, (window, token, dimension) each; BOS is prepended and cut."""
        return _hidden_states(self.model, [self.bos + list(window) for window in windows], n_cut=len(self.bos))


def choose_device(device: str) -> str:
    """The device that "auto" stands for here; any other name is checked.

    Raises
    ------
    RecipeError
        If torch has no such device.
    """
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RecipeError(f"Device '{device}' cannot be used here ({reason}); choose 'auto' or 'cpu'.") from error
    return device


# A model is loaded once for all stimuli; only one is kept, since two may not fit. The stage itself stays a plain
# frozen value that can be compared and sent to another process. The digest is there to load changed files anew.
@lru_cache(maxsize=1)
def load(files: ModelFiles, digest: str, seed: int | None, device: str) -> Pretrained:
    """Load a causal model in float32, and check that no later word reaches an earlier one.

    Parameters
    ----------
    files : ModelFiles
        Where it is.
    digest : str
        ``files.digest()``.
    seed : int or None
        Of random weights in the same configuration; None for the trained ones.
    device : str
        A device of torch.

    Raises
    ------
    RecipeError
        If the model is not causal, has no fast tokeniser or no hidden states, or would need code of its own.
    DataError
        If its files are damaged, or it is causal in name only.
    MissingExtraError
        If it is a GGUF file and the packages that read those are absent.
    """
    import torch

    with _quietly(), _explained(files):
        config = _read_config(files)
        _check_is_causal_by_name(config, files.name)
        tokenizer = _read_tokenizer(files)
        model = _read_weights(files, config) if seed is None else _draw_weights(config, seed)
    # The checker does not see through the decorator of this method.
    model.to(torch.device(device))  # pyrefly: ignore[bad-argument-type]
    model.eval()
    n_layers = _check_causality(model, files.name)
    return Pretrained(model, tokenizer, torch.device(device), n_layers, _max_tokens(config))


def _read_config(files: ModelFiles) -> PreTrainedConfig:
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(files.folder, **_where(files))


def _read_tokenizer(files: ModelFiles) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    # AutoTokenizer would read a GGUF file's header once more, which takes seconds, to find this same class.
    tokenizer_class = AutoTokenizer if files.gguf is None else PreTrainedTokenizerFast
    tokenizer = tokenizer_class.from_pretrained(files.folder, **_where(files))
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise RecipeError(
            f"Model '{files.name}': its tokeniser {type(tokenizer).__name__} gives no character offsets; "
            "it needs a fast one (tokenizer.json)."
        )
    return tokenizer


def _read_weights(files: ModelFiles, config: PreTrainedConfig) -> PreTrainedModel:
    import torch
    import transformers

    where = _where(files)
    # Newer transformers could keep GGUF weights packed, with kernels that it downloads and runs: never.
    if files.gguf is not None and hasattr(transformers, "GgufConfig"):
        where["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model, loading = transformers.AutoModel.from_pretrained(
        files.folder,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        weights_only=True,
        output_loading_info=True,
        **where,
    )
    # transformers fills missing weights with random numbers and only logs it.
    if missing := sorted(loading["missing_keys"]):
        raise DataError(f"Model '{files.name}': {len(missing)} weights are not in its files, the first '{missing[0]}'.")
    return model


def _draw_weights(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    import torch
    from transformers import AutoModel

    # Drawn on the CPU, so that all devices get the same weights; the caller's random state is given back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModel.from_config(config, dtype=torch.float32, trust_remote_code=False)


def _where(files: ModelFiles) -> dict[str, Any]:
    where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    return where if files.gguf is None else where | {"gguf_file": files.gguf}


def _check_is_causal_by_name(config: PreTrainedConfig, name: str) -> None:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    kind = type(config)
    bidirectional = kind in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if bidirectional or config.is_encoder_decoder or kind not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise RecipeError(
            f"Model '{name}' is of the architecture '{config.model_type}', which does not read from left to right: "
            "its activations at a word could hold later words.\nChoose a causal model, such as gpt2."
        )


def _check_causality(model: PreTrainedModel, name: str) -> int:
    """Change the last token of a short window, see that nothing before it changes, and count the layers."""
    import torch

    n_known = int(model.config.get_text_config().vocab_size)
    tokens = [i % n_known for i in range(1, 9)]
    changed = [*tokens[:-1], (tokens[-1] + n_known // 2) % n_known]
    # Two passes of one shape, not one of two rows: so the numbers before the change are rounded alike.
    before, after = _hidden_states(model, [tokens]), _hidden_states(model, [changed])
    if not before:
        raise RecipeError(f"Model '{name}' ({model.config.model_type}) gives no hidden states.")
    for index, (one, other) in enumerate(zip(before, after, strict=True)):
        if not torch.allclose(one[:, :-1], other[:, :-1], rtol=1e-5, atol=1e-5):
            raise DataError(
                f"Model '{name}' is not causal: a change of the last token changes layer {index} at earlier tokens.\n"
                "Its activations would tell of words that were not heard yet. Choose a causal model."
            )
    return len(before)


def _hidden_states(
    model: PreTrainedModel, windows: Sequence[Sequence[int]], n_cut: int = 0
) -> tuple[torch.Tensor, ...]:
    import torch

    with torch.inference_mode():
        ids = torch.tensor(windows, dtype=torch.long, device=model.device)
        output = model(input_ids=ids, output_hidden_states=True, use_cache=False)
        return tuple(state[:, n_cut:].float() for state in getattr(output, "hidden_states", None) or ())


def _max_tokens(config: PreTrainedConfig) -> int | None:
    of_text = config.get_text_config()
    limits = (getattr(of_text, name, None) for name in POSITION_LIMITS)
    return next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)


@contextlib.contextmanager
def _explained(files: ModelFiles) -> Iterator[None]:
    """Say in our words what transformers finds wrong with a model's files."""
    if files.gguf is not None:
        for package in ("gguf", "accelerate"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError("GGUF models", package, "demo")
    try:
        yield
    # What the readers raise on damaged files: struct.error and safetensors' own error derive from Exception alone.
    except Exception as error:
        if isinstance(error, (BrainalignError, MemoryError)):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        unsupported = ("not supported", "does not recognize this architecture", "trust_remote_code", "custom code")
        if any(phrase in str(error) for phrase in unsupported):
            raise RecipeError(f"Model '{files.name}': transformers alone cannot read it: {reason}") from error
        raise DataError(f"Model '{files.name}': its files in {files.folder} cannot be read: {reason}") from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers' progress bars, logs and warnings off the terminal, and give back the user's settings."""
    from transformers.utils import logging

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # The GGUF reader's progress bar knows no such setting: it writes to stderr.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()
