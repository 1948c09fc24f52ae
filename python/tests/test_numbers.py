"""The traced wrappers, run in torch with real weights, give what transformers gives."""

import embedded
import pytest
import tiny
import torch

from coremill import build, decoder, encoder, facts
from coremill.checkpoint import Checkpoint

SEQ_LEN, CHUNK = 32, 8
TOLERANCE = 1e-4

# Lengths of prompts: within a chunk, a chunk exactly, beyond chunks and beyond every window.
PROMPTS = [1, 5, 8, 13, 24]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("numbers")


def reference(model, ids):
    """Logits [1, T, V] of one plain pass over all tokens."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0]


def tokens(count: int) -> list[int]:
    return torch.randint(0, tiny.VOCAB, (count,), generator=torch.Generator().manual_seed(count)).tolist()


def padded(ids, count: int):
    """Tokens [1, count], the rest filled with a token that would matter were it seen."""
    return torch.tensor([ids + [tiny.VOCAB - 1] * (count - len(ids))], dtype=torch.int32)


def one(value: int):
    return torch.tensor([value], dtype=torch.int32)


def run_state(model, known, ids, prompt):
    """Logits after the prompt and after each further token, through chunks and states."""
    init, decode = (kind(model, known, SEQ_LEN).eval() for kind in (decoder.StateInit, decoder.StateDecode))
    decode.keyCache, decode.valueCache = init.keyCache, init.valueCache
    for start in range(0, prompt, CHUNK):
        chunk = ids[start : min(start + CHUNK, prompt)]
        logits = init(padded(chunk, CHUNK), one(start), one(len(chunk)))
    yield logits[0]
    for position in range(prompt, len(ids)):
        yield decode(padded([ids[position]], 1), one(position))[0]


def run_io(model, known, ids, prompt):
    """The same with keys and values as inputs and outputs."""
    init, decode = (kind(model, known, SEQ_LEN).eval() for kind in (decoder.IoInit, decoder.IoDecode))
    logits, keys, values = init(padded(ids[:prompt], SEQ_LEN), one(prompt))
    yield logits[0]
    for position in range(prompt, len(ids)):
        logits, keys, values = decode(padded([ids[position]], 1), one(position), keys, values)
        yield logits[0]


@pytest.mark.parametrize("family", tiny.DECODERS)
@pytest.mark.parametrize("run", [run_state, run_io])
def test_decoder_equals_transformers(folder, family, run):
    checkpoint = Checkpoint(tiny.checkpoint(folder, family))
    model = build.real(checkpoint, SEQ_LEN)
    known = facts.gather(checkpoint, model.windows)
    plain = checkpoint.real_model("eager")
    with torch.no_grad():
        for prompt in PROMPTS:
            ids = tokens(prompt + 6)
            expected = reference(plain, ids)
            for step, logits in enumerate(run(model, known, ids, prompt)):
                difference = (logits - expected[prompt - 1 + step]).abs().max().item()
                assert difference < TOLERANCE, (prompt, step, difference)


ENCODERS = [
    (family, mode, adapters)
    for family in ("llama", "mistral", "qwen2", "qwen3", "gpt2")
    for mode in ("branches", "merge")
    for adapters in ([], [{"seed": 1}], [{"seed": 1, "inner": True}, {"seed": 2, "use_rslora": True}])
] + [("gpt_neo", "branches", [])]


@pytest.mark.parametrize(("family", "mode", "adapters"), ENCODERS)
def test_encode_equals_the_reference(folder, family, mode, adapters):
    path = tiny.checkpoint(folder, family)
    paths = [tiny.adapter(folder, family, **options) for options in adapters]
    checkpoint = Checkpoint(path)
    model = build.real(checkpoint, SEQ_LEN, *((paths, ()) if mode == "merge" else ((), paths)))
    encode = decoder.Encode(model, facts.gather(checkpoint, model.windows), SEQ_LEN).eval()
    inputs = [{"input_ids": tokens(count), "pool": pool(count)} for count in (1, 9, SEQ_LEN)]
    expected = embedded.bidirectional(path, paths, inputs)
    for item, vector in zip(inputs, expected):
        count = len(item["input_ids"])
        mask = torch.tensor([[1] * count + [0] * (SEQ_LEN - count)], dtype=torch.int32)
        pooled = torch.tensor([item["pool"] + [0] * (SEQ_LEN - count)], dtype=torch.int32)
        with torch.no_grad():
            found = encode(padded(item["input_ids"], SEQ_LEN), mask, pooled)[0]
        assert (found - vector).abs().max().item() < TOLERANCE


def pool(count: int) -> list[int]:
    """The second half of the tokens."""
    return [int(index >= count // 2) for index in range(count)]


@pytest.mark.parametrize("modules", tiny.CHAINS, ids=str)
def test_encoder_equals_the_reference(folder, modules):
    path = tiny.sentence_checkpoint(folder, modules)
    checkpoint = Checkpoint(path)
    encode = encoder.Encoder(build.real(checkpoint, SEQ_LEN), None).eval()
    for count in (1, 9, SEQ_LEN):
        vector = embedded.sentence(path, tokens(count))
        mask = torch.tensor([[1] * count + [0] * (SEQ_LEN - count)], dtype=torch.int32)
        with torch.no_grad():
            found = encode(padded(tokens(count), SEQ_LEN), mask)[0]
        assert found.shape == (encode.width,)
        assert (found - vector).abs().max().item() < TOLERANCE
