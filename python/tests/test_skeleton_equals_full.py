"""The proof of the pour: skeleton and checkpoint together are the program and the bytes of a plain conversion."""

import pytest
import tiny
from coremill.placeholders import OFFSET_BASE, OFFSET_STEP
from written import Source, ask, block, read, same_program, values

SEQ_LEN, CHUNK = 32, 16

CASES = [
    (family, function, kv_cache, target)
    for family in tiny.DECODERS
    for function in ("init", "decode")
    for kv_cache, target in (("state", "iOS18"), ("io", "iOS18"), ("io", "iOS16"))
]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("equal")


def check(folder, model, function, adapters=(), **options) -> int:
    """Converts both ways and compares."""
    common = {"model": model, "seq_len": SEQ_LEN, "functions": [function], **options}
    drawn = ask("skeleton", out=str(folder / "skeleton"), **common)
    full = str(folder / "full.mlpackage")
    ask("convert_full", out=full, **common)
    (path,) = (entry["path"] for entry in drawn["functions"])
    return same_program(path, drawn["placeholders"], full, Source(model, adapters))


@pytest.mark.parametrize(("family", "function", "kv_cache", "target"), CASES)
def test_decoder(folder, tmp_path, family, function, kv_cache, target):
    model = tiny.checkpoint(folder, family)
    written = check(tmp_path, model, function, kv_cache=kv_cache, target=target, prompt_chunk=CHUNK)
    assert written > 10


@pytest.mark.parametrize("function", ["init", "decode", "encode"])
def test_in_fp32(folder, tmp_path, function):
    model = tiny.checkpoint(folder, "llama")
    assert check(tmp_path, model, function, prompt_chunk=CHUNK, compute_precision="fp32") > 10


ADAPTED = [
    ("llama", "branches", [{"seed": 1}]),
    ("llama", "branches", [{"seed": 1, "inner": True}, {"seed": 2, "use_rslora": True}]),
    ("llama_tied_scaled", "merge", [{"seed": 1}, {"seed": 2}]),
    ("qwen3", "branches", [{"seed": 1}]),
    ("gpt2", "branches", [{"seed": 1}]),
    ("gpt2", "merge", [{"seed": 1}]),
]


@pytest.mark.parametrize(("family", "mode", "adapters"), ADAPTED)
def test_encode_of_a_decoder(folder, tmp_path, family, mode, adapters):
    model = tiny.checkpoint(folder, family)
    paths = [tiny.adapter(folder, family, **options) for options in adapters]
    options = {"encode_adapters": paths, "encode_mode": mode, "prompt_chunk": CHUNK}
    assert check(tmp_path, model, "encode", paths, **options) > 10


@pytest.mark.parametrize("family", ["mistral", "qwen2", "gpt_neo", "bert"])
@pytest.mark.parametrize("target", ["iOS18", "iOS16"])
def test_encode_without_adapters(folder, tmp_path, family, target):
    assert check(tmp_path, tiny.checkpoint(folder, family), "encode", kv_cache="io", target=target) > 10


@pytest.mark.parametrize("modules", tiny.CHAINS, ids=str)
def test_encoder(folder, tmp_path, modules):
    model = tiny.sentence_checkpoint(folder, modules)
    assert check(tmp_path, model, "encode") > 10


def test_one_id_for_one_tensor(folder, tmp_path):
    model = tiny.checkpoint(folder, "llama_tied_scaled")
    adapter = tiny.adapter(folder, "llama_tied_scaled", 1)
    drawn = ask(
        "skeleton",
        model=model,
        out=str(tmp_path),
        seq_len=SEQ_LEN,
        prompt_chunk=CHUNK,
        functions=["init", "decode", "encode"],
        encode_adapters=[adapter],
    )
    base = [entry["tensor"] for entry in drawn["placeholders"] if entry["adapter"] is None]
    assert len(base) == len(set(base)) == 1 + 2 * (4 + 4 + 3 + 3 + 2) + 1
    used = [ids(entry["path"]) for entry in drawn["functions"]]
    assert used[0] == used[1] == set(range(len(base)))
    # The head is all that encode does without: tied, its weight is the embedding, which stays.
    assert used[2] == set(range(len(drawn["placeholders"])))


def ids(package: str) -> set[int]:
    """The placeholders that a package's program holds."""
    spec, _ = read(package)
    offsets = (value.blobFileValue.offset for _, value in values(spec))
    return {(offset - OFFSET_BASE) // OFFSET_STEP for offset in offsets if offset >= OFFSET_BASE}


def test_the_hidden_states_have_their_name(folder, tmp_path):
    for family in ("gpt2", "qwen3"):
        model, out = tiny.checkpoint(folder, family), str(tmp_path / family)
        drawn = ask(
            "skeleton", model=model, out=out, seq_len=SEQ_LEN, prompt_chunk=CHUNK, functions=["init"]
        )
        spec, _ = read(drawn["functions"][0]["path"])
        found = [output for op in block(spec).operations for output in op.outputs if output.name == "hidden_states"]
        assert [[d.constant.size for d in value.type.tensorType.dimensions] for value in found] == [[1, CHUNK, 48]]


def test_same_request_same_bytes(folder, tmp_path):
    model = tiny.checkpoint(folder, "qwen3")
    kinds = []
    for name in ("first", "second"):
        out = tmp_path / name
        drawn = ask("skeleton", model=model, out=str(out), seq_len=SEQ_LEN, prompt_chunk=CHUNK)
        kinds.append([read(entry["path"]) for entry in drawn["functions"]])
    assert kinds[0] == kinds[1]
