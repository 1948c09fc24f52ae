"""The page of `report html`, rendered and looked at in headless Chromium: nothing is logged or fetched, nothing is blank
in light, dark, narrow or on paper, and nothing but tables and drawings in their own boxes is wider than the screen.

`COREMILL_CHROMIUM=required`, as ci/test sets it, makes a missing browser a failure.
"""

import json
import os
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

BROWSERS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
SAMPLE = (
    Path(__file__).resolve().parents[2]
    / "src/report/snapshots/coremill__report__tests__json_is_read_back_and_written_the_same.snap"
)


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        message = f"none of {', '.join(BROWSERS)} is installed"
        if os.environ.get("COREMILL_CHROMIUM") == "required":
            pytest.fail(message)
        pytest.skip(message)
    return found


def figure(value, unit="1", error=None):
    return {"value": value, "unit": unit, "n": 6120} | ({} if error is None else {"standard_error": error})


def spread(scale):
    names = ["min", "p0_1", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "p99_9", "max"]
    return {name: scale * 1.9**i for i, name in enumerate(names)}


def enriched(report):
    """The report that the Rust tests pin, with everything that a page can show, and names that are hard to place."""
    for variant in report["variants"]:
        perplexity = variant["measurements"].get("perplexity")
        if perplexity is None:
            continue
        mean = perplexity["divergence"]["value"]
        perplexity["divergence_spread"] = spread(mean / 100)
        perplexity["buckets"] = [
            {"from": low, "to": high, "divergence": figure(mean, "nats", mean / 9), "median": mean / 2,
             "same_top": figure(0.98, error=0.001)}
            for low, high in [(0, 0.5), (0.5, 0.9), (0.9, 1)]
        ]
        variant["components"] = {"attention": 400000, "mlp": 900000}
        variant["tensors"] = [
            {"name": f"model_layers_{layer}_{role}_weight", "component": "mlp", "layer": layer, "form": "4-bit palette",
             "elements": 4096, "bits_per_weight": 4.2, "relative_error": min(2.0, mean * (layer + 1))}
            for layer in range(32) for role in ["self_attn_q_proj", "mlp_up_proj", "mlp_down_proj"]
        ]
        for transcript in variant["measurements"]["transcripts"]["prompts"]:
            transcript.update(text="Go out <b>at once</b> from here", first_divergence=1, margin=0.7)
    names = [variant["name"] for variant in report["variants"]][:3]
    interval = {"value": 0.1, "low": 0.05, "high": 0.15, "unit": "nats"}
    report["paired"] = [
        {"a": names[0], "b": name, "n": 6120, "windows": 24, "divergence": interval, "log_perplexity": interval,
         "same_top": interval}
        for name in names[1:]
    ]
    report["variants"][1]["name"] = "a_very_long_name_without_a_place_to_break_it_" * 3
    report["command"] += ["--text", "/a/very/long/path" * 12]
    return report


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    if "COREMILL" not in os.environ:
        pytest.skip("COREMILL names no coremill binary; ci/test sets it")
    folder = tmp_path_factory.mktemp("page")
    report = json.loads(SAMPLE.read_text().split("\n---\n", 1)[1])
    new, old = folder / "new.json", folder / "old.json"
    old.write_text(json.dumps(report | {"created": "2026-01-01T00:00:00Z"}))
    new.write_text(json.dumps(enriched(report)))
    path = folder / "report.html"
    subprocess.run([os.environ["COREMILL"], "report", "html", new, old, "-o", path], check=True)
    return path


