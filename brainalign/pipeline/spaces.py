"""The feature spaces that a study is given: stages, or functions of a stimulus; and whose recordings are whose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from brainalign.errors import RecipeError
from brainalign.features import own_space
from brainalign.types import Extractor, Recording, Stimulus

__all__ = ["Space", "by_subject", "check_features", "spaces_of"]

# A stage of brainalign.features, or a function of one's own that gives an array of shape (word, dimension) or the like.
Space = Extractor | Callable[[Stimulus], Any]


def check_features(features: Space | Sequence[Space]) -> None:
    """Raise a RecipeError, before anything is read, if these are no features or two have one name."""
    given = _listed(features)
    for space in given:
        if not hasattr(space, "extract") and (isinstance(space, type) or not callable(space)):
            raise RecipeError(
                f"features are stages such as LanguageModel('gpt2'), or functions of a stimulus, not {space!r}."
            )
    _check_names([space.name for space in given if isinstance(space, Extractor)])


def spaces_of(features: Space | Sequence[Space], stimuli: Mapping[str, Stimulus]) -> list[Extractor]:
    """The feature spaces, those that are functions computed.

    Raises
    ------
    RecipeError
        If two have one name, or a stimulus lacks what one cannot do without.
    """
    spaces = [space if isinstance(space, Extractor) else own_space(space, stimuli) for space in _listed(features)]
    _check_names([space.name for space in spaces])
    for space in spaces:
        _check_needs(space, stimuli)
    return spaces


def by_subject(recordings: Sequence[Recording]) -> dict[str, list[Recording]]:
    """Each subject's recordings, in the order in which subjects first appear."""
    subjects: dict[str, list[Recording]] = {}
    for recording in recordings:
        subjects.setdefault(recording.subject, []).append(recording)
    return subjects


def _listed(features: Space | Sequence[Space]) -> list[Space]:
    return list(features) if isinstance(features, Sequence) and not isinstance(features, str) else [features]


def _check_names(names: Sequence[str]) -> None:
    """Raise a RecipeError if two feature spaces would stand under one name."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RecipeError(
            f"features: two feature spaces are called '{twice}'. Give one a `name` of its own (in Python: "
            "Named('mine', space)), or ask for several layers of one model in one entry."
        )


def _check_needs(space: Extractor, stimuli: Mapping[str, Stimulus]) -> None:
    """Raise a RecipeError if a stimulus lacks what a feature space cannot do without."""
    lacks = {
        "sentences": lambda stimulus: "sentence" not in stimulus.words,
        "sound": lambda stimulus: stimulus.audio is None,
    }
    mends = {
        "sentences": "a column `sentence` in its words, with a number for each sentence",
        "sound": "its audio",
    }
    for need in getattr(space, "needs", ()):
        lacking = next((name for name, stimulus in stimuli.items() if lacks[need](stimulus)), None)
        if lacking is not None:
            raise RecipeError(
                f"features: '{space.name}' needs {need}, and stimulus '{lacking}' has none: it needs {mends[need]}."
            )
