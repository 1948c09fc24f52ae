//! `quant`.
