"""Whether words to come are in responses already, and how far ahead they can be known."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
