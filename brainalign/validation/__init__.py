"""Ground truths that the methods must recover, and illusions that they must not fall for, on simulated data."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
