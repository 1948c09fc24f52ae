//! Two reports variant by variant: what changed, and whether by more than the intervals allow.
//!
//! The two sides are separate runs, so a difference is judged unpaired: it is beyond the intervals where it is larger
//! than 1.96·√(se² + se²) of both standard errors. Runs over the same tokens share most of their noise, so a paired
//! comparison would see smaller differences: what this calls beyond is beyond, what it does not may still be real.

use serde::Serialize;

use super::numbers::{STANDARD_ERRORS, signed, significant};
use super::{Report, Status, Variant};
use crate::base::fmt;
use crate::eval::results::Figure;

/// Two reports side by side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// When each was made.
    pub created: [String; 2],
    /// What else differs between the two runs, a line each.
    pub notes: Vec<String>,
    /// The variants that both hold, in the order of the first.
    pub variants: Vec<Compared>,
    /// Variants of the first alone.
    pub only_first: Vec<String>,
    /// Variants of the second alone.
    pub only_second: Vec<String>,
    /// How `beyond` is decided.
    pub convention: &'static str,
}

/// One variant in both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// How it ended, in each.
    pub status: [Status; 2],
    /// Whether both are the same package, where both digests are known.
    pub same_package: Option<bool>,
    /// The figures that either has.
    pub figures: Vec<Change>,
}

/// One figure in both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its name, as in the CSV.
    pub figure: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Its value in the first.
    pub old: Option<f64>,
    /// Its value in the second.
    pub new: Option<f64>,
    /// The second less the first.
    pub change: Option<f64>,
    /// What the change must exceed: 1.96·√(se² + se²); 0 for what is exact, absent for what has no interval.
    pub tolerance: Option<f64>,
    /// Whether it does.
    pub beyond: Option<bool>,
}

/// How `beyond` is decided.
const CONVENTION: &str =
    "a change is beyond the intervals where |new - old| > 1.96·√(se² + se²), unpaired";

/// What a figure is compared as.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// The same whenever it is taken: any change is one.
    Exact,
    /// It has a standard error, or should have one.
    Estimate,
}

/// A figure that is compared: name, unit, kind, and where it stands.
type Line = (&'static str, &'static str, Kind, fn(&Variant) -> Option<Figure>);

const FIGURES: [Line; 6] = [
    ("size_bytes", "bytes", Kind::Exact, |v| v.size_bytes.map(|n| plain(n as f64))),
    ("perplexity_increase", "1", Kind::Estimate, |v| {
        Some(v.measurements.perplexity.as_ref()?.increase.clone())
    }),
    ("divergence", "nats", Kind::Estimate, |v| {
        Some(v.measurements.perplexity.as_ref()?.divergence.clone())
    }),
    ("cosine_mean", "1", Kind::Estimate, |v| {
        Some(v.measurements.similarity.as_ref()?.mean.clone())
    }),
    ("cosine_minimum", "1", Kind::Exact, |v| {
        Some(plain(v.measurements.similarity.as_ref()?.minimum.value))
    }),
    ("decode_ms_p50", "ms", Kind::Estimate, |v| {
        let times = v.measurements.latency.as_ref()?.decode.as_ref()?;
        Some(Figure { standard_error: times.median_error, ..plain(times.p50?) })
    }),
];

fn plain(value: f64) -> Figure {
    Figure { value, ..Figure::default() }
}

/// `new` beside `old`.
pub fn compare(old: &Report, new: &Report) -> Comparison {
    let find = |report: &'_ Report, name: &str| {
        report.variants.iter().find(|variant| variant.name == name).cloned()
    };
    let mut variants = Vec::new();
    let mut only_first = Vec::new();
    for a in &old.variants {
        match find(new, &a.name) {
            Some(b) => variants.push(compared(a, &b)),
            None => only_first.push(a.name.clone()),
        }
    }
    let alone = new.variants.iter().filter(|b| find(old, &b.name).is_none());
    Comparison {
        created: [old.created.clone(), new.created.clone()],
        notes: notes(old, new),
        variants,
        only_first,
        only_second: alone.map(|b| b.name.clone()).collect(),
        convention: CONVENTION,
    }
}

