"""Small models of transformers and torchvision, exported with open sizes: saved and loaded again,
and as ONNX in onnxruntime. Prints the largest difference from the module, relative to its result.
"""

import io
import sys

import numpy as np
import torch
from torch import nn
from torch.export import Dim, export, load, save

BATCH, TIME = Dim("batch", min=1, max=64), Dim("time", min=4, max=48)


class First(nn.Module):
    """The first result of a model, whose inputs are named."""

    def __init__(self, model, names, more):
        super().__init__()
        self.model, self.names, self.more = model, names, more

    def forward(self, *given):
        found = self.model(**dict(zip(self.names, given, strict=True)), **self.more)
        return found[0] if isinstance(found, tuple) else found


def transformer(name):
    """A model of `transformers_models`, its inputs of other sizes, and what of them is open."""
    import transformers_models as small

    kind, config, _ = getattr(small, name)()
    if hasattr(config, "use_cache"):
        config.use_cache = False
    config._attn_implementation = "sdpa" if "sdpa" in small.ATTENTION[getattr(small, name)] else (
        "eager"
    )  # fmt: skip
    if name == "mixtral":  # other forms loop over the numbers of tokens that experts get
        config._experts_implementation = "batched_mm"
    model = kind(config)
    if name == "whisper":
        model = model.get_encoder()
    small.weights_from_numpy(model)
    words = {0: BATCH, 1: TIME}
    if name == "vit":
        return model, ["pixel_values"], lambda n, _: [small.floats(n, 3, 16, 16)], [{0: BATCH}]
    if name == "whisper":
        return model, ["input_features"], lambda n, _: [small.floats(n, 10, 40)], [{0: BATCH}]
    if name == "t5":
        names = ["input_ids", "decoder_input_ids"]
        return model, names, lambda n, t: [small.tokens(n, t), small.tokens(n, t)], [words] * 2

    def masked(n, t):
        mask = torch.ones(n, t, dtype=torch.int64)
        mask[-1, t - 2 :] = 0
        return [small.tokens(n, t), mask]

    return model, ["input_ids", "attention_mask"], masked, [words] * 2


def picture(name):
    """A model of torchvision, images of other sizes, and what of them is open."""
    import a_torchvision_without_kernels  # noqa: F401 (before torchvision)
    from torchvision import models
    from transformers_models import floats, weights_from_numpy

    fixed = name.startswith("vit")
    options = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2,
               "hidden_dim": 16, "mlp_dim": 24}  # fmt: skip
    model = models.VisionTransformer(**options) if fixed else getattr(models, name)()
    weights_from_numpy(model)
    for module in model.modules():  # deep nets of random weights would overflow
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            with torch.no_grad():
                module.weight.mul_(3 / module.weight[0].numel() ** 0.5)
    if fixed:
        return model, None, lambda n, _: [floats(n, 3, 32, 32)], [{0: BATCH}]
    sides = {2: Dim("height", min=64), 3: Dim("width", min=64)}
    return model, None, lambda n, t: [floats(n, 3, 64 + t, 80 + t)], [{0: BATCH, **sides}]


def report(name):
    """Print how far a model is from its exported forms."""
    is_picture = name.startswith(("resnet", "vit_"))
    model, names, given, sizes = (picture if is_picture else transformer)(name)
    if names is not None:
        model = First(model, names, {"return_dict": False})
    model.eval().requires_grad_(False)
    spec = {"given": tuple(sizes)} if names is not None else tuple(sizes)
    program = export(model, tuple(given(3, 11)), dynamic_shapes=spec)
    buffer = io.BytesIO()
    save(program, buffer)
    buffer.seek(0)
    again = load(buffer).module()
    onnx = torch.onnx.export(program)
    for n, t in ((1, 5), (4, 23)):
        inputs = given(n, t)
        wanted = model(*inputs).numpy()
        scale = np.abs(wanted).max()
        found = again(*inputs).numpy(), onnx(*inputs)[0].numpy()
        print(name, n, t, *(float(np.abs(x - wanted).max() / scale) for x in found), flush=True)


if __name__ == "__main__":
    for chosen in sys.argv[1:]:
        report(chosen)
