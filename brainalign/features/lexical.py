"""The simple properties of words that a language model has to beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign.errors import RecipeError, nearest
from brainalign.features.acoustic import SOUND_ENVELOPE
from brainalign.features.phonemes import Phonemes
from brainalign.types import Features, Floats, Stimulus

__all__ = ["BASELINES", "Baseline"]

CODE_VERSION = 1


@dataclass(frozen=True)
class Baseline:
    """Extract simple properties of words, all together as one feature space of one layer.

    =================  =================================================================================
    word_rate          1 for each word; the only column that is not centred, so that it carries the rate
    word_length        letters and digits in the word
    word_duration      seconds
    log_frequency      Zipf scale (log10 per billion words) of wordfreq in the stimulus's language; 0 for
                       words it does not know, which is below the rarest that it does
    pause_before       seconds between the end of the word before and the onset; 0 for the first, and
                       where the two overlap
    position           of the onset, from 0 at the first word's to 1 at the last's
    sentence_position  words before it in its sentence
    sentence_length    words of its sentence
    n_phonemes         of a pronouncing dictionary, or estimated from the letters where it has not the
                       word
    n_syllables        likewise
    =================  =================================================================================

    Parameters
    ----------
    names : tuple of str
        Of the properties, in the order of the columns; with none, the features have no dimension.
    dictionary : Path or str, optional
        A pronouncing dictionary, which `n_phonemes` and `n_syllables` need; see `brainalign.features.Phonemes`.

    Raises
    ------
    RecipeError
        On construction, if a name is unknown or stands twice, or needs a dictionary and there is none; on
        extraction, if `log_frequency` is asked for in a language that wordfreq has not, or a property of sentences
        where the words name none.
    DataError
        On extraction, if the dictionary cannot be read, or has not half of the words.

    Examples
    --------
    >>> import pandas as pd
    >>> words = pd.DataFrame({"onset": [0.0, 0.5], "duration": [0.25, 0.5], "text": ["so", "long"]})
    >>> Baseline(("word_rate", "word_length", "word_duration")).extract(Stimulus("s", words)).values[0]
    array([[ 1.   , -1.   , -0.125],
           [ 1.   ,  1.   ,  0.125]], dtype=float32)
    """

    names: tuple[str, ...]
    dictionary: Path | str | None = None

    def __post_init__(self) -> None:
        # From a recipe they come as a list.
        object.__setattr__(self, "names", tuple(self.names))
        for name in self.names:
            if name not in BASELINES:
                raise RecipeError(f"Unknown baseline '{name}'. {nearest(name, BASELINES)}")
            if BASELINES[name] != "word":
                raise RecipeError(f"Baseline '{name}' is a signal, not a property of words: use {name}(stimulus).")
        if len(set(self.names)) < len(self.names):
            raise RecipeError(f"A baseline names each property once, not {list(self.names)}.")
        if self._spoken and self.dictionary is None:
            raise RecipeError(
                f"Baseline '{self._spoken[0]}' needs a pronouncing dictionary: Baseline(names, dictionary=...); or "
                "leave it out."
            )

    @property
    def _spoken(self) -> tuple[str, ...]:
        """The properties that need a dictionary."""
        return tuple(name for name in self.names if name in Phonemes.dimensions)

    @property
    def name(self) -> str:
        """The feature space's name: "baseline"."""
        return "baseline"

    def fingerprint(self) -> dict[str, Any]:
        """All that the values depend on besides the stimulus."""
        spoken = {"phonemes": Phonemes(self.dictionary).fingerprint()} if self.dictionary and self._spoken else {}
        return {
            "kind": "baseline",
            "names": list(self.names),
            "wordfreq": version("wordfreq") if "log_frequency" in self.names else None,
            "code": CODE_VERSION,
            **spoken,
        }

    def extract(self, stimulus: Stimulus) -> Features:
        """Give the words' properties, one column each; the metadata's ``dimensions`` name the columns."""
        values = np.empty((1, len(stimulus.words), len(self.names)), dtype=np.float32)
        counts = self._phoneme_counts(stimulus)
        for column, name in enumerate(self.names):
            values[0, :, column] = _centred(name, counts[name] if name in counts else WORD_PROPERTIES[name](stimulus))
        return Features(
            name=self.name,
            layers=(self.name,),
            values=values,
            onset_s=stimulus.words["onset"].to_numpy(dtype=float, copy=True),
            duration_s=stimulus.words["duration"].to_numpy(dtype=float, copy=True),
            metadata={"dimensions": list(self.names)},
        )

    def _phoneme_counts(self, stimulus: Stimulus) -> dict[str, Floats]:
        """The properties that need the dictionary, by name; none where none is asked for."""
        if not self._spoken or self.dictionary is None:
            return {}
        counts = Phonemes(self.dictionary).extract(stimulus).values[0].astype(np.float64)
        return dict(zip(Phonemes.dimensions, counts.T, strict=True))


