//! Defaults of evaluation options, shared by commands and sweeps.

/// Maximum number of text windows.
pub const WINDOWS: u64 = 16;
/// Number of tokens of a golden transcript.
pub const MAX_TOKENS: u64 = 32;
/// Number of calls before the first timed call.
pub const WARM_UP: u64 = 3;
