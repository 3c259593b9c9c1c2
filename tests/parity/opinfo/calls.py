"""One operator of the database, call by call in both libraries: what is compared, and how.

A result agrees that is as near to torch's as the dtype allows, or as near to what torch computes in
double precision as torch's own. What is defined up to signs is compared as the database says.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map

import flambeau
from tests.parity.opinfo import bridge

#: Relative and absolute tolerance of results by dtype; derivatives get ten times as much.
TOLERANCE = {
    "float64": (1e-7, 1e-8),
    "complex128": (1e-7, 1e-8),
    "float32": (1e-4, 1e-5),
    "complex64": (1e-4, 1e-5),
    "bfloat16": (2e-2, 1e-2),
    "float16": (2e-3, 1e-3),
}
WIDER = {
    torch.float32: torch.float64,
    torch.complex64: torch.complex128,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
}

#: Operators whose results are random or undefined: their shapes and dtypes are compared.
RANDOM = re.compile(
    r"^(bernoulli|cauchy|exponential|geometric|log_normal|multinomial|normal|uniform|rand.*"
    r"|empty.*|new_empty.*|svd_lowrank|pca_lowrank|nn\.functional\.(.*dropout.*|rrelu"
    r"|fractional_max_pool.*|scaled_dot_product_attention_dropout))$"
)

#: Operators whose results are defined up to signs: compared as their samples' `output_process`.
UP_TO_SIGNS = {"svd", "linalg.svd", "linalg.eig", "linalg.eigh"}


#: Operators that find one of several equal elements: their indices are not compared.
ARBITRARY = {"argsort", "kthvalue", "median", "mode", "nanmedian", "sort", "topk"}


@dataclass
class Outcome:
    """How an operator fares in one dtype.

    Attributes:
        status: "pass", "missing", "forward", "gradient", "second", "tangent", "error", "unlike"
            (no public name, or nothing that can be compared) or "no dtype".
        why: what differs first.
        samples: how many calls were compared.
    """

    status: str = "pass"
    why: str = ""
    samples: int = 0


class Differs(Exception):
    """A result that does not agree: (stage, what differs)."""


def full_name(op: Any) -> str:
    """An entry's name with its variant."""
    return op.name + (f".{op.variant_test_name}" if op.variant_test_name else "")


# -- comparing -------------------------------------------------------------------------------------


def _bounds(want: Any, dtype: str, factor: float) -> Any:
    rtol, atol = TOLERANCE.get(dtype, (0.0, 0.0))
    return factor * (atol + rtol * np.abs(want))


def _apart(got: Any, want: Any, bound: Any) -> Any:
    with np.errstate(all="ignore"):
        near = np.abs(got - want) <= bound
    return ~(near | (got == want) | (np.isnan(got) & np.isnan(want)))


def difference(
    got: Any, want: Any, dtype: str, factor: float, exact: Callable[[], Any]
) -> str | None:
    """How two arrays differ, or None.

    Args:
        exact: what torch finds in a wider dtype, asked when they differ (None: not known).
    """
    if got.shape != want.shape:
        return f"shape {got.shape}, torch {want.shape}"
    if want.dtype.kind not in "fc":
        return None if np.array_equal(got, want) else f"{got.tolist()}, torch {want.tolist()}"[:200]
    bad = _apart(got, want, _bounds(want, dtype, factor))
    if not bad.any():
        return None
    wide = exact()
    if wide is not None and wide.shape == want.shape:
        with np.errstate(all="ignore"):
            theirs = np.abs(want - wide)
            least = 2 * float(np.nanmax(theirs, initial=0.0)) + _bounds(wide, dtype, factor)
        if not _apart(got, wide, least).any():
            return None
    with np.errstate(all="ignore"):
        most = np.nanmax(np.abs(got - want)[bad], initial=0.0)
    return f"{bad.sum()} of {bad.size} differ, by up to {most:.3g}"


def _compare(stage: str, ours: list[Any], theirs: list[Any], exact: Any, factor: float) -> None:
    """Two lists of results.

    Raises:
        Differs: what does.
    """
    if len(ours) != len(theirs):
        raise Differs(stage, f"{len(ours)} results, torch {len(theirs)}")
    known: list[Any] = []
    for k, (got, want) in enumerate(zip(ours, theirs, strict=True)):
        if got is None or want is None:
            given = want if got is None else got
            if given is not None and np.any(bridge.array(given)):
                raise Differs(stage, f"[{k}]: only one has a value")
            continue
        name = str(want.dtype).removeprefix("torch.")
        if got.dtype.name != name:
            raise Differs(stage, f"[{k}]: {got.dtype}, torch {want.dtype}")

        def wide(k: int = k) -> Any:
            if not known:
                known.append(exact())
            found = known[0]
            return None if found is None else bridge.array(found[k])

        problem = difference(bridge.array(got), bridge.array(want), name, factor, wide)
        if problem:
            raise Differs(stage, f"[{k}]: {problem}")


