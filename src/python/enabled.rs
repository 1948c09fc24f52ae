//! The interpreter inside this process: one call at a time, JSON in, JSON out.
//!
//! A request to stop (`base::cancel`) raises `KeyboardInterrupt` in the Python code that is running, so that its
//! `finally` blocks run; the call then gives [`PythonError::Cancelled`]. Python installs no signal handlers of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fs_err::File;
use pyo3::prelude::*;
use pyo3::types::PyModule;
use serde::Deserialize;
use serde_json::Value;

use super::boot::boot;
use super::capture::Captured;
use super::package::{self, Package};
use super::{Environment, PythonError};
use crate::base::cancel::{self, Cancelled};

/// Python code is single-minded, and so is the capture of standard output.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How often a running call looks for a request to stop.
const WATCH: Duration = Duration::from_millis(50);
/// After how many looks an interruption that was swallowed is repeated.
const REPEAT: u32 = 40;

/// A started Python with a package loaded.
#[derive(Debug)]
pub struct Interpreter {
    bridge: Py<PyModule>,
    function: Py<PyAny>,
    log: PathBuf,
    output: File,
}

/// Response of the Python side.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Ok(Value),
    Error { kind: String, message: String, hint: Option<String>, traceback: Option<String> },
}

/// The kind of a failure that the Python side caught but did not foresee.
const UNFORESEEN: &str = "internal";

impl Interpreter {
    /// Starts Python in this process for `environment`, with the `coremill` package that travels in this binary. All
    /// that libraries write goes to the end of the file `log`.
    pub fn start(environment: &Environment, log: &Path) -> Result<Self, PythonError> {
        Self::start_with(environment, log, package::COREMILL)
    }

    fn start_with(
        environment: &Environment,
        log: &Path,
        package: Package,
    ) -> Result<Self, PythonError> {
        if let Some(parent) = log.parent() {
            fs_err::create_dir_all(parent)?;
        }
        let output = fs_err::OpenOptions::new().create(true).append(true).open(log)?;
        let folder = package.lay_out(&environment.shelf)?;
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let _captured = Captured::begin(&output)?;
        boot(environment)?;
        Python::attach(|py| {
            let failed = |error: PyErr| internal(py, &error, log);
            let code = c"exec(compile(source, 'coremill_bridge.py', 'exec'), globals())";
            let bridge = PyModule::new(py, "coremill_bridge").map_err(failed)?;
            bridge.setattr("source", include_str!("bridge.py")).map_err(failed)?;
            py.run(code, Some(&bridge.dict()), None).map_err(failed)?;
            bridge.call_method1("start", (log, &environment.site)).map_err(failed)?;
            let function = bridge.call_method1("load", (folder, package.name)).map_err(failed)?;
            Ok(Self {
                bridge: bridge.unbind(),
                function: function.unbind(),
                log: log.to_owned(),
                output,
            })
        })
    }

    /// The version of the Python that runs, as `sys.version` spells it.
    pub fn version(&self) -> String {
        Python::version_str().to_owned()
    }

    /// Asks Python one thing. Waits for an earlier call to end; a request to stop ends it with
    /// [`PythonError::Cancelled`].
    pub fn call(&self, request: &Value) -> Result<Value, PythonError> {
        self.call_until(request, &cancel::requested)
    }

