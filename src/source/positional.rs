//! `File`: a file that is read at positions, from any thread, with errors that name it.

use std::io;
use std::path::{Path, PathBuf};

/// An open file of known length.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    inner: fs_err::File,
    length: u64,
}

impl File {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let inner = fs_err::File::open(path)?;
        let length = inner.metadata()?.len();
        Ok(Self { path: path.to_owned(), inner, length })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The length when it was opened.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Fills `buffer` from `offset` on; a file that ends before is an error.
    #[cfg(unix)]
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        use fs_err::os::unix::fs::FileExt as _;
        self.inner.read_exact_at(buffer, offset)
    }

    /// Fills `buffer` from `offset` on; a file that ends before is an error.
    #[cfg(windows)]
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        use fs_err::os::windows::fs::FileExt as _;
        let (mut rest, mut at) = (buffer, offset);
        while !rest.is_empty() {
            let n = self.inner.seek_read(rest, at)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            rest = &mut rest[n..];
            at += n as u64;
        }
        Ok(())
    }
}
