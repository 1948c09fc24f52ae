//! Recipes: which scheme for which weights, as one string.
//!
//! A recipe is a list of rules divided by commas. `pal4-g16` alone is the rule for all weights; `attention=pal6-g16`
//! is one for a component; `/k_proj/=int8-c` is one for the weights whose name a regular expression finds. A rule by
//! name beats one for a component, which beats the rule for all; weights that no rule matches stay as they are.

use std::fmt;
use std::str::FromStr;

use regex::Regex;
use thiserror::Error;

use crate::base::error::Hint;
use crate::quant::{self, Scheme};

/// A part of the model, told from the names of its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// Query, key, value and output projections.
    Attention,
    /// The feed-forward layers.
    Mlp,
    /// Token and position embeddings; a tied head is this matrix too.
    Embedding,
    /// The output head.
    Head,
    /// Low-rank factors of an adapter.
    Adapter,
    /// Everything else.
    Other,
    /// A table of angles, which is no weight.
    Table,
}

/// One line per component: name in recipes, and what in a weight's name tells it. The first that fits counts.
const COMPONENTS: &[(Component, &str, &[&str])] = &[
    (Component::Table, "table", &["rotary"]),
    (Component::Adapter, "adapter", &["lora_"]),
    (Component::Head, "head", &["lm_head"]),
    (Component::Embedding, "embedding", &["embed", "wte", "wpe"]),
    (
        Component::Mlp,
        "mlp",
        &["mlp", "feed_forward", "intermediate", "layer_0_output", "output_dense", "ffn"],
    ),
    (Component::Attention, "attention", &["attn", "attention"]),
    (Component::Other, "other", &[""]),
];

impl Component {
    /// The component of the weight called `name`.
    pub fn of(name: &str) -> Self {
        if name.contains("attention_output") {
            return Self::Attention;
        }
        let fits =
            |(_, _, marks): &&(Self, &str, &[&str])| marks.iter().any(|mark| name.contains(mark));
        COMPONENTS.iter().find(fits).map_or(Self::Other, |line| line.0)
    }

    /// The name in recipes.
    pub fn name(self) -> &'static str {
        COMPONENTS.iter().find(|line| line.0 == self).map_or("other", |line| line.1)
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which weights a rule is about.
#[derive(Debug, Clone)]
pub enum Selector {
    /// All but adapters.
    All,
    /// One component.
    Component(Component),
    /// Weights whose name the expression finds.
    Name(Regex),
}

/// A parsed recipe.
#[derive(Debug, Clone)]
pub struct Recipe {
    rules: Vec<(Selector, Scheme)>,
}

/// Why a string is no recipe.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum RecipeError {
    /// Nothing there.
    #[error("recipe is empty")]
    Empty,
    /// A scheme that does not parse.
    #[error("recipe `{recipe}`: {error}")]
    Scheme {
        /// The whole recipe.
        recipe: String,
        /// Description of the problem.
        error: quant::Error,
    },
    /// A component that does not exist.
    #[error("recipe `{recipe}`: unknown component `{component}`")]
    Component {
        /// The whole recipe.
        recipe: String,
        /// The word found.
        component: String,
    },
    /// A regular expression that does not parse.
    #[error("recipe `{recipe}`: `{pattern}` is no regular expression")]
    Pattern {
        /// The whole recipe.
        recipe: String,
        /// The expression.
        pattern: String,
    },
    /// Two rules for the same weights.
    #[error("recipe `{recipe}` has two rules for `{selector}`")]
    Twice {
        /// The whole recipe.
        recipe: String,
        /// Common subject.
        selector: String,
    },
}

impl Hint for RecipeError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Scheme { error, .. } => error.hint(),
            Self::Component { .. } => {
                let shown = COMPONENTS.iter().filter(|l| l.0 != Component::Table).map(|l| l.1);
                Some(format!("components are {}", shown.collect::<Vec<_>>().join(", ")))
            }
            Self::Pattern { .. } => {
                Some("write a rule by name as `/EXPRESSION/=SCHEME`".to_owned())
            }
            _ => None,
        }
    }
}

impl Recipe {
    /// The scheme for a weight, or nothing when no rule matches it.
    pub fn scheme_for(&self, name: &str, component: Component) -> Option<Scheme> {
        let rank = |selector: &Selector| match selector {
            Selector::Name(regex) => regex.is_match(name).then_some(2),
            Selector::Component(c) => (*c == component).then_some(1),
            Selector::All => (component != Component::Adapter).then_some(0),
        };
        self.rules
            .iter()
            .filter_map(|(selector, scheme)| rank(selector).map(|r| (r, *scheme)))
            // Of two expressions that find the same weight the first counts.
            .rev()
            .max_by_key(|(r, _)| *r)
            .map(|(_, scheme)| scheme)
    }

