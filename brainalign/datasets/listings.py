"""Archives that tell their files when asked: the Open Science Framework and the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Mapping

from brainalign.datasets.remote_files import RemoteFile
from brainalign.manifests import Listing

__all__ = ["listed_files"]


def listed_files(dataset: str, listing: Listing) -> Mapping[str, RemoteFile]:
    """The files of an archive, by path."""
    raise NotImplementedError
