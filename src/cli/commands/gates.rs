//! Thresholds as they are typed: `cosine=0.99`, `size=2 GB`, `transcripts=off`.

use crate::base::did_you_mean::did_you_mean;
use crate::gate::{self, Gates, Limit};
use crate::pipeline::Failure;

/// The gates with the thresholds of `typed`, each `NAME=VALUE`.
pub(super) fn parse(typed: &[String]) -> Result<Gates, Failure> {
    let mut gates = Gates::default();
    for text in typed {
        let (name, value) = text.split_once('=').ok_or_else(|| {
            Failure::input(format!("`{text}` is no threshold")).hint("write it as `NAME=VALUE`")
        })?;
        let Some(gate) = gate::find(name) else {
            let near = did_you_mean(name, gate::TABLE.iter().map(|g| g.name));
            let failure = Failure::input(format!("there is no gate `{name}`"));
            return Err(match near {
                Some(near) => failure.hint(format!("did you mean `{near}`")),
                None => failure.hint("`coremill explain` lists them"),
            });
        };
        let limit = match value {
            "off" => Limit::Off,
            _ => Limit::One(
                gate.unit
                    .parse(value)
                    .map_err(|e| Failure::input(format!("gate `{name}`: {e}")))?,
            ),
        };
        gates = gates.with(name, limit).expect("the gate was found");
    }
    Ok(gates)
}
