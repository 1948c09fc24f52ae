//! `scaled_dot_product_attention`: softmax(q·kᵀ/√depth + mask)·v, one head per task.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::kernel::attention::{Head, Mask, Rows, Values, head, seen};
use crate::interp::kernel::broadcast;
use crate::interp::op_context::OpContext;
use crate::interp::tensor::{Slice, Tensor};

/// Fewer products than this are done before another thread has woken up.
const ALONE: usize = 1 << 20;

/// Attention over `query` `[.., L, E]`, `key` `[.., S, E]` and `value` `[.., S, V]`; a boolean mask says which keys
/// are seen, a float mask is added to the scores.
pub(super) fn scaled_dot_product_attention(site: &OpContext<'_, '_>) -> Result<Kernel, OpError> {
    let (q, k, v) = (site.input("query")?, site.input("key")?, site.input("value")?);
    let mask = site.optional("attn_mask")?;
    Ok(Kernel::one(move |run| {
        let (q, k, v) = (run.get(&q), run.get(&k), run.get(&v));
        let mask = mask.as_ref().map(|m| run.get(m));
        let shape_mismatch = || {
            let mask = mask.map_or_else(String::new, |m| format!(", mask {:?}", m.shape()));
            let (q, k, v) = (q.shape(), k.shape(), v.shape());
            OpError::invalid(format!("query {q:?}, key {k:?}, value {v:?}{mask} do not attend"))
        };
        let (
            [q_batch @ .., queries, depth],
            [k_batch @ .., keys, k_depth],
            [v_batch @ .., v_keys, value_depth],
        ) = (q.shape(), k.shape(), v.shape())
        else {
            return Err(shape_mismatch());
        };
        let (queries, keys, depth, value_depth) = (*queries, *keys, *depth, *value_depth);
        if *k_depth != depth || *v_keys != keys {
            return Err(shape_mismatch());
        }
        let batch = broadcast::shape(q_batch, k_batch)
            .and_then(|b| broadcast::shape(&b, v_batch))
            .map_err(|_| shape_mismatch())?;
        let shape: Vec<usize> = batch.iter().copied().chain([queries, value_depth]).collect();
        let places = |own: &[usize], size: usize| -> Vec<usize> {
            let each: Vec<usize> = (0..own.iter().product()).map(|i| i * size).collect();
            broadcast::expand(&each, own, &batch)
        };
        let at_q = places(q_batch, queries * depth);
        let at_k = places(k_batch, keys * depth);
        let at_v = places(v_batch, keys * value_depth);
        let mask = mask
            .map(|m| Whole::of(m, &batch, queries, keys).ok_or_else(shape_mismatch))
            .transpose()?;
        let q = q.f32s()?;
        let scale = (1.0 / (depth as f64).sqrt()) as f32;
        let extents = Head { queries, keys, depth, value_depth, scale };
        let mut out = run.uninit_buffer(shape.iter().product());
        let size = queries * value_depth;
        if size > 0 {
            let task = |(i, out): (usize, &mut [f32])| {
                let q = &q[at_q[i]..][..queries * depth];
                let k = rows(k, at_k[i], keys * depth)?;
                let v = rows(v, at_v[i], keys * value_depth)?;
                let mask = mask.as_ref().map(|m| m.head(i));
                head(&extents, q, k, v, mask, out);
                Ok::<_, OpError>(())
            };
            if queries * keys * depth * at_q.len() < ALONE {
                out.chunks_mut(size).enumerate().try_for_each(task)?;
            } else {
                out.par_chunks_mut(size).enumerate().try_for_each(task)?;
            }
        }
        Ok(Tensor::f32(&shape, out))
    }))
}

fn rows(of: &Tensor, at: usize, n: usize) -> Result<Rows<'_>, OpError> {
    match of.storage() {
        Slice::F32(v) => Ok(Rows::F32(&v[at..at + n])),
        Slice::F16(v) => Ok(Rows::F16(&v[at..at + n])),
        _ => Err(OpError::invalid(format!("{} does not attend", of.describe()))),
    }
}

