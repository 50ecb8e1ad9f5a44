"""Refitted surrogates hold their level, and the check notices tests that do not."""

from __future__ import annotations

import numpy as np
import pytest

from brainalign.validation import refits
from brainalign.validation.refits import v5b


def test_all_checks_pass() -> None:
    found = v5b()
    assert len(found) == 5
    assert {one.id for one in found} == {"V5b"}
    assert all(one.passed for one in found), [one for one in found if not one.passed]


def test_surrogates_that_lose_the_memory_of_signals_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def shuffled(kind: str, rho: float, responses: np.ndarray, runs: np.ndarray, seed: int) -> object:
        return refits.surrogates("iid_shuffle", responses, runs, n_permutations=99, seed=seed, allow_iid=True)

    monkeypatch.setattr(refits, "_drawn", shuffled)
    monkeypatch.setattr(refits, "N_DRAWS", 99)
    p = np.concatenate(list(refits._p_values(0.8, "circular_shift", 3, 0)), axis=1)
    assert (p[0] <= 0.05).mean() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("kind", refits.KINDS)
def test_the_full_design_can_be_drawn_at_every_memory(rho: float, kind: str) -> None:
    (p,) = refits._p_values(rho, kind, 1, 0)  # type: ignore[arg-type]
    assert p.shape == (2, 20)
    assert ((p > 0) & (p <= 1)).all()
