//! `metadata.json` of a compiled model, of which little is needed: versions, texts, and which inputs are images.

#![deny(clippy::as_conversions, clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::proto::feature::{FeatureDescription, FeatureKind, FeatureType, ImageFeatureType};
use crate::proto::model::{self, ModelDescription};

/// What is read of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    pub(super) specification_version: Option<i32>,
    short_description: String,
    version: String,
    author: String,
    license: String,
    #[serde(rename = "userDefinedMetadata")]
    user_defined: BTreeMap<String, serde_json::Value>,
    input_schema: Vec<Feature>,
    output_schema: Vec<Feature>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Feature {
    name: String,
    r#type: String,
    width: String,
    height: String,
    colorspace: String,
}

/// Names of color spaces and their codes in `FeatureTypes.proto`.
const COLORS: &[(&str, i32)] =
    &[("GRAYSCALE", 10), ("RGB", 20), ("BGR", 30), ("GRAYSCALE_FLOAT16", 40)];

impl Metadata {
    /// The file is a list of one.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut all: Vec<Self> = serde_json::from_slice(bytes)?;
        Ok(if all.is_empty() { Self::default() } else { all.swap_remove(0) })
    }

    /// Adds what the program does not say.
    pub(super) fn complete(&self, description: &mut ModelDescription) {
        let text = |value: &serde_json::Value| {
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        };
        description.metadata = Some(model::Metadata {
            short_description: self.short_description.clone(),
            version_string: self.version.clone(),
            author: self.author.clone(),
            license: self.license.clone(),
            user_defined: self
                .user_defined
                .iter()
                .map(|(key, value)| (key.clone(), text(value)))
                .collect(),
        });
        images(&mut description.input, &self.input_schema);
        images(&mut description.output, &self.output_schema);
    }
}

fn images(described: &mut [FeatureDescription], stated: &[Feature]) {
    for feature in stated.iter().filter(|feature| feature.r#type == "Image") {
        let color = COLORS.iter().find(|(name, _)| feature.colorspace.eq_ignore_ascii_case(name));
        let (Ok(width), Ok(height), Some((_, color_space))) =
            (feature.width.parse(), feature.height.parse(), color)
        else {
            continue;
        };
        let image =
            ImageFeatureType { width, height, color_space: *color_space, size_flexibility: None };
        if let Some(port) = described.iter_mut().find(|port| port.name == feature.name) {
            let kind = Some(FeatureKind::Image(image));
            port.r#type = Some(FeatureType { r#type: kind, is_optional: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_versions_and_images_are_taken() {
        let text = r#"[{"specificationVersion": 8, "author": "me", "extra": [1],
            "userDefinedMetadata": {"k": "v", "n": 3},
            "inputSchema": [{"name": "x", "type": "Image", "width": "4", "height": "2", "colorspace": "BGR"}]}]"#;
        let metadata = Metadata::read(text.as_bytes()).unwrap();
        let input = FeatureDescription { name: "x".to_owned(), ..FeatureDescription::default() };
        let mut description =
            ModelDescription { input: vec![input], ..ModelDescription::default() };
        metadata.complete(&mut description);
        assert_eq!(metadata.specification_version, Some(8));
        let texts = description.metadata.unwrap();
        assert_eq!(texts.author, "me");
        assert_eq!(texts.user_defined.get("n").map(String::as_str), Some("3"));
        let image =
            ImageFeatureType { width: 4, height: 2, color_space: 30, size_flexibility: None };
        let kind = description.input.pop().unwrap().r#type.unwrap().r#type;
        assert_eq!(kind, Some(FeatureKind::Image(image)));
        assert_eq!(Metadata::read(b"[]").unwrap().specification_version, None);
        assert!(Metadata::read(b"{").is_err());
    }
}