/// A mask with the place of each head's part.
struct Whole<'a> {
    elements: Elements<'a>,
    /// The keys that each row sees.
    seen: Vec<Range<usize>>,
    /// The row with which each head begins.
    rows: Vec<usize>,
    rows_each: usize,
    keys: usize,
}

enum Elements<'a> {
    Bool(Cow<'a, [bool]>),
    Float(Cow<'a, [f32]>),
}

impl Elements<'_> {
    /// From one row to another.
    fn values(&self, part: Range<usize>) -> Values<'_> {
        match self {
            Self::Bool(v) => Values::Bool(&v[part]),
            Self::Float(v) => Values::Float(&v[part]),
        }
    }
}

impl<'a> Whole<'a> {
    fn of(mask: &'a Tensor, batch: &[usize], queries: usize, keys: usize) -> Option<Self> {
        let (own, rows, columns) = match mask.shape() {
            [] => (&[][..], 1, 1),
            [s] => (&[][..], 1, *s),
            [own @ .., l, s] => (own, *l, *s),
        };
        if (rows != 1 && rows != queries) || (columns != 1 && columns != keys) {
            return None;
        }
        if broadcast::shape(own, batch).ok()? != batch {
            return None;
        }
        let count: usize = own.iter().product();
        let (from, to) = ([count, rows, columns], [count, rows, keys]);
        let elements = match mask.storage() {
            Slice::Bool(v) => Elements::Bool(stretch(v.into(), &from, &to)),
            _ => Elements::Float(stretch(mask.f32s().ok()?, &from, &to)),
        };
        let seen = seen(elements.values(0..count * rows * keys), count * rows, keys);
        let each: Vec<usize> = (0..count).map(|i| i * rows).collect();
        let starts = broadcast::expand(&each, own, batch);
        Some(Self { elements, seen, rows: starts, rows_each: rows, keys })
    }

    fn head(&self, i: usize) -> Mask<'_> {
        let rows = self.rows[i]..self.rows[i] + self.rows_each;
        let part = rows.start * self.keys..rows.end * self.keys;
        let step = usize::from(self.rows_each > 1);
        Mask { values: self.elements.values(part), step, seen: &self.seen[rows] }
    }
}

/// The elements stretched from one shape to another, borrowed where these are the same.
fn stretch<'a, T: Copy>(data: Cow<'a, [T]>, from: &[usize], to: &[usize]) -> Cow<'a, [T]> {
    if from == to { data } else { broadcast::expand(&data, from, to).into() }
}

#[cfg(test)]
mod tests {
    use crate::interp::tensor::Tensor;
    use crate::interp::testing::{check, floats};

    #[test]
    fn masks_of_both_kinds_stretch() {
        // Equal scores, so that the result is the mean of the values seen.
        let q = || floats(&[1, 2, 2, 1], &[0.0; 4]);
        let k = || floats(&[1, 2, 3, 1], &[1.0; 6]);
        let v = || floats(&[1, 2, 3, 1], &[1.0, 2.0, 6.0, 10.0, 20.0, 60.0]);
        let base = || {
            check("scaled_dot_product_attention")
                .input("query", q())
                .input("key", k())
                .input("value", v())
        };
        base().gives(&[1, 2, 2, 1], &[3.0, 3.0, 30.0, 30.0]);
        let causal = Tensor::bool(&[2, 3], vec![true, false, false, true, true, false]);
        base().input("attn_mask", causal).gives(&[1, 2, 2, 1], &[1.0, 1.5, 10.0, 15.0]);
        let heads = floats(
            &[2, 1, 3],
            &[0.0, f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY],
        );
        base().input("attn_mask", heads).gives(&[1, 2, 2, 1], &[3.5, 3.5, 20.0, 20.0]);
        let failed = base().input("attn_mask", floats(&[1, 4], &[0.0; 4])).fails();
        assert!(failed.contains("mask [1, 4] do not attend"), "{failed}");
    }
}
