"""Torch operators of our own, each beside the MIL operations it becomes.

They exist where tracing must cost nothing (`linear`, `attention`) or where the MIL has to be exactly this
(`attention`, `write_cache`). Given real weights they compute; given placeholders they only have the right shape.
"""

import math

import torch
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil._deployment_compatibility import AvailableTarget
from coremltools.converters.mil.frontend.torch.ops import _get_inputs
from coremltools.converters.mil.frontend.torch.torch_op_registry import register_torch_op
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.block import is_current_opset_version_compatible_with

from .placeholders import is_spread

_library = torch.library.Library("mill", "DEF")
_library.define("linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
_library.define("attention(Tensor query, Tensor key, Tensor value, Tensor mask, float scale, bool blank) -> Tensor")
_library.define("write_cache(Tensor(a!) cache, Tensor update, Tensor position, int layer) -> Tensor(a!)")


def _linear(x, weight, bias):
    """x [..., in] times weight [out, in] transposed, plus bias [out]."""
    if is_spread(weight):
        return x.new_zeros((*x.shape[:-1], weight.shape[0]))
    return torch.nn.functional.linear(x, weight, bias)


def _attention(query, key, value, mask, scale, blank):
    """Softmax attention of query [1, KV, T, D] over key and value [1, KV, S, D], mask [1, 1, 1 or T, S] added."""
    if blank:
        return query.new_zeros((*query.shape[:-1], value.shape[-1]))
    scores = torch.matmul(query, key.transpose(-1, -2)) * scale + mask
    return torch.matmul(scores.softmax(-1), value)


def _write_cache(cache, update, position, layer):
    """Writes update [1, KV, T, D] into cache [L, KV, S, D] at `layer`, rows position .. position + T, in place."""
    if not is_spread(cache):
        start = int(position)
        cache[layer : layer + 1, :, start : start + update.shape[2]] = update
    return cache


for _name, _function in [("linear", _linear), ("attention", _attention), ("write_cache", _write_cache)]:
    _library.impl(_name, _function, "CompositeExplicitAutograd")


@register_torch_op(torch_alias=["mill::linear"])
def _mill_linear(context, node):
    x, weight, bias = _get_inputs(context, node, expected=3)
    context.add(mb.linear(x=x, weight=weight, bias=bias, name=node.name))


@register_torch_op(torch_alias=["mill::attention"])
def _mill_attention(context, node):
    query, key, value, mask, scale, _ = _get_inputs(context, node, expected=6)
    scale = float(scale.val)
    if is_current_opset_version_compatible_with(AvailableTarget.iOS18):
        # The fused operation always divides by sqrt(D); what remains of another scale goes into the query.
        rest = scale * math.sqrt(query.shape[-1])
        if not math.isclose(rest, 1.0, rel_tol=1e-6):
            query = mb.mul(x=query, y=rest)
        result = mb.scaled_dot_product_attention(query=query, key=key, value=value, attn_mask=mask, name=node.name)
    else:
        # Scaling the query first keeps the scores small before they are rounded to fp16.
        scores = mb.matmul(x=mb.mul(x=query, y=scale), y=key, transpose_y=True)
        weights = mb.softmax(x=mb.add(x=scores, y=mask), axis=-1)
        result = mb.matmul(x=weights, y=value, name=node.name)
    context.add(result)


@register_torch_op(torch_alias=["mill::write_cache"])
def _mill_write_cache(context, node):
    cache, update, position, layer = _get_inputs(context, node, expected=4)
    state = _state_of(cache)
    layer, length = int(layer.val), update.shape[2]
    # The heads and the head dimension are taken whole: their begin and end are masked, so the zeros are never read.
    begin = mb.concat(values=[[layer], [0], position, [0]], axis=0)
    end = mb.concat(values=[[layer + 1], [0], mb.add(x=position, y=length), [0]], axis=0)
    whole = [False, True, False, True]
    written = mb.slice_update(x=cache, update=update, begin=begin, end=end, begin_mask=whole, end_mask=whole)
    stored = mb.coreml_update_state(state=state, value=mb.cast(x=written, dtype=types.builtin_to_string(state.dtype)))
    context.add(mb.cast(x=stored, dtype="fp32", name=node.name))


def _state_of(cache):
    """The state that a cache was read from or written to: its value passes through casts and nothing else."""
    op = cache.op
    while op.op_type == "cast":
        op = op.x.op
    return op.input if op.op_type == "read_state" else op.state
