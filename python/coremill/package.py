"""The operations `skeleton` and `convert_full`: functions of a checkpoint written as packages."""

import functools
import os
import tempfile

from coremltools.models.utils import MultiFunctionDescriptor, save_multifunction

from . import build, facts, functions, stored
from .changes import Changes
from .checkpoint import Checkpoint, tensor_shapes
from .convert import convert
from .errors import Known

_DEFAULTS = {
    "prompt_chunk": None,
    "kv_cache": "state",
    "target": "iOS18",
    "functions": None,
    "encode_adapters": [],
    "unmerge_adapters": [],
    "encode_mode": "branches",
    "compute_precision": "fp16",
    "merge_adapters": [],
    "changes": None,
    "encode_changes": None,
    "allow_unused": [],
    "untied_head": False,
}
_CHOICES = {
    "kv_cache": ("state", "io"),
    "target": ("iOS16", "iOS17", "iOS18"),
    "encode_mode": ("branches", "merge"),
    "compute_precision": ("fp16", "fp32"),
}


def skeleton(fields: dict) -> dict:
    """Writes OUT/NAME.mlpackage for each function, weights as placeholders, and returns what Rust needs to pour them.

    The response has `facts`, `functions` (name, path, inputs, outputs, states), `placeholders` and `unused`.
    """
    request = checked(fields)
    checkpoint = opened(request)
    table, known, model_of = placeholders_of(request, checkpoint)
    unused = unused_of(request, checkpoint, None)
    written = _write(request, request["out"], known, model_of, table)
    unused += [name for name in unused_of(request, checkpoint, table) if name not in unused]
    return {"facts": known.as_dict(), "functions": written, "placeholders": table.entries, "unused": unused}


def opened(request: dict) -> Checkpoint:
    """The checkpoint of a request, its head untied where Rust found that another one is stored."""
    checkpoint = Checkpoint(request["model"])
    if request["untied_head"]:
        checkpoint.config.tie_word_embeddings = False
    return checkpoint


def placeholders_of(request: dict, checkpoint: Checkpoint):
    """The table of placeholders, the facts, and what gives the model that a function is made of."""
    base = checkpoint
    changes, own_changes = (Changes(**request[name] or {}) for name in ("changes", "encode_changes"))
    checkpoint = changes.of(base)
    table = build.Table()
    plain = build.skeleton(checkpoint, request["seq_len"], table, changes=changes)
    known = facts.gather(checkpoint, plain.windows)

    def model_of(name):
        if name != "encode" or not request["encode_adapters"]:
            return plain
        if request["encode_mode"] == "merge":
            own = own_changes.of(base)
            return build.skeleton(own, request["seq_len"], table, request["encode_adapters"], True, own_changes)
        # Beside shared weights stand the adapters of `encode`, then those that are taken out of the weights again.
        adapters = request["encode_adapters"] + request["unmerge_adapters"]
        return build.skeleton(checkpoint, request["seq_len"], table, adapters, changes=changes)

    return table, known, model_of


def unused_of(request: dict, checkpoint: Checkpoint, table) -> list[str]:
    """The stored tensors that nothing uses; an error unless the request lets them pass."""
    return stored.check_unused(stored.unused(checkpoint, table, tensor_shapes), request["allow_unused"])


def convert_full(fields: dict) -> dict:
    """The plain way: real weights through the same wrappers and coremltools, one .mlpackage at OUT.

    Of several functions it is a multifunction package; of one, a plain one. The response has `facts` and `functions`.
    """
    request = checked(fields)
    checkpoint = opened(request)
    unused_of(request, checkpoint, None)
    length, chat, encode = request["seq_len"], request["merge_adapters"], request["encode_adapters"]

    @functools.cache
    def real(merged, branches=(), unmerged=()):
        return build.real(checkpoint, length, merged, branches, unmerged)

    def model_of(name):
        if name != "encode" or not encode:
            return real(tuple(chat))
        if request["encode_mode"] == "merge":
            return real(tuple(encode))
        return real(tuple(chat), tuple(encode), tuple(request["unmerge_adapters"]))

    refuse_existing(request["out"])
    known = facts.gather(_changed(checkpoint, request["changes"]))
    folder = os.path.dirname(os.path.abspath(request["out"]))
    with tempfile.TemporaryDirectory(dir=folder, prefix=".functions-") as staging:
        written = _write(request, staging, known, model_of, None)
        if len(written) == 1:
            os.rename(written[0]["path"], request["out"])
        elif request["target"] != "iOS18":  # A package holds one function.
            stem = os.path.splitext(request["out"])[0]
            for function in written:
                path = f"{stem}.{function['name']}.mlpackage"
                refuse_existing(path)
                os.rename(function["path"], path)
                function["path"] = path
            return {"facts": known.as_dict(), "functions": written}
        else:
            joined = MultiFunctionDescriptor()
            for function in written:
                joined.add_function(function["path"], "main", function["name"])
            joined.default_function_name = written[0]["name"]
            save_multifunction(joined, request["out"])
    return {"facts": known.as_dict(), "functions": [{**entry, "path": request["out"]} for entry in written]}


def _write(request: dict, out: str, known: facts.Facts, model_of, table) -> list[dict]:
    """Converts every function asked for; `model_of(name)` gives the model it is drawn from."""
    functions.check_lengths(known, request["seq_len"], request["prompt_chunk"])
    os.makedirs(out, exist_ok=True)
    written = []
    for name in request["functions"] or every_function(known):
        refuse_existing(os.path.join(out, f"{name}.mlpackage"))
        function = functions.build(name, model_of(name), known, request, table)
        path = os.path.join(out, f"{name}.mlpackage")
        convert(function, path, request["target"], request["compute_precision"])
        written.append({**function.as_dict(), "path": path})
    return written


def _changed(checkpoint: Checkpoint, fields: dict | None) -> Checkpoint:
    """The checkpoint with the configuration that merged adapters give the model."""
    changes = Changes(**fields or {})
    changed = changes.of(checkpoint)
    if changes.layers is not None:
        changed.config.num_hidden_layers = len(changes.layers)
    return changed


def refuse_existing(path: str) -> None:
    """Nothing is ever overwritten."""
    if os.path.exists(path):
        raise Known("output_exists", f"output {path} exists already", "choose another path, or remove it")


def every_function(known: facts.Facts) -> list[str]:
    return ["init", "decode"] if known.kind == "decoder" else ["encode"]


def checked(fields: dict) -> dict:
    """The request with its defaults, checked."""
    unknown = sorted(set(fields) - set(_DEFAULTS) - {"model", "out", "seq_len"})
    if unknown:
        raise Known("bad_request", f"unknown fields {', '.join(unknown)}")
    for name in ("model", "out", "seq_len"):
        if name not in fields:
            raise Known("bad_request", f"field `{name}` is missing")
    request = {**_DEFAULTS, **fields}
    for name, allowed in _CHOICES.items():
        if request[name] not in allowed:
            raise Known("bad_request", f"`{name}` is {request[name]!r}", f"it can be {', '.join(allowed)}")
    if request["prompt_chunk"] is None:
        request["prompt_chunk"] = min(64, request["seq_len"])
    return request
