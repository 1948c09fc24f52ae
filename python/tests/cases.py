"""Inputs as people publish them, tiny and random, with what other libraries make of them, and the real binary."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, BertModel

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "a silk fabric from the east",
    "the king of judah spoke to the people",
    "numbers like 12 and 345 are tokens too",
    "rivers run to the sea and the sea is not full",
    "Hello World, What Is This?",
]


def edit(folder, file: str, **changes) -> None:
    """Sets keys of a JSON file; the value `...` removes a key."""
    path = Path(folder) / file
    data = json.loads(path.read_text()) if path.exists() else {}
    for key, value in changes.items():
        if value is ...:
            data.pop(key, None)
        else:
            data[key] = value
    path.write_text(json.dumps(data, indent=1))


def bpe(folder, extra=(), vocab: int = 300, bos: bool = False):
    """Saves a byte-level BPE tokenizer with `<s>` (0) and `</s>` (1); `bos` puts `<s>` before every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=["<s>", "</s>", *extra],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)
    return fast


def wordpiece(folder, lower: bool = True, max_len: int = 512):
    """Saves a BERT tokenizer of the corpus's words and of letters."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    text = " ".join(CORPUS)
    words += sorted({w for t in (text, text.lower()) for w in t.replace(",", " , ").replace("?", " ? ").split()})
    letters = [chr(c) for c in (*range(97, 123), *range(65, 91), *range(48, 58))]
    words = list(dict.fromkeys([*words, *letters, *(f"##{x}" for x in letters), *".,:!?'-"]))
    vocab = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocab["[SEP]"]), ("[CLS]", vocab["[CLS]"]))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=max_len,
    )
    fast.save_pretrained(folder)
    Path(folder, "vocab.txt").write_text("\n".join(words) + "\n")
    edit(folder, "tokenizer_config.json", tokenizer_class="BertTokenizer", do_lower_case=lower)
    return fast


def randomize(model, seed: int, std: float) -> None:
    """Random parameters that differ from each other and from every default; ties are kept."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                embedding = "embed" in name or "wte" in name or "wpe" in name
                parameter.normal_(0, 1.0 if embedding and model.config.model_type != "bert" else std)
            elif "norm" in name.lower() or "ln_" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.normal_(0, 0.1)
    model.tie_weights()


def decoder(folder, kind: str = "llama", seed: int = 0, std: float = 0.25, vocab=None, extra=(), bos=False, save=True, **config):
    """A random decoder with its tokenizer; returns the model in f32."""
    tokenizer = bpe(folder, extra, bos=bos)
    settings = {"vocab_size": vocab or len(tokenizer), "bos_token_id": 0, "eos_token_id": 1}
    if kind == "gpt2":
        settings |= {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
    elif kind == "gpt_neo":
        settings |= {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 128}
        settings |= {"attention_types": [[["global", "local"], 1]], "window_size": 16, "intermediate_size": 128}
    else:
        settings |= {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        settings |= {"num_key_value_heads": 2, "max_position_embeddings": 256, "tie_word_embeddings": False}
    config = AutoConfig.for_model(kind, **{**settings, **config})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().float()
    randomize(model, seed, std)
    if save:
        model.save_pretrained(folder)
    return model


def bert(folder, seed: int = 0, std: float = 0.2, lower: bool = True, max_len: int = 512, modules=None, **config):
    """A random BERT with a WordPiece tokenizer and, with `modules`, a sentence-transformers module list."""
    tokenizer = wordpiece(folder, lower, max_len)
    settings = {"vocab_size": len(tokenizer), "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    settings |= {"intermediate_size": 96, "max_position_embeddings": 128}
    model = BertModel(BertConfig(**{**settings, **config})).eval()
    randomize(model, seed, std)
    model.save_pretrained(folder)
    if modules is not None:
        write_modules(folder, modules)
    return model, tokenizer


def write_modules(folder, modules) -> None:
    """Writes modules.json and a folder for each (class, configuration or `None`) after the Transformer."""
    rows = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for index, (kind, config) in enumerate(modules, 1):
        name = f"{index}_{kind}"
        Path(folder, name).mkdir()
        rows.append({"idx": index, "name": str(index), "path": name, "type": f"sentence_transformers.models.{kind}"})
        if config is not None:
            Path(folder, name, "config.json").write_text(json.dumps(config))
    Path(folder, "modules.json").write_text(json.dumps(rows))


def greedy(model, ids: list[int], count: int, eos=(1,)) -> list[int]:
    """The next `count` ids by plain repeated forward passes, without a cache."""
    out = []
    with torch.no_grad():
        while len(out) < count and not (out and out[-1] in eos):
            out.append(int(model(input_ids=torch.tensor([ids + out])).logits[0, -1].argmax()))
    return out


@dataclass(frozen=True)
class Outcome:
    """What a run of the binary printed and how it ended."""

    code: int
    out: str
    err: str

    def json(self):
        return json.loads(self.out)

    def lines(self) -> list:
        return [json.loads(line) for line in self.out.splitlines()]


def coremill(*arguments, code: int = 0) -> Outcome:
    """Runs the binary that `COREMILL` names and checks its exit code."""
    run = subprocess.run(
        [os.environ["COREMILL"], *map(str, arguments), "--progress", "none"],
        capture_output=True,
        text=True,
        env={**os.environ, "COREMILL_NO_COLOR": "1"},
    )
    assert run.returncode == code, f"exit {run.returncode}, not {code}\n{run.stdout}\n{run.stderr}"
    return Outcome(run.returncode, run.stdout, run.stderr)


def convert(model, output, *more, code: int = 0) -> Outcome:
    """`convert` with the lengths that the tiny models know."""
    return coremill("convert", "--model", model, "--seq-len", 128, "--output", output, *more, code=code)


def generate(package, prompt: str, *more, count: int = 12) -> dict:
    """What `generate` answers: `text`, `tokens`, `prompt_tokens`, `stop`."""
    return coremill("generate", package, "--prompt", prompt, "--max-tokens", count, "--format", "json", *more).json()


