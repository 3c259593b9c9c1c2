"""WGAN with a gradient penalty (double backward) on a ring of points."""

import itertools

import numpy as np
import torch
from torch import autograd, nn


def mlp(*sizes):
    layers = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


rng = np.random.default_rng(2)
G, D = mlp(2, 32, 32, 2), mlp(2, 32, 32, 1)
for net in (G, D):
    for p in net.parameters():
        p.data = torch.from_numpy(rng.normal(0, 0.25, p.shape).astype(np.float32))
opt_g = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.0, 0.9))
opt_d = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.0, 0.9))


def draw(n):
    return torch.from_numpy(rng.standard_normal((n, 2)).astype(np.float32))


def penalty(real, fake):
    mix = torch.from_numpy(rng.random((len(real), 1)).astype(np.float32))
    between = (mix * real + (1 - mix) * fake).requires_grad_(True)
    score = D(between)
    grads = autograd.grad(
        outputs=score,
        inputs=between,
        grad_outputs=torch.ones_like(score),
        create_graph=True,
        retain_graph=True,
        only_inputs=True,
    )[0]
    return ((grads.norm(2, dim=1) - 1) ** 2).mean()


for _step in range(8):
    for p in D.parameters():
        p.requires_grad = True
    for _ in range(2):
        angle = torch.from_numpy(rng.uniform(0, 2 * np.pi, 32).astype(np.float32))
        real = torch.stack((angle.cos(), angle.sin()), 1)
        fake = G(draw(32)).detach()
        D.zero_grad()
        gp = penalty(real, fake)
        loss_d = D(fake).mean() - D(real).mean() + 10 * gp
        loss_d.backward()
        opt_d.step()
    for p in D.parameters():
        p.requires_grad = False
    G.zero_grad()
    loss_g = -D(G(draw(32))).mean()
    loss_g.backward()
    opt_g.step()
    print("loss", loss_d.item(), gp.item(), loss_g.item())
# Hessian-vector product and third derivative
x = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64, requires_grad=True)
f = (x.sin() * x.exp()).sum() + (x[0] * x[1] * x[2]) ** 2
(g,) = autograd.grad(f, x, create_graph=True)
v = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
(h,) = autograd.grad(g @ v, x, create_graph=True)
(t,) = autograd.grad(h.sum(), x)
print("third", *h.tolist(), *t.tolist())
