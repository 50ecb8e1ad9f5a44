"""Backends compute the same, and the choice among them is told or refused clearly."""

from __future__ import annotations

import time

import numpy as np
import pytest
import threadpoolctl

from brainalign.encoding import backends
from brainalign.encoding.backends import Backend, choose_backend, threads_allowed


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_an_inverse_is_one(name: str) -> None:
    random = np.random.default_rng(0).normal(size=(30, 50))
    matrix = random @ random.T
    backend = Backend(name)  # type: ignore[arg-type]
    inverse = backend.to_numpy(backend.inverse(backend.array(matrix)))
    np.testing.assert_allclose(inverse, np.linalg.inv(matrix), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(inverse, inverse.T, atol=1e-12)


def test_a_matrix_that_rounding_made_indefinite_is_inverted_all_the_same() -> None:
    matrix = np.diag([1.0, -1e-3])
    np.testing.assert_allclose(Backend().inverse(matrix), np.diag([1.0, -1e3]))


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_inner_products_go_column_by_column(name: str) -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 7, 3))
    backend = Backend(name)  # type: ignore[arg-type]
    np.testing.assert_allclose(backend.to_numpy(backend.dots(backend.array(a), backend.array(b))), (a * b).sum(axis=0))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_come_in_order_and_few_wait(threads: int) -> None:
    started: list[int] = []

    def slow(item: int) -> int:
        started.append(item)
        time.sleep(0.01 if item % 2 else 0.03)
        return item * item

    found = Backend(threads=threads).map(slow, range(12))
    assert next(found) == 0
    assert len(started) <= 2 * threads + 1
    assert list(found) == [item * item for item in range(1, 12)]


def test_an_error_in_a_thread_is_the_caller_s() -> None:
    with pytest.raises(ZeroDivisionError):
        list(Backend(threads=2).map(lambda item: 1 // item, [1, 0]))


def test_threads_are_those_that_products_may_use() -> None:
    with threadpoolctl.threadpool_limits(1):
        assert threads_allowed() == 1


def test_products_have_one_thread_within() -> None:
    with Backend().on_its_own_threads():
        assert threads_allowed() == 1


def test_small_problems_are_numpy_s_and_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "_fastest", lambda: pytest.fail("calibrated for a small problem"))
    assert choose_backend("auto", None, 1e6) == Backend("numpy")


@pytest.mark.parametrize(
    ("numpy_s", "torch_s", "taken"), [(1.0, 0.5, "torch"), (1.0, 0.95, "numpy"), (0.5, 1.0, "numpy")]
)
def test_torch_is_taken_where_it_is_clearly_faster(
    numpy_s: float, torch_s: float, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {"numpy": numpy_s, "torch": torch_s}
    monkeypatch.setattr(backends, "_calibrate", lambda backend: seconds[backend.name])
    backends._fastest.cache_clear()
    try:
        assert choose_backend("auto", "cpu", 1e15).name == taken
    finally:
        backends._fastest.cache_clear()


def test_the_calibration_runs() -> None:
    assert 0 < backends._calibrate(Backend()) < 60


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("jax", None, "backend must be one of"),
        ("numpy", "cuda", "CPU only"),
        ("torch", "moon", "cannot compute on device 'moon'"),
    ],
)
def test_what_is_not_there_is_refused(name: str, device: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_backend(name, device, 1.0)  # type: ignore[arg-type]
