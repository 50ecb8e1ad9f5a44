"""Ground truths about variance partitioning: planted shares of variance, and a large space that says nothing."""

from __future__ import annotations

import numpy as np

from brainalign.analysis.partitions.partitioning import Partition, partition
from brainalign.encoding import BandedRidgeEncoder, ContiguousBlocks, RidgeEncoder, cross_val_scores
from brainalign.types import Floats
from brainalign.validation.checks import Check, Size

__all__ = ["v8", "v10"]

# The variance that each of two spaces explains alone, and that either does.
UNIQUE_A, UNIQUE_B, SHARED = 0.10, 0.05, 0.15


def v8(size: Size = "quick", seed: int = 0) -> list[Check]:
    """Two spaces with a part of their own and a part in common: unique and shared variance must come back."""
    n_targets, n_iter = (40, 10) if size == "quick" else (100, 50)
    spaces, y = _overlapping(np.random.default_rng(seed), n_samples=2000, n_dimensions=10, n_targets=n_targets)
    encoder = BandedRidgeEncoder(n_iter=n_iter, random_state=seed)
    found = partition(spaces, y, None, ContiguousBlocks(5), encoder)
    design = "A, B with 10 dimensions each of their own and 10 in common, n = 2000, EV .10, .05 and .15"
    planted = {"A": UNIQUE_A, "B": UNIQUE_B, "shared": SHARED, "joint": UNIQUE_A + UNIQUE_B + SHARED}
    means = _means(found)
    errors = _identity_errors(found)
    return [
        Check(
            "V8",
            design,
            "unique, shared and joint within .02 of what was planted",
            ", ".join(f"{name} {means[name]:.3f} (of {value:.2f})" for name, value in planted.items()),
            all(abs(means[name] - value) <= 0.02 for name, value in planted.items()),
        ),
        Check(
            "V8",
            design,
            "parts and product measures add up to the joint R2 within 1e-12",
            f"parts {errors[0]:.1e}, product measures {errors[1]:.1e}",
            max(errors) <= 1e-12,
        ),
    ]


def v10(size: Size = "quick", seed: int = 0) -> list[Check]:
    """A small true space beside a large one of noise: banded ridge must lose nothing, plain ridge drowns."""
    n_targets, n_iter, n_folds = (20, 3, 3) if size == "quick" else (60, 20, 5)
    rng = np.random.default_rng(seed)
    true, noise = rng.normal(size=(600, 20)), rng.normal(size=(600, 500))
    y = _explaining(rng, true, 0.2, n_targets) + np.sqrt(0.8) * rng.normal(size=(600, n_targets))
    alphas, splitter = tuple(np.logspace(0, 6, 13).tolist()), ContiguousBlocks(n_folds)
    encoder = BandedRidgeEncoder(alphas=alphas, n_iter=n_iter, random_state=seed)
    found = partition({"true": true, "noise": noise}, y, None, splitter, encoder)
    plain = cross_val_scores(np.hstack([true, noise]), y, encoder=RidgeEncoder(alphas=alphas), splitter=splitter)
    alone, joint, one_penalty = (float(r2.mean()) for r2 in (found.r2["true",], found.joint, plain.r2))
    of_noise = float("nan") if found.r2_product is None else float(found.r2_product["noise"].mean())
    design = "20 true and 500 noise dimensions, n = 600, EV .2"
    return [
        Check(
            "V10",
            design,
            "banded R2 >= R2 of the true dimensions alone - .02",
            f"banded {joint:.3f}, alone {alone:.3f}",
            joint >= alone - 0.02,
        ),
        Check(
            "V10",
            design,
            "product measure and unique R2 of the noise within .01 of 0",
            f"product measure {of_noise:.4f}, unique {found.unique('noise').mean():.4f}",
            bool(abs(of_noise) <= 0.01 and abs(found.unique("noise").mean()) <= 0.01),
        ),
        Check(
            "V10",
            design,
            "one penalty for all: R2 <= .5 x R2 of the true dimensions alone (why joint models are banded)",
            f"one penalty {one_penalty:.3f}, alone {alone:.3f}",
            one_penalty <= 0.5 * alone,
        ),
    ]


def _means(found: Partition) -> dict[str, float]:
    parts = found.parts
    by_name = {"A": parts["A",], "B": parts["B",], "shared": parts["A", "B"], "joint": found.joint}
    return {name: float(values.mean()) for name, values in by_name.items()}


def _identity_errors(found: Partition) -> tuple[float, float]:
    """How far the parts, and the product measures, are from adding up to the joint R2."""
    products = [] if found.r2_product is None else list(found.r2_product.values())
    sums = [np.sum(list(found.parts.values()), axis=0), np.sum(products, axis=0)]
    of_parts, of_products = (float(np.abs(total - found.joint).max()) for total in sums)
    return of_parts, of_products


def _overlapping(
    rng: np.random.Generator, n_samples: int, n_dimensions: int, n_targets: int
) -> tuple[dict[str, Floats], Floats]:
    """Two spaces, each a rotation of its own and the common dimensions, and responses to all of these."""
    own_a, own_b, common = rng.normal(size=(3, n_samples, n_dimensions))
    shares = ((own_a, UNIQUE_A), (own_b, UNIQUE_B), (common, SHARED))
    noise = np.sqrt(1.0 - sum(share for _, share in shares)) * rng.normal(size=(n_samples, n_targets))
    y = noise + sum(_explaining(rng, latent, share, n_targets) for latent, share in shares)
    return {name: _rotated(rng, np.hstack([own, common])) for name, own in (("A", own_a), ("B", own_b))}, y


def _rotated(rng: np.random.Generator, columns: Floats) -> Floats:
    n_dimensions = columns.shape[1]
    return columns @ np.linalg.qr(rng.normal(size=(n_dimensions, n_dimensions)))[0]


def _explaining(rng: np.random.Generator, latent: Floats, share: float, n_targets: int) -> Floats:
    """Signals (sample, target) that follow the latent dimensions, with `share` as their variance."""
    signal = latent @ rng.normal(size=(latent.shape[1], n_targets))
    return np.sqrt(share) * (signal - signal.mean(axis=0)) / signal.std(axis=0)
