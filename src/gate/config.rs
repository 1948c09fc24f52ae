//! The `[gates]` table: which gates are judged, at which thresholds.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::limit::LimitIn;
use super::table::{Subject, TABLE, find};
use super::{Limit, Verdict};

/// The keys of the table, those of [`TABLE`] in its order.
pub const KEYS: &[&str] = &[
    "perplexity_increase",
    "divergence",
    "transcripts",
    "logits",
    "cosine",
    "size",
    "part_size",
    "decode_latency",
    "tokens_per_second",
    "peak_memory",
    "perplexity_regression",
    "divergence_regression",
    "cosine_regression",
    "size_regression",
    "speed_regression",
    "memory_regression",
    "energy_regression",
];

/// The gates in force; without any, each gate's default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gates {
    limits: Vec<(&'static str, Limit)>,
}

impl Gates {
    /// The same with `limit` for the gate `name`; nothing when there is no such gate.
    pub fn with(mut self, name: &str, limit: Limit) -> Option<Self> {
        let gate = find(name)?;
        self.limits.retain(|(name, _)| *name != gate.name);
        self.limits.push((gate.name, limit));
        Some(self)
    }

    /// The threshold of the gate `name` for weights of `bits` bits, where it is on.
    pub fn threshold(&self, name: &str, bits: u32) -> Option<f64> {
        let gate = find(name)?;
        self.given(name).unwrap_or(&Limit::Standard).at(bits, gate.default)
    }

    /// The verdicts of all gates in force on `subject`, whose weights have `bits` bits where they have fewest.
    ///
    /// A gate that was asked for and finds no figure is invalid; one that is on by default is left out, and so is one that
    /// compares with a baseline where there is none, or compares times with those of another machine.
    pub fn judge(&self, subject: &Subject<'_>, bits: u32) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for gate in TABLE {
            let asked = self.given(gate.name).is_some();
            if gate.regression {
                let Some(baseline) = subject.baseline else { continue };
                // Times of another machine say nothing, and only who asks for them is told so.
                if !asked && !gate.reproducible && !baseline.same_machine {
                    continue;
                }
            }
            if let Some(threshold) = self.threshold(gate.name, bits)
                && (asked || gate.measured(subject))
            {
                verdicts.push(gate.judge(subject, threshold));
            }
        }
        verdicts
    }

    /// Whether somebody asked for a gate by its name.
    pub fn are_given(&self) -> bool {
        self.limits.iter().any(|(_, limit)| *limit != Limit::Off)
    }

    fn given(&self, name: &str) -> Option<&Limit> {
        self.limits.iter().find(|(given, _)| *given == name).map(|(_, limit)| limit)
    }
}

impl<'de> Deserialize<'de> for Gates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(GatesVisitor)
    }
}

struct GatesVisitor;

impl<'de> Visitor<'de> for GatesVisitor {
    type Value = Gates;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of gates and their thresholds")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Gates, A::Error> {
        let mut limits = Vec::new();
        while let Some(Name(name, unit)) = map.next_key()? {
            limits.push((name, map.next_value_seed(LimitIn(unit))?));
        }
        Ok(Gates { limits })
    }
}

/// A key of the table: refused at its own place in the text when there is no such gate.
struct Name(&'static str, super::Unit);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let gate = find(&name).ok_or_else(|| de::Error::unknown_field(&name, KEYS))?;
        Ok(Self(gate.name, gate.unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{results::Figure, results::Measurements, results::Similarity};
    use crate::gate::Outcome;

    fn read(text: &str) -> Result<Gates, String> {
        toml::from_str(text).map_err(|e: toml::de::Error| e.message().to_owned())
    }

    #[test]
    fn the_table_takes_numbers_texts_tables_and_switches() {
        let gates = read(
            "perplexity_increase = { 16 = 0.002, 4 = \"5 %\" }\nsize = \"2 MB\"\ncosine = false\n\
             divergence = 1\npeak_memory = 4000",
        )
        .unwrap();
        for (name, bits, want) in [
            ("perplexity_increase", 16, Some(0.002)),
            ("perplexity_increase", 8, Some(0.05)),
            ("size", 4, Some(2e6)),
            ("cosine", 4, None),
            ("divergence", 4, Some(1.0)),
            ("peak_memory", 4, Some(4000.0)),
            ("decode_latency", 4, None),
            ("nonsense", 4, None),
        ] {
            assert_eq!(gates.threshold(name, bits), want, "{name} {bits}");
        }
    }

    #[test]
    fn defaults_are_those_that_were_promised() {
        let gates = Gates::default();
        for (name, bits, want) in [
            ("perplexity_increase", 16, Some(0.005)),
            ("perplexity_increase", 8, Some(0.01)),
            ("perplexity_increase", 4, Some(0.03)),
            ("cosine", 4, Some(0.99)),
            ("transcripts", 16, Some(1.0)),
            ("transcripts", 15, None),
            ("logits", 16, Some(0.05)),
            ("logits", 2, Some(0.9)),
            ("size", 4, None),
        ] {
            assert_eq!(gates.threshold(name, bits), want, "{name} {bits}");
        }
    }

    #[test]
    fn wrong_tables_are_refused() {
        let mut out = Vec::new();
        for text in [
            "perplexity = 1",
            "cosine = 2",
            "cosine = \"2GB\"",
            "size = -1",
            "size = \"2 pounds\"",
            "divergence = nan",
            "divergence = { 0 = 1.0 }",
            "divergence = { 4 = true }",
            "divergence = {}",
            "divergence = [1]",
        ] {
            out.push(format!("{text}: {}", read(text).unwrap_err()));
        }
        insta::assert_snapshot!(out.join("\n"));
    }

    #[test]
    fn defaults_wait_for_their_figure_but_a_request_does_not() {
        let figure = |value| Figure { value, unit: "1".to_owned(), n: 8, standard_error: None };
        let measurements = Measurements {
            similarity: Some(Similarity {
                mean: figure(0.999),
                minimum: figure(0.9895),
                worst: "a sentence".to_owned(),
                reference: "the checkpoint".to_owned(),
                ..Similarity::default()
            }),
            ..Measurements::default()
        };
        let subject = Subject { size_bytes: Some(10), ..Subject::of(&measurements) };
        let judged = |gates: &Gates| {
            let verdicts = gates.judge(&subject, 4);
            verdicts.into_iter().map(|v| (v.gate, v.outcome)).collect::<Vec<_>>()
        };
        assert_eq!(judged(&Gates::default()), [("cosine".to_owned(), Outcome::Fail)]);
        let gates = read("divergence = 0.1\nsize = 10\ncosine = 0.98").unwrap();
        assert_eq!(
            judged(&gates),
            [
                ("divergence".to_owned(), Outcome::Invalid),
                ("cosine".to_owned(), Outcome::Pass),
                ("size".to_owned(), Outcome::Pass)
            ]
        );
    }
}
