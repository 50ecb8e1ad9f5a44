"""Frank et al. (2015): the real table, its words, its rejected trials, and the figures known of it."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from miniatures import serve_miniature

from brainalign.datasets import load_dataset
from brainalign.errors import ChecksumError, DataError, RecipeError
from brainalign.types import Dataset, Floats

N_ITEMS = 1931
HEADER = "subj_nr\tsent_nr\tword_pos\titem\tbaseline\tN400\treject_data\tword\tlog_freq\tnr_char\treject_word"


def frank2015(**options: Any) -> Dataset:
    subjects = options.pop("subjects", None)
    return load_dataset("frank2015", subjects=subjects, options=options)


@pytest.fixture
def real(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The archive's own files, which a mirror gives."""
    monkeypatch.setenv("BRAINALIGN_MIRROR", str(shared / "datasets"))
    return shared / "datasets" / "frank2015"


@pytest.fixture
def table(real: Path) -> pd.DataFrame:
    """The archive's table, each cell as it stands there."""
    return pd.read_csv(real / "data_EEG.csv", sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)


def amplitudes(data: Dataset) -> Floats:
    """(subject, item)."""
    return np.stack([recording.response()[:, 0] for recording in data.recordings()])


# The real table


def test_it_is_24_subjects_who_read_1931_words_in_205_sentences(real: Path) -> None:
    data = frank2015()
    assert data.rows == "items"
    assert data.modality == "eeg"
    assert data.subjects == tuple(str(number) for number in range(1, 25))
    words = data.stimuli["sentences"].words
    assert len(words) == N_ITEMS
    assert words["sentence"].nunique() == 205
    assert words["item"].tolist() == list(range(N_ITEMS))
    found = amplitudes(data)
    assert found.size == 46_344
    assert np.isfinite(found).sum() == 32_033
    assert len({recording.digest for recording in data.recordings()}) == 24


def test_the_subjects_are_those_that_the_authors_accept(real: Path) -> None:
    listed = pd.read_csv(real / "subjects.csv", sep="\t", dtype=str)
    accepted = listed[(listed["experiment"] == "EEG") & (listed["reject"] == "false")]
    assert frank2015().subjects == tuple(accepted["subj_nr"])


def test_words_stand_in_the_order_of_their_sentences(real: Path, table: pd.DataFrame) -> None:
    words = frank2015().stimuli["sentences"].words
    one = table[table["subj_nr"] == "5"].assign(sent_nr=lambda rows: rows["sent_nr"].astype(int))
    expected = one.assign(word_pos=one["word_pos"].astype(int)).sort_values(["sent_nr", "word_pos"])
    assert words["text"].tolist() == expected["word"].tolist()
    assert (np.diff(words["sentence"]) == np.diff(expected["sent_nr"]).clip(max=1)).all()


def test_the_word_none_is_a_word(real: Path) -> None:
    words = frank2015().stimuli["sentences"].words
    assert (words["text"] == "None").sum() == 1
    assert words["text"].map(type).eq(str).all()


def test_each_subjects_own_order_is_undone(real: Path, table: pd.DataFrame) -> None:
    """Values are those of the trial with the same subject and word, whatever stands around it."""
    [recording] = frank2015(subjects=["17"], all_words=True).recordings()
    own = table[(table["subj_nr"] == "17") & (table["reject_data"] == "false")]
    items = np.sort(table["item"].astype(int).unique())
    places = np.searchsorted(items, own["item"].astype(int))
    assert (np.diff(places) < 0).any()
    response = recording.response()[:, 0]
    np.testing.assert_allclose(response[places], own["N400"].astype(float), rtol=1e-6)
    assert np.isfinite(response).sum() == len(own)
    baseline = recording.confounds()["baseline"].to_numpy()
    np.testing.assert_allclose(baseline[places], own["baseline"].astype(float))


def test_halves_of_the_subjects_agree_as_known(real: Path) -> None:
    """Mean over random halves of the correlation over items of the halves' means."""
    found = amplitudes(frank2015(all_words=True))
    random = np.random.default_rng(0)
    halves = [random.permutation(24).reshape(2, 12) for _ in range(100)]
    r = np.mean([_correlation(*(np.nanmean(found[half], axis=0) for half in pair)) for pair in halves])
    assert r == pytest.approx(0.33, abs=0.01)
    assert 2 * r / (1 + r) == pytest.approx(0.49, abs=0.01)


def test_the_n400_is_larger_the_rarer_the_word(real: Path, table: pd.DataFrame) -> None:
    """As known of the words that the authors score: the amplitude, negative, falls with rarity, r = -.26."""
    frequency = table.drop_duplicates("item").assign(item=lambda rows: rows["item"].astype(int)).sort_values("item")
    log_frequency = pd.to_numeric(frequency["log_freq"].mask(frequency["log_freq"] == "")).to_numpy(dtype=float)
    found = amplitudes(frank2015())
    scored = np.isfinite(found).any(axis=0)
    means = np.full(N_ITEMS, np.nan)
    means[scored] = np.nanmean(found[:, scored], axis=0)
    assert _correlation(means, log_frequency) == pytest.approx(-0.26, abs=0.005)


