"""From a dataset and features to scores, and from a recipe to a result folder."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "machine": ["describe_machine"],
        "results": ["open_scores"],
        "run": ["Outcome", "Status", "report", "run", "status"],
        "score": ["score_layers"],
    },
)