fn compared(a: &Variant, b: &Variant) -> Compared {
    let same_package = a.sha256.as_ref().zip(b.sha256.as_ref()).map(|(a, b)| a == b);
    let change = |&(figure, unit, kind, get): &Line| {
        let (old, new) = (get(a), get(b));
        if old.is_none() && new.is_none() {
            return None;
        }
        let both = old.as_ref().zip(new.as_ref());
        let change = both.map(|(old, new)| new.value - old.value).filter(|c| c.is_finite());
        let tolerance = match kind {
            Kind::Exact => Some(0.0),
            Kind::Estimate => both.and_then(|(a, b)| {
                Some(STANDARD_ERRORS * a.standard_error?.hypot(b.standard_error?))
            }),
        };
        let tolerance = tolerance.filter(|t| t.is_finite() && both.is_some());
        let beyond = change.zip(tolerance).map(|(change, tolerance)| change.abs() > tolerance);
        let value = |figure: Option<Figure>| figure.map(|f| f.value);
        Some(Change { figure, unit, old: value(old), new: value(new), change, tolerance, beyond })
    };
    Compared {
        name: a.name.clone(),
        status: [a.status, b.status],
        same_package,
        figures: FIGURES.iter().filter_map(change).collect(),
    }
}

/// What makes the two runs hard to compare.
fn notes(old: &Report, new: &Report) -> Vec<String> {
    let text = |r: &Report| r.reference.as_ref().and_then(|r| r.text_sha256.clone());
    let short = |value: Option<String>| {
        value.map_or_else(|| "unknown".to_owned(), |v| v.chars().take(12).collect())
    };
    let mut facts = vec![
        ("source".to_owned(), old.source.name.clone(), new.source.name.clone()),
        ("tool".to_owned(), tool(old), tool(new)),
        ("spec".to_owned(), short(old.spec_sha256.clone()), short(new.spec_sha256.clone())),
        ("text".to_owned(), short(text(old)), short(text(new))),
    ];
    let mut keys: Vec<_> = old.environment.keys().chain(new.environment.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let of =
            |r: &Report| r.environment.get(key).cloned().unwrap_or_else(|| "unknown".to_owned());
        facts.push((key.clone(), of(old), of(new)));
    }
    let differ = facts.into_iter().filter(|(_, a, b)| a != b);
    let mut out: Vec<_> =
        differ.map(|(what, a, b)| format!("{what} differs: {a} and {b}")).collect();
    if old.source.files != new.source.files {
        out.push("the source's files differ".to_owned());
    }
    out
}

fn tool(report: &Report) -> String {
    format!("{} {}", report.tool.name, report.tool.version)
}

impl Comparison {
    /// The comparison as text for people: a block per variant, a line per figure.
    pub fn text(&self) -> String {
        let mut lines = vec![format!("{} → {}", self.created[0], self.created[1])];
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        for variant in &self.variants {
            lines.push(String::new());
            let [a, b] = variant.status;
            let status =
                if a == b { a.name().to_owned() } else { format!("{} → {}", a.name(), b.name()) };
            let same = if variant.same_package == Some(true) { ", the same package" } else { "" };
            lines.push(format!("{}: {status}{same}", variant.name));
            let rows: Vec<_> = variant.figures.iter().map(Change::cells).collect();
            let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
            let widths = [width(0), width(1), width(2), width(3)];
            for [name, old, new, change, verdict] in &rows {
                let [w0, w1, w2, w3] = widths;
                let line =
                    format!("  {name:<w0$}  {old:>w1$} → {new:>w2$}  {change:>w3$}  {verdict}");
                lines.push(line.trim_end().to_owned());
            }
        }
        lines.push(String::new());
        for (names, which) in [(&self.only_first, "first"), (&self.only_second, "second")] {
            if !names.is_empty() {
                lines.push(format!("only in the {which}: {}", names.join(", ")));
            }
        }
        lines.push(self.convention.to_owned());
        lines.join("\n") + "\n"
    }
}

