"""The Ray driver of a sweep: a request as one line of JSON on standard input, events as lines of JSON on standard output.

It runs in a process of its own, since Ray ends the process whose cluster is gone. It ends when its standard input does:
then nobody waits for what it does. What nodes run (`run`) is sent to them by value, for it is `__main__` here; nodes
need Ray, and fsspec where there is a storage.
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

# How often a task is begun again after its worker or its node was lost.
RETRIES = 3
# Seconds within which the address has to answer.
PATIENCE = 10
# Behind the name of a stored file: the file with its SHA-256.
BESIDE = ".sha256"


class Refused(Exception):
    """What the user can mend: a fact and a hint."""

    def __init__(self, message, hint=None):
        super().__init__(message)
        self.hint = hint


# The storage: a folder's files by their paths relative to it, in the order in which they are copied.


def order(path):
    """Records come after what they speak of, and tokens before the record that counts on them."""
    return path.startswith("results/"), path.startswith("results/measured") and path.endswith(".json"), path


def unfinished(path):
    return any(part.startswith(".coremill-partial-") for part in path.split("/"))


def local_files(folder):
    """Path to size of every file below `folder`."""
    found = {}
    for base, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(base, name)
            found[os.path.relpath(path, folder).replace(os.sep, "/")] = os.path.getsize(path)
    return {path: size for path, size in found.items() if not unfinished(path)}


def opened(storage):
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(storage)
    except (ImportError, ValueError) as error:
        raise Refused(f"storage `{storage}`: {error}") from error
    files.invalidate_cache()
    return files, root.rstrip("/")


def stored_files(files, root):
    """Path to size of every file in the storage."""
    found = files.find(root, detail=True) if files.exists(root) else {}
    sizes = {path[len(root) + 1 :]: about["size"] for path, about in found.items() if not unfinished(path)}
    return {path: size for path, size in sizes.items() if not path.endswith(BESIDE)}


def by_content(path):
    """Whether the name says what is in it: records under digests of all that they rest on, which are written once."""
    return path.startswith(("results/built/", "results/measured/", "results/references/"))


def digest(folder, path):
    hasher = hashlib.sha256()
    with open(os.path.join(folder, *path.split("/")), "rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def same(files, root, path, size, folder, have):
    """Whether a stored file is the local one. Packages of one shape have the same lengths, which therefore say little."""
    if have.get(path) != size:
        return False
    if by_content(path):
        return True
    try:
        return files.cat_file(f"{root}/{path}{BESIDE}").decode() == digest(folder, path)
    except FileNotFoundError:
        return False


def pull(storage, folder, wanted):
    """Copies what `wanted` takes and `folder` lacks, each file whole or not at all."""
    files, root = opened(storage)
    have = local_files(folder)
    for path, size in sorted(stored_files(files, root).items(), key=lambda item: order(item[0])):
        if wanted(path) and not same(files, root, path, size, folder, have):
            target = os.path.join(folder, *path.split("/"))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            partial = os.path.join(os.path.dirname(target), f".coremill-partial-{os.getpid()}-{threading.get_ident()}")
            files.get_file(f"{root}/{path}", partial)
            os.replace(partial, target)


def push(storage, folder, wanted):
    """Copies what `wanted` takes and the storage lacks."""
    files, root = opened(storage)
    have, local = stored_files(files, root), local_files(folder)
    for path in sorted(local, key=order):
        if wanted(path) and not (path in have and same(files, root, path, have[path], folder, local)):
            target = f"{root}/{path}"
            files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            files.put_file(os.path.join(folder, *path.split("/")), target)
            if not by_content(path):
                files.pipe_file(target + BESIDE, digest(folder, path).encode())


def shared(path):
    """What all tasks need of the output folder: records, the baseline, the tokenizer."""
    return path.startswith(("results/", "tokenizer/", "fp16."))


def foreign(folder, path, name):
    """Whether it is the failure of another variant, which that one's node knows better."""
    if not path.startswith("results/failed/"):
        return False
    with open(os.path.join(folder, *path.split("/")), encoding="utf-8") as file:
        return json.load(file)["result"]["variant"] != name


def kept(path):
    """What of the output folder belongs into the storage: not the reports, which the driver writes."""
    return "/" in path or path.endswith(".manifest.json")


# What nodes run.


