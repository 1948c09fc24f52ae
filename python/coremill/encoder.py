"""The function `encode` of a sentence-transformers checkpoint: the model, then the modules that follow it."""

import torch

from . import sentence
from .attention import additive
from .build import Model, Table
from .layers import Linear
from .sentence import SENTENCE, TOKENS

# The least length a vector is divided by; it only keeps an all-zero vector from giving NaN.
_LEAST = 1e-4


class Chain(torch.nn.Module):
    """Token vectors [1, S, H] to an embedding [1, E], by the checkpoint's modules; `width` is E.

    `takes_pool_mask` says that some tokens, those of a prompt, may have to stay out of pooling.
    """

    def __init__(self, model: Model, table: Table | None):
        super().__init__()
        checkpoint = model.checkpoint
        self._parts = sentence.chain(checkpoint)
        self.takes_pool_mask = not all(p.include_prompt for p in self._parts if isinstance(p, sentence.Pooling))
        self.modules_with_weights = torch.nn.ModuleList()
        widths = {TOKENS: checkpoint.config.hidden_size}
        for part in self._parts:
            if isinstance(part, sentence.Pooling):
                widths[SENTENCE] = widths[TOKENS] * len(part.modes)
            elif isinstance(part, sentence.Dense):
                self.modules_with_weights.append(_dense(part, checkpoint.path, table))
                widths[part.target] = _fitting(part, widths[part.source], "linear.weight")
            elif isinstance(part, sentence.LayerNorm):
                self.modules_with_weights.append(_layer_norm(part, checkpoint.path, table))
                _fitting(part, widths[SENTENCE], "norm.weight")
        self._kept = checkpoint.truncate_dim
        self.width = min(widths[SENTENCE], self._kept or widths[SENTENCE])

    def forward(self, hidden, attention_mask, pool_mask=None):
        values = {TOKENS: hidden}
        modules = iter(self.modules_with_weights)
        for part in self._parts:
            if isinstance(part, sentence.Pooling):
                pooled = None if part.include_prompt else pool_mask
                found = [POOL[mode](values[TOKENS], attention_mask, pooled) for mode in part.modes]
                values[SENTENCE] = torch.cat(found, -1) if len(found) > 1 else found[0]
            elif isinstance(part, sentence.Dense):
                values[part.target] = next(modules)(values[part.source])
            elif isinstance(part, sentence.LayerNorm):
                values[SENTENCE] = next(modules)(values[SENTENCE])
            else:
                values[part.target] = normalized(values[part.source])
        return values[SENTENCE] if self._kept is None else values[SENTENCE][:, : self._kept]


class Encoder(torch.nn.Module):
    """input_ids, attention_mask and perhaps pool_mask [1, S] to an embedding [1, E]; `width` is E."""

    def __init__(self, model: Model, table: Table | None):
        super().__init__()
        for name, child in model.module.named_children():
            self.add_module(name, child)
        self._model = [model.module]
        self._step = model.step
        self._windows = model.windows
        self.chain = Chain(model, table)
        self.width = self.chain.width

    def forward(self, input_ids, attention_mask, pool_mask=None):
        mask = additive(attention_mask > 0)
        self._step.masks = dict.fromkeys(self._windows, mask)
        # Zeros that are no constant: a lookup of constants would be done by coremltools and stored as a new weight.
        zeros = input_ids * 0
        return self.chain(self._hidden(input_ids, attention_mask, zeros), attention_mask, pool_mask)

    def _hidden(self, input_ids, attention_mask, zeros):
        positions = torch.arange(input_ids.shape[1], dtype=torch.int32) + zeros
        # `forward` itself: called as a module, it would not be part of the module that is being traced.
        result = self._model[0].forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=positions,
            token_type_ids=zeros,
        )
        return result.last_hidden_state


class Dense(torch.nn.Module):
    """x [..., in] to [..., out]: a linear layer, an activation, and where `residual` the input added to the result."""

    def __init__(self, part: sentence.Dense, weights: dict):
        super().__init__()
        self.linear = Linear(weights["linear.weight"], weights.get("linear.bias"))
        self.activation = sentence.ACTIVATIONS[part.activation]()
        self.skips = part.residual
        if "residual.weight" in weights:
            self.residual = Linear(weights["residual.weight"], None)

    def forward(self, x):
        result = self.activation(self.linear(x))
        if not self.skips:
            return result
        return result + (self.residual(x) if hasattr(self, "residual") else x)


def _dense(part: sentence.Dense, checkpoint: str, table: Table | None) -> Dense:
    return Dense(part, _weights(part, checkpoint, table))


