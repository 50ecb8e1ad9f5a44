from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wheels import folder_of_wheel

from brainalign.errors import DataError, DataWarning, RecipeError
from brainalign.features.phonemes import CLASS_OF, PhonemeOnsets, Phonemes, PronouncingDictionary
from brainalign.types import Stimulus

DICTIONARY = """\
;;; a comment, as in CMUdict
'TIS  T IH1 Z
ALICE  AE1 L AH0 S
ALICE(1)  AE1 L IH0 S
CAT  K AE1 T
DOG  D AO1 G
the DH AH
the(2) DH IY
read R EH1 D
read(2) R IY1 D
can't K AE1 N T
mr. M IH1 S T ER0
mother-in-law M AH1 DH ER0 IH2 N L AO1
well W EH1 L
known N OW1 N # place, invented
forty F AO1 R T IY0
two T UW1
one W AH1 N
thousand TH AW1 Z AH0 N D
's EH1 S
"""


@pytest.fixture
def dictionary(tmp_path: Path) -> Path:
    path = tmp_path / "small.dict"
    path.write_text(DICTIONARY)
    return path


@pytest.fixture
def pronouncing(dictionary: Path) -> PronouncingDictionary:
    return PronouncingDictionary.read(dictionary)


@pytest.fixture(scope="module")
def real_dictionary() -> Path:
    """The 126,052 words of the dictionary in the wheel of pocketsphinx."""
    folder = folder_of_wheel("wheel:pocketsphinx==5.1.1/pocketsphinx/model/en-us", ("*.dict",))
    return folder / "cmudict-en-us.dict"


def stimulus(
    texts: list[str], onset: list[float] | None = None, duration: float = 0.4, language: str = "en"
) -> Stimulus:
    onset = list(0.5 * np.arange(len(texts))) if onset is None else onset
    words = pd.DataFrame({"onset": onset, "duration": duration, "text": texts})
    return Stimulus("s", words, language=language)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Alice", "AE L AH S"),
        ("ALICE", "AE L AH S"),
        (" alice ", "AE L AH S"),
        ("\u201cAlice,\u201d", "AE L AH S"),
        ("'Alice!'", "AE L AH S"),
        ("the", "DH AH"),
        ("read", "R EH D"),
        ("can't", "K AE N T"),
        ("can\u2019t", "K AE N T"),
        ("'tis", "T IH Z"),
        ("\u2018Tis", "T IH Z"),
        ("mr.", "M IH S T ER"),
        ("cat.", "K AE T"),
        ("cats'", None),
        ("Alice's", "AE L AH S AH Z"),
        ("cat's", "K AE T S"),
        ("dog\u2019s,", "D AO G Z"),
        ("dog'll", "D AO G AH L"),
        ("mother-in-law", "M AH DH ER IH N L AO"),
        ("mother-in-law's", "M AH DH ER IH N L AO Z"),
        ("well-known", "W EH L N OW N"),
        ("the\u2014dog", "DH AH D AO G"),
        ("well...known?", "W EH L N OW N"),
        ("cat/dog", "K AE T D AO G"),
        ("'s", "Z"),
        ("n't", "AH N T"),
        ("\u2014", ""),
        ("...", ""),
        ("known", "N OW N"),
    ],
)
def test_words_are_looked_up_whatever_stands_around_them(
    pronouncing: PronouncingDictionary, word: str, expected: str | None
) -> None:
    phonemes, is_known = pronouncing.pronounce(word)
    assert is_known == (expected is not None)
    if expected is not None:
        assert " ".join(phonemes) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("slithy", "S L AH TH AH"),
        ("time", "T AH M"),
        ("times", "T AH M S"),
        ("timed", "T AH M D"),
        ("wanted", "W AH N T AH D"),
        ("boxes", "B AH K S AH S"),
        ("tables", "T AH B L AH S"),
        ("little", "L AH T L AH"),
        ("caf\u00e9", "K AH F AH"),
        ("quick", "K W AH K"),
        ("yellow", "Y AH L AH"),
        ("hmm", "HH M AH"),
        ("well-slithy", "W EH L S L AH TH AH"),
        ("42", "F AO R T IY T UW"),
        ("1,001", "W AH N TH AW Z AH N D W AH N"),
        ("2nd", "T UW N D"),
        ("012", None),
    ],
)
def test_words_that_are_not_in_it_are_estimated_from_their_letters(
    pronouncing: PronouncingDictionary, word: str, expected: str | None
) -> None:
    phonemes, is_known = pronouncing.pronounce(word)
    assert not is_known
    if expected is not None:
        assert " ".join(phonemes) == expected


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=12))
def test_any_text_has_phonemes_of_the_arpabet_and_a_vowel_if_it_has_a_letter(word: str) -> None:
    phonemes, _ = PronouncingDictionary({"a": "AH"}).pronounce(word)
    assert set(phonemes) <= set(CLASS_OF)
    if any("a" <= sign <= "z" for sign in word.lower()):
        assert phonemes


