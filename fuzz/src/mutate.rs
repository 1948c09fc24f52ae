//! The targets' mutators: read, change, write; libFuzzer's own change of bytes where the bytes do not read.

use coremill::mil::text;
use coremill::package::Model;

use crate::chance::Dice;
use crate::drive::Wrapped;
use crate::{program, records, wire};

/// libFuzzer's own change: of the first `size` bytes of `data`, to at most `most`.
pub type Bytes<'a> = &'a mut dyn FnMut(&mut [u8], usize, usize) -> usize;

/// A changed model file.
pub fn proto(bytes: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    if dice.one_in(3) {
        return wire::edit(bytes, dice);
    }
    let mut model = Model::from_bytes(bytes).ok()?;
    program::edit(&mut model.program, dice);
    Some(model.to_bytes())
}

/// A changed text.
pub fn mil_text(bytes: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let mut read = text::read(str::from_utf8(bytes).ok()?).ok()?;
    program::edit(&mut read, dice);
    Some(text::write(&read).into_bytes())
}

/// A changed blob file: another value in one of the records' fields.
pub fn blob(bytes: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    let at = 64 * dice.below(bytes.len() / 64 + 1);
    let word = at + 8 * dice.below(4);
    let half = at + 4 * dice.below(2);
    match dice.below(4) {
        0 => bytes.get_mut(half..half + 4)?.copy_from_slice(&(dice.below(20) as u32).to_le_bytes()),
        1 => bytes.truncate(at + dice.below(65)),
        2 => bytes.extend_from_within(at..),
        _ => {
            let old = u64::from_le_bytes(*bytes.get(word..)?.first_chunk()?);
            let new = if dice.one_in(2) {
                64 * dice.below(64) as u64
            } else {
                dice.int(old as i64) as u64
            };
            bytes.get_mut(word..word + 8)?.copy_from_slice(&new.to_le_bytes());
        }
    }
    Some(bytes)
}

/// A package with one part changed.
pub fn package(bytes: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let old = Wrapped::open(bytes);
    let mut new = old;
    let part;
    match dice.below(8) {
        0 => {
            part = blob(old.weights, dice)?;
            new.weights = &part;
        }
        1 if old.compiled || dice.one_in(4) => {
            // Between the two forms of a package.
            part = if old.compiled {
                let program = text::read(str::from_utf8(old.model).ok()?).ok()?;
                let description = coremill::proto::model::ModelDescription::default();
                Model { specification_version: 9, description, program }.to_bytes()
            } else {
                text::write(&Model::from_bytes(old.model).ok()?.program).into_bytes()
            };
            (new.compiled, new.model, new.manifest) = (!old.compiled, &part, &[]);
        }
        _ => {
            let change = if old.compiled { mil_text } else { proto };
            part = change(old.model, dice)?;
            new.model = &part;
        }
    }
    Some(new.to_bytes())
}

/// A changed report, manifest or spec.
pub fn record(bytes: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    Some(records::edit(bytes, dice.below(1 << 30) as u64))
}

/// What a target's custom mutator does: `edit` mostly, libFuzzer's own change otherwise and where there is nothing to
/// edit.
pub fn apply(
    edit: fn(&[u8], &mut Dice) -> Option<Vec<u8>>,
    data: &mut [u8],
    size: usize,
    most: usize,
    seed: u32,
    bytes: Bytes<'_>,
) -> usize {
    let mut dice = Dice::new(seed);
    if dice.one_in(6) {
        return bytes(data, size, most);
    }
    match edit(&data[..size], &mut dice).filter(|new| new.len() <= most && !new.is_empty()) {
        Some(new) => {
            data[..new.len()].copy_from_slice(&new);
            new.len()
        }
        None => bytes(data, size, most),
    }
}
