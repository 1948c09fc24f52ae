//! `Lut`: indices into lookup tables (`constexpr_lut_to_dense`), one table per group of elements on any axes.
//!
//! With vectors, an index stands for several elements that follow one another along `vector_axis`.

use super::{Packed, Stored, by_row};
use crate::interp::error::OpError;
use crate::interp::kernel::lut::lut16;
use crate::interp::kernel::packed4::{Nibbles, Table, Values};
use crate::interp::kernel::row::Row;
use crate::mil::DType;

/// A palettized constant.
pub(crate) struct Lut {
    dtype: DType,
    shape: Vec<usize>,
    indices: Packed,
    /// All tables after one another: entries times vector size values each.
    tables: Vec<f32>,
    /// Extents of the table grid.
    groups: Vec<usize>,
    /// Extents of one group, counted in indices.
    block: Vec<usize>,
    entries: usize,
    vector: usize,
    vector_axis: usize,
    /// The tables once more as bytes, where codes of 4 bits stand for single fp16 values and rows lie in one group.
    quick: Option<Vec<Table>>,
}

impl Lut {
    /// Indices with tables of shape `[groups on each axis.., entries, vector size]`.
    pub(crate) fn new(
        indices: Packed,
        table_values: Vec<f32>,
        table_shape: &[usize],
        dtype: DType,
        vector_axis: usize,
    ) -> Result<Self, OpError> {
        let rank = indices.shape().len();
        let wrong = || {
            let indices = indices.shape();
            OpError::invalid(format!("indices {indices:?} and lut {table_shape:?} do not fit"))
        };
        let (groups, tail) = table_shape.split_at_checked(rank).ok_or_else(wrong)?;
        let &[entries, vector] = tail else { return Err(wrong()) };
        let divides =
            indices.shape().iter().zip(groups).all(|(&n, &g)| g > 0 && n.is_multiple_of(g));
        let enough = indices.dtype().bits() <= 8 && entries == 1 << indices.dtype().bits();
        let elements = table_shape.iter().product::<usize>();
        if !divides
            || !enough
            || vector == 0
            || vector_axis >= rank
            || table_values.len() != elements
        {
            return Err(wrong());
        }
        let block = indices.shape().iter().zip(groups).map(|(&n, &g)| n / g).collect();
        let mut shape = indices.shape().to_vec();
        // Zeros count as ones: positions in an empty constant must not overflow either.
        let fits = shape.iter().try_fold(vector, |n, &d| n.checked_mul(d.max(1))).is_some();
        if !fits {
            return Err(wrong());
        }
        shape[vector_axis] *= vector;
        let groups = groups.to_vec();
        let tables = table_values;
        let quick = (indices.dtype().bits() == 4 && vector == 1 && groups.last() == Some(&1))
            .then(|| {
                let (tables, _) = tables.as_chunks::<16>();
                tables.iter().map(Table::new).collect::<Option<Vec<_>>>()
            })
            .flatten();
        Ok(Self {
            dtype,
            shape,
            indices,
            tables,
            groups,
            block,
            entries,
            vector,
            vector_axis,
            quick,
        })
    }

    /// The group of the row that the flat position `at` lies in.
    fn group_of(&self, at: usize) -> usize {
        let (mut row, mut group, mut step) = (at / self.shape[self.shape.len() - 1], 0, 1);
        for axis in (0..self.shape.len() - 1).rev() {
            group += row % self.shape[axis] / self.block[axis] * step;
            row /= self.shape[axis];
            step *= self.groups[axis];
        }
        group
    }

    /// The table of the group at `group` (coordinates of the grid, flat).
    fn table(&self, group: usize) -> &[f32] {
        let size = self.entries * self.vector;
        &self.tables[group * size..][..size]
    }

