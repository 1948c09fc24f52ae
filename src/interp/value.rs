//! `Value`: what a result can be besides a tensor, as lists and the outputs of classifiers are.

use std::fmt;
use std::sync::Arc;

use super::list::List;
use super::tensor::Tensor;

/// A result or an argument: nearly always a tensor.
#[derive(Debug, Clone)]
pub enum Value {
    /// A tensor.
    Tensor(Tensor),
    /// A list of tensors of one type and shape; no function takes or gives one.
    List(List),
    /// The class that a classifier chose.
    Label(Label),
    /// The probability of each class of a classifier.
    Dictionary(Dictionary),
}

/// One class of a classifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Label {
    /// A name.
    Text(String),
    /// A number.
    Int(i64),
}

/// The classes of a classifier in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// Names.
    Texts(Arc<[String]>),
    /// Numbers.
    Ints(Arc<[i64]>),
}

/// Values by class, in the order of the classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Dictionary {
    /// The classes.
    pub keys: Labels,
    /// One value for each class.
    pub values: Vec<f64>,
}

impl Value {
    /// The tensor, where the value is one.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        if let Self::Tensor(tensor) = self { Some(tensor) } else { None }
    }

    /// The value as it leaves a function: Core ML's arrays have a dimension at least, so a scalar becomes one of one element.
    #[must_use]
    pub fn leaving(self) -> Self {
        match self {
            Self::Tensor(tensor) if tensor.rank() == 0 => Self::Tensor(tensor.reshaped(vec![1])),
            other => other,
        }
    }

    /// Type and shape in the program's words.
    pub fn describe(&self) -> String {
        match self {
            Self::Tensor(tensor) => tensor.describe(),
            Self::List(list) => list.describe(),
            Self::Label(Label::Text(_)) => "string[]".to_owned(),
            Self::Label(Label::Int(_)) => "int64[]".to_owned(),
            Self::Dictionary(dictionary) => {
                let key =
                    if matches!(dictionary.keys, Labels::Texts(_)) { "string" } else { "int64" };
                format!("dict<{key}, fp64> of {}", dictionary.values.len())
            }
        }
    }
}

impl Dictionary {
    /// The classes with their values.
    pub fn iter(&self) -> impl Iterator<Item = (Label, f64)> {
        self.values.iter().enumerate().filter_map(|(i, &v)| Some((self.keys.get(i)?, v)))
    }

    /// The `n` classes of the greatest values, greatest first.
    pub fn greatest(&self, n: usize) -> Vec<(Label, f64)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(n);
        all
    }
}

impl From<Tensor> for Value {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl Labels {
    /// The number of classes.
    pub fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Ints(ints) => ints.len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class at a place.
    pub fn get(&self, at: usize) -> Option<Label> {
        match self {
            Self::Texts(texts) => texts.get(at).cloned().map(Label::Text),
            Self::Ints(ints) => ints.get(at).copied().map(Label::Int),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Int(n) => write!(f, "{n}"),
        }
    }
}
