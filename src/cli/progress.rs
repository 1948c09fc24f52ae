//! The three ways of showing progress: a bar, JSON lines, nothing.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::args::ProgressMode;
use super::printer::stderr_line;
use crate::base::progress::{Progress, Silent, Unit};

/// The listener that `--progress` asks for; without it, a bar where stderr is a terminal.
pub(crate) fn listener(mode: Option<ProgressMode>, quiet: bool) -> Box<dyn Progress> {
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    match mode {
        Some(ProgressMode::Json) => Box::new(JsonLines::default()),
        Some(ProgressMode::Bar) => Box::new(Bar::new()),
        None if terminal && !quiet => Box::new(Bar::new()),
        Some(ProgressMode::None) | None => Box::new(Silent),
    }
}

/// A bar on stderr, one stage at a time.
struct Bar {
    bar: Mutex<Option<ProgressBar>>,
}

impl Bar {
    fn new() -> Self {
        Self { bar: Mutex::new(None) }
    }

    fn with(&self, f: impl FnOnce(&mut Option<ProgressBar>)) {
        f(&mut self.bar.lock().expect("no panic while drawing"));
    }
}

impl Progress for Bar {
    fn begin(&self, stage: &str, total: Option<u64>, unit: Unit) {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match (total, unit) {
            (None, _) => "{spinner} {msg} {elapsed}",
            (Some(_), Unit::Bytes) => {
                "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"
            }
            (Some(_), Unit::Items) => "{msg} {wide_bar} {pos}/{len} {eta}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("the templates are ours"));
        bar.set_message(stage.to_owned());
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
        self.with(|slot| match slot {
            Some(bar) => bar.suspend(|| stderr_line(line)),
            None => stderr_line(line),
        });
    }
}

/// One JSON object per event on stderr, for programs that watch.
#[derive(Default)]
struct JsonLines {
    stage: Mutex<Option<Stage>>,
}

struct Stage {
    name: String,
    total: Option<u64>,
    unit: &'static str,
    done: u64,
    started: Instant,
    told: Instant,
}

/// At most one line of progress per stage in this time.
const PERIOD: Duration = Duration::from_millis(500);

impl JsonLines {
    fn with(&self, f: impl FnOnce(&mut Option<Stage>)) {
        f(&mut self.stage.lock().expect("no panic while writing"));
    }
}

impl Progress for JsonLines {
    fn begin(&self, stage: &str, total: Option<u64>, unit: Unit) {
        let unit = match unit {
            Unit::Bytes => "bytes",
            Unit::Items => "items",
        };
        stderr_line(
            &json!({"event": "begin", "stage": stage, "total": total, "unit": unit}).to_string(),
        );
        let now = Instant::now();
        self.with(|slot| {
            *slot = Some(Stage {
                name: stage.to_owned(),
                total,
                unit,
                done: 0,
                started: now,
                told: now,
            });
        });
    }

    fn advance(&self, amount: u64) {
        self.with(|slot| {
            if let Some(stage) = slot {
                stage.done += amount;
                if stage.told.elapsed() >= PERIOD {
                    stage.told = Instant::now();
                    let line = json!({
                        "event": "progress", "stage": stage.name, "done": stage.done,
                        "total": stage.total, "unit": stage.unit,
                        "seconds": stage.started.elapsed().as_secs_f64(),
                    });
                    stderr_line(&line.to_string());
                }
            }
        });
    }

    fn end(&self) {
        self.with(|slot| {
            if let Some(stage) = slot.take() {
                let line = json!({
                    "event": "end", "stage": stage.name, "done": stage.done,
                    "seconds": stage.started.elapsed().as_secs_f64(),
                });
                stderr_line(&line.to_string());
            }
        });
    }

    fn note(&self, line: &str) {
        stderr_line(&json!({"event": "note", "text": line}).to_string());
    }
}
