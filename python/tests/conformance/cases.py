"""Results of cases, and what is expected of them: everything passes but the exceptions that `exceptions.json` lists."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXCEPTIONS = HERE / "exceptions.json"
SAMPLE = HERE / "sample.txt"


@dataclass(frozen=True)
class Listed:
    """Cases that fail for a known reason: a pattern that the whole name of a case has to match."""

    pattern: str
    reason: str

    def covers(self, case: str) -> bool:
        return re.fullmatch(self.pattern, case) is not None


def exceptions() -> list:
    return [Listed(**entry) for entry in json.loads(EXCEPTIONS.read_text("utf-8"))]


def results(path: Path) -> dict:
    """The last result of each case."""
    with open(path, encoding="utf-8") as file:
        return {entry["case"]: entry for entry in map(json.loads, file)}


def predicts(result: dict) -> bool:
    """Whether the case asked for a prediction, so that the runtime had a part in its outcome."""
    return result["predictions"] > 0


def surprises(found: dict, whole: bool) -> list:
    """What is not as listed, in words: failures that no exception covers, exceptions that pass; of a whole run also
    exceptions that cover nothing."""
    listed, out, used = exceptions(), [], Counter()
    for case, result in found.items():
        covering = [e for e in listed if e.covers(case)]
        used.update(covering)
        # What coremltools itself expects to fail counts as any other failure once it predicts.
        failed = result["outcome"] == "failed" or (result["outcome"] == "xfailed" and predicts(result))
        if failed and not covering:
            out.append(f"{case} failed and is no exception: {result['reason']}")
        if result["outcome"] == "passed" and covering:
            out.append(f"{case} passed although it is an exception: {covering[0].reason}")
    if whole:
        out += [f"exception `{e.pattern}` covers no case" for e in listed if not used[e]]
    return out
