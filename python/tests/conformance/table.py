"""The figures of a whole run, the tables that docs/conformance.md draws from them, and the choice of the sample."""

import json
from collections import defaultdict
from pathlib import Path

from . import cases

DOCS = Path(__file__).resolve().parents[3] / "docs"
FIGURES, PAGE = DOCS / "conformance.json", DOCS / "conformance.md"
BEGIN, END = "<!-- drawn by `python -m conformance table` -->\n", "<!-- end -->\n"
PRECISIONS = ("fp16", "fp32")
COUNTS = ("cases", "ran", "predict", "pass", "unmeetable")


def write_figures(found: dict, names: list) -> None:
    """Counts by test file, and how many cases each exception covers."""
    files: dict = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    precisions: dict = {p: dict.fromkeys(COUNTS, 0) for p in (*PRECISIONS, "")}
    listed = cases.exceptions()
    excepted = dict.fromkeys((group["reason"] for group in listed), 0)
    for case in sorted(names):
        precision = next((p for p in PRECISIONS if f"-{p}-" in case or f"-{p}]" in case), "")
        result = found.get(case)
        for count in (files[case.partition("::")[0]], precisions[precision]):
            count["cases"] += 1
            if result is None:
                continue
            count["ran"] += 1
            count["predict"] += cases.predicts(result)
            count["pass"] += cases.predicts(result) and result["outcome"] == "passed"
            count["unmeetable"] += cases.unmeetable(result)
        if result is None:
            continue
        for group in listed:
            excepted[group["reason"]] += cases.covers(group, case, result)
    FIGURES.write_text(json.dumps({"files": files, "precisions": precisions, "exceptions": excepted}, indent=1) + "\n", "utf-8")


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
    """The totals in README.md's words."""
    half, full = (figures()["precisions"][precision] for precision in PRECISIONS)
    meetable = full["predict"] - full["unmeetable"]
    return (
        f"of {total()['cases']:,} cases {total()['ran']:,} ran, and of those that predict {half['pass']:,} of {half['predict']:,} "
        f"pass in fp16 ({percent(half['pass'], half['predict'])}), coremltools' default, and {full['pass']:,} of "
        f"{full['predict']:,} in fp32, {percent(full['pass'], meetable)} of those that fp16 results can meet at all"
    )


def line(name: str, row: dict) -> str:
    ran, predict, passed, unmeetable = (row[count] for count in COUNTS[1:])
    cells = [row["cases"], ran, predict, passed, percent(passed, predict), unmeetable]
    cells += [predict - passed - unmeetable, percent(passed, predict - unmeetable)]
    return "| " + " | ".join([name, *(cell if isinstance(cell, str) else f"{cell:,}" for cell in cells)]) + " |"


def tables() -> str:
    found = figures()
    lines = ["| precision | cases | ran | predict | pass | | unmeetable | other exceptions | pass of the meetable |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    lines += [line(name or "left open", row) for name, row in found["precisions"].items()]
    lines += ["", "| test file | cases | ran | predict | pass | | unmeetable | other exceptions | pass of the meetable |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    lines += [line(name, row) for name, row in [*found["files"].items(), ("**all**", total())]]
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
