"""Layers that stand in for those of transformers, one for one, where the graph needs a form of its own."""

import torch

from . import ops  # noqa: F401 - defines torch.ops.mill


class Linear(torch.nn.Module):
    """x [..., in] to [..., out], with weight [out, in]: `nn.Linear`, and GPT-2's `Conv1D` turned around.

    `branches` are low-rank pairs, (A [r, in], B [out, r]), whose products are added to the result.
    """

    def __init__(self, weight, bias):
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.branches = torch.nn.ModuleList()

    def forward(self, x):
        result = torch.ops.mill.linear(x, self.weight, self.bias)
        for branch in self.branches:
            result = result + branch(x)
        return result


class Branch(torch.nn.Module):
    """A low-rank update, B (A x): lora_A [r, in], lora_B [out, r] with the scale already in it."""

    def __init__(self, lora_a, lora_b):
        super().__init__()
        self.lora_A = torch.nn.Parameter(lora_a, requires_grad=False)
        self.lora_B = torch.nn.Parameter(lora_b, requires_grad=False)

    def forward(self, x):
        return torch.ops.mill.linear(torch.ops.mill.linear(x, self.lora_A, None), self.lora_B, None)


class RmsNorm(torch.nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, arranged so that fp16 cannot overflow.

    Dividing by m = max(|x|, sqrt(eps)) first bounds every square by 1, whatever x is:
    x / sqrt(mean(x^2) + eps) = y / sqrt(mean(y^2) + (sqrt(eps)/m)^2) with y = x / m.
    """

    def __init__(self, weight, eps: float):
        super().__init__()
        self.weight = weight
        self.root = eps**0.5

    def forward(self, x):
        m = torch.maximum(x.abs().amax(-1, keepdim=True), torch.tensor(self.root))
        y = x / m
        rest = self.root / m
        return y * torch.rsqrt((y * y).mean(-1, keepdim=True) + rest * rest) * self.weight


class Rotary(torch.nn.Module):
    """Rotary tables cos and sin [S, D], made once in f32 by the model's own module, looked up by position."""

    def __init__(self, original, length: int):
        super().__init__()
        cos, sin = original(torch.zeros(1, dtype=torch.float32), torch.arange(length)[None])
        self.register_buffer("rotary_cos", cos[0])
        self.register_buffer("rotary_sin", sin[0])

    def forward(self, x, position_ids):
        """cos and sin [1, T, D] for position_ids [1, T]."""
        positions = position_ids.squeeze(0)
        return self.rotary_cos.index_select(0, positions)[None], self.rotary_sin.index_select(0, positions)[None]
