//! `StorageFormat`: how a weight is stored, in types and in words: `pal4 tables 3×1`, `int4 blocks [1, 32]`, `sparse 50.0 % + …`.

use std::fmt;

use serde::Serialize;

use super::weight_graph::{Argument, StoredWeight, argument};
use crate::mil::{Op, TensorType};

/// Storage format of a weight, read from its operations.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct StorageFormat {
    /// The type of what is stored for an element: `fp16`, `int4`; of indices `uint4`.
    pub codes: String,
    /// The share of elements that are not stored, as they are zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparsity: Option<f64>,
    /// The tables that indices point into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tables: Option<Tables>,
    /// The scales of integers, or of what the tables gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scales: Option<Scales>,
    /// The operation, where it is none of those that compression writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
}

/// Lookup tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tables {
    /// Bits of an index.
    pub bits: u32,
    /// Number of tables along each axis of the weight; all ones for a single table.
    pub grid: Vec<u64>,
    /// Number of elements per index.
    pub vector: u64,
    /// The type of the entries.
    pub entries: String,
    /// True if entries have scales of their own.
    pub scaled: bool,
}

/// Scales of blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scales {
    /// The elements along each axis that share a scale.
    pub block: Vec<u64>,
    /// Scales in all.
    pub count: u64,
    /// The one axis that scales differ along, if there is one and each place of it has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub axis: Option<usize>,
    /// True if zero points are stored.
    pub offsets: bool,
}

impl StorageFormat {
    pub(super) fn of(weight: &StoredWeight<'_>) -> Self {
        let mut coding = Self::default();
        let mut reading = Reading { weight, coding: &mut coding };
        if let Some(last) = weight.ops.last() {
            reading.op(last);
        }
        coding
    }
}

struct Reading<'a, 'b> {
    weight: &'b StoredWeight<'a>,
    coding: &'b mut StorageFormat,
}

