"""From a design to scores: ridge encoders, leakage-safe splits, metrics and cross-validation. Arrays in, arrays out."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "cross_validation": ["FoldScores", "cross_val_scores", "cross_validate"],
        "metrics": ["pearson", "r2"],
        "ridge": ["RidgeEncoder"],
        "splits": ["ContiguousBlocks", "LeaveOneRunOut", "Splitter", "Splits", "WholeRuns"],
    },
)
