"""A fixed sample of coremltools' own op tests passes in coremill's runtime; docs/conformance.md says what all of them do."""

import os

import pytest
from conformance import cases, table
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


def test_page_is_drawn_from_the_figures():
    assert table.PAGE.read_text("utf-8") == table.page(), "`python -m conformance table` draws it again"


def test_the_figures_hold_the_promise():
    total = table.total()
    assert total["pass"] >= 0.995 * total["predict"]
    readme = (table.DOCS.parent / "README.md").read_text("utf-8")
    assert f"{total['pass']:,} of {total['predict']:,}" in readme, "README.md names the same figures"


def test_an_exception_covers_whole_names_and_may_not_pass(monkeypatch):
    listed = [cases.Listed("a::b\\[.*fp16.*\\]", "only a Mac shows it"), cases.Listed("gone", "old")]
    monkeypatch.setattr(cases, "exceptions", lambda: listed)
    result = {"predictions": 1, "reason": "AssertionError"}
    found = {
        "a::b[fp16]": {**result, "outcome": "failed"},
        "a::b[fp16-2]": {**result, "outcome": "passed"},
        "a::bb[fp16]": {**result, "outcome": "failed"},
        "a::b[fp32]": {**result, "outcome": "xfailed"},
        "a::c": {**result, "outcome": "skipped"},
    }
    assert cases.surprises(found, whole=True) == [
        "a::b[fp16-2] passed although it is an exception: only a Mac shows it",
        "a::bb[fp16] failed and is no exception: AssertionError",
        "a::b[fp32] failed and is no exception: AssertionError",
        "exception `gone` covers no case",
    ]
