//! The three ways of showing progress: a bar, JSON lines, nothing.

mod bar;
mod lines;

use super::args::ProgressMode;
use crate::base::progress::{Progress, Silent};

/// The listener that `--progress` asks for; without it, a bar where stderr is a terminal.
pub(crate) fn listener(mode: Option<ProgressMode>, quiet: bool) -> Box<dyn Progress> {
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    match mode {
        Some(ProgressMode::Json) => Box::new(lines::JsonLines::default()),
        Some(ProgressMode::Bar) => Box::new(bar::Bar::default()),
        None if terminal && !quiet => Box::new(bar::Bar::default()),
        Some(ProgressMode::None) | None => Box::new(Silent),
    }
}
