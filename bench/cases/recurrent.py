"""Recurrent layers: training steps of two layers 256 -> 512 on 32 sequences of 128, in float32 and
in bfloat16, and inference of one sequence."""

import numpy as np
import torch
import torch.nn as nn

VARIANTS = ("lstm", "gru", "rnn", "lstm_bf16", "gru_bf16", "lstm_both_ways", "lstm_one_sequence")
QUICK = ("lstm", "gru", "lstm_one_sequence")

STEPS, BATCH, FEATURES, UNITS, LAYERS = 128, 32, 256, 512, 2
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def setup(variant, compile):
    """The step of one variant, with parameters and data that every contender shares."""
    kind = variant.partition("_")[0]
    both, single = variant.endswith("both_ways"), variant.endswith("one_sequence")
    directions, batch = 1 + both, 1 if single else BATCH
    random = np.random.default_rng(0)
    make = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind]
    model = make(FEATURES, UNITS, LAYERS, bidirectional=both)
    with torch.no_grad():
        for parameter in model.parameters():
            values = random.uniform(-(UNITS**-0.5), UNITS**-0.5, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    x = torch.tensor(random.standard_normal((STEPS, batch, FEATURES), dtype=np.float32))
    if variant.endswith("bf16"):
        model, x = model.to(torch.bfloat16), x.to(torch.bfloat16)
    outputs = compile(model)

    def train():
        model.zero_grad()
        loss = outputs(x)[0].square().mean()
        loss.backward()
        return loss.item()

    def infer():
        with torch.no_grad():
            return outputs(x)[0].square().mean().item()

    inputs = FEATURES + (LAYERS - 1) * UNITS * directions
    work = 2 * STEPS * batch * directions * GATES[kind] * UNITS * (inputs + LAYERS * UNITS)
    return {"step": infer if single else train, "work": work * (1 if single else 3), "unit": "FLOP"}
