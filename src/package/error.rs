//! Errors of opening a package.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::base::error::{ErrorKind, Hint};
use crate::mil::read::ReadError;
use crate::mil::text::TextError;
use crate::mil::verify::VerifyError;

/// Why a package cannot be opened.
#[derive(Debug, Error)]
pub enum PackageError {
    /// A file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The path is no package folder.
    #[error("`{}` is no .mlpackage: it has no Manifest.json", path.display())]
    NotPackage {
        /// The path.
        path: PathBuf,
    },
    /// A compiled model that holds no ML program.
    #[error("`{}` is {kind}, no ML program", path.display())]
    Compiled {
        /// The path.
        path: PathBuf,
        /// Description.
        kind: &'static str,
    },
    /// A compiled model without its program.
    #[error("`{}` is no compiled model: it has no model.mil", path.display())]
    NoProgram {
        /// The path.
        path: PathBuf,
    },
    /// The program's text does not read.
    #[error("`{}`:{source}", path.display())]
    Text {
        /// The text's path.
        path: PathBuf,
        /// Position and reason.
        source: TextError,
    },
    /// The program's text is no text.
    #[error("`{}` is no UTF-8 from byte {at} on", path.display())]
    NotText {
        /// The text's path.
        path: PathBuf,
        /// Offset of the first byte that is none.
        at: u64,
    },
    /// A file that is a link out of the package.
    #[error("file `{name}` of `{}` leads out of the package", path.display())]
    Outside {
        /// The package.
        path: PathBuf,
        /// The file.
        name: String,
    },
    /// The manifest is not what it should be.
    #[error("`{}`: {what}", path.display())]
    Manifest {
        /// The manifest's path.
        path: PathBuf,
        /// Description of the problem.
        what: String,
    },
    /// A directory, pipe or device in place of a file.
    #[error("`{}` is no plain file", path.display())]
    NotFile {
        /// Its path.
        path: PathBuf,
    },
    /// A file is too large to be what it should.
    #[error("`{}` has {size} bytes, more than {most}", path.display())]
    TooLarge {
        /// Its path.
        path: PathBuf,
        /// Its size.
        size: u64,
        /// The largest that is read.
        most: u64,
    },
    /// The model file would take far more memory than it has bytes.
    #[error("model file has more than {most} fields")]
    Dense {
        /// The most that are read.
        most: usize,
    },
    /// The model file is no protobuf of a model.
    #[error("model file is damaged: {0}")]
    Decode(#[from] prost::DecodeError),
    /// Another kind of model.
    #[error("model is no ML program")]
    NotProgram,
    /// The program's messages are wrong.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The program does not hang together.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl Hint for PackageError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotPackage { path } | Self::NoProgram { path } if !path.exists() => {
                Some("the path does not exist".to_owned())
            }
            Self::NotPackage { path } if path.extension().is_some_and(|e| e == "zip") => {
                Some("unpack the archive and name the folder".to_owned())
            }
            Self::NotProgram | Self::Compiled { .. } => Some(
                "neural networks, trees and pipelines are other formats; convert the source model"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    fn error_kind(&self) -> ErrorKind {
        match self {
            Self::Io(e) => e.error_kind(),
            _ => ErrorKind::Input,
        }
    }
}
