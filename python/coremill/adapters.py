"""PEFT adapters: what they adapt in a model, as low-rank branches or merged by peft itself."""

import os

import torch
from safetensors.torch import load_file
from transformers.pytorch_utils import Conv1D

from .checkpoint import read_json, safetensors_header
from .errors import Known
from .layers import Branch

_CONFIG = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
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
        self.file = os.path.join(path, _WEIGHTS)
        self.header = safetensors_header(self.file, "bad_adapter")
        self.inner = False
        self.pairs: dict[str, dict[str, str]] = {}
        self.others: list[str] = []
        for key in self.header:
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
        lora_a, lora_b = (self.header[keys[part]]["shape"] for part in ("lora_A", "lora_B"))
        if (lora_b[0], lora_a[1]) != (rows, columns) or lora_a[0] != lora_b[1]:
            raise Known(
                "bad_adapter",
                f"adapter shapes {lora_a} and {lora_b} of `{path}` do not fit its weight {[rows, columns]}",
                "check that the adapter was trained on this base",
            )

    def changes(self, parameter: str) -> bool:
        """Whether merging changes a parameter of the model."""
        module, _, leaf = parameter.rpartition(".")
        saved = self.config.get("modules_to_save") or []
        return (leaf == "weight" and module in self.pairs) or module.rpartition(".")[2] in saved

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


def branch_placeholders(adapters: list[Adapter], module: torch.nn.Module, table) -> None:
    """Gives every adapted linear of a skeleton its branches, as placeholders that name the adapter's tensors.

    The sign of a branch that undoes an adapter is in the weights that are poured, not in the graph.
    """
    for index, adapter in enumerate(adapters):
        adapter.refuse_branches()
        for path, keys in adapter.pairs.items():
            made = {}
            for part, key in keys.items():
                entry = {"index": index, "part": part, "module": path}
                made[part] = table.add(key, adapter.header[key]["shape"], adapter=entry)
            module.get_submodule(path).branches.append(Branch(made["lora_A"], made["lora_B"]))


def branch_weights(adapters: list[Adapter], module: torch.nn.Module, sign: float) -> None:
    """Gives every adapted linear its branches with their weights, sign and scale multiplied into B."""
    for adapter in adapters:
        adapter.refuse_branches()
        tensors = load_file(adapter.file)
        for path, keys in adapter.pairs.items():
            lora_a, lora_b = (tensors[keys[part]].float() for part in ("lora_A", "lora_B"))
            scaled = lora_b * (sign * adapter.scale(path, lora_a.shape[0]))
            module.get_submodule(path).branches.append(Branch(lora_a, scaled))


def merge(model: torch.nn.Module, paths: list[str]) -> torch.nn.Module:
    """`model` with each adapter merged by peft, one after the other, in the model's own type."""
    from peft import PeftModel

    for path in paths:
        adapter = Adapter(path, model)
        if adapter.inner:
            name = model.base_model_prefix
            setattr(model, name, PeftModel.from_pretrained(getattr(model, name), path).merge_and_unload())
        else:
            model = PeftModel.from_pretrained(model, path).merge_and_unload()
    return model.eval()
