//! The inputs, states and outputs of a function as fields: name, type of an element, sizes of the axes.

use serde_json::{Value, json};

use crate::mil::{Dim, Function, Type};

/// `{"inputs": […], "outputs": […]}`, states among the inputs.
pub(super) fn of(function: &Function) -> Value {
    let results = function.block.ops.iter().flat_map(|op| &op.outputs).chain(&function.inputs);
    let output = |name: &String| {
        let ty = results.clone().find(|result| result.name == *name).map(|result| &result.ty);
        port(name, ty)
    };
    let inputs = function.inputs.iter().map(|input| port(&input.name, Some(&input.ty)));
    json!({
        "inputs": inputs.collect::<Vec<_>>(),
        "outputs": function.block.outputs.iter().map(output).collect::<Vec<_>>(),
    })
}

/// A size that is known only when the function runs is null; so is the shape where even the rank is.
fn port(name: &str, ty: Option<&Type>) -> Value {
    let tensor = ty.and_then(Type::as_tensor);
    let shape = tensor.and_then(|tensor| {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(n) => Some(Some(*n)),
            Dim::Unknown { variadic: false } => Some(None),
            Dim::Unknown { variadic: true } => None,
        };
        tensor.shape.iter().map(size).collect::<Option<Vec<_>>>()
    });
    json!({
        "name": name,
        "dtype": tensor.map(|tensor| tensor.dtype.name()),
        "shape": shape,
        "state": ty.is_some_and(Type::is_state),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mil::{DType, TensorType};

    #[test]
    fn ports_by_type() {
        let open = |dims: &[Dim]| {
            let shape = dims.to_vec();
            Type::Tensor(TensorType { shape, ..TensorType::fixed(DType::F32, &[]) })
        };
        let unknown = |variadic| Dim::Unknown { variadic };
        let list = Type::List(Box::new(Type::tensor(DType::F16, &[2])), Dim::Fixed(3));
        let cases = [
            (Some(Type::tensor(DType::I32, &[])), json!("int32"), json!([]), false),
            (
                Some(Type::State(Box::new(Type::tensor(DType::F16, &[8, 8])))),
                json!("fp16"),
                json!([8, 8]),
                true,
            ),
            (Some(open(&[Dim::Fixed(1), unknown(false)])), json!("fp32"), json!([1, null]), false),
            (Some(open(&[unknown(true)])), json!("fp32"), json!(null), false),
            (Some(list), json!(null), json!(null), false),
            (None, json!(null), json!(null), false),
        ];
        for (ty, dtype, shape, state) in cases {
            let want = json!({"name": "x", "dtype": dtype, "shape": shape, "state": state});
            assert_eq!(port("x", ty.as_ref()), want);
        }
    }
}
