//! Runs a program in this process: planned once when loaded, run many times, values rounded as the program declares.
//!
//! A [`Model`] is planned from a [`crate::mil::Program`]: names become slots, constants are read once and stay in the
//! form they are stored in, operations over constants alone are computed, and the last use of every value is known.
//! [`Function::run`] then goes through the steps. Every operation is one line of the table in [`ops`].

#![expect(clippy::float_cmp, reason = "exact values are what this module is about")]

mod chain;
mod constant;
mod dequantized;
mod error;
mod kernel;
mod list;
mod model;
pub mod ops;
mod plan;
mod pool;
mod run;
mod site;
mod state;
mod stored;
mod tensor;
#[cfg(test)]
mod testing;
mod value;

pub use chain::Chain;
pub use dequantized::Dequantized;
pub use error::{LoadError, OpError, RunError, Unsupported};
pub use kernel::simd::sum_exp;
pub use list::List;
pub use model::{Function, Model, Options, Outputs, Port, Precision};
pub use state::State;
pub use tensor::Tensor;
pub use value::{Dictionary, Label, Labels, Value};
