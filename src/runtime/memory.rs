//! The largest resident memory of this process.

/// Bytes, where the system tells: on Linux.
pub fn peak_resident() -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    parse(&fs_err::read_to_string("/proc/self/status").ok()?)
}

/// Resets the peak on Linux, so that an evaluation does not count the memory of a conversion before it.
pub fn reset_peak() {
    // Where it cannot, the larger figure stays true of the process.
    drop(fs_err::write("/proc/self/clear_refs", "5"));
}

/// `VmHWM` of a status file, which counts in kibibytes.
fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_files() {
        let cases = [
            ("VmPeak:\t 9 kB\nVmHWM:\t    1536 kB\nVmRSS:\t 7 kB\n", Some(1536 * 1024)),
            ("VmPeak:\t 9 kB\n", None),
            ("VmHWM:\t x kB\n", None),
        ];
        for (status, want) in cases {
            assert_eq!(parse(status), want);
        }
        assert!(peak_resident().is_none_or(|bytes| bytes > 1 << 20));
    }
}
