"""Read a model's configuration and weights through transformers, or draw weights at random; say plainly what is wrong.

Nothing is downloaded here (`model_files` did), no code of a model's own is run, and no pickle is read.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Hashable, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from brainalign.errors import BrainalignError, DataError, MissingExtraError, RecipeError, nearest
from brainalign.features.model_files import ModelFiles

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = [
    "LastLoaded",
    "choose_device",
    "choose_dtype",
    "draw_weights",
    "explained",
    "quietly",
    "read_config",
    "read_weights",
    "versions_of_readers",
    "where_to_read",
]

Head = Literal["none", "causal_lm"]
DTYPES = ("float32", "bfloat16", "float16")


T = TypeVar("T")


class LastLoaded(Generic[T]):
    """Keeps what was loaded last, and lets go of it before the next is loaded, since two may not fit.

    So a model is loaded once for all stimuli, while the stage itself stays a plain frozen value that can be compared
    and sent to another process.

    Examples
    --------
    >>> last = LastLoaded[str]()
    >>> last.get("a", lambda: "model a"), last.get("a", lambda: "loaded again")
    ('model a', 'model a')
    """

    def __init__(self) -> None:
        self._kept: tuple[Hashable, T] | None = None

    def peek(self, key: Hashable) -> T | None:
        """What is kept under this key, if it is that which was loaded last."""
        return self._kept[1] if self._kept is not None and self._kept[0] == key else None

    def get(self, key: Hashable, load: Callable[[], T]) -> T:
        """What is kept under this key, or else what `load` gives."""
        if self._kept is None or self._kept[0] != key:
            self._kept = None
            self._kept = (key, load())
        return self._kept[1]

    def clear(self) -> None:
        """Let go of it."""
        self._kept = None


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


def choose_dtype(dtype: str) -> torch.dtype:
    """The type of numbers that the name stands for: "float32", "bfloat16" or "float16".

    Raises
    ------
    RecipeError
        If it is another name.
    """
    import torch

    if dtype not in DTYPES:
        raise RecipeError(f"Unknown dtype '{dtype}'. {nearest(dtype, DTYPES)}")
    return getattr(torch, dtype)


def read_config(files: ModelFiles) -> PreTrainedConfig:
    """A model's configuration."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(files.folder, **where_to_read(files))


def read_weights(files: ModelFiles, config: PreTrainedConfig, head: Head, dtype: torch.dtype) -> PreTrainedModel:
    """A model with its trained weights, on the CPU.

    Parameters
    ----------
    files : ModelFiles
    config : PreTrainedConfig
        From `read_config`.
    head : {"none", "causal_lm"}
        What sits on top: nothing, or the map to next-token logits.
    dtype : torch.dtype
        Of the weights in memory.

    Raises
    ------
    DataError
        If weights that activations depend on are not in the files.
    """
    import transformers

    where = where_to_read(files)
    # Newer transformers could keep GGUF weights packed, with kernels that it downloads and runs: never.
    if files.gguf is not None and hasattr(transformers, "GgufConfig"):
        where["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model, loading = _auto_class(head).from_pretrained(
        files.folder,
        config=config,
        dtype=dtype,
        use_safetensors=True,
        weights_only=True,
        output_loading_info=True,
        **where,
    )
    # transformers fills missing weights with random numbers and only logs it. A pooler sits above the last layer.
    if missing := sorted(key for key in loading["missing_keys"] if "pooler." not in key):
        raise DataError(f"Model '{files.name}': {len(missing)} weights are not in its files, the first '{missing[0]}'.")
    return model


def draw_weights(config: PreTrainedConfig, seed: int, head: Head, dtype: torch.dtype) -> PreTrainedModel:
    """An untrained model of this configuration; the same seed gives the same weights on every device."""
    import torch

    # Drawn on the CPU, and in float32; the caller's random state is given back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _auto_class(head).from_config(config, dtype=torch.float32, trust_remote_code=False)
    return model.to(dtype)


def _auto_class(head: Head) -> Any:
    import transformers

    return transformers.AutoModelForCausalLM if head == "causal_lm" else transformers.AutoModel


def where_to_read(files: ModelFiles) -> dict[str, Any]:
    """What every reader of transformers is told: where to read, to stay offline, and to run no code of the model."""
    where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    return where if files.gguf is None else where | {"gguf_file": files.gguf}


@contextlib.contextmanager
def explained(files: ModelFiles) -> Iterator[None]:
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
def quietly() -> Iterator[None]:
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


def versions_of_readers(files: ModelFiles) -> dict[str, str]:
    """The versions of the packages that decide what a model's files give, for fingerprints: 5.23, not 5.23.1."""
    packages = ("transformers",) if files.gguf is None else ("transformers", "gguf")
    return {package: ".".join(version(package).split(".")[:2]) for package in packages}
