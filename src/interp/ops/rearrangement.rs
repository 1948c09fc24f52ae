//! Elements moved between channels, batch and space: `depth_to_space`, `pixel_shuffle`, `space_to_batch` and their
//! inverses; `sliding_windows`.

use super::{axis, extents};
use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::kernel::strided::{gather, scatter, steps, transpose};
use crate::interp::op_context::OpContext;
use crate::interp::tensor::{Tensor, elements, map_storage};

type Built = Result<Kernel, OpError>;

/// The elements seen with the extents `split`, those in another order, and seen as `shape` at last.
fn moved(
    x: &Tensor,
    split: &[usize],
    order: &[usize],
    shape: Vec<usize>,
) -> Result<Tensor, OpError> {
    elements(&shape)?;
    Ok(map_storage!(x, shape, |src| transpose(src, split, order)))
}

/// A constant above 0.
fn factor(site: &OpContext<'_, '_>, parameter: &str) -> Result<usize, OpError> {
    let n = site.int(parameter, None)?;
    usize::try_from(n)
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| OpError::invalid(format!("{parameter} of {n}")))
}

/// The four extents, one of them or two divisible by some number.
fn four(x: &Tensor) -> Result<[usize; 4], OpError> {
    <[usize; 4]>::try_from(x.shape())
        .map_err(|_| OpError::invalid(format!("shape {:?} has not 4 dimensions", x.shape())))
}

fn parts(n: usize, by: usize, x: &Tensor) -> Result<usize, OpError> {
    if n.is_multiple_of(by) {
        return Ok(n / by);
    }
    Err(OpError::invalid(format!("{n} of shape {:?} in parts of {by}", x.shape())))
}

fn times(a: usize, b: usize) -> Result<usize, OpError> {
    a.checked_mul(b).ok_or_else(|| OpError::invalid(format!("an extent of {a} times {b}")))
}

/// `[n, b·b·c, h, w]` to `[n, c, h·b, w·b]`: the place in the block before the channel.
pub(super) fn depth_to_space(site: &OpContext<'_, '_>) -> Built {
    from_depth(site, "block_size", true)
}

/// `[n, c·b·b, h, w]` to `[n, c, h·b, w·b]`: the channel before the place in the block.
pub(super) fn pixel_shuffle(site: &OpContext<'_, '_>) -> Built {
    from_depth(site, "upscale_factor", false)
}

fn from_depth(site: &OpContext<'_, '_>, parameter: &str, block_first: bool) -> Built {
    let (x, b) = (site.input("x")?, factor(site, parameter)?);
    Ok(Kernel::one(move |run| {
        let x = run.get(&x);
        let [n, channels, h, w] = four(x)?;
        let c = parts(channels, times(b, b)?, x)?;
        let shape = vec![n, c, times(h, b)?, times(w, b)?];
        if block_first {
            moved(x, &[n, b, b, c, h, w], &[0, 3, 4, 1, 5, 2], shape)
        } else {
            moved(x, &[n, c, b, b, h, w], &[0, 1, 4, 2, 5, 3], shape)
        }
    }))
}

/// `[n, c, h·b, w·b]` to `[n, b·b·c, h, w]`: the place in the block before the channel.
pub(super) fn space_to_depth(site: &OpContext<'_, '_>) -> Built {
    to_depth(site, "block_size", true)
}

/// `[n, c, h·b, w·b]` to `[n, c·b·b, h, w]`: the channel before the place in the block.
pub(super) fn pixel_unshuffle(site: &OpContext<'_, '_>) -> Built {
    to_depth(site, "downscale_factor", false)
}

fn to_depth(site: &OpContext<'_, '_>, parameter: &str, block_first: bool) -> Built {
    let (x, b) = (site.input("x")?, factor(site, parameter)?);
    Ok(Kernel::one(move |run| {
        let x = run.get(&x);
        let [n, c, height, width] = four(x)?;
        let (h, w) = (parts(height, b, x)?, parts(width, b, x)?);
        let shape = vec![n, times(c, times(b, b)?)?, h, w];
        let order = if block_first { [0, 3, 5, 1, 2, 4] } else { [0, 1, 3, 5, 2, 4] };
        moved(x, &[n, c, h, b, w, b], &order, shape)
    }))
}

/// `block_shape`, and what is added to or cut off either end of height and width.
fn blocks(site: &OpContext<'_, '_>, ends: &str) -> Result<([usize; 2], [usize; 4]), OpError> {
    let given = |parameter: &str| -> Result<Vec<usize>, OpError> {
        let given = site.ints(parameter)?.ok_or_else(|| OpError::Missing(parameter.to_owned()))?;
        extents(&given)
    };
    let (block, ends) = (given("block_shape")?, given(ends)?);
    let shape_mismatch = |_| OpError::invalid(format!("blocks of shape {block:?} with {ends:?}"));
    let found = (
        <[usize; 2]>::try_from(&*block).map_err(shape_mismatch)?,
        <[usize; 4]>::try_from(&*ends).map_err(shape_mismatch)?,
    );
    if found.0.contains(&0) {
        return Err(OpError::invalid(format!("blocks of shape {block:?}")));
    }
    Ok(found)
}

