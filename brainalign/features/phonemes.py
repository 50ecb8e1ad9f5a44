"""The sounds of words, from a pronouncing dictionary: how many each word has, and about when each begins."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from brainalign.archives.wheel_files import file_in_wheel
from brainalign.errors import DataError, DataWarning, RecipeError, nearest
from brainalign.files import sha256_of_file
from brainalign.types import Features, Stimulus, StimulusPart

__all__ = ["PhonemeOnsets", "Phonemes", "PronouncingDictionary"]

CODE_VERSION = 1

CLASSES: Mapping[str, tuple[str, ...]] = {
    "vowel": ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"),
    "stop": ("B", "D", "G", "K", "P", "T"),
    "affricate": ("CH", "JH"),
    "fricative": ("DH", "F", "HH", "S", "SH", "TH", "V", "Z", "ZH"),
    "nasal": ("M", "N", "NG"),
    "approximant": ("L", "R", "W", "Y"),
}
CLASS_OF: Mapping[str, str] = {phoneme: name for name, phonemes in CLASSES.items() for phoneme in phonemes}

# The column that each phoneme counts in, for each way to divide them into columns.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "all": dict.fromkeys(CLASS_OF, "phoneme onsets"),
    "class": CLASS_OF,
    "phoneme": {phoneme: phoneme for phoneme in CLASS_OF},
}

SIBILANTS = ("CH", "JH", "S", "SH", "Z", "ZH")
VOICELESS = ("F", "K", "P", "T", "TH")
# What is written together with the word before it, and is not in every dictionary with every word.
CLITICS: Mapping[str, tuple[str, ...]] = {
    "n't": ("AH", "N", "T"),
    "'s": ("Z",),
    "'m": ("M",),
    "'d": ("D",),
    "'ll": ("AH", "L"),
    "'re": ("ER",),
    "'ve": ("V",),
}

# Letters that are spoken as one sound or otherwise than one by one; the first that fits, from left to right.
GRAPHEMES: Mapping[str, tuple[str, ...]] = {
    "tch": ("CH",),
    "sch": ("SH",),
    "ch": ("CH",),
    "ck": ("K",),
    "gh": (),
    "kn": ("N",),
    "ng": ("NG",),
    "ph": ("F",),
    "qu": ("K", "W"),
    "sh": ("SH",),
    "th": ("TH",),
    "wh": ("W",),
    "wr": ("R",),
    "x": ("K", "S"),
    **{letter: (letter.upper(),) for letter in "bdfgklmnprstvwz"},
    **{"c": ("K",), "h": ("HH",), "j": ("JH",), "q": ("K",)},
}
ESTIMATED = re.compile(
    r"(?P<Y>y(?=[aeiou]))|(?P<ER>[eiu]r(?![aeiouy]))|(?P<AH>[aeiou]+(y|w(?![aeiou]))?|y)|" + "|".join(GRAPHEMES)
)
# At the end of a word, after a consonant: "time", "times", "timed", but not "little", "tables", "boxes", "wanted".
SILENT_E = re.compile(r"(?<=[^aeiouy])(?<![^aeiouyrl]l)(e$|e(?=d$)(?<![dt]e)|e(?=s$)(?<![cgsxz]e)(?<![cs]he))")

ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")

# A stimulus with more of its words estimated than this is not in the dictionary's language.
MOST_ESTIMATED = 0.5
# So many words are named in a warning.
NAMED = 10


@dataclass(frozen=True)
class PronouncingDictionary:
    """Words and their phonemes, in the ARPAbet.

    Of a word with several pronunciations the first in the file counts. Stress is left out.

    Parameters
    ----------
    entries : mapping of str to str
        Phonemes, joined by blanks, by the word in lower case.

    Examples
    --------
    >>> dictionary = PronouncingDictionary({"alice": "AE L AH S", "well": "W EH L", "known": "N OW N"})
    >>> dictionary.pronounce("Alice's,")
    (('AE', 'L', 'AH', 'S', 'AH', 'Z'), True)
    >>> dictionary.pronounce("well-known")
    (('W', 'EH', 'L', 'N', 'OW', 'N'), True)
    >>> dictionary.pronounce("slithy")
    (('S', 'L', 'AH', 'TH', 'AH'), False)
    """

    entries: Mapping[str, str]

    @classmethod
    def read(cls, path: Path | str) -> PronouncingDictionary:
        """Read a dictionary in the format of CMUdict: a word and its phonemes in each line, with stress or without.

        Variants are marked ``word(2)``. Lines that begin with ``;;;`` and what follows a ``#`` are comments.

        Raises
        ------
        DataError
            If there is no such file, it holds no entry, or a line is none.
        """
        entries: dict[str, str] = {}
        for number, line in enumerate(_lines(Path(path)), start=1):
            # A word may begin with "#"; a comment stands after phonemes.
            word, *phonemes = line.partition(" #")[0].split() or [""]
            if not word or word.startswith(";;;"):
                continue
            phonemes = [phoneme.rstrip("012") for phoneme in phonemes]
            unknown = [phoneme for phoneme in phonemes if phoneme not in CLASS_OF]
            if unknown or not phonemes:
                what = f"'{unknown[0]}' is no phoneme of the ARPAbet" if unknown else "a word without phonemes"
                raise DataError(f"{path}, line {number} ({line.strip()[:60]!r}): {what}; expected 'nurse N ER1 S'.")
            entries.setdefault(re.sub(r"\(\d+\)$", "", word).lower(), " ".join(phonemes))
        if not entries:
            raise DataError(f"{path}: holds no words.")
        return cls(entries)

    def pronounce(self, word: str) -> tuple[tuple[str, ...], bool]:
        """The phonemes of a word, and whether they are the dictionary's; else they are estimated.

        The word is looked up as it is in lower case, then without the punctuation around it, then without a clitic
        ("'s", "n't" ...), whose phonemes are added, then in the parts that hyphens and the like separate. What is still
        not found is estimated from its letters: a group of vowels is one vowel (but for a silent e at the end), every
        other letter one consonant, but for usual pairs ("th", "ck"); there is at least one vowel. Numbers are read as
        cardinal numbers, which years and ordinals are not, so they too count as estimated. What has neither letters
        nor digits has no phonemes.
        """
        word = re.sub("[\u2018\u2019]", "'", unicodedata.normalize("NFKC", word)).strip().lower()
        word = re.sub(r"(?<=\d),(?=\d{3})", "", word)
        # A clitic in a row of its own: dictionaries have "'s" as the name of the letter.
        known = list(CLITICS[word]) if word in CLITICS else self._known(word)
        if known is not None:
            return tuple(known), True
        parts = [part for part in re.split(r"[^\w'.]+|_|\.{2,}", word) if re.search(r"\w", part)]
        if len(parts) > 1:
            spoken = [self.pronounce(part) for part in parts]
            return tuple(p for phonemes, _ in spoken for p in phonemes), all(known for _, known in spoken)
        bare = re.sub(r"^\W+|\W+$", "", parts[0]) if parts else ""
        return tuple(self._estimated(bare)), not bare

    def _known(self, word: str) -> list[str] | None:
        """What the dictionary has of a word, with punctuation around it or a clitic at its end."""
        bare = re.sub(r"^\W+|\W+$", "", word)
        for form in (word, bare):
            if form in self.entries:
                return self.entries[form].split()
        for clitic, phonemes in CLITICS.items():
            stem = bare.removesuffix(clitic)
            if stem != bare and stem in self.entries:
                spoken = self.entries[stem].split()
                return spoken + (_s_after(spoken[-1]) if clitic == "'s" else list(phonemes))
        return None

    def _estimated(self, word: str) -> list[str]:
        """Phonemes from the letters of a word, and from the names of numbers."""
        phonemes: list[str] = []
        for number, letters in re.findall(r"(\d+)|([^\W\d_]+)", word):
            for name in _number_names(number):
                phonemes += self._known(name) or _from_letters(name)
            phonemes += _from_letters(letters)
        return phonemes if not word or any(CLASS_OF[p] == "vowel" for p in phonemes) else [*phonemes, "AH"]


@dataclass(frozen=True)
class Phonemes:
    r"""Extract how many phonemes and syllables each word has: two columns, not centred.

    A syllable is a vowel. Words that the dictionary has not are estimated from their letters (see
    `PronouncingDictionary.pronounce`): a DataWarning names them, and the metadata has ``n_estimated`` and
    ``share_estimated``, of the stimulus's words.

    Parameters
    ----------
    dictionary : Path or str
        A file in the format of CMUdict (see `PronouncingDictionary.read`), or one inside a wheel:
        ``wheel:pocketsphinx==5.1.1/pocketsphinx/model/en-us/cmudict-en-us.dict``.
    root : Path, optional
        What a relative path is relative to; the working folder by default.

    Raises
    ------
    DataError
        On extraction, if the dictionary cannot be read, the stimulus is not English, or more than half of its words
        are not in the dictionary.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> words = pd.DataFrame({"onset": [0.0, 0.5], "duration": [0.4, 0.5], "text": ["hello", "nurse"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "small.dict").write_text("hello HH AH0 L OW1\nnurse N ER1 S\n")
    ...     Phonemes("small.dict", root=Path(folder)).extract(Stimulus("greeting", words)).values[0]
    array([[4., 2.],
           [3., 1.]], dtype=float32)
    """

    dictionary: Path | str
    root: Path | None = None

    reads: ClassVar[tuple[StimulusPart, ...]] = ("text",)
    dimensions: ClassVar[tuple[str, ...]] = ("n_phonemes", "n_syllables")

    @property
    def name(self) -> str:
        """The feature space's name: "phonemes"."""
        return "phonemes"

    def fingerprint(self) -> dict[str, Any]:
        """All that the values depend on besides the stimulus; reads the dictionary for its digest."""
        return {"kind": "phonemes", "dictionary": _digest(self.dictionary, self.root), "code": CODE_VERSION}

    def extract(self, stimulus: Stimulus) -> Features:
        """Give each word's counts; the metadata's ``dimensions`` name the columns."""
        spoken, metadata = _spoken(stimulus, self.dictionary, self.root)
        counts = [(len(phonemes), sum(CLASS_OF[p] == "vowel" for p in phonemes)) for phonemes in spoken]
        return Features(
            name=self.name,
            layers=(self.name,),
            values=np.array(counts, dtype=np.float32)[None],
            onset_s=stimulus.words["onset"].to_numpy(dtype=float, copy=True),
            duration_s=stimulus.words["duration"].to_numpy(dtype=float, copy=True),
            metadata={"dimensions": list(self.dimensions), **metadata},
        )


@dataclass(frozen=True)
class PhonemeOnsets:
    r"""Extract how many phonemes begin in each stretch of ``1 / rate_hz`` seconds, at estimated times.

    The times are not measured: each word's duration is divided evenly among its phonemes. For exact times align sound
    and text with a forced aligner. Words that the dictionary has not are estimated as in `Phonemes`.

    Parameters
    ----------
    dictionary : Path or str
        A file in the format of CMUdict (see `PronouncingDictionary.read`), or one inside a wheel:
        ``wheel:pocketsphinx==5.1.1/pocketsphinx/model/en-us/cmudict-en-us.dict``.
    by : {"all", "class", "phoneme"}
        One column for all phonemes; one for each class (vowel, stop, affricate, fricative, nasal, approximant); or one
        for each of the 39 phonemes of the ARPAbet.
    rate_hz : float
        Stretches per second. They begin with the stimulus and end with its last word.
    root : Path, optional
        What a relative path is relative to; the working folder by default.

    Raises
    ------
    RecipeError
        On construction, if a setting cannot be.
    DataError
        On extraction, as `Phonemes`.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> words = pd.DataFrame({"onset": [0.0, 0.5], "duration": [0.4, 0.3], "text": ["hello", "nurse"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "small.dict").write_text("hello HH AH0 L OW1\nnurse N ER1 S\n")
    ...     onsets = PhonemeOnsets("small.dict", rate_hz=10, root=Path(folder)).extract(Stimulus("greeting", words))
    >>> onsets.values[0, :, 0]
    array([1., 1., 1., 1., 0., 1., 1., 1.], dtype=float32)
    """

    dictionary: Path | str
    by: Literal["all", "class", "phoneme"] = "all"
    rate_hz: float = 100.0
    root: Path | None = None

    reads: ClassVar[tuple[StimulusPart, ...]] = ("text", "times")

    def __post_init__(self) -> None:
        if self.by not in COLUMNS:
            raise RecipeError(f"by: there is no '{self.by}'. {nearest(self.by, COLUMNS)}")
        if not (np.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise RecipeError(f"rate_hz: more than 0, not {self.rate_hz:g}.")

    @property
    def name(self) -> str:
        """The feature space's name: "phoneme onsets", and by what."""
        return "phoneme onsets" + ("" if self.by == "all" else f" by {self.by}")

    def fingerprint(self) -> dict[str, Any]:
        """All that the values depend on besides the stimulus; reads the dictionary for its digest."""
        return {
            "kind": "phoneme_onsets",
            "dictionary": _digest(self.dictionary, self.root),
            "by": self.by,
            "rate_hz": self.rate_hz,
            "code": CODE_VERSION,
        }

    def extract(self, stimulus: Stimulus) -> Features:
        """Give the onsets in each stretch: kind "signal"; the metadata's ``dimensions`` name the columns."""
        spoken, metadata = _spoken(stimulus, self.dictionary, self.root)
        onset_s, duration_s = stimulus.words[["onset", "duration"]].to_numpy(dtype=float).T
        each = zip(onset_s, duration_s, spoken, strict=True)
        times = np.concatenate([onset + duration * np.arange(len(p)) / max(len(p), 1) for onset, duration, p in each])
        column_of = COLUMNS[self.by]
        dimensions = list(dict.fromkeys(column_of.values()))
        columns = np.array([dimensions.index(column_of[p]) for phonemes in spoken for p in phonemes], dtype=np.intp)
        # A time that is a border but for rounding belongs to the stretch that begins there.
        stretches = np.floor(times * self.rate_hz + 1e-6).astype(np.intp)
        n_stretches = max(int(np.ceil(stimulus.duration_s * self.rate_hz - 1e-6)), int(stretches.max(initial=0)) + 1)
        counts = np.bincount(stretches * len(dimensions) + columns, minlength=n_stretches * len(dimensions))
        return Features(
            name=self.name,
            layers=(self.name,),
            values=counts.reshape(1, n_stretches, len(dimensions)).astype(np.float32),
            onset_s=np.arange(n_stretches) / self.rate_hz,
            duration_s=np.full(n_stretches, 1 / self.rate_hz),
            kind="signal",
            metadata={
                "rate_hz": self.rate_hz,
                "dimensions": dimensions,
                "times": "estimated: each word's duration divided evenly among its phonemes",
                **metadata,
            },
        )


def _spoken(
    stimulus: Stimulus, dictionary: Path | str, root: Path | None
) -> tuple[list[tuple[str, ...]], dict[str, Any]]:
    """The phonemes of each word, and how many words' are estimated."""
    if stimulus.language != "en":
        raise DataError(
            f"stimulus '{stimulus.id}' is in the language '{stimulus.language}'; the ARPAbet has only the phonemes of "
            "English."
        )
    path = _placed(dictionary, root)
    pronouncing = PronouncingDictionary.read(path)
    texts = [str(text).strip() for text in stimulus.words["text"]]
    pronounced = {text: pronouncing.pronounce(text) for text in dict.fromkeys(texts)}
    estimated = [text for text in texts if not pronounced[text][1]]
    if estimated:
        _tell(stimulus.id, path.name, estimated, len(texts))
    facts = {"dictionary": path.name, "n_estimated": len(estimated), "share_estimated": len(estimated) / len(texts)}
    return [pronounced[text][0] for text in texts], facts


def _tell(stimulus: str, dictionary: str, estimated: Sequence[str], n_words: int) -> None:
    """Warn of words that are not in the dictionary; raise if there are too many."""
    kinds = list(dict.fromkeys(estimated))
    names = ", ".join(kinds[:NAMED]) + (f" and {len(kinds) - NAMED} more" if len(kinds) > NAMED else "")
    what = (
        f"stimulus '{stimulus}': {len(estimated)} of {n_words} words ({len(estimated) / n_words:.1%}) are not in "
        f"{dictionary}: {names}"
    )
    if len(estimated) > MOST_ESTIMATED * n_words:
        raise DataError(f"{what}. More than half: is it the right dictionary, and is the text in its language?")
    warnings.warn(f"{what}. Their phonemes are estimated from their letters.", DataWarning, stacklevel=4)


def _s_after(phoneme: str) -> list[str]:
    """How "'s" is spoken after a phoneme: horse's, cat's, dog's."""
    if phoneme in SIBILANTS:
        return ["AH", "Z"]
    return ["S"] if phoneme in VOICELESS else ["Z"]


def _from_letters(letters: str) -> list[str]:
    """A rough pronunciation of letters of the Latin alphabet, whatever their accents; see `pronounce`."""
    if re.search("[aeiouy].*[^aeiouy]e[ds]?$", letters):
        letters = SILENT_E.sub("", letters)
    plain = "".join(sign for sign in unicodedata.normalize("NFD", letters) if "a" <= sign <= "z")
    # Of two equal consonants one is spoken.
    plain = re.sub(r"([^aeiouy])\1", r"\1", plain)
    phonemes: list[str] = []
    for match in ESTIMATED.finditer(plain):
        named = match.lastgroup
        phonemes += [named] if named else GRAPHEMES[match.group()]
    return phonemes


def _number_names(digits: str) -> list[str]:
    """The words of a cardinal number; digit by digit from a billion on, and where it begins with 0."""
    if not digits:
        return []
    if len(digits) > 9 or (digits.startswith("0") and len(digits) > 1):
        return [ONES[int(digit)] for digit in digits]
    return _cardinal(int(digits))


def _cardinal(number: int) -> list[str]:
    """The words of a number below a billion.

    >>> " ".join(_cardinal(40_112))
    'forty thousand one hundred twelve'
    """
    if number < 20:
        return [ONES[number]]
    if number < 100:
        return [TENS[number // 10 - 2], *(_cardinal(number % 10) if number % 10 else [])]
    size, name = next(
        (size, name) for size, name in ((10**6, "million"), (1000, "thousand"), (100, "hundred")) if number >= size
    )
    return [*_cardinal(number // size), name, *(_cardinal(number % size) if number % size else [])]


def _placed(dictionary: Path | str, root: Path | None) -> Path:
    if str(dictionary).startswith("wheel:"):
        return file_in_wheel(str(dictionary), (".dict", ".txt"))
    return (Path() if root is None else root) / Path(dictionary).expanduser()


def _digest(dictionary: Path | str, root: Path | None) -> str:
    path = _placed(dictionary, root)
    _require(path)
    return sha256_of_file(path)


def _require(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: no such file; a pronouncing dictionary in the format of CMUdict is needed.")


def _lines(path: Path) -> list[str]:
    """The lines of a file, in UTF-8, or in Latin-1, which CMUdict was long in."""
    _require(path)
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        return content.decode("latin-1").splitlines()
