//! The layout of a package's functions, read from their signatures: lengths, vocabulary, cache form, masks.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::proto::feature::{
    ArrayDataType, ArrayFeatureType, FeatureDescription, FeatureKind, StateKind,
};
use crate::proto::model::FunctionDescription;

/// Role of a function and its name in a multifunction package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The prompt.
    Init,
    /// One token.
    Decode,
    /// An embedding.
    Encode,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Init, Self::Decode, Self::Encode];

    /// The function's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Decode => "decode",
            Self::Encode => "encode",
        }
    }
}

/// KV cache layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheForm {
    /// Core ML states updated by the functions.
    State,
    /// Model outputs that the caller passes back as inputs.
    Io,
}

impl CacheForm {
    /// `state` or `io`.
    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Io => "io",
        }
    }
}

/// `init` and `decode` together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderLayout {
    /// Positions of the cache: the sequence length S.
    pub capacity: usize,
    /// Tokens that one `init` call takes: the chunk C, or S with [`CacheForm::Io`].
    pub chunk: usize,
    /// Logits of one position.
    pub vocab: usize,
    /// Location of the KV cache.
    pub cache: CacheForm,
    /// Bytes of keys and values together.
    pub cache_bytes: u64,
}

/// `encode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderLayout {
    /// Tokens that one call takes.
    pub seq_len: usize,
    /// Elements of the embedding.
    pub width: usize,
    /// True if it takes a `pool_mask` beside the `attention_mask`: LLM2Vec on a decoder.
    pub pool_mask: bool,
}

/// Capabilities of a package: the layouts of its functions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// Generating text.
    pub decoder: Option<DecoderLayout>,
    /// Embedding text.
    pub encoder: Option<EncoderLayout>,
}

/// A mismatch between signatures and the standard layout.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// None of the functions.
    #[error("no function `init`, `decode` or `encode`, only {}", present.join(", "))]
    NoFunction {
        /// The functions there are.
        present: Vec<String>,
    },
    /// One of a pair without the other.
    #[error("function `{present}` without `{missing}`")]
    Alone {
        /// The one there is.
        present: &'static str,
        /// The one there is not.
        missing: &'static str,
    },
    /// An input, output or state that is not there.
    #[error("function `{function}` has no {kind} `{port}`, only {}", list(present))]
    NoPort {
        /// The function.
        function: &'static str,
        /// `input`, `output` or `state`.
        kind: &'static str,
        /// The port.
        port: &'static str,
        /// The ports of that kind there are.
        present: Vec<String>,
    },
    /// A port of another shape.
    #[error("function `{function}`: `{port}` has shape {actual:?}, not {expected}")]
    Shape {
        /// The function.
        function: &'static str,
        /// The port.
        port: &'static str,
        /// The shape there is.
        actual: Vec<usize>,
        /// The shape that it should have.
        expected: String,
    },
}

impl Layout {
    /// Reads the layout from the descriptions of the functions there are.
    pub fn read(functions: &BTreeMap<Role, FunctionDescription>) -> Result<Self, LayoutError> {
        let get =
            |role: Role| functions.get(&role).map(|description| Signature { role, description });
        let decoder = match (get(Role::Init), get(Role::Decode)) {
            (Some(init), Some(decode)) => Some(decoder(&init, &decode)?),
            (None, None) => None,
            (Some(_), None) => {
                return Err(LayoutError::Alone { present: "init", missing: "decode" });
            }
            (None, Some(_)) => {
                return Err(LayoutError::Alone { present: "decode", missing: "init" });
            }
        };
        let encoder = get(Role::Encode).map(|encode| encoder(&encode)).transpose()?;
        Ok(Self { decoder, encoder })
    }
}

