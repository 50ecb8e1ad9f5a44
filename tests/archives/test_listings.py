"""Archives that tell their files, as two servers in their manner: asked once, page by page, and believed in nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from faulty_server import CONTENT, SHA256, FaultyServer, Handler, running_server

from brainalign.archives import transfer
from brainalign.archives.fetching import fetch_all
from brainalign.archives.listings import listed_files
from brainalign.archives.transfer import Patience
from brainalign.errors import DataError, DataWarning, UnreachableError
from brainalign.manifests import Listing

HASTE = Patience(stall_s=0.4, tries=4, backoff_s=0.01)
SMALL = b"subject\tage\n"
MD5 = hashlib.md5(SMALL).hexdigest()
GIT = hashlib.sha1(b"blob %d\0" % len(SMALL) + SMALL).hexdigest()
OSF = Listing(archive="osf", places=("abcde",))
HUB = Listing(archive="hugging_face", places=("lab/set",), revision="c0ffee")


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with running_server() as server:
        yield server


def send(handler: Handler, content: object, **headers: str) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    handler.head(200, len(data), **headers)
    handler.body(data)


def osf(tree: dict[str, dict[str, object]], per_page: int = 2) -> Callable[[Handler, int], None]:
    """Answer as OSF's API does: `tree` has the entries of each folder, files as bytes or JSON, folders as their ids."""

    def answer(handler: Handler, n: int) -> None:
        url = urlsplit(handler.path)
        folder, page = url.path.strip("/").removeprefix("nodes/"), int(parse_qs(url.query).get("page", ["1"])[0])
        folder = folder.replace("/files/osfstorage", "")
        base = f"{handler.server.url}/nodes/{folder.partition('/')[0]}/files/osfstorage/"
        entries = [osf_entry(name, what, base, handler.server.url) for name, what in tree[folder].items()]
        last = page * per_page >= len(entries)
        following = None if last else f"{handler.server.url}{url.path}?page%5Bsize%5D={per_page}&page={page + 1}"
        send(handler, {"data": entries[(page - 1) * per_page : page * per_page], "links": {"next": following}})

    return answer


def osf_entry(path: str, what: object, base: str, url: str) -> dict[str, object]:
    attributes = {"name": path.rsplit("/", 1)[-1], "kind": "file", "materialized_path": f"/{path}"}
    if isinstance(what, str):
        attributes |= {"kind": "folder", "size": None}
        return {
            "attributes": attributes,
            "relationships": {"files": {"links": {"related": {"href": f"{base}{what}/"}}}},
        }
    return {"attributes": attributes | dict(what), "links": {"download": f"{url}/download/{path.replace('/', '-')}"}}


def osf_file(size: int, **hashes: str) -> dict[str, object]:
    return {"size": size, "extra": {"hashes": hashes, "downloads": 3}}


TREE = {
    "abcde": {"README.md": osf_file(5, md5=MD5), "sub-01": "f1", "sub-02": "f2", "empty": "f4"},
    "abcde/f1": {"sub-01/a.con": osf_file(len(CONTENT), md5="0" * 32, sha256=SHA256), "sub-01/meg": "f3"},
    "abcde/f2": {"sub-02/a.con": osf_file(7)},
    "abcde/f3": {f"sub-01/meg/{i}.mrk": osf_file(i, md5=f"{i:032x}") for i in range(5)},
    "abcde/f4": {},
    "other": {"sub-03": "f9"},
    "other/f9": {"sub-03/a.con": osf_file(8)},
}


def hub(handler: Handler, n: int) -> None:
    """Answer as the Hugging Face Hub does."""
    url = urlsplit(handler.path)
    pages = [
        [
            {"type": "directory", "oid": "1" * 40, "size": 0, "path": "sub 1"},
            {"type": "file", "oid": GIT, "size": len(SMALL), "path": "participants.tsv"},
        ],
        [
            {
                "type": "file",
                "oid": "2" * 40,
                "size": len(CONTENT),
                "path": "sub 1/meg.h5",
                "lfs": {"oid": SHA256, "size": len(CONTENT), "pointerSize": 134},
            }
        ],
    ]
    if url.path == "/api/datasets/lab/set/tree/c0ffee":
        query = parse_qs(url.query)
        assert query["recursive"] == ["true"]
        if "cursor" in query:
            send(handler, pages[1])
        else:
            following = f"{handler.server.url}{url.path}?recursive=true&cursor=abc"
            send(handler, pages[0], Link=f'<{following}>; rel="next"')
    elif url.path == "/datasets/lab/set/resolve/c0ffee/participants.tsv":
        send(handler, SMALL)
    elif url.path == "/datasets/lab/set/resolve/c0ffee/sub%201/meg.h5":
        send(handler, CONTENT)
    else:
        handler.head(404, 0)


