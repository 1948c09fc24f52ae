"""The Ray driver's own parts, without a cluster: exchange of files, what a node says, shares of cores."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "python" / "cluster.py"


@pytest.fixture(scope="module")
def cluster():
    spec = importlib.util.spec_from_file_location("cluster", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder, files):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


def read(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


FILES = {
    "fp16.mlpackage/Manifest.json": "{}",
    "fp16.mlpackage/Data/weight.bin": "bytes",
    "fp16.manifest.json": "m",
    "pal4-g16.mlpackage/Data/weight.bin": "less",
    "results/built/a.json": "{}",
    "results/measured/a.json": "{}",
    "results/measured/a.tokens.safetensors": "t",
    "tokenizer/tokenizer.json": "{}",
    "report.json": "the driver's",
    "results/.coremill-partial-7": "half",
}


def test_packages_come_before_the_records_that_speak_of_them(cluster):
    ordered = sorted(FILES, key=cluster.order)
    assert ordered.index("pal4-g16.mlpackage/Data/weight.bin") < ordered.index("results/built/a.json")
    assert ordered.index("results/measured/a.tokens.safetensors") < ordered.index("results/measured/a.json")
    assert ordered[-1] == "results/measured/a.json"


@pytest.mark.parametrize("there", [{}, {"results/built/a.json": "longer than it was", "fp16.manifest.json": "m"}])
def test_files_go_to_the_storage_and_come_back(cluster, tmp_path, there):
    storage = f"file://{tmp_path / 'stored'}"
    write(tmp_path / "driver", FILES)
    write(tmp_path / "stored", there)
    cluster.push(storage, tmp_path / "driver", cluster.kept)
    kept = {path: text for path, text in FILES.items() if path != "report.json" and ".coremill-partial" not in path}
    assert stored(tmp_path / "stored") == kept

    (tmp_path / "node").mkdir()
    cluster.pull(storage, tmp_path / "node", cluster.shared)
    assert read(tmp_path / "node") == {path: text for path, text in kept.items() if not path.startswith("pal4")}
    before = os.stat(tmp_path / "node/fp16.manifest.json").st_mtime_ns
    cluster.pull(storage, tmp_path / "node", lambda path: True)
    assert read(tmp_path / "node") == kept
    assert os.stat(tmp_path / "node/fp16.manifest.json").st_mtime_ns == before, "what is there stays"


def stored(folder):
    return {path: text for path, text in read(folder).items() if not path.endswith(".sha256")}


def test_what_has_another_content_of_the_same_length_is_copied(cluster, tmp_path):
    storage = f"file://{tmp_path / 'stored'}"
    package, failed = "fp16.mlpackage/Data/weight.bin", "results/failed/a.json"
    for text in ("one", "two"):
        write(tmp_path / "driver", {package: text, failed: text, "results/built/a.json": "{}"})
        cluster.push(storage, tmp_path / "driver", cluster.kept)
        (tmp_path / "node").mkdir(exist_ok=True)
        cluster.pull(storage, tmp_path / "node", cluster.shared)
        assert read(tmp_path / "node") == {package: text, failed: text, "results/built/a.json": "{}"}


def test_failures_of_others_are_not_told(cluster, tmp_path):
    write(tmp_path, {"results/failed/a.json": json.dumps({"result": {"variant": "a"}}), "results/built/b.json": ""})
    assert not cluster.foreign(tmp_path, "results/failed/a.json", "a")
    assert cluster.foreign(tmp_path, "results/failed/a.json", "b")
    assert not cluster.foreign(tmp_path, "results/built/b.json", "a")


def test_a_storage_that_nobody_knows_is_refused(cluster, tmp_path):
    with pytest.raises(cluster.Refused, match="storage `nosuch://bucket`: .*nosuch"):
        cluster.push("nosuch://bucket", tmp_path, cluster.kept)


def test_a_storage_that_cannot_be_written_is_told(cluster, tmp_path):
    write(tmp_path / "driver", FILES)
    (tmp_path / "stored").write_text("a file")
    request = {"storage": f"file://{tmp_path / 'stored'}", "folder": tmp_path / "driver"}
    with pytest.raises(cluster.Refused, match="storage `file://.*stored`: .*stored") as refused:
        cluster.exchange(cluster.push, request, cluster.kept)
    assert "credentials" in refused.value.hint
    cluster.exchange(cluster.push, {**request, "storage": None}, cluster.kept)


@pytest.mark.parametrize(
    ("cores", "tasks", "alone", "share"),
    [
        ([16, 16], 1, False, 16),
        ([16, 16], 4, False, 8),
        ([16, 4], 10, False, 2),
        ([2, 2], 40, False, 1),
        ([0, 8], 3, False, 2),
        ([16, 4], 10, True, 4),
        ([0], 3, False, 1),
        ([], 3, True, 1),
    ],
)
def test_shares_of_cores(cluster, cores, tasks, alone, share):
    assert cluster.share(cores, tasks, alone) == share


@pytest.mark.parametrize(
    ("answer", "told", "want"),
    [
        (
            {"variants": [{"name": "fp16"}, {"name": "a", "failure": {"message": "full", "hint": "make room"}}]},
            ["error: other"],
            {"message": "full", "hint": "make room"},
        ),
        ({"variants": [{"name": "a"}]}, ["note", "error: disk", "hint: buy"], {"message": "disk", "hint": "buy"}),
        (None, [], {"message": "coremill ended with code 4", "hint": None}),
    ],
)
def test_why_a_node_failed(cluster, answer, told, want):
    text = "" if answer is None else json.dumps(answer)
    assert cluster.failure(text, "a", told, 4) == want


class Board:
    """Stands for the actor."""

    def __init__(self):
        self.events = []
        self.tell = self

    def remote(self, event):
        self.events.append(event)


def stand_in(tmp_path, script):
    program = tmp_path / "stand-in"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def task(tmp_path, program):
    same = {"name": "a", "program": program, "version": "coremill 1", "folder": str(tmp_path), "cores": 3}
    return {**same, "spec": "text", "spec_name": "s.toml", "arguments": ["--more"]}


def test_a_node_runs_the_sweep_of_one_variant(cluster, tmp_path):
    script = f"""
    echo "$@" > {tmp_path}/arguments
    for last; do true; done
    cp "$last" {tmp_path}/spec
    echo '{{"event": "begin", "stage": "evaluating", "done": 2, "total": 5}}' >&2
    echo 'error: no room' >&2
    exit 4"""
    board = Board()
    code, said = cluster.sweep(task(tmp_path, stand_in(tmp_path, script)), str(tmp_path / "stand-in"), tmp_path.as_posix(), board)
    assert (code, said["message"]) == (4, "no room")
    assert board.events == [{"event": "progress", "name": "a", "stage": "evaluating", "done": 2, "total": 5}]
    arguments = (tmp_path / "arguments").read_text()
    for part in ("sweep --only a --more", f'output.dir="{tmp_path}"', 'output.keep="all"', "run.cores=3", "/s.toml"):
        assert part in arguments, arguments
    assert (tmp_path / "spec").read_text() == "text"


def test_a_coremill_that_was_killed_is_no_result(cluster, tmp_path):
    with pytest.raises(ChildProcessError, match="signal 9"):
        cluster.sweep(task(tmp_path, stand_in(tmp_path, "kill -9 $$")), str(tmp_path / "stand-in"), tmp_path.as_posix(), Board())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells children of their parent's end")
def test_a_coremill_ends_with_its_worker(cluster, tmp_path):
    script = f"""
import importlib.util, subprocess, time
spec = importlib.util.spec_from_file_location("cluster", {str(SOURCE)!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
child = subprocess.Popen(["sleep", "600"], preexec_fn=module.ends_with_its_parent())
print(child.pid, flush=True)
time.sleep(600)
"""
    worker = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = int(worker.stdout.readline())
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert wait_until(lambda: not alive(child)), "it goes on"


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(holds):
    import time

    for _ in range(200):
        if holds():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("script", "fact"),
    [("echo coremill 2", "is `coremill 2`, the sweep is `coremill 1`"), (None, "has no coremill: neither")],
)
def test_nodes_have_the_same_coremill(cluster, tmp_path, monkeypatch, script, fact):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    program = str(tmp_path / "none") if script is None else stand_in(tmp_path, script)
    with pytest.raises(cluster.Refused, match=fact):
        cluster.program_of(task(tmp_path, program))
