"""The one function that Rust calls: a request in JSON in, a response in JSON out."""

import importlib
import json
import platform
import traceback
from importlib.metadata import version

from .errors import Known


def call(request: str) -> str:
    """Runs the operation that `request["op"]` names.

    The response is `{"ok": {...}}` or `{"error": {"kind", "message", "hint"}}`; a failure foreseen nowhere has the
    kind `internal` and a `traceback`. Nothing is raised and nothing printed.
    """
    try:
        fields = json.loads(request)
        run = _operation(fields.pop("op", None))
        return json.dumps({"ok": run(fields)})
    except Known as error:
        return _error(error.kind, error.message, hint=error.hint)
    except MemoryError:
        return _error("out_of_memory", "Python ran out of memory")
    except Exception as error:  # noqa: BLE001 - the boundary: everything becomes a value
        return _error("internal", f"{type(error).__name__}: {error}", traceback=traceback.format_exc())


def versions(_: dict) -> dict:
    """The versions of Python and of the libraries that take part."""
    names = ("torch", "transformers", "peft", "sentence-transformers", "tokenizers", "coremltools", "numpy", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


# Each operation and the module it lives in. They are imported when asked for: `versions` answers at once.
OPERATIONS = {
    "versions": "entry",
    "plan": "plan",
    "skeleton": "package",
    "convert_full": "package",
    "initial_product": "adapters",
    "reference_logits": "reference",
    "reference_noise": "reference",
    "reference_generate": "reference",
    "reference_embed": "embedding_reference",
    "reference_tokens": "reference",
    "merge_reference": "reference",
    "quantize_reference": "compressed",
    "dequantize": "compressed",
    "tokenizer": "tokenizer",
}


def _operation(name):
    if name not in OPERATIONS:
        raise Known("bad_request", f"operation {name!r} is not known", f"known are {', '.join(OPERATIONS)}")
    return getattr(importlib.import_module(f"{__package__}.{OPERATIONS[name]}"), name)


def _error(kind: str, message: str, hint: str | None = None, **more) -> str:
    return json.dumps({"error": {"kind": kind, "message": message, "hint": hint, **more}})
