"""Samples of `ops/indexing.py`, `ops/creation.py`, `ops/random.py` and the matrix products."""

from __future__ import annotations

from typing import Any

from flambeau.dtype import float32, float64, int8, int32, int64
from flambeau.ir.fault import Fault
from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples, binary, truths, unary
from flambeau.ops.samples.loss import classes


def once(r: Any, count: int, size: int) -> Any:
    """Distinct indices: writes through them do not collide."""
    return r(size).argsort()[:count]


def sizes(*options: dict[str, Any]) -> Samples:
    """Sizes of a factory function, with options."""
    return lambda r: [(2, 3), ((2, 3),), (0,), *((3, o) for o in options)]


def like(r: Any) -> list[tuple[Any, ...]]:
    """A tensor to be like."""
    return [(r(3, 4).detach(),), (r().detach(), {"dtype": float64}), (r(4, 3).t().detach(),)]


def matrices(*calls: tuple[tuple[int, ...], ...]) -> Samples:
    """Tensors of the given shapes."""
    return lambda r: [tuple(r(*shape) for shape in shapes) for shapes in calls]


SAMPLES: dict[str, Samples] = {
    "_index": lambda r: [
        (r(5, 3), Fault(wraps=True), classes(r, 4, count=10) - 5),
        (r(5, 3), Fault(wraps=True), classes(r, 2, 2, count=10) - 5, classes(r, 2, 2, count=3)),
    ],
    "index_leading": lambda r: [
        (r(5, 3), classes(r, 4, count=5)),
        (r(5, 3), classes(r, 2, 2, count=5), classes(r, 2, 2, count=3)),
        (r(5, 3), classes(r, 0, count=5)),
    ],
    "put_leading": lambda r: [
        (r(5, 3), r(4, 3), "add", classes(r, 4, count=5)),
        (r(5, 3), r(4, 3), "set", once(r, 4, 5)),
    ],
    "gather": lambda r: [
        (r(4, 3), 0, classes(r, 2, 3, count=4)),
        (r(4, 3), 1, classes(r, 4, 5, count=3)),
        (r(4, 3).t(), -1, classes(r, 3, 2, count=4)),
        (r(), 0, classes(r, count=1)),
    ],
    "take_along_dim": lambda r: [
        (r(4, 3), classes(r, 2, 3, count=4), 0),
        (r(4, 3), classes(r, 5, count=12)),
    ],
    "index_select": lambda r: [
        (r(4, 3), 0, classes(r, 5, count=4)),
        (r(4, 3), 1, classes(r, 2, count=3)),
        (r(4, 3), 1, classes(r, 2, count=3).to(int32)),
    ],
    "take": lambda r: [
        (r(4, 3), classes(r, 2, 3, count=12) - 6),
        (r(4, 3).t(), classes(r, count=5)),
    ],
    "scatter": lambda r: [
        (r(5, 3), 0, once(r, 3, 5).reshape(1, 3), r(2, 3)),
        (r(3, 5), 1, classes(r, 3, 1, count=5), 0.5),
    ],
    "scatter_add": lambda r: [
        (r(4, 3), 0, classes(r, 6, 3, count=4), r(6, 3)),
        (r(4, 3), 1, classes(r, 2, 5, count=3), r(4, 6)),
    ],
    "index_add": lambda r: [
        (r(4, 3), 0, classes(r, 6, count=4), r(6, 3)),
        (r(4, 3), 1, classes(r, 2, count=3), r(4, 2), {"alpha": 0.5}),
    ],
    "index_copy": lambda r: [
        (r(4, 3), 0, once(r, 2, 4), r(2, 3)),
        (r(4, 3), 1, once(r, 2, 3), r(4, 2)),
    ],
    "index_fill": lambda r: [
        (r(4, 3), 0, once(r, 2, 4), 0.5),
        (r(4, 3), 1, once(r, 2, 3), r()),
    ],
    "index_put": lambda r: [
        (r(4, 3), (classes(r, 5, count=4),), r(5, 3), True),
        (r(4, 3), (once(r, 3, 4), once(r, 3, 3)), r(3)),
    ],
    "masked_fill": lambda r: [
        (r(3, 4), truths(r, 3, 4), 0.5),
        (r(3, 4), truths(r, 4), r()),
        (r(0, 4), truths(r, 4), 1),
    ],
    "zeros": sizes({"dtype": int32}),
    "ones": sizes({"dtype": float64}),
    "full": lambda r: [((2, 3), 1.5), ((2,), 3), ((), True), ((2,), 1, {"dtype": float64})],
    "zeros_like": like,
    "ones_like": like,
    "full_like": lambda r: [(r(3, 4).detach(), 2.5), (r(2).detach(), 3, {"dtype": int64})],
    "new_zeros": lambda r: [(r(2).detach(), 2, 3), (r(2).detach(), (2,), {"dtype": int64})],
    "new_ones": lambda r: [(r(2).detach(), 2, 3), (r(2).detach(), (2,), {"dtype": int64})],
    "new_full": lambda r: [(r(2).detach(), (2, 3), 1.5)],
    "new_tensor": lambda r: [(r(2).detach(), [1.0, 2.0])],
    "arange": lambda r: [(5,), (2, 9, 3), (0.5, 3.0, 0.4), (5, 0, -2), (4, {"dtype": float32})],
    "linspace": lambda r: [(0, 1, 5), (-2.0, 3.0, 7), (1, 1, 1), (0, 1, 0)],
    "logspace": lambda r: [(0, 2, 5), (-1.0, 1.0, 4, 2.0)],
    "eye": lambda r: [(3,), (2, 4), (3, {"dtype": int64}), (0,)],
    "tensor": lambda r: [([[1.0, 2.0], [3.0, 4.0]],), (3,), ([True, False],), ([],), ([1, 2],)],
    "as_tensor": lambda r: [([1.0, 2.0],), (3, {"dtype": float64})],
    "scalar_tensor": lambda r: [(2.5,), (3, {"dtype": int64})],
    "clone": unary(),
    "bits_as": lambda r: [
        (r(3, dtype=float32).detach(), int32),
        (r(2, dtype=float64).detach(), int64),
    ],
    "view_dtype": lambda r: [
        (r(3, dtype=float32).detach(), int32),
    ],
    "asarray": lambda r: [([1.0, 2.0],), (r(2, 3).detach(),), (3, {"dtype": float64})],
    "to": lambda r: [
        (r(3, 4), float64),
        (r(3, 4), "cpu"),
        (r(3, 4), {"dtype": int64, "copy": True}),
    ],
    "type": lambda r: [(r(3, 4), float64), (r(3), "torch.LongTensor")],
    "type_as": lambda r: [(r(3, 4), r(2, dtype=float64).detach())],
    "cpu": unary(),
    "add": lambda r: [*binary()(r), (r(3, 4), 1.5), (r(3, 4), r(4), {"alpha": 0.5})],
    "sub": lambda r: [*binary()(r), (r(3, 4), 1.5), (r(3, 4), r(4), {"alpha": 0.5})],
    "matmul_biased": matrices(
        ((3, 4), (4, 5), (5,)), ((1, 4), (4, 1), (1,)), ((2, 0), (0, 3), (3,))
    ),
    "matmul_batched": matrices(((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (3, 4, 2))),
    "matmul": lambda r: [
        *matrices(((3, 4), (4, 5)), ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)))(r),
        *matrices(((2, 3, 4), (2, 4, 5)), ((3, 4), (2, 4, 5)), ((0, 4), (4, 5)))(r),
        *matrices(((3, 0), (0, 5)), ((33, 70), (70, 65)))(r),
        (r(4, 3).t(), r(5, 4).t()),
    ],
    "_int_mm": lambda r: [
        tuple(r(*size, dtype=int8, low=-128, high=128) for size in sizes)
        for sizes in (((3, 4), (4, 5)), ((1, 9), (9, 1)), ((0, 3), (3, 2)), ((2, 0), (0, 3)))
    ],
    "mm": lambda r: [*matrices(((3, 4), (4, 5)))(r), (r(4, 3).t(), r(5, 4).t())],
    "bmm": matrices(((2, 3, 4), (2, 4, 5)), ((0, 3, 4), (0, 4, 5))),
    "mv": matrices(((3, 4), (4,))),
    "dot": matrices(((4,), (4,)), ((0,), (0,))),
    "inner": matrices(((3, 4), (5, 4)), ((4,), (4,)), ((), (3,))),
    "outer": matrices(((3,), (4,))),
    "addmm": lambda r: [
        (r(3, 5), r(3, 4), r(4, 5)),
        (r(5), r(3, 4), r(4, 5), {"beta": 0.5, "alpha": 2.0}),
    ],
    "addmv": lambda r: [(r(3), r(3, 4), r(4)), (r(), r(3, 4), r(4), {"beta": 0.5})],
    "addr": lambda r: [(r(3, 4), r(3), r(4)), (r(3, 4), r(3), r(4), {"alpha": 0.5})],
    "baddbmm": lambda r: [(r(2, 3, 5), r(2, 3, 4), r(2, 4, 5), {"beta": 0.5})],
    "addbmm": lambda r: [(r(3, 5), r(2, 3, 4), r(2, 4, 5), {"alpha": 0.5})],
    "tensordot": lambda r: [(r(2, 3, 4), r(3, 4, 5)), (r(2, 3, 4), r(4, 2), ([0, 2], [1, 0]))],
    "einsum": lambda r: [
        ("ij,jk->ik", r(2, 3), r(3, 4)),
        ("bij,bjk->bik", r(2, 2, 3), r(2, 3, 4)),
        ("ii->i", r(3, 3)),
        ("ij->", r(2, 3)),
        ("...i,i->...", r(2, 2, 3), r(3)),
    ],
    "chain_matmul": lambda r: [(r(2, 3), r(3, 4), r(4, 2))],
    "multi_dot": lambda r: [([r(2, 3), r(3, 4), r(4, 2)],), ([r(3), r(3, 4), r(4)],)],
    "kron": matrices(((2, 3), (2, 2)), ((3,), (2,))),
    "cross": lambda r: [(r(2, 3), r(2, 3)), (r(3, 2), r(3, 2), 0)],
    "matrix_power": lambda r: [(r(3, 3), 3), (r(2, 3, 3), 0), (r(3, 3), 1)],
}
for _name, _samples in SAMPLES.items():
    ROWS[_name].samples = _samples
