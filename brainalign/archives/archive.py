"""The files of a public dataset on this machine: the user's own copy, or brainalign's cache, filled on demand."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from brainalign.archives.fetching import fetch_all
from brainalign.archives.listings import listed_files
from brainalign.archives.local_files import require_file
from brainalign.archives.remote_files import RemoteFile, remote_files
from brainalign.archives.verified import checksum_of, fault_of
from brainalign.errors import ChecksumError, DataError, DataWarning, UnreachableError
from brainalign.files import cache_folder, digest_of
from brainalign.manifests import Manifest, read_manifest
from brainalign.types import Finding

__all__ = ["Archive"]


@dataclass(frozen=True)
class Archive:
    """Where the files of a dataset come from and where they are; making one reads and fetches nothing.

    Parameters
    ----------
    name : str
        Of the dataset.
    root : Path, optional
        The user's own copy, in the archive's layout: what is there is taken, and nothing is written to it. What it
        lacks is fetched into brainalign's cache.

    Examples
    --------
    >>> alice = Archive("alice")
    >>> alice.matching(r"alice_data_shared/6mm/s1.*")
    ['alice_data_shared/6mm/s18-timecourses.txt']
    """

    name: str
    root: Path | None = None

    @property
    def manifest(self) -> Manifest:
        """What is known of the dataset."""
        return read_manifest(self.name)

    @cached_property
    def table(self) -> Mapping[str, RemoteFile]:
        """The files that the archive has, by path; asks the archive where its manifest has no table but a listing.

        Warns
        -----
        DataWarning
            If the archive does not answer and there is a user's copy, which is then taken as it is.
        """
        files = remote_files(self.manifest)
        if files or self.manifest.listing is None:
            return files
        try:
            return listed_files(self.name, self.manifest.listing)
        except UnreachableError as error:
            if self.root is None:
                raise
            reason = str(error).splitlines()[0]
            message = f"{self.root}: its files are not verified, since the archive's list cannot be had: {reason}"
            warnings.warn(message, DataWarning, stacklevel=2)
            return {}

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """The paths that the archive has or the user's copy holds, sorted.

        Raises
        ------
        UnreachableError
            If users must get these data themselves, and named no folder; the message says how.
        """
        own = () if self.root is None else tuple(_paths_below(self.root))
        if self.root is not None and not own:
            raise DataError(f"{self.root}: no files are there; `root` names the folder that holds {self.name}.")
        if not own and not self.table:
            raise UnreachableError(
                f"{self.name} cannot be fetched: {' '.join((self.manifest.instructions or '').split())}\n"
                "Then name the folder as `root`."
            )
        return tuple(sorted({*self.table, *own}))

    def matching(self, pattern: str) -> list[str]:
        """The paths that a regular expression matches as a whole, sorted."""
        return [path for path in self.paths if re.fullmatch(pattern, path)]

    def first(self, *patterns: str) -> str | None:
        """The first path that the first of these patterns with any has; None if none has."""
        return next((found[0] for pattern in patterns if (found := self.matching(pattern))), None)

    def place(self, path: str) -> Path:
        """Where a file of the archive is, or will be: in the user's copy if it is there, else in the cache."""
        if self.root is not None:
            own = self.root / path
            # A link to nothing is a file that was not downloaded; who reads it says so.
            if own.exists() or own.is_symlink():
                return own
        return cache_folder("datasets", self.name) / path

    def fetch(self, paths: Iterable[str], *, anew: bool = False) -> list[Finding]:
        """Bring these files here and verify them, those of the user's copy too.

        Parameters
        ----------
        paths : iterable of str
        anew : bool
            Whether to read files that are here also where they were found right before and look the same.

        Raises
        ------
        ChecksumError, UnreachableError, DataError
            If a file is wrong, cannot be had, or cannot be written.
        """
        self.require_root()
        missing = []
        for path in dict.fromkeys(paths):
            if self._is_own(path):
                self._verify(path, anew)
            elif path in self.table:
                missing.append(self.table[path])
            elif not self.place(path).is_file() and not self.table:
                raise DataError(f"{self.root}: no such file: {path}.")
            elif not self.place(path).is_file():
                raise UnreachableError(
                    f"{self.name} has no file {path}"
                    + (f" in {self.root}, nor is it known where to fetch it." if self.root else ".")
                )
        return fetch_all(missing, cache_folder("datasets", self.name), dataset=self.name, anew=anew)

    def require_root(self) -> None:
        """Raise a DataError if `root` is no folder."""
        if self.root is not None and not self.root.is_dir():
            raise DataError(f"{self.root}: there is no such folder; `root` names the one that holds {self.name}.")

    def is_here(self, path: str) -> bool:
        """Whether the file is on this machine."""
        return self.place(path).is_file()

    def fault(self, path: str, *, anew: bool = False) -> str:
        """What is wrong with a file that is here, by what the archive tells of it; empty if nothing is known to be.

        Parameters
        ----------
        path : str
        anew : bool
            Whether to read it also where it was found right before and looks the same.
        """
        known = self.table.get(path)
        return "" if known is None else fault_of(self.place(path), known.size, known.checksum, anew=anew)

    def digest(self, paths: Iterable[str]) -> str:
        """What changes whenever the bytes of these files do; they must be here where the archive tells no checksum."""
        return digest_of({path: self._checksum(path) for path in paths})

    def _checksum(self, path: str) -> str:
        known = self.table[path].checksum if path in self.table else ""
        return known or f"sha256:{checksum_of(self.place(path), 'sha256')}"

    def _is_own(self, path: str) -> bool:
        return self.root is not None and self.place(path) == self.root / path

    def _verify(self, path: str, anew: bool) -> None:
        require_file(self.place(path))
        if fault := self.fault(path, anew=anew):
            raise ChecksumError(
                f"{self.place(path)}: {fault}.\nPut the archive's file there, or remove it so that it is fetched."
            )


def _paths_below(folder: Path) -> Iterable[str]:
    for path in folder.rglob("*"):
        # What version control, a file browser or macOS ("._run.fif") keeps for itself is none of the archive's files.
        if not path.is_dir() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path.relative_to(folder).as_posix()
