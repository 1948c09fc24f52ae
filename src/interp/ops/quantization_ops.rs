//! `quantize`, `dequantize`: floats to whole numbers of eight bits and back, by one scale or one for each place of an axis.

use super::axis;
use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::kernel::strided::split_at_axis;
use crate::interp::op_context::OpContext;
use crate::interp::tensor::Tensor;

type Built = Result<Kernel, OpError>;

/// Scales and zero points, and the axis along which they change.
struct Grid {
    scale: Vec<f32>,
    zero_point: Vec<i32>,
    axis: Option<i32>,
}

impl Grid {
    fn of(site: &OpContext<'_, '_>) -> Result<Self, OpError> {
        let scale = site.constant("scale")?.ok_or_else(|| OpError::Missing("scale".to_owned()))?;
        let zero_point = match site.constant("zero_point")? {
            Some(given) if given.shape() == scale.shape() => given.i32s()?.to_vec(),
            Some(given) => {
                let (z, s) = (given.describe(), scale.describe());
                return Err(OpError::invalid(format!("zero points {z} for scales {s}")));
            }
            None => vec![0; scale.len()],
        };
        let axis = match scale.rank() {
            0 => None,
            1 => Some(site.int("axis", None)?),
            _ => return Err(OpError::invalid(format!("scales {}", scale.describe()))),
        };
        Ok(Self { scale: scale.f32s()?.into_owned(), zero_point, axis })
    }

    /// Calls `f(element, scale, zero point)` for the place of every element of a tensor of `shape`, in order.
    fn each<R>(
        &self,
        shape: &[usize],
        mut f: impl FnMut(usize, f32, i32) -> R,
    ) -> Result<Vec<R>, OpError> {
        let (n, after) = match self.axis {
            None => (1, 1),
            Some(along) => {
                let (_, n, after) = split_at_axis(shape, axis(along, shape.len())?);
                if n != self.scale.len() {
                    return Err(OpError::invalid(format!(
                        "{} scales for axis {along} of shape {shape:?}",
                        self.scale.len()
                    )));
                }
                (n, after)
            }
        };
        let place = |i: usize| i / after % n;
        let count = shape.iter().product();
        Ok((0..count).map(|i| f(i, self.scale[place(i)], self.zero_point[place(i)])).collect())
    }
}

/// round(x / scale) + zero point within what the type holds; halves go to the even neighbour.
pub(super) fn quantize(site: &OpContext<'_, '_>) -> Built {
    let (x, grid) = (site.input("input")?, Grid::of(site)?);
    let dtype = site.text("output_dtype")?;
    let (low, high) = match dtype.as_deref() {
        Some("int8") => (-128.0, 127.0),
        Some("uint8") => (0.0, 255.0),
        Some(other) => return Err(OpError::Unsupported(format!("output_dtype `{other}`"))),
        None => return Err(OpError::Missing("output_dtype".to_owned())),
    };
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let values = t.f32s()?;
        let code = |i: usize, scale: f32, zero_point: i32| {
            // A NaN becomes 0 by the cast.
            ((values[i] / scale).round_ties_even() + zero_point as f32).clamp(low, high) as i32
        };
        Ok(Tensor::i32(t.shape(), grid.each(t.shape(), code)?))
    }))
}

/// scale · (x − zero point).
pub(super) fn dequantize(site: &OpContext<'_, '_>) -> Built {
    let (x, grid) = (site.input("input")?, Grid::of(site)?);
    Ok(Kernel::one(move |run| {
        let t = run.get(&x);
        let codes = t.i32s()?;
        let value = |i: usize, scale: f32, zero_point: i32| {
            scale * codes[i].saturating_sub(zero_point) as f32
        };
        Ok(Tensor::f32(t.shape(), grid.each(t.shape(), value)?))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::testing::{check, floats};
    use crate::mil::DType;

    fn bytes(shape: &[usize], dtype: DType, values: &[i32]) -> Tensor {
        Tensor::i32(shape, values.to_vec()).tagged(dtype)
    }

    #[test]
    fn there() {
        // round(x / scale) + zero point by hand; 2.5 and 3.5 lie half way.
        let x = || floats(&[2, 2], &[-1.0, 1.25, 1.75, 200.0]);
        let c = |dtype: &str| check("quantize").input("input", x()).text("output_dtype", dtype);
        c("int8")
            .floats_const(&[("scale", 0.5)])
            .out(DType::I8)
            .gives(&[2, 2], &[-2.0, 2.0, 4.0, 127.0]);
        c("uint8")
            .floats_const(&[("scale", 0.5)])
            .constant("zero_point", &bytes(&[], DType::U8, &[1]))
            .out(DType::U8)
            .gives(&[2, 2], &[0.0, 3.0, 5.0, 255.0]);
        let scales = floats(&[2], &[1.0, 0.25]);
        for (axis, want) in [(0, [-1.0, 1.0, 7.0, 127.0]), (-1, [-1.0, 5.0, 2.0, 127.0])] {
            c("int8")
                .constant("scale", &scales)
                .int("axis", axis)
                .out(DType::I8)
                .gives(&[2, 2], &want);
        }
    }

    #[test]
    fn and_back() {
        let x = || bytes(&[2, 2], DType::I8, &[-128, 0, 1, 127]);
        check("dequantize")
            .input("input", x())
            .floats_const(&[("scale", 0.5)])
            .gives(&[2, 2], &[-64.0, 0.0, 0.5, 63.5]);
        check("dequantize")
            .input("input", x())
            .constant("scale", &floats(&[2], &[0.5, 2.0]))
            .constant("zero_point", &bytes(&[2], DType::I8, &[1, -1]))
            .int("axis", 1)
            .gives(&[2, 2], &[-64.5, 2.0, 0.0, 256.0]);
    }

    #[test]
    fn parameters_that_do_not_fit() {
        let c = || check("dequantize").input("input", bytes(&[2, 2], DType::U8, &[1, 2, 3, 4]));
        let three = floats(&[3], &[1.0; 3]);
        let failed = c().constant("scale", &three).int("axis", 1).fails();
        let want = "operation `out` (`dequantize`) failed: 3 scales for axis 1 of shape [2, 2]";
        assert_eq!(failed, want);
        let failed = c().constant("scale", &three).fails();
        assert!(failed.ends_with("cannot be planned: parameter `axis` is missing"), "{failed}");
        let one = bytes(&[], DType::U8, &[1]);
        let failed = c().constant("scale", &three).constant("zero_point", &one).fails();
        assert!(failed.ends_with("zero points uint8[] for scales fp32[3]"), "{failed}");
    }
}
