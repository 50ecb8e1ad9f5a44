"""Words of forced alignment: gentle's two forms and CTM, real ones among them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from brainalign.errors import DataError
from brainalign.reading import read_words
from brainalign.reading.aligned_words import read_ctm, read_gentle, untimed_words


@pytest.fixture
def story(shared: Path) -> Path:
    return shared / "datasets" / "real" / "ds002345_narratives" / "gentle_notthefall"


def test_the_real_story_keeps_its_words_and_the_times_of_those_that_were_found(story: Path) -> None:
    words = read_gentle(story / "itsnotthefall.json")
    truth = json.loads((story / "itsnotthefall.json").read_text(encoding="utf-8"))["words"]
    assert words["text"].tolist() == [entry["word"] for entry in truth]
    assert words["timed"].sum() == 1561
    found = [entry for entry in truth if entry["case"] == "success"]
    np.testing.assert_allclose(words["onset"][words["timed"]], [entry["start"] for entry in found], atol=1e-9)
    assert words["onset"].is_monotonic_increasing


def test_both_of_gentles_forms_say_the_same_of_the_real_story(story: Path) -> None:
    left, right = read_gentle(story / "itsnotthefall.json"), read_gentle(story / "itsnotthefall.csv")
    assert left["text"].tolist() == right["text"].tolist()
    assert left["timed"].tolist() == right["timed"].tolist()
    np.testing.assert_allclose(left["onset"], right["onset"], atol=1e-3)


def test_words_that_were_not_found_are_named(story: Path) -> None:
    words = read_words(story / "itsnotthefall.json")
    [finding] = untimed_words(words, "notthefall")
    assert finding.code == "untimed-words"
    assert "40 of 1601 words (2.5%)" in finding.message
    assert untimed_words(words[words["timed"]], "notthefall") == ()


def test_ctm_gives_words_and_leaves_comments_and_silences_out(tmp_path: Path) -> None:
    path = tmp_path / "story.ctm"
    path.write_text(";; made by hand\nstory 1 0.50 0.25 Once 0.9\nstory 1 0.75 0.10 <eps>\nstory 1 0.85 0.40 upon\n")
    words = read_ctm(path)
    assert words["text"].tolist() == ["Once", "upon"]
    np.testing.assert_allclose(words[["onset", "duration"]], [[0.5, 0.25], [0.85, 0.4]])
    assert read_words(path)["text"].tolist() == ["Once", "upon"]


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("a.ctm", "story 1 zero 0.2 Once\n", r"a\.ctm, line 1"),
        ("a.ctm", "story 1 0.1 0.2\n", r"a\.ctm, line 1"),
        ("a.ctm", ";; nothing\n", "no words"),
        ("a.json", "{}", "not what gentle writes"),
        ("a.json", '{"words": [{"word": "So", "case": "success"}]}', "not what gentle writes"),
        ("a.json", '{"words": [{"word": "So", "case": "not-found-in-audio"}]}', "none of 1 words has a time"),
        ("a.json", "So,so,0.1,0.2", "not what gentle writes"),
        ("align.csv", "So,so,0.1,0.2\nI,i,0.3\n", r"align\.csv, line 2"),
        ("align.csv", "word,aligned,begin,stop\n", r"align\.csv, line 1"),
        ("align.csv", "\n", "no words"),
    ],
)
def test_what_is_no_such_file_is_named_with_its_line(tmp_path: Path, name: str, text: str, match: str) -> None:
    (tmp_path / name).write_text(text)
    read = read_ctm if name.endswith("ctm") else read_gentle
    with pytest.raises(DataError, match=match):
        read(tmp_path / name)
