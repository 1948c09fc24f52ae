//! Properties of the machine: disk, memory, cores, and the loaded libpython.

use std::io;
use std::path::{Path, PathBuf};

/// Free bytes on the disk that holds `folder`, or would hold it once it is made.
pub(super) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let existing = folder.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(existing)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Total and available memory in bytes, as far as the system tells.
#[cfg(target_os = "linux")]
pub(super) fn memory() -> (Option<u64>, Option<u64>) {
    let text = fs_err::read_to_string("/proc/meminfo").unwrap_or_default();
    (meminfo(&text, "MemTotal"), meminfo(&text, "MemAvailable"))
}

/// Total memory in bytes, as far as the system tells.
#[cfg(not(target_os = "linux"))]
pub(super) fn memory() -> (Option<u64>, Option<u64>) {
    let output = std::process::Command::new("sysctl").args(["-n", "hw.memsize"]).output();
    let total = output.ok().and_then(|o| String::from_utf8_lossy(&o.stdout).trim().parse().ok());
    (total, None)
}

/// The libpython this process has loaded, or none when it was built without Python.
#[cfg(target_os = "linux")]
pub fn loaded_libpython() -> Option<PathBuf> {
    let maps = fs_err::read_to_string("/proc/self/maps").ok()?;
    libpython_in(&maps)
}

/// The libpython this process has loaded: the one of the build, which the rpath names.
#[cfg(not(target_os = "linux"))]
pub fn loaded_libpython() -> Option<PathBuf> {
    option_env!("COREMILL_BUILD_LIBPYTHON").map(PathBuf::from).filter(|p| p.exists())
}

/// A line `MemTotal:       24580488 kB`.
#[cfg(any(target_os = "linux", test))]
fn meminfo(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The first mapping whose file name starts with `libpython3.`; the path is the sixth field and may hold spaces.
#[cfg(any(target_os = "linux", test))]
fn libpython_in(maps: &str) -> Option<PathBuf> {
    maps.lines()
        .filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])))
        .find(|path| {
            let name = path.file_name().map(|n| n.to_string_lossy());
            name.is_some_and(|n| n.starts_with("libpython3."))
        })
        .map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_in_bytes() {
        let text = "MemTotal:       24580488 kB\nMemFree:         1 kB\nMemAvailable:   10 kB\nBad: x kB\n";
        for (field, want) in [
            ("MemTotal", Some(24_580_488 * 1024)),
            ("MemAvailable", Some(10_240)),
            ("Bad", None),
            ("Mem", None),
        ] {
            assert_eq!(meminfo(text, field), want, "{field}");
        }
    }

    #[test]
    fn the_library_is_found_among_mappings() {
        let maps = "55d0-55d1 r--p 00000000 fe:00 1   /usr/bin/coremill\n\
                    7f00-7f01 r-xp 00000000 00:00 0 \n\
                    7f02-7f03 r-xp 00000000 fe:00 2   /opt/my python/lib/libpython3.11.so.1.0\n\
                    7f04-7f05 r-xp 00000000 fe:00 3   /usr/lib/libpthread.so\n";
        assert_eq!(libpython_in(maps), Some("/opt/my python/lib/libpython3.11.so.1.0".into()));
        assert_eq!(libpython_in("7f00-7f01 r-xp 0 00:00 0 [stack]\n"), None);
    }

    #[test]
    fn a_folder_to_be_made_lies_on_the_disk_of_its_parent() {
        let root = tempfile::tempdir().unwrap();
        assert!(free_bytes(&root.path().join("a/b/c")).unwrap() > 0);
    }

    #[cfg(feature = "python")]
    #[test]
    fn this_process_has_loaded_the_linked_python() {
        let path = loaded_libpython().unwrap();
        let version = super::super::host::LINKED_VERSION.unwrap();
        assert!(path.to_string_lossy().contains(version), "{}", path.display());
    }
}
