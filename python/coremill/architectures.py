"""The architectures that coremill converts, in one table: what differs between them and nothing else."""

import math
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


def _rotary_site(layer):
    """Llama and its relatives say both themselves."""
    return layer.scaling, getattr(layer, "sliding_window", None)


def _mistral_site(layer):
    """Mistral's layers share the one window of the configuration."""
    return layer.scaling, layer.config.sliding_window


def _gpt2_site(layer):
    """GPT-2 may scale by the layer's number too."""
    scale = layer.head_dim**-0.5 if layer.scale_attn_weights else 1.0
    return (scale / (layer.layer_idx + 1) if layer.scale_attn_by_inverse_layer_idx else scale), None


def _gpt_neo_site(layer):
    """GPT-Neo does not scale; its local layers see a window."""
    local = layer.config.attention_layers[layer.layer_id] == "local"
    return 1.0, layer.config.window_size if local else None


def _bert_site(layer):
    return 1.0 / math.sqrt(layer.attention_head_size), None


def _patch_gpt_neo(layer):
    """GPT-Neo knows no attention interface: its inner `_attn` is replaced, [1, H, T, D] in and out."""

    def attn(self, query, key, value, attention_mask=None, head_mask=None):
        site = self.coremill_site
        return site.step.attend(query, key, value, site.scale, site.window), None

    layer._attn = types.MethodType(attn, layer)


def _patch_bert(layer):
    """BERT knows no attention interface: the layer's forward is replaced, [1, S, H] in and out."""

    def forward(self, hidden_states, *_args, **_kwargs):
        def heads(x):
            return x.view(1, -1, self.num_attention_heads, self.attention_head_size).transpose(1, 2)

        site = self.coremill_site
        query, key, value = (heads(part(hidden_states)) for part in (self.query, self.key, self.value))
        result = site.step.attend(query, key, value, site.scale, site.window)
        return (result.transpose(1, 2).reshape(hidden_states.shape),)

    layer.forward = types.MethodType(forward, layer)


ARCHITECTURES = {
    "llama": Architecture("decoder", INTERFACE, LlamaAttention, (LlamaRMSNorm,), _rotary_site),
    "mistral": Architecture("decoder", INTERFACE, MistralAttention, (MistralRMSNorm,), _mistral_site),
    "qwen2": Architecture("decoder", INTERFACE, Qwen2Attention, (Qwen2RMSNorm,), _rotary_site),
    "qwen3": Architecture("decoder", INTERFACE, Qwen3Attention, (Qwen3RMSNorm,), _rotary_site),
    "gpt2": Architecture("decoder", INTERFACE, GPT2Attention, (), _gpt2_site),
    "gpt_neo": Architecture("decoder", "eager", GPTNeoSelfAttention, (), _gpt_neo_site, _patch_gpt_neo),
    "bert": Architecture(
        "encoder", "eager", BertSelfAttention, (), _bert_site, _patch_bert, {"add_pooling_layer": False}
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
