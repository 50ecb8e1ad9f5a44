"""What a recipe may ask of scores: tests, ceilings, partitions, forecasts, comparisons, decoding; each a stage."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
