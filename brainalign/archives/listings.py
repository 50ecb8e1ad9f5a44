"""Archives that tell their files when asked: the Open Science Framework and the Hugging Face Hub.

They are asked once: what they told is kept in brainalign's cache, so that a later run finds the same files and needs
no network to know them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from brainalign.archives.remote_files import RemoteFile, checked_digits, safe_path
from brainalign.archives.transfer import (
    BUSY,
    HUB,
    LONGEST_WAIT_S,
    USUAL_PATIENCE,
    Patience,
    admission,
    authorization,
)
from brainalign.errors import DataError, DataWarning, UnreachableError
from brainalign.files import atomic_path, cache_folder
from brainalign.manifests import Listing

__all__ = ["listed_files"]

OSF = "https://api.osf.io/v2"
# The most that OSF gives at once; it answers only some hundred questions an hour.
ENTRIES_PER_PAGE = 100


def listed_files(
    dataset: str,
    listing: Listing,
    *,
    anew: bool = False,
    endpoint: str | None = None,
    patience: Patience = USUAL_PATIENCE,
) -> Mapping[str, RemoteFile]:
    """The files of an archive, by path, as it told them when it was first asked.

    Parameters
    ----------
    dataset : str
        Under whose name the answer is kept.
    listing : Listing
        Which archive, and where in it.
    anew : bool
        Whether to ask again, for files that have changed since.
    endpoint : str, optional
        Another address of the archive's API.
    patience : Patience
        How long to try.

    Returns
    -------
    mapping of str to RemoteFile
        With the checksums that the archive tells: SHA-256 or MD5, and of the Hub's small files git's SHA-1.

    Raises
    ------
    UnreachableError
        If the archive does not answer, or not as it should.
    DataError
        If two of the places have a file of the same path.

    References
    ----------
    https://developer.osf.io, https://huggingface.co/docs/hub/api
    """
    place = cache_folder("listings", f"{dataset}.json")
    files = None if anew else _kept(place, listing)
    if files is None:
        with requests.Session() as session:
            session.mount("https://", HTTPAdapter(max_retries=_retries(patience)))
            session.mount("http://", HTTPAdapter(max_retries=_retries(patience)))
            files = _asked(_Api(dataset, session, patience), listing, endpoint)
        with atomic_path(place) as part:
            content = {"listing": listing.model_dump(mode="json"), "files": [asdict(file) for file in files.values()]}
            part.write_text(json.dumps(content), encoding="utf-8")
    return files


def _kept(place: Path, listing: Listing) -> dict[str, RemoteFile] | None:
    """What is kept of this very listing."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(place.read_text(encoding="utf-8"))
        if content["listing"] == listing.model_dump(mode="json"):
            return {entry["path"]: RemoteFile(**entry) for entry in content["files"]}
    return None


@dataclass(frozen=True)
class _Api:
    """What is asked for a dataset's files."""

    dataset: str
    session: requests.Session
    patience: Patience

    def ask(self, url: str, **parameters: str) -> requests.Response:
        """One answer, which is JSON."""
        try:
            headers = authorization(url)
            answer = self.session.get(url, params=parameters, headers=headers, timeout=self.patience.stall_s)
            answer.raise_for_status()
        except requests.RequestException as error:
            reason = _reason(error)
            raise UnreachableError(
                f"The files of {self.dataset} cannot be listed: {reason}.{admission(url, reason)}"
            ) from error
        return answer


def _asked(api: _Api, listing: Listing, endpoint: str | None) -> dict[str, RemoteFile]:
    list_place, default = LISTERS[listing.archive]
    files: dict[str, RemoteFile] = {}
    for place in listing.places:
        try:
            for file in list_place(api, endpoint or default, place, listing.revision):
                if file.path in files:
                    raise DataError(f"{api.dataset}: {place} has the file {file.path}, and so has another place.")
                if _is_nameable(file, f"{listing.archive} {place}"):
                    files[file.path] = file
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnreachableError(
                f"The files of {api.dataset} cannot be listed: {place} was told in a way that is not known "
                f"({type(error).__name__}: {error})."
            ) from error
    return files


def _osf_files(api: _Api, endpoint: str, node: str, _: str | None) -> Iterator[RemoteFile]:
    """The files of a node's own storage, folder by folder."""
    folders = [f"{endpoint}/nodes/{node}/files/osfstorage/"]
    while folders:
        for page in _osf_pages(api, folders.pop()):
            for entry in page["data"]:
                attributes = entry["attributes"]
                if attributes["kind"] == "folder":
                    folders.append(entry["relationships"]["files"]["links"]["related"]["href"])
                    continue
                path = attributes["materialized_path"].lstrip("/")
                hashes = (attributes.get("extra") or {}).get("hashes") or {}
                kind = next((kind for kind in ("sha256", "md5") if hashes.get(kind)), None)
                checksum = f"{kind}:{hashes[kind]}" if kind else ""
                yield RemoteFile(path, entry["links"]["download"], attributes["size"], checksum)


def _osf_pages(api: _Api, folder: str) -> Iterator[dict[str, Any]]:
    page = api.ask(folder, **{"page[size]": str(ENTRIES_PER_PAGE)}).json()
    yield page
    while following := page["links"].get("next"):
        page = api.ask(following).json()
        yield page


def _hub_files(api: _Api, endpoint: str, repository: str, revision: str | None) -> Iterator[RemoteFile]:
    """The files of a repository of a dataset at a commit."""
    commit = revision or "main"
    answer = api.ask(f"{endpoint}/api/datasets/{repository}/tree/{commit}", recursive="true")
    while True:
        for entry in answer.json():
            if entry["type"] == "file":
                url = f"{endpoint}/datasets/{repository}/resolve/{commit}/{quote(entry['path'])}"
                large = entry.get("lfs")
                checksum = f"sha256:{large['oid']}" if large else f"gitsha1:{entry['oid']}"
                yield RemoteFile(entry["path"], url, entry["size"], checksum)
        following = answer.links.get("next")
        if following is None:
            return
        answer = api.ask(following["url"])


LISTERS: Mapping[str, tuple[Callable[[_Api, str, str, str | None], Iterator[RemoteFile]], str]] = {
    "osf": (_osf_files, OSF),
    "hugging_face": (_hub_files, HUB),
}


def _is_nameable(file: RemoteFile, where: str) -> bool:
    """Whether the file can be put below a folder on every system; one that cannot is told."""
    checked_digits(file.checksum, file.path, where)
    try:
        safe_path(file.path, where)
    except DataError as error:
        warnings.warn(f"{error} The file is left out.", DataWarning, stacklevel=4)
        return False
    return True


class _Retry(Retry):
    """Waits as long as the server says, but no longer than a user may sit there."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """Seconds to wait."""
        said = super().get_retry_after(response)
        return None if said is None else min(said, LONGEST_WAIT_S)


def _retries(patience: Patience) -> Retry:
    return _Retry(patience.tries - 1, backoff_factor=patience.backoff_s, status_forcelist=BUSY)


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"{error.response.url} answers {error.response.status_code} {error.response.reason}"
    inner = error.args[0] if error.args else error
    return str(getattr(inner, "reason", None) or inner)[:200]
