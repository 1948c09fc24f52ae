//! For tests alone: reads what is written as XML, and says where it is not well-formed.

/// An element: its name, its attributes, and the text that stands in it and in its children.
#[derive(Debug)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: Vec<(String, String)>,
    pub(super) text: String,
    /// Names of the elements around it, the outermost first.
    pub(super) within: Vec<String>,
}

impl Element {
    /// The value of an attribute.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// All elements in the order in which they begin.
pub(super) fn parse(text: &str) -> Result<Vec<Element>, String> {
    let mut done: Vec<Element> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let before = &rest[..at];
        if before.contains('>') && open.last().is_none_or(|&i| done[i].name != "style") {
            return Err(format!("a bare `>` in {before:?}"));
        }
        let said = unescape(before)?;
        for &i in &open {
            done[i].text.push_str(&said);
        }
        let end = rest[at..].find('>').ok_or("a tag without an end")? + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if tag.starts_with(['?', '!']) {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            let last = open.pop().ok_or_else(|| format!("</{name}> closes nothing"))?;
            if done[last].name != name {
                return Err(format!("</{name}> closes <{}>", done[last].name));
            }
            continue;
        }
        let (tag, empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let within = open.iter().map(|&i| done[i].name.clone()).collect();
        let element = Element {
            name: name.to_owned(),
            attributes: pairs(attributes)?,
            text: String::new(),
            within,
        };
        if !empty {
            open.push(done.len());
        }
        done.push(element);
    }
    match open.last() {
        Some(&i) => Err(format!("<{}> is not closed", done[i].name)),
        None => Ok(done),
    }
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) =
            rest.split_once("=\"").ok_or_else(|| format!("no value in {rest:?}"))?;
        let (value, after) = after.split_once('"').ok_or_else(|| format!("no end in {after:?}"))?;
        if out.iter().any(|(known, _)| known == name) {
            return Err(format!("`{name}` stands twice"));
        }
        out.push((name.trim().to_owned(), unescape(value)?));
        rest = after.trim_start();
    }
    Ok(out)
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let (name, after) = rest[at + 1..].split_once(';').ok_or("a bare `&`")?;
        out.push_str(match name {
            "amp" => "&",
            "lt" => "<",
            "gt" => ">",
            "quot" => "\"",
            "#39" => "'",
            "#10" => "\n",
            "#13" => "\r",
            name => return Err(format!("`&{name};` is unknown")),
        });
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}
