//! `quant`: weight compression on plain slices, knowing nothing of programs or files.
//!
//! [`compress`] turns a [`Weight`] into a [`Compressed`] by a [`Scheme`]; [`dequant`] is the way back and
//! [`Distortion`] the difference. [`pack`](pack::pack) makes the bytes that are stored.

pub mod affine;
mod bits;
mod compressed;
pub mod dequant;
mod distortion;
mod error;
mod fill;
pub mod histogram;
pub mod kmeans;
pub mod pack;
pub mod palette;
#[cfg(test)]
mod samples;
pub mod scheme;
#[cfg(test)]
mod tests;
mod weight;

pub use affine::{Affine, Dtype};
pub use bits::Bits;
pub use compressed::{Compressed, compress};
pub use distortion::Distortion;
pub use error::Error;
pub use kmeans::Search;
pub use palette::Palettized;
pub use scheme::{ScaleGranularity, Scheme, TableGranularity};
pub use weight::Weight;
