"""The finished tokenizer against `AutoTokenizer`, the runtime's tokens against both, chat templates against transformers."""

import functools
import importlib.util
import json
import os
import shutil
from pathlib import Path

import cases
import pytest
import sentencepiece
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from coremill import entry, tokenizer
from coremill.odd_texts import odd_texts

FIXTURES = Path(__file__).parents[2] / "tests/fixtures"
SPECIALS = ["<s>", "</s>", "<|x|>", "[CLS]", "[MASK]", "<unk>"]


def call(model, out=None, adapters=()) -> dict:
    """The answer of the operation, or its error."""
    request = {"op": "tokenizer", "model": str(model), "adapters": [str(a) for a in adapters], "out": out and str(out)}
    return json.loads(entry.call(json.dumps(request)))


def config(folder, model_type: str) -> None:
    Path(folder, "config.json").write_text(json.dumps({"model_type": model_type, "vocab_size": 500}))


@functools.cache
def sentence_piece(kind: str) -> bytes:
    """A SentencePiece model of the tests' corpus; `bpe` falls back to bytes."""
    import io

    model = io.BytesIO()
    corpus = cases.CORPUS * 20 + ["é à ü 中文 日本 😀 Ünïcode straße", "one two, three: four; 0 1 2 3 4 5 6 7 8 9 x y z q."] * 10
    settings = {"vocab_size": 400, "byte_fallback": True, "normalization_rule_name": "identity", "split_digits": True}
    settings |= {"remove_extra_whitespaces": False}
    chosen = settings if kind == "bpe" else {"vocab_size": 90}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=model, model_type=kind, character_coverage=1.0, minloglevel=2, **chosen
    )
    return model.getvalue()


def byte_level(folder) -> None:
    cases.bpe(folder, ["<|x|>"])
    config(folder, "gpt2")
    cases.edit(folder, "tokenizer_config.json", tokenizer_class="GPT2Tokenizer", add_prefix_space=True)


def byte_fallback(folder) -> None:
    Path(folder, "tokenizer.model").write_bytes(sentence_piece("bpe"))
    config(folder, "llama")
    Path(folder, "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "legacy": False}))


def word_piece(folder) -> None:
    cases.wordpiece(folder, lower=False)
    config(folder, "bert")
    cases.edit(folder, "tokenizer_config.json", do_lower_case=True)


def unigram(folder) -> None:
    Path(folder, "sentencepiece.bpe.model").write_bytes(sentence_piece("unigram"))
    config(folder, "xlm-roberta")
    Path(folder, "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "XLMRobertaTokenizer"}))


KINDS = {make.__name__: make for make in (byte_level, byte_fallback, word_piece, unigram)}


@pytest.mark.parametrize("kind", KINDS)
def test_runtime_gives_the_ids_and_texts_of_transformers(kind, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    KINDS[kind](source)
    answer = call(source, out)["ok"]
    answer.pop("source", None)
    (out / "tokenizer_record.json").write_text(json.dumps(answer))
    auto, _ = tokenizer.load(str(source))
    texts = odd_texts(2000, SPECIALS, seed=20)
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(json.dumps(text) + "\n" for text in texts))
    for plain in (False, True):
        more = ["--no-special-tokens"] if plain else []
        found = cases.coremill("tokenize", out, "--file", lines, "--format", "jsonl", *more).out.split("\n")
        for text, line in zip(texts, found, strict=False):
            got = json.loads(line)
            ids = auto(text, add_special_tokens=not plain)["input_ids"]
            assert got["ids"] == ids, text
            assert got["decoded"] == auto.decode(ids, skip_special_tokens=True), text
            assert got["decoded_with_special"] == auto._tokenizer.decode(ids, skip_special_tokens=False), text
        assert len(found) == len(texts) + 1


def test_a_folder_that_no_conversion_wrote_is_read_as_transformers_reads_it(tmp_path):
    word_piece(tmp_path)
    texts = ["The KING of Judah", "Straße é 日本", "[MASK] and"]
    found = cases.coremill("tokenize", tmp_path, *(f"--text={text}" for text in texts), "--format", "jsonl").out.splitlines()
    auto, _ = tokenizer.load(str(tmp_path))
    assert [json.loads(line)["ids"] for line in found] == auto(texts)["input_ids"]
    # tokenizer.json alone does not lower the case.
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode(texts[0]).ids != auto(texts[0])["input_ids"]


def test_folders_saved_by_4_are_read_as_4_reads_them(tmp_path):
    """Ids that transformers 4.57 gave for folders that 5 reads otherwise; `make.py` beside the fixture made them."""
    goldens = json.loads((FIXTURES / "tokenizers_4/goldens.json").read_text())
    for name, golden in goldens["folders"].items():
        folder = tmp_path / name
        folder.mkdir()
        for file, content in golden["files"].items():
            if content is None:
                Path(folder, file).write_bytes(bytes.fromhex(goldens["binary"][file]))
            else:
                Path(folder, file).write_text(content if isinstance(content, str) else json.dumps(content))
        answer = call(folder, tmp_path / f"{name}.out")["ok"]
        found = Tokenizer.from_file(str(tmp_path / f"{name}.out/tokenizer.json"))
        assert [found.encode(text).ids for text in goldens["texts"]] == golden["ids"], name
        assert bool(answer["warnings"]) == golden["differs"], name


def test_a_folder_saved_by_5_is_read_as_5_reads_it(tmp_path):
    byte_level(tmp_path)
    AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    answer = call(tmp_path, tmp_path / "out")["ok"]
    found, auto = Tokenizer.from_file(str(tmp_path / "out/tokenizer.json")), AutoTokenizer.from_pretrained(tmp_path)
    assert answer["warnings"] == []
    assert all(found.encode(text).ids == auto(text)["input_ids"] for text in odd_texts(200, SPECIALS))


def test_what_cannot_travel_is_refused(tmp_path):
    cases.bpe(tmp_path)
    config(tmp_path, "llama")
    cases.edit(tmp_path, "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.Mine", None]})
    error = call(tmp_path)["error"]
    assert error["kind"] == "bad_checkpoint" and "custom code" in error["message"] and "code.Mine" in error["message"]
    cases.edit(tmp_path, "tokenizer_config.json", auto_map=..., tokenizer_class="CTRLTokenizer")
    assert call(tmp_path)["error"]["kind"] == "bad_checkpoint"
    (tmp_path / "tokenizer.json").write_text("{")
    cases.edit(tmp_path, "tokenizer_config.json", tokenizer_class=...)
    assert "cannot be loaded" in call(tmp_path)["error"]["message"]


