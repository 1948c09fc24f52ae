//! `compress`: a weight by a scheme, as what is stored once and a rule for the rest, which is poured piece by piece.
//!
//! Nothing as large as the weight is kept: tables, scales and a bit for each value where it is pruned. The indices or
//! integers are made when they are asked for, together with the error that they make.

use std::ops::{ControlFlow, Range};

use half::f16;
use rayon::prelude::*;

use super::affine::{self, Affine};
use super::bits::Bits;
use super::distortion::Distortion;
use super::error::Error;
use super::pack::{Packer, pack_onto, packed_len};
use super::palette::{self, Palette};
use super::prune::{Mask, prune};
use super::scheme::{Code, Scheme};
use super::search::Search;
use super::source::Source;
use super::weight::Weight;

/// Codes per task; a multiple of 8, so that those of one task are whole bytes.
const PIECE: usize = 1 << 18;

/// Codes that are made, read back and packed together: as many as stay in the cache meanwhile, and a multiple of 8.
const CACHED: usize = 1 << 13;

/// A weight in the form that a scheme gives it.
#[derive(Debug, Clone)]
pub struct Compressed<'a> {
    source: Source<'a>,
    coded: EncodedWeights,
}

/// Kind of a weight's codes.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one for a whole weight")]
pub enum EncodedWeights {
    /// The values themselves.
    Float,
    /// Indices into tables.
    Palette(Palette),
    /// Integers with scales.
    Linear(Affine),
}

/// `weight` compressed by `scheme`; the same whatever the number of threads.
pub fn compress(
    weight: Weight<'_>,
    scheme: Scheme,
    search: Search,
) -> Result<Compressed<'_>, Error> {
    let mask = scheme.prune.map(|rule| prune(&weight, rule)).transpose()?;
    let mut source = Source::new(weight, mask);
    let coded = match scheme.code {
        Code::Float => EncodedWeights::Float,
        Code::Palettize(scheme) => {
            EncodedWeights::Palette(palette::palettize(&mut source, scheme, search)?)
        }
        Code::Linear(scheme) => EncodedWeights::Linear(affine::quantize(&source, scheme)?),
    };
    Ok(Compressed { source, coded })
}

