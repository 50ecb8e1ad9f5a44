"""From a design to scores: ridge encoders, leakage-safe splits, metrics and cross-validation. Arrays in, arrays out."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
