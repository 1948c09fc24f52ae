//! `pickle`: a pickle machine that makes plain values and descriptions of tensors, and calls nothing.
#![deny(clippy::as_conversions, clippy::indexing_slicing)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What a pickle holds.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A value whose content never matters: `None`, a boolean, a float, bytes.
    Other,
    /// An integer.
    Int(i64),
    /// A text.
    Text(String),
    /// A tuple.
    Tuple(Rc<[Value]>),
    /// A list or a set.
    List(Rc<RefCell<Vec<Value>>>),
    /// A dictionary, in its order.
    Dict(Rc<RefCell<Vec<(Value, Value)>>>),
    /// A class or a function, by module and name.
    Class(Rc<str>),
    /// A storage: class, key and number of elements.
    Storage(Rc<(String, String, u64)>),
    /// A tensor.
    Tensor(Rc<Tensor>),
}

/// A tensor as the pickle describes it.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    /// Class of its storage.
    pub(super) class: String,
    /// Key of its storage.
    pub(super) key: String,
    /// Elements of its storage.
    pub(super) n_stored: u64,
    /// First element in the storage.
    pub(super) offset: u64,
    /// Length of each dimension.
    pub(super) shape: Vec<usize>,
    /// Elements from one index of a dimension to the next.
    pub(super) strides: Vec<usize>,
    /// The type of its elements, if the storage does not say.
    pub(super) dtype: Option<String>,
}

/// Why a pickle cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// It ends too early.
    End,
    /// It asks for a class that is not known.
    Class(String),
    /// Something else.
    Other(String),
}

fn other<T>(reason: impl Into<String>) -> Result<T, Error> {
    Err(Error::Other(reason.into()))
}

/// A pickle's value.
#[derive(Debug)]
pub(super) struct Pickle {
    /// The value.
    pub(super) value: Value,
    _containers: Containers,
}

/// A second reference to every container, so that none is dropped from within another: values may be nested as deep as
/// a pickle is long, and the stack is not.
#[derive(Debug, Default)]
struct Containers(Vec<Value>);

impl Drop for Containers {
    fn drop(&mut self) {
        for value in &self.0 {
            match value {
                Value::List(list) => list.borrow_mut().clear(),
                Value::Dict(dict) => dict.borrow_mut().clear(),
                _ => {}
            }
        }
        // A tuple is made after what it holds.
        while self.0.pop().is_some() {}
    }
}

/// Values on the stack, with the marks between them.
#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: BTreeMap<u64, Value>,
    containers: Containers,
}

/// Values that may be made; a pickle of weights has a few hundred for each layer.
const MAX_STEPS: usize = 50_000_000;

/// Reads one pickle from the start of `bytes`: its value, and where it ends.
pub(super) fn load(bytes: &[u8]) -> Result<(Pickle, usize), Error> {
    let mut machine = Machine { bytes, ..Machine::default() };
    for _ in 0..MAX_STEPS {
        let op = machine.byte()?;
        if op == b'.' {
            let value = machine.pop()?;
            let containers = std::mem::take(&mut machine.containers);
            return Ok((Pickle { value, _containers: containers }, machine.at));
        }
        machine.step(op)?;
    }
    other("it is too long")
}

