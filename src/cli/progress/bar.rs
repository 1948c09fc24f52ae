//! Bars on stderr: one for each work that goes on, and below them one for the whole.

use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::base::fmt;
use crate::base::progress::{Progress, Unit, Whole};
use crate::cli::printer::stderr_line;

/// Bars of one work, one stage at a time.
#[derive(Default)]
pub(super) struct Bar {
    all: Arc<All>,
    /// What the work is called, where there are several.
    name: Option<String>,
    stage: Mutex<Option<ProgressBar>>,
}

/// What all works share.
#[derive(Default)]
struct All {
    bars: MultiProgress,
    whole: Mutex<Option<ProgressBar>>,
}

impl Bar {
    fn with(&self, f: impl FnOnce(&mut Option<ProgressBar>)) {
        f(&mut self.stage.lock().expect("no panic while drawing"));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are ours")
}

impl Progress for Bar {
    fn begin(&self, stage: &str, total: Option<u64>, unit: Unit) {
        let bar = ProgressBar::new(0);
        bar.set_style(style(match (total, unit) {
            (None, _) => "{spinner} {msg} {elapsed}",
            (Some(_), Unit::Bytes) => {
                "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
            }
            (Some(_), Unit::Items) => "{msg} {wide_bar} {pos}/{len} {eta}",
        }));
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_message(
            self.name.as_ref().map_or_else(|| stage.to_owned(), |name| format!("{name}: {stage}")),
        );
        let bar = match &*self.all.whole.lock().expect("no panic while drawing") {
            Some(whole) => self.all.bars.insert_before(whole, bar),
            None => self.all.bars.add(bar),
        };
        bar.enable_steady_tick(Duration::from_millis(200));
        self.with(|slot| *slot = Some(bar));
    }

    fn advance(&self, amount: u64) {
        self.with(|slot| {
            if let Some(bar) = slot {
                bar.inc(amount);
            }
        });
    }

    fn end(&self) {
        self.with(|slot| {
            if let Some(bar) = slot.take() {
                bar.finish_and_clear();
            }
        });
    }

    fn note(&self, line: &str) {
        self.all.bars.suspend(|| stderr_line(line));
    }

    fn part<'a>(&'a self, name: &str) -> Box<dyn Progress + 'a> {
        let all = Arc::clone(&self.all);
        Box::new(Self { all, name: Some(name.to_owned()), stage: Mutex::default() })
    }

    fn whole(&self, Whole { done, total, left }: Whole) {
        let mut slot = self.all.whole.lock().expect("no panic while drawing");
        let bar = slot.get_or_insert_with(|| {
            let bar = self.all.bars.add(ProgressBar::new(total));
            bar.enable_steady_tick(Duration::from_secs(1));
            bar
        });
        let told = Instant::now();
        let left = move |_: &ProgressState, to: &mut dyn Write| {
            if let Some(left) = left {
                // A line that cannot be drawn is drawn again.
                let _ = write!(to, "{} left", fmt::duration(left.after(told.elapsed())));
            }
        };
        let all = style("all {wide_bar} {pos}/{len} steps {elapsed} {left}");
        bar.set_style(all.with_key("left", left));
        bar.set_length(total);
        bar.set_position(done);
        if done == total
            && let Some(bar) = slot.take()
        {
            bar.finish_and_clear();
        }
    }
}
