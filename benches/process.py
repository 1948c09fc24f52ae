"""Time and memory of a process, read from /proc while it runs."""

import pathlib
import subprocess
import sys
import time


def fields(path):
    """The `name: number` lines of a file of /proc."""
    found = {}
    for line in pathlib.Path(path).read_text().splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()[0] if rest.split() else ""
        if number.isdigit():
            found[name] = int(number)
    return found


def watch(command, **options):
    """Runs a command; returns seconds, peak anonymous and resident bytes, bytes written, and its output if piped.

    Anonymous memory is the largest `RssAnon` of /proc/PID/status, read every 20 ms: without the pages of files.
    """
    started = time.monotonic()
    process = subprocess.Popen(command, **options)
    anonymous = resident = written = 0
    while process.poll() is None:
        try:
            status = fields(f"/proc/{process.pid}/status")
            anonymous = max(anonymous, status.get("RssAnon", 0) * 1024)
            resident = max(resident, status.get("VmHWM", 0) * 1024)
            written = fields(f"/proc/{process.pid}/io").get("wchar", written)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass
        time.sleep(0.02)
    seconds = time.monotonic() - started
    output = process.stdout.read() if process.stdout else None
    if process.returncode:
        sys.exit(f"{command[0]} ended with {process.returncode}")
    taken = dict(
        seconds=round(seconds, 3),
        peak_anonymous_bytes=anonymous, peak_resident_bytes=resident, bytes_written=written,
    )  # fmt: skip
    return taken, output
