"""PEFT adapters: what they adapt in a model, as low-rank branches or merged by peft itself."""

import os

import torch
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

from . import stored
from .checkpoint import read_json, safetensors_header
from .errors import Known
from .layers import Branch

_CONFIG = "adapter_config.json"
_SAFETENSORS, _TORCH = "adapter_model.safetensors", "adapter_model.bin"
_PREFIX = "base_model.model."


class Adapter:
    """A PEFT LoRA adapter folder and where it belongs in `model`, a transformers model with a head or without.

    `pairs` maps the path of an adapted module in the model to its keys in the file, `lora_A` and `lora_B`;
    `inner` says that the adapter was trained on the model without its head, whose paths are shorter.
    """

    def __init__(self, path: str, model: torch.nn.Module):
        self.path = path
        self.config = read_json(os.path.join(path, _CONFIG), "bad_adapter")
        if self.config.get("peft_type") != "LORA":
            raise Known("bad_adapter", f"adapter {path} is of type {self.config.get('peft_type')}, not LORA")
        self.shapes = shapes_of(path)
        self.inner = False
        self.pairs: dict[str, dict[str, str]] = {}
        self.others: list[str] = []
        for key in self.shapes:
            self._place(key, model)
        if not self.pairs and not self.others:
            raise Known("bad_adapter", f"adapter {path} adapts nothing")
        for module, keys in self.pairs.items():
            self._check(module, keys, model.get_submodule(module))

    def _place(self, key: str, model) -> None:
        module, _, part = key.removeprefix(_PREFIX).partition(".lora_")
        if f"lora_{part}" not in ("lora_A.weight", "lora_B.weight"):
            self.others.append(key)
            return
        inner = f"{model.base_model_prefix}.{module}"
        known = dict.fromkeys(name for name, _ in model.named_modules())
        if module not in known and inner not in known:
            raise Known(
                "bad_adapter",
                f"adapter tensor `{key}` belongs to no module of the model",
                "check that the adapter was trained on this base",
            )
        if module not in known:
            self.inner, module = True, inner
        self.pairs.setdefault(module, {})[f"lora_{part[0]}"] = key

    def _check(self, path: str, keys: dict[str, str], module) -> None:
        """The pair of a module must be whole and fit its weight [out, in]."""
        if set(keys) != {"lora_A", "lora_B"}:
            raise Known("bad_adapter", f"adapter tensor `{next(iter(keys.values()))}` is without its counterpart")
        if not isinstance(module, (torch.nn.Linear, Conv1D)):
            raise Known("bad_adapter", f"module `{path}` is a {type(module).__name__}, only linear layers are adapted")
        rows, columns = module.weight.shape if isinstance(module, torch.nn.Linear) else module.weight.shape[::-1]
        lora_a, lora_b = (self.shapes[keys[part]] for part in ("lora_A", "lora_B"))
        if (lora_b[0], lora_a[1]) != (rows, columns) or lora_a[0] != lora_b[1]:
            raise Known(
                "bad_adapter",
                f"adapter shapes {lora_a} and {lora_b} of `{path}` do not fit its weight {[rows, columns]}",
                "check that the adapter was trained on this base",
            )

    def scale(self, module: str, rank: int) -> float:
        """What the product B A of a module is multiplied by."""
        alpha = self.config["lora_alpha"]
        for pattern, value in (self.config.get("alpha_pattern") or {}).items():
            if module == pattern or module.endswith(f".{pattern}"):
                alpha = value
        return alpha / (rank**0.5 if self.config.get("use_rslora") else rank)

    def refuse_branches(self) -> None:
        """Branches can carry low-rank products only."""
        if self.others or self.config.get("use_dora"):
            what = "DoRA" if self.config.get("use_dora") else f"tensor `{self.others[0]}`"
            raise Known(
                "bad_adapter",
                f"adapter {self.path} has {what}, which cannot stay beside the weights",
                "use --encode-adapters merge",
            )


def shapes_of(path: str) -> dict[str, list[int]]:
    """The names and shapes of an adapter's tensors; safetensors first, as peft reads them."""
    file = os.path.join(path, _SAFETENSORS)
    if not os.path.exists(file) and os.path.exists(os.path.join(path, _TORCH)):
        return stored.torch_shapes(os.path.join(path, _TORCH))
    return {name: entry["shape"] for name, entry in safetensors_header(file, "bad_adapter").items()}


def _tensors(path: str) -> dict[str, torch.Tensor]:
    file = os.path.join(path, _SAFETENSORS)
    if os.path.exists(file):
        return load_file(file)
    return torch.load(os.path.join(path, _TORCH), map_location="cpu", weights_only=True)


def branch_placeholders(adapters: list[Adapter], module: torch.nn.Module, table) -> None:
    """Gives every adapted linear of a skeleton its branches, as placeholders that name the adapter's tensors.

    The sign of a branch that undoes an adapter is in the written weights, not in the graph.
    """
    for index, adapter in enumerate(adapters):
        adapter.refuse_branches()
        for path, keys in adapter.pairs.items():
            made = {}
            for part, key in keys.items():
                entry = {"index": index, "part": part, "module": path}
                made[part] = table.add(key, adapter.shapes[key], adapter=entry)
            module.get_submodule(path).branches.append(Branch(made["lora_A"], made["lora_B"]))