def run(task, board):
    """Makes one variant on this node, by coremill itself; gives what became of it.

    A coremill that was killed raises ChildProcessError, upon which Ray runs the task again.
    """
    import ray

    own = ray.get_runtime_context()
    node = own.get_node_id()
    about = {"name": task["name"], "host": socket.gethostname(), "node": node[:8], "processor": processor()}
    board.tell.remote({"event": "started", **about})
    began = time.monotonic()
    try:
        program = program_of(task)
        with locked("timing") if task["alone"] else contextlib.nullcontext():
            code, said = with_storage(task, program, node, board) if task["storage"] else sweep(
                task, program, task["folder"], board
            )
    except Refused as error:
        return {**about, "outcome": "failed", "message": str(error), "hint": error.hint}
    about["seconds"] = time.monotonic() - began
    # 0, 1 and 3 are what gates say of a variant that was made and measured.
    if code in (0, 1, 3):
        return {**about, "outcome": "done"}
    return {**about, "outcome": "failed", **said}


def processor():
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return None


def program_of(task):
    """coremill on this node: at the driver's place or on the search path, and of the driver's version."""
    program = shutil.which(task["program"]) or shutil.which("coremill")
    host = socket.gethostname()
    if program is None:
        raise Refused(
            f"node {host} has no coremill: neither `{task['program']}` nor one on its search path",
            "install coremill on every node, or share the folder it is in",
        )
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    if told != task["version"]:
        raise Refused(f"`{program}` of node {host} is `{told}`, the sweep is `{task['version']}`", "install one version")
    return program


@contextlib.contextmanager
def locked(name):
    """Holds the lock `name` of this machine, against other tasks of this user."""
    import fcntl

    with open(os.path.join(tempfile.gettempdir(), f"coremill-{os.getuid()}-{name}.lock"), "a", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def with_storage(task, program, node, board):
    """`sweep` in a folder of this node, which the task's part of the storage is copied to and from."""
    key = hashlib.sha256(task["storage"].encode()).hexdigest()[:16]
    folder = os.path.join(tempfile.gettempdir(), f"coremill-{os.getuid()}", f"{key}-{node[:16]}")
    os.makedirs(folder, exist_ok=True)
    with locked(os.path.basename(folder)):
        pull(task["storage"], folder, shared)
    outcome = sweep(task, program, folder, board)
    own = task["name"] + "."

    def mine(path):
        return path.startswith(own) or (shared(path) and not foreign(folder, path, task["name"]))

    push(task["storage"], folder, mine)
    if own != "fp16.":
        shutil.rmtree(os.path.join(folder, own + "mlpackage"), ignore_errors=True)
    return outcome


def sweep(task, program, folder, board):
    """Runs coremill for the variant; gives its exit code, and its message and hint where it failed."""
    settings = [f"output.dir={json.dumps(folder)}", 'output.keep="all"']
    settings.append(f"run.references={json.dumps(os.path.join(folder, 'results', 'references'))}")
    arguments = ["--format", "json", "--progress", "json", "sweep", "--only", task["name"], *task["arguments"]]
    settings.append(f"run.cores={task['cores']}")
    for setting in settings:
        arguments += ["--set", setting]
    with tempfile.TemporaryDirectory(prefix="coremill-") as scratch:
        spec = os.path.join(scratch, task["spec_name"])
        with open(spec, "w", encoding="utf-8") as file:
            file.write(task["spec"])
        with open(os.path.join(scratch, "answer.json"), "w+", encoding="utf-8") as answer:
            process = subprocess.Popen(
                [program, *arguments, spec],
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                preexec_fn=ends_with_its_parent(),
            )
            told = follow(process.stderr, task["name"], board)
            code = process.wait()
            if code < 0:
                raise ChildProcessError(f"coremill was ended by signal {-code}")
            answer.seek(0)
            return code, failure(answer.read(), task["name"], told, code)


def ends_with_its_parent():
    """Has Linux kill the child where this worker is killed: a task that runs again must not find its elder at work."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    libc, parent_death_signal = ctypes.CDLL(None), 1
    return lambda: libc.prctl(parent_death_signal, signal.SIGKILL)


def follow(lines, name, board):
    """Passes progress on, twice a second at most; gives the lines that are no progress."""
    others, last = [], 0.0
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            others = [*others, line.rstrip()][-20:]
            continue
        if isinstance(event, dict) and "stage" in event and time.monotonic() - last > 0.5:
            last = time.monotonic()
            told = {key: event.get(key) for key in ("stage", "done", "total")}
            board.tell.remote({"event": "progress", "name": name, **told})
    return others


def failure(answer, name, told, code):
    """What went wrong: as the report has it, or as the last error line says."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        for variant in json.loads(answer)["variants"]:
            if variant["name"] == name and variant.get("failure"):
                return {key: variant["failure"].get(key) for key in ("message", "hint")}
    said = {"message": f"coremill ended with code {code}", "hint": None}
    for line in told:
        for key, begin in (("message", "error: "), ("hint", "hint: ")):
            if line.strip().startswith(begin):
                said[key] = line.strip()[len(begin) :]
    return said


# The driver.


def connect(address):
    """Joins the cluster at `address`."""
    import ray

    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
        except OSError as error:
            hint = "start it with `ray start --head`; a cluster is at HOST:6379 for its own nodes, at ray://HOST:10001 for others"
            raise Refused(f"no cluster answers at {address}: {error.strerror or error}", hint) from error
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, _skip_env_hook=True)
    except Exception as error:  # noqa: BLE001 - Ray raises what it likes
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        hint = "start the cluster with the `ray` beside the Python that `coremill setup --ray --print-python` names"
        raise Refused(f"the cluster at {address} cannot be joined: {' '.join(lines[:3])}", hint) from error


