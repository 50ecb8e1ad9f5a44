"""How well does each layer of a language model predict human brain responses to language?

Importing this package loads nothing heavy: each public name is loaded when first used. The names are in
``__init__.pyi``.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
