"""Values of layers over subjects whose draws are the same: their mean, where it would lie, and how likely by chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainalign.analysis.hierarchies.profiles import mean_defined
from brainalign.analysis.inference.groups import group_null
from brainalign.analysis.inference.intervals import bootstrap_interval
from brainalign.types import Floats

__all__ = ["over_subjects", "unlike_draws"]

# Of shifted responses: what chance reaches one time in twenty.
CHANCE_SHARE = 0.95


def over_subjects(observed: Floats, null: Sequence[Floats], test: str, seed: int) -> dict[str, Floats]:
    """The group's values, all of them one family.

    Parameters
    ----------
    observed : array (subject, ...)
    null : sequence of arrays (permutation, ...)
        Each subject's draws.
    test : str
        What was drawn.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict of str -> array (...)
        ``mean``; with two subjects or more ``low`` and ``high``, the 95 % interval over them; where there are draws and
        subjects have the same ones ``chance``, their mean, ``chance_high``, what one in twenty reaches, ``p`` and ``q``
        (Benjamini-Hochberg).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = over_subjects(np.ones((3, 2)), [rng.normal(size=(99, 2)) for _ in range(3)], "circular shift", 0)
    >>> found["p"]
    array([0.04, 0.06])
    """
    interval = bootstrap_interval(observed, seed=seed)
    found = {"mean": interval.estimate}
    if len(observed) > 1:
        found |= {"low": interval.low, "high": interval.high}
    if len(null[0]) == 0 or unlike_draws(null):
        return found
    together = group_null(observed, null, test=test)
    draws = mean_defined(np.stack(null), axis=0)
    chance = {"chance": draws.mean(axis=0), "chance_high": np.quantile(draws, CHANCE_SHARE, axis=0)}
    return found | chance | {"p": together.p, "q": together.p_corrected}


def unlike_draws(null: Sequence[Floats]) -> bool:
    """Whether subjects have different numbers of draws, which cannot be put together one by one."""
    return len({len(drawn) for drawn in null}) > 1
