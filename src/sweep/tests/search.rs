//! Searches under a budget on a model whose losses are exactly Σ α t²: what they choose, keep and reject.

use std::path::{Path, PathBuf};

use super::fake::Fake;
use crate::base::clock::FixedClock;
use crate::base::progress::{Progress, Silent};
use crate::eval::{Evaluated, Token, Tokens};
use crate::eval::{results::Figure, results::Measurements, results::Perplexity};
use crate::gate::Verdict;
use crate::manifest::{Artifact, Manifest, TensorError};
use crate::sweep::{Identity, Pipeline, Run, Spec, StageError, Variant, run};

/// The weights: name, part of the model, how much an error costs.
const WEIGHTS: [(&str, &str, f64); 3] =
    [("l_attn_q", "attention", 60.0), ("l_mlp_up", "mlp", 1.0), ("l_mlp_down", "mlp", 1.0)];
const ELEMENTS: u64 = 1 << 12;

/// A model of [`WEIGHTS`], of which mixes may lose more than the sum of their parts.
struct Linear {
    fake: Fake,
    of_mixes: f64,
}

/// The bits that `recipe` gives to a weight.
fn bits_of(recipe: &str, name: &str, component: &str) -> u32 {
    let mut bits = 16;
    for rule in recipe.split(',') {
        let (selector, scheme) = rule.rsplit_once('=').unwrap_or(("", rule));
        if selector.is_empty() || selector == component || selector.contains(name) {
            let digits = scheme.trim_start_matches(char::is_alphabetic);
            let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
            bits = digits.parse().unwrap();
        }
    }
    bits
}

/// The relative error of a weight of so many bits.
fn error(bits: u32) -> f64 {
    if bits == 16 { 0.0 } else { 0.5_f64.powi(i32::try_from(bits).unwrap()) }
}

fn weights(recipe: &str) -> Vec<TensorError> {
    let weight = |(name, component, _): (&str, &str, f64)| {
        let bits = bits_of(recipe, name, component);
        TensorError {
            name: name.to_owned(),
            component: component.to_owned(),
            form: if bits == 16 { "fp16".to_owned() } else { format!("pal{bits}-g16") },
            elements: ELEMENTS,
            stored_bytes: ELEMENTS * u64::from(bits) / 8 + 64,
            bits_per_weight: f64::from(bits),
            relative_error: Some(error(bits)),
            ..TensorError::default()
        }
    };
    WEIGHTS.map(weight).to_vec()
}

impl Linear {
    fn write(&self, package: &Path, recipe: &str) -> Result<Artifact, StageError> {
        let tensors = weights(recipe);
        let bytes: u64 = tensors.iter().map(|tensor| tensor.stored_bytes).sum();
        // The fake pads its file to a hundred bytes a bit.
        let artifact = self.fake.write(package, recipe, u32::try_from(bytes / 100).unwrap())?;
        let besides = artifact.size_bytes - artifact.weight_bytes;
        let size_bytes = besides + bytes;
        Ok(Artifact {
            tensors,
            weight_bytes: bytes,
            size_bytes,
            parameters: 3 * ELEMENTS,
            ..artifact
        })
    }
}

impl Pipeline for Linear {
    fn identity(&self) -> Result<Identity, StageError> {
        self.fake.identity()
    }

    fn baseline(&self, package: &Path, _: &dyn Progress) -> Result<Artifact, StageError> {
        self.write(package, "fp16")
    }

    fn compress_all(
        &self,
        variants: &[(&Variant, PathBuf)],
        _: &Path,
        _: &dyn Progress,
    ) -> Result<Vec<Artifact>, StageError> {
        variants.iter().map(|(variant, path)| self.write(path, &variant.recipe)).collect()
    }

