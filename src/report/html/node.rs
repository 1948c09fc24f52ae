//! A tree of elements that becomes HTML: all text and all attributes are escaped on the way out, so that nothing a report
//! says can become markup.

use std::fmt::Write as _;

/// An element or a piece of text.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// An element with its attributes and what stands in it.
    Element(&'static str, Vec<(&'static str, String)>, Vec<Self>),
    /// Text.
    Text(String),
    /// The page's own style, which browsers do not unescape.
    Style(&'static str),
}

/// Elements that have no end tag.
const EMPTY: [&str; 8] = ["meta", "br", "rect", "line", "path", "circle", "polyline", "col"];

/// Elements that end a line of the source.
const BLOCKS: [&str; 28] = [
    "html", "head", "meta", "title", "style", "body", "header", "main", "nav", "section", "footer",
    "h1", "h2", "h3", "p", "ul", "li", "dl", "dd", "div", "table", "caption", "thead", "tbody",
    "tr", "figure", "details", "svg",
];

/// An element with nothing in it yet.
pub(super) fn el(tag: &'static str) -> Node {
    Node::Element(tag, Vec::new(), Vec::new())
}

impl Node {
    /// The same with an attribute.
    pub(super) fn at(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Self::Element(_, attributes, _) = &mut self {
            attributes.push((name, value.into()));
        }
        self
    }

    /// The same with a class.
    pub(super) fn class(self, value: impl Into<String>) -> Self {
        self.at("class", value)
    }

    /// The same with one child more.
    pub(super) fn add(mut self, child: impl Into<Self>) -> Self {
        if let Self::Element(_, _, children) = &mut self {
            children.push(child.into());
        }
        self
    }

    /// The same with more children.
    pub(super) fn all<T: Into<Self>>(self, children: impl IntoIterator<Item = T>) -> Self {
        children.into_iter().fold(self, Self::add)
    }

    /// The child at `place`.
    pub(super) fn child(&self, place: usize) -> Option<&Self> {
        match self {
            Self::Element(_, _, children) => children.get(place),
            Self::Text(_) | Self::Style(_) => None,
        }
    }

    /// Whether this is a cell whose numbers stand to the right.
    pub(super) fn is_number(&self) -> bool {
        let of = |(name, value): &(&str, String)| *name == "class" && value.starts_with('n');
        matches!(self, Self::Element("td", attributes, _) if attributes.iter().any(of))
    }

    /// The element's text.
    pub(super) fn render(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => escape(text, out),
            Self::Style(text) => out.push_str(text),
            Self::Element(tag, attributes, children) => {
                out.push('<');
                out.push_str(tag);
                for (name, value) in attributes {
                    out.extend([" ", name, "=\""]);
                    escape(value, out);
                    out.push('"');
                }
                if children.is_empty() && EMPTY.contains(tag) {
                    out.push_str("/>");
                } else {
                    out.push('>');
                    for child in children {
                        child.write(out);
                    }
                    out.extend(["</", tag, ">"]);
                }
                if BLOCKS.contains(tag) {
                    out.push('\n');
                }
            }
        }
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Appends `text` as character data; characters that XML does not have become U+FFFD.
pub(in crate::report) fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' => out.push(c),
            // An attribute of XML would make a space of it, and a bare one a line end.
            '\r' => out.push_str("&#13;"),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

/// A length in a drawing, to a tenth.
pub(super) fn px(value: f64) -> String {
    let mut text = String::new();
    // Negative zero would be another text for the same place.
    let value = (value * 10.0).round() / 10.0 + 0.0;
    write!(text, "{value}").expect("a string takes all text");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_becomes_markup() {
        for (text, want) in [
            ("a", "<p title=\"a\">a</p>\n"),
            ("<script>", "<p title=\"&lt;script&gt;\">&lt;script&gt;</p>\n"),
            (
                "\" onload='x'",
                "<p title=\"&quot; onload=&#39;x&#39;\">&quot; onload=&#39;x&#39;</p>\n",
            ),
            (
                "&amp;\0\u{7}",
                "<p title=\"&amp;amp;\u{fffd}\u{fffd}\">&amp;amp;\u{fffd}\u{fffd}</p>\n",
            ),
        ] {
            assert_eq!(el("p").at("title", text).add(text).render(), want);
        }
        assert_eq!(el("td").render(), "<td></td>", "an empty cell has an end");
        assert_eq!(el("circle").at("r", px(-0.01)).render(), "<circle r=\"0\"/>");
    }
}