impl Compressed<'_> {
    /// Which values are stored, if not all are.
    pub fn mask(&self) -> Option<&Mask> {
        self.source.mask.as_ref()
    }

    /// Kind of the codes.
    pub fn coded(&self) -> &EncodedWeights {
        &self.coded
    }

    /// The tables, if it has some.
    pub fn palette(&self) -> Option<&Palette> {
        if let EncodedWeights::Palette(palette) = &self.coded { Some(palette) } else { None }
    }

    /// The scales, if it has some.
    pub fn linear(&self) -> Option<&Affine> {
        if let EncodedWeights::Linear(linear) = &self.coded { Some(linear) } else { None }
    }

    /// The shape of the codes: that of the weight, where vectors share one divided by their length.
    pub fn code_shape(&self) -> Vec<usize> {
        match &self.coded {
            EncodedWeights::Palette(palette) => palette.index_shape(),
            _ => self.source.weight.shape().to_vec(),
        }
    }

    /// Number of stored codes.
    pub fn n_stored(&self) -> usize {
        self.source.mask.as_ref().map_or(self.n_codes(), Mask::n_set)
    }

    /// The bytes that [`pour`](Self::pour) hands over in all.
    pub fn poured_len(&self) -> usize {
        match self.code_bits() {
            Some(bits) => packed_len(self.n_stored(), bits),
            None => 2 * self.n_stored(),
        }
    }

    /// Hands over the stored codes, packed, in their order and in pieces; the distance of what they stand for to the weight.
    ///
    /// Codes that a mask leaves out are left out. A break ends it, and what it then gives says nothing.
    pub fn pour(&self, put: &mut dyn FnMut(Vec<u8>) -> ControlFlow<()>) -> Distortion {
        let n = self.n_codes();
        let pieces: Vec<Range<usize>> =
            (0..n).step_by(PIECE).map(|at| at..(at + PIECE).min(n)).collect();
        let mut total = Distortion::default();
        let mut packer = self.code_bits().map(Packer::new);
        // As many at a time as keep every thread busy though they wait for each other at the end, and no more in memory.
        for batch in pieces.chunks(16 * rayon::current_num_threads()) {
            let done: Vec<(Vec<u8>, Distortion)> = batch
                .par_iter()
                .map_init(Scratch::default, |memory, range| self.piece(range.clone(), memory))
                .collect();
            for (bytes, distortion) in done {
                total.merge(&distortion);
                let bytes = match (&mut packer, self.mask()) {
                    (Some(packer), Some(_)) => packer.pack(&bytes),
                    _ => bytes,
                };
                if put(bytes).is_break() {
                    return total;
                }
            }
        }
        if let Some(rest) = packer.map(Packer::finish).filter(|rest| !rest.is_empty()) {
            let _ = put(rest);
        }
        total
    }

    /// Error of the stored weight.
    pub fn distortion(&self) -> Distortion {
        self.pour(&mut |_| ControlFlow::Continue(()))
    }

    /// The values it stands for, row-major.
    pub fn dequantize(&self) -> Vec<f16> {
        let n = self.source.len();
        let mut all = vec![f16::ZERO; n];
        let mut memory = Scratch::default();
        for at in (0..self.n_codes()).step_by(PIECE) {
            let range = at..(at + PIECE).min(self.n_codes());
            self.decode(range.clone(), &mut memory);
            match self.palette().and_then(|palette| palette.vectors.as_ref()) {
                None => all[range].copy_from_slice(&memory.decoded),
                Some(vectors) => vectors.stretches(range, |values, first, step| {
                    let decoded = memory.decoded[first..].iter().step_by(step);
                    for (place, &value) in all[values].iter_mut().zip(decoded) {
                        *place = value;
                    }
                }),
            }
        }
        all
    }

    /// All codes, one in each byte, also those that a mask leaves out; none where values are stored as they are.
    pub fn codes(&self) -> Vec<u8> {
        let mut memory = Scratch::default();
        let mut all = Vec::with_capacity(self.n_codes());
        for at in (0..self.n_codes()).step_by(PIECE) {
            self.decode(at..(at + PIECE).min(self.n_codes()), &mut memory);
            all.extend_from_slice(&memory.codes);
        }
        all
    }

    fn n_codes(&self) -> usize {
        let dim = self.palette().map_or(1, Palette::cluster_dim);
        self.source.len() / dim
    }

    fn code_bits(&self) -> Option<Bits> {
        match &self.coded {
            EncodedWeights::Float => None,
            EncodedWeights::Palette(palette) => Some(palette.bits),
            EncodedWeights::Linear(linear) => Some(linear.dtype.bits()),
        }
    }

    /// What the codes in `range` are stored as (not packed yet if there is a mask), and the error that they make.
    fn piece(&self, range: Range<usize>, memory: &mut Scratch) -> (Vec<u8>, Distortion) {
        let bits = self.code_bits();
        let width = bits.map_or(16, |bits| usize::from(bits.get()));
        let mut bytes = Vec::with_capacity(range.len() * width / 8 + 8);
        let mut distortion = Distortion::default();
        for at in range.clone().step_by(CACHED) {
            let range = at..(at + CACHED).min(range.end);
            self.decode(range.clone(), memory);
            let original = self.original(range.clone(), &mut memory.values);
            distortion.merge(&Distortion::of(original, &memory.decoded));
            match (bits, &self.source.mask) {
                (None, mask) => {
                    if let Some(mask) = mask {
                        mask.keep(range.start, &mut memory.decoded);
                    }
                    bytes.extend_from_slice(bytemuck::cast_slice(&memory.decoded));
                }
                (Some(bits), None) => pack_onto(&memory.codes, bits, &mut bytes),
                (Some(_), Some(mask)) => {
                    mask.keep(range.start, &mut memory.codes);
                    bytes.extend_from_slice(&memory.codes);
                }
            }
        }
        (bytes, distortion)
    }

    /// The weight's own values for the codes in `range`, vectors side by side.
    fn original<'b>(&'b self, range: Range<usize>, values: &'b mut Vec<f16>) -> &'b [f16] {
        let all = self.source.weight.values();
        let Some(vectors) = self.palette().and_then(|palette| palette.vectors.as_ref()) else {
            return &all[range];
        };
        values.resize(range.len() * vectors.size, f16::ZERO);
        vectors.stretches(range, |run, first, step| {
            for (place, &value) in values[first..].iter_mut().step_by(step).zip(&all[run]) {
                *place = value;
            }
        });
        values
    }

    /// Fills `memory` with the codes in `range` and the values that they stand for, vectors side by side.
    fn decode(&self, range: Range<usize>, memory: &mut Scratch) {
        let Scratch { values, codes, decoded, palette: reused } = memory;
        codes.resize(if matches!(self.coded, EncodedWeights::Float) { 0 } else { range.len() }, 0);
        match &self.coded {
            EncodedWeights::Float => {
                let read = self.source.read(range, values);
                decoded.clear();
                decoded.extend_from_slice(read);
            }
            EncodedWeights::Palette(palette) => {
                let read = match &palette.vectors {
                    None => self.source.read(range.clone(), values),
                    Some(vectors) => {
                        vectors.read(&self.source, range.clone(), values);
                        values
                    }
                };
                decoded.resize(read.len(), f16::ZERO);
                palette.encode(range.clone(), read, codes, reused);
                palette.decode(range.clone(), codes, decoded);
                self.clear(range, decoded);
            }
            EncodedWeights::Linear(linear) => {
                let read = self.source.read(range.clone(), values);
                decoded.resize(read.len(), f16::ZERO);
                linear.encode(range.clone(), read, codes);
                linear.decode(range.clone(), codes, decoded);
                self.clear(range, decoded);
            }
        }
    }

    /// What is not stored is read as zero. A mask and vectors do not meet.
    fn clear(&self, range: Range<usize>, decoded: &mut [f16]) {
        if let Some(mask) = &self.source.mask {
            mask.clear(range.start, decoded);
        }
    }
}

/// Buffers of a thread, reused between pieces.
#[derive(Default)]
struct Scratch {
    values: Vec<f16>,
    codes: Vec<u8>,
    decoded: Vec<f16>,
    palette: palette::PaletteScratch,
}
