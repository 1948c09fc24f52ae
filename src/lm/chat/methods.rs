//! Methods of Python's strings, lists and dictionaries that templates call.

use minijinja::value::from_args;
use minijinja::{Error, State, Value};

/// Calls `method`: those below, else what `minijinja-contrib` knows.
pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(found) = of_text(text, method, args)?
    {
        return Ok(found);
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

fn of_text(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "strip" if args.is_empty() => Value::from(strip(text)),
        "lstrip" if args.is_empty() => Value::from(text.trim_start_matches(is_space)),
        "rstrip" if args.is_empty() => Value::from(text.trim_end_matches(is_space)),
        "split" if args.is_empty() => {
            let parts = text.split(is_space).filter(|part| !part.is_empty());
            parts.map(str::to_owned).collect()
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" => {
            let (at,): (&str,) = from_args(args)?;
            let (before, found, behind) =
                text.split_once(at).map_or((text, "", ""), |(before, behind)| (before, at, behind));
            Value::from_iter([before, found, behind].map(str::to_owned))
        }
        "rpartition" => {
            let (at,): (&str,) = from_args(args)?;
            let (before, found, behind) = text
                .rsplit_once(at)
                .map_or(("", "", text), |(before, behind)| (before, at, behind));
            Value::from_iter([before, found, behind].map(str::to_owned))
        }
        "rsplit" => {
            let (at, most): (&str, Option<usize>) = from_args(args)?;
            let most = most.map_or(usize::MAX, |most| most.saturating_add(1));
            let mut parts: Vec<String> = text.rsplitn(most, at).map(str::to_owned).collect();
            parts.reverse();
            Value::from(parts)
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = match text.strip_prefix(['-', '+']) {
                Some(digits) => (&text[..1], digits),
                None => ("", text),
            };
            let zeros = width.saturating_sub(text.chars().count());
            Value::from(format!("{sign}{}{digits}", "0".repeat(zeros)))
        }
        "ljust" | "rjust" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            let pad = fill.unwrap_or(" ").repeat(width.saturating_sub(text.chars().count()));
            Value::from(if method == "ljust" {
                format!("{text}{pad}")
            } else {
                format!("{pad}{text}")
            })
        }
        _ => return Ok(None),
    }))
}

/// `str.strip()`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.isspace` of one character: Unicode's white space and four control characters.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
