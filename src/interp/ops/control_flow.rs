//! `cond` and `while_loop` over nested blocks, and the lists that loops build: `make_list`, `list_write` and theirs.

use super::extents;
use super::joining::{join, same_carrier};
use crate::base::cancel;
use crate::interp::error::OpError;
use crate::interp::exec::{ExecContext, Kernel, Operand};
use crate::interp::list::List;
use crate::interp::op_context::OpContext;
use crate::interp::tensor::Tensor;
use crate::interp::value::Value;
use crate::mil::DType;

type Built = Result<Kernel, OpError>;

/// The results of the first block where `pred` holds, those of the second where it does not.
pub(super) fn cond(site: &OpContext<'_, '_>) -> Built {
    let pred = site.input("pred")?;
    two_blocks(site)?;
    let n = site.op.outputs.len();
    for (i, body) in site.bodies.iter().enumerate() {
        if !body.inputs.is_empty() || body.outputs.len() != n {
            let (inputs, outputs) = (body.inputs.len(), body.outputs.len());
            return Err(OpError::invalid(format!(
                "block {i} takes {inputs} values and gives {outputs} for 0 and {n}"
            )));
        }
    }
    Ok(Kernel::values(move |run| {
        let branch = usize::from(!holds(run.get(&pred))?);
        run.body(branch, Vec::new())
    }))
}

/// The second block applied to the values again and again while the first one holds for them.
pub(super) fn while_loop(site: &OpContext<'_, '_>) -> Built {
    let initial = site.values("loop_vars")?;
    let n = initial.len();
    two_blocks(site)?;
    for (i, (body, gives)) in site.bodies.iter().zip([1, n]).enumerate() {
        if body.inputs.len() != n || body.outputs.len() != gives {
            let (inputs, outputs) = (body.inputs.len(), body.outputs.len());
            return Err(OpError::invalid(format!(
                "block {i} takes {inputs} values and gives {outputs} for {n} and {gives}"
            )));
        }
    }
    Ok(Kernel::values(move |run| {
        let mut values: Vec<Value> = initial.iter().map(|from| run.take_value(from)).collect();
        loop {
            cancel::check()?;
            run.turn()?;
            let go_on = match run.body(0, values.clone())?.as_slice() {
                [Value::Tensor(go_on)] => holds(go_on)?,
                _ => return Err(OpError::invalid("the condition is no boolean")),
            };
            if !go_on {
                return Ok(values);
            }
            values = run.body(1, values)?;
        }
    }))
}

fn two_blocks(site: &OpContext<'_, '_>) -> Result<(), OpError> {
    match site.bodies.len() {
        2 => Ok(()),
        n => Err(OpError::invalid(format!("it has {n} nested blocks for 2"))),
    }
}

/// A single boolean, whatever its rank.
fn holds(pred: &Tensor) -> Result<bool, OpError> {
    match pred.as_bool() {
        Some(&[b]) => Ok(b),
        _ => {
            Err(OpError::invalid(format!("the condition is {}, not one boolean", pred.describe())))
        }
    }
}

/// A list of zeros.
pub(super) fn make_list(site: &OpContext<'_, '_>) -> Built {
    let length = site.optional("init_length")?;
    let dynamic = site.bool("dynamic_length", true)?;
    let name = site.text("dtype")?.unwrap_or_else(|| "fp32".to_owned());
    let unknown = || OpError::Unsupported(format!("elements of type `{name}`"));
    let dtype = DType::from_name(&name).ok_or_else(unknown)?;
    // A string stands for an extent that the first element written decides.
    let mut shape = Vec::new();
    for extent in site.inputs("elem_shape")? {
        let Operand::Const(extent) = extent else {
            return Err(OpError::NotConstant("elem_shape".to_owned()));
        };
        match extent.as_i32() {
            Some(ints) => shape.extend(extents(ints)?.into_iter().map(Some)),
            None => shape.extend(extent.as_strings().unwrap_or_default().iter().map(|_| None)),
        }
    }
    let known: Vec<usize> = shape.iter().flatten().copied().collect();
    crate::interp::tensor::elements(&known)?;
    Ok(Kernel::values(move |run| {
        let length = match &length {
            Some(from) => index(run, from)?,
            None => 1,
        };
        let length = usize::try_from(length)
            .map_err(|_| OpError::invalid(format!("a list of {length} elements")))?;
        Ok(vec![Value::List(List::new(length, dtype, shape.clone(), dynamic)?)])
    }))
}

/// The number of elements.
pub(super) fn list_length(site: &OpContext<'_, '_>) -> Built {
    let list = site.list("ls")?;
    Ok(Kernel::one(move |run| Ok(Tensor::i32(&[], vec![run.list(list).len() as i32]))))
}

/// One element.
pub(super) fn list_read(site: &OpContext<'_, '_>) -> Built {
    let (list, at) = (site.list("ls")?, site.input("index")?);
    Ok(Kernel::one(move |run| run.list(list).read(index(run, &at)?)))
}

/// The list with one element replaced.
pub(super) fn list_write(site: &OpContext<'_, '_>) -> Built {
    let (from, at, value) = (site.list("ls")?, site.input("index")?, site.input("value")?);
    Ok(Kernel::values(move |run| {
        let at = index(run, &at)?;
        let value = run.take(&value);
        let mut list = run.take_list(from);
        list.write(at, value)?;
        Ok(vec![Value::List(list)])
    }))
}

/// Chosen elements as one tensor with a dimension in front.
pub(super) fn list_gather(site: &OpContext<'_, '_>) -> Built {
    let (list, indices) = (site.list("ls")?, site.input("indices")?);
    Ok(Kernel::one(move |run| {
        let list = run.list(list);
        let elements = list.gather(run.get(&indices).i32s()?)?;
        let mut shape = vec![elements.len()];
        shape.extend(list.element_shape()?);
        if elements.is_empty() {
            return Ok(Tensor::zeros(list.dtype(), &shape));
        }
        let mut row = shape.clone();
        row[0] = 1;
        let rows = elements.into_iter().map(|e| e.reshaped(row.clone())).collect();
        join(run, &same_carrier(rows)?, &shape, 0)
    }))
}

/// The list with the slices of a tensor as elements at `indices`.
pub(super) fn list_scatter(site: &OpContext<'_, '_>) -> Built {
    let (from, indices, value) = (site.list("ls")?, site.input("indices")?, site.input("value")?);
    Ok(Kernel::values(move |run| {
        let values = run.get(&value);
        let indices = run.get(&indices).i32s()?.to_vec();
        let Some((&n, element)) = values.shape().split_first() else {
            return Err(OpError::invalid("a value without dimensions has no slices"));
        };
        if indices.len() != n {
            let (m, values) = (indices.len(), values.describe());
            return Err(OpError::invalid(format!("{m} indices for values {values}")));
        }
        let size: usize = element.iter().product();
        let rows: Vec<Tensor> = (0..n).map(|i| values.view(i * size, element.to_vec())).collect();
        let mut list = run.take_list(from);
        for (at, row) in indices.into_iter().zip(rows) {
            list.write(at, row)?;
        }
        Ok(vec![Value::List(list)])
    }))
}

/// A single whole number, whatever its rank.
fn index(run: &ExecContext<'_>, from: &Operand) -> Result<i32, OpError> {
    match run.get(from).i32s()? {
        &[n] => Ok(n),
        many => Err(OpError::invalid(format!("an index of {} numbers", many.len()))),
    }
}
