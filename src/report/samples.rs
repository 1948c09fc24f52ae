//! Reports of made-up runs, for tests alone.

use std::collections::BTreeMap;

use super::{Origin, Report};
use crate::eval::{
    results::Bucket, results::Figure, results::Interval, results::KvCache, results::Latency,
    results::Measurements, results::Neighbours, results::NoiseFloor, results::Paired,
    results::Percentiles, results::Perplexity, results::ProbabilityChange, results::Similarity,
    results::Spread, results::Transcript, results::Transcripts,
};
use crate::gate::{Gates, Outcome, Subject};
use crate::manifest::{Artifact, TensorError, Tool};
use crate::package::FileRecord;
use crate::sweep::{self, Built, Entry, Identity, Measured, Run};

/// An estimate.
pub(super) fn figure(value: f64, unit: &str, n: u64, standard_error: Option<f64>) -> Figure {
    Figure { value, unit: unit.to_owned(), n, standard_error }
}

fn measurements(increase: f64, error: f64, cosine: f64) -> Measurements {
    let transcript = Transcript {
        prompt: "And the LORD said | unto Moses,".to_owned(),
        prompt_tokens: 8,
        text: "Go in unto Pharaoh".to_owned(),
        tokens: vec![1, 2, 3],
        reference_text: "Go in unto Pharaoh".to_owned(),
        reference_tokens: vec![1, 2, 3],
        first_divergence: None,
        margin: None,
        lost: None,
        peak: None,
    };
    let percentiles = Percentiles {
        n: 50,
        warm_up: 3,
        p50: Some(4.25),
        p90: Some(5.0),
        p99: None,
        mean: 4.4,
        median_error: Some(0.02),
    };
    Measurements {
        overflow: None,
        perplexity: Some(Perplexity {
            value: figure(17.0 * (1.0 + increase), "1", 6120, Some(0.31)),
            reference: figure(17.0, "1", 6120, Some(0.3)),
            increase: figure(increase, "1", 6120, Some(error)),
            divergence: figure(increase / 2.0, "nats", 6120, Some(error / 2.0)),
            same_top: figure(0.97, "1", 6120, Some(0.002)),
            window: 256,
            stride: 256,
            windows: 24,
            non_finite: 0,
            text_sha256: "ab".repeat(32),
            ..Perplexity::default()
        }),
        transcripts: Some(Transcripts {
            chat_template: false,
            prompts: vec![transcript],
            equal: 1,
            agreement: figure(1.0, "1", 1, None),
            logits: None,
        }),
        similarity: Some(Similarity {
            mean: figure(0.999, "1", 20, Some(0.0001)),
            minimum: figure(cosine, "1", 20, None),
            worst: "The packet was lost on its way through the network.".to_owned(),
            reference: "the LLM2Vec checkpoint on its own base, f32".to_owned(),
            ..Similarity::default()
        }),
        latency: Some(Latency {
            runtime: "interp".to_owned(),
            load: figure(12.5, "ms", 1, None),
            init: None,
            decode: Some(percentiles),
            encode: None,
            decode_energy: None,
        }),
        kv_cache: Some(KvCache {
            form: "state".to_owned(),
            bytes: 393_216,
            capacity: 256,
            peak_resident: 100,
            residency: 100.0 / 256.0,
            evictions: 0,
        }),
        peak_memory: Some(300 << 20),
    }
}

fn entry(name: &str, recipe: &str, bits: u32, size: u64, figures: Option<Measurements>) -> Entry {
    let variant = sweep::Variant { name: name.to_owned(), recipe: recipe.to_owned(), bits };
    let files = vec![
        FileRecord { path: "Manifest.json".to_owned(), size: 617, sha256: "cd".repeat(32) },
        FileRecord {
            path: "Data/com.apple.CoreML/weights/weight.bin".to_owned(),
            size,
            sha256: "ef".repeat(32),
        },
    ];
    let built = Built { artifact: Artifact::from_files(files, 2_760_000), seconds: 1.25 };
    let Some(measurements) = figures else {
        let failure = sweep::Failure {
            variant: name.to_owned(),
            stage: "compress".to_owned(),
            message: "weight `lm_head.weight` of shape [2048, 192] has no groups of 17".to_owned(),
            hint: Some("use a group size that divides 2048".to_owned()),
            attempts: 2,
        };
        return Entry { failure: Some(failure), ..Entry::new(variant) };
    };
    let subject =
        Subject { size_bytes: Some(built.artifact.size_bytes), ..Subject::of(&measurements) };
    let verdicts = Gates::default().judge(&subject, bits);
    Entry {
        status: sweep::Status::Judged(Outcome::of(&verdicts)),
        built: Some(built),
        measured: Some(Measured { measurements, seconds: 8.5 }),
        verdicts,
        kept: true,
        ..Entry::new(variant)
    }
}

