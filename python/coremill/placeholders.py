"""Placeholders: tensors of any shape that hold one element, whose value says which weight they stand for.

A placeholder is a zero-stride view of one float. Its value is an exact fp16 number, so the id survives the cast
from fp32 to fp16 that coremltools makes, and it is neither 0 nor 1, so that no pass treats it as neutral.
"""

from collections.abc import Sequence

import numpy as np
import torch

# The fp16 bit pattern of 2**-6, the value of id 0. Ids count upwards from it, one representable value each.
_FIRST_BITS = 0x2400
# The bit pattern of 1.0: ids stay below it, which leaves 6,144 of them.
_LAST_BITS = 0x3C00

# Where the offsets of placeholders begin in the program; beyond any real weight.bin.
OFFSET_BASE = 1 << 40
# Distance between the offsets of neighbouring ids: the alignment of weight.bin.
OFFSET_STEP = 64


def tensor(identity: int, shape: Sequence[int]) -> torch.Tensor:
    """A float32 placeholder of `shape` for weight number `identity`; four bytes in memory."""
    bits = _FIRST_BITS + identity
    if not 0 <= identity or bits >= _LAST_BITS:
        raise ValueError(f"placeholder id {identity} is beyond {_LAST_BITS - _FIRST_BITS - 1}")
    value = float(np.array(bits, dtype=np.uint16).view(np.float16))
    return torch.full((1,) * len(shape), value).expand(tuple(shape))


def blank(shape: Sequence[int]) -> torch.Tensor:
    """A float32 tensor of zeros of `shape` in four bytes, for buffers whose contents never matter."""
    return torch.zeros((1,) * len(shape)).expand(tuple(shape))


def is_spread(value) -> bool:
    """Whether an array or a tensor is one element spread over a larger shape."""
    if isinstance(value, torch.Tensor):
        strides, size = value.stride(), value.numel()
    elif isinstance(value, np.ndarray):
        strides, size = value.strides, value.size
    else:
        return False
    return size > 1 and all(step == 0 for step, length in zip(strides, value.shape) if length > 1)


def identity(value: np.ndarray) -> int:
    """The id that a placeholder array, fp32 or fp16, was made with."""
    number = value[(0,) * value.ndim]
    bits = int(np.float16(number).view(np.uint16))
    if np.float16(number) != number or not _FIRST_BITS <= bits < _LAST_BITS:
        raise ValueError(f"a spread constant of shape {value.shape} holds {number!r}, which is no placeholder's value")
    return bits - _FIRST_BITS


def is_placeholder(value) -> bool:
    """Whether an array is spread and its element is that of a placeholder, and not another constant's."""
    if not isinstance(value, np.ndarray) or value.dtype not in (np.float16, np.float32) or not is_spread(value):
        return False
    try:
        identity(value)
    except ValueError:
        return False
    return True


def offset(number: int) -> int:
    """The weight.bin offset that stands for placeholder `number` in a skeleton."""
    return OFFSET_BASE + number * OFFSET_STEP
