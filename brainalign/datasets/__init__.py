"""Datasets: from files to stimuli and recordings; fetching files, reading words, checking responses.

Each public name is loaded when first used; the names are in ``__init__.pyi``.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
