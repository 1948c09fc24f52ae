"""Tokenizers saved by transformers 4: what its classes make of a folder, where transformers 5 makes something else.

transformers 5 builds many classes anew from vocabulary and merges and drops what else tokenizer.json says, and it starts
SentencePiece tokenizers without their beginning of sequence. A folder that transformers 4 saved means what
transformers 4 does with it: tokenizer.json as it is, with the few settings of tokenizer_config.json that its classes
apply. The rules below are those of 4.57; tests hold ids that 4.57 itself gave.
"""

import json
import os
from types import SimpleNamespace

from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors
from transformers.convert_slow_tokenizer import GemmaConverter, LlamaConverter, XLMRobertaConverter, generate_merges
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from .checkpoint import read_json
from .odd_texts import odd_texts

# Classes of BERT's kind: `do_lower_case`, `strip_accents` and `tokenize_chinese_chars` go into the normalizer.
LOWER_CASE = {
    "BertTokenizer",
    "ConvBertTokenizer",
    "DistilBertTokenizer",
    "ElectraTokenizer",
    "FunnelTokenizer",
    "LayoutLMTokenizer",
    "LxmertTokenizer",
    "MPNetTokenizer",
    "MobileBertTokenizer",
    "SqueezeBertTokenizer",
}

# Classes that put a template in place of the file's, from `add_bos_token` and `add_eos_token`: their defaults.
TEMPLATES = {
    "CodeLlamaTokenizer": (True, False),
    "CohereTokenizer": (True, False),
    "GPTNeoXTokenizer": (False, False),
    "GemmaTokenizer": (True, False),
    "LlamaTokenizer": (True, False),
}

# Settings that name a special token.
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

# The class of a model type where no file names one.
BY_MODEL = {
    "bert": "BertTokenizer",
    "gpt2": "GPT2Tokenizer",
    "gpt_neo": "GPT2Tokenizer",
    "llama": "LlamaTokenizer",
    "mistral": "LlamaTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
}


def as_saved(auto, folder: str):
    """The tokenizer as the transformers that saved it reads the folder, and a warning where version 5 differs."""
    settings = _settings(folder, "tokenizer_config.json")
    if "backend" in settings or settings.get("tokenizer_class") == "TokenizersBackend":
        return auto, []
    name = _class(settings, folder)
    saved = _saved(auto, folder, settings, name)
    if saved is None:
        return auto, []
    differing = next((text for text in odd_texts(400, _specials(saved)) if _ids(auto, text) != _ids(saved, text)), None)
    if differing is None:
        return auto, []
    warning = (
        f"transformers 4 and 5 read this tokenizer differently (`{name}`; {differing!r} is {_ids(saved, differing)[:8]} "
        f"and {_ids(auto, differing)[:8]}); it was saved by 4 and is used as 4 reads it"
    )
    return saved, [warning]


def _saved(auto, folder: str, settings: dict, name: str):
    """The tokenizer by the rules of transformers 4, or `None` where those of 5 are the same or no rule is known."""
    file = os.path.join(folder, "tokenizer.json")
    model = next((path for path in (os.path.join(folder, m) for m in MODELS) if os.path.exists(path)), "")
    from_model = name in ("LlamaTokenizer", "CodeLlamaTokenizer") and settings.get("add_prefix_space") is not None
    if os.path.exists(file) and not (from_model and model):
        if from_model:
            return None
        plain = Tokenizer.from_file(file)
    elif model and name in CONVERTERS:
        plain = CONVERTERS[name](auto, model, settings)
    else:
        return None
    post_processor = plain.post_processor
    kept = {key: value for key, value in settings.items() if key not in ("add_bos_token", "add_eos_token", "auto_map")}
    saved = TokenizersBackend(**_init(auto, folder, kept), tokenizer_object=plain)
    backend = saved._tokenizer
    backend.post_processor = post_processor
    _prefix_space(backend, bool(settings.get("add_prefix_space") or False))
    if name in LOWER_CASE:
        _lower_case(backend, settings)
    if name in TEMPLATES:
        bos, eos = (settings.get(f"add_{end}_token", usual) for end, usual in zip(("bos", "eos"), TEMPLATES[name]))
        _template(backend, saved.bos_token if bos else None, saved.eos_token if eos else None)
    saved.chat_template = auto.chat_template
    return saved


def _init(auto, folder: str, settings: dict) -> dict:
    """The arguments of `auto` that are independent of its class."""
    keys = ("model_max_length", "padding_side", "truncation_side", "clean_up_tokenization_spaces", "split_special_tokens")
    chosen = {key: getattr(auto, key) for key in keys}
    named = {role: token for role, token in auto._special_tokens_map.items() if token is not None}
    if settings.get("added_tokens_decoder"):
        added, extra = dict(auto.added_tokens_decoder), list(auto._extra_special_tokens)
    else:
        roles, extra, added = _legacy_tokens(folder, settings)
        extra += [token for token in auto._extra_special_tokens if str(token) not in map(str, extra)]
        named |= roles
    return {**chosen, **named, "extra_special_tokens": extra, "added_tokens_decoder": added}


