"""A realised tensor keeps its buffer; NumPy, DLPack and other processes see the same memory
(rule 2)."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import record, sharing


class TestNumPy:
    def test_the_array_is_the_tensors_memory(self) -> None:
        t = flambeau.arange(6.0).view(2, 3)
        a = t.numpy()
        assert a.ctypes.data == t.data_ptr()
        t.add_(1.0)
        np.testing.assert_array_equal(a, [[1, 2, 3], [4, 5, 6]])
        a[0, 0] = 10.0
        assert t[0, 0].item() == 10.0
        assert (t * 2).tolist()[0][0] == 20.0

    def test_what_was_recorded_before_reads_the_old_values(self) -> None:
        t = flambeau.zeros(3)
        t.sum().item()
        before = t + 1.0
        a = t.numpy()
        a[:] = 5.0
        assert before.tolist() == [1.0, 1.0, 1.0]
        after = t + 1.0
        a[:] = 9.0
        assert after.tolist() == [6.0, 6.0, 6.0]

    def test_views_and_their_strides(self) -> None:
        t = flambeau.arange(12.0).view(3, 4)
        a = t.t()[1:].numpy()
        assert a.strides == (4, 16)
        t[2, 3] = -1.0
        assert a[2, 2] == -1.0
        a[0, 0] = 50.0
        assert t[0, 1].item() == 50.0

    def test_a_tensor_over_an_array(self) -> None:
        a = np.arange(6.0).reshape(2, 3)
        t = flambeau.from_numpy(a)
        assert t.data_ptr() == a.ctypes.data
        y = t * 2
        a[0, 1] = 100.0
        assert y[0, 1].item() == 2.0
        assert t[0, 1].item() == 100.0
        t.mul_(2.0)
        assert a[0, 1] == 200.0
        t[1] = 0.0
        assert a[1].sum() == 0.0

    def test_a_tensor_over_a_strided_array(self) -> None:
        a = np.arange(12.0).reshape(3, 4)
        t = flambeau.from_numpy(a.T[1:])
        assert t.stride() == (1, 4)
        t.zero_()
        np.testing.assert_array_equal(a[:, 1:], np.zeros((3, 3)))

    def test_the_memory_outlives_the_tensor(self) -> None:
        a = (flambeau.ones(1000) * 3).numpy()
        gc.collect()
        flambeau.zeros(1000).numpy()
        assert a.sum() == 3000.0

    def test_the_memory_outlives_the_array(self) -> None:
        t = flambeau.from_numpy(np.full(1000, 3.0))
        gc.collect()
        assert t.sum().item() == 3000.0

    def test_exposure_ends_with_its_last_holder(self) -> None:
        t = flambeau.ones(3)
        a = t.numpy()
        part = a[1:]
        del a
        assert record.is_exposed(t._cell)
        del part
        assert not record.is_exposed(t._cell)

    def test_exposure_of_an_array_ends_when_only_the_tensor_holds_it(self) -> None:
        a = np.ones((2, 3))
        row = a[0]
        t = flambeau.from_numpy(a)
        del a
        assert record.is_exposed(t._cell)
        del row
        assert not record.is_exposed(t._cell)

    def test_operations_on_large_exposed_tensors_are_not_left_pending(self) -> None:
        a = np.ones(100_000)
        y = flambeau.from_numpy(a) + 1.0
        flushes = record.counters.flushes
        a[:] = 7.0
        assert (y.numpy() == 2.0).all()
        assert record.counters.flushes == flushes

    def test_operations_on_small_exposed_tensors_see_what_was_there(self) -> None:
        a = np.ones((3, 2))
        t = flambeau.from_numpy(a)
        flushes = record.counters.flushes
        first = t + 1.0
        a[0] = 7.0
        second = flambeau.cat([t[0], t[1] * t[1]])
        a[:] = np.nan
        third = first + t.isnan()
        parts = t.split(1)
        a[:] = 3.0
        same = flambeau.stack([t, t]).sum() + flambeau.empty(3, 2).copy_(t).sum()
        assert record.counters.flushes == flushes
        a[:] = -1.0
        assert first.tolist() == [[2.0, 2.0]] * 3
        assert second.tolist() == [7.0, 7.0, 1.0, 1.0]
        assert third.tolist() == [[3.0, 3.0]] * 3
        assert same.item() == 54.0
        assert parts[1].tolist() == [[-1.0, -1.0]]  # a view

    def test_gradients_through_exposed_tensors(self) -> None:
        """What a rule reads is the memory itself, as in PyTorch: it was not copied to be saved."""
        a = np.array([1.0, 2.0], "float32")
        x = flambeau.from_numpy(a).requires_grad_()
        w = flambeau.tensor([3.0, 4.0], requires_grad=True)
        loss = (x * w).sum()
        a[:] = 5.0
        loss.backward()
        assert loss.item() == 11.0
        assert x.grad.tolist() == [3.0, 4.0]
        assert w.grad.tolist() == [5.0, 5.0]

    def test_writes_among_reads_of_exposed_memory(self) -> None:
        a = np.zeros(4)
        t = flambeau.from_numpy(a)
        seen = []
        for k in range(3):
            seen.append(t * 1)
            t[k:].add_(1.0)
            assert a.tolist() == t.tolist()
        assert [s.tolist() for s in seen] == [[0.0] * 4, [1.0] * 4, [1.0, 2.0, 2.0, 2.0]]

    def test_writes_of_what_was_read_are_done_in_place(self) -> None:
        a = np.arange(1000.0)
        t = flambeau.from_numpy(a)
        flushes = record.counters.flushes
        t.mul_(2.0)
        assert not list(record._programs.values())[-1].copies
        t[500:].add_(t[:500])
        assert record.counters.flushes == flushes + 2
        np.testing.assert_array_equal(a[:500], np.arange(500) * 2)
        np.testing.assert_array_equal(a[500:], np.arange(500) * 4 + 1000)

    def test_an_error_in_a_write_leaves_the_memory_alone(self) -> None:
        a = np.ones(3)
        t = flambeau.from_numpy(a)
        with pytest.raises(IndexError):
            t.index_add_(0, flambeau.tensor([5]), flambeau.ones(1, dtype=flambeau.float64))
        assert not record.thread.joined
        assert a.tolist() == t.tolist() == [1.0, 1.0, 1.0]
        assert not record.thread.used

    def test_the_buffer_stays_over_in_place_operations(self) -> None:
        t = flambeau.zeros(100)
        address = t.data_ptr()
        for _ in range(3):
            t.add_(1.0)
            t.sum().item()
        t[10:20] = 5.0
        t.copy_(flambeau.ones(100) * 2)
        assert t.data_ptr() == address
        assert t.sum().item() == 200.0


class TestReadersBeforeWriters:
    def test_earlier_readers_get_the_old_value(self) -> None:
        t = flambeau.arange(5.0)
        t.sum().item()
        doubled = t * 2
        t.add_(100.0)
        tripled = t * 3
        assert doubled.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
        assert tripled.tolist() == [300.0, 303.0, 306.0, 309.0, 312.0]

    def test_reversed_onto_itself(self) -> None:
        t = flambeau.arange(100_000.0)
        t.sum().item()
        t.copy_(t.flip(0))
        np.testing.assert_array_equal(t.numpy(), np.arange(100_000.0)[::-1])

    def test_two_tensors_exchange_their_values(self) -> None:
        a, b = flambeau.zeros(5), flambeau.ones(5)
        a.sum().item()
        b.sum().item()
        new_a, new_b = b * 2, a + 7
        a.copy_(new_a)
        b.copy_(new_b)
        del new_a, new_b
        assert a.tolist() == [2.0] * 5
        assert b.tolist() == [7.0] * 5

    def test_a_reduction_of_the_old_value_in_the_new(self) -> None:
        t = flambeau.arange(1000.0)
        t.sum().item()
        t.sub_(t.mean())
        assert abs(t.sum().item()) < 1e-2


DTYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]


class TestDLPack:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_to_numpy_without_a_copy(self, dtype: str) -> None:
        t = flambeau.ones(2, 3, dtype=getattr(flambeau, dtype))
        a = np.from_dlpack(t)
        assert str(a.dtype) == dtype
        assert a.ctypes.data == t.data_ptr()
        t.zero_()
        assert not a.any()

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_from_numpy_without_a_copy(self, dtype: str) -> None:
        a = np.ones((2, 3), dtype)
        t = flambeau.from_dlpack(a)
        assert t.dtype is getattr(flambeau, dtype)
        assert t.data_ptr() == a.ctypes.data
        t.zero_()
        assert not a.any()

    def test_strides_both_ways(self) -> None:
        a = np.arange(12.0).reshape(3, 4)
        t = flambeau.from_dlpack(a.T[1:, ::2])
        np.testing.assert_array_equal(t.numpy(), a.T[1:, ::2])
        back = np.from_dlpack(t.t())
        np.testing.assert_array_equal(back, a.T[1:, ::2].T)
        t.fill_(-1.0)
        assert (back == -1).all()
        assert a[0, 1] == -1
        assert a[1, 1] == 5

    def test_the_memory_lives_as_long_as_either_side(self) -> None:
        a = np.from_dlpack(flambeau.full((1000,), 3.0))
        gc.collect()
        flambeau.zeros(1000).numpy()
        assert a.sum() == 3000
        t = flambeau.from_dlpack(np.full(1000, 4.0))
        gc.collect()
        assert t.sum().item() == 4000.0

    def test_a_lender_knows_for_how_long(self) -> None:
        t = flambeau.ones(3)
        a = np.from_dlpack(t)
        assert record.is_exposed(t._cell)
        del a
        assert not record.is_exposed(t._cell)

    def test_a_capsule_nobody_took(self) -> None:
        t = flambeau.ones(3)
        capsule = t.__dlpack__()
        assert record.is_exposed(t._cell)
        del capsule
        assert not record.is_exposed(t._cell)

    def test_a_capsule_is_taken_once(self) -> None:
        capsule = flambeau.ones(3).__dlpack__()
        assert flambeau.from_dlpack(capsule).tolist() == [1.0, 1.0, 1.0]
        with pytest.raises(RuntimeError, match="consumed only once"):
            flambeau.from_dlpack(capsule)

    def test_a_tensor_that_requires_grad_is_refused(self) -> None:
        with pytest.raises(BufferError, match="require gradient"):
            flambeau.ones(3, requires_grad=True).__dlpack__()

    def test_the_device(self) -> None:
        assert flambeau.ones(1).__dlpack_device__() == (1, 0)

    def test_zero_dimensions_and_no_elements(self) -> None:
        assert np.from_dlpack(flambeau.tensor(2.5)) == 2.5
        assert np.from_dlpack(flambeau.zeros(2, 0)).shape == (2, 0)
        assert flambeau.from_dlpack(np.array(2.5)).item() == 2.5
        assert flambeau.from_dlpack(np.zeros((2, 0))).shape == (2, 0)

    def test_with_torch(self) -> None:
        torch = pytest.importorskip("torch")
        t = flambeau.arange(6.0).view(2, 3)
        theirs = torch.from_dlpack(t)
        theirs.mul_(2)
        assert t.tolist() == [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]
        half = torch.ones(3, dtype=torch.bfloat16)
        ours = flambeau.from_dlpack(half)
        ours.add_(1.0)
        assert half.tolist() == [2.0, 2.0, 2.0]
        assert ours.dtype is flambeau.bfloat16


class TestStorages:
    def test_views_share_their_storage(self) -> None:
        t = flambeau.arange(6.0)
        storage = t.untyped_storage()
        assert storage.nbytes() == len(storage) == 24
        assert storage == t[2:].untyped_storage()
        assert storage.data_ptr() == t.data_ptr()
        assert t[2:].storage_offset() == 2

    def test_elements_and_bytes(self) -> None:
        t = flambeau.arange(6.0)
        typed = t.storage()
        typed[1] = 9.0
        assert t[1].item() == 9.0
        assert typed.tolist() == [0.0, 9.0, 2.0, 3.0, 4.0, 5.0]
        t.untyped_storage().fill_(0)
        assert t.sum().item() == 0.0

    def test_two_element_types_over_one_storage(self) -> None:
        storage = flambeau.UntypedStorage(8)
        words = flambeau.storage.tensor_from_storage(storage, flambeau.int32, 0, (2,), (1,))
        bits = flambeau.storage.tensor_from_storage(storage, flambeau.float32, 0, (2,), (1,))
        words.fill_(0x3F800000)
        assert bits.tolist() == [1.0, 1.0]
        bits[1] = 2.0
        assert words.tolist() == [0x3F800000, 0x40000000]

    def test_out_of_bounds(self) -> None:
        storage = flambeau.UntypedStorage(8)
        with pytest.raises(RuntimeError, match="out of bounds for storage of size 8"):
            flambeau.storage.tensor_from_storage(storage, flambeau.float32, 1, (2,), (1,))

    def test_pickles(self) -> None:
        storage = flambeau.arange(3, dtype=flambeau.uint8).untyped_storage()
        assert pickle.loads(pickle.dumps(storage)).tolist() == [0, 1, 2]


def _write(t: Any) -> None:
    t.fill_(42.0)
    t.sum().item()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_shared_memory_is_seen_by_forked_processes() -> None:
    t = flambeau.zeros(1000)
    assert not t.is_shared()
    assert t.share_memory_() is t
    assert t.is_shared()
    assert t[5:].is_shared()
    child = multiprocessing.get_context("fork").Process(target=_write, args=(t,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert t.sum().item() == 42_000.0


def _double(part: Any, whole: Any, back: Any, taken: Any) -> None:
    part.mul_(2)
    whole[0] = 7
    back.put(flambeau.full((3,), 5.0))
    taken.wait(60)


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_processes_are_sent_memory(method: str) -> None:
    context = multiprocessing.get_context(method)
    x, back, taken = flambeau.arange(6.0), context.Queue(), context.Event()
    worker = context.Process(target=_double, args=(x[2:4].share_memory_(), x, back, taken))
    worker.start()
    try:
        assert back.get(timeout=60).tolist() == [5, 5, 5]
    finally:
        taken.set()
        worker.join()
    assert x.is_shared()
    assert x.tolist() == [7, 1, 4, 6, 4, 5]


def test_results_that_autograd_follows_are_not_sent() -> None:
    y = flambeau.ones(2, requires_grad=True) * 2
    with pytest.raises(RuntimeError, match="Cowardly refusing"):
        sharing._send(y)
