//! What variants wrote and what the reference wrote, with the place where they part.

use super::super::numbers::significant;
use super::super::{Report, Variant};
use super::node::{Node, el};
use super::parts::{details, note, number, row, scroll, table, to_variant};
use super::variants::percent;
use crate::eval::{results::NEAR_TIE, results::Transcript, results::Transcripts};

/// The transcripts of each variant.
pub(super) fn section(report: &Report) -> Option<Node> {
    let of = |(place, v): (usize, &'_ Variant)| Some((place, v.measurements.transcripts.clone()?));
    let all: Vec<(usize, Transcripts)> =
        report.variants.iter().enumerate().filter_map(of).collect();
    if all.is_empty() {
        return None;
    }
    let about = note(format!(
        "Greedy continuations against the reference's. Where they part, the margin is how far the reference's first choice \
         lies before the variant's: below a hundredth of the largest logit ({NEAR_TIE} where that is not known) it is a near \
         tie, which rounding alone decides; above it the variant changed what the reference meant."
    ));
    let rows = all.iter().map(|(place, transcripts)| {
        let ties = transcripts.prompts.iter().filter(|t| is_tie(t)).count();
        let damaged = transcripts.prompts.iter().filter(|t| is_damage(t)).count();
        let cells = [
            number(Some(format!("{} of {}", transcripts.equal, transcripts.prompts.len()))),
            number(Some(ties.to_string())),
            number(Some(damaged.to_string())),
            number(Some(percent(&transcripts.agreement))),
        ];
        row(to_variant(report, *place), cells)
    });
    let heads = ["Variant", "Equal", "Part at a near tie", "Part beyond one", "Agreement"];
    let table = table("Transcripts counted.", &heads, rows.collect());
    let texts = all.iter().filter_map(|(place, transcripts)| {
        let parted: Vec<Node> =
            transcripts.prompts.iter().filter(|t| t.first_divergence.is_some()).map(one).collect();
        let count = parted.len();
        (count > 0).then(|| {
            let summary = el("span")
                .add(report.variants[*place].name.as_str())
                .add(el("small").add(format!("{count} of {} differ", transcripts.prompts.len())));
            details(summary).all(parted)
        })
    });
    let texts: Vec<Node> = texts.collect();
    let body = el("div").add(about).add(scroll("Transcripts counted", table));
    Some(body.all(texts))
}

fn is_tie(transcript: &Transcript) -> bool {
    transcript.first_divergence.is_some() && transcript.is_tied()
}

fn is_damage(transcript: &Transcript) -> bool {
    transcript.first_divergence.is_some() && !is_tie(transcript)
}

/// One prompt with both texts.
fn one(transcript: &Transcript) -> Node {
    let shared = shared(&transcript.text, &transcript.reference_text);
    let marked = |text: &str| {
        let (same, other) = text.split_at(shared);
        let rest = if other.is_empty() { "(ends here)" } else { other };
        el("dd").add(same).add(el("mark").add(rest))
    };
    let margin = match transcript.lost.or(transcript.margin) {
        Some(margin) if transcript.is_tied() => {
            format!("a near tie: margin {} logits", significant(margin, 2))
        }
        Some(margin) => format!("no tie: margin {} logits", significant(margin, 3)),
        None => "a margin that is not known".to_owned(),
    };
    let at = transcript.first_divergence.unwrap_or(0);
    let parts = format!("token {at} of {}, {margin}", transcript.reference_tokens.len());
    let list = el("dl")
        .add(el("dt").add("Prompt"))
        .add(el("dd").add(transcript.prompt.as_str()))
        .add(el("dt").add("Reference"))
        .add(marked(&transcript.reference_text))
        .add(el("dt").add("Variant"))
        .add(marked(&transcript.text))
        .add(el("dt").add("Part at"))
        .add(el("dd").add(parts));
    el("div").class("transcript").add(list)
}

/// Bytes at the beginning that two texts share, whole characters.
fn shared(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_where_they_part() {
        for (a, b, want) in [
            ("that the king", "that the queen", 9),
            ("größe", "grüße", 2),
            ("same", "same", 4),
            ("", "x", 0),
            ("ab", "abc", 2),
        ] {
            assert_eq!(shared(a, b), want, "{a} {b}");
        }
    }
}
