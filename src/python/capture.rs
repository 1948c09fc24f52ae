//! Sends what C code writes to standard output into a log while Python works.
//!
//! Only file descriptor 1 is turned: nothing but the command's result belongs there, so a stray `printf` of a library
//! would break it. Descriptor 2 stays, because progress is drawn on it by another thread at that very time; Python's
//! own `sys.stdout` and `sys.stderr` both go to the log, and the C++ loggers of torch are set to errors only.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use fs_err::File;

/// Standard output goes to a log until this is dropped.
#[derive(Debug)]
pub(super) struct Captured {
    saved: OwnedFd,
}

impl Captured {
    /// Turns standard output to `log`.
    pub(super) fn begin(log: &File) -> io::Result<Self> {
        io::stdout().flush()?;
        let saved = io::stdout().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdout(log.file())?;
        Ok(Self { saved })
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        // What Rust printed meanwhile is lost to the log at worst; there is nobody to tell either failure.
        let _ = io::stdout().flush();
        let _ = rustix::stdio::dup2_stdout(&self.saved);
    }
}