/// One variant for each way to end.
pub(super) fn report() -> Report {
    let mut invalid = measurements(0.02, 0.001, 0.995);
    if let Some(perplexity) = &mut invalid.perplexity {
        perplexity.value.value = f64::NAN;
        perplexity.increase.value = f64::INFINITY;
        perplexity.non_finite = 3;
    }
    let mix = "attention=pal6-g16,mlp=pal4-g16,embedding=int8-c";
    let run = Run {
        identity: Identity {
            sources: BTreeMap::from([("model/config.json".to_owned(), "12".repeat(32))]),
            tools: BTreeMap::from([("coremill".to_owned(), "0.1.0".to_owned())]),
            texts: BTreeMap::new(),
        },
        entries: vec![
            entry("fp16", "fp16", 16, 5_600_000, Some(measurements(0.0001, 0.00005, 0.999_991))),
            entry("pal8-g16", "pal8-g16", 8, 2_900_000, Some(measurements(0.009, 0.001, 0.9991))),
            entry("pal4-g16", "pal4-g16", 4, 1_500_000, Some(measurements(0.21, 0.01, 0.9712))),
            entry("attention-pal6-g16_mlp-pal4-g16", mix, 4, 1_900_000, Some(invalid)),
            entry("pal4-g17", "pal4-g17", 4, 0, None),
        ],
        paired: vec![],
        search: None,
    };
    Report::of(&run, origin())
}

/// What a run does not know of itself.
pub(super) fn origin() -> Origin {
    Origin {
        tool: Tool {
            name: "coremill".to_owned(),
            version: "0.1.0".to_owned(),
            libraries: BTreeMap::from([("coremltools".to_owned(), "9.0".to_owned())]),
        },
        command: vec!["coremill".to_owned(), "sweep".to_owned(), "a.toml".to_owned()],
        environment: BTreeMap::from([("os".to_owned(), "linux".to_owned())]),
        created: 1_800_000_000,
        spec_sha256: Some("34".repeat(32)),
        source: "dictlm".to_owned(),
        repository: None,
        revision: None,
    }
}

/// The same with every figure that there is: spreads, buckets, pairs, errors of weights, differing transcripts.
pub(super) fn rich() -> Report {
    let mut report = report();
    let spread = |scale: f64| Spread {
        max: 40.0 * scale,
        p99_9: Some(20.0 * scale),
        p99: Some(9.0 * scale),
        p95: 4.0 * scale,
        p90: 2.5 * scale,
        p75: 1.2 * scale,
        p50: 0.5 * scale,
        p25: 0.2 * scale,
        p10: 0.05 * scale,
        p5: 0.02 * scale,
        p1: Some(0.002 * scale),
        p0_1: Some(0.0),
        min: -0.001 * scale,
    };
    for variant in &mut report.variants {
        let Some(perplexity) = &mut variant.measurements.perplexity else { continue };
        let mean = perplexity.divergence.value;
        let nats = |value| figure(value, "nats", 6120, Some(value / 20.0));
        let share = |value| figure(value, "1", 6120, Some(0.002));
        perplexity.difference = Some(share(17.0 * perplexity.increase.value));
        perplexity.log_ratio = Some(nats(perplexity.increase.value.ln_1p()));
        perplexity.correlation = Some(0.9987);
        perplexity.top_k = Some(256);
        perplexity.divergence_bound = Some(nats(mean / 100.0));
        perplexity.divergence_spread = Some(spread(mean));
        perplexity.buckets = [(0.0, 0.5), (0.5, 0.9), (0.9, 1.0)]
            .iter()
            .map(|&(from, to)| Bucket {
                from,
                to,
                divergence: nats(mean * (1.5 - from)),
                median: mean / 2.0,
                same_top: share(0.9 + from / 10.0),
            })
            .collect();
        perplexity.probability_change = Some(ProbabilityChange {
            mean: share(-mean / 10.0),
            rms: share(mean),
            spread: spread(mean / 4.0),
        });
        perplexity.same_sampled = Some(share(0.6));
        perplexity.noise_floor = Some(NoiseFloor {
            how: "activations times 1 ± 2⁻⁹".to_owned(),
            divergence: nats(0.000_05),
            increase: share(0.000_1),
            same_top: share(0.998),
        });
        if let Some(similarity) = &mut variant.measurements.similarity {
            similarity.p1 = Some(0.991);
            similarity.neighbours =
                Some(Neighbours { k: 5, recall: share(0.96), spearman: share(0.99) });
        }
        if let Some(latency) = &mut variant.measurements.latency {
            latency.init = latency.decode.clone();
            latency.decode_energy = Some(figure(0.021, "J", 50, None));
        }
        variant.components = BTreeMap::from([
            ("attention".to_owned(), 400_000),
            ("embedding".to_owned(), 200_000),
            ("mlp".to_owned(), 900_000),
        ]);
        if variant.bits < 16 {
            variant.tensors = tensors(4.0 / f64::from(variant.bits) * mean);
        }
        if let (4, Some(transcripts)) = (variant.bits, &mut variant.measurements.transcripts) {
            let differs = |at, margin: f64| Transcript {
                prompt: "And it came to pass <in those days>".to_owned(),
                prompt_tokens: 9,
                text: "that the king went up".to_owned(),
                tokens: vec![4, 5, 6, 7],
                reference_text: "that the queen went up".to_owned(),
                reference_tokens: vec![4, 5, 8, 7],
                first_divergence: Some(at),
                margin: Some(margin),
                lost: None,
                peak: None,
            };
            transcripts.prompts.extend([differs(2, 0.004), differs(2, 1.75)]);
        }
    }
    let interval = |value: f64, half: f64| Interval {
        value,
        low: value - half,
        high: value + half,
        unit: "nats".to_owned(),
    };
    let pair = |a: &str, b: &str, value: f64| Paired {
        a: a.to_owned(),
        b: b.to_owned(),
        n: 6120,
        windows: 24,
        divergence: interval(value, 0.002),
        log_perplexity: interval(2.0 * value, 0.003),
        same_top: interval(-value, 0.001),
    };
    report.paired = vec![
        pair("fp16", "pal8-g16", 0.004),
        pair("fp16", "pal4-g16", 0.105),
        pair("pal8-g16", "pal4-g16", 0.001),
    ];
    report
}

