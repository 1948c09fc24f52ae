//! Last uses: which values nobody reads after a step, from the end of a function to its beginning.

use std::collections::BTreeSet;

use crate::interp::exec::{Operand, Step, Subgraph};

/// Tells each step of a function, and those of its nested blocks, which values nobody reads after it.
pub(super) fn function(steps: &mut [Step], outputs: &[Operand]) {
    let outputs = outputs.iter().filter_map(slot);
    block(steps, outputs.collect());
}

fn slot(from: &Operand) -> Option<usize> {
    if let Operand::Slot(slot) = from { Some(*slot) } else { None }
}

fn block(steps: &mut [Step], mut needed: BTreeSet<usize>) {
    for step in steps.iter_mut().rev() {
        // A loop reads what it reads again in its next turn; the branches of a `cond` run once.
        let again = step.kind != "cond";
        let mut uses = std::mem::take(&mut step.uses);
        uses.sort_unstable();
        for body in &mut step.bodies {
            let after = uses.iter().copied().filter(|slot| again || needed.contains(slot));
            nested(body, after.collect());
        }
        for same in uses.chunk_by(|a, b| a == b) {
            if needed.insert(same[0]) {
                step.released.push(same[0]);
                if same.len() == 1 {
                    step.donated.push(same[0]);
                }
            }
        }
    }
}

fn nested(body: &mut Subgraph, mut needed: BTreeSet<usize>) {
    for i in (0..body.outputs.len()).rev() {
        if let Operand::Slot(slot) = body.outputs[i].from {
            body.outputs[i].take = needed.insert(slot);
        }
    }
    block(&mut body.steps, needed);
}
