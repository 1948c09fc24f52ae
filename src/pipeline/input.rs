//! Text from a file or, named `-`, from stdin; every error names the place.

use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use super::Failure;

/// Returns the name of an input in error messages.
pub(crate) fn name(path: &Path) -> String {
    if is_stdin(path) { "stdin".to_owned() } else { format!("`{}`", path.display()) }
}

/// All of the text.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    if !is_stdin(path) {
        return Ok(fs_err::read_to_string(path)?);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|e| of_stdin(&e))?;
    Ok(text)
}

/// The text to be read line by line.
pub(crate) fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, Failure> {
    Ok(if is_stdin(path) {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::new(fs_err::File::open(path)?))
    })
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn of_stdin(error: &io::Error) -> Failure {
    Failure::from(io::Error::new(error.kind(), format!("failed to read stdin: {error}")))
}
