"""The figures of a whole run, the tables that docs/conformance.md draws from them, and the choice of the sample."""

import json
from collections import defaultdict
from pathlib import Path

from . import cases

DOCS = Path(__file__).resolve().parents[3] / "docs"
FIGURES, PAGE = DOCS / "conformance.json", DOCS / "conformance.md"
BEGIN, END = "<!-- drawn by `python -m conformance table` -->\n", "<!-- end -->\n"
COUNTS = ("cases", "predict", "pass")


def write_figures(found: dict) -> None:
    """Counts by test file, and how many cases each exception covers."""
    files: dict = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    listed = cases.exceptions()
    excepted = {e.pattern: 0 for e in listed}
    for case, result in sorted(found.items()):
        count = files[case.partition("::")[0]]
        count["cases"] += 1
        count["predict"] += cases.predicts(result)
        count["pass"] += cases.predicts(result) and result["outcome"] == "passed"
        for exception in filter(lambda e: e.covers(case), listed):
            excepted[exception.pattern] += 1
    figures = {"files": files, "exceptions": excepted}
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


def figures() -> dict:
    return json.loads(FIGURES.read_text("utf-8"))


def total() -> dict:
    rows = figures()["files"].values()
    return {count: sum(row[count] for row in rows) for count in COUNTS}


def share(row: dict) -> str:
    """Passing among predicting, in percent, never rounded up."""
    return f"{row['pass'] * 10_000 // row['predict'] / 100:.2f} %" if row["predict"] else ""


def page() -> str:
    """docs/conformance.md with its tables drawn again."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def tables() -> str:
    found = figures()
    lines = ["| test file | cases | predict | pass | exceptions | share |", "|---|---:|---:|---:|---:|---:|"]
    for name, row in [*found["files"].items(), ("**all**", total())]:
        numbers = [row["cases"], row["predict"], row["pass"], row["predict"] - row["pass"]]
        lines.append("| " + " | ".join([name, *(f"{n:,}" for n in numbers), share(row)]) + " |")
    lines += ["", "| exception | cases | reason |", "|---|---:|---|"]
    for exception in cases.exceptions():
        pattern = exception.pattern.replace("|", "\\|")
        lines.append(f"| `{pattern}` | {found['exceptions'].get(exception.pattern, 0)} | {exception.reason} |")
    return "\n".join(lines) + "\n"


def sample(found: dict) -> list:
    """A fixed, spread sample of the cases that pass: of every test its quickest in each precision by turns, and of
    every operation a case in either precision."""
    good = {c: r for c, r in found.items() if r["outcome"] == "passed" and cases.predicts(r)}
    chosen: set = set()
    tests = defaultdict(list)
    for case in sorted(good, key=lambda case: (good[case]["seconds"], case)):
        tests[case.partition("[")[0]].append(case)
    for turn, (_, members) in enumerate(sorted(tests.items())):
        wanted = ("fp16", "fp32")[turn % 2]
        chosen.add(next((c for c in members if wanted in c), members[0]))
    seen = {(kind, p) for c in chosen for p in ("fp16", "fp32") if p in c for kind in good[c]["operations"]}
    for members in tests.values():
        for case in members:
            for precision in ("fp16", "fp32"):
                new = {(kind, precision) for kind in good[case]["operations"]} - seen
                if precision in case and new:
                    chosen.add(case)
                    seen |= new
    return sorted(chosen)
