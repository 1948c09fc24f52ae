//! Values as Python's `str` and `repr` write them, which is what a template of transformers prints.

use std::fmt::Write as _;

use minijinja::Value;
use minijinja::value::ValueKind;

use super::json;

/// `str(value)`; nothing for an undefined value, as in Jinja.
pub(super) fn text(value: &Value) -> String {
    match value.kind() {
        ValueKind::Undefined => String::new(),
        ValueKind::String => value.as_str().unwrap_or_default().to_owned(),
        _ => repr(value),
    }
}

/// `repr(value)`.
fn repr(value: &Value) -> String {
    let items = |value: &Value| value.try_iter().into_iter().flatten();
    match value.kind() {
        ValueKind::None => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::Number if !value.is_integer() => {
            json::float(f64::try_from(value.clone()).unwrap_or(f64::NAN))
        }
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<String> = items(value).map(|item| repr(&item)).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Map => {
            let pair = |key: Value| {
                format!("{}: {}", repr(&key), repr(&value.get_item(&key).unwrap_or_default()))
            };
            let pairs: Vec<String> = items(value).map(pair).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        _ => value.to_string(),
    }
}

/// A string literal: single quotes, unless the text has some and no double quotes.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                let escaped = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
                escaped.expect("a string takes what is written");
            }
        }
    }
    out.push(quote);
    out
}

/// Whether Python prints `c` as it is: no control, format or private character and no separator but the space.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && (c == ' ' || !c.is_whitespace())
        && !matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        && !matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_python_writes_them() {
        let cases = [
            (r#""it's""#, "it's"),
            ("null", "None"),
            ("[true, false, null, 1, 2.0, 1e20]", "[True, False, None, 1, 2.0, 1e+20]"),
            (
                r#"["it's", "a \"b\" 'c'", "x\n\u200b\u007f"]"#,
                r#"["it's", 'a "b" \'c\'', 'x\n\u200b\x7f']"#,
            ),
            (r#"{"type": "text"}"#, "{'type': 'text'}"),
        ];
        for (value, want) in cases {
            let value: Value = serde_json::from_str(value).unwrap();
            assert_eq!(text(&value), want);
        }
    }
}