    /// The value at one place, said plainly.
    pub(crate) fn at(&self, coordinates: &[usize]) -> f32 {
        let mut flat = 0;
        let mut group = 0;
        for (axis, &c) in coordinates.iter().enumerate() {
            let c = if axis == self.vector_axis { c / self.vector } else { c };
            flat = flat * self.indices.shape()[axis] + c;
            group = group * self.groups[axis] + c / self.block[axis];
        }
        let mut code = [0];
        self.indices.fill_codes(flat, &mut code);
        let lane = coordinates[self.vector_axis] % self.vector;
        self.table(group)[usize::from(code[0]) * self.vector + lane]
    }
}

impl Stored for Lut {
    fn run(&self, at: usize, n: usize) -> Option<Row<'_>> {
        let row = *self.shape.last().filter(|&&n| n > 0)?;
        let inside = n.is_multiple_of(2) && at.is_multiple_of(2) && at % row + n <= row;
        let table = self.quick.as_ref().filter(|_| inside)?.get(self.group_of(at))?;
        let codes = self.indices.bytes().get(at / 2..)?.get(..n / 2)?;
        Some(Row::Nibbles(Nibbles { codes, values: Values::Table(table) }))
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn fill(&self, at: usize, out: &mut [f32]) {
        let last = self.shape.len() - 1;
        let along_row = self.vector_axis == last && self.vector > 1;
        let mut codes = Vec::new();
        by_row(&self.shape, at, out, |outer, column, out| {
            if along_row {
                let mut place = outer.to_vec();
                place.push(0);
                for (i, o) in out.iter_mut().enumerate() {
                    place[last] = column + i;
                    *o = self.at(&place);
                }
                return;
            }
            let (mut flat, mut group, mut lane) = (0, 0, 0);
            for (axis, &c) in outer.iter().enumerate() {
                let c = if axis == self.vector_axis {
                    lane = c % self.vector;
                    c / self.vector
                } else {
                    c
                };
                flat = flat * self.indices.shape()[axis] + c;
                group = group * self.groups[axis] + c / self.block[axis];
            }
            codes.resize(out.len(), 0);
            self.indices.fill_codes(flat * self.shape[last] + column, &mut codes);
            let block = self.block[last];
            let mut done = 0;
            while done < out.len() {
                let c = column + done;
                let run = (block - c % block).min(out.len() - done);
                let table = self.table(group * self.groups[last] + c / block);
                let codes = &codes[done..done + run];
                let out = &mut out[done..done + run];
                look_up(table, codes, self.vector, lane, out);
                done += run;
            }
        });
    }
}

