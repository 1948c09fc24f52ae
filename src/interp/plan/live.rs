//! Last uses: which values nobody reads after a step, from the end of a function to its beginning.

use std::collections::BTreeSet;

use crate::interp::run::{Body, In, Step};

/// Tells each step of a function, and those of its nested blocks, which values nobody reads after it.
pub(super) fn function(steps: &mut [Step], outputs: &[In]) {
    let outputs = outputs.iter().filter_map(slot);
    block(steps, outputs.collect());
}

fn slot(from: &In) -> Option<usize> {
    if let In::Slot(slot) = from { Some(*slot) } else { None }
}

fn block(steps: &mut [Step], mut needed: BTreeSet<usize>) {
    for step in steps.iter_mut().rev() {
        // A loop reads what it reads again in its next turn; the branches of a `cond` run once.
        let again = step.kind != "cond";
        let reads = std::mem::take(&mut step.reads);
        for body in &mut step.bodies {
            let after = reads.iter().copied().filter(|slot| again || needed.contains(slot));
            nested(body, after.collect());
        }
        for &slot in &reads {
            if needed.insert(slot) {
                step.frees.push(slot);
                if reads.iter().filter(|&&r| r == slot).count() == 1 {
                    step.takes.push(slot);
                }
            }
        }
    }
}

fn nested(body: &mut Body, mut needed: BTreeSet<usize>) {
    for i in (0..body.outputs.len()).rev() {
        if let In::Slot(slot) = body.outputs[i].from {
            body.outputs[i].take = needed.insert(slot);
        }
    }
    block(&mut body.steps, needed);
}