/// `[n, c, h·a, w·b]`, padded, to `[a·b·n, c, h, w]`.
pub(super) fn space_to_batch(site: &OpContext<'_, '_>) -> Built {
    let (x, ([a, b], [top, bottom, left, right])) = (site.input("x")?, blocks(site, "paddings")?);
    Ok(Kernel::one(move |run| {
        let x = run.get(&x);
        let [n, c, height, width] = four(x)?;
        let padded = [n, c, height + top + bottom, width + left + right];
        let (h, w) = (parts(padded[2], a, x)?, parts(padded[3], b, x)?);
        let shape = vec![times(n, times(a, b)?)?, c, h, w];
        elements(&padded)?;
        let x = if padded == x.shape() {
            x.clone()
        } else {
            framed(x, &padded, top * padded[3] + left)
        };
        moved(&x, &[n, c, h, a, w, b], &[3, 5, 0, 1, 2, 4], shape)
    }))
}

/// Four extents with zeros around, the first element at `start`.
fn framed(x: &Tensor, shape: &[usize; 4], start: usize) -> Tensor {
    fn inside<T: Clone + Default>(src: &[T], from: &[usize], to: &[usize], start: usize) -> Vec<T> {
        let mut out = vec![T::default(); to.iter().product()];
        let step: Vec<isize> = steps(to).iter().map(|s| s.cast_signed()).collect();
        scatter(&mut out, start.cast_signed(), from, &step, src);
        out
    }
    map_storage!(x, shape.to_vec(), |src| inside(src, x.shape(), shape, start))
}

/// `[a·b·n, c, h, w]` to `[n, c, h·a, w·b]`, cropped.
pub(super) fn batch_to_space(site: &OpContext<'_, '_>) -> Built {
    let (x, ([a, b], [top, bottom, left, right])) = (site.input("x")?, blocks(site, "crops")?);
    Ok(Kernel::one(move |run| {
        let x = run.get(&x);
        let [batch, c, h, w] = four(x)?;
        let n = parts(batch, times(a, b)?, x)?;
        let whole = vec![n, c, times(h, a)?, times(w, b)?];
        let all = moved(x, &[a, b, n, c, h, w], &[2, 3, 4, 0, 5, 1], whole.clone())?;
        let less = |n: usize, cut: usize| {
            n.checked_sub(cut)
                .ok_or_else(|| OpError::invalid(format!("{cut} cut off {n} elements")))
        };
        let shape = vec![n, c, less(whole[2], top + bottom)?, less(whole[3], left + right)?];
        if shape == whole {
            return Ok(all);
        }
        let start = (top * whole[3] + left).cast_signed();
        let step: Vec<isize> = steps(&whole).iter().map(|s| s.cast_signed()).collect();
        Ok(map_storage!(&all, shape.clone(), |src| gather(src, start, &shape, &step)))
    }))
}

