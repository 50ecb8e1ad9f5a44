"""Whether features are decoded better than features that are circularly shifted, each shift fitted anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.analysis.inference.moments import shift_in_samples
from brainalign.analysis.inference.permutation import Penalties, score_null
from brainalign.analysis.inference.significance import p_values
from brainalign.analysis.inference.surrogates import CircularShift
from brainalign.encoding.responses import Responses
from brainalign.encoding.ridge import RidgeEncoder
from brainalign.encoding.samples import Samples
from brainalign.encoding.splits import NestedFold
from brainalign.errors import DataError
from brainalign.types import Finding, Floats

__all__ = ["feature_shift", "mean_r_tested"]


def feature_shift(
    samples: Samples, kept: NDArray[np.intp], encoder: RidgeEncoder, permutations: int, min_shift_s: float, seed: int
) -> tuple[CircularShift | None, tuple[Finding, ...]]:
    """Shifts of these samples within each hearing, and what is to be said where they are fewer than asked for, or none.

    All hearings of a stimulus are shifted alike, and so are those of other subjects with the same `seed`.

    Parameters
    ----------
    samples : Samples
    kept : array (row,)
        The samples that are decoded.
    encoder : RidgeEncoder
        That which decodes; a shift is fitted anew by ridge of all its standardised columns only.
    permutations : int
        0 for no shifts.
    min_shift_s : float
    seed : int
    """
    if permutations == 0:
        return None, ()
    where = f"decoding, subject {samples.subject}"
    if encoder.n_components is not None or not encoder.standardise:
        message = "there is no p value: shifts are fitted by ridge of all columns, standardised."
        return None, (Finding("no-permutations", where, message),)
    runs, stimulus = samples.run[kept], samples.stimulus[kept]
    min_shift = shift_in_samples(samples.times_s[kept], runs, stimulus, min_shift_s)
    try:
        n_distinct = CircularShift(runs, 1, seed, stimulus, min_shift=min_shift).n_distinct
    except DataError as problem:
        return None, (Finding("no-permutations", where, f"there is no p value. {problem}"),)
    n = min(permutations, n_distinct)
    message = f"the stimuli have {n} different shifts by {min_shift_s:g} s or more, for {permutations} permutations."
    findings = () if n == permutations else (Finding("few-permutations", where, message),)
    return CircularShift(runs, n, seed, stimulus, min_shift=min_shift), findings


def mean_r_tested(
    design: Floats,
    responses: Responses,
    folds: Sequence[NestedFold],
    scores: Mapping[str, Floats],
    shift: CircularShift | None,
) -> dict[str, Floats]:
    """Each layer's mean r beside those of shifted features.

    Parameters
    ----------
    design : array (sample, column)
        What features are predicted from.
    responses : Responses
        The components of all layers side by side.
    folds : sequence of NestedFold
    scores : mapping
        ``r`` and ``alpha`` (layer, fold, component).
    shift : CircularShift or None

    Returns
    -------
    dict of str -> array
        ``mean_r`` and ``p`` (layer,), ``null`` (layer, permutation); see `Decoded`.
    """
    r, alpha = scores["r"], scores["alpha"]
    usable = (responses.status == "ok").reshape(len(r), -1) & (design.shape[1] > 0)
    known = np.where(usable[:, None], np.nan_to_num(r), np.nan)
    mean_r = mean_defined(known.reshape(len(r), -1), axis=1)
    null, p = np.full((len(r), 0 if shift is None else shift.n_permutations), np.nan), np.full(len(r), np.nan)
    if shift is not None and usable.any():
        observed, drawn = score_null(
            design,
            responses.array[:, usable.ravel()],
            [(fold.train, fold.test) for fold in folds],
            Penalties(alpha.swapaxes(0, 1)[:, usable]),
            shift.apply,
            shift.n_permutations,
            shift.order,
        )
        layer = np.nonzero(usable)[0]
        for number in np.unique(layer):
            of_layer = layer == number
            null[number] = drawn[:, of_layer].mean(axis=1)
            p[number] = p_values(observed[of_layer].mean(keepdims=True), null[number][:, None])[0]
    return {"mean_r": mean_r, "null": null, "p": p}
