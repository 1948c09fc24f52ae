//! SHA-256 of bytes, files and folders, as lower-case hexadecimal.

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// SHA-256 of `bytes`.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 and length of the file at `path`.
pub fn of_file(path: &Path) -> io::Result<(String, u64)> {
    let mut file = fs_err::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((hex(&hasher.finalize()), length));
        }
        hasher.update(&buffer[..n]);
        length += n as u64;
    }
}

/// SHA-256 over `(relative path, SHA-256)` lines of a folder's files, in path order: the digest of the tree.
///
/// The text hashed is `path NUL digest LF` for each file, so that the tree digest can be checked with `sha256sum`.
pub fn of_tree(files: &[(String, String)]) -> String {
    let mut sorted: Vec<_> = files.iter().collect();
    sorted.sort();
    let mut hasher = Sha256::new();
    for (path, digest) in sorted {
        hasher.update(path.as_bytes());
        hasher.update([0]);
        hasher.update(digest.as_bytes());
        hasher.update([b'\n']);
    }
    hex(&hasher.finalize())
}

/// A digest that is fed piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything taken in.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [b >> 4, b & 15])
        .map(|d| char::from(DIGITS[usize::from(d)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(of_bytes(b""), empty);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of_bytes(b"abc"), abc);
        let mut hasher = Hasher::default();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), abc);
    }

    #[test]
    fn a_tree_does_not_depend_on_listing_order() {
        let a = ("a".to_owned(), "1".to_owned());
        let b = ("b".to_owned(), "2".to_owned());
        assert_eq!(of_tree(&[a.clone(), b.clone()]), of_tree(&[b, a.clone()]));
        assert_ne!(of_tree(std::slice::from_ref(&a)), of_tree(&[("a".to_owned(), "2".to_owned())]));
    }
}
