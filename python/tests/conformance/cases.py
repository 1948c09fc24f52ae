"""Results of cases, and what is expected of them: everything passes but the exceptions that `exceptions.json` lists."""

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXCEPTIONS = HERE / "exceptions.json"
SAMPLE = HERE / "sample.txt"
# A difference of more steps of fp16 is not a matter of rounding.
STEPS = 4


def exceptions() -> list:
    """Groups of cases that fail for one reason. `cases` are named one by one and have to fail. `rounding` is a pattern of
    names, and covers those of them that miss the expected values by a few steps of fp16."""
    return json.loads(EXCEPTIONS.read_text("utf-8"))


def results(path: Path) -> dict:
    """The last result of each case."""
    with open(path, encoding="utf-8") as file:
        return {entry["case"]: entry for entry in map(json.loads, file)}


def predicts(result: dict) -> bool:
    """Whether the case asked for a prediction, so that the runtime had a part in its outcome."""
    return result["predictions"] > 0


def failed(result: dict) -> bool:
    """Whether the case did not pass; what coremltools itself expects to fail counts once it predicts."""
    return result["outcome"] == "failed" or (result["outcome"] == "xfailed" and predicts(result))


def rounded(result: dict) -> bool:
    """Whether the case failed by a rounding."""
    return failed(result) and 0 < result.get("steps", 0) <= STEPS


def unmeetable(result: dict) -> bool:
    """Whether the case failed by a rounding and was shown to demand more than fp16 holds, so that no runtime passes."""
    return rounded(result) and result["unmeetable"]


def covers(group: dict, case: str, result: dict) -> bool:
    """Whether an exception is about this result."""
    if "rounding" in group:
        return rounded(result) and re.fullmatch(group["rounding"], case) is not None
    return case in group["cases"]


def surprises(found: dict, whole: bool) -> list:
    """What is not as listed, in words: failures that no exception covers, exceptions that pass; of a whole run also
    exceptions that cover nothing."""
    listed, out = exceptions(), []
    idle = {json.dumps(group) for group in listed}
    for case, result in found.items():
        covering = [group for group in listed if covers(group, case, result)]
        idle -= {json.dumps(group) for group in covering}
        if failed(result) and not covering:
            out.append(f"{case} failed and is no exception: {result['reason']}")
        if result["outcome"] == "passed" and covering:
            out.append(f"{case} passed although it is an exception: {covering[0]['reason']}")
    if whole:
        out += [f"exception covers no case: {json.loads(group)['reason']}" for group in sorted(idle)]
        named = [case for group in listed for case in group.get("cases", ())]
        out += [f"exception names no case: {case}" for case in named if case not in found]
    return out
