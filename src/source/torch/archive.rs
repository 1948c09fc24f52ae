//! `archive`: the zip archive that `torch.save` writes, whose entries are not compressed.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::pickle::Tensor;
use super::{Error, Layout, MAX_PICKLE, Storage, load, state};
use crate::source::positional::File;

/// An entry of the archive.
struct Member {
    /// True if it is stored as it is.
    plain: bool,
    /// Its length.
    length: u64,
    /// Where its local header begins.
    header: u64,
}

/// Finds the tensors of the archive.
pub(super) fn layout(file: &File) -> Result<Layout, Error> {
    let path = file.path();
    let members = directory(file)?;
    let not_torch = |reason: String| Error::NotTorch { file: path.to_owned(), reason };
    let Some(root) = members.keys().find_map(|name| name.strip_suffix("data.pkl")) else {
        return Err(not_torch("the archive has no `data.pkl`".to_owned()));
    };
    let root = root.to_owned();
    let (begin, end) = range(file, &members, &format!("{root}data.pkl"))?;
    if end - begin > MAX_PICKLE {
        return Err(not_torch(format!("its pickle has {} bytes", end - begin)));
    }
    let bytes = read(file, begin, end - begin)?;
    if members.contains_key(&format!("{root}byteorder")) {
        let (begin, end) = range(file, &members, &format!("{root}byteorder"))?;
        let order = read(file, begin, (end - begin).min(16))?;
        if order != b"little" {
            let order = String::from_utf8_lossy(&order).into_owned();
            return Err(not_torch(format!("its byte order is `{order}`")));
        }
    }
    let (pickle, _) = load(path, &bytes)?;
    let mut find = |tensor: &Tensor| -> Result<Storage, String> {
        let name = format!("{root}data/{}", tensor.key);
        let (begin, end) =
            range(file, &members, &name).map_err(|e| format!("cannot be found: {e}"))?;
        Ok(Storage { begin, end })
    };
    state::layout(path, &pickle.value, &mut find)
}

fn read(file: &File, offset: u64, n: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; usize::try_from(n).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
    Some(u64::from(u16::from_le_bytes(bytes)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u64::from(u32::from_le_bytes(bytes)))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Every entry of the archive, from the directory at its end.
fn directory(file: &File) -> Result<BTreeMap<String, Member>, Error> {
    const END: &[u8] = b"PK\x05\x06";
    const LONGEST_END: u64 = 22 + (1 << 16) + 20;
    let cut = || Error::Truncated {
        file: PathBuf::from(file.path()),
        reason: "the archive has no directory at its end".to_owned(),
    };
    let tail_length = file.length().min(LONGEST_END);
    let tail_begin = file.length() - tail_length;
    let tail = read(file, tail_begin, tail_length)?;
    let at = tail.windows(4).rposition(|window| window == END).ok_or_else(cut)?;
    let end = tail.get(at..).ok_or_else(cut)?;
    let mut length = u32_at(end, 12).ok_or_else(cut)?;
    let mut offset = u32_at(end, 16).ok_or_else(cut)?;
    let mut count = u16_at(end, 10).ok_or_else(cut)?;
    if length == u64::from(u32::MAX)
        || offset == u64::from(u32::MAX)
        || count == u64::from(u16::MAX)
    {
        // The 64-bit record, which a locator before the end points to.
        let locator = at.checked_sub(20).and_then(|at| tail.get(at..)).ok_or_else(cut)?;
        if !locator.starts_with(b"PK\x06\x07") {
            return Err(cut());
        }
        let record = read(file, u64_at(locator, 8).ok_or_else(cut)?.min(file.length()), 56)?;
        count = u64_at(&record, 32).ok_or_else(cut)?;
        length = u64_at(&record, 40).ok_or_else(cut)?;
        offset = u64_at(&record, 48).ok_or_else(cut)?;
    }
    if offset.checked_add(length).is_none_or(|end| end > file.length()) {
        return Err(cut());
    }
    let bytes = read(file, offset, length)?;
    let mut rest = bytes.as_slice();
    let mut members = BTreeMap::new();
    for _ in 0..count {
        let (name, member, next) = member(rest).ok_or_else(cut)?;
        members.insert(name, member);
        rest = rest.get(next..).ok_or_else(cut)?;
    }
    Ok(members)
}

/// The entry at the start of `bytes`, and its length there.
fn member(bytes: &[u8]) -> Option<(String, Member, usize)> {
    if !bytes.starts_with(b"PK\x01\x02") {
        return None;
    }
    let wide = |n: u64| usize::try_from(n).ok();
    let method = u16_at(bytes, 10)?;
    let mut stored = u32_at(bytes, 20)?;
    let mut length = u32_at(bytes, 24)?;
    let (n_name, n_extra, n_comment) =
        (wide(u16_at(bytes, 28)?)?, wide(u16_at(bytes, 30)?)?, wide(u16_at(bytes, 32)?)?);
    let mut header = u32_at(bytes, 42)?;
    let name = String::from_utf8_lossy(bytes.get(46..46 + n_name)?).into_owned();
    let mut extra = bytes.get(46 + n_name..46 + n_name + n_extra)?;
    while let (Some(id), Some(n)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let n = wide(n)?;
        let field = extra.get(4..4 + n)?;
        if id == 1 {
            // 64-bit values of those fields that do not fit 32 bits, in this order.
            let mut at = 0;
            for value in [&mut length, &mut stored, &mut header] {
                if *value == u64::from(u32::MAX) {
                    *value = u64_at(field, at)?;
                    at += 8;
                }
            }
        }
        extra = extra.get(4 + n..)?;
    }
    let plain = method == 0 && stored == length;
    Some((name, Member { plain, length, header }, 46 + n_name + n_extra + n_comment))
}

/// Where the bytes of the entry `name` begin and end.
fn range(file: &File, members: &BTreeMap<String, Member>, name: &str) -> Result<(u64, u64), Error> {
    let wrong = |reason: String| Error::NotTorch { file: file.path().to_owned(), reason };
    let member = members.get(name).ok_or_else(|| wrong(format!("the archive has no `{name}`")))?;
    if !member.plain {
        return Err(wrong(format!("`{name}` in the archive is compressed")));
    }
    let header = read(file, member.header.min(file.length()), 30)?;
    let lengths = u16_at(&header, 26).zip(u16_at(&header, 28));
    let (n_name, n_extra) = lengths
        .filter(|_| header.starts_with(b"PK\x03\x04"))
        .ok_or_else(|| wrong(format!("`{name}` in the archive has no header")))?;
    let begin = member.header + 30 + n_name + n_extra;
    let end = begin.checked_add(member.length).filter(|end| *end <= file.length());
    let end = end.ok_or_else(|| Error::Truncated {
        file: file.path().to_owned(),
        reason: format!("`{name}` reaches beyond its end"),
    })?;
    Ok((begin, end))
}
