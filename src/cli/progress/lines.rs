//! One JSON object per event on stderr, for programs that watch.
//!
//! `event` is `begin`, `progress`, `end`, `note` or `whole`. Lines about a stage have its name, `done`, `total`, `unit`, the
//! `seconds` so far, the `rate` in units a second and the seconds `left`, as far as they are known; in a sweep also the
//! `variant`, and how far the `whole` has come in steps: each variant is a step to build and one to measure.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::base::progress::{Progress, Unit, Whole};
use crate::cli::printer::stderr_line;

/// The lines of one work.
#[derive(Default)]
pub(super) struct JsonLines {
    /// What the work is called, where there are several.
    variant: Option<String>,
    stage: Mutex<Option<Stage>>,
    whole: Arc<Mutex<Option<Told>>>,
}

struct Stage {
    name: String,
    total: Option<u64>,
    unit: &'static str,
    done: u64,
    started: Instant,
    told: Instant,
}

/// How far all works together had come when that was told last.
struct Told {
    whole: Whole,
    at: Instant,
    started: Instant,
}

/// At most one line of progress per stage in this time.
const PERIOD: Duration = Duration::from_millis(500);

/// Units a second, and seconds left for what is not done.
fn pace(done: u64, total: Option<u64>, seconds: f64) -> Option<(f64, Option<f64>)> {
    let rate = (done > 0 && seconds > 0.0).then(|| done as f64 / seconds)?;
    Some((rate, total.map(|total| total.saturating_sub(done) as f64 / rate)))
}

impl Stage {
    fn tell(&self, event: &str, variant: Option<&String>, whole: &Mutex<Option<Told>>) {
        let seconds = self.started.elapsed().as_secs_f64();
        let mut line = Map::new();
        let mut put = |key: &str, value: Value| drop(line.insert(key.to_owned(), value));
        put("event", json!(event));
        if let Some(variant) = variant {
            put("variant", json!(variant));
        }
        put("stage", json!(self.name));
        put("done", json!(self.done));
        put("total", json!(self.total));
        put("unit", json!(self.unit));
        put("seconds", json!(seconds));
        if let Some((rate, left)) = pace(self.done, self.total, seconds) {
            put("rate", json!(rate));
            if let Some(left) = left {
                put("left", json!(left));
            }
        }
        if let Some(whole) = &*whole.lock().expect("no panic while writing") {
            put("whole", whole.json());
        }
        stderr_line(&Value::Object(line).to_string());
    }
}

impl Told {
    fn json(&self) -> Value {
        let Whole { done, total, left } = self.whole;
        json!({
            "done": done, "total": total, "seconds": self.started.elapsed().as_secs_f64(),
            "left": left.map(|left| left.after(self.at.elapsed()).as_secs_f64()),
        })
    }
}

impl Progress for JsonLines {
    fn begin(&self, stage: &str, total: Option<u64>, unit: Unit) {
        let unit = match unit {
            Unit::Bytes => "bytes",
            Unit::Items => "items",
        };
        let now = Instant::now();
        let stage = Stage { name: stage.to_owned(), total, unit, done: 0, started: now, told: now };
        stage.tell("begin", self.variant.as_ref(), &self.whole);
        *self.stage.lock().expect("no panic while writing") = Some(stage);
    }

    fn advance(&self, amount: u64) {
        if let Some(stage) = &mut *self.stage.lock().expect("no panic while writing") {
            stage.done += amount;
            if stage.told.elapsed() >= PERIOD {
                stage.told = Instant::now();
                stage.tell("progress", self.variant.as_ref(), &self.whole);
            }
        }
    }

    fn end(&self) {
        if let Some(stage) = self.stage.lock().expect("no panic while writing").take() {
            stage.tell("end", self.variant.as_ref(), &self.whole);
        }
    }

    fn note(&self, line: &str) {
        let note = match &self.variant {
            Some(variant) => json!({"event": "note", "variant": variant, "text": line}),
            None => json!({"event": "note", "text": line}),
        };
        stderr_line(&note.to_string());
    }

    fn part<'a>(&'a self, name: &str) -> Box<dyn Progress + 'a> {
        let whole = Arc::clone(&self.whole);
        Box::new(Self { variant: Some(name.to_owned()), stage: Mutex::default(), whole })
    }

    fn whole(&self, whole: Whole) {
        let mut slot = self.whole.lock().expect("no panic while writing");
        let at = Instant::now();
        let before = slot.as_ref().map(|told| (told.whole.done, told.whole.total));
        let told = slot.get_or_insert(Told { whole, at, started: at });
        (told.whole, told.at) = (whole, at);
        let line = json!({"event": "whole", "whole": told.json()});
        drop(slot);
        // A step that begins changes what is left, and nothing that is worth a line.
        if before != Some((whole.done, whole.total)) {
            stderr_line(&line.to_string());
        }
    }
}
