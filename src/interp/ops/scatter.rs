//! `scatter`, `scatter_along_axis`, `scatter_nd`: values written or combined at indices.
//!
//! Before iOS17 negative indices count from the end and an index outside is an error. From iOS17 on negative indices are
//! outside; with `validate_indices` that is an error, without it the format leaves the result open, and the update is
//! dropped.

use super::axis;
use crate::interp::error::OpError;
use crate::interp::exec::{ExecContext, Kernel, Operand};
use crate::interp::kernel::strided::split_at_axis;
use crate::interp::op_context::OpContext;
use crate::interp::tensor::{Tensor, elements};

type Built = Result<Kernel, OpError>;

/// How a value joins what is there.
#[derive(Debug, Clone, Copy)]
enum Mode {
    Update,
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

impl Mode {
    fn of(site: &OpContext<'_, '_>) -> Result<Self, OpError> {
        Ok(match site.text("mode")?.as_deref().unwrap_or("add") {
            "update" => Self::Update,
            "add" => Self::Add,
            "sub" => Self::Sub,
            "mul" => Self::Mul,
            "div" => Self::Div,
            "max" => Self::Max,
            "min" => Self::Min,
            other => return Err(OpError::Unsupported(format!("mode `{other}`"))),
        })
    }

    fn float(self, a: f32, b: f32) -> f32 {
        match self {
            Self::Update => b,
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Max => a.max(b),
            Self::Min => a.min(b),
        }
    }

    fn int(self, a: i32, b: i32) -> i32 {
        match self {
            Self::Update => b,
            Self::Add => a.wrapping_add(b),
            Self::Sub => a.wrapping_sub(b),
            Self::Mul => a.wrapping_mul(b),
            Self::Div => a.checked_div(b).unwrap_or(0),
            Self::Max => a.max(b),
            Self::Min => a.min(b),
        }
    }
}

/// The arguments that the three operations share.
struct Scatter {
    data: Operand,
    indices: Operand,
    updates: Operand,
    mode: Mode,
    bounds: Bounds,
}

impl Scatter {
    fn of(site: &OpContext<'_, '_>, bounds: Bounds) -> Result<Self, OpError> {
        let (data, indices, updates) =
            (site.input("data")?, site.input("indices")?, site.input("updates")?);
        Ok(Self { data, indices, updates, mode: Mode::of(site)?, bounds })
    }

    /// The number of places, which has to be that of the updates.
    fn fits(&self, run: &ExecContext<'_>, places: &[usize]) -> Result<usize, OpError> {
        let (n, updates) = (elements(places)?, run.get(&self.updates));
        if n != updates.len() {
            return Err(OpError::invalid(format!("{n} places for updates {}", updates.describe())));
        }
        Ok(n)
    }

    /// Joins each update with the element at its place; one without a place is dropped.
    fn apply(
        &self,
        run: &mut ExecContext<'_>,
        places: &[Option<usize>],
    ) -> Result<Tensor, OpError> {
        let data = run.take(&self.data);
        let updates = run.get(&self.updates);
        if places.len() != updates.len() {
            let (n, u) = (places.len(), updates.describe());
            return Err(OpError::invalid(format!("{n} places for updates {u}")));
        }
        let shape = data.shape().to_vec();
        if let (Some(ints), Some(updates)) = (data.as_i32(), updates.as_i32()) {
            let mut out = ints.to_vec();
            for (p, &u) in places.iter().zip(updates).filter_map(|(p, u)| Some(((*p)?, u))) {
                out[p] = self.mode.int(out[p], u);
            }
            return Ok(data.with_i32(shape, out));
        }
        let mut out = data.into_f32s()?;
        let updates = updates.f32s()?;
        for (p, &u) in places.iter().zip(updates.iter()).filter_map(|(p, u)| Some(((*p)?, u))) {
            out[p] = self.mode.float(out[p], u);
        }
        Ok(Tensor::f32(&shape, out))
    }
}

/// What an index outside is.
#[derive(Debug, Clone, Copy)]
enum Bounds {
    /// An error, after negative ones are counted from the end.
    Counted,
    /// An error, and so are negative ones.
    Checked,
    /// Nothing: its update is dropped.
    Open,
}

impl Bounds {
    fn ios17(site: &OpContext<'_, '_>) -> Result<Self, OpError> {
        Ok(if site.bool("validate_indices", false)? { Self::Checked } else { Self::Open })
    }

