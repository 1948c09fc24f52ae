//! Splits a prompt into calls of `init`, whose input shape is fixed.
//!
//! A chunk shorter than the call is padded behind its end, and `length` masks the padding. Where a call would reach
//! beyond the cache it starts earlier, and the tokens before the new ones are fed once more at their own positions.

/// One call of `init`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Position of the first token fed.
    pub position: usize,
    /// Tokens fed, padding not counted.
    pub length: usize,
    /// Tokens among them, at the front, that an earlier call fed already.
    pub again: usize,
}

/// The calls that feed the tokens at positions `from..to`, `size` at a time, into a cache of `capacity` positions.
///
/// `to` and `size` are at most `capacity`.
pub(crate) fn chunks(from: usize, to: usize, size: usize, capacity: usize) -> Vec<Chunk> {
    assert!(to <= capacity && (1..=capacity).contains(&size), "the caller checked the lengths");
    let mut out = Vec::new();
    let mut next = from;
    while next < to {
        let position = next.min(capacity - size);
        let length = size.min(to - position);
        out.push(Chunk { position, length, again: next - position });
        next = position + length;
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cuts() {
        let chunk = |position, length, again| Chunk { position, length, again };
        let cases = [
            ((0, 0, 4, 8), vec![]),
            ((0, 3, 4, 8), vec![chunk(0, 3, 0)]),
            ((0, 8, 4, 8), vec![chunk(0, 4, 0), chunk(4, 4, 0)]),
            // The last call starts at 3 instead of 4 and feeds the token at 3 again.
            ((0, 7, 4, 7), vec![chunk(0, 4, 0), chunk(3, 4, 1)]),
            ((6, 7, 4, 8), vec![chunk(4, 3, 2)]),
        ];
        for ((from, to, size, capacity), want) in cases {
            assert_eq!(chunks(from, to, size, capacity), want);
        }
    }

    proptest! {
        #[test]
        fn every_position_is_new_once_and_no_call_leaves_the_cache(
            capacity in 1_usize..200,
            size in 1_usize..200,
            from in 0_usize..200,
            to in 0_usize..200,
        ) {
            let (size, to) = (size.min(capacity), to.min(capacity));
            let mut next = from;
            for chunk in chunks(from, to, size, capacity) {
                prop_assert!(chunk.position + size <= capacity);
                prop_assert!((1..=size).contains(&chunk.length));
                prop_assert_eq!(chunk.position + chunk.again, next);
                prop_assert!(chunk.again < chunk.length);
                next = chunk.position + chunk.length;
            }
            prop_assert_eq!(next, to.max(from));
        }
    }
}
