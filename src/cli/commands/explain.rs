//! `explain`: what a gate is about, and what a recipe can say.

use super::context::Context;
use super::{Outcome, SUCCESS};
use crate::base::did_you_mean::did_you_mean;
use crate::cli::args::ExplainArgs;
use crate::gate;
use crate::pipeline::Failure;
use crate::quant::scheme;

pub(super) fn run(args: &ExplainArgs, context: &Context) -> Outcome {
    let Some(name) = &args.gate else {
        let gates: Vec<_> = gate::TABLE.iter().map(|gate| (gate.name, gate.summary)).collect();
        let width = gates.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines: Vec<_> =
            gates.iter().map(|(name, summary)| format!("{name:<width$}  {summary}")).collect();
        let answer: std::collections::BTreeMap<_, _> = gates.into_iter().collect();
        context.printer.answer(&answer, &lines.join("\n"))?;
        return Ok(SUCCESS);
    };
    if name == "schemes" {
        let text = scheme::about();
        context.printer.answer(&text, &text)?;
        return Ok(SUCCESS);
    }
    let Some(text) = gate::explain(name) else {
        let names = gate::TABLE.iter().map(|gate| gate.name);
        let failure = Failure::input(format!("there is no gate `{name}`"));
        return Err(match did_you_mean(name, names) {
            Some(near) => failure.hint(format!("did you mean `{near}`")),
            None => failure.hint(
                "`coremill explain` lists them; `coremill explain schemes` has those of recipes",
            ),
        });
    };
    context.printer.answer(&text, &text)?;
    Ok(SUCCESS)
}
