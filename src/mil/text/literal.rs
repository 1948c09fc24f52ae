//! Values in text: the content of each type, and the elements of a tensor in the field that the format keeps them in.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

use half::{bf16, f16};

use super::float;
use super::lexer::{Position, TextError, Token, What};
use super::parser::Parser;
use crate::mil::{BlobRef, DType, Data, Dim, TensorData, TensorType, Type, Value};

impl Parser<'_> {
    /// `type(content)`.
    pub(super) fn value(&mut self) -> Result<Value, TextError> {
        let ty = self.ty()?;
        self.content(ty)
    }

    /// `(content)` of a value of type `ty`.
    pub(super) fn content(&mut self, ty: Type) -> Result<Value, TextError> {
        self.expect('(')?;
        // An empty tuple may be left out altogether.
        if matches!(&ty, Type::Tuple(types) if types.is_empty()) && self.skip(')')? {
            return Ok(Value { ty, data: Data::Tuple(Vec::new()) });
        }
        let data = self.data(&ty)?;
        self.expect(')')?;
        Ok(Value { ty, data })
    }

    fn data(&mut self, ty: &Type) -> Result<Data, TextError> {
        let part = |p: &mut Self, ty: &Type| {
            p.deeper(&mut |p| {
                p.count_parts(size(ty))?;
                Ok(Value { ty: ty.clone(), data: p.data(ty)? })
            })
        };
        Ok(match ty {
            Type::Tensor(_) | Type::State(_) if *self.token() == Token::Word("BLOBFILE") => {
                Data::Blob(self.blob()?)
            }
            Type::Tensor(tensor) => Data::Tensor(self.tensor(tensor)?),
            Type::State(inner) => self.deeper(&mut |p| p.data(inner))?,
            Type::List(element, length) => {
                self.expect('[')?;
                let at = self.at();
                let values = self.list(']', &mut |p| part(p, element))?;
                count(values.len(), *length, at)?;
                Data::List(values)
            }
            Type::Tuple(types) => {
                self.expect('(')?;
                let mut types_left = types.iter();
                let values = self.list(')', &mut |p| match types_left.next() {
                    Some(ty) => part(p, ty),
                    None => Err(p.unexpected("`)`")),
                })?;
                if types_left.next().is_some() {
                    return Err(self.unexpected("a value for each type of the tuple"));
                }
                Data::Tuple(values)
            }
            Type::Dictionary(key, value) => {
                self.expect('{')?;
                Data::Dictionary(self.list('}', &mut |p| {
                    p.expect('{')?;
                    let key = part(p, key)?;
                    p.expect(',')?;
                    let value = part(p, value)?;
                    p.expect('}')?;
                    Ok((key, value))
                })?)
            }
        })
    }

    /// `BLOBFILE(path = …, offset = …)`.
    fn blob(&mut self) -> Result<BlobRef, TextError> {
        self.keyword("BLOBFILE")?;
        self.expect('(')?;
        self.keyword("path")?;
        self.expect('=')?;
        let at = self.at();
        let path = self.value()?;
        let expected = |what: &str, found: &Value| TextError {
            at,
            what: What::Expected { expected: what.to_owned(), found: found.ty.to_string() },
        };
        let file = path.as_str().ok_or_else(|| expected("a string", &path))?.to_owned();
        self.expect(',')?;
        self.keyword("offset")?;
        self.expect('=')?;
        let offset = self.value()?;
        let place = match &offset.data {
            Data::Tensor(TensorData::Longs(values)) => match values.as_slice() {
                [n] => Some(n.cast_unsigned()),
                _ => None,
            },
            _ => None,
        };
        let place = place.ok_or_else(|| expected("a uint64", &offset))?;
        self.expect(')')?;
        Ok(BlobRef { file, offset: place })
    }

    fn tensor(&mut self, ty: &TensorType) -> Result<TensorData, TextError> {
        let mut elements = Elements::new(ty.dtype);
        self.elements(&ty.shape, &mut elements)?;
        Ok(elements.finish())
    }

    fn elements(&mut self, shape: &[Dim], elements: &mut Elements) -> Result<(), TextError> {
        let Some((dim, inner)) = shape.split_first() else {
            let at = self.at();
            let token = self.advance()?;
            return elements.push(&token).map_err(|what| TextError { at, what });
        };
        self.expect('[')?;
        let at = self.at();
        let mut n = 0_usize;
        self.list(']', &mut |p| {
            n += 1;
            p.elements(inner, elements)
        })?;
        count(n, *dim, at)
    }
}

/// The types in a type, itself among them.
fn size(ty: &Type) -> usize {
    match ty {
        Type::Tensor(_) => 1,
        Type::List(inner, _) | Type::State(inner) => 1 + size(inner),
        Type::Dictionary(key, value) => 1 + size(key) + size(value),
        Type::Tuple(types) => 1 + types.iter().map(size).sum::<usize>(),
    }
}

fn count(found: usize, dim: Dim, at: Position) -> Result<(), TextError> {
    let found = u64::try_from(found).unwrap_or(u64::MAX);
    match dim {
        Dim::Fixed(expected) if expected != found => {
            Err(TextError { at, what: What::Count { expected, found } })
        }
        _ => Ok(()),
    }
}

