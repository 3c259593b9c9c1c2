"""The models of examples/, exported, saved and loaded again, and as ONNX in onnxruntime. Prints the
largest difference from the module, relative to its result.
"""

import importlib.util
import io
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.export import Dim, export, load, save

EXAMPLES = Path(__file__).parents[3] / "examples"
BATCH = Dim("batch", min=1, max=64)


def example(name):
    """An example as a module, which does nothing when it is imported."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Logits(nn.Module):
    """A language model's logits of every position."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, words):
        return self.model(words, words)[0]


class Documents(nn.Module):
    """A model of several documents one after another: which of them is an input."""

    def __init__(self, model, window, visible):
        super().__init__()
        self.model, self.window, self.visible = model, window, visible

    def forward(self, x, owner):
        return self.model(x, self.visible(owner, x.shape[1], self.window))


def autoencoder():
    """Rows to rows."""
    return (
        example("autoencoder").Autoencoder(12, 3),
        lambda n, _: [torch.randn(n, 12)],
        [{0: BATCH}],
    )


def mlp_digits():
    """Pictures to classes."""
    found = example("mlp_digits")
    return found.Net(16), lambda n, _: [torch.randn(n, 1, found.SIZE, found.SIZE)], [{0: BATCH}]


def linear_regression():
    """Three numbers to one."""
    return nn.Linear(3, 1), lambda n, _: [torch.randn(n, 3)], [{0: BATCH}]


def export_lstm():
    """Letters to what they belong to."""
    net = example("export_lstm").Words(8)
    words = {0: BATCH, 1: Dim("time", min=2, max=100)}
    return net, lambda n, t: [torch.randint(0, 26, (n, t))], [words]


def char_gpt():
    """Characters to the next ones; even lengths take the way through attention."""
    found = example("char_gpt")
    config = found.GPTConfig(
        block_size=32, vocab_size=20, n_layer=2, n_head=2, n_embd=16, dropout=0.0
    )
    half = Dim("half", min=2, max=16)
    return (
        Logits(found.GPT(config)),
        lambda n, t: [torch.randint(0, 20, (n, t - t % 2))],
        [{0: BATCH, 1: 2 * half}],
    )


def long_context():
    """Bytes to the next ones, by flex attention within documents."""
    found = example("long_context")

    def given(_, t):
        owner = torch.arange(64) // (5 + t)
        return [torch.randint(0, 256, (1, 64)), owner]

    return Documents(found.Model(24, 3, 2), 9, found.visible), given, [None, None]


def report(name):
    """Print how far a model is from its exported forms."""
    torch.manual_seed(1)
    model, given, sizes = globals()[name]()
    model.eval().requires_grad_(False)
    program = export(model, tuple(given(3, 12)), dynamic_shapes=tuple(sizes))
    buffer = io.BytesIO()
    save(program, buffer)
    buffer.seek(0)
    again = load(buffer).module()
    onnx = torch.onnx.export(program)
    for n, t in ((1, 5), (4, 23)):
        inputs = given(n, t)
        wanted = [x.numpy() for x in torch.utils._pytree.tree_leaves(model(*inputs))]
        scale = max(np.abs(x).max() for x in wanted)
        far = []
        for found in (torch.utils._pytree.tree_leaves(again(*inputs)), onnx(*inputs)):
            pairs = zip(found, wanted, strict=True)
            far.append(max(float(np.abs(x.numpy() - y).max() / scale) for x, y in pairs))
        print(name, n, t, *far, flush=True)


if __name__ == "__main__":
    for chosen in sys.argv[1:]:
        report(chosen)
