"""References in f32: transformers and peft as they are, with nothing of the conversion path.

Models are loaded by transformers' own classes with its own attention and cache; adapters stay unmerged.
`test_references.py` checks that this module loads without the conversion's modules.
"""

import contextlib
import inspect
import json
import os
import struct

import torch
from safetensors.torch import load_file, save_file

from .errors import Known


def reference_logits(fields: dict) -> dict:
    """Logits of windows of token ids, all of one length T, written to `out`.

    Without `top_k`: `logits` [W, T, V]. With it: `logprob_next` [W, T-1], the log-probability of each next token;
    `topk_ids` and `topk_logprobs` [W, T, K]; `tail_logmass` [W, T], the log of what the others have together.
    """
    windows, top = fields["windows"], fields.get("top_k")
    lengths = sorted({len(window) for window in windows})
    if len(lengths) != 1:
        raise Known("bad_request", f"windows of {len(lengths)} different lengths")
    model = _load(fields)
    count, length = len(windows), lengths[0]
    if top is None:
        vocab = model.config.vocab_size
        _stream(fields["out"], "logits", (count, length, vocab), (_forward(model, window) for window in windows))
        return {"windows": count, "length": length, "vocab": vocab}
    parts = [_summary(_forward(model, window), window, top) for window in windows]
    save_file({name: torch.stack([part[name] for part in parts]) for name in parts[0]}, fields["out"])
    return {"windows": count, "length": length, "top_k": top}


def reference_noise(fields: dict) -> dict:
    """What noise of the size of fp16 rounding does to the logits of windows, all of one length T.

    Every layer's output x becomes x (1 + u), u uniform within half a unit of fp16's last place, 2^-11. Given per window and
    position but the last: `divergence` KL(clean || noisy) in nats over the whole vocabulary, `nll_change` of the token that
    follows, `same_top`.
    """
    model = _load(fields)
    tables = {"divergence": [], "nll_change": [], "same_top": []}
    for index, window in enumerate(fields["windows"]):
        clean = _forward(model, window)[:-1].double().log_softmax(-1)
        with _noise(model, index):
            noisy = _forward(model, window)[:-1].double().log_softmax(-1)
        following = torch.tensor(window[1:])[:, None]
        change = clean.gather(-1, following) - noisy.gather(-1, following)
        tables["divergence"].append((clean.exp() * (clean - noisy)).nan_to_num(0.0).sum(-1).tolist())
        tables["nll_change"].append(change[:, 0].tolist())
        tables["same_top"].append((clean.argmax(-1) == noisy.argmax(-1)).tolist())
    how = "the reference with each layer's output changed by up to 2^-11 of itself, as fp16 rounds"
    return {"how": how, **tables}


def reference_generate(fields: dict) -> dict:
    """Greedy continuations: per prompt `ids`, `margins` (first logit less second, one per step), `likeliest` (five tokens with
    their logits, for each step) and `stopped`.

    A token of `eos` ends a prompt's continuation and is the last of its ids; `stopped` says whether one came.
    """
    model, eos = _load(fields), set(fields.get("eos") or [])
    return {"outputs": [_greedy(model, prompt, fields["max_new_tokens"], eos) for prompt in fields["prompts"]]}


def reference_tokens(fields: dict) -> dict:
    """The first of `texts` to which `AutoTokenizer` gives other ids than ours: `mismatch` with `text`, `at`, `expected`.

    Each text has `text`, our `ids` and its `form`: `plain`, `special` (with the tokens around a text) or `chat` (a user's
    message in the chat template). The tokenizer is that of the last folder of `adapters` that
    has one, else the checkpoint's, as the generation of transformers that saved it reads it. `mismatch` is null where all
    agree.
    """
    from transformers import AutoTokenizer

    folders = [folder for folder in (fields["model"], *(fields.get("adapters") or [])) if _has_tokenizer(folder)]
    if not folders:
        return {"mismatch": None}
    from .reading import loading_arguments

    tokenizer = AutoTokenizer.from_pretrained(folders[-1], **loading_arguments(folders[-1]))
    found = _token_mismatch(tokenizer, fields["texts"])
    if found is not None:
        # A folder that transformers 4 saved is read as 4 reads it; where 5 does not, that reading decides.
        from .tokenizer import load

        found = _token_mismatch(load(folders[-1])[0], fields["texts"])
    return {"mismatch": found}


