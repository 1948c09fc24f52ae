"""The tokenizer of a checkpoint as a finished tokenizer.json, with what is outside that file as plain values."""

import json
import os

import transformers
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from . import generations, reading
from .checkpoint import read_json
from .errors import Known
from .odd_texts import odd_texts

# Files that hold a vocabulary; a folder with one of them has a tokenizer of its own.
VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "tekken.json",
    "tiktoken.model",
    "vocab.json",
    "vocab.txt",
)

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

# Texts of the self-check.
CHECKED = 400


def tokenizer(fields: dict) -> dict:
    """Writes the tokenizer of `model`, or of the last of `adapters` that has one, to `out`/tokenizer.json.

    The file gives the ids of `AutoTokenizer` without any other file; a tokenizer that one file cannot hold is refused.
    Returned is what is outside it: special tokens and their ids, lengths, chat templates. Without `out` nothing is
    written and everything is checked.
    """
    model, adapters = fields["model"], list(fields.get("adapters") or [])
    adapter = next((index for index in reversed(range(len(adapters))) if has_tokenizer(adapters[index])), None)
    source = model if adapter is None else adapters[adapter]
    auto, warnings = load(source)
    backend = auto.backend_tokenizer
    finished = _finished(backend)
    check(auto, finished, source)
    if fields.get("out"):
        os.makedirs(fields["out"], exist_ok=True)
        with open(os.path.join(fields["out"], "tokenizer.json"), "w", encoding="utf-8") as file:
            file.write(finished)
    vocabulary = backend.get_vocab(with_added_tokens=True)
    last = max(vocabulary, key=vocabulary.get, default="")
    templates = _templates(auto)
    for folder in adapters:
        # A folder may bring a template without a tokenizer.
        templates.update(_template_files(folder))
    return {
        "format": 1,
        "adapter": adapter,
        "class": type(auto).__name__,
        "transformers": transformers.__version__,
        "vocabulary": len(vocabulary),
        "largest_id": vocabulary.get(last, 0),
        "largest_token": last,
        "special_tokens": {
            role: {"text": str(getattr(auto, role)), "id": backend.token_to_id(str(getattr(auto, role)))}
            for role in ROLES
            if getattr(auto, role, None) is not None
        },
        "template_tokens": {name: str(text) for name, text in auto.special_tokens_map.items()},
        "model_max_length": auto.model_max_length if auto.model_max_length < 10**9 else None,
        "truncation_side": auto.truncation_side,
        "padding_side": auto.padding_side,
        "clean_up_tokenization_spaces": _cleans_up(auto),
        "split_special_tokens": bool(auto.split_special_tokens),
        "chat_templates": dict(sorted(templates.items())),
        "warnings": warnings,
    }


def has_tokenizer(folder: str) -> bool:
    """Whether a folder holds a vocabulary."""
    return any(os.path.exists(os.path.join(folder, name)) for name in VOCABULARIES)


def load(folder: str):
    """The tokenizer of a folder as transformers loads it, and warnings where its two generations differ."""
    if not has_tokenizer(folder):
        raise Known("bad_checkpoint", f"no tokenizer in {folder}", f"looked for {', '.join(VOCABULARIES)}")
    _refuse_code(folder)
    try:
        auto = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **reading.loading_arguments(folder)
        )
    except ImportError as error:
        raise Known("bad_checkpoint", f"tokenizer of {folder} needs a library: {_line(error)}") from None
    except Exception as error:  # noqa: BLE001 - transformers and tokenizers raise whatever a file makes them raise
        raise Known(
            "bad_checkpoint",
            f"tokenizer of {folder} cannot be loaded: {_line(error)}",
            "check that all files of the tokenizer are there: `AutoTokenizer.from_pretrained(DIR)`",
        ) from None
    if not isinstance(getattr(auto, "_tokenizer", None), Tokenizer):
        raise Known(
            "bad_checkpoint",
            f"{type(auto).__name__} in {folder} splits text in Python code, which a package cannot hold",
            "supported are tokenizers that `tokenizers` runs: `AutoTokenizer.from_pretrained(DIR).is_fast`",
        )
    check(auto, _finished(auto.backend_tokenizer), folder)
    return generations.as_saved(auto, folder)