    fn place(self, index: i32, n: usize) -> Result<Option<usize>, OpError> {
        let from_end = if matches!(self, Self::Counted) && index < 0 { n as i64 } else { 0 };
        let place = usize::try_from(i64::from(index) + from_end).ok().filter(|&p| p < n);
        if place.is_none() && !matches!(self, Self::Open) {
            return Err(OpError::invalid(format!("index {index} is outside 0..{n}")));
        }
        Ok(place)
    }
}

/// Whole slices at the indices along an axis, negative ones from the end.
pub(super) fn scatter_ios15(site: &OpContext<'_, '_>) -> Built {
    scatter(site, Bounds::Counted)
}

/// Whole slices at the indices along an axis, with `validate_indices`.
pub(super) fn scatter_ios17(site: &OpContext<'_, '_>) -> Built {
    scatter(site, Bounds::ios17(site)?)
}

fn scatter(site: &OpContext<'_, '_>, bounds: Bounds) -> Built {
    let (s, along) = (Scatter::of(site, bounds)?, site.int("axis", Some(0))?);
    Ok(Kernel::one(move |run| {
        let (data, indices) = (run.get(&s.data), run.get(&s.indices));
        let (before, n, after) = split_at_axis(data.shape(), axis(along, data.rank())?);
        let rows = indices.i32s()?.iter().map(|&i| s.bounds.place(i, n));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let mut places = Vec::with_capacity(s.fits(run, &[before, rows.len(), after])?);
        for outer in 0..before {
            for &row in &rows {
                let at = |inner| Some((outer * n + row?) * after + inner);
                places.extend((0..after).map(at));
            }
        }
        s.apply(run, &places)
    }))
}

/// One element per index along an axis, negative ones from the end.
pub(super) fn along_axis_ios15(site: &OpContext<'_, '_>) -> Built {
    along_axis(site, Bounds::Counted)
}

/// One element per index along an axis, with `validate_indices`.
pub(super) fn along_axis_ios17(site: &OpContext<'_, '_>) -> Built {
    along_axis(site, Bounds::ios17(site)?)
}

fn along_axis(site: &OpContext<'_, '_>, bounds: Bounds) -> Built {
    let (s, along) = (Scatter::of(site, bounds)?, site.int("axis", Some(0))?);
    Ok(Kernel::one(move |run| {
        let (data, indices) = (run.get(&s.data), run.get(&s.indices));
        let along = axis(along, data.rank())?;
        let same = |(i, (a, b)): (usize, (&usize, &usize))| i == along || a == b;
        if indices.rank() != data.rank()
            || !data.shape().iter().zip(indices.shape()).enumerate().all(same)
        {
            let (d, i) = (data.shape(), indices.shape());
            return Err(OpError::invalid(format!(
                "shapes {d:?} and {i:?} differ off axis {along}"
            )));
        }
        let (_, n, after) = split_at_axis(data.shape(), along);
        let m = indices.shape()[along];
        let places = indices.i32s()?.iter().enumerate().map(|(i, &index)| {
            let place = s.bounds.place(index, n)?;
            Ok(place.map(|p| (i / (m * after) * n + p) * after + i % after))
        });
        let places = places.collect::<Result<Vec<_>, OpError>>()?;
        s.apply(run, &places)
    }))
}

/// Slices at coordinates, negative ones from the end.
pub(super) fn nd_ios15(site: &OpContext<'_, '_>) -> Built {
    nd(site, Bounds::Counted)
}

/// Slices at coordinates, with `validate_indices`.
pub(super) fn nd_ios17(site: &OpContext<'_, '_>) -> Built {
    nd(site, Bounds::ios17(site)?)
}

fn nd(site: &OpContext<'_, '_>, bounds: Bounds) -> Built {
    let s = Scatter::of(site, bounds)?;
    Ok(Kernel::one(move |run| {
        let (data, indices) = (run.get(&s.data), run.get(&s.indices));
        let shape_mismatch = || {
            OpError::invalid(format!(
                "shapes {:?} and {:?} do not scatter",
                data.shape(),
                indices.shape()
            ))
        };
        let (&depth, outer) = indices.shape().split_last().ok_or_else(shape_mismatch)?;
        if depth == 0 || depth > data.rank() {
            return Err(shape_mismatch());
        }
        let (picked, tail) = data.shape().split_at(depth);
        let length: usize = tail.iter().product();
        let n = outer.iter().product();
        let mut places = Vec::with_capacity(s.fits(run, &[n, length])?);
        for coordinates in indices.i32s()?.chunks(depth.max(1)).take(n) {
            let mut at = Some(0);
            for (&c, &extent) in coordinates.iter().zip(picked) {
                let place = s.bounds.place(c, extent)?;
                at = at.zip(place).map(|(at, place)| at * extent + place);
            }
            places.extend((0..length).map(|i| Some(at? * length + i)));
        }
        s.apply(run, &places)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::testing::{check, floats};

    #[test]
    fn as_coremltools_describes_it() {
        let data = || floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let updates = || floats(&[2, 3], &[5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
        let c = || {
            check("scatter")
                .input("data", data())
                .input("indices", Tensor::i32(&[2], vec![1, 0]))
                .input("updates", updates())
        };
        c().gives(&[2, 3], &[9.0, 11.0, 13.0, 9.0, 11.0, 13.0]);
        c().text("mode", "update").gives(&[2, 3], &[8.0, 9.0, 10.0, 5.0, 6.0, 7.0]);
        c().text("mode", "min").gives(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        c().text("mode", "sub").gives(&[2, 3], &[-7.0, -7.0, -7.0, -1.0, -1.0, -1.0]);
    }

    #[test]
    fn single_places() {
        let data = || floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let c = check("scatter_along_axis")
            .input("data", data())
            .input("updates", floats(&[2, 1], &[10.0, 20.0]));
        c.input("indices", Tensor::i32(&[2, 1], vec![1, 0]))
            .int("axis", 1)
            .gives(&[2, 2], &[1.0, 12.0, 23.0, 4.0]);
        let c = check("scatter_nd").input("data", data()).input("updates", floats(&[1], &[10.0]));
        c.opset("CoreML6")
            .input("indices", Tensor::i32(&[1, 2], vec![1, -1]))
            .text("mode", "mul")
            .gives(&[2, 2], &[1.0, 2.0, 3.0, 40.0]);
        let c = check("scatter_nd").input("data", data()).input("updates", floats(&[1], &[10.0]));
        let c = c.opset("CoreML6").input("indices", Tensor::i32(&[1, 2], vec![1, 2]));
        assert_eq!(c.fails(), "operation `out` (`scatter_nd`) failed: index 2 is outside 0..2");
    }

    #[test]
    fn indices_outside() {
        let data = || floats(&[2, 1], &[1.0, 2.0]);
        let two = |values: [i32; 2]| Tensor::i32(&[2, 1], values.to_vec());
        let c = |kind, indices| {
            let c = check(kind).input("data", data()).input("indices", indices);
            c.input("updates", floats(&[2, 1], &[10.0, 20.0]))
        };
        for (kind, indices) in [
            ("scatter", Tensor::i32(&[2], vec![-1, 0])),
            ("scatter", Tensor::i32(&[2], vec![2, 0])),
            ("scatter_along_axis", two([-1, 0])),
            ("scatter_along_axis", two([2, 0])),
            ("scatter_nd", two([-1, 0])),
            ("scatter_nd", two([2, 0])),
        ] {
            let c = |opset: &str| c(kind, indices.clone()).opset(opset);
            let outside = indices.as_i32().unwrap()[0];
            let message =
                format!("operation `out` (`{kind}`) failed: index {outside} is outside 0..2");
            // Dropped where nobody asks, an error where somebody does; counted from the end in earlier opsets.
            c("CoreML7").gives(&[2, 1], &[21.0, 2.0]);
            assert_eq!(c("CoreML8").flag("validate_indices", true).fails(), message);
            if outside < 0 {
                c("CoreML6").gives(&[2, 1], &[21.0, 12.0]);
            } else {
                assert_eq!(c("CoreML6").fails(), message);
            }
        }
    }
}
