"""A GPT that every form of distributed training can train, and the forms.

A form is a function that lays a model on the ranks; -> what trains one batch and returns this
rank's term of its loss, which is the sum of the ranks' terms. So all forms are compared with one
process in one way: by the curve of the loss (`tests/distributed/test_equality.py`, and at length
`python -m tests.hosts.equality`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import flambeau
import flambeau.nn.functional as F
from flambeau import Tensor, nn, optim
from flambeau.distributed import pipelining
from flambeau.distributed.context_parallel import (
    all_to_all_attention,
    ring_attention,
    shard_sequence,
)
from flambeau.distributed.ddp import DistributedDataParallel
from flambeau.distributed.fsdp import fully_shard
from flambeau.distributed.groups import get_rank, get_world_size
from flambeau.distributed.mesh import DeviceMesh, init_device_mesh
from flambeau.distributed.moe import MixtureOfExperts
from flambeau.distributed.tensor import DTensor, Replicate, Shard
from flambeau.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    loss_parallel,
    parallelize_module,
)
from flambeau.distributed.zero import ZeroRedundancyOptimizer

#: Experts of the models that have some.
EXPERTS = 4


# -- the model -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """A model's sizes and what it is trained on.

    Attributes:
        words: tokens of the vocabulary.
        length: tokens of a sequence.
        blocks: pairs of attention and perceptron.
        heads: of attention.
        width: channels C.
        batch: sequences of a step.
        steps: how many there are.
        dtype: "float64" or "float32".
        order: a seed by which each batch's sequences change places, None to leave them; the loss
            does not depend on it but for rounding.
    """

    words: int = 23
    length: int = 8
    blocks: int = 1
    heads: int = 4
    width: int = 8
    batch: int = 8
    steps: int = 5
    dtype: str = "float64"
    order: int | None = None


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention to what came before; (B, H, T, E)."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class Attention(nn.Module):
    """Several heads of attention, each projection a layer of its own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.size = width // heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.attend: Callable[..., Any] = causal

    def forward(self, x: Any) -> Any:
        """Of (B, T, C)."""
        q, k, v = (f(x).unflatten(-1, (-1, self.size)).transpose(1, 2)
                   for f in (self.q, self.k, self.v))  # fmt: skip
        return self.out(self.attend(q, k, v).transpose(1, 2).flatten(2))


class Mixing(nn.Module):
    """x + attention(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)

    def forward(self, x: Any) -> Any:
        """Of (B, T, C)."""
        return x + self.attention(self.norm(x))


class Feeding(nn.Module):
    """x + perceptron(norm(x)), or one of several perceptrons."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        """Of (B, T, C)."""
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Choosing(nn.Module):
    """x + experts(norm(x))."""

    def __init__(self, width: int, experts: list[nn.Module]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.experts = MixtureOfExperts(width, experts, k=2)

    def forward(self, x: Any) -> Any:
        """Of (B, T, C)."""
        return x + self.experts(self.norm(x))


class Front(nn.Module):
    """Vectors of tokens and of their places."""

    def __init__(self, words: int, length: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Embedding(length, width)

    def forward(self, tokens: Any, at: Any = None) -> Any:
        """Of (B, T) tokens, whose places are `at` (T,), or the first ones."""
        at = flambeau.arange(tokens.shape[1]) if at is None else at
        return self.words(tokens) + self.places(at.unsqueeze(0))


class Back(nn.Module):
    """Logits of the next token."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, words, bias=False)

    def forward(self, x: Any) -> Any:
        """Of (B, T, C)."""
        return self.head(self.norm(x))


class GPT(nn.Module):
    """A front, layers, and a back, each of which takes what the one before returns.

    Args:
        experts: this rank's experts of every second layer, numbered in the whole; none for
            perceptrons.
    """

    def __init__(self, setting: Setting, experts: range = range(0)) -> None:
        super().__init__()
        width = setting.width
        self.front = Front(setting.words, setting.length, width)
        self.layers = nn.ModuleList()
        for k in range(setting.blocks):
            self.layers.append(Mixing(width, setting.heads))
            if experts:
                every = [_perceptron(width, 100 * k + e) for e in experts]
                flambeau.manual_seed(k)
                self.layers.append(Choosing(width, every))
            else:
                self.layers.append(Feeding(width))
        self.back = Back(setting.words, width)

    def pieces(self) -> list[nn.Module]:
        """From the front."""
        return [self.front, *self.layers, self.back]

    def forward(self, tokens: Any, at: Any = None) -> Any:
        """Logits (B, T, V) of (B, T) tokens."""
        h = self.front(tokens, at)
        for layer in self.layers:
            h = layer(h)
        return self.back(h)