    fn call_until(
        &self,
        request: &Value,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Value, PythonError> {
        if stop() {
            return Err(Cancelled.into());
        }
        let text = request.to_string();
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let captured = Captured::begin(&self.output)?;
        let done = AtomicBool::new(false);
        // Zero until the caller's thread is known to Python; no thread has the number zero.
        let caller = AtomicU64::new(0);
        let answer = thread::scope(|scope| {
            let watcher = scope.spawn(|| self.watch(&done, &caller, stop));
            let answer = self.ask(&text, &caller);
            done.store(true, Ordering::Release);
            watcher.thread().unpark();
            answer
        });
        drop(captured);
        if stop() {
            self.swallow_interruption();
            return Err(Cancelled.into());
        }
        let answer = serde_json::from_str(&answer?)
            .map_err(|error| PythonError::Protocol { message: error.to_string() })?;
        match answer {
            Answer::Ok(value) => Ok(value),
            Answer::Error { kind, message, traceback, .. } if kind == UNFORESEEN => {
                writeln!(&self.output, "{}", traceback.as_deref().unwrap_or(&message))?;
                Err(PythonError::Internal { message: first_line(&message), log: self.log.clone() })
            }
            Answer::Error { kind, message, hint, .. } => {
                Err(PythonError::Known { kind, message, hint })
            }
        }
    }

    fn ask(&self, request: &str, caller: &AtomicU64) -> Result<String, PythonError> {
        Python::attach(|py| {
            let failed = |error: PyErr| internal(py, &error, &self.log);
            let bridge = self.bridge.bind(py);
            let thread: u64 =
                bridge.call_method0("this_thread").and_then(|id| id.extract()).map_err(failed)?;
            caller.store(thread, Ordering::Release);
            let answer = bridge.call_method1("call", (&self.function, request)).map_err(failed)?;
            answer.extract().map_err(failed)
        })
    }

    /// Interrupts the caller once the run is asked to stop, and again while it does not heed.
    fn watch(&self, done: &AtomicBool, caller: &AtomicU64, stop: &(dyn Fn() -> bool + Sync)) {
        let mut looks_left = 0;
        while !done.load(Ordering::Acquire) {
            thread::park_timeout(WATCH);
            let thread = caller.load(Ordering::Acquire);
            if thread == 0 || !stop() {
                continue;
            }
            if looks_left > 0 {
                looks_left -= 1;
            } else if self.interrupt(thread, done) {
                looks_left = REPEAT;
            }
        }
    }

    /// Interrupts a call that is not done yet, and tells whether it could. Waits for the GIL, which the caller keeps
    /// through one long C call at most.
    fn interrupt(&self, thread: u64, done: &AtomicBool) -> bool {
        Python::attach(|py| {
            if done.load(Ordering::Acquire) {
                return false;
            }
            let raised = self.bridge.bind(py).call_method1("interrupt", (thread,));
            raised.and_then(|raised| raised.extract()).unwrap_or(false)
        })
    }

    /// An interruption that came after the call's last byte code waits for the next one: it gets one of no account.
    fn swallow_interruption(&self) {
        Python::attach(|py| drop(self.bridge.bind(py).call_method0("this_thread")));
    }
}

fn internal(py: Python<'_>, error: &PyErr, log: &Path) -> PythonError {
    let kind = error.get_type(py).name().map_or_else(|_| "exception".to_owned(), |n| n.to_string());
    let message = format!("{kind}: {}", error.value(py));
    PythonError::Internal { message: first_line(&message), log: log.to_owned() }
}

fn first_line(message: &str) -> String {
    let line = message.lines().find(|l| !l.trim().is_empty()).unwrap_or("it says no more");
    line.trim().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod python_tests {
    use std::time::Instant;

    use serde_json::json;

    use super::*;

    const STUB: Package = Package {
        name: "stubmill",
        files: &[
            ("__init__.py", ""),
            (
                "slow.py",
                "import os, time\nfor _ in range(100): time.sleep(0.01)\nopen(os.environ['WITNESS'], 'w').close()\n",
            ),
            (
                "entry.py",
                r#"
import json, os, sys, time

def spin(request):
    try:
        while True:
            time.sleep(0.01)
    finally:
        open(request["witness"], "w").close()

def slow_import(request):
    os.environ["WITNESS"] = request["witness"]
    import stubmill.slow
    for _ in range(6000):
        time.sleep(0.01)

def fail(request):
    raise ValueError("the ümlaut is at fault.\nmore")

def noise(request):
    os.write(1, b"from C\n")
    print("from Python")
    print("to stderr", file=sys.stderr)
    return None

OPS = {
    "version": lambda r: list(sys.version_info[:2]),
    "prefix": lambda r: [sys.prefix, os.__file__, sys.executable],
    "echo": lambda r: r["value"],
    "environ": lambda r: os.environ["HF_HUB_OFFLINE"],
    "signal": lambda r: str(__import__("signal").getsignal(2)),
    "encoding": lambda r: [sys.getfilesystemencoding(), __import__("locale").getpreferredencoding()],
    "spin": spin, "import": slow_import, "fail": fail, "noise": noise,
}

def call(text):
    request = json.loads(text)
    if request["op"] not in ("caught", *OPS):
        error = {"kind": "unknown_op", "message": "no op " + request["op"], "hint": "try echo"}
        return json.dumps({"error": error})
    if request["op"] == "caught":
        error = {"kind": "internal", "message": "KeyError: 7", "hint": None, "traceback": "Traceback of 7"}
        return json.dumps({"error": error})
    return json.dumps({"ok": OPS[request["op"]](request)})
"#,
            ),
        ],
    };

    fn stub(shelf: &Path) -> Interpreter {
        let environment = Environment::bare(shelf);
        Interpreter::start_with(&environment, &shelf.join("python.log"), STUB).unwrap()
    }

    #[test]
    fn python_answers_in_this_process() {
        let shelf = tempfile::tempdir().unwrap();
        let python = stub(shelf.path());
        let linked: Vec<u64> = super::super::host::LINKED_VERSION
            .unwrap()
            .split('.')
            .map(|n| n.parse().unwrap())
            .collect();
        let home = Environment::bare(shelf.path()).home;
        assert_eq!(python.call(&json!({"op": "version"})).unwrap(), json!(linked));
        assert_eq!(
            python.call(&json!({"op": "echo", "value": {"é": [1.5]}})).unwrap(),
            json!({"é": [1.5]})
        );
        assert_eq!(python.call(&json!({"op": "environ"})).unwrap(), json!("1"));
        assert_eq!(python.call(&json!({"op": "encoding"})).unwrap(), json!(["utf-8", "utf-8"]));
        let library = python.call(&json!({"op": "prefix"})).unwrap();
        assert!(Path::new(library[1].as_str().unwrap()).starts_with(&home), "{library}");
        let signal = python.call(&json!({"op": "signal"})).unwrap();
        assert!(!signal.as_str().unwrap().contains("default_int_handler"), "{signal}");
    }

    #[test]
    fn python_failures_come_back_typed_and_their_traceback_is_in_the_log() {
        let shelf = tempfile::tempdir().unwrap();
        let python = stub(shelf.path());
        match python.call(&json!({"op": "none"})).unwrap_err() {
            PythonError::Known { kind, message, hint } => {
                assert_eq!((kind.as_str(), message.as_str()), ("unknown_op", "no op none"));
                assert_eq!(hint.as_deref(), Some("try echo"));
            }
            other => panic!("{other:?}"),
        }
        for (op, want, trace) in [
            ("fail", "ValueError: the ümlaut is at fault", "in fail"),
            ("caught", "KeyError: 7", "Traceback of 7"),
        ] {
            match python.call(&json!({"op": op})).unwrap_err() {
                PythonError::Internal { message, log } => {
                    assert_eq!(message, want);
                    let text = fs_err::read_to_string(log).unwrap();
                    assert!(text.contains("Traceback") && text.contains(trace), "{text}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn python_noise_goes_to_the_log() {
        let shelf = tempfile::tempdir().unwrap();
        let python = stub(shelf.path());
        python.call(&json!({"op": "noise"})).unwrap();
        let text = fs_err::read_to_string(shelf.path().join("python.log")).unwrap();
        for line in ["from C", "from Python", "to stderr"] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }

    #[test]
    fn python_is_interrupted_and_can_be_asked_again() {
        let shelf = tempfile::tempdir().unwrap();
        let python = stub(shelf.path());
        let witness = shelf.path().join("cleaned-up");
        let begin = Instant::now();
        let error = interrupted(&python, &json!({"op": "spin", "witness": witness}));
        assert!(matches!(error, PythonError::Cancelled(_)), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(10));
        assert!(witness.exists(), "`finally` blocks run");
        assert_eq!(
            python.call_until(&json!({"op": "echo", "value": 1}), &|| false).unwrap(),
            json!(1)
        );
    }

    #[test]
    fn python_ends_an_import_before_it_is_interrupted() {
        let shelf = tempfile::tempdir().unwrap();
        let python = stub(shelf.path());
        let witness = shelf.path().join("imported");
        let begin = Instant::now();
        let error = interrupted(&python, &json!({"op": "import", "witness": witness}));
        assert!(matches!(error, PythonError::Cancelled(_)), "{error}");
        assert!(witness.exists(), "the import ends");
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    /// Asks to stop shortly after the request.
    fn interrupted(python: &Interpreter, request: &Value) -> PythonError {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(300));
                stop.store(true, Ordering::Relaxed);
            });
            python.call_until(request, &|| stop.load(Ordering::Relaxed)).unwrap_err()
        })
    }
}
