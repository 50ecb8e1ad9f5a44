"""How likely scores are by chance: surrogates, refitted nulls, tests within and across subjects, intervals."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
