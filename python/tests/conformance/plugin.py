"""A pytest plugin that runs coremltools' op tests through coremill and writes one JSON line for each case.

It answers coremltools' questions about macOS with yes, and gives it `runtime.Model` for the framework. What the cases
compare, and how closely, stays coremltools' own.
"""

import gc
import json
import os
import random
import sys
import time
import types
import zlib
from pathlib import Path

# Read by coremltools' tests when they are imported: ML programs alone, in both precisions, in every opset that has
# the operation.
os.environ |= {
    "PYMIL_TEST_TARGETS": "mlprogram",
    "INCLUDE_MIL_FP32_UNIT_TESTS": "1",
    "COMPUTE_UNITS": "CPU_ONLY",
    "TQDM_DISABLE": "1",
}


def without_pillow() -> None:
    """coremltools' tests import Pillow to ask whether an input is an image; no operation takes one."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        image = types.ModuleType("PIL.Image")
        image.Image = type("Image", (), {})
        package = types.ModuleType("PIL")
        package.Image = image
        sys.modules |= {"PIL": package, "PIL.Image": image}


without_pillow()

import coremltools  # noqa: E402
import coremltools._deps  # noqa: E402
import coremltools.models.model  # noqa: E402
import coremltools.models.utils  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from . import cases, grid, runtime  # noqa: E402

# The oldest system that has everything coremltools 9.0 can write for iOS 18 with the mended bugs its tests ask for.
MACOS = (15, 6)
# Characters of a parameter that a case's name shows; an array's are too many.
LONG = 80


def pretend() -> None:
    """Makes coremltools believe that it runs on a Mac, before its tests are imported."""
    coremltools._deps._IS_MACOS = True
    for module in (coremltools.models.utils, coremltools.models.model):
        module._is_macos = lambda: True
        module._macos_version = lambda: MACOS
    coremltools.models.model._MLModelProxy = runtime.Model


def hurry() -> None:
    """Takes out of a conversion what a third of its time goes to and no result depends on: programs that describe
    patterns are built once, and a program is not validated again after each of some hundred passes."""
    from coremltools.converters.mil.mil import Program
    from coremltools.converters.mil.mil.passes.defs import optimize_activation as passes

    for owner, name in [
        (passes.fuse_gelu_tanh_approximation, "get_gelu_pattern1"),
        (passes.fuse_gelu_tanh_approximation, "get_gelu_pattern2"),
        (passes.FusePreluPattern1, "get_prelu_pattern"),
        (passes.FusePreluPattern2, "get_prelu_pattern"),
    ]:
        pattern = getattr(owner, name)()
        setattr(owner, name, staticmethod(lambda pattern=pattern: pattern))
    Program.validate = lambda self, check_essential_scope=False: None


def watch() -> None:
    """Notes of a comparison that fails whether fp16 has the numbers to pass it; it fails all the same."""
    from coremltools.converters.mil import testing_utils

    compare = testing_utils.compare_backend

    def watched(expected_outputs, dtype, atol, rtol, **options):
        try:
            return compare(expected_outputs=expected_outputs, dtype=dtype, atol=atol, rtol=rtol, **options)
        except AssertionError:
            pairs = [(runtime.Model.outputs.get(name, np.nan), value) for name, value in expected_outputs.items()]
            runtime.Model.steps = max(grid.steps(*pair) for pair in pairs)
            runtime.Model.unmeetable = dtype == "fp32" and any(grid.unmeetable(*pair, atol, rtol) for pair in pairs)
            raise

    testing_utils.compare_backend = watched


pretend()
hurry()
watch()


def pytest_addoption(parser):
    group = parser.getgroup("conformance")
    group.addoption("--conformance-results", help="append one JSON line for each case to this file")
    group.addoption("--conformance-only", help="run only the cases that this file lists, one on each line")
    group.addoption("--conformance-part", default="0/1", help="run one part of several, such as 0/2")
    group.addoption("--conformance-list", help="write the names of all cases to this file and run none")
    group.addoption("--conformance-resume", action="store_true", help="leave out the cases that the results hold")


@pytest.hookimpl(tryfirst=True)
def pytest_make_parametrize_id(config, val, argname):
    """Names that say what is tested, are short and stay the same from run to run."""
    if hasattr(val, "opset_version"):
        return f"{val.precision}-{val.opset_version.name}"
    if hasattr(val, "name"):
        return val.name
    text = " ".join(str(val).split())
    if " at 0x" in text:
        return None
    return f"{argname}={text}" if len(text) <= LONG else f"{argname}:{zlib.crc32(text.encode()):08x}"


def case(nodeid: str) -> str:
    """The case's name without the path to coremltools."""
    return nodeid.rpartition("ops/tests/")[2]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    if listed := config.getoption("--conformance-list"):
        Path(listed).write_text("".join(f"{case(item.nodeid)}\n" for item in items), "utf-8")
        items.clear()
    part, parts = map(int, config.getoption("--conformance-part").split("/"))
    only, done = None, set()
    if listed := config.getoption("--conformance-only"):
        only = set(Path(listed).read_text("utf-8").splitlines())
    results = Path(config.getoption("--conformance-results") or os.devnull)
    if config.getoption("--conformance-resume") and results.is_file():
        done = set(cases.results(results))

    def wanted(item) -> bool:
        name = case(item.nodeid)
        here = zlib.crc32(name.encode()) % parts == part
        return here and name not in done and (only is None or name in only)

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    # In an order without meaning, so that a run that is cut short has seen something of everything.
    items[:] = sorted(filter(wanted, items), key=lambda item: zlib.crc32(item.nodeid.encode()))


def pytest_collection_finish(session):
    # coremltools collects garbage after every conversion; without thousands of cases to look through, it is quick.
    gc.freeze()


@pytest.fixture(autouse=True)
def same_numbers_in_every_order(request):
    """A case's random inputs depend on its name alone, so a part of the cases sees what the whole sees."""
    seed = zlib.crc32(case(request.node.nodeid).encode())
    random.seed(seed)
    np.random.seed(seed)
    if coremltools._deps._HAS_TORCH:
        import torch

        torch.manual_seed(seed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "setup":
        item.conformance_start = time.monotonic()
    skipped = call.when == "setup" and not report.passed
    path = item.config.getoption("--conformance-results")
    if call.when == "teardown":
        runtime.Model.forget()
    if path and (call.when == "call" or skipped):
        line = {
            "case": case(item.nodeid),
            "outcome": "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome,
            "predictions": runtime.Model.predicted,
            "operations": sorted(runtime.Model.kinds),
            "seconds": round(time.monotonic() - item.conformance_start, 3),
        }
        if not report.passed:
            line["reason"] = reason(call, report)
            line |= {"unmeetable": runtime.Model.unmeetable, "steps": runtime.Model.steps}
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    return report


def reason(call, report) -> str:
    """Why a case did not pass, in a line or two."""
    text = str(getattr(report, "wasxfail", "")) or (str(call.excinfo.value) if call.excinfo else "")
    kind = call.excinfo.type.__name__ if call.excinfo else ""
    return f"{kind}: {' '.join(text.split())}"[:600]
