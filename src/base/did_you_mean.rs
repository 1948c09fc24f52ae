//! The name that somebody who mistyped one most likely meant.

/// The name among `names` closest to `typed`, if one is close enough to be meant.
///
/// Close enough is an edit distance of at most a third of the longer name's length, and one edit at least.
pub fn did_you_mean<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = |name: &str| (name.chars().count().max(typed.chars().count()) / 3).max(1);
    names
        .into_iter()
        .map(|name| (distance(typed, name), name))
        .filter(|&(edits, name)| edits <= allowed(name))
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, name)| name)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best =
                (rows[i - 1][j - 1] + change).min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_from_another_word() {
        let names = ["seq_len", "kv_cache", "target", "lora"];
        for (typed, want) in [
            ("seqlen", Some("seq_len")),
            ("sqe_len", Some("seq_len")),
            ("KV_CACHE", Some("kv_cache")),
            ("tagret", Some("target")),
            ("lore", Some("lora")),
            ("banana", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(typed, names), want, "{typed}");
        }
    }
}
