"""Embeddings are those of sentence-transformers itself and of LLM2Vec's order of work, whatever the checkpoint is set to."""

import itertools
import json
import shutil
from pathlib import Path

import cases
import numpy as np
import pytest
import torch
from written import ask, refuse
from safetensors.torch import save_file
from transformers import AutoTokenizer

from coremill import build, causal_encoder, decoder, encoder, facts
from coremill.checkpoint import Checkpoint

SEQ_LEN = 96
TEXTS = ["the king of judah", "A Silk Fabric from the EAST", "rivers run to the sea and the sea is not full " * 2]
PROMPT = "the people spoke : "


def pooling(*modes, width=48, **more):
    return ("Pooling", {"embedding_dimension": width, "pooling_mode": list(modes), **more})


def flags(*names, width=48):
    return ("Pooling", {"word_embedding_dimension": width, **{f"pooling_mode_{name}": True for name in names}})


def dense(columns, rows, **more):
    return ("Dense", {"in_features": columns, "out_features": rows, **more})


ALL = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
GELU = "torch.nn.modules.activation.GELU"
ON_TOKENS = {"module_input_name": "token_embeddings"}

# Modules after the Transformer, the prompt, and settings of the whole model.
CHAINS = [
    ([pooling(*ALL)], None, {}),
    ([pooling(*reversed(ALL), include_prompt=False)], PROMPT, {}),
    ([pooling("mean", include_prompt=False)], None, {}),
    ([("Pooling", {"word_embedding_dimension": 48})], PROMPT, {}),
    (
        [
            flags("lasttoken", "mean_tokens", "max_tokens"),
            dense(144, 20, bias=False, activation_function=GELU),
            ("LayerNorm", {"dimension": 20}),
            ("Dropout", {"dropout": 0.5}),
            ("Normalize", None),
        ],
        None,
        {},
    ),
    ([pooling("cls"), dense(48, 48, use_residual=True), dense(48, 12, use_residual=True)], None, {"truncate_dim": 7}),
    ([dense(48, 30, **ON_TOKENS), ("Normalize", ON_TOKENS), pooling("mean", width=30)], None, {}),
]


def write_weights(folder, modules) -> None:
    """Random tensors for the modules that have some; a Dense with an even number of outputs gets a pickle."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(shape, generator=generator) * 0.2

    for place, (kind, config) in enumerate(modules, 1):
        where = Path(folder, f"{place}_{kind}")
        if kind == "Dense":
            rows, columns = config["out_features"], config["in_features"]
            tensors = {"linear.weight": random(rows, columns)}
            if config.get("bias", True):
                tensors["linear.bias"] = random(rows)
            if config.get("use_residual") and rows != columns:
                tensors["residual.weight"] = random(rows, columns)
            if rows == 20:
                torch.save(tensors, where / "pytorch_model.bin")
            else:
                save_file(tensors, where / "model.safetensors")
        elif kind == "LayerNorm":
            width = config["dimension"]
            save_file({"norm.weight": 1 + random(width), "norm.bias": random(width)}, where / "model.safetensors")


def sentence_transformer(folder):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})


def check_graph(folder, prompt=None) -> None:
    """The wrapper, run in torch with real weights, gives what `SentenceTransformer.encode` gives."""
    checkpoint = Checkpoint(str(folder))
    model, library = build.real(checkpoint, SEQ_LEN), sentence_transformer(folder)
    if checkpoint.is_decoder:
        ours = causal_encoder.CausalEncoder(model, facts.gather(checkpoint, model.windows), SEQ_LEN, None).eval()
    else:
        ours = encoder.Encoder(model, None).eval()
    skipped = library[0]._get_prompt_length(prompt) if prompt else 0
    for text, wanted in zip(TEXTS, library.encode(TEXTS, prompt=prompt or ""), strict=True):
        ids = library.preprocess([(prompt or "") + text])["input_ids"][0].tolist()
        padded = torch.tensor([ids + [3] * (SEQ_LEN - len(ids))], dtype=torch.int32)
        seen = torch.tensor([[1] * len(ids) + [0] * (SEQ_LEN - len(ids))], dtype=torch.int32)
        pooled = seen.clone()
        pooled[0, :skipped] = 0
        with torch.no_grad():
            found = ours(padded, seen, *([pooled] if ours.chain.takes_pool_mask else []))[0].numpy()
        assert found.shape == wanted.shape == (ours.width,)
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize(("modules", "prompt", "settings"), CHAINS, ids=range(len(CHAINS)))
def test_modules_of_every_kind(tmp_path, modules, prompt, settings):
    cases.bert(tmp_path, modules=modules)
    write_weights(tmp_path, modules)
    cases.edit(tmp_path, "config_sentence_transformers.json", **settings)
    check_graph(tmp_path, prompt)


@pytest.mark.parametrize("kind", ["qwen3", "gpt_neo", "mistral"])
def test_decoders_with_modules(tmp_path, kind):
    more = {"head_dim": 16} if kind == "qwen3" else {"sliding_window": 9} if kind == "mistral" else {}
    cases.decoder(tmp_path, kind, **more)
    cases.edit(tmp_path, "tokenizer_config.json", pad_token="</s>")
    cases.write_modules(tmp_path, [pooling("lasttoken", "weightedmean", width=64), ("Normalize", None)])
    check_graph(tmp_path)


def saved_by_the_library(folder):
    """A checkpoint as the current sentence-transformers writes it, with the class paths of that generation."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    raw = folder / "raw"
    cases.bert(raw)
    chain = [modules.Transformer(str(raw)), modules.Pooling(48, ("mean", "max")), modules.Dense(96, 8), modules.Normalize()]
    prompts = {"query": "find the king : ", "passage": ""}
    model = SentenceTransformer(modules=chain, device="cpu", prompts=prompts, default_prompt_name="query")
    model.max_seq_length = 24
    model.save_pretrained(str(folder / "m"))
    return folder / "m"