    /// The first rule that finds none of `weights`, each given by name and component.
    pub fn unmatched_rule(&self, weights: &[(&str, Component)]) -> Option<&Selector> {
        self.rules.iter().map(|(selector, _)| selector).find(|selector| {
            !weights.iter().any(|(name, component)| match selector {
                Selector::Name(regex) => regex.is_match(name),
                Selector::Component(c) => c == component,
                Selector::All => true,
            })
        })
    }

    /// The rules in the order written.
    pub fn rules(&self) -> &[(Selector, Scheme)] {
        &self.rules
    }

    /// Returns the recipe `fp16`, which compresses nothing.
    pub fn plain() -> Self {
        "fp16".parse().expect("a valid recipe")
    }

    /// True if the recipe leaves every weight in fp16.
    pub fn is_plain(&self) -> bool {
        self.rules.iter().all(|(_, scheme)| *scheme == Scheme::FP16)
    }
}

impl FromStr for Recipe {
    type Err = RecipeError;

    fn from_str(text: &str) -> Result<Self, RecipeError> {
        let recipe = || text.to_owned();
        let mut rules: Vec<(Selector, Scheme)> = Vec::new();
        for part in split(text) {
            let (selector, scheme) = match part.rsplit_once('=') {
                None => (Selector::All, part),
                Some((left, right)) => (selector(text, left.trim())?, right),
            };
            let scheme = scheme
                .trim()
                .parse()
                .map_err(|error| RecipeError::Scheme { recipe: recipe(), error })?;
            let shown = selector.to_string();
            if rules.iter().any(|(known, _)| known.to_string() == shown) {
                return Err(RecipeError::Twice { recipe: recipe(), selector: shown });
            }
            rules.push((selector, scheme));
        }
        if rules.is_empty() { Err(RecipeError::Empty) } else { Ok(Self { rules }) }
    }
}

/// The parts between commas; a comma between slashes belongs to an expression.
fn split(text: &str) -> Vec<&str> {
    let mut inside = false;
    text.split(move |c: char| {
        inside ^= c == '/';
        c == ',' && !inside
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
    .collect()
}

fn selector(recipe: &str, text: &str) -> Result<Selector, RecipeError> {
    if let Some(pattern) = text.strip_prefix('/') {
        let error =
            || RecipeError::Pattern { recipe: recipe.to_owned(), pattern: pattern.to_owned() };
        let pattern = pattern.strip_suffix('/').ok_or_else(error)?;
        return Ok(Selector::Name(Regex::new(pattern).map_err(|_| error())?));
    }
    let named = COMPONENTS.iter().find(|line| line.1 == text && line.0 != Component::Table);
    named.map(|line| Selector::Component(line.0)).ok_or_else(|| RecipeError::Component {
        recipe: recipe.to_owned(),
        component: text.to_owned(),
    })
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Component(component) => component.fmt(f),
            Self::Name(regex) => write!(f, "/{regex}/"),
        }
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (selector, scheme)) in self.rules.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match selector {
                Selector::All => write!(f, "{comma}{scheme}")?,
                _ => write!(f, "{comma}{selector}={scheme}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_rule_counts() {
        let recipe: Recipe =
            "pal4-g16, attention=pal6-g16, /k_proj/=int8-c, embedding=fp16".parse().unwrap();
        let cases = [
            ("model_layers_0_mlp_up_proj_weight", Some("pal4-g16")),
            ("model_layers_0_self_attn_q_proj_weight", Some("pal6-g16")),
            ("model_layers_0_self_attn_k_proj_weight", Some("int8-c")),
            ("model_embed_tokens_weight", Some("fp16")),
            ("lm_head_weight", Some("pal4-g16")),
            ("encoder_layer_0_attention_output_dense_weight", Some("pal6-g16")),
            ("encoder_layer_0_output_dense_weight", Some("pal4-g16")),
            ("layers_0_self_attn_q_proj_lora_A", None),
        ];
        for (name, want) in cases {
            let got = recipe.scheme_for(name, Component::of(name)).map(|s| s.to_string());
            assert_eq!(got.as_deref(), want, "{name}");
        }
        assert_eq!(
            recipe.to_string(),
            "pal4-g16,attention=pal6-g16,/k_proj/=int8-c,embedding=fp16"
        );
    }

    #[test]
    fn wrong_recipes_are_named() {
        let cases = [
            ("", "recipe is empty"),
            ("atention=pal4-g16", "recipe `atention=pal4-g16`: unknown component `atention`"),
            ("/(/=pal4-g16", "recipe `/(/=pal4-g16`: `(/` is no regular expression"),
            ("pal4-g16,pal6-g16", "recipe `pal4-g16,pal6-g16` has two rules for `all`"),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Recipe>().unwrap_err().to_string(), want);
        }
        assert!("pal5-g16".parse::<Recipe>().is_err());
        assert!("/a,b/=pal4-g16,int8-c".parse::<Recipe>().is_ok());
    }
}