def test_stress_digits_and_case_make_no_difference(tmp_path: Path) -> None:
    for name, text in (("with.dict", "NURSE  N ER1 S\n"), ("without.dict", "nurse N ER S\n")):
        (tmp_path / name).write_text(text)
    read = [PronouncingDictionary.read(tmp_path / name) for name in ("with.dict", "without.dict")]
    assert read[0] == read[1] == PronouncingDictionary({"nurse": "N ER S"})


def test_a_dictionary_in_latin_1_is_read(tmp_path: Path) -> None:
    (tmp_path / "old.dict").write_bytes("D\u00c9J\u00c0  D EY2 ZH AA1\n".encode("latin-1"))
    assert PronouncingDictionary.read(tmp_path / "old.dict").pronounce("d\u00e9j\u00e0") == (
        ("D", "EY", "ZH", "AA"),
        True,
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nurse N ER1 S\ndoctor D AA1 K QQ\n", "line 2 .*'QQ' is no phoneme"),
        ("nurse\n", "line 1 .*a word without phonemes"),
        ("\n;;; nothing\n", "holds no words"),
    ],
)
def test_what_is_no_dictionary_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bad.dict").write_text(content)
    with pytest.raises(DataError, match=message):
        PronouncingDictionary.read(tmp_path / "bad.dict")


def test_a_missing_dictionary_is_named(tmp_path: Path) -> None:
    for call in (
        Phonemes(tmp_path / "none.dict").fingerprint,
        lambda: Phonemes("none.dict", tmp_path).extract(stimulus(["a"])),
    ):
        with pytest.raises(DataError, match=r"none.dict: no such file"):
            call()


def test_counts_are_of_phonemes_and_vowels(dictionary: Path) -> None:
    features = Phonemes(dictionary).extract(stimulus(["Alice's", "mother-in-law", "\u2014"]))
    np.testing.assert_array_equal(features.values, [[[6, 3], [8, 4], [0, 0]]])
    assert features.kind == "word"
    assert features.metadata["dimensions"] == ["n_phonemes", "n_syllables"]
    assert (features.metadata["n_estimated"], features.metadata["share_estimated"]) == (0, 0.0)


def test_estimated_words_are_named_and_counted(dictionary: Path) -> None:
    with pytest.warns(DataWarning, match=r"'s': 2 of 5 words \(40.0%\) are not in small.dict: slithy. Their phonemes"):
        features = Phonemes(dictionary).extract(stimulus(["slithy", "cat", "slithy", "dog", "the"]))
    assert (features.metadata["n_estimated"], features.metadata["share_estimated"]) == (2, 0.4)
    np.testing.assert_array_equal(features.values[0, 0], [5, 2])


def test_only_so_many_words_are_named(dictionary: Path) -> None:
    strange = [f"zz{letter}" for letter in "abcdefghijkl"]
    with pytest.warns(DataWarning, match=r": zza, .*zzj and 2 more\."):
        Phonemes(dictionary).extract(stimulus([*strange, *["cat"] * 12]))


def test_a_text_mostly_outside_the_dictionary_is_refused(dictionary: Path) -> None:
    with pytest.raises(DataError, match="More than half: is it the right dictionary"):
        Phonemes(dictionary).extract(stimulus(["toves", "gyre", "cat"]))


def test_other_languages_are_refused(dictionary: Path) -> None:
    with pytest.raises(DataError, match="language 'nl'"):
        PhonemeOnsets(dictionary).extract(stimulus(["kat"], language="nl"))


def test_onsets_divide_each_word_evenly(dictionary: Path) -> None:
    features = PhonemeOnsets(dictionary, rate_hz=10).extract(stimulus(["Alice", "cat"], onset=[0.1, 0.8], duration=0.6))
    # Alice: .1 .25 .4 .55; cat: .8 1. 1.2
    expected = np.bincount([1, 2, 4, 5, 8, 10, 12], minlength=14)
    np.testing.assert_array_equal(features.values[0, :, 0], expected)
    np.testing.assert_allclose(features.onset_s, np.arange(14) / 10)
    np.testing.assert_allclose(features.duration_s, 0.1)
    assert features.kind == "signal"
    assert features.metadata["times"].startswith("estimated")


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["alice", "cat", "dog", "the", "..."]), min_size=1), st.floats(1.0, 1000.0), st.data())
def test_every_phoneme_begins_in_one_stretch_however_they_are_divided(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], rate_hz: float, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "small.dict"
    path.write_text(DICTIONARY)
    gaps = data.draw(st.lists(st.floats(0.0, 1.0), min_size=len(texts), max_size=len(texts)))
    duration = data.draw(st.sampled_from([0.0, 0.3]))
    of = stimulus(texts, onset=list(np.cumsum(gaps)), duration=duration)
    counts = Phonemes(path).extract(of).values[0]
    by = {way: PhonemeOnsets(path, way, rate_hz).extract(of) for way in ("all", "class", "phoneme")}
    for features, n_columns in zip(by.values(), (1, 6, 39), strict=True):
        assert features.values.shape[2] == n_columns == len(features.metadata["dimensions"])
        assert features.values.sum() == counts[:, 0].sum()
        np.testing.assert_array_equal(features.values.sum(axis=2), by["all"].values[..., 0])
    vowels = by["class"].metadata["dimensions"].index("vowel")
    assert by["class"].values[..., vowels].sum() == counts[:, 1].sum()


