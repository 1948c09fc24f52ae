//! A threshold: one number, or several by the bits of the weights; and the unit it is given in.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The threshold of one gate.
#[derive(Debug, Clone, PartialEq)]
pub enum Limit {
    /// The gate is not judged.
    Off,
    /// The gate's own default.
    Standard,
    /// The same for every variant.
    One(f64),
    /// By bits of the weights: each holds from its bits up to the next, the lowest also below.
    ByBits(BTreeMap<u32, f64>),
    /// From so many bits of the weights on; not judged below.
    FromBits(u32, f64),
}

/// The unit of a gate's threshold and figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A share, shown in percent.
    Ratio,
    /// Natural units of information.
    Nats,
    /// The cosine of an angle.
    Cosine,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Milliseconds,
    /// Tokens in a second.
    #[serde(rename = "tokens/s")]
    TokensPerSecond,
}

/// A threshold that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("threshold `{text}` is no {wanted}")]
pub struct LimitError {
    text: String,
    wanted: &'static str,
}

impl Limit {
    /// The threshold for weights of `bits` bits; nothing where the gate is off.
    pub fn at(&self, bits: u32, standard: fn() -> Self) -> Option<f64> {
        match self {
            Self::Off => None,
            Self::Standard => match standard() {
                Self::Standard => None,
                limit => limit.at(bits, standard),
            },
            Self::One(value) => Some(*value),
            Self::FromBits(from, value) => (bits >= *from).then_some(*value),
            Self::ByBits(by) => {
                by.range(..=bits).next_back().or_else(|| by.iter().next()).map(|(_, &value)| value)
            }
        }
    }

    /// The threshold as documentation shows it.
    pub fn show(&self, unit: Unit) -> String {
        match self {
            Self::Off => "off".to_owned(),
            Self::Standard => "the default".to_owned(),
            Self::One(value) => unit.show(*value),
            Self::FromBits(bits, value) => {
                format!("{bits}-bit {}, off below", unit.show(*value))
            }
            Self::ByBits(by) => {
                let one = |(bits, value): (&u32, &f64)| format!("{bits}-bit {}", unit.show(*value));
                by.iter().rev().map(one).collect::<Vec<_>>().join(", ")
            }
        }
    }
}

impl Unit {
    /// The unit in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Ratio => "share",
            Self::Nats => "nats per token",
            Self::Cosine => "cosine",
            Self::Bytes => "bytes",
            Self::Milliseconds => "milliseconds",
            Self::TokensPerSecond => "tokens per second",
        }
    }

    /// `value` with four significant digits and its unit.
    pub fn show(self, value: f64) -> String {
        self.digits(value, 4)
    }

    /// Both numbers with as many digits as it takes to tell them apart, four at least.
    pub fn apart(self, a: f64, b: f64) -> (String, String) {
        let shown = |digits| (self.digits(a, digits), self.digits(b, digits));
        if a.total_cmp(&b).is_eq() {
            return shown(4);
        }
        (4..17).map(shown).find(|(a, b)| a != b).unwrap_or_else(|| shown(17))
    }

    /// The threshold that `text` writes: a number, or a number with a unit of this kind.
    pub fn parse(self, text: &str) -> Result<f64, LimitError> {
        let wrong = || LimitError { text: text.to_owned(), wanted: self.wanted() };
        let trimmed = text.trim();
        let end = trimmed
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | '_')))
            .unwrap_or(trimmed.len());
        let (number, suffix) = trimmed.split_at(end);
        let number: f64 = number.replace('_', "").parse().map_err(|_| wrong())?;
        let factor = match (self, suffix.trim()) {
            (_, "")
            | (Self::Milliseconds, "ms")
            | (Self::Nats, "nats")
            | (Self::Bytes, "B")
            | (Self::TokensPerSecond, "tokens/s") => 1.0,
            (Self::Ratio, "%") => 0.01,
            (Self::Milliseconds, "s") | (Self::Bytes, "kB" | "KB") => 1e3,
            (Self::Bytes, "MB") => 1e6,
            (Self::Bytes, "GB") => 1e9,
            (Self::Bytes, "KiB") => f64::from(1 << 10),
            (Self::Bytes, "MiB") => f64::from(1 << 20),
            (Self::Bytes, "GiB") => f64::from(1 << 30),
            _ => return Err(wrong()),
        };
        self.check(number * factor).ok_or_else(wrong)
    }

    /// `value` if it can be a threshold in this unit.
    pub fn check(self, value: f64) -> Option<f64> {
        let fits = match self {
            Self::Cosine => (-1.0..=1.0).contains(&value),
            Self::Ratio | Self::Nats | Self::Bytes | Self::Milliseconds | Self::TokensPerSecond => {
                value >= 0.0
            }
        };
        (fits && value.is_finite()).then_some(value)
    }

    fn wanted(self) -> &'static str {
        match self {
            Self::Ratio => "share such as `0.03` or `\"3 %\"`",
            Self::Nats => "number of nats such as `0.1`",
            Self::Cosine => "cosine from -1 to 1",
            Self::Bytes => "size such as `2000000` or `\"2 GB\"`",
            Self::Milliseconds => "time in milliseconds such as `50` or `\"50 ms\"`",
            Self::TokensPerSecond => "rate such as `20` or `\"20 tokens/s\"`",
        }
    }

    fn digits(self, value: f64, digits: usize) -> String {
        match self {
            Self::Ratio => format!("{} %", significant(value * 100.0, digits)),
            Self::Nats => format!("{} nats", significant(value, digits)),
            Self::Cosine => significant(value, digits.max(6)),
            Self::Bytes => format!("{value} B"),
            Self::Milliseconds => format!("{} ms", significant(value, digits)),
            Self::TokensPerSecond => format!("{} tokens/s", significant(value, digits)),
        }
    }
}