def _perceptron(width: int, seed: int) -> nn.Module:
    flambeau.manual_seed(seed)
    return nn.Sequential(nn.Linear(width, 2 * width), nn.Tanh(), nn.Linear(2 * width, width))


def model(setting: Setting, experts: range = range(0)) -> Any:
    """The GPT with the same values every time."""
    flambeau.manual_seed(0)
    return GPT(setting, experts).to(getattr(flambeau, setting.dtype))


def loss_of(logits: Any, target: Any) -> Any:
    """Mean cross-entropy of (B, T, V) logits."""
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())


def batches(setting: Setting) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, T) tokens and the tokens after them, which mostly follow from them."""
    rng = np.random.default_rng(5)
    turns = None if setting.order is None else np.random.default_rng(setting.order)
    for _ in range(setting.steps):
        shape = setting.batch, setting.length + 1
        tokens = rng.integers(0, setting.words, shape)
        for t in range(1, shape[1]):
            follows = rng.random(shape[0]) < 0.8
            tokens[:, t] = np.where(
                follows, (3 * tokens[:, t - 1] + 1) % setting.words, tokens[:, t]
            )
        given = flambeau.tensor(tokens if turns is None else turns.permutation(tokens))
        yield given[:, :-1], given[:, 1:]


def optimizer_of(parameters: Any, kind: Any = optim.AdamW, **options: Any) -> Any:
    """AdamW, or what stands for it."""
    return kind(parameters, lr=1e-2, weight_decay=0.1, **options)


Step = Callable[[Tensor, Tensor], Tensor]
Form = Callable[[Setting], Step]


def curve(form: Form, setting: Setting) -> list[float]:
    """This rank's terms of the losses."""
    step = form(setting)
    return [step(tokens, target).item() for tokens, target in batches(setting)]


def stepping(optimizer: Any, loss_from: Step) -> Step:
    """What trains a batch: the gradients of a loss, and an update.

    Args:
        loss_from: (tokens, target) -> a loss that gives the right gradients.
    """

    def step(tokens: Tensor, target: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = loss_from(tokens, target)
        loss.backward()
        optimizer.step()
        found = loss.detach()
        return found.full_tensor() if isinstance(found, DTensor) else found

    return step


def divided(step: Step) -> Step:
    """Each rank's loss is a mean of its own, or all ranks have the same one."""
    return lambda tokens, target: step(tokens, target) / get_world_size()


# -- the forms -------------------------------------------------------------------------------------


def alone(setting: Setting) -> Step:
    """One process."""
    net = model(setting)
    return stepping(optimizer_of(net.parameters()), lambda x, y: loss_of(net(x), y))


def alone_with_experts(setting: Setting) -> Step:
    """One process that has all experts."""
    net = model(setting, range(EXPERTS))
    return stepping(optimizer_of(net.parameters()), lambda x, y: loss_of(net(x), y))


def _on_parts(net: Any, optimizer: Any, mesh: Any = None) -> Step:
    """Each rank of a mesh of one axis takes some of the sequences."""
    ranks, rank = (
        (get_world_size(), get_rank()) if mesh is None else (mesh.size(), mesh.get_local_rank())
    )
    return divided(
        stepping(optimizer, lambda x, y: loss_of(net(x.chunk(ranks)[rank]), y.chunk(ranks)[rank]))
    )


def replicas(setting: Setting) -> Step:
    """`DistributedDataParallel`, in several buckets."""
    net = DistributedDataParallel(model(setting), bucket_cap_mb=0.01)
    return _on_parts(net, optimizer_of(net.parameters()))


def shared_states(setting: Setting) -> Step:
    """`ZeroRedundancyOptimizer`."""
    net = DistributedDataParallel(model(setting))
    return _on_parts(net, optimizer_of(net.parameters(), ZeroRedundancyOptimizer,
                                       optimizer_class=optim.AdamW))  # fmt: skip


def _cut(net: Any, **options: Any) -> Any:
    for piece in net.pieces():
        fully_shard(piece, **options)
    return fully_shard(net, **options)


def sharded(setting: Setting) -> Step:
    """`fully_shard`."""
    net = _cut(model(setting))
    return _on_parts(net, optimizer_of(net.parameters()))


def _two_axes(first: str, second: str) -> DeviceMesh:
    """Two ranks along the second axis, the others along the first."""
    ranks = get_world_size()
    inner = min(ranks, 2)
    return init_device_mesh("cpu", (ranks // inner, inner), mesh_dim_names=(first, second))


def replicated_shards(setting: Setting) -> Step:
    """`fully_shard` on a mesh of two axes: parts that are replicated."""
    net = _cut(model(setting), mesh=_two_axes("replicate", "shard"))
    return _on_parts(net, optimizer_of(net.parameters()))


PLANS: dict[str, Any] = {
    "tensor": {
        "front.words": RowwiseParallel(input_layouts=Replicate()),
        "layers.*.attention.[qkv]": ColwiseParallel(),
        "layers.*.attention.out": RowwiseParallel(),
        "layers.*.up": ColwiseParallel(),
        "layers.*.down": RowwiseParallel(),
        "back.head": ColwiseParallel(use_local_output=False),
    },
    "sequence": {
        "front.words": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1)),
        "front.places": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1)),
        "layers.*.norm": SequenceParallel(),
        "layers.*.attention": PrepareModuleInput(
            input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),), use_local_output=True
        ),
        "layers.*.attention.[qkv]": ColwiseParallel(),
        "layers.*.attention.out": RowwiseParallel(output_layouts=Shard(1)),
        "layers.*.up": ColwiseParallel(input_layouts=Shard(1)),
        "layers.*.down": RowwiseParallel(output_layouts=Shard(1)),
        "back.norm": SequenceParallel(),
        "back.head": ColwiseParallel(input_layouts=Shard(1), use_local_output=False),
    },
}


