"""What a checkpoint folder stores: which files transformers reads, and which of their tensors nothing uses."""

import os
import re

import torch

from .errors import Known

# In the order in which transformers looks.
_FILES = ("model.safetensors", "pytorch_model.bin")

# Buffers that models of other versions of transformers saved, and heads that an encoder is converted without.
_IGNORED = {
    "*": (r"rotary_emb\.inv_freq$", r"(^|\.)position_ids$"),
    "gpt2": (r"\.attn\.(masked_)?bias$", r"\.crossattention\.(masked_)?bias$"),
    "gpt_neo": (r"\.attn\.attention\.(masked_)?bias$",),
    "bert": (r"^(bert\.)?pooler\.", r"^cls\.", r"\.token_type_ids$"),
}


def files(folder: str, read_json) -> list[str]:
    """The weight files of a folder, of which the first format that is there counts; none if there is none."""
    for single in _FILES:
        if os.path.exists(os.path.join(folder, single)):
            return [single]
        index = os.path.join(folder, f"{single}.index.json")
        if os.path.exists(index):
            return sorted(set(read_json(index, "bad_checkpoint").get("weight_map", {}).values()))
    return []


def torch_shapes(path: str) -> dict[str, list[int]]:
    """The names and shapes of the tensors of a PyTorch file; the pickle in it can make nothing but tensors."""
    try:
        try:
            tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # The format before PyTorch 1.6 cannot be mapped.
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises whatever the pickle provokes
        raise Known("bad_checkpoint", f"file {path} is not a readable PyTorch file: {error}") from None
    return {name: list(value.shape) for name, value in tensors.items() if isinstance(value, torch.Tensor)}


def unused(checkpoint, table, shapes) -> list[str]:
    """The stored tensors that nothing uses; those of modules beside the transformer with their folder.

    `shapes` gives the names and shapes of the tensors of a folder.
    """
    model = checkpoint.empty_model()
    found = set(shapes(checkpoint.transformer))
    used = set(checkpoint.resolve(model.named_parameters()).values())
    # A tied head may be stored too: whether it is another one is found out where the values are read.
    for name in getattr(model, "_tied_weights_keys", None) or ():
        used.update((name, f"{model.base_model_prefix}.{name}"))
    patterns = [*_IGNORED["*"], *_IGNORED.get(checkpoint.config.model_type, ())]
    if checkpoint.modules:
        # A decoder that embeds has no use for its head.
        patterns.append(r"^lm_head\.")
    patterns += getattr(type(model), "_keys_to_ignore_on_load_unexpected", None) or ()
    left = [name for name in sorted(found - used) if not _matches(name, patterns)]
    for module in (checkpoint.modules or [])[1:]:
        folder = module["path"]
        where = os.path.join(checkpoint.path, folder)
        if table is None or not folder or not os.path.isdir(where):
            continue
        taken = {entry["tensor"] for entry in table.entries if entry["folder"] == folder}
        left += [f"{folder}/{name}" for name in sorted(set(shapes(where, False)) - taken)]
    return left


def check_unused(names: list[str], allowed: list[str]) -> list[str]:
    """Fails if a tensor that nothing uses matches none of the regular expressions `allowed`."""
    try:
        refused = [name for name in names if not _matches(name, allowed)]
    except re.error as error:
        raise Known("bad_request", f"`{error.pattern}` is not a regular expression: {error}") from None
    if refused:
        shown = ", ".join(f"`{name}`" for name in refused[:5])
        more = f" and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise Known(
            "bad_checkpoint",
            f"{len(refused)} stored tensors are not used by the model: {shown}{more}",
            "config.json may be of another model; if the tensors can be left out, pass --allow-unused-tensor REGEX",
        )
    return names


def _matches(name: str, patterns) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)
