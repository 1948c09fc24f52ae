//! `Targets`: the modules that PEFT adapts, by the rules of its `target_modules`.

use fancy_regex::Regex;
use serde::Deserialize;

/// One name or a list of names: a text alone is a pattern for whole names.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Names {
    /// A pattern.
    Pattern(String),
    /// Ends of names.
    List(Vec<String>),
}

/// One layer or several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Layers {
    /// One layer.
    One(usize),
    /// Several.
    Many(Vec<usize>),
}

/// The settings that say which modules have a low-rank pair.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub(super) struct Targets {
    target_modules: Option<Names>,
    exclude_modules: Option<Names>,
    modules_to_save: Option<Vec<String>>,
    layers_to_transform: Option<Layers>,
    layers_pattern: Option<Names>,
    target_parameters: Option<Vec<String>>,
}

/// PEFT's word for all linear layers but the head.
const ALL_LINEAR: &str = "all-linear";

impl Targets {
    /// Fails, with the pattern and the reason, if a pattern is none.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let whole = [&self.target_modules, &self.exclude_modules];
        let patterns = whole.into_iter().filter_map(|names| match names {
            Some(Names::Pattern(pattern)) => Some(pattern.as_str()),
            _ => None,
        });
        let saved = self.modules_to_save.iter().flatten().map(String::as_str);
        for pattern in patterns.chain(saved).chain(self.layer_patterns()) {
            Regex::new(pattern).map_err(|e| (pattern.to_owned(), e.to_string()))?;
        }
        Ok(())
    }

    /// True if PEFT adapts `module`; `None` where it goes by the architecture.
    pub(super) fn contains(&self, module: &str) -> Option<bool> {
        if self.is_excluded(module) {
            return Some(false);
        }
        if self.is_parameter(module) {
            return Some(true);
        }
        match self.target_modules.as_ref() {
            None => self.target_parameters.as_ref().map(|_| false),
            Some(Names::Pattern(word)) if word.to_lowercase() == ALL_LINEAR => {
                (module.ends_with("lm_head") || crate::source::names::is_embedding(module))
                    .then_some(false)
            }
            Some(Names::Pattern(pattern)) => Some(matches(&format!("^(?:{pattern})$"), module)),
            Some(Names::List(ends)) => {
                Some(ends.iter().any(|end| is_end(end, module)) && self.in_layers(module))
            }
        }
    }

    /// True if a list of names says which modules are adapted, so that one without a pair is one that is missing.
    pub(super) fn is_explicit(&self) -> bool {
        match &self.target_modules {
            Some(Names::Pattern(word)) => word.to_lowercase() != ALL_LINEAR,
            Some(Names::List(_)) => true,
            None => false,
        }
    }

    /// True if the pair of `module` belongs to the parameter `weight` itself, in the layout in which it is stored.
    pub(super) fn is_parameter(&self, module: &str) -> bool {
        let weight = format!("{module}.weight");
        self.target_parameters.iter().flatten().any(|end| is_end(end, &weight))
    }

    fn is_excluded(&self, module: &str) -> bool {
        let excluded = match &self.exclude_modules {
            Some(Names::Pattern(pattern)) => matches(&format!("^(?:{pattern})$"), module),
            Some(Names::List(ends)) => ends.iter().any(|end| is_end(end, module)),
            None => false,
        };
        let saved = |name: &String| matches(&format!(r"^(^|.*\.){name}($|\..*)"), module);
        excluded || self.modules_to_save.iter().flatten().any(saved)
    }

    /// True if the layer of `module` is one of `layers_to_transform`.
    fn in_layers(&self, module: &str) -> bool {
        let wanted: &[usize] = match &self.layers_to_transform {
            None => return true,
            Some(Layers::One(layer)) => std::slice::from_ref(layer),
            Some(Layers::Many(layers)) if layers.is_empty() => return true,
            Some(Layers::Many(layers)) => layers,
        };
        let patterns = self.layer_patterns();
        let number = |pattern: &str| {
            let found = Regex::new(pattern).ok()?.captures(module).ok()??;
            found.name("idx")?.as_str().parse::<usize>().ok()
        };
        let layer = if patterns.is_empty() {
            number(r"^.*?\.[^.]*\.(?P<idx>\d+)\.")
        } else {
            let of = |name: &&str| number(&format!(r"^(?:^|.*?\.){name}\.(?P<idx>\d+)\."));
            patterns.iter().find_map(of)
        };
        layer.is_some_and(|layer| wanted.contains(&layer))
    }

    fn layer_patterns(&self) -> Vec<&str> {
        match &self.layers_pattern {
            None => Vec::new(),
            Some(Names::Pattern(name)) if name.is_empty() => Vec::new(),
            Some(Names::Pattern(name)) => vec![name],
            Some(Names::List(names)) => names.iter().map(String::as_str).collect(),
        }
    }
}

