"""torchvision's compiled part is made for one build of PyTorch: declares what it would register."""

import torch

for name in ("nms", "qnms"):
    torch.library.define(f"torchvision::{name}", "(Tensor a, Tensor b, float t) -> Tensor")
