"""config.json as transformers reads it, also where it is written in a way that transformers itself refuses."""

import json
import os

from transformers import AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

# Settings that are counts or ids, which some tools write as 256.0.
_COUNTS = (
    "hidden_size",
    "head_dim",
    "intermediate_size",
    "max_position_embeddings",
    "max_window_layers",
    "n_embd",
    "n_head",
    "n_inner",
    "n_layer",
    "n_positions",
    "num_attention_heads",
    "num_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_layers",
    "sliding_window",
    "type_vocab_size",
    "vocab_size",
    "window_size",
)
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def configuration(folder: str, raw: dict):
    """The configuration of `folder`, whose config.json holds `raw`."""
    settings = normalized(raw)
    # As text: 256.0 equals 256.
    if repr(settings) == repr(raw) and not _has_mark(os.path.join(folder, "config.json")):
        return AutoConfig.from_pretrained(folder)
    return CONFIG_MAPPING[raw["model_type"]].from_dict(settings)


def loading_arguments(folder: str) -> dict:
    """`config` for a `from_pretrained` of `folder`, where its config.json is written in a way that transformers refuses."""
    path = os.path.join(folder, "config.json")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8-sig") as file:
        raw = json.load(file)
    odd = repr(normalized(raw)) != repr(raw) or _has_mark(path)
    return {"config": configuration(folder, raw)} if odd and raw.get("model_type") in CONFIG_MAPPING else {}


def normalized(raw: dict) -> dict:
    """`raw` with counts as integers, ids of -1 as none, and a beginning token out of its list."""
    settings = dict(raw)
    for name in (*_COUNTS, *_IDS):
        value = settings.get(name)
        if isinstance(value, float) and value.is_integer():
            settings[name] = int(value)
    for name in _IDS:
        value = settings.get(name)
        if isinstance(value, list):
            value = [token for token in value if token != -1]
            if name != "eos_token_id" and len(value) == 1:
                value = value[0]
            settings[name] = value
        elif value == -1:
            settings[name] = None
    return settings


def _has_mark(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(3) == b"\xef\xbb\xbf"
