"""Archives of data: which files they have, and how these come here, verified.

Each public name is loaded when first used; the names are in ``__init__.pyi``.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
