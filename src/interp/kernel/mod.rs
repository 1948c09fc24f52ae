//! Arithmetic on plain slices: what the operations have in common, each quick kernel beside a plain one.

pub(crate) mod attention;
pub(crate) mod broadcast;
pub(crate) mod columns;
mod dot;
pub(crate) mod fp16;
pub(crate) mod gemm;
pub(crate) mod lut;
pub(crate) mod matmul;
pub(crate) mod packed4;
pub(crate) mod panels;
pub(crate) mod round;
pub(crate) mod row;
pub(crate) mod simd;
pub(crate) mod softmax;
pub(crate) mod strided;
pub(crate) mod tile;
pub(crate) mod transpose;