def check(auto, finished: str, folder: str) -> None:
    """Fails with the text where the written file gives other ids, or another decoded text, than `auto`."""
    loaded = Tokenizer.from_str(finished)
    loaded.encode_special_tokens = bool(auto.split_special_tokens)
    for text in odd_texts(CHECKED, specials(auto)):
        expected = auto(text)["input_ids"]
        found = loaded.encode(text).ids
        if expected != found:
            _differ(auto, folder, f"splits {text!r} into {expected}, its tokenizer.json into {found}")
        plain = auto(text, add_special_tokens=False)["input_ids"]
        if plain != loaded.encode(text, add_special_tokens=False).ids:
            _differ(auto, folder, f"splits {text!r} without special tokens into {plain}")
        text = auto.decode(expected, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if text != loaded.decode(expected, skip_special_tokens=True):
            _differ(auto, folder, f"makes {text!r} of {expected}")


def specials(auto) -> list[str]:
    """Some of the added tokens, for odd texts."""
    added = [token.content for token in auto.backend_tokenizer.get_added_tokens_decoder().values()]
    return added[:4] + added[-4:] if len(added) > 8 else added


def _differ(auto, folder: str, what: str) -> None:
    raise Known(
        "bad_checkpoint",
        f"{type(auto).__name__} in {folder} {what}: it works outside of tokenizer.json",
        "supported are tokenizers whose Python class adds nothing to tokenizer.json",
    )


def _finished(backend: Tokenizer) -> str:
    """tokenizer.json without the truncation and padding that a caller sets anew for each call."""
    content = json.loads(backend.to_str())
    content["truncation"] = content["padding"] = None
    return json.dumps(content, ensure_ascii=False)


def _cleans_up(auto) -> bool:
    """Whether decoded text loses its spaces before punctuation; never for BPE unless the tokenizer's override setting asks for it."""
    if type(auto.backend_tokenizer.model).__name__ == "BPE":
        forced = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"
        return bool(auto.clean_up_tokenization_spaces and getattr(auto, forced, False))
    return bool(auto.clean_up_tokenization_spaces)


def _templates(auto) -> dict[str, str]:
    found = auto.chat_template
    if found is None:
        return {}
    return dict(found) if isinstance(found, dict) else {"default": found}


def _template_files(folder: str) -> dict[str, str]:
    """Chat templates that lie in a folder as files of their own."""
    found = {}
    file = os.path.join(folder, "chat_template.jinja")
    if os.path.isfile(file):
        with open(file, encoding="utf-8") as text:
            found["default"] = text.read()
    more = os.path.join(folder, "additional_chat_templates")
    if os.path.isdir(more):
        for name in sorted(os.listdir(more)):
            if name.endswith(".jinja"):
                with open(os.path.join(more, name), encoding="utf-8") as text:
                    found[name.removesuffix(".jinja")] = text.read()
    return found


def _refuse_code(folder: str) -> None:
    """Custom tokenizer code is never run."""
    for name in ("tokenizer_config.json", "config.json"):
        path = os.path.join(folder, name)
        settings = read_json(path, "bad_checkpoint") if os.path.exists(path) else {}
        mapped = settings.get("auto_map")
        code = mapped if isinstance(mapped, list) else (mapped or {}).get("AutoTokenizer")
        if code:
            where = next((part for part in code if part), code) if isinstance(code, list) else code
            raise Known(
                "bad_checkpoint",
                f"tokenizer of {folder} is custom code: `auto_map` in {name} names `{where}`",
                "custom code is not run; save a tokenizer.json with a class of transformers and remove `auto_map`",
            )
        if settings.get("tokenizer_class"):
            # config.json is only asked for a class where tokenizer_config.json names none.
            return


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