/// True if `name` is `end` or ends with it after a dot.
fn is_end(end: &str, name: &str) -> bool {
    name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn matches(pattern: &str, name: &str) -> bool {
    Regex::new(pattern).is_ok_and(|regex| regex.is_match(name).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_as_peft_finds_them() {
        let q = |layer: usize| format!("model.layers.{layer}.self_attn.q_proj");
        let cases = [
            (r#"{"target_modules": ["q_proj"]}"#, q(0), Some(true)),
            (r#"{"target_modules": ["proj"]}"#, q(0), Some(false)),
            (r#"{"target_modules": ["self_attn.q_proj"]}"#, q(0), Some(true)),
            (r#"{"target_modules": "all-linear"}"#, q(0), None),
            (r#"{"target_modules": "all-linear"}"#, "lm_head".to_owned(), Some(false)),
            (r#"{"target_modules": null}"#, q(0), None),
            (r#"{"target_modules": ".*\\.q_proj"}"#, q(0), Some(true)),
            (r#"{"target_modules": "q_proj"}"#, q(0), Some(false)),
            (r#"{"target_modules": ".*layers\\.(?!1\\.).*proj"}"#, q(0), Some(true)),
            (r#"{"target_modules": ".*layers\\.(?!1\\.).*proj"}"#, q(1), Some(false)),
            (
                r#"{"target_modules": ["q_proj"], "exclude_modules": ["0.self_attn.q_proj"]}"#,
                q(0),
                Some(false),
            ),
            (
                r#"{"target_modules": ["q_proj"], "exclude_modules": ".*\\.1\\..*"}"#,
                q(1),
                Some(false),
            ),
            (
                r#"{"target_modules": ["q_proj"], "modules_to_save": ["self_attn"]}"#,
                q(0),
                Some(false),
            ),
            (r#"{"target_modules": ["q_proj"], "modules_to_save": ["attn"]}"#, q(0), Some(true)),
            (r#"{"target_modules": ["q_proj"], "layers_to_transform": 1}"#, q(0), Some(false)),
            (r#"{"target_modules": ["q_proj"], "layers_to_transform": [0, 1]}"#, q(1), Some(true)),
            (
                r#"{"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "layers"}"#,
                q(0),
                Some(true),
            ),
            (
                r#"{"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": ["h"]}"#,
                q(0),
                Some(false),
            ),
            (r#"{"target_parameters": ["q_proj.weight"]}"#, q(0), Some(true)),
            (r#"{"target_parameters": ["q_proj.weight"]}"#, "lm_head".to_owned(), Some(false)),
        ];
        for (text, module, want) in cases {
            let targets: Targets = serde_json::from_str(text).unwrap();
            targets.check().unwrap();
            assert_eq!(targets.contains(&module), want, "{text} {module}");
        }
        let targets: Targets = serde_json::from_str(r#"{"target_modules": "("}"#).unwrap();
        assert_eq!(targets.check().unwrap_err().0, "(");
    }
}
