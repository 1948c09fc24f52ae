"""The function `encode` of an encoder checkpoint: the model, then its sentence-transformers modules."""

import torch

from . import sentence
from .attention import additive
from .build import Model, Table
from .layers import Linear

# The least length a vector is divided by; it only keeps an all-zero vector from giving NaN.
_LEAST = 1e-4


class Encoder(torch.nn.Module):
    """input_ids and attention_mask [1, S] to an embedding [1, E]; `width` is E."""

    def __init__(self, model: Model, table: Table | None):
        super().__init__()
        for name, child in model.module.named_children():
            self.add_module(name, child)
        self._model = [model.module]
        self._step = model.step
        self._windows = model.windows
        self._chain = sentence.chain(model.checkpoint)
        self.width = model.checkpoint.config.hidden_size
        self.dense = torch.nn.ModuleList()
        for part in self._chain:
            if isinstance(part, sentence.Pooling):
                self.width *= len(part.modes)
            elif isinstance(part, sentence.Dense):
                self.dense.append(_dense(part, model.checkpoint.path, table))
                self.width = part.shapes["linear.weight"][0]

    def forward(self, input_ids, attention_mask):
        mask = additive(attention_mask > 0)
        self._step.masks = dict.fromkeys(self._windows, mask)
        # Zeros that are no constant: a lookup of constants would be done by coremltools and stored as a new weight.
        zeros = input_ids * 0
        x = self._hidden(input_ids, attention_mask, zeros)
        dense = iter(self.dense)
        for part in self._chain:
            if isinstance(part, sentence.Pooling):
                pooled = [POOL[mode](x, attention_mask) for mode in part.modes]
                x = torch.cat(pooled, -1) if len(pooled) > 1 else pooled[0]
            elif isinstance(part, sentence.Dense):
                x = sentence.ACTIVATIONS[part.activation]()(next(dense)(x))
            else:
                x = normalized(x)
        return x

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


def _dense(part: sentence.Dense, checkpoint: str, table: Table | None) -> Linear:
    """A dense module with its weights, or with placeholders when there is a table."""
    if table is None:
        weights = {name: torch.nn.Parameter(value, False) for name, value in part.weights(checkpoint).items()}
    else:
        weights = {name: table.add(name, shape, folder=part.folder) for name, shape in part.shapes.items()}
    return Linear(weights["linear.weight"], weights.get("linear.bias"))


def weighted(hidden, weights):
    """The sum [1, H] of hidden [1, S, H] times weights [1, S]."""
    return torch.matmul(weights[:, None], hidden).squeeze(1)


def masked_mean(hidden, mask):
    """The mean [1, H] of hidden [1, S, H] over the ones of mask [1, S]; zeros where there are none.

    Dividing before summing keeps the sum of long inputs within fp16.
    """
    return weighted(hidden, mask / _count(mask))


def _masked_mean_sqrt(hidden, mask):
    return weighted(hidden, mask / torch.sqrt(_count(mask)))


def _masked_max(hidden, mask):
    return (hidden + additive(mask > 0)[0].transpose(1, 2)).amax(1)


def _last(hidden, mask):
    """The vector of the last token; tokens come first, padding after them."""
    return hidden.index_select(1, mask.sum(1, dtype=torch.int32) - 1).squeeze(1)


def _count(mask):
    """How many ones a mask [1, S] has, as a float [1, 1] of at least 1; counted in int32, which fp16 could not."""
    return torch.maximum(mask.sum(-1, keepdim=True, dtype=torch.int32), torch.tensor(1, dtype=torch.int32)).float()


POOL = {
    "cls": lambda hidden, _: hidden[:, 0],
    "max": _masked_max,
    "mean": masked_mean,
    "mean_sqrt_len_tokens": _masked_mean_sqrt,
    "lasttoken": _last,
}


def normalized(x):
    """x [1, E] divided by its length; divided by its largest element first, so that no square leaves fp16."""
    y = x / torch.maximum(x.abs().amax(-1, keepdim=True), torch.tensor(_LEAST))
    return y * torch.rsqrt(torch.maximum((y * y).sum(-1, keepdim=True), torch.tensor(_LEAST)))