def test_checkpoints_of_the_current_generation(tmp_path):
    path = saved_by_the_library(tmp_path)
    assert "sentence_transformer.modules" in (path / "modules.json").read_text()
    check_graph(path)


REFUSED = [
    ("LSTM", {"hidden_dim": 4}, "LSTM"),
    ("Pooling", {"pooling_mode": "median"}, "`median`"),
    ("Pooling", {"temperature": 2}, "`temperature`"),
    ("Dense", {"in_features": 48, "out_features": 4, "activation_function": "mine.Tanh"}, "mine.Tanh"),
    ("Dense", {"in_features": 48, "out_features": 5}, "`linear.bias`"),
    ("Normalize", {"module_input_name": "x"}, "`x`"),
]


@pytest.mark.parametrize(("kind", "config", "named"), REFUSED, ids=[row[2] for row in REFUSED])
def test_what_is_not_supported_is_named(tmp_path, kind, config, named):
    cases.bert(tmp_path, modules=[pooling("mean"), (kind, config)])
    if kind == "Dense":
        tensors = {"linear.weight": torch.zeros(config["out_features"], 48)}
        save_file(tensors, tmp_path / "2_Dense" / "model.safetensors")
    error = refuse("plan", model=str(tmp_path), seq_len=32)
    assert named in error["message"]


def test_a_tensor_of_one_element_is_refused(tmp_path):
    """A placeholder is known by its repeated element, so it needs two."""
    modules = [pooling("mean"), dense(48, 1)]
    cases.bert(tmp_path, modules=modules)
    write_weights(tmp_path, modules)
    error = refuse("plan", model=str(tmp_path), seq_len=32)
    assert "`linear.bias`" in error["message"] and "one element" in error["message"]


def cosines(found, wanted) -> list[float]:
    pairs = ((np.array(a), np.array(b)) for a, b in zip(found, wanted, strict=True))
    return [float(a @ b / np.sqrt((a @ a) * (b @ b))) for a, b in pairs]


def embed(package, folder, lines, *more, code=0):
    file = folder / "in.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return cases.coremill("embed", package, "--file", file, "--format", "jsonl", *more, code=code)


def check_embedded(answer, library, prompts) -> None:
    """Vectors and numbers of tokens of `embed` are those of the library with these prompts."""
    rows = answer.lines()
    wanted = [library.encode(text, prompt=prompt) for text, prompt in zip(TEXTS, prompts, strict=True)]
    assert min(cosines([row["embedding"] for row in rows], wanted)) > 0.9999
    default = library.prompts[library.default_prompt_name]
    pairs = [(text, default if prompt is None else prompt) for text, prompt in zip(TEXTS, prompts, strict=True)]
    counts = [library.preprocess([text], prompt=prompt)["input_ids"].shape[1] for text, prompt in pairs]
    assert [row["tokens"] for row in rows] == counts


def test_prompts_and_lengths_of_the_binary(tmp_path):
    """The default prompt, prompts by name and as text, lengths: one package, compared with the library each time."""
    checkpoint = saved_by_the_library(tmp_path)
    cases.edit(checkpoint, "1_Pooling/config.json", include_prompt=False)
    cases.edit(checkpoint, "sentence_bert_config.json", do_lower_case=True, max_seq_length=24)
    package = tmp_path / "m.mlpackage"
    cases.coremill("convert", "--model", checkpoint, "--seq-len", 20, "--output", package)
    library = sentence_transformer(checkpoint)
    library.max_seq_length = 20
    answer = embed(package, tmp_path, TEXTS)
    check_embedded(answer, library, [None] * 3)
    assert "4 of 24 tokens do not fit" in answer.err
    check_embedded(embed(package, tmp_path, TEXTS, "--prompt-name", "passage"), library, [""] * 3)
    lines = [{"text": TEXTS[0], "prompt_name": "document"}, {"text": TEXTS[1], "instruction": PROMPT}, TEXTS[2]]
    check_embedded(embed(package, tmp_path, lines), library, ["", PROMPT, None])
    unknown = embed(package, tmp_path, TEXTS, "--prompt-name", "title", code=2)
    assert "no prompt is called `title`" in unknown.err
    # The reference takes the same texts; the package is measured against it, tokens compared.
    (tmp_path / "sentences.json").write_text(json.dumps(lines))
    measure = ("--sentences", tmp_path / "sentences.json", "--reference", checkpoint, "--format", "json")
    found = cases.coremill("verify", package, *measure, "--gate", "cosine=0.9999").json()
    assert found["measurements"]["similarity"]["minimum"]["value"] > 0.9999


