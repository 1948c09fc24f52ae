//! `Conversation`: messages, tools and variables, as transformers hands them to a template.

use std::collections::BTreeMap;

use minijinja::Value;
use minijinja::value::ValueKind;

use super::ChatError;

/// Input of a chat template.
#[derive(Debug, Clone)]
pub struct Conversation {
    messages: Vec<Value>,
    tools: Option<Value>,
    variables: BTreeMap<String, Value>,
}

/// Names under which a message's reasoning is passed; templates read the first.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

impl Conversation {
    /// One message of the user.
    pub fn user(text: &str) -> Self {
        let messages = vec![message("user", text)];
        Self { messages, tools: None, variables: BTreeMap::new() }
    }

    /// Reads a JSON list of messages, or an object with `messages` and perhaps `tools` and other variables.
    pub fn parse(text: &str) -> Result<Self, ChatError> {
        let wrong = |what: String| ChatError::Messages { what };
        let value: Value =
            serde_json::from_str(text).map_err(|e| wrong(format!("messages are not JSON: {e}")))?;
        let mut given = Self { messages: Vec::new(), tools: None, variables: BTreeMap::new() };
        let list = match value.kind() {
            ValueKind::Seq => value,
            ValueKind::Map => {
                let mut list = None;
                for (key, one) in entries(&value) {
                    match key.as_str() {
                        "messages" => list = Some(one),
                        "tools" if !one.is_none() => given.tools = Some(one),
                        "tools" => {}
                        _ => drop(given.variables.insert(key, one)),
                    }
                }
                list.ok_or_else(|| wrong("the object has no `messages`".to_owned()))?
            }
            kind => return Err(wrong(format!("messages are a list, not a {kind}"))),
        };
        let messages = list.try_iter().map_err(|e| wrong(format!("`messages`: {e}")))?;
        for (index, one) in messages.enumerate() {
            if one.kind() != ValueKind::Map {
                return Err(wrong(format!("message {index} is a {}, not an object", one.kind())));
            }
            given.messages.push(normalized(&one));
        }
        if given.messages.is_empty() {
            return Err(wrong("there is no message".to_owned()));
        }
        Ok(given)
    }

    /// True if a text is meant as messages: a JSON list of objects with `role`, or an object with `messages`.
    pub fn looks_like_messages(text: &str) -> bool {
        match serde_json::from_str::<serde_json::Value>(text) {
            Ok(serde_json::Value::Array(list)) => {
                !list.is_empty() && list.iter().all(|one| one.get("role").is_some())
            }
            Ok(value) => value.get("messages").is_some_and(serde_json::Value::is_array),
            Err(_) => false,
        }
    }

    /// The same with a message of the system before all others.
    pub fn with_system(mut self, text: &str) -> Result<Self, ChatError> {
        let role = |message: &Value| message.get_attr("role").unwrap_or_default();
        if self.messages.first().is_some_and(|first| role(first).as_str() == Some("system")) {
            return Err(ChatError::Messages {
                what: "the messages begin with one of the system already".to_owned(),
            });
        }
        self.messages.insert(0, message("system", text));
        Ok(self)
    }

    /// Sets a variable of the template, such as `enable_thinking`; a value that is not JSON is a text.
    pub fn set(&mut self, name: &str, value: &str) {
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        if name == "tools" {
            self.tools = Some(value);
        } else {
            self.variables.insert(name.to_owned(), value);
        }
    }

    /// True if there are tools.
    pub(super) fn has_tools(&self) -> bool {
        self.tools.is_some()
    }

    /// Everything that a template sees.
    pub(super) fn context(&self, tokens: &BTreeMap<String, String>) -> Value {
        let mut context: BTreeMap<String, Value> =
            tokens.iter().map(|(name, text)| (name.clone(), Value::from(text))).collect();
        context.insert("messages".to_owned(), Value::from(self.messages.clone()));
        context.insert("tools".to_owned(), self.tools.clone().unwrap_or(Value::from(())));
        context.insert("documents".to_owned(), Value::from(()));
        context.insert("add_generation_prompt".to_owned(), Value::from(true));
        context.extend(self.variables.clone());
        Value::from(context)
    }
}

fn message(role: &str, content: &str) -> Value {
    Value::from_pairs([("role", role), ("content", content)])
}

/// The message without its empty keys, its reasoning under the names that templates read.
fn normalized(message: &Value) -> Value {
    let mut kept: Vec<(String, Value)> =
        entries(message).into_iter().filter(|(_, value)| !value.is_none()).collect();
    let get = |name: &str, kept: &[(String, Value)]| {
        kept.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    };
    if let Some(reasoning) = REASONING.iter().find_map(|name| get(name, &kept)) {
        if get("thinking", &kept).is_none() {
            kept.insert(0, ("thinking".to_owned(), reasoning.clone()));
        }
        kept.retain(|(key, _)| key != REASONING[0]);
        kept.push((REASONING[0].to_owned(), reasoning));
    }
    Value::from_pairs(kept)
}

/// Keys and values of a map, in its order.
fn entries(map: &Value) -> Vec<(String, Value)> {
    let keys = map.try_iter().into_iter().flatten();
    keys.map(|key| {
        let value = map.get_item(&key).unwrap_or_default();
        (key.to_string(), value)
    })
    .collect()
}
