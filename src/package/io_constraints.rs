//! The edge: what a model's description says of inputs and outputs that its program does not.
//!
//! The program takes and gives tensors. The description says which of them are images, which shapes a flexible input
//! may have, what stands in for an input that may be left out, and which outputs are a classifier's.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use super::Model;
use crate::base::error::Hint;
use crate::mil::{Allowed, Dim, Fill, Rule, Rules, TensorType};
use crate::proto::feature::{
    ArrayDataType, ArrayFeatureType, DefaultOptionalValue, DictionaryKey, FeatureDescription,
    FeatureKind, ImageFeatureType, ImageSizeFlexibility, ShapeFlexibility, SizeRange,
};

/// A description that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("description of `{function}`: `{feature}` {what}")]
pub struct DescriptionError {
    /// The function.
    pub function: String,
    /// The input or output.
    pub feature: String,
    /// Description of the problem.
    pub what: String,
}

impl Hint for DescriptionError {
    fn hint(&self) -> Option<String> {
        None
    }
}

/// An input or output as applications see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// The name.
    pub name: String,
    /// What it is: `RGB image`, `float32 array`, `string`.
    pub kind: String,
    /// Constraints of an input beside its type.
    pub rule: Rule,
    /// True if the program's own types say less than this.
    pub notable: bool,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.kind)?;
        if let Some(allowed) = &self.rule.allowed {
            write!(f, " of shape {allowed}")?;
        }
        match &self.rule.default {
            Some(fill) => write!(f, ", {} where it is not given", fill.value),
            None => Ok(()),
        }
    }
}

impl Model {
    /// Input constraints of each function.
    pub fn rules(&self) -> Result<Rules, DescriptionError> {
        let mut rules = Rules::new();
        for name in self.program.functions.keys() {
            let inputs = self.features(name)?.0;
            let of: BTreeMap<_, _> = inputs.into_iter().map(|f| (f.name, f.rule)).collect();
            rules.insert(name.clone(), of);
        }
        Ok(rules)
    }

    /// The inputs and outputs of a function as applications see them.
    pub fn features(
        &self,
        function: &str,
    ) -> Result<(Vec<Feature>, Vec<Feature>), DescriptionError> {
        let Some(description) = self.describe(function) else { return Ok((vec![], vec![])) };
        let declared = self.program.functions.get(function).map_or(&[][..], |f| &f.inputs);
        let read = |d: &FeatureDescription| {
            let ty = declared.iter().find(|i| i.name == d.name).and_then(|i| i.ty.as_tensor());
            feature(d, ty).map_err(|what| DescriptionError {
                function: function.to_owned(),
                feature: d.name.clone(),
                what,
            })
        };
        let inputs = description.input.iter().map(read).collect::<Result<_, _>>()?;
        let outputs = description.output.iter().map(read).collect::<Result<_, _>>()?;
        Ok((inputs, outputs))
    }
}

fn feature(of: &FeatureDescription, declared: Option<&TensorType>) -> Result<Feature, String> {
    let ty = of.r#type.as_ref();
    let optional = ty.is_some_and(|t| t.is_optional);
    let mut rule = Rule::default();
    let mut notable = true;
    let kind = match ty.and_then(|t| t.r#type.as_ref()) {
        Some(FeatureKind::MultiArray(array)) => {
            rule.allowed = array.shape_flexibility.as_ref().map(allowed_shapes).transpose()?;
            if optional {
                rule.default = Some(default(array, declared)?);
            }
            notable = rule != Rule::default();
            array_kind(array.data_type)
        }
        Some(FeatureKind::Image(image)) => {
            let sizes = image.size_flexibility.as_ref();
            let allowed = sizes.map(|sizes| allowed_sizes(sizes, declared)).transpose()?;
            rule.allowed = allowed.flatten();
            image_kind(image)
        }
        Some(FeatureKind::Int64(_)) => "int64".to_owned(),
        Some(FeatureKind::Double(_)) => "double".to_owned(),
        Some(FeatureKind::String(_)) => "string".to_owned(),
        Some(FeatureKind::Dictionary(dictionary)) => match dictionary.key_type {
            Some(DictionaryKey::Int64(_)) => "dictionary of int64 to double".to_owned(),
            _ => "dictionary of string to double".to_owned(),
        },
        Some(FeatureKind::Sequence(_)) => "sequence".to_owned(),
        Some(FeatureKind::State(_)) => "state".to_owned(),
        None => return Err("has no type".to_owned()),
    };
    Ok(Feature { name: of.name.clone(), kind, rule, notable })
}

