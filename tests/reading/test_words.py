"""Word tables as people have them: read right, or refused with file and line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.errors import BrainalignError, DataError, RecipeError
from brainalign.reading.words import read_words

HEADER = "onset,duration,text\n"
GOOD = HEADER + "0.5,0.25,Once\n1,0.5,upon\n2.25,0.5,a\n"


def write(folder: Path, content: str | bytes, name: str = "words.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("words.csv", GOOD.encode()),
        ("words.csv", GOOD.encode("utf-8-sig")),
        ("words.csv", GOOD.encode("utf-16")),
        ("words.csv", b"\xfe\xff" + GOOD.encode("utf-16-be")),
        ("words.csv", GOOD.replace("\n", "\r\n").encode()),
        ("words.csv", GOOD.rstrip().encode()),
        ("words.csv", GOOD.replace("a\n", "a\n\n\n").encode()),
        ("words.csv", GOOD.replace("upon", '"upon"').encode()),
        ("words.tsv", GOOD.replace(",", "\t").encode()),
        ("WORDS.TSV", GOOD.replace(",", "\t").encode("utf-16")),
        ("words.csv", b"word_id,text,offset,onset\n0,Once,0.75,0.5\n1,upon,1.5,1\n2,a,2.75,2.25\n"),
        ("words.csv", b"text,end,onset\nOnce,0.75,0.5\nupon,1.5,1\na,2.75,2.25\n"),
    ],
    ids=[
        *("plain", "BOM", "utf-16", "utf-16-be", "CRLF", "no last newline", "blank lines", "quoted"),
        *("tsv", "TSV in utf-16", "offset", "end"),
    ],
)
def test_one_table_in_many_guises_gives_the_same_words(name: str, content: bytes, tmp_path: Path) -> None:
    words = read_words(write(tmp_path, content, name))
    expected = pd.DataFrame({"onset": [0.5, 1, 2.25], "duration": [0.25, 0.5, 0.5], "text": ["Once", "upon", "a"]})
    pd.testing.assert_frame_equal(words, expected)


def test_parquet_gives_what_was_written(tmp_path: Path) -> None:
    table = pd.DataFrame({"onset": [0.5, 1.0], "duration": [0.25, 0.5], "text": ["None", "nan"]})
    table.to_parquet(tmp_path / "words.parquet")
    pd.testing.assert_frame_equal(read_words(tmp_path / "words.parquet"), table)


def test_columns_may_be_called_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path, "start\tstop\tword\n0.5\t0.75\tOnce\n", "words.tsv")
    words = read_words(path, columns={"onset": "start", "offset": "stop", "text": "word"})
    assert words.to_dict("list") == {"onset": [0.5], "duration": [0.25], "text": ["Once"]}


@pytest.mark.parametrize("word", ["None", "NA", "null", "nan", "N/A", "NULL", "#N/A", "true", "1", '"', "-inf", "n/a"])
def test_no_word_is_taken_for_something_else(word: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"onset\tduration\ttext\n0\t1\tis\n1\t1\t{word}\n2\t1\tso\n", "words.tsv")
    assert read_words(path)["text"].tolist() == ["is", word, "so"]


@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8), min_size=1, max_size=10
    ),
    suffix=st.sampled_from([".csv", ".tsv", ".parquet"]),
)
def test_any_printable_words_come_back_as_they_are(texts: list[str], suffix: str) -> None:
    texts = ["begin", *texts]
    table = pd.DataFrame({"onset": np.arange(len(texts)) / 4, "duration": 0.25, "text": texts})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"words{suffix}"
        if suffix == ".parquet":
            table.to_parquet(path)
        elif suffix == ".csv":
            table.to_csv(path, index=False)
        else:
            rows = [f"{onset}\t0.25\t{text}\n" for onset, text in zip(table["onset"], texts, strict=True)]
            path.write_text("onset\tduration\ttext\n" + "".join(rows), encoding="utf-8")
        words = read_words(path)
    pd.testing.assert_frame_equal(words, table, check_dtype=False)


def test_sentences_are_numbered_by_change(tmp_path: Path) -> None:
    rows = "".join(f"{i},1,w{i},{sentence}\n" for i, sentence in enumerate(["s7", "s7", "s9", "s1", "s1"]))
    words = read_words(write(tmp_path, "onset,duration,text,sentence\n" + rows))
    assert words["sentence"].tolist() == [0, 0, 1, 2, 2]


MALFORMED = {
    "empty file": ("", "the file is empty"),
    "header only": (HEADER, "no rows"),
    "blank lines only": ("\n\n", "no rows"),
    "no onset": ("duration,text\n1,a\n", "no column 'onset'"),
    "no text": ("onset,duration,word\n1,1,a\n", "no column 'text'; found 'onset', 'duration', 'word'"),
    "no duration": ("onset,text\n1,a\n", r"'duration' \(or 'offset', 'end'\)"),
    "semicolons": (GOOD.replace(",", ";"), "separated by semicolons; in a .csv it must be commas"),
    "a column twice": ("onset,duration,text,text\n1,1,a,b\n", "more than one column is named 'text'"),
    "unsorted": (HEADER + "1,1,a\n2,1,b\n1.5,1,c\n", r"line 4 \('c', onset 1.5 s\): onset is before the previous"),
    "negative onset": (HEADER + "-0.5,1,a\n", r"line 2 \('a', onset -0.5 s\): onset is negative"),
    "negative duration": (HEADER + "0,1,a\n1,-1,b\n", "line 3 .*duration is negative"),
    "end before onset": ("onset,offset,text\n1,0.5,a\n", "line 2 .*duration is negative"),
    "NaN onset": (HEADER + "0,1,a\nnan,1,b\n", "line 3: onset 'nan' is not a finite number"),
    "missing onset": (HEADER + "0,1,a\n,1,b\n", "line 3: onset '' is not a finite number"),
    "n/a onset": (HEADER + "n/a,1,b\n", "line 2: onset 'n/a' is not"),
    "infinite onset": (HEADER + "0,1,a\ninf,1,b\n", "line 3: onset 'inf' is not"),
    "infinite duration": (HEADER + "0,inf,a\n", "line 2: duration 'inf' is not"),
    "decimal comma": (HEADER + '"0,5",1,a\n', r"line 2: onset '0,5' is not a finite number\. Write .* point"),
    "underscore": (HEADER + "1_000,1,a\n", "onset '1_000' is not"),
    "word for number": (HEADER + "one,1,a\n", "onset 'one' is not"),
    "truncated last line": (HEADER + "0,1,a\n1,1\n", "line 3: 2 cells; the first line has 3"),
    "too many cells": (HEADER + "0,1,a,b\n", "line 2: 4 cells"),
    "blank word": (HEADER + "0,1,a\n1,1, \n", "line 3 .*text is empty"),
    "only punctuation": (HEADER + "0,1,.\n1,1,...\n", "no words, only blanks or punctuation"),
    "only blanks": (HEADER + "0,1, \n1,1,\n", "no words"),
    "lone quote": (HEADER + '0,1,"\n1,1,a\n2,1,b\n', "line 2: .*partner"),
    "two lone quotes": (HEADER + '0,1,"\n1,1,a\n2,1,"\n', "line 2: a quotation mark without its partner joins"),
    "lone quote at the end": (HEADER + '0,1,a\n1,1,"b', "line 3: .*partner"),
    "zero byte": (HEADER + "0,1,a\0b\n", "line 2: holds a zero byte"),
    "empty sentence": ("onset,duration,text,sentence\n0,1,a,\n", "line 2: sentence is empty"),
}


@pytest.mark.parametrize(("content", "message"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_table_is_refused_with_file_and_line(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_words(write(tmp_path, content))
    assert "words.csv" in str(error.value)
    assert str(error.value).count("\n") <= 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("words.csv", HEADER.encode() + b"0,1,a\n1,1,\xe9t\xe9\n", "line 3: not utf-8 text"),
        ("words.csv", b"/annex/objects/MD5E-s120--d41d8cd98f.csv\n", "not downloaded"),
        ("words.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not downloaded"),
        ("words.xlsx", b"PK", "tables are read from .csv, .tsv, .parquet"),
        ("words.parquet", b"PAR1 but no more", "not a parquet file"),
        ("words.TextGrid", b"no grid at all", "not a TextGrid"),
        ("words.tsv", GOOD.encode(), "separated by commas; in a .tsv it must be tabs"),
        ("words.tsv", b'onset\tduration\ttext\n"0"\t1\ta\n', "onset '\"0\"' is not"),
    ],
    ids=["latin-1", "annex pointer", "lfs pointer", "excel", "torn parquet", "no TextGrid", "commas", "quoted number"],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_words(write(tmp_path, content, name))
    assert name in str(error.value)


def test_what_is_not_there_is_told_from_what_was_not_downloaded(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / ".git" / "annex" / "objects" / "x")
    for name, message in (("none.csv", "no such file"), ("link.csv", "datalad get link.csv"), (".", "a folder")):
        with pytest.raises(DataError, match=message):
            read_words(tmp_path / name)


def test_missing_cells_of_parquet_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.parquet"
    pd.DataFrame({"onset": [0.0, None], "duration": 1.0, "text": ["a", "b"]}).to_parquet(path)
    with pytest.raises(DataError, match="row 2: onset '' is not"):
        read_words(path)
    pd.DataFrame({"onset": [0.0, 1.0], "duration": 1.0, "text": ["a", None]}).to_parquet(path)
    with pytest.raises(DataError, match=r"row 2 .*text is empty"):
        read_words(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"onsets": "onset"}, "Did you mean 'onset'"),
        ({"text": "wrod"}, r"has no column 'wrod'. Did you mean 'word'"),
    ],
)
def test_a_misspelt_column_is_told_with_the_nearest(columns: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        read_words(write(tmp_path, "onset,duration,word\n0,1,a\n"), columns=columns)


TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2
tiers? <exists>
size = {size}
item []:
"""
TIER = """    item [{i}]:
        class = "IntervalTier"
        name = "{name}"
        xmin = 0
        xmax = 2
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "{silence}"
        intervals [2]:
            xmin = 0.5
            xmax = 0.75
            text = "{word} "
        intervals [3]:
            xmin = 0.75
            xmax = 1
            text = "SP"
        intervals [4]:
            xmin = 1
            xmax = 2
            text = "né"
"""