def test_an_adapter_brings_its_tokenizer_and_its_template(tmp_path):
    model, one, two = (tmp_path / name for name in ("model", "one", "two"))
    for folder in (model, one, two):
        folder.mkdir()
    cases.bpe(model)
    config(model, "llama")
    cases.bpe(one, ["<|im_end|>"])
    cases.edit(one, "tokenizer_config.json", eos_token="<|im_end|>", chat_template="{{ messages }}")
    (two / "chat_template.jinja").write_text("{{ bos_token }}")
    answer = call(model, adapters=[one, two])["ok"]
    assert answer["adapter"] == 0 and answer["special_tokens"]["eos_token"] == {"text": "<|im_end|>", "id": 2}
    assert answer["chat_templates"] == {"default": "{{ bos_token }}"}
    assert call(model)["ok"]["adapter"] is None


def test_templates_are_read_as_transformers_reads_them(tmp_path):
    cases.bpe(tmp_path)
    config(tmp_path, "llama")
    listed = [{"name": "default", "template": "a"}, {"name": "rag", "template": "b"}]
    cases.edit(tmp_path, "tokenizer_config.json", chat_template=listed)
    assert call(tmp_path)["ok"]["chat_templates"] == {"default": "a", "rag": "b"}
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates/tool_use.jinja").write_text("c")
    (tmp_path / "chat_template.jinja").write_text("d")
    found = AutoTokenizer.from_pretrained(tmp_path).chat_template
    assert call(tmp_path)["ok"]["chat_templates"] == found == {"default": "d", "tool_use": "c"}


def test_goldens_of_chat_templates_are_what_transformers_renders():
    """The runtime's test compares with the same file."""
    path = FIXTURES / "chat_templates/make.py"
    spec = importlib.util.spec_from_file_location("make_chat_goldens", path)
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert json.loads(path.with_name("goldens.json").read_text())["goldens"] == make.goldens()


@pytest.fixture(scope="module")
def chat_package(tmp_path_factory):
    """A package of a model with a chat template and several ends of sequence, and its checkpoint."""
    folder = tmp_path_factory.mktemp("chat")
    cases.decoder(folder / "m", extra=["<|im_start|>", "<|im_end|>"], bos=True, seed=3)
    shutil.copy(FIXTURES / "chat_templates/chatml.jinja", folder / "m/chat_template.jinja")
    cases.edit(folder / "m", "generation_config.json", eos_token_id=[1, 3])
    cases.convert(folder / "m", folder / "p.mlpackage")
    return folder / "m", folder / "p.mlpackage"


def test_a_chat_is_the_prompt_of_the_template(chat_package, tmp_path):
    model, package = chat_package
    auto = AutoTokenizer.from_pretrained(model)
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "the king"}]
    ids = auto.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    got = cases.generate(package, "the king", "--chat", "--system", "be brief")
    assert got["prompt_tokens"] == ids and got["prompt"] == auto.decode(ids)
    file = tmp_path / "messages.json"
    file.write_text(json.dumps(messages))
    arguments = ("--chat", "--prompt-file", file, "--max-tokens", 2, "--format", "json")
    assert cases.coremill("generate", package, *arguments).json()["prompt_tokens"] == ids


def test_a_model_without_a_template_says_so(chat_package, tmp_path):
    _, package = chat_package
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in Path(f"{package}".removesuffix(".mlpackage") + ".tokenizer").iterdir():
        shutil.copy(file, bare)
    cases.edit(bare, "tokenizer_record.json", chat_templates={})
    failed = cases.coremill("generate", package, "--chat", "--prompt", "a", "--tokenizer", bare, code=2)
    assert "the model has no chat template" in failed.err and "hint:" in failed.err
    raises = {"default": "{{ raise_exception('only two roles') }}"}
    cases.edit(bare, "tokenizer_record.json", chat_templates=raises)
    failed = cases.coremill("generate", package, "--chat", "--prompt", "a", "--tokenizer", bare, code=2)
    assert "only two roles" in failed.err
    assert os.path.exists(bare / "tokenizer.json")
