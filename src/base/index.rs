//! Places in tensors.

/// The index along each axis of the flat, row-major place `flat` in a tensor of `shape`, whose sizes are not 0.
pub fn unravel(flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = flat;
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|n| {
            let at = rest % n;
            rest /= n;
            at
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_by_hand() {
        for (flat, shape, want) in [
            (0, &[2, 3][..], &[0, 0][..]),
            (5, &[2, 3], &[1, 2]),
            (23, &[2, 3, 4], &[1, 2, 3]),
            (0, &[], &[]),
        ] {
            assert_eq!(unravel(flat, shape), want);
        }
    }
}