fn allowed_shapes(flexibility: &ShapeFlexibility) -> Result<Allowed, String> {
    Ok(match flexibility {
        ShapeFlexibility::EnumeratedShapes(shapes) => {
            if shapes.shapes.is_empty() {
                return Err("enumerates no shapes".to_owned());
            }
            Allowed::Enumerated(
                shapes.shapes.iter().map(|s| shape(&s.shape)).collect::<Result<_, _>>()?,
            )
        }
        ShapeFlexibility::ShapeRange(ranges) => {
            Allowed::Range(ranges.size_ranges.iter().map(range).collect::<Result<_, _>>()?)
        }
    })
}

/// Sizes of an image as shapes of the program's tensor, whose last dimensions are height and width.
fn allowed_sizes(
    flexibility: &ImageSizeFlexibility,
    declared: Option<&TensorType>,
) -> Result<Option<Allowed>, String> {
    // An output's shape follows from the inputs'.
    let Some([leading @ .., _, _]) = declared.map(|t| t.shape.as_slice()) else { return Ok(None) };
    let fixed = |dim: &Dim| match dim {
        Dim::Fixed(n) => usize::try_from(*n).map_err(|_| format!("has an extent of {n}")),
        // Images come one at a time.
        Dim::Unknown { .. } => Ok(1),
    };
    let leading = leading.iter().map(fixed).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(match flexibility {
        ImageSizeFlexibility::EnumeratedSizes(sizes) => {
            if sizes.sizes.is_empty() {
                return Err("enumerates no sizes".to_owned());
            }
            let one = |size: &crate::proto::feature::ImageSize| {
                let mut shape = leading.clone();
                for n in [size.height, size.width] {
                    shape.push(usize::try_from(n).map_err(|_| format!("has an extent of {n}"))?);
                }
                Ok::<_, String>(shape)
            };
            Allowed::Enumerated(sizes.sizes.iter().map(one).collect::<Result<_, _>>()?)
        }
        ImageSizeFlexibility::ImageSizeRange(sizes) => {
            let mut dims: Vec<_> = leading.into_iter().map(|n| (n, Some(n))).collect();
            for side in [&sizes.height_range, &sizes.width_range] {
                dims.push(side.as_ref().map_or(Ok((1, None)), range)?);
            }
            Allowed::Range(dims)
        }
    }))
}

fn range(of: &SizeRange) -> Result<(usize, Option<usize>), String> {
    let (least, most) = (of.lower_bound, of.upper_bound);
    let wrong = || format!("has a range from {least} to {most}");
    let low = usize::try_from(least).map_err(|_| wrong())?;
    // A negative upper bound stands for none.
    let high = usize::try_from(most).ok();
    if high.is_some_and(|high| high < low) { Err(wrong()) } else { Ok((low, high)) }
}

fn shape(of: &[i64]) -> Result<Vec<usize>, String> {
    let extent = |&n: &i64| usize::try_from(n).map_err(|_| format!("has a shape of {of:?}"));
    of.iter().map(extent).collect()
}

fn default(array: &ArrayFeatureType, declared: Option<&TensorType>) -> Result<Fill, String> {
    let value = match array.default_optional_value {
        Some(DefaultOptionalValue::Int(n)) => f64::from(n),
        Some(DefaultOptionalValue::Float(x)) => f64::from(x),
        Some(DefaultOptionalValue::Double(x)) => x,
        None => 0.0,
    };
    let fixed = || {
        let dims = declared.and_then(TensorType::fixed_shape).unwrap_or_default();
        dims.into_iter().map(|n| i64::try_from(n).unwrap_or(-1)).collect()
    };
    let dims = if array.shape.is_empty() { fixed() } else { array.shape.clone() };
    Ok(Fill { shape: shape(&dims)?, value })
}

fn array_kind(code: i32) -> String {
    let name = match ArrayDataType::try_from(code) {
        Ok(ArrayDataType::Float16) => "float16",
        Ok(ArrayDataType::Float32) => "float32",
        Ok(ArrayDataType::Double) => "double",
        Ok(ArrayDataType::Int8) => "int8",
        Ok(ArrayDataType::Int32) => "int32",
        Ok(ArrayDataType::InvalidArrayDataType) | Err(_) => "untyped",
    };
    format!("{name} array")
}