impl Machine<'_> {
    fn take(&mut self, n: usize) -> Result<&[u8], Error> {
        let end = self.at.checked_add(n).ok_or(Error::End)?;
        let bytes = self.bytes.get(self.at..end).ok_or(Error::End)?;
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn length(&mut self, op: u8) -> Result<usize, Error> {
        let n = match op {
            b'X' | b'T' | b'B' => u64::from(self.u32()?),
            0x8d | 0x8e | 0x96 => u64::from_le_bytes(self.array()?),
            _ => u64::from(self.byte()?),
        };
        usize::try_from(n).map_err(|_| Error::End)
    }

    fn text(&mut self, op: u8) -> Result<Value, Error> {
        let n = self.length(op)?;
        Ok(Value::Text(String::from_utf8_lossy(self.take(n)?).into_owned()))
    }

    fn line(&mut self) -> Result<String, Error> {
        let rest = self.bytes.get(self.at..).ok_or(Error::End)?;
        let n = rest.iter().position(|b| *b == b'\n').ok_or(Error::End)?;
        let text = String::from_utf8_lossy(self.take(n)?).into_owned();
        self.at += 1;
        Ok(text)
    }

    fn pop(&mut self) -> Result<Value, Error> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return other("its stack is empty");
        }
        self.stack.pop().ok_or_else(|| Error::Other("its stack is empty".to_owned()))
    }

    fn top(&mut self) -> Result<&Value, Error> {
        self.stack.last().ok_or_else(|| Error::Other("its stack is empty".to_owned()))
    }

    /// Everything above the last mark.
    fn marked(&mut self) -> Result<Vec<Value>, Error> {
        let Some(mark) = self.marks.pop() else { return other("a mark is missing") };
        if mark > self.stack.len() {
            return other("a mark is above the stack");
        }
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, n: usize) -> Result<(), Error> {
        let mut items = Vec::new();
        for _ in 0..n {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items.into()));
        Ok(())
    }

    fn push(&mut self, value: Value) {
        if matches!(value, Value::Tuple(_) | Value::List(_) | Value::Dict(_)) {
            self.containers.0.push(value.clone());
        }
        self.stack.push(value);
    }

    fn put(&mut self, index: u64) -> Result<(), Error> {
        let value = self.top()?.clone();
        self.memo.insert(index, value);
        Ok(())
    }

    fn get(&mut self, index: u64) -> Result<(), Error> {
        let Some(value) = self.memo.get(&index).cloned() else {
            return other(format!("memo {index} is empty"));
        };
        self.stack.push(value);
        Ok(())
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), Error> {
        match self.top()? {
            Value::List(list) => list.borrow_mut().extend(items),
            _ => return other("it appends to something that is not a list"),
        }
        Ok(())
    }

    fn set(&mut self, items: Vec<Value>) -> Result<(), Error> {
        let Value::Dict(dict) = self.top()? else {
            return other("it sets items of something that is not a dictionary");
        };
        let mut dict = dict.borrow_mut();
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            dict.push((key, value));
        }
        Ok(())
    }

    fn step(&mut self, op: u8) -> Result<(), Error> {
        let value = match op {
            0x80 => return self.byte().map(drop),
            0x95 => return self.take(8).map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(());
            }
            b'N' | 0x88 | 0x89 => Value::Other,
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.array()?))),
            b'K' => Value::Int(i64::from(self.byte()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.array()?))),
            0x8a => self.long()?,
            b'G' => {
                self.take(8)?;
                Value::Other
            }
            b'X' | 0x8c | 0x8d | b'U' | b'T' => self.text(op)?,
            b'B' | b'C' | 0x8e | 0x96 => {
                let n = self.length(op)?;
                self.take(n)?;
                Value::Other
            }
            b')' => Value::Tuple(Rc::default()),
            b't' => Value::Tuple(self.marked()?.into()),
            0x85 => return self.tuple(1),
            0x86 => return self.tuple(2),
            0x87 => return self.tuple(3),
            b'}' => Value::Dict(Rc::default()),
            b']' | 0x8f => Value::List(Rc::default()),
            b'l' | 0x91 => Value::List(Rc::new(RefCell::new(self.marked()?))),
            b'd' => {
                let items = self.marked()?;
                self.push(Value::Dict(Rc::default()));
                return self.set(items);
            }
            b'a' => {
                let item = self.pop()?;
                return self.append(vec![item]);
            }
            b'e' | 0x90 => {
                let items = self.marked()?;
                return self.append(items);
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                return self.set(vec![key, value]);
            }
            b'u' => {
                let items = self.marked()?;
                return self.set(items);
            }
            b'q' => {
                let index = u64::from(self.byte()?);
                return self.put(index);
            }
            b'r' => {
                let index = u64::from(self.u32()?);
                return self.put(index);
            }
            0x94 => {
                let index = u64::try_from(self.memo.len()).unwrap_or(u64::MAX);
                return self.put(index);
            }
            b'h' => {
                let index = u64::from(self.byte()?);
                return self.get(index);
            }
            b'j' => {
                let index = u64::from(self.u32()?);
                return self.get(index);
            }
            // `b` sets the attributes of an object: metadata of a state dict, never needed.
            b'0' | b'b' => return self.pop().map(drop),
            b'1' => return self.marked().map(drop),
            b'2' => self.top()?.clone(),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                Value::Class(format!("{module}.{name}").into())
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (module, name) {
                    (Value::Text(module), Value::Text(name)) => {
                        Value::Class(format!("{module}.{name}").into())
                    }
                    _ => return other("a class has no name"),
                }
            }
            b'Q' => storage(&self.pop()?)?,
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let class = self.pop()?;
                call(&class, &arguments)?
            }
            op => return other(format!("its operation {op:#04x} is not known")),
        };
        self.push(value);
        Ok(())
    }

    fn long(&mut self) -> Result<Value, Error> {
        let n = usize::from(self.byte()?);
        let bytes = self.take(n)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        for (to, from) in wide.iter_mut().zip(bytes) {
            *to = *from;
        }
        if n > 8 { Ok(Value::Other) } else { Ok(Value::Int(i64::from_le_bytes(wide))) }
    }
}

