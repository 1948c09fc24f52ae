//! `Columns`: vectors as the columns of a strided matrix.

/// Vectors as the columns of a matrix `[k, t]`: element `(k, t)` at `k * k_stride + t * t_stride`.
pub(crate) struct Columns<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) t: usize,
    pub(crate) k_stride: usize,
    pub(crate) t_stride: usize,
}

impl Columns<'_> {
    /// The vectors one after another.
    pub(super) fn vectors(&self, k: usize) -> std::borrow::Cow<'_, [f32]> {
        if self.k_stride == 1 && (self.t == 1 || self.t_stride == k) {
            return std::borrow::Cow::Borrowed(&self.data[..self.t * k]);
        }
        let place = |i: usize| i % k * self.k_stride + i / k * self.t_stride;
        (0..self.t * k).map(|i| self.data[place(i)]).collect()
    }
}
