//! The plan of a measurement from its arguments, and the answer of `evaluate` and `verify`.

use std::path::Path;

use super::context::Context;
use crate::cli::args::MeasureArgs;
use crate::eval::{Plan, PromptPlan, Repeat, TextPlan, defaults};
use crate::eval::{results::Figure, results::Measurements, results::Spread};
use crate::lm::Sentence;
use crate::pipeline::Failure;
use crate::pipeline::reference::ReferenceSource;
use crate::pipeline::texts;

/// Returns the evaluation plan of `args`.
pub(super) fn plan(args: &MeasureArgs, context: &Context) -> Result<Plan, Failure> {
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let text = match &args.text {
        None => None,
        Some(asked) => Some(TextPlan {
            text: texts::read(asked, context)?,
            window: args.window.map(count),
            stride: args.stride.map(count),
            max_windows: count(args.windows),
            calibration: args
                .calibration
                .as_deref()
                .map(|asked| texts::read(asked, context))
                .transpose()?,
            top_k: count(args.top_k),
            noise_floor: !args.no_noise_floor,
        }),
    };
    let prompts = match &args.prompts {
        None => None,
        Some(path) => Some(PromptPlan {
            prompts: list(path)?,
            max_tokens: count(args.max_tokens),
            probe: false,
            explain: true,
            chat_template: !args.no_chat_template,
        }),
    };
    let sentences: Option<Vec<Sentence>> = args.sentences.as_deref().map(list).transpose()?;
    let latency =
        (args.latency > 0).then_some(Repeat { warm_up: defaults::WARM_UP, n: args.latency });
    Ok(Plan { text, prompts, sentences, latency })
}

/// Returns the reference that `args` name.
pub(super) fn against(args: &MeasureArgs) -> Result<ReferenceSource, Failure> {
    let model = args.reference.clone().ok_or_else(|| {
        Failure::input("there is nothing to compare with")
            .hint("pass `--reference DIR`, the source checkpoint or a package")
    })?;
    if is_package(&model) {
        return Ok(ReferenceSource::Package(model));
    }
    Ok(ReferenceSource::Checkpoint {
        model,
        lora: args.lora_checkpoint.clone(),
        llm2vec: args.llm2vec_checkpoint.clone(),
    })
}

/// True if a package stands there and no checkpoint.
fn is_package(path: &Path) -> bool {
    ["Manifest.json", "model.mil", "coremldata.bin"].iter().any(|name| path.join(name).is_file())
}

fn list<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, Failure> {
    serde_json::from_slice(&fs_err::read(path)?)
        .map_err(|e| Failure::input(format!("`{}` is no list of texts: {e}", path.display())))
}

/// The figures as lines for people.
pub(super) fn lines(found: &Measurements) -> Vec<String> {
    let figure = |f: &Figure, digits: usize| {
        let error = f.standard_error.map_or_else(String::new, |se| format!(" ± {se:.digits$}"));
        format!("{:.digits$}{error}", f.value)
    };
    let percent = |f: &Figure| {
        let error = f.standard_error.map_or_else(String::new, |se| format!(" ± {:.3}", se * 100.0));
        format!("{:.3}{error} %", f.value * 100.0)
    };
    let mut out = Vec::new();
    if let Some(p) = &found.perplexity {
        out.push(format!(
            "perplexity {} against {} of the reference: {} more, on {} tokens in {} windows",
            figure(&p.value, 4),
            figure(&p.reference, 4),
            percent(&p.increase),
            p.value.n,
            p.windows
        ));
        out.push(format!(
            "divergence {} nats per token, same top token {}",
            figure(&p.divergence, 6),
            percent(&p.same_top)
        ));
        out.extend(p.divergence_spread.as_ref().map(spread));
        if let Some(change) = &p.probability_change {
            out.push(format!(
                "probability of the next token {} on the mean, {} rms",
                percent(&change.mean),
                percent(&change.rms)
            ));
        }
        if let (Some(k), Some(bound)) = (p.top_k, &p.divergence_bound) {
            out.push(format!(
                "the reference keeps {k} tokens a position: the divergence is at most {:.6} nats larger",
                bound.value
            ));
        }
        if let Some(floor) = &p.noise_floor {
            out.push(format!(
                "noise floor {} nats, same top token {}: {}",
                figure(&floor.divergence, 6),
                percent(&floor.same_top),
                floor.how
            ));
        }
    }
    if let Some(t) = &found.transcripts {
        out.push(format!(
            "transcripts {} of {} equal, agreement {}",
            t.equal,
            t.prompts.len(),
            percent(&t.agreement)
        ));
        if let Some(logits) = &t.logits {
            out.push(format!(
                "logits along the reference's: relative error {}, same top token {}, on {} tokens",
                percent(&logits.error),
                percent(&logits.same_top),
                logits.error.n
            ));
        }
        for p in &t.prompts {
            if let Some(at) = p.first_divergence {
                let margin =
                    p.margin.map_or_else(String::new, |m| format!(", margin {m:.4} there"));
                out.push(format!("  {:?} differs from token {at}{margin}", shorten(&p.prompt)));
            }
        }
    }
    if let Some(first) = &found.overflow {
        out.push(format!("first value beyond its type: {first}"));
    }
    if let Some(s) = &found.similarity {
        out.push(format!(
            "cosine {} mean, {} least ({:?}), against the {}",
            figure(&s.mean, 6),
            figure(&s.minimum, 6),
            shorten(&s.worst),
            s.reference
        ));
        if let Some(n) = &s.neighbours {
            out.push(format!(
                "neighbours: recall@{} {}, rank correlation of {} pairs {:.6}",
                n.k,
                figure(&n.recall, 4),
                n.spearman.n,
                n.spearman.value
            ));
        }
    }
    if let Some(l) = &found.latency {
        out.push(format!("load {:.1} ms in {}", l.load.value, l.runtime));
        for (name, times) in [("init", &l.init), ("decode", &l.decode), ("encode", &l.encode)] {
            let Some(t) = times else { continue };
            let shown = [("p50", t.p50), ("p90", t.p90), ("p99", t.p99)];
            let shown: Vec<_> =
                shown.iter().filter_map(|(p, v)| v.map(|v| format!("{p} {v:.2}"))).collect();
            out.push(format!("{name} {} ms, n = {}", shown.join(", "), t.n));
        }
    }
    if let Some(kv) = &found.kv_cache {
        out.push(format!(
            "cache {} ({}): at most {} of {} positions in use, {} evictions",
            crate::base::fmt::bytes(kv.bytes),
            kv.form,
            kv.peak_resident,
            kv.capacity,
            kv.evictions
        ));
    }
    if let Some(peak) = found.peak_memory {
        out.push(format!("peak memory {}", crate::base::fmt::bytes(peak)));
    }
    out
}

/// The order statistics of a divergence on one line.
fn spread(s: &Spread) -> String {
    let all = [
        ("max", Some(s.max)),
        ("p99.9", s.p99_9),
        ("p99", s.p99),
        ("p95", Some(s.p95)),
        ("p90", Some(s.p90)),
        ("median", Some(s.p50)),
        ("p10", Some(s.p10)),
        ("p5", Some(s.p5)),
        ("p1", s.p1),
    ];
    let shown: Vec<_> =
        all.iter().filter_map(|(name, value)| Some(format!("{name} {:.6}", (*value)?))).collect();
    format!("  {}", shown.join(", "))
}

fn shorten(text: &str) -> String {
    const SHOWN: usize = 40;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN - 1).chain(['…']).collect()
}
