"""The proof of the pour: skeleton and checkpoint together are the program and the bytes of a plain conversion."""

import pytest
import tiny
from poured import Source, ask, same_program

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
    poured = check(tmp_path, model, function, kv_cache=kv_cache, target=target, prompt_chunk=CHUNK)
    assert poured > 10
