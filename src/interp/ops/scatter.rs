//! `scatter`, `scatter_along_axis`, `scatter_nd`: values written or combined at indices.

use super::axis;
use crate::interp::error::OpError;
use crate::interp::kernel::strided::around;
use crate::interp::run::{In, Kernel, Run};
use crate::interp::site::Site;
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
    fn of(site: &Site<'_, '_>) -> Result<Self, OpError> {
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
    data: In,
    indices: In,
    updates: In,
    mode: Mode,
}

impl Scatter {
    fn of(site: &Site<'_, '_>) -> Result<Self, OpError> {
        let (data, indices, updates) =
            (site.input("data")?, site.input("indices")?, site.input("updates")?);
        Ok(Self { data, indices, updates, mode: Mode::of(site)? })
    }

    /// The number of places, which has to be that of the updates.
    fn fits(&self, run: &Run<'_>, places: &[usize]) -> Result<usize, OpError> {
        let (n, updates) = (elements(places)?, run.get(&self.updates));
        if n != updates.len() {
            return Err(OpError::invalid(format!("{n} places for updates {}", updates.describe())));
        }
        Ok(n)
    }

    /// Joins each update with the element at its place.
    fn apply(&self, run: &mut Run<'_>, places: &[usize]) -> Result<Tensor, OpError> {
        let data = run.take(&self.data);
        let updates = run.get(&self.updates);
        if places.len() != updates.len() {
            let (n, u) = (places.len(), updates.describe());
            return Err(OpError::invalid(format!("{n} places for updates {u}")));
        }
        let shape = data.shape().to_vec();
        if let (Some(ints), Some(updates)) = (data.as_i32(), updates.as_i32()) {
            let mut out = ints.to_vec();
            places.iter().zip(updates).for_each(|(&p, &u)| out[p] = self.mode.int(out[p], u));
            return Ok(data.with_i32(shape, out));
        }
        let mut out = data.into_f32s()?;
        let updates = updates.f32s()?;
        places.iter().zip(updates.iter()).for_each(|(&p, &u)| out[p] = self.mode.float(out[p], u));
        Ok(Tensor::f32(&shape, out))
    }
}

fn place(index: i32, n: usize) -> Result<usize, OpError> {
    let counted = if index < 0 { i64::from(index) + n as i64 } else { i64::from(index) };
    usize::try_from(counted)
        .ok()
        .filter(|&p| p < n)
        .ok_or_else(|| OpError::invalid(format!("index {index} is outside 0..{n}")))
}

/// Whole slices at the indices along an axis.
pub(super) fn scatter(site: &Site<'_, '_>) -> Built {
    let (s, along) = (Scatter::of(site)?, site.int("axis", Some(0))?);
    Ok(Kernel::one(move |run| {
        let (data, indices) = (run.get(&s.data), run.get(&s.indices));
        let (before, n, after) = around(data.shape(), axis(along, data.rank())?);
        let rows = indices.i32s()?.iter().map(|&i| place(i, n)).collect::<Result<Vec<_>, _>>()?;
        let mut places = Vec::with_capacity(s.fits(run, &[before, rows.len(), after])?);
        for outer in 0..before {
            for &row in &rows {
                places.extend((0..after).map(|inner| (outer * n + row) * after + inner));
            }
        }
        s.apply(run, &places)
    }))
}

/// One element per index along an axis.
pub(super) fn along_axis(site: &Site<'_, '_>) -> Built {
    let (s, along) = (Scatter::of(site)?, site.int("axis", Some(0))?);
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
        let (_, n, after) = around(data.shape(), along);
        let m = indices.shape()[along];
        let places =
            indices.i32s()?.iter().enumerate().map(|(i, &index)| {
                Ok((i / (m * after) * n + place(index, n)?) * after + i % after)
            });
        let places = places.collect::<Result<Vec<_>, OpError>>()?;
        s.apply(run, &places)
    }))
}

/// Slices at coordinates.
pub(super) fn nd(site: &Site<'_, '_>) -> Built {
    let s = Scatter::of(site)?;
    Ok(Kernel::one(move |run| {
        let (data, indices) = (run.get(&s.data), run.get(&s.indices));
        let unfit = || {
            OpError::invalid(format!(
                "shapes {:?} and {:?} do not scatter",
                data.shape(),
                indices.shape()
            ))
        };
        let (&depth, outer) = indices.shape().split_last().ok_or_else(unfit)?;
        if depth == 0 || depth > data.rank() {
            return Err(unfit());
        }
        let (picked, tail) = data.shape().split_at(depth);
        let length: usize = tail.iter().product();
        let n = outer.iter().product();
        let mut places = Vec::with_capacity(s.fits(run, &[n, length])?);
        for coordinates in indices.i32s()?.chunks(depth.max(1)).take(n) {
            let mut at = 0;
            for (&c, &extent) in coordinates.iter().zip(picked) {
                at = at * extent + place(c, extent)?;
            }
            places.extend(at * length..(at + 1) * length);
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
        c.input("indices", Tensor::i32(&[1, 2], vec![1, -1]))
            .text("mode", "mul")
            .gives(&[2, 2], &[1.0, 2.0, 3.0, 40.0]);
        let c = check("scatter_nd").input("data", data()).input("updates", floats(&[1], &[10.0]));
        let failed = c.input("indices", Tensor::i32(&[1, 2], vec![1, 2])).fails();
        assert_eq!(failed, "operation `out` (`scatter_nd`) failed: index 2 is outside 0..2");
    }
}
