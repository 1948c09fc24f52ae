"""A checkpoint folder as far as Python needs it: configuration, tensor names and shapes, real weights on request."""

import copy
import json
import os
import struct

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import MODEL_MAPPING, AutoModel, AutoModelForCausalLM, PretrainedConfig

from . import architectures, reading, stored
from .errors import Known


class Checkpoint:
    """A checkpoint folder whose architecture is known.

    For a sentence-transformers folder, `transformer` is the path where its modules.json says the
    model lies, `folder` the same within the checkpoint.
    """

    def __init__(self, path: str):
        if not os.path.isdir(path):
            raise Known("bad_checkpoint", f"no checkpoint folder at {path}")
        self.path = path
        self.modules = _sentence_modules(path)
        self.folder = self.modules[0]["path"] if self.modules else ""
        self.transformer = os.path.join(path, self.folder)
        self.config = _config(self.transformer)
        # The configuration of the stored weights, also where adapters give the model another one.
        self.stored_config = self.config
        self.names = list(getattr(self.config, "architectures", None) or [])
        self.row = architectures.find(self.config.model_type, self.names)
        _refuse_unknown_settings(self.config)

    @property
    def max_seq_length(self) -> int | None:
        """The length at which sentence-transformers cuts inputs off, where the checkpoint states one."""
        return self._optional("sentence_bert_config.json").get("max_seq_length")

    @property
    def truncate_dim(self) -> int | None:
        """How many elements of an embedding sentence-transformers keeps, where the checkpoint says so."""
        settings = self._optional("config_sentence_transformers.json") if self.modules else {}
        return settings.get("truncate_dim")

    @property
    def generation(self) -> dict:
        """The settings of generation_config.json, if there is one."""
        return self._optional("generation_config.json")

    @property
    def is_decoder(self) -> bool:
        return self.row.kind == "decoder"

    def empty_model(self) -> torch.nn.Module:
        """The transformers model without memory: every parameter and buffer on the meta device."""
        with torch.device("meta"):
            kind = self._class()
            chosen = self.row.implementation
            return kind.from_config(self.config, attn_implementation=chosen, **self.row.options).eval()

    def real_model(self, implementation: str | None = None) -> torch.nn.Module:
        """The transformers model with its weights, in f32."""
        self.resolve(self.empty_model().named_parameters())
        chosen = implementation or self.row.implementation
        model = self._class().from_pretrained(
            self.transformer,
            config=copy.deepcopy(self.config),
            dtype=torch.float32,
            attn_implementation=chosen,
            **self.row.options,
        )
        return model.eval()

    def resolve(self, parameters, tied: bool = False) -> dict[str, str]:
        """Where each parameter lies: its name in the model to its tensor's name in the checkpoint, shapes checked.

        With `tied` a parameter that comes under two names has one tensor: that of the first, if only that is stored.
        """
        shapes = tensor_shapes(self.transformer)
        prefix = self._class_prefix()
        found, missing, first = {}, [], {}
        for name, parameter in parameters:
            if tied and id(parameter) in first:
                found[name] = first[id(parameter)]
                continue
            tensor = next((candidate for candidate in self._names(name, prefix) if candidate in shapes), None)
            if tensor is None:
                missing.append(name)
            elif tuple(shapes[tensor]) != tuple(parameter.shape):
                raise Known(
                    "bad_checkpoint",
                    f"tensor `{tensor}` has shape {list(shapes[tensor])}, its configuration needs "
                    f"{list(parameter.shape)}",
                )
            else:
                found[name] = first[id(parameter)] = tensor
        if missing:
            raise Known(
                "bad_checkpoint",
                f"{len(missing)} tensors are missing: {named(missing)}",
                "check that the download is complete and that config.json belongs to it",
            )
        return found

    def _names(self, parameter: str, prefix: str):
        """The names under which a parameter may be stored; for the embedding of a tied head also the head's."""
        yield from _spellings(parameter, prefix)
        if self.is_decoder and self.config.tie_word_embeddings and parameter.endswith(("embed_tokens.weight", "wte.weight")):
            yield "lm_head.weight"

    def _optional(self, name: str) -> dict:
        file = os.path.join(self.path, name)
        return read_json(file, "bad_checkpoint") if os.path.exists(file) else {}

    def _class(self):
        return AutoModelForCausalLM if self.is_decoder and not self.modules else AutoModel

    def _class_prefix(self) -> str:
        """What transformers puts before the names of the bare model inside a model with a head."""
        return MODEL_MAPPING[type(self.config)].base_model_prefix