def test_each_phoneme_counts_in_its_own_column(dictionary: Path) -> None:
    features = PhonemeOnsets(dictionary, "phoneme", 10).extract(stimulus(["cat"], duration=0.3))
    dimensions = features.metadata["dimensions"]
    assert [dimensions[column] for column in features.values[0].argmax(axis=1)] == ["K", "AE", "T"]


@pytest.mark.parametrize(
    ("by", "rate_hz", "message"),
    [("klass", 100.0, "Did you mean 'class'"), ("all", 0.0, "more than 0"), ("all", np.nan, "more than 0")],
)
def test_settings_that_cannot_be_are_refused(by: str, rate_hz: float, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        PhonemeOnsets("any.dict", by, rate_hz)  # type: ignore[arg-type]


def test_fingerprints_know_the_dictionary_by_its_content(tmp_path: Path, dictionary: Path) -> None:
    copy = tmp_path / "moved" / "other-name.dict"
    copy.parent.mkdir()
    copy.write_text(DICTIONARY)
    for make in (Phonemes, PhonemeOnsets, lambda path: PhonemeOnsets(path, "class")):
        one = make(dictionary).fingerprint()
        assert json.loads(json.dumps(one)) == one == make(copy).fingerprint()
    copy.write_text(DICTIONARY + "new N UW\n")
    assert Phonemes(copy).fingerprint() != Phonemes(dictionary).fingerprint()
    assert PhonemeOnsets(dictionary).fingerprint() != PhonemeOnsets(dictionary, rate_hz=50.0).fingerprint()


@pytest.mark.slow
def test_the_real_dictionary_knows_real_words(real_dictionary: Path) -> None:
    pronouncing = PronouncingDictionary.read(real_dictionary)
    assert len(pronouncing.entries) == 126_052
    for word, n_phonemes, n_syllables in (
        ("Alice\u2019s", 6, 3),
        ("rabbit-hole", 8, 3),
        ("\u201cCuriouser,\u201d", 8, 4),
        ("o'clock", 5, 2),
        ("daisy-chain;", 7, 3),
        ("The", 2, 1),
        ("Mr.", 5, 2),
    ):
        phonemes, is_known = pronouncing.pronounce(word)
        counts = len(phonemes), sum(CLASS_OF[p] == "vowel" for p in phonemes)
        assert (is_known, counts) == (True, (n_phonemes, n_syllables)), (word, phonemes)


@pytest.mark.slow
def test_estimates_from_letters_are_close_to_the_real_dictionary(real_dictionary: Path) -> None:
    known = PronouncingDictionary.read(real_dictionary)
    unknown = PronouncingDictionary({"zzz": "Z"})
    words = [word for word in list(known.entries)[::10] if word.isalpha()]

    def counts(of: Callable[[str], tuple[tuple[str, ...], bool]]) -> np.ndarray:
        spoken = [of(word)[0] for word in words]
        return np.array([(len(p), sum(CLASS_OF[phoneme] == "vowel" for phoneme in p)) for p in spoken])

    error = np.abs(counts(unknown.pronounce) - counts(known.pronounce))
    assert (error == 0).mean(axis=0)[1] > 0.87
    assert ((error <= 1).mean(axis=0) > 0.97).all()


@pytest.mark.slow
def test_a_story_is_nearly_all_in_the_real_dictionary(real_dictionary: Path, shared: Path) -> None:
    from brainalign.reading import read_words

    path = shared / "datasets" / "alice" / "alice_stim_shared" / "DownTheRabbitHoleFinal_exp120_pad_1.TextGrid"
    alice = Stimulus("alice", read_words(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        features = Phonemes(real_dictionary).extract(alice)
    assert features.metadata["share_estimated"] < 0.02
    assert 3.0 < features.values[0, :, 0].mean() < 3.6
    letters = np.array([len(word) for word in alice.words["text"]])
    assert np.corrcoef(features.values[0, :, 0], letters)[0, 1] > 0.85


def test_recipes_can_set_them() -> None:
    from brainalign.config import build, settings_of

    for stage in (Phonemes("small.dict", Path("somewhere")), PhonemeOnsets("small.dict", by="class")):
        assert build(type(stage), settings_of(stage), "features.0") == stage