/// Weights of three layers and an embedding, those of later layers worse.
fn tensors(error: f64) -> Vec<TensorError> {
    let weight = |name: String, component: &str, layer: Option<u64>, error: f64| TensorError {
        name,
        component: component.to_owned(),
        layer,
        form: "4-bit palette, groups of 16".to_owned(),
        elements: 36_864,
        bits_per_weight: 4.25,
        stored_bytes: 8192,
        relative_error: Some(error),
    };
    let mut all = vec![weight("model_embed_tokens_weight".to_owned(), "embedding", None, error)];
    for layer in 0..3u32 {
        for (role, component) in
            [("self_attn_q_proj", "attention"), ("mlp_up_proj", "mlp"), ("mlp_down_proj", "mlp")]
        {
            let name = format!("model_layers_{layer}_{role}_weight");
            let error = error * f64::from(layer + 1);
            all.push(weight(name, component, Some(u64::from(layer)), error));
        }
    }
    all
}

/// The same with names and texts that would be markup, commands or other cells if they were not escaped.
pub(super) fn hostile() -> Report {
    const TEXT: &str =
        "<script>alert(\"1\")</script>, 'a' & b\r\n::error::x%0A|*_[x](y)\u{7}\u{202e}]]>-->";
    let mut report = rich();
    report.source.name = TEXT.to_owned();
    report.command.push(TEXT.to_owned());
    report.environment.insert(TEXT.to_owned(), TEXT.to_owned());
    report.source.files.insert(TEXT.to_owned(), TEXT.to_owned());
    for variant in &mut report.variants {
        variant.name = format!("{TEXT}{}", variant.name);
        TEXT.clone_into(&mut variant.recipe);
        for verdict in &mut variant.verdicts {
            TEXT.clone_into(&mut verdict.message);
        }
        for tensor in &mut variant.tensors {
            tensor.name.push_str(TEXT);
            TEXT.clone_into(&mut tensor.form);
        }
        if let Some(transcripts) = &mut variant.measurements.transcripts {
            for transcript in &mut transcripts.prompts {
                TEXT.clone_into(&mut transcript.prompt);
                transcript.text.push_str(TEXT);
            }
        }
        if let Some(failure) = &mut variant.failure {
            TEXT.clone_into(&mut failure.message);
        }
    }
    for pair in &mut report.paired {
        pair.a = format!("{TEXT}{}", pair.a);
        pair.b = format!("{TEXT}{}", pair.b);
    }
    report
}
