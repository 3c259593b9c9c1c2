"""Advantage actor-critic on a pole that is to be kept upright, written by hand."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn, optim


class Pole:
    """A pole on a cart: position, speed, angle, angular speed; two actions."""

    def __init__(self):
        self.random = np.random.default_rng(0)

    def reset(self):
        self.state = self.random.uniform(-0.05, 0.05, 4)
        return self.state.astype("float32")

    def step(self, action):
        x, v, a, w = self.state
        force = 10.0 if action else -10.0
        push = (force + 0.05 * w * w * np.sin(a)) / 1.1
        turn = (9.8 * np.sin(a) - np.cos(a) * push) / (0.5 * (4 / 3 - 0.1 * np.cos(a) ** 2 / 1.1))
        slide = push - 0.05 * turn * np.cos(a) / 1.1
        self.state = np.array([x + 0.02 * v, v + 0.02 * slide, a + 0.02 * w, w + 0.02 * turn])
        done = abs(self.state[0]) > 2.4 or abs(self.state[2]) > 0.2095
        return self.state.astype("float32"), 1.0, bool(done)


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.affine = nn.Linear(4, 32)
        self.action_head = nn.Linear(32, 2)
        self.value_head = nn.Linear(32, 1)
        self.saved = []

    def forward(self, x):
        x = F.relu(self.affine(x))
        return F.softmax(self.action_head(x), dim=-1), self.value_head(x)


def main():
    torch.manual_seed(0)
    env, dice, model = Pole(), np.random.default_rng(1), Policy()
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    for episode in range(6):
        state, saved, rewards = env.reset(), [], []
        for _ in range(40):
            probs, value = model(torch.from_numpy(state))
            action = int(dice.random() < probs[1].item())
            state, reward, done = env.step(action)
            saved.append((torch.log(probs[action]), value))
            rewards.append(reward)
            if done:
                break
        returns, total = [], 0.0
        for reward in reversed(rewards):
            total = reward + 0.99 * total
            returns.insert(0, total)
        returns = torch.tensor(returns)
        returns = (returns - returns.mean()) / (returns.std() + 1e-8)
        policy_losses, value_losses = [], []
        for (log_prob, value), goal in zip(saved, returns):
            policy_losses.append(-log_prob * (goal - value.item()))
            value_losses.append(F.smooth_l1_loss(value, goal.view(1)))
        optimizer.zero_grad()
        loss = torch.stack(policy_losses).sum() + torch.stack(value_losses).sum()
        loss.backward()
        optimizer.step()
        print("loss", episode, loss.item(), "steps", len(rewards))


if __name__ == "__main__":
    main()
