//! `Dense`: floats as they are, in memory or mapped.

use super::Stored;
use crate::interp::kernel::fp16;
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
        match self.0.carrier() {
            Slice::F32(v) => out.copy_from_slice(&v[range]),
            Slice::F16(v) => fp16::to_f32(&v[range], out),
            Slice::I32(v) => out.iter_mut().zip(&v[range]).for_each(|(o, &i)| *o = i as f32),
            Slice::Bool(v) => {
                out.iter_mut().zip(&v[range]).for_each(|(o, &b)| *o = f32::from(u8::from(b)));
            }
            Slice::Str(_) => out.fill(f32::NAN),
        }
    }

    fn as_f16(&self) -> Option<&[half::f16]> {
        if let Slice::F16(v) = self.0.carrier() { Some(v) } else { None }
    }

    fn as_f32(&self) -> Option<&[f32]> {
        if let Slice::F32(v) = self.0.carrier() { Some(v) } else { None }
    }
}
