//! The report as Markdown, for a job summary or a document.

use super::Report;
use super::cells::{NONE, columns, legend, remarks, summary};

/// The report as a Markdown table with its remarks.
pub fn markdown(report: &Report) -> String {
    let shown = columns(report);
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = format!("### {}\n\n", escape(&report.source.name));
    out.push_str(&line(shown.iter().map(|(column, _)| column.title.to_owned()).collect()));
    let rule = |number| if number { "---:" } else { "---" };
    out.push_str(&line(shown.iter().map(|(column, _)| rule(column.number).to_owned()).collect()));
    for row in 0..report.variants.len() {
        let cell = |cells: &Vec<Option<String>>| escape(cells[row].as_deref().unwrap_or(NONE));
        out.push_str(&line(shown.iter().map(|(_, cells)| cell(cells)).collect()));
    }
    out.push('\n');
    for remark in remarks(report) {
        out.push_str(&["- ", &escape(&remark), "\n"].concat());
    }
    if !report.variants.iter().all(|v| v.status == super::Status::Pass) {
        out.push('\n');
    }
    out.push_str(&escape(&summary(report)));
    out.push('\n');
    if let Some(legend) = legend(report) {
        out.push_str(&["\n", &escape(&legend), "\n"].concat());
    }
    out
}

/// `text` in one line, with nothing that Markdown would take for its own; what stands between backticks stays.
fn escape(text: &str) -> String {
    let balanced = text.matches('`').count().is_multiple_of(2);
    let mut out = String::with_capacity(text.len());
    let mut code = false;
    for c in text.chars() {
        code ^= balanced && c == '`';
        match c {
            '\n' | '\r' => out.push(' '),
            '|' | '*' | '_' | '<' | '>' | '[' | ']' | '\\' if !code => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}
