"""A fixed sample of coremltools' own op tests passes in coremill's runtime; docs/conformance.md has the results of all of them."""

import os

import numpy as np
import pytest
from conformance import cases, grid, table
from conformance.__main__ import run


def test_sample(tmp_path):
    if "COREMILL" not in os.environ:
        pytest.skip("COREMILL names no coremill binary; ci/test sets it")
    results = tmp_path / "results.jsonl"
    run(results, jobs=os.cpu_count() or 1, only=cases.SAMPLE, quiet=True)
    found = cases.results(results)
    assert sorted(found) == cases.SAMPLE.read_text("utf-8").splitlines(), "every sampled case runs"
    assert cases.surprises(found, whole=False) == []
    assert all(cases.predicts(result) for result in found.values())


def test_page_is_generated_from_the_figures():
    assert table.PAGE.read_text("utf-8") == table.page(), "`python -m conformance table` regenerates it"


def test_readme_names_the_figures():
    readme = (table.DOCS.parent / "README.md").read_text("utf-8")
    assert table.sentence() in " ".join(readme.split())


RESULT = {"predictions": 1, "reason": "AssertionError"}


def surprises(monkeypatch, listed, whole=False, **outcomes):
    monkeypatch.setattr(cases, "exceptions", lambda: listed)
    return cases.surprises({case: {**RESULT, **result} for case, result in outcomes.items()}, whole)


def test_exceptions_are_named_and_may_not_pass(monkeypatch):
    listed = [{"reason": "only a Mac shows it", "cases": ["a", "b", "gone"]}, {"reason": "old", "cases": ["old"]}]
    outcomes = {case: {"outcome": outcome} for case, outcome in zip("abcd", ["failed", "passed", "failed", "xfailed"])}
    assert surprises(monkeypatch, listed, whole=True, **outcomes, e={"outcome": "skipped", "predictions": 0}) == [
        "b passed although it is an exception: only a Mac shows it",
        "c failed and is no exception: AssertionError",
        "d failed and is no exception: AssertionError",
        "exception covers no case: old",
        "exception names no case: gone",
        "exception names no case: old",
    ]


def test_roundings_are_shown_to_be_such(monkeypatch):
    listed = [{"reason": "fp16", "rounding": "half.*"}]
    shown = {"outcome": "failed", "unmeetable": False, "steps": 1.0}
    outcomes = {
        "half_1": shown,
        "half_2": {**shown, "steps": 40.0},
        "half_3": {**shown, "steps": 0.0},
        "half_4": {"outcome": "passed"},
        "other": shown,
    }
    failed = ["half_2", "half_3", "other"]
    assert surprises(monkeypatch, listed, whole=True, **outcomes) == [
        f"{case} failed and is no exception: AssertionError" for case in failed
    ]


@pytest.mark.parametrize(
    ("found", "expected", "unmeetable", "steps"),
    [
        # 0.543679 lies between two fp16 numbers, 1.4e-4 and 3.5e-4 away from it.
        ([np.float16(0.5439)], [0.543679], True, 0.5),
        # 0.25 is an fp16 number, so the neighbour is a plain mistake.
        ([np.float16(0.2502)], [0.25], False, 1.0),
        # An exact sum against the same sum in fp16: rounded 4.9e-4 away at most.
        (np.float32([1.06375]), np.float16([1.0635]), True, 0.28),
        (np.float32([1.07]), np.float16([1.0635]), False, 6.7),
        (np.float32([1.07]), np.float32([1.0635]), False, 6.7),
        (np.float32([1.0, 2.0]), np.float32([1.0]), False, np.inf),
        (np.float32([np.nan]), np.float16([1.0]), False, np.inf),
        (np.float32([1e6]), np.float16([np.inf]), True, np.inf),
    ],
)
def test_what_fp16_cannot_meet(found, expected, unmeetable, steps):
    assert grid.unmeetable(found, expected, 1e-4, 1e-5) is unmeetable
    assert grid.steps(found, expected) == pytest.approx(steps, abs=0.1)
