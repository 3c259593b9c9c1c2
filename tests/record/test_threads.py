"""Several threads record and flush at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import record


def together(count: int, work: Callable[[int], None]) -> None:
    """Run work(0), work(1), .. in threads that start at once; raise the first error."""
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def run(k: int) -> None:
        try:
            barrier.wait(30)
            work(k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def test_values() -> None:
    def work(k: int) -> None:
        x = flambeau.arange(100.0) + float(k)
        for i in range(30):
            y = (x * float(i) + 1.0).sum()
            assert y.item() == pytest.approx(((np.arange(100.0) + k) * i + 1).sum(), rel=1e-5)

    together(4, work)


def test_writes_to_tensors_of_their_own() -> None:
    tensors = [flambeau.zeros(50) for _ in range(4)]

    def work(k: int) -> None:
        for i in range(50):
            tensors[k].add_(float(k))
            if i % 7 == k:
                record.flush()

    together(4, work)
    for k, t in enumerate(tensors):
        assert t.tolist() == [50.0 * k] * 50


def test_gradients() -> None:
    weight = flambeau.ones(20)
    weight.numpy()
    found: dict[int, Any] = {}

    def work(k: int) -> None:
        w = weight.clone().requires_grad_()
        for _ in range(10):
            ((w * float(k)) ** 2).sum().backward()
        found[k] = w.grad.tolist()

    together(3, work)
    for k in range(3):
        assert found[k] == [20.0 * k * k] * 20


def test_modes_are_a_threads_own() -> None:
    inside, done = threading.Event(), threading.Event()
    seen = []

    def quiet() -> None:
        with flambeau.no_grad():
            inside.set()
            done.wait(30)

    def loud() -> None:
        inside.wait(30)
        seen.append((flambeau.ones(1, requires_grad=True) * 2).requires_grad)
        done.set()

    together(2, lambda k: quiet() if k else loud())
    assert seen == [True]


def test_one_thread_reads_what_another_records() -> None:
    made: list[Any] = []
    ready = threading.Semaphore(0)

    def work(k: int) -> None:
        for i in range(50):
            if k == 0:
                made.append(flambeau.full((10,), float(i)) * 2)
                ready.release()
            else:
                assert ready.acquire(timeout=30)
                assert made[i].tolist() == [2.0 * i] * 10

    together(2, work)


def test_random_numbers_are_drawn_once() -> None:
    drawn: list[float] = []

    def work(k: int) -> None:
        drawn.extend(flambeau.rand(1).item() for _ in range(50))

    together(4, work)
    assert len(set(drawn)) == 200


def test_an_error_raises_in_one_thread_only() -> None:
    caught: list[BaseException] = []

    def work(k: int) -> None:
        for _ in range(10):
            if k == 0:
                y = flambeau.nn.functional.embedding(flambeau.tensor([5]), flambeau.ones(2, 2))
                try:
                    y.tolist()
                except IndexError as error:
                    caught.append(error)
            else:
                t = flambeau.ones(3) * 4
                try:
                    assert t.tolist() == [4.0] * 3
                except IndexError:  # this thread's flush ran the other's program
                    assert t.tolist() == [4.0] * 3

    together(2, work)