# -- calls -----------------------------------------------------------------------------------------


def cotangents(outs: list[Any], lib: Any, seed: int) -> list[Any]:
    """A fixed cotangent for each result."""
    made = []
    for k, o in enumerate(outs):
        random = np.random.default_rng((seed, k))
        values = random.standard_normal(tuple(o.shape))
        if o.is_complex():
            values = values + 1j * random.standard_normal(tuple(o.shape))
        made.append(lib.from_numpy(np.array(values)).to(o.dtype))
    return made


class Side:
    """One library's call of a sample, and its derivatives."""

    def __init__(self, lib: Any, function: Any, sample: Any, process: Any) -> None:
        self.lib = lib
        self.function = function
        self.sample = sample
        self.process = process
        self.result: Any = None

    def run(self) -> Any:
        """Call it."""
        self.lib.manual_seed(42)
        given, args, kwargs = self.sample
        self.result = self.function(given, *args, **kwargs)
        return self.result

    def leaves(self) -> list[Any]:
        """What gradients are asked for."""
        found = bridge.tensors(self.sample, self.lib.Tensor)
        return [t for t in found if t.requires_grad and t.is_leaf]

    def differentiable(self) -> list[Any]:
        """The results that have derivatives."""
        outs = self.result if self.process is None else self.process(self.result)
        return [t for t in bridge.tensors(outs, self.lib.Tensor) if t.requires_grad]

    def grads(self, create: bool = False) -> list[Any]:
        """The gradients for fixed cotangents."""
        outs, leaves = self.differentiable(), self.leaves()
        if not outs:
            return [None] * len(leaves)
        return list(self.lib.autograd.grad(
            outs, leaves, cotangents(outs, self.lib, 0), create_graph=create, allow_unused=True
        ))  # fmt: skip

    def second(self) -> list[Any]:
        """The gradients of the gradients, for fixed cotangents."""
        first = [g for g in self.grads(create=True) if g is not None and g.requires_grad]
        leaves = self.leaves()
        if not first:
            return [None] * len(leaves)
        weights = cotangents(first, self.lib, 1)
        return list(self.lib.autograd.grad(first, leaves, weights, allow_unused=True))

    def tangents(self) -> list[Any]:
        """The results' tangents for fixed tangents of the leaves."""
        leaves = self.leaves()
        place = {id(t): k for k, t in enumerate(leaves)}

        def of(*primals: Any) -> Any:
            swap = lambda v: primals[place[id(v)]] if id(v) in place else v
            given, args, kwargs = tree_map(swap, self.sample)
            self.lib.manual_seed(42)
            found = self.function(given, *args, **kwargs)
            found = found if self.process is None else self.process(found)
            return tuple(
                t for t in bridge.tensors(found, self.lib.Tensor)
                if t.is_floating_point() or t.is_complex()
            )  # fmt: skip

        primals = tuple(t.detach() for t in leaves)
        _, found = self.lib.func.jvp(of, primals, tuple(cotangents(leaves, self.lib, 2)))
        return list(found)


def _wide(sample: Any, op: Any, process: Any) -> Side | None:
    """torch's call of a sample in the wider dtype."""

    def leaf(value: Any) -> Any:
        if (
            isinstance(value, torch.Tensor)
            and value.dtype in WIDER
            and value.layout is (torch.strided)
        ):
            return value.detach().to(WIDER[value.dtype]).requires_grad_(value.requires_grad)
        return WIDER.get(value, value) if isinstance(value, torch.dtype) else value

    try:
        made = Side(torch, op.op, tree_map(leaf, sample), process)
        made.run()
    except Exception:
        return None
    return made