impl<'a> Reading<'a, '_> {
    fn op(&mut self, op: &'a Op) {
        match op.kind.as_str() {
            "const" => self.coding.codes = self.weight.dtype.to_string(),
            "constexpr_sparse_to_dense" => self.codes(op, "nonzero_data", true),
            "constexpr_lut_to_dense" => {
                self.tables(op);
                self.codes(op, "indices", false);
            }
            "constexpr_lut_to_sparse" => {
                self.tables(op);
                self.codes(op, "indices_nonzero_data", true);
            }
            "constexpr_blockwise_shift_scale" => {
                self.scales(op, "offset");
                self.codes(op, "data", false);
            }
            "constexpr_sparse_blockwise_shift_scale" => {
                self.scales(op, "offset");
                self.codes(op, "nonzero_data", true);
            }
            "constexpr_affine_dequantize" => {
                self.scales(op, "zero_point");
                self.codes(op, "quantized_data", false);
            }
            "constexpr_cast" => self.codes(op, "source_val", false),
            kind => self.coding.other = Some(kind.trim_start_matches("constexpr_").to_owned()),
        }
    }

    fn argument(&self, op: &'a Op, parameter: &str) -> Option<Argument<'a>> {
        argument(op, parameter, &self.weight.makers())
    }

    /// Kind of the codes.
    fn codes(&mut self, op: &'a Op, parameter: &str, sparse: bool) {
        match self.argument(op, parameter) {
            Some(Argument::Made(maker)) if !std::ptr::eq(maker, op) => self.op(maker),
            Some(Argument::Value(value)) => {
                let Some(tensor) = value.ty.as_tensor() else { return };
                // Before iOS18 indices are packed into uint8.
                let bits = self.coding.tables.as_ref().map(|tables| tables.bits);
                self.coding.codes =
                    bits.map_or_else(|| tensor.dtype.to_string(), |bits| format!("uint{bits}"));
                let all = self.weight.elements();
                if let (true, Some(n), 1..) = (sparse, tensor.elements(), all) {
                    let vector = self.coding.tables.as_ref().map_or(1, |tables| tables.vector);
                    let stored = n.saturating_mul(vector).min(all);
                    self.coding.sparsity = Some(1.0 - stored as f64 / all as f64);
                }
            }
            _ => {}
        }
    }

    fn tables(&mut self, op: &'a Op) {
        let (entries, scaled) = match self.argument(op, "lut") {
            Some(Argument::Made(maker)) => (self.argument(maker, "data"), true),
            other => (other, false),
        };
        let Some(tensor) = entries.as_ref().and_then(Argument::tensor) else { return };
        let Some(shape) = tensor.fixed_shape() else { return };
        let rank = self.weight.shape.len();
        // Before iOS18 the one table has one axis.
        let (grid, n, vector) = match shape.as_slice() {
            [grid @ .., n, vector] if grid.len() == rank => (grid.to_vec(), *n, *vector),
            [n] => (vec![1; rank], *n, 1),
            _ => return,
        };
        let bits = n.checked_ilog2().unwrap_or(0);
        let entries = tensor.dtype.to_string();
        self.coding.tables = Some(Tables { bits, grid, vector, entries, scaled });
    }

    fn scales(&mut self, op: &'a Op, offset: &str) {
        let scale = self.argument(op, "scale");
        let Some(grid) =
            scale.as_ref().and_then(Argument::tensor).and_then(TensorType::fixed_shape)
        else {
            return;
        };
        let shape = &self.weight.shape;
        let grid = if op.kind == "constexpr_affine_dequantize" {
            self.along(op, grid.first().copied().unwrap_or(1))
        } else {
            grid
        };
        if grid.len() != shape.len() || grid.contains(&0) {
            return;
        }
        let block: Vec<u64> = shape.iter().zip(&grid).map(|(n, cells)| n / cells).collect();
        let mut several = (0..grid.len()).filter(|&axis| grid[axis] > 1);
        let axis = several.next().filter(|&axis| several.next().is_none() && block[axis] == 1);
        let offsets = self.argument(op, offset).is_some();
        let count = grid.iter().fold(1, |n: u64, &cells| n.saturating_mul(cells));
        self.coding.scales = Some(Scales { block, count, axis, offsets });
    }

    /// `n` scales along the axis that the operation names.
    fn along(&self, op: &'a Op, n: u64) -> Vec<u64> {
        use crate::mil::{Data, TensorData};
        let mut grid = vec![1; self.weight.shape.len()];
        let axis = match self.argument(op, "axis") {
            Some(Argument::Value(value)) => match &value.data {
                Data::Tensor(TensorData::Ints(ints)) => ints.first().copied().unwrap_or(0),
                _ => 0,
            },
            _ => 0,
        };
        let rank = i64::try_from(grid.len()).unwrap_or(0);
        let axis = if axis < 0 { i64::from(axis) + rank } else { i64::from(axis) };
        if let Some(cells) = usize::try_from(axis).ok().and_then(|axis| grid.get_mut(axis)) {
            *cells = n;
        }
        grid
    }
}

impl fmt::Display for StorageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(other) = &self.other {
            return f.write_str(other);
        }
        if let Some(sparsity) = self.sparsity {
            write!(f, "sparse {:.1} %", sparsity * 100.0)?;
            if self.tables.is_none() && self.scales.is_none() {
                return Ok(());
            }
            f.write_str(" + ")?;
        }
        match &self.tables {
            Some(tables) => tables.fmt(f)?,
            None => f.write_str(&self.codes)?,
        }
        match &self.scales {
            Some(scales) if self.tables.is_some() => write!(f, ", scales {scales}"),
            Some(scales) => write!(f, " {scales}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pal{}", self.bits)?;
        if self.grid.iter().any(|&n| n > 1) {
            let grid: Vec<_> = self.grid.iter().map(ToString::to_string).collect();
            write!(f, " tables {}", grid.join("×"))?;
        }
        if self.vector > 1 {
            write!(f, ", vectors of {}", self.vector)?;
        }
        match self.entries.as_str() {
            // Whole numbers have scales in any case.
            "fp16" | "fp32" if self.scaled => f.write_str(", scaled entries"),
            "fp16" => Ok(()),
            entries => write!(f, ", {entries} entries"),
        }
    }
}

impl fmt::Display for Scales {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.axis {
            _ if self.count == 1 => f.write_str("per tensor")?,
            Some(0) => f.write_str("per channel")?,
            Some(axis) => write!(f, "per channel of axis {axis}")?,
            None => write!(f, "blocks {:?}", self.block)?,
        }
        if self.offsets { f.write_str(", offsets") } else { Ok(()) }
    }
}

impl StoredWeight<'_> {
    /// Returns how the weight is stored.
    pub fn storage_format(&self) -> StorageFormat {
        StorageFormat::of(self)
    }
}
