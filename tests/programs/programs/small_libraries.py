"""einops, safetensors, accelerate and TensorBoard on tensors with gradients."""

import tempfile

import numpy as np
import safetensors.torch as safe
import torch
from accelerate import Accelerator
from einops import einsum, pack, rearrange, reduce, repeat, unpack
from einops.layers.torch import Rearrange, Reduce
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.tensorboard import SummaryWriter
from transformers_models import floats, weights_from_numpy


def einops():
    x = floats(2, 3, 4, 6).requires_grad_()
    y = rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=2, q=3)
    z = reduce(y, "b n (k d) -> b k", "mean", k=3) + repeat(x.sum((1, 2, 3)), "b -> b k", k=3)
    w = einsum(z, y, "b k, b n d -> n k d")
    packed, shapes = pack([z, y], "b *")
    parts = unpack(packed, shapes, "b *")
    (w.sin().sum() + parts[1].square().sum()).backward()
    print("einops", *w.flatten()[::29].tolist(), x.grad.square().sum().item(), *packed.shape)
    layers = nn.Sequential(Rearrange("b c h w -> b (c h w)"), nn.Linear(72, 8), nn.GELU())
    layers.append(Reduce("b (k n) -> b k", "max", k=4))
    weights_from_numpy(layers)
    print("layers", *layers(floats(2, 3, 4, 6)).flatten().tolist())


def safetensors():
    tensors = {"a": floats(3, 4), "half": floats(5).bfloat16(), "n": torch.arange(6).view(2, 3)}
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/x.safetensors"
        safe.save_file(tensors, path, metadata={"who": "me"})
        again = safe.load_file(path)
        with safe.safe_open(path, framework="pt") as file:
            part = file.get_slice("a")[1:, :2]
            print("slice", *part.flatten().tolist(), file.metadata()["who"], *sorted(file.keys()))
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        weights_from_numpy(model)
        safe.save_model(model, path)
        other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        print("loaded", safe.load_model(other, path), torch.equal(model[0].weight, other[0].weight))
    for name, value in again.items():
        print("same", name, str(value.dtype), torch.equal(value, tensors[name]))
    raw = safe.save(tensors)
    print("bytes", len(raw), torch.equal(safe.load(raw)["a"], tensors["a"]))


def accelerated():
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))
    weights_from_numpy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.5)
    x = floats(32, 5)
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    for _ in range(2):
        for inputs, targets in loader:
            with accelerator.accumulate(model):
                loss = nn.functional.mse_loss(model(inputs), targets)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            print("loss", accelerator.gather_for_metrics(loss).mean().item())
    with tempfile.TemporaryDirectory() as folder:
        accelerator.save_state(folder)
        with torch.no_grad():
            for p in model.parameters():
                p.zero_()
        accelerator.load_state(folder)
        print("restored", model(x[:2]).flatten().tolist()[0], accelerator.num_processes)


def tensorboard():
    with tempfile.TemporaryDirectory() as folder:
        with SummaryWriter(folder) as writer:
            for step in range(5):
                writer.add_scalar("loss", torch.tensor(1.0 / (step + 1)), step)
            writer.add_histogram("weights", floats(100), 0)
            writer.add_image("image", floats(3, 8, 8).sigmoid(), 0)
            writer.add_text("note", "hello", 0)
        events = EventAccumulator(folder)
        events.Reload()
        found = events.Tags()
        print("scalars", *[e.value for e in events.Scalars("loss")], *found["scalars"])
        print("histogram", events.Histograms("weights")[0].histogram_value.num, *found["images"])


def numpy_protocols():
    x = floats(3, 4)
    print(
        "numpy", *np.asarray(x).sum(0).tolist(), float(np.mean(x.numpy())), np.exp(x).sum().item()
    )
    print("ufunc", type(np.sin(x)).__name__, np.add(x.numpy(), 1).dtype, (x.numpy() * 2).shape)
    print("dlpack", torch.equal(torch.from_dlpack(np.from_dlpack(x)), x))
    print(
        "interface", torch.as_tensor(np.float64(3.5)).item(), torch.tensor(np.arange(3)).tolist()[2]
    )


if __name__ == "__main__":
    einops()
    safetensors()
    accelerated()
    tensorboard()
    numpy_protocols()
