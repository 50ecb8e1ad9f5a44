"""Which layer and which latency, in what order, and how that depends on context and size."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
