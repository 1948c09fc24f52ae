//! `gru`, `lstm`, `rnn`: a state carried along a sequence, in f32 from end to end, rounded when it is handed out.
//!
//! Sequences are `[steps, batch, features]`. What the inputs add to every gate is one product for all steps; what the
//! state adds is one product a step. A `reverse` operation hands its states out in the order in which it computes
//! them (as coremltools' own tests of the operations have it); of a `bidirectional` one both halves of a place belong
//! to the same step of the input.

mod sequence;
#[cfg(test)]
mod tests;

use sequence::{Activation, Rows, Sequence, times, vector};

use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::op_context::OpContext;
use crate::interp::stored::Shared;

type Built = Result<Kernel, OpError>;

/// hₜ = activation(W x + b + R hₜ₋₁).
pub(super) fn rnn(site: &OpContext<'_, '_>) -> Built {
    let sequence = Sequence::of(site, 1, false)?;
    let initial = site.input("initial_h")?;
    let activation = Activation::of(site, "activation", Activation::Tanh)?;
    Ok(Kernel::many(move |run| {
        let (_, batch) = sequence.extents(run)?;
        let mut states = sequence.initial(run, &initial, batch)?;
        let (cell, hidden) = (&sequence.cells[0], sequence.cells[0].hidden);
        let mut product = vec![0.0; hidden * batch];
        let all = sequence.walk(run, &mut states, |_, given, h| {
            times(&*cell.state, h, batch, &mut product);
            for (at, h) in h.iter_mut().enumerate() {
                let (i, j) = (at / hidden, at % hidden);
                *h = activation.apply(given.at(j, i) + product[j * batch + i]);
            }
        })?;
        Ok(vec![all, sequence.joined(batch, &states)])
    }))
}

/// r, z = sigmoid(W x + b + R h); o = tanh(Wₒ x + Rₒ (r·h) + bₒ); h′ = (1 − z)·o + z·h. Rows are r, o, z.
pub(super) fn gru(site: &OpContext<'_, '_>) -> Built {
    gru_of(site, false, None)
}

/// From iOS18: a bias of the inputs' own, and `reset_after`: o = tanh(Wₒ x + bᵢₒ + r·(Rₒ h + bₒ)).
pub(super) fn gru_ios18(site: &OpContext<'_, '_>) -> Built {
    let n = site.stored("weight_ih")?.and_then(|w| w.shape().first().copied()).unwrap_or(0);
    gru_of(site, site.bool("reset_after", false)?, vector(site, "input_bias", n)?)
}

fn gru_of(site: &OpContext<'_, '_>, reset_after: bool, input_bias: Option<Vec<f32>>) -> Built {
    let mut sequence = Sequence::of(site, 3, false)?;
    let initial = site.input("initial_h")?;
    let gate = Activation::of(site, "recurrent_activation", Activation::Sigmoid)?;
    let activation = Activation::of(site, "activation", Activation::Tanh)?;
    let cell = &mut sequence.cells[0];
    let hidden = cell.hidden;
    // The bias inside the reset product, where there is one; everything else joins what the inputs give.
    let mut inside = vec![0.0; hidden];
    if reset_after {
        inside.copy_from_slice(&cell.bias[hidden..2 * hidden]);
        cell.bias[hidden..2 * hidden].fill(0.0);
    }
    if let Some(more) = input_bias {
        cell.bias.iter_mut().zip(more).for_each(|(b, m)| *b += m);
    }
    let part = |first: usize| Rows {
        whole: Shared::clone(&cell.state),
        first: first * hidden,
        shape: [hidden, hidden],
    };
    let (reset, new, update) = (part(0), part(1), part(2));
    Ok(Kernel::many(move |run| {
        let (_, batch) = sequence.extents(run)?;
        let mut states = sequence.initial(run, &initial, batch)?;
        let n = hidden * batch;
        let (mut r, mut o, mut z) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
        let mut kept = vec![0.0; n];
        let all = sequence.walk(run, &mut states, |_, given, h| {
            times(&reset, h, batch, &mut r);
            times(&update, h, batch, &mut z);
            let place = |at: usize| (at / hidden, at % hidden);
            for (at, kept) in kept.iter_mut().enumerate() {
                let (i, j) = place(at);
                let r = gate.apply(given.at(j, i) + r[j * batch + i]);
                *kept = if reset_after { r } else { r * h[at] };
            }
            times(&new, if reset_after { h } else { &kept }, batch, &mut o);
            for (at, h) in h.iter_mut().enumerate() {
                let (i, j) = place(at);
                let mut from_state = o[j * batch + i] + inside[j];
                if reset_after {
                    from_state *= kept[at];
                }
                let o = activation.apply(given.at(hidden + j, i) + from_state);
                let z = gate.apply(given.at(2 * hidden + j, i) + z[j * batch + i]);
                *h = (1.0 - z) * o + z * *h;
            }
        })?;
        Ok(vec![all, sequence.joined(batch, &states)])
    }))
}

