"""The modules of a sentence-transformers checkpoint, read without that package: what follows the Transformer."""

import os
import re
from dataclasses import dataclass, field

import torch
from safetensors.torch import load_file

from .checkpoint import read_json, tensor_shapes
from .errors import Known

# Pooling modes by the flag that turns each on, in the order in which sentence-transformers joins their results.
FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
MODES = tuple(FLAGS.values())

# The values that modules pass on to each other: token vectors [1, S, H] and the vector of the text [1, E].
TOKENS = "token_embeddings"
SENTENCE = "sentence_embedding"

# Activations without settings, by the name of their class in `torch.nn`.
ACTIVATIONS = {
    name: getattr(torch.nn, name)
    for name in ("Identity", "Tanh", "GELU", "ReLU", "Sigmoid", "SiLU", "LeakyReLU", "ELU", "ReLU6", "Softplus")
}

# Where sentence-transformers keeps its modules, before version 5.4 and since; below it comes the file or nothing.
_CLASS = re.compile(
    r"sentence_transformers\.(?:models|base\.modules|sentence_transformer\.modules)(?:\.\w+)?\.(?P<name>\w+)"
)


@dataclass(frozen=True)
class Pooling:
    """Token vectors to one vector: the results of all `modes` side by side.

    Without `include_prompt` the tokens of a prompt take no part.
    """

    modes: tuple[str, ...]
    include_prompt: bool = True


@dataclass(frozen=True)
class Dense:
    """A linear layer [out, in] and an activation, perhaps added to its input; its tensors lie in `folder`."""

    folder: str
    shapes: dict[str, list[int]]
    activation: str
    residual: bool = False
    source: str = SENTENCE
    target: str = SENTENCE

    def weights(self, checkpoint: str) -> dict[str, torch.Tensor]:
        """The tensors named in `shapes`, in f32."""
        return stored(os.path.join(checkpoint, self.folder))


@dataclass(frozen=True)
class LayerNorm:
    """A layer norm over the vector of the text; its tensors lie in `folder`."""

    folder: str
    shapes: dict[str, list[int]] = field(default_factory=dict)

    def weights(self, checkpoint: str) -> dict[str, torch.Tensor]:
        """`norm.weight` and `norm.bias`, in f32."""
        return stored(os.path.join(checkpoint, self.folder))


@dataclass(frozen=True)
class Normalize:
    """A vector divided by its length."""

    source: str = SENTENCE
    target: str = SENTENCE


def chain(checkpoint) -> list:
    """The modules after the Transformer, Dropout left out. A checkpoint without a list gets the mean."""
    if checkpoint.modules is None:
        return [Pooling(("mean",))]
    readers = {
        "Pooling": _pooling,
        "Dense": _dense,
        "LayerNorm": _layer_norm,
        "Dropout": _dropout,
        "Normalize": _normalize,
    }
    found, names = [], set()
    for place, module in enumerate(checkpoint.modules):
        kind = class_name(module.get("type", ""))
        if module.get("kwargs"):
            raise _unsupported(f"`kwargs` of module `{module['type']}` in modules.json", "only modules without it are")
        if module.get("name") in names:
            raise Known("bad_checkpoint", f"modules.json has two modules of the name `{module['name']}`")
        names.add(module.get("name", str(place)))
        if place == 0:
            if kind != "Transformer":
                raise _unsupported(f"sentence-transformers module `{module.get('type')}` as the first one")
        elif kind not in readers:
            raise _unsupported(
                f"sentence-transformers module `{module['type']}`", f"supported are Transformer, {', '.join(readers)}"
            )
        else:
            found.append(readers[kind](checkpoint.path, module["path"]))
    found = [part for part in found if part is not None]
    _check(found)
    return found


def class_name(path: str) -> str | None:
    """The name of a class of sentence-transformers itself, nothing for one of other code."""
    match = _CLASS.fullmatch(path)
    return match and match["name"]


def stored(folder: str) -> dict[str, torch.Tensor]:
    """The tensors of a module, in f32: from safetensors, else from a pickle that may hold tensors alone."""
    file = os.path.join(folder, "model.safetensors")
    if os.path.exists(file):
        tensors = load_file(file)
    else:
        tensors = torch.load(os.path.join(folder, "pytorch_model.bin"), map_location="cpu", weights_only=True)
    return {name: tensor.float() for name, tensor in tensors.items()}


def _check(found: list) -> None:
    """Every module must find what it reads, and the last value of the chain must be a vector."""
    known = {TOKENS}
    for part in found:
        source = TOKENS if isinstance(part, Pooling) else getattr(part, "source", SENTENCE)
        if source not in known:
            raise _unsupported(f"`{source}` read by {type(part).__name__} before a module makes it")
        known.add(SENTENCE if isinstance(part, Pooling) else getattr(part, "target", SENTENCE))
    if not any(isinstance(part, Pooling) for part in found):
        raise _unsupported("a list of sentence-transformers modules without Pooling")