def read_json(path: str, kind: str):
    """A JSON file, or a typed error that says where it is wrong."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file)
    except FileNotFoundError:
        raise Known(kind, f"file {path} is missing") from None
    except (OSError, ValueError) as error:
        raise Known(kind, f"file {path} cannot be read: {error}") from None


def named(names: list[str], most: int = 8) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - most
    return ", ".join(f"`{name}`" for name in names[:most]) + (f" and {more} more" if more > 0 else "")


def tensor_shapes(folder: str, needed: bool = True) -> dict[str, list[int]]:
    """The names and shapes of all tensors of a folder, in the files that transformers would read.

    Without such files it fails, unless `needed` is false.
    """
    files = stored.files(folder, read_json)
    if needed and not files:
        raise Known("bad_checkpoint", f"no model.safetensors, no pytorch_model.bin and no index of either in {folder}")
    shapes = {}
    for file in files:
        if file.endswith(".bin"):
            shapes.update(stored.torch_shapes(os.path.join(folder, file)))
            continue
        header = safetensors_header(os.path.join(folder, file), "bad_checkpoint")
        shapes.update({name: entry["shape"] for name, entry in header.items()})
    return shapes


def safetensors_header(path: str, kind: str) -> dict:
    """The header of one safetensors file: name to dtype, shape and offsets."""
    try:
        with open(path, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > 100_000_000:
                raise ValueError(f"header of {size} bytes")
            header = json.loads(file.read(size))
    except (OSError, ValueError, struct.error) as error:
        raise Known(kind, f"file {path} is not a readable safetensors file: {error}") from None
    header.pop("__metadata__", None)
    return header


def _config(folder: str) -> PretrainedConfig:
    raw = read_json(os.path.join(folder, "config.json"), "bad_checkpoint")
    model_type = raw.get("model_type")
    if not isinstance(model_type, str):
        raise Known("bad_checkpoint", f"{folder}/config.json names no model_type")
    architectures.find(model_type, list(raw.get("architectures") or []))
    try:
        return reading.configuration(folder, raw)
    except (ValueError, TypeError, KeyError, OSError, StrictDataclassError) as error:
        raise Known("bad_checkpoint", f"{folder}/config.json is not a configuration: {error}") from None


def _sentence_modules(path: str) -> list[dict] | None:
    """The module list of a sentence-transformers checkpoint, or `None`."""
    file = os.path.join(path, "modules.json")
    if not os.path.exists(file):
        return None
    modules = read_json(file, "bad_checkpoint")
    if not modules or not modules[0].get("type", "").endswith(".Transformer"):
        raise Known("bad_checkpoint", f"{file} does not begin with a Transformer module")
    return modules


# Rotary types whose frequencies do not depend on the length of a text, and those that change beyond the original length.
_FIXED_ROPE = ("default", "linear", "llama3", "yarn")
_GROWING_ROPE = ("dynamic", "longrope")


def rope_parameters(config) -> dict:
    """The rotary settings as transformers 5 keeps them, also for a config.json of transformers 4."""
    return getattr(config, "rope_parameters", None) or {"rope_type": "default"}


def check_rotary_length(config, length: int) -> None:
    """Fails if `length` positions reach beyond where a rotary type starts to depend on the length of the text."""
    rope = rope_parameters(config)
    if rope["rope_type"] not in _GROWING_ROPE:
        return
    limit = min(rope.get("original_max_position_embeddings") or length, config.max_position_embeddings)
    if length > limit:
        raise Known(
            "unsupported_architecture",
            f"rotary embedding `{rope['rope_type']}` changes with the length of the text beyond {limit} positions",
            f"pass --seq-len {limit} or less: up to there its frequencies are fixed",
        )


def _refuse_unknown_settings(config) -> None:
    """Settings that need another graph than the one exported here."""
    rope = rope_parameters(config)["rope_type"]
    if rope not in (*_FIXED_ROPE, *_GROWING_ROPE):
        raise Known(
            "unsupported_architecture",
            f"rotary embedding `{rope}` is not supported",
            f"supported are {', '.join((*_FIXED_ROPE, *_GROWING_ROPE))}",
        )
    if getattr(config, "add_cross_attention", False):
        raise Known("unsupported_architecture", "cross attention is not supported")
    embedding = getattr(config, "position_embedding_type", "absolute")
    if embedding != "absolute":
        raise Known("unsupported_architecture", f"position embedding `{embedding}` is not supported")


def _spellings(name: str, prefix: str):
    """The names under which a parameter may be stored, the likeliest first."""
    stems = [name, f"{prefix}.{name}"]
    if name.startswith(f"{prefix}."):
        stems.append(name[len(prefix) + 1 :])
    for stem in stems:
        yield stem
        # BERT's first checkpoints call the two parameters of a layer norm so.
        if stem.endswith("LayerNorm.weight"):
            yield stem[: -len("weight")] + "gamma"
        if stem.endswith("LayerNorm.bias"):
            yield stem[: -len("bias")] + "beta"
