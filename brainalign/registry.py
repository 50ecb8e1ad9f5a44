"""Which name in a recipe stands for which class: strings only, imported when first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from brainalign.errors import RecipeError, nearest

__all__ = ["ALIGNMENTS", "DATASETS", "ENCODERS", "EXECUTORS", "FEATURES", "QUESTIONS", "find"]

# The loader of a dataset's manifest; one per layout of files.
DATASETS: Mapping[str, str] = {
    "alice": "brainalign.datasets.alice:Alice",
    "armeni2022": "brainalign.datasets.armeni2022:Armeni2022",
    "arrays": "brainalign.datasets.arrays:Arrays",
    "bids": "brainalign.datasets.bids:Bids",
    "brennan2019": "brainalign.datasets.brennan2019:Brennan2019",
    "frank2015": "brainalign.datasets.frank2015:Frank2015",
    "lebel2023": "brainalign.datasets.lebel2023:LeBel2023",
    "libribrain": "brainalign.datasets.libribrain:LibriBrain",
    "little_prince": "brainalign.datasets.little_prince:LittlePrince",
    "little_prince_meg_listen": "brainalign.datasets.little_prince_meg:LittlePrinceMegListen",
    "little_prince_meg_read": "brainalign.datasets.little_prince_meg:LittlePrinceMegRead",
    "meg_masc": "brainalign.datasets.meg_masc:MegMasc",
    "mous": "brainalign.datasets.mous:Mous",
    "narratives": "brainalign.datasets.narratives:Narratives",
    "old_man": "brainalign.datasets.old_man:OldMan",
    "pereira2018": "brainalign.datasets.pereira2018:Pereira2018",
    "podcast": "brainalign.datasets.podcast:Podcast",
    "simulated": "brainalign.simulate:Simulated",
    "smn4lang": "brainalign.datasets.smn4lang:Smn4Lang",
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

EXECUTORS: Mapping[str, str] = {
    "local": "brainalign.pipeline.executors.local:Local",
    "slurm": "brainalign.pipeline.executors.slurm:Slurm",
    "dask": "brainalign.pipeline.executors.dask:Dask",
}

# A recipe's sections of these names, in the order in which they are answered: some look at what others found.
QUESTIONS: Mapping[str, str] = {
    "ceiling": "brainalign.questions.ceiling:Ceiling",
    "ladder": "brainalign.questions.ladder:Ladder",
    "tests": "brainalign.questions.tests:Tests",
    "profile": "brainalign.questions.profile:Profile",
    "partition": "brainalign.questions.partition:Partition",
    "forecast": "brainalign.questions.forecast:Forecast",
    "compare": "brainalign.questions.compare:Compare",
    "decoding": "brainalign.questions.decoding:Decoding",
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