def _legacy_tokens(folder: str, settings: dict) -> tuple[dict, list, dict[int, AddedToken]]:
    """Roles, extra special tokens and added tokens of special_tokens_map.json and added_tokens.json.

    transformers 4 reads these files where tokenizer_config.json has no `added_tokens_decoder`.
    """
    mapped = _settings(folder, "special_tokens_map.json")
    roles = {role: _special(mapped[role]) for role in ROLES if mapped.get(role) is not None}
    extra = []
    for token in (settings.get("additional_special_tokens") or []) + (mapped.get("additional_special_tokens") or []):
        if _special(token) not in extra:
            extra.append(_special(token))
    named = [settings[role] for role in ROLES if settings.get(role) is not None]
    special = {str(_special(token)) for token in [*named, *roles.values(), *extra]}
    added = {
        index: AddedToken(token, normalized=token not in special, special=token in special)
        for token, index in _settings(folder, "added_tokens.json").items()
    }
    return roles, extra, added


def _special(token):
    """A token of a settings file, which is a text or a dictionary."""
    if not isinstance(token, dict):
        return token
    kept = {key: value for key, value in token.items() if key != "__type"}
    return AddedToken(**{**kept, "special": True})


def _prefix_space(backend: Tokenizer, wanted: bool) -> None:
    """`add_prefix_space` of the settings, or its default, wins over that of a byte-level pre-tokenizer."""
    if backend.pre_tokenizer is None:
        return
    state = json.loads(backend.pre_tokenizer.__getstate__())
    if state.get("type") == "ByteLevel" and state["add_prefix_space"] != wanted:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(
            add_prefix_space=wanted, trim_offsets=state["trim_offsets"], use_regex=state["use_regex"]
        )


def _lower_case(backend: Tokenizer, settings: dict) -> None:
    """Settings of BERT's kind win over those of a `BertNormalizer`."""
    state = json.loads(backend.normalizer.__getstate__()) if backend.normalizer is not None else {}
    if state.get("type") == "BertNormalizer":
        backend.normalizer = normalizers.BertNormalizer(
            clean_text=state["clean_text"],
            handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
            strip_accents=settings.get("strip_accents"),
            lowercase=settings.get("do_lower_case", True),
        )


def _template(backend: Tokenizer, bos: str | None, eos: str | None) -> None:
    """Puts `bos` before and `eos` behind every text."""
    around = [str(token) for token in (bos, eos) if token is not None]
    before, behind = (f"{bos}:{{0}} " if bos else ""), (f" {eos}:{{0}}" if eos else "")
    one, two = ((before + "${1}:{0}" + behind).format(kind, letter) for kind, letter in ((0, "A"), (1, "B")))
    backend.post_processor = processors.TemplateProcessing(
        single=one, pair=f"{one} {two}", special_tokens=[(token, backend.token_to_id(token)) for token in around]
    )


class _Merges:
    """The merges of a SentencePiece BPE model, ranked by the scores of the pieces they make."""

    def __init__(self, model: str):
        self.processor = _processor(model)

    def extract(self, scores):
        processor = self.processor
        vocabulary = {processor.id_to_piece(index): index for index in range(processor.get_piece_size())}
        # Gemma's first models have the tab only as a byte.
        if "\t" not in vocabulary and "<0x09>" in vocabulary:
            vocabulary["\t"] = vocabulary["<0x09>"]
        return vocabulary, generate_merges(vocabulary, dict(scores))


class _Llama(LlamaConverter):
    SpmExtractor = _Merges


class _Gemma(GemmaConverter):
    SpmExtractor = _Merges


def _llama(auto, model: str, settings: dict) -> Tokenizer:
    """A SentencePiece model as transformers 4 converts Llama's."""
    legacy = settings.get("legacy")
    stub = SimpleNamespace(
        vocab_file=model,
        legacy=True if legacy is None else legacy,
        add_prefix_space=settings.get("add_prefix_space", True),
        convert_ids_to_tokens=_processor(model).id_to_piece,
    )
    return _Llama(stub).converted()


def _gemma(auto, model: str, _: dict) -> Tokenizer:
    """A SentencePiece model as transformers 4 converts Gemma's."""
    tokens = {role: str(auto._special_tokens_map.get(role)) for role in ("pad_token", "eos_token", "bos_token")}
    return _Gemma(SimpleNamespace(vocab_file=model, **tokens)).converted()


def _xlm_roberta(auto, model: str, _: dict) -> Tokenizer:
    """A SentencePiece model as transformers 4 converts XLM-RoBERTa's: pieces shifted by one, `<mask>` last."""
    return XLMRobertaConverter(SimpleNamespace(vocab_file=model, convert_tokens_to_ids={"<s>": 0, "</s>": 2}.get)).converted()


def _processor(model: str):
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_file=model)


CONVERTERS = {
    "LlamaTokenizer": _llama,
    "CodeLlamaTokenizer": _llama,
    "GemmaTokenizer": _gemma,
    "XLMRobertaTokenizer": _xlm_roberta,
}

MODELS = ("tokenizer.model", "sentencepiece.bpe.model", "spiece.model")


def _class(settings: dict, folder: str) -> str:
    config = _settings(folder, "config.json")
    named = settings.get("tokenizer_class") or config.get("tokenizer_class") or BY_MODEL.get(config.get("model_type"))
    return str(named or "PreTrainedTokenizer").removesuffix("Fast")


def _settings(folder: str, name: str) -> dict:
    path = os.path.join(folder, name)
    return read_json(path, "bad_checkpoint") if os.path.exists(path) else {}


def _specials(auto) -> list[str]:
    return [token.content for token in auto.backend_tokenizer.get_added_tokens_decoder().values()][:8]


def _ids(auto, text: str) -> list[int]:
    return auto(text)["input_ids"]
