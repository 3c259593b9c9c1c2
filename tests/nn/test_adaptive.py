"""The adaptive softmax: distributions, targets' shares of them, gradients, refusals."""

from __future__ import annotations

import numpy as np
import pytest

import flambeau
from flambeau import nn


def layer() -> nn.AdaptiveLogSoftmaxWithLoss:
    """Twenty classes in three clusters."""
    return nn.AdaptiveLogSoftmaxWithLoss(8, 20, [3, 10], div_value=2.0, head_bias=True)


def test_targets_have_the_probabilities_of_the_whole_distribution() -> None:
    module, x = layer(), flambeau.randn(6, 8)
    y = flambeau.tensor([0, 2, 3, 9, 10, 19])
    whole = module.log_prob(x)
    np.testing.assert_allclose(whole.exp().sum(1).detach().numpy(), np.ones(6), rtol=1e-5)
    output, loss = module(x, y)
    want = whole.gather(1, y.unsqueeze(1)).squeeze(1)
    np.testing.assert_allclose(output.detach().numpy(), want.detach().numpy(), rtol=1e-5)
    assert loss.item() == pytest.approx(-want.mean().item(), rel=1e-5)
    assert module.predict(x).tolist() == whole.argmax(1).tolist()
    one = module(x[3], y[3])
    assert one.output.shape == ()
    assert one.loss.item() == pytest.approx(-want[3].item(), rel=1e-5)


def test_its_gradients_are_those_of_the_whole_distribution() -> None:
    module, x = layer(), flambeau.randn(4, 8)
    y = flambeau.tensor([1, 4, 12, 19])
    module(x, y).loss.backward()
    found = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    (-module.log_prob(x).gather(1, y.unsqueeze(1)).mean()).backward()
    for got, want in zip(found, [p.grad for p in module.parameters()], strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-4, atol=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    for cutoffs in ([], [3, 3], [10, 3], [0], [20]):
        with pytest.raises(ValueError, match="cutoffs"):
            nn.AdaptiveLogSoftmaxWithLoss(8, 20, cutoffs)
    module = layer()
    for x, y in (((3, 8), (2,)), ((8,), (1,)), ((3, 8), (3, 1))):
        with pytest.raises(RuntimeError):
            module(flambeau.zeros(*x), flambeau.zeros(*y, dtype=flambeau.int64))
    with pytest.raises(RuntimeError, match=r"\[0, 19\]"):
        module(flambeau.zeros(2, 8), flambeau.tensor([3, 20]))
