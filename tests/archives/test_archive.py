"""Where the files of a dataset are: the user's copy before the cache, each verified, and said how to be had."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty_server import CONTENT, SHA256, FaultyServer, Handler, running_server, serve

from brainalign import manifests
from brainalign.archives import archive as module
from brainalign.archives.archive import Archive
from brainalign.archives.remote_files import RemoteFile
from brainalign.errors import ChecksumError, DataError, DataWarning, UnreachableError
from brainalign.manifests import Listing, Manifest

OTHER = CONTENT[::-1]
TABLE = (
    "path\tbytes\tchecksum\n"
    f"sub-1/a.fif\t{len(CONTENT)}\tsha256:{SHA256}\n"
    f"sub-2/a.fif\t{len(OTHER)}\tmd5:{hashlib.md5(OTHER).hexdigest()}\n"
    f"words.tsv\t{len(CONTENT)}\t\n"
)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    def answer(handler: Handler, n: int) -> None:
        serve(handler, n, content=OTHER if handler.path == "/sub-2/a.fif" else CONTENT, etag=f'"{handler.path}"')

    with running_server() as server:
        server.answer = answer
        yield server


@pytest.fixture
def known(tmp_path: Path, server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make a dataset "mine" known, with three files on the server, or as its manifest is changed."""

    def make(**changes: object) -> None:
        (tmp_path / "files.tsv").write_text(TABLE)
        manifest = Manifest(
            **{"name": "mine", "loader": "arrays", "title": "Mine", "modality": ("meg",), "citation": "I"},
            **{"licence": "CC0", "description": "My own.", "files": "files.tsv"},
            sources={"archive": f"{server.url}/{{path}}"},
        ).model_copy(update=changes)
        monkeypatch.setattr(module, "read_manifest", lambda name: manifest)

    monkeypatch.setattr(manifests, "manifest_folder", lambda: tmp_path)
    make()
    return make


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's copy that has one of the files, and one that the archive does not know."""
    (tmp_path / "own" / "sub-1").mkdir(parents=True)
    (tmp_path / "own" / "sub-1" / "a.fif").write_bytes(CONTENT)
    (tmp_path / "own" / "notes.txt").write_text("mine")
    (tmp_path / "own" / ".git").mkdir()
    (tmp_path / "own" / ".git" / "HEAD").write_text("ref")
    return tmp_path / "own"


def test_files_are_fetched_into_the_cache_and_verified(
    known: Callable[..., None], own_cache: Path, server: FaultyServer
) -> None:
    archive = Archive("mine")
    assert archive.paths == ("sub-1/a.fif", "sub-2/a.fif", "words.tsv")
    assert server.requests == []
    [finding] = archive.fetch(archive.paths)
    assert "3 files" in finding.message
    assert "all but 1 verified" in finding.message
    assert (own_cache / "datasets" / "mine" / "sub-2" / "a.fif").read_bytes() == OTHER
    assert all(archive.is_here(path) for path in archive.paths)
    assert archive.fetch(archive.paths) == []


def test_what_the_users_copy_has_is_taken_and_nothing_is_written_to_it(
    known: Callable[..., None], own: Path, own_cache: Path, server: FaultyServer
) -> None:
    archive = Archive("mine", own)
    assert archive.paths == ("notes.txt", "sub-1/a.fif", "sub-2/a.fif", "words.tsv")
    before = sorted(own.rglob("*"))
    archive.fetch(["sub-1/a.fif", "sub-2/a.fif", "notes.txt"])
    assert [request.path for request in server.requests] == ["/sub-2/a.fif"]
    assert archive.place("sub-1/a.fif") == own / "sub-1" / "a.fif"
    assert archive.place("sub-2/a.fif") == own_cache / "datasets" / "mine" / "sub-2" / "a.fif"
    assert sorted(own.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [(OTHER, f"expected SHA-256 {SHA256}, found"), (CONTENT[:-1], "expected 300000 bytes, found 299999")],
)
def test_a_wrong_file_in_the_users_copy_is_named_and_left_alone(
    content: bytes, message: str, known: Callable[..., None], own: Path
) -> None:
    (own / "sub-1" / "a.fif").write_bytes(content)
    with pytest.raises(ChecksumError, match=message) as error:
        Archive("mine", own).fetch(["sub-1/a.fif"])
    assert str(own / "sub-1" / "a.fif") in str(error.value)
    assert (own / "sub-1" / "a.fif").read_bytes() == content


