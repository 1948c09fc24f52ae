//! The first value that breaks, found without looking at those behind it.

use std::sync::LazyLock;

use regex::Regex;

use super::difference::Difference;
use super::{BUDGET, MakeCalls, Watched, batches, differences};
use crate::eval::error::EvalError;
use crate::eval::results::Overflow;

/// A layer's number in the name of a weight, as transformers names its modules.
static LAYER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:^|_)(?:layers?|h|blocks?)_(\d+)_").expect("the expression is valid")
});

/// The first of the `watched` values of `function` that is infinite or NaN where f32 is finite, else the first that is NaN
/// in f32 too; nothing where there is neither.
///
/// Values are looked at batch by batch, so that a small function takes one call in each precision, and a large one no more
/// than it takes to get there.
pub(super) fn first(
    function: &str,
    watched: &[Watched],
    calls: usize,
    make: &mut MakeCalls<'_>,
) -> Result<Option<Overflow>, EvalError> {
    let mut shared = None;
    for batch in batches(watched, BUDGET / calls.max(1) as u64) {
        let found = differences(&watched[batch.clone()], calls, make)?;
        let index = found.iter().position(Difference::breaks);
        if let Some(i) = index {
            return Ok(Some(overflow(function, watched, batch.start + i, &found[i])));
        }
        if shared.is_none()
            && let Some(i) = found.iter().position(|difference| difference.shared_nans > 0)
        {
            shared = Some(overflow(function, watched, batch.start + i, &found[i]));
        }
    }
    Ok(shared)
}

fn overflow(function: &str, watched: &[Watched], i: usize, difference: &Difference) -> Overflow {
    let value = &watched[i];
    let used = watched[..=i].iter().rev().flat_map(|w| &w.reads);
    let weight = used.into_iter().find(|name| is_weight(name)).cloned();
    let layer = weight.as_deref().and_then(layer);
    let in_f32 = !difference.breaks();
    Overflow {
        function: function.to_owned(),
        value: value.name.clone(),
        operation: value.kind.clone(),
        layer,
        weight,
        dtype: value.dtype.name().to_owned(),
        elements: difference.elements,
        overflows: difference.overflows,
        nans: difference.nans + difference.shared_nans,
        largest: difference.largest,
        in_f32,
    }
}

/// True if it is the name of a parameter: converters name their own constants after the value that takes them.
fn is_weight(name: &str) -> bool {
    (name.contains("_weight") || name.ends_with("_bias") || name.contains("_bias_to_"))
        && !name.starts_with("var_")
}

fn layer(weight: &str) -> Option<u32> {
    LAYER.captures(weight)?.get(1)?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_from_names_of_weights() {
        for (name, weight, number) in [
            ("model_layers_12_self_attn_q_proj_weight_to_fp16", true, Some(12)),
            ("transformer_h_3_mlp_c_fc_bias_to_fp16", true, Some(3)),
            ("bert_encoder_layer_0_output_dense_weight", true, Some(0)),
            ("lm_head_weight_to_fp16", true, None),
            ("var_111_bias_0_to_fp16", false, None),
            ("hidden_states_4", false, None),
        ] {
            assert_eq!((is_weight(name), layer(name)), (weight, number), "{name}");
        }
    }
}