def _layer_norm(part: sentence.LayerNorm, checkpoint: str, table: Table | None) -> torch.nn.LayerNorm:
    weights = _weights(part, checkpoint, table)
    norm = torch.nn.LayerNorm(part.shapes["norm.weight"][0], device="meta")
    norm.weight, norm.bias = weights["norm.weight"], weights["norm.bias"]
    return norm


def _weights(part, checkpoint: str, table: Table | None) -> dict:
    """A module's weights, or placeholders for them when there is a table."""
    if table is None:
        return {name: torch.nn.Parameter(value, False) for name, value in part.weights(checkpoint).items()}
    return {name: table.add(name, shape, folder=part.folder) for name, shape in part.shapes.items()}


def _fitting(part, width: int, tensor: str) -> int:
    """The width that a module gives, when it takes one of `width`."""
    shape = part.shapes[tensor]
    if shape[-1] != width:
        raise sentence.Known("bad_checkpoint", f"module {part.folder} takes {shape[-1]} elements, not {width}")
    return shape[0]


def weighted(hidden, weights):
    """The sum [1, H] of hidden [1, S, H] times weights [1, S]."""
    return torch.matmul(weights[:, None], hidden).squeeze(1)


def masked_mean(hidden, mask):
    """The mean [1, H] of hidden [1, S, H] over the ones of mask [1, S]; zeros where there are none.

    Dividing before summing keeps the sum of long inputs within fp16.
    """
    return weighted(hidden, mask / _count(mask))


def ramp_mean(hidden, mask, skipped=None):
    """The mean [1, H] of hidden [1, S, H] over the ones of mask [1, S], with weights that grow by 1 at each token.

    The ones lie side by side. The first of them weighs 1, or with `skipped` [1, 1] in front of it 1 more than that.
    The weights i of the K ones after P others add up to K (2 P + K + 1) / 2, which fp16 does not hold; each is
    divided by either factor alone.
    """
    count = _count(mask)
    first = _end(mask) - mask.sum(-1, keepdim=True, dtype=torch.int32)
    before = 0 if skipped is None else skipped
    ramp = (_numbers(mask) - (first - before)) * mask
    return weighted(hidden, ramp / (2 * before + count + 1) * (2 / count))


def _cls(hidden, _, pool):
    """The vector of the first token, or of the first that is pooled."""
    if pool is None:
        return hidden[:, 0]
    first = _end(pool) - pool.sum(-1, keepdim=True, dtype=torch.int32)
    return hidden.index_select(1, first[0]).squeeze(1)


def _masked_mean_sqrt(hidden, mask):
    return weighted(hidden, mask / torch.sqrt(_count(mask)))


def _masked_max(hidden, mask):
    return (hidden + additive(mask > 0)[0].transpose(1, 2)).amax(1)


def _weighted_mean(hidden, attention, pool):
    """Weights are positions from 1: tokens that are left out keep the others' weights as they are."""
    if pool is None:
        return ramp_mean(hidden, attention)
    return ramp_mean(hidden, pool, _end(pool) - pool.sum(-1, keepdim=True, dtype=torch.int32))


def _last(hidden, mask):
    """The vector of the last token; tokens come first, padding after them."""
    return hidden.index_select(1, mask.sum(1, dtype=torch.int32) - 1).squeeze(1)


def _numbers(mask):
    """1 to S as int32 [1, S]."""
    return torch.arange(1, mask.shape[1] + 1, dtype=torch.int32)[None]


def _end(mask):
    """How many tokens there are up to the last one of a mask [1, S], as int32 [1, 1]."""
    return (mask * _numbers(mask)).amax(-1, keepdim=True)


def _count(mask):
    """How many ones a mask [1, S] has, as a float [1, 1] of at least 1; counted in int32, which fp16 could not."""
    return torch.maximum(mask.sum(-1, keepdim=True, dtype=torch.int32), torch.tensor(1, dtype=torch.int32)).float()


def _over(pooling):
    """A mode that looks at the pooled tokens, all of them where none are left out."""
    return lambda hidden, attention, pool: pooling(hidden, attention if pool is None else pool)


# Each takes token vectors [1, S, H], the attention mask and the pool mask [1, S] or nothing.
POOL = {
    "cls": _cls,
    "max": _over(_masked_max),
    "mean": _over(masked_mean),
    "mean_sqrt_len_tokens": _over(_masked_mean_sqrt),
    "weightedmean": _weighted_mean,
    # The last token is never a prompt's: whatever the prompt, there is text behind it.
    "lasttoken": lambda hidden, attention, _: _last(hidden, attention),
}


def normalized(x):
    """x [..., E] divided by its length; divided by its largest element first, so that no square leaves fp16."""
    y = x / torch.maximum(x.abs().amax(-1, keepdim=True), torch.tensor(_LEAST))
    return y * torch.rsqrt(torch.maximum((y * y).sum(-1, keepdim=True), torch.tensor(_LEAST)))
