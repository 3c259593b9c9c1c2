"""Autograd programs give the same values, hooks, errors and names as in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import flambeau
from tests.parity.same import Library, array, both, given, torch

Program = Callable[[Library], Any]
PROGRAMS: dict[str, Program] = {}
ERRORS: dict[str, Program] = {}


def program(f: Program) -> Program:
    PROGRAMS[f.__name__] = f
    return f


def error(f: Program) -> Program:
    ERRORS[f.__name__] = f
    return f


def leaf(lib: Library, *shape: int, seed: int = 0) -> Any:
    return given(lib, array(shape, seed, "float64"), grad=True)


# -- accumulation ---------------------------------------------------------------------------------


@program
def accumulation_into_an_existing_grad(lib: Library) -> Any:
    x = leaf(lib, 3)
    (x**2).sum().backward()
    first = x.grad
    (x * 3).sum().backward()
    return x.grad, first is x.grad


@program
def a_leaf_used_many_times(lib: Library) -> Any:
    x = leaf(lib, 3)
    (x * x + x.exp() * x - x / 2).sum().backward()
    return x.grad


@program
def grad_set_to_none_and_to_a_tensor(lib: Library) -> Any:
    x = leaf(lib, 3)
    x.grad = lib.ones(3, dtype=lib.float64)
    x.sum().backward()
    one = x.grad.clone()
    x.grad = None
    x.sum().backward()
    return one, x.grad


@program
def a_scalar_leaf_is_its_own_output(lib: Library) -> Any:
    x = lib.tensor(3.0, requires_grad=True)
    x.backward()
    return x.grad


@program
def a_cotangent_for_a_vector(lib: Library) -> Any:
    x = leaf(lib, 3)
    (x * 2).backward(lib.tensor([1.0, 2.0, 3.0], dtype=lib.float64))
    return x.grad


@program
def several_outputs(lib: Library) -> Any:
    x, y = leaf(lib, 3), leaf(lib, 3, seed=1)
    lib.autograd.backward([(x * y).sum(), (x + y).exp()], [None, lib.ones(3, dtype=lib.float64)])
    return x.grad, y.grad


@program
def only_some_inputs(lib: Library) -> Any:
    x, y = leaf(lib, 3), leaf(lib, 3, seed=1)
    (x * y).sum().backward(inputs=[x])
    return x.grad, y.grad


@program
def broadcasting(lib: Library) -> Any:
    x, y, z = leaf(lib, 3, 1), leaf(lib, 4, seed=1), leaf(lib)
    ((x + y) * z).sum().backward()
    return x.grad, y.grad, z.grad


@program
def mixed_dtypes(lib: Library) -> Any:
    x = lib.ones(3, requires_grad=True)
    y = leaf(lib, 3)
    (x * y).sum().backward()
    return x.grad, y.grad, str(x.grad.dtype), str(y.grad.dtype)


# -- grad -----------------------------------------------------------------------------------------


@program
def grad_of_a_non_leaf(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = x * 2
    z = (y.exp() * x).sum()
    return [*lib.autograd.grad(z, [y, x]), x.grad]


@program
def grad_of_an_output_itself(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = (x * 2).sum()
    return list(lib.autograd.grad(y, [y, x]))


@program
def grad_of_unused_inputs(lib: Library) -> Any:
    x, y = leaf(lib, 3), leaf(lib, 2)
    z = (x * 2).sum()
    return [
        lib.autograd.grad(z, [x, y], allow_unused=True, retain_graph=True)[1],
        lib.autograd.grad(z, [x, y], materialize_grads=True)[1],
    ]


@program
def grads_of_many_cotangents(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = x**3
    batch = lib.eye(3, dtype=lib.float64)
    return list(lib.autograd.grad(y, x, batch, is_grads_batched=True))


@program
def a_gradient_edge(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = x * 2
    edge = lib.autograd.graph.get_gradient_edge(y)
    return list(lib.autograd.grad((y.exp()).sum(), [edge]))


# -- higher derivatives ---------------------------------------------------------------------------


@program
def double_backward(lib: Library) -> Any:
    x = leaf(lib, 3)
    (g,) = lib.autograd.grad((x.exp() * x).sum(), x, create_graph=True)
    (g**2).sum().backward()
    return g, x.grad


@program
def third_derivative(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = (x**5).sum()
    found = []
    for _ in range(3):
        (y,) = lib.autograd.grad(y.sum(), x, create_graph=True)
        found.append(y)
    return found


@program
def backward_with_create_graph(lib: Library) -> Any:
    x = leaf(lib, 3)
    (x**3).sum().backward(create_graph=True)
    first = x.grad
    x.grad = None
    first.sum().backward()
    return first, first.requires_grad, x.grad


@program
def double_backward_of_a_matrix_product(lib: Library) -> Any:
    a, b = leaf(lib, 2, 3), leaf(lib, 3, 2, seed=1)
    (g,) = lib.autograd.grad(((a @ b) ** 2).sum(), a, create_graph=True)
    g.pow(2).sum().backward()
    return a.grad, b.grad


@program
def retained_graph(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = (x.exp()).sum()
    y.backward(retain_graph=True)
    y.backward()
    return x.grad


@program
def a_graph_that_saves_nothing_may_run_twice(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = (x + 1).sum()
    y.backward()
    y.backward()
    return x.grad


# -- hooks and retain_grad ------------------------------------------------------------------------


@program
def retain_grad_on_a_non_leaf(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = x * 2
    y.retain_grad()
    (y**2).sum().backward()
    return y.grad, y.retains_grad, x.retains_grad


@program
def hooks_replace_in_order(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = x * 2
    seen = []
    y.register_hook(lambda g: g * 10)
    y.register_hook(lambda g: seen.append(g.clone()))
    removed = y.register_hook(lambda g: g * 1000)
    y.retain_grad()
    removed.remove()
    x.register_hook(lambda g: g + 1)
    y.sum().backward()
    return seen, y.grad, x.grad


@program
def post_accumulate_hooks(lib: Library) -> Any:
    x = leaf(lib, 3)
    seen = []
    x.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    (x * 2).sum().backward()
    (x * 2).sum().backward()
    return seen


@program
def hooks_of_entries(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = x * 2
    seen = []
    y.grad_fn.register_prehook(lambda gs: (gs[0] * 3,))
    y.grad_fn.register_hook(lambda inputs, outputs: seen.extend([inputs[0].clone(), outputs[0]]))
    y.sum().backward()
    return seen, x.grad


@program
def a_hook_on_several_tensors(lib: Library) -> Any:
    x, y, z = leaf(lib, 3), leaf(lib, 3, seed=1), leaf(lib, 3, seed=2)
    seen: list[Any] = []
    lib.autograd.graph.register_multi_grad_hook([x, y, z], lambda gs: seen.append(list(gs)))
    (x * y).sum().backward()
    (x * y * z).sum().backward()
    return seen


@program
def saved_tensor_hooks(lib: Library) -> Any:
    x = leaf(lib, 3)
    seen = []

    def pack(t: Any) -> Any:
        seen.append(t.shape[0])
        return (t * 2).detach()

    with lib.autograd.graph.saved_tensors_hooks(pack, lambda t: t / 2):
        y = (x * x).sum()
    y.backward()
    return x.grad, len(seen) > 0


@program
def saved_on_the_cpu(lib: Library) -> Any:
    x = leaf(lib, 3)
    with lib.autograd.graph.save_on_cpu():
        y = (x.exp() * x).sum()
    y.backward()
    return x.grad


# -- views and in-place ---------------------------------------------------------------------------


@program
def a_write_through_a_view(lib: Library) -> Any:
    x = leaf(lib, 3, 2)
    y = x * 2
    y[0].mul_(5.0)
    (y**2).sum().backward()
    return x.grad, y.grad_fn is not None


@program
def a_write_to_the_base_of_a_view(lib: Library) -> Any:
    x = leaf(lib, 3, 2)
    y = x * 2
    v = y[1]
    y.mul_(x)
    (v**2).sum().backward()
    return x.grad


@program
def a_view_of_a_view_written(lib: Library) -> Any:
    x = leaf(lib, 4, 3)
    y = x * 1
    v = y.t()[1:][:, ::2]
    v.mul_(v.exp())
    (y * y).sum().backward()
    return x.grad, v


@program
def history_that_arrives_by_a_write(lib: Library) -> Any:
    x = leaf(lib, 2)
    y = lib.zeros(3, 2, dtype=lib.float64)
    v = y[1]
    before = v.requires_grad
    y[1] = x * 3
    y[2].copy_(x)
    y.sum().backward()
    return before, v.requires_grad, v.is_leaf, x.grad


@program
def a_leaf_written_with_history(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = lib.zeros(3, dtype=lib.float64)
    y.copy_(x)
    y.mul_(2)
    (y * y).sum().backward()
    return x.grad, y.is_leaf


@program
def writes_between_reads(lib: Library) -> Any:
    x = leaf(lib, 4)
    y = x * 1
    a = y + 3
    y.add_(1.0)
    b = y * 3
    y.exp_()
    (a + b + y).sum().backward()
    return x.grad


@program
def masked_and_indexed_writes(lib: Library) -> Any:
    x = leaf(lib, 4)
    y = x * 1
    y[lib.tensor([0, 2])] = 0.0
    z = y.masked_fill(y > 0, 2.0)
    (z * y).sum().backward()
    return x.grad


@program
def in_place_activations(lib: Library) -> Any:
    x = leaf(lib, 5)
    y = (x * 2).sigmoid_()
    z = (x * 3).relu_()
    (y * z).sum().backward()
    return x.grad


@program
def writes_without_recording(lib: Library) -> Any:
    x = leaf(lib, 3)
    with lib.no_grad():
        x.mul_(2.0)
        x[0] = 5.0
    (x * x).sum().backward()
    return x, x.grad, x.is_leaf, x.grad_fn is None


@program
def writes_through_data(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = (x * x).sum()
    x.data.mul_(3.0)
    y.backward()
    return x.grad


@program
def detached_in_place(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = x * 2
    y.detach_()
    return y.requires_grad, y.is_leaf, x.requires_grad


@program
def expanded_and_strided_views(lib: Library) -> Any:
    x = leaf(lib, 6)
    wide = x.expand(3, 6)
    strided = x.as_strided((3, 2), (1, 2), 1)
    windows = x.unfold(0, 3, 1)
    (wide.sum() + (strided**2).sum() + (windows**3).sum()).backward()
    return x.grad


# -- Function -------------------------------------------------------------------------------------


def cube(lib: Library) -> Any:
    class Cube(lib.autograd.Function):  # type: ignore[name-defined,misc]
        @staticmethod
        def forward(ctx: Any, x: Any, scale: float) -> Any:
            ctx.save_for_backward(x)
            ctx.scale = scale
            return x**3 * scale

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return g * 3 * x**2 * ctx.scale, None

    return Cube


@program
def a_function(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = cube(lib).apply(x, 2.0)
    y.sum().backward()
    return y, x.grad, type(y.grad_fn).__name__.replace("_Entry", "CubeBackward"), y.grad_fn.name()


@program
def a_function_differentiated_twice(lib: Library) -> Any:
    x = leaf(lib, 3)
    (g,) = lib.autograd.grad(cube(lib).apply(x, 2.0).sum(), x, create_graph=True)
    g.sum().backward()
    return g, x.grad


@program
def a_function_that_writes_its_input(lib: Library) -> Any:
    class Double(lib.autograd.Function):  # type: ignore[name-defined,misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(x)
            return x.mul_(2)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2

    x = leaf(lib, 3)
    y = x * 1
    z = Double.apply(y)
    (z * z).sum().backward()
    return x.grad, z is y, y._version


@program
def a_function_of_several(lib: Library) -> Any:
    class Both(lib.autograd.Function):  # type: ignore[name-defined,misc]
        @staticmethod
        def forward(x: Any, y: Any) -> Any:
            return x * y, x + y, (x > 0)

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)
            ctx.mark_non_differentiable(output[2])

        @staticmethod
        def backward(ctx: Any, a: Any, b: Any, c: Any) -> Any:
            x, y = ctx.saved_tensors
            return a * y + b, a * x + b

    x, y = leaf(lib, 3), leaf(lib, 3, seed=1)
    product, _, positive = Both.apply(x, y)
    product.sum().backward()
    return x.grad, y.grad, positive.requires_grad


@program
def a_function_that_writes_a_view(lib: Library) -> Any:
    class Double(lib.autograd.Function):  # type: ignore[name-defined,misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(x)
            return x.mul_(2)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2

    x = leaf(lib, 3, 2)
    y = x * 1
    Double.apply(y[1])
    (y * y).sum().backward()
    return x.grad


# -- functional -----------------------------------------------------------------------------------


def curve(x: Any, y: Any) -> Any:
    return (x.exp() * y).sum() + (y**3).sum()


@program
def functional_products(lib: Library) -> Any:
    x, y, u, v = (given(lib, array((3,), k, "float64")) for k in range(4))
    f = lib.autograd.functional
    return [
        f.vjp(curve, (x, y)),
        f.jvp(lambda a, b: (a * b, b.sin()), (x, y), (u, v)),
        f.vhp(curve, (x, y), (u, v)),
        f.hvp(curve, (x, y), (u, v)),
    ]


@program
def functional_matrices(lib: Library) -> Any:
    x, y = given(lib, array((3,), 0, "float64")), given(lib, array((2,), 1, "float64"))
    f = lib.autograd.functional
    return [
        f.jacobian(lambda a: a**2, x),
        f.jacobian(lambda a, b: (a.sum() * b, a * 2), (x, y)),
        f.hessian(lambda a: (a**3).sum(), x),
        f.hessian(lambda a, b: (a.sum() ** 2) * (b**2).sum(), (x, y)),
    ]


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str) -> None:
    both(PROGRAMS[name], rtol=1e-9, atol=1e-10)


# -- errors ---------------------------------------------------------------------------------------


@error
def backward_twice(lib: Library) -> Any:
    y = leaf(lib, 3).exp().sum()
    y.backward()
    y.backward()


@error
def backward_of_a_vector(lib: Library) -> Any:
    (leaf(lib, 3) * 2).backward()


@error
def backward_without_history(lib: Library) -> Any:
    lib.ones(1).backward()


@error
def an_unused_input(lib: Library) -> Any:
    lib.autograd.grad(leaf(lib, 3).sum(), leaf(lib, 2))


@error
def an_input_without_grad(lib: Library) -> Any:
    lib.autograd.grad(leaf(lib, 3).sum(), lib.ones(2))


@error
def a_cotangent_of_another_shape(lib: Library) -> Any:
    (leaf(lib, 3) * 2).backward(lib.ones(2, dtype=lib.float64))


@error
def no_inputs(lib: Library) -> Any:
    leaf(lib, 3).sum().backward(inputs=[])


@error
def a_saved_output_changed(lib: Library) -> Any:
    y = leaf(lib, 3).exp()
    y.add_(1)
    y.sum().backward()


@error
def a_saved_input_changed(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = x * 2
    z = y * y
    y.add_(1)
    z.sum().backward()


@error
def a_saved_leaf_changed(lib: Library) -> Any:
    x = leaf(lib, 3)
    y = x * x
    with lib.no_grad():
        x.add_(1)
    y.sum().backward()


@error
def a_leaf_written(lib: Library) -> Any:
    leaf(lib, 3).mul_(2)


@error
def a_view_of_a_leaf_written(lib: Library) -> Any:
    leaf(lib, 3)[0].mul_(2)


@error
def one_of_several_views_written(lib: Library) -> Any:
    a, _ = (leaf(lib, 2, 3) * 2).unbind(0)
    a.mul_(2)


@error
def a_computed_tensor_told_not_to_require_grad(lib: Library) -> Any:
    (leaf(lib, 3) * 2).requires_grad = False


@error
def numpy_of_a_tensor_that_requires_grad(lib: Library) -> Any:
    leaf(lib, 3).numpy()


@error
def a_gradient_of_another_shape(lib: Library) -> Any:
    leaf(lib, 3).grad = lib.ones(2, dtype=lib.float64)


@error
def retain_grad_without_grad(lib: Library) -> Any:
    lib.ones(2).retain_grad()


@error
def a_hook_without_grad(lib: Library) -> Any:
    lib.ones(2).register_hook(print)


@error
def a_post_hook_on_a_non_leaf(lib: Library) -> Any:
    (leaf(lib, 2) * 2).register_post_accumulate_grad_hook(print)


@error
def deepcopy_of_a_non_leaf(lib: Library) -> Any:
    (leaf(lib, 2) * 2).__deepcopy__({})


@error
def a_function_with_too_few_gradients(lib: Library) -> Any:
    class Wrong(lib.autograd.Function):  # type: ignore[name-defined,misc]
        @staticmethod
        def forward(ctx: Any, x: Any, y: Any) -> Any:
            return x * y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    Wrong.apply(leaf(lib, 2), leaf(lib, 2)).sum().backward()


@error
def a_function_that_is_differentiable_once(lib: Library) -> Any:
    class Once(lib.autograd.Function):  # type: ignore[name-defined,misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        @lib.autograd.function.once_differentiable
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2 * ctx.saved_tensors[0]

    x = leaf(lib, 2)
    (g,) = lib.autograd.grad(Once.apply(x).sum(), x, create_graph=True)
    g.sum().backward()


@error
def a_dirty_leaf(lib: Library) -> Any:
    class Double(lib.autograd.Function):  # type: ignore[name-defined,misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(x)
            return x.mul_(2)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2

    Double.apply(leaf(lib, 2))


@error
def nan_under_anomaly_detection(lib: Library) -> Any:
    x = lib.zeros(2, requires_grad=True)
    with lib.autograd.detect_anomaly():
        (x.sqrt() * 0).sum().backward()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    with pytest.raises(Exception) as theirs:
        ERRORS[name](torch)
    with pytest.raises(type(theirs.value)) as ours:
        ERRORS[name](flambeau)
    assert str(ours.value) == str(theirs.value)
