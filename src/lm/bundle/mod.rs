//! A language model in parts behind the face of one package: [`Joined`] is a [`Loaded`] program with the functions
//! `init` and `decode` of our own layout, which runs ANEMLL's parts one after the other.
//!
//! Everything above, from `generate` to perplexity, sees the layout it knows: [`Wiring`] is read from the parts'
//! signatures once, [`Joined`] feeds them.

mod joined;
mod wiring;

pub(super) use joined::Joined;
pub use wiring::{Wiring, WiringError};
