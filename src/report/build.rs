//! The report of a sweep.

use super::{Failure, Origin, Reference, Report, SCHEMA_VERSION, Source, Status, Summary};
use super::{Timings, Variant};
use crate::manifest::Artifact;
use crate::sweep::{self, Entry, Run};

impl Report {
    /// The report of `run`, which came from `origin`.
    pub fn of(run: &Run, origin: Origin) -> Self {
        let variants: Vec<Variant> = run.entries.iter().map(Variant::of).collect();
        Self {
            schema_version: SCHEMA_VERSION,
            tool: origin.tool,
            command: origin.command,
            environment: origin.environment,
            created: rfc3339(origin.created),
            spec_sha256: origin.spec_sha256,
            source: Source {
                name: origin.source,
                repository: origin.repository,
                revision: origin.revision,
                files: run.identity.sources.clone(),
            },
            reference: reference(&variants),
            paired: run.paired.clone(),
            search: run.search.clone(),
            summary: summary(run, &variants),
            variants,
            shards: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// The variants counted; under a budget the best is another.
fn summary(run: &Run, variants: &[Variant]) -> Summary {
    let counted = Summary::of(variants);
    if run.search.is_none() {
        return counted;
    }
    Summary { best: run.best().map(|entry| entry.variant.name.clone()), ..counted }
}

impl Summary {
    /// Counts `variants`. The best is the smallest that passes all gates; between equals the one that diverges less.
    pub fn of(variants: &[Variant]) -> Self {
        let count = |status| variants.iter().filter(|v| v.status == status).count() as u64;
        Self {
            variants: variants.len() as u64,
            pass: count(Status::Pass),
            fail: count(Status::Fail),
            inconclusive: count(Status::Inconclusive),
            invalid: count(Status::Invalid),
            not_judged: count(Status::NotJudged),
            error: count(Status::Error),
            best: best(variants).map(|variant| variant.name.clone()),
        }
    }
}

fn best(variants: &[Variant]) -> Option<&Variant> {
    let rank = |variant: &Variant| {
        let perplexity = variant.measurements.perplexity.as_ref();
        let divergence = perplexity.map_or(f64::INFINITY, |p| p.divergence.value);
        (variant.size_bytes.unwrap_or(u64::MAX), divergence)
    };
    let smaller = |a: &&Variant, b: &&Variant| {
        let (a, b) = (rank(a), rank(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    };
    variants.iter().filter(|v| v.status == Status::Pass).min_by(smaller)
}

impl Variant {
    fn of(entry: &Entry) -> Self {
        let artifact = entry.built.as_ref().map(|built| &built.artifact);
        let seconds = entry.built.as_ref().map(|built| built.seconds);
        let baseline = entry.variant.is_baseline();
        Self {
            name: entry.variant.name.clone(),
            recipe: entry.variant.recipe.clone(),
            bits: entry.variant.bits,
            status: match entry.status {
                sweep::Status::Judged(outcome) => outcome.into(),
                sweep::Status::Failed => Status::Error,
            },
            package: entry.kept.then(|| entry.variant.package()),
            manifest: entry.kept.then(|| entry.variant.manifest()),
            sha256: artifact.map(|a| a.sha256.clone()),
            size_bytes: artifact.map(|a| a.size_bytes),
            largest_file_bytes: artifact.and_then(|a| a.files.iter().map(|f| f.size).max()),
            weight_bytes: artifact.map(|a| a.weight_bytes),
            parameters: artifact.map(|a| a.parameters),
            bits_per_weight: artifact.map(Artifact::bits_per_weight),
            components: artifact.map(|a| a.components.clone()).unwrap_or_default(),
            tensors: artifact.map(|a| a.tensors.clone()).unwrap_or_default(),
            measurements: entry
                .measured
                .as_ref()
                .map(|m| m.measurements.clone())
                .unwrap_or_default(),
            verdicts: entry.verdicts.clone(),
            predicted: entry.predicted,
            rejected: entry.rejected.clone(),
            failure: entry.failure.as_ref().map(|failure| Failure {
                stage: failure.stage.clone(),
                message: failure.message.clone(),
                hint: failure.hint.clone(),
                attempts: failure.attempts,
            }),
            timings: Timings {
                convert: seconds.filter(|_| baseline),
                compress: seconds.filter(|_| !baseline),
                evaluate: entry.measured.as_ref().map(|m| m.seconds),
            },
        }
    }
}

/// What the variants were measured against, as the first that was measured says.
fn reference(variants: &[Variant]) -> Option<Reference> {
    let perplexity = variants.iter().find_map(|v| v.measurements.perplexity.as_ref());
    let similarity = variants.iter().find_map(|v| v.measurements.similarity.as_ref());
    (perplexity.is_some() || similarity.is_some()).then(|| Reference {
        perplexity: perplexity.map(|p| p.reference.clone()),
        kind: perplexity.and_then(|p| p.reference_kind.clone()),
        text_sha256: perplexity.map(|p| p.text_sha256.clone()),
        embeddings: similarity.map(|s| s.reference.clone()),
    })
}

/// `2026-11-21T09:10:00Z`; a moment that no calendar holds is given in seconds.
fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| format!("@{seconds}"), |moment| moment.to_string())
}
