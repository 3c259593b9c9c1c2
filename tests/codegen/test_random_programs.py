"""Random fused programs: generated code beside the NumPy meaning of the same graph."""

import random

import numpy as np
import pytest

import flambeau as fl
from flambeau import record
from flambeau.ir.interpret import interpret
from flambeau.ops.scan import scan_sum
from flambeau.passes.pipeline import lower
from flambeau.runtime import cpu
from flambeau.runtime.host import array_of

SIZES = (1, 2, 3, 5, 8, 17, 33, 64, 100)
TOLERANCE = {"rtol": 2e-4, "atol": 2e-4}


@pytest.fixture
def checked(monkeypatch):
    """Every program that runs is compared, output by output, with the interpreter."""
    compile_program = cpu.compile
    seen = []

    class Checked:
        resized = False

        def __init__(self, graph, key):
            self.graph, self.lowered = graph, lower(graph)
            self.program = compile_program(graph, key)

        def run(self, inputs, numbers, homes):
            arrays = [
                array_of(b.ptr, n.shape, n.dtype).copy()
                for b, n in zip(inputs, self.graph.inputs, strict=True)
            ]
            wanted = interpret(self.lowered, arrays, numbers)
            outs = self.program.run(inputs, numbers, homes)
            for (node, _), want, buffer in zip(self.graph.outputs, wanted, outs, strict=True):
                found = array_of(buffer.ptr, node.shape, node.dtype)
                np.testing.assert_allclose(found, want, err_msg=repr(node), **TOLERANCE)
                seen.append(node)
            return outs

    monkeypatch.setattr(cpu, "compile", Checked)
    record.clear_programs()
    yield seen
    record.clear_programs()


def grow(rng, x, pool):
    """One random value made from `x`, or None where the choice does not apply."""
    d = rng.randrange(x.ndim) if x.ndim else None
    choices = [
        lambda: x * 2.5 + rng.random(),
        lambda: x.exp(),
        lambda: x.reshape(-1),
        lambda: x.sum(),
        lambda: x + rng.choice(pool),
    ]
    if d is not None:
        choices += [
            lambda: x.sum(d, rng.random() < 0.5),
            lambda: fl.amax(x, d, rng.random() < 0.5),
            lambda: x[rng.randrange(x.shape[0])],
            lambda: x[1:] if x.shape[0] > 1 else None,
            lambda: fl.cat([x, x * 3], d),
            lambda: x - x.mean(-1, True),
            lambda: x.softmax(-1),
            lambda: x[fl.randint(0, x.shape[0], (4,))],
            lambda: x.unsqueeze(d).expand(*[-1] * (x.ndim + 1)),
            lambda: x.argmax(d).to(x.dtype),
            lambda: (x * 0.1).cumsum(d),
            lambda: x.cummax(d).values,
            lambda: scan_sum(x / x.shape[d], d, True) if x.shape[d] > 1 else None,
        ]
    if x.ndim > 1:
        choices += [lambda: x.transpose(0, -1), lambda: x @ x.transpose(-1, -2)]
    try:
        return rng.choice(choices)()
    except RuntimeError as error:
        if "must match" in str(error):  # two shapes that do not broadcast
            return None
        raise


@pytest.mark.parametrize("seed", range(4))
def test_generated_code_agrees_with_the_interpreter(seed, checked):
    rng = random.Random(seed)
    fl.manual_seed(seed)
    for _ in range(15):
        shapes = [tuple(rng.choice(SIZES) for _ in range(rng.randint(0, 3))) for _ in range(3)]
        pool = [fl.rand(s) for s in shapes]
        if rng.random() < 0.5:
            record.flush()
        for _ in range(rng.randint(1, 14)):
            y = grow(rng, rng.choice(pool), pool)
            if y is not None and y.numel() < 200_000:
                pool.append(y)
            if len(pool) > 3 and rng.random() < 0.3:
                pool.pop(rng.randrange(len(pool)))
        record.flush()
    assert len(checked) > 40
