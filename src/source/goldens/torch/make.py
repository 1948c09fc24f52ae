"""Makes the PyTorch files that `source::torch` is tested with: `python3 make.py` in this folder."""

import argparse

import torch


def matrix(rows, columns):
    return torch.arange(rows * columns, dtype=torch.float32).reshape(rows, columns)


shared = matrix(3, 2)
tensors = {
    "f32": matrix(2, 3),
    "f16": matrix(2, 3).half(),
    "bf16": matrix(2, 3).bfloat16(),
    "f64": matrix(2, 3).double(),
    "transposed": matrix(3, 2).t(),
    "slice": matrix(4, 6)[1:3, 2:5],
    "parameter": torch.nn.Parameter(matrix(1, 2)),
    "scalar": torch.tensor(7.0),
    "shared": shared,
    "shared_again": shared,
    "mask": torch.tensor([True, False]),
    "ids": torch.tensor([1, 2, 3]),
}
torch.save(tensors, "archive.bin")
torch.save(tensors, "legacy.bin", _use_new_zipfile_serialization=False)
torch.save({"weight": matrix(1, 2), "args": argparse.Namespace(rate=1)}, "class.bin")
torch.save({"state_dict": {"weight": matrix(1, 2)}, "epoch": 3}, "nested.bin")
