//! `Pool`: vectors of finished values, kept for the values to come, so that a step in a loop allocates next to nothing.

use std::collections::BTreeMap;

use super::value::Value;

/// More bytes than this are given back to the system instead.
const LIMIT: usize = 256 << 20;

/// Free f32 vectors by capacity.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: BTreeMap<usize, Vec<Vec<f32>>>,
    bytes: usize,
    lent: Vec<Value>,
}

impl Pool {
    /// An empty vector with room for `n` elements.
    pub(crate) fn take(&mut self, n: usize) -> Vec<f32> {
        let mut vector = self.find(n);
        vector.clear();
        vector
    }

    /// A vector of `n` elements for one who writes them all: what they are before is left from earlier values.
    pub(crate) fn take_filled(&mut self, n: usize) -> Vec<f32> {
        let mut vector = self.find(n);
        vector.resize(n, 0.0);
        vector
    }

    fn find(&mut self, n: usize) -> Vec<f32> {
        // A vector much larger than needed is better kept for a larger value.
        let fitting =
            self.free.range(n..=n.saturating_mul(4)).next().map(|(&capacity, _)| capacity);
        let Some(capacity) = fitting else { return Vec::with_capacity(n) };
        let shelf = self.free.get_mut(&capacity).expect("the capacity was just found");
        let vector = shelf.pop().expect("empty shelves are removed");
        if shelf.is_empty() {
            self.free.remove(&capacity);
        }
        self.bytes -= capacity * size_of::<f32>();
        vector
    }

    /// Remembers a result that a caller is given: it is room again where that has let go of it by [`Self::recall`].
    pub(crate) fn track(&mut self, value: &Value) {
        // What is larger could not be given back, and is not kept from the system either.
        if value.as_tensor().is_some_and(|t| t.len() * size_of::<f32>() <= LIMIT) {
            self.lent.push(value.clone());
        }
    }

    /// Takes back of what was lent what nobody else sees, and forgets the rest.
    pub(crate) fn reclaim(&mut self) {
        for value in std::mem::take(&mut self.lent) {
            self.release(value);
        }
    }

    /// Keeps the vector of a value that nobody else sees.
    pub(crate) fn release(&mut self, value: Value) {
        if let Value::Tensor(tensor) = value
            && let Some(vector) = tensor.reclaim()
        {
            self.give(vector);
        }
    }

    /// Keeps a vector for later.
    pub(crate) fn give(&mut self, vector: Vec<f32>) {
        let bytes = vector.capacity() * size_of::<f32>();
        if bytes > 0 && self.bytes + bytes <= LIMIT {
            self.bytes += bytes;
            self.free.entry(vector.capacity()).or_default().push(vector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::tensor::Tensor;

    #[test]
    fn a_vector_given_is_taken_again() {
        let mut pool = Pool::default();
        let vector = Vec::with_capacity(100);
        let place = vector.as_ptr();
        pool.give(vector);
        pool.give(vec![7.0; 300]);
        assert_eq!(pool.take_filled(200), [7.0; 200], "not written again");
        let small = pool.take(10);
        assert_ne!(small.as_ptr(), place, "much too large");
        let again = pool.take(90);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        assert_eq!((pool.bytes, pool.free.len()), (0, 0));
    }

    #[test]
    fn what_was_lent_comes_back_once_nobody_else_has_it() {
        let mut pool = Pool::default();
        let [kept, dropped] = [300, 700].map(|n| Value::from(Tensor::f32(&[n], vec![7.0; n])));
        pool.track(&kept);
        pool.track(&dropped);
        drop(dropped);
        pool.reclaim();
        assert_eq!((pool.bytes, pool.lent.len()), (4 * 700, 0));
        assert_eq!(kept.as_tensor().unwrap().to_f32().unwrap(), [7.0; 300]);
        pool.track(&Value::from(Tensor::i32(&[0], vec![])));
        pool.reclaim();
        assert_eq!(pool.bytes, 4 * 700, "a vector of other elements is no room");
    }
}