def test_damage_that_leaves_size_and_time_is_found_where_files_are_read_anew(
    known: Callable[..., None], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where a disk loses bits: nothing that the file system tells has changed.
    monkeypatch.setattr("brainalign.archives.verified._state", lambda path: {"size": path.stat().st_size})
    archive = Archive("mine", own)
    archive.fetch(["sub-1/a.fif", "sub-2/a.fif"])
    for path in ("sub-1/a.fif", "sub-2/a.fif"):
        with archive.place(path).open("r+b") as stream:
            stream.write(b"flipped")
        assert archive.fault(path) == ""
    assert archive.fault("sub-1/a.fif", anew=True).startswith("expected SHA-256")
    with pytest.warns(DataWarning, match="is damaged"):
        archive.fetch(["sub-2/a.fif"], anew=True)
    assert archive.fault("sub-2/a.fif", anew=True) == ""
    with pytest.raises(ChecksumError):
        archive.fetch(["sub-1/a.fif"], anew=True)
    assert archive.fault("notes.txt", anew=True) == ""


def test_a_link_to_nothing_is_the_users_file_and_is_not_replaced(
    known: Callable[..., None], own: Path, server: FaultyServer
) -> None:
    (own / "words.tsv").symlink_to("nowhere")
    archive = Archive("mine", own)
    with pytest.raises(DataError, match=r"datalad get words\.tsv"):
        archive.fetch(["words.tsv"])
    assert archive.place("words.tsv") == own / "words.tsv"
    assert not archive.is_here("words.tsv")
    assert server.requests == []


def test_a_file_that_nobody_has_is_named(known: Callable[..., None], own: Path) -> None:
    with pytest.raises(UnreachableError, match=r"mine has no file sub-3/a\.fif\."):
        Archive("mine").fetch(["sub-3/a.fif"])
    with pytest.raises(UnreachableError, match=r"no file sub-3/a\.fif in .*own, nor is it known where to fetch it"):
        Archive("mine", own).fetch(["sub-3/a.fif"])


def test_data_that_users_must_get_themselves_say_how(known: Callable[..., None], tmp_path: Path, own: Path) -> None:
    known(files=None, sources={}, instructions="Sign the agreement\nat the archive.")
    with pytest.raises(UnreachableError, match=r"mine cannot be fetched: Sign the agreement at the archive\.") as error:
        Archive("mine").paths  # noqa: B018
    assert "`root`" in str(error.value)
    assert Archive("mine", own).paths == ("notes.txt", "sub-1/a.fif")
    with pytest.raises(DataError, match=r"none: there is no such folder"):
        Archive("mine", tmp_path / "none").fetch([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no files are there"):
        Archive("mine", tmp_path / "empty").paths  # noqa: B018


def test_an_archive_that_tells_its_files_is_asked_only_when_they_are_needed(
    known: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def listed(name: str, listing: Listing) -> dict[str, RemoteFile]:
        asked.append(name)
        return {"a.h5": RemoteFile("a.h5", "http://127.0.0.1:9/a.h5", 3, f"sha256:{SHA256}")}

    monkeypatch.setattr(module, "listed_files", listed)
    known(files=None, sources={}, listing=Listing(archive="osf", places=("abcde",)))
    archive = Archive("mine")
    assert asked == []
    assert archive.matching(r".*\.h5") == ["a.h5"]
    assert archive.first("none", r"a\..*") == "a.h5"
    assert archive.first("none") is None
    assert asked == ["mine"]


def test_a_digest_is_that_of_the_bytes_and_needs_the_file_only_where_the_archive_tells_none(
    known: Callable[..., None], own: Path
) -> None:
    archive = Archive("mine", own)
    first = archive.digest(["sub-1/a.fif", "sub-2/a.fif"])
    assert archive.digest(["sub-2/a.fif", "sub-1/a.fif"]) == first
    assert archive.digest(["sub-1/a.fif"]) != first
    with pytest.raises(FileNotFoundError):
        archive.digest(["words.tsv"])
    notes = archive.digest(["notes.txt"])
    (own / "notes.txt").write_text("other")
    assert archive.digest(["notes.txt"]) != notes


def test_a_copy_is_taken_unverified_where_the_archives_list_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, listing: object) -> dict:
        raise UnreachableError("the Hub cannot be reached.")

    monkeypatch.setattr("brainalign.archives.archive.listed_files", refuse)
    (tmp_path / "a.h5").write_bytes(b"content")
    with pytest.warns(DataWarning, match="not verified, since the archive's list cannot be had: the Hub"):
        assert Archive("libribrain", tmp_path).paths == ("a.h5",)
    with pytest.raises(UnreachableError, match="the Hub"):
        Archive("libribrain").paths  # noqa: B018


def test_a_placeholder_in_ones_own_copy_was_not_downloaded(tmp_path: Path) -> None:
    path = tmp_path / "alice_stim_shared" / "LICENSE.txt"
    path.parent.mkdir()
    path.symlink_to("../.git/annex/objects/none")
    with pytest.raises(DataError, match="datalad get"):
        Archive("alice", tmp_path).fetch(["alice_stim_shared/LICENSE.txt"])