def _centred(name: str, values: Floats) -> Floats:
    return values if name == "word_rate" else values - values.mean()


def _word_rate(stimulus: Stimulus) -> Floats:
    return np.ones(len(stimulus.words))


def _word_length(stimulus: Stimulus) -> Floats:
    return np.array([float(sum(sign.isalnum() for sign in str(word))) for word in stimulus.words["text"]])


def _word_duration(stimulus: Stimulus) -> Floats:
    return stimulus.words["duration"].to_numpy(dtype=float)


def _log_frequency(stimulus: Stimulus) -> Floats:
    from wordfreq import zipf_frequency

    try:
        return np.array([zipf_frequency(str(word).strip(), stimulus.language) for word in stimulus.words["text"]])
    except LookupError as error:
        raise RecipeError(
            f"log_frequency: wordfreq has no words of the language '{stimulus.language}' of stimulus '{stimulus.id}'. "
            "Leave log_frequency out of the baseline."
        ) from error
    except ImportError as error:
        raise RecipeError(
            f"log_frequency in the language '{stimulus.language}' needs more packages ({error}): "
            "pip install 'wordfreq[cjk]'"
        ) from error


def _pause_before(stimulus: Stimulus) -> Floats:
    onset = stimulus.words["onset"].to_numpy(dtype=float)
    end = onset + stimulus.words["duration"].to_numpy(dtype=float)
    return np.r_[0.0, np.maximum(onset[1:] - end[:-1], 0.0)]


def _position(stimulus: Stimulus) -> Floats:
    since_first = stimulus.words["onset"].to_numpy(dtype=float) - float(stimulus.words["onset"].iloc[0])
    return since_first / (since_first[-1] or 1.0)


def _sentence_position(stimulus: Stimulus) -> Floats:
    sentences = _sentences(stimulus)
    return np.asarray(sentences.groupby(sentences).cumcount(), dtype=float)


def _sentence_length(stimulus: Stimulus) -> Floats:
    sentences = _sentences(stimulus)
    return sentences.groupby(sentences).transform("size").to_numpy(dtype=float)


def _sentences(stimulus: Stimulus) -> pd.Series:
    if "sentence" not in stimulus.words:
        raise RecipeError(
            f"sentence_position and sentence_length: stimulus '{stimulus.id}' has no column `sentence` in its words; "
            "leave them out of the baseline."
        )
    return stimulus.words["sentence"]


WORD_PROPERTIES: Mapping[str, Callable[[Stimulus], Floats]] = {
    "word_rate": _word_rate,
    "word_length": _word_length,
    "word_duration": _word_duration,
    "log_frequency": _log_frequency,
    "pause_before": _pause_before,
    "position": _position,
    "sentence_position": _sentence_position,
    "sentence_length": _sentence_length,
}

# Every property that a recipe may name, and the kind of its samples: "word", or "signal" for evenly spaced moments.
BASELINES: Mapping[str, str] = {
    **dict.fromkeys((*WORD_PROPERTIES, *Phonemes.dimensions), "word"),
    SOUND_ENVELOPE: "signal",
}
