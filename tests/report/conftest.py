"""Scores made up for the tests of tables, figures and pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from brainalign.types import Scores


def make_scores(
    *,
    subjects: Sequence[str] = ("s01", "s02", "s03"),
    targets: Sequence[str] | dict[str, Sequence[str]] = ("A1", "STG"),
    spaces: dict[str, int] | None = None,
    n_folds: int = 3,
    latency_s: Sequence[float] | None = None,
    baseline: bool = True,
    kind: str = "region",
    places: np.ndarray | None = None,
    level: float = 0.2,
    gain: float = 0.02,
    seed: int = 0,
) -> Scores:
    """Scores with a hump over the layers, the highest at two thirds, and over latencies at 0.4 s.

    `targets` are those of each subject, or differ by subject; `places` are their x, y, z. `gain` is what the best
    layer adds to the baseline in the mean.
    """
    rng = np.random.default_rng(seed)
    spaces = {"toy-model": 4} if spaces is None else spaces
    owned = {subject: targets[subject] if isinstance(targets, dict) else targets for subject in subjects}
    subject_of = [subject for subject in subjects for _ in owned[subject]]
    names = [name for subject in subjects for name in owned[subject]]
    index = np.concatenate([np.arange(n) for n in spaces.values()])
    depth = np.concatenate([np.linspace(0, 1, n) if n > 1 else np.zeros(1) for n in spaces.values()])
    hump = np.exp(-0.5 * ((depth - 2 / 3) / 0.35) ** 2)[:, None, None, None]  # (layer, fold, target, latency)
    course = np.ones(1) if latency_s is None else np.exp(-0.5 * ((np.asarray(latency_s) - 0.4) / 0.15) ** 2)
    shape = (len(depth), n_folds, len(names), len(course))
    of_subject = dict(zip(subjects, 1 + 0.2 * rng.standard_normal(len(subjects)), strict=True))
    size = np.array([of_subject[s] for s in subject_of])[:, None] * (1 + 0.15 * rng.standard_normal((len(names), 1)))
    r = level * hump * size * course + 0.15 * level * rng.standard_normal(shape)
    r_baseline = 0.9 * level * size * course + 0.1 * level * rng.standard_normal(shape[1:])
    r_joint = r_baseline + gain * hump * course + 0.1 * level * rng.standard_normal(shape)
    by_layer: tuple[str, ...] = ("layer", "fold", "target", "latency")
    if latency_s is None:
        by_layer, r, r_baseline, r_joint = by_layer[:3], r[..., 0], r_baseline[..., 0], r_joint[..., 0]
    variables = {
        "r": (by_layer, r),
        "r2": (by_layer, r * np.abs(r) - 0.01),
        "alpha": (by_layer, np.full(r.shape, 10.0)),
    }
    if baseline:
        variables |= {"r_baseline": (by_layer[1:], r_baseline), "r2_baseline": (by_layer[1:], r_baseline**2)}
        variables |= {"r_joint": (by_layer, r_joint), "r2_joint": (by_layer, r_joint**2)}
    variables["status"] = ("target", np.array(["ok"] * len(names), dtype=object))
    xyz = np.full((len(names), 3), np.nan) if places is None else places
    return Scores(
        {
            name: (dims, np.asarray(v, dtype=np.float32) if v.dtype == float else v)
            for name, (dims, v) in variables.items()
        },
        coords={
            "feature_space": ("layer", [space for space, n in spaces.items() for _ in range(n)]),
            "layer_name": ("layer", [f"layer {i}" for i in index]),
            "layer_index": ("layer", index),
            "depth": ("layer", depth),
            "subject": ("target", subject_of),
            "target_name": ("target", names),
            "target_kind": ("target", [kind] * len(names)),
            **{axis: ("target", xyz[:, i]) for i, axis in enumerate("xyz")},
            **({} if latency_s is None else {"latency": ("latency", np.asarray(latency_s, dtype=float))}),
        },
        attrs={"brainalign": "0.1.0"},
    )


def spoil(scores: Scores, *targets: int, status: str = "constant") -> Scores:
    """The same scores with these targets undefined."""
    spoilt = scores.copy(deep=True)
    for name in ("r", "r2", "r_baseline", "r2_baseline", "r_joint", "r2_joint", "alpha"):
        if name in spoilt:
            spoilt[name][{"target": list(targets)}] = np.nan
    spoilt["status"][{"target": list(targets)}] = status
    return spoilt


@pytest.fixture(name="make_scores")
def make_scores_fixture() -> Callable[..., Scores]:
    return make_scores


@pytest.fixture(name="spoil")
def spoil_fixture() -> Callable[..., Scores]:
    return spoil
