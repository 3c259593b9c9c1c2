"""An LSTM that finds the words in a text without spaces, trained, exported and served.

flambeau run examples/export_lstm.py --steps 60

The text is the documentation that comes with Python. The program is exported with batch and time
left open, read back, compared with the model and, where onnxruntime is installed, with its run of
the ONNX file; words.svg shows the graph in a browser. Its size does not depend on the time.
"""

import argparse
import random
import re
from pydoc_data.topics import topics

import numpy as np
import torch
from torch import nn
from torch.export import Dim
from torch.nn import functional as F

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Words(nn.Module):
    """Letters (B, T) to the logits (B, T) of being the first of a word."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS), width)
        self.lstm = nn.LSTM(width, 2 * width, 2, batch_first=True, bidirectional=True)
        self.first = nn.Linear(4 * width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(self.lstm(self.letters(x))[0]).squeeze(-1)


def corpus() -> tuple[torch.Tensor, torch.Tensor]:
    """(letters, whether each is the first of a word) of the whole text."""
    words = re.findall("[a-z]+", " ".join(topics.values()).lower())
    letters = [LETTERS.index(c) for word in words for c in word]
    firsts = [k == 0 for word in words for k in range(len(word))]
    return torch.tensor(letters), torch.tensor(firsts, dtype=torch.float32)


def divided(model: nn.Module, text: str) -> str:
    """A text with the spaces where the model sees them."""
    with torch.no_grad():
        found = model(torch.tensor([[LETTERS.index(c) for c in text]]))[0] > 0
    return "".join(" " * bool(k and f) + c for k, (c, f) in enumerate(zip(text, found.tolist())))


def check(model: nn.Module, again: nn.Module, path: str) -> None:
    """Compare what was read back, and onnxruntime, with the model for several sizes."""
    try:
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
    except ImportError:
        session = None
        print("onnxruntime is not installed; pip install onnxruntime")
    for batch, time in ((1, 1), (3, 50), (16, 7), (2, 1000)):
        x = torch.randint(0, len(LETTERS), (batch, time))
        with torch.no_grad():
            wanted = model(x).numpy()
            found = [again(x).numpy()]
        if session is not None:
            found.append(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
        furthest = [f"{np.abs(y - wanted).max():.1e}" for y in found]
        print(f"batch {batch:2} time {time:4}: differences", *furthest)
        assert all(np.allclose(y, wanted, atol=1e-5) for y in found)


def main() -> None:
    """Train, export, compare, and divide a sentence."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--width", type=int, default=32)
    given = options.parse_args()
    torch.manual_seed(1)
    random.seed(1)
    letters, firsts = corpus()
    model = Words(given.width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(given.steps):
        places = [random.randrange(len(letters) - 48) for _ in range(24)]
        x = torch.stack([letters[p : p + 48] for p in places])
        y = torch.stack([firsts[p : p + 48] for p in places])
        loss = F.binary_cross_entropy_with_logits(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 5 == 0 or step == given.steps - 1:
            print(f"step {step:3}  loss {loss.item():.4f}")
    model.eval()
    sizes = ({0: Dim("batch", max=512), 1: Dim("time", max=10_000)},)
    program = torch.export.export(model, (x,), dynamic_shapes=sizes)
    torch.export.save(program, "words.pt2")
    torch.onnx.export(model, (x,), "words.onnx", dynamic_shapes=sizes, dynamo=True)
    if hasattr(program, "visualize"):
        program.visualize("words.svg")
    check(model, torch.export.load("words.pt2").module(), "words.onnx")
    print(divided(model, "thevalueofanexpressionisanobject"))


if __name__ == "__main__":
    main()
