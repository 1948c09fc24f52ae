//! Two packages side by side: functions and signatures, weights and their forms, totals.

mod operations;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::audit::{Audit, ComponentAudit, StoredWeight, TensorAudit, audit, stored_weights};
use super::select::MIN_ELEMENTS;
use crate::mil::{ConstError, Function, Op, Program, Value, constant_bytes};
use crate::package::Package;

/// Differences between a left and a right package.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diff {
    /// True if nothing differs: signatures, operations, constants, weights.
    pub equal: bool,
    /// Differences in the model and its functions.
    pub model: Vec<Difference>,
    /// The weights that are in one package only, or differ.
    pub weights: Vec<WeightDifference>,
    /// Number of equal weights.
    pub equal_weights: u64,
    /// The weights of each part of the model, on the left and on the right.
    pub components: Vec<Totals>,
    /// All weights.
    pub all: Totals,
}

/// Something that the packages have in different ways, or one only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The function, where it is one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Description.
    pub what: String,
    /// Form in the left package.
    pub left: Option<String>,
    /// Form in the right package.
    pub right: Option<String>,
}

/// A weight that is in one package only, or differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightDifference {
    /// Its name.
    pub name: String,
    /// Short name of the difference.
    pub what: What,
    /// It on the left.
    pub left: Option<TensorAudit>,
    /// It on the right.
    pub right: Option<TensorAudit>,
}

/// First difference of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The right package does not have it.
    OnlyLeft,
    /// The left package does not have it.
    OnlyRight,
    /// The shape of the dense weight.
    Shape,
    /// Storage format.
    Form,
    /// Size in bytes.
    Bytes,
    /// The values.
    Values,
    /// The functions that use it.
    Functions,
}

impl What {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnlyLeft => "only left",
            Self::OnlyRight => "only right",
            Self::Shape => "shape",
            Self::Form => "form",
            Self::Bytes => "bytes",
            Self::Values => "values",
            Self::Functions => "functions",
        }
    }
}

/// The sums of a part of the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Totals {
    /// The part, or `all`.
    pub component: String,
    /// On the left.
    pub left: ComponentAudit,
    /// On the right.
    pub right: ComponentAudit,
}

/// Compares `left` with `right`.
///
/// Weights and functions are matched by their names. Names that coremltools' compression changes count as equal, and so do
/// different places of the same bytes.
pub fn diff(left: &Package, right: &Package) -> Result<Diff, ConstError> {
    let model = model(left, right)?;
    let (mut weights, mut equal_weights) = (Vec::new(), 0);
    let (in_left, in_right) = (audit(left)?, audit(right)?);
    let (ours, theirs) = (named(left, &in_left), named(right, &in_right));
    for pair in pairs(&ours, &theirs) {
        match what(left, right, pair)? {
            None => equal_weights += 1,
            Some(what) => {
                let either = pair.0.or(pair.1).expect("a pair has one side at least");
                weights.push(WeightDifference {
                    name: either.1.name.clone(),
                    what,
                    left: pair.0.map(|side| side.1.clone()),
                    right: pair.1.map(|side| side.1.clone()),
                });
            }
        }
    }
    Ok(Diff {
        equal: model.is_empty() && weights.is_empty(),
        model,
        weights,
        equal_weights,
        components: components(&in_left, &in_right),
        all: Totals { component: "all".to_owned(), left: in_left.all(), right: in_right.all() },
    })
}

/// A weight with its line of the audit.
type Side<'a> = (StoredWeight<'a>, &'a TensorAudit);
/// A weight in one package, in the other, or in both.
type Pair<'a> = (Option<&'a Side<'a>>, Option<&'a Side<'a>>);

fn named<'a>(package: &'a Package, audit: &'a Audit) -> Vec<Side<'a>> {
    stored_weights(package.program(), MIN_ELEMENTS).into_iter().zip(&audit.tensors).collect()
}