/// The storage of a persistent id: `("storage", class, key, location, number of elements, ...)`.
fn storage(id: &Value) -> Result<Value, Error> {
    let Value::Tuple(parts) = id else { return other("a persistent id is not a tuple") };
    match &**parts {
        [_, _, _, _, _, Value::Tuple(_), ..] => other("a storage is a view of another"),
        [Value::Text(kind), Value::Class(class), Value::Text(key), _, Value::Int(n), ..]
            if kind == "storage" =>
        {
            let n = u64::try_from(*n)
                .map_err(|_| Error::Other(format!("a storage has {n} elements")))?;
            Ok(Value::Storage(Rc::new((class.to_string(), key.clone(), n))))
        }
        _ => other("a persistent id is not a storage"),
    }
}

/// What a call of `class` would give, if it is one of those that weights need.
fn call(class: &Value, arguments: &Value) -> Result<Value, Error> {
    let Value::Class(class) = class else { return other("it calls something that is not a class") };
    let Value::Tuple(arguments) = arguments else { return other("it calls without arguments") };
    match (&**class, &**arguments) {
        ("collections.OrderedDict" | "builtins.dict", []) => Ok(Value::Dict(Rc::default())),
        ("builtins.set", _) => Ok(Value::List(Rc::default())),
        ("torch.Size", [sizes]) => Ok(sizes.clone()),
        ("torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2", parts) => {
            tensor(parts, None)
        }
        ("torch._utils._rebuild_tensor_v3", parts) => {
            let Some(Value::Class(dtype)) = parts.get(6) else {
                return other("a tensor has no type");
            };
            tensor(parts, Some(dtype.to_string()))
        }
        (
            "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state",
            [data, ..],
        ) => Ok(data.clone()),
        ("torch.device", _) => Ok(Value::Other),
        _ => Err(Error::Class(class.to_string())),
    }
}

fn tensor(parts: &[Value], dtype: Option<String>) -> Result<Value, Error> {
    let [
        Value::Storage(storage),
        Value::Int(offset),
        Value::Tuple(shape),
        Value::Tuple(strides),
        ..,
    ] = parts
    else {
        return other("a tensor is not described by storage, offset, shape and strides");
    };
    let sizes = |values: &[Value]| -> Result<Vec<usize>, Error> {
        let size = |value: &Value| match value {
            Value::Int(n) => usize::try_from(*n).ok(),
            _ => None,
        };
        let bad = || Error::Other("a tensor's shape is not of numbers".to_owned());
        values.iter().map(size).collect::<Option<_>>().ok_or_else(bad)
    };
    let (class, key, n_stored) = &**storage;
    let offset =
        u64::try_from(*offset).map_err(|_| Error::Other("an offset is negative".to_owned()))?;
    Ok(Value::Tensor(Rc::new(Tensor {
        class: class.clone(),
        key: key.clone(),
        n_stored: *n_stored,
        offset,
        shape: sizes(shape)?,
        strides: sizes(strides)?,
        dtype,
    })))
}
