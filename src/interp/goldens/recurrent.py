"""Writes recurrent.json: what PyTorch's RNN, LSTM and GRU give, with weights in the order of rows that MIL has.

    python src/interp/goldens/recurrent.py

Needs torch 2.7. PyTorch stacks the gates of an LSTM as i, f, g, o and those of a GRU as r, z, n; MIL as i, f, o, g and
r, n, z. A GRU of PyTorch's is one with `reset_after`.
"""

import json
from pathlib import Path

import torch

torch.manual_seed(7)
STEPS, BATCH, FEATURES, HIDDEN = 3, 2, 3, 2
GATES = {"rnn": [0], "lstm": [0, 1, 3, 2], "gru": [0, 2, 1]}
LAYERS = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def tensor(value):
    return {"shape": list(value.shape), "values": [round(v, 9) for v in value.flatten().tolist()]}


def rows(kind, value):
    """Gates in MIL's order."""
    parts = value.chunk(len(GATES[kind]))
    return torch.cat([parts[i] for i in GATES[kind]])


def beside(state):
    """[directions, batch, hidden] as [batch, directions * hidden]."""
    return torch.cat(list(state), dim=1)


def case(kind, direction):
    both = direction == "bidirectional"
    layer = LAYERS[kind](FEATURES, HIDDEN, bidirectional=both)
    x = torch.randn(STEPS, BATCH, FEATURES)
    h0, c0 = torch.randn(2 if both else 1, BATCH, HIDDEN), torch.randn(2 if both else 1, BATCH, HIDDEN)
    fed = x.flip(0) if direction == "reverse" else x
    with torch.no_grad():
        out, last = layer(fed, (h0, c0) if kind == "lstm" else h0)
    weights = {}
    for suffix, name in [("", "l0"), ("_back", "l0_reverse")][: 2 if both else 1]:
        part = {key: rows(kind, getattr(layer, f"{key}_{name}").detach()) for key in ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]}
        weights["weight_ih" + suffix] = tensor(part["weight_ih"])
        weights["weight_hh" + suffix] = tensor(part["weight_hh"])
        if kind == "gru":
            weights["input_bias"], weights["bias"] = tensor(part["bias_ih"]), tensor(part["bias_hh"])
        else:
            weights["bias" + suffix] = tensor(part["bias_ih"] + part["bias_hh"])
    inputs = {"x": tensor(x), "initial_h": tensor(beside(h0))}
    wanted = [out, beside(last[0]), beside(last[1])] if kind == "lstm" else [out, beside(last)]
    if kind == "lstm":
        inputs["initial_c"] = tensor(beside(c0))
    return {"kind": kind, "direction": direction, "inputs": inputs, "constants": weights, "outputs": [tensor(w) for w in wanted]}


cases = [case(kind, way) for kind in GATES for way in ["forward", "reverse"]] + [case("lstm", "bidirectional")]
text = "[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n"
Path(__file__).with_name("recurrent.json").write_text(text)
