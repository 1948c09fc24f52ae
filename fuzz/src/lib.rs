//! What the fuzz targets share: what they do with their bytes, and how valid bytes are made slightly wrong.
//!
//! Byte flips die in the first checks. So the mutators read the bytes, change the program (its shapes, names, operations,
//! constants and offsets) or the messages' fields, and write it again: what comes out reaches the planner and the kernels.

pub mod chance;
pub mod drive;
pub mod mutate;
pub mod program;
pub mod records;
pub mod seeds;
pub mod wire;