def grid(*tiers: str, word: str = "None", silence: str = "") -> str:
    parts = [TIER.format(i=i + 1, name=name, word=word, silence=silence) for i, name in enumerate(tiers)]
    return TEXTGRID.format(size=len(tiers)) + "".join(parts)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("tiers", [("text",), ("phone", "word"), ("Words", "phones")])
def test_a_textgrid_gives_its_words_without_silences(encoding: str, tiers: tuple[str, ...], tmp_path: Path) -> None:
    words = read_words(write(tmp_path, grid(*tiers).encode(encoding), "words.TextGrid"))
    expected = pd.DataFrame({"onset": [0.5, 1.0], "duration": [0.25, 1.0], "text": ["None", "né"]})
    pd.testing.assert_frame_equal(words, expected)


def test_a_textgrid_of_several_tiers_is_asked_which(tmp_path: Path) -> None:
    path = write(tmp_path, grid("phone", "mot"), "words.TextGrid")
    with pytest.raises(RecipeError, match="which tier holds the words\\? Found: 'phone', 'mot'"):
        read_words(path)
    with pytest.raises(RecipeError, match="Did you mean 'mot'"):
        read_words(path, tier="mots")
    assert len(read_words(path, tier="mot")) == 2


def test_silences_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path, grid("word", silence="{br}"), "words.TextGrid")
    assert len(read_words(path)) == 3
    assert len(read_words(path, silences=("{br}", "sp"))) == 2
    with pytest.raises(DataError, match="no interval of the tier holds a word"):
        read_words(path, silences=("{br}", "sp", "none", "né"))


@given(content=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".tsv", ".parquet", ".TextGrid"]))
def test_whatever_the_bytes_only_our_errors_come(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with pytest.raises(BrainalignError) as error:
            read_words(write(Path(folder), content, f"words{suffix}"))
        assert str(error.value).count("\n") <= 2


def test_real_textgrids_in_utf_16_are_read(shared: Path) -> None:
    words = read_words(shared / "datasets/real/ds003643_lpp_fmri/annotation/FR/lppFR_section1.TextGrid")
    assert len(words) > 1000
    assert any("é" in text for text in words["text"])


def test_a_real_table_of_words_is_read(shared: Path) -> None:
    words = read_words(
        shared / "datasets/narratives_black/black_gentle.csv", columns={"text": "Word", "offset": "offset"}
    )
    assert len(words) == 1544
    assert words.loc[0].to_dict() == {"onset": 0.24, "duration": pytest.approx(0.39), "text": "So"}
