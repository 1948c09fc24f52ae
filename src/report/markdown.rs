//! The report as Markdown, for a job summary or a document.

use super::cells::{Column, NONE, columns, legend, remarks, summary};
use super::pareto::Front;
use super::{Report, Status};

/// The report as a Markdown table with what is to be said of it: counts, the Pareto front, what did not pass.
pub fn markdown(report: &Report) -> String {
    let shown = columns(report);
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out =
        format!("### {}\n\n**{}**\n\n", escape(&report.source.name), escape(&summary(report)));
    out.push_str(&line(shown.iter().map(|(column, _)| column.title.to_owned()).collect()));
    let rule = |number| if number { "---:" } else { "---" };
    out.push_str(&line(shown.iter().map(|(column, _)| rule(column.number).to_owned()).collect()));
    for (row, variant) in report.variants.iter().enumerate() {
        let cell = |(column, cells): &(&Column, Vec<Option<String>>)| {
            let text = escape(cells[row].as_deref().unwrap_or(NONE));
            let stands_out = column.title == "status" && variant.status != Status::Pass;
            if stands_out { format!("**{text}**") } else { text }
        };
        out.push_str(&line(shown.iter().map(cell).collect()));
    }
    let front = Front::of(report);
    if front.points.len() > 1 {
        let names: Vec<_> =
            front.members().map(|p| escape(&report.variants[p.variant].name)).collect();
        let rule = if front.unpaired == 0 {
            "paired 95 % intervals"
        } else {
            "95 % intervals, which are not paired for all"
        };
        let names = names.join(", ");
        out.extend([
            "\nOn the Pareto front of size and divergence, by ",
            rule,
            ": ",
            &names,
            ".\n",
        ]);
    }
    let remarks = remarks(report);
    if !remarks.is_empty() {
        out.push('\n');
        for remark in remarks {
            out.push_str(&["- ", &escape(&remark), "\n"].concat());
        }
    }
    if let Some(legend) = legend(report) {
        out.push_str(&["\n", &escape(&legend), "\n"].concat());
    }
    let tool = format!("{} {}, {}", report.tool.name, report.tool.version, report.created);
    out.push_str(&["\n", &escape(&tool), "\n"].concat());
    out
}

/// `text` in one line, with nothing that Markdown would take for its own. What stands between backticks stays, where they
/// are single ones in pairs and hold no markup: of others nobody can tell which of them close.
fn escape(text: &str) -> String {
    let pairs = text.matches('`').count().is_multiple_of(2);
    let told = pairs && !text.contains("``") && !text.contains('<');
    let mut out = String::with_capacity(text.len());
    let mut code = false;
    for c in text.chars() {
        code ^= told && c == '`';
        match c {
            '\n' | '\r' => out.push(' '),
            // A cell ends at it in code too.
            '|' => out.push_str("\\|"),
            '`' if !told => out.push_str("\\`"),
            '*' | '_' | '<' | '>' | '[' | ']' | '\\' if !code => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backticks_hide_no_markup() {
        for (text, want) in [
            ("smallest cosine at `a_b*`", "smallest cosine at `a_b*`"),
            ("a_b | c", "a\\_b \\| c"),
            ("`a|b`", "`a\\|b`"),
            // Three open nothing that one closes.
            ("```<img>`", "\\`\\`\\`\\<img\\>\\`"),
            ("`<b>`", "\\`\\<b\\>\\`"),
            ("`", "\\`"),
            ("a\r\n# b", "a  # b"),
        ] {
            assert_eq!(escape(text), want, "{text}");
        }
    }
}
