//! How far the weights are from their originals: layers against variants, and for each variant layers against weights.

use std::collections::BTreeSet;

use super::super::numbers::significant;
use super::super::{Report, Variant};
use super::node::{Node, el};
use super::parts::{details, note, row, scroll, to_variant};
use crate::manifest::TensorError;

/// Upper ends of the steps of colour, doubling; the same in every report, so that reports can be held side by side.
const STEPS: [f64; 8] = [0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64];

/// The maps of those variants that say what their weights lost.
pub(super) fn section(report: &Report) -> Option<Node> {
    let known = |v: &Variant| v.tensors.iter().any(|t| t.relative_error.is_some());
    let places: Vec<usize> =
        (0..report.variants.len()).filter(|&place| known(&report.variants[place])).collect();
    if places.is_empty() {
        return None;
    }
    let about = note(
        "The relative error of a weight is the root of its squared error over the root of its squared values: 0 is \
         lossless. Weights are not equally important, so a strong colour says where to look, not what to blame.",
    );
    let maps = places.iter().map(|&place| {
        let variant = &report.variants[place];
        let worst =
            worst(variant).map(|(name, error)| format!("worst: {name}, {} %", cell_text(error)));
        let summary =
            el("span").add(variant.name.as_str()).all(worst.map(|worst| el("small").add(worst)));
        details(summary).add(scroll("Errors by weight", by_weight(variant)))
    });
    Some(
        el("div")
            .add(about)
            .add(legend())
            .add(scroll("Errors by layer", by_layer(report, &places)))
            .add(el("div").class("folded").add(el("h3").add("Weight by weight")).all(maps)),
    )
}

/// The steps of colour.
fn legend() -> Node {
    let step = |i: usize| match i {
        0 => "0".to_owned(),
        8 => format!("over {} %", STEPS[7] * 100.0),
        i => format!("up to {} %", STEPS[i] * 100.0),
    };
    let items = (0..=STEPS.len()).map(|i| el("li").class(format!("h{i}")).add(step(i)));
    el("ul").class("steps").at("aria-label", "Colours of relative errors").all(items)
}

/// Rows of variants, columns of layers: the error of all weights of a layer together.
fn by_layer(report: &Report, places: &[usize]) -> Node {
    let tensors = || places.iter().flat_map(|&place| &report.variants[place].tensors);
    let layers: BTreeSet<Option<u64>> = tensors().map(|t| t.layer).collect();
    // Weights outside the layers stand at the end.
    let numbered = layers.iter().copied().flatten().map(Some);
    let layers: Vec<Option<u64>> = numbered.chain(layers.get(&None).copied()).collect();
    let mut heads = vec![el("th").at("scope", "col").add("Variant")];
    heads.extend(layers.iter().map(|layer| {
        let title = layer.map_or_else(|| "others".to_owned(), |n| n.to_string());
        el("th").at("scope", "col").add(title)
    }));
    let rows = places.iter().map(|&place| {
        let cells = layers.iter().map(|layer| {
            let of = report.variants[place].tensors.iter().filter(|t| t.layer == *layer);
            cell(together(of), None)
        });
        row(to_variant(report, place), cells)
    });
    el("table")
        .class("heat")
        .add(
            el("caption").add(
                "Relative error by layer, in percent: all weights of a layer together, each by its elements.",
            ),
        )
        .add(el("thead").add(el("tr").all(heads)))
        .add(el("tbody").all(rows))
}

