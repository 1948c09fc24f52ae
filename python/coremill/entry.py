"""The one function that Rust calls: a request in JSON in, a response in JSON out."""

import json
import traceback

from .errors import Known


def call(request: str) -> str:
    """Runs the operation that `request["op"]` names.

    The response is `{"ok": {...}}` or `{"error": {"kind", "message", ...}}`; a failure foreseen nowhere has the kind
    `internal` and a traceback. Nothing is raised and nothing printed.
    """
    try:
        fields = json.loads(request)
        operation = OPERATIONS.get(fields.pop("op", None))
        if operation is None:
            raise Known("bad_request", "the request names no known operation", f"known are {', '.join(OPERATIONS)}")
        return json.dumps({"ok": operation(fields)})
    except Known as error:
        return json.dumps({"error": {"kind": error.kind, "message": error.message, "hint": error.hint}})
    except MemoryError:
        return json.dumps({"error": {"kind": "out_of_memory", "message": "Python ran out of memory", "hint": None}})
    except Exception as error:  # noqa: BLE001 - the boundary: everything becomes a value
        message = f"{type(error).__name__}: {error}"
        response = {"kind": "internal", "message": message, "hint": None, "traceback": traceback.format_exc()}
        return json.dumps({"error": response})


def _skeleton(fields: dict) -> dict:
    from . import package

    return package.skeleton(fields)


def _convert_full(fields: dict) -> dict:
    from . import package

    return package.full(fields)


def _versions(_: dict) -> dict:
    import platform
    from importlib.metadata import version

    names = ("torch", "transformers", "peft", "coremltools", "numpy", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


# The libraries are imported where they are used: `versions` answers at once.
OPERATIONS = {
    "versions": _versions,
    "skeleton": _skeleton,
    "convert_full": _convert_full,
}