/// All runs of `size` elements along an axis, `stride` apart, as the places of a new axis after it.
pub(super) fn sliding_windows(site: &OpContext<'_, '_>) -> Built {
    let (x, along) = (site.input("x")?, site.int("axis", None)?);
    let size = factor(site, "size")?;
    let stride = if site.optional("stride")?.is_some() { factor(site, "stride")? } else { 1 };
    Ok(Kernel::one(move |run| {
        let x = run.get(&x);
        let along = axis(along, x.rank())?;
        let n = x.shape()[along];
        let room = n.checked_sub(size);
        let room = room.ok_or_else(|| {
            OpError::invalid(format!(
                "windows of {size} along axis {along} of shape {:?}",
                x.shape()
            ))
        })?;
        let (mut shape, mut step) = (x.shape().to_vec(), steps(x.shape()));
        shape[along] = room / stride + 1;
        shape.insert(along + 1, size);
        step.insert(along, step[along].saturating_mul(stride));
        elements(&shape)?;
        let step: Vec<isize> = step.iter().map(|s| s.cast_signed()).collect();
        Ok(map_storage!(x, shape.clone(), |src| gather(src, 0, &shape, &step)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::testing::{check, floats};
    use crate::mil::DType;

    fn counted(shape: &[usize]) -> Tensor {
        let n: usize = shape.iter().product();
        floats(shape, &(0..n).map(|i| i as f32).collect::<Vec<_>>())
    }

    /// Results of `tf.nn.depth_to_space` and `torch.nn.PixelShuffle`: two channels of blocks of two.
    #[test]
    fn depth_and_space() {
        let x = || counted(&[1, 8, 1, 1]);
        let blocks = [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0];
        let pixels = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        let c = |kind: &str, parameter: &str| check(kind).int(parameter, 2);
        c("depth_to_space", "block_size").input("x", x()).gives(&[1, 2, 2, 2], &blocks);
        c("pixel_shuffle", "upscale_factor").input("x", x()).gives(&[1, 2, 2, 2], &pixels);
        let want: Vec<f32> = (0..8).map(|i| i as f32).collect();
        c("space_to_depth", "block_size")
            .input("x", floats(&[1, 2, 2, 2], &blocks))
            .gives(&[1, 8, 1, 1], &want);
        c("pixel_unshuffle", "downscale_factor")
            .input("x", floats(&[1, 2, 2, 2], &pixels))
            .gives(&[1, 8, 1, 1], &want);
        c("pixel_shuffle", "upscale_factor")
            .input("x", counted(&[1, 4, 1, 2]))
            .gives(&[1, 1, 2, 4], &[0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

    /// Values of coremltools' own tests of these operations.
    #[test]
    fn batch_and_space() {
        let image: Vec<f32> = (1..17).map(|i| i as f32).collect();
        let batch = [
            0.0, 1.0, 3.0, 0.0, 9.0, 11.0, 0.0, 2.0, 4.0, 0.0, 10.0, 12.0, 0.0, 5.0, 7.0, 0.0,
            13.0, 15.0, 0.0, 6.0, 8.0, 0.0, 14.0, 16.0,
        ];
        let ends = || Tensor::i32(&[2, 2], vec![0, 0, 2, 0]);
        check("space_to_batch")
            .input("x", floats(&[2, 1, 2, 4], &image))
            .ints("block_shape", &[2, 2])
            .constant("paddings", &ends())
            .gives(&[8, 1, 1, 3], &batch);
        check("batch_to_space")
            .input("x", floats(&[8, 1, 1, 3], &batch))
            .ints("block_shape", &[2, 2])
            .constant("crops", &ends())
            .gives(&[2, 1, 2, 4], &image);
    }

    #[test]
    fn windows() {
        let x = || Tensor::i32(&[4, 2], (0..8).collect());
        let c = || check("sliding_windows").input("x", x()).out(DType::I32);
        c().int("axis", 0)
            .int("size", 3)
            .gives(&[2, 3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        c().int("axis", -2)
            .int("size", 1)
            .int("stride", 2)
            .gives(&[2, 1, 2], &[0.0, 1.0, 4.0, 5.0]);
    }

    #[test]
    fn what_no_program_should_ask_for() {
        let most = i32::MAX;
        let c = |kind: &str, parameter: &str, n: i32| {
            check(kind).input("x", counted(&[1, 4, 3, 2])).int(parameter, n)
        };
        let blocks = |kind: &str, ends: &str, block: &[i32], given: &[i32]| {
            check(kind)
                .input("x", counted(&[1, 4, 3, 2]))
                .ints("block_shape", block)
                .ints(ends, given)
        };
        let windows = |axis, size| c("sliding_windows", "axis", axis).int("size", size);
        let cases = [
            (c("depth_to_space", "block_size", 3), "failed: 4 of shape [1, 4, 3, 2] in parts of 9"),
            (
                c("depth_to_space", "block_size", most),
                "failed: 4 of shape [1, 4, 3, 2] in parts of 4611686014132420609",
            ),
            (c("pixel_shuffle", "upscale_factor", 0), "cannot be planned: upscale_factor of 0"),
            (c("space_to_depth", "block_size", 2), "failed: 3 of shape [1, 4, 3, 2] in parts of 2"),
            (
                c("pixel_unshuffle", "downscale_factor", -2),
                "cannot be planned: downscale_factor of -2",
            ),
            (
                blocks("space_to_batch", "paddings", &[2, 2], &[0; 4]),
                "failed: 3 of shape [1, 4, 3, 2] in parts of 2",
            ),
            (
                blocks("space_to_batch", "paddings", &[1, 1], &[most, most, most, most]),
                "failed: shape [1, 4, 4294967297, 4294967296] has more than 2147483648 elements",
            ),
            (
                blocks("space_to_batch", "paddings", &[2, 0], &[0; 4]),
                "cannot be planned: blocks of shape [2, 0]",
            ),
            (
                blocks("space_to_batch", "paddings", &[2], &[0; 4]),
                "cannot be planned: blocks of shape [2] with [0, 0, 0, 0]",
            ),
            (
                blocks("batch_to_space", "crops", &[1, 1], &[2, 2, 0, 0]),
                "failed: 4 cut off 3 elements",
            ),
            (
                blocks("batch_to_space", "crops", &[1, 2], &[0; 4]),
                "failed: 1 of shape [1, 4, 3, 2] in parts of 2",
            ),
            (
                blocks("batch_to_space", "crops", &[1, 1], &[-1, 0, 0, 0]),
                "cannot be planned: an extent of -1 in [-1, 0, 0, 0]",
            ),
            (windows(4, 1), "failed: axis 4 is outside rank 4"),
            (windows(3, 3), "failed: windows of 3 along axis 3 of shape [1, 4, 3, 2]"),
            (windows(3, 0), "cannot be planned: size of 0"),
            (windows(3, 1).int("stride", 0), "cannot be planned: stride of 0"),
        ];
        for (check, want) in cases {
            let failed = check.fails();
            assert!(failed.ends_with(want), "{failed}");
        }
    }
}