def test_osf_is_read_folder_by_folder_and_page_by_page(server: FaultyServer) -> None:
    server.answer = osf(TREE)
    files = listed_files("set", OSF, endpoint=server.url, patience=HASTE)
    assert set(files) == {
        *("README.md", "sub-01/a.con", "sub-02/a.con"),
        *(f"sub-01/meg/{i}.mrk" for i in range(5)),
    }
    assert {
        path: (files[path].size, files[path].checksum) for path in ("README.md", "sub-01/a.con", "sub-02/a.con")
    } == {
        "README.md": (5, f"md5:{MD5}"),
        "sub-01/a.con": (len(CONTENT), f"sha256:{SHA256}"),
        "sub-02/a.con": (7, ""),
    }
    assert files["sub-01/meg/3.mrk"].url == f"{server.url}/download/sub-01-meg-3.mrk"
    # Two pages of the root and of f1's one, three of f3, one of each other folder.
    assert len(server.requests) == 2 + 1 + 1 + 3 + 1
    assert "page%5Bsize%5D=100" in server.requests[0].path


def test_several_nodes_are_one_tree_and_a_path_in_two_of_them_is_an_error(server: FaultyServer) -> None:
    server.answer = osf(TREE)
    both = Listing(archive="osf", places=("abcde", "other"))
    files = listed_files("set", both, endpoint=server.url, patience=HASTE)
    assert {"sub-02/a.con", "sub-03/a.con"} < set(files)
    server.answer = osf({**TREE, "other/f9": {"sub-02/a.con": osf_file(8)}})
    with pytest.raises(DataError, match=r"set: other has the file sub-02/a\.con, and so has another place"):
        listed_files("set", both, anew=True, endpoint=server.url, patience=HASTE)


def test_the_hub_is_read_and_its_files_are_fetched_and_verified(server: FaultyServer, tmp_path: Path) -> None:
    server.answer = hub
    files = listed_files("set", HUB, endpoint=server.url, patience=HASTE)
    assert {path: (file.size, file.checksum) for path, file in files.items()} == {
        "participants.tsv": (len(SMALL), f"gitsha1:{GIT}"),
        "sub 1/meg.h5": (len(CONTENT), f"sha256:{SHA256}"),
    }
    [finding] = fetch_all(list(files.values()), tmp_path, dataset="set", patience=HASTE, progress=False)
    assert finding.message.startswith("2 files, 0.3 MB, fetched and verified")
    assert (tmp_path / "sub 1" / "meg.h5").read_bytes() == CONTENT


def test_an_archive_is_asked_once(server: FaultyServer) -> None:
    server.answer = osf(TREE)
    first = listed_files("set", OSF, endpoint=server.url, patience=HASTE)
    n_requests = len(server.requests)
    assert listed_files("set", OSF, endpoint="http://127.0.0.1:9", patience=HASTE) == first
    assert len(server.requests) == n_requests
    server.answer = osf({"abcde": {"new.txt": osf_file(1)}})
    assert set(listed_files("set", OSF, anew=True, endpoint=server.url, patience=HASTE)) == {"new.txt"}
    assert set(listed_files("set", OSF, endpoint=server.url, patience=HASTE)) == {"new.txt"}


def test_another_listing_of_the_same_name_is_asked_for(server: FaultyServer) -> None:
    server.answer = osf(TREE)
    listed_files("set", OSF, endpoint=server.url, patience=HASTE)
    other = Listing(archive="osf", places=("other",))
    assert set(listed_files("set", other, endpoint=server.url, patience=HASTE)) == {"sub-03/a.con"}


