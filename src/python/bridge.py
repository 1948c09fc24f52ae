"""The Python end of the bridge: set-up of the interpreter, loading of a package, calls, interruption."""

import ctypes
import importlib
import os
import signal
import site
import sys
import threading
import traceback
import warnings

# Nothing is fetched behind the user's back, no library forks or logs on its own account.
ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TRANSFORMERS_OFFLINE": "1",
}


def start(log, site_folders):
    """Sends all text output to the file `log` and makes the packages of `site_folders` importable."""
    os.environ.update(ENVIRONMENT)
    # Even without signal handlers of its own, Python takes SIGINT over when the process has left it at its default;
    # Ctrl-C belongs to the process, not to Python.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    stream = open(log, "a", buffering=1, encoding="utf-8", errors="replace")
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = stream
    sys.argv = ["coremill"]
    warnings.simplefilter("ignore")
    for folder in map(os.fspath, site_folders):
        if folder not in sys.path:
            site.addsitedir(folder)


def load(folder, package):
    """The function `call` of `package.entry`, whose sources lie in `folder`."""
    folder = os.fspath(folder)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return guarded(lambda: importlib.import_module(package + ".entry").call)


def call(function, request):
    """Asks `function`, which takes and gives text; whatever it raises is in the log before it goes on."""
    return guarded(lambda: function(request))


def guarded(work):
    try:
        return work()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        ctypes.CDLL(None).fflush(None)


def this_thread():
    return threading.get_ident()


def interrupt(thread):
    """Raises KeyboardInterrupt in `thread` at its next byte code, and tells whether it did.

    Not during an import: an extension module that is interrupted while it initialises may crash the process.
    """
    frame = sys._current_frames().get(thread)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return False
        frame = frame.f_back
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))
    return True
