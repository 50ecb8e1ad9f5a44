"""Variance partitioning: what each feature space explains that no other does, and what several explain alike.

With R2(S) the held-out R2 of a model of the spaces S, out of all spaces N, what exactly the spaces of S explain, each
of them, and no other space does, is

    part(S) = sum over U within S of (-1)^(|U| + 1) R2((N without S) and U),    R2(no space) = 0:

for two spaces unique(A) = R2(AB) - R2(B) and shared = R2(A) + R2(B) - R2(AB) (Lescroart, Stansbury & Gallant, 2015),
for three those of de Heer et al. (2017). The parts add up to R2(N). Held out they are estimates: each R2 falls short of
what its spaces could explain, the more the larger they are, so a part can be negative, and stays so: clipped, means
over folds, targets or subjects would be too high.

Joint models have a penalty for each space. With one for all, a large space takes a small one's share: 10 columns beside
200 seemed to explain -.109 of the variance where they explain .05.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from sklearn.base import clone

from brainalign.encoding.banded import BandedRidgeEncoder
from brainalign.encoding.cross_validation import HOLD, cross_validate
from brainalign.encoding.designs import Matrix
from brainalign.encoding.metrics import pearson, r2
from brainalign.encoding.partition import split_r, split_r2
from brainalign.encoding.responses import Responses
from brainalign.encoding.ridge import RidgeEncoder
from brainalign.encoding.splits import Splitter, nested_folds
from brainalign.errors import DataError, RecipeError
from brainalign.types import Floats

__all__ = ["Partition", "Subset", "partition", "signed_root", "unique_and_shared"]

# Names of feature spaces, in the order in which they were given.
Subset = tuple[str, ...]


@dataclass(frozen=True)
class Partition:
    """Held-out scores of all models that some feature spaces allow, and what follows of each space.

    Attributes
    ----------
    r2, r : mapping of subset to array (fold, target)
        Of the model of these spaces: R2 against the training mean (`brainalign.encoding.r2`), and Pearson's r. Keys are
        tuples of names, from single spaces to all of them. NaN for targets that are constant or not finite.
    r2_product, r_product : mapping of name to array (fold, target), or None
        What each space adds to the R2 and the r of the model of all (`split_r2`, `split_r`), which they sum to: product
        measures, in which what spaces share is divided among them rather than counted apart. None where the joint
        model was not banded.
    """

    r2: Mapping[Subset, Floats]
    r: Mapping[Subset, Floats]
    r2_product: Mapping[str, Floats] | None
    r_product: Mapping[str, Floats] | None

    @property
    def spaces(self) -> Subset:
        """The names of all spaces."""
        return max(self.r2, key=len)

    @property
    def joint(self) -> Floats:
        """R2 of the model of all spaces, array (fold, target)."""
        return self.r2[self.spaces]

    @property
    def parts(self) -> dict[Subset, Floats]:
        """What exactly these spaces explain, arrays (fold, target) that sum to `joint`; see `unique_and_shared`."""
        return unique_and_shared(self.r2)

    def unique(self, space: str) -> Floats:
        """What this space adds to all others, array (fold, target); a KeyError for an unknown space."""
        return self.parts[(space,)]


def partition(
    spaces: Mapping[str, Floats],
    responses: Floats | Responses,
    groups: np.ndarray | None,
    splitter: Splitter,
    encoder: RidgeEncoder | None = None,
) -> Partition:
    """Fit all models of one, several and all feature spaces on the same folds.

    Parameters
    ----------
    spaces : mapping of name to array (sample, dimension)
        Two or more; n of them take 2^n - 1 models, fitted one after the other.
    responses : array (sample, target) or Responses
    groups : array (sample,), optional
        The run of each sample.
    splitter : scikit-learn splitter
        The outer folds. Inner folds are of the same kind.
    encoder : RidgeEncoder, optional
        By default, and if a `BandedRidgeEncoder`, joint models have a penalty for each space and target, found by the
        encoder's random search; its `bands` are set here. A plain `RidgeEncoder` serves two spaces of which one is
        small (up to some hundred columns): its penalty is one of `baseline_alphas`, the other's one of `alphas`, and
        all pairs are tried. That takes fewer operations and has no chance in it, but gives no product measures.

    Returns
    -------
    Partition

    Raises
    ------
    RecipeError
        If there are fewer than two spaces, or more than two for a plain `RidgeEncoder`, or if the encoder has `gammas`.
    DataError
        If a space is not finite, or its samples are not those of the responses.

    Examples
    --------
    >>> from brainalign.encoding import ContiguousBlocks
    >>> rng = np.random.default_rng(0)
    >>> common, own, other = rng.normal(size=(3, 400, 2))
    >>> Y = common @ [[1.0], [1.0]] + own @ [[1.0], [0.0]]
    >>> spaces = {"model": np.hstack([common, own]), "words": np.hstack([common, other])}
    >>> found = partition(spaces, Y, None, ContiguousBlocks(4), BandedRidgeEncoder(n_iter=10))
    >>> {names: round(float(part.mean()), 1) + 0.0 for names, part in found.parts.items()}
    {('model',): 0.3, ('words',): 0.0, ('model', 'words'): 0.7}
    """
    prepared = responses if isinstance(responses, Responses) else Responses(responses, hold=HOLD)
    spaces = {name: _checked(name, columns, prepared.n_samples) for name, columns in spaces.items()}
    if len(spaces) < 2:
        raise RecipeError(f"A partition is among two spaces or more; there is {len(spaces)} ({', '.join(spaces)}).")
    encoder = BandedRidgeEncoder() if encoder is None else encoder
    if isinstance(encoder, BandedRidgeEncoder) and encoder.gammas is not None:
        raise RecipeError("The encoder's gammas weigh a fixed number of bands, subsets have fewer: leave gammas out.")
    if isinstance(encoder, BandedRidgeEncoder):
        return _searched(encoder, spaces, prepared, groups, splitter)
    if len(spaces) > 2:
        raise RecipeError(
            f"A RidgeEncoder has penalties for two spaces, not for {len(spaces)} ({', '.join(spaces)}): "
            "give a BandedRidgeEncoder."
        )
    return _on_two_penalties(encoder, spaces, prepared, groups, splitter)


def unique_and_shared(r2: Mapping[Subset, Floats]) -> dict[Subset, Floats]:
    """What exactly the spaces of each subset explain: uniquely for single ones, shared by all of them for others.

    Parameters
    ----------
    r2 : mapping of subset to array (..., target)
        Held-out R2 of the model of each subset of the spaces, tuples of names in any order.

    Returns
    -------
    dict of subset to array (..., target)
        Sums to the R2 of all spaces. Values are negative where they are.

    Raises
    ------
    DataError
        If the R2 of a subset is missing.

    Examples
    --------
    >>> r2 = {("A",): np.array(0.25), ("B",): np.array(0.20), ("A", "B"): np.array(0.30)}
    >>> {names: round(float(part), 2) for names, part in unique_and_shared(r2).items()}
    {('A',): 0.1, ('B',): 0.05, ('A', 'B'): 0.15}
    """
    of = {frozenset(subset): np.asarray(values, dtype=np.float64) for subset, values in r2.items()}
    names = tuple(dict.fromkeys(name for subset in sorted(r2, key=len) for name in subset))
    missing = [subset for subset in _subsets(names) if frozenset(subset) not in of]
    if missing:
        raise DataError(
            f"A partition of {', '.join(names)} needs the R2 of all subsets; there is none of {missing[0]}."
        )
    of[frozenset()] = np.zeros(())
    parts = {}
    for subset in _subsets(names):
        others = frozenset(names) - set(subset)
        terms = [(-1.0) ** (len(some) + 1) * of[others | set(some)] for some in [(), *_subsets(subset)]]
        parts[subset] = np.sum(np.broadcast_arrays(*terms), axis=0)
    return parts


def signed_root(r2: Floats) -> Floats:
    """Put shares of variance on the scale of a correlation: sign(R2) sqrt(|R2|).

    For maps, beside correlations. Signed, because a root of what is below zero does not exist and zero in its place
    would hide it. Take it last: roots neither average nor add up as variances do.

    Parameters
    ----------
    r2 : array (...)

    Returns
    -------
    array (...)

    Examples
    --------
    >>> signed_root(np.array([0.25, -0.04, 0.0]))
    array([ 0.5, -0.2,  0. ])
    """
    return np.sign(r2) * np.sqrt(np.abs(r2))


def _searched(
    encoder: BandedRidgeEncoder,
    spaces: Mapping[str, Floats],
    responses: Responses,
    groups: np.ndarray | None,
    splitter: Splitter,
) -> Partition:
    """All models banded, and the product measures of the largest."""
    r2_of: dict[Subset, Floats] = {}
    r_of: dict[Subset, Floats] = {}
    *smaller, everything = _subsets(tuple(spaces))
    for subset in smaller:
        found, _ = cross_validate(*_banded(encoder, spaces, subset), responses, groups, splitter)
        r2_of[subset], r_of[subset] = found.r2, found.r
    of_all = _of_all_spaces(*_banded(encoder, spaces, everything), responses, groups, splitter)
    r2_of[everything], r_of[everything] = of_all.r2, of_all.r
    r2_product, r_product = (
        {name: parts[:, number] for number, name in enumerate(spaces)} for parts in (of_all.r2_parts, of_all.r_parts)
    )
    return Partition(r2_of, r_of, r2_product, r_product)


def _banded(
    encoder: BandedRidgeEncoder, spaces: Mapping[str, Floats], subset: Subset
) -> tuple[BandedRidgeEncoder, Floats]:
    """The encoder for a subset of the spaces, and their columns side by side."""
    bands = {name: spaces[name].shape[1] for name in subset}
    return clone(encoder).set_params(bands=bands), np.hstack([spaces[name] for name in subset])


class _OfAllSpaces(NamedTuple):
    """Scores (fold, target), and their parts (fold, band, target)."""

    r2: Floats
    r: Floats
    r2_parts: Floats
    r_parts: Floats


def _of_all_spaces(
    encoder: BandedRidgeEncoder,
    columns: Floats,
    responses: Responses,
    groups: np.ndarray | None,
    splitter: Splitter,
) -> _OfAllSpaces:
    inner = None if encoder.inner_splits == "loo" else encoder.inner_splits
    folds = nested_folds(splitter, inner, responses.n_samples, groups, encoder.gap)
    whole, parts = (len(folds), responses.n_targets), (len(folds), encoder.n_bands, responses.n_targets)
    scores = _OfAllSpaces(*(np.full(shape, np.nan) for shape in (whole, whole, parts, parts)))
    for part in encoder.held_out(Matrix(columns), responses, folds):
        for found in part.predictions:
            fold, block, bands = found.fold, found.block, np.asarray(found.bands)
            scores.r2[fold, block] = r2(found.alone, found.observed, found.reference)
            scores.r[fold, block] = pearson(found.alone, found.observed)
            scores.r2_parts[fold, :, block] = split_r2(bands, found.observed, found.reference)
            scores.r_parts[fold, :, block] = split_r(bands, found.observed)
    return scores


def _on_two_penalties(
    encoder: RidgeEncoder,
    spaces: Mapping[str, Floats],
    responses: Responses,
    groups: np.ndarray | None,
    splitter: Splitter,
) -> Partition:
    """The smaller of two spaces as the baseline of the larger."""
    small, large = sorted(spaces, key=lambda name: spaces[name].shape[1])
    of_small, _ = cross_validate(encoder, spaces[small], responses, groups, splitter)
    of_large, of_both = cross_validate(encoder, spaces[large], responses, groups, splitter, spaces[small])
    assert of_both is not None
    found = {(small,): of_small, (large,): of_large, tuple(spaces): of_both}
    r2_of, r_of = ({names: getattr(found[names], score) for names in _subsets(tuple(spaces))} for score in ("r2", "r"))
    return Partition(r2_of, r_of, None, None)


def _subsets(names: Sequence[str]) -> list[Subset]:
    """All subsets but the empty one, single names first and everything last."""
    return [some for size in range(1, len(names) + 1) for some in itertools.combinations(names, size)]


def _checked(name: str, columns: Floats, n_samples: int) -> Floats:
    columns = np.asarray(columns)
    if columns.ndim != 2 or len(columns) != n_samples or columns.shape[1] == 0:
        raise DataError(f"Space '{name}' has shape {columns.shape}; ({n_samples}, dimension) is needed, at least one.")
    if not np.isfinite(columns).all():
        row, column = np.argwhere(~np.isfinite(columns))[0]
        raise DataError(f"Space '{name}': the value at sample {row}, dimension {column} is {columns[row, column]}.")
    return columns