/// Rows of layers, columns of weights.
fn by_weight(variant: &Variant) -> Node {
    let mut roles: Vec<String> = Vec::new();
    let mut layers: BTreeSet<u64> = BTreeSet::new();
    for tensor in &variant.tensors {
        if let Some(layer) = tensor.layer {
            layers.insert(layer);
            let role = role(tensor);
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
    }
    let mut heads = vec![el("th").at("scope", "col").add("Layer")];
    heads.extend(roles.iter().map(|role| el("th").at("scope", "col").add(role.as_str())));
    let numbered = layers.iter().map(|&layer| {
        let cells = roles.iter().map(|name| {
            let of = |t: &&TensorError| t.layer == Some(layer) && role(t) == *name;
            let found: Vec<_> = variant.tensors.iter().filter(of).collect();
            let said = found.first().map(|t| said(t));
            cell(together(found.iter().copied()), said)
        });
        row(format!("layer {layer}"), cells)
    });
    let others = variant.tensors.iter().filter(|t| t.layer.is_none()).map(|tensor| {
        let one = [cell(tensor.relative_error, Some(said(tensor)))];
        // The name fills the row's heading; the remaining columns are of layers.
        let rest = (1..roles.len()).map(|_| el("td").class("none"));
        row(tensor.name.as_str(), one).all(rest)
    });
    let rows: Vec<Node> = numbered.chain(others).collect();
    if roles.is_empty() {
        heads.push(el("th").at("scope", "col").add("error"));
    }
    el("table")
        .class("heat")
        .add(el("caption").add("Relative error by weight, in percent."))
        .add(el("thead").add(el("tr").all(heads)))
        .add(el("tbody").all(rows))
}

/// What a weight is in its layer: its name without the layer's number and what stands before it.
fn role(tensor: &TensorError) -> String {
    let number = tensor.layer.map(|n| n.to_string()).unwrap_or_default();
    let words: Vec<&str> = tensor.name.split(['.', '_', '/']).collect();
    let after = words.iter().position(|word| *word == number).map_or(0, |at| at + 1);
    let role = words[after..].join("_");
    let short = role.strip_suffix("_weight").unwrap_or(&role);
    if short.is_empty() { tensor.name.clone() } else { short.to_owned() }
}

/// The error of several weights as if they were one of the same mean square: by their number of elements.
fn together<'a>(tensors: impl Iterator<Item = &'a TensorError>) -> Option<f64> {
    let (mut sum, mut n) = (0.0, 0.0);
    for tensor in tensors {
        if let Some(error) = tensor.relative_error {
            sum += error * error * tensor.elements as f64;
            n += tensor.elements as f64;
        }
    }
    (n > 0.0).then(|| (sum / n).sqrt())
}

fn worst(variant: &Variant) -> Option<(&str, f64)> {
    let known = variant.tensors.iter().filter_map(|t| Some((t.name.as_str(), t.relative_error?)));
    known.max_by(|a, b| a.1.total_cmp(&b.1))
}

fn said(tensor: &TensorError) -> String {
    let bits = significant(tensor.bits_per_weight, 3);
    format!("{}: {}, {bits} bits per weight", tensor.name, tensor.form)
}

/// A cell coloured by its step, with its number and, where a pointer rests, `title`.
fn cell(error: Option<f64>, title: Option<String>) -> Node {
    let Some(error) = error.filter(|e| e.is_finite()) else {
        return el("td").class("none").add("–");
    };
    let step = STEPS.iter().position(|end| error <= *end).unwrap_or(STEPS.len());
    let cell = el("td").class(format!("h{step}"));
    let cell = match title {
        Some(title) => cell.at("title", title),
        None => cell,
    };
    cell.add(cell_text(error))
}

fn cell_text(error: f64) -> String {
    let percent = error * 100.0;
    if percent == 0.0 {
        "0".to_owned()
    } else if percent < 0.01 {
        "<0.01".to_owned()
    } else if percent < 10.0 {
        format!("{percent:.2}")
    } else {
        format!("{percent:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, elements: u64, error: f64) -> TensorError {
        TensorError {
            name: name.to_owned(),
            layer: crate::manifest::layer_of(name),
            elements,
            relative_error: Some(error),
            ..TensorError::default()
        }
    }

    #[test]
    fn roles_are_what_differs_within_a_layer() {
        for (name, want) in [
            ("model.layers.12.self_attn.q_proj.weight", "self_attn_q_proj"),
            ("model_model_layers_3_up_weight", "up"),
            ("lm_head.weight", "lm_head"),
            ("layers_0", "layers_0"),
        ] {
            assert_eq!(role(&tensor(name, 1, 0.0)), want);
        }
    }

    #[test]
    fn errors_are_joined_by_elements() {
        let weights = [tensor("a", 300, 0.1), tensor("b", 100, 0.3)];
        // √((300·0.01 + 100·0.09) / 400) = √0.03.
        assert!((together(weights.iter()).unwrap() - 0.03f64.sqrt()).abs() < 1e-12);
        assert_eq!(together([].iter()), None);
    }

    #[test]
    fn steps_are_powers_of_two() {
        for (error, class) in
            [(0.0, "h0"), (1e-9, "h1"), (0.01, "h1"), (0.0101, "h2"), (0.5, "h7"), (3.0, "h8")]
        {
            let text = cell(Some(error), None).render();
            assert!(text.starts_with(&format!("<td class=\"{class}\">")), "{error}: {text}");
        }
        assert!(cell(Some(f64::NAN), None).render().contains("none"));
    }
}