fn decoder(init: &Signature<'_>, decode: &Signature<'_>) -> Result<DecoderLayout, LayoutError> {
    let [_, chunk] = init.input("input_ids")?.dims("[1, C]")?;
    let [_, one] = decode.input("input_ids")?.dims("[1, 1]")?;
    if one != 1 {
        return Err(decode.input("input_ids")?.wrong("[1, 1]"));
    }
    init.input("length")?;
    decode.input("position")?;
    let [_, vocab] = init.output("logits")?.dims("[1, V]")?;
    let [_, decoded] = decode.output("logits")?.dims("[1, V]")?;
    if decoded != vocab {
        return Err(decode.output("logits")?.wrong(&format!("[1, {vocab}], as in `init`")));
    }
    let cache = if init.description.state.is_empty() { CacheForm::Io } else { CacheForm::State };
    let (keys, values) = match cache {
        CacheForm::State => {
            init.input("position")?;
            for name in ["keyCache", "valueCache"] {
                decode.state(name)?;
            }
            (init.state("keyCache")?, init.state("valueCache")?)
        }
        CacheForm::Io => {
            for (input, output) in [("keyCache", "keyCacheOut"), ("valueCache", "valueCacheOut")] {
                decode.input(input)?;
                decode.output(output)?;
            }
            (init.output("keyCache")?, init.output("valueCache")?)
        }
    };
    let [_, _, capacity, _] = keys.dims("[L, KV, S, D]")?;
    if cache == CacheForm::Io && chunk != capacity {
        return Err(init
            .input("input_ids")?
            .wrong(&format!("[1, {capacity}], as long as the cache")));
    }
    if chunk == 0 || chunk > capacity {
        return Err(init.input("input_ids")?.wrong(&format!("[1, 1..={capacity}]")));
    }
    let cache_bytes = keys.bytes() + values.bytes();
    Ok(DecoderLayout { capacity, chunk, vocab, cache, cache_bytes })
}

fn encoder(encode: &Signature<'_>) -> Result<EncoderLayout, LayoutError> {
    let [_, seq_len] = encode.input("input_ids")?.dims("[1, S]")?;
    encode.input("attention_mask")?;
    let [_, width] = encode.output("embedding")?.dims("[1, E]")?;
    let pool_mask = encode.description.input.iter().any(|port| port.name == "pool_mask");
    Ok(EncoderLayout { seq_len, width, pool_mask })
}

/// One function's description.
struct Signature<'a> {
    role: Role,
    description: &'a FunctionDescription,
}

impl Signature<'_> {
    fn input(&self, name: &'static str) -> Result<Port, LayoutError> {
        self.port("input", &self.description.input, name)
    }

    fn output(&self, name: &'static str) -> Result<Port, LayoutError> {
        self.port("output", &self.description.output, name)
    }

    fn state(&self, name: &'static str) -> Result<Port, LayoutError> {
        self.port("state", &self.description.state, name)
    }

    fn port(
        &self,
        kind: &'static str,
        ports: &[FeatureDescription],
        name: &'static str,
    ) -> Result<Port, LayoutError> {
        let found = ports.iter().find(|port| port.name == name).and_then(array);
        let array = found.ok_or_else(|| LayoutError::NoPort {
            function: self.role.name(),
            kind,
            port: name,
            present: ports.iter().map(|port| format!("`{}`", port.name)).collect(),
        })?;
        let shape = array.shape.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect();
        let wide = [ArrayDataType::Float32, ArrayDataType::Int32].map(|t| t as i32);
        let width = if wide.contains(&array.data_type) { 4 } else { 2 };
        Ok(Port { function: self.role.name(), name, shape, width })
    }
}

/// One input, output or state.
struct Port {
    function: &'static str,
    name: &'static str,
    shape: Vec<usize>,
    width: u64,
}

impl Port {
    fn dims<const N: usize>(&self, expected: &str) -> Result<[usize; N], LayoutError> {
        <[usize; N]>::try_from(self.shape.as_slice()).map_err(|_| self.wrong(expected))
    }

    fn wrong(&self, expected: &str) -> LayoutError {
        LayoutError::Shape {
            function: self.function,
            port: self.name,
            actual: self.shape.clone(),
            expected: expected.to_owned(),
        }
    }

    fn bytes(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product::<u64>() * self.width
    }
}

