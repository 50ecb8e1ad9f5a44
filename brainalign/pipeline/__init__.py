"""From a dataset and features to scores, and from a recipe to a result folder."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
