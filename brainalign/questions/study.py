"""What questions are given and what they give: one subject at a time, then all subjects together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import BaseEstimator

from brainalign.encoding import Samples
from brainalign.errors import RecipeError, nearest
from brainalign.types import Aligner, Features, Finding, Floats, Scores, Stimulus

__all__ = [
    "Layers",
    "Part",
    "Question",
    "SubjectData",
    "by_layer",
    "by_target",
    "joined",
    "layer_number",
    "subject_of_target",
]


@dataclass(frozen=True)
class SubjectData:
    """What is known of one subject.

    Parameters
    ----------
    samples : Samples
    targets : pandas.DataFrame
        Name, kind and place of each target, as of `brainalign.types.Recording`.
    space : mapping
        What the places are in, likewise.
    features : mapping of feature space -> stimulus -> Features
        Of all stimuli of the data; read when asked for.
    fits : mapping of feature space -> name -> array
        Scores and penalties, ``r`` (layer, fold, column) and so on; see ``brainalign.pipeline.fit.SubjectScores``.
    stimuli : mapping of stimulus id -> Stimulus
    aligner : Aligner
    encoder : scikit-learn estimator
        As it was fitted, the gap of its inner folds set.
    others : callable
        Gives the same of the other subjects, one after the other; nothing is read before.
    """

    samples: Samples
    targets: pd.DataFrame
    space: Mapping[str, Any]
    features: Mapping[str, Mapping[str, Features]]
    fits: Mapping[str, Mapping[str, Floats]]
    stimuli: Mapping[str, Stimulus]
    aligner: Aligner
    encoder: BaseEstimator
    others: Callable[[], Iterator[SubjectData]]


@dataclass(frozen=True)
class Part:
    """What a question finds out about one subject: arrays by name, findings, and JSON-able facts."""

    arrays: Mapping[str, Floats]
    findings: Sequence[Finding] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Question(Protocol):
    """What is asked of scores: a frozen dataclass whose fields are the settings.

    Attributes
    ----------
    section : str
        The key of a recipe that asks for it, and what its results are called.
    of_group : bool
        Whether what is found about one subject depends on the others' responses.
    by_space : bool
        Whether each feature space is asked about on its own: `of_subject` is given one at a time, and its arrays, whose
        layers come first, are put one after the other. So long questions are cut into pieces that can be interrupted.
    """

    section: ClassVar[str]
    of_group: ClassVar[bool]
    by_space: ClassVar[bool]

    def of_subject(self, data: SubjectData) -> Part:
        """What is found about one subject."""
        ...

    def of_study(self, parts: Mapping[str, Part], scores: Scores) -> xr.Dataset:
        """What is found about all: variables for `scores`, whose subjects the parts are of, in the same order.

        ``attrs`` may hold ``findings``, a list of Finding, and what a report says of it, JSON-able.
        """
        ...


def by_target(parts: Mapping[str, Part], name: str, scores: Scores, dims: Sequence[str] = ()) -> xr.DataArray | None:
    """One array of all subjects' targets, from each subject's arrays (`dims` ..., column).

    Parameters
    ----------
    parts : mapping of subject -> Part
        In the order of the scores' subjects.
    name : str
    scores : Scores
        Say whether columns are targets or targets x latencies.
    dims : sequence of str
        Names of what comes before the columns.

    Returns
    -------
    DataArray (`dims` ..., target), and latency where the scores have them
        NaN for targets of subjects whose part has no such array; None if none has.
    """
    having = next((part.arrays[name] for part in parts.values() if name in part.arrays), None)
    if having is None:
        return None
    latencies = (scores.sizes["latency"],) if "latency" in scores.dims else ()
    before, whose = having.shape[: len(dims)], subject_of_target(scores)
    blocks = []
    for subject, part in parts.items():
        shape = (*before, int((whose == subject).sum()), *latencies)
        own = part.arrays.get(name)
        blocks.append(np.full(shape, np.nan, having.dtype) if own is None else np.asarray(own).reshape(shape))
    stacked = np.concatenate(blocks, axis=len(dims))
    return xr.DataArray(stacked, dims=(*dims, "target", *(("latency",) if latencies else ())))


def layer_number(layer: int | str, layers: Sequence[str], where: str) -> int:
    """The place of a layer that is named, or numbered from 0.

    Raises
    ------
    RecipeError
        If there is none; `where` says what is about it.

    Examples
    --------
    >>> layer_number("layer 8", ["layer 4", "layer 8"], "partition"), layer_number("0", ["layer 4"], "partition")
    (1, 0)
    """
    name = str(layer)
    if name in layers:
        return list(layers).index(name)
    if name.isdecimal() and int(name) < len(layers):
        return int(name)
    raise RecipeError(f"{where} has no layer '{name}'. {nearest(name, layers)}")


def subject_of_target(scores: Scores) -> np.ndarray:
    """Whose each target is, shape (target,) of str."""
    return scores["subject"].values.astype(str)


class Layers:
    """Arrays (layer, ...) of feature spaces, one after the other along the layers; read where they are asked for.

    Parameters
    ----------
    spaces : sequence of array (layer, ...)
        They may lie on disk; all but the number of layers is the same.

    Examples
    --------
    >>> both = Layers([np.zeros((2, 3)), np.ones((1, 3))])
    >>> both.shape, both[2].tolist(), np.asarray(both).shape
    ((3, 3), [1.0, 1.0, 1.0], (3, 3))
    """

    def __init__(self, spaces: Sequence[Floats]) -> None:
        self._spaces = spaces
        self._places = [(space, layer) for space in spaces for layer in range(len(space))]
        self.shape = (len(self._places), *spaces[0].shape[1:])
        self.dtype = spaces[0].dtype

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, layer: int) -> Floats:
        space, number = self._places[layer]
        return space[number]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Floats:
        return np.concatenate(self._spaces).astype(dtype or self.dtype, copy=False)


def joined(parts: Sequence[Part]) -> Part:
    """What was found about a subject space by space, as one part; facts are the first one's.

    Arrays that a space lacks, as null scores that were too many to keep, are left out.
    """
    names = [name for name in parts[0].arrays if all(name in part.arrays for part in parts)]
    arrays: dict[str, Any] = {name: Layers([part.arrays[name] for part in parts]) for name in names}
    findings = tuple(dict.fromkeys(finding for part in parts for finding in part.findings))
    return Part(arrays, findings, parts[0].facts)


def by_layer(parts: Sequence[Any], axis: int = 0) -> Floats:
    """Arrays of feature spaces, one after the other along the layers, as scores hold them."""
    return np.concatenate([np.asarray(part) for part in parts], axis=axis)
