//! `read_state` and `write_state` (`coreml_update_state` before it is stored): tensors kept between calls.

use crate::interp::error::OpError;
use crate::interp::exec::Kernel;
use crate::interp::op_context::OpContext;
use crate::mil::Op;

/// The state as it is now; handed over without a copy when the function writes it again next.
pub(super) fn read(site: &OpContext<'_, '_>) -> Result<Kernel, OpError> {
    let name = site.state("input")?;
    let hand_over =
        site.later.iter().take(FAR).find_map(|op| next_use(op, &name)) == Some(Use::Write);
    Ok(Kernel::one(move |run| {
        let tensor = if hand_over { run.state.take(&name) } else { run.state.get(&name).cloned() };
        tensor.ok_or_else(|| {
            OpError::invalid(format!("state `{name}` is read before it is written back"))
        })
    }))
}

/// Operations further down than this are not asked: the state is copied then.
const FAR: usize = 1 << 12;

#[derive(Debug, PartialEq, Eq)]
enum Use {
    Read,
    Write,
}

/// How an operation uses a state; one with nested blocks may do either, and is said to read any.
fn next_use(op: &Op, state: &str) -> Option<Use> {
    let named = |parameter| op.input_name(parameter) == Some(state);
    match op.kind.as_str() {
        "write_state" | "coreml_update_state" if named("input") || named("state") => {
            Some(Use::Write)
        }
        "read_state" if named("input") => Some(Use::Read),
        _ if !op.blocks.is_empty() => Some(Use::Read),
        _ => None,
    }
}

/// Stores a tensor.
pub(super) fn write(site: &OpContext<'_, '_>) -> Result<Kernel, OpError> {
    let name = site.state("input")?;
    let data = site.input("data")?;
    Ok(Kernel::many(move |run| {
        let tensor = run.take(&data);
        run.state.put(&name, tensor);
        Ok(Vec::new())
    }))
}

/// Stores a tensor and gives it back.
pub(super) fn update(site: &OpContext<'_, '_>) -> Result<Kernel, OpError> {
    let name = site.state("state")?;
    let value = site.input("value")?;
    Ok(Kernel::one(move |run| {
        let tensor = run.take(&value);
        run.state.put(&name, tensor);
        let stored = run.state.get(&name).cloned();
        stored.ok_or_else(|| OpError::invalid(format!("state `{name}` is not there")))
    }))
}
