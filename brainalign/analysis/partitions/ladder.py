"""The baseline ladder: what simpler properties explain, rung by rung, and what a model adds to each rung.

A score alone says little: word rate, position and word identity predict much of what a language model predicts (Feghhi
et al., 2024). Rungs are nested: each adds columns to those before it (word rate; then length, frequency and position;
then a static embedding; then surprisal; then the same network untrained). On the same folds there are the scores of
each rung, of the model, and of both together, with a penalty for the rung and one for the model.

`drift_column` and `oasm` ask about the samples rather than about language: how far the time within the run predicts the
responses, and how far folds let a model look up its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.base import clone

from brainalign.encoding.banded import BandedRidgeEncoder
from brainalign.encoding.beside import cross_validate_beside
from brainalign.encoding.cross_validation import HOLD, FoldScores, cross_validate
from brainalign.encoding.designs import Design
from brainalign.encoding.nested import standard_columns
from brainalign.encoding.responses import Responses
from brainalign.encoding.ridge import RidgeEncoder
from brainalign.encoding.splits import Splitter
from brainalign.errors import DataError, RecipeError
from brainalign.types import Floats

__all__ = ["Ladder", "Rung", "baseline_ladder", "drift_column", "oasm", "oasm_r", "share_explained"]

# The largest drops a rung that says nothing of a target; an encoder's own default stops short of that.
BASELINE_ALPHAS = (1.0, 1e2, 1e4, 1e6)
# Standard deviations at which a sample's neighbourhood ends, so that folds further apart have nothing in common.
REACH = 4.0
# Components with less than this share of the largest one's variance are not components.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Rung:
    """A baseline, alone and beside each layer of the model.

    Attributes
    ----------
    name : str
    n_columns : int
        Of this rung and all below it, as fitted.
    variance_kept : float
        Of this rung's own columns, standardised, by the principal components that were kept; 1 where all columns were.
    r2, r : arrays (fold, target)
        Of this rung with all below it.
    r2_joint, r_joint : arrays (layer, fold, target)
        Of these and the layer.
    """

    name: str
    n_columns: int
    variance_kept: float
    r2: Floats
    r: Floats
    r2_joint: Floats
    r_joint: Floats

    @property
    def unique_r2(self) -> Floats:
        """What each layer adds to the R2 of the rung, array (layer, fold, target); negative where it takes away."""
        return self.r2_joint - self.r2

    @property
    def gain_r(self) -> Floats:
        """What each layer adds to the r of the rung, array (layer, fold, target)."""
        return self.r_joint - self.r

    @property
    def share_explained(self) -> Floats:
        """How much of what rung and layer explain the rung does alone, array (layer,); see `share_explained`."""
        return np.array([share_explained(self.r2, joint) for joint in self.r2_joint])


@dataclass(frozen=True)
class Ladder:
    """Scores of the rungs, from the simplest on, and of the model alone.

    Attributes
    ----------
    rungs : tuple of Rung
    r2, r : arrays (layer, fold, target)
        Of the model alone.
    """

    rungs: tuple[Rung, ...]
    r2: Floats
    r: Floats

    def __getitem__(self, name: str) -> Rung:
        """The rung of this name; a KeyError if there is none."""
        return {rung.name: rung for rung in self.rungs}[name]


def baseline_ladder(
    layers: Iterable[Floats | Design],
    rungs: Mapping[str, Floats],
    responses: Floats | Responses,
    groups: np.ndarray | None,
    splitter: Splitter,
    encoder: RidgeEncoder | None = None,
    n_components: int = 30,
) -> Ladder:
    """Score nested baselines, alone and together with each layer of a model, on the same folds.

    Parameters
    ----------
    layers : iterable of array (sample, dimension) or Design
        The model's columns, of one or several layers; gone through once.
    rungs : mapping of name to array (sample, q)
        The columns that are new in each rung, from the simplest rung on.
    responses : array (sample, target) or Responses
    groups : array (sample,), optional
        The run of each sample.
    splitter : scikit-learn splitter
        The outer folds. Inner folds are of the same kind.
    encoder : RidgeEncoder, optional
        Its `baseline_alphas` are the penalties of the rungs beside a layer. Of a `BandedRidgeEncoder` the bands are
        those of the layer.
    n_components : int
        A rung with more new columns than that is given as so many principal components.

    Returns
    -------
    Ladder

    Raises
    ------
    RecipeError
        If there are no rungs or no layers, or `n_components` is less than 1.
    DataError
        If a value is not finite, or samples are not those of the responses.

    Notes
    -----
    The components of a wide rung (an embedding has hundreds of columns) are those of its standardised columns over all
    samples, held-out ones too. They are made without the responses, so nothing of these leaks; what they leave out is
    in `variance_kept`, and may be what the model seems to add. They keep rungs small enough for the two penalties of
    rung and layer to be searched on a whole grid. There is a joint fit for each rung and layer.

    Examples
    --------
    >>> from brainalign.encoding import ContiguousBlocks
    >>> rng = np.random.default_rng(0)
    >>> rate, model = rng.normal(size=(300, 1)), rng.normal(size=(300, 3))
    >>> Y = rate + model[:, :1] + rng.normal(size=(300, 5))
    >>> ladder = baseline_ladder([model], {"word rate": rate}, Y, None, ContiguousBlocks(3))
    >>> rung = ladder["word rate"]
    >>> f"{rung.r2.mean():.1f}, and {rung.unique_r2.mean():.1f} more"
    '0.4, and 0.3 more'
    """
    if not rungs or n_components < 1:
        raise RecipeError(f"A ladder has a rung or more ({len(rungs)} here) of a component or more ({n_components}).")
    prepared = responses if isinstance(responses, Responses) else Responses(responses, hold=HOLD)
    encoder = RidgeEncoder(baseline_alphas=BASELINE_ALPHAS) if encoder is None else encoder
    steps = _nested(rungs, prepared.n_samples, n_components)
    one_band = clone(encoder).set_params(bands=None) if isinstance(encoder, BandedRidgeEncoder) else encoder
    alone = [cross_validate(one_band, step.columns, prepared, groups, splitter)[0] for step in steps]
    of_model, joint = [], []
    for layer in layers:
        layer_alone, beside = _beside(encoder, layer, prepared, groups, splitter, [step.columns for step in steps])
        of_model.append(layer_alone)
        joint.append(beside)
    if not of_model:
        raise RecipeError("A ladder leads to a model; there are no layers.")
    climbed = []
    for number, (step, scores) in enumerate(zip(steps, alone, strict=True)):
        r2_joint, r_joint = (np.stack([getattr(of[number], score) for of in joint]) for score in ("r2", "r"))
        n_columns = step.columns.shape[1]
        climbed.append(Rung(step.name, n_columns, step.variance_kept, scores.r2, scores.r, r2_joint, r_joint))
    return Ladder(tuple(climbed), np.stack([of.r2 for of in of_model]), np.stack([of.r for of in of_model]))


def share_explained(r2_baseline: Floats, r2_joint: Floats) -> float:
    """How much of what baseline and model explain together the baseline explains alone.

    The ratio of means over folds and over the targets that either predicts (mean R2 above zero; undefined in no fold).
    The ratio of a single target is mostly noise, and targets chosen by the joint model only would favour it.

    Parameters
    ----------
    r2_baseline, r2_joint : arrays (fold, target)

    Returns
    -------
    float
        Above 1 where the model spoils what the baseline predicts; NaN where no target is predicted.

    Examples
    --------
    >>> round(share_explained(np.array([[0.1, 0.2]]), np.array([[0.1, 0.3]])), 2)
    0.75
    """
    baseline, joint = np.mean(r2_baseline, axis=0), np.mean(r2_joint, axis=0)  # (target,)
    predicted = np.maximum(baseline, joint) > 0  # False for NaN
    total = joint[predicted].sum()
    return float(baseline[predicted].sum() / total) if total > 0 else float("nan")


def drift_column(groups: np.ndarray | None, n_samples: int) -> Floats:
    """Time within the run, from -1 at its first sample to 1 at its last, for the second rung.

    One column for all runs rather than one for each: a drift of which other runs know nothing cannot be predicted in a
    run that is held out.

    Parameters
    ----------
    groups : array (sample,) or None
        The run of each sample; None for a single run.
    n_samples : int

    Returns
    -------
    array (sample, 1)
        Zero in a run of one sample.

    Examples
    --------
    >>> drift_column(np.array(["a", "a", "a", "b", "b"]), 5).ravel()
    array([-1.,  0.,  1., -1.,  1.])
    """
    column = np.zeros((n_samples, 1))
    for rows in _runs(groups, n_samples):
        if len(rows) > 1:
            column[rows, 0] = np.linspace(-1.0, 1.0, len(rows))
    return column


def oasm(groups: np.ndarray | None, n_samples: int, sigma: float = 2.0) -> Floats:
    """Features that know only which samples are neighbours: an identity matrix, smoothed within runs.

    The "orthogonal autocorrelated sequences model" of Feghhi et al. (2024): no language in it, so whatever it predicts
    comes from responses that resemble their neighbours and from folds that put neighbours on both sides.

    Parameters
    ----------
    groups : array (sample,) or None
        The run of each sample; None for a single run.
    n_samples : int
        The result is as wide as it is long: for a diagnosis, some thousand samples suffice.
    sigma : float
        Standard deviation of the Gaussian, in samples; it ends at four of them.

    Returns
    -------
    array (sample, sample)

    Raises
    ------
    RecipeError
        If `sigma` is not positive.

    Examples
    --------
    >>> oasm(np.array(["a", "a", "b"]), 3, sigma=1.0).round(2)
    array([[1.  , 0.61, 0.  ],
           [0.61, 1.  , 0.  ],
           [0.  , 0.  , 1.  ]])
    """
    if not sigma > 0:
        raise RecipeError(f"sigma is {sigma} samples; the neighbourhood of a sample is larger than none.")
    features = np.zeros((n_samples, n_samples))
    for rows in _runs(groups, n_samples):
        position = np.arange(len(rows)) / sigma
        distance = np.abs(position[:, None] - position)
        features[np.ix_(rows, rows)] = np.where(distance <= REACH, np.exp(-0.5 * distance**2), 0.0)
    return features


def oasm_r(responses: Floats | Responses, groups: np.ndarray | None, splitter: Splitter, sigma: float = 2.0) -> Floats:
    """How well `oasm` predicts held-out samples: above some .1, scores on these folds are memory.

    Parameters
    ----------
    responses : array (sample, target) or Responses
    groups : array (sample,), optional
        The run of each sample.
    splitter : scikit-learn splitter
        The folds in question.
    sigma : float
        In samples.

    Returns
    -------
    array (fold, target)
        Pearson's r. NaN in folds whose held-out samples are no neighbours of training samples, as where whole runs are
        held out: there is nothing to look up, and the training mean is predicted throughout.

    Examples
    --------
    >>> from brainalign.encoding import LeaveOneRunOut
    >>> runs, Y = np.repeat(["a", "b", "c"], 20), np.random.default_rng(0).normal(size=(60, 2)).cumsum(axis=0)
    >>> bool(np.isnan(oasm_r(Y, runs, LeaveOneRunOut())).all())
    True
    """
    prepared = responses if isinstance(responses, Responses) else Responses(responses, hold=HOLD)
    features = oasm(groups, prepared.n_samples, sigma)
    folds = splitter.split(np.zeros((prepared.n_samples, 1)), groups=groups)
    in_common = np.array([(features[train].any(axis=0) & features[test].any(axis=0)).any() for train, test in folds])
    if not in_common.any():
        return np.full((len(in_common), prepared.n_targets), np.nan)
    # Left out one by one, training samples show how much neighbours tell, however the outer folds are cut.
    encoder = RidgeEncoder(inner_splits="loo", standardise=False)
    r = cross_validate(encoder, features, prepared, groups, splitter)[0].r
    # A prediction without neighbours is the same for all samples but for rounding, which would have a correlation.
    return np.where(in_common[:, None], r, np.nan)


def _beside(
    encoder: RidgeEncoder,
    layer: Floats | Design,
    responses: Responses,
    groups: np.ndarray | None,
    splitter: Splitter,
    sets: Sequence[Floats],
) -> tuple[FoldScores, list[FoldScores]]:
    """Scores of a layer alone and beside each set of columns; what the sets share is done once where it can be."""
    if not isinstance(encoder, BandedRidgeEncoder):
        return cross_validate_beside(encoder, layer, responses, groups, splitter, sets)
    fits = [cross_validate(encoder, layer, responses, groups, splitter, columns) for columns in sets]
    return fits[0][0], [both for _, both in fits if both is not None]


@dataclass(frozen=True)
class _Step:
    """A rung's columns (sample, q) with those of all below it."""

    name: str
    columns: Floats
    variance_kept: float


