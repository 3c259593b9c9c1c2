"""Each pass: what it does to small graphs, and that it keeps the IR's rules."""

import pytest

import flambeau as fl
from flambeau import record
from flambeau.ir.graph import Graph, Node, placeholder
from flambeau.ir.text import graph_text
from flambeau.ir.verify import InvalidGraph, verify
from flambeau.ops.rows import ROWS
from flambeau.passes import pipeline
from flambeau.passes.fuse import fuse
from flambeau.passes.inline import inline
from flambeau.passes.own import own
from flambeau.passes.simplify import simplify
from flambeau.passes.split import split


def made(*shape):
    """A tensor whose memory exists."""
    t = fl.ones(*shape)
    t.tolist()
    return t


def recorded(*kept):
    """The graph of what is pending, checked."""
    graph = record.pending_graph()
    verify(graph)
    assert kept
    return graph


def names(graph):
    return [n.op.name for n in graph.nodes if n.op.kind != "input"]


def test_text_names_every_value():
    x = made(2, 3)
    y = (x * 0.3).sum(0)
    text = graph_text(recorded(y))
    assert text.splitlines()[1:] == [
        "  %0 = input(#0) : float32[2, 3]",
        "  %1 = mul(%0, $arg0) : float32[2, 3]",
        "  %2 = sum_axes(%1, (0,)) : float32[3]",
        "  return %2",
    ]


def test_inline_expands_kept_composites():
    x = made(4, 5)
    y = fl.softmax(x, -1)
    graph = recorded(y)
    assert any(n.op.kind == "composite" for n in graph.nodes)
    assert not any(n.op.kind == "composite" for n in inline(graph).nodes)


def test_simplify_removes_copies_and_meets_equal_values():
    x = made(4)
    y = x.exp().clone() + x.exp()
    graph = simplify(recorded(y))
    assert names(graph) == ["exp", "plus"]


def test_simplify_keeps_memory_of_outputs_apart():
    x = made(4)
    y = x.exp()
    z = y.clone()
    graph = simplify(recorded(y, z))
    assert len({n for n, _ in graph.outputs}) == 2


def test_split_cuts_a_long_lone_reduction():
    x = made(1 << 16)
    y = (x * 2).sum()
    graph = split(simplify(recorded(y)))
    reduces = [n for n in graph.nodes if n.op.kind == "reduce"]
    assert len(reduces) == 2
    verify(graph)


def test_split_separates_axes_that_are_not_neighbours():
    x = made(3, 4, 5)
    y = x.sum((0, 2))
    graph = split(simplify(recorded(y)))
    assert [n.attrs for n in graph.nodes if n.op.kind == "reduce"] == [((2,),), ((0,),)]


def test_own_copies_a_base_that_others_read():
    x = made(4)
    y = x + 1
    z = y.clone()
    z[0] = 5.0
    graph = own(simplify(recorded(y, z)))
    assign = next(n for n in graph.nodes if n.op.kind == "assign")
    assert assign.src[0].op.name == "copy"


def test_softmax_is_one_region():
    x = made(64, 100)
    y = fl.softmax(x, -1)
    plan = fuse(pipeline.lower(recorded(y)))
    assert len(plan.steps) == 1


def test_a_norm_and_its_neighbours_are_one_region():
    x, w = made(64, 100), made(100)
    y = fl.nn.functional.layer_norm(x * 2, (100,), w, w) + 1
    plan = fuse(pipeline.lower(recorded(y)))
    assert len(plan.steps) == 1


def test_constants_are_never_stored():
    x = made(64, 64)
    y = x.masked_fill(fl.ones(64, 64, dtype=fl.bool).triu(1), 0.0) * fl.arange(64)
    plan = fuse(pipeline.lower(recorded(y)))
    assert len(plan.steps) == 1
    assert len(plan.stored) == 1


def test_every_pass_keeps_the_rules():
    x = made(6, 8)
    outs = [
        fl.softmax(x @ x.t(), -1),
        fl.cat([x, x * 2], 1)[:, ::3],
        x[fl.tensor([1, 2])].sum((0, 1)),
        x.var(0).flip(0),
    ]
    outs[1].mul_(0.5)
    graph = recorded(outs)
    for name, run in pipeline.passes(lambda node: False):
        graph = run(graph)
        verify(graph, name)


def test_the_verifier_sees_wrong_shapes_and_places():
    a = placeholder((2, 3), fl.float32, 0)
    wrong = Node(ROWS["exp"], (a,), (), (2, 2), fl.float32)
    with pytest.raises(InvalidGraph, match="exp"):
        verify(Graph([a, wrong], [a], [(wrong, None)], 0))
    outside = Node(ROWS["view_of"], (a,), ((1,), 4), (3,), fl.float32)
    with pytest.raises(InvalidGraph, match="reaches"):
        verify(Graph([a, outside], [a], [(outside, None)], 0))
    late = Node(ROWS["exp"], (a,), (), (2, 3), fl.float32)
    with pytest.raises(InvalidGraph, match="before"):
        verify(Graph([late, a], [a], [(late, None)], 0))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(2, 0, 5), (0, 3, 5), (2, 3, 0)])
def test_attention_without_elements_is_computed_and_differentiated(shape, causal):
    q, k, v = (fl.zeros(shape).requires_grad_() for _ in range(3))
    y = fl.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert y.detach().numpy().shape == shape
    y.sum().backward()
    assert [t.grad.numpy().shape for t in (q, k, v)] == [shape] * 3


def test_a_kernel_of_float32_serves_16_bits_between_conversions():
    q = fl.randn(1, 2, 8, 4).to(fl.bfloat16)
    out = fl.nn.functional.scaled_dot_product_attention(q, q, q)
    graph = record.pending_graph()

    def takes(node):
        return node.op.name == "_attention" and all(s.dtype.name == "float32" for s in node.src)

    found = inline(graph, takes)
    (whole,) = (n for n in found.nodes if n.op.kind == "composite")
    assert takes(whole)
    assert {s.op.name for s in whole.src} <= {"cast", "view_of"}
    assert found.outputs[0][0].dtype is fl.bfloat16
    assert not any(n.op.kind == "composite" for n in inline(graph).nodes)
    exact = out.float()
    wide = fl.nn.functional.scaled_dot_product_attention(*[q.float()] * 3)
    assert (exact - wide).abs().max().item() < 2**-7


def test_a_view_that_must_be_copied_is_copied_once():
    """Reshapes of a transposed value share its copy; columns are cut where 16 rows divide them."""
    x = made(6, 8, 10)
    turned = (x * 2).transpose(1, 2)
    a, b = turned.reshape(60, 8).exp(), turned.reshape(30, 16).sin()
    assert names(simplify(recorded(a, b))).count("copy") == 1
    y = made(16 * 197, 24)
    total = y.sum(0)
    cut = split(simplify(recorded(total)))
    assert [n.shape for n in cut.nodes if n.op.kind == "reduce"] == [(197, 24), (24,)]
