"""One operator of the database, call by call in both libraries: what is compared, and how.

A result agrees that is as near to torch's as the dtype allows, or as near to what torch computes in
double precision as torch's own. What is defined up to signs is compared as the database says.

Of each call the stages that the database knows of are compared, each by itself: the result, what
the in-place form writes (and its gradient), what `out=` gets, the gradient, the gradient of the
gradient, and the tangent of forward differentiation.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.testing._internal.opinfo.core import OpInfo
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


#: Calls the function itself in `Comparison.derivable`.
PLAIN = OpInfo.__dataclass_fields__["gradcheck_wrapper"].default

#: Operators that find one of several equal elements: their indices are not compared.
ARBITRARY = {"argsort", "kthvalue", "median", "mode", "msort", "nanmedian", "sort", "topk"}


#: What can be compared of a call, in order.
STAGES = ("forward", "in place", "out", "gradient", "second", "tangent")


@dataclass
class Outcome:
    """How an operator fares in one dtype.

    Attributes:
        absent: why nothing was compared: "no dtype", "missing" (a public name that is not here),
            or "unlike" (no public name, or nothing that can be compared); else "".
        why: what is missing or unlike.
        compared: how many calls were compared, by stage.
        failed: stage -> the number of the first call that does not agree, and what differs.
    """

    absent: str = ""
    why: str = ""
    compared: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """The first stage that does not agree; "pass", or why nothing was compared."""
        return self.absent or next((s for s in STAGES if s in self.failed), "pass")

    def note(self, stage: str, problem: str | None) -> None:
        """One more call of a stage, with what differs."""
        self.compared[stage] = self.compared.get(stage, 0) + 1
        if problem is not None:
            self.failed.setdefault(stage, problem)


class Differs(Exception):
    """A result that does not agree."""


class Skipped(Exception):
    """A stage that torch itself does not have of a call."""


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


def _compare(ours: list[Any], theirs: list[Any], exact: Any, factor: float) -> None:
    """Two lists of results.

    Raises:
        Differs: what does.
    """
    if len(ours) != len(theirs):
        raise Differs(f"{len(ours)} results, torch {len(theirs)}")
    known: list[Any] = []
    for k, (got, want) in enumerate(zip(ours, theirs, strict=True)):
        if got is None or want is None:
            given = want if got is None else got
            if given is not None and np.any(bridge.array(given)):
                raise Differs(f"[{k}]: only one has a value")
            continue
        name = str(want.dtype).removeprefix("torch.")
        if got.dtype.name != name:
            raise Differs(f"[{k}]: {got.dtype}, torch {want.dtype}")

        def wide(k: int = k) -> Any:
            if not known:
                known.append(exact())
            found = known[0]
            return None if found is None else bridge.array(found[k])

        problem = difference(bridge.array(got), bridge.array(want), name, factor, wide)
        if problem:
            raise Differs(f"[{k}]: {problem}")


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


def _widened(sample: Any) -> Any:
    """A sample of torch in the wider dtype."""

    def leaf(value: Any) -> Any:
        if (
            isinstance(value, torch.Tensor)
            and value.dtype in WIDER
            and value.layout is torch.strided
        ):
            return value.detach().to(WIDER[value.dtype]).requires_grad_(value.requires_grad)
        return WIDER.get(value, value) if isinstance(value, torch.dtype) else value

    return tree_map(leaf, sample)


def _repeats(given: torch.Tensor) -> bool:
    """Whether a value occurs twice: which of its places has the gradient is arbitrary."""
    values = bridge.array(given).ravel()
    return bool(np.unique(values).size < values.size)


def _drops(sample: Any) -> bool:
    """Whether a call leaves something out at random."""
    return bool(sample.kwargs.get("dropout_p") or sample.kwargs.get("training"))


def _written(function: Any) -> Any:
    """An in-place form as a function of a copy."""

    def call(given: Any, *args: Any, **kwargs: Any) -> Any:
        copy = given.clone()
        function(copy, *args, **kwargs)
        return copy

    return call


class Comparison:
    """One sample in both libraries; the methods compare a stage each.

    Args:
        op: the database's entry.
        function: flambeau's function.
        sample: one of its calls.
    """

    def __init__(self, op: Any, function: Any, sample: Any) -> None:
        self.op = op
        self.function = function
        self.call = (sample.input, sample.args, sample.kwargs)
        self.process = sample.output_process_fn_grad
        self.ours_process = None if self.process is None else bridge.translated(self.process)
        self.by_chance = bool(RANDOM.match(op.name)) or _drops(sample)
        self.underivable = self.by_chance or (op.name in ARBITRARY and _repeats(sample.input))
        self.sides: tuple[Side, Side] | None = None
        self.wrapped: tuple[Side, Side] | None = None

    def both(self, ours: Any, theirs: Any) -> tuple[Side, Side]:
        """A pair of functions called with the sample.

        Raises:
            Skipped: torch refuses the call.
        """
        there = Side(torch, theirs, self.call, self.process)
        try:
            there.run()
        except Exception as error:
            raise Skipped from error
        here = Side(flambeau, ours, bridge.converted(self.call), self.ours_process)
        here.run()
        return here, there

    def plain(self) -> tuple[Side, Side]:
        """The function itself, called."""
        if self.sides is None:
            self.sides = self.both(self.function, self.op.op)
        return self.sides

    def derivable(self) -> tuple[Side, Side]:
        """The function as the database differentiates it (over symmetric, triangular ... inputs),
        called."""
        wrap = self.op.gradcheck_wrapper
        if wrap is PLAIN or "masked" in wrap.__name__:  # which leaves out what a mask hides
            return self.plain()
        if self.wrapped is None:
            ours = bridge.translated(wrap)
            self.wrapped = self.both(
                lambda *args, **kwargs: ours(self.function, *args, **kwargs),
                lambda *args, **kwargs: wrap(self.op.op, *args, **kwargs),
            )
        return self.wrapped

    def compare(
        self,
        sides: tuple[Side, Side],
        of: Callable[[Side], list[Any]],
        factor: float,
        wider: Any = None,
    ) -> None:
        """What is found of two calls.

        Args:
            wider: torch's function as it is called in the wider dtype, if another.

        Raises:
            Differs: what does.
            Skipped: torch does not find it.
        """
        here, there = sides
        try:
            expected = of(there)
        except Exception as error:  # torch has no such derivative of this call
            raise Skipped from error

        def exact() -> Any:
            wide = Side(torch, wider or there.function, _widened(self.call), self.process)
            try:
                wide.run()
                return of(wide)
            except Exception:
                return None

        _compare(of(here), expected, exact, factor)

    def values(self, side: Side) -> list[Any]:
        """The results that can be compared."""
        found = side.result
        if self.op.name in UP_TO_SIGNS and side.process is not None:
            found = side.process(found)
        results = bridge.tensors(found, side.lib.Tensor)
        if self.op.name in ARBITRARY:
            results = [t for t in results if t.dtype is side.sample[0].dtype][:1]
        return results

    def results(self, sides: tuple[Side, Side], wider: Any = None) -> None:
        """The results, or the shapes of what is random."""
        here, there = sides
        if self.by_chance:
            shapes = [[tuple(t.shape) for t in self.values(side)] for side in sides]
            if shapes[0] != shapes[1]:
                raise Differs(f"shapes {shapes[0]}, torch {shapes[1]}")
            return
        self.compare(sides, self.values, 1.0, wider)
        got, want = here.result, there.result
        if isinstance(want, (bool, int, str)) and want != got:
            raise Differs(f"{got!r}, torch {want!r}")

    def forward(self) -> None:
        """The result."""
        self.results(self.plain())

    def in_place(self) -> None:
        """What the in-place form writes, and its gradient."""
        given = self.op.inplace_variant
        if given is None or not isinstance(self.call[0], torch.Tensor):
            raise Skipped
        try:
            ours = bridge.translated(given)
        except bridge.Missing as name:
            raise Differs(f"{name} is not there") from None
        sides = self.both(_written(ours), _written(given))
        self.results(sides)
        if self.call[0].requires_grad and not self.by_chance and sides[1].differentiable():
            self.compare(sides, Side.grads, 10.0)

    def out(self) -> None:
        """What is written to tensors given as `out`: of the right shape, to be resized, and
        strided."""
        if not self.op.supports_out or self.op.name in UP_TO_SIGNS:
            raise Skipped
        here, there = self.plain()
        shapes = [tuple(t.shape) for t in bridge.tensors(there.result, torch.Tensor)]
        if not isinstance(there.result, torch.Tensor) and not shapes:
            raise Skipped
        # torch writes past several strided tensors in lu_unpack
        forms = ("right", "resized", "strided") if len(shapes) == 1 else ("right", "resized")
        for form in forms:
            sides = self.both(
                _with_out(self.function, flambeau, here.result, form),
                _with_out(self.op.op, torch, there.result, form),
            )
            written, plain = (map(bridge.array, self.values(s)) for s in (sides[1], there))
            same = all(np.array_equal(w, p, True) for w, p in zip(written, plain, strict=True))
            if self.by_chance or same:  # else torch itself writes something else
                self.results(sides, self.op.op)

    def gradient(self) -> None:
        """The gradient of the leaves."""
        if self.underivable:
            raise Skipped
        sides = self.derivable()
        # torch's tape is kept for the second derivative
        self.compare(sides, lambda side: side.grads(side is sides[1]), 10.0)

    def second(self) -> None:
        """The gradient of the gradient."""
        if self.underivable:
            raise Skipped
        self.compare(self.derivable(), _second, 100.0)

    def tangent(self) -> None:
        """The tangent for tangents of the leaves."""
        if self.underivable:
            raise Skipped
        self.compare(self.derivable(), Side.tangents, 10.0)


def _with_out(function: Any, lib: Any, result: Any, form: str) -> Any:
    """A function as it writes to tensors like its results."""

    def made(like: Any) -> Any:
        shape = tuple(like.shape)
        if form == "resized":
            return lib.empty((0,), dtype=like.dtype)
        if form == "strided" and len(shape) > 1:
            return lib.zeros(shape[::-1], dtype=like.dtype).permute(*reversed(range(len(shape))))
        return lib.zeros(shape, dtype=like.dtype)

    def call(given: Any, *args: Any, **kwargs: Any) -> Any:
        kind = lib.Tensor
        out = made(result) if isinstance(result, kind) else tuple(made(t) for t in result)
        with lib.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(given, *args, out=out, **kwargs)
        return out

    return call


def _second(side: Side) -> list[Any]:
    side.run()  # the first derivative has freed what it kept
    return side.second()


_METHODS: dict[str, Callable[[Comparison], None]] = {
    "forward": Comparison.forward,
    "in place": Comparison.in_place,
    "out": Comparison.out,
    "gradient": Comparison.gradient,
    "second": Comparison.second,
    "tangent": Comparison.tangent,
}


def stages_of(op: Any, dtype: Any, wanted: tuple[str, ...]) -> list[str]:
    """What the database says can be compared of an operator in a dtype."""
    found = ["forward", "in place", "out"]
    floating = dtype.is_floating_point or dtype.is_complex
    if floating and op.supports_autograd and dtype in op.supported_backward_dtypes("cpu"):
        found.append("gradient")
        if op.supports_gradgrad and dtype.itemsize >= 4:
            found.append("second")
        if op.supports_forward_ad and dtype.itemsize >= 4:
            found.append("tangent")
    return [stage for stage in found if stage in wanted]


def samples(op: Any, dtype: Any, grad: bool, limit: int | None) -> Iterator[Any]:
    """The database's samples, the first `limit` of them."""
    return islice(op.sample_inputs("cpu", dtype, requires_grad=grad), limit)


