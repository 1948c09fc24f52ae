//! Starts Python inside this process, with the standard library that belongs to the loaded libpython.
//!
//! `Python::initialize` of `PyO3` would look for a `python3` on the search path and take the standard library beside
//! it, which can be another version's, and would obey `PYTHONHOME` and `PYTHONPATH`. `PyConfig` is the way to say
//! where Python is at home, and C is the only way to `PyConfig`.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use pyo3::ffi;

use super::{Environment, PythonError};

/// The interpreter that Python was started for; one process can have one.
static BOOTED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Starts Python for `environment`, unless it already runs for it.
pub(super) fn boot(environment: &Environment) -> Result<(), PythonError> {
    let start = |message: String| PythonError::Start { message };
    let mut booted = BOOTED.lock().unwrap_or_else(PoisonError::into_inner);
    match &*booted {
        Some(python) if *python == environment.python => return Ok(()),
        Some(python) => {
            let text = format!("this process already runs the Python of `{}`", python.display());
            return Err(start(text));
        }
        None => {}
    }
    let mut home = environment.home.as_os_str().to_owned();
    if environment.exec_home != environment.home {
        home.push(":");
        home.push(&environment.exec_home);
    }
    let home = c_string(Path::new(&home))?;
    let executable = c_string(&environment.python)?;
    initialize(&home, &executable).map_err(start)?;
    *booted = Some(environment.python.clone());
    Ok(())
}

fn c_string(path: &Path) -> Result<CString, PythonError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| PythonError::Start {
        message: format!("the path `{}` has a zero byte", path.display()),
    })
}

/// Initialises the interpreter in isolated mode (no `PYTHON*` variables, no user site folder, no signal handlers) with
/// UTF-8 for all text, and lets go of the GIL. Only [`boot`] calls it, once in a process, under its mutex.
#[expect(unsafe_code, reason = "PyConfig has no safe wrapper in PyO3")]
fn initialize(home: &CStr, executable: &CStr) -> Result<(), String> {
    let mut preconfig = MaybeUninit::<ffi::PyPreConfig>::zeroed();
    // SAFETY: the pointer is valid for writes, all-zero is a valid value of this struct of integers, and the call
    // fills it.
    let mut preconfig = unsafe {
        ffi::PyPreConfig_InitIsolatedConfig(preconfig.as_mut_ptr());
        preconfig.assume_init()
    };
    preconfig.utf8_mode = 1;
    // SAFETY: `preconfig` is initialised, and the interpreter is not, as `boot` sees to.
    check(unsafe { ffi::Py_PreInitialize(&raw const preconfig) })?;

    let mut config = MaybeUninit::<ffi::PyConfig>::zeroed();
    // SAFETY: the pointer is valid for writes, all-zero is a valid value of this struct of integers and pointers, and
    // the call fills it.
    let mut config = unsafe {
        ffi::PyConfig_InitIsolatedConfig(config.as_mut_ptr());
        config.assume_init()
    };
    let pointer = &raw mut config;
    // SAFETY: `pointer` is valid throughout, the fields named are fields of the struct it points to, which is what
    // PyConfig_SetBytesString asks for, the strings end with a zero byte and are copied, and PyConfig_Clear is the last
    // to touch the struct.
    let status = unsafe {
        let mut status =
            ffi::PyConfig_SetBytesString(pointer, &raw mut (*pointer).home, home.as_ptr());
        if ffi::PyStatus_Exception(status) == 0 {
            let field = &raw mut (*pointer).executable;
            status = ffi::PyConfig_SetBytesString(pointer, field, executable.as_ptr());
        }
        if ffi::PyStatus_Exception(status) == 0 {
            status = ffi::Py_InitializeFromConfig(pointer);
        }
        ffi::PyConfig_Clear(pointer);
        status
    };
    check(status)?;
    // SAFETY: the interpreter was initialised on this thread just now, so this thread holds the GIL. The thread state
    // that is returned stays known to the interpreter as this thread's own.
    unsafe { ffi::PyEval_SaveThread() };
    Ok(())
}

#[expect(unsafe_code, reason = "a PyStatus is read through C")]
fn check(status: ffi::PyStatus) -> Result<(), String> {
    // SAFETY: the call reads the struct it is given.
    if unsafe { ffi::PyStatus_Exception(status) } == 0 {
        return Ok(());
    }
    if status.err_msg.is_null() {
        return Err(format!("it asked to exit with code {}", status.exitcode));
    }
    // SAFETY: messages of a PyStatus are static C strings.
    let message = unsafe { CStr::from_ptr(status.err_msg) };
    Err(message.to_string_lossy().into_owned())
}