def _pooling(checkpoint: str, folder: str) -> Pooling:
    config = _config(checkpoint, folder)
    known = {*FLAGS, "pooling_mode", "include_prompt", "word_embedding_dimension", "embedding_dimension"}
    _refuse_unknown(config, known, folder)
    mode = config.get("pooling_mode")
    if mode is None:
        modes = tuple(mode for flag, mode in FLAGS.items() if config.get(flag)) or ("mean",)
    else:
        modes = (mode,) if isinstance(mode, str) else tuple(mode)
    for mode in modes:
        if mode not in MODES:
            raise _unsupported(f"pooling `{mode}` of {folder}", f"supported are {', '.join(MODES)}")
    return Pooling(modes, config.get("include_prompt", True) is not False)


def _dense(checkpoint: str, folder: str) -> Dense:
    config = _config(checkpoint, folder)
    known = {"in_features", "out_features", "bias", "activation_function", "use_residual"}
    _refuse_unknown(config, known | {"module_input_name", "module_output_name"}, folder)
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    name = activation.rpartition(".")[2] if isinstance(activation, str) else None
    if name not in ACTIVATIONS or not activation.startswith("torch.nn."):
        raise _unsupported(f"activation `{activation}` of {folder}", f"supported are {', '.join(ACTIVATIONS)}")
    rows, columns = config.get("out_features"), config.get("in_features")
    residual = bool(config.get("use_residual"))
    wanted = {"linear.weight": [rows, columns]}
    if config.get("bias", True):
        wanted["linear.bias"] = [rows]
    if residual and rows != columns:
        wanted["residual.weight"] = [rows, columns]
    source, target = _ports(config, folder)
    return Dense(folder, _shapes(checkpoint, folder, wanted), name, residual, source, target)


def _layer_norm(checkpoint: str, folder: str) -> LayerNorm:
    config = _config(checkpoint, folder)
    _refuse_unknown(config, {"dimension"}, folder)
    width = config.get("dimension")
    return LayerNorm(folder, _shapes(checkpoint, folder, {"norm.weight": [width], "norm.bias": [width]}))


def _dropout(checkpoint: str, folder: str) -> None:
    """Inert: it does nothing outside training."""
    _refuse_unknown(_config(checkpoint, folder), {"dropout"}, folder)


def _normalize(checkpoint: str, folder: str) -> Normalize:
    config = _config(checkpoint, folder)
    _refuse_unknown(config, {"module_input_name", "module_output_name"}, folder)
    return Normalize(*_ports(config, folder))


def _ports(config: dict, folder: str) -> tuple[str, str]:
    """The values that a module reads and writes."""
    source = config.get("module_input_name") or SENTENCE
    target = config.get("module_output_name") or source
    for name in (source, target):
        if name not in (TOKENS, SENTENCE):
            raise _unsupported(f"value `{name}` of {folder}", f"supported are {TOKENS} and {SENTENCE}")
    if source != target:
        raise _unsupported(f"`{source}` to `{target}` in {folder}", "the two names must be the same")
    return source, target


def _config(checkpoint: str, folder: str) -> dict:
    """The settings of a module; none where it has no file, as for Normalize."""
    file = os.path.join(checkpoint, folder, "config.json")
    return read_json(file, "bad_checkpoint") if folder and os.path.exists(file) else {}


def _shapes(checkpoint: str, folder: str, wanted: dict[str, list]) -> dict[str, list[int]]:
    """The shapes of a module's tensors, which must be those that its settings imply."""
    shapes = tensor_shapes(os.path.join(checkpoint, folder), False) if folder else {}
    if not shapes:
        raise Known("bad_checkpoint", f"module {folder or 'in the checkpoint itself'} has no weights")
    shapes = {name: list(shape) for name, shape in shapes.items()}
    for name in sorted({*shapes, *wanted}):
        if name not in shapes:
            raise Known("bad_checkpoint", f"module {folder} lacks tensor `{name}`")
        if name not in wanted:
            raise Known("bad_checkpoint", f"tensor `{name}` of module {folder} is not one that its settings imply")
        if shapes[name] != wanted[name]:
            raise Known("bad_checkpoint", f"tensor `{name}` of module {folder} is {shapes[name]}, not {wanted[name]}")
    return shapes


def _refuse_unknown(config: dict, known: set[str], folder: str) -> None:
    for key, value in config.items():
        if key not in known and value is not None:
            raise _unsupported(f"setting `{key}` ({value!r}) of {folder}/config.json")


def _unsupported(what: str, hint: str | None = None) -> Known:
    return Known("unsupported_architecture", f"{what} is not supported", hint)