impl Change {
    /// Name, old, new, change, and what is to be made of it.
    fn cells(&self) -> [String; 5] {
        let value = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| self.shown(v));
        let verdict = match self.beyond {
            Some(true) if self.tolerance == Some(0.0) => "changed",
            Some(true) => "beyond the intervals",
            Some(false) if self.change == Some(0.0) => "",
            Some(false) => "within the intervals",
            None if self.change.is_some() => "no interval",
            None => "",
        };
        let change = match (self.change, self.old) {
            (Some(0.0), _) => "=".to_owned(),
            (Some(change), Some(old)) => self.moved(change, old),
            _ => String::new(),
        };
        let name = self.figure.replace('_', " ");
        [name, value(self.old), value(self.new), change, verdict.to_owned()]
    }

    fn shown(&self, value: f64) -> String {
        match self.unit {
            "bytes" if value >= 0.0 => fmt::bytes(value as u64),
            "ms" => format!("{} ms", significant(value, 4)),
            "nats" => format!("{} nats", significant(value, 4)),
            _ if self.figure == "perplexity_increase" => percent(value),
            _ => significant(value, 6),
        }
    }

    /// The change in the figure's own terms: of a size and a time also in percent.
    fn moved(&self, change: f64, old: f64) -> String {
        let share = || {
            let share = if old == 0.0 { f64::NAN } else { change / old * 100.0 };
            if share.is_finite() { format!(" ({} %)", signed(share, 3)) } else { String::new() }
        };
        match self.unit {
            "bytes" => {
                let sign = if change < 0.0 { "−" } else { "+" };
                format!("{sign}{}{}", fmt::bytes(change.abs() as u64), share())
            }
            "ms" => format!("{} ms{}", signed(change, 3), share()),
            _ if self.figure == "perplexity_increase" => {
                format!("{} points", signed(change * 100.0, 3))
            }
            _ => signed(change, 3),
        }
    }
}

fn percent(value: f64) -> String {
    if value.is_finite() {
        format!("{} %", significant(value * 100.0, 4))
    } else {
        significant(value, 4)
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn change<'a>(comparison: &'a Comparison, variant: &str, figure: &str) -> &'a Change {
        let found = comparison.variants.iter().find(|v| v.name == variant).unwrap();
        found.figures.iter().find(|c| c.figure == figure).unwrap()
    }

    #[test]
    fn a_change_is_held_against_both_errors() {
        let old = samples::report();
        for (by, beyond) in [(0.0, false), (0.002, false), (0.0035, true), (-0.0035, true)] {
            let mut new = samples::report();
            // Its standard error is 0.001 on both sides: 1.96·√2·0.001 is 0.00277.
            let perplexity = new.variants[1].measurements.perplexity.as_mut().unwrap();
            perplexity.increase.value += by;
            let comparison = compare(&old, &new);
            let change = change(&comparison, "pal8-g16", "perplexity_increase");
            assert_eq!(change.beyond, Some(beyond), "{by}");
            assert!((change.tolerance.unwrap() - 0.002_771_86).abs() < 1e-7);
        }
    }

    #[test]
    fn what_is_exact_changes_by_a_byte_and_times_by_their_errors() {
        let (old, mut new) = (samples::report(), samples::report());
        new.variants[0].size_bytes = new.variants[0].size_bytes.map(|n| n + 1);
        let decode = new.variants[0].measurements.latency.as_mut().unwrap().decode.as_mut();
        decode.unwrap().p50 = Some(99.0);
        let comparison = compare(&old, &new);
        assert_eq!(change(&comparison, "fp16", "size_bytes").beyond, Some(true));
        assert_eq!(change(&comparison, "pal8-g16", "size_bytes").beyond, Some(false));
        let decode = change(&comparison, "fp16", "decode_ms_p50");
        assert_eq!((decode.beyond, decode.change), (Some(true), Some(94.75)));
        let lost = change(&comparison, "attention-pal6-g16_mlp-pal4-g16", "perplexity_increase");
        assert_eq!((lost.beyond, lost.change), (None, None), "what is not finite is not compared");
    }

    #[test]
    fn the_text() {
        let (old, mut new) = (samples::report(), samples::report());
        new.created = "2027-02-01T00:00:00Z".to_owned();
        new.environment.insert("cores".to_owned(), "8".to_owned());
        new.variants[1].name = "pal8-g32".to_owned();
        new.variants[2].status = Status::Pass;
        new.variants[2].size_bytes = Some(1_400_617);
        new.variants[2].sha256 = Some("ee".repeat(32));
        let figures = &mut new.variants[2].measurements;
        figures.perplexity.as_mut().unwrap().increase.value = 0.05;
        figures.latency.as_mut().unwrap().decode.as_mut().unwrap().p50 = Some(4.0);
        figures.similarity = None;
        insta::assert_snapshot!(compare(&old, &new).text());
    }
}
