"""Reference embeddings in f32: sentence-transformers itself, and LLM2Vec's order of work on transformers and peft.

Nothing of the conversion path takes part: texts come in, tokens and vectors go out.
"""

import json
import os

import torch

from . import reference
from .errors import Known

# What LLM2Vec keeps between instruction and text until both are tokens.
_MARK = "!@#$%^&*()"

# What LLM2Vec puts around a user's text, by the name of the model in its configuration.
_LLAMA_3 = "meta-llama/Meta-Llama-3-8B-Instruct"
_TEMPLATES = {
    _LLAMA_3: "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>",
    "mistralai/Mistral-7B-Instruct-v0.2": "[INST] {} [/INST]",
    "meta-llama/Llama-2-7b-chat-hf": "[INST] {} [/INST]",
    "google/gemma-2-9b-it": "<bos><start_of_turn>user\n{}<end_of_turn>",
    "Qwen/Qwen2-1.5B-Instruct": "<|im_start|>user\n{}<|im_end|>",
    "Qwen/Qwen2-7B-Instruct": "<|im_start|>user\n{}<|im_end|>",
}

# What `eos_token` puts behind a text, by family.
_ENDS = {"llama": " </s>", "mistral": " </s>", "gemma": "<eos>", "qwen2": "<|endoftext|>"}


def reference_embed(fields: dict) -> dict:
    """`embeddings` and `tokens` (ids) of inputs, each with `text`, perhaps `instruction` or `prompt_name`.

    `seq_len` limits what the library would allow; `strip` removes spaces around a text before the library sees it;
    `encode_adapters` are those of LLM2Vec, without them the checkpoint is sentence-transformers'.
    """
    with torch.no_grad():
        embed = _Llm2Vec(fields) if fields.get("encode_adapters") else _SentenceTransformer(fields)
        found = [embed(item) for item in fields["inputs"]]
    return {"embeddings": [vector.tolist() for vector, _ in found], "tokens": [ids for _, ids in found]}


class _SentenceTransformer:
    """`SentenceTransformer.encode`, one text at a time."""

    def __init__(self, fields: dict):
        from sentence_transformers import SentenceTransformer

        settings = {"dtype": torch.float32, "attn_implementation": "eager"}
        try:
            self.model = SentenceTransformer(fields["model"], device="cpu", model_kwargs=settings, local_files_only=True)
        except (ValueError, TypeError, KeyError, OSError, RuntimeError) as error:
            raise Known("bad_checkpoint", f"sentence-transformers cannot load {fields['model']}: {error}") from None
        self.strip = fields.get("strip", False)
        lengths = [length for length in (self.model.max_seq_length, fields.get("seq_len")) if length is not None]
        self.model.max_seq_length = min(lengths) if lengths else None

    def __call__(self, item: dict):
        text, prompt = item["text"], item.get("instruction")
        if prompt is None:
            name = item.get("prompt_name") or self.model.default_prompt_name
            if name is not None and name not in self.model.prompts:
                raise Known("bad_request", f"no prompt is called `{name}`", f"it has {', '.join(self.model.prompts)}")
            prompt = self.model.prompts[name] if name is not None else ""
        if self.strip:
            text, prompt = (text.rstrip(), prompt.lstrip()) if prompt.strip() else (text.strip(), "")
        # An empty prompt, not none: that would bring the default back.
        ids = self.model.preprocess([text], prompt=prompt)["input_ids"][0].tolist()
        vector = self.model.encode(text, prompt=prompt, convert_to_tensor=True, show_progress_bar=False)
        return vector.float(), ids