def outcome(
    op: Any, dtype: Any, limit: int | None = None, stages: tuple[str, ...] = ("forward", "gradient")
) -> Outcome:
    """How an operator fares in a dtype of torch.

    Args:
        limit: at most so many samples.
        stages: those of `STAGES` that are compared, where the database has them.
    """
    found = Outcome()
    if not op.supports_dtype(dtype, "cpu"):
        return Outcome("no dtype")
    chosen = stages_of(op, dtype, stages)
    derived = bool({"gradient", "second", "tangent"} & {*chosen})
    try:
        function = bridge.function(op)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number, sample in enumerate(samples(op, dtype, derived, limit)):
                comparison = Comparison(op, function, sample)
                for stage in chosen:
                    if stage in found.failed:
                        continue
                    try:
                        problem = _problem(stage, comparison)
                    except (Skipped, bridge.Unlike):
                        continue
                    found.note(stage, None if problem is None else f"{number}: {problem}"[:240])
                    if stage == "forward" and problem is not None:
                        break
    except bridge.Missing as name:
        return Outcome("missing", str(name))
    except bridge.Unlike as what:
        return Outcome("unlike", str(what))
    if not found.compared:
        found.absent = "unlike"
    return found


def _problem(stage: str, comparison: Comparison) -> str | None:
    """What does not agree in a stage."""
    try:
        _METHODS[stage](comparison)
    except Differs as problem:
        return str(problem)
    except (Skipped, bridge.Unlike, bridge.Missing):
        raise
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None
