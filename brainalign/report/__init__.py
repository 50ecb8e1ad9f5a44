"""What the scores say: tables, figures and one HTML page that opens offline.

The names are in ``__init__.pyi``; each is loaded when first used, so that a table does not wait for matplotlib.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
