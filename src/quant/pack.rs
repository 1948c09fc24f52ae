//! Packing of elements narrower than a byte, as Core ML's blob storage holds them.
//!
//! Element `i` of `b` bits takes bits `i·b .. (i+1)·b` of a little-endian stream, whatever `b`: elements of 3 and
//! 6 bits cross byte boundaries. The last byte is filled up with zeros. The same as coremltools'
//! `pack_elements_into_bits` and as the bytes its `BlobStorageWriter` writes.

use super::bits::Bits;
use super::error::Error;

/// The bytes that `n` elements of `bits` bits take.
pub fn packed_len(n: usize, bits: Bits) -> usize {
    let per_eight = usize::from(bits.get());
    n / 8 * per_eight + (n % 8 * per_eight).div_ceil(8)
}

/// The low `bits` bits of each of `elements`, packed.
///
/// Higher bits are dropped, so a negative number in two's complement packs into its narrow form.
pub fn pack(elements: &[u8], bits: Bits) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(elements.len() / 8 * usize::from(bits.get()) + 8);
    pack_onto(elements, bits, &mut bytes);
    bytes
}

/// As [`pack`], behind what `bytes` holds.
pub(super) fn pack_onto(elements: &[u8], bits: Bits, bytes: &mut Vec<u8>) {
    match bits.get() {
        1 => pack_eights::<1>(elements, bytes),
        2 => pack_eights::<2>(elements, bytes),
        3 => pack_eights::<3>(elements, bytes),
        4 => pack_pairs(elements, bytes),
        6 => pack_eights::<6>(elements, bytes),
        _ => bytes.extend_from_slice(elements),
    }
}

/// Packs elements that come in parts of any length.
#[derive(Debug)]
pub(super) struct Packer {
    bits: Bits,
    /// Fewer than eight, which wait for more.
    rest: Vec<u8>,
}

impl Packer {
    pub(super) fn new(bits: Bits) -> Self {
        Self { bits, rest: Vec::new() }
    }

    /// The bytes that are whole with `elements`.
    pub(super) fn pack(&mut self, elements: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(elements);
        let whole = self.rest.len() - self.rest.len() % 8;
        let bytes = pack(&self.rest[..whole], self.bits);
        self.rest.drain(..whole);
        bytes
    }

    /// The bytes of what is left.
    pub(super) fn finish(self) -> Vec<u8> {
        pack(&self.rest, self.bits)
    }
}

/// The `n` elements of `bits` bits packed in `bytes`, as unsigned numbers.
pub fn unpack(bytes: &[u8], bits: Bits, n: usize) -> Result<Vec<u8>, Error> {
    let needed = packed_len(n, bits);
    if bytes.len() != needed {
        return Err(Error::Packed { n, bits: bits.get(), needed, len: bytes.len() });
    }
    Ok(match bits.get() {
        1 => unpack_eights::<1>(bytes, n),
        2 => unpack_eights::<2>(bytes, n),
        3 => unpack_eights::<3>(bytes, n),
        4 => unpack_eights::<4>(bytes, n),
        6 => unpack_eights::<6>(bytes, n),
        _ => bytes.to_vec(),
    })
}

/// Two elements of 4 bits are a byte.
fn pack_pairs(elements: &[u8], bytes: &mut Vec<u8>) {
    let (pairs, rest) = elements.as_chunks::<2>();
    bytes.extend(pairs.iter().map(|[low, high]| low & 15 | high << 4));
    bytes.extend(rest.iter().map(|last| last & 15));
}

/// Eight elements of `B` bits are `B` whole bytes.
fn pack_eights<const B: usize>(elements: &[u8], bytes: &mut Vec<u8>) {
    let (eights, rest) = elements.as_chunks::<8>();
    for eight in eights {
        bytes.extend_from_slice(&gather::<B>(*eight));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    bytes.extend_from_slice(&gather::<B>(last)[..(rest.len() * B).div_ceil(8)]);
}

fn gather<const B: usize>(eight: [u8; 8]) -> [u8; B] {
    let stream =
        eight.iter().rev().fold(0_u64, |stream, &e| stream << B | u64::from(e) & ((1 << B) - 1));
    std::array::from_fn(|i| stream.to_le_bytes()[i])
}

fn unpack_eights<const B: usize>(bytes: &[u8], n: usize) -> Vec<u8> {
    let (eights, rest) = bytes.as_chunks::<B>();
    let mut elements = Vec::with_capacity(n + 8);
    for eight in eights {
        elements.extend_from_slice(&scatter(eight));
    }
    let mut last = [0; B];
    last[..rest.len()].copy_from_slice(rest);
    elements.extend_from_slice(&scatter(&last));
    elements.truncate(n);
    elements
}

fn scatter<const B: usize>(bytes: &[u8; B]) -> [u8; 8] {
    let stream = bytes.iter().rev().fold(0_u64, |stream, &b| stream << 8 | u64::from(b));
    std::array::from_fn(|i| (stream >> (i * B)) as u8 & ((1 << B) - 1) as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, bit by bit.
    fn pack_bit_by_bit(elements: &[u8], bits: Bits) -> Vec<u8> {
        let b = usize::from(bits.get());
        let mut bytes = vec![0; (elements.len() * b).div_ceil(8)];
        for i in 0..elements.len() * b {
            bytes[i / 8] |= (elements[i / b] >> (i % b) & 1) << (i % 8);
        }
        bytes
    }

    #[test]
    fn bytes_that_coremltools_writes() {
        // Read back from files; goldens/coremltools.json has longer ones.
        let check = |bits, elements: &[i8], expected: &[u8]| {
            let elements: Vec<u8> = elements.iter().map(|&e| e as u8).collect();
            assert_eq!(pack(&elements, Bits::new(bits).unwrap()), expected, "{bits} bits");
        };
        check(2, &[3, 0, 3, 2, 1], &[0xb3, 0x01]);
        check(3, &[3, 0, 3, 7, 4], &[0xc3, 0x4e]);
        check(4, &[0, 14, 11, 4, 0], &[0xe0, 0x4b, 0x00]);
        check(6, &[26, 55, 53, 7, 0], &[0xda, 0x5d, 0x1f, 0x00]);
        check(4, &[-8, -7, -1, 0, 7], &[0x98, 0x0f, 0x07]);
        check(8, &[-1, 2], &[0xff, 0x02]);
    }

    #[test]
    fn the_wrong_number_of_bytes_is_an_error() {
        let error = unpack(&[0; 3], Bits::new(3).unwrap(), 5).unwrap_err();
        assert_eq!(error.to_string(), "5 elements of 3 bits take 2 bytes, got 3");
    }

    proptest! {
        #[test]
        fn packing_is_the_definition_and_unpacking_its_inverse(
            elements in prop::collection::vec(any::<u8>(), 0..100),
            bits in prop::sample::select(&Bits::ALL),
            part in 1_usize..30,
        ) {
            let packed = pack(&elements, bits);
            prop_assert_eq!(&packed, &pack_bit_by_bit(&elements, bits));
            prop_assert_eq!(packed.len(), packed_len(elements.len(), bits));
            let mut packer = Packer::new(bits);
            let mut parts: Vec<u8> = elements.chunks(part).flat_map(|part| packer.pack(part)).collect();
            parts.extend(packer.finish());
            prop_assert_eq!(&parts, &packed);
            let low: Vec<u8> = elements.iter().map(|e| e & (bits.n_values() - 1) as u8).collect();
            prop_assert_eq!(unpack(&packed, bits, elements.len()).unwrap(), low);
        }
    }
}
