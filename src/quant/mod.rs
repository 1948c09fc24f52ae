//! `quant`: weight compression on plain slices, knowing nothing of programs or files.
//!
//! [`compress`] turns a [`Weight`] into a [`Compressed`] by a [`Scheme`]: what is stored once, and a rule for the codes,
//! which [`Compressed::pour`] makes piece by piece, with the [`Distortion`] that they cause.

pub mod affine;
mod bits;
mod block_scale;
mod compressed;
mod distortion;
mod dtype;
mod error;
mod grid;
pub mod histogram;
pub mod kmeans;
mod least_squares;
pub mod pack;
pub mod palette;
pub mod prune;
#[cfg(test)]
mod reference;
mod round;
#[cfg(test)]
mod samples;
pub mod scheme;
mod search;
mod source;
#[cfg(test)]
mod tests;
mod weight;

pub use affine::Affine;
pub use bits::Bits;
pub use compressed::{Compressed, EncodedWeights, compress};
pub use distortion::Distortion;
pub use dtype::Dtype;
pub use error::Error;
pub use grid::Grid;
pub use palette::Palette;
pub use prune::Mask;
pub use scheme::{Code, Scheme};
pub use search::Search;
pub use source::ChannelScale;
pub use weight::{Axes, Weight};
