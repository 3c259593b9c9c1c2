"""Programs' memory: results written over what they are made from, order, places."""

import numpy as np

import flambeau as fl
from flambeau import record


def test_two_tensors_that_take_each_others_place():
    a, b = fl.arange(5000.0), fl.arange(5000.0) * 100
    a.tolist(), b.tolist()
    old_a, old_b = a.numpy().copy(), b.numpy().copy()
    both = a * b + a
    t, u = b + 1, a + 1
    a.copy_(t)
    b.copy_(u)
    record.flush()
    np.testing.assert_array_equal(a.numpy(), old_b + 1)
    np.testing.assert_array_equal(b.numpy(), old_a + 1)
    np.testing.assert_array_equal(both.numpy(), old_a * old_b + old_a)