def _nested(rungs: Mapping[str, Floats], n_samples: int, n_components: int) -> list[_Step]:
    steps: list[_Step] = []
    for name, new in rungs.items():
        new = np.asarray(new, dtype=np.float64)
        if new.ndim != 2 or len(new) != n_samples or new.shape[1] == 0 or not np.isfinite(new).all():
            raise DataError(f"Rung '{name}' of shape {new.shape}: finite columns of {n_samples} samples are needed.")
        few, kept = (new, 1.0) if new.shape[1] <= n_components else _components(new, n_components)
        below = [steps[-1].columns] if steps else []
        steps.append(_Step(name, np.hstack([*below, few]), kept))
    return steps


def _components(columns: Floats, n_components: int) -> tuple[Floats, float]:
    """Principal components (sample, n_components at most) of standardised columns, and their share of the variance."""
    mean, weight = standard_columns(columns)
    standard = (columns - mean) * weight
    variance, directions = np.linalg.eigh(standard.T @ standard)  # from the smallest on
    # What is left of columns that depend on others is rounding, and would be standardised like the rest.
    n_kept = int(np.clip((variance > ROUNDING * variance[-1]).sum(), 1, n_components))
    kept = variance[-n_kept:].sum() / variance.sum() if variance[-1] > 0 else 1.0
    return standard @ directions[:, : -n_kept - 1 : -1], float(kept)


def _runs(groups: np.ndarray | None, n_samples: int) -> Sequence[np.ndarray]:
    """The samples of each run, in order."""
    if groups is None:
        return [np.arange(n_samples)]
    if np.shape(groups) != (n_samples,):
        raise DataError(f"groups has shape {np.shape(groups)}; the run of each of the {n_samples} samples is needed.")
    return [np.flatnonzero(groups == run) for run in np.unique(groups)]
