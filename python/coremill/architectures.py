"""The architectures that coremill converts, in one table: what differs between them and nothing else."""

import types
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention
from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoSelfAttention
from transformers.models.bert.modeling_bert import BertSelfAttention
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralAttention, MistralRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention, Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3RMSNorm

from .attention import INTERFACE, Site, Step
from .errors import Known


@dataclass(frozen=True)
class Architecture:
    """One row: how to recognise a family's layers and what they need.

    `kind` is `decoder` or `encoder`; `implementation` the attention that transformers is asked for; `attention` the
    class of its attention layers; `norms` the classes of its RMS norms; `site` gives (scale, window) of an attention
    layer; `patch` replaces a method of it where the attention interface does not reach; `options` go to the model.
    """

    kind: str
    implementation: str
    attention: type
    norms: tuple[type, ...]
    site: Callable
    patch: Callable | None = None
    options: dict = field(default_factory=dict)


def _own_site(layer):
    """Scale and window as the layer itself holds them."""
    return layer.scaling, getattr(layer, "sliding_window", None)


def _mistral_site(layer):
    """Mistral's layers share the one window of the configuration."""
    return layer.scaling, layer.config.sliding_window


def _gpt_neo_site(layer):
    """GPT-Neo does not scale; its local layers see a window."""
    local = layer.config.attention_layers[layer.layer_id] == "local"
    return 1.0, layer.config.window_size if local else None


def _patch_gpt_neo(layer):
    """GPT-Neo knows no attention interface: its inner `_attn` is replaced, [1, H, T, D] in and out."""

    def attn(self, query, key, value, attention_mask=None, head_mask=None):
        site = self.coremill_site
        return site.step.attend(query, key, value, site.scale, site.window), None

    layer._attn = types.MethodType(attn, layer)


ARCHITECTURES = {
    "llama": Architecture("decoder", INTERFACE, LlamaAttention, (LlamaRMSNorm,), _own_site),
    "mistral": Architecture("decoder", INTERFACE, MistralAttention, (MistralRMSNorm,), _mistral_site),
    "qwen2": Architecture("decoder", INTERFACE, Qwen2Attention, (Qwen2RMSNorm,), _own_site),
    "qwen3": Architecture("decoder", INTERFACE, Qwen3Attention, (Qwen3RMSNorm,), _own_site),
    "gpt2": Architecture("decoder", INTERFACE, GPT2Attention, (), _own_site),
    "gpt_neo": Architecture("decoder", "eager", GPTNeoSelfAttention, (), _gpt_neo_site, _patch_gpt_neo),
    "bert": Architecture(
        "encoder", INTERFACE, BertSelfAttention, (), _own_site, options={"add_pooling_layer": False}
    ),
}


def find(model_type: str, names: list[str]) -> Architecture:
    """The row for a configuration's `model_type`; an error that names what there is when there is none."""
    row = ARCHITECTURES.get(model_type)
    if row is None:
        shown = f"`{model_type}`" + (f" ({', '.join(names)})" if names else "")
        raise Known(
            "unsupported_architecture",
            f"architecture {shown} is not supported",
            f"supported are {', '.join(ARCHITECTURES)}",
        )
    return row


def attention_sites(model: torch.nn.Module, row: Architecture, step: Step) -> set[int | None]:
    """Ties every attention layer of `model` to `step`; returns the windows that occur."""
    windows = set()
    for layer in model.modules():
        if isinstance(layer, row.attention):
            scale, window = row.site(layer)
            layer.coremill_site = Site(step, scale, window)
            windows.add(window)
            if row.patch is not None:
                row.patch(layer)
    return windows
