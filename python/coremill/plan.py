"""The operation `plan`: the functions of a checkpoint built as for a skeleton, without their graphs."""

from . import functions, package


def plan(fields: dict) -> dict:
    """Builds the empty model and its functions, which refuses everything that `skeleton` refuses before tracing.

    The response has `facts`, `placeholders` and `unused` (stored tensors that nothing uses and that `allow_unused` lets
    pass). Missing tensors are an error.
    """
    request = package.checked({**fields, "out": ""})
    checkpoint = package.opened(request)
    table, known, model_of = package.placeholders_of(request, checkpoint)
    functions.check_lengths(known, request["seq_len"], request["prompt_chunk"])
    for name in request["functions"] or package.every_function(known):
        functions.build(name, model_of(name), known, request, table)
    unused = package.unused_of(request, checkpoint, table)
    return {"facts": known.as_dict(), "placeholders": table.entries, "unused": unused}
