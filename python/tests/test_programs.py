"""The converted programs, run by coremltools' value inference, give what transformers gives."""

import embedded
import numpy as np
import pytest
import tiny
import torch
from evaluate import Package
from written import ask

from coremill.checkpoint import Checkpoint

SEQ_LEN, CHUNK, PROMPT, LENGTH = 32, 8, 21, 25
# Programs in f32; states are fp16, and so are the keys and values that io passes around.
TOLERANCE = 5e-3

IDS = np.random.default_rng(5).integers(0, tiny.VOCAB, LENGTH).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("programs")


def package(tmp_path, model, function, states=None, **options) -> Package:
    out = str(tmp_path / f"{function}.mlpackage")
    lengths = {"seq_len": SEQ_LEN, "prompt_chunk": CHUNK}
    ask(
        "convert_full", model=model, out=out, functions=[function], compute_precision="fp32", **lengths, **options
    )
    return Package(out, states)


def padded(ids, count: int):
    return [ids + [0] * (count - len(ids))]


def state(tmp_path, model):
    """Logits after the prompt and after each further token."""
    init = package(tmp_path, model, "init")
    decode = package(tmp_path, model, "decode", init.states)
    for start in range(0, PROMPT, CHUNK):
        chunk = IDS[start : min(start + CHUNK, PROMPT)]
        found = init(input_ids=padded(chunk, CHUNK), position=[start], length=[len(chunk)])
    yield found["logits"]
    for position in range(PROMPT, LENGTH):
        yield decode(input_ids=[[IDS[position]]], position=[position])["logits"]


def io(tmp_path, model):
    """The same for the oldest target."""
    init, decode = (package(tmp_path, model, name, kv_cache="io", target="iOS16") for name in ("init", "decode"))
    found = init(input_ids=padded(IDS[:PROMPT], SEQ_LEN), length=[PROMPT])
    yield found["logits"]
    keys, values = found["keyCache"], found["valueCache"]
    for position in range(PROMPT, LENGTH):
        found = decode(input_ids=[[IDS[position]]], position=[position], keyCache=keys, valueCache=values)
        keys, values = found["keyCacheOut"], found["valueCacheOut"]
        yield found["logits"]


@pytest.mark.parametrize(
    ("family", "run"), [(family, state) for family in tiny.DECODERS] + [("mistral", io), ("gpt_neo", io)]
)
def test_decoder(folder, tmp_path, family, run):
    path = tiny.checkpoint(folder, family)
    with torch.no_grad():
        expected = Checkpoint(path).real_model("eager")(input_ids=torch.tensor([IDS])).logits[0].numpy()
    for step, logits in enumerate(run(tmp_path, path)):
        assert np.abs(logits[0] - expected[PROMPT - 1 + step]).max() < TOLERANCE, step


@pytest.mark.parametrize("target", ["iOS18", "iOS16"])
def test_encode(folder, tmp_path, target):
    path, adapter = tiny.checkpoint(folder, "llama"), [tiny.adapter(folder, "llama", 1)]
    encode = package(tmp_path, path, "encode", kv_cache="io", target=target, encode_adapters=adapter)
    pool = [0] * 5 + [1] * (LENGTH - 5)
    found = encode(
        input_ids=padded(IDS, SEQ_LEN), attention_mask=padded([1] * LENGTH, SEQ_LEN), pool_mask=padded(pool, SEQ_LEN)
    )
    inputs = [{"input_ids": IDS, "pool": pool}]
    (expected,) = embedded.bidirectional(path, adapter, inputs)
    assert np.abs(found["embedding"][0] - expected.numpy()).max() < TOLERANCE


@pytest.mark.parametrize("modules", tiny.CHAINS, ids=str)
def test_encoder(folder, tmp_path, modules):
    path = tiny.sentence_checkpoint(folder, modules)
    encode = package(tmp_path, path, "encode")
    found = encode(input_ids=padded(IDS, SEQ_LEN), attention_mask=padded([1] * LENGTH, SEQ_LEN))
    expected = embedded.sentence(path, IDS)
    assert np.abs(found["embedding"][0] - expected.numpy()).max() < TOLERANCE
