//! `Dense`: floats as they are, in memory or mapped.

use super::Stored;
use crate::interp::kernel::fp16;
use crate::interp::kernel::row::Row;
use crate::interp::tensor::{Slice, Tensor};
use crate::mil::DType;

pub(super) struct Dense(pub(super) Tensor);

impl Stored for Dense {
    fn dtype(&self) -> DType {
        self.0.dtype()
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn fill(&self, at: usize, out: &mut [f32]) {
        let range = at..at + out.len();
        match self.0.storage() {
            Slice::F32(v) => out.copy_from_slice(&v[range]),
            Slice::F16(v) => fp16::to_f32(&v[range], out),
            Slice::I32(v) => out.iter_mut().zip(&v[range]).for_each(|(o, &i)| *o = i as f32),
            Slice::Bool(v) => {
                out.iter_mut().zip(&v[range]).for_each(|(o, &b)| *o = f32::from(u8::from(b)));
            }
            Slice::Str(_) => out.fill(f32::NAN),
        }
    }

    fn run(&self, at: usize, n: usize) -> Option<Row<'_>> {
        match self.0.storage() {
            Slice::F32(v) => Some(Row::F32(&v[at..at + n])),
            Slice::F16(v) => Some(Row::F16(&v[at..at + n])),
            _ => None,
        }
    }
}