/// Weights that let the gates of an `lstm` see the cell: input, forget, output.
type Peephole = Option<Vec<f32>>;

/// i, f, o = sigmoid(W x + b + R h + p·c); g = tanh(W x + b + R h); c′ = f·c + i·g; h′ = o·tanh(c′).
///
/// Rows are i, f, o, g. The input and forget gates see the old cell through their peephole, the output gate the new
/// one; `clip` bounds the new cell.
pub(super) fn lstm(site: &OpContext<'_, '_>) -> Built {
    let sequence = Sequence::of(site, 4, true)?;
    let (initial_h, initial_c) = (site.input("initial_h")?, site.input("initial_c")?);
    let gate = Activation::of(site, "recurrent_activation", Activation::Sigmoid)?;
    let inner = Activation::of(site, "cell_activation", Activation::Tanh)?;
    let outer = Activation::of(site, "activation", Activation::Tanh)?;
    let clip = site.constant("clip")?.map(|_| site.float("clip", None)).transpose()?;
    let clip = clip.map_or(f32::INFINITY, f32::abs);
    let hidden = sequence.cells[0].hidden;
    let peepholes = ["peephole", "peephole_back"].map(|name| vector(site, name, 3 * hidden));
    let [first, second] = peepholes;
    let peepholes: [Peephole; 2] = [first?, second?];
    Ok(Kernel::many(move |run| {
        let (_, batch) = sequence.extents(run)?;
        let mut states = sequence.initial(run, &initial_h, batch)?;
        let mut memory = sequence.initial(run, &initial_c, batch)?;
        let mut product = vec![0.0; 4 * hidden * batch];
        let all = sequence.walk(run, &mut states, |d, given, h| {
            times(&*sequence.cells[d].state, h, batch, &mut product);
            let peephole = peepholes[d].as_deref();
            for (at, (h, c)) in h.iter_mut().zip(&mut memory[d]).enumerate() {
                let (i, j) = (at / hidden, at % hidden);
                let sum = |gate: usize| {
                    let row = gate * hidden + j;
                    given.at(row, i) + product[row * batch + i]
                };
                let seen = |gate: usize, c: f32| peephole.map_or(0.0, |p| p[gate * hidden + j] * c);
                let enter = gate.apply(sum(0) + seen(0, *c));
                let keep = gate.apply(sum(1) + seen(1, *c));
                let new = keep * *c + enter * inner.apply(sum(3));
                // Not `clamp`, which would let no NaN through the comparison but panic on a NaN bound.
                *c = if new > clip {
                    clip
                } else if new < -clip {
                    -clip
                } else {
                    new
                };
                *h = gate.apply(sum(2) + seen(2, *c)) * outer.apply(*c);
            }
        })?;
        Ok(vec![all, sequence.joined(batch, &states), sequence.joined(batch, &memory)])
    }))
}
