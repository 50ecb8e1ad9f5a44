"""Which name in a recipe stands for which class: strings only, imported when first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from brainalign.errors import RecipeError, nearest

__all__ = ["ALIGNMENTS", "DATASETS", "ENCODERS", "FEATURES", "find"]

# The loader of a dataset's manifest; one per layout of files.
DATASETS: Mapping[str, str] = {
    "alice": "brainalign.datasets.alice:Alice",
    "arrays": "brainalign.datasets.arrays:Arrays",
    "lebel2023": "brainalign.datasets.lebel2023:LeBel2023",
    "simulated": "brainalign.simulate:Simulated",
}

FEATURES: Mapping[str, str] = {
    "language_model": "brainalign.features.language_model:LanguageModel",
    "phoneme_onsets": "brainalign.features.phonemes:PhonemeOnsets",
    "phonemes": "brainalign.features.phonemes:Phonemes",
    "precomputed": "brainalign.features.own:Precomputed",
    "sound": "brainalign.features.acoustic:Sound",
    "speech_model": "brainalign.features.speech_model:SpeechModel",
    "surprisal": "brainalign.features.surprisal:Surprisal",
    "toy_model": "brainalign.features.toy_model:ToyModel",
    "word_vectors": "brainalign.features.word_vectors:WordVectors",
}

ALIGNMENTS: Mapping[str, str] = {
    "hemodynamic": "brainalign.alignment.hemodynamic:Hemodynamic",
    "epochs": "brainalign.alignment.epochs:Epochs",
    "items": "brainalign.alignment.items:Items",
}

ENCODERS: Mapping[str, str] = {
    "ridge": "brainalign.encoding.ridge:RidgeEncoder",
    "banded": "brainalign.encoding.banded:BandedRidgeEncoder",
}


def find(kind: str, table: Mapping[str, str], what: str) -> Any:
    """The class that `table` names `kind`.

    Raises
    ------
    RecipeError
        If there is none, with the nearest name there is.

    Examples
    --------
    >>> find("ridge", ENCODERS, "encoder").__name__
    'RidgeEncoder'
    """
    if kind not in table:
        raise RecipeError(f"Unknown {what} '{kind}'. {nearest(kind, table)}")
    module, _, attribute = table[kind].partition(":")
    return getattr(import_module(module), attribute)