@pytest.mark.parametrize("damage", [b"", b"{", b'{"listing": {}}', b"[]"])
def test_a_damaged_listing_is_asked_for_anew(damage: bytes, server: FaultyServer, own_cache: Path) -> None:
    server.answer = osf(TREE)
    first = listed_files("set", OSF, endpoint=server.url, patience=HASTE)
    (own_cache / "listings" / "set.json").write_bytes(damage)
    assert listed_files("set", OSF, endpoint=server.url, patience=HASTE) == first


@pytest.mark.parametrize(
    "fault",
    [
        lambda handler: handler.head(503, 0),
        lambda handler: handler.head(429, 0, Retry_After="0"),
        lambda handler: None,
    ],
    ids=["503", "429", "no reply"],
)
def test_an_archive_that_is_busy_is_asked_again(fault: Callable[[Handler], None], server: FaultyServer) -> None:
    good = osf(TREE)
    server.answer = lambda handler, n: fault(handler) if n in (1, 2, 4) else good(handler, n)
    assert len(listed_files("set", OSF, endpoint=server.url, patience=HASTE)) == 8


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda h, n: h.head(503, 0), "503"),
        (lambda h, n: h.head(404, 0), "answers 404 Not Found"),
        (lambda h, n: send(h, b"<html>log in</html>"), "abcde was told in a way that is not known"),
        (lambda h, n: send(h, {"errors": []}), "abcde was told in a way that is not known .KeyError: 'data'"),
        (lambda h, n: send(h, [1]), "abcde was told in a way that is not known"),
    ],
    ids=["busy", "gone", "web page", "other JSON", "a list"],
)
def test_an_archive_that_does_not_tell_is_an_error_and_nothing_is_kept(
    answer: Callable[[Handler, int], None], message: str, server: FaultyServer, own_cache: Path
) -> None:
    server.answer = answer
    with pytest.raises(UnreachableError, match=f"^The files of set cannot be listed: .*{message}") as error:
        listed_files("set", OSF, endpoint=server.url, patience=HASTE)
    assert str(error.value).count("\n") <= 2
    assert not (own_cache / "listings").exists()


def test_a_list_that_breaks_off_is_no_list(server: FaultyServer, own_cache: Path) -> None:
    good = osf(TREE)
    server.answer = lambda handler, n: handler.head(404, 0) if n == 3 else good(handler, n)
    with pytest.raises(UnreachableError, match="404"):
        listed_files("set", OSF, endpoint=server.url, patience=HASTE)
    assert not (own_cache / "listings").exists()


def test_an_unreachable_archive_is_named() -> None:
    with pytest.raises(UnreachableError, match=r"The files of set cannot be listed: .*refused"):
        listed_files("set", OSF, endpoint="http://127.0.0.1:9", patience=HASTE)


@pytest.mark.parametrize("path", ["../../evil", "/../evil", "a:b", "a\\b", "a\nb"])
def test_a_file_that_cannot_be_named_here_is_left_out_by_name(path: str, server: FaultyServer) -> None:
    server.answer = osf({"abcde": {path: osf_file(1), "good": osf_file(1)}})
    with pytest.warns(DataWarning, match="leads out of .* The file is left out") as warned:
        files = listed_files("set", OSF, endpoint=server.url, patience=HASTE)
    assert set(files) == {"good"}
    assert repr(path.lstrip("/")) in str(warned[0].message)


def test_the_token_is_shown_to_the_hub_only(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.answer = hub
    listed_files("set", HUB, endpoint=server.url, patience=HASTE)
    assert {request.headers.get("Authorization") for request in server.requests} == {None}
    monkeypatch.setattr(transfer, "HUB", server.url)
    listed_files("set", HUB, anew=True, endpoint=server.url, patience=HASTE)
    assert server.requests[-1].headers.get("Authorization") == "Bearer hf_secret"


def test_a_set_that_admits_only_some_says_how_to_be_admitted(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "HUB", server.url)
    server.answer = lambda handler, n: handler.head(401, 0)
    with pytest.raises(UnreachableError, match="set HF_TOKEN to a token of yours"):
        listed_files("set", HUB, endpoint=server.url, patience=HASTE)
