"""The function `encode` of a decoder that sentence-transformers embeds with: causal attention, then the modules."""

from .build import Model, Table
from .decoder import Decoder, every_position
from .encoder import Chain
from .facts import Facts


class CausalEncoder(Decoder):
    """input_ids, attention_mask and perhaps pool_mask [1, S] to an embedding [1, E]; `width` is E.

    Padding comes after the tokens, so none of them sees it.
    """

    def __init__(self, model: Model, facts: Facts, length: int, table: Table | None):
        super().__init__(model, facts, length)
        self.chain = Chain(model, table)
        self.width = self.chain.width

    def forward(self, input_ids, attention_mask, pool_mask=None):
        positions = every_position(input_ids)
        self.see_past(positions, self.group)
        return self.chain(self.hidden(input_ids, positions, None), attention_mask, pool_mask)
