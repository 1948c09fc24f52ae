//! The textual form of a program, as `model.mil` of a compiled `.mlmodelc` holds it.
//!
//! ```text
//! program(1.3)
//! [buildInfo = dict<string, string>({{"coremlc-version", "3500.1"}})]
//! {
//!     func main<ios18>(tensor<fp16, [1, 4]> x) {
//!             tensor<fp16, [1, 4]> y = relu(x = x)[name = string("y")];
//!         } -> (y);
//! }
//! ```
//!
//! A value is its type with the content in parentheses: `tensor<fp32, [2]>([0x1p-1, 0x1.8p+0])`. From `program(1.3)` on
//! a type of rank 0 is written as its element type alone. Inside a value the parts carry no types: a tensor and a list
//! are `[…]`, a tuple is `(…)`, a dictionary is `{{key, value}, …}`. Elements in a blob file are
//! `BLOBFILE(path = string("@model_path/weights/weight.bin"), offset = uint64(64))`.
//!
//! [`read`] and [`write()`] are inverse to each other on every program that has no attributes on tensor types, which the
//! form has no place for. Two things are ours, because the form has none that we know: names that are no identifiers
//! are written as strings, and the blocks of `cond` and `while_loop` stand in braces behind their operation.

mod float;
mod fp8;
mod lexer;
mod literal;
mod opset;
mod parser;
mod writer;

#[cfg(test)]
mod tests;

pub use lexer::{Position, TextError, What};
pub use parser::read;
pub use writer::write;

/// Deeper nesting of types, values or blocks than any compiler writes; a guard against made-up input.
const MAX_DEPTH: usize = 32;

/// More operations, arguments, types and values in one text than any compiler writes; a guard as well, for each takes
/// up to some hundred bytes of memory, and the values of a list repeat its type.
const MAX_PARTS: usize = if cfg!(any(test, fuzzing)) { 1 << 14 } else { 1 << 23 };
