"""How unexpected each word is to a language model, and how open it is what comes next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from brainalign.errors import DataError, RecipeError, nearest
from brainalign.features.language_model import LanguageModel
from brainalign.features.model_files import locate
from brainalign.features.network_costs import network_costs
from brainalign.features.passes import ENOUGH_TOKENS
from brainalign.features.windows import Context, Unit
from brainalign.features.word_information import Measure
from brainalign.types import Expected, Features, Floats, Stimulus, StimulusPart

__all__ = ["Surprisal"]

CODE_VERSION = 1


@dataclass(frozen=True)
class Surprisal:
    """Extract how unexpected each word is to a causal language model, as a feature space of one layer.

    ==========  ======================================================================================
    surprisal   -log2 p(word | context): the sum over the word's tokens and the blank before it, in bits
    entropy     of the distribution of the next token where the word begins, in bits
    ==========  ======================================================================================

    Parameters
    ----------
    model : str
        As that of `LanguageModel`; causal.
    measures : tuple of {"surprisal", "entropy"}
        The columns.
    context, context_unit, exact, untrained, dtype, device, memory_limit
        As those of `LanguageModel`.
    boundary_correction : bool
        Where tokens carry the blank before them, the probability that a word is over belongs to the next word's first
        token. True moves it to the word: p(word) = prod p(token) p(blank | context, word) / p(blank | context), for
        words that a blank stands before (Oh & Schuler 2024; Pimentel & Meister 2024).

    Notes
    -----
    A word that nothing stands before in its context, not even a beginning-of-text token, has no surprisal: `extract`
    refuses it by name, and `LanguageModel.surprisal` gives NaN.

    Examples
    --------
    >>> Surprisal("gpt2").name
    'surprisal of gpt2'
    """

    reads: ClassVar[tuple[StimulusPart, ...]] = ("text",)

    model: str
    measures: tuple[Measure, ...] = ("surprisal",)
    context: Context = 512
    context_unit: Unit = "tokens"
    exact: bool = False
    untrained: bool | int = False
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    memory_limit: float | None = None
    boundary_correction: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "measures", (self.measures,) if isinstance(self.measures, str) else tuple(self.measures)
        )
        if not self.measures or len(set(self.measures)) < len(self.measures):
            raise RecipeError(f"measures: name at least one, each once, not {list(self.measures)}.")
        for measure in self.measures:
            if measure not in get_args(Measure):
                raise RecipeError(f"Unknown measure '{measure}'. {nearest(measure, get_args(Measure))}")
        self._language_model()  # checks the settings that the two share

    @property
    def needs(self) -> tuple[str, ...]:
        """What of a stimulus it cannot do without."""
        return self._language_model().needs

    @property
    def name(self) -> str:
        """The measures, and the model's name."""
        return f"{' and '.join(self.measures)} of {self._language_model().name}"

    def fingerprint(self) -> dict[str, Any]:
        """All that the values depend on besides the text."""
        shared = self._language_model().fingerprint()
        return {
            **{key: shared[key] for key in ("weights", "tokenizer", "context", "seed", "dtype", "versions")},
            "kind": "surprisal",
            "measures": list(self.measures),
            "boundary_correction": self.boundary_correction,
            "code": [CODE_VERSION, shared["code"]],
        }

    def expected(self, stimulus: Stimulus) -> Expected:
        """What the features of a stimulus are expected to take; see `LanguageModel.expected`."""
        model = self._language_model()
        passes, network = model.expected(stimulus), network_costs(locate(self.model))
        # Each token that is read is compared with the whole vocabulary.
        n_read = sum(model.lengths_of_passes(network, stimulus))
        compared = 2.0 * n_read * network.width * network.n_vocabulary
        chosen = 8.0 * ENOUGH_TOKENS["cpu"] * network.n_vocabulary
        shape = (1, len(stimulus.words), len(self.measures))
        return Expected(shape, passes.operations + compared, passes.memory_bytes + chosen)

    def extract(self, stimulus: Stimulus) -> Features:
        """Give the measures of each word; the metadata's ``dimensions`` name the columns.

        Raises
        ------
        RecipeError
            If the model is not causal; or with `boundary_correction`, if its tokens carry no blanks.
        DataError
            If a word has no token, or none stands before the first.
        """
        found = self._language_model().information(stimulus, self.boundary_correction)
        values = np.stack([found[measure] for measure in self.measures], axis=-1)
        _check_finite(values, stimulus, self.model)
        return Features(
            name=self.name,
            layers=(" and ".join(self.measures),),
            values=values[None].astype(np.float32),
            onset_s=stimulus.words["onset"].to_numpy(dtype=float, copy=True),
            duration_s=stimulus.words["duration"].to_numpy(dtype=float, copy=True),
            metadata={
                "dimensions": list(self.measures),
                "unit": "bits",
                "context": self.context,
                "context_unit": self.context_unit,
                "boundary_correction": self.boundary_correction,
            },
        )

    def _language_model(self) -> LanguageModel:
        return LanguageModel(
            self.model,
            context=self.context,
            context_unit=self.context_unit,
            exact=self.exact,
            untrained=self.untrained,
            dtype=self.dtype,
            device=self.device,
            memory_limit=self.memory_limit,
        )


def _check_finite(values: Floats, stimulus: Stimulus, model: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad) == 0:
        return
    word = f"stimulus '{stimulus.id}': word {bad[0] + 1} ('{stimulus.words['text'].iloc[bad[0]]}')"
    if np.isnan(values[bad[0]]).any():
        raise DataError(
            f"{word} and {len(bad) - 1} more have no surprisal: nothing comes before them in this context, and the "
            f"model '{model}' has no token that begins a text.\nLeave such words out, or choose another model; where "
            "all words are concerned, its numbers are not finite: try dtype: float32."
        )
    raise DataError(f"{word} is impossible for the model '{model}': its surprisal is infinite. Try dtype: float32.")
