"""The settings of an LLM2Vec adapter that change the graph."""

import os

from .checkpoint import read_json
from .errors import Known

_MODES = ("mean", "weighted_mean", "eos_token", "last_token", "bos_token")


def has_ramp(adapters: list[str]) -> bool:
    """Whether the pooled tokens have growing weights: what `llm2vec_config.json` of the last adapter says.

    For the modes that pool a single token, the pool mask selects that token alone.
    """
    file = os.path.join(adapters[-1], "llm2vec_config.json") if adapters else ""
    mode = read_json(file, "bad_adapter").get("pooling_mode", "mean") if os.path.exists(file) else "mean"
    if mode not in _MODES:
        raise Known("bad_adapter", f"pooling_mode `{mode}` of {file} is not supported", f"it can be {', '.join(_MODES)}")
    return mode == "weighted_mean"
