"""`python -m conformance`: run coremltools' op tests through coremill, judge the results, generate the tables."""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from . import cases, table


def tests() -> Path:
    """Where coremltools keeps its op tests."""
    package = importlib.util.find_spec("coremltools").submodule_search_locations[0]
    return Path(package, "converters", "mil", "mil", "ops", "tests")


def pytest(*options: str, quiet: bool = False) -> subprocess.Popen:
    """Starts pytest on coremltools' op tests."""
    where = tests()
    command = [sys.executable, "-m", "pytest", "-p", "conformance.plugin", "-p", "no:warnings"]
    command += ["-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={where}", "-q", "--tb=no", "-r", "N"]
    path = os.pathsep.join(filter(None, [str(cases.HERE.parent), os.environ.get("PYTHONPATH")]))
    out = subprocess.DEVNULL if quiet else None
    return subprocess.Popen(
        [*command, *options, str(where)], env=os.environ | {"PYTHONPATH": path}, stdout=out, stderr=out
    )


def run(results: Path, jobs: int = 1, only: "Path | None" = None, resume: bool = False, quiet: bool = False) -> None:
    """Runs the cases in `jobs` processes that share the results file."""
    if not resume:
        results.write_bytes(b"")
    options = ["--conformance-results", str(results), "--conformance-resume"]
    options += ["--conformance-only", str(only)] if only else []
    parts = [["--conformance-part", f"{part}/{jobs}"] for part in range(jobs)]
    ends([pytest(*options, *part, quiet=quiet) for part in parts])


def names() -> list:
    """The names of all cases."""
    with tempfile.TemporaryDirectory() as folder:
        ends([pytest("--conformance-list", f"{folder}/names", quiet=True)])
        return Path(folder, "names").read_text("utf-8").splitlines()


def ends(running: list) -> None:
    codes = {process.wait() for process in running}
    # 1: some cases failed, 5: nothing left to run; anything else is a failure of pytest itself.
    if codes - {0, 1, 5}:
        raise SystemExit(f"pytest ended with {sorted(codes)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    everything = commands.add_parser("run", help="run all cases, or those that a file lists, and judge them")
    everything.add_argument("--results", type=Path, required=True)
    everything.add_argument("--only", type=Path)
    everything.add_argument("--jobs", type=int, default=1)
    everything.add_argument("--resume", action="store_true", help="keep the results and run only what they lack")
    counted = commands.add_parser("figures", help="write the figures of a run and generate the tables of docs/conformance.md")
    counted.add_argument("--results", type=Path, required=True)
    commands.add_parser("table", help="generate docs/conformance.md from its figures")
    chosen = commands.add_parser("sample", help="choose the sample from the results of a whole run")
    chosen.add_argument("--results", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "run":
        run(args.results.resolve(), args.jobs, args.only and args.only.resolve(), args.resume)
        surprises = cases.surprises(cases.results(args.results), whole=args.only is None)
        print("\n".join(surprises) or "every case is as listed")
        return bool(surprises)
    if args.command == "figures":
        table.write_figures(cases.results(args.results), names())
    if args.command == "sample":
        cases.SAMPLE.write_text("\n".join(table.sample(cases.results(args.results))) + "\n", "utf-8")
    else:
        table.PAGE.write_text(table.page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
