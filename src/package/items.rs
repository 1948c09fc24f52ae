//! `Manifest.json`: the items of a package and which of them is the model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::digest;

/// How a program names the blob file that this crate writes.
pub const WEIGHT_FILE: &str = "@model_path/weights/weight.bin";

pub(super) const MANIFEST: &str = "Manifest.json";
pub(super) const DATA: &str = "Data";
pub(super) const AUTHOR: &str = "com.apple.CoreML";
pub(super) const MODEL: &str = "model.mlmodel";
pub(super) const WEIGHTS: &str = "weights";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Items {
    pub(super) file_format_version: String,
    pub(super) item_info_entries: BTreeMap<String, Item>,
    pub(super) root_model_identifier: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) author: String,
    #[serde(default)]
    pub(super) description: String,
    pub(super) name: String,
    pub(super) path: String,
}

impl Items {
    /// The items of a package with a model, and with weights if there are any.
    ///
    /// Identifiers follow from the paths, so that the same package has the same bytes; Core ML asks only that they
    /// differ within one package.
    pub(super) fn standard(weights: bool) -> Self {
        let item = |name: &str, description: &str| {
            let path = format!("{AUTHOR}/{name}");
            let item = Item {
                author: AUTHOR.to_owned(),
                description: description.to_owned(),
                name: name.to_owned(),
                path: path.clone(),
            };
            (identifier(&path), item)
        };
        let model = item(MODEL, "CoreML Model Specification");
        let root_model_identifier = model.0.clone();
        let mut item_info_entries = BTreeMap::from([model]);
        if weights {
            item_info_entries.extend([item(WEIGHTS, "CoreML Model Weights")]);
        }
        Self { file_format_version: "1.0.0".to_owned(), item_info_entries, root_model_identifier }
    }
}

/// A UUID of version 8 (RFC 9562: content by the maker's own rule) from the SHA-256 of `path`.
fn identifier(path: &str) -> String {
    let hex = digest::of_bytes(path.as_bytes());
    let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32]);
    format!("{a}-{b}-8{c}-8{d}-{e}")
}