def run(browser, url, *options):
    # Whatever the page asked for would be logged as an error: no name is found.
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr",
               "--host-resolver-rules=MAP * ~NOTFOUND", *options, url]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    logged = [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
    return ran.stdout, logged


def pixels(path):
    """Rows of grey values of an 8-bit PNG without interlacing, each pixel the mean of its channels."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    assert depth == 8 and kind in (2, 6)
    size = 3 if kind == 2 else 4
    packed, at = b"", 8
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        if name == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += length + 12
    raw, rows, above = zlib.decompress(packed), [], bytearray(width * size)
    for y in range(height):
        start = y * (width * size + 1)
        filtered, row = raw[start], bytearray(raw[start + 1 : start + 1 + width * size])
        for i in range(len(row)):
            left = row[i - size] if i >= size else 0
            corner = above[i - size] if i >= size else 0
            if filtered == 1:
                row[i] = (row[i] + left) & 255
            elif filtered == 2:
                row[i] = (row[i] + above[i]) & 255
            elif filtered == 3:
                row[i] = (row[i] + (left + above[i]) // 2) & 255
            elif filtered == 4:
                guess = left + above[i] - corner
                near = min((abs(guess - left), 0, left), (abs(guess - above[i]), 1, above[i]), (abs(guess - corner), 2, corner))
                row[i] = (row[i] + near[2]) & 255
        rows.append([sum(row[i : i + 3]) // 3 for i in range(0, len(row), size)])
        above = row
    return rows


def test_the_checks_see_what_they_look_for(browser, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text("<script>console.error('seen')</script><img src='http://example.invalid/x.png'>")
    _, logged = run(browser, path.as_uri(), "--dump-dom", "--virtual-time-budget=2000")
    assert any("seen" in line for line in logged), "what a page logs is heard"


@pytest.mark.parametrize(
    ("name", "width", "dark"), [("light", 1200, False), ("dark", 1200, True), ("narrow", 400, False)]
)
def test_it_is_drawn(browser, page, tmp_path, name, width, dark):
    picture = tmp_path / f"{name}.png"
    options = [f"--window-size={width},900", f"--screenshot={picture}"]
    options += ["--blink-settings=preferredColorScheme=0"] if dark else []
    _, logged = run(browser, page.as_uri(), *options)
    assert logged == []
    rows = pixels(picture)
    assert (len(rows), len(rows[0])) == (900, width)
    values = [value for row in rows for value in row]
    ground = max(set(values), key=values.count)
    assert ground < 60 if dark else ground > 240, f"the ground is {ground}"
    drawn = sum(abs(value - ground) > 90 for value in values) / len(values)
    assert 0.01 < drawn < 0.5, f"{drawn:.1%} of the picture differs from its ground"
    # Not one stripe at the top: something stands in every third.
    for third in range(3):
        part = [value for row in rows[third * 300 : third * 300 + 300] for value in row]
        assert sum(abs(value - ground) > 90 for value in part) > 300, f"third {third + 1} is blank"


@pytest.mark.parametrize("width", [400, 800, 1400])
def test_nothing_is_wider_than_the_screen(browser, page, tmp_path, width):
    # The page itself runs nothing; a copy measures itself.
    probe = tmp_path / "probe.html"
    script = """<script>
      for (const d of document.querySelectorAll('details')) d.open = true;
      const inside = e => e.closest('.scroll') && !e.matches('.scroll');
      const wide = [...document.querySelectorAll('body *')].filter(e => !e.matches('.skip') && !inside(e)
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className);
      const root = document.documentElement;
      root.setAttribute('data-found', JSON.stringify([innerWidth, root.scrollWidth, wide]));
    </script></body>"""
    probe.write_text(page.read_text().replace("</body>", script))
    dom, _ = run(browser, probe.as_uri(), f"--window-size={width},900", "--dump-dom")
    found = re.search(r'data-found="([^"]*)"', dom).group(1).replace("&quot;", '"')
    inner, scrolled, wide = json.loads(found)
    assert inner == width
    assert scrolled <= inner, f"the page is {scrolled} wide: {wide[:5]}"
    assert wide == []


def test_it_prints(browser, page, tmp_path):
    paper = tmp_path / "page.pdf"
    run(browser, page.as_uri(), "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    data = paper.read_bytes()
    assert data.startswith(b"%PDF-") and len(data) > 20_000
    sheets = len(re.findall(rb"/Type\s*/Page\b", data))
    assert 2 <= sheets <= 40, f"{sheets} sheets"
