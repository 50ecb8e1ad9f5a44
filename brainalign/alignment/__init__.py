"""Features and recordings on one clock: volumes of an fMRI run, or word-locked latencies of MEG, EEG and ECoG."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