def _token_mismatch(tokenizer, texts) -> dict | None:
    for place, entry in enumerate(texts):
        ids, ours = _ids(tokenizer, entry["text"], entry["form"]), entry["ids"]
        if ids != ours:
            pairs = enumerate(zip(ids, ours))
            at = next((at for at, (one, other) in pairs if one != other), min(len(ids), len(ours)))
            return {"text": place, "at": at, "expected": ids[max(0, at - 2) : at + 6]}
    return None


def _ids(tokenizer, text: str, form: str) -> list[int]:
    if form != "chat":
        return tokenizer.encode(text, add_special_tokens=form == "special")
    messages = [{"role": "user", "content": text}]
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer.encode(rendered, add_special_tokens=False)


def _has_tokenizer(folder: str) -> bool:
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
    return any(os.path.exists(os.path.join(folder, name)) for name in names)


def merge_reference(fields: dict) -> dict:
    """The checkpoint with `adapters` merged by peft in f32, written to `out` under the checkpoint's names."""
    from .adapters import merge
    from .checkpoint import Checkpoint

    checkpoint = Checkpoint(fields["model"])
    model = merge(checkpoint.real_model("eager"), fields["adapters"])
    parameters = dict(checkpoint.real_model("eager").named_parameters())
    names = checkpoint.resolve(parameters.items())
    merged = {names.get(name, name): parameter.detach() for name, parameter in model.named_parameters()}
    tensors = {name: parameter.contiguous() for name, parameter in merged.items()}
    save_file(tensors, fields["out"])
    return {"tensors": len(tensors)}


def _load(fields: dict):
    from transformers import AutoModelForCausalLM

    model = _from_pretrained(AutoModelForCausalLM, fields["model"])
    return _adapted(model, fields.get("adapters") or []).eval()


def _from_pretrained(kind, folder: str):
    """A model in f32 with every weight from the checkpoint; transformers would make up the missing ones."""
    from .reading import loading_arguments

    try:
        model, info = kind.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
            **loading_arguments(folder),
        )
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise Known("bad_checkpoint", f"transformers cannot load {folder}: {error}") from None
    absent = sorted(info["missing_keys"]) or sorted(str(entry) for entry in info.get("mismatched_keys") or [])
    if absent:
        raise Known("bad_checkpoint", f"transformers finds {len(absent)} weights missing in {folder}: {absent[0]}")
    return model


def _adapted(model, paths: list[str]):
    """`model` with adapters: the last one unmerged, those before it merged by peft, as peft applies them in turn."""
    from peft import PeftModel

    for place, path in enumerate(paths, 1):
        tensors = _adapter_shapes(path)
        inner = _is_inner(tensors, model)
        base = getattr(model, model.base_model_prefix) if inner else model
        _resize(base, tensors)
        adapted = PeftModel.from_pretrained(base, path)
        if place < len(paths):
            _separate(adapted)
            adapted = adapted.merge_and_unload()
        if inner:
            setattr(model, model.base_model_prefix, adapted)
        elif place < len(paths):
            model = adapted
        else:
            return adapted
    return model


def _separate(model) -> None:
    """Gives every module parameters of its own, so that a merge into one of two tied modules leaves the other."""
    seen = set()
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in seen:
                setattr(module, name, torch.nn.Parameter(parameter.detach().clone(), requires_grad=False))
            seen.add(id(parameter))
    model.config.tie_word_embeddings = False


