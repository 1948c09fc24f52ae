"""Embeddings of given tokens by libraries that are not ours, for comparisons without a tokenizer."""

import json
from pathlib import Path

import torch
from transformers import AutoModel

from coremill import embedding_reference


def sentence(path: str, ids: list[int]):
    """The embedding by sentence-transformers' own modules on transformers' model."""
    from sentence_transformers.util import import_from_string

    model = AutoModel.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        features = {"token_embeddings": model(input_ids=torch.tensor([ids])).last_hidden_state}
        features["attention_mask"] = torch.ones(1, len(ids), dtype=torch.int64)
        for row in json.loads(Path(path, "modules.json").read_text())[1:]:
            module = import_from_string(row["type"]).load(path, subfolder=row["path"]).eval()
            features = module(features)
    return features["sentence_embedding"][0]


def bidirectional(path: str, adapters: list[str], inputs: list[dict]) -> list:
    """The mean of the pooled tokens of each input, every token seeing every token, adapters unmerged."""
    model = embedding_reference._bidirectional(path, adapters)
    found = []
    for item in inputs:
        ids = torch.tensor([item["input_ids"]])
        visible = torch.zeros(1, 1, ids.shape[1], ids.shape[1])
        with torch.no_grad():
            states = model(input_ids=ids, attention_mask=visible, use_cache=False).last_hidden_state[0]
        found.append(states[torch.tensor(item["pool"]) > 0].mean(0))
    return found