def branch_weights(adapters: list[Adapter], module: torch.nn.Module, sign: float) -> None:
    """Gives every adapted linear its branches with their weights, sign and scale multiplied into B."""
    for adapter in adapters:
        adapter.refuse_branches()
        tensors = _tensors(adapter.path)
        for path, keys in adapter.pairs.items():
            lora_a, lora_b = (tensors[keys[part]].float() for part in ("lora_A", "lora_B"))
            scaled = lora_b * (sign * adapter.scale(path, lora_a.shape[0]))
            module.get_submodule(path).branches.append(Branch(lora_a, scaled))


def merge(model: torch.nn.Module, paths: list[str]) -> torch.nn.Module:
    """`model` with each adapter merged by peft, one after the other, in the model's own type.

    Every module gets weights of its own first, so that merging one reaches no other: what comes out is what peft
    computes without merging.
    """
    from peft import PeftModel

    for path in paths:
        shapes = shapes_of(path)
        inner = _is_inner(shapes, model)
        base = getattr(model, model.base_model_prefix) if inner else model
        _resize(base, shapes)
        loaded = PeftModel.from_pretrained(base, path)
        copies = _untie(loaded)
        merged = loaded.merge_and_unload()
        _tie_again(copies)
        if inner:
            setattr(model, model.base_model_prefix, merged)
        else:
            model = merged
    return model.eval()


def initial_product(fields: dict) -> dict:
    """Writes to `out` what peft's initialisation `init` of a pair takes out of the tensor in the file `weight`.

    The factors `left` [rows, rank] and `right` [rank, columns], times the scale, are in the layout of the tensor, which
    `in_out` says is that of a `Conv1D`.
    """
    from peft import LoraConfig
    from peft.tuners.lora.layer import Linear

    weight = load_file(fields["weight"])["weight"]
    rows, columns = weight.shape
    layer = Conv1D(columns, rows) if fields["in_out"] else torch.nn.Linear(columns, rows, bias=False)
    layer.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
    rank, alpha = fields["rank"], fields["alpha"]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        use_rslora=fields["use_rslora"],
        init_lora_weights=fields["init"],
        fan_in_fan_out=fields["in_out"],
    )
    pair = Linear(layer, "default", config, r=rank, lora_alpha=alpha, is_target_conv_1d_layer=fields["in_out"])
    left, right = pair.lora_B["default"].weight.data, pair.lora_A["default"].weight.data
    if (left.shape[0], right.shape[1]) != (rows, columns):
        left, right = right.t(), left.t()
    change, product = weight - layer.weight.data, pair.scaling["default"] * (left @ right)
    if not torch.allclose(change, product, rtol=1e-3, atol=1e-5 * float(weight.abs().max())):
        left, right = right.t(), left.t()
        product = pair.scaling["default"] * (left @ right) if left.shape[0] == rows else product
    if not torch.allclose(change, product, rtol=1e-3, atol=1e-5 * float(weight.abs().max())):
        raise Known("bad_adapter", f"`{fields['init']}` does not take its own product out of a weight {[rows, columns]}")
    save_file({"left": left.contiguous(), "right": right.contiguous()}, fields["out"])
    return {"rank": rank}


def _is_inner(shapes: dict, model: torch.nn.Module) -> bool:
    """Whether the adapter was trained on the model without its head, whose names are shorter."""
    prefix = f"{_PREFIX}{model.base_model_prefix}."
    return not any(key.startswith((prefix, f"{_PREFIX}lm_head")) for key in shapes)


def _resize(model: torch.nn.Module, shapes: dict) -> None:
    """Gives the model the vocabulary that the adapter brings."""
    rows = model.get_input_embeddings().weight.shape[0]
    names = tuple(f"{name}.weight" for name in ("embed_tokens", "wte", "word_embeddings", "lm_head"))
    for key, shape in shapes.items():
        plain = key.replace(".base_layer", "").replace(".original_module", "")
        if plain.endswith(names) and "lora_" not in key and shape[0] != rows:
            model.resize_token_embeddings(shape[0], mean_resizing=False)
            return


def _tie_again(copies) -> None:
    """Undoes `_untie` where a merge left both parameters as they were, so that the graph is that of the tied model."""
    for module, name, original, before in copies:
        if torch.equal(original, before) and torch.equal(getattr(module, name), before):
            setattr(module, name, original)


def _untie(model: torch.nn.Module) -> list[tuple]:
    """Gives every module parameters of its own, and a bias to layers whose pair has one.

    Returns for each copy its module, name, original and the value of both.
    """
    seen, copies = {}, []
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in seen:
                setattr(module, name, torch.nn.Parameter(parameter.detach().clone(), requires_grad=False))
                copies.append((module, name, parameter, parameter.detach().clone()))
            seen[id(parameter)] = parameter
        if any(getattr(module, "lora_bias", {}).values()) and module.get_base_layer().bias is None:
            bias = torch.zeros(module.get_base_layer().out_features)
            module.get_base_layer().bias = torch.nn.Parameter(bias, requires_grad=False)
    model.config.tie_word_embeddings = False
    return copies
