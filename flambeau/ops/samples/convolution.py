"""Samples of `ops/convolution.py`."""

from __future__ import annotations

from flambeau.ops.rows import ROWS
from flambeau.ops.samples.arithmetic import Samples

SAMPLES: dict[str, Samples] = {
    "convolution": lambda r: [
        (r(2, 3, 5, 4), r(4, 3, 3, 2), r(4), (1, 1), (1, 0), (1, 1), False, (0, 0), 1),
        (r(2, 4, 7), r(6, 2, 3), None, (2,), (2,), (2,), False, (0,), 2),
        (r(1, 2, 4, 3, 5), r(3, 2, 2, 1, 3), r(3), 1, (0, 1, 1), 1, False, 0, 1),
        (r(3, 3, 4, 4), r(6, 1, 3, 3), None, 1, 1, 1, False, 0, 3),
        (r(2, 4, 3, 4), r(4, 3, 3, 2), r(3), (2, 1), (1, 0), (1, 2), True, (1, 1), 1),
        (r(2, 4, 3), r(4, 1, 2), None, 3, 0, 1, True, 2, 2),
        (r(0, 3, 5), r(4, 3, 3), r(4), 1, 0, 1, False, 0, 1),
        (r(5, 2, 3).permute(1, 2, 0), r(4, 3, 2), None, 1, 1, 1, False, 0, 1),
        (r(2, 3, 1, 1).expand(2, 3, 4, 4), r(2, 3, 2, 2), None, 1, 0, 1, False, 0, 1),
        (r(2, 35, 9), r(40, 35, 3), r(40), 1, 1, 1, False, 0, 1),
        (r(1, 1, 1), r(1, 1, 1), None, 1, 0, 1, False, 0, 1),
    ],
    "convolution_weight_gradient": lambda r: [
        (r(2, 3, 5, 4), r(2, 4, 5, 3), (3, 2), (1, 1), (1, 0), (1, 1), 1),
        (r(2, 4, 7), r(2, 6, 4), (3,), (2,), (2,), (2,), 2),
        (r(3, 3, 4, 4), r(3, 6, 4, 4), (3, 3), (1, 1), (1, 1), (1, 1), 3),
        (r(0, 3, 5), r(0, 4, 3), (3,), (1,), (0,), (1,), 1),
    ],
    "conv1d": lambda r: [
        (r(2, 3, 6), r(4, 3, 3), r(4)),
        (r(3, 6), r(4, 3, 3)),
        (r(2, 4, 7), r(4, 2, 2), {"padding": "same", "groups": 2}),
        (r(2, 4, 7), r(4, 4, 3), {"stride": 2, "padding": 1, "dilation": 2}),
    ],
    "conv2d": lambda r: [
        (r(2, 3, 6, 5), r(4, 3, 3, 3), r(4)),
        (r(3, 6, 5), r(4, 3, 3, 2), None, (2, 1), (1, 0)),
        (r(2, 2, 5, 5), r(4, 2, 2, 3), {"padding": "same", "dilation": (1, 2)}),
        (r(2, 4, 5, 5), r(8, 1, 3, 3), r(8), {"padding": "valid", "groups": 4}),
    ],
    "conv3d": lambda r: [
        (r(1, 2, 4, 3, 4), r(3, 2, 2, 2, 3), r(3)),
        (r(2, 4, 3, 4), r(3, 2, 2, 1, 1), None, (1, 2, 1), 1, 1),
    ],
    "conv_transpose1d": lambda r: [
        (r(2, 3, 4), r(3, 4, 3), r(4)),
        (r(4, 4), r(4, 2, 3), {"stride": 2, "output_padding": 1, "groups": 2, "padding": 1}),
    ],
    "conv_transpose2d": lambda r: [
        (r(2, 3, 4, 3), r(3, 4, 3, 2), r(4)),
        (r(3, 4, 3), r(3, 4, 2, 2), None, 2),
        (r(2, 4, 3, 3), r(4, 1, 3, 3), {"padding": 1, "groups": 4, "dilation": (2, 1)}),
    ],
    "conv_transpose3d": lambda r: [
        (r(1, 2, 3, 2, 3), r(2, 3, 2, 2, 2), r(3), (1, 2, 1), 0, (0, 1, 0)),
    ],
    "im2col": lambda r: [
        (r(2, 3, 5, 4), (3, 2), (1, 1), (1, 0), (2, 1)),
        (r(1, 1, 7, 5), (2, 2), (2, 3), (0, 1), (1, 1)),
        (r(0, 2, 4, 4), (2, 2), (1, 1), (0, 0), (2, 2)),
    ],
    "col2im": lambda r: [
        (r(2, 18, 9), (5, 4), (3, 2), (1, 1), (1, 0), (2, 1)),
        (r(1, 4, 20), (7, 5), (2, 2), (2, 3), (0, 1), (1, 1)),
        (r(2, 8, 4), (4, 4), (2, 2), (1, 1), (0, 0), (2, 2)),
    ],
}

for _name, _make in SAMPLES.items():
    ROWS[_name].samples = _make
