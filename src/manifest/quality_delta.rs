//! What moved between two artifacts: size and quality, beyond what measuring again could move them.

use super::{Manifest, Quality};
use crate::eval::{results::Figure, results::STANDARD_ERRORS};

/// Growth or loss of bytes, as a share, that no one notices.
const SIZE: f64 = 0.01;

/// Change of the smallest cosine that no one notices.
const COSINE: f64 = 0.001;

/// What is known of the way from `old` to `new`.
#[derive(Debug, Default)]
pub(super) struct QualityDelta {
    /// What moved, one line each.
    pub(super) lines: Vec<String>,
    /// Whether any figure of quality stands in both.
    pub(super) compared: bool,
}

impl QualityDelta {
    /// Compares what both manifests say.
    pub(super) fn between(old: &Manifest, new: &Manifest) -> Self {
        let mut found = Self::default();
        let growth = new.size_bytes as f64 / old.size_bytes.max(1) as f64 - 1.0;
        if growth.abs() > SIZE {
            let (a, b) = (old.size_bytes, new.size_bytes);
            found.lines.push(format!("size is {b} bytes, not {a}"));
        }
        found.quality(&old.quality, &new.quality);
        found
    }

    fn quality(&mut self, old: &Quality, new: &Quality) {
        if let (Some(a), Some(b)) = (&old.perplexity, &new.perplexity)
            && (&a.text_sha256, a.window, a.windows) == (&b.text_sha256, b.window, b.windows)
        {
            self.estimate("perplexity increase", &a.increase, &b.increase);
            self.estimate("divergence", &a.divergence, &b.divergence);
        }
        if let (Some(a), Some(b)) = (&old.similarity, &new.similarity) {
            self.compared = true;
            let (a, b) = (a.minimum.value, b.minimum.value);
            if (b - a).abs() > COSINE {
                self.lines.push(format!("smallest cosine is {b:.6}, not {a:.6}"));
            }
        }
        if let (Some(a), Some(b)) = (&old.transcripts, &new.transcripts) {
            let changed = b.prompts.iter().filter(|now| {
                a.prompts.iter().any(|was| was.prompt == now.prompt && was.tokens != now.tokens)
            });
            self.compared = true;
            match changed.count() {
                0 => {}
                n => self
                    .lines
                    .push(format!("{n} of {} transcripts are other texts", b.prompts.len())),
            }
        }
    }

    /// Two runs are independent, and so are their errors; without them nothing can be told.
    fn estimate(&mut self, what: &str, old: &Figure, new: &Figure) {
        let (Some(a), Some(b)) = (old.standard_error, new.standard_error) else { return };
        self.compared = true;
        let (change, reach) = (new.value - old.value, STANDARD_ERRORS * a.hypot(b));
        // NaN is a change too.
        if change.abs() > reach || change.is_nan() {
            self.lines.push(format!(
                "{what} is {:.6}, not {:.6}: more than {reach:.6} apart",
                new.value, old.value
            ));
        }
    }
}
