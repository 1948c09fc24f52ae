"""One attention and one cache for every architecture: masks by window, keys and values in fixed buffers."""

import torch
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from . import ops  # noqa: F401 - defines torch.ops.mill

# Added to the scores of keys that must not be seen. Far below any score, and finite in fp16 even after a score of
# up to 35,000 is added, so a row that sees nothing gives numbers, never NaN.
MASKED = -3.0e4

# The name under which transformers finds `attend`.
INTERFACE = "coremill"


class Step:
    """What all attention layers of one forward pass share.

    `masks` maps a window (`None` for full attention) to an additive mask [1, 1, 1 or G*T, S], where G is the number
    of query heads per key/value head. `blank` says that no values matter, only shapes.
    """

    def __init__(self, blank: bool):
        self.blank = blank
        self.masks: dict[int | None, torch.Tensor] = {}

    def attend(self, query, key, value, scale: float, window: int | None):
        """Attention of query [1, H, T, D] over key and value [1, KV, S, D]; returns [1, H, T, D].

        The query heads of a group lie next to each other, so folding the group into the query length is a reshape
        and the keys and values are never repeated.
        """
        _, heads, length, width = query.shape
        folded = query.reshape(1, key.shape[1], heads // key.shape[1] * length, width)
        result = torch.ops.mill.attention(folded, key, value, self.masks[window], scale, self.blank)
        return result.reshape(1, heads, length, width)


def attend(module, query, key, value, attention_mask, scaling=None, **_):
    """The attention that transformers calls: [1, H, T, D] in, [1, T, H, D] out, masks taken from the step."""
    site = module.coremill_site
    result = site.step.attend(query, key, value, site.scale if scaling is None else scaling, site.window)
    return result.transpose(1, 2), None


AttentionInterface.register(INTERFACE, attend)


class Site:
    """What one attention layer needs beside its tensors: the step it belongs to, its scale and its window."""

    def __init__(self, step: Step, scale: float, window: int | None):
        self.step = step
        self.scale = scale
        self.window = window


def additive(visible: torch.Tensor) -> torch.Tensor:
    """A bool tensor [rows, S] as an additive mask [1, 1, rows, S].

    Computed, not selected: coremltools would store both sides of a selection as constants of the mask's whole size.
    """
    return (1.0 - visible.float())[None, None] * MASKED


def causal_masks(rows: torch.Tensor, length: int, windows) -> dict[int | None, torch.Tensor]:
    """Masks for queries at positions rows [R] over keys 0 .. length - 1, one for each window."""
    keys = torch.arange(length, dtype=torch.int32)[None, :]
    rows = rows[:, None]
    past = keys <= rows
    masks = {}
    for window in windows:
        masks[window] = additive(past if window is None else past & (keys > rows - window))
    return masks


class FixedCache(Cache):
    """Base of the caches here: what transformers asks beside `update`."""

    is_compileable = False

    def __init__(self):
        self.layers = []

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


class StateCache(FixedCache):
    """Keys and values kept in two state buffers [L, KV, S, D], written from `position` on."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, position: torch.Tensor):
        super().__init__()
        self.keys = keys
        self.values = values
        self.position = position

    def update(self, key_states, value_states, layer_idx, *_args, **_kwargs):
        """Writes [1, KV, T, D] and returns all rows [1, KV, S, D] of the layer."""
        layer = slice(layer_idx, layer_idx + 1)
        self.keys = torch.ops.mill.write_cache(self.keys, key_states, self.position, layer_idx)
        self.values = torch.ops.mill.write_cache(self.values, value_states, self.position, layer_idx)
        return self.keys[layer], self.values[layer]


class CollectCache(FixedCache):
    """Keys and values of a whole prompt [1, KV, S, D] per layer, collected to become outputs."""

    def __init__(self):
        super().__init__()
        self.collected = []

    def update(self, key_states, value_states, layer_idx, *_args, **_kwargs):
        self.collected.append((key_states, value_states))
        return key_states, value_states

    def stacked(self):
        """Keys and values as [L, KV, S, D] each."""
        keys, values = zip(*self.collected)
        return torch.cat(keys), torch.cat(values)


class SelectCache(CollectCache):
    """Past keys and values [L, KV, S, D] as inputs; the row at `position` [1] replaced by the new token's."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, position: torch.Tensor):
        super().__init__()
        self.keys = keys
        self.values = values
        self.here = (torch.arange(keys.shape[2], dtype=torch.int32) == position)[None, None, :, None]

    def update(self, key_states, value_states, layer_idx, *_args, **_kwargs):
        layer = slice(layer_idx, layer_idx + 1)
        keys = torch.where(self.here, key_states, self.keys[layer])
        values = torch.where(self.here, value_states, self.values[layer])
        return super().update(keys, values, layer_idx)