/// Elements of one type as they are read.
struct Elements {
    dtype: DType,
    data: TensorData,
}

impl Elements {
    fn new(dtype: DType) -> Self {
        let data = match dtype {
            DType::F32 => TensorData::Floats(Vec::new()),
            DType::F64 => TensorData::Doubles(Vec::new()),
            DType::Bool => TensorData::Bools(Vec::new()),
            DType::Str => TensorData::Strings(Vec::new()),
            DType::I32 | DType::I16 | DType::U16 => TensorData::Ints(Vec::new()),
            DType::I64 | DType::U64 => TensorData::Longs(Vec::new()),
            _ => TensorData::Bytes(Vec::new()),
        };
        Self { dtype, data }
    }

    fn push(&mut self, token: &Token<'_>) -> Result<(), What> {
        let dtype = self.dtype;
        let expected = || What::Expected {
            expected: format!("a value of type {dtype}"),
            found: token.to_string(),
        };
        let number = || match token {
            Token::Number(text) | Token::Word(text) => Ok(*text),
            _ => Err(expected()),
        };
        let refuse = |text: &str| What::Number { number: text.to_owned(), dtype: dtype.name() };
        let float = || {
            let text = number()?;
            float::parse(text)
                .ok_or_else(|| if is_number(token) { refuse(text) } else { expected() })
        };
        let int = || {
            let text = number()?;
            integer(text, dtype)
                .ok_or_else(|| if is_number(token) { refuse(text) } else { expected() })
        };
        match &mut self.data {
            TensorData::Strings(texts) => match token {
                Token::Text(text) => texts.push(text.clone()),
                _ => return Err(expected()),
            },
            TensorData::Bools(bools) => match token {
                Token::Word("true") | Token::Number("1") => bools.push(true),
                Token::Word("false") | Token::Number("0") => bools.push(false),
                _ => return Err(expected()),
            },
            TensorData::Floats(floats) => floats.push(narrow(float()?)),
            TensorData::Doubles(doubles) => doubles.push(float()?),
            TensorData::Ints(ints) => ints.push(i32::try_from(int()?).map_err(|_| expected())?),
            TensorData::Longs(longs) => {
                let n = int()?;
                let long = i64::try_from(n).or_else(|_| u64::try_from(n).map(u64::cast_signed));
                longs.push(long.map_err(|_| expected())?);
            }
            TensorData::Bytes(bytes) => match dtype {
                DType::F16 => bytes.extend(f16::from_f64(float()?).to_le_bytes()),
                DType::Bf16 => bytes.extend(bf16::from_f64(float()?).to_le_bytes()),
                DType::F8E4M3 | DType::F8E5M2 => bytes.push(super::fp8::nearest(dtype, float()?)),
                DType::U32 => {
                    bytes.extend(u32::try_from(int()?).map_err(|_| expected())?.to_le_bytes());
                }
                _ => {
                    // One byte each; those below 8 bits are packed at the end.
                    let low = int()?.to_le_bytes();
                    bytes.push(low.first().copied().unwrap_or_default());
                }
            },
        }
        Ok(())
    }

    fn finish(self) -> TensorData {
        match self.data {
            TensorData::Bytes(codes) if self.dtype.bits() < 8 => {
                TensorData::Bytes(pack(&codes, self.dtype.bits()))
            }
            data => data,
        }
    }
}

fn is_number(token: &Token<'_>) -> bool {
    matches!(token, Token::Number(_))
}

/// The nearest f32.
fn narrow(value: f64) -> f32 {
    #[expect(
        clippy::as_conversions,
        reason = "the one way from f64 to f32, which rounds to nearest"
    )]
    let narrow = value as f32;
    narrow
}

/// A whole number, decimal or hexadecimal, within the range of `dtype`.
fn integer(text: &str, dtype: DType) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = match digits.strip_prefix("0x") {
        Some(hex) => i128::from_str_radix(hex, 16).ok()?,
        None if digits.starts_with(|c: char| c.is_ascii_digit()) => digits.parse().ok()?,
        None => return None,
    };
    let n: i128 = if negative { -magnitude } else { magnitude };
    let bits = dtype.bits();
    let range = if dtype.is_unsigned() {
        0..1_i128 << bits
    } else {
        -(1_i128 << (bits - 1))..1_i128 << (bits - 1)
    };
    range.contains(&n).then_some(n)
}

/// The lowest `bits` of each code, one after the other from the low bits up.
fn pack(codes: &[u8], bits: u32) -> Vec<u8> {
    let mask = (1_u32 << bits) - 1;
    let mut out = Vec::with_capacity(codes.len().div_ceil(2));
    let (mut held, mut n_held) = (0_u32, 0_u32);
    for &code in codes {
        held |= (u32::from(code) & mask) << n_held;
        n_held += bits;
        while n_held >= 8 {
            out.extend(held.to_le_bytes().first());
            held >>= 8;
            n_held -= 8;
        }
    }
    if n_held > 0 {
        out.extend(held.to_le_bytes().first());
    }
    out
}