class _Llm2Vec:
    """LLM2Vec's order of work for one text: words cut, instruction and template joined, tokens, model, pooling."""

    def __init__(self, fields: dict):
        from transformers import AutoTokenizer

        base, adapters = fields["model"], fields["encode_adapters"]
        settings = _json(adapters[-1], "llm2vec_config.json")
        self.mode = settings.get("pooling_mode", "mean")
        self.skips = settings.get("skip_instruction", True)
        self.longest = min(settings.get("max_length", 512), fields.get("seq_len") or 1 << 40)
        self.longest_text = settings.get("doc_max_length", 400)
        own = [folder for folder in adapters if reference._has_tokenizer(folder)]
        self.tokenizer = AutoTokenizer.from_pretrained(own[-1] if own else base)
        self.family = _json(base, "config.json").get("model_type")
        names = [_json(path, "config.json").get("_name_or_path") for path in [*adapters, base]]
        names += [_json(path, "adapter_config.json").get("base_model_name_or_path") for path in adapters]
        names = [name for name in names if name]
        self.name = next((name for name in names if name in _TEMPLATES), names[0] if names else None)
        self.model = _bidirectional(base, adapters)

    def __call__(self, item: dict):
        whole = self._joined(item.get("instruction") or "", self._cut(item["text"]))
        parts = whole.split(_MARK)
        ids = self.tokenizer("".join(parts), truncation=True, max_length=self.longest)["input_ids"]
        count = self._count(parts[1]) if self.skips else len(ids)
        # transformers takes a mask of four axes as it is.
        visible = torch.zeros(1, 1, len(ids), len(ids))
        states = self.model(input_ids=torch.tensor([ids]), attention_mask=visible, use_cache=False)
        return self._pooled(states.last_hidden_state[0].float(), ids, count), ids

    def _count(self, text: str) -> int:
        cut = {"truncation": True, "max_length": self.longest}
        return len(self.tokenizer(text, add_special_tokens=False, **cut)["input_ids"])

    def _cut(self, text: str) -> str:
        count = self._count(text)
        while count > self.longest_text:
            kept = int(len(text.split()) * (self.longest_text / count))
            text = " ".join(text.split()[:kept])
            count = self._count(text)
        return text

    def _joined(self, instruction: str, text: str) -> str:
        whole = f"{instruction.strip()} {_MARK}{text}" if instruction else f"{_MARK}{text}"
        if self.name in _TEMPLATES:
            whole = _TEMPLATES[self.name].replace("{}", whole.strip())
        if self.mode == "eos_token" and self.name != _LLAMA_3:
            base = self.name == "meta-llama/Meta-Llama-3-8B"
            end = "<|end_of_text|>" if base else _ENDS.get(self.family)
            whole = whole.strip() + end if end else whole
        return whole

    def _pooled(self, states: torch.Tensor, ids: list[int], count: int) -> torch.Tensor:
        if self.mode == "mean":
            return states[-count:].mean(0)
        if self.mode == "weighted_mean":
            weights = torch.arange(1, count + 1, dtype=torch.float32)
            return (states[-count:] * (weights / weights.sum())[:, None]).sum(0)
        if self.mode in ("eos_token", "last_token"):
            return states[-1]
        if self.mode == "bos_token":
            places = [place for place, token in enumerate(ids) if token == self.tokenizer.bos_token_id]
            if len(places) != 1:
                raise Known("bad_request", f"the token that begins texts occurs {len(places)} times in one")
            return states[places[0]]
        raise Known("bad_adapter", f"pooling_mode `{self.mode}` is not one of LLM2Vec's")


def _bidirectional(base: str, adapters: list[str]):
    """transformers' own model with the adapters of LLM2Vec, the last one unmerged."""
    from transformers import AutoModel, AutoModelForCausalLM

    model = reference._from_pretrained(AutoModel, base)
    if all(reference._is_placed(reference._adapter_shapes(path), model) for path in adapters):
        model = reference._adapted(model, adapters).eval()
    else:
        # Adapters trained on the model with its head name their modules below it.
        whole = reference._adapted(reference._from_pretrained(AutoModelForCausalLM, base), adapters).eval()
        whole = whole.get_base_model() if hasattr(whole, "get_base_model") else whole
        model = getattr(whole, whole.base_model_prefix)
    for name, buffer in model.named_buffers():
        # GPT-Neo keeps its causal masks in buffers of this name; ones let every token see every token.
        if name.endswith(("attn.bias", "attention.bias")):
            buffer.fill_(True)
    return model


def _json(folder: str, name: str) -> dict:
    """A JSON file's content, nothing where there is no such file."""
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise Known("bad_checkpoint", f"file {path} cannot be read: {error}") from None
