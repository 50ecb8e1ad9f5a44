"""Where the products with responses are computed: numpy, or torch on a CPU or a GPU."""

from __future__ import annotations

import functools
import importlib.util
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import array_api_compat
import numpy as np
import threadpoolctl
from scipy.linalg import get_lapack_funcs

__all__ = ["Backend", "BackendName", "choose_backend", "threads_allowed"]

BackendName = Literal["auto", "numpy", "torch"]
Item = TypeVar("Item")
Result = TypeVar("Result")

# Below so many operations nothing is won by looking for a faster backend: ten times more where torch, which takes
# seconds to import, is not there yet.
WORTH_CALIBRATING = 3e11
# What another backend must win before it is taken, so that the noise of one timing does not decide.
CLEARLY_FASTER = 1.1


@dataclass(frozen=True)
class Backend:
    """An array library and a device; all linear algebra is written once, in the functions that both libraries share.

    Attributes
    ----------
    name : {"numpy", "torch"}
    device : str
        "cpu", or a device of torch such as "cuda" or "cuda:1".
    threads : int
        How many things numpy computes at a time; torch has threads of its own.

    Examples
    --------
    >>> backend = Backend("numpy")
    >>> backend.to_numpy(backend.array([1.0, 2.0], "float32")).dtype
    dtype('float32')
    """

    name: Literal["numpy", "torch"] = "numpy"
    device: str = "cpu"
    threads: int = 1

    @property
    def xp(self) -> Any:
        """The library's functions under their array-API names."""
        if self.name == "numpy":
            return array_api_compat.array_namespace(np.empty(0))
        import torch

        return array_api_compat.array_namespace(torch.empty(0))

    def array(self, values: Any, dtype: str = "float64") -> Any:
        """Values as an array of this library, on its device."""
        if self.name == "numpy":
            return np.asarray(values, dtype=dtype)
        import torch

        return torch.as_tensor(np.ascontiguousarray(values), dtype=getattr(torch, dtype), device=self.device)

    def index(self, values: np.ndarray) -> Any:
        """Whole numbers to index an array of this library with."""
        return self.array(values, "int64")

    def dots(self, left: Any, right: Any) -> Any:
        """Inner product of each column (m, v) of one array with the same column of the other, shape (v,)."""
        # Each library's fastest way; torch's einsum is five times slower here.
        return np.einsum("mv,mv->v", left, right) if self.name == "numpy" else (left * right).sum(0)

    def inverse(self, matrix: Any) -> Any:
        """Inverse of a symmetric positive definite matrix (n, n)."""
        if self.name == "torch":
            return self.xp.linalg.inv(matrix)
        # From the Cholesky factor: half the work of a general inverse.
        potrf, potri = get_lapack_funcs(("potrf", "potri"), (matrix,))
        factor, failed = potrf(matrix.T, lower=1)
        if failed:
            return np.linalg.inv(matrix)
        lower, _ = potri(factor, lower=1, overwrite_c=1)
        inverse = lower + lower.T
        inverse.flat[:: len(inverse) + 1] /= 2.0
        return inverse

    def on_its_own_threads(self) -> AbstractContextManager[Any]:
        """Within it `map` is the only source of threads: numpy's products run on one each.

        A library's threads wait for more work by running in circles, and would take the cores from those of `map`.
        """
        return _one_thread_each() if self.device == "cpu" else nullcontext()

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results in the order of the items, `threads` of them computed at a time on a CPU.

        Within `on_its_own_threads` results do not depend on the number of threads, not in their last bits, small
        products gain, and what is not a product does too. Few results wait at a time, so that memory does not grow
        with the number of items.
        """
        if self.device != "cpu" or self.threads == 1:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(self.threads, initializer=_one_thread_here) as pool:
            waiting: deque[Future[Result]] = deque()
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def to_numpy(self, values: Any) -> np.ndarray:
        """An array of this library as one of numpy's."""
        return np.asarray(values if self.name == "numpy" else values.cpu())

    def __str__(self) -> str:
        return f"{self.name} ({self.device})"


def choose_backend(backend: BackendName, device: str | None, operations: float) -> Backend:
    """The backend asked for or, for "auto", the fastest at hand.

    A GPU that torch sees is taken for large problems. Otherwise numpy is, unless a short calibration (an
    eigendecomposition and a product of the kind that fits are made of) shows torch to be clearly faster.

    Parameters
    ----------
    backend : {"auto", "numpy", "torch"}
    device : str, optional
        A device of torch; by default a GPU if torch sees one.
    operations : float
        How many floating-point operations the fit will take; "auto" tries nothing for a small one.

    Raises
    ------
    ValueError
        If there is no such backend or device, or numpy is asked for on a device other than the CPU.
    """
    if backend not in get_args(BackendName):
        raise ValueError(f"backend must be one of {', '.join(get_args(BackendName))}, not {backend!r}.")
    worth = WORTH_CALIBRATING * (1 if "torch" in sys.modules else 10)
    if backend == "numpy" or (backend == "auto" and device is None and operations < worth):
        if device not in (None, "cpu"):
            raise ValueError(f"The numpy backend computes on the CPU only; device is {device!r}: use backend='torch'.")
        return Backend()
    if importlib.util.find_spec("torch") is None:
        if backend == "auto" and device in (None, "cpu"):
            return Backend()
        raise ValueError("The torch backend needs torch, which is not installed: use backend='numpy'.")
    return Backend("torch", _torch_device(device)) if backend == "torch" or device not in (None, "cpu") else _fastest()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    _one_thread_here()
    try:
        with threadpoolctl.threadpool_limits(1):
            yield
    finally:
        if torch:
            torch.set_num_threads(before)


def _one_thread_here() -> None:
    """Keep torch, if it is there, to one thread in the thread that calls this: the setting is one of each."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def threads_allowed() -> int:
    """As many threads as numpy's products would use now: what OMP_NUM_THREADS, a job's limits or joblib leave."""
    return max((pool["num_threads"] for pool in threadpoolctl.threadpool_info()), default=1)


def _torch_device(device: str | None) -> str:
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as problem:
        raise ValueError(f"torch cannot compute on device {device!r} here: {str(problem).splitlines()[0]}") from problem
    return device


@functools.cache
def _fastest() -> Backend:
    on_torch = Backend("torch", _torch_device(None))
    if on_torch.device != "cpu":
        return on_torch
    numpy_s, torch_s = (_calibrate(candidate) for candidate in (Backend(), on_torch))
    return on_torch if numpy_s > CLEARLY_FASTER * torch_s else Backend()


def _calibrate(backend: Backend) -> float:
    """Seconds that an eigendecomposition and a product take, the best of three."""
    rng = np.random.default_rng(0)
    square = rng.normal(size=(600, 600))
    kernel, left = backend.array(square @ square.T), backend.array(square, "float32")
    right = backend.array(rng.normal(size=(600, 4000)), "float32")
    work: tuple[Callable[[], Any], ...] = (lambda: backend.xp.linalg.eigh(kernel), lambda: left @ right)
    return sum(min(_seconds(call) for _ in range(3)) for call in work)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
