"""A feature space under a name of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from brainalign.errors import RecipeError
from brainalign.types import Expected, Extractor, Features, FeatureStream, Stimulus, StimulusPart

__all__ = ["Named"]


@dataclass(frozen=True)
class Named:
    """Give a feature space another name in tables and figures; what is stored of it is read as before.

    In a recipe it is the key ``name`` of any kind of features.

    Parameters
    ----------
    name : str
    space : Extractor

    Raises
    ------
    RecipeError
        On construction, if the name is empty.

    Examples
    --------
    >>> from brainalign.features import ToyModel
    >>> Named("mine", ToyModel()).name
    'mine'
    """

    name: str
    space: Extractor

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise RecipeError("name: a feature space needs one, or leave the key out.")

    @property
    def reads(self) -> tuple[StimulusPart, ...]:
        """What of a stimulus the space's values depend on."""
        return getattr(self.space, "reads", get_args(StimulusPart))

    @property
    def needs(self) -> tuple[str, ...]:
        """What of a stimulus the space cannot do without."""
        return getattr(self.space, "needs", ())

    def fingerprint(self) -> Mapping[str, Any]:
        """The space's own: a name changes no value."""
        return self.space.fingerprint()

    def expected(self, stimulus: Stimulus) -> Expected | None:
        """What the space's features are expected to take; None where it cannot tell."""
        tell = getattr(self.space, "expected", None)
        return None if tell is None else tell(stimulus)

    def extract(self, stimulus: Stimulus) -> Features:
        """The space's features, under this name."""
        return replace(self.space.extract(stimulus), name=self.name)

    def stream(self, stimulus: Stimulus) -> FeatureStream:
        """The same block by block, or at once where the space gives them so."""
        make = getattr(self.space, "stream", None)
        stream = make(stimulus) if make is not None else FeatureStream.of(self.space.extract(stimulus))
        return replace(stream, name=self.name)