def run_all(request, tell):
    """Runs every task on the cluster and tells what becomes of each."""
    import ray

    connect(request["address"])
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(resources.get("CPU", 0)) for resources in alive]
    tell({"event": "nodes", "nodes": len(alive), "cores": sum(cores)})
    wanted = request["cores"] or share(cores, len(request["tasks"]), request["alone"])
    if wanted > max(cores, default=0):
        text = f"no node has {wanted} cores now, the largest has {max(cores, default=0)}: waiting for one"
        tell({"event": "note", "text": text})
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=True
    )
    board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(Board).remote()
    options = {"num_cpus": wanted, "max_retries": RETRIES, "retry_exceptions": [ChildProcessError]}
    if request["memory"]:
        options["memory"] = request["memory"]
    function = ray.remote(run).options(scheduling_strategy="SPREAD", **options)
    same = {key: value for key, value in request.items() if key not in ("address", "tasks")}
    pending = {function.remote({**same, "cores": wanted, "name": name}, board): name for name in request["tasks"]}
    attempts = {}
    while pending:
        ended, _ = ray.wait(list(pending), timeout=0.5)
        for event in heard(board):
            if event["event"] == "started":
                event["attempt"] = attempts[event["name"]] = attempts.get(event["name"], 0) + 1
            tell(event)
        for reference in ended:
            name = pending.pop(reference)
            try:
                tell({"event": "ended", **ray.get(reference)})
            except Exception as error:  # noqa: BLE001 - of Ray, of the node's Python, of the storage
                raised = isinstance(error, ray.exceptions.RayTaskError) and not isinstance(error, ChildProcessError)
                outcome = "failed" if raised else "lost"
                tell({"event": "ended", "name": name, "outcome": outcome, "message": last_line(error)})
    ray.shutdown()


def share(cores, tasks, alone):
    """Cores of a task where nothing is said: all are busy, and each task is on one node; who is timed is alone on it."""
    some = [n for n in cores if n > 0]
    if not some:
        return 1
    return min(some) if alone else max(1, min(max(some), sum(some) // tasks))


def last_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


class Board:
    """Where nodes put what the driver should tell."""

    def __init__(self):
        self.events = []

    def tell(self, event):
        self.events.append(event)

    def take(self):
        events, self.events = self.events, []
        return events


def heard(board):
    import ray

    try:
        return ray.get(board.take.remote(), timeout=5)
    except Exception:  # noqa: BLE001 - the board may be lost with its node; it comes again
        return []


def exchange(copy, request, wanted):
    """Pushes or pulls the output folder, where there is a storage."""
    storage = request["storage"]
    if not storage:
        return
    try:
        copy(storage, request["folder"], wanted)
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - each file system of fsspec has errors of its own
        raise Refused(f"storage `{storage}`: {last_line(error)}", "are address and credentials right?") from error


def main():
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    # Whatever libraries print is for the log.
    os.dup2(2, 1)
    request = json.loads(sys.stdin.readline())

    def end_with_standard_input():
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
        os._exit(1)

    threading.Thread(target=end_with_standard_input, daemon=True).start()

    def tell(event):
        answers.write(json.dumps(event) + "\n")

    try:
        exchange(push, request, kept)
        if request["tasks"]:
            run_all(request, tell)
        exchange(pull, request, lambda path: True)
    except Refused as error:
        tell({"event": "error", "message": str(error), "hint": error.hint})
    except KeyboardInterrupt:
        sys.exit(130)
    else:
        tell({"event": "over"})


if __name__ == "__main__":
    main()
