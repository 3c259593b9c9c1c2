"""Models of timm and torchvision: outputs, gradients, and a few steps with timm's own tools."""

import sys

import a_torchvision_without_kernels  # noqa: F401 (before torchvision)
import timm
import timm.optim
import timm.scheduler
import timm.utils
import torch
import torchvision.transforms.v2 as transforms
from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy
from torch import nn
from torchvision import models
from transformers_models import floats, weights_from_numpy

SMALL = {
    "resnet10t": {},
    "convnext_atto": {},
    "vit_tiny_patch16_224": {"img_size": 32, "patch_size": 8, "depth": 3},
    "mobilenetv3_small_050": {},
    "efficientnet_lite0": {},
    "regnetx_002": {},
    "swin_tiny_patch4_window7_224": {
        "img_size": 56, "embed_dim": 24, "depths": (1, 1), "num_heads": (2, 4),
    },
}  # fmt: skip


def report(name, model, size=64):
    weights_from_numpy(model)
    for module in model.modules():  # deep nets of random weights would overflow
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            with torch.no_grad():
                module.weight.mul_(3 / module.weight[0].numel() ** 0.5)
    model.train()
    x = floats(4, 3, size, size).requires_grad_()
    out = model(x)
    out.square().mean().backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.sqrt(sum(g.square().sum() for g in grads))
    print("train", name, tuple(out.shape), norm.item(), x.grad.square().sum().item(), len(grads))
    model.eval()
    with torch.inference_mode():
        print("eval", name, *model(x).flatten()[:6].tolist())


def timm_models(chosen):
    for name, options in SMALL.items():
        if name in chosen or not chosen:
            model = timm.create_model(name, num_classes=6, drop_path_rate=0.0, **options)
            report(name, model, options.get("img_size", 64))


def torchvision_models():
    report("resnet18", models.resnet18(num_classes=5))
    report("shufflenet", models.shufflenet_v2_x0_5(num_classes=5))


def training():
    model = timm.create_model("resnet10t", num_classes=4)
    weights_from_numpy(model)
    optimizer = timm.optim.create_optimizer_v2(model, opt="lamb", lr=0.01, weight_decay=0.05)
    schedule = timm.scheduler.CosineLRScheduler(optimizer, t_initial=6, warmup_t=2, lr_min=1e-4)
    average = timm.utils.ModelEmaV3(model, decay=0.9)
    criterion = LabelSmoothingCrossEntropy(0.1)
    x, y = floats(8, 3, 32, 32), torch.arange(8) % 4
    for step in range(6):
        schedule.step(step)
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        timm.utils.dispatch_clip_grad(model.parameters(), 1.0, mode="agc")
        optimizer.step()
        average.update(model)
        print("loss", step, loss.item(), optimizer.param_groups[0]["lr"])
    print("average", *average.module.eval()(x[:1]).flatten().tolist())
    top = timm.utils.accuracy(model(x), y, topk=(1, 2))
    print("top", *[t.item() for t in top])
    mixed, targets = Mixup(mixup_alpha=1.0, num_classes=4)(x.clone(), y)
    print("mixed", *mixed.shape, *targets.shape, targets.sum().item())


def image_transforms():
    image = floats(3, 12, 16).sigmoid()
    steps = transforms.Compose(
        [
            transforms.Resize((9, 9), antialias=True),
            transforms.CenterCrop(8),
            transforms.RandomHorizontalFlip(1.0),
            transforms.Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.4]),
        ]
    )
    found = steps(image)
    print("image", *found.shape, found.mean().item(), *found.flatten()[::41].tolist())
    print("grey", transforms.Grayscale()((image * 255).to(torch.uint8)).float().mean().item())


if __name__ == "__main__":
    timm_models(sys.argv[1:])
    torchvision_models()
    training()
    image_transforms()
