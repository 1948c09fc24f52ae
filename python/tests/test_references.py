"""The references agree with plain transformers and peft, called in another way."""

import subprocess
import sys
from pathlib import Path

import cases
import pytest
import tiny
import torch
from written import ask, refuse
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("references")


def test_nothing_of_the_conversion_is_loaded():
    """The reference would misread a checkpoint as the conversion does if the two shared code."""
    code = "import sys, coremill.embedding_reference; print(*(m for m in sys.modules if m.startswith('coremill')))"
    package = Path(__file__).resolve().parents[1]
    loaded = subprocess.run([sys.executable, "-c", code], cwd=package, capture_output=True, text=True, check=True)
    assert set(loaded.stdout.split()) == {"coremill", "coremill.reference", "coremill.embedding_reference", "coremill.errors"}


WINDOWS = [[3, 5, 8, 13, 21, 34], [1, 2, 3, 4, 5, 6]]


def plain(folder, family, adapters=()):
    from peft import PeftModel

    model = AutoModelForCausalLM.from_pretrained(tiny.checkpoint(folder, family)).eval()
    for path in adapters:
        model = PeftModel.from_pretrained(model, path)
    return model


@pytest.mark.parametrize("adapted", [False, True])
def test_logits(folder, tmp_path, adapted):
    adapters = [tiny.adapter(folder, "qwen2", 1)] if adapted else []
    with torch.no_grad():
        expected = plain(folder, "qwen2", adapters)(input_ids=torch.tensor(WINDOWS)).logits
    out = str(tmp_path / "logits.safetensors")
    request = {"model": tiny.checkpoint(folder, "qwen2"), "adapters": adapters, "windows": WINDOWS, "out": out}
    ask("reference_logits", **request)
    torch.testing.assert_close(load_file(out)["logits"], expected, atol=1e-5, rtol=1e-5)

    ask("reference_logits", top_k=7, **request)
    found = load_file(out)
    logprobs = expected.log_softmax(-1)
    following = torch.tensor(WINDOWS)[:, 1:, None]
    torch.testing.assert_close(found["logprob_next"], logprobs[:, :-1].gather(-1, following)[..., 0])
    assert found["topk_ids"].shape == (2, 6, 7)
    torch.testing.assert_close(found["topk_logprobs"], logprobs.gather(-1, found["topk_ids"].long()))
    whole = found["topk_logprobs"].exp().sum(-1) + found["tail_logmass"].exp()
    torch.testing.assert_close(whole, torch.ones(2, 6))


def test_windows_of_one_length(folder, tmp_path):
    fields = {"windows": [[1], [1, 2]], "out": str(tmp_path / "x")}
    assert refuse("reference_logits", model=tiny.checkpoint(folder, "qwen2"), **fields)["kind"] == "bad_request"


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neo"])
def test_noise(folder, family):
    found = ask("reference_noise", model=tiny.checkpoint(folder, family), windows=WINDOWS)
    model = plain(folder, family)
    with torch.no_grad():
        clean = model(input_ids=torch.tensor(WINDOWS)).logits
    for table in ("divergence", "nll_change", "same_top"):
        assert [len(row) for row in found[table]] == [5, 5]
    divergence = torch.tensor(found["divergence"])
    assert (divergence > 0).all(), "there is noise at every position"
    # Noise of 2^-11 in the hidden states moves logits of this size by about as much of themselves.
    assert divergence.max() < (clean.abs().max() * 2.0**-8) ** 2
    change = torch.tensor(found["nll_change"])
    assert change.abs().max() < clean.abs().max() * 2.0**-8
    again = ask("reference_noise", model=tiny.checkpoint(folder, family), windows=WINDOWS)
    assert again == found, "noise by the same seed"


@pytest.mark.parametrize("family", ["llama", "gpt_neo"])
def test_generate(folder, family):
    path, prompts = tiny.checkpoint(folder, family), [[1, 2, 3], [7]]
    model = plain(folder, family)
    outputs = ask("reference_generate", model=path, prompts=prompts, max_new_tokens=9)["outputs"]
    for prompt, output in zip(prompts, outputs):
        with torch.no_grad():
            expected = model.generate(
                torch.tensor([prompt]), max_new_tokens=9, do_sample=False, eos_token_id=None, pad_token_id=0
            )
        assert output["ids"] == expected[0, len(prompt) :].tolist()
        assert len(output["margins"]) == 9 and min(output["margins"]) >= 0
        assert not output["stopped"]

    end = outputs[0]["ids"][4]
    (stopped,) = ask("reference_generate", model=path, prompts=prompts[:1], max_new_tokens=9, eos=[end])["outputs"]
    first = outputs[0]["ids"].index(end)
    assert stopped["ids"] == outputs[0]["ids"][: first + 1]
    assert stopped["stopped"] and len(stopped["margins"]) == first + 1


@pytest.mark.parametrize(
    ("family", "options"),
    [("llama", {}), ("llama", {"use_rslora": True}), ("llama", {"use_dora": True}), ("gpt2", {}), ("qwen3", {})],
)
def test_merge(folder, tmp_path, family, options):
    adapter, path = tiny.adapter(folder, family, 4, **options), tiny.checkpoint(folder, family)
    out = str(tmp_path / "merged.safetensors")
    ask("merge_reference", model=path, adapters=[adapter], out=out)
    found, base = load_file(out), load_file(f"{path}/model.safetensors")
    assert found.keys() == base.keys()
    changed = {name for name in base if not torch.equal(found[name], base[name])}
    targets = ("c_attn.weight", "c_proj.weight") if family == "gpt2" else ("q_proj.weight", "v_proj.weight")
    assert changed == {name for name in base if name.endswith(targets)}

    model = AutoModelForCausalLM.from_pretrained(path).eval()
    model.load_state_dict(found, strict=False)
    window = torch.tensor(WINDOWS[:1])
    with torch.no_grad():
        expected = plain(folder, family, [adapter])(input_ids=window).logits
        torch.testing.assert_close(model(input_ids=window).logits, expected, atol=1e-4, rtol=1e-4)


def test_tokens_are_compared(tmp_path):
    """`AutoTokenizer` decides; the tokenizer of an adapter's folder goes before the checkpoint's."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    cases.bpe(base, bos=True)
    cases.bpe(adapter, extra=("<|user|>",))
    text = "the king <|user|> of judah"
    theirs = AutoTokenizer.from_pretrained(base).encode(text)
    plain = AutoTokenizer.from_pretrained(base).encode(text, add_special_tokens=False)
    mine = AutoTokenizer.from_pretrained(adapter).encode(text)

    def found(ids, form="special", adapters=()):
        texts = [{"text": text, "ids": ids, "form": form}]
        return ask("reference_tokens", model=str(base), adapters=list(map(str, adapters)), texts=texts)["mismatch"]

    assert found(theirs) is None and found(plain, form="plain") is None
    assert found(mine, adapters=[tmp_path, adapter]) is None
    assert found(theirs[:-1]) == {"text": 0, "at": len(theirs) - 1, "expected": theirs[-3:]}
    assert found(theirs, adapters=[adapter])["text"] == 0

    cases.edit(adapter, "tokenizer_config.json", chat_template="<|user|>{{ messages[0].content }}</s>")
    Path(adapter, "chat_template.jinja").unlink(missing_ok=True)
    chat = AutoTokenizer.from_pretrained(adapter).encode(f"<|user|>{text}</s>", add_special_tokens=False)
    assert found(chat, form="chat", adapters=[adapter]) is None
    assert found(mine, form="chat", adapters=[adapter])["at"] == 0
