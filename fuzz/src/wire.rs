//! Edits of protobuf bytes that keep the lengths around them right, whatever the messages are.

use crate::chance::Dice;

/// One field: its number and what it holds.
#[derive(Clone)]
struct Field {
    number: u64,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Varint(u64),
    Fixed64([u8; 8]),
    Fixed32([u8; 4]),
    /// Bytes that do not read as a message.
    Bytes(Vec<u8>),
    Message(Vec<Field>),
}

/// Deeper levels stay bytes.
const MAX_DEPTH: usize = 24;

/// Changes one field somewhere in a message; nothing where the bytes are none.
pub fn edit(bytes: &[u8], dice: &mut Dice) -> Option<Vec<u8>> {
    let mut fields = read(bytes, 0)?;
    for _ in 0..=dice.below(3) {
        change(&mut fields, dice);
    }
    let mut out = Vec::new();
    write(&fields, &mut out);
    Some(out)
}

fn change(fields: &mut Vec<Field>, dice: &mut Dice) {
    let at = dice.below(fields.len());
    let Some(field) = fields.get_mut(at) else { return };
    if let Content::Message(inner) = &mut field.content
        && !dice.one_in(8)
    {
        return change(inner, dice);
    }
    match dice.below(6) {
        0 => drop(fields.remove(at)),
        1 => {
            let copy = fields[at].clone();
            // A few fields many times are as good as many fields.
            let times = if dice.one_in(8) { dice.below(200) } else { 1 };
            fields.extend(std::iter::repeat_n(copy, times));
        }
        2 => field.number = dice.below(30) as u64 + 1,
        3 => {
            // Into itself, several levels deep.
            let levels = if dice.one_in(4) { dice.below(150) } else { dice.below(4) };
            for _ in 0..levels {
                let inner = field.clone();
                field.content = Content::Message(vec![inner]);
            }
        }
        _ => match &mut field.content {
            Content::Varint(n) => *n = dice.int(*n as i64) as u64,
            Content::Fixed64(b) => *b = f64::from(dice.float()).to_le_bytes(),
            Content::Fixed32(b) => *b = dice.float().to_le_bytes(),
            Content::Bytes(b) => match dice.below(3) {
                0 => b.truncate(dice.below(b.len())),
                1 => b.extend(b.clone()),
                _ => {
                    if let Some(byte) = dice.of_mut(b) {
                        *byte = byte.wrapping_add(1);
                    }
                }
            },
            Content::Message(inner) => inner.clear(),
        },
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn read(mut bytes: &[u8], depth: usize) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let (number, content) = (key >> 3, key & 7);
        if number == 0 {
            return None;
        }
        let content = match content {
            0 => Content::Varint(varint(&mut bytes)?),
            1 => {
                let (word, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                Content::Fixed64(*word)
            }
            5 => {
                let (word, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                Content::Fixed32(*word)
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (inner, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                let message = if depth < MAX_DEPTH && !inner.is_empty() {
                    read(inner, depth + 1)
                } else {
                    None
                };
                message.map_or_else(|| Content::Bytes(inner.to_vec()), Content::Message)
            }
            _ => return None,
        };
        fields.push(Field { number, content });
    }
    Some(fields)
}

fn put_varint(mut n: u64, out: &mut Vec<u8>) {
    while n > 0x7F {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn write(fields: &[Field], out: &mut Vec<u8>) {
    for field in fields {
        let (code, length) = match &field.content {
            Content::Varint(_) => (0, None),
            Content::Fixed64(_) => (1, None),
            Content::Fixed32(_) => (5, None),
            Content::Bytes(b) => (2, Some(b.clone())),
            Content::Message(inner) => {
                let mut bytes = Vec::new();
                write(inner, &mut bytes);
                (2, Some(bytes))
            }
        };
        put_varint(field.number << 3 | code, out);
        match &field.content {
            Content::Varint(n) => put_varint(*n, out),
            Content::Fixed64(b) => out.extend(b),
            Content::Fixed32(b) => out.extend(b),
            Content::Bytes(_) | Content::Message(_) => {
                let bytes = length.unwrap_or_default();
                put_varint(bytes.len() as u64, out);
                out.extend(bytes);
            }
        }
    }
}
