//! Runtime selection: the first runtime of a chain that meets the requirements, with the reasons.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::base::error::{Blame, Hint};
use crate::base::nearest::nearest;
use crate::coreml::{Absent, Framework};

/// Kind of a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Apple's framework, on a Mac.
    CoreMl,
    /// The interpreter, anywhere.
    Interp,
}

impl Backend {
    /// Its name: `coreml` or `interp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::CoreMl => "coreml",
            Self::Interp => "interp",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Runtimes in order of preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendChain {
    backends: Vec<Backend>,
    /// True if it is `auto`: nobody asked for a certain runtime.
    auto: bool,
}

impl Default for BackendChain {
    /// `auto`: the framework where it can be used, else the interpreter.
    fn default() -> Self {
        Self { backends: vec![Backend::CoreMl, Backend::Interp], auto: true }
    }
}

impl BackendChain {
    /// One runtime and no other.
    pub fn only(backend: Backend) -> Self {
        Self { backends: vec![backend], auto: false }
    }

    /// The runtimes in their order.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    fn of(names: &[&str]) -> Result<Self, String> {
        const NAMES: [&str; 3] = ["auto", "coreml", "interp"];
        if names == ["auto"] {
            return Ok(Self::default());
        }
        let mut backends = Vec::new();
        for name in names {
            let backend = match *name {
                "coreml" => Backend::CoreMl,
                "interp" => Backend::Interp,
                "auto" => return Err("`auto` stands alone".to_owned()),
                _ => {
                    let meant = nearest(name, NAMES);
                    let meant = meant.map_or_else(String::new, |m| format!("; did you mean `{m}`"));
                    return Err(format!(
                        "backend `{name}` is none of auto, coreml, interp, nor a list such as coreml,interp{meant}"
                    ));
                }
            };
            if backends.contains(&backend) {
                return Err(format!("backend `{name}` stands twice"));
            }
            backends.push(backend);
        }
        if backends.is_empty() {
            return Err("no backend is named".to_owned());
        }
        Ok(Self { backends, auto: false })
    }
}

impl FromStr for BackendChain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::of(&text.split(',').map(str::trim).collect::<Vec<_>>())
    }
}

impl fmt::Display for BackendChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.auto {
            return f.write_str("auto");
        }
        let names: Vec<_> = self.backends.iter().map(|b| b.name()).collect();
        f.write_str(&names.join(","))
    }
}

impl<'de> Deserialize<'de> for BackendChain {
    /// A text, as on the command line, or a list of names.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = BackendChain;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto`, `coreml`, `interp`, or a list of runtimes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<BackendChain, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<BackendChain, A::Error> {
                let mut names: Vec<String> = Vec::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                BackendChain::of(&names).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Names)
    }
}

/// Requirements on a runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirements<'a> {
    /// Required feature that Core ML lacks, as a sentence.
    pub beyond_coreml: Option<&'a str>,
    /// True if all that is run stands in `.mlpackage` folders, which the framework compiles itself.
    pub packages: bool,
}

/// Why Core ML is not asked for values from inside a program.
pub const INSIDE: &str = "Core ML gives no values from inside a program";

/// Why Core ML is not asked for f32.
pub const UNROUNDED: &str = "Core ML cannot leave values unrounded";

/// Why Core ML is not asked for several packages at once.
pub const CHAINS: &str = "several packages run as one chain in the interpreter only";

/// The runtime that was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The runtime.
    #[serde(rename = "name")]
    pub backend: Backend,
    /// Reason for the choice.
    pub reason: String,
    /// Rejected runtimes of the chain with the reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed: Vec<SkippedBackend>,
}

/// A runtime that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SkippedBackend {
    /// The runtime.
    #[serde(rename = "name")]
    pub backend: Backend,
    /// Why not.
    pub reason: String,
}

/// No runtime of the chain can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct NoBackend {
    reason: String,
    advice: String,
    blame: Blame,
}

impl Hint for NoBackend {
    fn hint(&self) -> Option<String> {
        Some(self.advice.clone())
    }

    fn blame(&self) -> Blame {
        self.blame
    }
}

