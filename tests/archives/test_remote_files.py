"""The files that manifests name: where they lie, and that none can be put outside its dataset's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from brainalign.archives.remote_files import RemoteFile, checked_digits, remote_files, safe_path
from brainalign.errors import DataError
from brainalign.manifests import Manifest, list_manifests, read_manifest

MD5 = "9" * 32
SHA256 = "a" * 64


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Manifest]:
    """Make a manifest with these sources and a table of files."""

    def make(text: str, **sources: str) -> Manifest:
        (tmp_path / "files.tsv").write_text(text)
        changes = {"files": str(tmp_path / "files.tsv"), "sources": sources or {"archive": "https://a.org/{path}"}}
        return read_manifest("alice").model_copy(update=changes)

    return make


@pytest.mark.parametrize("name", [name for name in list_manifests() if read_manifest(name).files])
def test_every_shipped_table_of_files_is_safe_and_names_places_on_the_web(name: str) -> None:
    files = remote_files(read_manifest(name))
    assert len(files) == len(read_manifest(name).file_table())
    for path, file in files.items():
        assert path == file.path
        assert file.url.startswith(("https://", "wheel:"))
        assert "{" not in file.url


def test_the_files_of_alice_are_its_archives() -> None:
    files = remote_files(read_manifest("alice"))
    assert len(files) == 117
    licence = files["alice_stim_shared/LICENSE.txt"]
    assert licence.size == 268
    assert licence.url.endswith("/brain-data/syntax-in-rnng/alice_stim_shared/LICENSE.txt")


def test_an_address_is_made_of_what_is_known_of_the_file(table: Callable[..., Manifest]) -> None:
    manifest = table(
        "path\tbytes\tchecksum\tsource\ts3_version\n"
        f"a b/run.fif\t7\tsha256:{SHA256}\tkeyed\t\n"
        f"sub-1/bold.nii.gz\t8\tmd5:{MD5}\tarchive\tx.y+z\n"
        f"a b.csv\t9\t\twheel\t\n",
        keyed="https://s3.org/SHA256E-s{bytes}--{checksum}{suffix}",
        archive="https://a.org/{path}",
        wheel="wheel:toy==1.0/{path}",
    )
    assert list(remote_files(manifest).values()) == [
        RemoteFile("a b/run.fif", f"https://s3.org/SHA256E-s7--{SHA256}.fif", 7, f"sha256:{SHA256}"),
        RemoteFile("sub-1/bold.nii.gz", "https://a.org/sub-1/bold.nii.gz?versionId=x.y%2Bz", 8, f"md5:{MD5}"),
        RemoteFile("a b.csv", "wheel:toy==1.0/a b.csv", 9, ""),
    ]


def test_a_source_that_the_manifest_does_not_have_is_an_error(table: Callable[..., Manifest]) -> None:
    with pytest.raises(DataError, match="'a' is of the source 'other', which the manifest does not have"):
        remote_files(table(f"path\tbytes\tchecksum\tsource\na\t1\tmd5:{MD5}\tother\n"))


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "a/../../b", "C:\\a", "a\\b", "", "a\x07b"])
def test_a_path_that_leads_out_of_the_folder_is_refused(path: str, table: Callable[..., Manifest]) -> None:
    with pytest.raises(DataError, match="leads out"):
        remote_files(table(f"path\tbytes\tchecksum\n{path}\t1\tsha256:{SHA256}\n"))


@pytest.mark.parametrize("path", [None, 3.5])
def test_what_is_no_text_is_no_path(path: object) -> None:
    with pytest.raises(DataError, match="leads out"):
        safe_path(path, "files.tsv")


@pytest.mark.parametrize(
    "checksum", ["md5:0", SHA256, f"sha256:{MD5}", f"sha256:{'A' * 64}", f"crc:{MD5}", "sha1:", f"md5:{MD5} "]
)
def test_a_checksum_that_is_none_is_refused(checksum: str, table: Callable[..., Manifest]) -> None:
    with pytest.raises(DataError, match=f"the checksum of 'a' is {checksum!r}"):
        remote_files(table(f"path\tbytes\tchecksum\na\t1\t{checksum}\n"))


def test_no_checksum_is_none_told() -> None:
    assert checked_digits("", "a", "files.tsv") == ""
    assert checked_digits(f"gitsha1:{'b' * 40}", "a", "files.tsv") == "b" * 40
