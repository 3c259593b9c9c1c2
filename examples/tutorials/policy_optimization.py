"""Proximal policy optimization (Schulman et al., arXiv:1707.06347): a point that comes home."""

import numpy as np
import torch
from torch import nn
from torch.distributions import Independent, Normal

WORLDS, STEPS = 4, 32


class Point:
    """A point of the plane that is moved by its actions and pays for its distance."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def reset(self):
        self.place, self.time = self.random.uniform(-1, 1, 2), 0
        return self.place.astype("float32")

    def step(self, action):
        self.place = np.clip(self.place + 0.2 * action, -2, 2)
        self.time += 1
        return self.place.astype("float32"), -float((self.place**2).sum()), self.time >= 16


def layer(n, m, std=2**0.5):
    made = nn.Linear(n, m)
    nn.init.orthogonal_(made.weight, std)
    nn.init.constant_(made.bias, 0.0)
    return made


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.critic = nn.Sequential(
            layer(2, 32), nn.Tanh(), layer(32, 32), nn.Tanh(), layer(32, 1, 1.0)
        )
        self.actor = nn.Sequential(layer(2, 32), nn.Tanh(), layer(32, 2, 0.01))
        self.log_std = nn.Parameter(torch.zeros(1, 2))

    def forward(self, x, action=None):
        mean = self.actor(x)
        policy = Independent(Normal(mean, self.log_std.expand_as(mean).exp()), 1)
        if action is None:
            action = policy.sample()
        return action, policy.log_prob(action), policy.entropy(), self.critic(x).flatten()


def advantages(rewards, values, done, last_value, last_done):
    """Generalized advantage estimation (arXiv:1506.02438)."""
    found, running = torch.zeros_like(rewards), 0
    for t in reversed(range(STEPS)):
        final = t == STEPS - 1
        alive = 1.0 - (last_done if final else done[t + 1])
        delta = rewards[t] + 0.99 * (last_value if final else values[t + 1]) * alive - values[t]
        found[t] = running = delta + 0.99 * 0.95 * alive * running
    return found


def main():
    torch.manual_seed(1)
    agent, worlds = Agent(), [Point(seed) for seed in range(WORLDS)]
    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-3, eps=1e-5)
    seen, acted = torch.zeros(STEPS, WORLDS, 2), torch.zeros(STEPS, WORLDS, 2)
    logs, rewards, done, values = torch.zeros(4, STEPS, WORLDS)
    now, ended = torch.tensor(np.stack([w.reset() for w in worlds])), torch.zeros(WORLDS)
    for update in range(5):
        for t in range(STEPS):
            seen[t], done[t] = now, ended
            with torch.no_grad():
                acted[t], logs[t], _, values[t] = agent(now)
            views = []
            for i, world in enumerate(worlds):
                view, rewards[t, i], over = world.step(acted[t, i].numpy())
                ended[i] = float(over)
                views.append(world.reset() if over else view)
            now = torch.tensor(np.stack(views))
        with torch.no_grad():
            last = agent.critic(now).flatten()
            gains = advantages(rewards, values, done, last, ended)
        returns = (gains + values).flatten()
        for _ in range(2):
            for rows in torch.randperm(WORLDS * STEPS).split(32):
                _, log, entropy, value = agent(seen.view(-1, 2)[rows], acted.view(-1, 2)[rows])
                ratio = (log - logs.flatten()[rows]).exp()
                gain = gains.flatten()[rows]
                gain = (gain - gain.mean()) / (gain.std() + 1e-8)
                policy_loss = torch.max(-gain * ratio, -gain * ratio.clamp(0.8, 1.2)).mean()
                value_loss = 0.5 * (value - returns[rows]).pow(2).mean()
                loss = policy_loss + 0.5 * value_loss - 0.01 * entropy.mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
                optimizer.step()
        print("loss", update, loss.item(), rewards.mean().item())


if __name__ == "__main__":
    main()
