//! Pruning: which values of a weight become zero and are not stored.

mod magnitude;
mod mask;
mod n_of_m;
mod threshold;

pub use self::mask::Mask;
use super::error::Error;
use super::scheme::Prune;
use super::weight::Weight;

/// The values that `prune` leaves; those that are zero already are pruned too.
///
/// The rules are those of coremltools 9.0, `prune_weights`. Where all values would go the first one stays, as Core ML has no
/// constants without elements.
pub fn prune(weight: &Weight<'_>, prune: Prune) -> Result<Mask, Error> {
    let mut mask = match prune {
        Prune::Magnitude { sparsity, block: None } => magnitude::values(weight, sparsity),
        Prune::Magnitude { sparsity, block: Some((size, axis)) } => {
            magnitude::blocks(weight, sparsity, size, axis)?
        }
        Prune::NofM { n, m, axis } => n_of_m::mask(weight, n, m, axis)?,
        Prune::Below(threshold) => threshold::mask(weight, threshold.get())?,
    };
    if mask.n_set() == 0 {
        mask.set_first();
    }
    Ok(mask)
}

/// The channels along `axis` and the values between two of them, if pruning by `size` of them makes sense.
fn channels(weight: &Weight<'_>, axis: usize, size: usize) -> Result<(usize, usize), Error> {
    let shape = weight.shape();
    let fits = axis < 2 && 2 * size <= shape[axis];
    if !fits {
        return Err(Error::Channels { shape: shape.to_vec(), axis, size });
    }
    Ok((shape[axis], shape[axis + 1..].iter().product()))
}
