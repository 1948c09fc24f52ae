"""The page of `report html`, rendered and looked at in headless Chromium: nothing is logged or fetched, nothing is blank
in light, dark, narrow or on paper, and nothing but tables and drawings in their own boxes is wider than the screen.

`COREMILL_CHROMIUM=required`, as ci/test sets it, makes a missing browser a failure.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

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
    """The picture in grey."""
    with Image.open(path) as picture:
        return picture.convert("L")


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
    grey = pixels(picture)
    assert grey.size == (width, 900)
    counts = grey.histogram()
    ground = max(range(256), key=counts.__getitem__)
    assert ground < 60 if dark else ground > 240, f"the ground is {ground}"
    drawn = marked(grey, ground) / (width * 900)
    assert 0.01 < drawn < 0.5, f"{drawn:.1%} of the picture differs from its ground"
    # Not one stripe at the top: something stands in every third.
    for third in range(3):
        part = grey.crop((0, third * 300, width, third * 300 + 300))
        assert marked(part, ground) > 300, f"third {third + 1} is blank"


def marked(grey, ground):
    """Pixels that stand out from the ground."""
    return sum(n for value, n in enumerate(grey.histogram()) if abs(value - ground) > 90)


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


def boxes(data):
    """The sheets of a PDF: width and height of each, points."""
    found = re.findall(rb"/MediaBox\s*\[\s*0\s+0\s+([\d.]+)\s+([\d.]+)\s*\]", data)
    return [(float(width), float(height)) for width, height in found]


def test_it_prints(browser, page, tmp_path):
    paper = tmp_path / "page.pdf"
    run(browser, page.as_uri(), "--no-pdf-header-footer", f"--print-to-pdf={paper}")
    data = paper.read_bytes()
    assert data.startswith(b"%PDF-") and len(data) > 20_000
    sheets = boxes(data)
    assert 2 <= len(sheets) <= 40, f"{len(sheets)} sheets"
    # Wide tables would be cut in portrait.
    assert all(width > height for width, height in sheets), sheets


def test_nothing_is_wider_than_the_paper(browser, page, tmp_path):
    # The printed style applied to the screen, as wide as a sheet of US Letter between its margins, 255 mm; A4 is wider.
    style = page.read_text().replace("@media print", "@media all")
    script = """<script>
      const wide = [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1);
      const shown = [...document.querySelectorAll('details:not([open]):not(.brief)')].filter(e => e.offsetHeight > 0);
      const found = [wide.slice(0, 5).map(e => e.tagName + ' ' + e.textContent.slice(0, 40)), shown.length];
      document.documentElement.setAttribute('data-found', JSON.stringify(found));
    </script></body>"""
    probe = tmp_path / "probe.html"
    probe.write_text(style.replace("</body>", script))
    dom, _ = run(browser, probe.as_uri(), "--window-size=964,900", "--dump-dom")
    found = re.search(r'data-found="([^"]*)"', dom).group(1).replace("&quot;", '"')
    assert json.loads(found) == [[], 0], "what is folded is left out, and what is there fits"