fn look_up(table: &[f32], codes: &[u8], vector: usize, lane: usize, out: &mut [f32]) {
    if vector > 1 {
        for (o, &c) in out.iter_mut().zip(codes) {
            *o = table[usize::from(c) * vector + lane];
        }
    } else if table.len() <= 16 {
        let mut padded = [0.0; 16];
        padded[..table.len()].copy_from_slice(table);
        lut16(&padded, codes, out);
    } else {
        out.iter_mut().zip(codes).for_each(|(o, &c)| *o = table[usize::from(c)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::interp::stored::coordinates;

    fn pack(codes: &[u8], bits: u32) -> Vec<u8> {
        let mut bytes = vec![0_u8; (codes.len() * bits as usize).div_ceil(8)];
        for (i, &c) in codes.iter().enumerate() {
            for b in 0..bits as usize {
                let bit = i * bits as usize + b;
                bytes[bit / 8] |= (c >> b & 1) << (bit % 8);
            }
        }
        bytes
    }

    /// The two cases in coremltools' own description of the operation.
    #[test]
    fn as_coremltools_describes_it() {
        let indices =
            Packed::owned(DType::U2, vec![6, 2], pack(&[2, 3, 3, 0, 1, 0, 3, 0, 2, 1, 0, 3], 2));
        let tables = vec![1., 5., 9., 13., 2., 10., 18., 26.];
        let lut = Lut::new(indices, tables, &[2, 1, 4, 1], DType::F16, 0).unwrap();
        let mut out = vec![0.0; 12];
        lut.fill(0, &mut out);
        assert_eq!(out, [9., 13., 13., 1., 5., 1., 26., 2., 18., 10., 2., 26.]);

        let codes = pack(&[0, 0, 1, 0, 1, 1, 0, 0], 1);
        let (a, b) = ([1., 2., 3.], [4., 5., 6.]);
        let cases: [(usize, [f32; 24]); 2] = [
            (
                1,
                [
                    a[0], a[0], a[1], a[1], a[2], a[2], b[0], a[0], b[1], a[1], b[2], a[2], b[0],
                    b[0], b[1], b[1], b[2], b[2], a[0], a[0], a[1], a[1], a[2], a[2],
                ],
            ),
            (
                2,
                [
                    a[0], a[1], a[2], a[0], a[1], a[2], b[0], b[1], b[2], a[0], a[1], a[2], b[0],
                    b[1], b[2], b[0], b[1], b[2], a[0], a[1], a[2], a[0], a[1], a[2],
                ],
            ),
        ];
        for (axis, want) in cases {
            let indices = Packed::owned(DType::U1, vec![2, 2, 2], codes.clone());
            let tables = [a, b].concat();
            let lut = Lut::new(indices, tables, &[1, 1, 1, 2, 3], DType::I8, axis).unwrap();
            let mut out = vec![0.0; 24];
            lut.fill(0, &mut out);
            assert_eq!(out, want, "vector_axis {axis}");
        }
    }

    proptest! {
        #[test]
        fn a_run_is_what_each_place_says(
            grid in prop::array::uniform2(1_usize..4), block in prop::array::uniform2(1_usize..6),
            bits in prop::sample::select(vec![(DType::U1, 1_u32), (DType::U2, 2), (DType::U3, 3), (DType::U4, 4), (DType::U6, 6), (DType::U8, 8)]),
            vector in 1_usize..4, axis in 0_usize..2, seed: u64, at in 0.0_f64..1.0,
        ) {
            let shape = vec![grid[0] * block[0], grid[1] * block[1]];
            let mut x = seed;
            let mut next = || { x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); (x >> 33) as u8 };
            let mask = ((1_u16 << bits.1) - 1) as u8;
            let codes: Vec<u8> = (0..shape.iter().product()).map(|_| next() & mask).collect();
            let entries = 1 << bits.1;
            let tables: Vec<f32> = (0..grid[0] * grid[1] * entries * vector).map(|i| i as f32).collect();
            let lut = Lut::new(Packed::owned(bits.0, shape, pack(&codes, bits.1)), tables, &[grid[0], grid[1], entries, vector], DType::F16, axis).unwrap();
            let start = (at * lut.len() as f64) as usize;
            let mut got = vec![0.0; lut.len() - start];
            lut.fill(start, &mut got);
            let want: Vec<f32> = (start..lut.len()).map(|i| { let mut c = [0; 2]; coordinates(i, lut.shape(), &mut c); lut.at(&c) }).collect();
            prop_assert_eq!(&got, &want);
            let row = lut.shape()[1];
            if let Some(run) = lut.run(start, (row - start % row).min(lut.len() - start)) {
                let n = (row - start % row).min(lut.len() - start);
                run.expand(&mut got[..n]);
                prop_assert_eq!(&got[..n], &want[..n]);
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit() {
        let cases: [(&[usize], usize, usize); 4] = [
            (&[4, 1, 16, 1], 0, 64),
            (&[1, 1, 4, 1], 0, 4),
            (&[1, 16, 1], 0, 16),
            (&[1, 1, 16, 1], 2, 16),
        ];
        for (tables, axis, n) in cases {
            let indices = Packed::owned(DType::U4, vec![6, 2], vec![0; 6]);
            let error = Lut::new(indices, vec![0.0; n], tables, DType::F16, axis).err().unwrap();
            assert_eq!(error.to_string(), format!("indices [6, 2] and lut {tables:?} do not fit"));
        }
    }
}
