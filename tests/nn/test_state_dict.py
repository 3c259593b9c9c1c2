"""State dicts: what is in them, hooks, and what happens when they do not fit."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest

import flambeau
from flambeau import nn


def net() -> Any:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


KEYS = [
    "0.weight",
    "0.bias",
    "1.weight",
    "1.bias",
    "1.running_mean",
    "1.running_var",
    "1.num_batches_tracked",
]


def test_keys_values_and_metadata() -> None:
    m = net()
    state = m.state_dict(prefix="net.")
    assert list(state) == ["net." + key for key in KEYS]
    assert state["net.0.weight"].data_ptr() == m[0].weight.data_ptr()
    assert not state["net.0.weight"].requires_grad
    assert m.state_dict(keep_vars=True)["0.weight"] is m[0].weight
    assert state._metadata == {
        "net": {"version": 1},
        "net.0": {"version": 1},
        "net.1": {"version": 2},
    }
    with pytest.warns(FutureWarning, match="Positional args are being deprecated"):
        assert "x.0.weight" in m.state_dict(OrderedDict(), "x.")


def test_loading_copies() -> None:
    source, target = net(), net()
    weight = target[0].weight
    result = target.load_state_dict(source.state_dict())
    assert repr(result) == "<All keys matched successfully>"
    assert target[0].weight is weight
    assert weight.tolist() == source[0].weight.tolist()
    with flambeau.no_grad():
        source[0].weight.zero_()
    assert weight.tolist() != source[0].weight.tolist()


def test_assigning_takes_the_tensors() -> None:
    source, target = net().double(), net()
    target[0].weight.requires_grad_(False)
    target.load_state_dict(source.state_dict(), assign=True)
    assert target[0].weight.dtype is flambeau.float64
    assert isinstance(target[0].weight, nn.Parameter)
    assert not target[0].weight.requires_grad
    assert target[0].weight.data_ptr() == source[0].weight.data_ptr()


def test_all_misfits_are_listed() -> None:
    state = net().state_dict()
    del state["0.bias"]
    state["1.weight"] = flambeau.zeros(4)
    state["extra.weight"] = flambeau.zeros(1)
    m = net()
    kept = m[1].weight.tolist()
    with pytest.raises(RuntimeError) as caught:
        m.load_state_dict(state)
    assert str(caught.value) == (
        "Error(s) in loading state_dict for Sequential:\n"
        '\tMissing key(s) in state_dict: "0.bias". \n'
        '\tUnexpected key(s) in state_dict: "extra.weight". \n'
        "\tsize mismatch for 1.weight: copying a param with shape torch.Size([4]) from"
        " checkpoint, the shape in current model is torch.Size([3])."
    )
    assert m[1].weight.tolist() == kept
    with pytest.raises(RuntimeError, match=r"size mismatch for 1.weight"):
        m.load_state_dict(state, strict=False)
    del state["1.weight"]
    missing, unexpected = m.load_state_dict(state, strict=False)
    assert missing == ["0.bias", "1.weight"]
    assert unexpected == ["extra.weight"]
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like"):
        m.load_state_dict([1, 2])
    with pytest.raises(RuntimeError, match=r"expected torch.Tensor or Tensor-like object"):
        nn.Linear(1, 1).load_state_dict({"weight": 3, "bias": 4})


def test_integers_and_other_dtypes_are_converted() -> None:
    m = nn.Linear(1, 2)
    m.load_state_dict(
        {
            "weight": flambeau.tensor([[1], [2]]),
            "bias": flambeau.tensor([0.5, 1.5], dtype=flambeau.float64),
        }
    )
    assert m.weight.dtype is flambeau.float32
    assert m.weight.tolist() == [[1.0], [2.0]]
    assert m.bias.tolist() == [0.5, 1.5]


def test_batch_norm_reads_files_without_a_count() -> None:
    m = nn.BatchNorm1d(2)
    state = OrderedDict(m.state_dict())
    del state["num_batches_tracked"]
    assert repr(m.load_state_dict(state)) == "<All keys matched successfully>"


def test_hooks_run_in_order() -> None:
    m = net()
    seen: list[Any] = []
    handles = [
        m.register_state_dict_pre_hook(lambda mod, prefix, keep: seen.append(("pre", prefix))),
        m[0].register_state_dict_post_hook(
            lambda mod, state, prefix, meta: seen.append(("post", prefix, len(state)))
        ),
        m._register_state_dict_hook(lambda mod, state, prefix, meta: {"only": 1}),
    ]
    assert m.state_dict() == {"only": 1}
    assert seen == [("pre", ""), ("post", "0.", 2)]
    for handle in handles:
        handle.remove()
    state = m.state_dict()
    seen.clear()
    m.register_load_state_dict_pre_hook(
        lambda mod, state, prefix, *rest: state.update(added=1) or seen.append(mod is m)
    )
    m[1].register_load_state_dict_post_hook(lambda mod, keys: seen.append(keys))
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "added"'):
        m.load_state_dict(state)
    assert seen[0] is True
    assert len(seen) == 2
    m[1].register_load_state_dict_post_hook(lambda mod, keys: 1)
    with pytest.raises(AssertionError, match="not expected to return new values"):
        m.load_state_dict(state)


def test_a_post_hook_may_forgive_missing_keys() -> None:
    m = nn.Linear(1, 1)
    m.register_load_state_dict_post_hook(lambda mod, keys: keys.missing_keys.clear())
    m.load_state_dict({"weight": flambeau.ones(1, 1)})
    assert m.weight.item() == 1.0


def test_one_function_is_not_both_kinds_of_hook() -> None:
    m = nn.Linear(1, 1)

    def hook(module: Any, state: Any, prefix: str, metadata: Any) -> Any:
        return state

    m.register_state_dict_post_hook(hook)
    with pytest.raises(RuntimeError, match="Cannot register the same function"):
        m._register_state_dict_hook(hook)
    with pytest.raises(RuntimeError, match="post-hook must return None"):
        m.state_dict()


def test_extra_state() -> None:
    class Counter(nn.Module):
        count = 0

        def get_extra_state(self) -> Any:
            return self.count

        def set_extra_state(self, state: Any) -> None:
            self.count = state

    m = nn.Sequential(Counter())
    m[0].count = 5
    state = m.state_dict()
    assert dict(state) == {"0._extra_state": 5}
    other = nn.Sequential(Counter())
    other.load_state_dict(state)
    assert other[0].count == 5
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "0._extra_state"'):
        other.load_state_dict({})
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "_extra_state"'):
        nn.Module().load_state_dict({"_extra_state": 1})
