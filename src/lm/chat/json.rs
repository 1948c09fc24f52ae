//! JSON as Python's `json.dumps` writes it, to the byte.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// JSON formatting options.
#[derive(Debug)]
pub(super) struct Form {
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sorted: bool,
}

impl Form {
    pub(super) fn new(
        ascii: bool,
        indent: &Value,
        separators: &Value,
        sorted: bool,
    ) -> Result<Self, Error> {
        let indent = match indent.kind() {
            ValueKind::Undefined | ValueKind::None => None,
            ValueKind::Number => Some(" ".repeat(indent.as_usize().unwrap_or(0))),
            _ => Some(indent.to_string()),
        };
        let (mut item, mut key) =
            (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
        if !separators.is_undefined() && !separators.is_none() {
            item = separators.get_item_by_index(0)?.to_string();
            key = separators.get_item_by_index(1)?.to_string();
        }
        Ok(Self { ascii, indent, item, key, sorted })
    }
}

/// The JSON of `value`.
pub(super) fn write(value: &Value, form: &Form) -> Result<String, Error> {
    let mut out = String::new();
    put(value, form, 0, &mut out)?;
    Ok(out)
}

fn put(value: &Value, form: &Form, depth: usize, out: &mut String) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => number(value, out),
        ValueKind::String => string(value.as_str().unwrap_or_default(), form.ascii, out),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            let each = |item: &Value, out: &mut String| put(item, form, depth + 1, out);
            list(&items, ['[', ']'], form, depth, out, each)?;
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if form.sorted {
                keys.sort();
            }
            let each = |key: &Value, out: &mut String| {
                if let Some(key) = key.as_str() {
                    string(key, form.ascii, out);
                } else {
                    out.push('"');
                    put(key, form, depth, out)?;
                    out.push('"');
                }
                out.push_str(&form.key);
                put(&value.get_item(key)?, form, depth + 1, out)
            };
            list(&keys, ['{', '}'], form, depth, out, each)?;
        }
        kind => {
            let fact = format!("value of the kind {kind} has no JSON");
            return Err(Error::new(ErrorKind::InvalidOperation, fact));
        }
    }
    Ok(())
}

fn list(
    items: &[Value],
    [open, close]: [char; 2],
    form: &Form,
    depth: usize,
    out: &mut String,
    mut each: impl FnMut(&Value, &mut String) -> Result<(), Error>,
) -> Result<(), Error> {
    let line = |depth: usize, out: &mut String| {
        if let Some(indent) = &form.indent {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    };
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(&form.item);
        }
        line(depth + 1, out);
        each(item, out)?;
    }
    if !items.is_empty() {
        line(depth, out);
    }
    out.push(close);
    Ok(())
}

fn number(value: &Value, out: &mut String) {
    if value.is_integer() {
        out.push_str(&value.to_string());
        return;
    }
    let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
    out.push_str(&float(number));
}

/// A float as Python prints it: the shortest digits, with an exponent below 1e-4 and from 1e16 on.
pub(super) fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{number}");
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

fn string(text: &str, ascii: bool, out: &mut String) {
    use std::fmt::Write as _;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || (ascii && !c.is_ascii()) || (ascii && c == '\u{7f}') => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}").expect("writing to a string");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_written_as_python_writes_it() {
        let value: Value = serde_json::from_str(
            r#"{"b": [1, 2.0, 1e20, 1.5e-7, 0.0001, true, null], "a": "é\u0001\"\\\n", "c": {}, "d": []}"#,
        )
        .unwrap();
        let none = Value::UNDEFINED;
        let form = Form::new(false, &none, &none, false).unwrap();
        let want = r#"{"b": [1, 2.0, 1e+20, 1.5e-07, 0.0001, true, null], "a": "é\u0001\"\\\n", "c": {}, "d": []}"#;
        assert_eq!(write(&value, &form).unwrap(), want);
        let form = Form::new(true, &Value::from(2), &none, true).unwrap();
        let want = "{\n  \"a\": \"\\u00e9\\u0001\\\"\\\\\\n\",\n  \"b\": [\n    1,\n    2.0,\n    1e+20,\n    1.5e-07,\n    0.0001,\n    true,\n    null\n  ],\n  \"c\": {},\n  \"d\": []\n}";
        assert_eq!(write(&value, &form).unwrap(), want);
        let separators = Value::from(vec![",", ":"]);
        let form = Form::new(false, &none, &separators, false).unwrap();
        assert_eq!(write(&Value::from(vec![1, 2]), &form).unwrap(), "[1,2]");
        assert!(write(&none, &form).is_err());
    }
}