fn array(port: &FeatureDescription) -> Option<ArrayFeatureType> {
    match port.r#type.as_ref()?.r#type.as_ref()? {
        FeatureKind::MultiArray(array) => Some(array.clone()),
        FeatureKind::State(state) => match state.r#type.as_ref()? {
            StateKind::Array(array) => Some(array.clone()),
        },
        _ => None,
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::feature::{FeatureType, StateFeatureType};

    fn port(name: &str, shape: &[i64], ty: ArrayDataType, state: bool) -> FeatureDescription {
        let array = ArrayFeatureType {
            shape: shape.to_vec(),
            data_type: ty as i32,
            ..ArrayFeatureType::default()
        };
        let kind = if state {
            FeatureKind::State(StateFeatureType { r#type: Some(StateKind::Array(array)) })
        } else {
            FeatureKind::MultiArray(array)
        };
        FeatureDescription {
            name: name.to_owned(),
            short_description: String::new(),
            r#type: Some(FeatureType { r#type: Some(kind), is_optional: false }),
        }
    }

    /// `in name shape`, `out name shape`, `state name shape`, one per line.
    fn function(text: &str) -> FunctionDescription {
        let mut description = FunctionDescription::default();
        for line in text.split(';').map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.split_whitespace();
            let (kind, name) = (words.next().unwrap(), words.next().unwrap());
            let shape: Vec<i64> = words.map(|n| n.parse().unwrap()).collect();
            match kind {
                "in" => description.input.push(port(name, &shape, ArrayDataType::Int32, false)),
                "out" => description.output.push(port(name, &shape, ArrayDataType::Float16, false)),
                _ => description.state.push(port(name, &shape, ArrayDataType::Float16, true)),
            }
        }
        description
    }

    fn read(init: &str, decode: &str, encode: &str) -> Result<Layout, LayoutError> {
        let given = [(Role::Init, init), (Role::Decode, decode), (Role::Encode, encode)];
        let there = given.into_iter().filter(|(_, text)| !text.is_empty());
        Layout::read(&there.map(|(role, text)| (role, function(text))).collect())
    }

    const STATES: &str = "state keyCache 2 2 32 8; state valueCache 2 2 32 8;";

    #[test]
    fn layouts_of_both_cache_forms_and_both_encoders() {
        let init =
            format!("{STATES} in input_ids 1 16; in position 1; in length 1; out logits 1 96");
        let decode = format!("{STATES} in input_ids 1 1; in position 1; out logits 1 96");
        let encode =
            "in input_ids 1 64; in attention_mask 1 64; in pool_mask 1 64; out embedding 1 48";
        let layout = read(&init, &decode, encode).unwrap();
        let cache_bytes = 2 * 2 * 2 * 32 * 8 * 2;
        let decoder = DecoderLayout {
            capacity: 32,
            chunk: 16,
            vocab: 96,
            cache: CacheForm::State,
            cache_bytes,
        };
        let encoder = EncoderLayout { seq_len: 64, width: 48, pool_mask: true };
        assert_eq!(layout, Layout { decoder: Some(decoder), encoder: Some(encoder) });

        let init = "in input_ids 1 32; in length 1; out logits 1 96; out keyCache 2 2 32 8; \
                    out valueCache 2 2 32 8";
        let decode = "in input_ids 1 1; in position 1; in keyCache 2 2 32 8; in valueCache 2 2 32 8; \
                      out logits 1 96; out keyCacheOut 2 2 32 8; out valueCacheOut 2 2 32 8";
        let layout = read(init, decode, "").unwrap();
        let decoder = DecoderLayout { chunk: 32, cache: CacheForm::Io, ..decoder };
        assert_eq!(layout, Layout { decoder: Some(decoder), encoder: None });

        let encode = "in input_ids 1 64; in attention_mask 1 64; out embedding 1 48";
        let encoder = EncoderLayout { pool_mask: false, ..encoder };
        assert_eq!(read("", "", encode).unwrap().encoder, Some(encoder));
    }

    #[test]
    fn what_is_missing_is_named() {
        let decode = format!("{STATES} in input_ids 1 1; in position 1; out logits 1 96");
        let cases = [
            (decode.as_str(), "", "", "function `init` without `decode`"),
            (
                "in input_ids 1 16; in length 1; out scores 1 96",
                &decode,
                "",
                "function `init` has no output `logits`, only `scores`",
            ),
            (
                "in input_ids 1 16; in length 1; out logits 1 96",
                &decode,
                "",
                "function `decode` has no input `keyCache`, only `input_ids`, `position`",
            ),
            (
                "in input_ids 16; in length 1; out logits 1 96",
                &decode,
                "",
                "function `init`: `input_ids` has shape [16], not [1, C]",
            ),
            (
                "",
                "",
                "in input_ids 1 64; out embedding 1 48",
                "function `encode` has no input `attention_mask`, only `input_ids`",
            ),
        ];
        for (init, decode, encode, want) in cases {
            assert_eq!(read(init, decode, encode).unwrap_err().to_string(), want);
        }
    }
}