def split_loss(logits: Any, target: Any) -> Any:
    """`loss_of` logits that are split by class."""
    with loss_parallel():
        return loss_of(logits, target)


def _tensor_parallel(setting: Setting, plan: str) -> Step:
    mesh = init_device_mesh("cpu", (get_world_size(),))
    net = parallelize_module(model(setting), mesh, PLANS[plan])
    return divided(stepping(optimizer_of(net.parameters()), lambda x, y: split_loss(net(x), y)))


def tensor_parallel(setting: Setting) -> Step:
    """Column- and row-parallel layers, and a loss over split classes."""
    return _tensor_parallel(setting, "tensor")


def sequence_parallel(setting: Setting) -> Step:
    """The same, and norms and sums on parts of the sequence."""
    return _tensor_parallel(setting, "sequence")


def replicas_of_tensor_parallel(setting: Setting) -> Step:
    """`DistributedDataParallel` of tensor parallel layers, on a mesh of two axes."""
    mesh = _two_axes("dp", "tp")
    net = model(setting)
    for layer in net.layers[1::2]:
        parallelize_module(layer, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    ddp = DistributedDataParallel(net, device_mesh=mesh["dp"])
    return _on_parts(ddp, optimizer_of(ddp.parameters()), mesh["dp"])


def shards_of_tensor_parallel(setting: Setting) -> Step:
    """`fully_shard` of tensor parallel layers, on a mesh of two axes; gradients are clipped."""
    mesh = _two_axes("dp", "tp")
    net = model(setting)
    for layer in net.layers[1::2]:
        parallelize_module(layer, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    _cut(net, mesh=mesh["dp"])
    optimizer = optimizer_of(net.parameters())
    optimizer.register_step_pre_hook(lambda *_: _clip(net))
    return _on_parts(net, optimizer, mesh["dp"])


def alone_with_bounds(setting: Setting) -> Step:
    """One process whose gradients are clipped."""
    net = model(setting)
    optimizer = optimizer_of(net.parameters())
    optimizer.register_step_pre_hook(lambda *_: _clip(net))
    return stepping(optimizer, lambda x, y: loss_of(net(x), y))


def _clip(net: nn.Module) -> None:
    nn.utils.clip_grad_norm_(net.parameters(), 0.3)


def _over_positions(setting: Setting, attention: Callable[..., Any]) -> Step:
    net = model(setting)
    for layer in net.layers[::2]:
        layer.attention.attend = lambda q, k, v: attention(
            q, k, v, block_mask=lambda b, h, i, j: i >= j
        )
    ddp = DistributedDataParallel(net)
    at = shard_sequence(flambeau.arange(setting.length), 0)
    return divided(
        stepping(
            optimizer_of(ddp.parameters()),
            lambda x, y: loss_of(ddp(shard_sequence(x, 1), at), shard_sequence(y, 1)),
        )
    )


def ring(setting: Setting) -> Step:
    """Parts of each sequence on each rank; keys and values go round."""
    return _over_positions(setting, ring_attention)


def all_to_all(setting: Setting) -> Step:
    """Parts of each sequence on each rank; heads are exchanged for positions."""
    return _over_positions(setting, all_to_all_attention)


def experts(setting: Setting) -> Step:
    """Each rank has some of the experts and takes some of the sequences."""
    ranks = get_world_size()
    here = EXPERTS // ranks
    net = model(setting, range(get_rank() * here, (get_rank() + 1) * here))
    own = [name for name, _ in net.named_parameters() if ".experts.experts." in name]
    for name in own:  # of the mean of the ranks' losses, as the others'
        net.get_parameter(name).register_hook(lambda g: g / ranks)
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(net, own)
    ddp = DistributedDataParallel(net)
    return _on_parts(ddp, optimizer_of(ddp.parameters()))


def pipeline(setting: Setting, kind: Any, chunks: int = 1) -> Step:
    """Pieces of the model on each rank, and micro-batches."""
    ranks, rank = get_world_size(), get_rank()
    stages = ranks * chunks
    cuts = np.array_split(np.arange(2 * setting.blocks + 2), stages)
    pieces = model(setting).pieces()
    mine = [
        pipelining.PipelineStage(nn.Sequential(*(pieces[i] for i in cuts[k])), k, stages)
        for k in range(rank, stages, ranks)
    ]
    runner = kind(mine if chunks > 1 else mine[0], 4, loss_fn=loss_of)
    optimizer = optimizer_of([p for stage in mine for p in stage.parameters()])

    def step(tokens: Tensor, target: Tensor) -> Tensor:
        optimizer.zero_grad()
        last = mine[-1].is_last
        losses: list[Tensor] = []
        given = [tokens] if mine[0].is_first else []
        runner.step(*given, target=target if last else None, losses=losses)
        optimizer.step()
        return flambeau.stack(losses).mean() if last else flambeau.zeros(())

    return step


def gpipe(setting: Setting) -> Step:
    """All forwards, then all backwards."""
    return pipeline(setting, pipelining.ScheduleGPipe)


def one_forward_one_backward(setting: Setting) -> Step:
    """A backward after each forward."""
    return pipeline(setting, pipelining.Schedule1F1B)


def interleaved(setting: Setting) -> Step:
    """Two pieces a rank."""
    return pipeline(setting, pipelining.ScheduleInterleaved1F1B, 2)


def zero_bubble(setting: Setting) -> Step:
    """Gradients of weights when there is nothing else to do."""
    return pipeline(setting, pipelining.ScheduleInterleavedZeroBubble)


#: Name -> (form, what it is compared with).
FORMS: dict[str, tuple[Form, Form]] = {
    "DistributedDataParallel": (replicas, alone),
    "ZeroRedundancyOptimizer": (shared_states, alone),
    "fully_shard": (sharded, alone),
    "fully_shard, replicated": (replicated_shards, alone),
    "tensor parallel": (tensor_parallel, alone),
    "sequence parallel": (sequence_parallel, alone),
    "DistributedDataParallel x tensor parallel": (replicas_of_tensor_parallel, alone),
    "fully_shard x tensor parallel, clipped": (shards_of_tensor_parallel, alone_with_bounds),
    "ring attention": (ring, alone),
    "all-to-all attention": (all_to_all, alone),
    "expert parallel": (experts, alone_with_experts),
    "pipeline, GPipe": (gpipe, alone),
    "pipeline, 1F1B": (one_forward_one_backward, alone),
    "pipeline, interleaved": (interleaved, alone),
    "pipeline, zero-bubble": (zero_bubble, alone),
}
