"""Writes ops.json: every public operation of ML programs that coremltools registers, and the opsets that changed it.

    python src/interp/goldens/ops.py

Needs coremltools 9.0. The public operations are those of the core dialect without a leading underscore; `opsets` names
the system versions that register a form of the operation of their own, which holds until the next.
"""

import json
from pathlib import Path

import coremltools as ct
from coremltools.converters.mil.mil import ops  # noqa: F401: registers the operations
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

OPSETS = ["iOS15", "iOS16", "iOS17", "iOS18"]


def forms(versions):
    """The opsets in which the class that stands for a name changes."""
    found, before = [], None
    for opset in OPSETS:
        form = versions.get(getattr(ct.target, opset))
        if form is not None and form is not before:
            found.append(opset)
        before = form
    return found


def family(versions):
    """The file of the first form, which the later ones keep."""
    first = next(form for form in versions.values() if form is not None)
    return first.__module__.rsplit(".", 1)[1]


registry = {
    name: {"file": family(versions), "opsets": forms(versions)}
    for name, versions in sorted(SSAOpRegistry.core_ops.items())
    if not name.startswith("_")
}
lines = [f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in registry.items()]
text = f'{{\n  "coremltools": "{ct.__version__}",\n  "ops": {{\n' + ",\n".join(lines) + "\n  }\n}\n"
Path(__file__).with_name("ops.json").write_text(text)
print(len(registry), {o: sum(o >= e["opsets"][0] for e in registry.values()) for o in OPSETS})