fn image_kind(image: &ImageFeatureType) -> String {
    let color = match image.color_space {
        10 => "grayscale",
        20 => "RGB",
        30 => "BGR",
        40 => "float16 grayscale",
        _ => "colorless",
    };
    format!("{color} image")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mil::DType;
    use crate::proto::feature::{
        EnumeratedImageSizes, EnumeratedShapes, FeatureType, ImageSize, ImageSizeRange, Shape,
        ShapeRange,
    };

    fn array(flexibility: Option<ShapeFlexibility>) -> ArrayFeatureType {
        ArrayFeatureType {
            shape: vec![2, 3],
            data_type: 65568,
            shape_flexibility: flexibility,
            default_optional_value: None,
        }
    }

    fn image(flexibility: ImageSizeFlexibility) -> FeatureKind {
        FeatureKind::Image(ImageFeatureType {
            width: 8,
            height: 6,
            color_space: 30,
            size_flexibility: Some(flexibility),
        })
    }

    fn side(lower_bound: u64, upper_bound: i64) -> SizeRange {
        SizeRange { lower_bound, upper_bound }
    }

    #[test]
    fn features_in_words() {
        let shapes = |all: &[&[i64]]| {
            let shapes = all.iter().map(|s| Shape { shape: s.to_vec() }).collect();
            Some(ShapeFlexibility::EnumeratedShapes(EnumeratedShapes { shapes }))
        };
        let ranges = |size_ranges: Vec<SizeRange>| {
            Some(ShapeFlexibility::ShapeRange(ShapeRange { size_ranges }))
        };
        let arrays = |flexibility| FeatureKind::MultiArray(array(flexibility));
        let filled = FeatureKind::MultiArray(ArrayFeatureType {
            default_optional_value: Some(DefaultOptionalValue::Float(0.5)),
            ..array(None)
        });
        let sizes = |all: &[(u64, u64)]| {
            let sizes = all.iter().map(|&(width, height)| ImageSize { width, height }).collect();
            ImageSizeFlexibility::EnumeratedSizes(EnumeratedImageSizes { sizes })
        };
        let sides = ImageSizeFlexibility::ImageSizeRange(ImageSizeRange {
            width_range: Some(side(4, -1)),
            height_range: Some(side(2, 9)),
        });
        let empty = crate::proto::feature::Empty {};
        let cases = [
            (arrays(None), false, "x: float32 array"),
            (
                arrays(shapes(&[&[2, 3], &[4, 3]])),
                false,
                "x: float32 array of shape [2, 3] or [4, 3]",
            ),
            (
                arrays(ranges(vec![side(1, 4), side(3, 3)])),
                false,
                "x: float32 array of shape [1..=4, 3]",
            ),
            (
                arrays(ranges(vec![side(1, -1)])),
                true,
                "x: float32 array of shape [1..], 0 where it is not given",
            ),
            (filled, true, "x: float32 array, 0.5 where it is not given"),
            (
                image(sizes(&[(8, 6), (6, 8)])),
                false,
                "x: BGR image of shape [1, 3, 6, 8] or [1, 3, 8, 6]",
            ),
            (image(sides), false, "x: BGR image of shape [1, 3, 2..=9, 4..]"),
            (FeatureKind::Int64(empty), false, "x: int64"),
            (arrays(shapes(&[])), false, "enumerates no shapes"),
            (arrays(shapes(&[&[-1]])), false, "has a shape of [-1]"),
            (arrays(ranges(vec![side(4, 1)])), false, "has a range from 4 to 1"),
            (image(sizes(&[])), false, "enumerates no sizes"),
        ];
        let declared = TensorType {
            shape: vec![
                Dim::Fixed(1),
                Dim::Fixed(3),
                Dim::Unknown { variadic: false },
                Dim::Unknown { variadic: false },
            ],
            ..TensorType::fixed(DType::F32, &[])
        };
        for (kind, is_optional, want) in cases {
            let description = FeatureDescription {
                name: "x".to_owned(),
                short_description: String::new(),
                r#type: Some(FeatureType { r#type: Some(kind), is_optional }),
            };
            let got = feature(&description, Some(&declared));
            assert_eq!(got.map_or_else(|what| what, |f| f.to_string()), want);
        }
    }
}
