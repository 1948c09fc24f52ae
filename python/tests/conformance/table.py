"""The figures of a whole run, the tables that docs/conformance.md draws from them, and the choice of the sample."""

import json
from collections import defaultdict
from pathlib import Path

from . import cases

DOCS = Path(__file__).resolve().parents[3] / "docs"
FIGURES, PAGE = DOCS / "conformance.json", DOCS / "conformance.md"
BEGIN, END = "<!-- drawn by `python -m conformance table` -->\n", "<!-- end -->\n"
COUNTS = ("cases", "ran", "predict", "pass", "unmeetable")


def write_figures(found: dict, names: list) -> None:
    """Counts by test file, and how many cases each exception covers."""
    files: dict = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    listed = cases.exceptions()
    excepted = dict.fromkeys((group["reason"] for group in listed), 0)
    for case in sorted(names):
        count = files[case.partition("::")[0]]
        count["cases"] += 1
        if (result := found.get(case)) is None:
            continue
        count["ran"] += 1
        count["predict"] += cases.predicts(result)
        count["pass"] += cases.predicts(result) and result["outcome"] == "passed"
        count["unmeetable"] += cases.unmeetable(result)
        for group in listed:
            excepted[group["reason"]] += cases.covers(group, case, result)
    FIGURES.write_text(json.dumps({"files": files, "exceptions": excepted}, indent=1) + "\n", "utf-8")


def figures() -> dict:
    return json.loads(FIGURES.read_text("utf-8"))


def total() -> dict:
    rows = figures()["files"].values()
    return {count: sum(row[count] for row in rows) for count in COUNTS}


def percent(part: int, whole: int) -> str:
    """A share in percent, never rounded up."""
    return f"{part * 10_000 // whole / 100:.2f} %" if whole else ""


def page() -> str:
    """docs/conformance.md with its tables drawn again."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def sentence() -> str:
    """The total in README.md's words."""
    count = total()
    meetable = count["predict"] - count["unmeetable"]
    passed = f"{count['pass']:,} of {count['predict']:,} predicting cases pass ({count['ran']:,} of {count['cases']:,} ran)"
    return f"{passed}, {percent(count['pass'], meetable)} of those that fp16 can meet at all"


def tables() -> str:
    found = figures()
    lines = ["| test file | cases | ran | predict | pass | | unmeetable | other exceptions | pass of the meetable |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for name, row in [*found["files"].items(), ("**all**", total())]:
        ran, predict, passed, unmeetable = (row[count] for count in COUNTS[1:])
        cells = [row["cases"], ran, predict, passed, percent(passed, predict), unmeetable]
        cells += [predict - passed - unmeetable, percent(passed, predict - unmeetable)]
        cells = [cell if isinstance(cell, str) else f"{cell:,}" for cell in cells]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    lines += ["", "| cases | exception |", "|---:|---|"]
    lines += [f"| {found['exceptions'][group['reason']]:,} | {group['reason']} |" for group in cases.exceptions()]
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
