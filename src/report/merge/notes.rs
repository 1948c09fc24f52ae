//! What a merged report says of figures that differ in their last digits: which reports, by how much at most, whose were
//! kept.

use std::collections::BTreeMap;

use super::Named;
use super::agree::Apart;
use crate::base::fmt;

/// What was seen, by the reports whose figures were kept and those whose were not.
#[derive(Debug, Default)]
pub(super) struct Notes<'a>(BTreeMap<(&'a str, &'a str), Seen>);

/// Differences between two reports.
#[derive(Debug)]
struct Seen {
    /// How many things both describe with other last digits.
    things: u64,
    /// The largest difference, and what it is of.
    worst: (String, Apart),
}

impl<'a> Notes<'a> {
    /// The reports `kept` and `other` describe `what` with figures that differ by `worst` at most, if they do.
    pub(super) fn differ(
        &mut self,
        kept: &'a str,
        other: &'a str,
        what: &str,
        worst: Option<Apart>,
    ) {
        let Some(apart) = worst else { return };
        let new = Seen { things: 0, worst: (what.to_owned(), apart.clone()) };
        let seen = self.0.entry((kept, other)).or_insert(new);
        seen.things += 1;
        if apart.share > seen.worst.1.share {
            seen.worst = (what.to_owned(), apart);
        }
    }

    /// The notes of the reports that are merged, and a line for each two that differ.
    pub(super) fn told(self, reports: &[Named]) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for note in reports.iter().flat_map(|(_, report)| &report.notes) {
            if !all.contains(note) {
                all.push(note.clone());
            }
        }
        all.extend(self.0.into_iter().map(|((kept, other), Seen { things, worst: (what, apart) })| {
            format!(
                "`{kept}` and `{other}` were measured on machines that round differently: they describe {} with other last \
                 digits, most of all {what} ({apart}); kept is what `{kept}` says",
                fmt::several(things, "thing")
            )
        }));
        all
    }
}
