"""Features and recordings on one clock: volumes of fMRI, word-locked latencies of MEG, EEG and ECoG, or items."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
