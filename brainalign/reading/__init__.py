"""Files as they are: tables, words and their times, arrays, sensors, volumes, surfaces; two clocks on one.

Each public name is loaded when first used; the names are in ``__init__.pyi``.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