/// Weights of the same name together; those of a name in the order in which they are stored.
fn pairs<'a>(left: &'a [Side<'a>], right: &'a [Side<'a>]) -> Vec<Pair<'a>> {
    let mut others: BTreeMap<&str, Vec<&Side<'_>>> = BTreeMap::new();
    for side in right.iter().rev() {
        others.entry(&side.0.name).or_default().push(side);
    }
    let mut pairs: Vec<Pair<'_>> = left
        .iter()
        .map(|side| (Some(side), others.get_mut(side.0.name.as_str()).and_then(Vec::pop)))
        .collect();
    let left_over: Vec<_> = others.into_values().flatten().collect();
    let alone = right.iter().filter(|side| left_over.iter().any(|o| std::ptr::eq(*o, *side)));
    pairs.extend(alone.map(|side| (None, Some(side))));
    pairs
}

fn what(left: &Package, right: &Package, (a, b): Pair<'_>) -> Result<Option<What>, ConstError> {
    let (Some((a, a_line)), Some((b, b_line))) = (a, b) else {
        return Ok(Some(if b.is_none() { What::OnlyLeft } else { What::OnlyRight }));
    };
    Ok(if a_line.shape != b_line.shape {
        Some(What::Shape)
    } else if a_line.stored != b_line.stored || a_line.dtype != b_line.dtype {
        Some(What::Form)
    } else if a_line.parts != b_line.parts {
        Some(What::Bytes)
    } else if !same_values(left, right, a, b)? {
        Some(What::Values)
    } else if a.functions != b.functions {
        Some(What::Functions)
    } else {
        None
    })
}

/// True if two weights of one form hold the same bytes.
fn same_values(
    left: &Package,
    right: &Package,
    a: &StoredWeight<'_>,
    b: &StoredWeight<'_>,
) -> Result<bool, ConstError> {
    let (a, b) = (a.values(), b.values());
    if a.len() != b.len() {
        return Ok(false);
    }
    for ((_, a), (_, b)) in a.iter().zip(&b) {
        if !same(left, right, a, b)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// True if two values are of one type and the same, wherever they stand.
fn same(left: &Package, right: &Package, a: &Value, b: &Value) -> Result<bool, ConstError> {
    if a.ty != b.ty {
        return Ok(false);
    }
    if a.as_blob().is_none() && b.as_blob().is_none() {
        return Ok(a.data == b.data);
    }
    let (mut a_mapped, mut b_mapped) = (None, None);
    let a = constant_bytes(a, &*left.blobs(), &mut a_mapped)?;
    let b = constant_bytes(b, &*right.blobs(), &mut b_mapped)?;
    Ok(a == b)
}

fn components(left: &Audit, right: &Audit) -> Vec<Totals> {
    let names: BTreeSet<&str> =
        left.components.iter().chain(&right.components).map(|c| c.component.as_str()).collect();
    let of = |audit: &Audit, name: &str| {
        let found = audit.components.iter().find(|c| c.component == name);
        found.cloned().unwrap_or_else(|| ComponentAudit::empty(name))
    };
    let totals = |name| Totals {
        component: String::from(name),
        left: of(left, name),
        right: of(right, name),
    };
    names.into_iter().map(totals).collect()
}

/// Differences outside of weights.
fn model(left: &Package, right: &Package) -> Result<Vec<Difference>, ConstError> {
    let mut found = Vec::new();
    let (a, b) = (left.model(), right.model());
    let mut add =
        |function: Option<&str>, what: &str, left: Option<String>, right: Option<String>| {
            if left != right {
                let function = function.map(str::to_owned);
                found.push(Difference { function, what: what.to_owned(), left, right });
            }
        };
    let version = |n: i32| Some(n.to_string());
    let versions = (version(a.specification_version), version(b.specification_version));
    add(None, "specification version", versions.0, versions.1);
    if a.description != b.description {
        let (one, another) = (Some("one".to_owned()), Some("another".to_owned()));
        add(None, "description of inputs, outputs and metadata", one, another);
    }
    let functions = |program: &Program| program.functions.keys().cloned().collect::<BTreeSet<_>>();
    for name in &(&functions(&a.program) | &functions(&b.program)) {
        let (a, b) = (a.program.functions.get(name), b.program.functions.get(name));
        let name = Some(name.as_str());
        let (Some(a), Some(b)) = (a, b) else {
            add(name, "function", a.map(signature), b.map(signature));
            continue;
        };
        add(name, "opset", Some(a.opset.clone()), Some(b.opset.clone()));
        let (ours, theirs) = (inputs(a), inputs(b));
        for input in &(&ours.keys().collect::<BTreeSet<_>>() | &theirs.keys().collect()) {
            let what = format!("input `{input}`");
            add(name, &what, ours.get(*input).cloned(), theirs.get(*input).cloned());
        }
        let (ours, theirs) = (outputs(a), outputs(b));
        for output in &(&ours.keys().collect::<BTreeSet<_>>() | &theirs.keys().collect()) {
            let what = format!("output `{output}`");
            add(name, &what, ours.get(*output).cloned(), theirs.get(*output).cloned());
        }
    }
    for name in a.program.functions.keys() {
        let (Some(a), Some(b)) = (a.program.functions.get(name), b.program.functions.get(name))
        else {
            continue;
        };
        let (ours, theirs) = (operations::of(a), operations::of(b));
        if ours.len() != theirs.len() {
            let count = |ops: &[&Op]| Some(ops.len().to_string());
            let (function, what) = (Some(name.clone()), "number of operations".to_owned());
            found.push(Difference { function, what, left: count(&ours), right: count(&theirs) });
        }
        found.extend(operations::differences(name, &ours, &theirs));
        found.extend(constants(name, (left, a), (right, b))?);
    }
    Ok(found)
}

fn inputs(function: &Function) -> BTreeMap<String, String> {
    function.inputs.iter().map(|input| (input.name.clone(), input.ty.to_string())).collect()
}

fn outputs(function: &Function) -> BTreeMap<String, String> {
    let types: BTreeMap<&str, String> = (function.block.ops.iter().flat_map(|op| &op.outputs))
        .chain(&function.inputs)
        .map(|named| (named.name.as_str(), named.ty.to_string()))
        .collect();
    let ty = |name: &String| types.get(name.as_str()).cloned().unwrap_or_default();
    function.block.outputs.iter().map(|name| (name.clone(), ty(name))).collect()
}

fn signature(function: &Function) -> String {
    let inputs: Vec<_> =
        function.inputs.iter().map(|input| format!("{}: {}", input.name, input.ty)).collect();
    format!("({}) -> {}", inputs.join(", "), function.block.outputs.join(", "))
}

/// Constants of a function that are no weights and differ, in one line.
fn constants(
    name: &str,
    (left, a): (&Package, &Function),
    (right, b): (&Package, &Function),
) -> Result<Option<Difference>, ConstError> {
    let (ours, theirs) = (small(left, a), small(right, b));
    let mut differing = Vec::new();
    let names: BTreeSet<&str> = ours.keys().chain(theirs.keys()).copied().collect();
    for constant in names {
        let equal = match (ours.get(constant), theirs.get(constant)) {
            (Some(a), Some(b)) => same(left, right, a, b)?,
            _ => false,
        };
        if !equal {
            differing.push(constant);
        }
    }
    let Some(first) = differing.first() else { return Ok(None) };
    let shown = |all: &BTreeMap<&str, &Value>| {
        Some(all.get(first).map_or_else(|| "none".to_owned(), |value| value.ty.to_string()))
    };
    let what = match differing.len() {
        1 => format!("constant `{first}`"),
        n => format!("{n} constants, first `{first}`"),
    };
    let function = Some(name.to_owned());
    Ok(Some(Difference { function, what, left: shown(&ours), right: shown(&theirs) }))
}

/// The constants of a function that are no weights, by name.
fn small<'a>(package: &'a Package, function: &'a Function) -> BTreeMap<&'a str, &'a Value> {
    let weights = stored_weights(package.program(), MIN_ELEMENTS);
    let places: BTreeSet<_> =
        weights.iter().flat_map(StoredWeight::blobs).map(|(_, at)| at.clone()).collect();
    let names = weights.iter().flat_map(|weight| &weight.ops).map(|op| op.name());
    let parts: BTreeSet<&str> = names.collect();
    operations::each(function)
        .into_iter()
        .filter_map(|op| Some((op.name(), op.const_value()?)))
        .filter(|(name, value)| {
            !parts.contains(name) && value.as_blob().is_none_or(|at| !places.contains(at))
        })
        .collect()
}
