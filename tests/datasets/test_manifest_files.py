"""The tables of files that manifests have, against the archives' own lists of files, sizes and checksums."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from brainalign.datasets import load_dataset
from brainalign.manifests import read_manifest

# Of each dataset, the archive's list of files.
ARCHIVES = {
    "brennan2019": "nm000180",
    "lebel2023": "ds003020",
    "little_prince": "ds003643",
    "little_prince_meg_listen": "on007523",
    "little_prince_meg_read": "on007524",
    "meg_masc": "nm000229",
    "narratives": "ds002345",
    "old_man": "ds004408",
    "podcast": "ds005574",
    "smn4lang": "ds004078",
}
KINDS = ("responses", "words", "sound")


@pytest.mark.parametrize("name", list(ARCHIVES))
def test_every_file_of_the_table_is_the_archives(shared: Path, name: str) -> None:
    table = read_manifest(name).file_table().set_index("path")
    archive = pd.read_csv(
        shared / "datasets" / "checksums" / f"{ARCHIVES[name]}.tsv.gz",
        sep="\t",
        dtype=str,
        keep_default_na=False,
        index_col="path",
    )
    assert table.index.is_unique
    assert set(table.index) <= set(archive.index)
    theirs = archive.loc[table.index]
    # Of files that lie in git the list may lack a size; it has no checksum of them, nor a version of some.
    sized = theirs["size"].str.isdecimal()
    assert (table["bytes"].astype(str)[sized] == theirs["size"][sized]).all()
    summed = theirs["checksum"] != ""
    expected = theirs["checksum_algo"].str.lower() + ":" + theirs["checksum"]
    assert (table["checksum"][summed] == expected[summed]).all()
    assert table["checksum"].str.fullmatch(r"(sha256|md5|sha1|gitsha1):[0-9a-f]+").all()
    if "s3_versionId" in theirs:
        assert (table["s3_version"] == theirs["s3_versionId"]).all()


@pytest.mark.parametrize("name", list(ARCHIVES))
def test_every_file_that_a_loader_selects_is_in_the_table(name: str) -> None:
    data = load_dataset(name)
    # The words of Narratives are not in its archive.
    kinds = tuple(kind for kind in KINDS if (name, kind) != ("narratives", "words"))
    assert set(data.files(kinds=kinds)) <= set(data.archive.table)
