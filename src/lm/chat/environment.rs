//! The Jinja environment that transformers gives to chat templates.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use regex::Regex;

use super::{ChatError, Conversation, Now, json, methods};

/// transformers' own block, which marks what the assistant says; it only opens a scope.
static GENERATION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").expect("a valid expression")
});

/// Renders `template` for `conversation`; `tokens` are the texts of special tokens by role.
pub(super) fn render(
    template: &str,
    tokens: &BTreeMap<String, String>,
    conversation: &Conversation,
    now: Now,
) -> Result<String, ChatError> {
    let raised = Arc::new(Mutex::new(None));
    let environment = environment(&raised, now);
    let source = GENERATION.replace_all(template, "{%${1} ${2}with ${3}%}");
    let outcome = environment
        .template_from_str(&source)
        .and_then(|template| template.render(conversation.context(tokens)));
    outcome.map_err(|error| match raised.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(message) => ChatError::Raised { message },
        None => ChatError::Template { what: said(&error) },
    })
}

fn environment(raised: &Arc<Mutex<Option<String>>>, now: Now) -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the usual delimiters"));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(|out, state, value| {
        if value.kind() == ValueKind::Number && !value.is_integer() {
            let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
            return Ok(out.write_str(&json::float(number))?);
        }
        minijinja::escape_formatter(out, state, value)
    });
    environment.add_filter("tojson", tojson);
    // Other values than texts are printed first, as in Jinja.
    environment.add_filter("trim", |value: &Value| methods::strip(&value.to_string()).to_owned());
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map)
    });
    environment.add_test("iterable", |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::String
                | ValueKind::Seq
                | ValueKind::Map
                | ValueKind::Iterable
                | ValueKind::Undefined
        )
    });
    environment.add_test("number", |value: &Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
    });
    let place = Arc::clone(raised);
    environment.add_function("raise_exception", move |message: Value| -> Result<Value, Error> {
        let message = message.to_string();
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(message.clone());
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: &str| -> Result<String, Error> {
        now(format).ok_or_else(|| {
            let fact = format!("`{format}` is not a format of strftime");
            Error::new(ErrorKind::InvalidOperation, fact)
        })
    });
    environment
}

/// `tojson(value, ensure_ascii, indent, separators, sort_keys)`.
#[expect(clippy::needless_pass_by_value, reason = "a filter is handed its arguments")]
fn tojson(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let argument = |index: usize, name: &str| -> Result<Value, Error> {
        let given: Option<Value> = named.get(name)?;
        Ok(given.or_else(|| positional.get(index).cloned()).unwrap_or_default())
    };
    let form = json::Form::new(
        argument(0, "ensure_ascii")?.is_true(),
        &argument(1, "indent")?,
        &argument(2, "separators")?,
        argument(3, "sort_keys")?.is_true(),
    )?;
    named.assert_all_used()?;
    json::write(value, &form)
}

/// An error of the template in one line.
fn said(error: &Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("{what} (line {line})"),
        None => what,
    }
}
