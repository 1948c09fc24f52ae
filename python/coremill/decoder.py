"""The functions of a decoder package as modules to trace: shapes are static, the batch is one.

S is the sequence length, C the prompt chunk, T the tokens of one call, L layers, KV key/value heads, D head width,
H hidden width, V vocabulary.
"""

import inspect

import torch

from . import placeholders
from .attention import CollectCache, SelectCache, StateCache, additive, causal_masks
from .build import Model
from .encoder import masked_mean, ramp_mean
from .facts import Facts


def cache_argument(module) -> str:
    """The name under which the model's `forward` takes a cache: `past_key_values`, or `cache` since transformers 5.21."""
    return "cache" if "cache" in inspect.signature(module.forward).parameters else "past_key_values"


class Decoder(torch.nn.Module):
    """Base of the functions: the children of the transformers model under their own names, so weights keep theirs."""

    def __init__(self, model: Model, facts: Facts, length: int):
        super().__init__()
        self._base_name = model.module.base_model_prefix
        children = dict(model.module.named_children())
        # A model without a head is the base itself.
        for name, child in (children if self._base_name in children else {self._base_name: model.module}).items():
            self.add_module(name, child)
        self._cache_argument = cache_argument(model.module)
        self._step = model.step
        self._windows = model.windows
        self.length = length
        self.group = facts.heads // facts.kv_heads
        self.cache_shape = (facts.layers, facts.kv_heads, length, facts.head_dim)
        # A buffer's contents never matter to a graph; a skeleton's cache would only take memory.
        self._buffer = placeholders.blank if model.step.blank else torch.zeros

    def hidden(self, input_ids, positions, cache):
        """The normed hidden states [1, T, H] of input_ids [1, T] at positions [T]."""
        base = getattr(self, self._base_name)
        result = base(
            input_ids=input_ids,
            attention_mask=next(iter(self._step.masks.values())),
            position_ids=positions[None],
            use_cache=cache is not None,
            **{self._cache_argument: cache},
        )
        return result.last_hidden_state

    def see_past(self, positions, repeat: int):
        """Lets queries at positions [T] see what lies at or before them.

        The masks have a row for each position, `repeat` times over: once for each query head of a group, or once
        for all when there is one position only.
        """
        windows = {None if window is None or window >= self.length else window for window in self._windows}
        masks = causal_masks(positions.repeat(repeat), self.length, sorted(windows, key=lambda window: window or 0))
        self._step.masks = {window: masks.get(window, masks.get(None)) for window in self._windows}

    def head(self, hidden):
        """Logits [1, V] of one position [1, 1, H]."""
        return self.lm_head(hidden).squeeze(1)


class StatefulDecoder(Decoder):
    """A decoder with the states keyCache and valueCache [L, KV, S, D]."""

    def __init__(self, model: Model, facts: Facts, length: int):
        super().__init__(model, facts, length)
        self.register_buffer("keyCache", self._buffer(self.cache_shape))
        self.register_buffer("valueCache", self._buffer(self.cache_shape))


class StateInit(StatefulDecoder):
    """input_ids [1, C], position [1], length [1] to logits [1, V] of the last of the `length` valid tokens."""

    def forward(self, input_ids, position, length):
        positions = position + torch.arange(input_ids.shape[1], dtype=torch.int32)
        self.see_past(positions, self.group)
        hidden = self.hidden(input_ids, positions, StateCache(self.keyCache, self.valueCache, position))
        return self.head(hidden.index_select(1, length - 1))


class StateDecode(StatefulDecoder):
    """input_ids [1, 1], position [1] to logits [1, V]."""

    def forward(self, input_ids, position):
        self.see_past(position, 1)
        return self.head(self.hidden(input_ids, position, StateCache(self.keyCache, self.valueCache, position)))


class IoInit(Decoder):
    """input_ids [1, S], length [1] to logits [1, V] of the last valid token, keys and values [L, KV, S, D]."""

    def forward(self, input_ids, length):
        positions = every_position(input_ids)
        self.see_past(positions, self.group)
        cache = CollectCache()
        hidden = self.hidden(input_ids, positions, cache)
        return self.head(hidden.index_select(1, length - 1)), *cache.stacked()


class IoDecode(Decoder):
    """input_ids [1, 1], position [1], keys and values [L, KV, S, D] to logits [1, V] and both caches again."""

    def forward(self, input_ids, position, key_cache, value_cache):
        self.see_past(position, 1)
        cache = SelectCache(key_cache, value_cache, position)
        hidden = self.hidden(input_ids, position, cache)
        return self.head(hidden), *cache.stacked()


class Encode(Decoder):
    """LLM2Vec: input_ids, attention_mask, pool_mask [1, S] to an embedding [1, H].

    Every token sees every token of attention_mask; the embedding is the mean over pool_mask, whose ones lie side by
    side. With `ramp` their weights are 1, 2, 3 and so on.
    """

    def __init__(self, model: Model, facts: Facts, length: int, ramp: bool = False):
        super().__init__(model, facts, length)
        self._pool = ramp_mean if ramp else masked_mean

    def forward(self, input_ids, attention_mask, pool_mask):
        mask = additive(attention_mask > 0)
        self._step.masks = dict.fromkeys(self._windows, mask)
        hidden = self.hidden(input_ids, every_position(input_ids), None)
        return self._pool(hidden, pool_mask)


def every_position(input_ids):
    """The positions 0 .. S - 1 [S] of input_ids [1, S].

    They must not be a constant: coremltools would look learned positions up at once and store the result, so that
    the table would be a weight of its own in each function.
    """
    return torch.arange(input_ids.shape[1], dtype=torch.int32) + input_ids[0] * 0