def _adapter_shapes(path: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an adapter's tensors, without peft's prefix."""
    weights = os.path.join(path, "adapter_model.safetensors")
    if os.path.exists(weights):
        tensors = load_file(weights)
    else:
        tensors = torch.load(os.path.join(path, "adapter_model.bin"), map_location="cpu", weights_only=True)
    return {name.removeprefix("base_model.model."): tuple(tensor.shape) for name, tensor in tensors.items()}


def _is_placed(tensors, model) -> bool:
    """Whether an adapter names its modules as `model` does."""
    first = next((name for name in tensors if ".lora_" in name), next(iter(tensors)))
    module = first.partition(".lora_")[0].replace(".base_layer", "")
    return module in {name for name, _ in model.named_modules()}


def _is_inner(tensors, model) -> bool:
    """Whether an adapter was trained on the model without its head: then its names lack the prefix."""
    inner = getattr(model, model.base_model_prefix, None)
    return not _is_placed(tensors, model) and inner is not None and _is_placed(tensors, inner)


def _resize(model, tensors) -> None:
    """Gives `model` the vocabulary of an adapter that brings embeddings of another size."""
    embedding = next(name for name, part in model.named_modules() if part is model.get_input_embeddings())
    for name, shape in tensors.items():
        saved = name.replace(".modules_to_save.", ".").replace(".base_layer.", ".")
        if saved == f"{embedding}.weight" and shape[0] != model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(shape[0], mean_resizing=False)


def _forward(model, ids: list[int]) -> torch.Tensor:
    """Logits [T, V] of one window."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


@contextlib.contextmanager
def _noise(model, seed: int):
    """Within it the output of every layer of `model` is changed by up to 2^-11 of itself."""
    generator = torch.Generator().manual_seed(seed)

    def change(_module, _inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output
        hidden.mul_(1 + (2 * torch.rand(hidden.shape, generator=generator) - 1) * 2.0**-11)

    n_layers = model.config.num_hidden_layers
    stacks = [m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == n_layers]
    hooks = [layer.register_forward_hook(change) for stack in stacks for layer in stack]
    if not hooks:
        raise Known("unsupported_architecture", f"no stack of {n_layers} layers in {type(model).__name__}")
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _summary(scores: torch.Tensor, window: list[int], top: int) -> dict[str, torch.Tensor]:
    """What evaluation needs of logits [T, V]."""
    logprobs = scores.log_softmax(-1)
    best, ids = logprobs.topk(top)
    rest = logprobs.scatter(-1, ids, float("-inf"))
    following = torch.tensor(window[1:])[:, None]
    return {
        "logprob_next": logprobs[:-1].gather(-1, following)[:, 0],
        "topk_ids": ids.to(torch.int32),
        "topk_logprobs": best,
        "tail_logmass": rest.logsumexp(-1),
    }


def _stream(path: str, name: str, shape: tuple[int, ...], parts) -> None:
    """Writes one f32 tensor as a safetensors file part by part, so that it need not fit in memory."""
    size = 4
    for length in shape:
        size *= length
    header = json.dumps({name: {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 8)
    unfinished = f"{path}.unfinished"
    with open(unfinished, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for part in parts:
            file.write(part.contiguous().numpy().tobytes())
    os.replace(unfinished, path)


def _cache_name(model) -> str:
    """What `forward` calls its cache: `past_key_values`, or `cache` since transformers 5.21."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "cache" if "cache" in inspect.signature(inner.forward).parameters else "past_key_values"


def _greedy(model, prompt: list[int], limit: int, eos: set[int]) -> dict:
    ids, margins, likeliest, stopped = [], [], [], False
    past, step = None, torch.tensor([prompt])
    name = _cache_name(model)
    with torch.no_grad():
        while len(ids) < limit and not stopped:
            result = model(input_ids=step, use_cache=True, **({} if past is None else {name: past}))
            past = result[name]
            logits = result.logits[0, -1].float()
            best = logits.topk(min(5, len(logits)))
            chosen = int(logits.argmax())
            ids.append(chosen)
            margins.append(float(best.values[0] - best.values[1]))
            likeliest.append(list(zip(best.indices.tolist(), best.values.tolist(), strict=True)))
            stopped = chosen in eos
            step = torch.tensor([[chosen]])
    return {"ids": ids, "margins": margins, "likeliest": likeliest, "stopped": stopped}