/// `value` with `digits` significant digits at most, and no zeros at the end.
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let magnitude = value.abs().log10().floor();
    let decimals = (digits as f64 - 1.0 - magnitude).clamp(0.0, 17.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Reads a threshold in a unit: a number, a text, a table by bits, or a switch.
pub(super) struct LimitIn(pub(super) Unit);

impl<'de> de::DeserializeSeed<'de> for LimitIn {
    type Value = Limit;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Limit, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LimitIn {
    type Value = Limit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {}, a table of them by bits, `true` or `false`", self.0.wanted())
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<Limit, E> {
        Ok(if on { Limit::Standard } else { Limit::Off })
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Limit, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Limit, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Limit, E> {
        let wrong = || LimitError { text: value.to_string(), wanted: self.0.wanted() };
        self.0.check(value).map(Limit::One).ok_or_else(|| E::custom(wrong()))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Limit, E> {
        self.0.parse(text).map(Limit::One).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Limit, A::Error> {
        let mut by = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let bits = key.parse::<u32>().ok().filter(|bits| (1..=32).contains(bits));
            let bits = bits.ok_or_else(|| {
                de::Error::custom(format_args!("`{key}` is no number of bits from 1 to 32"))
            })?;
            match map.next_value_seed(Self(self.0))? {
                Limit::One(value) => by.insert(bits, value),
                _ => return Err(de::Error::custom("a table by bits holds one threshold for each")),
            };
        }
        if by.is_empty() {
            return Err(de::Error::custom("a table by bits is empty"));
        }
        Ok(Limit::ByBits(by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_in_their_unit() {
        for (unit, text, want) in [
            (Unit::Ratio, "3 %", Some(0.03)),
            (Unit::Ratio, "0.03", Some(0.03)),
            (Unit::Bytes, "2GB", Some(2e9)),
            (Unit::Bytes, "1.5 MiB", Some(1_572_864.0)),
            (Unit::Bytes, "1_000", Some(1000.0)),
            (Unit::Milliseconds, "0.5 s", Some(500.0)),
            (Unit::Cosine, "1.5", None),
            (Unit::Cosine, "2GB", None),
            (Unit::Ratio, "-1", None),
            (Unit::Bytes, "many", None),
            (Unit::Bytes, "", None),
        ] {
            assert_eq!(unit.parse(text).ok(), want, "{unit:?} {text}");
        }
    }

    #[test]
    fn bits_select_the_limit_from_below() {
        let by = Limit::ByBits(BTreeMap::from([(16, 0.005), (8, 0.01), (4, 0.03)]));
        for (bits, want) in
            [(32, 0.005), (16, 0.005), (12, 0.01), (8, 0.01), (6, 0.03), (4, 0.03), (2, 0.03)]
        {
            assert_eq!(by.at(bits, || Limit::Off), Some(want), "{bits}");
        }
        let from = Limit::FromBits(16, 1.0);
        assert_eq!([16, 15].map(|bits| from.at(bits, || Limit::Off)), [Some(1.0), None]);
        assert_eq!(Limit::Off.at(4, || Limit::One(1.0)), None);
        assert_eq!(Limit::Standard.at(4, || Limit::One(1.0)), Some(1.0));
        assert_eq!(Limit::Standard.at(4, || Limit::Standard), None);
    }

    #[test]
    fn numbers_that_differ_look_different() {
        let cases = [
            (Unit::Ratio, 0.03, 0.03, "3 %", "3 %"),
            (Unit::Ratio, 0.030_000_1, 0.03, "3.00001 %", "3 %"),
            (Unit::Ratio, 1.234_56, 0.03, "123.5 %", "3 %"),
            (Unit::Nats, 0.000_123_456, 0.1, "0.0001235 nats", "0.1 nats"),
            (Unit::Bytes, 2e9 + 1.0, 2e9, "2000000001 B", "2000000000 B"),
        ];
        for (unit, a, b, want_a, want_b) in cases {
            assert_eq!(unit.apart(a, b), (want_a.to_owned(), want_b.to_owned()));
        }
    }
}
