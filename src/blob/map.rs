//! The one place that maps a file into memory.

use std::io;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

/// A file mapped for reading, shared by everything that reads from it.
#[derive(Debug, Clone)]
pub struct Map(Arc<Mmap>);

impl std::ops::Deref for Map {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps the file at `path`.
///
/// # Safety of the mapping
///
/// Another process that shortens the file while it is mapped makes reads fault. Packages and checkpoints are written
/// whole under a temporary name and renamed, so coremill itself never does that; a file on a disk that goes away
/// ends the process with a signal, as it would with any mapped reader.
pub fn map(path: &Path) -> io::Result<Map> {
    let file = fs_err::File::open(path)?;
    // SAFETY: the mapping is read-only and nobody in this process writes to the file; see above for other processes.
    #[expect(unsafe_code, reason = "mapping a file cannot be made safe; this is the only site")]
    let mapped = unsafe { Mmap::map(file.file()) };
    mapped
        .map(|m| Map(Arc::new(m)))
        .map_err(|e| io::Error::new(e.kind(), format!("cannot map `{}`: {e}", path.display())))
}