/// Selects the first runtime of `chain` that meets the requirements.
pub fn choose(
    chain: &BackendChain,
    framework: &Result<Framework, Absent>,
    required: Requirements<'_>,
) -> Result<Choice, NoBackend> {
    let mut passed = Vec::new();
    for &backend in &chain.backends {
        let against = match backend {
            Backend::Interp => None,
            Backend::CoreMl => against(framework, required, chain.auto),
        };
        if let Some(reason) = against {
            passed.push(SkippedBackend { backend, reason });
            continue;
        }
        let first = passed.first().map(|p: &SkippedBackend| p.reason.clone());
        let reason = match (chain.auto, framework, first) {
            (_, _, Some(first)) => first,
            (true, Ok(framework), None) => format!("this is {}", framework.system),
            _ => "it was asked for".to_owned(),
        };
        return Ok(Choice { backend, reason, passed });
    }
    let reasons: Vec<_> = passed.into_iter().map(|p| p.reason).collect();
    let (advice, blame) = match framework {
        Err(absent) => (absent.hint(), Blame::Environment),
        Ok(_) => (None, Blame::Input),
    };
    let advice = advice.unwrap_or_else(|| "pass `--backend interp`".to_owned());
    Err(NoBackend { reason: reasons.join("; "), advice, blame })
}

/// Returns the reason why Core ML cannot be used.
fn against(
    framework: &Result<Framework, Absent>,
    required: Requirements<'_>,
    auto: bool,
) -> Option<String> {
    if let Err(absent) = framework {
        return Some(absent.to_string());
    }
    if let Some(beyond) = required.beyond_coreml {
        return Some(beyond.to_owned());
    }
    // A compiled model may be another system's; whoever names the framework may know better.
    (auto && !required.packages)
        .then(|| "a compiled model may be made for another system than this one".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac() -> Framework {
        let system = "macOS 15.1 (Build 24B83)".to_owned();
        Framework { system, devices: Vec::new(), neural_engine_cores: None }
    }

    const LINUX: Result<Framework, Absent> = Err(Absent { os: "linux", arch: "x86_64" });

    #[test]
    fn the_first_that_can_is_taken() {
        let package = Requirements { packages: true, beyond_coreml: None };
        let tap = Requirements { beyond_coreml: Some(INSIDE), ..package };
        let compiled = Requirements { packages: false, ..package };
        let absent =
            "Core ML is not on this machine: it is part of macOS, and this is linux on x86_64";
        let other = "a compiled model may be made for another system than this one";
        let asked = "it was asked for";
        let cases = [
            ("auto", LINUX, package, Ok(("interp", absent))),
            ("auto", Ok(mac()), package, Ok(("coreml", "this is macOS 15.1 (Build 24B83)"))),
            ("auto", Ok(mac()), tap, Ok(("interp", INSIDE))),
            ("auto", Ok(mac()), compiled, Ok(("interp", other))),
            ("coreml", Ok(mac()), compiled, Ok(("coreml", asked))),
            ("coreml", Ok(mac()), tap, Err((INSIDE, 2))),
            ("coreml", LINUX, package, Err((absent, 4))),
            ("coreml,interp", LINUX, package, Ok(("interp", absent))),
            ("coreml, interp", Ok(mac()), package, Ok(("coreml", asked))),
            ("interp,coreml", Ok(mac()), package, Ok(("interp", asked))),
            ("interp", LINUX, tap, Ok(("interp", asked))),
        ];
        for (chain, framework, required, want) in cases {
            let got = choose(&chain.parse().unwrap(), &framework, required);
            let got = match &got {
                Ok(choice) => Ok((choice.backend.name(), choice.reason.as_str())),
                Err(none) => Err((none.reason.as_str(), none.blame().exit_code())),
            };
            assert_eq!(got, want, "{chain}");
        }
    }

    #[test]
    fn chains_that_mean_nothing_are_refused() {
        for (text, want) in [
            ("", "backend `` is none of"),
            ("cormel", "did you mean `coreml`"),
            ("coreml,coreml", "backend `coreml` stands twice"),
            ("auto,interp", "`auto` stands alone"),
        ] {
            let error = text.parse::<BackendChain>().unwrap_err();
            assert!(error.contains(want), "{error}");
        }
        for text in ["auto", "coreml", "interp,coreml"] {
            assert_eq!(text.parse::<BackendChain>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_choice_is_recorded_with_its_reasons() {
        let choice = choose(
            &BackendChain::default(),
            &LINUX,
            Requirements { beyond_coreml: None, packages: true },
        );
        let choice = choice.unwrap();
        let json = serde_json::to_value(choice).unwrap();
        assert_eq!(json["name"], "interp");
        assert_eq!(json["passed"][0]["name"], "coreml");
        assert_eq!(json["reason"], json["passed"][0]["reason"]);
    }
}
