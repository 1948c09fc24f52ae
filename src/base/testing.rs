//! For tests alone: files of the repository that code writes.

use std::path::Path;

/// Asserts that the file at `path` from the repository's root holds `want`; with `UPDATE=1` in the environment writes
/// it first. `test` is what finds the asserting test.
#[expect(clippy::disallowed_methods, reason = "a test that rewrites its file when asked")]
pub(crate) fn assert_fresh(path: &str, want: &str, test: &str) {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var("UPDATE").is_ok_and(|v| v == "1") {
        super::fs::write_atomic(&place, want.as_bytes()).unwrap();
    }
    let found = fs_err::read_to_string(&place).unwrap_or_default();
    assert!(found == want, "{path} is stale: run `UPDATE=1 cargo test {test}`");
}
