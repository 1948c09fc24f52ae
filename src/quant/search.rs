//! `Search`: how hard to look for the tables of a palette.

/// Effort of the search for tables with least squared error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Search {
    /// Of single values within 10^−5 of the least squared error (see [`kmeans`](super::kmeans)); of vectors the best of two
    /// restarts.
    Quick,
    /// Of single values the least squared error of all fp16 tables; of vectors, whose optimum nothing finds, the best of
    /// eight restarts.
    Exact,
}

impl Search {
    /// Number of restarts of Lloyd's algorithm for vectors.
    pub(super) fn restarts(self) -> u64 {
        match self {
            Self::Quick => 2,
            Self::Exact => 8,
        }
    }
}
