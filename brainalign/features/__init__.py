"""From a stimulus to features: language models, a toy that needs none, and the simple properties of words and sound.

Importing this package loads nothing heavy: each public name is loaded when first used. The names are in
``__init__.pyi``.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