def _correlation(one: Floats, other: Floats) -> float:
    return float(pd.Series(one).corr(pd.Series(other)))


# Settings


def test_words_that_the_authors_leave_out_are_read_and_scored_only_on_demand(real: Path) -> None:
    few, all_words = frank2015(subjects=["3"]), frank2015(subjects=["3"], all_words=True)
    assert [finding.code for finding in few.findings] == ["words-not-scored"]
    assert all_words.findings == []
    assert few.stimuli["sentences"].words.equals(all_words.stimuli["sentences"].words)
    left_out = np.isfinite(amplitudes(all_words)) & ~np.isfinite(amplitudes(few))
    words = few.stimuli["sentences"].words
    ends = words["sentence"].diff().ne(0) | words["sentence"].diff(-1).ne(0)
    inside = words["text"][left_out[0] & ~ends]
    assert left_out[0][ends & np.isfinite(amplitudes(all_words)[0])].all()
    assert inside.str.contains("[',]").all()


def test_the_amplitude_before_the_word_can_be_the_measure_or_no_confound(real: Path) -> None:
    [before] = frank2015(subjects=["3"], measure="baseline").recordings()
    [n400] = frank2015(subjects=["3"]).recordings()
    [plain] = frank2015(subjects=["3"], regress_baseline=False).recordings()
    expected = n400.confounds()["baseline"].where(np.isfinite(n400.response()[:, 0]))
    np.testing.assert_allclose(before.response()[:, 0], expected.astype(np.float32))
    assert before.targets["name"].tolist() == ["baseline"]
    assert before.confounds().empty
    assert plain.confounds().empty
    assert len({recording.digest for recording in (before, n400, plain)}) == 3


def test_an_unknown_measure_or_subject_is_refused() -> None:
    with pytest.raises(RecipeError, match="measure"):
        frank2015(measure="P600")
    with pytest.raises(RecipeError, match="no subject '25'"):
        frank2015(subjects=["25"])


# Tables that are not what they should be


def row(subject: int, item: int, word: str = "word", n400: str = "1.5", rejected: str = "false") -> str:
    cells = (subject, item // 100, item % 100, item, 0.5, n400, rejected, word, -3.5, len(word), "false")
    return "\t".join(map(str, cells))


def served(monkeypatch: pytest.MonkeyPatch, folder: Path, lines: list[str]) -> Dataset:
    archive = folder / "frank2015"
    archive.mkdir()
    (archive / "data_EEG.csv").write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8-sig")
    for name in ("README.txt", "LICENSE"):
        (archive / name).write_text("notes")
    serve_miniature(monkeypatch, archive)
    return frank2015(subjects=["1", "2"])


def test_quotation_marks_and_empty_cells_are_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [row(1, 101, '"NA'), row(1, 102, "null", "", "true"), row(2, 102, "null"), row(2, 101, '"NA', "-2")]
    data = served(monkeypatch, tmp_path, lines)
    assert data.stimuli["sentences"].words["text"].tolist() == ['"NA', "null"]
    np.testing.assert_array_equal(amplitudes(data), np.array([[1.5, np.nan], [-2, 1.5]], dtype=np.float32))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([row(1, 101), row(1, 102), row(2, 101)], "subject 2 has 1 rows; expected one of each item"),
        ([row(1, 101), row(1, 101), row(2, 101)], "subject 1 has 2 rows; expected one of each item"),
        ([row(1, 101, n400="large"), row(2, 101)], "'N400' is not numbers"),
        ([row(1, 101, rejected="maybe"), row(2, 101)], "'reject_data' is not true or false"),
        ([row(1, 101), row(2, 101) + "\tmore"], r"not the archive's table.*line 3"),
    ],
    ids=["a missing trial", "a trial twice", "text for a number", "neither true nor false", "too many cells"],
)
def test_a_malformed_table_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], message: str
) -> None:
    data = served(monkeypatch, tmp_path, lines)
    with pytest.raises(DataError, match=message):
        amplitudes(data)


def test_a_missing_column_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = served(monkeypatch, tmp_path, [row(1, 101), row(2, 101)])
    path = tmp_path / "frank2015" / "data_EEG.csv"
    path.write_text(path.read_text(encoding="utf-8-sig").replace("N400", "P600"))
    data = frank2015(subjects=["1"])
    with pytest.raises(DataError, match=r"data_EEG\.csv: no column 'N400'"):
        amplitudes(data)


def test_a_copy_whose_bytes_are_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data_EEG.csv").write_bytes(b"x" * 2_628_905)
    data = load_dataset("frank2015", root=tmp_path)
    with pytest.raises(ChecksumError, match="expected SHA-256 abb214db"):
        data.recordings()


def test_nothing_is_read_before_it_is_asked_for() -> None:
    data = frank2015(subjects=["3", "7"])
    assert list(itertools.chain(data.subjects, data.stimuli)) == ["3", "7", "sentences"]
