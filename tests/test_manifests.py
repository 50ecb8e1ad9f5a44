"""Every dataset's manifest is sound; one that is not is an error naming file and field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest
from pydantic import ValidationError

from brainalign import manifests
from brainalign.datasets import list_datasets, load_dataset
from brainalign.errors import DataError, RecipeError
from brainalign.manifests import Manifest, list_manifests, manifest_folder, read_manifest
from brainalign.registry import DATASETS

GOOD = """\
name: mine
loader: simulated
title: Mine
modality: [fmri]
citation: Me
licence: CC0
description: My own.
"""


@pytest.fixture
def write_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str | bytes], Path]]:
    """Make a folder with one manifest, `mine.yaml`, the folder where manifests are looked for."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    monkeypatch.setattr(manifests, "manifest_folder", lambda: tmp_path)
    read_manifest.cache_clear()
    yield write
    read_manifest.cache_clear()


# Those that are there


@pytest.mark.parametrize("name", list_manifests())
def test_every_manifest_is_valid_and_bears_its_files_name(name):
    manifest = read_manifest(name)
    assert manifest.name == name
    assert manifest.loader in DATASETS
    assert manifest.modality
    for text in (manifest.title, manifest.citation, manifest.licence, manifest.description):
        assert text.strip()


@pytest.mark.parametrize("name", list_manifests())
def test_every_source_is_secure_and_comes_with_a_table_of_files(name):
    manifest = read_manifest(name)
    assert bool(manifest.sources) == (manifest.files is not None)
    for source in manifest.sources.values():
        assert re.fullmatch(r"https://[^\s?#]+|wheel:[\w.-]+==[\w.]+/\{path\}(#sha256=[0-9a-f]{64})?", source)
        assert "{path}" in source or "{checksum}" in source
    if manifest.files is not None:
        assert set(manifest.file_table()["source"]) == set(manifest.sources)


@pytest.mark.parametrize("name", list_manifests())
def test_every_dataset_of_others_can_be_had_in_some_way_and_says_what_was_not_verified(name):
    manifest = read_manifest(name)
    can_be_had = manifest.files or manifest.listing or manifest.instructions
    assert can_be_had or manifest.loader in ("arrays", "bids", "simulated")
    assert manifest.verified or manifest.unverified


@pytest.mark.parametrize("name", [name for name in list_manifests() if read_manifest(name).files])
def test_every_table_of_files_can_be_verified_and_stays_in_its_folder(name):
    table = read_manifest(name).file_table()
    assert list(table.columns)[:3] == ["path", "bytes", "checksum"]
    assert set(table.columns[3:]) == {"source", "s3_version"}
    assert len(table) > 0
    assert table["checksum"].str.fullmatch(r"(sha256:[0-9a-f]{64}|(git)?sha1:[0-9a-f]{40}|md5:[0-9a-f]{32})?").all()
    assert (table["bytes"] >= 0).all()
    assert table["path"].str.lower().is_unique
    for path in table["path"]:
        parts = PurePosixPath(path).parts
        assert not PurePosixPath(path).is_absolute()
        assert not {"..", ".", "~"} & set(parts)


def test_a_dataset_without_files_has_an_empty_table():
    table = read_manifest("arrays").file_table()
    assert list(table.columns) == ["path", "bytes", "checksum", "source", "s3_version"]
    assert len(table) == 0


def test_the_folder_of_manifests_holds_no_code_and_no_table_that_none_names():
    named = {f"{name}.yaml" for name in list_manifests()} | {read_manifest(name).files for name in list_manifests()}
    assert {path.name for path in manifest_folder().iterdir()} == named - {None}


def test_datasets_are_listed_by_their_manifests():
    assert list_datasets() == list_manifests() == sorted(list_manifests())


def test_making_a_dataset_needs_no_more_than_its_manifest():
    # Those of everyone's own data need to be told where they are.
    for name in set(list_manifests()) - {"arrays", "bids"}:
        assert load_dataset(name).title


# Those that cannot be


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (("title: Mine\n", ""), "title"),
        (("modality: [fmri]", "modality: [fmr]"), "modality"),
        (("modality: [fmri]", "modality: fmri"), "modality"),
        (("modality: [fmri]", "modality: []"), "modality"),
        (("licence: CC0", "licence: 1.0"), "licence"),
        (("licence: CC0", "license: CC0"), "license|licence"),
        (("licence: CC0", "licence: CC0\nlicense: CC0"), "license: "),
        (("licence: CC0", "licence: CC0\nfacts: [1]"), "facts"),
        (("licence: CC0", "licence: CC0\nsources: 5"), "sources"),
        (("licence: CC0", "licence: CC0\nlisting: {archive: ftp, places: [a]}"), "listing.archive"),
        (("licence: CC0", "licence: CC0\nsource: https://a.org/{path}"), "source"),
        (("name: mine", "name: other"), "name"),
        (("title: Mine", "title: Mine\ntitle: Yours"), "line 4: .*title"),
        (("title: Mine", "title: !!python/name:os.system"), "line 3"),
        (("title: Mine", "title: [Mine"), "line"),
        ((GOOD, ""), "empty"),
        ((GOOD, "- a\n- b\n"), "mapping|dict|object"),
        ((GOOD, "null\n"), "mapping|dict|object"),
        ((GOOD, "a: \0"), "line 1"),
    ],
    ids=lambda value: repr(value)[-40:],
)
def test_a_malformed_manifest_is_an_error_of_few_lines_naming_file_and_field(write_manifest, change, field):
    path = write_manifest(GOOD.replace(*change))
    with pytest.raises(DataError, match=field) as raised:
        read_manifest("mine")
    assert str(path) in str(raised.value)
    assert len(str(raised.value).splitlines()) <= 3
    assert "pydantic" not in str(raised.value)


def test_a_manifest_in_another_encoding_is_an_error_naming_the_file(write_manifest):
    path = write_manifest(GOOD.replace("Mine", "Mïne").encode("latin-1"))
    with pytest.raises(DataError, match=re.escape(str(path))):
        read_manifest("mine")


def test_a_manifest_added_to_the_folder_is_a_dataset(write_manifest):
    write_manifest(GOOD)
    assert list_manifests() == ["mine"]
    assert read_manifest("mine").title == "Mine"


def test_a_broken_manifest_is_not_skipped_but_told(write_manifest):
    write_manifest("[")
    assert list_manifests() == ["mine"]
    with pytest.raises(DataError):
        load_dataset("mine")


@pytest.mark.parametrize("name", ["alicee", "../alice", "alice.yaml", "/etc/passwd", "", "a\0b"])
def test_a_name_that_is_no_dataset_is_refused(name):
    with pytest.raises(RecipeError, match=rf"^Unknown dataset .*Known: {', '.join(list_manifests())}\.$"):
        read_manifest(name)


def test_a_manifest_cannot_be_changed_by_its_readers():
    with pytest.raises(ValidationError, match="frozen"):
        read_manifest("alice").title = "Mine"
    assert isinstance(read_manifest("alice"), Manifest)


def test_an_installation_without_manifests_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "files", lambda _: tmp_path / "brainalign")
    with pytest.raises(FileNotFoundError, match="installation is incomplete"):
        manifest_folder()


@pytest.mark.parametrize("place", ["brainalign/data_manifests", "data_manifests"], ids=["installed", "checkout"])
def test_manifests_are_found_in_the_package_or_beside_it(tmp_path, monkeypatch, place):
    (tmp_path / place).mkdir(parents=True)
    monkeypatch.setattr(manifests, "files", lambda _: tmp_path / "brainalign")
    assert manifest_folder() == tmp_path / place