def test_references_give_what_the_library_gives(tmp_path):
    checkpoint = saved_by_the_library(tmp_path)
    library = sentence_transformer(checkpoint)
    inputs = [{"text": TEXTS[0]}, {"text": TEXTS[1], "instruction": PROMPT}, {"text": TEXTS[2], "prompt_name": "passage"}]
    found = ask("reference_embed", model=str(checkpoint), inputs=inputs, seq_len=96)
    wanted = [library.encode(text, prompt=prompt) for text, prompt in zip(TEXTS, [None, PROMPT, ""], strict=True)]
    np.testing.assert_allclose(found["embeddings"], wanted, atol=1e-5)
    pairs = zip(TEXTS, ["find the king : ", PROMPT, ""], strict=True)
    counts = [library.preprocess([text], prompt=prompt)["input_ids"].shape[1] for text, prompt in pairs]
    assert [len(ids) for ids in found["tokens"]] == counts
    short = ask("reference_embed", model=str(checkpoint), inputs=inputs[:1], seq_len=5)["tokens"]
    assert len(short[0]) == 5


def llm2vec_adapter(base, folder, **settings):
    """A random adapter of the bare model, as LLM2Vec trains it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    model = get_peft_model(
        AutoModel.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
    )
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    Path(folder, "llm2vec_config.json").write_text(json.dumps(settings))


def test_llm2vec_template_and_pooling_of_the_binary(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    cases.decoder(base, "llama", bos=True, extra=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"))
    llm2vec_adapter(base, adapter, pooling_mode="weighted_mean", max_length=48, doc_max_length=24)
    name = "meta-llama/Meta-Llama-3-8B-Instruct"
    cases.edit(adapter, "adapter_config.json", base_model_name_or_path=name)
    package = tmp_path / "m.mlpackage"
    cases.convert(base, package, "--prompt-chunk", 32, "--llm2vec-checkpoint", adapter)
    lines = [TEXTS[0], {"text": TEXTS[1], "instruction": " find the sea "}, TEXTS[2] * 3]
    inputs = [line if isinstance(line, dict) else {"text": line} for line in lines]
    wanted = ask("reference_embed", model=str(base), encode_adapters=[str(adapter)], inputs=inputs, seq_len=128)
    rows = embed(package, tmp_path, lines).lines()
    assert [row["tokens"] for row in rows] == [len(ids) for ids in wanted["tokens"]]
    assert min(cosines([row["embedding"] for row in rows], wanted["embeddings"])) > 0.9995


def test_llm2vec_weights_grow_from_the_text_on(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    cases.decoder(base, "llama", bos=True)
    llm2vec_adapter(base, adapter, pooling_mode="weighted_mean")
    inputs = [{"text": TEXTS[0], "instruction": "find"}, {"text": TEXTS[1]}]
    wanted = ask("reference_embed", model=str(base), encode_adapters=[str(adapter)], inputs=inputs, seq_len=SEQ_LEN)
    checkpoint = Checkpoint(str(base))
    model = build.real(checkpoint, SEQ_LEN, (), [str(adapter)])
    ours = decoder.Encode(model, facts.gather(checkpoint, model.windows), SEQ_LEN, ramp=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    for item, ids, vector in zip(inputs, wanted["tokens"], wanted["embeddings"], strict=True):
        count = len(tokenizer(item["text"], add_special_tokens=False)["input_ids"])
        left = SEQ_LEN - len(ids)
        rows = (ids + [3] * left, [1] * len(ids) + [0] * left, [0] * (len(ids) - count) + [1] * count + [0] * left)
        with torch.no_grad():
            found = ours(*(torch.tensor([row], dtype=torch.int32) for row in rows))[0].numpy()
        assert np.abs(found - vector).max() < 1e-4 * np.abs(vector).max()


def test_llm2vec_poolings_of_the_reference(tmp_path):
    """Each pooling by hand, on transformers' own bidirectional states."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    cases.decoder(base, "llama", bos=True)
    found = {}
    for mode, skips in itertools.product(("mean", "last_token", "bos_token"), (True, False)):
        shutil.rmtree(adapter, ignore_errors=True)
        llm2vec_adapter(base, adapter, pooling_mode=mode, skip_instruction=skips)
        inputs = [{"text": TEXTS[0], "instruction": "find"}]
        answer = ask("reference_embed", model=str(base), encode_adapters=[str(adapter)], inputs=inputs, seq_len=96)
        found[mode, skips] = np.array(answer["embeddings"][0])
    assert np.abs(found["mean", True] - found["mean", False]).max() > 1e-2
    for mode in ("last_token", "bos_token"):
        np.testing.assert_allclose(found[mode, True], found[mode, False], atol=1e-5)
    assert np.abs(found["last_token", True] - found["bos_token", True]).max() > 1e-2