    fn evaluate(
        &self,
        variant: &Variant,
        _: &Path,
        _: &dyn Progress,
    ) -> Result<Evaluated, StageError> {
        let cost = |(name, component, alpha): (&str, &str, f64)| {
            alpha * error(bits_of(&variant.recipe, name, component)).powi(2)
        };
        let mut loss: f64 = 0.001 + WEIGHTS.map(cost).iter().sum::<f64>();
        if variant.name == "mixed" {
            loss *= self.of_mixes;
        }
        let token = |i: u32| Token {
            window: i / 4,
            position: 1 + i % 4,
            nll: 3.0,
            reference_nll: 3.0,
            divergence: loss * f64::from(8 + i % 5) / 10.0,
            hidden: 0.0,
            same_sampled: 0.5,
            confidence: 0.5,
            same_top: true,
        };
        let divergence =
            Figure { value: loss, unit: "nats".to_owned(), n: 20, standard_error: None };
        let perplexity = Perplexity { divergence, ..Perplexity::default() };
        Ok(Evaluated {
            measurements: Measurements { perplexity: Some(perplexity), ..Measurements::default() },
            tokens: Some(Tokens { rows: (0..20).map(token).collect(), non_finite: 0 }),
        })
    }

    fn manifest(
        &self,
        variant: &Variant,
        package: &Path,
        artifact: &Artifact,
        measurements: &Measurements,
        verdicts: &[Verdict],
    ) -> Result<Manifest, StageError> {
        self.fake.manifest(variant, package, artifact, measurements, verdicts)
    }
}

fn go(folder: &Path, budget: &str, of_mixes: f64) -> Run {
    let text = format!(
        "[model]\npath = \"m\"\nseq_len = 64\n[budget]\n{budget}\n[gates]\nperplexity_increase = false\n\
         [output]\ndir = \"out\"\nkeep = \"best\"\n"
    );
    let bits = |recipe: &str| Ok(bits_of(recipe, "", ""));
    let spec = Spec::parse(&text, &folder.join("spec.toml"), &bits).unwrap();
    run(&spec, &Linear { fake: Fake::default(), of_mixes }, &FixedClock(0), &Silent).unwrap()
}

#[test]
fn the_best_within_a_budget_is_a_mix_where_that_loses_less() {
    // 6 bits a weight: between 4 and 8 for all, or attention at 8 and the rest at 4 or 6.
    let cases = [
        // Bits that are there, what a mix loses besides, what is best, whether the mix was rejected.
        ("max_bits_per_weight = 6.5", 1.0, "mixed", Some(false)),
        ("max_bits_per_weight = 6.5", 9.0, "pal6-g16", Some(true)),
        // Without probes no part counts more than another.
        ("max_bits_per_weight = 6.5\nprobes = false", 1.0, "pal6-g16", None),
        // Nothing but two bits fits, which the ladder does not begin with.
        ("max_bits_per_weight = 2.2", 1.0, "pal2-g16", None),
        ("max_bits_per_weight = 20", 1.0, "fp16", None),
    ];
    for (budget, of_mixes, best, rejected) in cases {
        let root = tempfile::tempdir().unwrap();
        let run = go(root.path(), budget, of_mixes);
        let search = run.search.as_ref().unwrap();
        assert_eq!(run.best().map(|e| e.variant.name.as_str()), Some(best), "{budget}: {search:?}");
        let mixed = run.entries.iter().find(|entry| entry.variant.name == "mixed");
        assert_eq!(mixed.map(|entry| entry.rejected.is_some()), rejected, "{budget}: {search:?}");
        // What is kept is the best and nothing else; probes leave nothing.
        let kept: Vec<_> = fs_err::read_dir(root.path().join("out"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".mlpackage"))
            .collect();
        assert_eq!(kept, [format!("{best}.mlpackage")], "{budget}");
        if let Some(mixed) = mixed {
            // The probes say how much each part matters, so that what is predicted is what is found.
            assert!((search.sensitivities["attention"] - 60.0).abs() < 1e-6, "{search:?}");
            assert!((search.sensitivities["mlp"] - 1.0).abs() < 1e-6, "{search:?}");
            let figure =
                &mixed.measured.as_ref().unwrap().measurements.perplexity.as_ref().unwrap();
            let predicted = mixed.predicted.unwrap().divergence.unwrap();
            assert!((predicted * of_mixes - figure.divergence.value).abs() < 1e-9, "{predicted}");
        }
        // Once more, everything is found.
        let again = go(root.path(), budget, of_mixes);
        assert_eq!(again, run, "{budget}");
    }
}

#[test]
fn what_cannot_be_met_is_said() {
    let root = tempfile::tempdir().unwrap();
    let run = go(root.path(), "max_size = 700", 1.0);
    assert_eq!(run.best(), None);
    assert_eq!(run.search.unwrap().outcome, "no mix of the schemes at hand fits");
}
