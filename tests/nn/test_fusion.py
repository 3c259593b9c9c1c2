"""Batch norms folded into the layers before them do in one what both did."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau
from flambeau import nn
from flambeau.nn.utils import fusion


def settled(norm: Any) -> Any:
    """A batch norm with statistics and parameters, in evaluation."""
    for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        if t is not None:
            flambeau.nn.init.uniform_(t, 0.5, 2.0)
    return norm.eval()


@pytest.mark.parametrize(("layer", "norm", "shape"), [
    (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), (2, 3, 5, 5)),
    (nn.Conv1d(4, 6, 2, groups=2, bias=False), nn.BatchNorm1d(6, affine=False), (2, 4, 5)),
    (nn.ConvTranspose2d(3, 4, 2), nn.BatchNorm2d(4), (2, 3, 4, 4)),
    (nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), (5, 3)),
    (nn.Linear(3, 4), nn.BatchNorm1d(4), (5, 3)),
])  # fmt: skip
def test_one_layer_for_two(layer: Any, norm: Any, shape: tuple[int, ...]) -> None:
    layer, norm, x = layer.eval(), settled(norm), flambeau.randn(shape)
    if isinstance(layer, nn.Linear):
        fused = fusion.fuse_linear_bn_eval(layer, norm)
    else:
        fused = fusion.fuse_conv_bn_eval(layer, norm, isinstance(layer, nn.ConvTranspose2d))
    expected = norm(layer(x)).detach().numpy()
    assert np.allclose(fused(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert fused.weight is not layer.weight
    assert isinstance(fused.bias, nn.Parameter)


def test_only_in_evaluation() -> None:
    with pytest.raises(AssertionError, match="eval"):
        fusion.fuse_conv_bn_eval(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1).eval())
    with pytest.raises(AssertionError, match="num_features"):
        fusion.fuse_linear_bn_eval(nn.Linear(2, 4).eval(), nn.BatchNorm1d(3).eval())


def test_batch_norms_are_converted() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4)))
    x = flambeau.randn(2, 3, 4, 4)
    expected = model.eval()(x).tolist()
    keys = list(model.state_dict())
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert [type(m).__name__ for m in converted.modules()].count("SyncBatchNorm") == 2
    assert list(converted.state_dict()) == keys
    assert converted(x).tolist() == expected


def test_data_parallel_without_devices() -> None:
    model = nn.DataParallel(nn.Linear(2, 3))
    assert list(model.state_dict()) == ["module.weight", "module.bias"]
    x = flambeau.ones(1, 2)
    assert flambeau.equal(model(x), model.module(x))
