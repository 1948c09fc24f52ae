//! The model file: description and program, to and from its protobuf bytes.

use prost::Message as _;

use super::PackageError;
use crate::mil::{self, Program};
use crate::proto;
use crate::proto::model::{FunctionDescription, ModelDescription};

/// More fields than this, in all messages of a model file, are refused: each takes up to some hundred bytes of memory.
///
/// An operation has about 50, and the largest programs seen have some ten thousand operations.
const MAX_FIELDS: usize = 1 << 23;

/// An ML program with what it says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Core ML's specification version: 6 for iOS15, 7 for iOS16, 8 for iOS17, 9 for iOS18.
    pub specification_version: i32,
    /// Inputs, outputs and states as applications see them, and the metadata.
    pub description: ModelDescription,
    /// The program.
    pub program: Program,
}

impl Model {
    /// Reads a model file's bytes; anything but an ML program is refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PackageError> {
        if proto::weigh::has_more_than(MAX_FIELDS, bytes) {
            return Err(PackageError::Dense { most: MAX_FIELDS });
        }
        let message = proto::Model::decode(bytes)?;
        let program = message.ml_program.ok_or(PackageError::NotProgram)?;
        let program = mil::read::program(program)?;
        mil::verify::program(&program)?;
        Ok(Self {
            specification_version: message.specification_version,
            description: message.description.unwrap_or_default(),
            program,
        })
    }

    /// The model file's bytes, the same for the same model.
    pub fn to_bytes(&self) -> Vec<u8> {
        proto::Model {
            specification_version: self.specification_version,
            description: Some(self.description.clone()),
            is_updatable: false,
            ml_program: Some(mil::write::program(&self.program)),
        }
        .encode_to_vec()
    }

    /// What `function` takes and gives, as applications see it.
    ///
    /// A model with a single function describes it in the description itself.
    pub fn describe(&self, function: &str) -> Option<FunctionDescription> {
        let description = &self.description;
        if let Some(found) = description.functions.iter().find(|f| f.name == function) {
            return Some(found.clone());
        }
        let functions = &self.program.functions;
        let alone = description.functions.is_empty()
            && functions.len() == 1
            && functions.contains_key(function);
        alone.then(|| FunctionDescription {
            name: function.to_owned(),
            input: description.input.clone(),
            output: description.output.clone(),
            state: description.state.clone(),
            predicted_feature_name: description.predicted_feature_name.clone(),
            predicted_probabilities_name: description.predicted_probabilities_name.clone(),
        })
    }
}
