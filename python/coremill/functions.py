"""Which functions a checkpoint can have, and their ports: the one place that knows the signatures."""

from . import causal_encoder, decoder, encoder, llm2vec
from .build import Model, Table
from .convert import Function, Port
from .errors import Known
from .facts import Facts


def check_lengths(facts: Facts, seq_len: int, chunk: int) -> None:
    """Refuses lengths that the model or the functions cannot have."""
    if seq_len > facts.max_position_embeddings:
        raise Known(
            "bad_request",
            f"sequence length {seq_len} is beyond the model's {facts.max_position_embeddings} positions",
            f"ask for at most {facts.max_position_embeddings}",
        )
    if facts.kind == "decoder" and (not 0 < chunk <= seq_len or seq_len % chunk):
        raise Known("bad_request", f"sequence length {seq_len} is not a multiple of the prompt chunk {chunk}")


def build(name: str, model: Model, facts: Facts, request: dict, table: Table | None) -> Function:
    """The function called `name`, ready to be converted; with a `table`, weights of its own become placeholders."""
    if name == "encode":
        return _encode(model, facts, request, table)
    if facts.kind != "decoder":
        raise Known("bad_request", f"a {facts.model_type} checkpoint has no function `{name}`", "it has `encode`")
    builders = {
        ("init", "state"): _state_init,
        ("decode", "state"): _state_decode,
        ("init", "io"): _io_init,
        ("decode", "io"): _io_decode,
    }
    builder = builders.get((name, request["kv_cache"]))
    if builder is None:
        raise Known("bad_request", f"no function `{name}` with key/value cache `{request['kv_cache']}`")
    if request["kv_cache"] == "state" and request["target"] != "iOS18":
        raise Known(
            "bad_request", f"target {request['target']} has no states", "use --kv-cache io, or target iOS18"
        )
    return builder(model, facts, request)


def _int32(name: str, *shape: int) -> Port:
    return Port(name, shape, "int32")


def _caches(facts: Facts, seq_len: int, keys: str, values: str) -> tuple[Port, ...]:
    shape = (facts.layers, facts.kv_heads, seq_len, facts.head_dim)
    return tuple(Port(name, shape, "fp16") for name in (keys, values))


def _logits(facts: Facts, request: dict) -> Port:
    return Port("logits", (1, facts.vocab), request["compute_precision"])


def _state_init(model, facts, request):
    seq_len, chunk = request["seq_len"], request["prompt_chunk"]
    return Function(
        "init",
        decoder.StateInit(model, facts, seq_len),
        (_int32("input_ids", 1, chunk), _int32("position", 1), _int32("length", 1)),
        (_logits(facts, request),),
        _caches(facts, seq_len, "keyCache", "valueCache"),
        taps_hidden=True,
    )


def _state_decode(model, facts, request):
    return Function(
        "decode",
        decoder.StateDecode(model, facts, request["seq_len"]),
        (_int32("input_ids", 1, 1), _int32("position", 1)),
        (_logits(facts, request),),
        _caches(facts, request["seq_len"], "keyCache", "valueCache"),
    )


def _io_init(model, facts, request):
    seq_len = request["seq_len"]
    return Function(
        "init",
        decoder.IoInit(model, facts, seq_len),
        (_int32("input_ids", 1, seq_len), _int32("length", 1)),
        (_logits(facts, request), *_caches(facts, seq_len, "keyCache", "valueCache")),
        taps_hidden=True,
    )


def _io_decode(model, facts, request):
    seq_len = request["seq_len"]
    return Function(
        "decode",
        decoder.IoDecode(model, facts, seq_len),
        (
            _int32("input_ids", 1, 1),
            _int32("position", 1),
            *_caches(facts, seq_len, "keyCache", "valueCache"),
        ),
        (_logits(facts, request), *_caches(facts, seq_len, "keyCacheOut", "valueCacheOut")),
    )


def _encode(model, facts, request, table):
    seq_len = request["seq_len"]
    tokens = (_int32("input_ids", 1, seq_len), _int32("attention_mask", 1, seq_len))
    pool = (_int32("pool_mask", 1, seq_len),)
    if not model.checkpoint.is_decoder:
        module = encoder.Encoder(model, table)
    elif model.checkpoint.modules:
        module = causal_encoder.CausalEncoder(model, facts, seq_len, table)
    else:
        module = decoder.Encode(model, facts, seq_len, llm2vec.has_ramp(request["encode_adapters"]))
        return Function("encode", module, tokens + pool, (_embedding(facts.hidden, request),))
    ports = tokens + pool if module.chain.takes_pool_mask else tokens
    return Function("encode", module, ports, (_embedding(module.width, request),))


def _embedding(width: int, request: dict) -> Port:
    return Port("embedding", (1, width), request["compute_precision"])