def compare(op: Any, function: Any, sample: Any, stages: tuple[str, ...]) -> None:
    """One sample in both libraries.

    Raises:
        Differs: the first stage that does.
    """
    call = (sample.input, sample.args, sample.kwargs)
    process = sample.output_process_fn_grad
    ours_process = None if process is None else bridge.translated(process)
    ours = Side(flambeau, function, bridge.converted(call), ours_process)
    theirs = Side(torch, op.op, call, process)
    want, got = theirs.run(), ours.run()
    wides: list[Any] = []

    def exact(of: Callable[[Side], Any]) -> Callable[[], Any]:
        def run() -> Any:
            if not wides:
                wides.append(_wide(call, op, process))
            try:
                return None if wides[0] is None else of(wides[0])
            except Exception:
                return None

        return run

    if op.name in UP_TO_SIGNS and process is not None:
        want, got = process(want), ours_process(got)
    results = [bridge.tensors(found, lib.Tensor) for found, lib in ((got, flambeau), (want, torch))]
    if RANDOM.match(op.name) or _drops(sample):
        shapes = [[tuple(t.shape) for t in found] for found in results]
        if shapes[0] != shapes[1]:
            raise Differs("forward", f"shapes {shapes[0]}, torch {shapes[1]}")
        return
    signed = op.name in UP_TO_SIGNS

    def wide_results(side: Side) -> Any:
        value = side.process(side.result) if signed and side.process else side.result
        return bridge.tensors(value, torch.Tensor)

    if op.name in ARBITRARY:
        results = [[t for t in found if t.dtype is given.dtype][:1] for found, given in zip(
            results, (ours.sample[0], theirs.sample[0]), strict=True)]  # fmt: skip
    _compare("forward", *results, exact(wide_results), 1.0)
    if not results[1]:
        _plain(got, want)
    if "gradient" in stages:
        _compare("gradient", ours.grads(), theirs.grads(True), exact(Side.grads), 10.0)
    deeper = (("second", _second, 100.0), ("tangent", Side.tangents, 10.0))
    for stage, of, factor in deeper:
        if stage in stages:
            try:
                expected = of(theirs)
            except Exception:  # torch has no such derivative of this call
                continue
            _compare(stage, of(ours), expected, exact(of), factor)


def _drops(sample: Any) -> bool:
    """Whether a call leaves something out at random."""
    return bool(sample.kwargs.get("dropout_p") or sample.kwargs.get("training"))


def _second(side: Side) -> list[Any]:
    side.run()  # the first derivative has freed what it kept
    return side.second()


def _plain(got: Any, want: Any) -> None:
    """Results that are no tensors."""
    if isinstance(want, (bool, int, str)) and want != got:
        raise Differs("forward", f"{got!r}, torch {want!r}")


def stages_of(op: Any, dtype: Any, deep: bool) -> tuple[str, ...]:
    """What the database says can be compared of an operator in a dtype."""
    if not (dtype.is_floating_point or dtype.is_complex) or dtype.itemsize < 4:
        return ("forward",)
    if not op.supports_autograd or dtype not in op.supported_backward_dtypes("cpu"):
        return ("forward",)
    found = ["forward", "gradient"]
    if deep and op.supports_gradgrad:
        found.append("second")
    if deep and op.supports_forward_ad:
        found.append("tangent")
    return tuple(found)


def samples(op: Any, dtype: Any, grad: bool, limit: int | None) -> Iterator[Any]:
    """The database's samples, the first `limit` of them."""
    return islice(op.sample_inputs("cpu", dtype, requires_grad=grad), limit)


def outcome(
    op: Any, dtype: Any, limit: int | None = None, deep: bool = False, stage: str | None = None
) -> Outcome:
    """How an operator fares in a dtype of torch.

    Args:
        limit: at most so many samples.
        deep: also second derivatives and tangents.
        stage: only this stage ("forward": no derivatives).
    """
    found = Outcome()
    if not op.supports_dtype(dtype, "cpu"):
        return Outcome("no dtype")
    stages = stages_of(op, dtype, deep)
    if stage is not None:
        stages = ("forward",) if stage == "forward" else tuple({"forward", stage} & {*stages})
    try:
        function = bridge.function(op)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number, sample in enumerate(samples(op, dtype, len(stages) > 1, limit)):
                try:
                    compare(op, function, sample, stages)
                except bridge.Unlike:
                    continue
                except Differs as problem:
                    return Outcome(problem.args[0], f"{number}: {problem.args[1]}", found.samples)
                except bridge.Missing:
                    raise
                except Exception as error:
                    said = f"{number}: {type(error).__name__}: {error}"[:240]
                    return Outcome("error", said, found.samples)
                found.samples += 1
    except bridge.Missing as name:
        return Outcome("missing", str(name))
    except bridge.Unlike as what:
        return Outcome("unlike", str(what))
    if not found.samples:
        found.status = "unlike"
    return found
