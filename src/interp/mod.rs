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
mod exec;
mod function;
mod kernel;
mod list;
mod model;
mod op_context;
pub mod ops;
mod options;
mod plan;
mod pool;
mod port;
mod state;
mod stored;
mod tensor;
#[cfg(test)]
mod testing;
mod value;

pub use chain::Chain;
pub use dequantized::Dequantized;
pub use error::{LoadError, OpError, RunError, Unsupported};
pub use function::{Function, Outputs};
pub use kernel::simd::sum_exp;
pub use list::List;
pub use model::Model;
pub use options::{Options, Precision};
pub use port::Port;
pub use state::State;
pub use tensor::Tensor;
pub use value::{Dictionary, Label, Labels, Value};
