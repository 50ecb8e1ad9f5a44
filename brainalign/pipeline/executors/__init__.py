"""Where units are done: processes of this machine, jobs of Slurm, workers of Dask."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
