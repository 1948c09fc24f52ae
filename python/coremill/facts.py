"""What Rust needs to know about a checkpoint's configuration, under the same names for every architecture."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Facts:
    """Facts of a configuration.

    `max_seq_length` is where sentence-transformers cuts inputs off; `special_tokens` maps `bos`, `eos` and `pad` to
    lists of token ids.
    """

    architecture: str
    model_type: str
    kind: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int | None
    vocab: int
    max_position_embeddings: int
    max_seq_length: int | None
    tied_head: bool
    sliding_window: int | None
    special_tokens: dict[str, list[int]]

    def as_dict(self) -> dict:
        return asdict(self)


def gather(checkpoint, windows=()) -> Facts:
    """The facts of a checkpoint; `windows` are those its attention layers use."""
    config = checkpoint.config
    heads = config.num_attention_heads
    return Facts(
        architecture=checkpoint.names[0] if checkpoint.names else config.model_type,
        model_type=config.model_type,
        # A decoder that sentence-transformers embeds with has no other function than `encode`.
        kind="encoder" if checkpoint.modules else checkpoint.row.kind,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        intermediate=getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None),
        vocab=config.vocab_size,
        max_position_embeddings=_positions(config),
        max_seq_length=checkpoint.max_seq_length,
        tied_head=checkpoint.is_decoder and not checkpoint.modules and bool(config.tie_word_embeddings),
        sliding_window=max((window for window in windows if window is not None), default=None),
        special_tokens={name: _ids(_special(checkpoint, f"{name}_token_id")) for name in ("bos", "eos", "pad")},
    )


def _special(checkpoint, name: str):
    """A special token as generation uses it, else as the configuration has it."""
    value = checkpoint.generation.get(name)
    return getattr(checkpoint.config, name, None) if value is None else value


def _ids(value) -> list[int]:
    """Ids as a list; an id of -1 is none."""
    if value is None:
        return []
    ids = value if isinstance(value, (list, tuple)) else [value]
    return [token for token in ids if token >= 0]


def _positions(config) -> int:
    """Positions the model was made for; yarn stretches the original ones by its factor."""
    rope = getattr(config, "rope_parameters", None) or {}
    stated = config.max_position_embeddings
    if rope.get("rope_type") != "yarn":
        return stated
    return max(stated, int((rope.get("original_max_position_embeddings") or stated) * rope["factor"]))
